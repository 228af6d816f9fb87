r"""Two moons: a crescent of noise, and parameters that are told apart only up to a reflection.

.. math:: x = (r \cos a + c, r \sin a)
          + (-|\theta_1 + \theta_2|, -\theta_1 + \theta_2) / \sqrt 2,
          \qquad a \sim U(-\pi/2, \pi/2),\ r \sim N(m, s^2)

Three definitions: task T.8 of [1]_, which is also the first experiment of the paper [2]_
(prior U(-1, 1)², m = 0.1, s = 0.01, c = 0.25); the same noise under U(-2, 2)²; and that of the
paper's second experiment, after [3]_ (U(-2, 2)², m = 1, s = 0.1, c = 1).

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
.. [3] Wiqvist, S., Frellsen, J., & Picchini, U. (2021). Sequential neural posterior and likelihood
   approximation. arXiv:2102.06522.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from jana_pymc.simulation import Continuous, GenerativeModel, PyMCPrior
from jana_pymc.tasks.benchmark import OneByOne, Task, check_definition, vector_form

__all__ = [
    "DEFINITIONS",
    "log_likelihood",
    "sample_posterior",
    "simulator",
    "two_moons",
]

# So many candidates without a single draw inside the prior mean that there is none.
_HOPELESS = 1_000_000


@dataclass(frozen=True)
class TwoMoons:
    """Constants of a definition.

    Parameters
    ----------
    bound : float
        The prior is uniform on (-bound, bound)².
    radius, radius_sd, offset : float
        m, s and c of the model.
    """

    bound: float
    radius: float
    radius_sd: float
    offset: float


_T8 = TwoMoons(1.0, 0.1, 0.01, 0.25)
DEFINITIONS = {
    "paper": _T8,
    "benchmark": _T8,
    "lueckmann": TwoMoons(2.0, 0.1, 0.01, 0.25),
    "wiqvist": TwoMoons(2.0, 1.0, 0.1, 1.0),
}
"""The constants by name; ``"paper"`` is that of its first experiment, equal to the benchmark's."""


def two_moons(definition: str = "paper") -> Task:
    """Build the task.

    Parameters
    ----------
    definition : {"paper", "benchmark", "lueckmann", "wiqvist"}
        ``"lueckmann"`` is the benchmark's under the prior U(-2, 2)², ``"wiqvist"`` the model of the
        paper's second experiment.
    """
    check_definition("two_moons", definition, DEFINITIONS)
    constants = DEFINITIONS[definition]
    unflatten, flatten = vector_form(2)
    return Task(
        "two_moons",
        definition,
        GenerativeModel(
            _prior(constants.bound),
            partial(simulator, constants=constants),
            observables={"x": Continuous(shape=(2,))},
            structure="vector",
            vectorized=True,
        ),
        2,
        unflatten,
        flatten,
        partial(log_likelihood, constants=constants),
        posterior_sampler=partial(sample_posterior, constants=constants),
        one_by_one=OneByOne(
            lambda rng: rng.uniform(-constants.bound, constants.bound, 2),
            lambda rng, theta: simulator(rng, theta, constants=constants)["x"],
        )
        if definition == "paper"
        else None,
    )


@cache
def _prior(bound: float) -> PyMCPrior:
    with pm.Model() as prior:
        pm.Uniform("theta", -bound, bound, shape=2)
    return PyMCPrior(prior)


def simulator(
    rng: np.random.Generator, theta: NDArray[np.float64], *, constants: TwoMoons
) -> dict[str, NDArray[np.float64]]:
    """Draw one point of the plane for each parameter vector, (..., 2)."""
    return {"x": _crescent(rng, constants, theta.shape[:-1]) + _shift(theta)}


def log_likelihood(
    x: NDArray[np.float64], theta: NDArray[np.float64], *, constants: TwoMoons
) -> NDArray[np.float64]:
    """Log density of the crescent at x minus the shift, in polar coordinates around its centre.

    A negative radius, which the normal distribution allows, puts a point on the other side.
    """
    point = x - _shift(theta) - np.array([constants.offset, 0.0])
    distance = np.hypot(point[..., 0], point[..., 1])
    signed = np.where(point[..., 0] >= 0, distance, -distance)
    z = (signed - constants.radius) / constants.radius_sd
    log_normal = -0.5 * z**2 - math.log(constants.radius_sd * math.sqrt(2 * math.pi))
    with np.errstate(divide="ignore"):  # at the very centre the density has a pole
        return log_normal - np.log(distance) - math.log(math.pi)


def sample_posterior(
    rng: np.random.Generator,
    x: NDArray[np.float64],
    n: int,
    *,
    constants: TwoMoons,
    truncate: bool = True,
) -> NDArray[np.float64]:
    """Draw exactly from the posterior.

    The shift keeps areas, up to a reflection. So a crescent drawn without parameters, taken from x,
    is a shift from its posterior under a flat prior, provided that it goes to the left; the
    reflection is chosen by a coin, and what lies outside the prior is drawn anew.

    Parameters
    ----------
    rng : numpy.random.Generator
    x : ndarray, shape (2,)
    n : int
    constants : TwoMoons
    truncate : bool
        False leaves out both rejections, as the paper's reference draws at x = 0 did.

    Returns
    -------
    ndarray, shape (n, 2)

    Raises
    ------
    ValueError
        If `x` is no point of finite coordinates, or no parameters in the prior's support can give
        it.
    """
    if np.shape(x) != (2,) or not np.isfinite(x).all():
        raise ValueError(f"x={np.asarray(x).tolist()}: expected two finite coordinates.")
    parts: list[NDArray[np.float64]] = [np.empty((0, 2))]
    found = tried = 0
    while found < n:
        shift = x - _crescent(rng, constants, (max(2 * n, 1000),))
        side = np.where(rng.random(len(shift)) < 0.5, -1.0, 1.0)
        along, across = side * -shift[:, 0], shift[:, 1]
        theta = np.stack([along - across, along + across], axis=-1) / math.sqrt(2)
        if truncate:
            theta = theta[(shift[:, 0] <= 0) & (np.abs(theta) < constants.bound).all(axis=-1)]
        parts.append(theta)
        found, tried = found + len(theta), tried + len(shift)
        if not found and tried >= _HOPELESS:
            raise ValueError(f"x={x.tolist()} cannot come from parameters in the prior's support.")
    return np.concatenate(parts)[:n]


def _crescent(
    rng: np.random.Generator, constants: TwoMoons, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    angle = rng.uniform(-0.5 * math.pi, 0.5 * math.pi, shape)
    radius = rng.normal(constants.radius, constants.radius_sd, shape)
    return np.stack([radius * np.cos(angle) + constants.offset, radius * np.sin(angle)], axis=-1)


def _shift(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = theta[..., 0], theta[..., 1]
    return np.stack([-np.abs(first + second), second - first], axis=-1) / math.sqrt(2)
