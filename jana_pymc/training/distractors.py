"""Distractors are learned alone, before the pair.

Their density tells nothing of the parameters, takes most of the work, and overfits at a time of its
own, at which the rest of the likelihood would have to stop with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.likelihoods import VectorLikelihood
from jana_pymc.likelihoods.distractors import DistractorFlow
from jana_pymc.training.batches import BatchSource
from jana_pymc.training.loop import train
from jana_pymc.training.settings import TrainingSettings

SHARE = 0.15
"""Of the steps of the pair."""


@contextmanager
def learned_alone(
    network: JointNetwork,
    source: BatchSource,
    validation: tuple[Batch, Batch | None],
    settings: TrainingSettings,
    *,
    seed: int,
    checkpoint: Path | None = None,
    data: str = "",
    progressbar: bool = True,
) -> Iterator[None]:
    """Train the likelihood's distractors, if it has any, and keep them out of it inside.

    Parameters
    ----------
    network, source, validation, settings, seed, checkpoint, data, progressbar
        As for `train`.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    likelihood = network.likelihood
    if not isinstance(likelihood, VectorLikelihood) or likelihood.distractor_part is None:
        yield
        return
    others = (*likelihood.discrete, *likelihood.continuous)
    alone = _Distractors(likelihood.distractor_part, likelihood.distractors, others)
    n_steps = max(1, round(SHARE * settings.n_steps))
    train(
        # Of a likelihood it has what training asks for.
        JointNetwork(network.posterior, alone),  # type: ignore[arg-type]
        source,
        validation,
        replace(
            settings,
            n_steps=n_steps,
            linear_steps=min(settings.linear_steps, n_steps // 4),
            shape_shrinkage=0.0,  # of parameters, which they do not see
        ),
        seed=seed,
        halves=("likelihood",),
        checkpoint=checkpoint,
        data=data,
        progressbar=progressbar,
        doing="training the distractors",
    )
    distractors, likelihood.distractor_part = likelihood.distractor_part, None
    try:
        yield
    finally:
        likelihood.distractor_part = distractors


class _Distractors(nn.Module):
    """The density of the distractors in the place of a likelihood."""

    def __init__(self, part: DistractorFlow, positions: Sequence[int], others: Sequence[int]):
        super().__init__()
        self.part, self.positions, self.others = part, list(positions), list(others)

    def training_log_prob(
        self,
        observables: Tensor,
        parameters: Tensor,
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        rows = observables.flatten(0, 1)
        log_prob = self.part.log_prob(rows[:, self.positions], rows[:, self.others])
        return log_prob.reshape(observables.shape[:2])
