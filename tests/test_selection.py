"""Simulations choose between likelihood networks: the least free of those that explain them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest
import torch

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting.defaults import TRIALS, candidates, default_settings, default_training
from jana_pymc.fitting.preparation import standardize
from jana_pymc.fitting.selection import select_likelihood
from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.likelihoods import Support, VectorLikelihood, VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.training import StoredSimulations, TrainingError, TrainingRun, TrainingSettings
from jana_pymc.training.batches import to_batch
from jana_pymc.training.step import TrainingStep

pytestmark = pytest.mark.trains

N_TRIALS, SIZE = 60, 6
DESIGN = np.random.default_rng(0).normal(size=(N_TRIALS, SIZE - 1))


def regression(rng: np.random.Generator, b: np.ndarray) -> dict[str, np.ndarray]:
    """Sufficient statistics of a logistic regression."""
    logit = b[..., :1] + b[..., 1:] @ DESIGN.T
    success = rng.random(logit.shape) < 1.0 / (1.0 + np.exp(-logit))
    return {"n": success.sum(-1), "x": success @ DESIGN}


def bent(rng: np.random.Generator, b: np.ndarray) -> dict[str, np.ndarray]:
    """A count beside statistics that are sharper than any sum of so many trials."""
    n = rng.binomial(N_TRIALS, 1.0 / (1.0 + np.exp(-b[..., 0])))
    noise = np.exp(b[..., 1:]) * rng.normal(size=b[..., 1:].shape)
    return {"n": n, "x": np.sin(3.0 * b[..., :-1]) + 0.05 * noise}


def model(simulator) -> jana.GenerativeModel:
    with pm.Model() as prior:
        pm.Normal("b", 0.0, 1.0, shape=SIZE)
    observables = {"n": jana.Count(N_TRIALS), "x": jana.Continuous(shape=SIZE - 1)}
    return jana.GenerativeModel(
        prior, simulator, observables=observables, structure="vector", vectorized=True
    )


@pytest.mark.parametrize(("simulator", "expected"), [(regression, TRIALS), (bent, 0)])
def test_sums_of_trials_are_told_from_others(
    simulator, expected: int, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generative = model(simulator)
    schema, size = generative.schema, generative.prior.n_unconstrained
    simulations = generative.simulate(2_500, random_seed=1, progressbar=False)
    batch = to_batch(simulations, generative.prior, torch.device("cpu"))
    held_out, stored = batch.rows(slice(0, 500)), batch.rows(slice(500, None))

    def build(settings: NetworkSettings) -> JointNetwork:
        network = build_network(schema, generative.prior, [False] * SIZE, settings, 1)
        standardize(network, [stored])
        return network

    default = default_settings(schema, size)
    brief = replace(
        default_training(default, size, schema),
        n_steps=200,
        linear_steps=50,
        batch_size=128,
        n_validations=4,
    )
    simulated = StoredSimulations(stored, None, batch_size=128, n_obs=(1, 1), seed=1, ordered=True)
    run = TrainingRun(
        build(default),
        simulated,
        (held_out, None),
        brief,
        generative.prior,
        may_be_new=True,
        seed=1,
        checkpoint=tmp_path / "training.checkpoint",
        progressbar=False,
    )
    both = candidates(default, schema, size)
    chosen = select_likelihood(both, build, run)
    assert chosen.likelihood.n_trials == expected
    # Resumed, both trainings are found to have ended.
    monkeypatch.setattr(TrainingStep, "__call__", None)
    assert select_likelihood(both, build, run) is chosen


SETS = 64
NOISE = np.random.default_rng(1).normal(size=SETS)


def sets(n: int, n_parameters: int, n_components: int) -> Batch:
    parameters = torch.zeros(n, n_parameters)
    data = torch.zeros(n, 1, n_components)
    return Batch(parameters, parameters, data, None, torch.ones(n, dtype=torch.long))


class FakeLikelihood:
    """Losses that are known; an exception in the place of them ends its training."""

    def __init__(self, losses: np.ndarray | float | Exception):
        self.losses = losses

    def log_prob(self, observables, parameters, conditions) -> torch.Tensor:
        values = torch.as_tensor(self.losses, dtype=torch.float64)
        return -values.expand(SETS)[:, None]


class FakeRun:
    settings = TrainingSettings()
    simulated = None
    held_out = sets(SETS, 1, 1), None

    def train(self, *args, network, halves, **options):
        assert halves == ("likelihood",)
        losses = getattr(network.likelihood, "losses", None)
        if isinstance(losses, Exception):
            raise losses


def select(ends: tuple, settings: list[NetworkSettings]) -> NetworkSettings:
    ready = iter(ends)
    return select_likelihood(
        settings, lambda _: SimpleNamespace(likelihood=FakeLikelihood(next(ready))), FakeRun()
    )


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((TrainingError("no longer finite"), 2.0, 3.0), 1),
        ((float("nan"), 2.0, 1.0), 2),
        ((2.0, torch.linalg.LinAlgError("singular"), float("nan")), 0),
        ((float("nan"), TrainingError("no longer finite"), float("inf")), 0),
        ((1.0, 1.0, 1.1), 1),  # the least free of equals
    ],
)
def test_what_cannot_be_trained_is_not_chosen(ends, expected: int) -> None:
    settings = [NetworkSettings() for _ in ends]
    assert select(ends, settings[:1]) is settings[0]  # without any training
    assert select(ends, settings) is settings[expected]


@pytest.mark.parametrize(
    ("excess", "expected"),
    [(0.9, 1), (1.1, 0), (-0.9, 1), (-3.0, 1)],
)
def test_freedom_must_gain_more_than_a_standard_error(excess: float, expected: int) -> None:
    """Of the difference: what all data sets share, however much it varies, does not count."""
    difference = (NOISE - NOISE.mean()) / NOISE.std(ddof=1)
    difference += excess / np.sqrt(SETS)  # a mean in units of its standard error
    shared = 100.0 * np.random.default_rng(2).normal(size=SETS)
    settings = [NetworkSettings(), NetworkSettings()]
    assert select((shared, shared + difference), settings) is settings[expected]


def test_what_cannot_be_built_is_not_chosen() -> None:
    settings = [NetworkSettings(), NetworkSettings()]

    def build(which: NetworkSettings) -> SimpleNamespace:
        if which is settings[0]:
            raise torch.linalg.LinAlgError("singular")
        return SimpleNamespace(likelihood=FakeLikelihood(1.0))

    assert select_likelihood(settings, build, FakeRun()) is settings[1]


def test_distractors_have_no_say() -> None:
    """They are most of the loss, and the same for all candidates."""
    vector = [Support()] * 5
    built = [
        VectorLikelihood(vector, 2, settings=VectorSettings(hidden=(4,), draws=((0, 1), (2, 3))))
        for _ in range(2)
    ]
    seen = []

    class Run(FakeRun):
        held_out = sets(3, 2, 5), None

        def train(self, *args, network, **options):
            seen.append(network.likelihood.distractor_part)

    assert all(each.distractor_part is not None for each in built)
    ready = iter(built)
    settings = [NetworkSettings(), NetworkSettings()]
    select_likelihood(settings, lambda _: SimpleNamespace(likelihood=next(ready)), Run())
    assert seen == [None, None]


def test_fit_takes_what_was_chosen_and_stores_it(monkeypatch, tmp_path) -> None:
    fitting = importlib.import_module("jana_pymc.fitting.fit")  # the name is the function's, too
    monkeypatch.setattr(fitting, "select_likelihood", lambda candidates, *_, **__: candidates[-1])
    generative = model(regression)
    training = jana.TrainingSettings(n_steps=30, batch_size=64, n_validations=2, linear_steps=10)
    approximator = jana.fit(
        generative, n_simulations=600, training=training, random_seed=1, progressbar=False
    )
    assert approximator.settings.likelihood.n_trials == TRIALS
    approximator.save(tmp_path / "pair.safetensors")
    again = jana.load(tmp_path / "pair.safetensors", generative)
    data = {"n": 30, "x": np.zeros(SIZE - 1)}
    theta = np.zeros((2, SIZE))
    densities = [each.likelihood.log_prob(data, theta) for each in (approximator, again)]
    np.testing.assert_array_equal(*densities)


@pytest.mark.filterwarnings("ignore:half-trained", "ignore:n_steps=")
@pytest.mark.parametrize("half", ["posterior", "likelihood"])
def test_only_a_likelihood_that_is_left_out_is_chosen(
    half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a posterior that is given, simulations choose as they do without."""
    given = {
        "posterior": jana.PosteriorSettings(jana.FlatSummarySettings(n_summaries=3)),
        "likelihood": jana.VectorSettings(hidden=(8,), n_bins=4),
    }[half]
    asked = []

    def last(settings, build, run):
        asked.append(settings)
        return settings[-1]

    monkeypatch.setattr(importlib.import_module("jana_pymc.fitting.fit"), "select_likelihood", last)
    pair = jana.fit(
        model(regression),
        n_simulations=60,
        network=NetworkSettings(**{half: given}),
        training=TrainingSettings(n_steps=1, n_validations=1),
        random_seed=1,
        progressbar=False,
    )
    assert getattr(pair.settings, half) == given
    if half == "likelihood":
        assert not asked
    else:
        assert [each.likelihood.n_trials for each in asked[0]] == [0, TRIALS, TRIALS]
        assert all(each.posterior == given for each in asked[0])
        assert pair.settings.likelihood.n_trials == TRIALS
