"""Cross-validation with an amortized posterior for each fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jana_pymc.approximators.outliers import outliers, warn_of_outliers
from jana_pymc.checks import check_choice, check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.simulation.schema import is_many
from jana_pymc.warning import warn
from jana_pymc.workflow.cross_validation_result import (
    CORRECTIONS,
    Correction,
    CrossValidation,
    padded,
    warn_of_high_k,
)
from jana_pymc.workflow.elpd_data import check_exchangeable
from jana_pymc.workflow.folds import Folds

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

FOLD_DRAWS = 1000
"""Draws per fold without correction."""

POOLED_DRAWS = 4000
"""Draws of all folds of a data set together, with correction: each is used for every fold."""


def loo(
    approximator: JointApproximator,
    data: Any,
    *,
    correction: Correction = "psis",
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """Leave-one-out cross-validation with an amortized posterior for each fold.

    All folds of a data set pass through the posterior network as one batch. With
    ``correction="psis"`` their draws are pooled, and each fold weights the whole pool by likelihood
    of its data × prior / density under the fold that the draw came from: the result is that of the
    posterior implied by likelihood network and prior. Folds whose k̂ is high, or whose observations
    alone bound a parameter, get draws of their own. With ``correction="none"`` the result is that
    of the posterior network (Eq. 12), including its error.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    correction : {"psis", "none"}
    draws : int, optional
        With correction, the total over all folds of a data set (4,000 by default; at least one per
        fold); without it, the number per fold (1,000 by default).
    random_seed : int or Generator, optional

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError
        If `approximator` is no pair, `draws` is no integer, or data are not numeric.
    ValueError
        If the data do not fit the declared observables or are not exchangeable, if a data set has
        a single observation, or `correction` is unknown.

    Warns
    -----
    UserWarning
        If data lie farther out than all simulated data, which k̂ does not detect (see
        `log_marginal_likelihood`). If k̂ remains high after a refit, or uncorrected folds are
        smaller than the data sets that the posterior network was trained on.
    """
    batch = _read(approximator, data)
    folds = [np.arange(n) for n in batch.n_obs]
    return _cross_validate(approximator, batch, folds, "loo", correction, draws, random_seed)


def kfold(
    approximator: JointApproximator,
    data: Any,
    k: int = 10,
    *,
    correction: Correction = "psis",
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """K-fold cross-validation over random folds of equal size; otherwise as `loo`.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    k : int
        Number of folds: at least two, at most as many as the smallest data set has observations.
    correction, draws
        As for `loo`.
    random_seed : int or Generator, optional
        Seed of folds and draws.

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError
        If `k` is no integer; or as for `loo`.
    ValueError
        If there are too few or too many folds; or as for `loo`.

    Warns
    -----
    UserWarning
        As for `loo`.
    """
    rng = random_generator(random_seed)
    batch = _read(approximator, data)
    check_count("k", k, least=2)
    if k > batch.n_obs.min():
        raise ValueError(
            f"k={k}: expected no more folds than the {int(batch.n_obs.min())} observations of the "
            "smallest data set."
        )
    folds = [rng.permutation(np.arange(n) % k) for n in batch.n_obs]
    return _cross_validate(approximator, batch, folds, "kfold", correction, draws, rng)


def leave_one_group_out(
    approximator: JointApproximator,
    data: Any,
    groups: Any,
    *,
    correction: Correction = "psis",
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """Cross-validation that leaves out one group of observations at a time; otherwise as `loo`.

    The unit is the group: its observations are predicted jointly.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    groups : array_like, shape (obs,), or sequence of these
        Label of each observation, all numbers or all strings; for many data sets, one array each.
    correction, draws, random_seed
        As for `loo`.

    Returns
    -------
    CrossValidation
        Units in the order of the sorted labels.

    Raises
    ------
    TypeError
        If `groups` are no labels, or labels of several types; or as for `loo`.
    ValueError
        If a label is missing, there is not one per observation, or all observations have the same
        label; or as for `loo`.

    Warns
    -----
    UserWarning
        As for `loo`.
    """
    batch = _read(approximator, data)
    many = isinstance(data, DataBatch) or is_many(data) or len(batch) > 1
    labels = _labels(groups, many)
    if [len(each) for each in labels] != batch.n_obs.tolist():
        raise ValueError(
            f"groups has {[len(each) for each in labels]} labels; expected one for each "
            f"observation: {batch.n_obs.tolist()}."
        )
    folds = [np.unique(each, return_inverse=True)[1] for each in labels]
    return _cross_validate(approximator, batch, folds, "group", correction, draws, random_seed)


def loo_approximate_posterior(
    approximator: JointApproximator,
    data: Any,
    *,
    draws: int = POOLED_DRAWS,
    refit: bool = True,
    moment_match: bool = True,
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """PSIS leave-one-out from amortized draws given all data, corrected as in [1]_.

    Cheaper than `loo`, since there is one posterior per data set. Folds whose k̂ is high, or whose
    observation alone bounds a parameter, are refitted with additional draws from their own
    amortized posterior. Where that does not suffice, moment matching moves the draws to the fold's
    posterior [2]_.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    draws : int
    refit, moment_match : bool
        Whether folds of high k̂ are refitted, and whether moments are matched; the result with the
        lowest k̂ is kept.
    random_seed : int or Generator, optional

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError, ValueError
        As for `loo`.

    Warns
    -----
    UserWarning
        If data lie farther out than all simulated data, or k̂ remains high.

    References
    ----------
    .. [1] Magnusson, M., Andersen, M. R., Jonasson, J., & Vehtari, A. (2019). Bayesian
       leave-one-out cross-validation for large data. ICML.
    .. [2] Paananen, T., Piironen, J., Bürkner, P.-C., & Vehtari, A. (2021). Implicitly adaptive
       importance sampling. Statistics and Computing, 31(2), 16.
    """
    batch = _read(approximator, data)
    folds = [np.arange(n) for n in batch.n_obs]
    kind = "loo_approximate_posterior"
    return _cross_validate(
        approximator,
        batch,
        folds,
        kind,
        "psis",
        draws,
        random_seed,
        refit=refit,
        moment_match=moment_match,
    )


def _read(approximator: JointApproximator, data: Any) -> DataBatch:
    check_approximator(approximator)
    check_exchangeable(approximator.schema)
    return approximator.posterior.batch(data)


def _labels(groups: Any, many: bool) -> list[np.ndarray]:
    """Labels of each data set's observations, checked one by one."""
    flat = isinstance(groups, (str, bytes, Mapping)) or not hasattr(groups, "__len__")
    if flat or getattr(groups, "ndim", 1) == 0:
        each = "; one array for each data set" if many else ""
        raise TypeError(
            f"groups is {type(groups).__name__}; expected labels, one for each observation{each}."
        )
    given = groups if many else [groups]
    return [_one_set_of_labels(each, f" of data set {i}" * many) for i, each in enumerate(given)]


def _one_set_of_labels(given: Any, where: str) -> np.ndarray:
    try:
        single = np.asarray(given, dtype=object)
    except ValueError:  # parts of different shapes
        single = None
    nested = single is None or (
        single.ndim == 1 and any(isinstance(x, (list, tuple, np.ndarray)) for x in single)
    )
    if single is None or nested or single.ndim != 1:
        found = "are nested" if single is None or nested else f"have shape {single.shape}"
        raise ValueError(
            f"groups{where} {found}; expected one label for each observation, of shape (obs,)."
        )
    missing = np.flatnonzero(pd.isna(single))
    if len(missing):
        raise ValueError(
            f"groups{where} have {len(missing)} missing labels, the first at position "
            f"{missing[0]}; give each observation one, or leave it out of the data."
        )
    # Among strings, NumPy would take the number 1 for the label "1".
    types = {_type_of_label(x) for x in single}
    if len(types) > 1:
        raise TypeError(
            f"groups{where} mix labels of the types {', '.join(sorted(types))}; expected one type."
        )
    return np.asarray(given)


def _type_of_label(label: Any) -> str:
    for name, kind in (("number", Number), ("string", str)):
        if isinstance(label, kind):
            return name
    return type(label).__name__


def _cross_validate(
    approximator: JointApproximator,
    batch: DataBatch,
    folds: Sequence[np.ndarray],
    kind: str,
    correction: Correction,
    draws: int | None,
    random_seed: int | np.random.Generator | None,
    *,
    refit: bool = True,
    moment_match: bool = False,
) -> CrossValidation:
    check_choice("correction", correction, CORRECTIONS)
    if draws is None:
        draws = POOLED_DRAWS if correction == "psis" else FOLD_DRAWS
    check_count("draws", draws)
    approximator.likelihood.check_reachable(batch.observables)
    _check_folds(approximator, batch, folds, correction)
    warn_of_outliers(approximator, outliers(approximator, batch))
    rng = random_generator(random_seed)
    pooled = correction == "psis" and kind != "loo_approximate_posterior"
    results, rests_on = [], []
    for i, fold in enumerate(folds):
        one = Folds(approximator, batch[i : i + 1], fold, joint=kind == "group")
        rests_on.append(one.each_of(draws) * one.n_folds if pooled else draws)
        if correction == "none":
            results.append(one.uncorrected(draws, rng))
        else:
            results.append(
                one.corrected(draws, rng, pooled=pooled, refit=refit, moment_match=moment_match)
            )
    elpd_i, lpd_i, pareto_k, refitted = padded(results)
    result = CrossValidation(kind, elpd_i, lpd_i, pareto_k, refitted == 1.0, np.array(rests_on))
    warn_of_high_k(result)
    return result


def _check_folds(
    approximator: JointApproximator,
    batch: DataBatch,
    folds: Sequence[np.ndarray],
    correction: Correction,
) -> None:
    left = np.array([len(fold) - np.bincount(fold).max() for fold in folds])
    if (left < 1).any():
        raise ValueError(
            f"data set {int(np.flatnonzero(left < 1)[0])} has a fold that leaves out all of its "
            "observations; at least one must remain."
        )
    smallest = approximator.schema.n_obs[0]
    if correction == "none" and (left < smallest).any():
        warn(
            f"folds of {int((left < smallest).sum())} of {len(batch)} data sets have as few as "
            f"{int(left.min())} observations; the posterior network was trained on {smallest} and "
            'more, and extrapolates there. correction="psis" accounts for it.',
        )
