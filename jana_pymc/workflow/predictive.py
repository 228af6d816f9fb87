"""Prediction of new data, and cross-validation whose folds all have an amortized posterior."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import logsumexp

from jana_pymc.importance import pareto_k_threshold, pareto_smooth
from jana_pymc.plots.cross_validation import plot_cross_validation
from jana_pymc.refinement import log_importance_ratios, log_likelihood_of, propose
from jana_pymc.simulation import DataBatch
from jana_pymc.workflow.elpd_data import to_elpd_data
from jana_pymc.workflow.result import Result

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

Correction = Literal["psis", "none"]

FOLD_DRAWS = 1000
"""Draws of one fold where they are not corrected."""

REFIT_DRAWS = 2000
"""Draws of one fold that is refitted."""

POOLED_DRAWS = 4000
"""Draws of all folds of a data set together, where each serves every fold."""

DRAWS_AT_ONCE = 100_000
"""Draws, or observations of folds, that the posterior network sees at once."""

WEIGHTS_AT_ONCE = 2_000_000
"""Weights that are smoothed at once, which bounds the memory."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Result):
    """Log predictive densities of new data.

    Attributes
    ----------
    elpd_i : ndarray, shape (sets, obs)
        Of each new observation; NaN where a set has fewer.
    pareto_k : ndarray, shape (sets,)
        Of the weights that correct the posterior draws; NaN if they were not corrected.
    """

    elpd_i: np.ndarray
    pareto_k: np.ndarray

    @property
    def elpd(self) -> np.ndarray:
        """Sum over observations, shape (sets,)."""
        return np.nansum(self.elpd_i, axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """Of `elpd`, for the variation from observation to observation, shape (sets,)."""
        return _standard_error(self.elpd_i)


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Result):
    """Cross-validated log predictive densities, in nats.

    Attributes
    ----------
    kind : str
        "loo", "loo_approximate_posterior", "kfold" or "group".
    elpd_i : ndarray, shape (sets, units)
        Log predictive density of each unit given the data without its fold; NaN where a data set
        has fewer units. A unit is an observation, or a group of them for kind "group".
    lpd_i : ndarray, shape (sets, units)
        The same given all data: in-sample, hence too high.
    pareto_k : ndarray, shape (sets, units)
        Of the weights that correct the draws of the unit's fold; NaN if not corrected.
    refitted : ndarray of bool, shape (sets, units)
        Whether the unit's fold was given draws of its own, because k̂ asked for it.
    draws : int
        On which each term rests.
    """

    kind: str
    elpd_i: np.ndarray
    lpd_i: np.ndarray
    pareto_k: np.ndarray
    refitted: np.ndarray
    draws: int

    def __len__(self) -> int:
        return len(self.elpd_i)

    @property
    def elpd(self) -> np.ndarray:
        """Expected log predictive density, summed over units, shape (sets,)."""
        return np.nansum(self.elpd_i, axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """Of `elpd`, for the variation from unit to unit, shape (sets,)."""
        return _standard_error(self.elpd_i)

    @property
    def p(self) -> np.ndarray:
        """Effective number of parameters: in-sample less cross-validated, shape (sets,)."""
        return np.nansum(self.lpd_i, axis=1) - self.elpd

    @property
    def threshold(self) -> float:
        """Largest k̂ at which so many draws suffice."""
        return pareto_k_threshold(self.draws)

    def summary(self) -> pd.DataFrame:
        """One row a data set."""
        return pd.DataFrame(
            {
                "elpd": self.elpd,
                "standard_error": self.standard_error,
                "p": self.p,
                "units": (~np.isnan(self.elpd_i)).sum(axis=1),
                "refitted": self.refitted.sum(axis=1),
                "high_k": (self.pareto_k > self.threshold).sum(axis=1),
            }
        ).rename_axis("dataset")

    def to_dataset(self) -> xr.Dataset:
        """Terms of each unit, over the dimensions "dataset" and "unit"."""
        both = ("dataset", "unit")
        names = ("elpd_i", "lpd_i", "pareto_k", "refitted")
        return xr.Dataset({name: (both, getattr(self, name)) for name in names})

    def to_elpd_data(self, dataset: int = 0) -> Any:
        """One data set's result as ArviZ's own, for ``az.compare``.

        Parameters
        ----------
        dataset : int

        Returns
        -------
        ELPDData
            Of the installed ArviZ, as `arviz.loo` returns it.
        """
        present = ~np.isnan(self.elpd_i[dataset])
        return to_elpd_data(
            self.elpd_i[dataset, present],
            self.lpd_i[dataset, present],
            np.nan_to_num(self.pareto_k[dataset, present], posinf=np.inf),
            n_samples=self.draws,
        )

    def plot(self) -> Figure:
        """Plot the terms and their k̂ (`jana_pymc.plots.plot_cross_validation`)."""
        return plot_cross_validation(self)


def elpd(
    approximator: JointApproximator,
    data: Any,
    new_data: Any,
    *,
    correction: Correction = "psis",
    draws: int = 4000,
    random_seed: int | np.random.Generator | None = None,
) -> Prediction:
    r"""Log predictive density of new observations given data (Eq. 12 of [1]_).

    .. math:: \log p(x_{new} \mid x) \approx \log \frac1S \sum_s l(x_{new} \mid \theta_s), \quad
        \theta_s \sim q(\theta \mid x)

    Parameters
    ----------
    approximator : JointApproximator
    data, new_data : mapping, DataFrame, Dataset, or sequence of these
        Equally many data sets.
    correction : {"psis", "none"}
        Whether draws from q are weighted by likelihood × prior / q.
    draws : int
    random_seed : int or Generator, optional

    Returns
    -------
    Prediction

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 12.
    """
    _check_correction(correction)
    rng = np.random.default_rng(random_seed)
    batch = approximator.schema.batch(data)
    new = approximator.schema.batch(new_data, check_n_obs=False)
    if len(batch) != len(new):
        raise ValueError(f"{len(batch)} data sets were given, but new_data has {len(new)}.")
    terms = np.full(new.observables.shape[:2], np.nan)
    pareto_k = np.full(len(batch), np.nan)
    for i in range(len(batch)):
        proposed = propose(approximator, batch[i : i + 1], draws, random_seed=rng)
        log_weights = np.full(draws, -np.log(draws))
        if correction == "psis":
            log_weights, pareto_k[i] = proposed.weights.log_weights[0], proposed.weights.pareto_k[0]
        parameters = approximator.prior.constrain(proposed.unconstrained[0])
        pointwise = log_likelihood_of(approximator, new, i, parameters)
        terms[i, : pointwise.shape[1]] = _weighted(log_weights[:, None], pointwise, axis=0)
    return Prediction(terms, pareto_k)


def loo(
    approximator: JointApproximator,
    data: Any,
    *,
    correction: Correction = "psis",
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """Leave-one-out cross-validation, every fold with an amortized posterior of its own.

    All folds of a data set pass through the posterior network as one batch. With
    ``correction="psis"`` their draws are pooled, and each fold weights the whole pool by likelihood
    of its data × prior / density of the fold the draw came from: the result is that of the
    posterior which likelihood network and prior imply. With ``correction="none"`` it is the
    posterior network's own (Eq. 12), its error included.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    correction : {"psis", "none"}
    draws : int, optional
        With correction, of all folds of a data set together (4,000 by default; at least one a
        fold); without it, of each fold (1,000).
    random_seed : int or Generator, optional

    Returns
    -------
    CrossValidation

    Warns
    -----
    UserWarning
        If k̂ remains high after a refit, or uncorrected folds are smaller than what the posterior
        network was trained on.
    """
    batch = approximator.schema.batch(data)
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
    """K-fold cross-validation over random folds of equal size; otherwise as `loo`."""
    rng = np.random.default_rng(random_seed)
    batch = approximator.schema.batch(data)
    if k < 2 or k > int(batch.n_obs.min()):
        raise ValueError(
            f"k={k}: expected at least 2 folds, and no more than the {int(batch.n_obs.min())} "
            "observations of the smallest data set."
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
        Label of each observation; one array a data set if there are many.
    correction, draws, random_seed
        As for `loo`.

    Returns
    -------
    CrossValidation
        Units in the order of the sorted labels.
    """
    batch = approximator.schema.batch(data)
    many = isinstance(data, (list, tuple, DataBatch)) or len(batch) > 1
    labels = [np.asarray(each) for each in (groups if many else [groups])]
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
    random_seed: int | np.random.Generator | None = None,
) -> CrossValidation:
    """PSIS leave-one-out from draws given all data, corrected for their being amortized [1]_.

    Cheaper than `loo`: one posterior a data set. Folds whose k̂ is high are refitted: their own
    amortized posterior takes over.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    draws : int
    refit : bool
    random_seed : int or Generator, optional

    Returns
    -------
    CrossValidation

    References
    ----------
    .. [1] Magnusson, M., Andersen, M. R., Jonasson, J., & Vehtari, A. (2019). Bayesian
       leave-one-out cross-validation for large data. ICML.
    """
    batch = approximator.schema.batch(data)
    folds = [np.arange(n) for n in batch.n_obs]
    kind = "loo_approximate_posterior"
    return _cross_validate(
        approximator, batch, folds, kind, "psis", draws, random_seed, refit=refit
    )


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
) -> CrossValidation:
    _check_correction(correction)
    approximator.likelihood.check_reachable(batch.observables)
    _check_folds(approximator, batch, folds, correction)
    rng = np.random.default_rng(random_seed)
    if draws is None:
        draws = POOLED_DRAWS if correction == "psis" else FOLD_DRAWS
    results = []
    for i, fold in enumerate(folds):
        one = _OneDataSet(approximator, batch[i : i + 1], fold, joint=kind == "group")
        if correction == "none":
            results.append(one.uncorrected(draws, rng))
        else:
            pooled = kind != "loo_approximate_posterior"
            results.append(one.corrected(draws, rng, pooled=pooled, refit=refit))
    width = max(len(terms) for terms, *_ in results)
    padded = [np.full((len(batch), width), np.nan) for _ in range(4)]
    for i, row in enumerate(results):
        for target, values in zip(padded, row, strict=True):
            target[i, : len(values)] = values
    elpd_i, lpd_i, pareto_k, refitted = padded
    result = CrossValidation(kind, elpd_i, lpd_i, pareto_k, refitted == 1.0, draws)
    _warn(result)
    return result


class _OneDataSet:
    """Cross-validation of one data set: fold `fold[j]` leaves out, among others, observation j."""

    def __init__(
        self, approximator: JointApproximator, batch: DataBatch, fold: np.ndarray, *, joint: bool
    ):
        self.approximator, self.batch, self.fold, self.joint = approximator, batch, fold, joint
        self.n_folds = int(fold.max()) + 1
        self.order = np.argsort(fold, kind="stable")
        self.starts = np.searchsorted(fold[self.order], np.arange(self.n_folds))

    def uncorrected(
        self, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by each fold's amortized posterior as it is: terms, in-sample, k̂ and refits."""
        terms = np.empty(len(self.fold))
        group_terms = np.empty(self.n_folds)
        size = max(1, DRAWS_AT_ONCE // draws)
        for start in range(0, self.n_folds, size):
            folds = np.arange(start, min(start + size, self.n_folds))
            unconstrained, _ = self._draw(folds, draws, rng)
            for k, drawn in zip(folds, unconstrained, strict=True):
                left_out = np.flatnonzero(self.fold == k)
                pointwise = self._pointwise(drawn, left_out)
                terms[left_out] = _mean(pointwise, axis=0)
                group_terms[k] = _mean(_finite(pointwise).sum(1), axis=0)
        everything, _ = self.approximator.posterior.sample_unconstrained(self.batch, draws, rng)
        pointwise = self._pointwise(everything[0])
        in_sample = _mean(self._by_fold(pointwise) if self.joint else pointwise, axis=0)
        values = group_terms if self.joint else terms
        return values, in_sample, np.full(len(values), np.nan), np.zeros(len(values))

    def corrected(
        self, draws: int, rng: np.random.Generator, *, pooled: bool, refit: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by draws weighted with likelihood × prior / q; the same four arrays."""
        if pooled:
            each = -(-draws // self.n_folds)
            unconstrained, log_q = self._draw(np.arange(self.n_folds), each, rng)
            unconstrained = unconstrained.reshape(-1, unconstrained.shape[-1])
        else:
            unconstrained, log_q = (
                values[0]
                for values in self.approximator.posterior.sample_unconstrained(
                    self.batch, draws, rng
                )
            )
        log_joint, pointwise = self._densities(unconstrained, log_q.reshape(-1))
        by_fold = self._by_fold(pointwise)
        values, pareto_k = self._weigh(log_joint, by_fold, pointwise)
        full = pareto_smooth(log_joint).log_weights[:, None]
        in_sample = _weighted(full, by_fold if self.joint else pointwise, axis=0)
        refitted = np.zeros(self.n_folds)
        if refit:
            for k in np.flatnonzero(pareto_k > pareto_k_threshold(len(log_joint))):
                new_values, new_k = self._refit(int(k), rng)
                if new_k < pareto_k[k]:
                    pareto_k[k], refitted[k] = new_k, 1.0
                    values[k if self.joint else self.fold == k] = new_values
        if self.joint:
            return values, in_sample, pareto_k, refitted
        return values, in_sample, pareto_k[self.fold], refitted[self.fold]

    def _by_fold(self, pointwise: np.ndarray) -> np.ndarray:
        """Joint log density of the observations that each fold leaves out, (draws, folds)."""
        return np.add.reduceat(_finite(pointwise)[:, self.order], self.starts, axis=1)

    def _weigh(
        self, log_joint: np.ndarray, by_fold: np.ndarray, pointwise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Terms of all units from one pool of draws, and k̂ of all folds."""
        values = np.empty(self.n_folds if self.joint else len(self.fold))
        pareto_k = np.empty(self.n_folds)
        size = max(1, WEIGHTS_AT_ONCE // len(log_joint))
        for start in range(0, self.n_folds, size):
            block = slice(start, start + size)
            weights = pareto_smooth((log_joint[:, None] - by_fold[:, block]).T)
            pareto_k[block] = weights.pareto_k
            if self.joint:
                values[block] = _weighted(weights.log_weights, by_fold[:, block].T, axis=1)
                continue
            units = np.flatnonzero((self.fold >= start) & (self.fold < start + size))
            log_weights = weights.log_weights[self.fold[units] - start]
            values[units] = _weighted(log_weights, pointwise[:, units].T, axis=1)
        return values, pareto_k

    def _refit(self, k: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Terms of one fold from its own amortized posterior, weighted; and k̂."""
        unconstrained, log_q = self._draw(np.array([k]), REFIT_DRAWS, rng)
        log_joint, pointwise = self._densities(unconstrained[0], log_q[0])
        left_out = _finite(pointwise[:, self.fold == k])
        weights = pareto_smooth(log_joint - left_out.sum(1))
        density = left_out.sum(1, keepdims=True) if self.joint else left_out
        values = _weighted(weights.log_weights[:, None], density, axis=0)
        return (values[0] if self.joint else values), float(weights.pareto_k)

    def _draw(
        self, folds: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Amortized draws of some folds, all in one batch."""
        parts = []
        size = max(1, DRAWS_AT_ONCE // max(draws, len(self.fold)))
        for start in range(0, len(folds), size):
            batch = self._without(folds[start : start + size])
            parts.append(self.approximator.posterior.sample_unconstrained(batch, draws, rng))
        unconstrained, log_q = zip(*parts, strict=True)
        return np.concatenate(unconstrained), np.concatenate(log_q)

    def _without(self, folds: np.ndarray) -> DataBatch:
        """Data sets that lack one fold each, padded at the end."""
        keep = self.fold != folds[:, None]
        order = np.argsort(~keep, axis=1, kind="stable")
        n_obs = keep.sum(axis=1)
        padding = np.arange(len(self.fold)) >= n_obs[:, None]

        def rows(values: np.ndarray) -> np.ndarray:
            taken = values[0, : len(self.fold)][order]
            taken[padding] = np.nan
            return taken[:, : int(n_obs.max())]

        return DataBatch(rows(self.batch.observables), rows(self.batch.conditions), n_obs)

    def _pointwise(self, unconstrained: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Log density of each observation, or of some, under each draw."""
        parameters = self.approximator.prior.constrain(unconstrained)
        if rows is None:
            return log_likelihood_of(self.approximator, self.batch, 0, parameters)
        known = self.batch.conditions[0, rows] if self.batch.conditions.shape[-1] else None
        observed = self.batch.observables[0, rows]
        return self.approximator.likelihood.log_prob(observed, parameters, conditions=known)

    def _densities(
        self, unconstrained: np.ndarray, log_q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log weight of each draw given all data, and its log density of each observation."""
        pointwise = self._pointwise(unconstrained)
        log_prior = self.approximator.prior.log_prob(unconstrained)
        return log_importance_ratios(pointwise.sum(1), log_prior, log_q), pointwise


def _finite(log_density: np.ndarray) -> np.ndarray:
    """Densities of zero as ones so small that sums and differences stay defined."""
    return np.maximum(np.nan_to_num(log_density, nan=-1e10), -1e10)


def _weighted(log_weights: np.ndarray, log_density: np.ndarray, axis: int) -> np.ndarray:
    return logsumexp(log_weights + _finite(log_density), axis=axis)


def _mean(log_density: np.ndarray, axis: int) -> np.ndarray:
    return logsumexp(_finite(log_density), axis=axis) - np.log(log_density.shape[axis])


def _standard_error(terms: np.ndarray) -> np.ndarray:
    n = (~np.isnan(terms)).sum(axis=1)
    return np.sqrt(n * np.nanvar(terms, axis=1))


def _check_correction(correction: str) -> None:
    if correction not in ("psis", "none"):
        raise ValueError(f"correction={correction!r} is unknown; choose 'psis' or 'none'.")


def _check_folds(
    approximator: JointApproximator,
    batch: DataBatch,
    folds: Sequence[np.ndarray],
    correction: Correction,
) -> None:
    if approximator.schema.structure != "exchangeable":
        raise ValueError(
            f"the data are declared {approximator.schema.structure!r}: single observations can be "
            "left out of exchangeable data only."
        )
    left = np.array([len(fold) - np.bincount(fold).max() for fold in folds])
    if (left < 1).any():
        raise ValueError(
            f"data set {int(np.flatnonzero(left < 1)[0])} has a fold that leaves out all of its "
            "observations; at least one must remain."
        )
    smallest = approximator.schema.n_obs[0]
    if correction == "none" and (left < smallest).any():
        warnings.warn(
            f"folds of {int((left < smallest).sum())} of {len(batch)} data sets have as few as "
            f"{int(left.min())} observations; the posterior network was trained on {smallest} and "
            'more, and extrapolates there. correction="psis" accounts for it.',
            UserWarning,
            stacklevel=4,
        )


def _warn(result: CrossValidation) -> None:
    bad = result.pareto_k > result.threshold
    if bad.any():
        warnings.warn(
            f"k̂ is above {result.threshold:.2f} for {int(bad.sum())} units of "
            f"{int(bad.any(1).sum())} of {len(result)} data sets: their terms are unreliable. Take "
            "more draws, or run NUTS without them.",
            UserWarning,
            stacklevel=4,
        )
