"""Amortized draws with the densities for importance weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.importance import ImportanceWeights, pareto_smooth
from jana_pymc.simulation import DataBatch, random_generator

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

MIN_EFFECTIVE = 10
"""Effective draws per parameter that are needed to estimate a mean and a covariance."""


@dataclass(frozen=True, eq=False)
class Proposed:
    """Amortized draws with all densities that importance sampling needs.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, draws, unconstrained)
    log_q, log_prior, log_likelihood : ndarray, shape (sets, draws)
        Log densities of the draws, over unconstrained parameters; the likelihood is summed over
        observations.
    weights : ImportanceWeights
        Pareto-smoothed weights, pool over proposal.
    pool_weight : float
        Weight α of likelihood times prior in the pool; 1 means likelihood times prior alone.
    """

    unconstrained: np.ndarray
    log_q: np.ndarray
    log_prior: np.ndarray
    log_likelihood: np.ndarray
    weights: ImportanceWeights
    pool_weight: float = 1.0

    def __getitem__(self, datasets: np.ndarray) -> Proposed:
        """Some of the data sets, by an array of positions or a mask."""
        fields = ("unconstrained", "log_q", "log_prior", "log_likelihood", "weights")
        return replace(self, **{name: getattr(self, name)[datasets] for name in fields})

    @property
    def log_ratios(self) -> np.ndarray:
        """Log likelihood + log prior − log q, shape (sets, draws); −inf where impossible."""
        return log_importance_ratios(self.log_likelihood, self.log_prior, self.log_q)


def propose(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    pool_weight: float = 1.0,
    *,
    random_seed: int | np.random.Generator | None = None,
) -> Proposed:
    """Draw from the amortized posterior of each data set and weight the draws.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        All draws are in memory at once: `sets` times `draws` should not exceed a few hundred
        thousand.
    draws : int
    pool_weight : float
        See `psis`; above 0.
    random_seed : int or Generator, optional

    Returns
    -------
    Proposed
    """
    rng = random_generator(random_seed)
    unconstrained, log_q = approximator.posterior.sample_unconstrained(batch, draws, rng)
    parameters = approximator.prior.constrain(unconstrained)
    log_prior = approximator.prior.log_prob(unconstrained)
    log_likelihood = total_log_likelihood(approximator, batch, parameters)
    ratios = log_importance_ratios(log_likelihood, log_prior, log_q)
    weights = pareto_smooth(pool_weight * ratios)
    return Proposed(unconstrained, log_q, log_prior, log_likelihood, weights, pool_weight)


def log_likelihood_of(
    approximator: JointApproximator, batch: DataBatch, dataset: int, parameters: np.ndarray
) -> np.ndarray:
    """Log density of each observation of one data set under many parameter vectors.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    dataset : int
        Position in the batch.
    parameters : ndarray, shape (draws, size)

    Returns
    -------
    ndarray, shape (draws, n_obs of the data set)
    """
    n = int(batch.n_obs[dataset])
    known = batch.conditions[dataset, :n] if batch.conditions.shape[-1] else None
    observed = batch.observables[dataset, :n]
    return approximator.likelihood.pointwise(observed, parameters, known)


def total_log_likelihood(
    approximator: JointApproximator, batch: DataBatch, parameters: np.ndarray
) -> np.ndarray:
    """Log density of each data set under parameter vectors of its own, summed over observations.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    parameters : ndarray, shape (sets, draws, size)

    Returns
    -------
    ndarray, shape (sets, draws)
    """
    if parameters.shape[1] == 1:
        return _log_likelihood_of_each(approximator, batch, parameters[:, 0])[:, None]
    each = [log_likelihood_of(approximator, batch, i, row) for i, row in enumerate(parameters)]
    return np.stack([pointwise.sum(axis=-1) for pointwise in each])


def _log_likelihood_of_each(
    approximator: JointApproximator, batch: DataBatch, parameters: np.ndarray
) -> np.ndarray:
    """Totals for one parameter vector per data set, shape (sets,): one call for each size."""
    totals = np.empty(len(batch))
    for n in np.unique(batch.n_obs):
        chosen = batch.n_obs == n
        known = batch.conditions[chosen, :n] if batch.conditions.shape[-1] else None
        observed = batch.observables[chosen, :n]
        pointwise = approximator.likelihood.pointwise(observed, parameters[chosen], known)
        totals[chosen] = pointwise.sum(axis=-1)
    return totals


def log_likelihood_in_region(
    approximator: JointApproximator, batch: DataBatch, parameters: np.ndarray
) -> np.ndarray:
    """Total log likelihood as in PyMC: −inf outside the trained region, and where it is NaN.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    parameters : ndarray, shape (sets, draws, size)

    Returns
    -------
    ndarray, shape (sets, draws)
    """
    low, high = approximator.likelihood.region
    inside = ((parameters >= low) & (parameters <= high)).all(axis=-1)
    values = total_log_likelihood(approximator, batch, parameters)
    return np.where(inside & np.isfinite(values), values, -np.inf)


def log_importance_ratios(
    log_likelihood: np.ndarray, log_prior: np.ndarray | float, log_q: np.ndarray
) -> np.ndarray:
    """Log likelihood + log prior − log q; −inf where one of them is not finite.

    In about one of 10⁵ draws the flow lands so far out that its density underflows in single
    precision; the prior density is far smaller still.
    """
    with np.errstate(invalid="ignore"):
        ratios = log_likelihood + log_prior - log_q
    return np.where(np.isfinite(ratios), ratios, -np.inf)
