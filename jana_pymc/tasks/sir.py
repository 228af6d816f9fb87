r"""An epidemic of susceptible, infected and recovered, sampled at ten times.

.. math:: \dot S = -\beta S I / N, \qquad \dot I = \beta S I / N - \gamma I

with a million people, one of them infected at time 0; of 1,000 people tested, a binomial number is
infected. Task T.9 of [1]_ tests every 17 days. The paper [2]_ takes every 16th of 160 points in
time that lie evenly between 0 and 160 inclusive, and divides by 1,000.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.integrate import odeint
from scipy.special import gammaln, xlog1py, xlogy

from jana_pymc.simulation import Count, GenerativeModel, PyMCPrior
from jana_pymc.tasks.benchmark import Arrays, OneByOne, Task, check_definition
from jana_pymc.tasks.ode import integrate

__all__ = ["TIMES", "infected_share", "log_likelihood", "simulator", "sir"]

N_PEOPLE = 1e6
N_TESTED = 1000
TIMES: dict[str, NDArray] = {
    "paper": np.linspace(0.0, 160.0, 160)[::16],
    "benchmark": 17.0 * np.arange(10),
}
"""Days of the ten tests."""


def sir(definition: str = "paper") -> Task:
    """Build the task.

    Parameters ``beta`` and ``gamma``; a sequence of ten counts ``infected``. The flat form of the
    paper is the counts divided by 1,000.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
    """
    check_definition("sir", definition, TIMES)
    times = TIMES[definition]
    paper = definition == "paper"
    scale = N_TESTED if paper else 1.0

    def unflatten(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"infected": np.rint(scale * x)}

    def flatten(arrays: Arrays) -> NDArray[np.float64]:
        return arrays["infected"] / scale

    model = GenerativeModel(
        _prior(),
        partial(simulator, times=times),
        observables={"infected": Count(N_TESTED)},
        structure="markovian",
        n_obs=times.size,
        order=0,
        vectorized=True,
    )
    return Task(
        "sir",
        definition,
        model,
        times.size,
        unflatten,
        flatten,
        partial(log_likelihood, times=times, scale=scale),
        one_by_one=OneByOne(_one_prior, _one_sir) if paper else None,
    )


@cache
def _prior() -> PyMCPrior:
    with pm.Model() as prior:
        pm.LogNormal("beta", math.log(0.4), 0.5)
        pm.LogNormal("gamma", math.log(0.125), 0.2)
    return PyMCPrior(prior)


def simulator(
    rng: np.random.Generator,
    beta: NDArray[np.float64],
    gamma: NDArray[np.float64],
    n_obs: int,
    *,
    times: NDArray[np.float64],
) -> dict[str, NDArray[np.int64]]:
    """Draw the numbers found infected at the first `n_obs` of the times.

    Parameters of shape () for one data set, or (n_sets, 1) for many.
    """
    share = infected_share(beta, gamma, times[:n_obs])
    shape = np.broadcast_shapes(np.shape(beta), (n_obs,))
    return {"infected": rng.binomial(N_TESTED, share.reshape(shape))}


def infected_share(
    beta: NDArray[np.float64], gamma: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of all people who are infected, shape (n, times) for n pairs of parameters."""
    rates = [np.ravel(np.asarray(values, dtype=np.float64)) for values in (beta, gamma)]
    start = np.log([1.0 - 1.0 / N_PEOPLE, 1.0 / N_PEOPLE])
    return np.minimum(np.exp(integrate(_log_derivative, start, rates, times)[..., 1]), 1.0)


def log_likelihood(
    x: NDArray[np.float64],
    theta: NDArray[np.float64],
    *,
    times: NDArray[np.float64],
    scale: float = 1.0,
) -> NDArray[np.float64]:
    """Log probability of the counts ``scale * x``."""
    share = infected_share(theta[..., 0], theta[..., 1], times)
    share = share.reshape(*theta.shape[:-1], times.size)
    count = np.rint(scale * x)
    ways = gammaln(N_TESTED + 1) - gammaln(count + 1) - gammaln(N_TESTED - count + 1)
    return (ways + xlogy(count, share) + xlog1py(N_TESTED - count, -share)).sum(axis=-1)


def _log_derivative(
    state: NDArray[np.float64], beta: NDArray[np.float64], gamma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    susceptible, infected = np.exp(state)
    return -beta * infected, beta * susceptible - gamma


def _one_prior(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.lognormal(np.log([0.4, 0.125]), [0.5, 0.2])


def _one_sir(rng: np.random.Generator, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Simulate with the paper's own solver: a binomial draw turns on the last digits."""
    beta, gamma = theta

    def derivative(state: NDArray[np.float64], _: float) -> tuple[float, float, float]:
        susceptible, infected, _recovered = state
        new, lost = beta * susceptible * infected / N_PEOPLE, gamma * infected
        return -new, new - lost, lost

    start = (N_PEOPLE - 1.0, 1.0, 0.0)
    infected = odeint(derivative, start, np.linspace(0.0, 160.0, 160))[::16, 1]
    return rng.binomial(N_TESTED, np.maximum(infected, 0.0) / N_PEOPLE) / N_TESTED
