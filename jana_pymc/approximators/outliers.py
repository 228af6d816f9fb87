"""A cheap check of whether data resemble the simulations that the networks were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jana_pymc.approximators.summary_space import (
    KINDS,
    SummarySpace,
    data_summaries,
    summary_distances,
)
from jana_pymc.approximators.surrogate import surrogate_batch
from jana_pymc.simulation import DataBatch, draw_conditions
from jana_pymc.warning import warn

if TYPE_CHECKING:
    from jana_pymc.approximators.joint import JointApproximator

N_REFERENCE = 1000
"""Surrogate data sets for location and covariance of summaries; as many for their distances."""

FEWEST = 200
"""Smallest number of either; one data set in a hundred lies beyond all of them by chance."""

ENOUGH_ROWS = 400_000
"""Total number of observations above which there are fewer data sets than `N_REFERENCE`."""

MAX_ROWS = 4_000_000
"""Largest total number of observations; longer data sets are not checked."""


@dataclass(frozen=True, eq=False)
class ReferenceDistances:
    """Summary distances of data sets like those that the networks were trained on.

    Attributes
    ----------
    spaces : dict of str to SummarySpace
        One for each of `KINDS`.
    distances : ndarray, shape (sets, kinds)
        Distances of data sets that were not used for the spaces.
    """

    spaces: dict[str, SummarySpace]
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, approximator: JointApproximator) -> ReferenceDistances | None:
        """Compute the distances from the pair's own data sets, without the simulator.

        None if known conditions cannot be drawn, or if data sets are too long to simulate quickly.
        """
        low, high = approximator.schema.n_obs
        n_sets = 2 * max(FEWEST, min(N_REFERENCE, ENOUGH_ROWS // (2 * high)))
        if n_sets * high > MAX_ROWS:
            return None
        rng = np.random.default_rng(0)
        conditions = _conditions(approximator, n_sets, rng)
        if conditions is None:
            return None
        n_obs = rng.integers(low, high + 1, n_sets)
        theta = approximator.prior.draw(n_sets, rng)
        batch = surrogate_batch(approximator, theta, conditions, n_obs, rng)
        half = n_sets // 2
        summaries = data_summaries(approximator, batch)
        spaces = {kind: SummarySpace.of(summaries[kind][:half]) for kind in KINDS}
        others = {kind: summaries[kind][half:] for kind in KINDS}
        return cls(spaces, summary_distances(spaces, others))

    def outside(self, approximator: JointApproximator, batch: DataBatch) -> NDArray[np.bool_]:
        """Which data sets lie farther out than every simulated one, by either kind of summary.

        All false if as many may lie there by chance.
        """
        distances = summary_distances(self.spaces, data_summaries(approximator, batch))
        outside = (distances > self.distances.max(axis=0)).any(axis=1)
        count, n_sets, n_null = int(outside.sum()), len(outside), len(self.distances)
        if count == 0:
            return outside
        # Probability that, of exchangeable distances, the largest `count` all belong to the data.
        ranks = np.arange(count)
        chance = len(KINDS) * np.prod((n_sets - ranks) / (n_sets + n_null - ranks))
        alone = len(KINDS) / (n_null + 1)
        extreme = distances > self._tail_quantile(alone / (len(KINDS) * n_sets))
        return outside if chance < 1.001 * alone or extreme.any() else np.zeros_like(outside)

    def _tail_quantile(self, probability: float) -> NDArray[np.float64]:
        """Distances exceeded with a small probability, by Hill's estimate of the tail."""
        start = np.quantile(self.distances, 0.9, axis=0)
        excess = np.log(np.maximum(self.distances / start, 1.0)).sum(axis=0)
        index = excess / (self.distances > start).sum(axis=0)
        return start * (0.1 / probability) ** index


def outliers(approximator: JointApproximator, batch: DataBatch) -> NDArray[np.bool_]:
    """Which data sets lie farther out than every simulated one, shape (sets,).

    All false where there are no reference distances (`ReferenceDistances.of`).
    """
    reference = approximator.reference_distances
    if reference is None:
        return np.zeros(len(batch), dtype=bool)
    return reference.outside(approximator, batch)


def warn_of_outliers(
    approximator: JointApproximator, outlier: NDArray[np.bool_], model: str | None = None
) -> None:
    """Warn of data sets on which the networks have to extrapolate.

    Importance weights compare posterior and likelihood network with each other: neither k̂ nor a
    standard error shows an error that both share.

    Parameters
    ----------
    approximator : JointApproximator
    outlier : ndarray of bool, shape (sets,)
        As `outliers` finds them.
    model : str, optional
        Name of the pair, if it is one of several.
    """
    reference = approximator.reference_distances
    if reference is None or not outlier.any():
        return
    count, n_sets, n_null = int(outlier.sum()), len(outlier), len(reference.distances)
    first = int(np.argmax(outlier))
    which = "the data lie" if n_sets == 1 else f"{count} of {n_sets} data sets (first: {first}) lie"
    of = "" if model is None else f" of {model!r}"
    warn(
        f"{which} farther from the simulations{of} than any of {n_null} simulated data sets: "
        "the networks extrapolate there, which k̂ and standard errors do not show. See "
        "jana_pymc.detect_misspecification.",
    )


def _conditions(
    approximator: JointApproximator, n_sets: int, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    names, n_obs = list(approximator.schema.conditions), approximator.schema.n_obs[1]
    if not names:
        return np.empty((n_sets, n_obs, 0))
    model = approximator.model
    if model is None or model.design is None:
        return None
    drawn = draw_conditions(model.design, approximator.schema, n_sets, rng)
    return np.concatenate(
        [drawn[name].reshape(n_sets, n_obs, -1) for name in names], -1, dtype=float
    )
