"""Monotonic splines re-expressed as ordinary PyTensor graphs."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from jana_pymc.flows.spline import N_FIELDS, spline_layout
from jana_pymc.flows.wall import CUBIC

KEY_RANGE = 1e3
"""Knots and values are told apart within ± this range; tails are found by their sides alone."""


class Splines:
    """`SplineTable` and `spline_forward` in PyTensor.

    From the parameters to the fields of all bins it takes two matrix products and a softplus
    between them: the edges, which are of any sign, are softplus(x) − softplus(−x), and what is
    constant is the softplus of a constant. Few nodes, since each is compiled.

    Parameters
    ----------
    raw : TensorVariable, shape (splines, 3 K + 3), or (contexts, inputs) with a last layer
        Unconstrained parameters.
    n_bins : int
        Number K of inner bins.
    walls : tuple of {-1, 1}
    layer : tuple of ndarray, shape (inputs, n, 3 K + 3) and (n, 3 K + 3), optional
        Weight and bias of a layer between what is given and the parameters of n splines for each
        of its rows.
    """

    def __init__(
        self,
        raw: TensorVariable,
        n_bins: int,
        walls: tuple[int, ...] = (),
        layer: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        layout = spline_layout(n_bins, walls=walls)
        n_edges, n = 2, len(layout.shift)
        split = np.concatenate([np.eye(n), -np.eye(n)[:, :n_edges], np.zeros((n, 1))], axis=1)
        one = math.log(math.expm1(1.0))  # whose softplus is 1
        shift = np.concatenate([layout.shift, -layout.shift[:n_edges], [one]])
        weight, bias = (np.eye(n)[:, None], np.zeros((1, n))) if layer is None else layer
        weight, bias = weight @ split, bias @ split + shift
        positive = raw @ pt.constant(weight.reshape(len(weight), -1)) + pt.constant(bias.ravel())
        positive = pt.softplus(positive).reshape((-1, len(shift)))
        if layout.total_height is not None:
            heights = np.zeros(len(shift))
            heights[n_edges + n_bins : n_edges + 2 * n_bins] = 1.0
            factor = layout.total_height / (positive * heights).sum(axis=1, keepdims=True)
            positive = positive * pt.switch(heights > 0.0, factor, 1.0)
        self.n_rows, self.walls = n_bins + 2, walls
        matrix = np.concatenate([layout.matrix, -layout.matrix[:n_edges], layout.offset[None]])
        by_field = np.arange(matrix.shape[1]).reshape(self.n_rows, N_FIELDS).T.ravel()
        matrix = matrix[:, by_field]
        self._fields = (positive @ pt.constant(matrix)).ravel()
        self._knots = disconnected_grad(positive) @ pt.constant(matrix[:, 1 : self.n_rows])

    def __call__(
        self, x: TensorVariable, spline: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        """Value and log derivative.

        Parameters
        ----------
        x : TensorVariable, shape (values,)
        spline : TensorVariable of int, shape (values,)
            Which of the splines each value goes through.
        """
        first = self._find(x, spline) + spline * ((N_FIELDS - 1) * self.n_rows + 1)
        # Vectors, since PyTensor has C code for the gradient of indexing these alone.
        x_left, width, y_bottom, height, d_left, d_right = (
            self._fields[first + field * self.n_rows] for field in range(N_FIELDS)
        )
        position = (x - x_left) / width
        xi = pt.clip(position, 0.0, 1.0)
        slope = height / width
        rest = 1.0 - xi
        product = xi * rest
        denominator = slope + (d_left + d_right - 2.0 * slope) * product
        rise = xi * (slope * xi + d_left * rest) / denominator
        beyond = height * (position - xi)
        numerator = d_right * xi * xi + d_left * rest * rest + 2.0 * slope * product
        relative = slope / denominator
        derivative = numerator * relative * relative
        if self.walls:
            towards = beyond
            if -1 not in self.walls:
                towards = pt.maximum(towards, 0.0)
            if 1 not in self.walls:
                towards = pt.minimum(towards, 0.0)
            square = CUBIC * towards * towards
            beyond = beyond + square * towards
            derivative = derivative * (1.0 + 3.0 * square)
        return y_bottom + height * rise + beyond, pt.log(derivative)

    def _find(self, x: TensorVariable, spline: TensorVariable) -> TensorVariable:
        """Number of knots at or below each value, those of all splines before its own included.

        One search serves all: their knots are set apart by more than their range.
        """
        apart = 4.0 * KEY_RANGE
        n_splines = self._knots.shape[0]
        keys = pt.clip(self._knots, -KEY_RANGE, KEY_RANGE)
        keys = (keys + apart * pt.arange(n_splines, dtype="float64")[:, None]).ravel()
        value = pt.clip(disconnected_grad(x), -1.5 * KEY_RANGE, 1.5 * KEY_RANGE)
        return pt.searchsorted(keys, value + apart * spline, side="right")
