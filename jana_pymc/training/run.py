"""One training and what its stages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.simulation import PyMCPrior
from jana_pymc.training.batches import BatchSource, StoredSimulations
from jana_pymc.training.gradients import HALVES
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.loop import TrainingError, train
from jana_pymc.training.settings import TrainingSettings
from jana_pymc.warning import warn


@dataclass(frozen=True)
class TrainingRun:
    """A training, each of whose stages goes on with the networks that the one before has left.

    Parameters
    ----------
    network : JointNetwork
        On the device on which it is trained, and standardised.
    simulated : StoredSimulations
        What there is in memory to train on.
    held_out : tuple of Batch and (Batch or None)
        Simulations from the prior and from the proposal that validate every stage.
    settings : TrainingSettings
    prior : PyMCPrior
    may_be_new : bool
        Whether parameters of surrogate data may be drawn anew from the prior. Otherwise they are
        those of `simulated`, again and again, which keeps to where the simulator did not fail.
    seed, checkpoint, data, progressbar
        As for `train`. Each stage has a checkpoint of its own, named after it.
    """

    network: JointNetwork
    simulated: StoredSimulations
    held_out: tuple[Batch, Batch | None]
    settings: TrainingSettings
    prior: PyMCPrior
    may_be_new: bool
    seed: int
    checkpoint: Path | None = None
    data: str = ""
    progressbar: bool = True

    def train(
        self,
        source: BatchSource,
        *,
        doing: str = "training",
        stage: str = "",
        seed_offset: int = 0,
        network: JointNetwork | None = None,
        held_out: tuple[Batch, Batch | None] | None = None,
        settings: TrainingSettings | None = None,
        halves: Sequence[str] = HALVES,
    ) -> TrainingHistory:
        """Train one stage: the pair, unless arguments say otherwise.

        Parameters
        ----------
        source : BatchSource
        doing : str
            What the bar says.
        stage : str
            Name of the checkpoint, beside that of the pair.
        seed_offset : int
            Added to the seed of the run, so that stages do not share their random numbers.
        network, held_out, settings
            In the place of the run's.
        halves : sequence of str
            As for `train`.

        Raises
        ------
        TrainingError
            If gradients were not finite in too many steps.
        """
        path = self.checkpoint
        if path is not None and stage:
            path = path.with_name(f"{path.stem}-{stage}{path.suffix}")
        return train(
            network or self.network,
            source,
            held_out or self.held_out,
            settings or self.settings,
            seed=self.seed + seed_offset,
            halves=halves,
            checkpoint=path,
            data=self.data,
            progressbar=self.progressbar,
            doing=doing,
        )


def if_better(
    history: TrainingHistory,
    learn: Callable[[], TrainingHistory],
    *,
    undo: Callable[[], None],
    least_gain: float = 0.0,
    what: str,
    advice: str,
) -> TrainingHistory:
    """Let the posterior learn on, and undo it if held-out simulations gain nothing or it fails.

    Parameters
    ----------
    history : TrainingHistory
        Of the training before.
    learn : callable
        The training, in place.
    undo : callable
        Sets the posterior back.
    least_gain : float
        In nats on held-out simulations: less is undone as well.
    what, advice : str
        For the warning of a failure, so that what was learned before is not lost with it.

    Returns
    -------
    TrainingHistory
        Of both, one after the other; without what was undone.
    """
    try:
        later = learn()
    except TrainingError as error:
        undo()
        warn(f"the {what} of the posterior failed and is left out ({error}) {advice}")
        return history
    if not later.best_posterior < history.best_posterior - least_gain:  # nor if it is no number
        undo()
        return history
    return history.followed_by(later)
