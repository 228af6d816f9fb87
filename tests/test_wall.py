"""Towards a bound that is a parameter: still a density, steep, and the same in PyTensor."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from scipy import stats
from untrained import untrained

from jana_pymc.flows.spline import SplineTable, n_spline_parameters, spline_inverse
from jana_pymc.flows.wall import CUT, WalledSplines
from jana_pymc.pytensor.lowering import lower
from jana_pymc.simulation import Continuous

pytestmark = [pytest.mark.bridge, pytest.mark.usefixtures("interpreted")]

WALLS = pytest.mark.parametrize("walls", [(-1,), (1,), (-1, 1)])


@pytest.fixture
def table() -> SplineTable:
    raw = torch.randn(5, n_spline_parameters(6), dtype=torch.float64)
    return SplineTable(raw, 6)


@WALLS
def test_spline_is_an_increasing_map_with_its_inverse(table, walls) -> None:
    splines, group = WalledSplines(table, walls), torch.arange(5).repeat_interleave(401)
    y = torch.linspace(-12.0, 12.0, 401, dtype=torch.float64).repeat(5).requires_grad_()
    z, log_derivative = splines.forward(y, group)
    (slope,) = torch.autograd.grad(z.sum(), y)
    torch.testing.assert_close(slope.log(), log_derivative, rtol=1e-8, atol=1e-8)
    assert (z.reshape(5, -1).diff(dim=1) > 0.0).all()
    for side in walls:
        assert (side * z > CUT).any() and not (side * z > CUT).all()
    torch.testing.assert_close(splines.inverse(z, group), y, rtol=1e-9, atol=1e-9)


@WALLS
def test_up_to_the_tail_it_is_the_spline_whose_value_and_slope_go_on(table, walls) -> None:
    group = torch.arange(5).repeat_interleave(401)
    y = torch.linspace(-12.0, 12.0, 401, dtype=torch.float64).repeat(5)
    without, with_walls = (WalledSplines(table, w).forward(y, group) for w in ((), walls))
    inner = (without[0].abs() < CUT) | ((without[0] > 0) & (1 not in walls))
    inner |= (without[0] < 0) & (-1 not in walls)
    for bare, walled in zip(without, with_walls, strict=True):
        torch.testing.assert_close(walled[inner], bare[inner], rtol=0.0, atol=0.0)
    group = torch.arange(5)
    for side in walls:
        end = torch.full((5,), side * CUT, dtype=torch.float64)
        at, _ = spline_inverse(end, table.lookup_grouped(end, group, field=2))
        (low, high) = (WalledSplines(table, walls).forward(at + h, group) for h in (-1e-9, 1e-9))
        torch.testing.assert_close(low[0], end, rtol=0.0, atol=1e-6)
        torch.testing.assert_close(high[0], end, rtol=0.0, atol=1e-6)
        torch.testing.assert_close(low[1], high[1], rtol=0.0, atol=1e-6)


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


def test_lowering_and_torch_agree_between_two_walls() -> None:
    own = untrained({"x": Continuous("low", "high")}, {"low": (), "high": ()}).network
    assert own.supports[0].walls == (-1, 1)
    theta = torch.tensor([[-0.4, 1.7], [0.0, 3.0]], dtype=torch.float64)
    share = np.r_[np.geomspace(1e-12, 0.5, 100), 1.0 - np.geomspace(1e-12, 0.5, 100)[::-1]]
    group = np.repeat([0, 1], 200)
    low, high = theta[group].numpy().T
    x = torch.as_tensor(low + np.tile(share, 2) * (high - low))
    parameters = pt.matrix("parameters")
    lowered = lower(own, pt.constant(x[:, None].numpy()), parameters, pt.constant(group), None)
    value, gradient = pytensor.function(
        [parameters], [lowered, pt.grad(lowered.sum(), parameters)]
    )(theta.numpy())
    theta.requires_grad_()
    expected = own.log_prob_rows(x[:, None], theta, torch.as_tensor(group))
    expected.sum().backward()
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-9)
    np.testing.assert_allclose(gradient, theta.grad, rtol=1e-7)


@BOUNDS
def test_constant_bounds_are_no_walls(bound) -> None:
    assert network(bound, 0.5).supports[0].walls == ()
    assert network(bound).supports[0].walls == ((-1,) if bound == "lower" else (1,))
