"""The summary network for exchangeable data: a deep set beside order statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_kind, check_sizes, check_switch
from jana_pymc.networks.conditioners import compress
from jana_pymc.networks.deep_set import DeepSet, DeepSetSettings
from jana_pymc.networks.dense import DenseNetwork
from jana_pymc.networks.moments import set_moments
from jana_pymc.networks.order_statistics import OrderStatistics

MAX_CELLS = 8
"""With more joint categories than this, order statistics are taken over all observations."""


@dataclass(frozen=True)
class SetSummarySettings:
    """Architecture of the summary network.

    Parameters
    ----------
    n_summaries : int
        Size of the learned summary; 0 leaves out both order statistics and deep set, so that the
        summary consists of the means alone.
    n_quantiles : int
        Order statistics of each continuous component, beside the deep set; 0 leaves them out, and
        the deep set's own output is the summary.
    hidden : tuple of int
        Hidden layers of the network that merges order statistics and deep set.
    deep_set : DeepSetSettings
    means : bool
        Append the means of all features, which are sufficient, or nearly so, in linear models.

    Raises
    ------
    TypeError
        If a number or a width is no integer, `deep_set` something else, or `means` no bool.
    ValueError
        If one is too small, or there are neither learned summaries nor means.
    """

    n_summaries: int = 32
    n_quantiles: int = 24
    hidden: Sequence[int] = (256, 256)
    deep_set: DeepSetSettings = field(default_factory=DeepSetSettings)
    means: bool = False

    def __post_init__(self) -> None:
        check_kind("deep_set", self.deep_set, (DeepSetSettings,))
        check_switch("means", self.means)
        if check_count("n_summaries", self.n_summaries, least=0) == 0 and not self.means:
            raise ValueError(
                "n_summaries=0 without means=True: a posterior would see nothing of the data; "
                "expected at least 1, or the means."
            )
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        if check_count("n_quantiles", self.n_quantiles, least=0) == 1:
            raise ValueError("n_quantiles=1: expected 0, or at least 2.")


class SetSummary(nn.Module):
    """Permutation-invariant summary of sets of differing sizes.

    Parameters
    ----------
    n_features, n_continuous, n_cells : int
        Features of one observation for the deep set, continuous components, joint categories.
    settings : SetSummarySettings
    """

    statistic_mean: Tensor
    statistic_sd: Tensor
    mean_mean: Tensor
    mean_sd: Tensor

    def __init__(
        self, n_features: int, n_continuous: int, n_cells: int, settings: SetSummarySettings
    ):
        super().__init__()
        self.deep_set = None
        if settings.n_summaries:
            self.deep_set = DeepSet(n_features, settings.n_summaries, settings.deep_set)
        self.by_cell = n_cells <= MAX_CELLS
        self.statistics = None
        if settings.n_summaries and settings.n_quantiles:
            self.statistics = OrderStatistics(
                n_continuous, n_cells if self.by_cell else 1, settings.n_quantiles
            )
            size = self.statistics.size
            self.merge = DenseNetwork(
                size + settings.n_summaries, settings.n_summaries, hidden=settings.hidden
            )
            self.register_buffer("statistic_mean", torch.zeros(size))
            self.register_buffer("statistic_sd", torch.ones(size))
        self.means = settings.means
        self.n_summaries = settings.n_summaries + n_features * settings.means
        if settings.means:
            self.register_buffer("mean_mean", torch.zeros(n_features))
            self.register_buffer("mean_sd", torch.ones(n_features))

    @torch.no_grad()
    def standardize(
        self,
        features: Float[Tensor, "sets obs f"],
        values: Float[Tensor, "sets obs j"],
        cell: Int[Tensor, "sets obs"],
        mask: Bool[Tensor, "sets obs"],
    ) -> None:
        """Take location and scale of means and order statistics from simulations."""
        if self.means:
            set_moments(self.mean_mean, self.mean_sd, _masked_mean(features, mask))
        if self.statistics is not None:
            statistics = self._order_statistics(values, cell, mask)
            set_moments(self.statistic_mean, self.statistic_sd, statistics)

    def forward(
        self,
        features: Float[Tensor, "sets obs f"],
        values: Float[Tensor, "sets obs j"],
        cell: Int[Tensor, "sets obs"],
        mask: Bool[Tensor, "sets obs"],
    ) -> Float[Tensor, "sets s"]:
        """Summarise each set, counting only observations where the mask is true."""
        if self.deep_set is None:
            return self._means(features, mask)
        summary = self.deep_set(features, mask)
        if self.statistics is not None:
            statistics = self._order_statistics(values, cell, mask)
            standardized = (statistics - self.statistic_mean) / self.statistic_sd
            summary = self.merge(torch.cat([standardized, summary], -1))
        return torch.cat([summary, self._means(features, mask)], -1) if self.means else summary

    def _means(self, features: Tensor, mask: Tensor) -> Tensor:
        return compress((_masked_mean(features, mask) - self.mean_mean) / self.mean_sd)

    def _order_statistics(self, values: Tensor, cell: Tensor, mask: Tensor) -> Tensor:
        assert self.statistics is not None  # narrows the type; callers have checked
        return self.statistics(values, cell if self.by_cell else torch.zeros_like(cell), mask)


def _masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], features, 0.0).sum(1) / mask.sum(1, keepdim=True)
