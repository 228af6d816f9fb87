"""Columns of a tensor by position."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index


def columns(positions: Sequence[int]) -> slice | list[int]:
    """Positions as an index, a slice if they are regular.

    A slice is a view; a list would have to travel to the device first, which a step that is
    captured as a CUDA graph must not do.

    Examples
    --------
    >>> columns([2, 4, 6]), columns([0, 1, 5])
    (slice(2, 7, 2), [0, 1, 5])
    """
    if not positions:
        return slice(0, 0)
    first, step = positions[0], positions[1] - positions[0] if len(positions) > 1 else 1
    stop = first + step * len(positions)
    if step < 1 or list(positions) != list(range(first, stop, step)):
        return list(positions)
    return slice(first, positions[-1] + 1, step)


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
