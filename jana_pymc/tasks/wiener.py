"""The Wiener first-passage law in closed form: density, distribution function, PyTensor graph.

A Brownian motion with drift ``v`` and unit diffusion starts at ``w * a`` between absorbing
barriers 0 (response 0) and ``a`` (response 1). The reaction time is its exit time plus ``t0``.

By reflection and rescaling everything reduces to one function: the density f(t | w) of the exit at
the nearer end 0 of a driftless motion that starts at w in (0, 1). It has two series,

    f(t | w) = w / sqrt(2 pi t^3) exp(-w^2 / (2 t)) R(t, w)       R: sum over mirror images,
    f(t | w) = pi sin(pi w) exp(-pi^2 t / 2) E(t, w)              E: sum over eigenfunctions,

the first quick for small t, the second for large. Cut at t = 0.5, three terms of each leave a
relative error below 1e-14, so that no error bound is needed at run time. The two sums are written
in plain arithmetic and serve NumPy arrays and PyTensor variables alike.

References
----------
.. [1] Navarro, D. J., & Fuss, I. G. (2009). Fast and accurate calculations for first-passage times
   in Wiener diffusion models. Journal of Mathematical Psychology, 53(4), 222-230.
.. [2] Gondan, M., Blurton, S. P., & Kesselmeier, M. (2014). Even faster and even more accurate
   first-passage time densities and distributions for the Wiener diffusion model. Journal of
   Mathematical Psychology, 60, 20-22.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable
from scipy.special import log_ndtr

__all__ = ["wiener_cdf", "wiener_log_prob", "wiener_logp", "wiener_upper_probability"]

#: Scaled decision time above which the eigenfunction series is used.
LARGE_TIME = 0.5

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_LOG_PI = math.log(math.pi)

# NumPy arrays or PyTensor variables: the series below need only arithmetic.
_Real = TypeVar("_Real", NDArray[np.float64], TensorVariable)


def wiener_log_prob(
    rt: ArrayLike, response: ArrayLike, v: ArrayLike, a: ArrayLike, t0: ArrayLike, w: ArrayLike
) -> NDArray[np.float64]:
    r"""Log density of reaction time and response.

    .. math:: \log p(t, 0) = -v a w - v^2 (t - t_0) / 2 - 2 \log a + \log f((t - t_0) / a^2 \mid w)

    and the same with :math:`-v, 1 - w` for response 1.

    Parameters
    ----------
    rt : array_like
        Reaction times in seconds.
    response : array_like
        1 for the upper barrier, 0 for the lower.
    v, a, t0, w : array_like
        Drift, barrier separation, non-decision time in seconds, relative starting point. All
        arguments broadcast against each other.

    Returns
    -------
    ndarray
        Natural logarithms with the broadcast shape; -inf where ``rt <= t0``, and for parameters
        outside ``a > 0``, ``0 < w < 1``. A NaN in any argument gives NaN.

    Examples
    --------
    >>> float(wiener_log_prob(0.7, 1, v=1.0, a=1.5, t0=0.3, w=0.5).round(6))
    0.003812
    """
    rt, response, v, a, t0, w = map(np.asarray, (rt, response, v, a, t0, w))
    inside = (rt > t0) & (a > 0) & (w > 0) & (w < 1)
    missing = np.isnan(rt + response + v + a + t0 + w)
    with np.errstate(all="ignore"):  # values outside the support are replaced below
        toward = np.where(response == 1, v, -v)
        distance = np.where(response == 1, 1 - w, w)
        t = (rt - t0) / a**2
        small, large = np.minimum(t, LARGE_TIME), np.maximum(t, LARGE_TIME)
        leading = np.where(
            t < LARGE_TIME,
            np.log(distance) - 0.5 * distance**2 / small - 1.5 * np.log(small) - _LOG_SQRT_2PI,
            np.log(np.sin(np.pi * w)) + _LOG_PI - 0.5 * np.pi**2 * large,
        )
        series = np.where(
            t < LARGE_TIME,
            image_series(*image_factors(small, distance), distance),
            eigen_series(np.exp(-0.5 * np.pi**2 * large), np.cos(np.pi * distance)),
        )
        drift = toward * a * distance - 0.5 * v**2 * (rt - t0)
        log_prob = drift - 2 * np.log(a) + leading + np.log(series)
    return np.where(missing, np.nan, np.where(inside, log_prob, -np.inf))


def wiener_logp(rt: Any, response: Any, v: Any, a: Any, t0: Any, w: Any) -> TensorVariable:
    """PyTensor graph of :func:`wiener_log_prob`, differentiable in the four parameters.

    What depends on the parameters alone keeps their shape: for one set of parameters and many
    observations it is computed once.

    Parameters
    ----------
    rt, response : tensor_like
        Reaction times in seconds; 1 for the upper barrier, 0 for the lower.
    v, a, t0, w : tensor_like
        As in :func:`wiener_log_prob`.

    Returns
    -------
    TensorVariable
        Log density, one value an observation; -inf with zero gradient outside the support.

    Examples
    --------
    >>> float(wiener_logp(0.7, 1, v=1.0, a=1.5, t0=0.3, w=0.5).eval().round(6))
    0.003812
    """
    rt, response, v, a, t0, w = map(pt.as_tensor, (rt, response, v, a, t0, w))
    upper = pt.eq(response, 1)
    valid = (a > 0) & (w > 0) & (w < 1)
    distance = pt.switch(upper, 1 - w, w)
    angle = math.pi * w
    cosine = pt.cos(angle)
    decision_time = rt - t0
    t = decision_time / pt.sqr(a)
    # Each branch sees only times at which it is finite, or else 0 * inf spoils the gradient.
    small = pt.clip(t, 1e-60, LARGE_TIME)
    large = pt.maximum(t, LARGE_TIME)
    is_small = t < LARGE_TIME
    leading = pt.switch(
        is_small,
        pt.switch(upper, pt.log1p(-w), pt.log(w))
        - 0.5 * pt.sqr(distance) / small
        - 1.5 * pt.log(small)
        - _LOG_SQRT_2PI,
        pt.log(pt.sin(angle)) + _LOG_PI - 0.5 * math.pi**2 * large,
    )
    far, near = pt.exp(-2 * (1 - distance) / small), pt.exp(-2 * distance / small)
    series = pt.switch(
        is_small,
        image_series(far, near, distance),
        eigen_series(pt.exp(-0.5 * math.pi**2 * large), pt.switch(upper, -cosine, cosine)),
    )
    drift = pt.switch(upper, v * a * (1 - w), -v * a * w) - 2 * pt.log(a)
    logp = drift - 0.5 * pt.sqr(v) * decision_time + leading + pt.log(series)
    return pt.switch(valid & (decision_time > 0), logp, -np.inf)


def wiener_cdf(
    rt: ArrayLike, response: ArrayLike, v: ArrayLike, a: ArrayLike, t0: ArrayLike, w: ArrayLike
) -> NDArray[np.float64]:
    """Probability of this response no later than ``rt``: the defective distribution function.

    The integral of :func:`wiener_log_prob`'s density; it tends to the probability of the response
    as ``rt`` grows.

    Parameters
    ----------
    rt, response, v, a, t0, w : array_like
        As in :func:`wiener_log_prob`; ``rt`` may be infinite.

    Returns
    -------
    ndarray
        Probabilities with the broadcast shape; 0 where ``rt <= t0``.

    Examples
    --------
    >>> float(wiener_cdf(0.7, 1, v=1.0, a=1.5, t0=0.3, w=0.5).round(6))
    0.443987
    """
    rt, response, v, a, t0, w = np.broadcast_arrays(rt, response, v, a, t0, w)
    upper = response == 1
    toward = np.where(upper, v, -v) * a
    distance = np.where(upper, 1 - w, w)
    total = _barrier_probability(toward, distance)
    with np.errstate(all="ignore"):  # times outside a series' range are replaced below
        t = (rt - t0) / np.square(a)
        early = _image_cdf(t, toward, distance)
        late = total - _eigen_tail(np.maximum(t, LARGE_TIME), toward, distance)
    cdf = np.where(t < LARGE_TIME, early, late)
    return np.where(t <= 0, 0.0, np.clip(cdf, 0.0, total))


def wiener_upper_probability(v: ArrayLike, a: ArrayLike, w: ArrayLike) -> NDArray[np.float64]:
    """Probability of response 1, the upper barrier.

    Parameters
    ----------
    v, a, w : array_like
        Drift, barrier separation and relative starting point; they broadcast.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> float(wiener_upper_probability(v=0.0, a=1.5, w=0.25))
    0.25
    """
    return _barrier_probability(np.multiply(v, a), 1 - np.asarray(w, dtype=np.float64))


def image_factors(
    t: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two exponentials of which every term of :func:`image_series` is a product."""
    inverse = -2 / t
    return np.exp(inverse * (1 - w)), np.exp(inverse * w)


def image_series(far: _Real, near: _Real, w: _Real) -> _Real:
    r"""R(t, w), the exit density over that of a motion with the barrier at 0 alone.

    .. math:: R = \sum_{k=-3}^{3} (1 + 2 k / w) \exp(-2 k (k + w) / t)

    nested in far = exp(-2 (1 - w) / t) and near = exp(-2 w / t). Between 0 and 1: it is the
    probability that a motion first at 0 at time t has not been at 1 before.
    """
    step = 2 / w
    near2 = near * near
    near4 = near2 * near2
    far2 = far * far
    third = (1 - 3 * step) + (1 + 3 * step) * near4 * near2
    second = (1 - 2 * step) + (1 + 2 * step) * near4 + far2 * far2 * far * near4 * third
    first = (1 - step) + (1 + step) * near2 + far2 * far * near2 * second
    return 1 + far * first


def eigen_series(decay: _Real, cosine: _Real) -> _Real:
    r"""E(t, w), the exit density over its slowest mode.

    .. math:: E = \sum_{k=1}^{3} k \, \frac{\sin(k \pi w)}{\sin(\pi w)} \exp(-(k^2 - 1) \pi^2 t / 2)

    in decay = exp(-pi^2 t / 2) and cosine = cos(pi w).
    """
    decay2 = decay * decay
    decay4 = decay2 * decay2
    return 1 + 4 * cosine * decay2 * decay + (12 * cosine * cosine - 3) * decay4 * decay4


def _barrier_probability(
    toward: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of the exit at ``distance`` under a scaled drift ``toward`` it."""
    rate = 2 * np.abs(toward)
    with np.errstate(invalid="ignore"):  # 0 / 0 without drift
        share = np.where(rate > 0, np.expm1(-rate * (1 - distance)) / np.expm1(-rate), 1 - distance)
    return np.where(toward >= 0, share, np.exp(-rate * distance) * share)


def _image_cdf(
    t: NDArray[np.float64], toward: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum of inverse-Gaussian distribution functions over seven mirror images."""
    speed, root = np.abs(toward), np.sqrt(t)
    total = np.zeros_like(t)
    for k in range(-3, 4):
        image = np.abs(distance + 2 * k)
        for sign in (-1.0, 1.0):
            # Inside the exponential, since exp(speed * image) alone may overflow.
            log_term = sign * speed * image + log_ndtr(-sign * speed * root - image / root)
            total += math.copysign(1.0, k + 0.5) * np.exp(toward * distance + log_term)
    return total


def _eigen_tail(
    t: NDArray[np.float64], toward: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probability of the exit at ``distance`` after the scaled time t."""
    total = np.zeros_like(t)
    for k in range(1, 5):
        mode = k * np.pi
        rate = 0.5 * (toward**2 + mode**2)
        total += mode * np.sin(mode * distance) / rate * np.exp(toward * distance - rate * t)
    return total
