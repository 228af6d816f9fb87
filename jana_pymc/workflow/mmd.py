"""Maximum mean discrepancy between summaries of data sets, with a permutation test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from jana_pymc.simulation import random_generator

SQUARED_WIDTHS = tuple(float(2.0**k) for k in range(-4, 5))
"""Squared widths of the averaged Gaussian kernels, in units of the median squared distance."""


MAX_SETS = 500
"""Simulated data sets whose distances set the widths."""


def kernel_widths(summaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared widths for `kernel`, from the distances between simulated data sets."""
    some = summaries[:MAX_SETS]
    between = cdist(some, some, "sqeuclidean")[np.triu_indices(len(some), 1)]
    return float(np.median(between)) * np.asarray(SQUARED_WIDTHS)


def kernel(
    x: NDArray[np.float64], y: NDArray[np.float64], widths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over widths of exp(−‖x − y‖² / (2 width)), shape (len(x), len(y)), each at most 1."""
    squared = cdist(x, y, "sqeuclidean")
    total = np.zeros_like(squared)
    for width in widths:
        total += np.exp(-squared / (2 * width))
    return total / len(widths)


def single_sample_mmd(
    x: NDArray[np.float64],
    simulated: NDArray[np.float64],
    widths: NDArray[np.float64],
    *,
    among: bool = False,
) -> NDArray[np.float64]:
    """Squared MMD between each data set alone and a sample of simulations.

    Parameters
    ----------
    x : ndarray, shape (sets, summaries)
    simulated : ndarray, shape (simulations, summaries)
    widths : ndarray
    among : bool
        `x` is `simulated` itself: each is held against the others.

    Returns
    -------
    ndarray, shape (sets,)
        Up to a constant, minus twice the kernel density of the simulations there.
    """
    cross = kernel(x, simulated, widths)
    n = len(simulated)
    within = kernel(simulated, simulated, widths).mean()
    means = (cross.sum(axis=1) - 1.0) / (n - 1) if among else cross.mean(axis=1)
    return 1.0 + within - 2.0 * means


def mmd_test(
    x: NDArray[np.float64],
    simulated: NDArray[np.float64],
    widths: NDArray[np.float64],
    *,
    n_permutations: int = 499,
    random_seed: int | np.random.Generator | None = None,
) -> tuple[float, NDArray[np.float64], float]:
    """Test whether two samples of data sets have one law.

    The null distribution is that of all ways to divide the pooled data sets, so that the level is
    exact, whatever the law.

    Returns
    -------
    statistic : float
        Squared MMD, the biased estimate.
    null : ndarray, shape (n_permutations,)
    p_value : float

    References
    ----------
    .. [1] Gretton, A., et al. (2012). A kernel two-sample test. JMLR, 13, 723-773.
    """
    rng = random_generator(random_seed)
    pooled = np.concatenate([x, simulated])
    gram = kernel(pooled, pooled, widths)
    weights = np.full((len(pooled), 1 + n_permutations), -1.0 / len(simulated))
    weights[: len(x), 0] = 1.0 / len(x)
    for j in range(1, 1 + n_permutations):
        weights[rng.permutation(len(pooled))[: len(x)], j] = 1.0 / len(x)
    values = np.einsum("ij,ij->j", weights, gram @ weights)
    # Equal divisions must count as such, though they are summed in another order.
    exceeding = (values[1:] >= values[0] * (1 - 1e-9)).sum()
    return float(values[0]), values[1:], float((1 + exceeding) / (1 + n_permutations))
