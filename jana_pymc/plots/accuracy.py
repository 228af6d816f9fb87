"""Further plots of calibration: rank histograms, coverage, z-scores and contraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from jana_pymc.checks import check_count, check_share
from jana_pymc.plots.style import BAND, COLOURS, REFERENCE, check_result, panels

if TYPE_CHECKING:
    from jana_pymc.workflow.calibration import Calibration

INTERVALS = np.linspace(0.02, 0.98, 49)
"""Probabilities of the central intervals in the coverage plot."""


def plot_ranks_histogram(
    calibration: Calibration,
    *,
    bins: int | None = None,
    probability: float = 0.95,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot histograms of the ranks, with a pointwise band for each bin.

    Parameters
    ----------
    calibration : Calibration
    bins : int, optional
        Number of bins; by default one per 20 data sets, at most 20.
    probability : float
        Probability that a single bin lies inside its band: at 0.95, one bin in twenty lies outside.
        See `plot_ranks_ecdf` for a simultaneous band.
    axes : Axes, optional
        One per component.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If `calibration` is no `Calibration`, `bins` no count, or `probability` no number between 0
        and 1.
    """
    check_result("calibration", calibration, "Calibration")
    n_sets, n_ranks = len(calibration), calibration.draws + 1
    bins = max(2, min(20, n_sets // 20)) if bins is None else check_count("bins", bins)
    edges = np.unique(np.linspace(0, n_ranks, min(bins, n_ranks) + 1).round()).astype(int)
    shares = np.diff(edges) / n_ranks
    tail = (1 - check_share("probability", probability)) / 2
    low, high = stats.binom.ppf([[tail], [1 - tail]], n_sets, shares) / (n_sets * shares)
    figure, given = panels(len(calibration.names), axes, size=(2.7, 2.4))
    for ax, name, ranks in zip(given, calibration.names, calibration.ranks.T, strict=True):
        density = np.histogram(ranks, edges)[0] / (n_sets * shares)
        places = edges / n_ranks
        ax.stairs(high, places, baseline=low, fill=True, color=BAND, label=f"{probability:.0%}")
        ax.stairs(density, places, color=COLOURS[0], linewidth=1.4)
        ax.axhline(1, color=REFERENCE, linewidth=0.8)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("fractional rank", fontsize=9)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, None)
    given[0].set_ylabel("density of ranks", fontsize=9)
    return figure


def plot_coverage(
    calibration: Calibration,
    *,
    probability: float = 0.95,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot how often central posterior intervals contain the true value.

    Parameters
    ----------
    calibration : Calibration
    probability : float
        Probability of the band, for each interval separately.
    axes : Axes, optional
        One per component.

    Returns
    -------
    Figure
        Below the diagonal the posterior is overconfident, above it underconfident.

    Raises
    ------
    TypeError, ValueError
        If `calibration` is no `Calibration`, or `probability` no number between 0 and 1.
    """
    check_result("calibration", calibration, "Calibration")
    n_sets = len(calibration)
    tail = (1 - check_share("probability", probability)) / 2
    low, high = stats.binom.ppf([[tail], [1 - tail]], n_sets, INTERVALS) / n_sets
    errors = calibration.expected_calibration_error()
    figure, given = panels(len(calibration.names), axes, size=(2.7, 2.7))
    curves = calibration.coverage(INTERVALS).T
    for ax, name, curve in zip(given, calibration.names, curves, strict=True):
        ax.fill_between(INTERVALS, low, high, color=BAND, linewidth=0)
        ax.axline((0, 0), slope=1, color=REFERENCE, linewidth=0.8)
        ax.plot(INTERVALS, curve, color=COLOURS[0], linewidth=1.6)
        ax.text(0.04, 0.92, f"ECE = {errors[name]:.3f}", transform=ax.transAxes, fontsize=8)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("probability of the interval", fontsize=9)
    given[0].set_ylabel("coverage", fontsize=9)
    return figure


def plot_contraction(
    calibration: Calibration, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> Figure:
    """Plot posterior z-scores against contraction.

    Parameters
    ----------
    calibration : Calibration
    axes : Axes, optional
        One for each component.

    Returns
    -------
    Figure
        Data sets at the right are informative about the parameter; z-scores far from zero mean
        that the posterior is wrong.

    Raises
    ------
    TypeError
        If `calibration` is no `Calibration`.
    """
    check_result("calibration", calibration, "Calibration")
    figure, given = panels(len(calibration.names), axes, size=(2.7, 2.6))
    contraction, z_scores = calibration.contraction(), calibration.z_scores()
    alpha = float(np.clip(200 / len(calibration), 0.1, 0.8))
    for ax, name, x, z in zip(given, calibration.names, contraction.T, z_scores.T, strict=True):
        for bound in (-1.96, 1.96):
            ax.axhline(bound, color=REFERENCE, linewidth=0.8, linestyle=":")
        ax.scatter(x, z, s=7, color=COLOURS[0], alpha=alpha, linewidths=0)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("posterior contraction", fontsize=9)
        ax.set_xlim(min(0.0, float(x.min())), 1.02)
    given[0].set_ylabel("posterior z-score", fontsize=9)
    return figure
