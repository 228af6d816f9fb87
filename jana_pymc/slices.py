"""Long computations cut into slices that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator


def slices(n: int, rows_each: int, at_once: int) -> Iterator[slice]:
    """Slices of `n` items that have at most `at_once` rows together, or hold a single item.

    Parameters
    ----------
    n : int
        Number of items, such as data sets.
    rows_each : int
        Rows of one item, such as draws or observations.
    at_once : int

    Yields
    ------
    slice
    """
    size = max(1, at_once // rows_each)
    return (slice(start, start + size) for start in range(0, n, size))
