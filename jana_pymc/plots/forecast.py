"""Forecasts of sequences: their past, and bands of their future."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.checks import check_count
from jana_pymc.inference_data import ArviZData, to_groups
from jana_pymc.plots.style import COLOURS, DATA, is_whole, legend_below, panels, whole_ticks


def plot_forecast(
    result: ArviZData,
    *,
    value: str | None = None,
    last: int | None = None,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the past of each sequence, and bands of its future.

    Parameters
    ----------
    result : InferenceData or DataTree
        From `jana_pymc.forecast`.
    value : str, optional
        Name of a continuous observable or a count; by default the first.
    last : int, optional
        Number of past observations to show; by default all.
    axes : Axes, optional
        One per sequence.

    Returns
    -------
    Figure
        Dark points are the past; the line is the median of the future, with bands of 50 and 90 %.
        Observations are counted from 1.

    Raises
    ------
    TypeError
        If `result` is no ArviZ data, or `last` no integer.
    ValueError
        If there is no forecast or no such observable, or the observable is categorical or not a
        single number.
    """
    groups = to_groups(result)
    if not {"predictions", "observed_data"} <= set(groups):
        raise ValueError(
            f"result has the groups {', '.join(groups) or 'none'}; expected predictions and "
            "observed_data, as jana_pymc.forecast returns them."
        )
    past, future = _numbers(groups["observed_data"], groups["predictions"], value)
    shown = past.shape[-1] if last is None else check_count("last", last)
    figure, given = panels(len(past), axes, columns=3, size=(4.2, 2.8))
    for i, ax in enumerate(given):
        ax.use_sticky_edges = False  # otherwise the panel ends where a band ends
        n_past = int((~np.isnan(past[i])).sum())
        before = np.arange(max(0, n_past - shown), n_past)
        ax.plot(before + 1, past[i, before], ".-", color=DATA, ms=4, linewidth=0.9, label="past")
        after = n_past + 1 + np.arange(future.shape[-1])
        for share, opacity in ((0.9, 0.2), (0.5, 0.35)):
            low, high = np.quantile(future[i], [0.5 - share / 2, 0.5 + share / 2], axis=0)
            # As wide as an observation, so that a single one has a band too.
            edges = np.append(after - 0.5, after[-1] + 0.5)
            ax.stairs(
                high, edges, baseline=low, fill=True, color=COLOURS[0], alpha=opacity,
                label=f"{share:.0%} of the future",
            )  # fmt: skip
        ax.plot(
            after, np.median(future[i], axis=0), ".-", color=COLOURS[0], ms=4, label="its median"
        )
        ax.set_xlabel("observation", fontsize=9)
        ax.set_title("" if len(given) == 1 else f"data set {i}", fontsize=9)
        whole_ticks(ax.xaxis)
        if is_whole(future):
            whole_ticks(ax.yaxis)
    given[0].set_ylabel(_name(groups["predictions"], value), fontsize=9)
    legend_below(given[-1], width=4.2)
    return figure


def _name(predictions: xr.Dataset, value: str | None) -> str:
    return value if value is not None else str(next(iter(predictions)))


def _numbers(
    observed: xr.Dataset, predictions: xr.Dataset, value: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Past, shape (sets, obs), and future, (sets, draws, ahead), of one observable."""
    name = _name(predictions, value)
    if name not in predictions:
        raise ValueError(
            f"there is no observable {name!r}; choose from {', '.join(map(str, predictions))}."
        )
    future = predictions[name]
    if "flag_values" in future.attrs:
        raise ValueError(
            f"{name!r} is a category, of which there are no bands; its shares are "
            f"(predictions[{name!r}] == category).mean(('chain', 'draw'))."
        )
    if set(future.dims) - {"chain", "draw", "dataset", "ahead"}:
        raise ValueError(
            f"{name!r} has the dimensions {', '.join(map(str, future.dims))}; expected one number "
            "for each observation. Take a component of it, such as "
            f"result.isel({name}_dim_0=0)."
        )
    future = future.stack(sample=("chain", "draw"))
    past = observed[name]
    if "dataset" not in future.dims:
        future, past = future.expand_dims("dataset"), past.expand_dims("dataset")
    return (
        past.transpose("dataset", "obs").to_numpy().astype(float),
        future.transpose("dataset", "sample", "ahead").to_numpy().astype(float),
    )
