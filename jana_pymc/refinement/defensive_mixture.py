"""Heavier tails for proposals whose tails are too light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln, logsumexp

from jana_pymc.importance import pareto_smooth
from jana_pymc.refinement.proposals import (
    MIN_EFFECTIVE,
    Proposed,
    log_importance_ratios,
    total_log_likelihood,
)
from jana_pymc.simulation import DataBatch

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

DEGREES = 4.0
"""Degrees of freedom of the Student-t distribution that is added to proposals."""


def can_defend(proposed: Proposed) -> np.ndarray:
    """Whether enough draws are effective to estimate a Student-t's mean and covariance.

    A single stray draw may carry nearly all of the weight. The Student-t distribution is then a
    spike at that draw or, once smoothing has spread its weight over the tail, misses it. In either
    case all ratios may be small, so that k̂ no longer signals the problem. Effective draws are
    therefore counted from ratios that are not smoothed.

    Parameters
    ----------
    proposed : Proposed

    Returns
    -------
    ndarray of bool, shape (sets,)
    """
    ratios = proposed.pool_weight * proposed.log_ratios
    with np.errstate(invalid="ignore"):  # NaN, hence false, if all draws are impossible
        log_effective = 2 * logsumexp(ratios, axis=-1) - logsumexp(2 * ratios, axis=-1)
    return np.exp(log_effective) >= MIN_EFFECTIVE * proposed.unconstrained.shape[-1]


def add_defensive_mixture(
    approximator: JointApproximator, batch: DataBatch, proposed: Proposed, rng: np.random.Generator
) -> Proposed:
    """Add a heavy-tailed component to proposals whose tails are too light.

    Draws from a Student-t distribution with the mean and covariance of the weighted draws are added
    to those of the amortized posterior, and all are weighted against the mixture of both [1]_.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    proposed : Proposed
    rng : Generator

    Returns
    -------
    Proposed
        With a quarter more draws.

    References
    ----------
    .. [1] Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture
       distributions. Technometrics, 37(2), 185-194.
    """
    n_sets, n, dim = proposed.unconstrained.shape
    n_new = n // 4
    weight = np.exp(proposed.weights.log_weights)[..., None]
    mean = (weight * proposed.unconstrained).sum(1, keepdims=True)
    deviation = proposed.unconstrained - mean
    covariance = np.einsum("sni,snj->sij", weight * deviation, deviation)
    ridge = 1e-6 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / dim + 1e-12
    factor = np.linalg.cholesky(covariance + ridge * np.eye(dim))
    normal = rng.standard_normal((n_sets, n_new, dim))
    spread = np.sqrt(DEGREES / rng.chisquare(DEGREES, (n_sets, n_new, 1)))
    new = mean + spread * np.einsum("sij,snj->sni", factor, normal)

    both = np.concatenate([proposed.unconstrained, new], axis=1)
    log_q_new = approximator.posterior.log_prob_unconstrained(new, batch)
    parameters = approximator.prior.constrain(new)
    log_likelihood_new = total_log_likelihood(approximator, batch, parameters)
    log_prior = np.concatenate([proposed.log_prior, approximator.prior.log_prob(new)], axis=1)
    log_likelihood = np.concatenate([proposed.log_likelihood, log_likelihood_new], axis=1)
    log_q = np.concatenate([proposed.log_q, log_q_new], axis=1)
    share = n_new / (n + n_new)
    log_tails = np.log(share) + _log_student_t(both - mean, factor)
    mixture = np.logaddexp(np.log1p(-share) + np.nan_to_num(log_q, nan=-np.inf), log_tails)
    a = proposed.pool_weight
    pooled = a * (log_likelihood + log_prior) + ((1.0 - a) * log_q if a < 1.0 else 0.0)
    ratios = log_importance_ratios(pooled, 0.0, mixture)
    return Proposed(both, log_q, log_prior, log_likelihood, pareto_smooth(ratios), a)


def _log_student_t(deviation: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Log density at deviations from the mean, (sets, n, dim), for given Cholesky factors."""
    dim = deviation.shape[-1]
    solved = np.linalg.solve(factor, deviation.swapaxes(1, 2))
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(-1)[:, None]
    constant = (
        gammaln((DEGREES + dim) / 2) - gammaln(DEGREES / 2) - dim / 2 * np.log(DEGREES * np.pi)
    )
    return constant - log_det - (DEGREES + dim) / 2 * np.log1p((solved**2).sum(1) / DEGREES)
