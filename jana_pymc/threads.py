"""Torch without threads of its own: they wait for each other by spinning.

One operation is seldom large enough here to be worth sharing, and beside another busy process each
shared one waits for a thread that has no core: ten times the time, and a core burnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, which a forked sampler needs; the setting as it was afterwards."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(function: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Results for each part, computed by as many Python threads as torch may use.

    Parameters
    ----------
    function : callable
        Called with each part's elements; spends its time in torch, where Python threads do not
        wait for each other.
    parts : sequence of tuple
    """
    n_threads = min(torch.get_num_threads(), len(parts))
    with one_thread():
        if n_threads < 2:
            return [function(*part) for part in parts]
        # The number of threads is a setting of each thread.
        with ThreadPoolExecutor(n_threads, "jana", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(lambda part: function(*part), parts))
