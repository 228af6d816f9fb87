"""Moment matching against normal targets, whose constants are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jana_pymc.workflow.moment_matching import match_moments


def matched(mean, covariance, random_seed=1):
    proposal, target = stats.multivariate_normal(np.zeros(2)), stats.multivariate_normal
    draws = np.random.default_rng(random_seed).normal(size=(4000, 2))
    return match_moments(
        draws, proposal.logpdf(draws), target(mean, covariance).logpdf, proposal.logpdf
    )


def test_a_target_beside_the_proposal_and_wider() -> None:
    # Variances up to 8.2 times the proposal's: k is 1 - 1 / 8.2 unless they are matched.
    mean, covariance = np.array([2.5, -2.0]), np.array([[6.0, 3.0], [3.0, 4.0]])
    result = matched(mean, covariance)
    weight = np.exp(result.weights.log_weights)
    assert result.rounds
    assert result.weights.pareto_k < 0.7
    np.testing.assert_allclose(weight @ result.unconstrained, mean, atol=0.15)
    deviation = result.unconstrained - mean
    np.testing.assert_allclose((weight[:, None] * deviation).T @ deviation, covariance, atol=0.6)
    # The map's Jacobian is right if the target's constant, one, is found.
    assert result.weights.log_mean == pytest.approx(0.0, abs=0.08)


def test_what_is_well_covered_is_left_alone() -> None:
    result = matched(np.zeros(2), 0.8 * np.eye(2))
    assert result.rounds == 0
    assert result.weights.pareto_k < 0.5
