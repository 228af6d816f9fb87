"""A test of whether two data sets for the same parameters could be exchanged."""

from __future__ import annotations

import numpy as np

from jana_pymc.screening import standardized

CLIP = 4.0
"""Standardised values are cut off here: a few extreme ones must not drown the rest."""

FLIPS_AT_ONCE = 1000

N_COMPONENTS = 16
"""Principal components that are multiplied by the parameters."""


def swap_p_values(
    groups: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    n_flips: int,
    random_seed: np.random.Generator,
) -> dict[str, float]:
    r"""Test for each group of features whether first and second of a pair have one law.

    If both members of pair i have the same law given what they share, exchanging them changes
    nothing, so that the differences :math:`d_i` of any features may have their signs flipped, one
    sign a pair. The statistic is :math:`\max_f |\sum_i d_{if}| / \sqrt{\sum_i d_{if}^2}`, over all
    features of the group; its null distribution comes from random signs, and the p-value is exact.
    For few pairs, all :math:`2^{n - 1}` different choices of signs are used once each, since
    flipping all signs leaves the statistic unchanged.

    Parameters
    ----------
    groups : mapping of str to pair of ndarray, each of shape (pairs, features)
        Features of the first and of the second members. They may be computed with anything that
        does not change when members are exchanged.
    n_flips : int
        Largest number of flips.
    random_seed : Generator

    Returns
    -------
    dict of str to float
    """
    differences = [first - second for first, second in groups.values()]
    ends = np.cumsum([d.shape[1] for d in differences])
    joined = np.concatenate(differences, axis=1)
    norm = np.sqrt((joined**2).sum(axis=0))
    joined = np.divide(joined, norm, out=np.zeros_like(joined), where=norm > 0)

    def statistics(signs: np.ndarray) -> np.ndarray:
        sums = np.abs(signs @ joined)
        return np.stack([part.max(axis=1) for part in np.split(sums, ends[:-1], axis=1)], axis=1)

    observed = statistics(np.ones((1, len(joined))))[0]
    n_pairs = len(joined)
    few = 2 ** (n_pairs - 1) <= n_flips
    total = 2 ** (n_pairs - 1) if few else n_flips
    exceeding = np.zeros(len(observed))
    for start in range(0, total, FLIPS_AT_ONCE):
        size = min(FLIPS_AT_ONCE, total - start)
        if few:
            turned = np.arange(start, start + size)[:, None] >> np.arange(n_pairs) & 1
            signs = np.where(turned, -1.0, 1.0)
        else:
            signs = random_seed.choice((-1.0, 1.0), size=(size, n_pairs))
        exceeding += (statistics(signs) >= observed * (1 - 1e-9)).sum(axis=0)
    # The observed signs count once; among all signs they are already there.
    own = 0 if few else 1
    return dict(zip(groups, ((own + exceeding) / (own + total)).tolist(), strict=True))


def data_features(
    first: np.ndarray, second: np.ndarray, parameters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of data sets that reveal a wrong likelihood, for `swap_p_values`.

    The summaries are regressed on the parameters up to second order. The residuals reveal a shift,
    their squares a wrong spread, and their products with the parameters errors that vary with the
    parameters.

    Parameters
    ----------
    first, second : ndarray, shape (pairs, summaries)
        Summaries of two data sets for the same parameters.
    parameters : ndarray, shape (pairs, components)

    Returns
    -------
    first, second : ndarray, shape (pairs, features)
    """
    theta = clipped_scores(parameters)
    n = len(first)
    predictors = np.concatenate([np.ones((n, 1)), theta, theta**2 - 1], axis=1)
    if theta.shape[1] <= 10:
        i, j = np.triu_indices(theta.shape[1], 1)
        predictors = np.concatenate([predictors, theta[:, i] * theta[:, j]], axis=1)
    both = np.concatenate([first, second])
    explained = np.linalg.lstsq(predictors, (first + second) / 2, rcond=None)[0]
    rest = clipped_scores(both - np.tile(predictors @ explained, (2, 1)))
    axes = np.linalg.svd(rest, full_matrices=False)[2][:N_COMPONENTS]
    components = clipped_scores(rest @ axes.T)
    products = components[:, :, None] * np.tile(theta, (2, 1))[:, None, :]
    features = [rest, rest**2, components, components**2, products.reshape(2 * n, -1)]
    joined = np.concatenate(features, axis=1)
    return joined[:n], joined[n:]


def clipped_scores(values: np.ndarray) -> np.ndarray:
    """Columns of mean zero and sd one, cut off at ±`CLIP`."""
    return np.clip(standardized(values), -CLIP, CLIP)
