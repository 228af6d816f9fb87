"""The folder of a run: JSON files that are whole or absent, and the options it was begun with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jana_pymc.files import replacing

__all__ = [
    "OPTIONS",
    "check_options",
    "make_folder",
    "read_identified",
    "read_json",
    "write_json",
    "write_options",
]

OPTIONS = "options.json"


def make_folder(output: Path) -> None:
    """Make the folder, and see before anything else that it can be written.

    Raises
    ------
    OSError
        If it cannot.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {str(output)!r} ({error.strerror}); choose another output."
        ) from error


def check_options(output: Path, options: dict[str, Any]) -> None:
    """Refuse a folder of other options: its networks would be taken for these.

    Raises
    ------
    ValueError
        If the folder holds other options, or such as cannot be read.
    """
    path = output / OPTIONS
    stored = read_json(path)
    if path.exists() and not stored:
        raise ValueError(
            f"{str(path)!r} cannot be read, so that it is not known of which options the run in "
            "this folder is. Choose another folder, or delete this one."
        )
    changed = [
        f"{key}={stored.get(key)!r}, not {value!r}"
        for key, value in options.items()
        if stored and stored.get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{str(output)!r} holds a run with {'; '.join(changed)}. Choose another "
            "folder, or delete this one."
        )


def write_options(output: Path, options: dict[str, Any]) -> None:
    """Write the options of a new run; those of an earlier one, which are the same, are kept."""
    if not (output / OPTIONS).exists():
        write_json(output / OPTIONS, options)


def read_json(path: Path) -> dict[str, Any]:
    """Content of a file, empty if there is none or it is broken."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_identified(path: Path, identity: str) -> dict[str, Any]:
    """Content of a file that was written for this identity; else the identity alone."""
    content = read_json(path)
    return content if content.get("identity") == identity else {"identity": identity}


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all; numbers that are not finite become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as aside:
        aside.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(content: Any) -> Any:
    """What JSON can hold, of nested dicts, lists, dataclasses and NumPy values."""
    if hasattr(content, "__dataclass_fields__"):
        content = asdict(content)
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(each) for each in content]
    if isinstance(content, np.ndarray | np.generic):
        return _plain(content.tolist())
    if isinstance(content, float):
        return content if np.isfinite(content) else None
    return content
