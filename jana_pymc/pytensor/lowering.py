"""Likelihood networks re-expressed as ordinary PyTensor graphs: no torch while sampling."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.likelihoods import AutoregressiveLikelihood, SignedCouplingLikelihood, Support
from jana_pymc.networks import DenseNetwork
from jana_pymc.pytensor.flows import lower_flow
from jana_pymc.pytensor.layers import NoLowering, affine, lower_layer, numpy
from jana_pymc.pytensor.spline import SplineHead
from jana_pymc.pytensor.spline_density import Bounds, spline_log_density


@singledispatch
def lower(
    network: Any,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None = None,
    conditions: TensorVariable | None = None,
) -> TensorVariable:
    """Log density of each row as a PyTensor graph in float64.

    What depends on the parameters alone is computed once per row of ``parameters``. The graph is
    smallest and fastest if observables and group are constants.

    Parameters
    ----------
    network : LikelihoodNetwork
        Its weights become constants of the graph.
    observables : TensorVariable, shape (rows, components)
    parameters : TensorVariable, shape (groups, parameters)
        Distinct parameter vectors, constrained.
    group : TensorVariable of int, shape (rows,), optional
        Row of ``parameters`` that belongs to each observation. None if there is only one.
    conditions : TensorVariable, shape (rows, conditions), optional

    Returns
    -------
    TensorVariable, shape (rows,)
        −inf outside the declared support.

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
    group: TensorVariable | None = None,
    conditions: TensorVariable | None = None,
) -> TensorVariable:
    rows = _Rows(network, observables, parameters, group, conditions)
    if not network.continuous:
        logits = _dense(network.table_network, rows.context, *rows.moments)
        log_cells = pt.special.log_softmax(logits, axis=-1)
        return rows.checked(log_cells.ravel()[rows.cell_of_table])
    log_prob = pt.constant(0.0)
    earlier: list[TensorVariable] = []
    for j, (support, column) in enumerate(zip(network.supports, network.continuous, strict=True)):
        x = rows.column(column)
        moments = float(network.real_mean[j]), float(network.real_sd[j])
        bins = network.settings.n_bins
        if j == 0:
            n_cells = network.n_cells if network.n_cells > 1 else 0
            head = SplineHead(bins, network.n_cells, n_cells, *moments)
            table = head.table(_dense(network.table_network, rows.context, *rows.moments, head))
            splines, bounds = rows.cell_of_table, rows.bounds(support, rows.of_table)
        else:
            head = SplineHead(bins, 1, 0, *moments)
            inputs = pt.concatenate([rows.own_context, rows.one_hot, pt.stack(earlier, 1)], axis=1)
            mean, sd = (np.append(m, np.full(network.n_cells + j, fill))
                        for m, fill in zip(rows.moments, (0.0, 1.0), strict=True))
            table = head.table(_dense(network.later_networks[j - 1], inputs, mean, sd, head))
            splines, bounds = pt.arange(x.shape[0]), None
