"""Files: what is written comes back, what is not ours is refused, a failed write loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from jana_pymc import storage
from jana_pymc.files import replacing
from jana_pymc.tasks.run_folder import write_json

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3)}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, {"a": [1, None, "x"]}, kind="test")
    tensors, configuration = storage.read(path, kind="test")
    assert torch.equal(tensors["weight"], TENSORS["weight"])
    assert configuration == {"a": [1, None, "x"]}


def test_numbers_of_numpy_come_back_plain(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, {"n": np.int64(3), "x": [np.float32(0.5), np.True_]}, kind="test")
    assert repr(storage.read(path, kind="test")[1]) == repr({"n": 3, "x": [0.5, True]})
    with pytest.raises(TypeError, match="does not serialise"):
        storage.write(path, TENSORS, {"n": object()}, kind="test")


def test_a_new_file_has_the_permissions_of_any_and_an_old_one_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, path = tmp_path / "other", tmp_path / "file.safetensors"
    other.touch()

    def refused(mask: int) -> int:
        raise AssertionError("the mask is the whole process's")

    monkeypatch.setattr(os, "umask", refused)
    storage.write(path, TENSORS, 1, kind="test")
    assert path.stat().st_mode == other.stat().st_mode
    path.chmod(0o640)
    storage.write(path, TENSORS, 2, kind="test")
    assert path.stat().st_mode & 0o777 == 0o640


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, 1, kind="test")
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(storage, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        storage.write(path, TENSORS, 2, kind="test")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_seen_of_what_is_half_written(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    for text in ("first", "second"):
        with replacing(file) as aside:
            aside.write_text(text)
            assert not file.exists() if text == "first" else file.read_text() == "first"
        with replacing(folder) as aside:
            aside.mkdir()
            (aside / text).touch()

    def half(path: Path) -> None:
        with replacing(path) as aside:
            if path is folder:
                aside.mkdir()
            (aside / "part" if path is folder else aside).write_text("half")
            raise OSError("no space left")

    for path in (file, folder):
        with pytest.raises(OSError, match="no space"):
            half(path)
    assert sorted(tmp_path.iterdir()) == [file, folder]
    assert file.read_text() == "second" and [each.name for each in folder.iterdir()] == ["second"]


def test_what_cannot_be_put_in_its_place_is_not_left_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "folder"
    old.mkdir()
    replace = os.replace

    def refuses(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".part"):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuses)
    with pytest.raises(OSError, match="busy"):
        storage.write(tmp_path / "file.safetensors", TENSORS, 1, kind="test")
    with pytest.raises(OSError, match="busy"):
        write_json(tmp_path / "file.json", {})
    with pytest.raises(OSError, match="busy"), replacing(old) as aside:
        aside.mkdir()
    assert list(tmp_path.iterdir()) == [old]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.read(tmp_path / "nothing", kind="test")


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, 1, kind="test")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(storage.StorageError, match="truncated"):
        storage.read(path, kind="test")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, 1, kind="test")
    damaged = bytearray(path.read_bytes())
    damaged[-2] ^= 0x40  # in the last of the numbers
    path.write_bytes(damaged)
    with pytest.raises(storage.StorageError, match="is damaged"):
        storage.read(path, kind="test")


def test_files_of_before_there_was_a_checksum_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.safetensors"
    monkeypatch.setattr(storage, "digest", lambda tensors: "")
    storage.write(path, TENSORS, 1, kind="test")
    monkeypatch.undo()
    assert torch.equal(storage.read(path, kind="test")[0]["weight"], TENSORS["weight"])


def test_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file(TENSORS, path)
    with pytest.raises(storage.StorageError, match="not written by jana_pymc"):
        storage.read(path, kind="test")
    path.write_text("hello")
    with pytest.raises(storage.StorageError, match="not a readable safetensors file"):
        storage.read(path, kind="test")


def test_other_kind_and_newer_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.safetensors"
    storage.write(path, TENSORS, 1, kind="test")
    with pytest.raises(storage.StorageError, match="expected a 'approximator'"):
        storage.read(path, kind="approximator")
    monkeypatch.setattr(storage, "VERSION", 0)
    with pytest.raises(storage.StorageError, match="newer"):
        storage.read(path, kind="test")


def test_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        storage.write(tmp_path / "none" / "x.safetensors", {}, {}, kind="test")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        storage.write(tmp_path, {}, {}, kind="test")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        storage.read(tmp_path, kind="test")
