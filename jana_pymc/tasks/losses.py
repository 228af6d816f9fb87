r"""Losses of a trained pair on fresh data sets, beside those of the exact posterior and likelihood.

The loss of the posterior network is :math:`-\log q(\theta \mid x)`, of constrained parameters, and
that of the likelihood network :math:`-\log l(x \mid \theta)`, of a whole data set; both are means
over data sets, in nats. What they exceed their optimum by is the expected Kullback-Leibler
divergence of network from truth.

The exact posterior density is exact likelihood times prior over the evidence, and the evidence is
bracketed: the mean importance ratio of draws from the amortized posterior has a logarithm too small
on average, and with the true parameters among the draws, which are an exact posterior draw, one too
large [1]_. Both agree where the amortized posterior is good.

References
----------
.. [1] Grosse, R. B., Ghahramani, Z., & Adams, R. P. (2015). Sandwiching the marginal likelihood
   using bidirectional Monte Carlo. arXiv:1511.02543.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from jana_pymc.approximators import JointApproximator
from jana_pymc.refinement import log_importance_ratios, total_log_likelihood
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.tasks.benchmark import Task

__all__ = ["Loss", "Losses", "losses"]

# log-likelihood values held at once
_VALUES_AT_ONCE = 200_000


@dataclass(frozen=True)
class Loss:
    """Mean loss of one network, in nats a data set.

    Attributes
    ----------
    loss, standard_error : float
    exact : float or None
        The same mean for the exact density, the least that is possible on average.
    exact_error : float or None
        Half the width of the bracket in whose middle the exact loss is, 0 where it is known.
    excess, excess_standard_error : float or None
        Mean of loss less exact loss; their errors largely cancel.
    paper : float or None
        The loss in the units in which the paper's authors report it, where it can be had.
    """

    loss: float
    standard_error: float
    exact: float | None = None
    exact_error: float | None = None
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
    """

    posterior: Loss
    likelihood: Loss
    n: int


def losses(
    approximator: JointApproximator,
    task: Task,
    theta: NDArray[np.float64],
    x: NDArray[np.float64],
    *,
    draws: int = 100,
    random_seed: int | np.random.Generator | None = None,
) -> Losses:
    """Mean losses of both networks, and of the exact densities where the task has a likelihood.

    A factor of the likelihood that depends on the data alone has no influence on the exact
    posterior.

    Parameters
    ----------
    approximator : JointApproximator
    task : Task
    theta : ndarray, shape (sets, parameters)
    x : ndarray, shape (sets, x_size)
        Flat data sets simulated with them.
    draws : int
        From the amortized posterior of each data set, to bracket its evidence.
    random_seed : int or Generator, optional

    Returns
    -------
    Losses
    """
    batch = approximator.schema.batch(task.data(x))
    own_posterior = -approximator.posterior.log_prob(theta[:, None], batch)[:, 0]
    own_likelihood = -total_log_likelihood(approximator, batch, theta[:, None])[:, 0]
    exact_posterior = exact_likelihood = None
    if task.log_likelihood_of is not None:
        log_likelihood = task.log_likelihood(x, theta)
        log_joint = log_likelihood + approximator.prior.log_prob_constrained(theta)
        log_evidence = _log_evidence(
            approximator, task, batch, x, log_joint + own_posterior, draws, random_seed
        )
        exact_posterior = log_evidence - log_joint
        if task.is_normalized:
            exact_likelihood = -np.stack([log_likelihood, log_likelihood])
    to_posterior, to_likelihood = _paper_units(task)
    return Losses(
        posterior=_loss(own_posterior, exact_posterior, to_posterior),
        likelihood=_loss(own_likelihood, exact_likelihood, to_likelihood),
        n=len(theta),
    )


def _log_evidence(
    approximator: JointApproximator,
    task: Task,
    batch: DataBatch,
    x: NDArray[np.float64],
    true_ratios: NDArray[np.float64],
    draws: int,
    random_seed: int | np.random.Generator | None,
) -> NDArray[np.float64]:
    """Two estimates of the log evidence, too small and too large on average, shape (2, sets)."""
    rng = random_generator(random_seed)
    step = max(1, _VALUES_AT_ONCE // draws)
    sums = []
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        u, log_q = approximator.posterior.sample_unconstrained(batch[part], draws, rng)
        log_likelihood = task.log_likelihood(x[part, None], approximator.prior.constrain(u))
        log_prior = approximator.prior.log_prob(u)
        sums.append(logsumexp(log_importance_ratios(log_likelihood, log_prior, log_q), axis=-1))
    total = np.concatenate(sums)
    with_truth = np.logaddexp(total, true_ratios)
    return np.stack([total - math.log(draws), with_truth - math.log(draws + 1)])


def _loss(
    own: NDArray[np.float64], exact: NDArray[np.float64] | None, to_paper: float | None
) -> Loss:
    """Means over data sets; `exact` is a bracket of shape (2, sets)."""
    mean = float(own.mean())
    paper = None if to_paper is None else mean + to_paper
    if exact is None:
        return Loss(mean, _standard_error(own), paper=paper)
    low, high = exact.mean(axis=1).tolist()
    excess = own - exact.mean(axis=0)
    return Loss(
        loss=mean,
        standard_error=_standard_error(own),
        exact=(low + high) / 2,
        exact_error=(high - low) / 2,
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
