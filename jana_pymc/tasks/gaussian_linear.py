"""Gaussian data around ten means, under a Gaussian or a uniform prior.

Tasks T.1 and T.2 of [1]_. The paper [2]_ takes 0.1 as standard deviation where the benchmark takes
it as variance.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

from jana_pymc.simulation import Continuous, GenerativeModel
from jana_pymc.tasks.benchmark import OneByOne, Task, check_definition, vector_form

__all__ = ["gaussian_linear", "gaussian_linear_uniform", "simulator"]

SIZE = 10
_SD = {"paper": 0.1, "benchmark": math.sqrt(0.1)}


def gaussian_linear(definition: str = "paper") -> Task:
    r"""Build the conjugate task :math:`\theta \sim N(0, s^2 I), x \sim N(\theta, s^2 I)`.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
        s = 0.1, or s² = 0.1.
    """
    sd = _sd("gaussian_linear", definition)
    with pm.Model() as prior:
        pm.Normal("theta", 0.0, sd, shape=SIZE)
    one_by_one = OneByOne(
        lambda rng: sd * rng.normal(size=SIZE),
        lambda rng, theta: sd * rng.normal(size=SIZE) + theta,
    )

    def posterior(rng: np.random.Generator, x: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        return x / 2 + sd / math.sqrt(2) * rng.standard_normal((n, SIZE))

    return _task("gaussian_linear", definition, prior, one_by_one, posterior)


def gaussian_linear_uniform(definition: str = "paper") -> Task:
    r"""Build the task :math:`\theta \sim U(-1, 1)^{10}, x \sim N(\theta, s^2 I)`.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
        s = 0.1, or s² = 0.1.
    """
    sd = _sd("gaussian_linear_uniform", definition)
    with pm.Model() as prior:
        pm.Uniform("theta", -1.0, 1.0, shape=SIZE)
    one_by_one = OneByOne(
        lambda rng: rng.uniform(-1.0, 1.0, SIZE), lambda rng, theta: rng.normal(theta, sd)
    )

    def posterior(rng: np.random.Generator, x: NDArray[np.float64], n: int) -> NDArray[np.float64]:
        return truncated_normal(rng, x, sd, -1.0, 1.0, n)

    return _task("gaussian_linear_uniform", definition, prior, one_by_one, posterior)


def simulator(
    rng: np.random.Generator, theta: NDArray[np.float64], *, sd: float
) -> dict[str, NDArray[np.float64]]:
    """Draw one vector of data for each parameter vector, (..., 10)."""
    return {"x": theta + sd * rng.standard_normal(np.shape(theta))}


def log_likelihood(
    x: NDArray[np.float64], theta: NDArray[np.float64], *, sd: float
) -> NDArray[np.float64]:
    """Log density of independent normal components."""
    squared = np.square((x - theta) / sd).sum(axis=-1)
    return -0.5 * squared - x.shape[-1] * (math.log(sd) + 0.5 * math.log(2 * math.pi))


def truncated_normal(
    rng: np.random.Generator,
    mean: NDArray[np.float64],
    sd: float,
    lower: float,
    upper: float,
    n: int,
) -> NDArray[np.float64]:
    """Draw n vectors of independent normal components between two bounds, by inversion.

    It works in logarithms, from the nearer tail, so that bounds may be far from the mean.
    """
    sign = np.where(mean < (lower + upper) / 2, -1.0, 1.0)
    ends = np.sort(np.stack([sign * (lower - mean), sign * (upper - mean)]) / sd, axis=0)
    log_low, log_high = log_ndtr(ends)
    u = rng.random((n, *mean.shape))
    z = ndtri_exp(log_high + np.log(1.0 - u * -np.expm1(log_low - log_high)))
    return np.clip(mean + sign * sd * z, lower, upper)


def _task(
    name: str, definition: str, prior: pm.Model, one_by_one: OneByOne, posterior: object
) -> Task:
    sd = _SD[definition]
    unflatten, flatten = vector_form(SIZE)
    return Task(
        name,
        definition,
        GenerativeModel(
            prior,
            partial(simulator, sd=sd),
            observables={"x": Continuous(shape=(SIZE,))},
            structure="vector",
            vectorized=True,
        ),
        SIZE,
        unflatten,
        flatten,
        partial(log_likelihood, sd=sd),
        posterior_sampler=posterior,  # type: ignore[arg-type]
        one_by_one=one_by_one if definition == "paper" else None,
    )


def _sd(name: str, definition: str) -> float:
    check_definition(name, definition, _SD)
    return _SD[definition]
