"""Simple likelihood, complex posterior: four Gaussian points, alone or among distractors.

Tasks T.3 and T.4 of [1]_. Without distractors the paper [2]_ and the benchmark have the same model,
and the four points are declared as what they are, exchangeable observations. With distractors the
definitions differ.

Paper: 46 pairs follow the four points in fixed order, each from a mixture of 20 bivariate Student-t
distributions with two degrees of freedom; their means are drawn anew for every data set.

Benchmark: 92 values come together from a fixed mixture of 20 Student-t distributions of 92
dimensions, and all 100 values are put in a fixed order that the model does not declare. Means,
scale matrices and order are arbitrary but published by the recipe that drew them (legacy NumPy
generator, seed 42), which :func:`distractor_mixture` repeats; NumPy guarantees that this stream
never changes. The benchmark's code adds 1e-6 to the variances of the points, which is left out
here.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from jana_pymc.simulation import Continuous, GenerativeModel, PyMCPrior
from jana_pymc.tasks.benchmark import Arrays, OneByOne, Task, check_definition, vector_form

__all__ = ["distractor_mixture", "slcp", "slcp_distractors"]

N_POINTS = 4
N_PAIRS = 46
N_COMPONENTS = 20
SIZE = 2 * (N_POINTS + N_PAIRS)
_MEAN_SD = 15.0
_PAIR_SCALE = 0.1  # square root of the shape matrix 0.01 I
_DEGREES = 2.0


def slcp(definition: str = "paper") -> Task:
    r"""Build the task without distractors.

    :math:`\theta \sim U(-3, 3)^5`; four points :math:`N((\theta_1, \theta_2), S)` with standard
    deviations :math:`\theta_3^2, \theta_4^2` and correlation :math:`\tanh \theta_5`. Observables
    ``x1`` and ``x2``, exchangeable; flat form (x1, x2) of the first point, of the second, ...

    Parameters
    ----------
    definition : {"paper", "benchmark"}
        They are the same model.
    """
    check_definition("slcp", definition)

    def unflatten(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"x1": x[..., ::2], "x2": x[..., 1::2]}

    def flatten(arrays: Arrays) -> NDArray[np.float64]:
        points = np.stack([arrays["x1"], arrays["x2"]], axis=-1)
        return points.reshape(*points.shape[:-2], 2 * N_POINTS)

    model = GenerativeModel(
        _prior(),
        simulate_points,
        observables={"x1": Continuous(), "x2": Continuous()},
        structure="exchangeable",
        n_obs=N_POINTS,
        vectorized=True,
    )
    return Task(
        "slcp",
        definition,
        model,
        2 * N_POINTS,
        unflatten,
        flatten,
        log_likelihood,
        one_by_one=OneByOne(_one_prior, _one_slcp) if definition == "paper" else None,
    )


def slcp_distractors(definition: str = "paper") -> Task:
    """Build the task with distractors: one vector ``x`` of 100 values.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
        See the module's own description. The log-likelihood is that of the points, and lacks the
        density of the distractors, on which the parameters have no influence. In the paper their
        random means leave no closed form; in the benchmark the triangular factors have condition
        numbers of 1e12 to 5e18, so that values in double precision do not determine a density.
    """
    check_definition("slcp_distractors", definition)
    paper = definition == "paper"
    unflatten, flatten = vector_form(SIZE)
    model = GenerativeModel(
        _prior(),
        simulate_with_random_mixture if paper else simulate_with_fixed_mixture,
        observables={"x": Continuous(shape=(SIZE,))},
        structure="vector",
        vectorized=True,
    )
    return Task(
        "slcp_distractors",
        definition,
        model,
        SIZE,
        unflatten,
        flatten,
        _log_likelihood_of_points if paper else _log_likelihood_of_ordered_points,
        is_normalized=False,
        one_by_one=OneByOne(_one_prior, _one_slcp_distractors) if paper else None,
    )


def simulate_points(
    rng: np.random.Generator, theta: NDArray[np.float64], n_obs: int
) -> dict[str, NDArray[np.float64]]:
    """Draw points of the plane; parameters of shape (5,) or (n_sets, 1, 5)."""
    t1, t2, t3, t4, t5 = np.moveaxis(np.asarray(theta), -1, 0)
    z1, z2 = rng.standard_normal((2, *np.broadcast_shapes(np.shape(t1), (n_obs,))))
    return {
        "x1": t1 + t3**2 * z1,
        "x2": t2 + t4**2 * (np.tanh(t5) * z1 + z2 / np.cosh(t5)),
    }


def simulate_with_random_mixture(
    rng: np.random.Generator, theta: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Draw points and 46 distractor pairs of the paper; parameters (5,) or (n_sets, 5)."""
    sets = theta.shape[:-1]
    means = _MEAN_SD * rng.standard_normal((*sets, N_COMPONENTS, 2))
    component = rng.integers(0, N_COMPONENTS, (*sets, N_PAIRS))
    chosen = np.take_along_axis(means, component[..., None], axis=-2)
    scale = _PAIR_SCALE / np.sqrt(rng.chisquare(_DEGREES, (*sets, N_PAIRS)) / _DEGREES)
    pairs = chosen + scale[..., None] * rng.standard_normal((*sets, N_PAIRS, 2))
    return {"x": np.concatenate([_points(rng, theta), pairs.reshape(*sets, 2 * N_PAIRS)], -1)}


def simulate_with_fixed_mixture(
    rng: np.random.Generator, theta: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Draw points and 92 distractor values of the benchmark, in its order."""
    mixture = distractor_mixture()
    rows = theta.reshape(-1, theta.shape[-1])
    noise = rng.standard_normal((len(rows), 2 * N_PAIRS))
    noise /= np.sqrt(rng.chisquare(_DEGREES, (len(rows), 1)) / _DEGREES)
    component = rng.integers(0, N_COMPONENTS, len(rows))
    for i in range(N_COMPONENTS):
        own = component == i
        noise[own] = noise[own] @ mixture.scale_tril[i].T + mixture.means[i]
    x = np.concatenate([_points(rng, rows), noise], axis=-1)[:, mixture.order]
    return {"x": x.reshape(*theta.shape[:-1], SIZE)}


def log_likelihood(x: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log density of four points, (..., 8)."""
    t1, t2, t3, t4, t5 = np.moveaxis(theta[..., None, :], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z1 = (x[..., ::2] - t1) / t3**2
        z2 = ((x[..., 1::2] - t2) / t4**2 - np.tanh(t5) * z1) * np.cosh(t5)
        log_scale = 2 * np.log(np.abs(t3 * t4)) - np.log(np.cosh(t5))
        density = -0.5 * (z1**2 + z2**2) - log_scale - math.log(2 * math.pi)
    return density.sum(axis=-1)


@dataclass(frozen=True, eq=False)
class DistractorMixture:
    """Constants of the benchmark's distractors.

    Parameters
    ----------
    means : ndarray, shape (20, 92)
    scale_tril : ndarray, shape (20, 92, 92)
        Lower triangular factors of the shape matrices; some diagonal values are negative.
    order : ndarray of int, shape (100,)
        The data are ``concatenate([points, distractors])[order]``.
    """

    means: NDArray[np.float64]
    scale_tril: NDArray[np.float64]
    order: NDArray[np.int64]


@cache
def distractor_mixture() -> DistractorMixture:
    """Draw the benchmark's constants by its published recipe."""
    legacy = np.random.RandomState(42)
    size = 2 * N_PAIRS
    means = _MEAN_SD * legacy.normal(size=(N_COMPONENTS, size))
    scale_tril = np.empty((N_COMPONENTS, size, size))
    for factor in scale_tril:
        below = np.tril(legacy.normal(size=(size, size)))
        factor[:] = 3 * (below + np.diag(np.exp(legacy.normal(size=size))))
    order = legacy.permutation(SIZE)
    for constant in (means, scale_tril, order):
        constant.flags.writeable = False
    return DistractorMixture(means, scale_tril, order)


@cache
def _prior() -> PyMCPrior:
    with pm.Model() as prior:
        pm.Uniform("theta", -3.0, 3.0, shape=5)
    return PyMCPrior(prior)


def _points(rng: np.random.Generator, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    points = simulate_points(rng, theta[..., None, :], N_POINTS)
    pairs = np.stack([points["x1"], points["x2"]], axis=-1)
    return pairs.reshape(*theta.shape[:-1], 2 * N_POINTS)


def _log_likelihood_of_points(
    x: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    return log_likelihood(x[..., : 2 * N_POINTS], theta)


def _log_likelihood_of_ordered_points(
    x: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    own = np.argsort(distractor_mixture().order)[: 2 * N_POINTS]
    return log_likelihood(x[..., own], theta)


def _one_prior(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(-3.0, 3.0, 5)


def _one_slcp(rng: np.random.Generator, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    s1, s2, rho = theta[2] ** 2, theta[3] ** 2, math.tanh(theta[4])
    covariance = np.array([[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]])
    return rng.multivariate_normal(theta[:2], covariance, size=N_POINTS).ravel()


def _one_slcp_distractors(
    rng: np.random.Generator, theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    points = _one_slcp(rng, theta)
    means = [_MEAN_SD * rng.normal(size=2) for _ in range(N_COMPONENTS)]
    pairs = []
    for _ in range(N_PAIRS):  # the order of random numbers is that of scipy's multivariate_t
        mean = means[rng.integers(0, N_COMPONENTS)]
        weight = rng.chisquare(_DEGREES, size=1) / _DEGREES
        normal = rng.multivariate_normal(np.zeros(2), _PAIR_SCALE**2 * np.eye(2), size=1)
        pairs.append((mean + normal / np.sqrt(weight)[:, None])[0])
    return np.concatenate([points, *pairs])
