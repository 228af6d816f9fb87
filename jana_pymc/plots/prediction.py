"""Log predictive densities of new data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import COLOURS, REFERENCE, check_result, panels, whole_ticks

if TYPE_CHECKING:
    from jana_pymc.workflow.prediction import Prediction


def plot_prediction(
    result: Prediction, *, axes: Axes | Sequence[Axes] | np.ndarray | None = None
) -> Figure:
    """Plot the terms of new observations, and each data set's sum with its standard error.

    Parameters
    ----------
    result : Prediction
    axes : sequence of Axes, optional
        Two axes.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `Prediction`.
    """
    check_result("result", result, "Prediction")
    figure, (left, right) = panels(2, axes, size=(3.8, 3.4))
    rows, _ = np.nonzero(~np.isnan(result.elpd_i))
    left.plot(rows, result.elpd_i[~np.isnan(result.elpd_i)], ".", color=COLOURS[0], markersize=3)
    left.set_ylabel("log predictive density", fontsize=9)
    right.errorbar(
        np.arange(len(result.elpd)),
        result.elpd,
        yerr=result.standard_error,
        fmt=".",
        color=COLOURS[0],
        ecolor=REFERENCE,
    )
    right.set_ylabel("elpd ± standard error", fontsize=9)
    for ax in (left, right):
        ax.set_xlabel("data set", fontsize=9)
        whole_ticks(ax.xaxis)
    return figure
