"""Which of several likelihood networks simulations prefer, after a short training of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from jana_pymc.architecture import NetworkSettings
from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.training import StoredSimulations, TrainingError, TrainingSettings, train

N_STEPS, LINEAR_STEPS, N_VALIDATIONS = 1_500, 200, 10
"""So short a training comes within a tenth of a nat of one three times as long."""


def likeliest(
    candidates: Sequence[NetworkSettings],
    build: Callable[[NetworkSettings], JointNetwork],
    simulated: StoredSimulations,
    held_out: tuple[Batch, Batch | None],
    training: TrainingSettings,
    *,
    seed: int,
) -> NetworkSettings:
    """The candidate whose likelihood network has the least loss on held-out simulations.

    Parameters
    ----------
    candidates : sequence of NetworkSettings
        The first wins where none can be trained; a single one is not.
    build : callable
        Makes a network from settings, standardised and on its device.
    simulated : StoredSimulations
    held_out : tuple of Batch and (Batch or None)
        From the prior and from the proposal.
    training : TrainingSettings
        Of the training to come, whose rates and batches are those of the audition.
    seed : int

    Returns
    -------
    NetworkSettings
    """
    if len(candidates) == 1:
        return candidates[0]
    brief = replace(
        training,
        n_steps=min(N_STEPS, training.n_steps),
        linear_steps=min(LINEAR_STEPS, training.linear_steps),
        n_validations=min(N_VALIDATIONS, training.n_validations),
        rehearsal_steps=0,
        adjustment_steps=0,
    )
    losses = []
    for settings in candidates:
        try:
            history = train(
                build(settings),
                simulated,
                held_out,
                brief,
                seed=seed,
                halves=("likelihood",),
                progressbar=False,
            )
            losses.append(history.best_likelihood)
        except TrainingError:
            losses.append(float("inf"))
    return candidates[losses.index(min(losses))]
