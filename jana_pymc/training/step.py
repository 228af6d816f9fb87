"""One optimisation step: forward, backward, clip, update, without a look from the host.

Nothing in it depends on values on the host, so that on a CUDA device the whole step is captured
once as a graph and replayed: small networks are otherwise limited by the launching of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.training import parallel
from jana_pymc.training.batches import seeded_generator
from jana_pymc.training.flat import FlatParameters
from jana_pymc.training.gradients import HALVES, Gradients, Pair
from jana_pymc.training.settings import TrainingSettings
from jana_pymc.warning import warn

WARM_UP_STEPS = 200
LINEAR_LEARNING_RATE = 1e-2
"""Peak rate of the steps in which only linear parts are trained."""

STEPS_BEFORE_CAPTURE = 3
"""Eager steps in which libraries and the optimizer allocate what the graph must find."""


class TrainingStep:
    """A step of Adam on Eq. 9, and of the average that follows the weights.

    A step without finite gradients changes nothing but `left_out`: one extreme simulation must not
    cost all that has been learned.

    Parameters
    ----------
    network, average : JointNetwork
        The trained one, and the one whose weights are an exponential average of its own.
    settings : TrainingSettings
    gradients : callable, optional
        Makes the gradients of a batch and returns its losses; by default `Gradients`.
    seed : int
        Dropout, noise and dummy draws are functions of it and of the step.
    halves : sequence of str
        "posterior", "likelihood" or both: which of them learn.
    capturable : bool
        Keep learning rates on the device, where a CUDA graph reads them.

    Attributes
    ----------
    totals : Tensor, shape (halves,)
        Sum of the losses of the halves since it was last zeroed.
    losses : Tensor, shape (halves,)
        Those of the last step.
    left_out : Tensor, shape ()
        Steps without finite gradients since it was last zeroed.
    """

    def __init__(
        self,
        network: JointNetwork,
        average: JointNetwork,
        settings: TrainingSettings,
        gradients: Callable[[Batch, Batch | None], Tensor] | None = None,
        *,
        seed: int,
        halves: Sequence[str] = HALVES,
        capturable: bool = False,
    ):
        self.network, self.average, self.settings, self.seed = network, average, settings, seed
        self.gradients = gradients or Gradients(network, settings, halves)
        self.device = next(network.parameters()).device
        self.halves: list[nn.Module] = [getattr(network, name) for name in halves]
        linear = _linear_parameters(network)
        self.groups = [
            group
            for name, half in zip(halves, self.halves, strict=True)
            for group in _groups(half, getattr(average, name), linear, name, settings)
        ]
        self.optimizer = _optimizer(self.groups, settings, capturable)
        self.likelihood = dict(zip(halves, self.halves, strict=True)).get("likelihood")
        self.shape_networks = []
        if settings.shape_shrinkage and self.likelihood is not None:
            modules = self.likelihood.modules()
            flows = [m for m in modules if isinstance(m, AutoregressiveTransform)]
            self.shape_networks = [flow.conditioners for flow in flows]
        self.totals, self.losses = (
            torch.zeros(len(self.halves), device=self.device) for _ in range(2)
        )
        self.left_out = torch.zeros((), device=self.device)
        self.pace = torch.ones((), device=self.device)
        self.is_linear = False

    def schedule(self, step: int) -> None:
        """Set what depends on the number of the step: learning rates, random numbers, the pace."""
        first = self.settings.linear_steps
        self.is_linear = step < first
        share = _share_of_peak(step, self.settings)
        for group, options in zip(self.groups, self.optimizer.param_groups, strict=True):
            rate = share * (LINEAR_LEARNING_RATE if self.is_linear and group.linear else group.rate)
            if isinstance(options["lr"], Tensor):
                options["lr"].fill_(rate)
            else:
                options["lr"] = rate
        # Processes that train together have other rows, and draw other noise for them.
        own = (parallel.rank(),) if parallel.n_processes() > 1 else ()
        seed = seeded_generator(torch.device("cpu"), self.seed, 0, step, *own).initial_seed()
        torch.default_generator.manual_seed(seed)  # and no other device: theirs are the user's
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)
        decay = 0.0
        if self.settings.weight_average is not None:  # faster early in each phase
            phase = step if self.is_linear else step - first
            decay = min(self.settings.weight_average, (phase + 1) / (phase + 10))
        self.pace.fill_(1.0 - decay)

    def __call__(self, batch: Batch, proposal_batch: Batch | None) -> None:
        """Learn from a batch."""
        for group in self.groups:
            group.weights.gradient.zero_()
        losses = self.gradients(batch, proposal_batch)
        parallel.average([group.weights.gradient for group in self.groups])
        for group in self.groups:
            group.weights.take_part(not self.is_linear or group.linear or not group.waits)
        norms = [
            nn.utils.clip_grad_norm_(
                [g.weights.value for g in self.groups if g.half is half],
                self.settings.gradient_clip,
            )
            for half in self.halves
        ]
        finite = torch.isfinite(torch.stack(norms)).all()
        failed = (~finite).to(self.pace.dtype)
        # What a gradient scaler would set: fused optimizers then leave the step out on the device.
        self.optimizer.grad_scale, self.optimizer.found_inf = None, failed  # type: ignore[attr-defined]
        self.optimizer.step()
        if self.shape_networks and not self.is_linear:
            self._shrink(1.0 - failed)
        pace = self.pace * (1.0 - failed)
        for group in self.groups:
            group.averaged.follow(group.weights, pace)
        self.losses.copy_(losses)
        self.totals.add_(torch.where(finite, self.losses, 0.0))
        self.left_out.add_(failed)

    @torch.no_grad()
    def _shrink(self, whether: Tensor) -> None:
        """The proximal step of a group lasso: what the data do not ask for goes to zero."""
        rate = next(
            options["lr"]
            for group, options in zip(self.groups, self.optimizer.param_groups, strict=True)
            if group.half is self.likelihood and not group.linear
        )
        reach = whether * (self.settings.shape_shrinkage * rate)
        for network in self.shape_networks:
            weights = network.context_weights()
            norm = weights.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
            weights.mul_((1.0 - reach / norm).clamp_min(0.0))

    def release(self) -> None:
        """Give the parameters back as they came, each with a tensor of its own."""
        for group in self.groups:
            group.weights.release()
            group.averaged.release()


@dataclass(frozen=True)
class _Group:
    """Parameters that are treated alike.

    Attributes
    ----------
    half : Module
        Of which they are.
    weights, averaged : FlatParameters
        What is trained, and what follows.
    linear : bool
        Whether they belong to the linear parts.
    waits : bool
        Whether the half has linear parts, which are trained first.
    rate, decay : float
        Peak of the learning rate; weight decay.
    """

    half: nn.Module
    weights: FlatParameters
    averaged: FlatParameters
    linear: bool
    waits: bool
    rate: float
    decay: float


class CudaGraph:
    """Runs a function of the GPU alone, eagerly a few times, then captured.

    Parameters
    ----------
    function : callable
        Without arguments; it reads and writes tensors that stay where they are.
    """

    def __init__(self, function: Callable[[], None]):
        self.function = function
        self.stream = torch.cuda.Stream()

    def run(self) -> None:
        """Eagerly, on the stream of the capture."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.function()
        torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self) -> Callable[[], None]:
        """What replays the function.

        Raises
        ------
        RuntimeError
            If it asks for what a graph must not; it can be run as before.
        """
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        try:
            # Other threads, which bring the next simulations, may go on using the GPU.
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                self.function()
        except Exception:
            # Torch leaves it as if the capture went on, and random numbers would be refused.
            generator.graphsafe_set_state(generator.clone_state())
            raise
        return graph.replay


class GraphedStep:
    """`TrainingStep`, captured once and replayed.

    Batches are copied to tensors that stay where they are. When the step becomes another, as it
    does after the linear phase, it is captured anew. Networks that cannot be captured are trained
    eagerly, with a warning.

    Parameters
    ----------
    step : TrainingStep
    graph : callable
        Makes what has `run` and `capture` from a function; by default `CudaGraph`.
    """

    def __init__(
        self, step: TrainingStep, graph: Callable[[Callable[[], None]], CudaGraph] = CudaGraph
    ):
        self.step = step
        self.graph = graph
        self._held: Pair | None = None
        self._phase: bool | None = None
        self._graph: CudaGraph | None = None
        self._replay: Callable[[], None] | None = None
        self._warm = 0

    def __call__(self, batch: Batch, proposal_batch: Batch | None) -> None:
        """Learn from a batch, whose shapes are those of the batches before."""
        if self._held is None or self._phase != self.step.is_linear:
            self._begin((batch, proposal_batch))
        else:
            _copy_into(self._held, (batch, proposal_batch))
        assert self._graph is not None  # narrows the type; set by _begin
        if self._replay is not None:
            self._replay()
        elif self._warm < STEPS_BEFORE_CAPTURE:
            self._graph.run()
            self._warm += 1
        else:
            self._replay = self._captured(self._graph)
            self._replay()

    def _begin(self, pair: Pair) -> None:
        held = _clone(pair)
        self._held, self._phase = held, self.step.is_linear
        self._graph, self._replay, self._warm = self.graph(lambda: self.step(*held)), None, 0

    @staticmethod
    def _captured(graph: CudaGraph) -> Callable[[], None]:
        try:
            return graph.capture()
        except RuntimeError as error:
            warn(
                f"the training step cannot be captured as a CUDA graph ({_origin(error)}): it runs "
                "eagerly, which is slower. TrainingSettings(execution='eager') says so beforehand.",
            )
            return graph.run


def _origin(error: BaseException) -> BaseException:
    """The first of a chain of errors: the end of a capture only says that there was one."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _clone(pair: Pair) -> Pair:
    first, second = pair
    return _cloned(first), None if second is None else _cloned(second)


def _cloned(batch: Batch) -> Batch:
    tensors = {each.name: getattr(batch, each.name) for each in fields(Batch)}
    copies: dict[str, Any] = {k: None if v is None else v.clone() for k, v in tensors.items()}
    return Batch(**copies)


def _copy_into(held: Pair, pair: Pair) -> None:
    for ours, theirs in zip(held, pair, strict=True):
        for each in fields(Batch):
            target = None if ours is None else getattr(ours, each.name)
            if target is not None:
                target.copy_(getattr(theirs, each.name))


def _share_of_peak(step: int, settings: TrainingSettings) -> float:
    """Warm up, then fall along a cosine; once for the linear parts, once for all."""
    first = settings.linear_steps
    done, total = (step, first) if step < first else (step - first, settings.n_steps - first)
    warm_up = min(WARM_UP_STEPS, total // 10 + 1)
    return min(1.0, (done + 1) / warm_up) * 0.5 * (1.0 + math.cos(math.pi * done / total))


def _linear_parameters(network: JointNetwork) -> set[int]:
    """Identities of the parameters that modules declare as their linear parts."""
    return {
        id(parameter)
        for module in network.modules()
        for parameter in getattr(module, "linear_parameters", list)()
    }


def _groups(
    half: nn.Module,
    averaged: nn.Module,
    linear: set[int],
    name: str,
    settings: TrainingSettings,
) -> list[_Group]:
    """The parameters of a half: linear parts, those of several axes, which alone decay, the rest.

    These are matrices, and what has an axis of components before its own: the biases of
    `ConditionerBank` decay too, as does the skew matrix of a `Rotation`.
    """
    rates = {
        "posterior": settings.learning_rate,
        "likelihood": settings.likelihood_learning_rate,
    }
    pairs = list(zip(half.parameters(), averaged.parameters(), strict=True))
    first = [pair for pair in pairs if id(pair[0]) in linear]
    rest = [pair for pair in pairs if id(pair[0]) not in linear]
    kinds = [
        (True, 0.0, first),
        (False, settings.weight_decay, [pair for pair in rest if pair[0].ndim > 1]),
        (False, 0.0, [pair for pair in rest if pair[0].ndim <= 1]),
    ]
    return [
        _Group(
            half,
            FlatParameters([trained for trained, _ in members]),
            FlatParameters([follower for _, follower in members]),
            linear=is_linear,
            waits=bool(first),
            rate=rates[name],
            decay=own_decay,
        )
        for is_linear, own_decay, members in kinds
        if members
    ]


def _optimizer(
    groups: Sequence[_Group], settings: TrainingSettings, capturable: bool
) -> torch.optim.Optimizer:
    """Adam with a learning rate a group."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    options: list[dict[str, Any]] = []
    for group in groups:
        value = group.weights.value
        rate = {"lr": torch.tensor(group.rate, device=value.device)} if capturable else {}
        options.append({"params": [value], "weight_decay": group.decay, **rate})
    return kind(options, fused=True, capturable=capturable)
