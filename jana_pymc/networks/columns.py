"""Columns of a tensor by position."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from jaxtyping import Float
from torch import Tensor


def columns(values: Float[Tensor, "*rows n"], positions: Sequence[int]) -> Float[Tensor, "*rows k"]:
    """Columns at a few positions along the last axis.

    A list as index would have to travel to the device first, which a step that is captured as a
    CUDA graph must not do. Regular positions are a slice, which is a view.

    Examples
    --------
    >>> values = torch.arange(8.0)
    >>> columns(values, [2, 4, 6]), columns(values, [0, 1, 5])
    (tensor([2., 4., 6.]), tensor([0., 1., 5.]))
    """
    first, step = positions[0], positions[1] - positions[0] if len(positions) > 1 else 1
    stop = first + step * len(positions)
    if step < 1 or list(positions) != list(range(first, stop, step)):
        return torch.stack([values[..., i] for i in positions], -1)
    return values[..., first : positions[-1] + 1 : step]


def as_draws(draws: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Positions of the components of each draw, checked."""
    try:
        checked = tuple(tuple(index(i) for i in draw) for draw in draws)
    except TypeError:
        checked = ()
    positions = [i for draw in checked for i in draw]
    of_one_size = len({len(draw) for draw in checked}) == 1
    if (
        not positions
        or not of_one_size
        or len(set(positions)) < len(positions)
        or min(positions) < 0
    ):
        raise ValueError(
            f"draws={draws!r}: expected the positions of the components of each draw, as many for "
            "each and none twice, like ((0, 1), (2, 3))."
        )
    return checked
