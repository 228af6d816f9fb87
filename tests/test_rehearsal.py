"""Rehearsal: the posterior learns from the likelihood network, which it leaves as it is."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import torch
from stages import interrupted, run_on, same

import jana_pymc as jana
from jana_pymc.fitting import default_settings, default_training
from jana_pymc.flows import FlowSettings
from jana_pymc.likelihoods import VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import FlatSummarySettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.simulation import DataSchema
from jana_pymc.training import TrainingHistory
from jana_pymc.training.surrogates import Surrogates

pytestmark = pytest.mark.trains

DIM = 4
NETWORK = NetworkSettings(
    PosteriorSettings(
        FlatSummarySettings(), FlowSettings(transform="autoregressive", n_layers=1, hidden=(64,))
    ),
    VectorSettings(n_layers=1, hidden=(), conditioner_hidden=4, n_bins=4),
)


@cache
def linear() -> jana.GenerativeModel:
    """y ~ Normal(θ, 0.3²), θ ~ Normal(0, 1), four of each."""
    with pm.Model() as prior:
        pm.Normal("theta", shape=DIM)

    def simulator(rng, theta):
        return {
            f"y{j}": theta[..., j] + 0.3 * rng.standard_normal(theta.shape[:-1]) for j in range(DIM)
        }

    return jana.GenerativeModel(
        prior,
        simulator,
        observables={f"y{j}": jana.Continuous() for j in range(DIM)},
        structure="vector",
    )


def test_what_is_soon_made_is_rehearsed() -> None:
    numbers = {f"x{i}": jana.Continuous() for i in range(40)}
    pair = {name: numbers[name] for name in ("x0", "x1")}
    for schema, rehearsed in (
        (DataSchema(pair, n_obs=(60, 60)), True),
        (DataSchema(pair, n_obs=(70, 70)), False),
        (DataSchema(numbers, n_obs=(1, 1)), False),
        (DataSchema(pair, structure="vector"), True),
        (DataSchema(numbers, structure="vector"), False),
    ):
        training = default_training(default_settings(schema, 8), 8, schema)
        assert (training.rehearsal_steps > 0) == rehearsed


def settings(rehearsal_steps: int) -> jana.TrainingSettings:
    return jana.TrainingSettings(
        n_steps=300,
        n_threads=1,
        batch_size=64,
        linear_steps=100,
        weight_average=0.95,
        n_validations=10,
        patience=None,
        validation_fraction=0.2,
        rehearsal_steps=rehearsal_steps,
    )


def fitted(rehearsal_steps: int, checkpoint: Path | None = None) -> jana.JointApproximator:
    return jana.fit(
        linear(),
        n_simulations=400,
        network=NETWORK,
        training=settings(rehearsal_steps),
        random_seed=1,
        checkpoint=checkpoint,
        progressbar=False,
    )


@pytest.fixture(scope="module")
def alone() -> jana.JointApproximator:
    return fitted(0)


def test_from_an_exact_likelihood_comes_the_exact_posterior(alone, monkeypatch) -> None:
    def exact_likelihood(self, parameters, n_obs, conditions=None, generator=None):
        noise = torch.randn((len(parameters), n_obs, DIM), generator=generator)
        return parameters[:, None] + 0.3 * noise

    monkeypatch.setattr("jana_pymc.likelihoods.VectorLikelihood.sample", exact_likelihood)
    rehearsed = fitted(600)
    test = linear().simulate(2_000, random_seed=2, progressbar=False)
    before, after = (
        each.posterior.log_prob(test.parameters[:, None], test.batch()).mean()
        for each in (alone, rehearsed)
    )
    # θ | y is normal with variance 0.09 / 1.09 in each component.
    exact = -0.5 * DIM * np.log(2.0 * np.pi * np.e * 0.09 / 1.09)
    assert before < exact - 0.2  # 400 simulations are few
    assert after == pytest.approx(exact, abs=0.04)
    assert same(rehearsed.network.likelihood, alone.network.likelihood)
    history = rehearsed.history
    assert history.step[-1] == 900
    assert np.all(np.diff(history.step) > 0)
    assert np.all(np.diff(history.seconds) > 0)
    assert history.validation_likelihood[-1] == pytest.approx(history.best_likelihood)


def test_a_bad_likelihood_does_no_harm(alone, monkeypatch) -> None:
    def noise(self, parameters, n_obs, conditions=None, generator=None):
        return torch.randn((len(parameters), n_obs, DIM), generator=generator)

    monkeypatch.setattr("jana_pymc.likelihoods.VectorLikelihood.sample", noise)
    assert same(fitted(200).network.posterior, alone.network.posterior)


def test_a_rehearsal_that_fails_does_no_harm(alone, monkeypatch) -> None:
    def nothing(self, parameters, n_obs, conditions=None, generator=None):
        return torch.full((len(parameters), n_obs, DIM), torch.nan)

    monkeypatch.setattr("jana_pymc.likelihoods.VectorLikelihood.sample", nothing)
    with pytest.warns(UserWarning, match=r"rehearsal of the posterior failed.*no finite data"):
        failed = fitted(200)
    assert same(failed.network, alone.network)
    assert not any(module.training for module in failed.network.modules())
    weights = failed.network.parameters()
    assert all(each.untyped_storage().nbytes() == each.nbytes for each in weights)
    assert failed.history.step == alone.history.step


def test_an_interrupted_rehearsal_goes_on(tmp_path) -> None:
    whole = fitted(200)
    with interrupted(step=110):
        fitted(200, tmp_path / "run.ckpt")
    resumed = fitted(200, tmp_path / "run.ckpt")
    assert same(resumed.network, whole.network)
    assert resumed.history.step == whole.history.step


def test_parameters_come_from_the_prior_or_from_where_simulations_succeeded(alone) -> None:
    for may_be_new in (True, False):
        run = run_on(alone.network, linear(), 50, may_be_new=may_be_new)
        simulated = run.simulated.sets[0]
        surrogate = Surrogates(run, 16, 1)
        first, other = surrogate(0)[0], surrogate(1)[0]
        assert first.observables.shape == (16 * 40, 1, DIM)
        known = {tuple(row) for row in simulated.parameters.tolist()}
        assert all(tuple(row) in known for row in first.parameters.tolist()) is not may_be_new
        torch.testing.assert_close(first.parameters, first.unconstrained)
        assert not torch.equal(first.observables, other.observables)
        assert torch.equal(first.observables, surrogate(0)[0].observables)
        # The likelihood was trained on 320 sets: its spread is known to some percent.
        spread = (first.observables[:, 0] - first.parameters).std()
        assert spread == pytest.approx(0.3, rel=0.25)


@pytest.mark.parametrize("design", ["simulator", lambda rng, n_obs: {"d": rng.normal(size=n_obs)}])
def test_conditions_of_the_simulator_keep_their_parameters(monkeypatch, design) -> None:
    with pm.Model() as prior:
        pm.Normal("theta")
    own = design == "simulator"

    def simulator(rng, theta, n_obs, d=None):
        d = theta + rng.normal(size=n_obs) if own else d
        x = {"x": theta + d + 0.3 * rng.standard_normal(n_obs)}
        return x | {"d": d} if own else x

    given = {}

    def rehearse(run, history):
        given["may_be_new"] = run.may_be_new
        return history

    monkeypatch.setattr(sys.modules["jana_pymc.fitting.fit"], "rehearse", rehearse)
    model = jana.GenerativeModel(
        prior,
        simulator,
        observables={"x": jana.Continuous()},
        conditions={"d": jana.Continuous()},
        design=design,
        n_obs=3,
    )
    jana.fit(
        model,
        n_simulations=200,
        training=jana.TrainingSettings(n_steps=1, n_threads=1, batch_size=200, rehearsal_steps=10),
        random_seed=1,
        progressbar=False,
    )
    assert given["may_be_new"] is not own


def test_histories_follow_one_another() -> None:
    first = TrainingHistory([10, 20], [1.0, 2.0], [3.0, 2.0], [1.0, 1.0], [3.0, 2.5], [1.0, 0.9])
    second = TrainingHistory([5], [0.5], [1.0], [0.9], [2.0], [0.9])
    both = first.followed_by(second)
    assert both.step == [10, 20, 25]
    assert both.seconds == [1.0, 2.0, 2.5]
    assert both.validation_posterior == [3.0, 2.5, 2.0]
    assert TrainingHistory().followed_by(second).step == [5]


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_steps_are_checked(steps) -> None:
    with pytest.raises((TypeError, ValueError), match="rehearsal_steps"):
        jana.TrainingSettings(rehearsal_steps=steps)


@pytest.mark.parametrize(("rate", "error"), [(0.0, ValueError), (True, TypeError)])
def test_rates_are_checked(rate, error) -> None:
    with pytest.raises(error, match="rehearsal_learning_rate"):
        jana.TrainingSettings(rehearsal_learning_rate=rate)
