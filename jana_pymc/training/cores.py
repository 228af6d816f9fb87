"""How many threads pay: measured, since it depends on networks, machine and libraries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

REPEATS = 3
WORTH = 1.4
"""Twice the threads must be so many times as fast: cores that little is gained by are left alone,
and noise rarely changes the choice."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fastest_threads(prepare: Callable[[int], Callable[[], object]], most: int) -> int:
    """Double the number of threads as long as it pays.

    Parameters
    ----------
    prepare : callable
        Sets a number of threads and returns what is then timed.
    most : int
        Try no more than so many.
    """
    if most < 2:  # nothing to measure
        prepare(1)
        return 1
    best, seconds = 1, float("inf")
    n = 1
    while n <= most:
        now = _seconds(prepare(n))
        if now * WORTH > seconds:
            break
        best, seconds, n = n, now, 2 * n
    return best


def _seconds(call: Callable[[], object]) -> float:
    """The shortest of a few calls, after a first one."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
