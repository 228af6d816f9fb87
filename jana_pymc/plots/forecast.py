"""Forecasts of sequences: their past, and bands of their future."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.checks import check_count
from jana_pymc.inference_data import ArviZData, to_groups
from jana_pymc.plots.components import LEADING, find_component
from jana_pymc.plots.style import COLOURS, DATA, is_whole, legend_below, panels, whole_ticks


def plot_forecast(
    result: ArviZData,
    *,
    value: str | None = None,
    last: int | None = None,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the past of each sequence, and bands of its future, or shares of future categories.

    Parameters
    ----------
    result : InferenceData or DataTree
        From `jana_pymc.forecast`.
    value : str, optional
        Name of an observable, by default the first; of one with a shape, name a component, such as
        ``"x[0]"``.
    last : int, optional
        Number of past observations to show; by default all.
    axes : Axes, optional
        One per sequence.

    Returns
    -------
    Figure
        Dark points are the past; the line is the median of the future, with bands of 50% and 90%.
        Of a category, bars show its share of the future at each step: a bar as high as the distance
        of two categories is 100%. Observations are counted from 1.

    Raises
    ------
    TypeError
        If `result` is no ArviZ data, or `last` no integer.
    ValueError
        If there is no forecast or no such observable or component, or the observable is not a
        single number.
    """
    groups = to_groups(result)
    if not {"predictions", "observed_data"} <= set(groups):
        raise ValueError(
            f"result has the groups {', '.join(groups) or 'none'}; expected predictions and "
            "observed_data, as jana_pymc.forecast returns them."
        )
    name = str(next(iter(groups["predictions"]))) if value is None else value
    past, future, categories = _numbers(groups["observed_data"], groups["predictions"], name)
    shown = past.shape[-1] if last is None else check_count("last", last)
    figure, given = panels(len(past), axes, columns=3, size=(4.2, 2.8))
    for i, ax in enumerate(given):
        ax.use_sticky_edges = False  # otherwise the panel ends where a band ends
        n_past = int((~np.isnan(past[i])).sum())
        before = np.arange(max(0, n_past - shown), n_past)
        ax.plot(before + 1, past[i, before], ".-", color=DATA, ms=4, linewidth=0.9, label="past")
        if len(categories):
            _draw_shares(ax, future[i], n_past, categories)
        else:
            _draw_bands(ax, future[i], n_past)
        ax.set_xlabel("observation", fontsize=9)
        ax.set_title("" if len(given) == 1 else f"data set {i}", fontsize=9)
        whole_ticks(ax.xaxis)
        if is_whole(future):
            whole_ticks(ax.yaxis)
    given[0].set_ylabel(name, fontsize=9)
    legend_below(given[-1], width=4.2)
    return figure


def _draw_bands(ax: Axes, future: np.ndarray, n_past: int) -> None:
    after = n_past + 1 + np.arange(future.shape[-1])
    for share, opacity in ((0.9, 0.2), (0.5, 0.35)):
        low, high = np.quantile(future, [0.5 - share / 2, 0.5 + share / 2], axis=0)
        # As wide as an observation, so that a single one has a band too.
        edges = np.append(after - 0.5, after[-1] + 0.5)
        ax.stairs(
            high, edges, baseline=low, fill=True, color=COLOURS[0], alpha=opacity,
            label=f"{share:.0%} of the future",
        )  # fmt: skip
    ax.plot(after, np.median(future, axis=0), ".-", color=COLOURS[0], ms=4, label="its median")


def _draw_shares(ax: Axes, future: np.ndarray, n_past: int, categories: np.ndarray) -> None:
    after = n_past + 1 + np.arange(future.shape[-1])
    edges = np.append(after - 0.5, after[-1] + 0.5)
    for category in categories:
        half = (future == category).mean(axis=0) / 2
        ax.stairs(
            category + half, edges, baseline=category - half, fill=True, color=COLOURS[0],
            alpha=0.5, label="shares of the future" if category == categories[0] else None,
        )  # fmt: skip
    ax.set_ylim(categories[0] - 0.6, categories[-1] + 0.6)


def _numbers(
    observed: xr.Dataset, predictions: xr.Dataset, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Past, shape (sets, obs), future, (sets, draws, ahead), and categories of one observable."""
    future = xr.DataArray(find_component(predictions, name, "result"))
    own = [dim for dim in future.dims if dim not in LEADING]
    if own:
        raise ValueError(
            f"{name!r} has the dimensions {', '.join(map(str, future.dims))}; expected one number "
            f"for each observation. Name a component, '{name}[{', '.join('0' * len(own))}]'."
        )
    categories = np.asarray(future.attrs.get("flag_values", ()))
    future = future.stack(sample=("chain", "draw"))
    past = xr.DataArray(find_component(observed, name, "the past"))
    if "dataset" not in future.dims:
        future, past = future.expand_dims("dataset"), past.expand_dims("dataset")
    return (
        past.transpose("dataset", "obs").to_numpy().astype(float),
        future.transpose("dataset", "sample", "ahead").to_numpy().astype(float),
        categories,
    )
