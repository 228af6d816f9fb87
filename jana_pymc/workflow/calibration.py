"""Simulation-based calibration of a posterior alone, and of a posterior and likelihood together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from rich.progress import track

from jana_pymc.approximators.surrogate import surrogate_batch
from jana_pymc.checks import check_choice, check_count, check_share
from jana_pymc.declarations import check_approximator, check_simulations
from jana_pymc.inference_data import ArviZData, named_dataset, to_inference_data
from jana_pymc.plots.accuracy import plot_contraction, plot_coverage, plot_ranks_histogram
from jana_pymc.plots.calibration import plot_ranks_ecdf, plot_recovery
from jana_pymc.simulation import DataBatch, ParameterLayout, random_generator
from jana_pymc.slices import slices
from jana_pymc.workflow.bands import (
    EcdfBand,
    ecdf_band,
    randomized_pit,
    rank_ecdf,
    uniformity_p_value,
)
from jana_pymc.workflow.result import Result
from jana_pymc.workflow.sources import simulated

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import Simulations

QUANTILES = (0.05, 0.5, 0.95)
"""Posterior quantiles kept of each data set."""

PROBABILITIES = tuple(np.linspace(0.005, 0.995, 20).tolist())
"""Probabilities of the central intervals behind the expected calibration error."""

ROWS_AT_ONCE = 50_000
"""Draws, or observations, that are in memory at once."""


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Result):
    """Ranks of true parameters among posterior draws, over many simulated data sets.

    Attributes
    ----------
    layout : ParameterLayout
        Names, shapes, dims and coords of the parameters; components are its flattened entries.
    parameters : ndarray, shape (sets, components)
        True values.
    ranks : ndarray of int, shape (sets, components)
        Number of posterior draws below the true value: 0, …, `draws`.
    mean, sd : ndarray, shape (sets, components)
        Mean and standard deviation of the posterior draws.
    quantiles : ndarray, shape (3, sets, components)
        5 %, 50 % and 95 % of the posterior draws.
    n_obs : ndarray of int, shape (sets,)
        Observations in each data set.
    draws : int
        Posterior draws of each data set.
    joint : bool
        Whether the data came from the surrogate likelihood rather than from the simulator.
    """

    layout: ParameterLayout
    parameters: np.ndarray
    ranks: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    quantiles: np.ndarray
    n_obs: np.ndarray
    draws: int
    joint: bool

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the components, such as ``beta[wet]``, or ``beta[0]`` without coords."""
        return self.layout.labels

    @property
    def median(self) -> np.ndarray:
        """Posterior medians, shape (sets, components)."""
        return self.quantiles[1]

    @cached_property
    def p_values(self) -> dict[str, float]:
        """Exact p-value of uniform ranks for each component (`uniformity_p_value`)."""
        values = uniformity_p_value(self.ranks, self.draws)
        return dict(zip(self.names, values.tolist(), strict=True))

    def inside(self, probability: float = 0.95, *, familywise: bool = False) -> dict[str, bool]:
        """Whether the ECDF of each component's ranks stays within its simultaneous band.

        Parameters
        ----------
        probability : float
            Probability that a calibrated component stays inside.
        familywise : bool
            Whether the probability holds for all components together (Bonferroni) instead of each.

        Returns
        -------
        dict of str to bool

        Raises
        ------
        TypeError, ValueError
            If `probability` is no number between 0 and 1.
        """
        check_share("probability", probability)
        level = (1 - probability) / (len(self.names) if familywise else 1)
        return {name: p_value > level for name, p_value in self.p_values.items()}

    def ecdf(self) -> np.ndarray:
        """ECDF of the ranks at the points of `band`, shape (points, components)."""
        return rank_ecdf(self.ranks, self.draws)

    def band(self, probability: float = 0.95) -> EcdfBand:
        """Simultaneous band for the ECDF of one component.

        Parameters
        ----------
        probability : float
            Probability that a calibrated component stays inside.

        Returns
        -------
        EcdfBand

        Raises
        ------
        TypeError, ValueError
            If `probability` is no number between 0 and 1.
        """
        check_share("probability", probability)
        return ecdf_band(len(self), self.draws, probability)

    def pit(self, random_seed: int | np.random.Generator | None = None) -> np.ndarray:
        """Randomised PIT values (rank + U) / (draws + 1).

        Parameters
        ----------
        random_seed : int or Generator, optional

        Returns
        -------
        ndarray, shape (sets, components)
        """
        return randomized_pit(self.ranks, self.draws, random_seed)

    def coverage(self, probabilities: ArrayLike = PROBABILITIES) -> np.ndarray:
        """Share of true values inside central posterior intervals.

        Parameters
        ----------
        probabilities : array_like, shape (intervals,)
            Probability of each interval: the coverage of an exact posterior.

        Returns
        -------
        ndarray, shape (intervals, components)
        """
        levels = np.atleast_1d(np.asarray(probabilities, dtype=float))
        if ((levels <= 0) | (levels >= 1)).any():
            raise ValueError(f"probabilities are {levels.tolist()}: all must lie between 0 and 1.")
        # Ranks stand for L + 1 values of the PIT; spread evenly, no interval is cut off at one.
        depth = np.abs(2 * (self.ranks + 0.5) / (self.draws + 1) - 1)
        width = 1 / (self.draws + 1)
        share = (levels[:, None, None] - depth) / (2 * width) + 0.5
        return np.clip(share, 0, 1).mean(axis=1)

    def expected_calibration_error(
        self, probabilities: ArrayLike = PROBABILITIES
    ) -> dict[str, float]:
        """Median absolute difference between coverage and probability of central intervals.

        This is the paper's measure of calibration, about 0.01 for an exact posterior and 1000 data
        sets. It is not a test; use `p_values` for that.

        Parameters
        ----------
        probabilities : array_like, shape (intervals,)
            As for `coverage`.

        Returns
        -------
        dict of str to float
            One number per component.

        Raises
        ------
        ValueError
            If a probability does not lie between 0 and 1.
        """
        levels = np.asarray(probabilities, dtype=float)
        errors = np.abs(self.coverage(levels) - levels[:, None])
        return dict(zip(self.names, np.median(errors, axis=0).tolist(), strict=True))

    def z_scores(self) -> np.ndarray:
        """Posterior mean minus true value, in posterior standard deviations, (sets, components)."""
        return (self.mean - self.parameters) / self.sd

    def contraction(self) -> np.ndarray:
        """One minus posterior variance over prior variance, shape (sets, components).

        The prior variance is the variance of the true parameters over all data sets.
        """
        return 1 - self.sd**2 / self.parameters.var(axis=0, ddof=1)

    def summary(self, probability: float = 0.95) -> pd.DataFrame:
        """Calibration and recovery of each component.

        Parameters
        ----------
        probability : float
            As for `inside`.

        Returns
        -------
        DataFrame
            One row per component: ``p_value`` and ``inside`` (see `inside`); ``ece``, the
            `expected_calibration_error`; the mean ``contraction``; and, for posterior medians
            against true values, the correlation ``r`` and ``r2``, one minus the ratio of residual
            to total sum of squares.
        """
        residual = ((self.median - self.parameters) ** 2).sum(axis=0)
        total = ((self.parameters - self.parameters.mean(axis=0)) ** 2).sum(axis=0)
        pairs = zip(self.median.T, self.parameters.T, strict=True)
        return pd.DataFrame(
            {
                "p_value": self.p_values,
                "inside": self.inside(probability),
                "ece": self.expected_calibration_error(),
                "contraction": dict(zip(self.names, self.contraction().mean(axis=0), strict=True)),
                "r": dict(zip(self.names, (np.corrcoef(*p)[0, 1] for p in pairs), strict=True)),
                "r2": dict(zip(self.names, 1 - residual / total, strict=True)),
            }
        )

    def to_inference_data(
        self,
        values: Literal["ranks", "pit"] = "ranks",
        *,
        random_seed: int | np.random.Generator | None = None,
    ) -> ArviZData:
        """Ranks in a group ``prior_sbc``, under the user's names, in the format of simuk.

        Parameters
        ----------
        values : {"ranks", "pit"}
            For ArviZ's PIT plots use ``"pit"``, the randomised values: these plots treat ranks as
            continuous and rescale them by the largest.
        random_seed : int, Generator or None
            Seed for ``"pit"``.

        Returns
        -------
        InferenceData or DataTree
            Each variable has dimensions (chain, draw, ...), with one chain and one draw per data
            set.
        """
        check_choice("values", values, ("ranks", "pit"))
        array = self.ranks if values == "ranks" else self.pit(random_seed)
        group = named_dataset(self.layout.unflatten(array[None]), ("chain", "draw"), self.layout)
        attrs = {"posterior_draws": self.draws, "joint": int(self.joint), "values": values}
        return to_inference_data({"prior_sbc": group.assign_attrs(attrs)})

    def plot(
        self,
        kind: Literal["ecdf", "histogram", "coverage", "contraction", "recovery"] = "ecdf",
        *,
        probability: float = 0.95,
    ) -> Figure:
        """Plot the calibration.

        Parameters
        ----------
        kind : {"ecdf", "histogram", "coverage", "contraction", "recovery"}
            ECDF difference of the ranks, their histogram, coverage of central intervals, z-scores
            against contraction, or medians against true values; see `jana_pymc.plots`.
        probability : float
            Probability of the bands in the first three.
        """
        if kind == "ecdf":
            return plot_ranks_ecdf(self, probability=probability)
        if kind == "histogram":
            return plot_ranks_histogram(self, probability=probability)
        if kind == "coverage":
            return plot_coverage(self, probability=probability)
        if kind == "contraction":
            return plot_contraction(self)
        if kind == "recovery":
            return plot_recovery(self)
        raise ValueError(
            f"kind is {kind!r}; expected 'ecdf', 'histogram', 'coverage', 'contraction' or "
            "'recovery'."
        )


def calibration(
    approximator: JointApproximator,
    simulations: Simulations | None = None,
    *,
    n_simulations: int = 1000,
    draws: int = 250,
    joint: bool = False,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Calibration:
    r"""Simulation-based calibration (SBC), or joint simulation-based calibration (JSBC).

    Over data sets :math:`x \sim p(x \mid \theta^*)` with :math:`\theta^* \sim p(\theta)`, the rank
    of :math:`\theta^*` among draws from an exact posterior is uniform [1]_. With ``joint=True``
    the data come from the surrogate likelihood, :math:`x \sim l(x \mid \theta^*)`, and ranks are
    uniform if posterior and likelihood belong to the same joint distribution [2]_. Hence,

    - if ranks against the simulator are not uniform, the posterior is at fault;
    - if they are, but joint ranks are not, the likelihood is at fault;
    - if both are uniform, no fault is found. Calibration does not reveal a posterior that ignores
      the data; recovery does.

    Parameters
    ----------
    approximator : JointApproximator
    simulations : Simulations, optional
        Data sets not used in training, with parameters drawn from the prior (neither from a
        proposal nor given). By default the approximator's own model simulates `n_simulations`.
    n_simulations : int
    draws : int
        Posterior draws of each data set.
    joint : bool
        Whether to replace the data by data from the likelihood, for the same parameters, numbers
        of observations and conditions.
    random_seed : int, Generator or None
        With the same seed, SBC and JSBC use the same parameters.
    progressbar : bool

    Returns
    -------
    Calibration

    Raises
    ------
    TypeError
        If `approximator` is no pair, or `simulations` are none.
    ValueError
        If there are neither simulations nor a model; if simulations are of another model, or their
        parameters are not from the prior; or if posterior draws are not finite.

    References
    ----------
    .. [1] Talts, Betancourt, Simpson, Vehtari & Gelman (2018). Validating Bayesian inference
       algorithms with simulation-based calibration. arXiv:1804.06788.
    .. [2] Radev, Schmitt, Pratz, Picchini, Köthe & Bürkner (2023). JANA: Jointly amortized
       neural approximation of complex Bayesian models. UAI. Section 2.5.
    """
    check_approximator(approximator)
    check_count("draws", draws)
    for_model, for_data, for_posterior = random_generator(random_seed).spawn(3)
    if simulations is None:
        simulations = simulated(approximator, n_simulations, for_model, progressbar)
    else:
        check_simulations(approximator, simulations, from_prior=True)
    parameters, batch = np.asarray(simulations.parameters), simulations.batch()

    if joint:
        batch = surrogate_batch(approximator, parameters, batch.conditions, batch.n_obs, for_data)
    return ranked(
        approximator,
        parameters,
        batch,
        draws,
        joint=joint,
        random_seed=for_posterior,
        progressbar=progressbar,
    )


def ranked(
    approximator: JointApproximator,
    parameters: np.ndarray,
    batch: DataBatch,
    draws: int,
    *,
    joint: bool,
    random_seed: np.random.Generator,
    progressbar: bool,
) -> Calibration:
    """Rank true parameters among posterior draws given the data sets simulated from them.

    Parameters
    ----------
    approximator : JointApproximator
    parameters : ndarray, shape (sets, components)
    batch : DataBatch
    draws : int
    joint : bool
        Whether the data come from the likelihood; recorded in the result.
    random_seed : Generator
    progressbar : bool

    Returns
    -------
    Calibration
    """
    compared = []
    rows_per_set = max(draws, batch.observables.shape[1])
    parts = list(slices(len(parameters), rows_per_set, ROWS_AT_ONCE))
    label = "Joint calibration" if joint else "Calibration"
    for part in track(parts, label, disable=not progressbar):
        drawn = approximator.posterior.sample(batch[part], draws, random_seed=random_seed)
        compared.append(_compare(parameters[part], drawn))
    ranks, mean, sd, quantiles = zip(*compared, strict=True)
    return Calibration(
        layout=approximator.layout,
        parameters=parameters,
        ranks=np.concatenate(ranks),
        mean=np.concatenate(mean),
        sd=np.concatenate(sd),
        quantiles=np.concatenate(quantiles, axis=1),
        n_obs=np.asarray(batch.n_obs),
        draws=draws,
        joint=joint,
    )


def _compare(
    parameters: np.ndarray, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ranks, means, standard deviations and quantiles for some data sets."""
    broken = int((~np.isfinite(drawn).all(axis=(1, 2))).sum())
    if broken:
        raise ValueError(
            f"posterior draws of {broken} of {len(drawn)} data sets are not finite: the networks "
            "are not trained well enough to be calibrated."
        )
    return (
        (drawn < parameters[:, None]).sum(axis=1),
        drawn.mean(axis=1),
        drawn.std(axis=1, ddof=1) if drawn.shape[1] > 1 else np.full_like(parameters, np.nan),
        np.quantile(drawn, QUANTILES, axis=1),
    )
