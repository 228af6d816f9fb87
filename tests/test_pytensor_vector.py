"""The vector likelihood in PyTensor gives what torch gives, values and gradients."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from modes import PYTHON
from vectors import CASES, random_vector_likelihood

from jana_pymc.likelihoods import Support
from jana_pymc.pytensor import lower

pytestmark = pytest.mark.bridge


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("case", CASES)
def test_lowering_gives_what_torch_gives(case: str) -> None:
    network = random_vector_likelihood(case)
    rng = np.random.default_rng(1)
    theta = torch.tensor(rng.uniform(0.2, 0.9, (3, 2)), requires_grad=True)
    group = torch.tensor([0, 2, 1, 1, 0])
    n_conditions = network.n_conditions // network.n_steps
    known = None
    if n_conditions:
        known = torch.tensor(rng.normal(size=(5, network.n_steps, n_conditions)))
    x = network.sample(theta.detach()[group], network.n_steps, known, generator=seeded())
    rows = x.reshape(5, -1).requires_grad_()
    flat = None if known is None else known.reshape(5, -1)
    value = network.log_prob_rows(rows, theta, group, flat)
    cotangent = torch.tensor(rng.normal(size=5))
    d_theta, d_rows = torch.autograd.grad(value @ cotangent, [theta, rows], materialize_grads=True)

    data, parameters = pt.dmatrix(), pt.dmatrix()
    lowered = lower(
        network,
        data,
        parameters,
        pt.constant(group.numpy()),
        None if flat is None else flat.numpy(),
    )
    slopes = pytensor.grad(
        lowered @ cotangent.numpy(), [parameters, data], disconnected_inputs="ignore"
    )
    run = pytensor.function([data, parameters], [lowered, *slopes], mode=PYTHON)
    actual = run(rows.detach().numpy(), theta.detach().numpy())
    continuous = [i for i, c in enumerate(network.components) if isinstance(c, Support)]
    np.testing.assert_allclose(actual[0], value.detach().numpy(), rtol=1e-9, atol=1e-9)
    # A slope is a sum over components: its rounding is measured by the largest.
    size = 1.0 + np.abs(actual[1]).max()
    np.testing.assert_allclose(actual[1], d_theta.numpy(), rtol=1e-7, atol=1e-8 * size)
    np.testing.assert_allclose(
        actual[2][:, continuous], d_rows.numpy()[:, continuous], rtol=1e-7, atol=1e-8
    )


def test_one_parameter_vector_and_whole_sequences() -> None:
    network = random_vector_likelihood("sequence")
    theta = torch.tensor([[0.4, 0.6]], dtype=torch.float64)
    x = network.sample(theta.expand(2, 2), 3, generator=seeded())
    parameters = pt.dmatrix(shape=(1, 2))
    lowered = lower(network, pt.constant(x.numpy()), parameters, None, None)
    actual = pytensor.function([parameters], lowered, mode=PYTHON)(theta.numpy())
    expected = network.log_prob(x, theta.expand(2, 2)).sum(1)
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize(("case", "column", "bad"), [("discrete", 1, 6.5), ("mixed", 2, 0.1)])
def test_the_impossible_has_no_probability_and_a_finite_slope(
    case: str, column: int, bad: float
) -> None:
    network = random_vector_likelihood(case)
    theta = np.array([[0.4, 0.6]])
    row = network.sample(torch.tensor(theta), 1, generator=seeded())[0].numpy()
    row[0, column] = bad
    parameters = pt.dmatrix()
    lowered = lower(network, pt.constant(row), parameters, None, None)
    slope = pytensor.grad(pt.switch(pt.isinf(lowered), 0.0, lowered).sum(), parameters)
    value, slope = pytensor.function([parameters], [lowered, slope], mode=PYTHON)(theta)
    assert np.isneginf(value).all() and np.isfinite(slope).all()
