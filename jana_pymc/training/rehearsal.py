"""The posterior learns on from what the likelihood network says about ever new parameters.

A joint density that is learned twice over need not be learned from the same data: the likelihood
network, which has to know less, generalises from fewer simulations, and can then make as many as
the posterior needs.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.simulation import PyMCPrior
from jana_pymc.training.batches import SimulationRounds, seeded_generator
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.loop import TrainingError, train
from jana_pymc.training.settings import TrainingSettings

BATCHES_PER_ROUND = 40

ROWS_AT_ONCE = 16_000
"""Observations that a CPU makes at once: more do not fit its cache, and take twice as long."""


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
    own = replace(
        settings,
        n_steps=settings.rehearsal_steps,
        learning_rate=settings.rehearsal_learning_rate,
        linear_steps=0,
        weight_decay=0.0,  # there is nothing to overfit
        patience=None,
        rehearsal_steps=0,
    )
    source = SimulationRounds(
        _Surrogate(network, simulated, prior, own.batch_size, n_obs, seed),
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
    if later.best_posterior >= history.best_posterior:
        network.posterior.load_state_dict(before)
    return history.followed_by(later)


class _Surrogate:
    """Rounds of data sets from a copy of the likelihood network."""

    def __init__(
        self,
        network: JointNetwork,
        simulated: Batch,
        prior: PyMCPrior | None,
        batch_size: int,
        n_obs: tuple[int, int],
        seed: int,
    ):
        self.likelihood = copy.deepcopy(network.likelihood)
        self.likelihood.eval()  # type: ignore[attr-defined]
        self.simulated, self.prior, self.seed = simulated, prior, seed
        self.n_sets = batch_size * BATCHES_PER_ROUND
        self.n_obs = min(n_obs[1], simulated.observables.shape[1])

    @torch.no_grad()
    def __call__(self, number: int) -> tuple[Batch, None]:
        rng = np.random.default_rng((self.seed, 40, number))
        like = self.simulated.parameters
        rows = torch.as_tensor(rng.integers(len(like), size=self.n_sets), device=like.device)
        batch = self.simulated.rows(rows)
        parameters, unconstrained = batch.parameters, batch.unconstrained
        if self.prior is not None:
            drawn = self.prior.draw(self.n_sets, rng)
            parameters = torch.as_tensor(drawn).to(like)
            unconstrained = torch.as_tensor(self.prior.unconstrain(drawn)).to(like)
        conditions = None if batch.conditions is None else batch.conditions[:, : self.n_obs]
        generator = seeded_generator(like.device, self.seed, 41, number)
        at_once = ROWS_AT_ONCE if like.device.type == "cpu" else self.n_sets * self.n_obs
        size = max(1, at_once // self.n_obs)
        thetas = parameters.split(size)
        known = [None] * len(thetas) if conditions is None else conditions.split(size)
        observables = torch.cat(
            [
                self.likelihood.sample(theta, self.n_obs, given, generator)
                for theta, given in zip(thetas, known, strict=True)
            ]
        )
        made = Batch(parameters, unconstrained, observables, conditions, batch.n_obs)
        # The tails of a trained density may reach infinity. Left out, another takes the place.
        finite = torch.isfinite(observables).flatten(1).all(1)
        finite &= torch.isfinite(unconstrained).all(1)
        kept = finite.nonzero()[:, 0]
        if not len(kept):
            raise TrainingError("the likelihood network makes no finite data to rehearse with.")
        again = torch.arange(self.n_sets, device=like.device) % len(kept)
        return made.rows(kept[again]), None
