"""Which components of the data depend on the parameters at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

ERROR_RATE = 0.001
"""Probability that any component without influence is kept all the same."""


def informative_components(
    parameters: NDArray[np.float64], observables: NDArray[np.float64]
) -> NDArray[np.intp]:
    r"""Positions of the components on which some parameter has an influence.

    Normal scores of each component, and of its distance from the median, are correlated with all
    parameters, their squares and their products; under independence :math:`\sqrt n` times a
    correlation is standard normal, whatever the distribution of the component. The largest decides,
    by Bonferroni's bound over all correlations.

    What has no influence on location or spread of a component, but on the joint distribution of
    several alone, is not found.

    Parameters
    ----------
    parameters : ndarray, shape (simulations, parameters)
    observables : ndarray, shape (simulations, components)

    Returns
    -------
    ndarray of int
        In increasing order; all components if none is found.
    """
    theta = standardized(parameters)
    n_parameters = theta.shape[1]
    spread = np.abs(observables - np.median(observables, axis=0))
    largest = np.zeros(observables.shape[1])
    for values in (observables, spread):
        scores = standardized(ndtri((rankdata(values, axis=0) - 0.5) / len(values)))
        for features in _in_blocks(theta):
            statistic = np.abs(scores.T @ features) / np.sqrt(len(values))
            largest = np.maximum(largest, statistic.max(axis=1))
    n_features = n_parameters * (n_parameters + 3) // 2
    p_value = 2 * n_features * observables.shape[1] * 2 * ndtr(-largest)
    found = np.nonzero(p_value < ERROR_RATE)[0]
    return found if found.size else np.arange(observables.shape[1])


def _in_blocks(theta: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """What `with_products` gives, bit by bit: of many parameters all would not fit in memory."""
    yield theta
    for first in range(theta.shape[1]):
        yield standardized(theta[:, first, None] * theta[:, first:])


def with_products(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parameters, their squares and their products, all of mean zero and sd one."""
    theta = standardized(parameters)
    first, second = np.triu_indices(theta.shape[1])
    return np.concatenate([theta, standardized(theta[:, first] * theta[:, second])], axis=1)


def standardized(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of mean zero and sd one; constant ones are zero."""
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
