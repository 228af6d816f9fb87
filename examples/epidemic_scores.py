"""How far surrogate epidemics are from simulated ones, and the figures that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist

import jana_pymc as jana
from jana_pymc.plots.style import COLOURS, DATA, panels
from jana_pymc.tasks.epidemic import (
    OBSERVABLES,
    PARAMETERS,
    log_likelihood,
    restored_reports,
)

SPLITS = 200


@dataclass(frozen=True)
class EnergyDistance:
    """Energy distance of surrogate runs from simulated ones, and of simulated ones from others.

    Attributes
    ----------
    distance : float
    simulated : ndarray, shape (splits,)
        The same between random halves of the simulator's runs.
    """

    distance: float
    simulated: np.ndarray

    @property
    def inside(self) -> bool:
        """Whether surrogates are no farther than simulations are from simulations."""
        return bool(self.distance <= self.simulated.max())

    @property
    def ratio(self) -> float:
        """To the median among simulations."""
        return float(self.distance / np.median(self.simulated))


def energy_distance(
    surrogate: np.ndarray,
    simulated: np.ndarray,
    random_seed: np.random.Generator,
    *,
    logarithms: bool = False,
) -> EnergyDistance:
    r"""Compare n surrogate runs with 2 n simulated ones.

    .. math:: 2 E|X - Y| - E|X - X'| - E|Y - Y'|

    between the surrogates and n of the simulated runs, and, many times, between random halves of
    the simulated runs. Either each day of each series is divided by its standard deviation over the
    simulated runs, so that all count the same, or log(1 + reports) are compared, where days of few
    reports count most.

    Parameters
    ----------
    surrogate : ndarray, shape (n, days, series)
    simulated : ndarray, shape (2 n, days, series)
    random_seed : Generator
    logarithms : bool

    References
    ----------
    .. [1] Székely, G. J., & Rizzo, M. L. (2013). Energy statistics: A class of statistics based on
       distances. Journal of Statistical Planning and Inference, 143(8).
    """
    n = len(surrogate)
    # Restored to their scale, standardised surrogates may be negative.
    both = [np.log1p(np.maximum(x, 0.0)) if logarithms else x for x in (surrogate, simulated)]
    sd = 1.0 if logarithms else both[1].std(axis=0)
    scaled = [(x / np.where(sd > 0, sd, 1.0)).reshape(len(x), -1) for x in both]
    pooled = cdist(scaled[1], scaled[1])
    halves = np.full((2 * n, SPLITS), -1.0 / n)
    for column in halves.T:
        column[random_seed.permutation(2 * n)[:n]] = 1.0 / n
    null = -((pooled @ halves) * halves).sum(axis=0)
    between = cdist(scaled[0], scaled[1][:n]).mean()
    within = cdist(scaled[0], scaled[0]).mean() + pooled[:n, :n].mean()
    return EnergyDistance(float(2 * between - within), null)


def reported(simulations: jana.Simulations) -> np.ndarray:
    """People reported a day, shape (sets, days, series), whichever form the data have."""
    data = {name: each.values for name, each in simulations.dataset.data_vars.items()}
    if simulations.schema.conditions:
        data = restored_reports(data)
    return np.stack([np.asarray(data[name], dtype=float) for name in OBSERVABLES], -1)


def exact_log_likelihood(simulations: jana.Simulations, *, original: bool = False) -> np.ndarray:
    """Of each day in each data set, shape (sets, days)."""
    parameters = np.asarray(simulations.parameters)
    columns = {name: parameters[:, i, None] for i, name in enumerate(PARAMETERS)}
    reports = {name: simulations.dataset[name].values for name in OBSERVABLES}
    return log_likelihood(reports, original=original, **columns)


def neural_log_likelihood(
    approximator: jana.JointApproximator, simulations: jana.Simulations
) -> np.ndarray:
    """The same of the likelihood network."""
    batch, parameters = simulations.batch(), np.asarray(simulations.parameters)
    known = batch.conditions if batch.conditions.shape[-1] else [None] * len(parameters)
    return np.concatenate(
        [
            approximator.likelihood.pointwise(data, theta[None], conditions)
            for data, theta, conditions in zip(batch.observables, parameters, known, strict=True)
        ]
    )


def plot_bands(runs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Median, 50 % and 95 % of simulated and of surrogate runs, day by day: Figures 2 and 22.

    Parameters
    ----------
    runs : mapping from titles to pairs of ndarray, each of shape (n, days, series)
        Simulated and surrogate runs for one parameter vector.
    """
    figure, axes = panels(3 * len(runs), None, columns=3, size=(3.6, 2.2))
    for row, (title, both) in enumerate(runs.items()):
        for column, series in enumerate(OBSERVABLES):
            ax = axes[3 * row + column]
            for values, colour, name in zip(
                both, (DATA, COLOURS[1]), ("simulator", "surrogate"), strict=True
            ):
                bands = np.quantile(values[..., column], (0.025, 0.25, 0.5, 0.75, 0.975), axis=0)
                days = np.arange(bands.shape[1])
                for low, high, alpha in ((0, 4, 0.15), (1, 3, 0.3)):
                    ax.fill_between(
                        days, bands[low], bands[high], color=colour, alpha=alpha, linewidth=0
                    )
                ax.plot(days, bands[2], color=colour, linewidth=1.2, label=name)
            ax.set_title(f"{title}: {series}" if column == 0 else series, fontsize=9)
            # From zero to what is large, on one axis.
            ax.set_yscale("symlog", linthresh=10.0)
            ax.set_ylim(bottom=0.0)
    axes[0].legend(frameon=False, fontsize=8)
    for ax in axes[-3:]:
        ax.set_xlabel("day", fontsize=9)
    return figure
