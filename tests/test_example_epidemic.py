"""Experiment 4's example: its distance between epidemics, and all its stages in miniature."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jana_pymc.tasks.epidemic import OBSERVABLES, PARAMETERS, TEASER, epidemic, simulator

pytestmark = pytest.mark.trains

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module("epidemic_scores")


def runs(n: int, seed: int) -> np.ndarray:
    theta = {name: np.full((n, 1), value) for name, value in TEASER.items()}
    reports = simulator(np.random.default_rng(seed), n_obs=81, whole=True, **theta)
    return np.stack([reports[name] for name in OBSERVABLES], -1)


@pytest.mark.parametrize("logarithms", [False, True])
def test_energy_distance_tells_one_law_from_another(scores: ModuleType, logarithms: bool) -> None:
    simulated, rng = runs(200, 1), np.random.default_rng(2)
    same = scores.energy_distance(runs(100, 3), simulated, rng, logarithms=logarithms)
    assert same.inside
    assert 0.8 < same.ratio < 1.25
    other = scores.energy_distance(1.2 * runs(100, 3), simulated, rng, logarithms=logarithms)
    assert not other.inside


def test_energy_distance_of_two_points_is_twice_their_distance(scores: ModuleType) -> None:
    simulated = np.zeros((4, 1, 1))
    points = np.full((2, 1, 1), np.e - 1.0)
    found = scores.energy_distance(points, simulated, np.random.default_rng(1), logarithms=True)
    assert found.distance == pytest.approx(2.0)
    np.testing.assert_allclose(found.simulated, 0.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("interpreted")
@pytest.mark.filterwarnings("ignore:.*outside the trained region", "ignore:half-trained")
def test_all_stages_in_miniature(
    scores: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both forms of the data in one test: their prior is compiled once."""
    # The pool's weight, which nothing here looks at, would take a quarter of the time.
    monkeypatch.setattr(import_module("jana_pymc.refinement.pooling"), "DRAWS", 20)
    reports = runs(1, 4)[0]
    table = tmp_path / "reports.csv"
    np.savetxt(table, reports, delimiter=",", header="a,b,c", comments="", fmt="%d")
    # Dates are taken where there are any.
    lines = table.read_text().splitlines()
    dates = np.datetime64("2020-03-01") + np.arange(81)
    rows = [f"{date},{line}" for date, line in zip(dates, lines[1:], strict=True)]
    table.write_text("\n".join([f"date,{lines[0]}", *rows]) + "\n")
    all_stages(table, tmp_path / "own", ())
    all_stages(table, tmp_path / "original", ("--original-conditioning",))


def all_stages(table: Path, out: Path, conditioning: tuple[str, ...]) -> None:
    example = import_module("experiment4_epidemic")
    arguments = [
        *("--tiny", "--no-progress", "--device", "cpu", "--n-steps", "8"),
        *("--simulations-per-round", "500", "--output", str(out)),
        *("--csv", str(table), "--columns", "a", "b", "c"),
        *conditioning,
    ]
    example.main(arguments)
    written = json.loads((out / "scores.json").read_text())
    assert set(written["sbc_inside"]) == set(written["jsbc_inside"]) == set(PARAMETERS)
    assert written["parameters"][0] == pytest.approx(dict(TEASER))
    assert written["kl_per_day"] > 0.0 if not conditioning else "kl_per_day" not in written
    assert set(written["reports"]["median"]) == set(PARAMETERS)
    assert len(written["energy"]) == 2
    for name in ("figure2", "figure22", "calibration", "critic", "misspecification", "reports"):
        assert (out / f"{name}.png").stat().st_size > 1_000
    networks = out / "epidemic.safetensors"
    assert not (out / "checkpoint.safetensors").exists()
    again = example.parse_arguments(["--approximator", str(networks)])
    assert (again.n_steps, again.simulations_per_round) == (8, 500)
    assert again.original_conditioning is bool(conditioning)
    with pytest.raises(SystemExit, match=r"epidemic\.safetensors.*(conditions|observables)"):
        example.read(networks, epidemic(81), "cpu")


def test_networks_are_used_with_their_own_options_only(scores: ModuleType, tmp_path: Path) -> None:
    example = import_module("experiment4_epidemic")
    options = import_module("epidemic_options")
    out = ["--output", str(tmp_path)]
    trained = example.parse_arguments([*out, "--quick", "--posterior", "towers", "--n-steps", "7"])
    assert trained.look_around
    options.write_record(trained)
    # A record without networks is none: they may have been deleted.
    assert example.parse_arguments(out).posterior == "flat"
    (tmp_path / "epidemic.safetensors").touch()
    again = example.parse_arguments(out)
    assert {name: getattr(again, name) for name in options.DEFAULTS} == {
        name: getattr(trained, name) for name in options.DEFAULTS
    }
    assert again.look_around
    example.parse_arguments([*out, "--quick", "--n-steps", "7", "--random-seed", "1"])
    for wrong, said in (
        (("--posterior", "flat"), "posterior='towers', not 'flat'"),
        (("--n-steps", "8"), "n_steps=7, not 8"),
        (("--original",), "original=False, not True"),
        (("--random-seed", "2"), "random_seed=1, not 2"),
    ):
        with pytest.raises(SystemExit, match=rf"epidemic\.safetensors holds .*{said}.* Choose"):
            example.parse_arguments([*out, *wrong])


def test_networks_saved_by_hand_have_no_record(scores: ModuleType, tmp_path: Path) -> None:
    example = import_module("experiment4_epidemic")
    networks = tmp_path / "mine.safetensors"
    networks.touch()
    given = ["--output", str(tmp_path / "out"), "--approximator", str(networks)]
    found = example.parse_arguments([*given, "--quick"])
    assert found.quick and not found.look_around
    (tmp_path / "mine.options.json").write_text("{")
    with pytest.raises(SystemExit, match=r"mine\.options\.json does not say with which options"):
        example.parse_arguments(given)


def test_the_checkpoint_stays_until_the_networks_are_saved(
    scores: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = import_module("experiment4_epidemic")
    networks = tmp_path / "new" / "mine.safetensors"
    given = ["--output", str(tmp_path), "--approximator", str(networks), "--quick"]

    class Trained:
        def save(self, path: Path) -> None:
            assert path.parent.is_dir()
            raise OSError("the disk is full")

    def fit(model: object, *, checkpoint: Path, **options: object) -> Trained:
        checkpoint.touch()
        return Trained()

    monkeypatch.setattr(example.jana, "fit", fit)
    with pytest.raises(OSError, match="the disk is full"):
        example.train(epidemic(81), example.parse_arguments(given), example.Stopwatch())
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_other_options_ends_the_run_with_a_message(
    scores: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = import_module("experiment4_epidemic")

    def fit(model: object, **options: object) -> None:
        raise example.jana.StorageError("the checkpoint is of a run with n_steps=7, not 8. Use it")

    monkeypatch.setattr(example.jana, "fit", fit)
    given = example.parse_arguments(["--output", str(tmp_path), "--n-steps", "8"])
    with pytest.raises(SystemExit, match=r"^the checkpoint is of .* n_steps=7, not 8"):
        example.train(epidemic(81), given, example.Stopwatch())


def test_reports_are_read_before_the_training(
    scores: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = import_module("experiment4_epidemic")
    monkeypatch.setattr(example, "train", lambda *_: pytest.fail("it was trained first"))
    table = tmp_path / "reports.csv"
    rows = [f"2020-03-0{day},3,2,1" for day in range(1, 6)]
    table.write_text("\n".join(["date,cases,recoveries,deaths", *rows]))
    with pytest.raises(SystemExit, match=r"reports\.csv has 5 days"):
        example.main(["--output", str(tmp_path), "--csv", str(table)])
