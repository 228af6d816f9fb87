"""The training loop: joint optimisation of both networks, with early stopping and exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.training import parallel
from jana_pymc.training.batches import BatchSource, seeded_generator
from jana_pymc.training.checkpoint import Checkpoint
from jana_pymc.training.contexts import current_device, private_rng, progress_bar
from jana_pymc.training.cores import cores, fastest_threads
from jana_pymc.training.gradients import HALVES, Gradients, Pair, gradients_of
from jana_pymc.training.history import TrainingHistory, comparable
from jana_pymc.training.settings import TrainingSettings
from jana_pymc.training.step import GraphedStep, TrainingStep

VALIDATION_CHUNK = 512
MAX_LEFT_OUT = 20
"""So many steps without finite gradients end the training, or all steps of one that has fewer. A
validation begins the count anew, unless there was no other step since the last one."""
LOOK_EVERY = 50
"""Steps on a GPU between two looks for them."""
ASTRAY = 2.0
"""A network whose losses are all by more nats above the least so far has lost its way."""


class TrainingError(RuntimeError):
    """Training cannot go on."""


def train(
    network: JointNetwork,
    source: BatchSource,
    validation: Pair,
    settings: TrainingSettings,
    *,
    seed: int,
    halves: Sequence[str] = HALVES,
    checkpoint: Path | None = None,
    data: str = "",
    progressbar: bool = True,
    doing: str = "training",
) -> TrainingHistory:
    """Minimise Eq. 9 in place; each network ends with its best validation weights.

    One that loses its way goes back to these at the next validation, and on from there.

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
    halves : sequence of str
        "posterior", "likelihood" or both: which of them learn. The other stays as it is, and the
        history has no number for its losses.
    data : str
        Fingerprint of the simulations and, after a space, what their source is: a checkpoint of
        others is refused. Older ones say nothing of the source.
    checkpoint : Path, optional
        Written at each validation. If the file exists, training goes on from there and ends with
        exactly the weights that an uninterrupted run would have.
    progressbar : bool
    doing : str
        What the bar says.

    Raises
    ------
    TrainingError
        If gradients were not finite in too many steps (`MAX_LEFT_OUT`). The network then has the
        weights of the last step.
    """
    device = next(network.parameters()).device
    one_gpu = device.type == "cuda" and parallel.n_processes() == 1
    graphed = settings.execution == "graph" and one_gpu
    _learning_mode(network, halves)
    average = copy.deepcopy(network)
    gradients = gradients_of(network, settings, halves)
    learn = TrainingStep(
        network, average, settings, gradients, seed=seed, halves=halves, capturable=graphed
    )
    try:
        state = _begun(learn, checkpoint, data)
        if state.seen is not None:
            source.seen = state.seen
        validate = _Validation(learn, state, validation, halves, checkpoint, data)
        with (
            torch.enable_grad(),  # which some libraries switch off for all
            current_device(device),
            gradients,
            private_rng(device),
            progress_bar(progressbar and parallel.rank() == 0) as bar,
        ):
            if device.type == "cpu":
                state.n_threads = state.n_threads or _n_threads(gradients, settings, source)
                gradients.use_threads(state.n_threads)
            step_once = GraphedStep(learn) if graphed else learn
            _take_steps(learn, step_once, source, validate, bar, doing)
        for name in halves:
            getattr(network, name).load_state_dict(state.best[name])
    finally:
        _end(learn)
    return state.history


def _take_steps(
    learn: TrainingStep,
    step_once: Callable[[Batch, Batch | None], None],
    source: BatchSource,
    validate: _Validation,
    bar: Progress,
    doing: str,
) -> None:
    """All steps that are left, until patience ends."""
    settings, first_step = learn.settings, validate.first_step
    # On a GPU every look from the host waits for all that was launched.
    look_every = 1 if learn.device.type == "cpu" else min(LOOK_EVERY, settings.validate_every)
    task = bar.add_task(doing, total=settings.n_steps, completed=first_step, losses="")
    ended = validate.is_out_of_patience()  # as a resumed run may find that it is
    for step in range(settings.n_steps if ended else first_step, settings.n_steps):
        pair = _own_share(source.batch(step))
        learn.schedule(step)
        step_once(*pair)
        done = step + 1
        bar.update(task, completed=done)
        validates = done % settings.validate_every == 0 or done == settings.n_steps
        if not validates:
            if done % look_every == 0:
                validate.left_out(done)
            continue
        validate.state.seen = source.seen
        losses = validate(done)
        bar.update(task, losses="  ".join(f"{name} {value:.4f}" for name, value in losses.items()))
        if validate.is_out_of_patience():
            break


class _Validation:
    """What happens at a validation: losses are noted, the best weights kept, the state saved.

    Parameters
    ----------
    learn : TrainingStep
    state : Checkpoint
        What training goes on from; it is kept up to date.
    validation, halves, checkpoint, data
        As for `train`.

    Attributes
    ----------
    first_step : int
        Steps done before.
    """

    def __init__(
        self,
        learn: TrainingStep,
        state: Checkpoint,
        validation: Pair,
        halves: Sequence[str],
        checkpoint: Path | None,
        data: str,
    ):
        self.learn, self.state, self.validation, self.halves = learn, state, validation, halves
        self.checkpoint, self.data = checkpoint, data
        history = state.history
        self.first_step = self.counted_from = history.step[-1] if len(history) else 0
        self.start = time.perf_counter() - (history.seconds[-1] if len(history) else 0.0)

    def left_out(self, done: int) -> int:
        """Steps without finite gradients since they were last forgotten; too many are an error."""
        learn = self.learn
        left_out = int(learn.left_out)
        if left_out >= min(MAX_LEFT_OUT, learn.settings.n_steps):
            losses = dict(zip(self.halves, learn.losses.tolist(), strict=True))
            raise _not_finite(left_out, losses, done)
        return left_out

    def __call__(self, done: int) -> dict[str, float]:
        """Validation losses of the halves after so many steps."""
        learn, state, halves = self.learn, self.state, self.halves
        n_learned = done - self.counted_from - self.left_out(done)
        trained = _mean_losses(learn, halves, n_learned)
        if n_learned:  # else the steps that were left out count on
            learn.left_out.zero_()
            self.counted_from = done
        values = _validate(learn, self.validation, halves)
        state.history.append(done, time.perf_counter() - self.start, values | trained, values)
        _keep_best(state, learn, halves)
        if self.checkpoint is not None and parallel.rank() == 0:
            state.average = _copy(learn.average)
            learned = learn.network, learn.optimizer
            state.save(self.checkpoint, *learned, learn.settings, learn.seed, self.data)
        return {name: values[name] for name in halves}

    def is_out_of_patience(self) -> bool:
        """Whether no network has improved for so long that the training ends."""
        patience, history = self.learn.settings.patience, self.state.history
        return patience is not None and history.validations_without_progress() >= patience


def _end(learn: TrainingStep) -> None:
    """Leave a network as others take it, whether or not it has learned to the end."""
    learn.release()
    for module in learn.network.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # as cuDNN wants them, and they no longer are
    learn.network.eval()


def _learning_mode(network: JointNetwork, halves: Sequence[str]) -> None:
    """Dropout in what learns; what is frozen in it says what it will say afterwards."""
    for name in halves:
        half = getattr(network, name)
        half.train()
        for module in half.modules():
            weights = list(module.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                module.eval()


def _begun(learn: TrainingStep, checkpoint: Path | None, data: str) -> Checkpoint:
    """What training goes on from: the file if there is one, else the network as it is."""
    network = learn.network
    state = Checkpoint(
        TrainingHistory(), {name: _copy(getattr(network, name)) for name in HALVES}, _copy(network)
    )
    if checkpoint is not None and checkpoint.exists():
        state = Checkpoint.load(
            checkpoint, network, learn.optimizer, learn.settings, learn.seed, data
        )
    parallel.wait_for_all()  # none may write before all have read
    learn.average.load_state_dict(state.average)
    return state


def _own_share(pair: Pair) -> Pair:
    """What this process learns from."""
    batch, proposal_batch = pair
    return parallel.share(batch), None if proposal_batch is None else parallel.share(proposal_batch)


def _mean_losses(learn: TrainingStep, halves: Sequence[str], n_steps: int) -> dict[str, float]:
    """Training losses of so many steps since they were last asked for; no numbers if of none."""
    parallel.average([learn.totals])
    means = learn.totals / n_steps
    learn.totals.zero_()
    return dict(zip(halves, means.tolist(), strict=True))


def _validate(learn: TrainingStep, validation: Pair, halves: Sequence[str]) -> dict[str, float]:
    """Losses of the averaged network on held-out simulations.

    Processes that train together decide by them what to keep and when to stop. Their own differ by
    rounding, so that all take those of the first.
    """
    for kept, current in zip(learn.average.buffers(), learn.network.buffers(), strict=True):
        kept.copy_(current)
    own = validation_loss(learn.average, validation, learn.seed, halves)
    values = parallel.of_first_process(torch.tensor(own, dtype=torch.float64)).tolist()
    return dict(zip(HALVES, values, strict=True))


def _keep_best(state: Checkpoint, learn: TrainingStep, halves: Sequence[str]) -> None:
    """Keep the weights of a network that is at its best, take back one that has lost its way."""
    history = state.history
    for name in halves:
        latest = getattr(history, f"validation_{name}")[-1]
        best = getattr(history, f"best_{name}")
        if latest <= best or best == math.inf:  # where none is finite, the latest is as good as any
            state.best[name] = _copy(getattr(learn.average, name))
        elif _is_astray(history, name):
            for each in (learn.network, learn.average):
                getattr(each, name).load_state_dict(state.best[name])


def _is_astray(history: TrainingHistory, name: str) -> bool:
    """Whether a high learning rate has thrown a network far back.

    One that overfits is not: its training loss falls. Nor is one that met extreme simulations, as
    long as it does for others what it did.
    """
    losses = getattr(history, name), getattr(history, f"validation_{name}")
    if math.isnan(losses[0][-1]):  # of no step: nothing was learned, or forgotten
        return False
    return all(each[-1] > each.min() + ASTRAY for each in map(comparable, losses))


@torch.no_grad()
def validation_loss(
    network: JointNetwork, validation: Pair, seed: int, halves: Sequence[str] = HALVES
) -> tuple[float, float]:
    """Losses of both networks on held-out simulations, in chunks that bound the memory.

    That of a network which is none of the halves is no number. All data sets count alike: as many
    chunks as there are of those from the prior share out those from the proposal, which may be
    fewer.
    """
    batch, proposal_batch = validation
    n_sets, n_wider = len(batch), 0 if proposal_batch is None else len(proposal_batch)
    device = batch.parameters.device
    network.eval()
    sums = [0.0 if name in halves else math.nan for name in HALVES]
    for start in range(0, n_sets, VALIDATION_CHUNK):
        end = min(start + VALIDATION_CHUNK, n_sets)
        part, wider = batch.rows(slice(start, end)), None
        rows = slice(start * n_wider // n_sets, end * n_wider // n_sets)
        if proposal_batch is not None:
            wider = proposal_batch.rows(rows)
        if "posterior" in halves:
            posterior, _ = network.posterior_loss(part)
            sums[0] += float(posterior) * len(part)
        if "likelihood" in halves:
            generator = seeded_generator(device, seed, 9, start)
            likelihood = network.likelihood_loss(part, wider, generator=generator)
            sums[1] += float(likelihood) * (len(part) + rows.stop - rows.start)
    network.train()
    return sums[0] / n_sets, sums[1] / (n_sets + n_wider)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _not_finite(left_out: int, losses: dict[str, float], step: int) -> TrainingError:
    for name, value in losses.items():
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


def _n_threads(gradients: Gradients, settings: TrainingSettings, source: BatchSource) -> int:
    """What the settings say, or the fastest of a few numbers of threads.

    A core is left to what goes on beside a half: the other one, or the making of its data. All
    processes that train together take that of the first: sums by another number round differently,
    and their weights would drift apart.
    """
    if settings.n_threads != "auto":
        return settings.n_threads or torch.get_num_threads()
    pair = _own_share(source.batch(0))

    def once(n: int) -> Callable[[], object]:
        gradients.use_threads(n)
        return lambda: gradients(*pair)

    fastest = fastest_threads(once, most=cores() // (2 * parallel.n_processes()))
    return int(parallel.of_first_process(torch.tensor(fastest)))
