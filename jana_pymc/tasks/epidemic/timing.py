r"""Distribution of the times and durations of four interventions, none of which overlaps the next.

Intervention i begins on day :math:`n_i = \mathrm{round}(t_i)` and takes
:math:`m_i = \mathrm{round}(\Delta_i)` days. Independent :math:`t_i \sim \mathrm{Normal}` and
:math:`\Delta_i \sim \mathrm{LogNormal}` are admitted if

.. math:: 1 \le n_1 < n_2 < n_3 < n_4, \qquad m_i \ge 1, \qquad
    n_i + m_i \le n_{i+1}, \qquad n_4 + m_4 \le T.

Since only whole days matter, the truncated density is a Markov chain that can be summed up exactly.
With :math:`W(k) = P(1 \le m \le k)` and :math:`P_i(n) = P(n_i = n)`, let

.. math:: B_4(n) = W(T - n), \qquad B_i(n) = \sum_{n' > n} W(n' - n)\, P_{i+1}(n')\, B_{i+1}(n'),

the probability that all that follows is admissible. Then

.. math::
    p(t_1) = \frac{\mathrm{Normal}(t_1)\, B_1(n_1)}{\sum_n P_1(n) B_1(n)}, \qquad
    p(t_{i+1} \mid t_i) = \frac{\mathrm{Normal}(t_{i+1})\, W(n_{i+1} - n_i)\, B_{i+1}(n_{i+1})}
    {B_i(n_i)},

and given the times each :math:`\Delta_i` is a log-normal variable, truncated to what rounds to 1 or
more and ends in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.logprob.transforms import Transform
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from jana_pymc.tasks.epidemic.soft_interval import SoftInterval

N_CHANGES = 4
TIME_MEAN = (8.0, 15.0, 22.0, 66.0)
TIME_SD = (3.0, 1.0, 1.0, 1.0)
DURATION_LOG_MEAN = math.log(3.0)
DURATION_LOG_SD = 0.3

_LEAST_PROBABILITY = 1e-3
# How near to a bound the transform bends: in days, and in the logarithm of a duration.
_SOFTNESS_TIME = 0.5
_SOFTNESS_LOG_DURATION = 0.1


@dataclass(frozen=True, eq=False)
class InterventionTimes:
    """The chain of intervention times over `horizon` days.

    Parameters
    ----------
    horizon : int
        T, the number of days within which the last intervention must be completed.

    Raises
    ------
    ValueError
        If hardly any draw from the independent distributions fits into so few days.
    """

    horizon: int

    def __post_init__(self) -> None:
        with np.errstate(under="ignore"):
            if self.horizon < N_CHANGES + 1 or self.log_probability < math.log(_LEAST_PROBABILITY):
                raise ValueError(
                    f"{self.horizon} days are too few: the last intervention begins about day "
                    f"{TIME_MEAN[-1]:g}, and must be completed within them; take 70 or more."
                )

    @property
    def log_probability(self) -> float:
        """Log probability that independent times and durations are admissible."""
        return float(logsumexp(_log_cells(0, self.horizon) + self._log_backward()[0]))

    def log_weights(self) -> list[NDArray[np.float64]]:
        """Factors of the normal densities, as logarithms.

        Returns
        -------
        list of ndarray
            That of the first time has shape (1, T + 1), by its day; each other (T + 1, T + 1), by
            the day of the time before and its own. Minus infinity for days that are not admissible.
        """
        backward = self._log_backward()
        weights = [backward[0][None] - self.log_probability]
        for i in range(1, N_CHANGES):
            before = backward[i - 1][:, None]
            with np.errstate(invalid="ignore"):
                weights.append(_log_fits(self.horizon) + backward[i][None] - before)
            weights[-1][np.isneginf(backward[i - 1])] = -np.inf
        return weights

    def _log_backward(self) -> list[NDArray[np.float64]]:
        days = np.arange(self.horizon + 1)
        messages = [_log_room(self.horizon - days)]
        messages[0][0] = -np.inf
        for i in range(N_CHANGES - 1, 0, -1):
            following = _log_cells(i, self.horizon) + messages[0]
            with np.errstate(divide="ignore"):
                messages.insert(0, logsumexp(_log_fits(self.horizon) + following, axis=1))
            messages[0][0] = -np.inf
        return messages


def add_times_and_durations(horizon: int) -> None:
    """Add ``t1`` to ``t4`` and ``dt1`` to ``dt4`` to the PyMC model of the context.

    The unconstrained values of times and of logarithms of durations are, but for the vicinity of a
    bound, the values themselves, so that bounds which jump with another parameter from one day to
    the next do not make everything else jump.
    """
    times: list[Any] = []
    for i, log_weights in enumerate(InterventionTimes(horizon).log_weights()):
        # Later interventions begin on days of their own, and last a day at least.
        latest = horizon - (N_CHANGES - i) + 0.5
        times.append(
            pm.CustomDist(
                f"t{i + 1}",
                times[-1] if i else 0.0,
                logp=partial(_time_logp, i, log_weights),
                random=partial(_draw_times, i, log_weights),
                support_point=partial(_everywhere, TIME_MEAN[i]),
                default_transform=SoftInterval(partial(_time_bounds, latest), _SOFTNESS_TIME),
            )
        )
    ends = [*times[1:], pt.constant(float(horizon))]
    for i, (time, end) in enumerate(zip(times, ends, strict=True)):
        truncated_log_normal(
            f"dt{i + 1}",
            DURATION_LOG_MEAN,
            DURATION_LOG_SD,
            0.5,
            pt.round(end) - pt.round(time) + 0.5,
            transform=SoftInterval(_last_two_logarithms, _SOFTNESS_LOG_DURATION, logarithmic=True),
        )


def truncated_log_normal(
    name: str, log_mean: float, log_sd: float, lower: Any, upper: Any, *, transform: Transform
) -> Any:
    """Add a log-normal variable between two bounds to the PyMC model of the context.

    `pymc.Truncated` has the same density, but draws one value at a time if its bounds are random.
    """
    return pm.CustomDist(
        name,
        log_mean,
        log_sd,
        lower,
        upper,
        logp=_truncated_logp,
        random=_draw_truncated,
        support_point=partial(_everywhere, math.exp(log_mean)),
        default_transform=transform,
    )


def _everywhere(value: float, rv: Any, size: Any, *parameters: Any) -> Any:
    """Starting values of samplers: the medians before truncation, which are admissible."""
    return pt.full_like(rv, value)


def _time_bounds(latest: float, *inputs: Any) -> tuple[Any, Any]:
    return pt.round(inputs[-1]) + 0.5, latest


def _last_two_logarithms(*inputs: Any) -> tuple[Any, Any]:
    return pt.log(inputs[-2]), pt.log(inputs[-1])


def _time_logp(i: int, log_weights: NDArray[np.float64], value: Any, before: Any) -> Any:
    density = pm.logp(pm.Normal.dist(TIME_MEAN[i], TIME_SD[i]), value)
    row, column = (
        pt.cast(pt.clip(pt.round(day), 0, size - 1), "int64")
        for day, size in zip((before, value), log_weights.shape, strict=True)
    )
    outside = pt.round(value) > log_weights.shape[1] - 1
    return pt.switch(outside, -np.inf, density + pt.constant(log_weights)[row, column])


def _draw_times(
    i: int,
    log_weights: NDArray[np.float64],
    before: NDArray[np.float64],
    rng: np.random.Generator | None = None,
    size: tuple[int, ...] | None = None,
) -> NDArray[np.float64]:
    assert rng is not None  # PyMC always gives one
    shape = np.shape(before) if size is None else tuple(size)
    rows = np.broadcast_to(np.rint(before).astype(int), shape)
    with np.errstate(under="ignore"):
        cells = np.exp(log_weights + _log_cells(i, log_weights.shape[1] - 1)).cumsum(axis=-1)
    # Dividing by the last keeps rounding from leaving a day with a weight of zero as the only one.
    cells = cells[np.minimum(rows, len(cells) - 1)]
    day = (rng.random(shape)[..., None] * cells[..., -1:] >= cells).sum(axis=-1)
    edges = (day + np.array([-0.5, 0.5]).reshape(2, *(1,) * day.ndim) - TIME_MEAN[i]) / TIME_SD[i]
    return TIME_MEAN[i] + TIME_SD[i] * _draw_normal_between(rng, *edges)


def _truncated_logp(value: Any, log_mean: Any, log_sd: Any, lower: Any, upper: Any) -> Any:
    distribution = pm.LogNormal.dist(log_mean, log_sd)
    mass = pt.exp(pm.logcdf(distribution, upper)) - pt.exp(pm.logcdf(distribution, lower))
    density = pm.logp(distribution, value) - pt.log(mass)
    return pt.switch((value > lower) & (value < upper), density, -np.inf)


def _draw_truncated(
    log_mean: NDArray[np.float64],
    log_sd: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    rng: np.random.Generator | None = None,
    size: tuple[int, ...] | None = None,
) -> NDArray[np.float64]:
    assert rng is not None  # PyMC always gives one
    shape = np.broadcast_shapes(*(np.shape(each) for each in (log_mean, log_sd, lower, upper)))
    with np.errstate(divide="ignore"):
        edges = [
            np.broadcast_to((np.log(bound) - log_mean) / log_sd, shape if size is None else size)
            for bound in (lower, upper)
        ]
    return np.exp(log_mean + log_sd * _draw_normal_between(rng, *edges))


def _draw_normal_between(
    rng: np.random.Generator, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard normal draws between two bounds, exact in both tails."""
    sign = np.where(low > 0.0, -1.0, 1.0)
    low, high = np.where(low > 0.0, -high, low), np.where(low > 0.0, -low, high)
    share = rng.random(np.shape(low))
    draws = ndtri(ndtr(low) + share * (ndtr(high) - ndtr(low)))
    return sign * np.clip(draws, low, high)


def _log_cells(i: int, horizon: int) -> NDArray[np.float64]:
    """Log probability that the i-th time, before truncation, rounds to each of 0 to T."""
    edges = (np.arange(horizon + 2) - 0.5 - TIME_MEAN[i]) / TIME_SD[i]
    low, high = edges[:-1], edges[1:]
    low, high = np.where(low > 0.0, -high, low), np.where(low > 0.0, -low, high)
    return log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))


def _log_room(days: NDArray[np.int_]) -> NDArray[np.float64]:
    """Log probability that a duration rounds to 1 or more and fits into these days."""
    with np.errstate(divide="ignore"):
        ends = (np.log(np.maximum(days, 0) + 0.5) - DURATION_LOG_MEAN) / DURATION_LOG_SD
        least = (math.log(0.5) - DURATION_LOG_MEAN) / DURATION_LOG_SD
        return np.log(ndtr(ends) - ndtr(least))


def _log_fits(horizon: int) -> NDArray[np.float64]:
    """Log probability that a duration fits between a day (row) and a later one (column)."""
    days = np.arange(horizon + 1)
    return _log_room(days[None] - days[:, None])
