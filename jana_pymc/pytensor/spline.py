"""Rational-quadratic splines in PyTensor: from network outputs to the table of bins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from jana_pymc.flows.spline import MINIMUM, n_spline_parameters, spline_layout
from jana_pymc.pytensor.slopes import softplus

TAIL = 2.0**20
"""Width of the bins that stand for the linear tails; wide ones keep far values exact."""


class SplineTable(NamedTuple):
    """Bins of many splines, flat: those of spline i are the entries i (K + 2) to i (K + 2) + K + 1.

    Parameters
    ----------
    fields : tuple of six TensorVariable, shape (splines · (K + 2),)
        Left edge, width, bottom, height, left and right derivative, as in `spline_layout`, but
        for inputs that are not standardised.
    knots : TensorVariable, shape (splines, K + 1)
        Edges between the bins. No gradient flows through them.
    cost : TensorVariable, shape (splines,), or None
        Minus the log probability of the cell that a spline belongs to; None without cells.
    """

    fields: tuple[TensorVariable, ...]
    knots: TensorVariable
    cost: TensorVariable | None


class SplineHead:
    """How the outputs of a network become tables of splines.

    The table is a softplus and a cumulative sum away from a linear function of the outputs. That
    function, which also undoes the standardisation of the spline's input, is one with the
    network's last layer.

    Parameters
    ----------
    n_bins : int
        Inner bins K.
    n_splines : int
        Splines for each row of network outputs.
    n_cells : int
        Logits that come before the splines' parameters, one for each spline; or 0.
    mean, sd : float
        Location and scale by which the spline's input was standardised.

    Attributes
    ----------
    matrix, offset : ndarray, shapes (arranged, outputs) and (arranged,)
        The linear function.
    """

    def __init__(self, n_bins: int, n_splines: int, n_cells: int, mean: float, sd: float):
        self.n_bins, self.n_splines, self.n_cells, self.sd = n_bins, n_splines, n_cells, sd
        n_spline = n_spline_parameters(n_bins)
        n_outputs = n_cells + n_splines * n_spline
        place = np.arange(n_cells, n_outputs).reshape(n_splines, n_spline)
        widths, heights, derivatives = np.split(place[:, 2:], [n_bins, 2 * n_bins], axis=1)
        first, last = derivatives[:, :1], derivatives[:, -1:]
        bins = np.stack(
            [np.hstack([first, widths, last]), np.hstack([first, heights, last])]
        )  # the tails' own width is a constant, what stands in its place does not count
        slopes = np.hstack([first, derivatives, last])

        chosen = np.eye(n_outputs)
        shift = np.append(np.zeros(n_cells), np.tile(spline_layout(n_bins).shift, n_splines))
        logits = chosen[:n_cells]
        if n_cells == 2:  # −log p₀ = log(1 + exp(l₁ − l₀)): a softplus like the others
            logits = logits[::-1] - logits
        bent = np.append(bins.ravel(), slopes.ravel())
        self.matrix = np.vstack([sd * chosen[place[:, 0]], chosen[place[:, 1]], logits, chosen[bent]])
        edges = np.append(sd * shift[place[:, 0]] + mean, shift[place[:, 1]])
        self.offset = np.concatenate([edges, np.zeros(n_cells), shift[bent]])
        self._sizes = (bins.size, slopes.size)

    def table(self, outputs: TensorVariable) -> SplineTable:
        """Build the table from arranged network outputs, shape (rows, arranged)."""
        n_edges, n_cells = 2 * self.n_splines, self.n_cells
        cost = None
        if n_cells == 2:
            edges, bent = _split(outputs, n_edges, 2 + sum(self._sizes))
            costs, bins, slopes = _split(softplus(bent), 2, *self._sizes)
            cost = costs.ravel()
        else:
            edges, logits, bent = _split(outputs, n_edges, n_cells, sum(self._sizes))
            bins, slopes = _split(softplus(bent), *self._sizes)
            if n_cells:
                cost = -pt.special.log_softmax(logits, axis=-1).ravel()
        fields = self._fields(edges, bins, slopes)
        knots = disconnected_grad(fields[0][..., 1:]).reshape((-1, self.n_bins + 1))
        return SplineTable(tuple(f.ravel() for f in fields), knots, cost)

    def _fields(
        self, edges: TensorVariable, bins: TensorVariable, slopes: TensorVariable
    ) -> list[TensorVariable]:
        """The six fields, each (rows, splines, K + 2)."""
        # Constants are whole arrays: PyTensor writes scalars into C code, which would have to be
        # compiled anew for each network.
        unit = np.ones((2, self.n_splines, self.n_bins + 2))
        unit[0] *= self.sd
        inner = unit.copy()
        inner[..., [0, -1]] = 0.0
        factor = unit.copy()
        factor[..., [0, -1]] *= TAIL
        extra = MINIMUM * factor
        factor[0, :, [0, -1]], extra[0, :, [0, -1]] = 0.0, TAIL * self.sd

        bins = bins.reshape((-1, *unit.shape))
        steps = bins * inner + MINIMUM * inner
        corners = edges.reshape((-1, 2, self.n_splines, 1)) + (pt.cumsum(steps, axis=-1) - steps)
        extents = bins * factor + extra
        per_unit = np.full((self.n_splines, self.n_bins + 3), 1.0 / self.sd)
        slopes = slopes.reshape((-1, *per_unit.shape)) * per_unit + MINIMUM * per_unit
        return [
            corners[:, 0],
            extents[:, 0],
            corners[:, 1],
            extents[:, 1],
            slopes[..., :-1],
            slopes[..., 1:],
        ]


def _split(x: TensorVariable, *sizes: int) -> list[TensorVariable]:
    """Cut the last axis; an empty part is left out of the graph."""
    parts = iter(pt.split(x, splits_size=[s for s in sizes if s], axis=-1))
    return [next(parts) if s else x[..., :0] for s in sizes]
