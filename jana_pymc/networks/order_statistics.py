"""Fixed permutation-invariant statistics: quantiles, moments and frequencies."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class OrderStatistics(nn.Module):
    """Quantiles and moments of continuous components within each category of the discrete ones.

    The ordered values of a set hold all it has to say, so that a network that is given them
    starts where a deep set arrives after long training. There is nothing to learn here: the cost
    is one sort.

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
