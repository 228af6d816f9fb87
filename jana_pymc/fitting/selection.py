"""How much freedom simulations ask of a likelihood network, after a short training of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.likelihoods import VectorLikelihood
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.training import TrainingError, TrainingRun, of_first_process

N_STEPS, LINEAR_STEPS, N_VALIDATIONS = 1_500, 200, 10
"""Of ten statistics, a likelihood comes so within a tenth of a nat of what 5,000 steps teach it."""

SETS_AT_ONCE = 512


def select_likelihood(
    candidates: Sequence[NetworkSettings],
    build: Callable[[NetworkSettings], JointNetwork],
    run: TrainingRun,
) -> NetworkSettings:
    """The candidate of least freedom that explains held-out simulations as well as any other.

    That is, whose mean loss is above the least one by no more than a standard error of their
    difference [1]_: what is as good after a short training, and has less to learn by heart, is the
    better one after a long training. Distractors, which are learned alone whichever is chosen, are
    left out.

    Parameters
    ----------
    candidates : sequence of NetworkSettings
        From the one of most freedom to that of least. A single one needs no training, and the
        first wins where none can be trained.
    build : callable
        Makes a network from settings, standardised and on its device.
    run : TrainingRun
        The training to come: its simulations, rates and batches are those of the selection, and
        each candidate has a checkpoint beside its own.

    Returns
    -------
    NetworkSettings

    References
    ----------
    .. [1] Breiman, L., Friedman, J. H., Olshen, R. A., and Stone, C. J. (1984). Classification and
       Regression Trees. Wadsworth. Section 3.4.3 (the rule of one standard error).
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
    held_out = [batch for batch in run.held_out if batch is not None]
    losses = torch.full((len(candidates), sum(map(len, held_out))), math.inf, dtype=torch.float64)
    for number, settings in enumerate(candidates):
        try:
            network = build(settings)
            if isinstance(network.likelihood, VectorLikelihood):
                network.likelihood.distractor_part = None
            run.train(
                run.simulated,
                doing="choosing a likelihood",
                stage=f"candidate-{number}",
                network=network,
                settings=brief,
                halves=("likelihood",),
            )
            losses[number] = torch.cat([_losses(network, batch) for batch in held_out])
        except (TrainingError, torch.linalg.LinAlgError):
            continue
    # Processes that train together validate alike, but for rounding.
    return candidates[least_free(of_first_process(losses))]


def least_free(losses: Float[Tensor, "candidates sets"]) -> int:
    """The last of the candidates whose mean loss is the least, but for a standard error.

    Parameters
    ----------
    losses : Tensor, shape (candidates, sets)
        Of the same data sets. Candidates whose mean is not finite are none; without any, the first
        one is taken.
    """
    means = losses.mean(1).nan_to_num(math.inf, math.inf, math.inf)
    best = int(means.argmin())
    chosen = best
    for number in range(best + 1, len(losses)):
        excess = losses[number] - losses[best]
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            chosen = number
    return chosen


@torch.no_grad()
def _losses(network: JointNetwork, batch: Batch) -> Float[Tensor, " sets"]:
    """Of each data set, by observation, as the training weighs them."""
    parts = []
    for start in range(0, len(batch), SETS_AT_ONCE):
        part = batch.rows(slice(start, start + SETS_AT_ONCE))
        density = network.likelihood.log_prob(part.observables, part.parameters, part.conditions)
        parts.append(-density.mean(1).double().cpu())
    return torch.cat(parts)
