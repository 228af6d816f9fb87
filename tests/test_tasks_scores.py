"""Scores of benchmark tasks: C2ST and losses against closed forms, runs that resume, bad input."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from exact_pair import ExactPair
from rich.console import Console
from scipy import stats

from jana_pymc.approximators import load
from jana_pymc.cli import main, summary
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.simulation import Continuous, GenerativeModel, SimulationError
from jana_pymc.storage import StorageError
from jana_pymc.tasks import TASKS, experiment, run_folder, scores, task
from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.c2st import c2st
from jana_pymc.tasks.experiment import ExperimentProtocol, prepare_task
from jana_pymc.tasks.losses import _paper_units, losses
from jana_pymc.tasks.references import ReferencePosteriors
from jana_pymc.training import TrainingError, TrainingSettings
from jana_pymc.workflow import calibration

pytestmark = pytest.mark.trains

TINY = ExperimentProtocol(300, 200, 60, 40, 40, TrainingSettings(n_steps=40))

pytest.importorskip("sklearn", reason="scores need the extra `tasks`")

# --- C2ST --------------------------------------------------------------------------------------


def normal(n: int, d: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).normal(size=(n, d))
    draws[:, 0] += shift
    return draws


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_c2st_finds_half_plus_half_the_total_variation(shift):
    # TV of N(0, 1) and N(s, 1) is 2 Φ(s / 2) − 1; a trained classifier stays a little below.
    n, best = 2000, stats.norm.cdf(shift / 2)
    accuracy = c2st(normal(n, 2), normal(n, 2, shift, seed=1), n_jobs=1)
    error = math.sqrt(0.25 / (2 * n))
    assert best - 0.01 - 3 * error < accuracy < best + 3 * error


def test_c2st_does_not_depend_on_scale_and_place():
    x, y = normal(300, 1), normal(300, 1, 1.0, seed=1)
    same = c2st(x, y, n_jobs=1)
    assert c2st(64 * x + 1024, 64 * y + 1024, n_jobs=1) == same


def test_c2st_in_two_processes_is_the_same():
    x, y = normal(200, 1), normal(200, 1, 1.0, seed=1)
    assert c2st(x, y, n_jobs=2) == c2st(x, y, n_jobs=1)


def test_c2st_of_some_of_the_draws():
    x, y = normal(1000, 1), normal(1000, 1, 3.0, seed=1)
    fewer = c2st(x, y, n_draws=200, n_jobs=1)
    assert abs(fewer - stats.norm.cdf(1.5)) < 4 * math.sqrt(0.07 / 400)
    with pytest.raises(ValueError, match="n_draws=5000: expected 5 to 1000"):
        c2st(x, y, n_draws=5000)


@pytest.mark.parametrize(
    ("x", "y", "options", "match"),
    [
        (np.ones(9), np.ones((9, 1)), {}, r"reference has shape \(9,\)"),
        (normal(9, 2), normal(9, 1), {}, "d must be equal"),
        (normal(9, 2), np.full((9, 2), np.nan), {}, "draws has 18 values that are not finite"),
        (np.ones((9, 1)), normal(9, 1), {}, "column 0 of reference has the same value"),
        (normal(9, 2), normal(9, 2), {"n_jobs": 0}, "n_jobs=0: expected at least 1"),
    ],
)
def test_c2st_refuses_wrong_input(x, y, options, match):
    with pytest.raises(ValueError, match=match):
        c2st(x, y, **options)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"jana_pymc\[tasks\]"):
        c2st(normal(9, 1), normal(9, 1))


# --- losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("gaussian_linear", 1),
        ("gaussian_linear_uniform", 1),
        ("slcp", 30),
        ("gaussian_mixture", 12),
        ("two_moons", 1),
    ],
)
def test_the_papers_units_of_the_data(name, scale):
    """With these scales the exact losses are the published ones: see the tests of the tasks."""
    problem = task(name)
    assert _paper_units(problem)[1] == pytest.approx(-problem.x_size * math.log(scale))


class _Posterior:
    """What `losses` asks beyond what `ExactPair` has."""

    def __init__(self, pair: ExactPair):
        self.sample_unconstrained = pair.posterior.sample_unconstrained
        self.log_prob = pair.posterior.log_prob_unconstrained  # mu is its own unconstrained value


def conjugate_task(pair: ExactPair, n_obs: int) -> Task:
    """The pair's model: n_obs draws of N(mu, 1)."""

    def log_likelihood(x, theta):
        return stats.norm.logpdf(x, theta, 1.0).sum(-1)

    model = GenerativeModel(
        pair.prior, pair.model.simulator, observables={"x": Continuous()}, n_obs=n_obs
    )
    return Task(
        "conjugate",
        "benchmark",
        model,
        n_obs,
        lambda x: {"x": x},
        lambda arrays: arrays["x"],
        log_likelihood,
    )


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_excess_losses_are_kullback_leibler_divergences(shift):
    pair = ExactPair()
    pair.posterior.shift = shift
    problem = conjugate_task(pair, n_obs=5)
    rng = np.random.default_rng(1)
    theta = rng.normal(0.0, 2.0, (400, 1))
    x = rng.normal(theta, 1.0, (400, 5))
    batch_posterior = _Posterior(pair)

    class Approximator:
        posterior, likelihood = batch_posterior, pair.likelihood
        prior, schema = pair.prior, problem.model.schema

    found = losses(Approximator(), problem, theta, x, draws=400, random_seed=2)
    # KL(N(m, s²) ‖ N(m + shift · s, s²)) = shift² / 2
    assert abs(found.posterior.excess - shift**2 / 2) < (
        4 * found.posterior.excess_standard_error + 0.005
    )
    assert found.posterior.exact_error < 0.005
    entropy = 0.5 * math.log(2 * math.pi * math.e / (0.25 + 5))
    assert abs(found.posterior.exact - entropy) < 4 * found.posterior.standard_error
    assert found.likelihood.excess == pytest.approx(0.0, abs=1e-12)


# --- reference files ---------------------------------------------------------------------------


def arrays(k: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    problem = task("slcp", "benchmark")
    made = problem.model.simulate(k, random_seed=5, progressbar=False)
    return {
        "observation": problem.flatten(made),
        "true_parameters": made.parameters,
        "num_observation": np.arange(3, 3 + k),
        "reference_posterior": rng.uniform(-3, 3, (k, 300, 5)),
    }


@pytest.fixture
def reference_file(tmp_path):
    np.savez(tmp_path / "reference.npz", **arrays())
    return tmp_path / "reference.npz"


def test_a_reference_file_is_read(reference_file):
    found = ReferencePosteriors.load(reference_file, task("slcp", "benchmark"))
    assert len(found) == 2
    np.testing.assert_array_equal(found.num_observation, [3, 4])


def test_numbers_and_true_parameters_may_be_absent(tmp_path):
    some = {k: v for k, v in arrays().items() if k in ("observation", "reference_posterior")}
    np.savez(tmp_path / "some.npz", **some)
    found = ReferencePosteriors.load(tmp_path / "some.npz", task("slcp", "benchmark"))
    assert found.true_parameters is None
    np.testing.assert_array_equal(found.num_observation, [1, 2])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"observation": None}, "lacks observation; it has .*reference_posterior"),
        ({"observation": np.zeros((2, 7))}, r"observation has shape \(2, 7\).*expects \(k, 8\)"),
        ({"observation": np.zeros((0, 8))}, r"observation has shape \(0, 8\)"),
        ({"observation": np.full((2, 8), np.nan)}, "16 values of observation are not finite"),
        ({"reference_posterior": np.zeros((2, 300, 4))}, r"expects \(2, draws, 5\)"),
        ({"reference_posterior": np.zeros((2, 9, 5))}, "9 draws in reference_posterior"),
        ({"reference_posterior": np.full((2, 300, 5), "a")}, "dtype <U1; expected numbers"),
        ({"true_parameters": np.zeros((2, 4))}, r"true_parameters has shape \(2, 4\)"),
        ({"true_parameters": np.full((2, 5), "a")}, r"wrong\.npz'.*true_parameters has dtype <U1"),
        ({"num_observation": np.array([1, 1])}, "expected 2 different whole numbers"),
        (
            {"reference_posterior": np.full((2, 300, 5), 4.0)},
            "300 of 300 draws of observation 3 in reference_posterior lie outside of the prior",
        ),
        ({"reference_posterior": np.ones((2, 300, 5))}, r"observation 3 .* the same theta\[0\]"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, match):
    changed = {k: v for k, v in {**arrays(), **changes}.items() if v is not None}
    np.savez(tmp_path / "wrong.npz", **changed)
    with pytest.raises(ValueError, match=match):
        ReferencePosteriors.load(tmp_path / "wrong.npz", task("slcp", "benchmark"))


def test_a_draw_rounded_out_of_the_prior_is_no_fault(tmp_path):
    changed = arrays()
    changed["reference_posterior"][0, 0, 0] = 3.0 + 1e-6
    np.savez(tmp_path / "rounded.npz", **changed)
    found = ReferencePosteriors.load(tmp_path / "rounded.npz", task("slcp", "benchmark"))
    assert found.draws[0, 0, 0] > 3.0


@pytest.mark.parametrize(
    ("definition", "form", "match"),
    [
        ("paper", "benchmark", r"'infected'\] has .* outside its support.* than 'paper'\?"),
        ("benchmark", "paper", r"observation\[0, 3\] is 0\.25; in the form of .* would be 0\."),
    ],
)
def test_observations_in_the_form_of_another_definition_are_refused(
    tmp_path, definition, form, match
):
    made = task("sir", form).model.simulate(3, random_seed=1, progressbar=False)
    x = task("sir", form).flatten(made)
    if form == "paper":
        x[0] = [0.0, 0.0, 0.0, 0.25, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0]  # shares, not people
    draws = np.random.default_rng(1).uniform(0.2, 0.4, (3, 100, 2))
    np.savez(tmp_path / "other.npz", observation=x, reference_posterior=draws)
    with pytest.raises(ValueError, match=match):
        ReferencePosteriors.load(tmp_path / "other.npz", task("sir", definition))


def test_files_of_another_kind_are_refused(tmp_path):
    problem = task("slcp", "benchmark")
    np.savez(tmp_path / "others.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="lacks observation, reference_posterior; it has a\\."):
        ReferencePosteriors.load(tmp_path / "others.npz", problem)
    (tmp_path / "text.npz").write_text("no numbers")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("text.npz", "one.npy"):
        with pytest.raises(ValueError, match=r"is not a readable \.npz file"):
            ReferencePosteriors.load(tmp_path / name, problem)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ReferencePosteriors.load(tmp_path / "absent.npz", problem)


def test_the_published_references_fit_their_tasks(reference):
    for name in TASKS:
        found = ReferencePosteriors.load(
            reference / "sbibm" / f"{name}.npz", task(name, "benchmark")
        )
        assert len(found) == 5


# --- runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run with a tiny budget, whose numbers mean nothing."""
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "reference.npz", **arrays())
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        _stand_ins(patch)
        run_tiny(folder)
    return folder


def _stand_ins(patch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What takes long and has tests of its own: NUTS, which compiles, and the classifier."""
    real, scored = scores.refine, []

    def quick_score(reference, draws, *, n_draws, n_jobs):
        assert n_draws == min(len(reference), len(draws))
        scored.append(draws)
        return 0.5 + 0.5 * stats.ks_2samp(reference[:, 0], draws[:, 0]).statistic

    patch.setattr(scores, "refine", lambda *a, method, **k: real(*a, method="psis", **k))
    patch.setattr(scores, "c2st", quick_score)
    return scored


def run_tiny(folder, **changes):
    options = {"protocol": TINY, "n_jobs": 1, "progressbar": False, "random_seed": 2}
    options |= {"reference": folder / "reference.npz", **changes}
    return prepare_task("slcp", folder / "out", **options)()


def test_a_run_writes_what_it_found(finished):
    found = json.loads((finished / "out" / "scores.json").read_text())
    assert found["complete"] and found["definition"] == "benchmark"
    assert [each["num_observation"] for each in found["observations"]] == [3, 4]
    for kind in ("amortized", "refined"):
        values = [each[f"c2st_{kind}"] for each in found["observations"]]
        assert found[f"c2st_{kind}_mean"] == pytest.approx(np.mean(values))
        assert 0.5 < found[f"c2st_{kind}_mean"] <= 1.0
    for key in ("sbc", "jsbc"):
        assert list(found[key]) == [f"theta[{i}]" for i in range(5)]
        assert all(type(each["inside"]) is bool for each in found[key].values())
    for half in ("posterior", "likelihood"):
        assert found["losses"][half]["exact"] < found["losses"][half]["loss"]
    digest = hashlib.sha256((finished / "reference.npz").read_bytes()).hexdigest()
    assert found["reference"] == {"name": "reference.npz", "sha256": digest}
    assert found["train_seconds"] > 0 and found["versions"]["torch"]
    pair = load(finished / "out" / "approximator.safetensors", task("slcp", "benchmark").model)
    assert NetworkSettings.from_dict(found["settings"]["network"]) == pair.settings
    assert TrainingSettings(**found["settings"]["training"]) == TINY.training
    for name in ("calibration.png", "history.png", "pairs_observation_3.png"):
        assert (finished / "out" / name).stat().st_size > 10_000


def test_a_finished_run_is_not_done_again(finished, monkeypatch):
    before = json.loads((finished / "out" / "scores.json").read_text())
    for module, name in (
        (experiment, "fit"),
        (experiment, "calibration"),
        (experiment, "losses"),
        (scores, "refine"),
        (scores, "c2st"),
    ):
        monkeypatch.setattr(module, name, None)  # a call would fail
    assert run_folder._plain(run_tiny(finished)) == before


def test_only_what_is_missing_is_done(finished, monkeypatch):
    out = finished / "out"
    before = json.loads((out / "scores.json").read_text())
    (out / "scores" / "observation_3.json").unlink()
    (out / "draws" / "observation_4.npz").write_bytes(b"cut short")
    scored = _stand_ins(monkeypatch)
    monkeypatch.setattr(experiment, "fit", None)
    after = run_tiny(finished)
    # The draws of observation 4 are made again from its own random numbers, so its scores hold.
    assert len(scored) == 2
    assert after["c2st_refined_mean"] == before["c2st_refined_mean"]


def test_versions_are_those_that_trained(finished, monkeypatch):
    monkeypatch.setattr(experiment, "_versions", lambda: {"torch": "of tomorrow"})
    record = json.loads((finished / "out" / "training.json").read_text())
    assert run_tiny(finished)["versions"] == record["versions"]


def test_both_checks_are_of_the_data_sets_that_each_would_simulate(finished):
    found = json.loads((finished / "out" / "scores.json").read_text())
    problem = task("slcp", "benchmark")
    pair = load(finished / "out" / "approximator.safetensors", problem.model, device="cpu")
    for key, joint in (("sbc", False), ("jsbc", True)):
        alone = calibration(
            pair,
            n_simulations=TINY.n_calibration,
            draws=TINY.calibration_draws,
            joint=joint,
            random_seed=np.random.default_rng([2, experiment._CALIBRATION]),
            progressbar=False,
        )
        assert {name: each["p_value"] for name, each in found[key].items()} == alone.p_values


def test_a_folder_of_other_options_is_refused(finished):
    with pytest.raises(ValueError, match=r"random_seed=2, not 3\. Choose another folder"):
        run_tiny(finished, random_seed=3)


def test_a_folder_of_both_definitions_is_known_again(tmp_path):
    given = {"protocol": TINY, "definition": "both"}
    prepare_task("sir", tmp_path, random_seed=2, **given)
    prepare_task("sir", tmp_path, random_seed=2, **given)
    assert (tmp_path / "paper" / "options.json").exists()
    with pytest.raises(ValueError, match=r"holds a run with random_seed=2, not 3\. Choose"):
        prepare_task("sir", tmp_path, random_seed=3, **given)
    with pytest.raises(ValueError, match=r"holds a run with definition='both', not 'paper'"):
        prepare_task("sir", tmp_path, protocol=TINY, random_seed=2)


def test_a_folder_whose_options_or_networks_cannot_be_read_is_refused(tmp_path):
    options, networks = tmp_path / "options.json", tmp_path / "approximator.safetensors"
    options.write_text('{"task": "sl')
    with pytest.raises(ValueError, match=r"options\.json' cannot be read.* Choose another folder"):
        prepare_task("slcp", tmp_path, protocol=TINY)
    assert options.read_text() == '{"task": "sl'
    options.unlink()
    networks.write_text("cut short")
    with pytest.raises(ValueError, match=r"holds networks, but no options\.json"):
        prepare_task("slcp", tmp_path, protocol=TINY)
    assert not options.exists()
    networks.unlink()
    prepare_task("slcp", tmp_path, protocol=TINY)
    networks.write_text("cut short")
    with pytest.raises(ValueError, match=r"holds networks, but no training\.json"):
        prepare_task("slcp", tmp_path, protocol=TINY)
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(StorageError, match="not a readable safetensors file"):
        prepare_task("slcp", tmp_path, protocol=TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 999}, "draws=999: expected a multiple of 4"),
        ({"n_test": 0}, "n_test=0: expected at least 1"),
        ({"n_simulations": 19}, "n_simulations=19: expected at least 20"),
    ],
)
def test_a_protocol_is_checked_before_anything_is_trained(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **wrong)


def test_draws_must_fill_the_chains(finished):
    with pytest.raises(ValueError, match="draws=201: expected a positive multiple of 4"):
        scores.observation_draws(
            None, None, np.zeros(8), path=finished, draws=201, key="", random_seed=0
        )


def test_which_definitions_are_one_model():
    same = {n for n in TASKS if experiment._same(task(n, "paper"), task(n, "benchmark"))}
    assert same == {"slcp", "gaussian_mixture", "two_moons"}


# --- the command -------------------------------------------------------------------------------


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["task", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_the_command_explains_what_is_wrong(capsys, tmp_path, reference_file):
    out = ["--output", str(tmp_path / "out")]
    assert "there is no task 'slpc'; the tasks are gaussian_linear," in refused(
        capsys, "slpc", *out
    )
    told = refused(capsys, "slcp", *out, "--definition", "mine")
    assert "slcp has no definition 'mine'" in told and "'both'" in told
    assert "there is no file" in refused(capsys, "slcp", *out, "--reference", "absent.npz")
    assert "expects (k, 2)" in refused(
        capsys, "two_moons", *out, "--reference", str(reference_file)
    )
    assert "random_seed=-1" in refused(capsys, "slcp", *out, "--random-seed", "-1")
    assert "cannot write to the folder" in refused(
        capsys, "slcp", "--output", str(reference_file / "below")
    )
    assert "--output" in refused(capsys, "slcp")
    for wrong, said in (
        (("--n-simulations", "1"), "n_simulations=1: expected at least 20"),
        (("--jobs", "0"), "n_jobs=0"),
        (("--device", "abacus"), "device='abacus': expected 'auto', 'cpu'"),
    ):
        assert said in refused(capsys, "slcp", *out, *wrong)
    assert not (tmp_path / "out" / "options.json").exists()


def test_an_interrupted_command_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("jana_pymc.cli.prepare_task", lambda *a, **k: interrupted)
    with pytest.raises(SystemExit) as end:
        main(["task", "slcp", "--output", str(tmp_path)])
    assert end.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("error", [SimulationError, TrainingError])
def test_a_run_that_fails_ends_with_a_short_message(capsys, tmp_path, monkeypatch, error):
    def failing():
        raise error("nothing is finite.")

    monkeypatch.setattr("jana_pymc.cli.prepare_task", lambda *a, **k: failing)
    with pytest.raises(SystemExit) as end:
        main(["task", "slcp", "--output", str(tmp_path)])
    assert end.value.code == 1
    assert capsys.readouterr().err.endswith("task: the run failed: nothing is finite.\n")


def test_errors_within_a_run_are_not_taken_for_wrong_arguments(tmp_path, monkeypatch):
    def failing():
        raise ValueError("inside")

    monkeypatch.setattr("jana_pymc.cli.prepare_task", lambda *a, **k: failing)
    with pytest.raises(ValueError, match="inside"):
        main(["task", "slcp", "--output", str(tmp_path)])


def test_losses_that_are_not_finite_are_said_to_be(capsys):
    loss = {"loss": None, "exact": None, "exact_error": None}
    found = {
        **{"task": "slcp", "definition": "paper", "sbc": {}, "jsbc": {}, "train_seconds": 1.0},
        "losses": {"posterior": loss, "likelihood": {**loss, "loss": 1.25}, "n": 9},
    }
    Console().print(summary(found))
    told = capsys.readouterr().out
    assert "not finite" in told and "1.250" in told


@pytest.mark.filterwarnings("ignore:half-trained")
def test_the_command_runs_both_definitions_at_once_where_they_are_one_model(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("jana_pymc.cli.QUICK", TINY)
    options = ["--quick", "--no-progress", "--n-simulations", "200", "--definition", "both"]
    assert main(["task", "slcp", *options, "--output", str(tmp_path)]) == 0
    assert "SBC" in capsys.readouterr().out
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["definition"] == "both" and list(found["runs"]) == ["paper"]
    assert found["protocol"]["n_simulations"] == 200
    assert found["losses"]["likelihood"]["paper"] is not None
    assert found["sbc"] == found["runs"]["paper"]["sbc"]
    assert "observations" not in found
