"""Which of several likelihood networks simulations prefer, after a short training of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from jana_pymc.architecture import NetworkSettings
from jana_pymc.joint import JointNetwork
from jana_pymc.likelihoods import VectorLikelihood
from jana_pymc.training import TrainingError, TrainingRun, of_first_process

N_STEPS, LINEAR_STEPS, N_VALIDATIONS = 1_500, 200, 10
"""Of ten statistics, a likelihood comes so within a tenth of a nat of what 5,000 steps teach it."""


def likeliest(
    candidates: Sequence[NetworkSettings],
    build: Callable[[NetworkSettings], JointNetwork],
    run: TrainingRun,
) -> NetworkSettings:
    """The candidate whose likelihood network has the least loss on held-out simulations.

    Distractors, which are learned alone whichever is chosen, are left out.

    Parameters
    ----------
    candidates : sequence of NetworkSettings
        A single one needs no training, and the first wins where none can be trained.
    build : callable
        Makes a network from settings, standardised and on its device.
    run : TrainingRun
        The training to come: its simulations, rates and batches are those of the selection, and
        each candidate has a checkpoint beside its own.

    Returns
    -------
    NetworkSettings
    """
    if len(candidates) == 1:
        return candidates[0]
    brief = replace(
        run.settings,
        n_steps=min(N_STEPS, run.settings.n_steps),
        linear_steps=min(LINEAR_STEPS, run.settings.linear_steps),
        n_validations=min(N_VALIDATIONS, run.settings.n_validations),
        rehearsal_steps=0,
        adjustment_steps=0,
    )
    losses = []
    for number, settings in enumerate(candidates):
        try:
            network = build(settings)
            if isinstance(network.likelihood, VectorLikelihood):
                network.likelihood.distractor_part = None
            history = run.train(
                run.simulated,
                doing="choosing a likelihood",
                stage=f"candidate-{number}",
                network=network,
                settings=brief,
                halves=("likelihood",),
            )
            losses.append(history.best_likelihood)
        except (TrainingError, torch.linalg.LinAlgError):
            losses.append(math.inf)
    # Processes that train together validate alike, but for rounding.
    agreed = of_first_process(torch.tensor(losses, dtype=torch.float64)).tolist()
    known = [math.inf if math.isnan(loss) else loss for loss in agreed]
    return candidates[known.index(min(known))]
