"""Distractors are learned alone, before the pair.

Their density does not depend on the parameters, takes most of the work, and overfits at a time of
its own, at which the rest of the likelihood would have to stop with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.likelihoods import VectorLikelihood
from jana_pymc.posterior.network import PosteriorNetwork
from jana_pymc.training.run import TrainingRun

SHARE = 0.15
"""Steps, as a share of the pair's."""


@contextmanager
def learned_alone(run: TrainingRun) -> Iterator[None]:
    """Train the likelihood's distractors, if it has any, and keep them out of it inside.

    All that is measured inside, the history of the pair included, is without their density.

    Parameters
    ----------
    run : TrainingRun
        Whose networks are trained.

    Raises
    ------
    TrainingError
        If gradients were not finite in too many steps.
    """
    likelihood, settings = run.network.likelihood, run.settings
    if not isinstance(likelihood, VectorLikelihood) or likelihood.distractor_part is None:
        yield
        return
    n_steps = max(1, round(SHARE * settings.n_steps))
    run.train(
        run.simulated,
        doing="training the distractors",
        stage="distractors",
        network=_Distractors(run.network.posterior, likelihood),
        settings=replace(
            settings,
            n_steps=n_steps,
            linear_steps=min(settings.linear_steps, n_steps // 4),
            shape_shrinkage=0.0,  # of parameters, which they do not see
        ),
        halves=("likelihood",),
    )
    distractors, likelihood.distractor_part = likelihood.distractor_part, None
    try:
        yield
    finally:
        likelihood.distractor_part = distractors


class _Distractors(JointNetwork):
    """The density of a likelihood's distractors in the place of all of it."""

    positions: Tensor
    others: Tensor

    def __init__(self, posterior: PosteriorNetwork, likelihood: VectorLikelihood):
        nn.Module.__init__(self)
        self.posterior = posterior
        self.likelihood = likelihood.distractor_part  # type: ignore[assignment]
        self.register_buffer("positions", likelihood.of_distractors, persistent=False)
        self.register_buffer("others", likelihood.of_others, persistent=False)

    def likelihood_loss(
        self,
        batch: Batch,
        proposal_batch: Batch | None = None,
        *,
        max_obs: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Their loss, which needs neither parameters nor conditions."""
        wider = [batch.observables]
        wider += [] if proposal_batch is None else [proposal_batch.observables]
        rows = torch.cat(wider)[:, :max_obs].flatten(0, 1)
        values, given = (rows.index_select(1, each) for each in (self.positions, self.others))
        log_prob = self.likelihood.log_prob(values, given)
        return -log_prob.mean()
