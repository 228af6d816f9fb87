"""The drift diffusion model: prior, training proposal and an exact simulator of its trials.

Evidence drifts with velocity ``v`` and unit diffusion from ``w * a`` until it reaches 0 (response
0) or ``a`` (response 1); the reaction time is that time plus the non-decision time ``t0``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray

from jana_pymc.simulation import Categorical, Continuous, GenerativeModel, PyMCPrior
from jana_pymc.tasks.wiener import (
    LARGE_TIME,
    eigen_series,
    image_factors,
    image_series,
    wiener_log_prob,
    wiener_upper_probability,
)

__all__ = ["ddm", "log_likelihood", "prior", "proposal", "simulator"]

# Trials simulated at once: a dozen arrays of this length stay in the processor's cache.
_BLOCK = 16_384
# Candidate times drawn in one pass at least, however few trials still want one.
_MIN_CANDIDATES = 1_024


def ddm(n_obs: tuple[int, int] = (80, 120)) -> GenerativeModel:
    """The drift diffusion model as studied in the JANA paper.

    Parameters
    ----------
    n_obs : tuple of int
        Smallest and largest number of trials in a data set.

    Returns
    -------
    GenerativeModel
        Parameters v, a, t0, w; observables ``rt`` (seconds, above ``t0``) and ``response`` (0
        lower, 1 upper); exchangeable trials; likelihood trained on the wider :func:`proposal`.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Experiment 3.
    """
    return GenerativeModel(
        _compiled(prior),
        simulator,
        observables={"rt": Continuous(lower="t0"), "response": Categorical(2)},
        structure="exchangeable",
        n_obs=n_obs,
        proposal=_compiled(proposal),
        vectorized=True,
    )


def prior() -> pm.Model:
    """Prior of the paper's experiment: truncated normal distributions."""
    with pm.Model() as model:
        pm.TruncatedNormal("v", 0.0, 10.0, lower=-5.0, upper=5.0)
        pm.TruncatedNormal("a", 1.0, 1.0, lower=0.5, upper=3.0)
        pm.TruncatedNormal("t0", 0.4, 0.2, lower=0.2, upper=1.0)
        pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
    return model


def proposal() -> pm.Model:
    """Uniform distributions somewhat wider than the prior, to train the likelihood on."""
    with pm.Model() as model:
        pm.Uniform("v", -5.5, 5.5)
        pm.Uniform("a", 0.4, 3.1)
        pm.Uniform("t0", 0.1, 1.1)
        pm.Uniform("w", 0.28, 0.72)
    return model


@cache
def _compiled(build: Callable[[], pm.Model]) -> PyMCPrior:
    return PyMCPrior(build())


def simulator(
    rng: np.random.Generator, v: ArrayLike, a: ArrayLike, t0: ArrayLike, w: ArrayLike, n_obs: int
) -> dict[str, NDArray]:
    r"""Exact trials of the diffusion, without discretisation of time.

    The response is drawn first, from its closed-form probability. Given the response, the exit
    time has the same law for either sign of the drift, so let the drift point to the barrier
    reached. The motion without the other barrier gets there at an inverse Gaussian time t, and
    did not touch the other barrier before with the probability R(t, w) of
    :func:`jana_pymc.tasks.wiener.image_series`; t is kept with this probability, else drawn anew.
    On average at most two times are drawn for a trial, whatever the parameters.

    Parameters
    ----------
    rng : numpy.random.Generator
        The same generator state gives the same trials.
    v, a, t0, w : array_like
        Drift, barrier separation, non-decision time in seconds, relative starting point. Shape ()
        for one data set, (n_sets, 1) for many; (n_obs,) or (n_sets, n_obs) if they differ from
        trial to trial.
    n_obs : int
        Trials in a data set.

    Returns
    -------
    dict
        ``rt`` (seconds, float64) and ``response`` (0 or 1, int8), of shape (n_obs,) or
        (n_sets, n_obs).

    Raises
    ------
    ValueError
        If a parameter is not finite, or not ``a > 0`` and ``0 < w < 1``.

    References
    ----------
    .. [1] Michael, J. R., Schucany, W. R., & Haas, R. W. (1976). Generating random variates using
       transformations with multiple roots. The American Statistician, 30(2), 88-90.

    Examples
    --------
    >>> trials = simulator(np.random.default_rng(1), v=1.0, a=1.5, t0=0.3, w=0.5, n_obs=4)
    >>> trials["response"]
    array([1, 0, 1, 0], dtype=int8)
    """
    parameters = {"v": v, "a": a, "t0": t0, "w": w}
    values = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    _check_parameters(values)
    shape = np.broadcast_shapes(*(value.shape for value in values.values()), (n_obs,))
    upper_probability = wiener_upper_probability(values["v"], values["a"], values["w"])
    scaled_drift = np.abs(values["v"]) * values["a"]
    upper_probability, scaled_drift, start = (
        np.broadcast_to(value, shape).reshape(-1)
        for value in (upper_probability, scaled_drift, values["w"])
    )
    response = np.empty(upper_probability.shape, dtype=np.int8)
    times = np.empty(upper_probability.shape)
    for first in range(0, times.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        upper = rng.random(times[block].size) < upper_probability[block]
        response[block] = upper
        distance = np.where(upper, 1 - start[block], start[block])
        times[block] = _exit_times(rng, distance, scaled_drift[block])
    rt = times.reshape(shape)
    rt *= values["a"] ** 2
    rt += values["t0"]
    return {"rt": rt, "response": response.reshape(shape)}


def log_likelihood(
    observed_data: Mapping[str, ArrayLike], parameters: Mapping[str, ArrayLike]
) -> NDArray[np.float64]:
    """Exact log density of every trial.

    Parameters
    ----------
    observed_data : mapping
        ``rt`` and ``response``; NaN marks padding.
    parameters : mapping
        ``v``, ``a``, ``t0``, ``w``; they broadcast against the data.

    Returns
    -------
    ndarray
        Pointwise log densities, NaN for padding, -inf for an impossible trial.
    """
    return wiener_log_prob(observed_data["rt"], observed_data["response"], **parameters)


def _check_parameters(values: Mapping[str, NDArray[np.float64]]) -> None:
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"parameter {name!r} of the diffusion model must be finite")
    if not (values["a"] > 0).all():
        raise ValueError(f"parameter 'a' must be > 0, its smallest value is {values['a'].min()}")
    if not ((values["w"] > 0) & (values["w"] < 1)).all():
        raise ValueError(
            f"parameter 'w' must lie between 0 and 1, its values range from {values['w'].min()} "
            f"to {values['w'].max()}"
        )


def _exit_times(
    rng: np.random.Generator, distance: NDArray[np.float64], drift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Times at which motions between barriers one apart exit at ``distance``, drifting there."""
    times = np.empty_like(distance)
    pending = np.arange(distance.size)
    while pending.size:
        attempts = max(1, _MIN_CANDIDATES // pending.size)
        candidates = _one_barrier_times(rng, distance[pending], drift[pending], attempts)
        ratio = _acceptance(candidates, distance[pending])
        accepted = rng.random(candidates.shape) < ratio
        # From the last candidate to the first: of an index written twice the later value stays,
        # so that the first accepted one wins.
        times[pending[accepted.nonzero()[1][::-1]]] = candidates[accepted][::-1]
        pending = pending[~accepted.any(axis=0)]
    return times


def _one_barrier_times(
    rng: np.random.Generator,
    distance: NDArray[np.float64],
    drift: NDArray[np.float64],
    attempts: int,
) -> NDArray[np.float64]:
    """Inverse Gaussian times to cover ``distance``, (attempts, trials).

    The squared normal variate (distance - drift t)^2 / t has two roots t [1]_, written here so that
    nothing cancels and no drift is no special case.
    """
    shape = (attempts, distance.size)
    squared = np.square(rng.standard_normal(shape))
    path = distance * drift
    with np.errstate(divide="ignore", invalid="ignore"):  # 1 in 2^53 normal variates is 0
        root = np.sqrt(squared * (4 * path + squared))
        early = 2 * distance**2 / (2 * path + squared + root)
        is_early = rng.random(shape) * (distance + drift * early) < distance
        return np.where(is_early, early, distance**2 / (drift**2 * early))


def _acceptance(t: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a motion first at its end at time t never reached the other barrier."""
    small = np.minimum(t, LARGE_TIME)
    ratio = image_series(*image_factors(small, distance), distance)
    late = np.nonzero(t > LARGE_TIME)
    t, distance = t[late], distance[late[1]]
    slowest = np.sin(np.pi * distance) * np.exp(0.5 * distance**2 / t - 0.5 * np.pi**2 * t)
    modes = eigen_series(np.exp(-0.5 * np.pi**2 * t), np.cos(np.pi * distance))
    ratio[late] = math.sqrt(2) * (np.pi * t) ** 1.5 / distance * slowest * modes
    return ratio
