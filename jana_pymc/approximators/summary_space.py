"""Summaries of data sets, learned and fixed, and how far they lie from those of simulations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from jana_pymc.networks.order_statistics import OrderStatistics, values_and_cells
from jana_pymc.networks.set_summary import MAX_CELLS
from jana_pymc.simulation import Categorical, DataBatch, DataSchema

if TYPE_CHECKING:
    from jana_pymc.approximators.joint import JointApproximator

KINDS = ("learned", "fixed")
"""Kinds of summaries: those of the posterior network, and order statistics."""

N_QUANTILES = 16
"""Order statistics of each continuous component in each category."""

FLOOR = 1e-4
"""Smallest variance of a direction, relative to the summaries'; below it is rounding error."""


@dataclass(frozen=True, eq=False)
class SummarySpace:
    """Location and shape of the summaries of simulated data sets.

    Attributes
    ----------
    mean, scale : ndarray, shape (summaries,)
    axes : ndarray, shape (summaries, summaries)
        Principal directions of the standardised summaries, the widest first.
    variance : ndarray, shape (summaries,)
        Along them.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, summaries: NDArray[np.float64]) -> SummarySpace:
        """Estimate the space from summaries of simulations, shape (sets, summaries)."""
        mean, sd = summaries.mean(0), summaries.std(0)
        scale = np.where(sd > 0, sd, 1.0)
        variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(((summaries - mean) / scale).T)))
        return cls(mean, scale, axes[:, ::-1], np.maximum(variance[::-1], FLOOR))

    def whiten(self, summaries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Principal components with unit variance over simulations, the widest first."""
        return (summaries - self.mean) / self.scale @ self.axes / np.sqrt(self.variance)

    def distance(self, summaries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mahalanobis distance of each data set from the simulations, shape (sets,)."""
        return np.sqrt((self.whiten(summaries) ** 2).sum(-1))


def summary_distances(
    spaces: dict[str, SummarySpace], summaries: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Distance of each data set from the simulations by each kind, shape (sets, kinds)."""
    return np.stack([spaces[kind].distance(summaries[kind]) for kind in KINDS], axis=-1)


def data_summaries(
    approximator: JointApproximator, batch: DataBatch
) -> dict[str, NDArray[np.float64]]:
    """Summaries of each of `KINDS`, shape (sets, summaries).

    Learned summaries hold what parameters are inferred from and may ignore everything else; fixed
    ones describe the shape of the data, independently of the network.
    """
    return {
        "learned": np.asarray(approximator.posterior.summarize(batch), dtype=float),
        "fixed": fixed_summaries(batch, approximator.schema, approximator.positive),
    }


def fixed_summaries(
    batch: DataBatch, schema: DataSchema, positive: Sequence[bool]
) -> NDArray[np.float64]:
    """Quantiles, moments and frequencies of each data set.

    Parameters
    ----------
    batch : DataBatch
    schema : DataSchema
    positive : sequence of bool
        Components of which the logarithm is taken.

    Returns
    -------
    ndarray, shape (sets, summaries)
    """
    observables = torch.as_tensor(batch.observables)
    kinds = list(schema.components.values())
    mask = torch.arange(observables.shape[1]) < torch.as_tensor(batch.n_obs)[:, None]
    categories = [k.n_categories if isinstance(k, Categorical) else None for k in kinds]
    n_cells = math.prod(n for n in categories if n is not None)
    if n_cells > MAX_CELLS:  # categories are numbers like others
        n_cells, categories = 1, [None] * len(kinds)
    values, cell = values_and_cells(observables.unbind(-1), categories, positive)
    statistics = OrderStatistics(values.shape[-1], n_cells, N_QUANTILES).double()
    return statistics(values, cell, mask).numpy()
