"""Decision on which of the two networks is at fault, from SBC and JSBC together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track
from scipy import special

from jana_pymc.approximators.summary_space import fixed_summaries
from jana_pymc.approximators.surrogate import surrogate_batch
from jana_pymc.checks import check_count, check_share
from jana_pymc.declarations import check_approximator, check_simulations
from jana_pymc.inference_data import ArviZData, to_groups, to_inference_data
from jana_pymc.plots.calibration import plot_ranks_ecdf
from jana_pymc.refinement import log_likelihood_of
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.workflow.bands import uniformity_p_value
from jana_pymc.workflow.calibration import Calibration, ranked
from jana_pymc.workflow.result import Result
from jana_pymc.workflow.sources import simulated
from jana_pymc.workflow.swap_test import clipped_scores, data_features, swap_p_values

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import Simulations

Fault = Literal["neither", "posterior", "likelihood", "both", "undecided"]

LOG_LIKELIHOOD = "log_likelihood"
"""The test quantity that detects errors which single parameters do not show."""

DATA = "data"

MAX_DRAWS = 99
"""Posterior draws behind the ranks of the log-likelihood, which is costly to evaluate."""


@dataclass(frozen=True, eq=False, repr=False)
class Verdict(Result):
    """Posterior at fault, likelihood at fault, both, or neither.

    Attributes
    ----------
    fault : {"neither", "posterior", "likelihood", "both", "undecided"}
        "undecided": posterior and likelihood do not belong together, but neither network can be
        blamed at this error rate; more simulations are needed.
    posterior, likelihood : tuple of str
        Faults found in each network: labels of components of parameters; "log_likelihood" for
        ranks of the log-likelihood; "data" for surrogate data that differ from simulated ones.
    error_rate : float
        Upper bound on the probability of blaming a correct network, over all tests.
    table : DataFrame
        One row per test: the network that it ``blames``, the ``check``, the ``quantity``, the
        ``p_value``, the p-value ``adjusted`` for all tests, and whether it is ``rejected``.
    sbc, jsbc : Calibration
        Calibration against the simulator and against the likelihood, for the same parameters.
    """

    fault: Fault
    posterior: tuple[str, ...]
    likelihood: tuple[str, ...]
    error_rate: float
    table: pd.DataFrame
    sbc: Calibration
    jsbc: Calibration

    def __str__(self) -> str:
        parts = {
            "neither": "no fault found",
            "posterior": f"the posterior is at fault ({', '.join(self.posterior)})",
            "likelihood": f"the likelihood is at fault ({', '.join(self.likelihood)})",
            "both": f"posterior ({', '.join(self.posterior)}) and likelihood "
            f"({', '.join(self.likelihood)}) are at fault",
            "undecided": "posterior and likelihood do not belong together; which of them is at "
            "fault needs more simulations",
        }
        return (
            f"{parts[self.fault]}; {len(self.sbc)} data sets, error rate {self.error_rate:g} over "
            f"{len(self.table)} tests."
        )

    def to_inference_data(self) -> ArviZData:
        """Ranks of both checks, in groups ``prior_sbc`` and ``prior_jsbc``."""
        groups = [
            to_groups(each.to_inference_data())["prior_sbc"] for each in (self.sbc, self.jsbc)
        ]
        return to_inference_data(
            dict(zip(("prior_sbc", "prior_jsbc"), groups, strict=True)),
            {"fault": self.fault, "error_rate": self.error_rate},
        )

    def plot(self, *, probability: float = 0.95) -> Figure:
        """Plot SBC and JSBC side by side (`jana_pymc.plots.plot_ranks_ecdf`)."""
        return plot_ranks_ecdf([self.sbc, self.jsbc], probability=probability)


def verdict(
    approximator: JointApproximator,
    simulations: Simulations | None = None,
    *,
    n_simulations: int = 1000,
    draws: int = 250,
    error_rate: float = 0.01,
    log_likelihood: bool = False,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Verdict:
    r"""Decide which network is at fault, with a bound on the probability of a wrong accusation.

    By the rule of Section 2.5 [1]_, non-uniform ranks in SBC accuse the posterior, and uniform
    ranks in SBC with non-uniform ranks in JSBC accuse the likelihood. Applied to two plots, this
    rule accuses a correct likelihood whenever a faulty posterior passes SBC by chance and fails
    JSBC, and it leaves the likelihood untested once the posterior has failed. Here, each network
    is accused only by tests whose null distribution does not depend on the other:

    - **posterior**: ranks in SBC are uniform, for each parameter and, if requested, for the
      log-likelihood :math:`\log l(x \mid \theta)`. Any function of parameters and data may be
      ranked, so that :math:`l` need not be correct. This function reveals a posterior that ignores
      the data or is wrong about the dependence between parameters [2]_.
    - **likelihood**: data sets :math:`x_i \sim p(x \mid \theta_i)` and
      :math:`\tilde x_i \sim l(x \mid \theta_i)` are exchangeable, and hence so are any functions of
      them. The functions compared, pair by pair, are ranks, means and spreads of each parameter's
      posterior in SBC and JSBC, and order statistics of the data. P-values are exact, by random
      exchanges, or by all exchanges where there are few.
    - **the pair**: joint ranks of each parameter are uniform. These tests accuse neither network
      by themselves.

    All p-values are adjusted together by Holm's method, which bounds the probability of any wrong
    accusation by `error_rate`, including that of one network where the other is at fault.

    The tests compare whole data sets, so an error of the likelihood counts by its effect on data
    sets of the sizes in training. With enough simulations every approximation is rejected.

    With too few simulations nothing can be found: exchanges of n pairs have :math:`2^{n - 1}`
    different outcomes, so that the smallest possible p-value is :math:`2^{1 - n}`, and none of m
    tests can be rejected unless :math:`m \, 2^{1 - n}` is at most `error_rate`. At the default
    error rate and with three parameters this takes 11 data sets; finding a fault takes hundreds.

    Parameters
    ----------
    approximator : JointApproximator
    simulations : Simulations, optional
        Data sets not used in training, with parameters drawn from the prior (neither from a
        proposal nor given). By default the approximator's own model simulates `n_simulations`.
    n_simulations : int
    draws : int
        Posterior draws of each data set.
    error_rate : float
    log_likelihood : bool
        Whether to rank the log-likelihood too. This is the most sensitive test of a posterior: it
        rejects many in which each parameter is calibrated. Importance resampling corrects these.
    random_seed : int, Generator or None
    progressbar : bool

    Returns
    -------
    Verdict

    Raises
    ------
    TypeError
        If `approximator` is no pair, or `simulations` are none.
    ValueError
        If there are neither simulations nor a model; if simulations are of another model, their
        parameters are not from the prior, or they are too few for any test to reject; or if
        posterior draws are not finite.

    References
    ----------
    .. [1] Radev, Schmitt, Pratz, Picchini, Köthe & Bürkner (2023). JANA: Jointly amortized
       neural approximation of complex Bayesian models. UAI. Section 2.5.
    .. [2] Modrák, Moon, Kim, Bürkner, Huurre, Faltejsková, Gelman & Vehtari (2023).
       Simulation-based calibration checking for Bayesian computation: The choice of test
       quantities shapes sensitivity. Bayesian Analysis.
    """
    check_approximator(approximator)
    check_share("error_rate", error_rate)
    check_count("draws", draws)
    rng = random_generator(random_seed)
    if simulations is None:
        simulations = simulated(approximator, n_simulations, rng, progressbar)
    else:
        check_simulations(approximator, simulations, from_prior=True)
    parameters, batch = np.asarray(simulations.parameters), simulations.batch()
    n_tests = 3 * approximator.layout.size + 1 + int(log_likelihood)
    _check_enough(len(parameters), n_tests, error_rate)
    batch = batch.resized(batch.n_obs)
    surrogate = surrogate_batch(approximator, parameters, batch.conditions, batch.n_obs, rng)
    sbc, jsbc = (
        ranked(
            approximator, parameters, data, draws,
            joint=joint, random_seed=rng, progressbar=progressbar,
        )
        for data, joint in ((batch, False), (surrogate, True))
    )  # fmt: skip
    rows = [("posterior", "SBC", *item) for item in sbc.p_values.items()]
    if log_likelihood:
        density = _log_likelihood_p_value(
            approximator, parameters, batch, min(draws, MAX_DRAWS), rng, progressbar
        )
        rows.append(("posterior", "SBC", LOG_LIKELIHOOD, density))
    groups = _posterior_features(sbc, jsbc)
    groups[DATA] = _features_of_data(approximator, batch, surrogate, parameters)
    # Enough flips for the smallest p-value that the adjustment asks for.
    n_flips = max(1999, int(np.ceil(5 * n_tests / error_rate)))
    swapped = swap_p_values(groups, n_flips=n_flips, random_seed=rng)
    rows += [("likelihood", "SBC against JSBC", *item) for item in swapped.items()]
    rows += [("pair", "JSBC", *item) for item in jsbc.p_values.items()]
    table = pd.DataFrame(rows, columns=["blames", "check", "quantity", "p_value"])
    table["adjusted"] = _holm(table["p_value"].to_numpy())
    table["rejected"] = table["adjusted"] <= error_rate
    found = {
        blamed: tuple(table.loc[table["rejected"] & (table["blames"] == blamed), "quantity"])
        for blamed in ("posterior", "likelihood", "pair")
    }
    return Verdict(
        fault=_fault(found),
        posterior=found["posterior"],
        likelihood=found["likelihood"],
        error_rate=error_rate,
        table=table,
        sbc=sbc,
        jsbc=jsbc,
    )


def _check_enough(n_sets: int, n_tests: int, error_rate: float) -> None:
    """Refuse numbers of data sets with which no test could reject."""
    least = math.ceil(1 + math.log2(n_tests / error_rate))
    if n_sets < least:
        raise ValueError(
            f"{n_sets} data sets cannot accuse the likelihood: with {n_tests} tests at "
            f"error_rate={error_rate:g} none of its p-values can be small enough. Take at least "
            f"{least} (n_simulations=), and better 1000."
        )


def _fault(found: dict[str, tuple[str, ...]]) -> Fault:
    if found["posterior"] and found["likelihood"]:
        return "both"
    if found["posterior"]:
        return "posterior"
    if found["likelihood"]:
        return "likelihood"
    return "undecided" if found["pair"] else "neither"


def _holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values (Holm 1979): rejecting where at most α keeps the familywise error at α."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _log_likelihood_p_value(
    approximator: JointApproximator,
    parameters: np.ndarray,
    batch: DataBatch,
    draws: int,
    rng: np.random.Generator,
    progressbar: bool,
) -> float:
    """Uniformity of the rank of log l(x | θ*) among that of posterior draws."""
    drawn = approximator.posterior.sample(batch, draws, random_seed=rng)
    ranks = np.empty(len(parameters), dtype=int)
    for i in track(range(len(parameters)), "Log-likelihood ranks", disable=not progressbar):
        theta = np.vstack([parameters[i], drawn[i]])
        values = log_likelihood_of(approximator, batch, i, theta).sum(axis=-1)
        values = np.where(np.isnan(values), -np.inf, values)
        # Impossible data are ties, which are broken at random.
        ties = int((values[1:] == values[0]).sum())
        ranks[i] = (values[1:] < values[0]).sum() + rng.integers(ties + 1)
    return float(uniformity_p_value(ranks, draws))


def _posterior_features(
    sbc: Calibration, jsbc: Calibration
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Posterior statistics of each component for simulated and for surrogate data."""
    n = len(sbc)
    theta = clipped_scores(np.tile(sbc.parameters, (2, 1)))
    joined = {
        what: np.concatenate([getattr(sbc, what), getattr(jsbc, what)])
        for what in ("ranks", "mean", "sd")
    }
    normal = special.ndtri((joined["ranks"] + 0.5) / (sbc.draws + 1))
    error = clipped_scores(joined["mean"] - np.tile(sbc.parameters, (2, 1)))
    spread = clipped_scores(np.log(np.maximum(joined["sd"], 1e-300)))
    features = np.stack(
        [normal, normal**2, normal * theta, error, error**2, error * theta, spread], axis=-1
    )
    return {name: (features[:n, i], features[n:, i]) for i, name in enumerate(sbc.names)}


def _features_of_data(
    approximator: JointApproximator,
    batch: DataBatch,
    surrogate: DataBatch,
    parameters: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    first, second = (
        fixed_summaries(each, approximator.schema, approximator.positive)
        for each in (batch, surrogate)
    )
    return data_features(first, second, parameters)
