"""Parts of networks re-expressed as ordinary PyTensor graphs, which several lowerings share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.flows.autoregressive import MAX_LOG_STRETCH
from jana_pymc.likelihoods import CountRange, Support
from jana_pymc.likelihoods.counts import NARROW
from jana_pymc.likelihoods.support import Bound
from jana_pymc.networks.dense import Residual
from jana_pymc.pytensor.barrier import barrier
from jana_pymc.pytensor.lowering_spline import Splines

ACTIVATIONS = {
    nn.ReLU: lambda x: pt.maximum(x, 0.0),
    nn.SiLU: lambda x: x * pt.sigmoid(x),
    nn.Tanh: pt.tanh,
}


class NoLowering(TypeError):
    """There is no PyTensor version of this network; use the Op."""


def array(tensor: Any) -> np.ndarray:
    """A network's tensor, in double precision, as a constant of graphs."""
    return tensor.detach().cpu().numpy().astype(np.float64)


def dense_network(
    network: Any, x: TensorVariable, mean: np.ndarray, sd: np.ndarray
) -> TensorVariable:
    """A `DenseNetwork`, with the standardisation of its inputs folded into the first layer."""
    return apply_layers(network.layers[-1:], hidden_layers(network, x, mean, sd))


def hidden_layers(
    network: Any, x: TensorVariable, mean: np.ndarray, sd: np.ndarray
) -> TensorVariable:
    """Input of the last layer of a `DenseNetwork`."""
    layers = network.layers[:-1]
    x = barrier(x)
    if not layers or isinstance(layers[0], Residual):  # which needs its input
        return apply_layers(layers, (x - mean) / sd)
    first, *others = layers
    weight = array(first.weight).T / sd[:, None]
    bias = array(first.bias) - mean @ weight
    return apply_layers(others, x @ pt.constant(weight) + pt.constant(bias))


def apply_layers(layers: Iterable[nn.Module], x: TensorVariable) -> TensorVariable:
    """Layers of a `DenseNetwork`, one after the other."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = x @ pt.constant(array(layer.weight).T) + pt.constant(array(layer.bias))
        elif isinstance(layer, Residual):
            x = barrier(x + apply_layers(layer, barrier(x)))
        elif type(layer) in ACTIVATIONS:
            x = ACTIVATIONS[type(layer)](x)
        elif not isinstance(layer, nn.Dropout):  # which is off at evaluation
            raise NoLowering(f"{type(layer).__name__} has no PyTensor version.")
    return x


def rows_of(
    parameters: TensorVariable, group: TensorVariable | None, observables: TensorVariable
) -> TensorVariable:
    """Parameters, or inputs computed from them, of each observation."""
    if group is None:
        return pt.broadcast_to(parameters, (observables.shape[0], parameters.shape[1]))
    return parameters[group]


def entering_parameters(
    parameters: TensorVariable,
    logarithmic: Any,
    angles: list[int],
    rounded: list[int] | None = None,
) -> TensorVariable:
    """`entering` of the likelihoods in PyTensor.

    Parameters
    ----------
    parameters : TensorVariable, shape (groups, parameters)
    logarithmic : torch.Tensor of bool, shape (parameters,)
        Parameters that enter as logarithms.
    angles, rounded : list of int
        Columns of angles, and of whole numbers.
    """
    logs = logarithmic.cpu().numpy()
    plain = parameters
    if logs.any():
        safe = pt.maximum(parameters, np.where(logs, np.finfo(np.float64).tiny, -np.inf))
        plain = pt.switch(logs, pt.log(pt.switch(logs, safe, 1.0)), parameters)
    if rounded:
        columns = plain[:, rounded]
        plain = pt.set_subtensor(columns, pt.round(columns))
    if angles:
        turning = parameters[:, angles]
        plain = pt.set_subtensor(plain[:, angles], pt.sin(turning))
        plain = pt.concatenate([plain, pt.cos(turning)], axis=1)
    return plain


def to_real(
    support: Support,
    x: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """`Support.to_real` in PyTensor."""
    above = below = None
    inside = pt.ones_like(x, dtype="bool")
    if support.lower is not None:
        above = x - bound_of(support.lower, parameters, group)
        inside = above > 0
    if support.upper is not None:
        below = bound_of(support.upper, parameters, group) - x
        inside = below > 0 if above is None else (above > 0) & (below > 0)
    if above is None and below is None:
        return x, pt.zeros_like(x), inside
    if below is None:
        log_above = pt.log(pt.switch(inside, above, 1.0))
        return log_above, -log_above, inside
    log_below = pt.log(pt.switch(inside, below, 1.0))
    if above is None:
        return -log_below, -log_below, inside
    log_above = pt.log(pt.switch(inside, above, 1.0))
    log_range = pt.log(pt.switch(inside, above + below, 2.0))
    return log_above - log_below, log_range - log_above - log_below, inside


def bound_of(
    bound: Bound, parameters: TensorVariable, group: TensorVariable | None
) -> TensorVariable | float:
    """`Bound.of` in PyTensor."""
    if bound.column is None:
        return bound.value
    column = parameters[:, bound.column]
    return column[0] if group is None else column[group]


def is_count(component: CountRange, x: TensorVariable) -> TensorVariable:
    """`CountRange.inside` in PyTensor."""
    possible = pt.and_(x >= 0, pt.eq(x, pt.floor(x)))
    return possible if component.upper is None else pt.and_(possible, x <= component.upper)


def count_to_real(component: CountRange, value: TensorVariable) -> TensorVariable:
    """`CountRange.to_real` in PyTensor."""
    real = pt.log(value + 0.5)
    return real if component.upper is None else real - pt.log(component.upper + 0.5 - value)


class Line(Protocol):
    """An increasing map of the real line, one a row."""

    def value(self, y: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Images of points, shape (points, rows), and log derivatives."""


def log_count(
    component: CountRange, counts: TensorVariable, line: Line, mean: float, sd: float
) -> TensorVariable:
    """`log_count` of the likelihoods in PyTensor, of counts that are standardised first."""
    counts = pt.switch(is_count(component, counts), counts, 0.0)
    has_left, upper = counts > 0, component.upper
    above_zero = pt.switch(has_left, counts, 1.0)
    left, right, width = pt.log(above_zero), pt.log(counts + 1.0), pt.log1p(1.0 / above_zero)
    has_right = pt.ones_like(has_left)
    if upper is not None:
        has_right = counts < upper
        below_upper = pt.switch(has_right, upper - counts, 1.0)
        left = left - pt.log(upper + 1.0 - counts)
        right = right - pt.log(below_upper)
        width = width + pt.log1p(1.0 / below_upper)
    left, right = (left - mean) / sd, (right - mean) / sd
    z, slope = line.value(pt.stack([left, right, 0.5 * (left + right)]))
    a, b, narrow = z[0], z[1], pt.exp(slope[2]) * width / sd
    both = pt.and_(has_left, has_right)
    width = pt.switch(both, pt.switch(b - a > NARROW, b - a, narrow), 1.0)
    return (
        pt.switch(has_right, -pt.softplus(-b), 0.0)
        + pt.switch(has_left, -pt.softplus(a), 0.0)
        + pt.switch(both, pt.log(-pt.expm1(-width)), 0.0)
    )


class CountLine:
    """Increasing map of counts on the real line, one a row."""

    def __init__(
        self, raw: TensorVariable, bins: int, shift: TensorVariable, inverse_scale: TensorVariable
    ):
        self.raw, self.bins, self.shift, self.inverse_scale = raw, bins, shift, inverse_scale

    def value(self, y: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Images of points, shape (points, rows), and log derivatives."""
        z, slope = monotone((y - self.shift) * self.inverse_scale, self.raw, self.bins)
        return z, slope + pt.log(self.inverse_scale)


def monotone(
    u: TensorVariable, raw: TensorVariable, bins: int
) -> tuple[TensorVariable, TensorVariable]:
    """`monotone_forward` of one value for each row of raw parameters, or of several.

    Parameters
    ----------
    u : TensorVariable, shape (rows,) or (points, rows)
    raw : TensorVariable, shape (rows, parameters)
    """
    log_scale = atan_clamp(raw[:, 1], MAX_LOG_STRETCH)
    y = (u * pt.exp(log_scale) + raw[:, 0]).ravel()
    row = pt.arange(raw.shape[0])
    row = row if u.ndim == 1 else pt.tile(row, u.shape[0])
    z, log_derivative = Splines(raw[:, 2:], bins)(y, row)
    log_derivative = log_derivative.reshape(u.shape, ndim=u.ndim) + log_scale
    return z.reshape(u.shape, ndim=u.ndim), log_derivative


def atan_clamp(x: TensorVariable, bound: float) -> TensorVariable:
    """`networks.clamps.atan_clamp` in PyTensor."""
    return (2.0 * bound / math.pi) * pt.arctan(x * (math.pi / (2.0 * bound)))


def shifted(values: TensorVariable, steps: int) -> TensorVariable:
    """Rows of some steps before; zeros at the top."""
    if steps == 0:
        return values
    return pt.concatenate([pt.zeros_like(values[:steps]), values[:-steps]], axis=0)


def has_begun(
    observables: TensorVariable, group: TensorVariable | None, order: int
) -> list[TensorVariable]:
    """For each lag, whether the sequence had begun, as columns of zeros and ones."""
    row = pt.arange(observables.shape[0])
    if group is None:
        return [pt.cast(row > j, "float64")[:, None] for j in range(order)]
    continues = pt.concatenate([np.zeros(1, dtype="float64"), pt.eq(group[1:], group[:-1])])
    columns, there = [], pt.ones_like(continues)
    for j in range(order):
        there = there * shifted(continues[:, None], j)[:, 0]
        columns.append(there[:, None])
    return columns


def time_since_start(observables: TensorVariable, group: TensorVariable | None) -> TensorVariable:
    """Steps since the sequence began."""
    row = pt.arange(observables.shape[0], dtype="float64")
    if group is None:
        return row
    begins = pt.concatenate([np.ones(1, dtype=bool), pt.neq(group[1:], group[:-1])])
    first = pt.nonzero(begins)[0]
    return row - first[pt.cumsum(pt.cast(begins, "int64")) - 1]
