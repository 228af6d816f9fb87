"""The diffusion model's examples: files are read before the training, networks saved after it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripts import script


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("examples/ddm.py", monkeypatch)


@pytest.fixture
def untrained(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, which must not come to its training."""
    monkeypatch.setattr(example, "train", lambda *_: pytest.fail("it was trained first"))
    return example


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """Three data sets of two and three trials, filled up with zeros."""
    path = tmp_path / "datasets.npz"
    signed = np.array([[0.5, -0.25, 0.0], [-1.0, 2.0, 0.75], [1.5, 1.0, 0.0]], dtype="f4")
    theta = np.arange(12, dtype="f4").reshape(3, 4)
    np.savez(path, signed_rt=signed, n_trials=np.array([2, 3, 2], dtype="i2"), theta=theta)
    return path


def test_the_checkpoint_stays_until_the_networks_are_saved(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = tmp_path / "new" / "mine.safetensors"

    class Trained:
        def save(self, path: Path) -> None:
            assert path == networks and path.parent.is_dir()
            raise OSError("the disk is full")

    def fit(model: object, *, checkpoint: Path, **options: object) -> Trained:
        checkpoint.touch()
        return Trained()

    monkeypatch.setattr(example.jana, "fit", fit)
    given = ["--output", str(tmp_path), "--approximator", str(networks), "--no-progress"]
    model = SimpleNamespace(simulate=lambda *sizes, **options: None)
    with pytest.raises(OSError, match="the disk is full"):
        example.train(model, example.parse_arguments(given), example.Stopwatch())
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_data_sets_and_exact_answers_are_missed_before_the_training(
    untrained: ModuleType, datasets: Path, tmp_path: Path
) -> None:
    absent = str(tmp_path / "absent.npz")
    out = ["--output", str(tmp_path / "out")]
    with pytest.raises(FileNotFoundError, match="absent"):
        untrained.main([*out, "--datasets", absent])
    with pytest.raises(FileNotFoundError, match="absent"):
        untrained.main([*out, "--datasets", str(datasets), "--exact", absent])


def test_a_sampler_that_is_not_installed_is_missed_before_the_training(
    untrained: ModuleType, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    given = ["--output", str(tmp_path), "--datasets", str(datasets), "--exact", str(datasets)]
    with pytest.raises(SystemExit, match=r"pip install '\.\[nutpie\]'"):
        untrained.main([*given, "--samplers", "NUTS", "nutpie"])


def test_real_trials_of_participants_are_missed_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = script("examples/hierarchical_ddm.py", monkeypatch)
    monkeypatch.setattr(example, "trained_ddm", lambda _: pytest.fail("it was trained first"))
    given = ["--output", str(tmp_path), "--csv", str(tmp_path / "absent.csv")]
    monkeypatch.setattr(sys, "argv", ["hierarchical_ddm.py", *given])
    with pytest.raises(FileNotFoundError, match="absent"):
        example.main()


def test_signed_times_are_times_and_responses(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = script("examples/ddm_data.py", monkeypatch)
    exact = tmp_path / "exact.npz"
    np.savez(exact, dataset=np.array([2, 1, 0]), posterior_mean=np.eye(3))
    answers = data.read_exact(exact, 2)
    np.testing.assert_array_equal(answers["posterior_mean"], np.eye(3)[:2])
    trials, theta = data.read_datasets(datasets, answers["dataset"])
    expected = [([1.5, 1.0], [1, 1]), ([1.0, 2.0, 0.75], [0, 1, 1])]
    for found, (rt, response) in zip(trials, expected, strict=True):
        np.testing.assert_array_equal(found["rt"], rt)
        np.testing.assert_array_equal(found["response"], response)
    np.testing.assert_array_equal(theta, [[8, 9, 10, 11], [4, 5, 6, 7]])
    trials, theta = data.read_datasets(datasets)
    assert [len(each["rt"]) for each in trials] == [2, 3, 2] and theta.shape == (3, 4)


def test_trials_without_a_participant_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = script("examples/ddm_data.py", monkeypatch)
    table = tmp_path / "trials.csv"
    table.write_text("rt,response,who\n0.5,1,a\n0.6,0,\n,1,a\n0.7,1,b\n0.8,-1,a\n")
    found = data.read_trials(table, "rt", "response", "who")
    assert {name: each["rt"].tolist() for name, each in found.items()} == {
        "a": [0.5, 0.8],
        "b": [0.7],
    }
    assert found["a"]["response"].tolist() == [1, 0]
    assert capsys.readouterr().out.startswith("2 of 5 trials")
    # Without groups their column plays no part.
    assert data.read_trials(table, "rt", "response", None)["all"]["rt"].size == 4
    assert capsys.readouterr().out.startswith("1 of 5 trials")


def test_networks_are_read_where_there_are_any_and_written_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = script("examples/common.py", monkeypatch)
    path = tmp_path / "new" / "pair.safetensors"
    done: list[Any] = []

    class Trained:
        def save(self, to: Path) -> None:
            to.touch()

    def train() -> Trained:
        done.append(path.parent.is_dir())
        return Trained()

    monkeypatch.setattr(common.jana, "load", lambda *given: given)
    assert isinstance(common.read_or_train(path, "model", train), Trained)
    assert common.read_or_train(path, "model", train) == (path, "model")
    assert isinstance(common.read_or_train(None, "model", train), Trained)
    assert done == [True, True]
