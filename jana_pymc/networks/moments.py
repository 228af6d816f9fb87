"""Location and scale by which inputs and outputs of networks are standardised."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

RELATIVE = 1e-6
"""A standard deviation below this share of the mean is rounding: the values are constant."""


@torch.no_grad()
def set_moments(
    mean: Float[Tensor, " d"], sd: Float[Tensor, " d"], values: Float[Tensor, "rows d"]
) -> None:
    """Fill two buffers with the columns' means and standard deviations, 1 for constant ones."""
    centre, deviation = values.mean(0), values.std(0)
    mean.copy_(centre)
    sd.copy_(scale_or_one(deviation, centre))


def scale_or_one(
    deviation: Float[Tensor, "*batch"], centre: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Standard deviations to divide by: 1 where values are constant but for rounding."""
    return torch.where(deviation > RELATIVE * centre.abs(), deviation, 1.0)
