"""Columns of a tensor by position."""

from __future__ import annotations

from collections.abc import Sequence


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
    checked = tuple(tuple(int(i) for i in draw) for draw in draws)
    positions = [i for draw in checked for i in draw]
    if not positions or len({len(d) for d in checked}) > 1 or len(set(positions)) < len(positions):
        raise ValueError(
            f"draws={draws}: expected the positions of the components of each draw, as many for "
            "each and none twice."
        )
    return checked
