"""The summary of data of fixed size: the standardised values themselves, or a network of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_positions, check_sizes
from jana_pymc.networks.dense import DenseNetwork


@dataclass(frozen=True)
class FlatSummarySettings:
    """Architecture of the summary of vectors, and of sequences of one length.

    Parameters
    ----------
    n_summaries : int or None
        Size of the learned summary; None, or 0, passes the values on as they are: a few values need
        no summary.
    hidden : tuple of int
        Hidden layers, where there is a network.
    informative : tuple of int, optional
        Features to use, by position; all by default.

    Raises
    ------
    TypeError
        If a size or a position is no integer.
    ValueError
        If one is too small, a position is given twice, or there is none.
    """

    n_summaries: int | None = None
    hidden: Sequence[int] = (128, 128)
    informative: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.n_summaries is not None:
            check_count("n_summaries", self.n_summaries, least=0, other="None")
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        if self.informative is not None:
            positions = check_positions("informative", self.informative, "features")
            if not positions:
                raise ValueError("informative=(): expected one feature or more, or None for all.")
            object.__setattr__(self, "informative", positions)


class FlatSummary(nn.Module):
    """All features of a data set in a row.

    Parameters
    ----------
    n_features : int
        Features of a whole data set.
    settings : FlatSummarySettings

    Raises
    ------
    ValueError
        If the informative features are not among these.
    """

    columns: Tensor

    def __init__(self, n_features: int, settings: FlatSummarySettings):
        super().__init__()
        self.informative = settings.informative
        if self.informative is not None:
            if max(self.informative) >= n_features:
                raise ValueError(
                    f"informative={self.informative}: expected positions among {n_features} "
                    "features."
                )
            n_features = len(self.informative)
            # A buffer, since a list would be copied to a GPU at each use.
            self.register_buffer("columns", torch.tensor(self.informative), persistent=False)
        self.network = None
        if settings.n_summaries:
            self.network = DenseNetwork(n_features, settings.n_summaries, hidden=settings.hidden)
        self.n_summaries = settings.n_summaries or n_features

    def forward(
        self,
        features: Float[Tensor, "sets obs f"],
        values: Float[Tensor, "sets obs j"],
        cell: Int[Tensor, "sets obs"],
        mask: Bool[Tensor, "sets obs"],
    ) -> Float[Tensor, "sets s"]:
        """Summarise data sets that all have the same number of observations."""
        flat = features.flatten(1)
        if self.informative is not None:
            flat = flat.index_select(1, self.columns)
        return flat if self.network is None else self.network(flat)
