"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file or folder aside, and put it in its place once it is whole.

    Parameters
    ----------
    path : Path
        An older file or folder there stays as it is until then, and if anything fails.

    Yields
    ------
    Path
        Where to write, in the same folder; nothing is there yet, and nothing is left there. The
        content of a file, not that of a folder, is on the disk before its name is.

    Raises
    ------
    OSError
        If it cannot be put in its place.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield aside
        if aside.is_file():
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
        _replace(aside, path)
    finally:
        _remove(aside)


def _replace(new: Path, old: Path) -> None:
    """Put a file or folder in the place of another."""
    if not new.is_dir() or not old.exists():
        os.replace(new, old)
        return
    aside = old.with_name(f".{old.name}.{uuid.uuid4().hex}.old")
    os.replace(old, aside)  # folders cannot be replaced in one step
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(aside, old)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
