"""Many trajectories of one ordinary differential equation at once, each with its own step size.

An explicit Runge-Kutta pair of order 5(4) [1]_, local extrapolation, absolute error control. The
benchmark models are integrated in logarithms, where an absolute error is a relative one of the
populations, and nothing becomes negative.

References
----------
.. [1] Dormand, J. R., & Prince, P. J. (1980). A family of embedded Runge-Kutta formulae. Journal of
   Computational and Applied Mathematics, 6(1), 19-26.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Derivative: TypeAlias = Callable[..., Sequence[NDArray[np.float64]]]
"""``derivative(state, *parameters)``: from (d, n) and arrays (n,) to d arrays (n,)."""

_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# Fifth minus fourth order.
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
# Largest error of a step, in any component of the state.
_TOLERANCE = 1e-7
_FIRST_STEP = 1e-2
_SMALLEST_STEP = 1e-9
_MOST_STEPS = 20_000


def integrate(
    derivative: Derivative,
    initial: ArrayLike,
    parameters: Sequence[NDArray[np.float64]],
    times: ArrayLike,
) -> NDArray[np.float64]:
    """Solve an autonomous initial value problem for many parameters.

    Parameters
    ----------
    derivative : callable
        ``derivative(state, *parameters)`` returns d arrays of shape (n,) for a state (d, n).
    initial : array_like, shape (d,)
        State at time 0, the same for all.
    parameters : sequence of ndarray, shape (n,)
    times : array_like
        Increasing, from 0 on.

    Returns
    -------
    ndarray, shape (n, len(times), d)
        NaN from where a trajectory needs steps that are too small, or more than 20,000 from one
        time to the next.
    """
    start = np.asarray(initial, dtype=np.float64)
    n = len(parameters[0])
    state = np.repeat(start[:, None], n, axis=1)
    step = np.full(n, _FIRST_STEP)
    grid = np.asarray(times, dtype=np.float64)
    result = np.empty((n, grid.size, start.size))
    now = 0.0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for i, time in enumerate(grid):
            if time > now:
                state, step = _advance(derivative, state, parameters, step, time - now)
                now = time
            result[:, i] = state.T
    return result


def _advance(
    derivative: Derivative,
    state: NDArray[np.float64],
    parameters: Sequence[NDArray[np.float64]],
    step: NDArray[np.float64],
    duration: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring all trajectories over an interval; those that arrive leave the arrays."""
    arrived, next_step = np.full_like(state, np.nan), step.copy()
    where = np.nonzero(np.isfinite(state).all(axis=0))[0]
    y, h = state[:, where], step[where]
    theta = [values[where] for values in parameters]
    left = np.full(where.size, duration)
    slope = np.stack(derivative(y, *theta))
    for _ in range(_MOST_STEPS):
        if not where.size:
            break
        used = np.minimum(h, left)
        new, new_slope, error = _step(derivative, y, slope, theta, used)
        error /= _TOLERANCE
        accepted = error <= 1
        factor = np.where(error > 0, 0.9 * error**-0.2, 5.0)
        proposed = used * np.clip(np.nan_to_num(factor, nan=0.2), 0.2, 5.0)
        # A last step cut short says nothing against the longer one.
        h = np.where(accepted & (used < h), np.maximum(h, proposed), proposed)
        y = np.where(accepted, new, y)
        slope = np.where(accepted, new_slope, slope)
        left = np.where(accepted, left - used, left)
        done, lost = left <= 0, h < _SMALLEST_STEP
        if done.any() or lost.any():
            arrived[:, where[done]] = y[:, done]
            next_step[where[done]] = h[done]
            stay = ~(done | lost)
            where, y, slope, h, left = where[stay], y[:, stay], slope[:, stay], h[stay], left[stay]
            theta = [values[stay] for values in theta]
    return arrived, next_step


def _step(
    derivative: Derivative,
    y: NDArray[np.float64],
    slope: NDArray[np.float64],
    theta: Sequence[NDArray[np.float64]],
    h: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One step for each: the new state, the slope there, and the largest error."""
    slopes = [slope]
    new = y
    for weights in _STAGES:
        new = y + h * _combine(weights, slopes)
        slopes.append(np.stack(derivative(new, *theta)))
    error = np.abs(h * _combine(_ERROR, slopes)).max(axis=0)
    return new, slopes[-1], error


def _combine(
    weights: Sequence[float], slopes: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total += weight * slope
    return total
