"""The trained posterior is adjusted to the slopes of the likelihood network at each data set.

A posterior network learns by regression, and a narrow posterior takes long: each halving of the
error takes more steps than the one before. The likelihood network determines the posterior's shape
already. Its slope at the posterior's own centre says, in posterior standard deviations, which way
to move, and how far to follow is learned in a few minutes.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.posterior import AdjustmentSettings, LatentSlopes
from jana_pymc.simulation import PyMCPrior
from jana_pymc.training.batches import SimulationRounds
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.run import TrainingRun, if_better
from jana_pymc.training.surrogates import BATCHES_PER_ROUND, Surrogates, posterior_stage

VISITS = 5
"""How often each data set is learned from: slopes cost more than a step."""

N_VALIDATIONS = 10

LEAST_GAIN = 0.01
"""In nats on held-out simulations: less is not worth a gradient for every data set, and may be
chance."""

FOR_SCALES = 2_000
"""Data sets by which inputs are standardised."""

SEED_OFFSET = 2
"""Added to the seed of the run: the pair has that seed itself, the rehearsal the next one."""


def adjust(
    run: TrainingRun, history: TrainingHistory, architecture: AdjustmentSettings
) -> TrainingHistory:
    """Train the posterior's adjustment in place, on data of the likelihood network.

    All but the adjustment stays as it is. If the posterior does not become better for held-out
    simulations by `LEAST_GAIN`, it has none.

    Parameters
    ----------
    run : TrainingRun
        Whose networks are trained.
    history : TrainingHistory
        Of that training.
    architecture : AdjustmentSettings

    Returns
    -------
    TrainingHistory
        Of both, one after the other, if this one was of use.
    """
    settings, posterior = run.settings, run.network.posterior
    own = replace(
        posterior_stage(settings, settings.adjustment_steps, settings.adjustment_learning_rate),
        mmd_weight=0.0,  # it is of summaries, which stay as they are
        n_validations=N_VALIDATIONS,
    )
    seed = run.seed + SEED_OFFSET
    scored = Scored(run.network, run.prior, architecture.n_points)
    surrogates = Surrogates(run, own.batch_size, seed)

    def get(number: int) -> tuple[Batch, None]:
        made, _ = surrogates(number)
        return scored(_shortened(made, run.simulated.n_obs, (run.seed, 42, number))), None

    source = SimulationRounds(
        get,
        batch_size=own.batch_size,
        steps_per_round=BATCHES_PER_ROUND * VISITS,
        n_obs=None,
        seed=seed,
        ordered=run.simulated.ordered,
    )
    frozen = list(posterior.parameters())

    def learn() -> TrainingHistory:
        first = surrogates(0)[0].rows(slice(0, FOR_SCALES))
        first = scored(_shortened(first, run.simulated.n_obs, (run.seed, 42, 0)))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(run.seed)
            posterior.adjust(architecture)
        assert posterior.adjustment is not None  # narrows the type
        posterior.adjustment.standardize(_conditions(run.network, first))
        for parameter in frozen:
            parameter.requires_grad_(False)
        return run.train(
            source,
            doing="adjusting the posterior",
            stage="adjustment",
            seed_offset=SEED_OFFSET,
            held_out=(scored(run.held_out[0]), run.held_out[1]),
            settings=own,
            halves=("posterior",),
        )

    try:
        return if_better(
            history,
            learn,
            undo=lambda: posterior.adjust(None),
            least_gain=LEAST_GAIN,
            what="adjustment",
            advice="Set TrainingSettings.adjustment_steps=0.",
        )
    finally:
        source.close()
        for parameter in frozen:
            parameter.requires_grad_(True)


class Scored:
    """Adds to batches the slopes that copies of trained networks compute."""

    def __init__(self, network: JointNetwork, prior: PyMCPrior, n_points: int):
        networks = copy.deepcopy(network).eval()
        self.slopes = LatentSlopes(networks.posterior, networks.likelihood, prior, n_points)

    def __call__(self, batch: Batch) -> Batch:
        return replace(batch, slopes=self.slopes(batch.observables, batch.n_obs, batch.conditions))


def _shortened(batch: Batch, n_obs: tuple[int, int] | None, key: tuple[int, ...]) -> Batch:
    """Data sets of as many observations as there may be."""
    if n_obs is None:
        return batch
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
