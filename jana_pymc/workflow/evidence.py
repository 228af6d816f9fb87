"""The marginal likelihood of data sets, from posterior and likelihood together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import logsumexp

from jana_pymc.approximators.outliers import outliers, warn_of_outliers
from jana_pymc.checks import check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.plots.evidence import plot_log_marginal_likelihood
from jana_pymc.refinement import propose
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.slices import slices
from jana_pymc.trained_region import share_outside, warn_of_draws_outside_region
from jana_pymc.warning import warn
from jana_pymc.workflow.result import Result

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

DRAWS_AT_ONCE = 200_000
"""Posterior draws that are in memory at once."""

DISAGREEMENT = 0.5
"""Nats beyond their Monte Carlo error by which two estimates may differ without a warning."""


@dataclass(frozen=True, eq=False, repr=False)
class LogMarginalLikelihood(Result):
    r"""Log marginal likelihoods of data sets, in nats.

    By the change of variables (Eq. 13 of [1]_),

    .. math:: \log p(x) = \log l(x \mid \theta) + \log p(\theta) - \log q(\theta \mid x)

    for every :math:`\theta`, if posterior and likelihood network belong together. The right side
    varies between draws only because of the networks' error, which `spread` measures. Its mean over
    draws from q falls short of :math:`\log p(x)` by :math:`\mathrm{KL}(q \| p)`; over draws from
    the pair's own posterior p it exceeds :math:`\log p(x)` by :math:`\mathrm{KL}(p \| q)`. Midway
    between, under :math:`\sqrt{p q}`, the two cancel to second order, as in the midpoint rule of
    thermodynamic integration: `change_of_variables` is the mean there. `median` and `mean` are
    taken over draws from q. All are −inf for data that no draw explains.

    Attributes
    ----------
    log_ratios : ndarray, shape (sets, draws)
        The right side at draws from q; −inf at draws that the likelihood excludes.
    importance : ndarray, shape (sets,)
        Logarithm of the Pareto-smoothed mean of exp(`log_ratios`): a consistent estimate of the
        marginal likelihood under the likelihood network for any q. For data outside every bound
        that the likelihood was declared with or trained on, it is −inf, without draws.
    standard_error : ndarray, shape (sets,)
        Monte Carlo error of `importance`; zero where it is −inf without draws.
    pareto_k : ndarray, shape (sets,)
        Above `threshold`, neither `importance` nor its standard error is reliable. NaN without
        draws.
    n_obs : ndarray of int, shape (sets,)
    outlier : ndarray of bool, shape (sets,)
        Whether a data set lies farther from the simulations than all simulated ones. Both networks
        extrapolate there, which k̂, `standard_error` and `spread` do not show. False where it is
        not checked, see `log_marginal_likelihood`.
    outside : ndarray, shape (sets,)
        Share of the draws outside the region of parameters that the likelihood was trained on,
        where it extrapolates as well.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 13.
    """

    log_ratios: np.ndarray
    importance: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray
    n_obs: np.ndarray
    outlier: np.ndarray
    outside: np.ndarray

    def __len__(self) -> int:
        return len(self.n_obs)

    @property
    def threshold(self) -> float:
        """Largest k̂ for which the number of draws suffices."""
        return pareto_k_threshold(self.log_ratios.shape[1])

    @property
    def median(self) -> np.ndarray:
        """Median over draws from q, as in the paper, shape (sets,).

        Draws that the likelihood excludes are included, since q is wrong there.
        """
        return np.median(self.log_ratios, axis=1)

    @property
    def mean(self) -> np.ndarray:
        """Mean over the draws from q that the likelihood does not exclude, shape (sets,)."""
        return self._over_possible(np.nanmean, otherwise=-np.inf)

    @property
    def change_of_variables(self) -> np.ndarray:
        """Mean over draws midway between q and the pair's own posterior, shape (sets,).

        Draws from q are weighted by the square root of their importance.
        """
        log_weights = 0.5 * self.log_ratios
        with np.errstate(invalid="ignore", divide="ignore"):  # data that no draw explains
            log_weights = log_weights - logsumexp(log_weights, axis=1, keepdims=True)
        terms = np.where(np.isfinite(self.log_ratios), self.log_ratios, 0.0)
        mean = (np.exp(log_weights) * terms).sum(axis=1)
        return np.where(np.isfinite(self.log_ratios).any(axis=1), mean, -np.inf)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation over possible draws, shape (sets,): zero for a perfect pair."""
        return self._over_possible(np.nanstd, otherwise=np.nan)

    @property
    def interval(self) -> np.ndarray:
        """5 % and 95 % quantiles over draws from q, shape (2, sets)."""
        return np.quantile(self.log_ratios, [0.05, 0.95], axis=1, method="nearest")

    def _over_possible(self, statistic: Callable[..., np.ndarray], otherwise: float) -> np.ndarray:
        """A statistic of the draws that the likelihood does not exclude, if there are any."""
        possible = np.isfinite(self.log_ratios)
        some = possible.any(axis=1)
        result = np.full(len(self), otherwise)
        result[some] = statistic(np.where(possible, self.log_ratios, np.nan)[some], axis=1)
        return result

    def summary(self) -> pd.DataFrame:
        """One row per data set: the estimates and their diagnostics."""
        return pd.DataFrame(
            {
                "n_obs": self.n_obs,
                "change_of_variables": self.change_of_variables,
                "median": self.median,
                "mean": self.mean,
                "spread": self.spread,
                "importance": self.importance,
                "standard_error": self.standard_error,
                "pareto_k": self.pareto_k,
                "outlier": self.outlier,
                "outside": self.outside,
            }
        ).rename_axis("dataset")

    def to_dataset(self) -> xr.Dataset:
        """The columns of `summary` as variables over a dimension "dataset"."""
        return xr.Dataset.from_dataframe(self.summary())

    def plot(self) -> Figure:
        """Plot both estimates (`jana_pymc.plots.plot_log_marginal_likelihood`)."""
        return plot_log_marginal_likelihood(self)


def log_marginal_likelihood(
    approximator: JointApproximator,
    data: Any,
    *,
    draws: int = 2000,
    random_seed: int | np.random.Generator | None = None,
) -> LogMarginalLikelihood:
    """Marginal likelihood of one data set or many, by change of variables and by importance.

    The agreement of the two estimates, k̂ and the standard error show how well posterior and
    likelihood network belong together, not whether the likelihood network is valid for the data.
    For data farther out than all simulations, and for parameters that it was not trained on, it
    extrapolates: the marginal likelihood may then be nats off despite a small standard error and a
    small k̂. Warnings are raised in both cases; `detect_misspecification` is a closer check.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame, Dataset, or sequence of these
        See `DataSchema.batch`.
    draws : int
        Posterior draws of each data set.
    random_seed : int or Generator, optional

    Returns
    -------
    LogMarginalLikelihood

    Raises
    ------
    TypeError
        If `approximator` is no pair, `draws` is no integer, or data are not numeric.
    ValueError
        If there are fewer than two draws, the data do not fit the declared observables, or no
        trained parameter explains any of them.

    Warns
    -----
    UserWarning
        If data lie farther out than all simulated data; this is not checked if the pair was trained
        on more than 10,000 observations per data set, or if conditions have no design. If draws
        lie outside the region of parameters that the likelihood was trained on. If no trained
        parameter explains some of many data sets. If k̂ is too high, or the two estimates differ by
        more than half a nat and three standard errors, for some data sets: the amortized posterior
        is then far from the one implied by likelihood network and prior. If the simulator chooses
        the conditions (``design="simulator"``): where they depend on the parameters beyond what
        earlier observations imply, as a summary of the whole series does,
        p(x | θ, conditions) p(θ) does not integrate to the probability of the data.
    """
    check_approximator(approximator)
    batch = approximator.posterior.batch(data)
    if not approximator.likelihood.reachable(batch.observables).any():
        approximator.likelihood.check_reachable(batch.observables)
    result = estimated(approximator, batch, draws, random_generator(random_seed))
    warn_of_extrapolation(approximator, result)
    return result


def estimated(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    rng: np.random.Generator,
    model: str | None = None,
) -> LogMarginalLikelihood:
    """`log_marginal_likelihood`, also if no trained parameter explains any of the data sets.

    Extrapolation is marked without a warning, since it is common among simulations of other models.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    draws : int
    rng : Generator
    model : str, optional
        Name of the pair, if it is one of several.

    Returns
    -------
    LogMarginalLikelihood
    """
    check_count("draws", draws, least=2, why="to see how far they agree")
    of = "" if model is None else f" of {model!r}"
    _warn_of_conditions(approximator, of)
    n_sets = len(batch)
    log_ratios = np.full((n_sets, draws), -np.inf)
    importance, standard_error = np.full(n_sets, -np.inf), np.zeros(n_sets)
    pareto_k, outside = np.full(n_sets, np.nan), np.zeros(n_sets)
    outlier = np.zeros(n_sets, dtype=bool)
    possible = np.flatnonzero(approximator.likelihood.reachable(batch.observables))
    if len(possible):
        outlier[possible] = outliers(approximator, batch[possible])
    for part in slices(len(possible), draws, DRAWS_AT_ONCE):
        index = possible[part]
        proposed = propose(approximator, batch[index], draws, random_seed=rng)
        log_ratios[index], importance[index] = proposed.log_ratios, proposed.weights.log_mean
        standard_error[index] = proposed.weights.standard_error
        pareto_k[index] = proposed.weights.pareto_k
        parameters = approximator.prior.constrain(proposed.unconstrained)
        outside[index] = share_outside(approximator.likelihood.region, parameters)
    result = LogMarginalLikelihood(
        log_ratios,
        importance,
        standard_error,
        pareto_k,
        batch.n_obs,
        outlier,
        outside,
    )
    _warn(result, of)
    return result


def warn_of_extrapolation(
    approximator: JointApproximator, result: LogMarginalLikelihood, model: str | None = None
) -> None:
    """Warn of data sets and draws that lie beyond what the networks were trained on.

    Parameters
    ----------
    approximator : JointApproximator
    result : LogMarginalLikelihood
    model : str, optional
        Name of the pair, if it is one of several.
    """
    warn_of_outliers(approximator, result.outlier, model)
    warn_of_draws_outside_region(result.outside, model)


def posterior_probabilities(
    log_marginal_likelihood: np.ndarray, prior_probabilities: np.ndarray
) -> np.ndarray:
    """Posterior model probabilities.

    Parameters
    ----------
    log_marginal_likelihood : ndarray, shape (..., models)
    prior_probabilities : ndarray, shape (models,)

    Returns
    -------
    ndarray, shape (..., models)
        Equal to the prior ones for data that are impossible under all models.

    Examples
    --------
    >>> posterior_probabilities(np.log([0.2, 0.6]), np.array([0.5, 0.5])).round(2)
    array([0.25, 0.75])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        joint = log_marginal_likelihood + np.log(prior_probabilities)
        total = logsumexp(joint, axis=-1, keepdims=True)
        return np.where(np.isneginf(total), prior_probabilities, np.exp(joint - total))


def _warn_of_conditions(approximator: JointApproximator, of: str) -> None:
    conditions, model = approximator.schema.conditions, approximator.model
    if conditions and model is not None and model.design is None:
        warn(
            f"the conditions{of} ({', '.join(conditions)}) come about in the simulator. The "
            "marginal likelihood is that of the observables only if these follow from earlier "
            "observables, as in an adaptive experiment; it is not if they summarise the series to "
            "be explained.",
        )


def _warn(result: LogMarginalLikelihood, of: str) -> None:
    beyond = np.isnan(result.pareto_k)
    if beyond.any():
        warn(
            f"{int(beyond.sum())} of {len(result)} data sets lie beyond every bound that the "
            f"likelihood{of} was declared with or trained on: their log marginal likelihood is "
            "−inf.",
        )
    unreliable = result.pareto_k > result.threshold
    with np.errstate(invalid="ignore"):  # data that no draw explains
        apart = np.abs(result.change_of_variables - result.importance)
    disagree = ~beyond & ~(apart <= DISAGREEMENT + 3 * result.standard_error)
    if not (unreliable | disagree).any():
        return
    warn(
        f"the marginal likelihoods{of} for {int((unreliable | disagree).sum())} of {len(result)} "
        f"data sets are uncertain: k̂ above {result.threshold:.2f} for {int(unreliable.sum())}, "
        f"change of variables and importance sampling more than {DISAGREEMENT} nats apart for "
        f"{int(disagree.sum())}. There the amortized posterior is far from the one that likelihood "
        "and prior imply; look at summary(), take more draws, or train longer.",
    )
