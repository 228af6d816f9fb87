"""Likelihood networks re-expressed as ordinary PyTensor graphs: no torch while sampling."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from jana_pymc.likelihoods import AutoregressiveLikelihood
from jana_pymc.pytensor._compat import position
from jana_pymc.pytensor.lowering_parts import (
    NoLowering,
    array,
    bound_of,
    dense_network,
    hidden_layers,
    rows_of,
    to_real,
)
from jana_pymc.pytensor.lowering_spline import Splines


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
    category, possible = _cell(network, observables)
    cell = category if own is None else category + own * n_cells
    cell = position(cell, cell)
    hidden = hidden_layers(network.table_network, context, mean, sd)
    log_prob: Any = 0.0
    if n_cells > 1:
        log_prob = pt.switch(possible, _log_cells(network, hidden).ravel()[cell], -np.inf)
    bins = network.settings.n_bins
    earlier: list[TensorVariable] = []
    for j, (support, column) in enumerate(zip(network.supports, network.continuous, strict=True)):
        y, log_det, inside = to_real(support, observables[:, column], parameters, group)
        scale = float(network.real_sd[j])
        y = (y - float(network.real_mean[j])) * (1.0 / scale)
        if j == 0:
            splines = _first_splines(network, hidden)
        else:
            one_hot = pt.eq(category[:, None], pt.arange(n_cells)[None])
            inputs = [rows_of(context, own, observables), pt.cast(one_hot, "float64")]
            inputs.append(pt.stack(earlier, axis=1))
            unscaled = n_cells + j
            raw = dense_network(
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
    x: float,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable]:
    """Normal score of a value of the first continuous component, in each category.

    The standard normal distribution function of the score is the component's own. Arguments are as
    for `lower`; only the number of rows of the observables is used.

    Returns
    -------
    scores, log_cells : TensorVariable, shape (contexts, categories)
        Infinite outside the support. A context is a distinct parameter vector, or a row if there
        are conditions.
    """
    n_cells = network.n_cells
    context, _, mean, sd = _context(network, observables, parameters, group, conditions)
    hidden = hidden_layers(network.table_network, context, mean, sd)
    splines = _first_splines(network, hidden)
    own = rows_of(parameters, group, observables) if network.n_conditions else parameters
    values = pt.full((own.shape[0],), float(x))
    rows = pt.arange(own.shape[0])
    support = network.supports[0]
    real, _, inside = to_real(support, values, own, rows)
    y = (real - float(network.real_mean[0])) / float(network.real_sd[0])
    y = pt.repeat(y, n_cells)
    score, _ = splines(y, pt.arange(own.shape[0] * n_cells))
    score = score.reshape((-1, n_cells))
    if support.upper is None:
        beyond: Any = -np.inf
    else:
        above = values >= bound_of(support.upper, own, rows)
        beyond = pt.switch(above, np.inf, -np.inf)[:, None]
    return pt.switch(inside[:, None], score, beyond), _log_cells(network, hidden)


def _context(
    network: AutoregressiveLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable | None, np.ndarray, np.ndarray]:
    """Inputs of the table network, the index of each row among them, and location and scale."""
    mean, sd = (array(b) for b in (network.parameter_mean, network.parameter_sd))
    if not network.n_conditions:
        return parameters, group, mean, sd
    if conditions is None:
        raise ValueError(f"this likelihood needs {network.n_conditions} known conditions.")
    context = pt.concatenate([rows_of(parameters, group, observables), conditions], axis=1)
    mean = np.concatenate([mean, array(network.condition_mean)])
    sd = np.concatenate([sd, array(network.condition_sd)])
    return context, pt.arange(observables.shape[0]), mean, sd


def _log_cells(network: AutoregressiveLikelihood, hidden: TensorVariable) -> TensorVariable:
    """Log probabilities of the categories, one row per context."""
    last, n = network.table_network.layers[-1], network.n_cells
    weight, bias = array(last.weight)[:n].T, array(last.bias)[:n]
    if n == 2:  # without a maximum and a sum along an axis, which are slow to compile
        others = np.array([[-1.0, 1.0], [1.0, -1.0]])
        return -pt.softplus(hidden @ pt.constant(weight @ others) + pt.constant(bias @ others))
    return pt.special.log_softmax(hidden @ pt.constant(weight) + pt.constant(bias), axis=1)


def _first_splines(network: AutoregressiveLikelihood, hidden: TensorVariable) -> Splines:
    """Splines of the first continuous component, one per category and context."""
    last, n = network.table_network.layers[-1], network.n_cells
    weight, bias = array(last.weight)[n:].T, array(last.bias)[n:]
    layer = (weight.reshape(len(weight), n, -1), bias.reshape(n, -1))
    return Splines(hidden, network.settings.n_bins, network.supports[0].walls, layer)


def _cell(
    network: AutoregressiveLikelihood, observables: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """Index of each observation's joint category, 0 if invalid, and whether it is valid."""
    cell = pt.zeros(observables.shape[:1], dtype="int64")
    possible = pt.ones(observables.shape[:1], dtype="bool")
    for column, n in zip(network.discrete, network.n_categories, strict=True):
        x = observables[:, column]
        exists = pt.eq(x, pt.clip(pt.round(x), 0, n - 1))
        possible = possible & exists
        cell = cell * n + pt.cast(pt.switch(exists, x, 0.0), "int64")
    return cell, possible
