"""Moment matching: draws moved towards a target whose importance weights have heavy tails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jana_pymc.importance import ImportanceWeights, pareto_k_threshold, pareto_smooth

LogDensity = Callable[[np.ndarray], np.ndarray]

MAX_ROUNDS = 30
"""Transformations that are tried at most."""

RIDGE = 1e-9
"""Share of the variances added to covariances, which few effective draws leave singular."""


@dataclass(frozen=True, eq=False)
class Matched:
    """Moved draws and their weights.

    Attributes
    ----------
    unconstrained : ndarray, shape (draws, unconstrained)
        Draws, half of them moved.
    weights : ImportanceWeights
        Weights of the target over the mixture of the proposal and its moved form.
    rounds : int
        Transformations that lowered k̂.
    """

    unconstrained: np.ndarray
    weights: ImportanceWeights
    rounds: int


def match_moments(
    unconstrained: np.ndarray, log_q: np.ndarray, log_target: LogDensity, log_proposal: LogDensity
) -> Matched:
    r"""Importance weighted moment matching [1]_.

    Affine maps give the draws the means of the weighted draws, then also their variances, then
    their covariance. Each map is kept if it lowers k̂, until k̂ is low or no map helps. A map
    :math:`T` changes the density to :math:`q_T(\theta) = q(T^{-1} \theta) / |\det T|`. Finally,
    half of the draws are moved and all are weighted against :math:`(q + q_T) / 2`, so that both
    regions are covered.

    Parameters
    ----------
    unconstrained : ndarray, shape (draws, unconstrained)
        Draws from the proposal.
    log_q : ndarray, shape (draws,)
        Log density of the proposal at the draws.
    log_target : callable
        Log density of the target, up to a constant, at draws like these.
    log_proposal : callable
        Log density of the proposal, normalised as `log_q`.

    Returns
    -------
    Matched

    References
    ----------
    .. [1] Paananen, T., Piironen, J., Bürkner, P.-C., & Vehtari, A. (2021). Implicitly adaptive
       importance sampling. Statistics and Computing, 31(2), 16.
    """
    draws, size = unconstrained.shape
    matrix, shift, log_det = np.eye(size), np.zeros(size), 0.0
    moved = unconstrained
    weights = _weigh(log_target(moved), log_q)
    threshold, rounds = pareto_k_threshold(draws), 0
    while weights.pareto_k > threshold and rounds < MAX_ROUNDS:
        for affine in (_shift, _scale, _rotate):
            step = affine(moved, np.exp(weights.log_weights))
            if step is None:
                continue
            center, target_mean, linear = step
            trial = target_mean + (moved - center) @ linear.T
            trial_det = log_det + np.linalg.slogdet(linear)[1]
            trial_weights = _weigh(log_target(trial), log_q - trial_det)
            if trial_weights.pareto_k < weights.pareto_k:
                moved, weights, log_det = trial, trial_weights, trial_det
                matrix = linear @ matrix
                shift = target_mean + linear @ (shift - center)
                rounds += 1
                break
        else:
            break
    if not rounds:
        return Matched(unconstrained, weights, 0)
    both = unconstrained.copy()
    both[: draws // 2] = moved[: draws // 2]
    back = np.linalg.solve(matrix, (both - shift).T).T
    mixture = np.logaddexp(_finite(log_proposal(both)), _finite(log_proposal(back)) - log_det)
    return Matched(both, _weigh(log_target(both), mixture - np.log(2)), rounds)


def _weigh(log_target: np.ndarray, log_proposal: np.ndarray) -> ImportanceWeights:
    with np.errstate(invalid="ignore"):
        ratios = log_target - log_proposal
    return pareto_smooth(np.where(np.isfinite(ratios), ratios, -np.inf))


def _finite(log_density: np.ndarray) -> np.ndarray:
    return np.nan_to_num(log_density, nan=-np.inf)


Step = tuple[np.ndarray, np.ndarray, np.ndarray]


def _shift(draws: np.ndarray, weight: np.ndarray) -> Step | None:
    return draws.mean(0), weight @ draws, np.eye(draws.shape[1])


def _scale(draws: np.ndarray, weight: np.ndarray) -> Step | None:
    mean = weight @ draws
    variance = weight @ (draws - mean) ** 2
    if not (variance > 0).all():
        return None
    return draws.mean(0), mean, np.diag(np.sqrt(variance / draws.var(0)))


def _rotate(draws: np.ndarray, weight: np.ndarray) -> Step | None:
    size = draws.shape[1]
    mean = weight @ draws
    deviation = draws - mean
    wanted = (weight[:, None] * deviation).T @ deviation
    present = np.atleast_2d(np.cov(draws.T, ddof=0))
    try:
        to, origin = (
            np.linalg.cholesky(c + RIDGE * np.diag(np.diag(c))) for c in (wanted, present)
        )
    except np.linalg.LinAlgError:
        return None
    return draws.mean(0), mean, to @ np.linalg.solve(origin, np.eye(size))
