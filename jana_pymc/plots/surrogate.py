"""Comparison of surrogate and simulated data sets for the same parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.checks import check_count
from jana_pymc.plots.style import (
    COLOURS,
    DATA,
    bin_edges,
    is_whole,
    legend_below,
    panels,
    whole_ticks,
)
from jana_pymc.simulation import Categorical

if TYPE_CHECKING:
    from jana_pymc.simulation import Simulations


def plot_surrogate(
    simulated: Simulations,
    surrogate: Simulations,
    *,
    value: str | None = None,
    by: str | None = None,
    bins: int = 40,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot densities of an observable in data sets of the simulator and of the likelihood.

    Parameters
    ----------
    simulated : Simulations
        ``model.simulate(parameters=theta)``.
    surrogate : Simulations
        ``approximator.simulate(theta)``, for the same parameters.
    value : str, optional
        Name of an observable, or of a component such as ``"x[0]"``. By default the first that is
        not categorical.
    by : str, optional
        Name of a categorical observable, by default the first, with a panel for each value.
        Densities are then defective: the area in a panel is the share of its value.
    bins : int
        Number of bins. If all values are whole numbers, each bin covers the same number of them:
        one, or more if there are many more values than bins.
    axes : Axes, optional
        One per panel.

    Returns
    -------
    Figure
        Lines are means over data sets, with bands of 90% whose widths can be compared as well.

    Raises
    ------
    TypeError
        If one of the two is no `Simulations`, or `bins` no integer.
    ValueError
        If there is no such observable or component, or `bins` is below 1.
    """
    for argument, made in (("simulated", simulated), ("surrogate", surrogate)):
        if not hasattr(made, "schema"):
            raise TypeError(f"{argument} is {type(made).__name__}; expected Simulations.")
    check_count("bins", bins)
    kinds = surrogate.schema.components
    continuous = [name for name, kind in kinds.items() if not isinstance(kind, Categorical)]
    categorical = [name for name, kind in kinds.items() if isinstance(kind, Categorical)]
    value = value or (continuous[0] if continuous else None)
    by = by or (categorical[0] if categorical and value is not None else None)
    for name, known in ((value, kinds), (by, categorical)):
        if name is not None and name not in known:
            raise ValueError(f"there is no component {name!r} here; choose from {list(known)}.")
    value = value or categorical[0]
    both = [_columns(each, value, by) for each in (simulated, surrogate)]
    whole = all(is_whole(values[~np.isnan(values)]) for values, _ in both)
    edges = _edges([values for values, _ in both], bins, whole)
    categories = [None] if by is None else sorted(np.unique(both[0][1][~np.isnan(both[0][1])]))
    figure, given = panels(len(categories), axes, size=(3.8, 2.9))
    for ax, category in zip(given, categories, strict=True):
        for (values, labels), colour, name in zip(
            both, (DATA, COLOURS[0]), ("simulator", "surrogate"), strict=True
        ):
            densities = _densities(values, labels, category, edges)
            low, high = np.quantile(densities, [0.05, 0.95], axis=0)
            ax.stairs(
                high, edges, baseline=low, fill=True, color=colour, alpha=0.18,
                label=f"{name}, 90% of sets",
            )  # fmt: skip
            mean = densities.mean(axis=0)
            ax.stairs(mean, edges, color=colour, linewidth=1.5, label=f"{name}, mean")
        ax.set_xlabel(value, fontsize=9)
        ax.set_title("" if category is None else f"{by} = {category:g}", fontsize=10)
        if whole:
            whole_ticks(ax.xaxis)
    given[0].set_ylabel("density", fontsize=9)
    top = max(ax.get_ylim()[1] for ax in given)
    for ax in given:  # one scale, since areas are shares
        ax.set_ylim(0, top)
    legend_below(given[-1], width=3.8)
    return figure


def _columns(source: Simulations, value: str, by: str | None) -> tuple[np.ndarray, np.ndarray]:
    names = list(source.schema.components)
    observables = source.batch(pad=True).observables
    values = observables[..., names.index(value)]
    return values, np.zeros_like(values) if by is None else observables[..., names.index(by)]


def _edges(values: list[np.ndarray], bins: int, whole: bool) -> np.ndarray:
    # A few extreme observations must not squeeze the others into two bins.
    low = min(float(np.nanmin(v)) for v in values)
    high = max(float(np.nanquantile(v, 0.99)) for v in values)
    return bin_edges(low, high, bins, whole=whole)


def _densities(
    values: np.ndarray, labels: np.ndarray, category: float | None, edges: np.ndarray
) -> np.ndarray:
    """One histogram a data set, normalised over all its observations, (sets, bins)."""
    sizes = (~np.isnan(values)).sum(axis=1)
    inside = np.ones(values.shape, bool) if category is None else labels == category
    counts = [np.histogram(v[keep], edges)[0] for v, keep in zip(values, inside, strict=True)]
    return np.asarray(counts) / (sizes[:, None] * np.diff(edges))
