"""The training loop: joint optimisation of both networks, with early stopping and exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from jana_pymc.joint import Batch, JointLoss, JointNetwork
from jana_pymc.training import parallel
from jana_pymc.training.batches import BatchSource, seeded_generator
from jana_pymc.training.checkpoint import Checkpoint
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.settings import TrainingSettings

WARM_UP_STEPS = 200
LINEAR_LEARNING_RATE = 1e-2
"""Peak rate of the steps in which only linear parts are trained."""
VALIDATION_CHUNK = 512
MAX_LEFT_OUT = 20
"""So many steps without finite gradients between two validations end the training."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is not a finite number."""


def train(
    network: JointNetwork,
    source: BatchSource,
    validation: tuple[Batch, Batch | None],
    settings: TrainingSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    data: str = "",
    progressbar: bool = True,
) -> TrainingHistory:
    """Minimise Eq. 9 in place; each network ends with its best validation weights.

    Within a process group of torch all processes call this with the same arguments: each learns
    from its share of every batch, and the first one alone writes the checkpoint.

    Parameters
    ----------
    network : JointNetwork
        On the device on which it is trained.
    source : BatchSource
    validation : tuple of Batch and (Batch or None)
        Held-out simulations, from the prior and from the proposal.
    settings : TrainingSettings
    seed : int
        Batches, dropout and dummy draws are functions of it and of the step.
    data : str
        Fingerprint of the simulations: a checkpoint of others is refused.
    checkpoint : Path, optional
        Written at each validation. If the file exists, training goes on from there and ends with
        exactly the weights that an uninterrupted run would have.
    progressbar : bool

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    halves: dict[str, nn.Module] = {
        "posterior": network.posterior,
        "likelihood": network.likelihood,  # type: ignore[dict-item]
    }
    device = next(network.parameters()).device
    linear = _linear_parameters(network)
    optimizer = _optimizer(network, settings, linear)
    nonlinear = [
        parameter
        for half in halves.values()
        if any(id(p) in linear for p in half.parameters())
        for parameter in half.parameters()
        if id(parameter) not in linear
    ]
    state = Checkpoint(
        TrainingHistory(), {name: _copy(half) for name, half in halves.items()}, _copy(network)
    )
    if checkpoint is not None and checkpoint.exists():
        state = Checkpoint.load(checkpoint, network, optimizer, settings, seed, data)
    parallel.wait_for_all()  # none may write before all have read
    history = state.history
    average = copy.deepcopy(network)
    average.load_state_dict(state.average)
    first_step = history.step[-1] if len(history) else 0
    start = time.perf_counter() - (history.seconds[-1] if len(history) else 0.0)
    totals = torch.zeros(2, device=device)
    last_validation, left_out = first_step, 0

    with (
        _threads(settings.n_threads),
        _private_rng(device),
        _progress(progressbar and parallel.rank() == 0) as bar,
    ):
        task = bar.add_task("training", total=settings.n_steps, completed=first_step, losses="")
        for step in range(first_step, settings.n_steps):
            _set_learning_rate(optimizer, settings, step)
            batch, proposal_batch = source.batch(step)
            batch = parallel.share(batch)
            proposal_batch = None if proposal_batch is None else parallel.share(proposal_batch)
            generator = seeded_generator(device, seed, 0, step)
            torch.manual_seed(generator.initial_seed())  # dropout; restored by _private_rng
            loss = network.loss(
                batch,
                proposal_batch,
                max_obs=settings.likelihood_obs,
                generator=generator,
                with_mmd=settings.mmd_weight > 0,
            )
            optimizer.zero_grad(set_to_none=True)
            loss.total(settings.mmd_weight).backward()
            parallel.average([p.grad for p in network.parameters()])
            if step < settings.linear_steps:
                for parameter in nonlinear:
                    parameter.grad = None
            done = step + 1
            norms = [
                nn.utils.clip_grad_norm_(half.parameters(), settings.gradient_clip)
                for half in halves.values()
            ]
            if torch.isfinite(torch.stack(norms)).all():
                optimizer.step()
                _follow(average, network, settings, step)
                totals += torch.stack([loss.posterior.detach(), loss.likelihood.detach()])
            else:  # one extreme simulation must not cost all that has been learned
                left_out += 1
                if left_out >= min(MAX_LEFT_OUT, settings.validate_every):
                    raise _not_finite(left_out, loss, done)
            bar.update(task, completed=done)
            if done % settings.validate_every and done < settings.n_steps:
                continue
            parallel.average([totals])
            means = (totals / max(1, done - last_validation - left_out)).tolist()
            totals.zero_()
            last_validation, left_out = done, 0
            values = validation_loss(average, validation, seed)
            history.step.append(done)
            history.seconds.append(time.perf_counter() - start)
            history.posterior.append(means[0])
            history.likelihood.append(means[1])
            history.validation_posterior.append(values[0])
            history.validation_likelihood.append(values[1])
            for name, value, best in (
                ("posterior", values[0], history.best_posterior),
                ("likelihood", values[1], history.best_likelihood),
            ):
                if value <= best:
                    state.best[name] = _copy(getattr(average, name))
            bar.update(task, losses=f"posterior {values[0]:.3f}  likelihood {values[1]:.4f}")
            if checkpoint is not None and parallel.rank() == 0:
                state.average = _copy(average)
                state.save(checkpoint, network, optimizer, settings, seed, data)
            if (
                settings.patience is not None
                and history.validations_without_progress() >= settings.patience
            ):
                break
    for name, half in halves.items():
        half.load_state_dict(state.best[name])
    network.eval()
    return history


@torch.no_grad()
def validation_loss(
    network: JointNetwork, validation: tuple[Batch, Batch | None], seed: int
) -> tuple[float, float]:
    """Losses of both networks on held-out simulations, in chunks that bound the memory."""
    batch, proposal_batch = validation
    device = batch.parameters.device
    network.eval()
    sums = [0.0, 0.0]
    for start in range(0, len(batch), VALIDATION_CHUNK):
        rows = slice(start, start + VALIDATION_CHUNK)
        part = batch.rows(rows)
        wider = None if proposal_batch is None else proposal_batch.rows(rows)
        generator = seeded_generator(device, seed, 9, start)
        loss: JointLoss = network.loss(part, wider, generator=generator)
        sums[0] += float(loss.posterior) * len(part)
        sums[1] += float(loss.likelihood) * len(part)
    network.train()
    return sums[0] / len(batch), sums[1] / len(batch)


def _linear_parameters(network: JointNetwork) -> set[int]:
    """Identities of the parameters that modules declare as their linear parts."""
    return {
        id(parameter)
        for module in network.modules()
        for parameter in getattr(module, "linear_parameters", list)()
    }


def _optimizer(
    network: JointNetwork, settings: TrainingSettings, linear: set[int]
) -> torch.optim.Optimizer:
    """Adam with a learning rate a half; only matrices beside the linear parts decay."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    groups = []
    for half, peak in (
        (network.posterior, settings.learning_rate),
        (network.likelihood, settings.likelihood_learning_rate),
    ):
        parameters = list(half.parameters())  # type: ignore[union-attr]
        decaying = [p for p in parameters if p.ndim > 1 and id(p) not in linear]
        rest = [p for p in parameters if p.ndim <= 1 or id(p) in linear]
        starts_linear = any(id(p) in linear for p in parameters)
        for members, decay in ((decaying, settings.weight_decay), (rest, 0.0)):
            group = {"params": members, "weight_decay": decay, "peak": peak}
            groups.append({**group, "starts_linear": starts_linear})
    return kind(groups, fused=True)


def _set_learning_rate(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int
) -> None:
    """Warm up, then fall along a cosine; once for the linear parts, once for all."""
    first = settings.linear_steps
    is_linear = step < first
    done, total = (step, first) if is_linear else (step - first, settings.n_steps - first)
    warm_up = min(WARM_UP_STEPS, total // 10 + 1)
    share = min(1.0, (done + 1) / warm_up)
    share *= 0.5 * (1.0 + math.cos(math.pi * done / total))
    for group in optimizer.param_groups:
        linear_phase = is_linear and group["starts_linear"]
        group["lr"] = share * (LINEAR_LEARNING_RATE if linear_phase else group["peak"])


@torch.no_grad()
def _follow(
    average: JointNetwork, network: JointNetwork, settings: TrainingSettings, step: int
) -> None:
    """Move the average of the weights towards the weights; faster early in each phase."""
    decay = 0.0
    if settings.weight_average is not None:
        phase = step - settings.linear_steps if step >= settings.linear_steps else step
        decay = min(settings.weight_average, (phase + 1) / (phase + 10))
    averaged: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(averaged, current, 1.0 - decay)
    for kept, new in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(new)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _not_finite(left_out: int, loss: JointLoss, step: int) -> TrainingError:
    for name in ("posterior", "likelihood"):
        value = float(getattr(loss, name).detach())
        if not math.isfinite(value):
            return TrainingError(
                f"the {name} loss is {value} at step {step}, and gradients were not finite in "
                f"{left_out} steps. Look for extreme simulated values, or lower "
                "TrainingSettings.learning_rate."
            )
    return TrainingError(
        f"gradients were not finite in {left_out} steps up to step {step}. Look for extreme "
        "simulated values, or lower TrainingSettings.learning_rate."
    )


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _private_rng(device: torch.device) -> Iterator[None]:
    """Seed torch freely inside, leave the user's random state as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def _progress(show: bool) -> Iterator[Progress]:
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
