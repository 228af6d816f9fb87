"""Fixed permutation-invariant statistics: quantiles, moments and frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

SMALLEST = 1e-9
"""Guards the logarithm of what was positive in all simulations."""


class OrderStatistics(nn.Module):
    """Quantiles and moments of continuous components within each category of the discrete ones.

    The ordered values of a set hold all its information, so that a network that is given them
    starts where a deep set arrives after long training. Nothing is learned here: the cost is one
    sort.

    Parameters
    ----------
    n_continuous : int
        Number of continuous components.
    n_cells : int
        Number of joint categories; 1 if there are no discrete components.
    n_quantiles : int
        Quantiles of each component in each category, from the minimum to the maximum.
    """

    levels: Tensor

    def __init__(self, n_continuous: int, n_cells: int, n_quantiles: int):
        super().__init__()
        self.n_cells = n_cells
        self.size = n_cells * (n_continuous * (n_quantiles + 2) + 2)
        self.register_buffer("levels", torch.linspace(0.0, 1.0, n_quantiles), persistent=False)

    def forward(
        self,
        values: Float[Tensor, "sets obs j"],
        cell: Int[Tensor, "sets obs"],
        mask: Bool[Tensor, "sets obs"],
    ) -> Float[Tensor, "sets s"]:
        """Compute the statistics of each set; zeros where a category is empty.

        Parameters
        ----------
        values : Tensor, shape (sets, obs, continuous)
        cell : Tensor of int, shape (sets, obs)
            Joint category of each observation.
        mask : Tensor of bool, shape (sets, obs)
            False for padding.
        """
        n_obs = mask.sum(1, keepdim=True)
        statistics: list[Tensor] = []
        for g in range(self.n_cells):
            inside = mask & (cell == g)
            count = inside.sum(1, keepdim=True)
            log_odds = torch.log((count + 0.5) / (n_obs - count + 0.5))
            statistics += [count / n_obs, log_odds.to(values.dtype)]
            for j in range(values.shape[-1]):
                statistics += self._of_component(values[..., j], inside, count)
        return torch.cat(statistics, -1)

    def _of_component(self, values: Tensor, inside: Tensor, count: Tensor) -> list[Tensor]:
        empty = count == 0
        ordered = torch.where(inside, values, torch.inf).sort(1).values
        position = self.levels * (count - 1).clamp_min(0)
        below = position.floor()
        share = position - below
        lower = ordered.gather(1, below.long())
        upper = ordered.gather(1, position.ceil().long())
        quantiles = torch.where(empty, 0.0, lower + share * (upper - lower))
        at_least_one = count.clamp_min(1)
        mean = torch.where(inside, values, 0.0).sum(1, keepdim=True) / at_least_one
        square = torch.where(inside, (values - mean) ** 2, 0.0).sum(1, keepdim=True)
        return [quantiles, mean, (square / at_least_one).sqrt()]


def values_and_cells(
    columns: Sequence[Float[Tensor, "sets obs"]],
    categories: Sequence[int | None],
    positive: Sequence[bool],
) -> tuple[Float[Tensor, "sets obs j"], Int[Tensor, "sets obs"]]:
    """What order statistics are taken of: continuous values, and each observation's joint category.

    Parameters
    ----------
    columns : sequence of Tensor, shape (sets, obs)
        The components of the observations.
    categories : sequence of int or None
        Number of categories of each, first component first in the joint one; None if it is
        continuous.
    positive : sequence of bool
        For each continuous component, whether its logarithm is taken.
    """
    values = [columns[0].new_zeros((*columns[0].shape, 0))]
    cell = torch.zeros(columns[0].shape, dtype=torch.long, device=columns[0].device)
    for x, n, is_positive in zip(columns, categories, positive, strict=True):
        if n is None:
            values.append((guarded_log(x) if is_positive else x)[..., None])
        else:
            cell = cell * n + x.nan_to_num(0.0).long()
    return torch.cat(values, -1), cell


def guarded_log(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Logarithm of positive values, finite for all."""
    return x.clamp_min(SMALLEST).log()
