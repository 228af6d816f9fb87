"""Several models for the same data: Bayes factors, model probabilities, and their calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jana_pymc.checks import check_count, check_share
from jana_pymc.declarations import check_approximator
from jana_pymc.plots.evidence import plot_model_comparison, plot_model_recovery
from jana_pymc.simulation import DataBatch, DataSchema, Observable, random_generator
from jana_pymc.warning import warn
from jana_pymc.workflow.evidence import (
    LogMarginalLikelihood,
    estimated,
    posterior_probabilities,
    warn_of_extrapolation,
)
from jana_pymc.workflow.result import Result

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Result):
    """Marginal likelihoods of the same data sets under several models.

    Attributes
    ----------
    names : tuple of str
    log_marginal_likelihood, standard_error, pareto_k : ndarray, shape (sets, models)
        Estimates by importance sampling, see `LogMarginalLikelihood`.
    outlier : ndarray of bool, shape (sets, models)
        Whether a data set lies farther from a model's simulations than all of these, so that its
        marginal likelihood is an extrapolation.
    prior_probabilities : ndarray, shape (models,)
    """

    names: tuple[str, ...]
    log_marginal_likelihood: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray
    outlier: np.ndarray
    prior_probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.log_marginal_likelihood)

    @property
    def probabilities(self) -> np.ndarray:
        """Posterior model probabilities, shape (sets, models).

        Equal to the prior ones for data that no model explains.
        """
        return posterior_probabilities(self.log_marginal_likelihood, self.prior_probabilities)

    def log_bayes_factor(self, model: str, against: str) -> tuple[np.ndarray, np.ndarray]:
        """Log Bayes factor and its Monte Carlo standard error, each of shape (sets,).

        It is infinite if one of the two cannot explain the data, and NaN if neither can.

        Parameters
        ----------
        model, against : str
            Positive values speak for `model`.

        Raises
        ------
        KeyError
            If there is no such model.
        """
        for name in (model, against):
            if name not in self.names:
                raise KeyError(f"no model {name!r}; there are {', '.join(self.names)}.")
        i, j = self.names.index(model), self.names.index(against)
        value = _difference(self.log_marginal_likelihood[:, i], self.log_marginal_likelihood[:, j])
        return value, np.hypot(self.standard_error[:, i], self.standard_error[:, j])

    def __repr__(self) -> str:
        of = "" if len(self) == 1 else f" of {len(self)} data sets, the first:"
        return f"ModelComparison{of}\n{self.summary()}"

    def summary(self, dataset: int = 0) -> pd.DataFrame:
        """One row per model, best first, for one data set.

        Parameters
        ----------
        dataset : int
            Position of the data set.

        Returns
        -------
        DataFrame
            ``log_marginal_likelihood``, its ``standard_error`` and ``pareto_k``, whether the data
            are an ``outlier`` of the model, ``log_bayes_factor`` against the best model, ``prior``
            and posterior ``probability``.

        Raises
        ------
        IndexError
            If there is no such data set.
        """
        if not -len(self) <= dataset < len(self):
            raise IndexError(f"dataset={dataset}: there are {len(self)}, counted from zero.")
        values = self.log_marginal_likelihood[dataset]
        table = pd.DataFrame(
            {
                "log_marginal_likelihood": values,
                "standard_error": self.standard_error[dataset],
                "pareto_k": self.pareto_k[dataset],
                "outlier": self.outlier[dataset],
                "log_bayes_factor": _difference(values, values.max()),
                "prior": self.prior_probabilities,
                "probability": self.probabilities[dataset],
            },
            index=pd.Index(self.names, name="model"),
        )
        return table.sort_values("log_marginal_likelihood", ascending=False)

    def to_dataset(self) -> xr.Dataset:
        """Everything, over the dimensions "dataset" and "model"."""
        both = ("dataset", "model")
        return xr.Dataset(
            {
                "log_marginal_likelihood": (both, self.log_marginal_likelihood),
                "standard_error": (both, self.standard_error),
                "pareto_k": (both, self.pareto_k),
                "outlier": (both, self.outlier),
                "probability": (both, self.probabilities),
                "prior_probability": ("model", self.prior_probabilities),
            },
            coords={"dataset": np.arange(len(self)), "model": list(self.names)},
        )

    def plot(self) -> Figure:
        """Plot posterior probabilities (`jana_pymc.plots.plot_model_comparison`)."""
        return plot_model_comparison(self)


@dataclass(frozen=True, eq=False, repr=False)
class ModelRecovery(Result):
    """Comparison of models on data sets simulated from each of them.

    Attributes
    ----------
    names : tuple of str
    true_model : ndarray of int, shape (sets,)
        Position of the model that each data set was simulated from.
    comparison : ModelComparison
        The comparison on all these data sets.
    """

    names: tuple[str, ...]
    true_model: np.ndarray
    comparison: ModelComparison

    @property
    def matrix(self) -> np.ndarray:
        """Mean posterior probability of each model (column) for data from each model (row)."""
        probabilities = self.comparison.probabilities
        return np.stack([probabilities[self.true_model == i].mean(0) for i in range(self._n)])

    @property
    def confusion(self) -> np.ndarray:
        """Frequency with which each model (column) is most probable for data from each (row).

        Equally probable models share a data set.
        """
        probabilities = self.comparison.probabilities
        chosen = probabilities == probabilities.max(1, keepdims=True)
        chosen = chosen / chosen.sum(1, keepdims=True)
        return np.stack([chosen[self.true_model == i].mean(0) for i in range(self._n)])

    @property
    def _n(self) -> int:
        return len(self.names)

    def calibration_curve(self, bins: int = 10) -> pd.DataFrame:
        """Frequency with which models were the true one, by their posterior probability.

        Models are weighted by their prior probability, not by their number of simulations.

        Parameters
        ----------
        bins : int

        Returns
        -------
        DataFrame
            One row per nonempty bin: mean ``probability``, ``frequency``, ``weight``.
        """
        truth = np.eye(self._n)[self.true_model]
        share = truth.mean(0)
        weight = (self.comparison.prior_probabilities / share)[self.true_model]
        weight = np.repeat(weight[:, None], self._n, axis=1).ravel()
        probability, correct = self.comparison.probabilities.ravel(), truth.ravel()
        place = np.minimum((probability * bins).astype(int), bins - 1)
        total = np.bincount(place, weight, bins)
        kept = total > 0
        means = [
            np.bincount(place, weight * v, bins)[kept] / total[kept] for v in (probability, correct)
        ]
        return pd.DataFrame(
            {"probability": means[0], "frequency": means[1], "weight": total[kept] / total.sum()}
        )

    @property
    def calibration_error(self) -> float:
        """Expected difference between probability and frequency, over the bins of the curve."""
        curve = self.calibration_curve()
        return float((curve["weight"] * (curve["probability"] - curve["frequency"]).abs()).sum())

    def prior_predictive_p(self, observed: ModelComparison) -> np.ndarray:
        """Prior predictive check of the marginal likelihood itself.

        Parameters
        ----------
        observed : ModelComparison
            Comparison on observed data, with the same models.

        Returns
        -------
        ndarray, shape (sets, models)
            Share of a model's own simulations that are less likely under it than the observed
            data. A value near zero means that such data are surprising under the model, whether or
            not other models are worse. It is meaningful if simulated and observed data sets have
            the same number of observations.
        """
        own = [
            np.sort(self.comparison.log_marginal_likelihood[self.true_model == i, i])
            for i in range(self._n)
        ]
        return np.stack(
            [
                (np.searchsorted(o, observed.log_marginal_likelihood[:, i]) + 1) / (len(o) + 1)
                for i, o in enumerate(own)
            ],
            axis=1,
        )

    def plot(self) -> Figure:
        """Plot matrix and calibration (`jana_pymc.plots.plot_model_recovery`)."""
        return plot_model_recovery(self)


def compare_models(
    approximators: Mapping[str, JointApproximator],
    data: Any,
    *,
    prior_probabilities: Mapping[str, float] | None = None,
    draws: int = 2000,
    random_seed: int | np.random.Generator | None = None,
) -> ModelComparison:
    """Bayes factors and posterior probabilities of models, on one data set or many.

    To compare predictive accuracy instead, pass the results of `loo` to ``az.compare``.

    It is common that data lie far from the simulations of some of the models. The likelihood
    network of such a model extrapolates, and its marginal likelihood may be nats off; neither k̂
    nor the standard error covers this, so that a Bayes factor of a few nats is inconclusive. A
    warning names each such model, and `ModelComparison.outlier` marks the data sets.

    Parameters
    ----------
    approximators : mapping of str to JointApproximator
        Two or more, with the same structure, and with observables and conditions of the same
        names, kinds and shapes. Bounds and numbers of categories of observables may differ: data
        outside those of a model are impossible under it, with a log marginal likelihood of −inf.
    data : mapping, DataFrame, Dataset, or sequence of these
    prior_probabilities : mapping of str to float, optional
        Prior probability of each model; equal by default.
    draws : int
    random_seed : int or Generator, optional

    Returns
    -------
    ModelComparison

    Raises
    ------
    TypeError
        If approximators or prior probabilities are no mapping, or hold values of another type.
    ValueError
        If fewer than two models are given, they are of different data, the data lie outside the
        bounds of all of them, or the prior probabilities do not fit.

    Warns
    -----
    UserWarning
        As `log_marginal_likelihood`, for each model; and if none of the models explains some data
        sets.
    """
    names = _checked_names(approximators)
    prior = _prior_probabilities(names, prior_probabilities)
    rng = random_generator(random_seed)
    widest = _widest([each.schema.observables for each in approximators.values()])
    results = {}
    for name, each in approximators.items():
        schema = replace(each.schema, observables=widest)
        results[name] = estimated(each, each.posterior.batch(data, schema=schema), draws, rng, name)
    for name, result in results.items():
        warn_of_extrapolation(approximators[name], result, name)
    return _compared(results, prior)


def _compared(results: Mapping[str, LogMarginalLikelihood], prior: np.ndarray) -> ModelComparison:
    """Estimates of all models side by side, with a warning of data sets that none explains."""

    def stacked(field: str) -> np.ndarray:
        return np.stack([getattr(result, field) for result in results.values()], axis=1)

    log_marginal_likelihood = stacked("importance")
    impossible = int(np.isneginf(log_marginal_likelihood[:, prior > 0]).all(axis=1).sum())
    if impossible:
        warn(
            f"none of the models explains {impossible} of {len(log_marginal_likelihood)} data "
            "sets: their model probabilities are the prior ones.",
        )
    return ModelComparison(
        names=tuple(results),
        log_marginal_likelihood=log_marginal_likelihood,
        standard_error=stacked("standard_error"),
        pareto_k=stacked("pareto_k"),
        outlier=stacked("outlier"),
        prior_probabilities=prior,
    )


def model_recovery(
    approximators: Mapping[str, JointApproximator],
    *,
    n_simulations: int = 200,
    prior_probabilities: Mapping[str, float] | None = None,
    draws: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> ModelRecovery:
    """Simulate from each model and compare all models on these data.

    Simulations of one model that lie far from those of another are marked
    (`ModelComparison.outlier`), without a warning.

    Parameters
    ----------
    approximators : mapping of str to JointApproximator
        Each with its simulator.
    n_simulations : int
        Data sets of each model.
    prior_probabilities : mapping of str to float, optional
    draws : int
    random_seed : int or Generator, optional
    progressbar : bool

    Returns
    -------
    ModelRecovery

    Raises
    ------
    TypeError
        As for `compare_models`.
    ValueError
        As for `compare_models`; or if a model has no simulator.
    """
    names = _checked_names(approximators)
    check_count("n_simulations", n_simulations)
    without = [name for name in names if approximators[name].model is None]
    if without:
        raise ValueError(
            f"{', '.join(without)} has no simulator: load it with its GenerativeModel rather than "
            "with the prior alone."
        )
    prior = _prior_probabilities(names, prior_probabilities)
    rng = random_generator(random_seed)
    parts, true_model = [], []
    for i, name in enumerate(names):
        model: Any = approximators[name].model
        simulations = model.simulate(n_simulations, random_seed=rng, progressbar=progressbar)
        batch: DataBatch = simulations.batch(pad=True)
        results = {
            name: estimated(each, batch, draws, rng, name) for name, each in approximators.items()
        }
        comparison = _compared(results, prior)
        parts.append(comparison)
        true_model.append(np.full(len(comparison), i))

    def joined(field: str) -> np.ndarray:
        return np.concatenate([getattr(part, field) for part in parts])

    return ModelRecovery(
        names=names,
        true_model=np.concatenate(true_model),
        comparison=ModelComparison(
            names=names,
            log_marginal_likelihood=joined("log_marginal_likelihood"),
            standard_error=joined("standard_error"),
            pareto_k=joined("pareto_k"),
            outlier=joined("outlier"),
            prior_probabilities=prior,
        ),
    )


def _difference(value: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference of logarithms; NaN for two that are −inf."""
    with np.errstate(invalid="ignore"):
        return np.subtract(value, other)


def _checked_names(approximators: Any) -> tuple[str, ...]:
    if not isinstance(approximators, Mapping):
        raise TypeError(
            f"approximators is {type(approximators).__name__}; expected a mapping of the models' "
            "names to their approximators, {'a': ..., 'b': ...}."
        )
    for name, each in approximators.items():
        check_approximator(each, f"approximators[{name!r}]")
    if len(approximators) < 2:
        raise ValueError(f"{len(approximators)} model given; a comparison needs at least two.")
    names = tuple(approximators)
    first = _kinds_of_data(approximators[names[0]].schema)
    for name in names[1:]:
        for what, theirs in _kinds_of_data(approximators[name].schema).items():
            if theirs != first[what]:
                raise ValueError(
                    f"{name} has the {what} {theirs}, but {names[0]} has {first[what]}: marginal "
                    "likelihoods of different data do not compare. Declare the same in both models."
                )
    return names


def _kinds_of_data(schema: DataSchema) -> dict[str, str]:
    """Declarations that must agree for densities to be with respect to the same measure."""
    kinds = {"observables": schema.observables, "conditions": schema.conditions}
    return {
        **{what: _described(declared) for what, declared in kinds.items()},
        "structure": schema.structure,
    }


def _widest(declared: Sequence[Mapping[str, Any]]) -> dict[str, Observable]:
    """Observables with the widest bounds and the most categories of all models."""
    widest = {}
    for name, kind in declared[0].items():
        ends: dict[str, Any] = {}
        for end, extreme in (("lower", min), ("upper", max), ("n_categories", max)):
            if hasattr(kind, end):
                values = [getattr(observables[name], end) for observables in declared]
                constant = not any(value is None or isinstance(value, str) for value in values)
                ends[end] = extreme(values) if constant else None
        widest[name] = replace(kind, **ends)
    return widest


def _described(kinds: Mapping[str, Observable]) -> str:
    """Names, kinds and shapes, without bounds."""
    shown = (
        f"{name}: {type(kind).__name__}" + (f" of shape {kind.shape}" if kind.shape else "")
        for name, kind in kinds.items()
    )
    return ", ".join(shown) or "none"


def _prior_probabilities(names: tuple[str, ...], given: Any) -> np.ndarray:
    if given is None:
        return np.full(len(names), 1 / len(names))
    if not isinstance(given, Mapping):
        raise TypeError(
            f"prior_probabilities is {type(given).__name__}; expected a mapping of each model's "
            f"name to its probability, for {', '.join(names)}."
        )
    if set(given) != set(names):
        raise ValueError(
            f"prior_probabilities names {', '.join(map(str, given))}; expected {', '.join(names)}."
        )
    for name, value in given.items():
        check_share(f"prior_probabilities[{name!r}]", value, zero=True, one=True)
    values = np.array([float(given[name]) for name in names])
    if not np.isclose(values.sum(), 1.0):
        raise ValueError(f"prior_probabilities are {values.tolist()}: they must be ≥ 0, sum 1.")
    return values
