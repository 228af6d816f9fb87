"""What cross-validation returns, and how far it can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jana_pymc.importance import pareto_k_threshold
from jana_pymc.plots.cross_validation import plot_cross_validation
from jana_pymc.warning import warn
from jana_pymc.workflow.elpd_data import to_elpd_data
from jana_pymc.workflow.log_averages import standard_error_of
from jana_pymc.workflow.result import Result

Correction = Literal["psis", "none"]

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


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
        k̂ of the weights that correct the draws of the unit's fold; NaN without correction.
        Infinite where the fold alone sets a bound of a parameter, beyond which no draw can lie.
    refitted : ndarray of bool, shape (sets, units)
        Whether the unit's fold has draws of its own: because its k̂ was high, because it alone
        bounds a parameter (as the smallest reaction time bounds t0), or because there is no
        correction.
    draws : ndarray of int, shape (sets,)
        Number of draws behind each term of a data set. If the draws of all folds are pooled, it is
        their total, which is the requested number rounded up to a multiple of the number of folds.
        With correction, a refitted fold has 2,000 draws of its own, and a refitted prefix of a
        sequence as many as the others.
    """

    kind: str
    elpd_i: np.ndarray
    lpd_i: np.ndarray
    pareto_k: np.ndarray
    refitted: np.ndarray
    draws: np.ndarray

    def __len__(self) -> int:
        return len(self.elpd_i)

    @property
    def elpd(self) -> np.ndarray:
        """Expected log predictive density, summed over units, shape (sets,)."""
        return np.nansum(self.elpd_i, axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `elpd` from the variation between units, shape (sets,)."""
        return standard_error_of(self.elpd_i)

    @property
    def p(self) -> np.ndarray:
        """Effective number of parameters: in-sample less cross-validated, shape (sets,)."""
        return np.nansum(self.lpd_i, axis=1) - self.elpd

    @property
    def threshold(self) -> np.ndarray:
        """Largest k̂ at which `draws` suffice, shape (sets,)."""
        return np.array([pareto_k_threshold(int(draws)) for draws in self.draws])

    @property
    def high_k(self) -> np.ndarray:
        """Whether the k̂ of a unit is above the threshold of its data set, shape (sets, units)."""
        return self.pareto_k > self.threshold[:, None]

    def summary(self) -> pd.DataFrame:
        """One row per data set."""
        return pd.DataFrame(
            {
                "elpd": self.elpd,
                "standard_error": self.standard_error,
                "p": self.p,
                "units": (~np.isnan(self.elpd_i)).sum(axis=1),
                "refitted": self.refitted.sum(axis=1),
                "high_k": self.high_k.sum(axis=1),
            }
        ).rename_axis("dataset")

    def to_dataset(self) -> xr.Dataset:
        """Terms of each unit, over the dimensions "dataset" and "unit"."""
        both = ("dataset", "unit")
        names = ("elpd_i", "lpd_i", "pareto_k", "refitted")
        return xr.Dataset({name: (both, getattr(self, name)) for name in names})

    def to_elpd_data(self, dataset: int = 0) -> Any:
        """Result for one data set in ArviZ's own format, for ``az.compare``.

        Parameters
        ----------
        dataset : int

        Returns
        -------
        ELPDData
            The type that `arviz.loo` of the installed ArviZ returns.
        """
        present = ~np.isnan(self.elpd_i[dataset])
        return to_elpd_data(
            self.elpd_i[dataset, present],
            self.lpd_i[dataset, present],
            np.nan_to_num(self.pareto_k[dataset, present], posinf=np.inf),
            n_samples=int(self.draws[dataset]),
        )

    def plot(self) -> Figure:
        """Plot the terms and their k̂ (`jana_pymc.plots.plot_cross_validation`)."""
        return plot_cross_validation(self)


def padded(results: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Arrays of all data sets one below the other, each ending in NaN where it is short."""
    width = max(len(terms) for terms, *_ in results)
    arrays = [np.full((len(results), width), np.nan) for _ in results[0]]
    for i, row in enumerate(results):
        for target, values in zip(arrays, row, strict=True):
            target[i, : len(values)] = values
    return arrays


def warn_of_high_k(result: CrossValidation) -> None:
    """Say how many units have a k̂ above the threshold of their data set."""
    sets = result.high_k.any(axis=1)
    if sets.any():
        warn(
            f"k̂ is above {result.threshold[sets].min():.2f} for {int(result.high_k.sum())} units "
            f"of {int(sets.sum())} of {len(result)} data sets: their terms are unreliable. Take "
            "more draws, or run NUTS without them.",
        )
