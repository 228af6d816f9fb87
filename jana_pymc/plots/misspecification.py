"""Observed data sets among simulated ones: distances and summary space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import BAND, COLOURS, REFERENCE, check_result, legend_below, panels

if TYPE_CHECKING:
    from jana_pymc.workflow.criticism import Criticism
    from jana_pymc.workflow.misspecification import Misspecification

MAX_LINES = 12
"""With more observed data sets than this, their distances are drawn as a histogram."""


def plot_misspecification(
    result: Misspecification, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> Figure:
    """Plot distances among their null distribution, and the space of learned summaries.

    Parameters
    ----------
    result : Misspecification
    axes : Axes, optional
        Three axes.

    Returns
    -------
    Figure
        Simulations are grey, observed data sets blue, and outliers among them orange.

    Raises
    ------
    TypeError
        If `result` is no `Misspecification`.
    """
    check_result("result", result, "Misspecification")
    figure, given = panels(3, axes, columns=3, size=(3.8, 3.2))
    for i, (ax, kind) in enumerate(zip(given, result.kinds, strict=False)):
        _draw_distances(ax, result.null[:, i], result.distances[:, i], result.outliers)
        ax.set_title(f"{kind} summaries", fontsize=10)
    given[0].set_ylabel("density", fontsize=9)
    ax = given[2]
    x, y = result.null_coordinates.T
    ax.scatter(x, y, s=5, color=REFERENCE, alpha=0.4, linewidths=0, label="simulations")
    for outlier, colour in ((False, COLOURS[0]), (True, COLOURS[1])):
        chosen = result.coordinates[result.outliers == outlier]
        label = ("outliers" if outlier else "data") + f" ({len(chosen)})"
        ax.scatter(chosen[:, 0], chosen[:, 1], s=16, color=colour, linewidths=0, label=label)
    ax.set_title(f"all together: p = {result.mmd_p_value:.3f}", fontsize=10)
    ax.set_xlabel("first summary component", fontsize=9)
    ax.set_ylabel("second summary component", fontsize=9)
    legend_below(ax, ncols=3, handletextpad=0.1, columnspacing=0.8)
    return figure


def plot_criticism(
    result: Criticism, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> Figure:
    """Plot summary discrepancies of surrogate and simulated data sets.

    Parameters
    ----------
    result : Criticism
    axes : Axes, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `Criticism`.
    """
    check_result("result", result, "Criticism")
    figure, (ax,) = panels(1, axes, size=(4.6, 3.4))
    both = np.concatenate([result.simulated_discrepancy, result.discrepancy])
    edges = np.linspace(both.min(), both.max(), 41).tolist()
    ax.hist(result.simulated_discrepancy, edges, density=True, color=BAND, label="simulator")
    ax.hist(
        result.discrepancy, edges, density=True, histtype="step", color=COLOURS[0],
        linewidth=1.4, label="surrogate",
    )  # fmt: skip
    if result.implausible.any():
        first = result.discrepancy[result.implausible].min()
        label = f"implausible from here ({result.implausible.sum()})"
        ax.axvline(first, color=COLOURS[1], linewidth=1.2, label=label)
    ax.set_xlabel("summary discrepancy of one data set (squared MMD)", fontsize=9)
    ax.set_ylabel("density", fontsize=9)
    legend_below(ax, width=4.6)
    return figure


def _draw_distances(
    ax: Axes, null: np.ndarray, distances: np.ndarray, outliers: np.ndarray
) -> None:
    # A data set far out must not squeeze the null distribution into one bin.
    top = min(max(null.max(), distances.max()), 3 * null.max())
    edges = np.linspace(min(null.min(), distances.min()), top, 41).tolist()
    ax.hist(null, edges, density=True, color=BAND)
    farther = f"\n(those beyond {top:.3g} at the edge)" if distances.max() > top else ""
    ax.set_xlabel(f"distance from the simulations{farther}", fontsize=9)
    if len(distances) <= MAX_LINES:
        for distance, outlier in zip(np.minimum(distances, top), outliers, strict=True):
            ax.axvline(distance, color=COLOURS[int(outlier)], linewidth=1.4)
    else:
        shown = np.minimum(distances, top)
        ax.hist(shown, edges, density=True, histtype="step", color=COLOURS[0])
        # A few outliers among many data sets would hardly be seen in their histogram.
        ax.plot(shown[outliers], np.zeros(outliers.sum()), "|", color=COLOURS[1], ms=8)
