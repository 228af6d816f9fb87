"""The amortized workflow: as much computation for each data set as it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import Progress

from jana_pymc.checks import check_count, check_share
from jana_pymc.declarations import check_approximator
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.inference_data import (
    ArviZData,
    parameter_dataset,
    sample_stats_dataset,
    split_chains,
    to_inference_data,
)
from jana_pymc.plots.analysis import plot_analysis
from jana_pymc.refinement import (
    CANDIDATES,
    RefinedDraws,
    chain_starts,
    nuts,
    propose,
    psis,
    unconverged,
)
from jana_pymc.refinement.resampling import DRAWS_AT_ONCE
from jana_pymc.simulation import DataBatch, ParameterLayout, random_generator
from jana_pymc.slices import slices
from jana_pymc.trained_region import FEW, share_outside
from jana_pymc.workflow.misspecification import Misspecification, detect_misspecification
from jana_pymc.workflow.result import Result

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import Simulations

RUNGS = ("none", "amortized", "psis", "nuts")
"""Methods in order of cost; "none" where the likelihood is zero for all trained parameters."""

N_SIMULATIONS = 2000
"""Well-specified data sets behind the check for misspecification."""


@dataclass(frozen=True, eq=False, repr=False)
class Analysis(Result):
    """Posterior draws of many data sets, each by the cheapest method that sufficed.

    Attributes
    ----------
    table : DataFrame
        One row per data set: ``n_obs``; ``p_value`` of the misspecification check and whether the
        data set is ``misspecified``; ``effective_share``, the share of effective draws among the
        amortized ones; ``pareto_k``; the ``rung`` ("amortized", "psis", "nuts" or "none"); the
        largest ``r_hat`` and the ``divergences`` of NUTS; whether the draws are ``reliable``, for
        which they must lie inside the trained region; and the ``reason`` in words.
    draws : ndarray, shape (sets, chains · draws, size)
        Constrained, chains one after the other; NaN on the rung "none".
    log_q : ndarray, shape (sets, chains · draws)
        Log density of the amortized posterior at the draws, unconstrained.
    chains : int
    layout : ParameterLayout
    misspecification : Misspecification or None
        None if there was no model to simulate known conditions for the check.
    """

    table: pd.DataFrame
    draws: np.ndarray
    log_q: np.ndarray
    chains: int
    layout: ParameterLayout
    misspecification: Misspecification | None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def counts(self) -> dict[str, int]:
        """Number of data sets on each rung."""
        return {rung: int((self.table["rung"] == rung).sum()) for rung in RUNGS}

    def to_inference_data(self) -> ArviZData:
        """Draws of all data sets, with a dimension ``dataset`` (`jana_pymc.select_dataset`)."""
        posterior = parameter_dataset(split_chains(self.draws, self.chains), self.layout)
        labels = {"rung": ("dataset", self.table["rung"].to_numpy(dtype=str))}
        return to_inference_data(
            {
                "posterior": posterior.assign_coords(labels),
                "sample_stats": sample_stats_dataset(
                    {"log_q": split_chains(self.log_q, self.chains)}
                ),
            }
        )

    def plot(self) -> Figure:
        """Plot the rung of each data set and the reason (`jana_pymc.plots.plot_analysis`)."""
        return plot_analysis(self)


def analyze(
    approximator: JointApproximator,
    data: Any,
    *,
    draws: int = 250,
    chains: int = 4,
    min_effective_share: float = 0.8,
    level: float = 0.01,
    simulations: Simulations | None = None,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Analysis:
    """Analyse many data sets, each by the cheapest method that suffices.

    1. Every data set is tested for misspecification. One that fails is marked, but continues like
       the others, since its likelihood may be valid where the amortized posterior is not.
    2. Amortized draws are weighted by likelihood times prior over their density. If the weights are
       even, the draws are kept.
    3. If not, but the tail of the weights is light (k̂ below its threshold), four times as many
       amortized draws are resampled by Pareto-smoothed weights.
    4. Otherwise NUTS starts from these draws, with their covariance as its metric. If it does not
       converge, diverges often, or has nowhere to start, the draws are marked as not reliable.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
        One data set or many.
    draws, chains : int
        Draws per chain and chains that are kept for each data set.
    min_effective_share : float
        Amortized draws are kept if at least this share of them is effective (Kish).
    level : float
        Level of the misspecification check: the share of well-specified data sets that it marks.
    simulations : Simulations, optional
        Well-specified data sets for the check; by default from the model, or from the likelihood
        if there is no model.
    random_seed : int, Generator or None
    progressbar : bool

    Returns
    -------
    Analysis

    Raises
    ------
    TypeError
        If `approximator` is no pair, `simulations` are none, or data are not numeric.
    ValueError
        If the data do not fit the declared observables, simulations are of another model, or an
        option is out of range.
    """
    check_approximator(approximator)
    check_count("draws", draws)
    check_count("chains", chains)
    check_share("min_effective_share", min_effective_share, one=True)
    check_share("level", level)
    rng = random_generator(random_seed)
    batch = approximator.posterior.batch(data)
    check = _check(approximator, batch, simulations, level, rng)
    ladder = _Ladder(approximator, batch, draws * chains, chains, min_effective_share)
    with Progress(disable=not progressbar) as progress:
        ladder.climb(rng, progress)
    unknown = np.full(len(batch), np.nan)
    table = pd.DataFrame(
        {
            "n_obs": batch.n_obs,
            "p_value": unknown if check is None else check.p_values,
            "misspecified": np.zeros(len(batch), bool) if check is None else check.outliers,
            "effective_share": ladder.share,
            "pareto_k": ladder.pareto_k,
            "rung": ladder.rung,
            "r_hat": ladder.r_hat,
            "divergences": ladder.divergences,
        }
    ).rename_axis("dataset")
    constrained = ladder.constrained()
    outside = share_outside(approximator.likelihood.region, constrained)
    table["reliable"] = (outside <= FEW) & (
        (table["rung"] == "amortized")
        | ((table["rung"] == "psis") & (table["pareto_k"] <= ladder.threshold["psis"]))
        | ((table["rung"] == "nuts") & ~ladder.unconverged)
    )
    table["reason"] = [_reason(row, ladder, outside[row.Index]) for row in table.itertuples()]
    return Analysis(
        table=table,
        draws=constrained,
        log_q=ladder.log_q,
        chains=chains,
        layout=approximator.layout,
        misspecification=check,
    )


class _Ladder:
    """State of all data sets while they move from one method to the next."""

    def __init__(
        self,
        approximator: JointApproximator,
        batch: DataBatch,
        draws: int,
        chains: int,
        min_effective_share: float,
    ):
        n_sets = len(batch)
        self.approximator, self.batch = approximator, batch
        self.draws, self.chains = draws, chains
        self.min_effective_share = min_effective_share
        size = approximator.prior.n_unconstrained
        self.unconstrained = np.full((n_sets, draws, size), np.nan)
        self.log_q = np.full((n_sets, draws), np.nan)
        self.rung = np.full(n_sets, "none", dtype="<U9")
        self.share, self.resampled_share = np.full(n_sets, np.nan), np.full(n_sets, np.nan)
        self.pareto_k, self.r_hat = np.full(n_sets, np.nan), np.full(n_sets, np.nan)
        self.divergences = np.zeros(n_sets, dtype=int)
        self.stranded = np.zeros(n_sets, dtype=bool)
        self.threshold = {
            "amortized": pareto_k_threshold(draws),
            "psis": pareto_k_threshold(CANDIDATES * draws),
        }

    def climb(self, rng: np.random.Generator, progress: Progress) -> None:
        """Take each data set to the rung that it needs, all on one rung together."""

        def left_by(
            rung: Callable[..., np.ndarray], index: np.ndarray, candidates: int, description: str
        ) -> np.ndarray:
            parts = list(slices(len(index), candidates, DRAWS_AT_ONCE))
            left = [
                rung(index[part], rng) for part in progress.track(parts, description=description)
            ]
            return np.concatenate([np.empty(0, dtype=int), *left])

        possible = np.flatnonzero(self.approximator.likelihood.reachable(self.batch.observables))
        uneven = left_by(self._amortize, possible, self.draws, "Amortized draws")
        heavy = left_by(self._resample, uneven, CANDIDATES * self.draws, "Importance resampling")
        self._sample(heavy, rng, progress)

    def constrained(self) -> np.ndarray:
        """Draws on the user's scale."""
        result = np.full((*self.log_q.shape, self.approximator.layout.size), np.nan)
        done = np.flatnonzero(self.rung != "none")
        if len(done):
            result[done] = self.approximator.prior.constrain(self.unconstrained[done])
        return result

    @property
    def unconverged(self) -> np.ndarray:
        """Whether NUTS ran, but its draws are not reliable, shape (sets,)."""
        return unconverged(self.r_hat, self.divergences, self.draws)

    def _amortize(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Keep the draws of those with even weights; return the others."""
        proposed = propose(self.approximator, self.batch[index], self.draws, random_seed=rng)
        weights = proposed.weights
        self.share[index] = weights.effective_draws / weights.draws
        self.pareto_k[index] = weights.pareto_k
        self.unconstrained[index], self.log_q[index] = proposed.unconstrained, proposed.log_q
        self.rung[index] = "amortized"
        light = weights.pareto_k <= self.threshold["amortized"]
        return index[~(light & (self.share[index] >= self.min_effective_share))]

    def _resample(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Resample; return those whose weights have too heavy a tail for it."""
        refined = psis(self.approximator, self.batch[index], self.draws, random_seed=rng)
        self.unconstrained[index], self.log_q[index] = refined.unconstrained, refined.log_q
        self.pareto_k[index] = refined.pareto_k
        self.resampled_share[index] = refined.effective_share
        self.rung[index] = "psis"
        return index[refined.pareto_k > self.threshold["psis"]]

    def _sample(self, index: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        if not len(index):
            return
        resampled = RefinedDraws(
            unconstrained=self.unconstrained[index],
            log_q=self.log_q[index],
            method=self.rung[index],
            pareto_k=self.pareto_k[index],
            effective_share=self.resampled_share[index],
            divergences=self.divergences[index],
            r_hat=self.r_hat[index],
        )
        starts, found = chain_starts(
            self.approximator, self.batch[index], resampled, np.arange(len(index)), rng
        )
        self.stranded[index[~found]] = True
        index, starts = index[found], starts[found]
        refined = nuts(
            self.approximator,
            self.batch[index],
            starts=starts,
            chains=self.chains,
            random_seed=rng,
            progress=progress,
        )
        self.divergences[index] = refined.divergences
        self.r_hat[index] = refined.r_hat
        # Chains that have not mixed are no better than resampled draws of finite variance.
        better = ~self.unconverged[index] | (self.pareto_k[index] > 1)
        kept = index[better]
        self.unconstrained[kept], self.log_q[kept] = (
            refined.unconstrained[better],
            refined.log_q[better],
        )
        self.rung[kept] = "nuts"


def _check(
    approximator: JointApproximator,
    batch: DataBatch,
    simulations: Simulations | None,
    level: float,
    rng: np.random.Generator,
) -> Misspecification | None:
    if simulations is None and approximator.model is None:
        if approximator.schema.conditions:
            return None
        simulations = approximator.simulate(
            approximator.prior.draw(N_SIMULATIONS, rng), random_seed=rng
        )
    return detect_misspecification(
        approximator,
        batch,
        simulations=simulations,
        n_simulations=N_SIMULATIONS,
        level=level,
        random_seed=rng,
        progressbar=False,
    )


def _reason(row: Any, ladder: _Ladder, outside: float) -> str:
    threshold = ladder.threshold["psis"]
    comparison = "at most" if row.pareto_k <= threshold else "above"
    reason = f"k = {row.pareto_k:.2f}, {comparison} {threshold:.2f}"
    if row.rung == "none":
        reason = "impossible under every parameter that the likelihood was trained on"
    if row.rung == "amortized":
        reason = f"weights are even, {row.effective_share:.0%} effective"
    if ladder.stranded[row.Index]:
        reason += "; NUTS found nowhere to start"
    if outside > FEW:
        reason += f"; {outside:.0%} of the draws lie outside the trained region"
    if ladder.unconverged[row.Index]:
        divergent = row.divergences / ladder.draws
        reason += f"; NUTS did not converge (R-hat {row.r_hat:.2f}, {divergent:.0%} divergent)"
    prefix = f"misspecified (p = {row.p_value:.3f}); " if row.misspecified else ""
    return prefix + reason
