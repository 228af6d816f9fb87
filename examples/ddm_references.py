"""References for the diffusion model by its closed form: NUTS and bridge sampling."""

from __future__ import annotations

import argparse

import numpy as np
from ddm import sample_nuts
from ddm_data import PARAMETERS, Trials
from scipy import stats
from scipy.special import logsumexp

import jana_pymc as jana
from jana_pymc.tasks.ddm import log_likelihood, prior

PRIOR = jana.PyMCPrior(prior())


def log_joint(trials: Trials, unconstrained: np.ndarray) -> np.ndarray:
    """Closed-form log-likelihood plus log prior of unconstrained draws, shape (draws,)."""
    theta = dict(zip(PARAMETERS, PRIOR.constrain(unconstrained).T[..., None], strict=True))
    data = {name: values[None] for name, values in trials.items()}
    return log_likelihood(data, theta).sum(axis=1) + PRIOR.log_prob(unconstrained)


def nuts_draws(trials: Trials, arguments: argparse.Namespace) -> np.ndarray:
    """NUTS on the closed form, shape (draws, 4)."""
    posterior = sample_nuts(trials, arguments, None)["posterior"]
    return np.stack([np.asarray(posterior[name]).ravel() for name in PARAMETERS], -1)


def bridge_sampling(trials: Trials, posterior_draws: np.ndarray, rng: np.random.Generator) -> float:
    """Log marginal likelihood from exact posterior draws (Meng & Wong, 1996).

    A normal proposal in unconstrained space is fitted to one half of the draws and bridged to the
    other half; then the halves change places, and the two estimates are averaged.

    Parameters
    ----------
    trials : dict
    posterior_draws : ndarray, shape (draws, 4)
        Constrained.
    rng : Generator
    """
    unconstrained = PRIOR.unconstrain(posterior_draws)
    unconstrained = unconstrained[np.isfinite(unconstrained).all(axis=1)]
    halves = unconstrained[::2], unconstrained[1::2]
    return float(np.mean([_bridge(trials, *pair, rng) for pair in (halves, halves[::-1])]))


def _bridge(
    trials: Trials, fitted: np.ndarray, draws: np.ndarray, rng: np.random.Generator
) -> float:
    proposal = stats.multivariate_normal(fitted.mean(0), np.cov(fitted.T))
    proposed = proposal.rvs(4 * len(draws), random_state=rng)
    # log ratios target / proposal, at posterior draws and at proposed ones
    at_draws = log_joint(trials, draws) - proposal.logpdf(draws)
    at_proposed = log_joint(trials, proposed) - proposal.logpdf(proposed)
    n, m = len(draws), len(proposed)
    estimate = float(np.median(at_draws))
    for _ in range(1000):
        base = np.log(m) + estimate
        upper = logsumexp(at_proposed - np.logaddexp(np.log(n) + at_proposed, base)) - np.log(m)
        lower = logsumexp(-np.logaddexp(np.log(n) + at_draws, base)) - np.log(n)
        last, estimate = estimate, upper - lower
        if abs(estimate - last) < 1e-8:
            break
    return estimate
