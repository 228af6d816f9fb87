"""Test whether data could have come from the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jana_pymc.approximators.summary_space import (
    KINDS,
    SummarySpace,
    data_summaries,
    summary_distances,
)
from jana_pymc.checks import check_share
from jana_pymc.declarations import check_approximator, check_simulations
from jana_pymc.plots.misspecification import plot_misspecification
from jana_pymc.simulation import DataBatch, Simulations, random_generator
from jana_pymc.workflow.mmd import kernel_widths, mmd_test
from jana_pymc.workflow.result import Result
from jana_pymc.workflow.sources import simulated

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

MAX_POOLED = 1000
"""Data sets of either sample in the test of all observed data sets together."""


@dataclass(frozen=True, eq=False, repr=False)
class Misspecification(Result):
    """Observed data sets held against simulated ones.

    Attributes
    ----------
    distances : ndarray, shape (sets, kinds)
        Mahalanobis distance of each data set's summaries from those of simulations, for the
        summaries that the posterior network learned and for fixed ones (order statistics).
    null : ndarray, shape (simulations, kinds)
        The same for data sets from the simulator, of the same sizes as the observed ones.
    p_values : ndarray, shape (sets,)
        P-value of each data set, for both kinds together.
    p_values_by_kind : ndarray, shape (sets, kinds)
    level : float
        Level at which a data set is called an outlier.
    n_obs : ndarray of int, shape (sets,)
    mmd, mmd_null : float, ndarray
        Squared maximum mean discrepancy between the learned summaries of all observed data sets
        and of simulations, and its permutation distribution.
    mmd_p_value : float
        P-value of all observed data sets together.
    coordinates, null_coordinates : ndarray, shape (sets, 2), (simulations, 2)
        First principal components of the learned summaries, in standard deviations.
    """

    distances: np.ndarray
    null: np.ndarray
    p_values: np.ndarray
    p_values_by_kind: np.ndarray
    level: float
    n_obs: np.ndarray
    mmd: float
    mmd_null: np.ndarray
    mmd_p_value: float
    coordinates: np.ndarray
    null_coordinates: np.ndarray

    def __len__(self) -> int:
        return len(self.p_values)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the two kinds of summaries, in the order of the columns."""
        return KINDS

    @property
    def outliers(self) -> np.ndarray:
        """Which data sets the simulator does not explain, at `level`, shape (sets,)."""
        return self.p_values <= self.level

    def table(self) -> pd.DataFrame:
        """One row per data set: size, distances, p-values, and whether it is an outlier."""
        columns: dict[str, Any] = {"n_obs": self.n_obs}
        for i, kind in enumerate(KINDS):
            columns[f"distance_{kind}"] = self.distances[:, i]
            columns[f"p_value_{kind}"] = self.p_values_by_kind[:, i]
        table = pd.DataFrame(columns | {"p_value": self.p_values, "outlier": self.outliers})
        return table.rename_axis("dataset")

    def to_dataset(self) -> xr.Dataset:
        """All of it as xarray."""
        return xr.Dataset(
            {
                "distance": (("dataset", "kind"), self.distances),
                "null_distance": (("simulation", "kind"), self.null),
                "p_value": ("dataset", self.p_values),
                "p_value_by_kind": (("dataset", "kind"), self.p_values_by_kind),
                "outlier": ("dataset", self.outliers),
                "n_obs": ("dataset", self.n_obs),
                "null_mmd": ("permutation", self.mmd_null),
                "coordinate": (("dataset", "component"), self.coordinates),
                "null_coordinate": (("simulation", "component"), self.null_coordinates),
            },
            coords={"kind": list(KINDS)},
            attrs={"level": self.level, "mmd": self.mmd, "mmd_p_value": self.mmd_p_value},
        )

    def plot(self) -> Figure:
        """Plot null distributions and summary space (`jana_pymc.plots.plot_misspecification`)."""
        return plot_misspecification(self)


def detect_misspecification(
    approximator: JointApproximator,
    data: Any,
    *,
    simulations: Simulations | None = None,
    n_simulations: int = 2000,
    level: float = 0.05,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Misspecification:
    r"""Test each data set, and all together, against the simulator.

    The statistic of one data set is the Mahalanobis distance of its summaries :math:`s(x)` from
    those of simulations,

    .. math::

        T(x) = \sqrt{(s(x) - \bar s)^\top \hat\Sigma^{-1} (s(x) - \bar s)},

    for learned summaries, which are unusual for data unlike those in training [1]_, and for fixed
    ones, which detect what learned ones may miss. Data that vary less than all simulations are near
    the centre and may pass. The null distribution comes from further simulations of the same sizes
    and under the same known conditions, which are not used for location and covariance. The p-value
    of each kind is a rank, of distances without their trend in the size of the data sets, and so is
    the p-value of the smaller of the two. The level holds for data with parameters from the prior.
    If data sets are longer than all simulations, their first observations are tested.

    All data sets together are compared with simulations by the maximum mean discrepancy of their
    learned summaries, with a permutation test.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, sequence of these, or Simulations
        One data set or many.
    simulations : Simulations, optional
        Well-specified data sets, with parameters from the prior and conditions like those of the
        data; by default `n_simulations` are simulated (`GenerativeModel.simulate_alike`). Without
        a simulator, pass ``approximator.simulate(approximator.prior.draw(2000))``.
    n_simulations : int
        One half gives location and covariance of the summaries, the other the null distribution.
    level : float
        Probability that a data set from the simulator is called an outlier.
    random_seed : int, Generator or None
    progressbar : bool

    Returns
    -------
    Misspecification

    Raises
    ------
    TypeError
        If `approximator` is no pair, `simulations` are none, or data are not numeric.
    ValueError
        If data or simulations do not fit the declaration, or if there are fewer than 200
        simulations, or neither simulations nor a model.

    References
    ----------
    .. [1] Schmitt, M., Bürkner, P.-C., Köthe, U., & Radev, S. T. (2023). Detecting model
       misspecification in amortized Bayesian inference with neural networks. GCPR.
    """
    check_approximator(approximator)
    check_share("level", level)
    rng = random_generator(random_seed)
    if isinstance(data, Simulations):
        check_simulations(approximator, data, name="data")
        observed = data.batch(pad=True)
    else:
        observed = approximator.posterior.batch(data)
    alike, longest = _well_specified(
        approximator, observed, simulations, n_simulations, rng, progressbar
    )
    sizes, n_obs = alike.n_obs, observed.n_obs
    observed = observed.resized(np.minimum(n_obs, longest))
    summaries = data_summaries(approximator, alike)
    ours = data_summaries(approximator, observed)
    half = len(alike) // 2
    spaces = {kind: SummarySpace.of(summaries[kind][:half]) for kind in KINDS}
    every = summary_distances(spaces, summaries)
    distances, null = summary_distances(spaces, ours), every[half:]
    slope = _slope(every[:half], sizes[:half])
    p_by_kind, p_values = _p_values(
        distances * observed.n_obs[:, None] ** -slope, null * sizes[half:, None] ** -slope
    )
    learned = spaces["learned"].whiten(ours["learned"])
    theirs = spaces["learned"].whiten(summaries["learned"][half:])
    some = rng.permutation(len(learned))[:MAX_POOLED]
    compared = learned[some], theirs[:MAX_POOLED]
    widths = kernel_widths(np.concatenate(compared))  # invariant under permutations
    mmd, mmd_null, mmd_p = mmd_test(*compared, widths, random_seed=rng)
    return Misspecification(
        distances=distances,
        null=null,
        p_values=p_values,
        p_values_by_kind=p_by_kind,
        level=level,
        n_obs=np.asarray(n_obs),
        mmd=mmd,
        mmd_null=mmd_null,
        mmd_p_value=mmd_p,
        coordinates=learned[:, :2],
        null_coordinates=theirs[:, :2],
    )


def _well_specified(
    approximator: JointApproximator,
    observed: DataBatch,
    simulations: Simulations | None,
    n_simulations: int,
    rng: np.random.Generator,
    progressbar: bool,
) -> tuple[DataBatch, int]:
    """Data sets of the model, of the sizes and under the known conditions of the observed ones.

    And the largest size that they can have.
    """
    model = approximator.model if approximator.schema.conditions else None
    if simulations is None and model is not None and model.design is not None:
        made = model.simulate_alike(
            observed, n_simulations, random_seed=rng, progressbar=progressbar
        ).batch()
        sizes = made.n_obs
    else:
        if simulations is None:
            simulations = simulated(approximator, n_simulations, rng, progressbar)
        else:
            # Parameters may be given, as draws from the prior are to `JointApproximator.simulate`.
            check_simulations(approximator, simulations)
        made, sizes = simulations.batch(), None
    if len(made) < 200:
        raise ValueError(
            f"{len(made)} simulations cannot hold a null distribution; expected 200 at least, and "
            "better 2000."
        )
    alike = made.resized(rng.choice(observed.n_obs, len(made)) if sizes is None else sizes)
    return alike, made.observables.shape[1]


def _p_values(distances: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks among the null for each statistic, and of the smallest of them."""
    by_kind = np.stack([_tail(d, n) for d, n in zip(distances.T, null.T, strict=True)], -1)
    among = np.stack([_tail(n, n, among=True) for n in null.T], -1)
    return by_kind, _tail(-by_kind.min(axis=1), -among.min(axis=1))


def _slope(distances: np.ndarray, n_obs: np.ndarray) -> np.ndarray:
    """Exponent with which distances change with the size of the data sets, shape (kinds,)."""
    if n_obs.min() == n_obs.max():
        return np.zeros(distances.shape[1])
    size = np.log(n_obs) - np.log(n_obs).mean()
    return size @ np.log(np.maximum(distances, 1e-300)) / (size**2).sum()


def _tail(values: np.ndarray, null: np.ndarray, *, among: bool = False) -> np.ndarray:
    """Share of the null that is at least as large; each counts itself once."""
    larger = len(null) - np.searchsorted(np.sort(null), values, side="left")
    return (larger + (not among)) / (len(null) + 1)
