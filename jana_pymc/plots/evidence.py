"""Marginal likelihoods: two estimates compared, and models compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import (
    COLOURS,
    REFERENCE,
    check_result,
    legend_below,
    panels,
    whole_ticks,
)

if TYPE_CHECKING:
    from jana_pymc.workflow.evidence import LogMarginalLikelihood
    from jana_pymc.workflow.model_comparison import ModelComparison, ModelRecovery


def plot_log_marginal_likelihood(
    result: LogMarginalLikelihood,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the terms of Equation 13 over draws, or for many data sets both estimates.

    Parameters
    ----------
    result : LogMarginalLikelihood
    axes : Axes, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `LogMarginalLikelihood`.
    """
    check_result("result", result, "LogMarginalLikelihood")
    figure, (ax,) = panels(1, axes, size=(4.6, 3.6))
    if len(result) == 1:
        terms = result.log_ratios[0][np.isfinite(result.log_ratios[0])]
        ax.set_xlabel("log l + log p − log q at posterior draws", fontsize=9)
        ax.set_yticks([])
        if not len(terms):
            ax.set_title("impossible at all draws", fontsize=9)
            ax.set_xticks([])
            return figure
        # For an exact pair all terms are equal, but a histogram needs a width.
        limits = (terms.min() - 0.01, terms.max() + 0.01)
        ax.hist(terms, bins=60, range=limits, color=COLOURS[0], alpha=0.5)
        for value, colour, line, label in (
            (result.change_of_variables[0], COLOURS[0], "-", "change of variables"),
            (result.importance[0], COLOURS[1], "--", "importance sampling"),
        ):
            ax.axvline(value, color=colour, linestyle=line, label=f"{label}: {value:.2f}")
        ax.ticklabel_format(axis="x", useOffset=False)
        ax.locator_params(axis="x", nbins=4)
        legend_below(ax)
        return figure
    possible = np.isfinite(result.importance)
    importance, midway = result.importance[possible], result.change_of_variables[possible]
    error = np.abs(result.interval[:, possible] - midway)
    error = np.where(np.isfinite(error), error, 0.0)
    good = result.pareto_k[possible] <= result.threshold
    for chosen, colour, label in ((good, COLOURS[0], "k̂ good"), (~good, COLOURS[1], "k̂ high")):
        if chosen.any():
            ax.errorbar(
                importance[chosen],
                (midway - importance)[chosen],
                yerr=error[:, chosen],
                fmt="o",
                markersize=3,
                linewidth=0.8,
                color=colour,
                label=label,
            )
    ax.axhline(0, color=REFERENCE, linewidth=0.8)
    ax.set_xlabel("log marginal likelihood, importance sampling", fontsize=9)
    ax.set_ylabel("change of variables − importance sampling", fontsize=9)
    if not possible.all():
        ax.set_title(f"{int((~possible).sum())} of {len(result)} data sets at −∞", fontsize=9)
    if possible.any():
        legend_below(ax, title="bars: 90% of the posterior draws", title_fontsize=8)
    return figure


def plot_model_comparison(
    result: ModelComparison,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot posterior model probabilities, one bar per data set.

    Parameters
    ----------
    result : ModelComparison
    axes : Axes, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `ModelComparison`.
    """
    check_result("result", result, "ModelComparison")
    width = max(3.6, min(10.0, 0.25 * len(result) + 2.5))
    figure, (ax,) = panels(1, axes, size=(width, 3.2))
    bottom = np.zeros(len(result))
    for i, name in enumerate(result.names):
        heights = result.probabilities[:, i]
        colour = COLOURS[i % len(COLOURS)]
        ax.bar(np.arange(len(result)), heights, bottom=bottom, color=colour, label=name)
        bottom += heights
    ax.set_xlabel("data set", fontsize=9)
    whole_ticks(ax.xaxis)
    ax.set_ylabel("posterior probability", fontsize=9)
    ax.set_ylim(0, 1)
    legend_below(ax, width=width)
    return figure


def plot_model_recovery(
    result: ModelRecovery,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot mean posterior model probabilities by true model, and their calibration.

    Parameters
    ----------
    result : ModelRecovery
    axes : sequence of Axes, optional
        Two axes.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `result` is no `ModelRecovery`.
    """
    check_result("result", result, "ModelRecovery")
    names = list(result.names)
    side = max(3.6, 0.33 * len(names) + 1.5)
    figure, (left, right) = panels(2, axes, size=(side, side - 0.2))
    matrix = result.matrix
    left.imshow(matrix, vmin=0, vmax=1, cmap="Blues")
    for row, column in np.ndindex(matrix.shape):
        value = matrix[row, column]
        shade = "white" if value > 0.6 else "black"
        left.text(
            column, row, f"{value:.2f}", ha="center", va="center", color=shade,
            fontsize=9 if len(names) <= 5 else 7,
        )  # fmt: skip
    # Rotate names that would overlap.
    slant: dict[str, Any] = {"rotation": 40, "ha": "right"} if len("  ".join(names)) > 30 else {}
    left.set_xticks(range(len(names)), names, **slant)
    left.set_yticks(range(len(names)), names)
    left.set_xlabel("mean posterior probability of", fontsize=9)
    left.set_ylabel("simulated from", fontsize=9)
    curve = result.calibration_curve()
    right.plot([0, 1], [0, 1], color=REFERENCE, linewidth=0.8)
    right.plot(curve["probability"], curve["frequency"], "o-", color=COLOURS[0], markersize=4)
    right.set_xlabel("posterior probability", fontsize=9)
    right.set_ylabel("how often the true model", fontsize=9)
    right.set_title(f"calibration error {result.calibration_error:.3f}", fontsize=9)
    return figure
