"""The posterior as critic: surrogate data sets that are implausible by its summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jana_pymc.approximators.summary_space import SummarySpace
from jana_pymc.checks import check_count, check_share
from jana_pymc.declarations import check_approximator, check_simulations
from jana_pymc.plots.misspecification import plot_criticism
from jana_pymc.simulation import random_generator
from jana_pymc.workflow.mmd import kernel_widths, single_sample_mmd
from jana_pymc.workflow.result import Result
from jana_pymc.workflow.sources import simulated

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import Simulations


@dataclass(frozen=True, eq=False, repr=False)
class Criticism(Result):
    """Surrogate data sets for one parameter vector, judged by the posterior's summaries.

    Attributes
    ----------
    surrogate : Simulations
        Data sets from the neural likelihood.
    discrepancy : ndarray, shape (surrogates,)
        Squared MMD between the summary of each surrogate and those of the simulator's data sets.
    simulated_discrepancy : ndarray, shape (simulations,)
        The same for each data set of the simulator, against the others.
    p_values : ndarray, shape (surrogates,)
        Share of the simulator's data sets that are at least as discrepant; uniform if the
        likelihood is correct.
    implausible : ndarray of bool, shape (surrogates,)
        Whether a surrogate is in the requested share with the largest discrepancies.
    """

    surrogate: Simulations
    discrepancy: np.ndarray
    simulated_discrepancy: np.ndarray
    p_values: np.ndarray
    implausible: np.ndarray

    def __len__(self) -> int:
        return len(self.discrepancy)

    @property
    def plausible(self) -> Simulations:
        """Surrogate data sets without the implausible ones."""
        return self.surrogate[np.flatnonzero(~self.implausible)]

    def to_dataset(self) -> xr.Dataset:
        """Return discrepancies and p-values as xarray."""
        return xr.Dataset(
            {
                "discrepancy": ("surrogate", self.discrepancy),
                "p_value": ("surrogate", self.p_values),
                "implausible": ("surrogate", self.implausible),
                "simulated_discrepancy": ("simulation", self.simulated_discrepancy),
            }
        )

    def plot(self) -> Figure:
        """Plot the discrepancies (`jana_pymc.plots.plot_criticism`)."""
        return plot_criticism(self)


def criticize(
    approximator: JointApproximator,
    parameters: ArrayLike | Mapping[str, ArrayLike],
    *,
    simulations: Simulations | None = None,
    n_simulations: int = 1000,
    share: float = 0.01,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Criticism:
    """Let the posterior network criticise the likelihood network at one parameter vector.

    Simulator and likelihood generate data sets for the same parameters. The learned summaries of
    each surrogate are compared with those of all simulated data sets, and the surrogates with the
    largest discrepancies are marked (1 % of them in the paper's Experiment 4).

    Parameters
    ----------
    approximator : JointApproximator
    parameters : mapping of str to array, or array of shape (size,)
        One parameter vector.
    simulations : Simulations, optional
        Data sets of the simulator at these parameters; simulated by default.
    n_simulations : int
        Number of data sets from each of the two.
    share : float
        Share of the surrogates to mark as implausible.
    random_seed : int, Generator or None
    progressbar : bool

    Returns
    -------
    Criticism

    Raises
    ------
    TypeError
        If `approximator` is no pair, or `simulations` are none.
    ValueError
        If there is more than one parameter vector, or no model to simulate from; if simulations
        are of another model, or at other parameters.
    """
    check_approximator(approximator)
    check_share("share", share, zero=True)
    check_count("n_simulations", n_simulations, least=2, why="to compare one with the others")
    layout = approximator.layout
    theta = np.atleast_2d(layout.vectors(parameters))
    if theta.shape != (1, layout.size):
        raise ValueError(
            f"parameters have shape {theta.shape} when flattened; expected one vector of "
            f"{layout.size}: data sets are compared at the same parameters."
        )
    rng = random_generator(random_seed)
    if simulations is None:
        repeated = np.repeat(theta, n_simulations, axis=0)
        simulations = simulated(approximator, n_simulations, rng, progressbar, parameters=repeated)
    else:
        check_simulations(approximator, simulations)
        if not np.allclose(simulations.parameters, theta):
            raise ValueError(
                "simulations: their parameters differ from those that are criticised; simulate at "
                "these, model.simulate(parameters=...)."
            )
    batch = simulations.batch(pad=True)
    conditions = None
    if batch.conditions.shape[-1]:
        conditions = simulations.batch().conditions
    surrogate = approximator.simulate(
        np.repeat(theta, len(simulations), axis=0),
        np.asarray(batch.n_obs),
        conditions=None if conditions is None else conditions[:, : batch.n_obs.max()],
        random_seed=rng,
    )
    theirs = np.asarray(approximator.posterior.summarize(batch), dtype=float)
    ours = np.asarray(approximator.posterior.summarize(surrogate.batch(pad=True)), dtype=float)
    space = SummarySpace.of(theirs)
    theirs, ours = space.whiten(theirs), space.whiten(ours)
    widths = kernel_widths(theirs)
    null = single_sample_mmd(theirs, theirs, widths, among=True)
    discrepancy = single_sample_mmd(ours, theirs, widths)
    larger = len(null) - np.searchsorted(np.sort(null), discrepancy, side="left")
    implausible = np.zeros(len(ours), dtype=bool)
    implausible[np.argsort(-discrepancy)[: round(share * len(ours))]] = True
    return Criticism(surrogate, discrepancy, null, (1 + larger) / (1 + len(null)), implausible)
