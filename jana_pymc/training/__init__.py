"""Joint training of the posterior and the likelihood network."""

from jana_pymc.training.adjustment import adjust
from jana_pymc.training.batches import BatchSource, SimulationRounds, StoredSimulations, to_batch
from jana_pymc.training.checkpoint import trained_with
from jana_pymc.training.distractors import learned_alone
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.loop import TrainingError, train
from jana_pymc.training.parallel import agreed_seed, of_first_process
from jana_pymc.training.rehearsal import rehearse
from jana_pymc.training.run import TrainingRun
from jana_pymc.training.settings import TrainingSettings, resolve_device
from jana_pymc.training.streaming import ChunkRounds

__all__ = [
    "BatchSource",
    "ChunkRounds",
    "SimulationRounds",
    "StoredSimulations",
    "TrainingError",
    "TrainingHistory",
    "TrainingRun",
    "TrainingSettings",
    "adjust",
    "agreed_seed",
    "learned_alone",
    "of_first_process",
    "rehearse",
    "resolve_device",
    "to_batch",
    "train",
    "trained_with",
]
