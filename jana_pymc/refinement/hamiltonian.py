"""NUTS on prior and neural likelihood, started from amortized draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pymc as pm
from pymc.model.fgraph import clone_model
from pymc.step_methods.hmc.quadpotential import QuadPotentialFull
from rich.progress import Progress

from jana_pymc.inference_data import split_chains
from jana_pymc.refinement.convergence import split_r_hat
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.simulation import DataBatch, PyMCPrior, random_generator
from jana_pymc.trained_region import leaning, warn_of_leaning

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

TUNE = 300
"""Tuning steps for the step size; the metric is the covariance of the amortized draws."""

VERY_FAR = 1e8
"""An unconstrained value that stands for infinity."""


def nuts(
    approximator: JointApproximator,
    batch: DataBatch,
    *,
    starts: RefinedDraws,
    datasets: np.ndarray | None = None,
    chains: int = 4,
    tune: int = TUNE,
    random_seed: int | np.random.Generator | None = None,
    progress: Progress | None = None,
) -> RefinedDraws:
    """NUTS on prior and neural likelihood, started from amortized draws.

    Chains start at draws of the data set's own, and the metric is the covariance of all these
    draws, so that only the step size is left to be tuned. The model is compiled once for all data
    sets.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    starts : RefinedDraws
        As `chain_starts` returns them: the draws of each data set to sample lie inside the trained
        region. As many draws are returned.
    datasets : ndarray of int, optional
        Positions of the data sets to sample; the others keep their `starts`. All by default.
    chains, tune : int
    random_seed : int or Generator, optional
    progress : Progress, optional
        Gets a bar for the steps of all chains and data sets.

    Returns
    -------
    RefinedDraws

    Raises
    ------
    ValueError
        If the number of draws is no multiple of `chains`, or variables were observed in the
        prior's model.
    """
    rng = random_generator(random_seed)
    draws = starts.unconstrained.shape[1]
    if draws % chains:
        raise ValueError(f"{draws} draws cannot be laid out as {chains} chains of equal length.")
    datasets = np.arange(len(batch)) if datasets is None else np.asarray(datasets, dtype=int)
    if not len(datasets):
        return starts
    unconstrained, log_q = starts.unconstrained.copy(), starts.log_q.copy()
    method = np.where(np.isin(np.arange(len(batch)), datasets), "nuts", starts.method)
    divergences, r_hat = starts.divergences.copy(), starts.r_hat.copy()
    progress = Progress(disable=True) if progress is None else progress
    bar = progress.add_task("NUTS", total=len(datasets) * (draws + chains * tune))
    sampler = _Sampler(approximator, batch[datasets[:1]])
    for i in datasets:
        unconstrained[i], divergences[i] = sampler.sample(
            batch[np.array([i])],
            starts.unconstrained[i],
            rng.choice(draws, size=chains, replace=False),
            tune=tune,
            rng=rng,
            after_step=partial(progress.advance, bar),
        )
    drawn = approximator.prior.constrain(unconstrained[datasets])
    support = prior_support(approximator.prior)
    leaning_sets = [
        leaning(approximator.layout, approximator.likelihood.region, each, support)
        for each in drawn
    ]
    warn_of_leaning([found for each in leaning_sets for found in each])
    log_q[datasets] = approximator.posterior.log_prob_unconstrained(
        unconstrained[datasets], batch[datasets]
    )
    r_hat[datasets] = split_r_hat(split_chains(unconstrained[datasets], chains))
    return RefinedDraws(
        unconstrained, log_q, method, starts.pareto_k, starts.effective_share, divergences, r_hat
    )


def prior_support(prior: PyMCPrior) -> np.ndarray:
    """Where the prior ends, shape (2, parameters), as its transforms have it."""
    ends = np.array([[-1.0], [1.0]]) * np.full((1, prior.n_unconstrained), VERY_FAR)
    with np.errstate(over="ignore", invalid="ignore"):
        constrained = prior.constrain(ends)
    # Joint transforms, such as that of a simplex, give NaN: their ends are unknown.
    return np.where(np.isnan(constrained), np.array([[-np.inf], [np.inf]]), constrained)


class _Metric(QuadPotentialFull):
    """A dense metric that can be exchanged: the integrator holds on to the object."""

    def adopt(self, covariance: np.ndarray) -> None:
        super().__init__(covariance, rng=getattr(self, "rng", None))


class _Sampler:
    """NUTS for data sets of any size, compiled once."""

    def __init__(self, approximator: JointApproximator, example: DataBatch):
        prior = approximator.prior.model
        if prior.observed_RVs or prior.potentials:
            raise ValueError(
                "variables were observed in the prior's PyMC model after training; NUTS needs the "
                "prior alone. Add likelihoods to a copy of it."
            )
        self.approximator = approximator
        self.layout = approximator.layout
        self.model = clone_model(prior)
        taken = set(self.model.named_vars)
        self.names = [_free_name(name, taken) for name in ("observed", "known", "likelihood")]
        observed, known, likelihood = self.names
        with self.model:
            data = pm.Data(observed, _rows(example.observables, example))
            conditions = None
            if example.conditions.shape[-1]:
                conditions = pm.Data(known, _rows(example.conditions, example))
            parameters = {name: self.model[name] for name in self.layout.names}
            approximator.likelihood(likelihood, observed=data, conditions=conditions, **parameters)
            size = approximator.prior.n_unconstrained
            self.metric = _Metric(np.eye(size))
            self.step = pm.NUTS(potential=self.metric, target_accept=0.9)

    def sample(
        self,
        batch: DataBatch,
        starts: np.ndarray,
        first: np.ndarray,
        *,
        tune: int,
        rng: np.random.Generator,
        after_step: Callable[[], object],
    ) -> tuple[np.ndarray, int]:
        """Draws for one data set, shape (draws, unconstrained), and the number of divergences.

        Chains begin at the starts in the positions `first`.
        """
        data = {self.names[0]: _rows(batch.observables, batch)}
        if batch.conditions.shape[-1]:
            data[self.names[1]] = _rows(batch.conditions, batch)
        prior = self.approximator.prior
        with self.model:
            pm.set_data(data)
            self.metric.adopt(self._covariance(starts))
            self.step.reset_tuning()
            result = pm.sample(
                draws=len(starts) // len(first),
                tune=tune,
                chains=len(first),
                cores=1,
                step=self.step,
                initvals=[self.layout.unflatten(prior.constrain(starts[i])) for i in first],
                random_seed=int(rng.integers(2**31)),
                progressbar=False,
                callback=lambda **_: after_step(),
                compute_convergence_checks=False,
                quiet=True,
            )
        drawn = {
            name: np.asarray(result["posterior"][name]).reshape(len(starts), *shape)
            for name, shape in self.layout.shapes.items()
        }
        divergences = int(np.asarray(result["sample_stats"]["diverging"]).sum())
        return prior.unconstrain(self.layout.flatten(drawn)), divergences

    def _covariance(self, starts: np.ndarray) -> np.ndarray:
        """Covariance of the starts, in the order in which the sampler holds the variables."""
        prior = self.approximator.prior.model
        point = self.model.initial_point()
        sizes = {
            value.name: point[value.name].size
            for value in map(prior.rvs_to_values.get, prior.free_RVs)
        }
        ends = dict(zip(sizes, np.cumsum(list(sizes.values())), strict=True))
        order = [range(ends[v.name] - sizes[v.name], ends[v.name]) for v in self.step.vars]
        alone = len(starts) == 1  # not enough for a covariance
        covariance = np.eye(starts.shape[1]) if alone else np.atleast_2d(np.cov(starts.T))
        # Resampled draws may repeat few points; a ridge keeps the metric positive definite.
        covariance += np.eye(len(covariance)) * (1e-3 * np.diag(covariance).mean() + 1e-10)
        index = np.concatenate([np.asarray(r, dtype=int) for r in order])
        return covariance[np.ix_(index, index)]


def _rows(values: np.ndarray, batch: DataBatch) -> np.ndarray:
    return values[0, : int(batch.n_obs[0])]


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
