"""Which components of a vector are independent draws of one law, given the parameters."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from jana_pymc.screening import with_products
from jana_pymc.training.pilot import residuals

ERROR_RATE = 1e-4
"""Share of pairs of components with the same law that are told apart all the same."""

NEGLIGIBLE = 0.15
"""Correlations below this, once the parameters are known, pass for independence: what a network
does not know of the parameters' influence correlates what it should explain."""


def replicated_draws(
    parameters: NDArray[np.float64], observables: NDArray[np.float64]
) -> tuple[tuple[int, ...], ...] | None:
    r"""Positions of the components of each draw, if the components are draws of one law.

    Three tests in turn, any of which may fail:

    1. Components fall into kinds with equally many members each. Two are of one kind if the law of
       the parameters and either is the same: if none of the means of :math:`(g(x_i) - g(x_j))
       f(\theta)` differs from zero, g being a score of place or of distance from the median, f one,
       a parameter or a product of two.
    2. One member of each kind makes a draw. A small network learns location and scale of each kind;
       the matching is the one under which standardised members of the same draw are most dependent.
    3. Standardised members of differing draws are not correlated, neither in place nor in distance
       from the centre, whatever the parameters.

    Parameters
    ----------
    parameters : ndarray, shape (simulations, parameters)
    observables : ndarray, shape (simulations, components)

    Returns
    -------
    tuple of tuple of int, shape (draws, components of a draw), or None
    """
    features = np.column_stack([np.ones(len(parameters)), with_products(parameters)])
    kinds = _kinds(observables, features)
    if kinds is None:
        return None
    scores = _given(parameters, observables, kinds)
    draws = _matched(scores, features, kinds)
    return draws if _independent(scores, features, draws) else None


def _kinds(
    observables: NDArray[np.float64], features: NDArray[np.float64]
) -> list[list[int]] | None:
    """Components of the same law given the parameters, if these are as many of each law."""
    n, n_components = observables.shape
    same = np.ones((n_components, n_components), dtype=bool)
    spread = np.abs(observables - np.median(observables, axis=0))
    largest = np.zeros(same.shape)
    for values in (observables, spread):
        # One scale for all: what has the same law is changed in the same way.
        scores = ndtri((rankdata(values) - 0.5) / values.size).reshape(values.shape)
        for feature in features.T:
            weighted = scores * feature[:, None]
            mean, moments = weighted.mean(axis=0), weighted.T @ weighted / n
            squares = np.diag(moments)
            difference = mean[:, None] - mean
            variance = squares[:, None] + squares - 2 * moments - difference**2
            error = np.sqrt(np.maximum(variance, 1e-12) / n)
            largest = np.maximum(largest, np.abs(difference) / error)
    same = 2 * 2 * features.shape[1] * ndtr(-largest) > ERROR_RATE
    kinds: list[list[int]] = []
    for i in range(n_components):
        if not any(i in kind for kind in kinds):
            kinds.append(np.nonzero(same[i])[0].tolist())
    members = [j for kind in kinds for j in kind]
    n_draws = len(kinds[0])
    equally_many = all(len(kind) == n_draws for kind in kinds)
    if n_draws == 1 or not equally_many or sorted(members) != list(range(n_components)):
        return None
    agree = all(same[i, j] for kind in kinds for i, j in combinations(kind, 2))
    return kinds if agree else None


def _given(
    parameters: NDArray[np.float64], observables: NDArray[np.float64], kinds: list[list[int]]
) -> NDArray[np.float64]:
    """Components less what the parameters say of place and scale, as normal scores."""
    z = residuals(parameters, np.stack([observables[:, kind] for kind in kinds], axis=-1))
    ranks = rankdata(z.reshape(-1, len(kinds)), axis=0)
    by_kind = ndtri((ranks - 0.5) / len(ranks)).reshape(z.shape)
    scores = np.empty_like(observables)
    for k, kind in enumerate(kinds):
        scores[:, kind] = by_kind[..., k]
    return scores


def _matched(
    scores: NDArray[np.float64], features: NDArray[np.float64], kinds: list[list[int]]
) -> tuple[tuple[int, ...], ...]:
    """One member of each kind for each draw: those that depend most on each other."""
    dependence = _dependence(scores, features)
    first = kinds[0]
    columns = [first]
    for kind in kinds[1:]:
        gain = dependence[np.ix_(first, kind)] ** 2
        _, order = linear_sum_assignment(-gain)
        columns.append([kind[j] for j in order])
    return tuple(zip(*columns, strict=True))


def _independent(
    scores: NDArray[np.float64],
    features: NDArray[np.float64],
    draws: tuple[tuple[int, ...], ...],
) -> bool:
    """Whether members of differing draws tell nothing of each other once parameters are known."""
    dependence = _dependence(scores, features)
    return all(
        dependence[i, j] < NEGLIGIBLE for a, b in permutations(draws, 2) for i in a for j in b
    )


def _dependence(scores: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest correlation of two components, or of their distances, for any part of parameters."""
    n = len(scores)
    distance = np.abs(scores)
    distance = (distance - distance.mean(axis=0)) / distance.std(axis=0)
    largest = np.zeros(2 * scores.shape[1:])
    weights = features / np.sqrt((features**2).mean(axis=0))
    for values in (scores, distance):
        for weight in weights.T:
            largest = np.maximum(largest, np.abs((values * weight[:, None]).T @ values) / n)
    return largest
