"""What the benchmarks compute beside their times, without training anything."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
import xarray as xr
from scripts import script
from sequences import random_likelihood

from jana_pymc.inference_data import to_inference_data
from jana_pymc.simulation import Continuous, DataBatch, DataSchema


@pytest.mark.bridge
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    ("case", "settings"), [("AR(1), lowering", "order 1"), ("local level, Op", "memory")]
)
def test_sequences_have_the_density_and_the_slopes_of_their_network(
    case: str, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nuts = script("benchmarks/markovian_nuts.py", monkeypatch)
    network = random_likelihood("real", settings)
    likelihood = nuts.likelihood_of(nuts.CASES[case], network)
    x = np.random.default_rng(1).standard_normal(nuts.N_OBS)
    theta = pt.dmatrix("theta")
    fixed = pt.specify_shape(theta, (1, 2))
    value = nuts.log_density(nuts.CASES[case], likelihood, x, fixed).sum()
    found = pytensor.function([theta], [value, pytensor.grad(value, theta)])(np.array([[0.4, 0.7]]))
    point = torch.tensor([[0.4, 0.7]], dtype=torch.float64, requires_grad=True)
    expected = network.log_prob(torch.tensor(x)[None, :, None], point).sum()
    expected.backward()
    np.testing.assert_allclose(found[0], expected.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(found[1], point.grad.numpy(), rtol=1e-6)


def test_losses_a_trial_belong_to_densities_of_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    training = script("benchmarks/training.py", monkeypatch)
    # Ten nats a data set of a hundred trials are a tenth of a nat a trial.
    assert training.loss_at(-60.0, -50.0, 0.5, n_obs=100.0) == pytest.approx(0.6)
    assert training.loss_at(3.5, 3.7, -2.0) == pytest.approx(-1.8)


def test_the_likelihood_is_of_the_trials_that_the_posterior_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = script("benchmarks/training.py", monkeypatch)
    batch = DataBatch(np.zeros((3, 5, 2)), np.ones((3, 5, 1)), np.array([3, 4, 5]))

    class Simulated:
        parameters = np.zeros((3, 2))

        def batch(self) -> DataBatch:
            return batch

    def log_prob(x: np.ndarray, theta: np.ndarray, known: np.ndarray) -> np.ndarray:
        assert len(theta) == 1 and len(known) == len(x)
        return np.full((1, len(x)), -2.0)

    pair = SimpleNamespace(likelihood=SimpleNamespace(log_prob=log_prob))
    assert training.mean_log_likelihood(pair, Simulated()) == pytest.approx(-8.0)


@pytest.mark.parametrize("n_steps", [None, 700])
def test_a_whole_training_is_that_of_fit_unless_its_length_is_given(
    n_steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = script("benchmarks/training.py", monkeypatch)
    model = SimpleNamespace(
        simulate=lambda n, **options: None,
        schema=DataSchema({"x": Continuous(shape=(2,))}, structure="vector"),
        prior=SimpleNamespace(n_unconstrained=2),
    )
    given: dict[str, Any] = {}

    def fit(model: object, **options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.jana, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        training.whole_training(model, Namespace(n_simulations=100, n_steps=n_steps))
    assert (given["training"] and given["training"].n_steps) == n_steps


def test_who_is_undecided_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    judgement = script("benchmarks/judgement.py", monkeypatch)
    faults = Counter({"neither": 90, "undecided": 6, "posterior": 2, "likelihood": 1, "both": 1})
    assert judgement.accused(faults) == pytest.approx(0.04)


@pytest.mark.arviz
def test_posteriors_are_apart_in_monte_carlo_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchical = script("benchmarks/hierarchical_ddm.py", monkeypatch)
    rng = np.random.default_rng(1)
    draws = {
        name: (("chain", "draw"), rng.standard_normal((2, 500))) for name in hierarchical.POPULATION
    }
    first = hierarchical.population(to_inference_data({"posterior": xr.Dataset(draws)}))
    found = hierarchical.distances(first + 1.0, first)
    for name, apart in found.items():
        sd = float(first[name].std())
        assert apart["sd"] == pytest.approx(1.0 / sd)
        # Draws are independent, and both runs have an error.
        assert apart["errors"] == pytest.approx(1.0 / (sd * np.sqrt(2 / 1000)), rel=0.25)


def test_gradients_are_those_of_warm_up_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", SimpleNamespace())
    black_box = script("benchmarks/black_box.py", monkeypatch)
    stats = {"warmup_sample_stats": {"n_steps": [[7, 15]]}, "sample_stats": {"n_steps": [[3, 1]]}}
    assert black_box.n_gradients(stats) == 26


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    with pytest.raises(SystemExit, match=r"pip install '\.\[nutpie\]'"):
        script("benchmarks/black_box.py", monkeypatch)
