"""Simulations in single precision: no value leaves its support by rounding."""

from __future__ import annotations

from functools import cache

import numpy as np
import pymc as pm
import pytest
import torch
from torch import Tensor

from jana_pymc.likelihoods import Support
from jana_pymc.simulation import Categorical, Continuous, GenerativeModel, Simulations
from jana_pymc.training import to_batch

pytestmark = pytest.mark.usefixtures("interpreted")

KINDS = {
    "share": Continuous(lower=0.0, upper=1.0),
    "tenths": Continuous(lower=0.1, upper=0.7),  # no numbers of either precision
    "rt": Continuous(lower="low"),
    "until": Continuous(upper="high"),
    "between": Continuous(lower="low", upper="high"),
    "free": Continuous(),
    "choice": Categorical(2),
}
BOUNDED = tuple(KINDS)[:5]


@cache
def model() -> GenerativeModel:
    """Values on both sides of what single precision tells from their bounds."""
    with pm.Model() as prior:
        pm.Uniform("low", 0.2, 0.4)
        pm.Uniform("high", 0.6, 0.9)

    def simulator(rng, low, high, n_obs):
        def near(end, towards):
            return end + (towards - end) * 10.0 ** -rng.uniform(0.0, 14.0, (len(low), n_obs))

        def between(first, last):
            where = rng.random((len(low), n_obs)) < 0.5
            return np.where(where, near(first, last), near(last, first))

        return {
            "share": between(0.0, 1.0),
            "tenths": between(0.1, 0.7),
            "rt": near(low, high),
            "until": near(high, low),
            "between": between(low, high),
            "free": rng.normal(size=(len(low), n_obs)),
            "choice": rng.integers(0, 2, (len(low), n_obs)),
        }

    return GenerativeModel(prior, simulator, observables=KINDS, n_obs=(3, 5), vectorized=True)


def batches(simulations: Simulations) -> tuple[Tensor, Tensor, Tensor]:
    """Observables of the batch, merely rounded ones, and its parameters for each of them."""
    batch = to_batch(simulations, model().prior, torch.device("cpu"))
    rounded = torch.as_tensor(simulations.batch().observables, dtype=torch.float32)
    theta = batch.parameters[:, None].expand(*rounded.shape[:2], -1)
    return batch.observables, rounded, theta


@pytest.mark.parametrize("source", ["prior", "given"])
def test_rounding_leaves_all_values_inside_their_support(source: str) -> None:
    simulations = model().simulate(400, random_seed=1, progressbar=False)
    if source == "given":
        given = simulations.parameters
        simulations = model().simulate(parameters=given, random_seed=2, progressbar=False)
    values, rounded, theta = batches(simulations)
    assert values.dtype == torch.float32
    for column, name in enumerate(KINDS):
        kind = KINDS[name]
        ours, theirs = values[..., column], rounded[..., column]
        if name not in BOUNDED:
            assert torch.equal(ours, theirs)
            continue
        support = Support.declared(kind.lower, kind.upper, ("low", "high"))
        inside = support.to_real(theirs, theta)[2]
        assert not inside.all()
        assert support.to_real(ours, theta)[2].all()
        assert torch.equal(ours[inside], theirs[inside])
        inwards = torch.nextafter(theirs, torch.full_like(theirs, 0.5))  # which is in all of them
        assert torch.equal(ours[~inside], inwards[~inside])


def test_values_that_were_outside_stay_there() -> None:
    simulations = model().simulate(20, random_seed=1, progressbar=False)
    dataset = simulations.dataset.copy(deep=True)
    dataset["share"][:, 0] = 1.0
    dataset["rt"][:, 1] = dataset["low"]
    dataset["until"][:, 2] = np.nan
    values, _, theta = batches(Simulations(dataset))
    assert (values[:, 0, 0] == 1.0).all()
    assert torch.equal(values[:, 1, 2], theta[:, 1, 0])
    assert values[:, 2, 3].isnan().all()
