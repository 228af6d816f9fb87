"""Which components of a vector are independent draws of one law, given the parameters."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from jana_pymc.screening import standardized, with_products
from jana_pymc.training.pilot import residuals

FEWEST_SIMULATIONS = 3_000
"""Fewer do not tell laws apart that differ by a few tenths of a standard deviation."""

MOST_SIMULATIONS = 10_000

MOST_PARAMETERS = 10
"""Of more parameters their squares serve, without the products."""

ERROR_RATE = 0.001
"""Probability that any two components of the same law are told apart all the same."""

NEGLIGIBLE = 0.25
"""So much more than under independence may the variance of a sum over draws be, as a share, once
the parameters are known: what a network does not know of their influence correlates the draws."""


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
       members whose residuals depend most on each other are matched.
    3. Residuals of differing draws are not correlated, neither in place nor in distance from the
       centre, whatever the parameters; less so the more draws there are, whose dependence adds up.

    What shows in none of these is not seen: a dependence on parameters that neither they nor their
    products tell, or one that takes three components to notice.

    Parameters
    ----------
    parameters : ndarray, shape (simulations, parameters)
    observables : ndarray, shape (simulations, components)

    Returns
    -------
    tuple of tuple of int, shape (draws, components of a draw), or None
        None too for fewer than 3,000 simulations.
    """
    if len(parameters) < FEWEST_SIMULATIONS:
        return None
    parameters, observables = parameters[:MOST_SIMULATIONS], observables[:MOST_SIMULATIONS]
    features = _features(parameters)
    kinds = _kinds(observables, features)
    if kinds is None:
        return None
    z = residuals(parameters, np.stack([observables[:, kind] for kind in kinds], axis=-1))
    dependence = _dependence(z, features)
    draws = _matched(np.abs(dependence).max(axis=0))
    if not _independent(dependence, draws):
        return None
    return tuple(tuple(kind[i] for kind, i in zip(kinds, draw, strict=True)) for draw in draws)


def _features(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    constant = np.ones(len(parameters))
    if parameters.shape[1] <= MOST_PARAMETERS:
        return np.column_stack([constant, with_products(parameters)])
    theta = standardized(parameters)
    return np.column_stack([constant, theta, standardized(theta**2)])


def _kinds(
    observables: NDArray[np.float64], features: NDArray[np.float64]
) -> list[list[int]] | None:
    """Components of the same law given the parameters, if these are as many of each law."""
    n, n_components = observables.shape
    spread = np.abs(observables - np.median(observables, axis=0))
    largest = np.zeros((n_components, n_components))
    for values in (observables, spread):
        # One scale for all: what has the same law is changed in the same way.
        scores = ndtri((rankdata(values) - 0.5) / values.size).reshape(values.shape)
        for feature in features.T:
            weighted = scores * feature[:, None]
            mean, moments = weighted.mean(axis=0), _products(weighted, weighted) / n
            squares = np.diag(moments)
            difference = mean[:, None] - mean
            variance = squares[:, None] + squares - 2 * moments - difference**2
            error = np.sqrt(np.maximum(variance, 1e-12) / n)
            largest = np.maximum(largest, np.abs(difference) / error)
    n_tests = 2 * features.shape[1] * n_components * (n_components - 1) / 2
    same = 2 * n_tests * ndtr(-largest) > ERROR_RATE
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


def _dependence(z: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations of residuals, and of their distances from the centre, weighted by each feature.

    Returns
    -------
    ndarray, shape (2 features, draws, kinds, draws, kinds)
    """
    n, n_draws, n_kinds = z.shape
    ranks = rankdata(z.reshape(-1, n_kinds), axis=0)
    scores = ndtri((ranks - 0.5) / len(ranks)).reshape(n, -1)
    distance = standardized(np.abs(scores))
    weights = features / np.sqrt((features**2).mean(axis=0))
    found = [
        _products(values * weight[:, None], values) / n
        for values in (scores, distance)
        for weight in weights.T
    ]
    return np.stack(found).reshape(-1, n_draws, n_kinds, n_draws, n_kinds)


def _matched(strength: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """For each draw its member of each kind: those that depend most on each other.

    Parameters
    ----------
    strength : ndarray, shape (draws, kinds, draws, kinds)
    """
    n_draws, n_kinds = strength.shape[:2]
    order = {0: np.arange(n_draws)}  # of the members of each kind that is placed
    while len(order) < n_kinds:
        best: tuple[float, int, NDArray[np.intp]] | None = None
        for kind in set(range(n_kinds)) - set(order):
            gain = sum(strength[own][:, placed, :, kind] ** 2 for placed, own in order.items())
            _, members = linear_sum_assignment(-np.asarray(gain))
            total = float(np.asarray(gain)[np.arange(n_draws), members].sum())
            if best is None or total > best[0]:
                best = total, kind, members
        assert best is not None  # narrows the type: a kind is left
        order[best[1]] = best[2]
    columns = [order[kind].tolist() for kind in range(n_kinds)]
    return list(zip(*columns, strict=True))


def _independent(dependence: NDArray[np.float64], draws: list[tuple[int, ...]]) -> bool:
    """Whether sums over draws vary as they would were the draws independent."""
    n_draws, n_kinds = len(draws), len(draws[0])
    rows, kinds = np.asarray(draws), np.arange(n_kinds)
    # (feature, draw, kind, draw, kind), the members of each draw at its place
    placed = dependence[:, rows[:, :, None, None], kinds[:, None, None], rows, kinds]
    across = ~np.eye(n_draws, dtype=bool)
    pairs = placed.transpose(0, 2, 4, 1, 3)[..., across]
    shared = (n_draws - 1) * np.abs(pairs.mean(axis=-1))
    single = np.abs(pairs)
    return bool(shared.max() < NEGLIGIBLE and single.max() < NEGLIGIBLE)


def _products(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of one times columns of the other; by torch, which is not slowed by other threads."""
    return (torch.from_numpy(first).T @ torch.from_numpy(second)).numpy()
