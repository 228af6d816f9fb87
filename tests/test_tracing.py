"""Traced functions: what they return is what Python would, and they know their limits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from conjugate import SMALL, normal_mean
from torch import nn

from jana_pymc.approximators import PosteriorApproximator
from jana_pymc.approximators.posterior import ROWS_AT_ONCE
from jana_pymc.architecture import build_network
from jana_pymc.simulation import GenerativeModel
from jana_pymc.tracing import CALLS_BEFORE_TRACING, MOST_TRACES, Repeated


class Counted(nn.Module):
    """Notes how often Python runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.tanh(self.layer(x))


class Branching(Counted):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x if float(x.sum()) > 0 else -x


def test_shapes_that_come_again_are_traced() -> None:
    module = Counted()
    repeated = Repeated(module)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    expected = module(x)
    for _ in range(CALLS_BEFORE_TRACING + 1):
        assert torch.equal(repeated(x), expected)
    calls = module.calls
    assert torch.equal(repeated(2.0 * x), torch.tanh(module.layer(2.0 * x)))
    assert module.calls == calls  # without Python
    assert torch.equal(repeated(x[:3]), torch.tanh(module.layer(x[:3])))
    assert module.calls == calls + 1  # another shape


@pytest.mark.parametrize("in_place", [True, False])
def test_weights_that_change_are_noticed(in_place: bool) -> None:
    module = Counted()
    repeated = Repeated(module)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    for _ in range(CALLS_BEFORE_TRACING + 1):
        repeated(x)
    with torch.no_grad():
        if in_place:
            module.layer.weight.mul_(2.0)
        else:
            module.layer.weight.data = 2.0 * module.layer.weight
    expected = torch.tanh(module.layer(x))
    for _ in range(CALLS_BEFORE_TRACING + 1):
        assert torch.equal(repeated(x), expected)
    calls = module.calls
    assert torch.equal(repeated(x), expected)
    assert module.calls == calls  # traced again


def test_what_depends_on_values_stays_with_python() -> None:
    repeated = Repeated(Branching())
    x = torch.ones(2, 2)
    for _ in range(5):
        assert torch.equal(repeated(x), x)
        assert torch.equal(repeated(-x), x)


def test_traces_are_few_and_do_not_travel() -> None:
    repeated = Repeated(Counted())
    for n in range(1, MOST_TRACES + 5):
        for _ in range(CALLS_BEFORE_TRACING + 1):
            repeated(torch.ones(n, 2))
    assert len(repeated._traces) <= MOST_TRACES
    for other in (copy.deepcopy(repeated), pickle.loads(pickle.dumps(repeated))):
        assert not other._traces
        assert torch.equal(other(torch.ones(1, 2)), repeated(torch.ones(1, 2)))


def test_a_shape_in_use_stays_traced_while_others_come_and_go() -> None:
    module = Counted()
    repeated = Repeated(module)
    x = torch.ones(1, 2)
    for _ in range(CALLS_BEFORE_TRACING + 1):
        repeated(x)
    for n in range(2, 2 * MOST_TRACES):
        repeated(torch.ones(n, 2))
        before = module.calls
        repeated(x)
        assert module.calls == before


def untrained_posterior(model: GenerativeModel) -> PosteriorApproximator:
    network = build_network(model.schema, model.prior, (False,), SMALL)
    return PosteriorApproximator(network.posterior, model.prior, model.schema)


def test_amortized_draws_do_not_depend_on_how_often_one_asks() -> None:
    model = normal_mean()
    posterior = untrained_posterior(model)
    batch = model.simulate(3, random_seed=1, progressbar=False).batch()
    first = posterior.sample(batch, 7, random_seed=2)
    density = posterior.log_prob(first, batch)
    for _ in range(CALLS_BEFORE_TRACING + 2):
        np.testing.assert_array_equal(posterior.sample(batch, 7, random_seed=2), first)
        np.testing.assert_array_equal(posterior.log_prob(first, batch), density)
    assert posterior._draw._traces
    np.testing.assert_array_equal(copy.deepcopy(posterior).sample(batch, 7, random_seed=2), first)


def test_parts_make_no_difference(monkeypatch) -> None:
    model = normal_mean()
    posterior = untrained_posterior(model)
    batch = model.simulate(3, random_seed=1, progressbar=False).batch()
    whole = posterior.sample(batch, 11, random_seed=2)
    density = posterior.log_prob(whole, batch)
    for rows in (4, 11, 22):  # pieces of one data set's draws, one data set, two
        monkeypatch.setitem(ROWS_AT_ONCE, "cpu", rows)
        np.testing.assert_allclose(posterior.sample(batch, 11, random_seed=2), whole, rtol=1e-5)
        np.testing.assert_allclose(posterior.log_prob(whole, batch), density, rtol=1e-4, atol=1e-4)
