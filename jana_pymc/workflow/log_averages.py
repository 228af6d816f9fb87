"""Averages of densities on the log scale, over draws and over observations."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

NOTHING = -1e10
"""Logarithm of a density of zero, where sums and differences are to stay defined."""


def finite(log_density: np.ndarray) -> np.ndarray:
    """Densities of zero as ones so small that sums and differences stay defined."""
    return np.maximum(np.nan_to_num(log_density, nan=NOTHING), NOTHING)


def excluded(log_density: np.ndarray) -> np.ndarray:
    """Restore −inf where `finite` replaced densities of zero, also in sums with them."""
    return np.where(log_density < 0.5 * NOTHING, -np.inf, log_density)


def weighted(log_weights: np.ndarray, log_density: np.ndarray, axis: int) -> np.ndarray:
    """Log of a weighted mean of densities, whose weights sum to one.

    Parameters
    ----------
    log_weights : ndarray
        Broadcasts against `log_density`.
    log_density : ndarray, shape (..., draws, ...)
    axis : int
        Axis of the draws.

    Returns
    -------
    ndarray, shape (..., ...)
    """
    return logsumexp(log_weights + finite(log_density), axis=axis)


def log_mean(log_density: np.ndarray, axis: int) -> np.ndarray:
    """Log of the mean density over draws, as `weighted` with equal weights."""
    return logsumexp(finite(log_density), axis=axis) - np.log(log_density.shape[axis])


def standard_error_of(terms: np.ndarray) -> np.ndarray:
    """Standard error of the sum over units, for the variation from unit to unit.

    Parameters
    ----------
    terms : ndarray, shape (sets, units)
        NaN where a data set has fewer units.

    Returns
    -------
    ndarray, shape (sets,)
    """
    n = (~np.isnan(terms)).sum(axis=1)
    return np.sqrt(n * np.nanvar(terms, axis=1))
