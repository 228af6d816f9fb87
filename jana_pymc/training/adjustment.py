"""The trained posterior is adjusted to what the likelihood network says of each data set.

A posterior network learns by regression, and a narrow posterior takes it long: each halving of its
error asks for more steps than the one before. The likelihood network knows the posterior's shape
already. Asked at the posterior's own centre which way it would have it move, it answers in
posterior standard deviations, and how far to follow is learned in a few minutes.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.posterior import AdjustmentSettings, LatentSlopes
from jana_pymc.simulation import PyMCPrior
from jana_pymc.training.batches import SimulationRounds
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.loop import TrainingError, train
from jana_pymc.training.settings import TrainingSettings
from jana_pymc.training.surrogates import BATCHES_PER_ROUND, Surrogates, posterior_stage

VISITS = 5
"""How often each data set is learned from: slopes cost more than a step."""

N_VALIDATIONS = 10

LEAST_GAIN = 0.01
"""In nats on held-out simulations: less is not worth a gradient for every data set, and may be
chance."""

FOR_SCALES = 2_000
"""Data sets by which inputs are standardised."""


def adjust(
    network: JointNetwork,
    simulated: Batch,
    validation: tuple[Batch, Batch | None],
    settings: TrainingSettings,
    history: TrainingHistory,
    *,
    architecture: AdjustmentSettings,
    prior: PyMCPrior,
    draw: bool,
    n_obs: tuple[int, int],
    ordered: bool,
    seed: int,
    checkpoint: Path | None = None,
    data: str = "",
    progressbar: bool = True,
) -> TrainingHistory:
    """Train the posterior's adjustment in place, on data of the likelihood network.

    Parameters
    ----------
    network : JointNetwork
        Trained. All but the adjustment stays as it is.
    simulated : Batch
        What it was trained on: known conditions are taken from there.
    validation : tuple of Batch and (Batch or None)
        Held-out simulations. If the posterior does not become better for them by `LEAST_GAIN`, it
        is left as it was.
    settings : TrainingSettings
    history : TrainingHistory
        Of the training before.
    architecture : AdjustmentSettings
    prior : PyMCPrior
    draw : bool
        Draw parameters from the prior, or take those of `simulated` again and again.
    n_obs, ordered
        As for `SimulationRounds`.
    seed, checkpoint, data, progressbar
        As for `train`.

    Returns
    -------
    TrainingHistory
        Of both, one after the other.
    """
    own = replace(
        posterior_stage(settings, settings.adjustment_steps, settings.adjustment_learning_rate),
        mmd_weight=0.0,  # of summaries, which stay
        n_validations=N_VALIDATIONS,
    )
    posterior = network.posterior
    scored = Scored(network, prior, architecture.n_points)
    surrogates = Surrogates(
        network, simulated, prior if draw else None, own.batch_size, n_obs, seed + 2
    )

    def get(number: int) -> tuple[Batch, None]:
        made, _ = surrogates(number)
        return scored(_shortened(made, n_obs, (seed, 42, number))), None

    source = SimulationRounds(
        get,
        batch_size=own.batch_size,
        steps_per_round=BATCHES_PER_ROUND * VISITS,
        n_obs=None,
        seed=seed + 2,
        ordered=ordered,
    )
    frozen = list(posterior.parameters())
    try:
        first = surrogates(0)[0].rows(slice(0, FOR_SCALES))
        first = scored(_shortened(first, n_obs, (seed, 42, 0)))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            posterior.adjust(architecture)
        assert posterior.adjustment is not None  # narrows the type
        posterior.adjustment.standardize(_conditions(network, first))
        for parameter in frozen:
            parameter.requires_grad_(False)
        later = train(
            network,
            source,
            (scored(validation[0]), validation[1]),
            own,
            seed=seed + 2,
            halves=("posterior",),
            checkpoint=checkpoint,
            data=data,
            progressbar=progressbar,
            doing="adjusting the posterior",
        )
    except TrainingError as error:  # what was learned before is not lost
        posterior.adjust(None)
        warnings.warn(
            f"the adjustment of the posterior failed and is left out ({error}) Set "
            "TrainingSettings.adjustment_steps=0.",
            UserWarning,
            stacklevel=3,
        )
        return history
    finally:
        source.close()
        for parameter in frozen:
            parameter.requires_grad_(True)
    if not later.best_posterior <= history.best_posterior - LEAST_GAIN:  # nor if it is no number
        posterior.adjust(None)
    return history.followed_by(later)


class Scored:
    """Batches with the slopes that copies of trained networks tell of them."""

    def __init__(self, network: JointNetwork, prior: PyMCPrior, n_points: int):
        networks = copy.deepcopy(network).eval()
        self.slopes = LatentSlopes(networks.posterior, networks.likelihood, prior, n_points)

    def __call__(self, batch: Batch) -> Batch:
        return replace(batch, slopes=self.slopes(batch.observables, batch.n_obs, batch.conditions))


def _shortened(batch: Batch, n_obs: tuple[int, int], key: tuple[int, ...]) -> Batch:
    """Data sets of as many observations as there may be."""
    high = int(batch.observables.shape[1])
    rng = np.random.default_rng(key)
    sizes = rng.integers(min(n_obs[0], high), min(n_obs[1], high) + 1, size=len(batch))
    return replace(batch, n_obs=torch.as_tensor(sizes, device=batch.n_obs.device))


@torch.no_grad()
def _conditions(network: JointNetwork, batch: Batch) -> torch.Tensor:
    """What the posterior's flow is conditioned on."""
    posterior = network.posterior.eval()
    summary = posterior.summarize(batch.observables, batch.n_obs, batch.conditions)
    condition = posterior.condition(summary, batch.observables, batch.n_obs, batch.slopes)
    return posterior.seen_by_flow(condition)
