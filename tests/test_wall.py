"""Towards a bound that is a parameter: still a density, steep, and the same in PyTensor."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from scipy import stats
from untrained import untrained

from jana_pymc.flows.spline import SplineTable, n_spline_parameters, spline_forward
from jana_pymc.flows.wall import CUT, WallTail
from jana_pymc.pytensor.lowering import lower
from jana_pymc.simulation import Continuous

SIDES = pytest.mark.parametrize("side", [-1, 1])


@pytest.fixture
def table() -> SplineTable:
    raw = torch.randn(5, n_spline_parameters(6), dtype=torch.float64)
    return SplineTable(raw, 6)


def forward(tail: WallTail, table: SplineTable, y: torch.Tensor, group: torch.Tensor):
    z, log_derivative = spline_forward(y, table.lookup_grouped(y, group))
    return tail.forward(y, z, log_derivative, group)


@SIDES
def test_tail_is_an_increasing_map_with_its_inverse(table, side) -> None:
    tail = WallTail(table, side)
    group = torch.arange(5).repeat_interleave(401)
    y = torch.linspace(-12.0, 12.0, 401, dtype=torch.float64).repeat(5).requires_grad_()
    z, log_derivative = forward(tail, table, y, group)
    (slope,) = torch.autograd.grad(z.sum(), y)
    torch.testing.assert_close(slope.log(), log_derivative, rtol=1e-8, atol=1e-8)
    assert (z.reshape(5, -1).diff(dim=1) > 0.0).all()
    far = side * z > CUT
    assert far.any() and not far.all()
    back = tail.inverse(z, y + 1.0, group)
    torch.testing.assert_close(back[far], y[far], rtol=1e-9, atol=1e-9)
    assert torch.equal(back[~far], y[~far] + 1.0)


@SIDES
def test_value_and_slope_go_on_where_the_tail_begins(table, side) -> None:
    tail = WallTail(table, side)
    group = torch.arange(5)
    for step in (-1e-9, 1e-9):
        z, log_derivative = forward(tail, table, tail.start + step, group)
        torch.testing.assert_close(z, torch.full_like(z, side * CUT), rtol=0.0, atol=1e-6)
        torch.testing.assert_close(log_derivative, tail.log_slope, rtol=0.0, atol=1e-6)


BOUNDS = pytest.mark.parametrize("bound", ["lower", "upper"])


def network(bound: str, value: float | str = "t0"):
    """Untrained, with random weights, of an observable with one bound."""
    return untrained({"x": Continuous(**{bound: value})}, {"t0": (), "s": ()}).network


def rows(bound: str, gaps: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = 0.5 + gaps if bound == "lower" else 0.5 - gaps
    theta = torch.tensor([[0.5, 0.4]], dtype=torch.float64)
    return torch.as_tensor(x)[:, None], theta, torch.zeros(len(x), dtype=torch.long)


@BOUNDS
def test_density_integrates_to_one_and_draws_follow_it(bound) -> None:
    own = network(bound)
    log_gap = np.linspace(np.log(1e-14), np.log(1e8), 200_001)
    gaps = np.exp(log_gap)
    with torch.no_grad():
        density = own.log_prob_rows(*rows(bound, gaps)).exp().numpy() * gaps
    cdf = np.cumsum(density) * (log_gap[1] - log_gap[0])
    assert cdf[-1] == pytest.approx(1.0, abs=2e-4)
    x = own.sample(torch.tensor([[0.5, 0.4]], dtype=torch.float64), 20_000).ravel().numpy()
    drawn = np.log(np.abs(x - 0.5))
    assert stats.kstest(np.interp(drawn, log_gap, cdf), "uniform").pvalue > 1e-3


@BOUNDS
def test_density_falls_ever_faster_towards_the_wall(bound) -> None:
    own = network(bound)
    gaps = np.geomspace(1e-13, 1e-9, 60)
    with torch.no_grad():
        value = own.log_prob_rows(*rows(bound, gaps)).numpy()
    slope = np.diff(value) / np.diff(np.log(gaps))
    assert (np.diff(slope) < 0).all()
    assert slope[-1] > 1.0


@BOUNDS
def test_lowering_and_torch_agree_in_the_tail(bound) -> None:
    own = network(bound)
    x, theta, group = rows(bound, np.geomspace(1e-12, 1.0, 200))
    parameters = pt.matrix("parameters")
    lowered = lower(own, pt.constant(x.numpy()), parameters, pt.constant(group.numpy()), None)
    value, gradient = pytensor.function(
        [parameters], [lowered, pt.grad(lowered.sum(), parameters)]
    )(theta.numpy())
    theta.requires_grad_()
    expected = own.log_prob_rows(x, theta, group)
    expected.sum().backward()
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-9)
    np.testing.assert_allclose(gradient, theta.grad, rtol=1e-7)


@BOUNDS
def test_constant_bounds_are_no_walls(bound) -> None:
    assert network(bound, 0.5).supports[0].walls == ()
    assert network(bound).supports[0].walls == ((-1,) if bound == "lower" else (1,))
