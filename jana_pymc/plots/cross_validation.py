"""Terms of cross-validation and their reliability."""

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
)

if TYPE_CHECKING:
    from jana_pymc.workflow.cross_validation_result import CrossValidation


def plot_cross_validation(
    result: CrossValidation,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot cross-validated against in-sample terms, and k̂ of each.

    Parameters
    ----------
    result : CrossValidation
    axes : sequence of Axes, optional
        Two axes.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `CrossValidation`.
    """
    check_result("result", result, "CrossValidation")
    figure, (left, right) = panels(2, axes, size=(3.8, 3.4))
    present = ~np.isnan(result.elpd_i)
    terms, in_sample = result.elpd_i[present], result.lpd_i[present]
    height, refitted = capped(result.pareto_k[present]), result.refitted[present]
    given_all = result.kind == "loo_approximate_posterior"
    for chosen, colour, label in (
        (~refitted, COLOURS[0], "draws given all data" if given_all else "pooled draws"),
        (refitted, COLOURS[1], "own draws"),
    ):
        if chosen.any():
            gap = (terms - in_sample)[chosen]
            left.plot(in_sample[chosen], gap, ".", color=colour, ms=3, label=label)
        shown = chosen & ~np.isnan(height)
        if shown.any():
            right.plot(np.flatnonzero(shown), height[shown], ".", color=colour, ms=3)
    left.axhline(0, color=REFERENCE, linewidth=0.8)
    left.set_xlabel("in-sample log density", fontsize=9)
    left.set_ylabel("cross-validated − in-sample", fontsize=9)
    legend_below(left)
    units = "unit" if len(result) == 1 else "unit, one data set after the other"
    label_pareto_k(right, result.threshold, units)
    return figure
