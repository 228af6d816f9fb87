"""The choice of a refinement, or of none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from jana_pymc.importance import pareto_k_threshold
from jana_pymc.refinement.hamiltonian import nuts
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.refinement.resampling import CANDIDATES, psis
from jana_pymc.simulation import DataBatch

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

Refinement = Literal["none", "psis", "nuts", "auto"]

REFINEMENTS: tuple[Refinement, ...] = ("none", "psis", "nuts", "auto")


def refine(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    *,
    method: Refinement = "auto",
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
) -> RefinedDraws:
    """Draw from the posterior of each data set, refined as asked.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        From ``approximator.schema.batch(data)``.
    draws : int
        In all, a multiple of `chains`.
    method : {"none", "psis", "nuts", "auto"}
        "auto" resamples by importance, and runs NUTS where k̂ says that this is not enough.
    chains : int
        Chains of NUTS.
    random_seed : int or Generator, optional

    Returns
    -------
    RefinedDraws
    """
    if method not in REFINEMENTS:
        raise ValueError(f"refine={method!r} is unknown; choose from {list(REFINEMENTS)}.")
    rng = np.random.default_rng(random_seed)
    if method == "none":
        return _amortized(approximator, batch, draws, rng)
    resampled = psis(approximator, batch, draws, random_seed=rng)
    if method == "psis":
        return resampled
    threshold = pareto_k_threshold(CANDIDATES * draws)
    chosen = np.arange(len(batch)) if method == "nuts" else resampled.pareto_k > threshold
    chosen = np.arange(len(batch))[chosen]
    if not len(chosen):
        return resampled
    return nuts(
        approximator, batch, starts=resampled, datasets=chosen, chains=chains, random_seed=rng
    )


def _amortized(
    approximator: JointApproximator, batch: DataBatch, draws: int, rng: np.random.Generator
) -> RefinedDraws:
    unconstrained, log_q = approximator.posterior.sample_unconstrained(batch, draws, rng)
    unknown = np.full(len(batch), np.nan)
    return RefinedDraws(
        unconstrained,
        log_q,
        np.full(len(batch), "none"),
        unknown,
        unknown,
        np.zeros(len(batch), dtype=int),
    )
