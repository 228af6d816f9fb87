"""Likelihood networks re-expressed as ordinary PyTensor graphs: no torch while sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.likelihoods import AutoregressiveLikelihood, Support
from jana_pymc.likelihoods.support import Bound
from jana_pymc.networks.dense import Residual
from jana_pymc.pytensor._compat import position
from jana_pymc.pytensor.barrier import barrier
from jana_pymc.pytensor.lowering_spline import Splines

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
    cell = position(cell, cell)
    hidden = _hidden(network.table_network, context, mean, sd)
    log_prob: Any = _log_cells(network, hidden).ravel()[cell] if n_cells > 1 else 0.0
    bins = network.settings.n_bins
    earlier: list[TensorVariable] = []
    for j, (support, column) in enumerate(zip(network.supports, network.continuous, strict=True)):
        y, log_det, inside = _to_real(support, observables[:, column], parameters, group)
        scale = float(network.real_sd[j])
        y = (y - float(network.real_mean[j])) * (1.0 / scale)
        if j == 0:
            splines = _first_splines(network, hidden)
        else:
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
            splines = Splines(raw, bins, support.walls)
            cell = pt.arange(observables.shape[0])
        z, log_derivative = splines(y, cell)
        constant = 0.5 * math.log(2.0 * math.pi) + math.log(scale)
        density = log_derivative + log_det - 0.5 * z * z - constant
        log_prob = log_prob + pt.switch(inside, density, -np.inf)
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
    n_cells = network.n_cells
    assert network.continuous[0] == column
    context, _, mean, sd = _context(network, observables, parameters, group, conditions)
    hidden = _hidden(network.table_network, context, mean, sd)
    splines = _first_splines(network, hidden)
    own = _rows_of(parameters, group, observables) if network.n_conditions else parameters
    values = pt.full((own.shape[0],), float(x))
    rows = pt.arange(own.shape[0])
    support = network.supports[0]
    real, _, inside = _to_real(support, values, own, rows)
    y = (real - float(network.real_mean[0])) / float(network.real_sd[0])
    y = pt.repeat(y, n_cells)
    score, _ = splines(y, pt.arange(own.shape[0] * n_cells))
    score = score.reshape((-1, n_cells))
    if support.upper is None:
        beyond: Any = -np.inf
    else:
        above = values >= _bound(support.upper, own, rows)
        beyond = pt.switch(above, np.inf, -np.inf)[:, None]
    return pt.switch(inside[:, None], score, beyond), _log_cells(network, hidden)


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


def _log_cells(network: AutoregressiveLikelihood, hidden: TensorVariable) -> TensorVariable:
    """Log probabilities of the categories, one row a context."""
    last, n = network.table_network.layers[-1], network.n_cells
    weight, bias = _numpy(last.weight)[:n].T, _numpy(last.bias)[:n]
    if n == 2:  # without a maximum and a sum along an axis, which are slow to compile
        others = np.array([[-1.0, 1.0], [1.0, -1.0]])
        return -pt.softplus(hidden @ pt.constant(weight @ others) + pt.constant(bias @ others))
    return pt.special.log_softmax(hidden @ pt.constant(weight) + pt.constant(bias), axis=1)


def _first_splines(network: AutoregressiveLikelihood, hidden: TensorVariable) -> Splines:
    """Of the first continuous component: one a category and context."""
    last, n = network.table_network.layers[-1], network.n_cells
    weight, bias = _numpy(last.weight)[n:].T, _numpy(last.bias)[n:]
    layer = (weight.reshape(len(weight), n, -1), bias.reshape(n, -1))
    return Splines(hidden, network.settings.n_bins, network.supports[0].walls, layer)


def _dense(network: Any, x: TensorVariable, mean: np.ndarray, sd: np.ndarray) -> TensorVariable:
    """A `DenseNetwork`, with the standardisation of its inputs folded into the first layer."""
    return _layers(network.layers[-1:], _hidden(network, x, mean, sd))


def _hidden(network: Any, x: TensorVariable, mean: np.ndarray, sd: np.ndarray) -> TensorVariable:
    """What goes into the last layer of a `DenseNetwork`."""
    layers = network.layers[:-1]
    x = barrier(x)
    if not layers or isinstance(layers[0], Residual):  # which needs its input
        return _layers(layers, (x - mean) / sd)
    first, *others = layers
    weight = _numpy(first.weight).T / sd[:, None]
    bias = _numpy(first.bias) - mean @ weight
    return _layers(others, x @ pt.constant(weight) + pt.constant(bias))


def _layers(layers: Iterable[nn.Module], x: TensorVariable) -> TensorVariable:
    """Layers of a `DenseNetwork`, one after the other."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = x @ pt.constant(_numpy(layer.weight).T) + pt.constant(_numpy(layer.bias))
        elif isinstance(layer, Residual):
            x = barrier(x + _layers(layer, barrier(x)))
        elif type(layer) in ACTIVATIONS:
            x = ACTIVATIONS[type(layer)](x)
        elif not isinstance(layer, nn.Dropout):  # which is off at evaluation
            raise NoLowering(f"{type(layer).__name__} has no PyTensor version.")
    return x


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
