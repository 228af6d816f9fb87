"""Starting points of NUTS chains, whose covariance is also the metric."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.refinement.proposals import MIN_EFFECTIVE, log_likelihood_in_region
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.refinement.resampling import CANDIDATES
from jana_pymc.simulation import DataBatch

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

N_PRIOR_DRAWS = 4000
"""Prior draws to resample where the amortized posterior is too far off."""


def chain_starts(
    approximator: JointApproximator,
    batch: DataBatch,
    resampled: RefinedDraws,
    datasets: np.ndarray,
    rng: np.random.Generator,
) -> tuple[RefinedDraws, np.ndarray]:
    """Resampled amortized draws, or draws from the prior where too few of those are effective.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    resampled : RefinedDraws
        Result of `psis`. If few draws are effective, they repeat a handful of points.
    datasets : ndarray of int
        Positions of the data sets that NUTS is to sample; the others keep their draws.
    rng : Generator

    Returns
    -------
    starts : RefinedDraws
        Draws inside the trained region; for data sets without any, the resampled draws.
    found : ndarray of bool, shape (len(datasets),)
        Whether there are any draws inside the region.
    """
    unconstrained = resampled.unconstrained.copy()
    draws, size = unconstrained.shape[1:]
    theta = approximator.prior.constrain(unconstrained[datasets])
    possible = np.isfinite(log_likelihood_in_region(approximator, batch[datasets], theta))
    share = resampled.effective_share[datasets]
    effective = share * CANDIDATES * draws * possible.mean(axis=1)
    found = np.ones(len(datasets), dtype=bool)
    for k, i in enumerate(datasets):
        usable = unconstrained[i, possible[k]]
        if not effective[k] >= MIN_EFFECTIVE * size:
            usable = _prior_starts(approximator, batch[[i]], draws, rng)
        found[k] = len(usable) > 0
        if found[k]:
            unconstrained[i] = np.resize(usable, (draws, size))  # repeated where too few
    return replace(resampled, unconstrained=unconstrained), found


def _prior_starts(
    approximator: JointApproximator, batch: DataBatch, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Prior draws resampled by a power of the likelihood that keeps enough of them effective.

    Empty if the data set is impossible under all prior draws.
    """
    theta = approximator.prior.draw(N_PRIOR_DRAWS, rng)
    log_weights = log_likelihood_in_region(approximator, batch, theta[None])[0]
    possible = np.isfinite(log_weights)
    if not possible.any():
        return np.empty((0, approximator.prior.n_unconstrained))
    theta, log_weights = theta[possible], log_weights[possible]
    power = 1.0
    while True:
        weights = np.exp(power * (log_weights - log_weights.max()))
        weights /= weights.sum()
        if 1 / (weights**2).sum() >= min(MIN_EFFECTIVE * theta.shape[1], len(theta) / 2):
            break
        power /= 1.5
    return approximator.prior.unconstrain(theta[rng.choice(len(theta), size=draws, p=weights)])
