"""Log density of single observations under rational-quadratic splines, in PyTensor."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Constant
from pytensor.scalar.basic import ScalarVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.pytensor.slopes import ElemwiseWithSlopes, constant, elemwise_with_slopes
from jana_pymc.pytensor.spline import SplineTable

Bounds = tuple[TensorVariable | None, TensorVariable | None]
"""Lower and upper end of a support; None for an end that is open."""


def spline_log_density(
    x: TensorVariable,
    table: SplineTable,
    spline: TensorVariable,
    row_bounds: Bounds,
    spline_bounds: Bounds,
) -> TensorVariable:
    """Log density of observations whose real-valued image follows a spline of a normal variable.

    Parameters
    ----------
    x : TensorVariable, shape (rows,)
    table : SplineTable
    spline : TensorVariable of int, shape (rows,)
        Which spline of the table an observation belongs to.
    row_bounds : pair of TensorVariable, shape (rows,) or (1,), or None
        The support of each observation, which is mapped to the real line as `Support` does.
    spline_bounds : pair of TensorVariable, shape (splines, 1) or (1, 1), or None
        The same for each spline.

    Returns
    -------
    TensorVariable, shape (rows,)
        −inf outside the support, with a gradient of zero.
    """
    knots = _from_real(table.knots, *spline_bounds)
    n_bins = table.knots.type.shape[1] + 1
    index = spline * n_bins + find_bins(x, knots, spline)
    fields = [field[index] for field in table.fields]
    cost = pt.constant([0.0]) if table.cost is None else table.cost[spline]
    bounds = [bound for bound in row_bounds if bound is not None]
    density = _density(*(bound is not None for bound in row_bounds))
    return density(x, *bounds, *fields, cost)[0]


def find_bins(
    x: TensorVariable, knots: TensorVariable, spline: TensorVariable
) -> TensorVariable:
    """Number of knots of its spline that lie at or below each value.

    Observed data and the splines that they belong to are usually constants. Then the data are
    sorted once and for all, and each knot is searched among them, not each datum among the knots.

    Parameters
    ----------
    x : TensorVariable, shape (rows,)
    knots : TensorVariable, shape (splines, n_knots)
        Increasing along the rows.
    spline : TensorVariable of int, shape (rows,)

    Returns
    -------
    TensorVariable of int, shape (rows,)
    """
    x, knots = disconnected_grad(x), disconnected_grad(knots)
    n_splines = knots.type.shape[0]
    if isinstance(x, Constant) and isinstance(spline, Constant) and n_splines is not None:
        return _find_bins_of_constants(np.asarray(x.data), knots, np.asarray(spline.data))
    return pt.sum(x[:, None] >= knots[spline], axis=1)
