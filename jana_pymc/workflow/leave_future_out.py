"""Prediction of the future of a sequence from its past, at every time point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from jana_pymc.approximators.outliers import outliers, warn_of_outliers
from jana_pymc.checks import check_choice, check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.importance import pareto_k_threshold, pareto_smooth
from jana_pymc.plots.leave_future_out import plot_leave_future_out
from jana_pymc.refinement import log_importance_ratios, log_likelihood_of
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.warning import warn
from jana_pymc.workflow.cross_validation import POOLED_DRAWS
from jana_pymc.workflow.cross_validation_result import (
    CORRECTIONS,
    Correction,
    CrossValidation,
    padded,
    warn_of_high_k,
)
from jana_pymc.workflow.folds import room_left
from jana_pymc.workflow.log_averages import excluded, finite, log_mean, weighted

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


@dataclass(frozen=True, eq=False, repr=False)
class LeaveFutureOut(CrossValidation):
    """Log predictive densities of the observations that follow each prefix, in nats.

    A unit is a prefix of ``start``, ``start + 1``, … observations, and its term is the joint log
    density of the ``ahead`` observations after it. With ``ahead > 1`` terms overlap, so that
    `standard_error`, which treats them as independent, is too small.

    Attributes
    ----------
    start : int
        Length of the shortest prefix.
    ahead : int
        Observations that are predicted jointly from each prefix.
    """

    start: int
    ahead: int

    def to_dataset(self) -> xr.Dataset:
        """Terms over the dimensions "dataset" and "prefix", whose labels are the lengths."""
        lengths = self.start + np.arange(self.elpd_i.shape[1])
        return super().to_dataset().rename(unit="prefix").assign_coords(prefix=lengths)

    def plot(self) -> Figure:
        """Plot terms and k̂ over time (`jana_pymc.plots.plot_leave_future_out`)."""
        return plot_leave_future_out(self)


def leave_future_out(
    approximator: JointApproximator,
    data: Any,
    *,
    start: int,
    ahead: int = 1,
    correction: Correction = "psis",
    draws: int = POOLED_DRAWS,
    random_seed: int | np.random.Generator | None = None,
) -> LeaveFutureOut:
    r"""Leave-future-out cross-validation of sequences with amortized refits.

    The estimate is, as in [1]_,

    .. math::

        \sum_{t=L}^{T-M} \log p(x_{t+1:t+M} \mid x_{1:t}) \approx
        \sum_t \log \sum_s w_s^{(t)} \, l(x_{t+1:t+M} \mid x_{1:t}, \theta_s)

    Draws for one prefix are reused for others, with Pareto-smoothed weights: likelihood of the
    prefix's own data × prior / q. Where k̂ is too high, the posterior network draws anew for the
    prefix, and these draws are reused for the prefixes after it. The first draws are for the
    shortest prefix of a length that the posterior network was trained on; if it was trained on one
    length only, for the full data. If it takes no other length, as with `FlatSummarySettings`,
    these draws are used for all prefixes, even where k̂ is high.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
    start : int
        Observations in the shortest prefix, L.
    ahead : int
        Observations predicted jointly, M.
    correction : {"psis", "none"}
        With "none", every prefix has its own uncorrected draws from the posterior network, which
        must then take other lengths than the one that it was trained on.
    draws : int
        Draws from each posterior.
    random_seed : int or Generator, optional

    Returns
    -------
    LeaveFutureOut

    Raises
    ------
    TypeError
        If `approximator` is no pair.
    ValueError
        If a data set is a vector, or shorter than ``start + ahead``; without correction, if the
        posterior network takes one length only.

    Warns
    -----
    UserWarning
        If data or conditions lie farther out than all simulated ones, which k̂ does not detect (see
        `log_marginal_likelihood`). If k̂ stays high or, without correction, if prefixes are shorter
        than the sequences that the posterior network was trained on.

    References
    ----------
    .. [1] Bürkner, P.-C., Gabry, J., & Vehtari, A. (2020). Approximate leave-future-out
       cross-validation for Bayesian time series models. Journal of Statistical Computation and
       Simulation, 90(14), 2499-2523.
    """
    check_approximator(approximator)
    check_choice("correction", correction, CORRECTIONS)
    check_count("start", start)
    check_count("ahead", ahead)
    check_count("draws", draws)
    batch = approximator.posterior.batch(data)
    approximator.likelihood.check_reachable(batch.observables)
    _check_lengths(approximator, batch, start, ahead, correction)
    warn_of_outliers(approximator, outliers(approximator, batch))
    rng = random_generator(random_seed)
    results = []
    for i in range(len(batch)):
        one = _OneSequence(approximator, batch[i : i + 1], start, ahead, draws, rng)
        results.append(one.corrected() if correction == "psis" else one.uncorrected())
    elpd_i, lpd_i, pareto_k, refitted = padded(results)
    rests_on = np.full(len(batch), draws)
    result = LeaveFutureOut(
        "lfo", elpd_i, lpd_i, pareto_k, refitted == 1.0, rests_on, start=start, ahead=ahead
    )
    warn_of_high_k(result)
    return result


class _OneSequence:
    """Leave-future-out of one data set."""

    def __init__(
        self,
        approximator: JointApproximator,
        batch: DataBatch,
        start: int,
        ahead: int,
        draws: int,
        rng: np.random.Generator,
    ):
        self.approximator, self.batch, self.draws, self.rng = approximator, batch, draws, rng
        self.length = int(batch.n_obs[0])
        self.ahead = ahead
        self.prefixes = np.arange(start, self.length - ahead + 1)

    def uncorrected(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by each prefix's uncorrected posterior: terms, in-sample terms, k̂ and refits."""
        terms = np.empty(len(self.prefixes))
        for j, prefix in enumerate(self.prefixes):
            _, _, future = self._propose(int(prefix), int(prefix) + self.ahead)
            terms[j] = log_mean(future[:, prefix - self.prefixes[0]], axis=0)
        _, _, future = self._propose(self.length)
        unknown = np.full(len(terms), np.nan)
        return terms, log_mean(future, axis=0), unknown, np.ones(len(terms))

    def corrected(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Terms by weighted draws; the same four arrays."""
        shortest, longest = self.approximator.schema.n_obs
        first = min(max(int(self.prefixes[0]), shortest), longest, self.length)
        terms, pareto_k = self._weigh(first)
        threshold = pareto_k_threshold(self.draws)
        refitted = np.zeros(len(terms))
        one_length = self.approximator.posterior.network.takes_one_length
        tried = (self.prefixes == first) | one_length
        while (waiting := (pareto_k > threshold) & ~tried).any():
            own = int(np.argmax(waiting))
            tried[own] = True
            new_terms, new_k = self._weigh(int(self.prefixes[own]))
            better = new_k < pareto_k
            terms, pareto_k = np.where(better, new_terms, terms), np.where(better, new_k, pareto_k)
            refitted[better] = 1.0
        log_ratios, _, future = self._propose(self.length)
        everything = pareto_smooth(excluded(log_ratios[:, -1])).log_weights[:, None]
        return terms, weighted(everything, future, axis=0), pareto_k, refitted

    def _weigh(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Terms and k̂ of all prefixes from draws given one of them."""
        _, by_prefix, future = self._propose(length)
        weights = pareto_smooth(excluded(by_prefix.T))
        pareto_k = np.where(self._confined(length), np.inf, weights.pareto_k)
        return weighted(weights.log_weights, future.T, axis=1), pareto_k

    def _confined(self, length: int) -> np.ndarray:
        """Prefixes that allow parameters which draws given `length` observations cannot reach.

        Further observations bound parameters more tightly. k̂ does not detect regions without draws.
        """
        confined = np.zeros(len(self.prefixes), dtype=bool)
        for room in room_left(self.approximator, self.batch):
            least = np.minimum.accumulate(room)
            confined |= least[self.prefixes - 1] > least[length - 1]
        return confined

    def _propose(
        self, length: int, until: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw given `length` observations, and evaluate the draws for all prefixes.

        Returns
        -------
        log_ratios : ndarray, shape (draws, until + 1)
            Log ratios of the posterior given the first 0, 1, … observations to the density of the
            draws.
        by_prefix : ndarray, shape (draws, prefixes)
            The same for the prefixes.
        future : ndarray, shape (draws, prefixes)
            Joint log density of the observations after each prefix.
        """
        until = self.length if until is None else until
        approximator = self.approximator
        unconstrained, log_q = (
            values[0]
            for values in approximator.posterior.sample_unconstrained(
                _first(self.batch, length), self.draws, self.rng
            )
        )
        parameters = approximator.prior.constrain(unconstrained)
        pointwise = log_likelihood_of(approximator, _first(self.batch, until), 0, parameters)
        total = np.zeros((len(pointwise), until + 1))
        np.cumsum(finite(pointwise), axis=1, out=total[:, 1:])
        log_prior = approximator.prior.log_prob(unconstrained)
        log_ratios = log_importance_ratios(total, log_prior[:, None], log_q[:, None])
        prefixes = self.prefixes[self.prefixes + self.ahead <= until]
        return (
            log_ratios,
            log_ratios[:, prefixes],
            total[:, prefixes + self.ahead] - total[:, prefixes],
        )


def _first(batch: DataBatch, length: int) -> DataBatch:
    """The beginning of a single data set."""
    return DataBatch(
        batch.observables[:, :length], batch.conditions[:, :length], np.array([length])
    )


def _check_lengths(
    approximator: JointApproximator,
    batch: DataBatch,
    start: int,
    ahead: int,
    correction: Correction,
) -> None:
    schema = approximator.schema
    if schema.structure == "vector":
        raise ValueError("the data are declared 'vector', which has no order in time to predict.")
    short = np.flatnonzero(batch.n_obs < start + ahead)
    if len(short):
        raise ValueError(
            f"data set {short[0]} has {batch.n_obs[short[0]]} observations; start={start} with "
            f"ahead={ahead} needs at least {start + ahead}."
        )
    if correction == "psis":
        return
    if approximator.posterior.network.takes_one_length:
        raise ValueError(
            "correction='none' asks the posterior network for each prefix, but it takes sequences "
            f"of {schema.n_obs[1]} observations only. Take correction='psis', or train a pair on "
            "sequences of several lengths (GenerativeModel(n_obs=(fewest, most)))."
        )
    if start < schema.n_obs[0]:
        warn(
            f"prefixes begin with start={start} observations; the posterior network was trained on "
            f'{schema.n_obs[0]} and more, and extrapolates there. correction="psis" accounts '
            "for it.",
        )
