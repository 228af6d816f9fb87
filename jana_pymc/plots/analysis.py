"""The rung of each data set in the amortized workflow, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import (
    COLOURS,
    DATA,
    capped,
    check_result,
    legend_below,
    panels,
    whole_ticks,
)

if TYPE_CHECKING:
    from jana_pymc.workflow.analysis import Analysis


def plot_analysis(
    analysis: Analysis, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> Figure:
    """Plot k̂ against the effective share of amortized draws, and the number on each rung.

    Parameters
    ----------
    analysis : Analysis
    axes : Axes, optional
        Two axes.

    Returns
    -------
    Figure
        Rings mark data sets that failed the misspecification check.

    Raises
    ------
    TypeError
        If it is no `Analysis`.
    """
    check_result("analysis", analysis, "Analysis")
    figure, given = panels(2, axes, columns=2, size=(4.0, 3.2))
    table, counts = analysis.table, analysis.counts
    height = capped(table["pareto_k"].to_numpy())
    for rung, colour in zip(counts, (DATA, *COLOURS), strict=False):
        chosen = table["rung"] == rung
        given[0].scatter(
            table["effective_share"][chosen], height[chosen], s=12, color=colour, alpha=0.6,
            linewidths=0, label=rung,
        )  # fmt: skip
        bars = given[1].barh(rung, counts[rung], color=colour)
        given[1].bar_label(bars, padding=3, fontsize=8)
    marked = table["misspecified"]
    if marked.any():
        rings = given[0].scatter(
            table["effective_share"][marked], height[marked], s=40, facecolors="none",
            edgecolors=COLOURS[3], linewidths=0.8, label="misspecified",
        )  # fmt: skip
        legend_below(given[0], handles=[rings])  # the bars show the colours of the rungs
    given[0].set_xlabel("effective share of amortized draws", fontsize=9)
    given[0].set_ylabel("k̂", fontsize=9)
    given[0].set_xlim(-0.02, 1.02)
    given[1].set_xlabel("data sets", fontsize=9)
    whole_ticks(given[1].xaxis)
    given[1].invert_yaxis()
    return figure
