"""A wide and a narrow Gaussian around the same unknown mean.

Task T.7 of [1]_, in the form of its corrected rerun: standard deviations 1 and 0.1. The paper [2]_
has the same model.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

import math

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.special import ndtr

from jana_pymc.simulation import Continuous, GenerativeModel
from jana_pymc.tasks.benchmark import OneByOne, Task, check_definition, vector_form
from jana_pymc.tasks.gaussian_linear import truncated_normal

__all__ = ["gaussian_mixture", "simulator"]

BOUND = 10.0
SDS = np.array([1.0, 0.1])


def gaussian_mixture(definition: str = "paper") -> Task:
    r"""Build the task: :math:`\theta \sim U(-10, 10)^2`, x an even mixture around it.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
        They are the same model.
    """
    check_definition("gaussian_mixture", definition)
    with pm.Model() as prior:
        pm.Uniform("theta", -BOUND, BOUND, shape=2)
    unflatten, flatten = vector_form(2)
    return Task(
        "gaussian_mixture",
        definition,
        GenerativeModel(
            prior,
            simulator,
            observables={"x": Continuous(shape=(2,))},
            structure="vector",
            vectorized=True,
        ),
        2,
        unflatten,
        flatten,
        log_likelihood,
        posterior_sampler=sample_posterior,
        one_by_one=OneByOne(
            lambda rng: rng.uniform(-BOUND, BOUND, 2),
            lambda rng, theta: rng.normal(theta, SDS[rng.binomial(1, 0.5)]),
        )
        if definition == "paper"
        else None,
    )


def simulator(
    rng: np.random.Generator, theta: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Draw one point of the plane for each parameter vector, (..., 2)."""
    sd = SDS[rng.integers(0, 2, theta.shape[:-1])]
    return {"x": theta + sd[..., None] * rng.standard_normal(theta.shape)}


def log_likelihood(x: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log density of the mixture."""
    squared = np.square(x - theta).sum(axis=-1)
    wide, narrow = (-0.5 * squared / sd**2 - 2 * math.log(sd) - math.log(4 * math.pi) for sd in SDS)
    return np.logaddexp(wide, narrow)


def sample_posterior(
    rng: np.random.Generator, x: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Draw from the two truncated Gaussians around x, each with the share of it in the square."""
    mass = [np.prod(ndtr((BOUND - x) / sd) - ndtr((-BOUND - x) / sd)) for sd in SDS]
    if not sum(mass):
        raise ValueError(f"x={x.tolist()} is too far outside the prior's square for exact draws.")
    which = rng.random(n) < mass[0] / sum(mass)
    wide, narrow = (truncated_normal(rng, x, sd, -BOUND, BOUND, n) for sd in SDS)
    return np.where(which[:, None], wide, narrow)
