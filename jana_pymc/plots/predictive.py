"""Posterior predictive draws against the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jana_pymc.checks import check_count
from jana_pymc.plots.components import find_component
from jana_pymc.plots.style import (
    COLOURS,
    DATA,
    bin_edges,
    is_whole,
    legend_below,
    panels,
    whole_ticks,
)


def plot_posterior_predictive(
    observed: Mapping[str, ArrayLike] | xr.Dataset,
    predictive: Mapping[str, ArrayLike] | xr.Dataset,
    *,
    value: str,
    by: str | None = None,
    group: ArrayLike | None = None,
    bins: int | None = None,
    max_draws: int = 500,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the density of the data against that of posterior predictive draws.

    With ``by``, one panel for each of its values, and the densities are defective: the area in a
    panel is the share of observations with that value, so that response times and choice
    proportions are checked at once.

    Parameters
    ----------
    observed : mapping of str to array, shape (obs,)
        For example ``idata.observed_data`` of one data set; for many data sets, use
        ``jana_pymc.select_dataset(idata, 0)``.
    predictive : mapping of str to array, shape (..., obs)
        For example ``idata.posterior_predictive``: leading axes are draws.
    value : str
        Name of a continuous observable, such as ``"rt"``, or of a count; of an observable with a
        shape, name one component, such as ``"h[0]"``.
    by : str, optional
        Name of a categorical observable, such as ``"response"``, or of a component of one.
    group : array_like, shape (obs,), optional
        Labels, such as participants. Each has its own row of panels or, without ``by``, its own
        panel.
    bins : int, optional
        By default chosen from the number of observations (in the smallest group). If all values
        are whole numbers, each bin covers the same number of them: one, or more if there are many
        more values than bins.
    max_draws : int
        Largest number of draws used, evenly spaced.
    axes : Axes, optional
        One per group and category, row by row.

    Returns
    -------
    Figure
        Dark steps are the data, blue steps the mean over draws, with a band of 90%.

    Raises
    ------
    TypeError, ValueError
        If `bins` or `max_draws` is no count.
    ValueError
        If an observable is missing, has many data sets, or is not one number per observation; if
        lengths differ; or if values of `by` and groups make hundreds of panels.
    """
    data = _Columns(observed, value, by, "observed")
    draws = _Columns(predictive, value, by, "predictive").thin(check_count("max_draws", max_draws))
    if len(data.value) != 1:
        raise ValueError(
            f"observed[{value!r}] has shape {data.shape}; expected (obs,), one number for each "
            "observation of one data set. Of many data sets take one (jana_pymc.select_dataset), "
            "of an observable with a shape one component, such as 'x[0]'."
        )
    if data.value.shape[-1] != draws.value.shape[-1]:
        raise ValueError(
            f"observed has {data.value.shape[-1]} observations, but predictive has "
            f"{draws.value.shape[-1]}."
        )
    labels = np.zeros(data.value.shape[-1]) if group is None else np.asarray(group)
    if labels.shape != data.value.shape[-1:]:
        raise ValueError(f"group has shape {labels.shape}; expected {data.value.shape[-1:]}.")
    rows = [labels == label for label in np.unique(labels)]
    categories = np.unique(np.append(data.by, draws.by))
    smallest = min(int(rows_in.sum()) for rows_in in rows)
    bins = _number_of_bins(smallest) if bins is None else check_count("bins", bins)
    whole = is_whole(data.value) and is_whole(draws.value)
    edges = _edges(data.value, draws.value, bins, whole)
    # Groups stand one below the other where each has a row of categories.
    columns = len(categories) if len(categories) > 1 else min(4, len(rows))
    figure, given = panels(len(rows) * len(categories), axes, columns=columns, size=(3.6, 2.5))
    for ax, (rows_in, category) in zip(given, product(rows, categories), strict=True):
        densities = [each.density(edges, rows_in, category) for each in (data, draws)]
        _draw_densities(ax, densities[0][0], densities[1], edges)
        if whole:
            whole_ticks(ax.xaxis)
    titles = [None] if group is None else list(np.unique(labels))
    _label(given, value, by, titles, list(categories), columns)
    return figure


class _Columns:
    """An observable and what it is split by, with observations last."""

    def __init__(
        self,
        source: Mapping[str, ArrayLike] | xr.Dataset,
        value: str,
        by: str | None,
        name: str,
    ):
        values = find_component(source, value, name)
        self.shape = np.shape(values)
        self.value = _rows(values, f"{name}[{value!r}]")
        self.by = np.zeros(self.value.shape, int)
        if by is not None:
            labels = find_component(source, by, name)
            self.by = _rows(labels, f"{name}[{by!r}]")
            if self.by.shape != self.value.shape:
                raise ValueError(
                    f"{name}[{by!r}] has shape {np.shape(labels)}; expected that of {value!r}, "
                    f"{self.shape}."
                )

    def thin(self, n: int) -> _Columns:
        keep = np.linspace(0, len(self.value) - 1, min(n, len(self.value))).astype(int)
        self.value, self.by = self.value[keep], self.by[keep]
        return self

    def density(self, edges: np.ndarray, rows: np.ndarray, category: float) -> np.ndarray:
        """Histograms of the observations in a category, normalised over all, (draws, bins)."""
        value, by = self.value[:, rows], self.by[:, rows]
        counts = [np.histogram(v[b == category], edges)[0] for v, b in zip(value, by, strict=True)]
        return np.asarray(counts) / (rows.sum() * np.diff(edges))


def _rows(array: ArrayLike, name: str) -> np.ndarray:
    if "dataset" in getattr(array, "dims", ()):
        raise ValueError(
            f"{name} is of many data sets; take one of them, jana_pymc.select_dataset(idata, 0)."
        )
    values = np.asarray(array)
    if not values.ndim:
        raise ValueError(
            f"{name} is a single number; expected observations, shape (obs,). What a vector "
            "consists of has no density to draw."
        )
    return values.reshape(-1, values.shape[-1])


def _edges(data: np.ndarray, draws: np.ndarray, bins: int, whole: bool) -> np.ndarray:
    # A few extreme draws must not squeeze the data into two bins.
    low = min(data.min(), np.quantile(draws, 0.001))
    high = max(data.max(), np.quantile(draws, 0.995))
    return bin_edges(low, high, bins, whole=whole)


def _number_of_bins(n: int) -> int:
    return int(np.clip(3 * np.cbrt(n), 12, 60))


def _draw_densities(ax: Axes, data: np.ndarray, draws: np.ndarray, edges: np.ndarray) -> None:
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    ax.stairs(
        high, edges, baseline=low, fill=True, color=COLOURS[0], alpha=0.22, label="90% of draws"
    )
    ax.stairs(draws.mean(0), edges, color=COLOURS[0], linewidth=1.6, label="posterior predictive")
    ax.stairs(data, edges, color=DATA, linewidth=1.2, label="data")


def _label(
    axes: Sequence[Axes],
    value: str,
    by: str | None,
    groups: Sequence[object],
    categories: Sequence[float],
    columns: int,
) -> None:
    top = max(ax.get_ylim()[1] for ax in axes)
    for i, ax in enumerate(axes):
        row, column = divmod(i, len(categories))
        parts = [] if groups[row] is None else [str(groups[row])]
        parts += [] if by is None else [f"{by} = {categories[column]:g}"]
        ax.set_title(", ".join(parts), fontsize=9)
        ax.set_ylim(0, top)
        if i >= len(axes) - columns:
            ax.set_xlabel(value, fontsize=9)
        if i % columns == 0:
            ax.set_ylabel("density", fontsize=9)
    legend_below(axes[-1], ncols=3, columnspacing=1.2)
