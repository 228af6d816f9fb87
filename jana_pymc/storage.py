"""One safetensors file: weights as tensors, everything else as JSON in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jana_pymc.files import replacing

FORMAT = "jana_pymc"
VERSION = 1


class StorageError(ValueError):
    """A file is not what it should be."""


def check_target(path: Path, argument: str = "") -> None:
    """Refuse to write where no file can be.

    Parameters
    ----------
    path : Path
    argument : str
        Name of the argument that gave it, for the message.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the folder does not exist, or the path is one.
    """
    what = f"{argument and argument + '='}{str(path)!r}"
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {what}: there is no folder {str(path.parent)!r}; make it."
        )
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {what}: it is a folder; name a file in it.")


def write(path: Path, tensors: Mapping[str, Tensor], configuration: Any, *, kind: str) -> None:
    """Write tensors and configuration; the old file stays whole until the new one is.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to Tensor
    configuration : JSON-serialisable object
    kind : str
        What the file holds, checked on reading.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the folder does not exist, or the path is one.
    """
    path = Path(path)
    check_target(path)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": kind,
        "configuration": json.dumps(configuration, default=_plain),
        "sha256": digest(contiguous),
    }
    with replacing(path) as aside:
        aside.touch()
        # As the old file has, or any new one: safetensors sets 0600.
        permissions = (path if path.exists() else aside).stat().st_mode & 0o777
        save_file(contiguous, aside, metadata=metadata)
        aside.chmod(permissions)


def read(path: Path, *, kind: str) -> tuple[dict[str, Tensor], Any]:
    """Read tensors and configuration.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    StorageError
        If it is truncated or damaged, not of this package, of another kind, or of a newer version.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; name the file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check(path, metadata, kind)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StorageError(
            f"{str(path)!r} is not a readable safetensors file ({error}); it may be truncated."
        ) from error
    if metadata.get("sha256", "") not in ("", digest(tensors)):  # older files have none
        raise StorageError(
            f"{str(path)!r} is damaged: its numbers are not those that were written. Take another "
            "copy, or make it again."
        )
    return tensors, json.loads(metadata["configuration"])


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of all names and numbers: a flipped bit would silently make other weights.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        On the CPU.

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()


def _plain(number: Any) -> Any:
    """One of NumPy's numbers as one of Python's, which JSON takes."""
    if isinstance(number, np.generic):
        return number.item()
    raise TypeError(f"{number!r} does not serialise.")


def _check(path: Path, metadata: Mapping[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT:
        raise StorageError(f"{str(path)!r} was not written by {FORMAT}.")
    if metadata.get("kind") != kind:
        raise StorageError(f"{str(path)!r} holds a {metadata.get('kind')!r}, expected a {kind!r}.")
    if int(metadata["version"]) > VERSION:
        raise StorageError(
            f"{str(path)!r} has format version {metadata['version']}, this {FORMAT} reads up to "
            f"{VERSION}; install a newer {FORMAT}."
        )
