"""Data sets that the likelihood network makes, for the posterior to learn from."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch

from jana_pymc.joint_network import Batch
from jana_pymc.training.batches import seeded_generator
from jana_pymc.training.loop import TrainingError
from jana_pymc.training.run import TrainingRun
from jana_pymc.training.settings import TrainingSettings

BATCHES_PER_ROUND = 40

ROWS_AT_ONCE = 16_000
"""Observations that a CPU makes at once: more do not fit its cache, and take twice as long."""


def posterior_stage(
    settings: TrainingSettings, n_steps: int, learning_rate: float
) -> TrainingSettings:
    """Settings under which the posterior alone learns from surrogates, after joint training."""
    return replace(
        settings,
        n_steps=n_steps,
        learning_rate=learning_rate,
        linear_steps=0,
        weight_decay=0.0,  # there is nothing to overfit
        patience=None,
        rehearsal_steps=0,
        adjustment_steps=0,
    )


class Surrogates:
    """Rounds of data sets from a copy of a run's likelihood network.

    Parameters
    ----------
    run : TrainingRun
        Known conditions are taken from its simulations; all data sets have the largest size.
    batch_size : int
        A round has so many data sets times `BATCHES_PER_ROUND`.
    seed : int
        With the number of a round it determines what that holds.
    """

    def __init__(self, run: TrainingRun, batch_size: int, seed: int):
        self.likelihood = copy.deepcopy(run.network.likelihood)
        self.likelihood.eval()
        self.draw = self.likelihood.sample
        distractors = self.likelihood.distractors
        if distractors and not any(map(run.network.posterior.sees, distractors)):
            self.draw = self.likelihood.sample_informative
        self.simulated = run.simulated.sets[0]
        self.prior = run.prior if run.may_be_new else None
        self.seed = seed
        self.n_sets = batch_size * BATCHES_PER_ROUND
        self.n_obs = run.simulated.most_observations

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
                self.draw(theta, self.n_obs, given, generator)
                for theta, given in zip(thetas, known, strict=True)
            ]
        )
        made = Batch(parameters, unconstrained, observables, conditions, batch.n_obs)
        # The tails of a trained density may reach infinity: other data sets take their places.
        finite = torch.isfinite(observables).flatten(1).all(1)
        finite &= torch.isfinite(unconstrained).all(1)
        kept = finite.nonzero()[:, 0]
        if not len(kept):
            raise TrainingError("the likelihood network makes no finite data to learn from.")
        again = torch.arange(self.n_sets, device=like.device) % len(kept)
        return made.rows(kept[again]), None
