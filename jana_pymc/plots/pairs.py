"""Marginals and pairs of posterior draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde

from jana_pymc.checks import check_count
from jana_pymc.inference_data import ArviZData, to_groups
from jana_pymc.plots.style import COLOURS, REFERENCE
from jana_pymc.simulation.names import component_labels
from jana_pymc.simulation.validation import as_float

MAX_COMPONENTS = 12
MAX_DRAWS = 2000
GRID = 60


def plot_posterior_pairs(
    draws: ArviZData
    | xr.Dataset
    | Mapping[str, ArrayLike]
    | Mapping[str, ArviZData | xr.Dataset | Mapping[str, ArrayLike]],
    *,
    var_names: Sequence[str] | None = None,
    true: Mapping[str, float] | None = None,
    max_points: int = 400,
) -> Figure:
    """Plot marginals on the diagonal and pairs below it, for one or several sets of draws.

    Contours of pairs hold 50% and 90% of the draws.

    Parameters
    ----------
    draws : mapping from labels to draws, or one set of draws
        Each an InferenceData or DataTree with a ``posterior`` group, a Dataset, or a mapping
        from names to arrays of draws of scalar parameters. For example
        ``{"amortized": approximator.sample(data), "NUTS": pm.sample()}``.
    var_names : sequence of str, optional
        By default the names in the first set, in their order.
    true : mapping from component names to values, optional
        True values, drawn as lines and crosses.
    max_points : int
        Largest number of points per panel and set.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If `max_points` is no count, or draws are of another type or not numeric.
    ValueError
        If there are no draws or too many components, or a set or `true` has other names.
    """
    check_count("max_points", max_points)
    sets = _by_label(draws)
    components = {label: _components(each, var_names, label) for label, each in sets.items()}
    if not components:
        raise ValueError("draws is empty; expected a mapping such as {'amortized': data}.")
    names = list(next(iter(components.values())))
    for label, each in components.items():
        missing = [name for name in names if name not in each]
        if missing:
            raise ValueError(f"draws[{label!r}] lacks {', '.join(missing)}.")
    if len(names) > MAX_COMPONENTS:
        raise ValueError(
            f"there are {len(names)} components, more than {MAX_COMPONENTS} fit on a page: choose "
            "some with var_names=."
        )
    if true:
        # Values of components that var_names leaves out are allowed.
        label, first = next(iter(sets.items()))
        known = list(_components(first, None, label))
        unknown = [name for name in true if name not in known]
        if unknown:
            raise ValueError(
                f"true has {', '.join(map(str, unknown))}, no component; choose from {known}."
            )
    return _draw_grid(components, names, true or {}, max_points)


def _by_label(draws: Any) -> Mapping[str, Any]:
    """All sets of draws; a single one, which maps names to arrays, is labelled here."""
    if not isinstance(draws, Mapping) or _has_groups(draws):
        return {"draws": draws}
    are_labels = any(isinstance(each, Mapping) for each in draws.values())
    return draws if are_labels or not draws else {"draws": draws}


def _has_groups(draws: Any) -> bool:
    """Whether it is an InferenceData or a DataTree, which are mappings too."""
    return not isinstance(draws, xr.Dataset) and hasattr(draws, "groups")


def _draw_grid(
    components: Mapping[str, Mapping[str, np.ndarray]],
    names: Sequence[str],
    true: Mapping[str, float],
    max_points: int,
) -> Figure:
    n = len(names)
    side = max(1.9 * n, 3.2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes: Any = figure.subplots(n, n, squeeze=False, sharex="col")
    for row, column in product(range(n), repeat=2):
        ax = axes[row, column]
        if row < column:
            ax.set_axis_off()
            continue
        _draw_panel(ax, components, names[column], names[row], max_points)
        _mark_truth(ax, true.get(names[column]), true.get(names[row]) if row > column else None)
        _label(ax, names, row, column)
        if row > column > 0:
            ax.sharey(axes[row, 0])
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=label)
        for label, colour in zip(components, cycle(COLOURS), strict=False)
    ]
    if n > 1:  # The empty upper triangle has room for it.
        place = {"loc": "upper right", "bbox_to_anchor": (0.98, 0.98)}
    else:
        place = {"loc": "outside upper center"}
    figure.legend(handles=handles, frameon=False, **place)
    return figure


def _draw_panel(
    ax: Axes,
    components: Mapping[str, Mapping[str, np.ndarray]],
    x_name: str,
    y_name: str,
    max_points: int,
) -> None:
    for each, colour in zip(components.values(), cycle(COLOURS), strict=False):
        if x_name == y_name:
            _draw_marginal(ax, each[x_name], colour)
        else:
            _draw_pair(ax, each[x_name], each[y_name], colour, max_points)


def _draw_marginal(ax: Axes, x: np.ndarray, colour: str) -> None:
    if np.ptp(x) == 0:
        ax.axvline(x[0], color=colour, linewidth=1.6)
        return
    grid = np.linspace(x.min(), x.max(), 200)
    density = gaussian_kde(_thin(x, MAX_DRAWS))(grid)
    ax.plot(grid, density, color=colour, linewidth=1.6)
    ax.fill_between(grid, density, color=colour, alpha=0.07, linewidth=0)
    # The marginals of earlier sets may be lower.
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.05 * density.max()))


def _draw_pair(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, max_points: int) -> None:
    ax.plot(
        _thin(x, max_points),
        _thin(y, max_points),
        "o",
        color=colour,
        markersize=1.6,
        markeredgewidth=0,
        alpha=0.3,
    )
    values = np.stack([_thin(x, MAX_DRAWS), _thin(y, MAX_DRAWS)])
    # Constant or collinear draws have no density to draw contours of; scales may be any.
    if values.shape[1] < 10 or (np.ptp(values, axis=1) == 0).any():
        return
    if np.linalg.matrix_rank(np.corrcoef(values)) < 2:
        return
    kernel = gaussian_kde(values)
    levels = np.quantile(kernel(values), [0.1, 0.5])
    if levels[0] < levels[1]:
        grid = [np.linspace(v.min(), v.max(), GRID) for v in values]
        density = kernel(np.stack(np.meshgrid(*grid)).reshape(2, -1)).reshape(GRID, GRID)
        ax.contour(*grid, density, levels=levels, colors=colour, linewidths=1.2)


def _mark_truth(ax: Axes, x: float | None, y: float | None) -> None:
    if x is not None:
        ax.axvline(x, color=REFERENCE, linewidth=1, linestyle="--")
    if y is not None:
        ax.axhline(y, color=REFERENCE, linewidth=1, linestyle="--")


def _label(ax: Axes, names: Sequence[str], row: int, column: int) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=7)
    ax.tick_params(labelbottom=row == len(names) - 1)
    ax.locator_params(nbins=4)
    if row == column:
        ax.spines["left"].set_visible(False)
        ax.set_yticks([])
    elif column == 0:
        ax.set_ylabel(names[row], fontsize=9)
    else:
        ax.tick_params(labelleft=False)
    if row == len(names) - 1:
        ax.set_xlabel(names[column], fontsize=9)


def _components(
    draws: ArviZData | xr.Dataset | Mapping[str, ArrayLike],
    var_names: Sequence[str] | None,
    label: str,
) -> dict[str, np.ndarray]:
    """One array of draws for each scalar component, named as ArviZ names it."""
    dataset = _dataset(draws, label)
    unknown = [name for name in var_names or () if name not in dataset]
    if unknown:
        raise ValueError(f"draws[{label!r}] has no variable {', '.join(unknown)}.")
    components = {}
    for name in var_names or map(str, dataset):
        variable = dataset[name]
        dims = [dim for dim in variable.dims if dim not in ("chain", "draw")]
        labels = component_labels(str(name), [variable[dim].values for dim in dims])
        indices = np.ndindex(*(variable.sizes[dim] for dim in dims))
        for component, index in zip(labels, indices, strict=True):
            where = dict(zip(dims, index, strict=True))
            components[component] = variable.isel(where).values.ravel()
    return components


def _dataset(draws: ArviZData | xr.Dataset | Mapping[str, ArrayLike], label: str) -> xr.Dataset:
    if isinstance(draws, xr.Dataset):
        return draws
    if isinstance(draws, Mapping) and not _has_groups(draws):
        return xr.Dataset(
            {
                name: ("draw", as_float(f"draws[{label!r}][{name!r}]", each, hint="").ravel())
                for name, each in draws.items()
            }
        )
    groups = to_groups(draws)
    if "posterior" not in groups:
        raise ValueError(f"draws[{label!r}] has no posterior group.")
    return groups["posterior"]


def _thin(values: np.ndarray, n: int) -> np.ndarray:
    """Evenly spaced draws, at most n: the same for all components."""
    return values[np.linspace(0, len(values) - 1, min(n, len(values))).astype(int)]
