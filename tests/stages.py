"""What the tests of the stages of a training share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import jana_pymc as jana
from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.training import SimulationRounds, StoredSimulations, TrainingRun, to_batch


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    """Whether all weights are equal, to the last bit."""
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@contextmanager
def interrupted(step: int) -> Iterator[None]:
    """Trainings inside, on rounds of surrogates, must end by an interruption at this step."""
    batch = SimulationRounds.batch

    def interrupting(self, at):
        if at == step:
            raise KeyboardInterrupt
        return batch(self, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulationRounds, "batch", interrupting)
        with pytest.raises(KeyboardInterrupt):
            yield


def run_on(
    network: JointNetwork,
    model: jana.GenerativeModel,
    n_simulations: int,
    settings: jana.TrainingSettings = jana.TrainingSettings(),
    may_be_new: bool = True,
) -> TrainingRun:
    """A training of networks on a few simulations, a fifth of them held out."""
    made = model.simulate(n_simulations, random_seed=3, progressbar=False)
    batch: Batch = to_batch(made, model.prior, torch.device("cpu"))
    n_held_out = n_simulations // 5
    simulated = StoredSimulations(
        batch.rows(slice(n_held_out, None)),
        None,
        batch_size=settings.batch_size,
        n_obs=model.schema.n_obs,
        seed=1,
        ordered=model.schema.structure != "exchangeable",
    )
    return TrainingRun(
        network,
        simulated,
        (batch.rows(slice(0, n_held_out)), None),
        settings,
        model.prior,
        may_be_new,
        seed=1,
        progressbar=False,
    )
