"""Refinement of amortized draws by the chosen method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from rich.progress import Progress

from jana_pymc.checks import check_choice
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.refinement.hamiltonian import nuts
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.refinement.resampling import CANDIDATES, amortized, psis
from jana_pymc.refinement.starts import chain_starts
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.warning import warn

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

Refinement = Literal["none", "pooled", "psis", "nuts", "auto"]

REFINEMENTS: tuple[Refinement, ...] = get_args(Refinement)


def refine(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    *,
    method: Refinement = "auto",
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = False,
) -> RefinedDraws:
    """Draw from the posterior of each data set, refined as asked.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        From ``approximator.schema.batch(data)``.
    draws : int
        Total number per data set, a multiple of `chains`.
    method : {"none", "pooled", "psis", "nuts", "auto"}
        "pooled" and "psis" resample by importance, see `psis`; "auto" is "psis", and NUTS where k̂
        is too high.
    chains : int
        Chains of NUTS.
    random_seed : int or Generator, optional
    progressbar : bool
        Whether to show a progress bar while NUTS runs.

    Returns
    -------
    RefinedDraws

    Warns
    -----
    UserWarning
        If NUTS has nowhere to start for a data set, which keeps its resampled draws.
    """
    check_choice("refine", method, REFINEMENTS)
    rng = random_generator(random_seed)
    if method == "none":
        return amortized(approximator, batch, draws, rng)
    weight = _pool_weight(approximator) if method == "pooled" else 1.0
    resampled = psis(approximator, batch, draws, pool_weight=weight, random_seed=rng)
    if method in ("psis", "pooled"):
        return resampled
    threshold = pareto_k_threshold(CANDIDATES * draws)
    chosen = np.arange(len(batch)) if method == "nuts" else resampled.pareto_k > threshold
    chosen = np.arange(len(batch))[chosen]
    if not len(chosen):
        return resampled
    starts, found = chain_starts(approximator, batch, resampled, chosen, rng)
    if not found.all():
        warn(
            f"NUTS has nowhere to start for data sets {chosen[~found].tolist()}: at none of their "
            "draws do they have a likelihood inside the trained region. These draws are left as "
            "they are; jana_pymc.detect_misspecification tests whether the model can generate such "
            "data."
        )
    with Progress(disable=not progressbar) as progress:
        return nuts(
            approximator,
            batch,
            starts=starts,
            datasets=chosen[found],
            chains=chains,
            random_seed=rng,
            progress=progress,
        )


def _pool_weight(approximator: JointApproximator) -> float:
    if approximator.pool_weight is None:
        raise ValueError(
            'refine="pooled": this pair was saved before pool weights were learned. Set '
            "approximator.pool_weight = jana_pymc.learn_pool_weight(approximator, simulations), "
            "with some hundred simulations that it was not trained on."
        )
    return approximator.pool_weight
