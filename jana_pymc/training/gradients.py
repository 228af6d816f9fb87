"""Loss and gradients of a batch: as Python runs them, compiled, or traced and side by side.

The halves share no weights, so that each can have a core of its own. Python would let only one of
them prepare its operations at a time; traced once, they run without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.tracing import traced
from jana_pymc.training import parallel
from jana_pymc.training.cores import cores
from jana_pymc.training.settings import TrainingSettings

Pair: TypeAlias = tuple[Batch, Batch | None]
"""Simulations from the prior, and from the proposal if there is one."""

NAMES = tuple(field.name for field in fields(Batch))
HALVES = ("posterior", "likelihood")


def gradients_of(
    network: JointNetwork, settings: TrainingSettings, halves: Sequence[str] = HALVES
) -> Gradients:
    """What `settings.execution` says, for the device of the network."""
    device = next(network.parameters()).device
    if settings.execution == "compile":
        return CompiledGradients(network, settings, halves)
    if settings.execution == "graph" and device.type == "cpu":
        enough = cores() >= 2 * parallel.n_processes()
        return TracedGradients(network, settings, halves, side_by_side=enough)
    return Gradients(network, settings, halves)


class Gradients:
    """Adds the gradients of Eq. 9 to what the parameters hold, one operation after the other.

    As a context it restores the number of torch's threads.

    Parameters
    ----------
    network : JointNetwork
    settings : TrainingSettings
    halves : sequence of str
        Which of them learn, and have their losses returned, in this order.
    """

    side_by_side = False

    def __init__(
        self,
        network: JointNetwork,
        settings: TrainingSettings,
        halves: Sequence[str] = HALVES,
    ):
        self.halves = [_Half(network, settings, name) for name in halves]
        self._threads_before = torch.get_num_threads()

    def __enter__(self) -> Gradients:
        self._threads_before = torch.get_num_threads()
        return self

    def __exit__(self, *exception: object) -> None:
        torch.set_num_threads(self._threads_before)

    def use_threads(self, n: int) -> None:
        """Let torch have so many threads for each half."""
        torch.set_num_threads(n)

    def __call__(self, batch: Batch, proposal_batch: Batch | None) -> Tensor:
        """Losses of the halves, shape (halves,)."""
        pair = batch, proposal_batch
        return torch.stack([_descend(half, half.tensors(pair)) for half in self.halves])


class CompiledGradients(Gradients):
    """The same by torch.compile, which fuses operations but takes a minute to begin."""

    def __call__(self, batch: Batch, proposal_batch: Batch | None) -> Tensor:
        """Losses of the halves, shape (halves,)."""
        inputs = [half.tensors((batch, proposal_batch)) for half in self.halves]
        return torch.stack([*map(_descend, self._compiled, inputs)])

    @cached_property
    def _compiled(self) -> list[Callable[..., Any]]:
        return [torch.compile(half, dynamic=False) for half in self.halves]


class TracedGradients(Gradients):
    """The same, traced; the halves on a thread each, unless both draw random numbers.

    What cannot be traced, and batches of other shapes than the first, go the way of `Gradients`.
    The context ends its thread.

    Parameters
    ----------
    network : JointNetwork
        On a CPU.
    settings : TrainingSettings
    side_by_side : bool
        Whether there is a core for each half.
    """

    def __init__(
        self,
        network: JointNetwork,
        settings: TrainingSettings,
        halves: Sequence[str] = HALVES,
        *,
        side_by_side: bool,
    ):
        super().__init__(network, settings, halves)
        self.side_by_side = side_by_side and len(self.halves) > 1
        self._traced: list[Callable[..., Any]] | None = None
        self._shapes: list[torch.Size] | None = None
        self._other = ThreadPoolExecutor(1, "jana-likelihood")

    def __enter__(self) -> TracedGradients:
        super().__enter__()
        self.use_threads(self._threads_before)
        return self

    def __exit__(self, *exception: object) -> None:
        self._other.shutdown()
        super().__exit__()

    def use_threads(self, n: int) -> None:
        """Let torch have so many threads for each half."""
        super().use_threads(n)
        self._other.submit(torch.set_num_threads, n).result()  # a setting of each thread

    def __call__(self, batch: Batch, proposal_batch: Batch | None) -> Tensor:
        """Losses of the halves, shape (halves,)."""
        pair = batch, proposal_batch
        inputs = [half.tensors(pair) for half in self.halves]
        shapes = [tensor.shape for each in inputs for tensor in each]
        if self._shapes is None:
            self._shapes, self._traced = shapes, self._trace(inputs)
        if self._traced is None or shapes != self._shapes:
            return super().__call__(*pair)
        if not self.side_by_side:
            return torch.stack([*map(_descend, self._traced, inputs)])
        other = self._other.submit(_descend, self._traced[1], inputs[1])
        try:
            loss = _descend(self._traced[0], inputs[0])
        finally:
            other.exception()  # waits: gradients are not left half made
        return torch.stack([loss, other.result()])

    def _trace(self, inputs: Sequence[Sequence[Tensor]]) -> list[Callable[..., Any]] | None:
        """Both halves traced, if that is possible."""
        traces = [*map(traced, self.halves, inputs)]
        self.side_by_side &= not all(map(_draws, self.halves, inputs))
        return None if None in traces else traces  # type: ignore[return-value]


class _Half(nn.Module):
    """The loss of one half as a function of plain tensors, which is what can be traced."""

    def __init__(self, network: JointNetwork, settings: TrainingSettings, name: str):
        super().__init__()
        self.network = network
        self.settings = settings
        self.name = name
        self.present: list[list[str]] = []

    def tensors(self, pair: Pair) -> list[Tensor]:
        """What the half is a function of."""
        batches = [b for b in (pair if self.name == "likelihood" else pair[:1]) if b is not None]
        self.present = [[n for n in NAMES if getattr(b, n) is not None] for b in batches]
        return [
            getattr(b, n) for b, given in zip(batches, self.present, strict=True) for n in given
        ]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """What is differentiated, and the loss that is reported."""
        given = iter(tensors)
        batches = []
        for present in self.present:
            values: dict[str, Any] = {n: next(given) if n in present else None for n in NAMES}
            batches.append(Batch(**values))
        if self.name == "posterior":
            weight = self.settings.mmd_weight
            loss, mmd = self.network.posterior_loss(batches[0], with_mmd=weight > 0)
            return loss + weight * mmd, loss
        loss = self.network.likelihood_loss(*batches, max_obs=self.settings.likelihood_obs)
        return loss, loss


def _draws(half: _Half, tensors: Sequence[Tensor]) -> bool:
    """Whether the half needs random numbers, whose order two threads would leave to chance."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        half(*tensors)
        return not torch.equal(before, torch.get_rng_state())


def _descend(half: Callable[..., Any], tensors: Sequence[Tensor]) -> Tensor:
    total, loss = half(*tensors)
    total.backward()
    return loss.detach()
