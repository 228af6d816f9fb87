"""Averages of densities on the log scale, over draws and over observations."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp


def finite(log_density: np.ndarray) -> np.ndarray:
    """Densities of zero as ones so small that sums and differences stay defined."""
    return np.maximum(np.nan_to_num(log_density, nan=-1e10), -1e10)


def weighted(log_weights: np.ndarray, log_density: np.ndarray, axis: int) -> np.ndarray:
    return logsumexp(log_weights + finite(log_density), axis=axis)


def log_mean(log_density: np.ndarray, axis: int) -> np.ndarray:
    return logsumexp(finite(log_density), axis=axis) - np.log(log_density.shape[axis])


def standard_error_of(terms: np.ndarray) -> np.ndarray:
    n = (~np.isnan(terms)).sum(axis=1)
    return np.sqrt(n * np.nanvar(terms, axis=1))
