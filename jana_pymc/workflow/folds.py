"""The folds of one data set, each with an amortized posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.importance import pareto_k_threshold, pareto_smooth
from jana_pymc.refinement import log_importance_ratios, log_likelihood_of
from jana_pymc.simulation import DataBatch
from jana_pymc.slices import slices
from jana_pymc.workflow.log_averages import excluded, finite, log_mean, weighted
from jana_pymc.workflow.moment_matching import match_moments

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

REFIT_DRAWS = 2000
"""Draws of one fold that is refitted."""

DRAWS_AT_ONCE = 100_000
"""Draws, or observations of folds, that the posterior network evaluates at once."""

WEIGHTS_AT_ONCE = 2_000_000
"""Weights that are smoothed at once, which bounds the memory."""


def room_left(approximator: JointApproximator, batch: DataBatch) -> list[np.ndarray]:
    """Upper limit that each observation of one data set sets for a parameter.

    The smallest limit is the bound. Limits beyond the end of the parameter's support are cut off
    there.

    Returns
    -------
    list of ndarray, shape (obs,)
        One for each parameter that the data bound; for lower bounds, with the sign reversed.
    """
    bounds = approximator.posterior.network.bounds
    observed = batch.observables[0, : batch.n_obs[0]]
    rooms = []
    for bound in [] if bounds is None else bounds.bounds:
        values = observed[:, list(bound.components)]
        side, end = (values, bound.upper) if bound.below else (-values, -bound.lower)
        rooms.append(np.where(np.isnan(side), np.inf, side).min(axis=1).clip(max=end))
    return rooms


class Folds:
    """Cross-validation of one data set: fold `fold[j]` leaves out, among others, observation j."""

    def __init__(
        self, approximator: JointApproximator, batch: DataBatch, fold: np.ndarray, *, joint: bool
    ):
        self.approximator, self.batch, self.fold, self.joint = approximator, batch, fold, joint
        self.n_folds = int(fold.max()) + 1
        self.order = np.argsort(fold, kind="stable")
        self.starts = np.searchsorted(fold[self.order], np.arange(self.n_folds))

    def each_of(self, draws: int) -> int:
        """Draws per fold, rounded up, for a given total."""
        return -(-draws // self.n_folds)

    def uncorrected(
        self, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by each fold's uncorrected posterior: terms, in-sample terms, k̂ and refits."""
        terms = np.empty(len(self.fold))
        group_terms = np.empty(self.n_folds)
        for part in slices(self.n_folds, draws, DRAWS_AT_ONCE):
            folds = np.arange(self.n_folds)[part]
            unconstrained, _ = self._draw(folds, draws, rng)
            for k, drawn in zip(folds, unconstrained, strict=True):
                left_out = np.flatnonzero(self.fold == k)
                pointwise = self._pointwise(drawn, left_out)
                terms[left_out] = log_mean(pointwise, axis=0)
                group_terms[k] = log_mean(finite(pointwise).sum(1), axis=0)
        everything, _ = self.approximator.posterior.sample_unconstrained(self.batch, draws, rng)
        pointwise = self._pointwise(everything[0])
        in_sample = log_mean(self._by_fold(pointwise) if self.joint else pointwise, axis=0)
        values = group_terms if self.joint else terms
        return values, in_sample, np.full(len(values), np.nan), np.ones(len(values))

    def corrected(
        self, draws: int, rng: np.random.Generator, *, pooled: bool, refit: bool, moment_match: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by draws weighted by likelihood × prior / q; the same four arrays."""
        if pooled:
            unconstrained, log_q = self._draw(np.arange(self.n_folds), self.each_of(draws), rng)
            unconstrained = unconstrained.reshape(-1, unconstrained.shape[-1])
        else:
            unconstrained, log_q = (
                values[0]
                for values in self.approximator.posterior.sample_unconstrained(
                    self.batch, draws, rng
                )
            )
        log_joint, pointwise = self._densities(unconstrained, log_q.reshape(-1))
        by_fold = self._by_fold(pointwise)
        values, pareto_k = self._weigh(log_joint, by_fold, pointwise)
        bounding = self._bounding()
        pareto_k[bounding] = np.inf
        full = pareto_smooth(excluded(log_joint)).log_weights[:, None]
        in_sample = weighted(full, by_fold if self.joint else pointwise, axis=0)
        refitted = np.zeros(self.n_folds)
        ways: list[tuple[Callable[[int], tuple[np.ndarray, float]], np.ndarray]] = []
        if refit:
            ways.append((lambda k: self._refit(k, rng), np.full(self.n_folds, True)))
        if moment_match:
            ways.append((lambda k: self._match(k, unconstrained, log_q.reshape(-1)), ~bounding))
        for way, serves in ways:
            for k in np.flatnonzero(serves & (pareto_k > pareto_k_threshold(len(log_joint)))):
                new_values, new_k = way(int(k))
                if new_k < pareto_k[k]:
                    pareto_k[k], refitted[k] = new_k, 1.0
                    values[k if self.joint else self.fold == k] = new_values
        if self.joint:
            return values, in_sample, pareto_k, refitted
        return values, in_sample, pareto_k[self.fold], refitted[self.fold]

    def _by_fold(self, pointwise: np.ndarray) -> np.ndarray:
        """Joint log density of the observations that each fold leaves out, (draws, folds)."""
        return np.add.reduceat(finite(pointwise)[:, self.order], self.starts, axis=1)

    def _bounding(self) -> np.ndarray:
        """Folds whose observations alone bound a parameter, shape (folds,).

        Draws given these observations never lie beyond the bound, although the posterior without
        them does. k̂ does not detect regions without draws.
        """
        alone = np.zeros(self.n_folds, dtype=bool)
        for room in room_left(self.approximator, self.batch):
            folds = np.unique(self.fold[room == room.min()])
            alone[folds] |= len(folds) == 1
        return alone

    def _weigh(
        self, log_joint: np.ndarray, by_fold: np.ndarray, pointwise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Terms of all units from one pool of draws, and k̂ of all folds."""
        values = np.empty(self.n_folds if self.joint else len(self.fold))
        pareto_k = np.empty(self.n_folds)
        for block in slices(self.n_folds, len(log_joint), WEIGHTS_AT_ONCE):
            weights = pareto_smooth(excluded(log_joint[:, None] - by_fold[:, block]).T)
            pareto_k[block] = weights.pareto_k
            if self.joint:
                values[block] = weighted(weights.log_weights, by_fold[:, block].T, axis=1)
                continue
            units = np.flatnonzero((self.fold >= block.start) & (self.fold < block.stop))
            log_weights = weights.log_weights[self.fold[units] - block.start]
            values[units] = weighted(log_weights, pointwise[:, units].T, axis=1)
        return values, pareto_k

    def _refit(self, k: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Terms of one fold from draws of two amortized posteriors, without and with it; and k̂.

        Draws from the one cover the posterior of the rest, draws from the other where it and what
        was left out meet. Each is weighted by the density of their mixture.
        """
        prior, posterior = self.approximator.prior, self.approximator.posterior
        both = self._without(np.array([k])), self.batch
        parts = [posterior.sample_unconstrained(each, REFIT_DRAWS // 2, rng)[0] for each in both]
        unconstrained = np.concatenate(parts, axis=1)
        log_q = np.logaddexp(
            *(posterior.log_prob_unconstrained(unconstrained, each)[0] for each in both)
        ) - np.log(2.0)
        unconstrained = unconstrained[0]
        pointwise = self._pointwise(unconstrained)
        rest = pointwise[:, self.fold != k].sum(1)
        weights = pareto_smooth(log_importance_ratios(rest, prior.log_prob(unconstrained), log_q))
        left_out = finite(pointwise[:, self.fold == k])
        density = left_out.sum(1, keepdims=True) if self.joint else left_out
        values = weighted(weights.log_weights[:, None], density, axis=0)
        return (values[0] if self.joint else values), float(weights.pareto_k)

    def _match(
        self, k: int, unconstrained: np.ndarray, log_q: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Terms of one fold from draws given all data, moved to the fold's posterior; and k̂."""
        prior, posterior = self.approximator.prior, self.approximator.posterior
        left_out = np.flatnonzero(self.fold == k)
        rest = np.flatnonzero(self.fold != k)

        def log_target(u: np.ndarray) -> np.ndarray:
            return finite(self._pointwise(u, rest)).sum(1) + prior.log_prob(u)

        def log_proposal(u: np.ndarray) -> np.ndarray:
            return posterior.log_prob_unconstrained(u[None], self.batch)[0]

        matched = match_moments(unconstrained, log_q, log_target, log_proposal)
        density = finite(self._pointwise(matched.unconstrained, left_out))
        density = density.sum(1, keepdims=True) if self.joint else density
        values = weighted(matched.weights.log_weights[:, None], density, axis=0)
        return (values[0] if self.joint else values), float(matched.weights.pareto_k)

    def _draw(
        self, folds: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Amortized draws of some folds, all in one batch."""
        parts = []
        for part in slices(len(folds), max(draws, len(self.fold)), DRAWS_AT_ONCE):
            batch = self._without(folds[part])
            parts.append(self.approximator.posterior.sample_unconstrained(batch, draws, rng))
        unconstrained, log_q = zip(*parts, strict=True)
        return np.concatenate(unconstrained), np.concatenate(log_q)

    def _without(self, folds: np.ndarray) -> DataBatch:
        """Data sets that lack one fold each, padded at the end."""
        keep = self.fold != folds[:, None]
        order = np.argsort(~keep, axis=1, kind="stable")
        n_obs = keep.sum(axis=1)
        padding = np.arange(len(self.fold)) >= n_obs[:, None]

        def rows(values: np.ndarray) -> np.ndarray:
            taken = values[0, : len(self.fold)][order]
            taken[padding] = np.nan
            return taken[:, : int(n_obs.max())]

        return DataBatch(rows(self.batch.observables), rows(self.batch.conditions), n_obs)

    def _pointwise(self, unconstrained: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Log density of each observation, or of some, under each draw."""
        parameters = self.approximator.prior.constrain(unconstrained)
        if rows is None:
            return log_likelihood_of(self.approximator, self.batch, 0, parameters)
        known = self.batch.conditions[0, rows] if self.batch.conditions.shape[-1] else None
        observed = self.batch.observables[0, rows]
        return self.approximator.likelihood.pointwise(observed, parameters, known)

    def _densities(
        self, unconstrained: np.ndarray, log_q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log weight of each draw given all data, and its log density of each observation."""
        pointwise = self._pointwise(unconstrained)
        log_prior = self.approximator.prior.log_prob(unconstrained)
        # Finite, since draws that are impossible given all data may be possible without some.
        return log_importance_ratios(finite(pointwise).sum(1), log_prior, log_q), pointwise
