"""Colours, panels, legends, bins and checks that figures share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4A9C", "#000000")
"""Told apart by colour-blind readers: the palette of Okabe and Ito, less its yellow."""

BAND = "#D9DEE4"
REFERENCE = "#6B7280"
DATA = "#1F2937"

SOURCES = {
    "Analysis": "analyze()",
    "Calibration": "calibration()",
    "Criticism": "criticize()",
    "CrossValidation": "loo() or kfold()",
    "LeaveFutureOut": "leave_future_out()",
    "LogMarginalLikelihood": "log_marginal_likelihood()",
    "Misspecification": "detect_misspecification()",
    "ModelComparison": "compare_models()",
    "ModelRecovery": "model_recovery()",
    "Prediction": "elpd()",
    "ScoreCorrection": "approximator.score_correction()",
    "TrainingHistory": "approximator.history",
}
"""Where what is drawn comes from, for messages."""


def check_result(name: str, value: Any, kind: str) -> None:
    """Refuse a value of another class than the one that a figure shows.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
    kind : str
        Name of the expected class. A name, because `workflow` holds most of these classes and
        imports the figures.

    Raises
    ------
    TypeError
        If the value is of another class.
    """
    if kind not in (parent.__name__ for parent in type(value).__mro__):
        raise TypeError(f"{name} is {type(value).__name__}; expected {kind}, from {SOURCES[kind]}.")


def capped(pareto_k: np.ndarray) -> np.ndarray:
    """Heights of k̂ in a panel, with infinite ones at the top.

    Parameters
    ----------
    pareto_k : ndarray

    Returns
    -------
    ndarray
        Of the same shape. NaN, which is not drawn, where k̂ is NaN.
    """
    finite = pareto_k[np.isfinite(pareto_k)]
    return np.minimum(pareto_k, max(1.5, finite.max(initial=0.0)))


def is_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers, as counts and categories are.

    Parameters
    ----------
    values : ndarray

    Returns
    -------
    bool
    """
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


def bin_edges(low: float, high: float, bins: int, *, whole: bool) -> np.ndarray:
    """Edges of the bins of a histogram.

    Parameters
    ----------
    low, high : float
        Range of all but a few extreme values.
    bins : int
    whole : bool
        Whether the values are whole numbers. Bins then get the whole width that is nearest to the
        one implied by `bins`, so that each covers the same number of values.

    Returns
    -------
    ndarray, shape (bins + 1,), or of another length if `whole`
        Edges; they lie between whole numbers if `whole`.
    """
    if not whole:
        return np.linspace(low, high if high > low else low + 1.0, bins + 1)
    first, last = math.floor(low), math.ceil(high)
    width = max(1, round((last - first + 1) / bins))
    count = math.ceil((last - first + 1) / width)
    return first - 0.5 + width * np.arange(count + 1)


def whole_ticks(axis: Axis) -> None:
    """Leave out ticks between whole numbers, on an axis that counts."""
    # If there is only one unit, show only one whole number.
    locator = MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    axis.set_major_locator(locator)


def legend_below(ax: Axes, *, width: float = 3.6, **options: Any) -> Legend:
    """Put a legend under the label of the x axis, where it hides no data.

    Parameters
    ----------
    ax : Axes
    width : float
        Width of the panel in inches; the legend has as many columns as fit.
    **options
        Options of `Axes.legend`.

    Returns
    -------
    Legend
    """
    labels = ax.get_legend_handles_labels()[1]
    column = 0.45 + 0.06 * max(map(len, labels))
    # The label has a height in inches, whatever that of the panel.
    down = ScaledTranslation(0, -0.38, _figure_of(ax).dpi_scale_trans)
    placed: dict[str, Any] = {
        "frameon": False,
        "fontsize": 8,
        "ncols": min(len(labels), max(1, int(width / column))),
        "loc": "upper center",
        "bbox_to_anchor": (0.5, 0.0),
        "bbox_transform": ax.transAxes + down,
    }
    return ax.legend(**{**placed, **options})


def label_pareto_k(ax: Axes, thresholds: np.ndarray, units: str) -> None:
    """Draw thresholds of k̂, or a note if there is no k̂.

    Parameters
    ----------
    ax : Axes
        Panel with a k̂ for each unit, or empty.
    thresholds : ndarray
    units : str
        Name of the units along the x axis.
    """
    ax.set_xlabel(units, fontsize=9)
    ax.set_ylabel("k̂", fontsize=9)
    whole_ticks(ax.xaxis)
    if not ax.lines:
        ax.text(
            0.5, 0.5, "none: draws are not corrected", transform=ax.transAxes, ha="center",
            fontsize=9,
        )  # fmt: skip
        ax.set_xticks([])
        ax.set_yticks([])
        return
    for limit in np.unique(thresholds):
        ax.axhline(limit, color=REFERENCE, linewidth=0.8, linestyle="--")


MAX_PANELS = 400
"""More of them take minutes to draw, and are a slip."""


def panels(
    count: int,
    axes: Axes | Sequence[Axes] | np.ndarray | None,
    *,
    columns: int = 4,
    size: tuple[float, float] = (3.0, 2.8),
) -> tuple[Figure, list[Axes]]:
    """Axes to draw on: the user's, or those of a new figure.

    Parameters
    ----------
    count : int
    axes : Axes, sequence of Axes, or None
        At least `count` axes.
    columns : int
        Largest number of columns in a new figure.
    size : tuple of float
        Width and height of a panel in inches, in a new figure.

    Returns
    -------
    figure : Figure
        Created without pyplot, which would keep it open.
    axes : list of Axes, length `count`
    """
    if count > MAX_PANELS:
        raise ValueError(
            f"{count} panels are too many to draw; expected at most {MAX_PANELS}. Pass fewer data "
            "sets or groups, and split by a categorical observable."
        )
    if axes is None:
        columns = min(columns, count)
        rows = -(-count // columns)
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        given = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    else:
        given = list(np.atleast_1d(np.asarray(axes, dtype=object)).ravel())
        if len(given) < count:
            raise ValueError(f"axes has {len(given)} panels, but {count} are needed.")
        given = given[:count]
    for ax in given:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    return _figure_of(given[0]), given


def _figure_of(ax: Axes) -> Figure:
    figure: Figure | None = getattr(ax.figure, "figure", None)  # also of a subfigure's axes
    if figure is None:
        raise ValueError("axes belong to no figure; take them from Figure.subplots.")
    return figure
