"""Colours and panels that all figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4A9C", "#000000")
"""Told apart by colour-blind readers: the palette of Okabe and Ito, less its yellow."""

BAND = "#D9DEE4"
REFERENCE = "#6B7280"
DATA = "#1F2937"


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
        At least `count` of them.
    columns : int
        Panels side by side at most, in a new figure.
    size : tuple of float
        Width and height of a panel in inches, in a new figure.

    Returns
    -------
    figure : Figure
        Made without pyplot, which would keep it open.
    axes : list of Axes, length `count`
    """
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
    root = given[0].get_figure(root=True)
    if root is None:
        raise ValueError("axes belong to no figure; take them from Figure.subplots.")
    return root, given
