"""Likelihood networks: densities that integrate to one, draws that follow them, supports."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
    AutoregressiveSettings,
    Bound,
    SignedCouplingLikelihood,
    Support,
)

SETTINGS = AutoregressiveSettings(hidden=(16,), n_bins=6)


def perturbed(components: list, n_parameters: int = 2, n_conditions: int = 0):
    """An untrained network away from its start, in double precision."""
    generator = torch.Generator().manual_seed(3)
    network = AutoregressiveLikelihood(components, n_parameters, n_conditions, SETTINGS).double()
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


PARAMETERS = torch.tensor([[0.4, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("support", "low", "high"),
    [
        (Support(), -60.0, 60.0),
        (Support(lower=Bound(column=0)), 0.4, 400.0),
        (Support(upper=Bound(2.0)), -400.0, 2.0),
        (Support(lower=Bound(-1.0), upper=Bound(column=0)), -1.0, 0.4),
    ],
)
def test_density_of_a_response_and_a_time_integrates_to_one(support, low, high) -> None:
    network = perturbed([support, 3])
    # Midpoints on a grid that is fine where the support's map is steep.
    share = torch.linspace(-16.0, 16.0, 40_001, dtype=torch.float64)
    edges = low + (high - low) * torch.sigmoid(share)
    x, width = 0.5 * (edges[1:] + edges[:-1]), edges.diff()
    total = 0.0
    for k in range(3):
        rows = torch.stack([x, torch.full_like(x, k)], -1)[None]
        with torch.no_grad():
            total += float((network.log_prob(rows, PARAMETERS)[0].exp() * width).sum())
    assert total == pytest.approx(1.0, abs=2e-3)


def test_density_of_two_continuous_components_integrates_to_one() -> None:
    network = perturbed([Support(), Support()])
    axis = torch.linspace(-25, 25, 801, dtype=torch.float64)
    rows = torch.cartesian_prod(axis, axis)[None]
    with torch.no_grad():
        total = network.log_prob(rows, PARAMETERS).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=5e-3)


def test_categories_alone_sum_to_one() -> None:
    network = perturbed([2, 3])
    rows = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0)).double()[None]
    total = network.log_prob(rows, PARAMETERS).detach().exp().sum()
    assert float(total) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "components",
    [
        [Support(lower=Bound(column=0)), 2],
        [3, Support(), Support(upper=Bound(1.0))],
        [2, 2, Support(lower=Bound(0.0), upper=Bound(1.0))],
    ],
)
def test_draws_follow_the_density(components: list) -> None:
    """Cross entropy of draws equals the entropy by integration: exp(log p) averages to ∫p²."""
    network = perturbed(components)
    n = 20_000
    draws = network.sample(PARAMETERS, n, generator=torch.Generator().manual_seed(0))
    assert draws.shape == (1, n, len(components))
    with torch.no_grad():
        log_prob = network.log_prob(draws, PARAMETERS)[0]
    assert torch.isfinite(log_prob).all()
    again = network.sample(PARAMETERS, n, generator=torch.Generator().manual_seed(1))
    # For draws from p itself, E[q/p] = 1 for any density q: take q = p at shifted parameters.
    with torch.no_grad():
        other = network.log_prob(again, PARAMETERS)[0]
    assert stats.ks_2samp(log_prob.numpy(), other.numpy()).pvalue > 0.01
    shifted = PARAMETERS + torch.tensor([[0.0, 0.3]], dtype=torch.float64)
    with torch.no_grad():
        ratio = (network.log_prob(draws, shifted)[0] - log_prob).exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=5 * float(ratio.std()) / math.sqrt(n))


def test_groups_give_what_separate_data_sets_give() -> None:
    network = perturbed([Support(lower=Bound(0.0)), 2])
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    data = network.sample(parameters, 4, generator=generator)
    together = network.log_prob(data, parameters)
    rows = torch.randperm(12, generator=generator)
    group = torch.arange(3).repeat_interleave(4)[rows]
    torch.testing.assert_close(
        network.log_prob_rows(data.flatten(0, 1)[rows], parameters, group),
        together.flatten()[rows],
    )


def test_outside_the_support_is_minus_infinity_with_finite_gradient() -> None:
    network = perturbed([Support(lower=Bound(column=0)), 2])
    parameters = PARAMETERS.clone().requires_grad_()
    rows = torch.tensor([[[0.3, 1.0], [0.4, 0.0], [0.5, 1.0]]], dtype=torch.float64)
    log_prob = network.log_prob(rows, parameters)[0]
    assert log_prob[:2].tolist() == [-math.inf, -math.inf]
    log_prob[2].backward()
    assert torch.isfinite(parameters.grad).all()


def test_standardizing_makes_the_start_a_fit() -> None:
    """Untrained, the density of log(x − bound) is standard normal after standardizing."""
    rng = np.random.default_rng(0)
    parameters = torch.as_tensor(rng.normal(size=(5_000, 2)))
    y = torch.as_tensor(rng.normal(0.7, 0.2, 5_000))
    observables = torch.stack([parameters[:, 0] + y.exp(), torch.zeros(5_000)], -1)
    network = AutoregressiveLikelihood([Support(lower=Bound(column=0)), 2], 2, 0, SETTINGS).double()
    network.standardize(observables, parameters)
    log_prob = network.log_prob(observables[:, None], parameters)[:, 0]
    exact = stats.norm(float(y.mean()), float(y.std())).logpdf(y.numpy()) - y.numpy()
    near = np.abs(y.numpy() - 0.7) < 0.6  # where each spline is the identity
    np.testing.assert_allclose(
        log_prob.detach().numpy()[near], exact[near] + math.log(0.5), atol=1e-6
    )


def test_conditions_reach_the_density() -> None:
    network = perturbed([Support()], n_conditions=1)
    x = torch.zeros(1, 2, 1, dtype=torch.float64)
    conditions = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    first, second = network.log_prob(x, PARAMETERS, conditions)[0].tolist()
    assert first != pytest.approx(second)
    with pytest.raises(ValueError, match="1 known conditions"):
        network.log_prob(x, PARAMETERS)


def test_too_many_categories_are_refused() -> None:
    with pytest.raises(ValueError, match="1000 joint values"):
        AutoregressiveLikelihood([10, 100], 1)


def test_signed_coupling_is_deterministic_and_normalised() -> None:
    network = SignedCouplingLikelihood([2, Support()], 2).double()
    t = torch.linspace(0.0, 12.0, 4_001, dtype=torch.float64)
    total = 0.0
    for response in (0.0, 1.0):
        rows = torch.stack([torch.full_like(t, response), t], -1)[None]
        with torch.no_grad():
            first, second = (network.log_prob(rows, PARAMETERS) for _ in range(2))
        assert torch.equal(first, second)
        total += float(torch.trapezoid(first[0].exp(), t))
    # Untrained, time and dummy are one Student-t vector, which fixes the density at dummy = 0.
    joint = stats.multivariate_t(df=50, shape=np.eye(2)).pdf(np.c_[t, np.zeros_like(t)])
    expected = 2 * np.trapezoid(joint, t) / stats.norm.pdf(0.0)
    assert total == pytest.approx(expected, rel=1e-6)


def test_signed_coupling_refuses_other_data() -> None:
    with pytest.raises(ValueError, match="AutoregressiveSettings"):
        SignedCouplingLikelihood([3, Support()], 2)
