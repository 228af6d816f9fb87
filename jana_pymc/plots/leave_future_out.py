"""Predictive density of sequences given their past, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import (
    COLOURS,
    REFERENCE,
    capped,
    check_result,
    label_pareto_k,
    legend_below,
    panels,
    whole_ticks,
)

if TYPE_CHECKING:
    from jana_pymc.workflow.leave_future_out import LeaveFutureOut


def plot_leave_future_out(
    result: LeaveFutureOut,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the log predictive density after each prefix, and k̂.

    Parameters
    ----------
    result : LeaveFutureOut
    axes : sequence of Axes, optional
        Two axes.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `LeaveFutureOut`.
    """
    check_result("result", result, "LeaveFutureOut")
    figure, (left, right) = panels(2, axes, size=(4.2, 3.2))
    prefix = result.start + np.arange(result.elpd_i.shape[1])
    height = capped(result.pareto_k)
    faint = 1.0 if len(result) == 1 else 0.5
    for i in range(len(result)):
        colour = COLOURS[i % len(COLOURS)]
        left.plot(prefix, result.elpd_i[i], "-", color=colour, alpha=faint, linewidth=1)
        shown = ~np.isnan(height[i])
        for chosen, marker, label in (
            (~result.refitted[i], ".", "shared draws"),
            (result.refitted[i], "x", "draws after a refit"),
        ):
            at = shown & chosen
            if at.any():
                first = label not in right.get_legend_handles_labels()[1]
                name = label if first else None
                right.plot(prefix[at], height[i, at], marker, color=colour, ms=4, label=name)
    left.set_xlabel("observations known", fontsize=9)
    whole_ticks(left.xaxis)
    what = "next" if result.ahead == 1 else f"next {result.ahead}"
    left.set_ylabel(f"log predictive density of the {what}", fontsize=9)
    if right.lines:
        for handle in legend_below(right).legend_handles:
            if handle is not None and len(result) > 1:  # colours tell data sets apart
                handle.set(color=REFERENCE)
    label_pareto_k(right, result.threshold, "observations known")
    return figure
