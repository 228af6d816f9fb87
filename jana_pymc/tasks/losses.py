r"""Losses of a trained pair on fresh data sets, beside those of the exact posterior and likelihood.

The loss of the posterior network is :math:`-\log q(\theta \mid x)`, of constrained parameters, and
that of the likelihood network :math:`-\log l(x \mid \theta)`, of a whole data set; both are means
over data sets, in nats. What they exceed their optimum by is the expected Kullback-Leibler
divergence of network from truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jana_pymc.approximators import JointApproximator
from jana_pymc.importance import pareto_smooth
from jana_pymc.refinement import log_importance_ratios, log_likelihood_of
from jana_pymc.simulation import DataBatch
from jana_pymc.tasks.benchmark import Task

__all__ = ["Loss", "Losses", "losses"]

# log-likelihood values held at once
_VALUES_AT_ONCE = 200_000
RELIABLE_K = 0.7


@dataclass(frozen=True)
class Loss:
    """Mean loss of one network, in nats a data set.

    Attributes
    ----------
    loss, standard_error : float
    exact : float or None
        The same mean for the exact density, the least that is possible on average.
    excess, excess_standard_error : float or None
        Mean of loss less exact loss; their errors largely cancel.
    paper : float or None
        The loss in the units in which the paper's authors report it, where it can be had.
    """

    loss: float
    standard_error: float
    exact: float | None = None
    excess: float | None = None
    excess_standard_error: float | None = None
    paper: float | None = None


@dataclass(frozen=True)
class Losses:
    """Losses of both networks on data sets that they were not trained on.

    Attributes
    ----------
    posterior, likelihood : Loss
    n : int
        Number of data sets.
    unreliable : float or None
        Share of data sets whose exact posterior density is not to be relied on, because their
        normalisation by importance sampling from q has a Pareto k̂ above 0.7; None if it was not
        computed.
    """

    posterior: Loss
    likelihood: Loss
    n: int
    unreliable: float | None = None


def losses(
    approximator: JointApproximator,
    task: Task,
    theta: NDArray[np.float64],
    x: NDArray[np.float64],
    *,
    draws: int = 500,
    random_seed: int | np.random.Generator | None = None,
) -> Losses:
    """Mean losses of both networks, and of the exact densities where the task has a likelihood.

    The exact posterior density is exact likelihood times prior, normalised by importance sampling
    from the amortized posterior; a factor of the likelihood that depends on the data alone has no
    influence on it.

    Parameters
    ----------
    approximator : JointApproximator
    task : Task
    theta : ndarray, shape (sets, parameters)
    x : ndarray, shape (sets, x_size)
        Flat data sets simulated with them.
    draws : int
        From the amortized posterior of each data set, to normalise the exact one.
    random_seed : int or Generator, optional

    Returns
    -------
    Losses
    """
    batch = approximator.schema.batch(task.data(x))
    own_posterior = -approximator.posterior.log_prob(theta[:, None], batch)[:, 0]
    own_likelihood = -np.array(
        [
            log_likelihood_of(approximator, batch, i, theta[i : i + 1]).sum()
            for i in range(len(theta))
        ]
    )
    exact_posterior = exact_likelihood = unreliable = None
    if task.log_likelihood_of is not None:
        log_likelihood = task.log_likelihood(x, theta)
        rng = np.random.default_rng(random_seed)
        log_evidence, pareto_k = _log_evidence(approximator, task, batch, x, draws, rng)
        log_joint = log_likelihood + approximator.prior.log_prob_constrained(theta)
        exact_posterior = log_evidence - log_joint
        unreliable = float(np.mean(pareto_k > RELIABLE_K))
        if task.is_normalized:
            exact_likelihood = -log_likelihood
    to_posterior, to_likelihood = _paper_units(task)
    return Losses(
        posterior=_loss(own_posterior, exact_posterior, to_posterior),
        likelihood=_loss(own_likelihood, exact_likelihood, to_likelihood),
        n=len(theta),
        unreliable=unreliable,
    )


def _log_evidence(
    approximator: JointApproximator,
    task: Task,
    batch: DataBatch,
    x: NDArray[np.float64],
    draws: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log of the exact likelihood's integral over the prior, and k̂, for each data set."""
    step = max(1, _VALUES_AT_ONCE // draws)
    log_means, shapes = [], []
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        u, log_q = approximator.posterior.sample_unconstrained(batch[part], draws, rng)
        log_likelihood = task.log_likelihood(x[part, None], approximator.prior.constrain(u))
        log_prior = approximator.prior.log_prob(u)
        weights = pareto_smooth(log_importance_ratios(log_likelihood, log_prior, log_q))
        log_means.append(weights.log_mean)
        shapes.append(weights.pareto_k)
    return np.concatenate(log_means), np.concatenate(shapes)


def _loss(
    own: NDArray[np.float64], exact: NDArray[np.float64] | None, to_paper: float | None
) -> Loss:
    mean = float(own.mean())
    paper = None if to_paper is None else mean + to_paper
    if exact is None:
        return Loss(mean, _standard_error(own), paper=paper)
    excess = own - exact
    return Loss(
        loss=mean,
        standard_error=_standard_error(own),
        exact=float(exact.mean()),
        excess=float(excess.mean()),
        excess_standard_error=_standard_error(excess),
        paper=paper,
    )


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


# What the paper's authors divide data by, where it is not 1.
_DATA_SCALE = {
    "slcp": 30.0,
    "slcp_distractors": 50.0,
    # The model has counts and sums, the paper's data are these by trial. The probability of a count
    # becomes a density that is even over its step of 1 / 100.
    "bernoulli_glm": 100.0,
    "gaussian_mixture": 12.0,
    "lotka_volterra": 1000.0,
}
_PARAMETER_SCALE = {"gaussian_mixture": 10.0}
# To the counts of sir the authors add noise, and to the spikes a second column.
_OTHER_LIKELIHOOD = ("sir", "bernoulli_glm_raw")


def _paper_units(task: Task) -> tuple[float | None, float | None]:
    """What to add to the losses of posterior and likelihood to have them in the paper's units."""
    if task.definition != "paper":
        return None, None
    parameters = task.model.layout.size * math.log(_PARAMETER_SCALE.get(task.name, 1.0))
    data = task.x_size * math.log(_DATA_SCALE.get(task.name, 1.0))
    return -parameters, None if task.name in _OTHER_LIKELIHOOD else -data
