"""Prediction of new data (Eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from jana_pymc.approximators.outliers import outliers, warn_of_outliers
from jana_pymc.checks import check_choice, check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.plots.prediction import plot_prediction
from jana_pymc.refinement import log_likelihood_of, propose, warn_unreliable
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.workflow.cross_validation_result import CORRECTIONS, Correction
from jana_pymc.workflow.log_averages import standard_error_of, weighted
from jana_pymc.workflow.result import Result

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Result):
    """Log predictive densities of new data.

    Attributes
    ----------
    elpd_i : ndarray, shape (sets, obs)
        Log predictive density of each new observation; NaN where a set has fewer.
    pareto_k : ndarray, shape (sets,)
        k̂ of the weights that correct the posterior draws; NaN if they were not corrected.
    """

    elpd_i: np.ndarray
    pareto_k: np.ndarray

    @property
    def elpd(self) -> np.ndarray:
        """Sum over observations, shape (sets,)."""
        return np.nansum(self.elpd_i, axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of `elpd` from the variation between observations, shape (sets,).

        It does not include the Monte Carlo error of the draws, which may be half a nat for an
        observation far from the data: compare another `random_seed`, and take more draws to reduce
        it.
        """
        return standard_error_of(self.elpd_i)

    def plot(self) -> Figure:
        """Plot terms and sums (`jana_pymc.plots.plot_prediction`)."""
        return plot_prediction(self)


def elpd(
    approximator: JointApproximator,
    data: Any,
    new_data: Any,
    *,
    correction: Correction = "psis",
    draws: int = 4000,
    random_seed: int | np.random.Generator | None = None,
) -> Prediction:
    r"""Log predictive density of new observations with the same parameters as given data.

    See Eq. 12 of [1]_. New sequences are separate series with a beginning of their own; for the
    continuation of the given sequences, see `leave_future_out`.

    .. math:: \log p(x_{new} \mid x) \approx \log \frac1S \sum_s l(x_{new} \mid \theta_s), \quad
        \theta_s \sim q(\theta \mid x)

    Parameters
    ----------
    approximator : JointApproximator
    data, new_data : mapping, DataFrame, Dataset, or sequence of these
        Both have the same number of data sets.
    correction : {"psis", "none"}
        Whether draws from q are weighted by likelihood × prior / q.
    draws : int
        The result's `standard_error` does not include their Monte Carlo error.
    random_seed : int or Generator, optional

    Returns
    -------
    Prediction

    Raises
    ------
    TypeError
        If `approximator` is no pair, `draws` is no integer, or data are not numeric.
    ValueError
        If data do not fit the declared observables, the numbers of data sets differ, or
        `correction` is unknown.

    Warns
    -----
    UserWarning
        If data, alone or with the new ones, or the conditions of either lie farther out than all
        simulated ones, which k̂ does not detect (see `log_marginal_likelihood`). If k̂ of the
        weights is too high for some data sets.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 12.
    """
    check_approximator(approximator)
    check_choice("correction", correction, CORRECTIONS)
    check_count("draws", draws)
    rng = random_generator(random_seed)
    batch = approximator.posterior.batch(data)
    new = approximator.posterior.batch(new_data, check_n_obs=False)
    if len(batch) != len(new):
        raise ValueError(f"{len(batch)} data sets were given, but new_data has {len(new)}.")
    warn_of_outliers(approximator, _outliers(approximator, batch, new))
    terms = np.full(new.observables.shape[:2], np.nan)
    pareto_k = np.full(len(batch), np.nan)
    for i in range(len(batch)):
        one = batch[i : i + 1]
        if correction == "psis":
            proposed = propose(approximator, one, draws, random_seed=rng)
            unconstrained, weights = proposed.unconstrained, proposed.weights
            log_weights, pareto_k[i] = weights.log_weights[0], weights.pareto_k[0]
        else:
            unconstrained, _ = approximator.posterior.sample_unconstrained(one, draws, rng)
            log_weights = np.full(draws, -np.log(draws))
        parameters = approximator.prior.constrain(unconstrained[0])
        pointwise = log_likelihood_of(approximator, new, i, parameters)
        terms[i, : pointwise.shape[1]] = weighted(log_weights[:, None], pointwise, axis=0)
    warn_unreliable(pareto_k, draws, "Take more draws, or predict from those of NUTS.")
    return Prediction(terms, pareto_k)


def _outliers(approximator: JointApproximator, data: DataBatch, new: DataBatch) -> np.ndarray:
    """Which data sets lie far out, alone or with their new data, shape (sets,).

    New sequences and vectors are looked at alone, if they are of a length that was trained on.
    """
    found = outliers(approximator, data)
    low, high = approximator.schema.n_obs
    if approximator.schema.structure == "exchangeable":
        return found | outliers(approximator, _joined(new, data, high))
    usual = np.flatnonzero((new.n_obs >= low) & (new.n_obs <= high))
    if len(usual):
        found[usual] |= outliers(approximator, new[usual].resized(new.n_obs[usual]))
    return found


def _joined(first: DataBatch, second: DataBatch, most: int) -> DataBatch:
    """Observations of the first batch followed by those of the second, up to a largest number."""
    n_obs = np.minimum(first.n_obs + second.n_obs, most)

    def rows(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        joined = np.full((len(n_obs), n_obs.max(), ours.shape[-1]), np.nan)
        for i, size in enumerate(n_obs):
            both = np.concatenate([ours[i, : first.n_obs[i]], theirs[i, : second.n_obs[i]]])
            joined[i, :size] = both[:size]
        return joined

    return DataBatch(
        rows(first.observables, second.observables),
        rows(first.conditions, second.conditions),
        n_obs,
    )
