"""Location and scale by which inputs and outputs of networks are standardised."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

RELATIVE = 1e-6
"""A standard deviation below this share of the mean is rounding: the values are constant."""

OUTLYING = 20.0
"""A standard deviation of so many times what the middle nine tenths of the values would have, were
they normal, is that of a few extreme ones: scaled by it, all others would be one to a network."""

NORMAL_RANGE = 3.29
"""Standard deviations that nine tenths of normal values extend over."""


@torch.no_grad()
def set_moments(
    mean: Float[Tensor, " d"], sd: Float[Tensor, " d"], values: Float[Tensor, "rows d"]
) -> None:
    """Fill two buffers with the columns' `location_and_scale`."""
    for moment, value in zip((mean, sd), location_and_scale(values), strict=True):
        moment.copy_(value)


def location_and_scale(
    values: Float[Tensor, "rows d"],
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and standard deviation, 1 for constant values; both of the middle where few lie far off.

    The explosive ones among autoregressive series are such: one in a hundred may reach millions.
    """
    centre, deviation = values.mean(0), values.std(0)
    # Of all rows: those of sequences come in an order, to which every stride may keep time.
    low, median, high = (
        values.kthvalue(1 + int(q * len(values)), dim=0).values for q in (0.05, 0.5, 0.95)
    )
    core = (high - low) / NORMAL_RANGE
    outlying = (core > 0.0) & (deviation > OUTLYING * core)
    centre = torch.where(outlying, median, centre)
    return centre, scale_or_one(torch.where(outlying, core, deviation), centre)


def scale_or_one(
    deviation: Float[Tensor, "*batch"], centre: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Standard deviations to divide by: 1 where values are constant but for rounding."""
    return torch.where(deviation > RELATIVE * centre.abs(), deviation, 1.0)
