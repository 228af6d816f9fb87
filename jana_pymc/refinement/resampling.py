"""Importance resampling of amortized draws."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.importance import pareto_k_threshold
from jana_pymc.refinement.defensive_mixture import add_defensive_mixture, can_defend
from jana_pymc.refinement.proposals import Proposed, propose
from jana_pymc.refinement.refined import RefinedDraws, concatenate
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.slices import slices
from jana_pymc.warning import warn

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

CANDIDATES = 4
"""Amortized draws per draw kept, so that resampling repeats few of them."""

DRAWS_AT_ONCE = 400_000
"""Amortized draws that are in memory at once."""


def psis(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    *,
    pool_weight: float = 1.0,
    random_seed: int | np.random.Generator | None = None,
) -> RefinedDraws:
    r"""Importance resampling of amortized draws.

    Ratios :math:`[l(x \mid \theta) \, p(\theta) / q(\theta \mid x)]^\alpha` in the prior's
    unconstrained space, Pareto-smoothed, resample four times as many amortized draws as are kept.
    With α = 1 the result follows the posterior implied by likelihood network and prior, provided
    that k̂ is low. With a smaller α it follows the pool of this posterior and the amortized one
    (`learn_pool_weight`); α = 0 keeps the amortized posterior. If k̂ is too high, the proposal first
    gets heavier tails (`add_defensive_mixture`), unless too few draws are effective (`can_defend`).

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    draws : int
        Draws to keep for each data set.
    pool_weight : float
        α, from 0 to 1.
    random_seed : int or Generator, optional

    Returns
    -------
    RefinedDraws
    """
    rng = random_generator(random_seed)
    if pool_weight == 0.0:  # without the likelihood, since zero times −inf is NaN
        sets = len(batch)
        return replace(
            amortized(approximator, batch, draws, rng),
            method=np.full(sets, "pooled"),
            pareto_k=np.zeros(sets),
            effective_share=np.ones(sets),
        )
    refined = []
    for part in slices(len(batch), CANDIDATES * draws, DRAWS_AT_ONCE):
        proposed = propose(
            approximator, batch[part], CANDIDATES * draws, pool_weight, random_seed=rng
        )
        light = (proposed.weights.pareto_k > proposed.weights.threshold) & can_defend(proposed)
        if not light.any():
            refined.append(_resampled(proposed, draws, rng))
            continue
        defended = add_defensive_mixture(approximator, batch[part][light], proposed[light], rng)
        both = concatenate(
            [_resampled(proposed[~light], draws, rng), _resampled(defended, draws, rng)]
        )
        order = np.argsort(light, kind="stable")  # of `both`: those without a mixture come first
        refined.append(both[np.argsort(order)])
    return concatenate(refined)


def amortized(
    approximator: JointApproximator, batch: DataBatch, draws: int, rng: np.random.Generator
) -> RefinedDraws:
    """Draws of the amortized posterior without refinement."""
    unconstrained, log_q = approximator.posterior.sample_unconstrained(batch, draws, rng)
    unknown = np.full(len(batch), np.nan)
    return RefinedDraws(
        unconstrained,
        log_q,
        np.full(len(batch), "none"),
        unknown,
        unknown,
        np.zeros(len(batch), dtype=int),
        unknown,
    )


def _resampled(proposed: Proposed, draws: int, rng: np.random.Generator) -> RefinedDraws:
    """Proposed draws resampled by their weights."""
    weights = proposed.weights
    kept = weights.resample(draws, rng)
    return RefinedDraws(
        unconstrained=np.take_along_axis(proposed.unconstrained, kept[..., None], 1),
        log_q=np.take_along_axis(proposed.log_q, kept, 1),
        method=np.full(len(kept), "psis" if proposed.pool_weight == 1.0 else "pooled"),
        pareto_k=weights.pareto_k,
        effective_share=weights.effective_draws / weights.draws,
        divergences=np.zeros(len(kept), dtype=int),
        r_hat=np.full(len(kept), np.nan),
    )


def warn_unreliable(pareto_k: np.ndarray, draws: int, advice: str) -> None:
    """Warn of data sets whose importance weights are not reliable."""
    threshold = pareto_k_threshold(draws)
    bad = int((pareto_k > threshold).sum())
    if bad:
        warn(
            f"Pareto k is above {threshold:.2f} for {bad} of {pareto_k.size} data sets (largest "
            f"{pareto_k.max():.2f}): the amortized posterior misses part of the posterior that "
            f"likelihood and prior imply, and importance weights do not correct this. {advice}",
        )
