"""Monotonic splines re-expressed as ordinary PyTensor graphs."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from jana_pymc.flows.spline import N_FIELDS, spline_layout
from jana_pymc.flows.wall import CUBIC, CUT, FARTHEST
from jana_pymc.pytensor._compat import position

KEY_RANGE = 1e3
"""Knots and values are compared within ± this range; tails beyond it are straight lines."""


class Splines:
    """`WalledSplines` in PyTensor.

    The fields of all bins are two matrix products of the parameters with a softplus between them:
    edges, which may have any sign, are softplus(x) − softplus(−x), and constants are the softplus
    of a constant. This keeps the number of nodes, each of which is compiled, small.

    Parameters
    ----------
    raw : TensorVariable, shape (splines, 3 K + 3), or (contexts, inputs) with a last layer
        Unconstrained parameters.
    n_bins : int
        Number K of inner bins.
    walls : tuple of {-1, 1}
    layer : tuple of ndarray, shape (inputs, n, 3 K + 3) and (n, 3 K + 3), optional
        Weight and bias of a layer that maps each row of `raw` to the parameters of n splines.
    """

    def __init__(
        self,
        raw: TensorVariable,
        n_bins: int,
        walls: tuple[int, ...] = (),
        layer: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        layout = spline_layout(n_bins)
        n_edges, n = 2, len(layout.shift)
        split = np.concatenate([np.eye(n), -np.eye(n)[:, :n_edges], np.zeros((n, 1))], axis=1)
        one = math.log(math.expm1(1.0))  # whose softplus is 1
        shift = np.concatenate([layout.shift, -layout.shift[:n_edges], [one]])
        weight, bias = (np.eye(n)[:, None], np.zeros((1, n))) if layer is None else layer
        weight, bias = weight @ split, bias @ split + shift
        positive = raw @ pt.constant(weight.reshape(len(weight), -1)) + pt.constant(bias.ravel())
        positive = pt.softplus(positive).reshape((-1, len(shift)))
        self.n_rows, self.walls = n_bins + 2, walls
        matrix = np.concatenate([layout.matrix, -layout.matrix[:n_edges], layout.offset[None]])
        by_field = np.arange(matrix.shape[1]).reshape(self.n_rows, N_FIELDS).T.ravel()
        matrix = matrix[:, by_field]
        self._fields = (positive @ pt.constant(matrix)).ravel()
        first, positive = np.arange(1, self.n_rows), disconnected_grad(positive)
        self._knots = [positive @ pt.constant(matrix[:, first + i * self.n_rows]) for i in (0, 2)]

    def __call__(
        self, y: TensorVariable, spline: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        """Value and log derivative.

        Parameters
        ----------
        y : TensorVariable, shape (values,)
        spline : TensorVariable of int, shape (values,)
            Index of the spline of each value.
        """
        inner = y
        for side in self.walls:
            nearest = pt.maximum if side < 0 else pt.minimum
            inner = nearest(inner, self._start(side)[spline])
        x_left, width, y_bottom, height, d_left, d_right = self._bins(inner, spline, axis=0)
        share = (inner - x_left) / width  # of the bin; in the straight tails beyond [0, 1]
        xi = pt.clip(share, 0.0, 1.0)
        slope = height / width
        upper, lower, middle = pt.sqr(xi), pt.sqr(1.0 - xi), xi * (1.0 - xi)
        denominator = slope * (upper + lower) + (d_left + d_right) * middle
        rise = (slope * upper + d_left * middle) / denominator
        z = y_bottom + height * (rise + (share - xi))
        numerator = d_right * upper + d_left * lower + 2.0 * slope * middle
        relative = slope / denominator
        # Logarithms of the factors: the gradient of the logarithm of a product is slower.
        log_derivative = pt.log(numerator) + 2.0 * pt.log(relative)
        if not self.walls:
            return z, log_derivative
        v = (y - inner) * numerator * pt.sqr(relative)
        square = CUBIC * v * v
        return z + v * (1.0 + square), log_derivative + pt.log1p(3.0 * square)

    def _start(self, side: int) -> TensorVariable:
        """`WalledSplines`: where each spline ends."""
        splines = pt.arange(self._knots[0].shape[0])
        end = pt.full_like(splines, side * CUT, dtype="float64")
        x_left, width, y_bottom, height, d_left, d_right = self._bins(end, splines, axis=1)
        # Solved for ξ, in the form of the root that does not cancel; tails are straight.
        above = (end - y_bottom) / height
        share = pt.clip(above, 0.0, 1.0)
        left, right = d_left * width / height, d_right * width / height
        linear = left - share * (left + right - 2.0)
        xi = 2.0 * share / (linear + pt.sqrt(pt.sqr(linear) + 4.0 * (1.0 - linear) * share))
        return pt.clip(x_left + width * (xi + above - share), -FARTHEST, FARTHEST)

    def _bins(
        self, values: TensorVariable, spline: TensorVariable, axis: int
    ) -> list[TensorVariable]:
        """Fields of the bin that holds each value, on the axis of y (0) or of z (1)."""
        row = self._find(self._knots[axis], values, spline)
        first = row + spline * ((N_FIELDS - 1) * self.n_rows + 1)
        # Vectors, since PyTensor has C code for the gradient of indexing these alone.
        return [self._fields[position(first + f * self.n_rows, spline)] for f in range(N_FIELDS)]

    @staticmethod
    def _find(
        knots: TensorVariable, values: TensorVariable, spline: TensorVariable
    ) -> TensorVariable:
        """Number of knots at or below each value, those of all splines before its own included.

        One search serves all: their knots are set apart by more than their range.
        """
        apart = 4.0 * KEY_RANGE
        keys = pt.clip(knots, -KEY_RANGE, KEY_RANGE)
        keys = (keys + apart * pt.arange(knots.shape[0], dtype="float64")[:, None]).ravel()
        value = pt.clip(disconnected_grad(values), -1.5 * KEY_RANGE, 1.5 * KEY_RANGE)
        return pt.searchsorted(keys, value + apart * spline, side="right")
