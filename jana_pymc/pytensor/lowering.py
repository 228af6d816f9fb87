"""Likelihood networks re-expressed as ordinary PyTensor graphs: no torch while sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.flows.spline import N_FIELDS, spline_layout
from jana_pymc.flows.wall import CUBIC, CUT
from jana_pymc.likelihoods import AutoregressiveLikelihood, Support
from jana_pymc.likelihoods.support import Bound
from jana_pymc.networks.dense import Residual

KEY_RANGE = 1e3
"""Knots and values are told apart within ± this range; tails beyond are straight lines anyway."""

SHORT = 8
"""Numbers in a row that are summed up faster than BLAS is called."""

ACTIVATIONS = {
    nn.ReLU: lambda x: pt.maximum(x, 0.0),
    nn.SiLU: lambda x: x * pt.sigmoid(x),
    nn.Tanh: pt.tanh,
}


class NoLowering(TypeError):
    """There is no PyTensor version of this network; the Op serves it."""


@singledispatch
def lower(
    network: Any,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Log density of each row as a PyTensor graph in float64.

    Parameters
    ----------
    network : LikelihoodNetwork
        Its weights become constants of the graph.
    observables : TensorVariable, shape (rows, components)
    parameters : TensorVariable, shape (groups, parameters)
        Distinct parameter vectors.
    group : TensorVariable of int, shape (rows,), or None
        Row of ``parameters`` for each observation; None if there is one for all.
    conditions : TensorVariable, shape (rows, conditions), or None

    Returns
    -------
    TensorVariable, shape (rows,)

    Raises
    ------
    NoLowering
        If a layer of the network has no PyTensor version.
    """
    raise NoLowering(f"{type(network).__name__} has no PyTensor version.")


@lower.register
def _(
    network: AutoregressiveLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    n_cells = network.n_cells
    context, own, mean, sd = _context(network, observables, parameters, group, conditions)
    category = _cell(network, observables)
    cell = category if own is None else category + own * n_cells
    output = _dense(network.table_network, context, mean, sd)
    if not network.continuous:
        return pt.special.log_softmax(output, axis=1).ravel()[cell]

    bins = network.settings.n_bins
    log_cells, raw = _split(output, n_cells, bins)
    table = _table(raw, bins, log_cells.reshape((-1, 1)) if n_cells > 1 else 0.0)
    log_prob = pt.constant(0.0)
    earlier: list[TensorVariable] = []
    for j, (support, column) in enumerate(zip(network.supports, network.continuous, strict=True)):
        y, log_det, inside = _to_real(support, observables[:, column], parameters, group)
        scale = float(network.real_sd[j])
        y = (y - float(network.real_mean[j])) * (1.0 / scale)
        if j > 0:
            one_hot = pt.eq(category[:, None], pt.arange(n_cells)[None])
            inputs = [_rows_of(context, own, observables), pt.cast(one_hot, "float64")]
            inputs.append(pt.stack(earlier, axis=1))
            unscaled = n_cells + j
            raw = _dense(
                network.later_networks[j - 1],
                pt.concatenate(inputs, axis=1),
                np.concatenate([mean, np.zeros(unscaled)]),
                np.concatenate([sd, np.ones(unscaled)]),
            )
            table = _table(raw, bins, 0.0)
            cell = pt.arange(observables.shape[0])
        density = _spline_log_density(y, table, _find(table[0], y, cell))
        for side in support.walls:
            beyond, z, log_slope = _wall_tail(y, table, cell, side)
            density = pt.switch(beyond, log_slope - 0.5 * z * z, density)
        log_prob = log_prob + pt.switch(inside, density + (log_det - math.log(scale)), -np.inf)
        earlier.append(y)
    return log_prob


def normal_scores(
    network: AutoregressiveLikelihood,
    column: int,
    x: float,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable]:
    """Value of the first continuous component as a standard normal one, in each category.

    Its probability is the distribution function's. Arguments as of `lower`; the observables say
    no more than the number of rows.

    Returns
    -------
    scores, log_cells : TensorVariable, shape (contexts, categories)
        Infinite outside the support. A context is a distinct parameter vector, or a row if there
        are conditions.
    """
    n_cells, bins = network.n_cells, network.settings.n_bins
    assert network.continuous[0] == column
    context, _, mean, sd = _context(network, observables, parameters, group, conditions)
    output = _dense(network.table_network, context, mean, sd)
    log_cells, raw = _split(output, n_cells, bins)
    table = _table(raw, bins, 0.0)
    own = _rows_of(parameters, group, observables) if network.n_conditions else parameters
    values = pt.full((own.shape[0],), float(x))
    rows = pt.arange(own.shape[0])
    support = network.supports[0]
    real, _, inside = _to_real(support, values, own, rows)
    y = (real - float(network.real_mean[0])) / float(network.real_sd[0])
    y = pt.repeat(y, n_cells)
    cell = pt.arange(own.shape[0] * n_cells)
    score = _spline_value(y, table, _find(table[0], y, cell))
    for side in support.walls:
        wall, z, _ = _wall_tail(y, table, cell, side)
        score = pt.switch(wall, z, score)
    score = score.reshape((-1, n_cells))
    if support.upper is None:
        beyond: Any = -np.inf
    else:
        above = values >= _bound(support.upper, own, rows)
        beyond = pt.switch(above, np.inf, -np.inf)[:, None]
    return pt.switch(inside[:, None], score, beyond), log_cells


def _context(
    network: AutoregressiveLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable | None, np.ndarray, np.ndarray]:
    """Inputs of the table network, each row's among them, and their location and scale."""
    mean, sd = (_numpy(b) for b in (network.parameter_mean, network.parameter_sd))
    if not network.n_conditions:
        return parameters, group, mean, sd
    if conditions is None:
        raise ValueError(f"this likelihood needs {network.n_conditions} known conditions.")
    context = pt.concatenate([_rows_of(parameters, group, observables), conditions], axis=1)
    mean = np.concatenate([mean, _numpy(network.condition_mean)])
    sd = np.concatenate([sd, _numpy(network.condition_sd)])
    return context, pt.arange(observables.shape[0]), mean, sd


def _split(
    output: TensorVariable, n_cells: int, bins: int
) -> tuple[TensorVariable, TensorVariable]:
    """Log probabilities of the categories, and raw spline parameters, one row a category."""
    # Split rather than sliced, here and below: the gradient of a split is one join.
    logits, raw = pt.split(output, [n_cells, n_cells * (3 * bins + 3)], axis=1)
    return pt.special.log_softmax(logits, axis=1), raw.reshape((-1, 3 * bins + 3))


def _dense(network: Any, x: TensorVariable, mean: np.ndarray, sd: np.ndarray) -> TensorVariable:
    """A `DenseNetwork`, with the standardisation of its inputs folded into the first layer.

    A single row goes through the hidden layers twice: where no BLAS is linked, a product of
    matrices costs a third of what that of a vector with a matrix costs to call.
    """
    first, *others = network.layers
    if isinstance(first, Residual):  # its input is as wide as it is itself, and is needed
        return _layers(network.layers, (x - mean) / sd)
    single = x.type.shape[0] == 1
    weight = _numpy(first.weight).T / sd[:, None]
    bias = _numpy(first.bias) - mean @ weight
    if single and len(weight) <= SHORT:
        x = (x.reshape((-1, 1)) * pt.constant(weight)).sum(axis=0, keepdims=True)
    else:
        x = x @ pt.constant(weight)
    x = pt.concatenate([x, x]) if single else x
    x = _layers(others, x + pt.constant(bias))
    return x[:1] if single else x


def _layers(layers: Iterable[nn.Module], x: TensorVariable) -> TensorVariable:
    """Layers of a `DenseNetwork`, one after the other."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = x @ pt.constant(_numpy(layer.weight).T) + pt.constant(_numpy(layer.bias))
        elif isinstance(layer, Residual):
            x = x + _layers(layer, x)
        elif type(layer) in ACTIVATIONS:
            x = ACTIVATIONS[type(layer)](x)
        elif not isinstance(layer, nn.Dropout):  # which is off at evaluation
            raise NoLowering(f"{type(layer).__name__} has no PyTensor version.")
    return x


def _table(
    raw: TensorVariable, bins: int, log_cells: TensorVariable | float
) -> tuple[TensorVariable, ...]:
    """Everything a row needs to know of its bin: seven arrays of shape (cells, K + 2).

    Left edge, inverse width, bottom, height, left derivative a and excess e = a + b − 2 relative
    to the slope, and the constant part of the log density. What can be computed once a bin is not
    computed once a row.
    """
    layout = spline_layout(bins)
    ends, sizes = pt.split(raw + pt.constant(layout.shift), [2, 3 * bins + 1], axis=1)
    positive = pt.concatenate([ends, pt.softplus(sizes)], axis=1)
    by_field = np.arange((bins + 2) * N_FIELDS).reshape(bins + 2, N_FIELDS).T.ravel()
    fields = positive @ pt.constant(layout.matrix[:, by_field])
    fields = fields + pt.constant(layout.offset[by_field])
    x_left, width, y_bottom, height, d_left, d_right = pt.split(
        fields, [bins + 2] * N_FIELDS, axis=1
    )
    steepness = width / height
    # The tails are straight, exactly: far out, rounding errors would be all that is left.
    inner = pt.constant(np.r_[0.0, np.ones(bins), 0.0])
    left = 1.0 + inner * (d_left * steepness - 1.0)
    excess = inner * (left + d_right * steepness - 2.0)
    constant = log_cells - 0.5 * math.log(2.0 * math.pi) - pt.log(steepness)
    return x_left, 1.0 / width, y_bottom, height, left, excess, constant


def _find(x_left: TensorVariable, y: TensorVariable, cell: TensorVariable) -> TensorVariable:
    """Position in the flattened table of each value's bin.

    One search serves all cells: their knots are set apart by more than their range.
    """
    knots = pt.clip(disconnected_grad(x_left[:, 1:]), -KEY_RANGE, KEY_RANGE)
    apart = 4.0 * KEY_RANGE
    keys = (knots + apart * pt.arange(knots.shape[0], dtype="float64")[:, None]).ravel()
    value = pt.clip(disconnected_grad(y), -1.5 * KEY_RANGE, 1.5 * KEY_RANGE)
    return pt.searchsorted(keys, value + apart * cell, side="right") + cell


def _spline_value(
    y: TensorVariable, table: tuple[TensorVariable, ...], position: TensorVariable
) -> TensorVariable:
    """Value of the spline; see `_spline_log_density`."""
    x_left, inverse_width, y_bottom, height, left, excess, _ = (
        column.ravel()[position] for column in table
    )
    xi = (y - x_left) * inverse_width
    rest = xi * (1.0 - xi)
    return y_bottom + height * (xi * (left + xi * (1.0 - left))) / (1.0 + excess * rest)


def _spline_log_density(
    y: TensorVariable, table: tuple[TensorVariable, ...], position: TensorVariable
) -> TensorVariable:
    """Standard normal log density of the spline's value plus its log derivative.

    `spline_forward` divided through by the slope s: with D = 1 + e ξ (1 − ξ), the value is
    y₀ + h ξ (a + ξ (1 − a)) / D and the derivative s (a + 2 (1 − a) ξ + e ξ²) / D². In this form
    nothing cancels in the tails, where a = 1 and e = 0.
    """
    # Vectors, since PyTensor has C code for the gradient of indexing these alone.
    x_left, inverse_width, y_bottom, height, left, excess, constant = (
        column.ravel()[position] for column in table
    )
    xi = (y - x_left) * inverse_width
    rest = xi * (1.0 - xi)
    inverse = 1.0 / (1.0 + excess * rest)
    z = y_bottom + height * (xi * (left + xi * (1.0 - left))) * inverse
    numerator = left + xi * (2.0 - 2.0 * left + excess * xi)
    return constant - 0.5 * z * z + pt.log(numerator * inverse * inverse)


def _wall_tail(
    y: TensorVariable, table: tuple[TensorVariable, ...], cell: TensorVariable, side: int
) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """`WallTail`: whether a value lies in it, its image, and the log density but for that.

    Where the tail begins, and how steep it is, is computed once a spline.
    """
    splines = pt.arange(table[2].shape[0])
    position = _find(table[2], pt.full_like(splines, side * CUT, dtype="float64"), splines)
    x_left, inverse_width, y_bottom, height, left, excess, constant = (
        column.ravel()[position] for column in table
    )
    # Solved for ξ; of the root the form that does not cancel.
    rise = (side * CUT - y_bottom) / height
    linear = left - rise * excess
    root = pt.sqrt(pt.maximum(pt.sqr(linear) + 4.0 * (1.0 - linear) * rise, 1e-12))
    xi = 2.0 * rise / (linear + root)
    inverse = 1.0 / (1.0 + excess * xi * (1.0 - xi))
    relative = (left + xi * (2.0 - 2.0 * left + excess * xi)) * inverse * inverse
    start = x_left + xi / inverse_width
    slope = height * inverse_width * relative
    log_slope = constant + pt.log(relative)
    beyond = side * (y - start[cell])
    v = pt.maximum(beyond, 0.0) * slope[cell]
    z = side * (CUT + v * (1.0 + CUBIC * pt.sqr(v)))
    return beyond > 0.0, z, log_slope[cell] + pt.log1p(3.0 * CUBIC * pt.sqr(v))


def _to_real(
    support: Support,
    x: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """`Support.to_real` in PyTensor."""
    above = below = None
    inside = pt.ones_like(x, dtype="bool")
    if support.lower is not None:
        above = x - _bound(support.lower, parameters, group)
        inside = above > 0
    if support.upper is not None:
        below = _bound(support.upper, parameters, group) - x
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


def _bound(
    bound: Bound, parameters: TensorVariable, group: TensorVariable | None
) -> TensorVariable | float:
    if bound.column is None:
        return bound.value
    column = parameters[:, bound.column]
    return column[0] if group is None else column[group]


def _cell(network: AutoregressiveLikelihood, observables: TensorVariable) -> TensorVariable:
    cell = pt.zeros(observables.shape[:1], dtype="int64")
    for column, n in zip(network.discrete, network.n_categories, strict=True):
        cell = cell * n + pt.cast(observables[:, column], "int64")
    return cell


def _rows_of(
    parameters: TensorVariable, group: TensorVariable | None, observables: TensorVariable
) -> TensorVariable:
    if group is None:
        return pt.broadcast_to(parameters, (observables.shape[0], parameters.shape[1]))
    return parameters[group]


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
