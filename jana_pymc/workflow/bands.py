"""Uniformity of ranks: their ECDF, simultaneous confidence bands for it, exact p-values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from jana_pymc.checks import check_count, check_share
from jana_pymc.simulation import random_generator

MAX_POINTS = 1000
"""Points at which an ECDF is compared with its band; more would only cost time."""


@dataclass(frozen=True, eq=False)
class EcdfBand:
    """Simultaneous confidence band for the ECDF of uniform ranks.

    Attributes
    ----------
    points : ndarray, shape (points,)
        Fractional ranks z at which the ECDF is evaluated; the uniform CDF there is z itself.
    lower, upper : ndarray, shape (points,)
        Smallest and largest value of the ECDF inside the band.
    probability : float
        The requested coverage.
    coverage : float
        The exact coverage, at least `probability`: counts are discrete.
    """

    points: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    probability: float
    coverage: float


@lru_cache(maxsize=64)
def ecdf_band(n_ranks: int, draws: int, probability: float = 0.95) -> EcdfBand:
    r"""Band that contains the whole ECDF of uniform ranks with a given probability.

    The number of ranks that are at most k is binomial, with success probability
    :math:`z = (k + 1) / (L + 1)`. The band consists of pointwise central intervals of level
    :math:`1 - \gamma`, with the largest :math:`\gamma` at which all of them hold simultaneously
    with the requested probability [1]_. That probability is computed exactly, not simulated: counts
    of uniform ranks are independent Poisson variables given their sum, so that the probability
    of a path inside the band is a chain of short convolutions [2]_.

    Parameters
    ----------
    n_ranks : int
        Number of ranks, one a data set.
    draws : int
        Posterior draws L behind each rank, which is one of 0, …, L.
    probability : float

    Returns
    -------
    EcdfBand
        Cached; its arrays are read-only.

    Raises
    ------
    TypeError, ValueError
        If a count is no positive integer, or the probability not between 0 and 1.

    References
    ----------
    .. [1] Säilynoja, Bürkner & Vehtari (2022). Graphical test for discrete uniformity and its
       applications in goodness-of-fit evaluation and multiple sample comparison. Statistics and
       Computing 32, 32. Section 2.
    .. [2] Moscovich & Nadler (2017). Fast calculation of boundary crossing probabilities for
       Poisson processes. Statistics & Probability Letters 123, 177-182.

    Examples
    --------
    >>> band = ecdf_band(1000, draws=250)
    >>> bool(0.95 <= band.coverage < 0.952)
    True
    """
    check_count("n_ranks", n_ranks)
    check_count("draws", draws)
    check_share("probability", probability)
    points = _points(draws)
    gamma = _largest_gamma(n_ranks, points, probability)
    lower, upper = _limits(gamma, n_ranks, points)
    coverage = _interior_probability(gamma, n_ranks, points)
    arrays = points, lower / n_ranks, upper / n_ranks
    for array in arrays:
        array.setflags(write=False)
    return EcdfBand(*arrays, probability=probability, coverage=coverage)


def rank_ecdf(ranks: ArrayLike, draws: int) -> np.ndarray:
    """ECDF of ranks at the points of `ecdf_band`.

    Parameters
    ----------
    ranks : array_like of int, shape (n_ranks, ...)
        Each one of 0, …, `draws`.
    draws : int

    Returns
    -------
    ndarray, shape (points, ...)
    """
    ranks = _checked_ranks(ranks, draws)
    return _counts(ranks, draws) / len(ranks)


def uniformity_p_value(ranks: ArrayLike, draws: int) -> np.ndarray:
    """Exact p-value of uniformity; the statistic is the one behind `ecdf_band`.

    The statistic is the smallest two-sided binomial tail probability along the ECDF. The ECDF
    leaves the band of probability P somewhere if, and only if, the p-value is at most 1 − P.

    Parameters
    ----------
    ranks : array_like of int, shape (n_ranks, ...)
    draws : int

    Returns
    -------
    ndarray, shape (...)
        One p-value for each column of ranks.
    """
    ranks = _checked_ranks(ranks, draws)
    n_ranks, points = len(ranks), _points(draws)
    counts = _counts(ranks, draws).reshape(len(points), -1).T
    below = stats.binom.cdf(counts, n_ranks, points)
    above = stats.binom.cdf(n_ranks - counts, n_ranks, 1 - points)
    # Smaller tails make the quantile function fail; the p-value is zero by then.
    statistics = np.maximum(2 * np.minimum(below, above).min(axis=1), 1e-100)
    p_values = [1 - _interior_probability(gamma, n_ranks, points) for gamma in statistics]
    return np.clip(p_values, 0.0, 1.0).reshape(ranks.shape[1:])


def randomized_pit(
    ranks: ArrayLike, draws: int, random_seed: int | np.random.Generator | None = None
) -> np.ndarray:
    """Continuous version of ranks, (rank + U) / (draws + 1) with U uniform.

    Uniform on (0, 1) exactly when the ranks are uniform on 0, …, `draws`. Use it for plots and
    tests of continuous uniformity, instead of ranks scaled by their maximum.

    Parameters
    ----------
    ranks : array_like of int
    draws : int
    random_seed : int, Generator or None

    Returns
    -------
    ndarray, shape of `ranks`
    """
    ranks = _checked_ranks(ranks, draws)
    return (ranks + random_generator(random_seed).random(ranks.shape)) / (draws + 1)


def _points(draws: int) -> np.ndarray:
    """Values of the uniform CDF at up to `MAX_POINTS` of the ranks 0, …, draws − 1."""
    return (_rank_points(draws) + 1) / (draws + 1)


def _rank_points(draws: int) -> np.ndarray:
    # The rank `draws` itself is left out: the ECDF is one there, always.
    return np.unique(np.linspace(0, draws - 1, min(draws, MAX_POINTS)).round().astype(int))


def _counts(ranks: np.ndarray, draws: int) -> np.ndarray:
    """Count the ranks that are at most each of the points, shape (points, ...)."""
    flat = ranks.reshape(len(ranks), -1)
    histogram = np.stack([np.bincount(column, minlength=draws + 1) for column in flat.T], axis=1)
    counts = histogram.cumsum(axis=0)[_rank_points(draws)]
    return counts.reshape(-1, *ranks.shape[1:])


def _largest_gamma(n_ranks: int, points: np.ndarray, probability: float) -> float:
    # Bonferroni bounds it from below; at one, nothing is left inside.
    low, high = np.log((1 - probability) / len(points)), 0.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        if _interior_probability(np.exp(middle), n_ranks, points) >= probability:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def _limits(gamma: float, n_ranks: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest count whose two-sided tail probability exceeds gamma."""
    lower = _smallest_count(gamma / 2, n_ranks, points)
    return lower, n_ranks - _smallest_count(gamma / 2, n_ranks, 1 - points)


def _smallest_count(tail: float, n_ranks: int, points: np.ndarray) -> np.ndarray:
    count = stats.binom.ppf(tail, n_ranks, points).astype(int)
    # The quantile function allows equality, which the p-value must not; the margin keeps counts
    # together whose probabilities are equal by symmetry, but rounded differently.
    return count + (stats.binom.cdf(count, n_ranks, points) <= tail * (1 + 1e-9))


def _interior_probability(gamma: float, n_ranks: int, points: np.ndarray) -> float:
    """Probability that the counts of uniform ranks stay within `_limits` at all points."""
    lower, upper = _limits(gamma, n_ranks, points)
    if (lower > upper).any():
        return 0.0
    steps = np.diff(points, prepend=0.0)
    kernels = {
        step: stats.poisson.pmf(np.arange((upper - np.append(0, lower[:-1])).max() + 1), step)
        for step in np.unique((n_ranks * steps).round(9))
    }
    paths, start = np.ones(1), 0
    for step, low, high in zip((n_ranks * steps).round(9), lower, upper, strict=True):
        kernel = kernels[step][: high - start + 1]
        paths = np.convolve(paths, kernel)[max(low - start, 0) : high - start + 1]
        start = max(low, start)
    rest = n_ranks - start - np.arange(len(paths))
    total = paths @ stats.poisson.pmf(rest, n_ranks * (1 - points[-1]))
    return float(total / stats.poisson.pmf(n_ranks, n_ranks))


def _checked_ranks(ranks: ArrayLike, draws: int) -> np.ndarray:
    ranks = np.asarray(ranks)
    if not np.issubdtype(ranks.dtype, np.integer):
        raise TypeError(f"ranks have dtype {ranks.dtype}; they must be integers.")
    if ranks.ndim == 0 or not len(ranks):
        what = "empty" if ranks.ndim else "a scalar"
        raise ValueError(f"ranks is {what}; it must be an array with one rank a data set.")
    check_count("draws", draws)
    outside = int(((ranks < 0) | (ranks > draws)).sum())
    if outside:
        raise ValueError(f"ranks has {outside} values outside 0, …, {draws} (draws={draws}).")
    return ranks
