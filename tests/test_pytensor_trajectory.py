"""Sequences around a trajectory in PyTensor: values and gradients are those of torch."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from modes import PYTHON
from sequences import draw_parameters, generator, randomize

from jana_pymc.likelihoods import (
    Bound,
    CountRange,
    Support,
    TrajectoryLikelihood,
    TrajectorySettings,
)
from jana_pymc.pytensor import NoLowering, lower

pytestmark = pytest.mark.bridge

N_OBS = 5
COMPONENTS = {
    "real": (Support(),),
    "bounded by a parameter": (Support(lower=Bound(column=0)), Support(Bound(-9.0), Bound(9.0))),
    "counts": (CountRange(), CountRange(upper=5)),
    "mixed": (Support(), CountRange(), Support(lower=Bound(value=-3.0))),
}


def random_likelihood(components: str, **settings: object) -> TrajectoryLikelihood:
    small = TrajectorySettings(hidden=(8, 8), law_hidden=(6, 6), n_features=1, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = TrajectoryLikelihood(COMPONENTS[components], 2, N_OBS, small).double()
        theta = draw_parameters(200, 1)
        network.standardize(network.sample(theta, N_OBS, None, generator(1)), theta)
        randomize(network, 0.1)
    return network.eval().requires_grad_(False)


def by_torch(network, rows, theta, group, cotangent):
    theta = theta.clone().requires_grad_()
    value = network.log_prob_rows(rows, theta, group)
    (slope,) = torch.autograd.grad(value @ cotangent, theta)
    return value.detach().numpy(), slope.numpy()


@pytest.mark.parametrize(
    ("components", "order", "grouped"),
    [
        *((components, order, True) for components in COMPONENTS for order in (0, 1, 2)),
        *(("mixed", order, False) for order in (0, 2)),
    ],
)
def test_time_points_have_the_density_of_torch(components: str, order: int, grouped: bool) -> None:
    network = random_likelihood(components, order=order)
    sizes = (4, 1, 5) if grouped else (5,)
    theta = draw_parameters(len(sizes), 3)
    x = network.sample(theta, N_OBS, None, generator(2))
    rows = torch.cat([x[i, :size] for i, size in enumerate(sizes)])
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    cotangent = torch.randn(len(rows), generator=generator(4), dtype=torch.float64)
    parameters = pt.dmatrix()
    own = pt.constant(group.numpy()) if grouped else None
    logp = lower(network, pt.constant(rows.numpy()), parameters, own, None)
    slope = pytensor.grad(logp @ cotangent.numpy(), parameters)
    value, slope = pytensor.function([parameters], [logp, slope], mode=PYTHON)(theta.numpy())
    expected = by_torch(network, rows, theta, group, cotangent)
    np.testing.assert_allclose(value, expected[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("order", "n_states", "n_members", "shared"),
    [  # every pair of two of them
        (0, 0, 1, True),
        (0, 3, 1, False),
        (0, 3, 2, True),
        (1, 0, 1, False),
        (1, 3, 1, True),
        (1, 3, 2, False),
    ],
)
def test_whole_sequences_have_one_density_each(
    order: int, n_states: int, n_members: int, shared: bool
) -> None:
    moves = {"n_states": n_states, "n_members": n_members}
    network = random_likelihood("mixed", order=order, angles=(0,), rounded=(1,), **moves)
    theta = 3.0 * draw_parameters(1 if shared else 3, 3)
    each = theta.expand(3, -1)
    x = network.sample(each, N_OBS, None, generator(2))
    parameters = pt.dmatrix()
    group = None if shared else pt.arange(3)
    logp = lower(network, pt.constant(x.numpy()), parameters, group, None)
    slope = pytensor.grad(logp.sum(), parameters)
    value, slope = pytensor.function([parameters], [logp, slope], mode=PYTHON)(theta.numpy())
    theta = theta.clone().requires_grad_()
    expected = network.log_prob(x, theta.expand(3, -1)).sum(1)
    (gradient,) = torch.autograd.grad(expected.sum(), theta)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-9)
    np.testing.assert_allclose(slope, gradient, rtol=1e-8, atol=1e-8)


def test_a_law_of_many_steps_is_left_to_the_op() -> None:
    network = random_likelihood("mixed", n_states=2, n_substeps=8)
    with pytest.raises(NoLowering, match=f"with {8 * (N_OBS - 1)} steps, .* say 'op'"):
        lower(network, pt.dmatrix(), pt.dmatrix(), None, None)


def test_outside_the_support() -> None:
    network = random_likelihood("mixed")
    theta = draw_parameters(1, 3)
    x = network.sample(theta, N_OBS, None, generator(2))[0]
    x[1, 1], x[2, 1], x[3, 2] = 0.5, -1.0, -4.0
    parameters = pt.dmatrix()
    logp = lower(network, pt.constant(x.numpy()), parameters, None, None)
    slope = pytensor.grad(pt.switch(pt.isinf(logp), 0.0, logp).sum(), parameters)
    value, slope = pytensor.function([parameters], [logp, slope], mode=PYTHON)(theta.numpy())
    np.testing.assert_array_equal(np.isneginf(value), [False, True, True, True, False])
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("many", [False, True])
def test_exchanged_sequences_beyond_the_trajectory_are_named(many: bool) -> None:
    network = random_likelihood("real")
    x = pt.dtensor3() if many else pt.dmatrix()
    logp = lower(network, x, pt.constant(draw_parameters(1, 3).numpy()), None, None)
    run = pytensor.function([x], logp, mode=PYTHON)
    lead = (2,) if many else ()
    assert np.isfinite(run(np.zeros((*lead, N_OBS, 1)))).all()
    with pytest.raises(AssertionError, match="trained on 5 time points at most"):
        run(np.zeros((*lead, N_OBS + 1, 1)))


@pytest.mark.parametrize("x", [1e6, -1e12, 1e30])
def test_tails_are_straight_lines_however_far(x: float) -> None:
    network = random_likelihood("real")
    theta, rows = draw_parameters(1, 3), torch.full((2, 1), x, dtype=torch.float64)
    parameters = pt.dmatrix()
    logp = lower(network, pt.constant(rows.numpy()), parameters, None, None)
    slope = pytensor.grad(logp.sum(), parameters)
    value, slope = pytensor.function([parameters], [logp, slope], mode=PYTHON)(theta.numpy())
    group = torch.zeros(2, dtype=torch.long)
    expected = by_torch(network, rows, theta, group, torch.ones(2, dtype=torch.float64))
    np.testing.assert_allclose(value, expected[0], rtol=1e-9)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-7)
