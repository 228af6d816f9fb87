"""Pareto-smoothed importance weights: constants, tails, degenerate ratios, resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jana_pymc.importance import ImportanceWeights, pareto_k_threshold, pareto_smooth

pytestmark = pytest.mark.arviz


def test_normalising_constant_is_recovered() -> None:
    x = np.random.default_rng(1).standard_t(5, (3, 4, 2000))
    weights = pareto_smooth(stats.norm.logpdf(x) + 7.0 - stats.t(5).logpdf(x))
    assert weights.pareto_k.shape == (3, 4)
    assert (weights.pareto_k < 0.3).all()
    assert (np.abs(weights.log_mean - 7.0) < 4 * weights.standard_error).all()
    np.testing.assert_allclose(np.exp(weights.log_weights).sum(-1), 1.0)


@pytest.mark.parametrize("shape", [0.3, 0.8])
def test_pareto_k_is_the_tail_index(shape) -> None:
    # Under Exp(1) the ratio exp(k x) has the tail t^(-1/k).
    x = np.random.default_rng(2).exponential(size=(20, 20_000))
    assert pareto_smooth(shape * x).pareto_k.mean() == pytest.approx(shape, abs=0.05)


def test_a_constant_factor_changes_nothing_but_the_mean() -> None:
    ratios = np.random.default_rng(3).normal(size=500)
    first, second = pareto_smooth(ratios), pareto_smooth(ratios + 1000.0)
    np.testing.assert_allclose(second.log_weights, first.log_weights, atol=1e-9)
    assert float(second.log_mean - first.log_mean) == pytest.approx(1000.0)


def test_degenerate_ratios() -> None:
    rng = np.random.default_rng(4)
    excluded = rng.normal(size=200)
    excluded[::4] = -np.inf
    few = np.full(200, -np.inf)
    few[:3] = 0.0
    weights = pareto_smooth(np.stack([np.full(200, 3.0), np.full(200, -np.inf), excluded, few]))
    assert weights.pareto_k[0] == 0.0
    assert weights.log_mean[0] == pytest.approx(3.0) and weights.standard_error[0] < 1e-6
    assert weights.pareto_k[1] == np.inf and weights.log_mean[1] == -np.inf
    assert (weights.log_weights[2, ::4] == -np.inf).all() and np.isfinite(weights.pareto_k[2])
    assert weights.pareto_k[3] == np.inf
    assert weights.effective_draws[3] == pytest.approx(3.0)
    np.testing.assert_allclose(np.exp(weights.log_weights).sum(-1), 1.0)


def test_a_proposal_that_is_all_but_right_is_no_heavy_tail() -> None:
    """The fit sees shape at any scale: here one draw in a hundred has .1 more than the others."""
    rng = np.random.default_rng(5)
    ratios = 1e-3 * rng.normal(size=2000)
    ratios[:20] += rng.exponential(0.1, 20)
    alone, spread = pareto_smooth(np.stack([ratios, 100.0 * ratios]))[np.arange(2)].pareto_k
    assert alone == 0.0 and spread > 1.0


def test_ratios_that_are_equal_by_rounding_are_not_trusted() -> None:
    weights = pareto_smooth(np.full((1, 200), -1e23))
    assert weights.pareto_k[0] == np.inf
    assert weights.effective_draws[0] == pytest.approx(200.0)
    np.testing.assert_allclose(np.exp(weights.log_weights).sum(-1), 1.0)


def test_infinite_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="no density"):
        pareto_smooth(np.array([0.0, np.inf]))


def test_resampling_follows_the_weights() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(50), 2)
    weights = ImportanceWeights(np.log(p), np.zeros(2), np.zeros(2), np.zeros(2))
    for chosen, probabilities in zip(weights.resample(10_000, rng), p, strict=True):
        counts = np.bincount(chosen, minlength=50)
        assert np.abs(counts - 10_000 * probabilities).max() <= 1.0 + 1e-9


def test_threshold() -> None:
    assert pareto_k_threshold(100) == pytest.approx(0.5)
    assert pareto_k_threshold(100_000) == 0.7
