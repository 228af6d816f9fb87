"""Shift of the posterior by a score correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import COLOURS, REFERENCE, check_result, panels

if TYPE_CHECKING:
    from jana_pymc.pytensor import ScoreCorrection


def plot_score_correction(
    correction: ScoreCorrection,
    n_obs: int = 1000,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the correction's shift of each parameter's posterior, with 95% intervals.

    Parameters
    ----------
    correction : ScoreCorrection
    n_obs : int
        Observations that share the parameters; the shift grows with their square root.
    axes : Axes, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `correction` is no `ScoreCorrection`.
    """
    check_result("correction", correction, "ScoreCorrection")
    shift = correction.shift(n_obs)
    figure, (ax,) = panels(1, axes, size=(4.6, 0.3 * len(shift) + 1.1))
    places = np.arange(len(shift))[::-1]
    ax.axvline(0, color=REFERENCE, linewidth=0.8)
    ax.errorbar(
        shift["shift"],
        places,
        xerr=1.96 * shift["standard_error"],
        fmt="o",
        markersize=4,
        linewidth=1.2,
        color=COLOURS[0],
    )
    ax.set_yticks(places, shift.index)
    ax.set_ylim(-0.6, len(shift) - 0.4)
    ax.set_xlabel(f"shift, in posterior sds of {n_obs:,} observations", fontsize=9)
    return figure
