"""The weight of the likelihood network in a pool of both networks' posteriors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.declarations import check_approximator, check_simulations
from jana_pymc.importance import pareto_smooth
from jana_pymc.refinement.proposals import propose, total_log_likelihood
from jana_pymc.simulation import Simulations

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

WEIGHTS = np.linspace(0.0, 1.0, 21)
DRAWS = 400
MOST_SETS = 300
FEWEST_SETS = 30
"""Smallest number of simulations to learn from, also if data sets are long."""

MOST_EVALUATIONS = 3_000_000
"""Largest number of likelihood evaluations, observations times draws."""


def learn_pool_weight(
    approximator: JointApproximator,
    simulations: Simulations,
    *,
    random_seed: int | np.random.Generator | None = None,
) -> float:
    r"""Find the pool of both networks' posteriors that predicts held-out parameters best.

    Posterior network and likelihood network learn the same posterior by regression in opposite
    directions, with partly independent errors. The logarithmic pool

    .. math::

        q_\alpha(\theta \mid x) \propto q(\theta \mid x)^{1 - \alpha}
        \, [l(x \mid \theta) \, p(\theta)]^\alpha

    is the amortized posterior at α = 0 and that of the likelihood network at α = 1. The result is
    the α with the largest mean of :math:`\log q_\alpha(\theta_i \mid x_i)` over held-out
    simulations: one number for all data sets, learned before any are observed. Normalising
    constants are estimated by importance sampling with draws from q.

    Parameters
    ----------
    approximator : JointApproximator
    simulations : Simulations
        Simulations from the prior that were not used in training. A few hundred are enough.
    random_seed : int or Generator, optional

    Returns
    -------
    float
        α, a multiple of 0.05.

    Raises
    ------
    TypeError, ValueError
        If `approximator` is no pair, or the simulations are none, of another model, or not from the
        prior.

    References
    ----------
    .. [1] Genest, C. & Zidek, J. V. (1986). Combining probability distributions: a critique and
       an annotated bibliography. Statistical Science, 1(1), 114-135.
    """
    return float(WEIGHTS[pool_scores(approximator, simulations, random_seed=random_seed).argmax()])


def pool_scores(
    approximator: JointApproximator,
    simulations: Simulations,
    *,
    random_seed: int | np.random.Generator | None = None,
) -> np.ndarray:
    """Mean log density of the true parameters in the pool with each of `WEIGHTS`, in nats.

    Parameters
    ----------
    approximator, simulations, random_seed
        As for `learn_pool_weight`.

    Returns
    -------
    ndarray, shape (21,)
        Over unconstrained parameters; −inf where a true parameter has no density.

    Raises
    ------
    TypeError, ValueError
        If `approximator` is no pair, or the simulations are none, of another model, or not from the
        prior.
    """
    check_approximator(approximator)
    check_simulations(approximator, simulations, from_prior=True)
    mean_obs = float(np.asarray(simulations.batch().n_obs).mean())
    affordable = int(MOST_EVALUATIONS / (DRAWS * mean_obs))
    simulations = simulations[: min(MOST_SETS, max(FEWEST_SETS, affordable))]
    batch, parameters = simulations.batch(), simulations.parameters
    unconstrained = approximator.prior.unconstrain(parameters)
    log_q = approximator.posterior.log_prob_unconstrained(unconstrained[:, None], batch)[:, 0]
    log_prior = approximator.prior.log_prob(unconstrained)
    log_likelihood = total_log_likelihood(approximator, batch, parameters[:, None])[:, 0]
    ratios = propose(approximator, batch, DRAWS, random_seed=random_seed).log_ratios
    scores = [_mean(log_q)]
    for weight in WEIGHTS[1:]:
        # Where no draw of q is possible, nothing normalises the pool.
        log_constant = pareto_smooth(weight * ratios).log_mean
        # q is left out where its weight is zero, since zero times −inf is NaN.
        log_joint = ((1.0 - weight) * log_q if weight < 1.0 else 0.0) + weight * (
            log_prior + log_likelihood
        )
        log_pool = np.where(np.isfinite(log_constant), log_joint - log_constant, -np.inf)
        scores.append(_mean(log_pool))
    return np.array(scores)


def _mean(log_density: np.ndarray) -> float:
    """Mean of log densities; −inf if one of them is not finite."""
    return float(np.where(np.isfinite(log_density), log_density, -np.inf).mean())
