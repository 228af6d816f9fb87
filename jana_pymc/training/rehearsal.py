"""The posterior learns on from what the likelihood network says about ever new parameters.

A joint density that is learned twice over need not be learned from the same data: the likelihood
network, which has to know less, generalises from fewer simulations, and can then make as many as
the posterior needs.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.simulation import PyMCPrior
from jana_pymc.training.batches import SimulationRounds
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.loop import TrainingError, train
from jana_pymc.training.settings import TrainingSettings
from jana_pymc.training.surrogates import BATCHES_PER_ROUND, Surrogates, posterior_stage


def rehearse(
    network: JointNetwork,
    simulated: Batch,
    validation: tuple[Batch, Batch | None],
    settings: TrainingSettings,
    history: TrainingHistory,
    *,
    prior: PyMCPrior | None,
    n_obs: tuple[int, int],
    ordered: bool,
    seed: int,
    checkpoint: Path | None = None,
    data: str = "",
    progressbar: bool = True,
) -> TrainingHistory:
    """Train the posterior in place on data of the likelihood network.

    Parameters
    ----------
    network : JointNetwork
        After joint training.
    simulated : Batch
        What it was trained on: known conditions are taken from there.
    validation : tuple of Batch and (Batch or None)
        Held-out simulations. If the posterior does not become better for them, its weights stay.
    settings : TrainingSettings
    history : TrainingHistory
        Of the joint training.
    prior : PyMCPrior or None
        Where parameters are drawn from; None takes those of `simulated` again and again, which
        keeps to where the simulator did not fail.
    n_obs, ordered
        As for `SimulationRounds`.
    seed, checkpoint, data, progressbar
        As for `train`.

    Returns
    -------
    TrainingHistory
        Of both, one after the other.
    """
    own = posterior_stage(settings, settings.rehearsal_steps, settings.rehearsal_learning_rate)
    source = SimulationRounds(
        Surrogates(network, simulated, prior, own.batch_size, n_obs, seed),
        batch_size=own.batch_size,
        steps_per_round=BATCHES_PER_ROUND,
        n_obs=n_obs,
        seed=seed,
        ordered=ordered,
    )
    before = copy.deepcopy(network.posterior.state_dict())
    try:
        later = train(
            network,
            source,
            validation,
            own,
            seed=seed + 1,
            halves=("posterior",),
            checkpoint=checkpoint,
            data=data,
            progressbar=progressbar,
            doing="rehearsing the posterior",
        )
    except TrainingError as error:  # what was learned before is not lost
        network.posterior.load_state_dict(before)
        warnings.warn(
            f"the rehearsal of the posterior failed and is left out ({error}) Lower "
            "TrainingSettings.rehearsal_learning_rate, or set rehearsal_steps=0.",
            UserWarning,
            stacklevel=3,
        )
        return history
    finally:
        source.close()
    if not later.best_posterior < history.best_posterior:  # nor if it is no number
        network.posterior.load_state_dict(before)
    return history.followed_by(later)
