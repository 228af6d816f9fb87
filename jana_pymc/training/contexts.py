"""What surrounds a training: the current GPU, random numbers of its own, a bar."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def current_device(device: torch.device) -> Iterator[None]:
    """Make a GPU the one on which streams and graphs come about."""
    if device.type == "cpu":
        yield
        return
    with torch.cuda.device(device), warnings.catch_warnings():
        # The optimizer has all weights in one vector, which cuDNN copies to one in its own order.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
        yield


@contextmanager
def private_rng(device: torch.device) -> Iterator[None]:
    """Seed torch freely inside, leave the user's random state as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def progress_bar(show: bool) -> Iterator[Progress]:
    """A bar with the latest losses."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        disable=not show,
    ) as bar:
        yield bar
