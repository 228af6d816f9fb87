"""Checks, when the model runs, of data that `pymc.set_data` may exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import graph_inputs
from pytensor.raise_op import Assert
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.simulation.observables import Categorical, Continuous, Observable

BEYOND_GROUPS = "the index of the parameters points beyond the groups that there are"


def checked_data(
    kinds: Mapping[str, Observable], values: TensorVariable, what: str
) -> TensorVariable:
    """Fail at invalid data, for which the density would be NaN or wrong.

    Invalid categories and counts raise an error in conditions; in observables they have density
    zero.
    """
    sizes = [int(np.prod(kind.shape)) for kind in kinds.values()]
    n_columns = values.type.shape[-1]
    message = f"{what} must have {sum(sizes)} columns, for {', '.join(kinds)}."
    if n_columns is None:
        values = Assert(message)(values, pt.eq(values.shape[-1], sum(sizes)))
    elif n_columns != sum(sizes):
        raise ValueError(message)
    if not any(isinstance(i, SharedVariable) for i in graph_inputs([values])):
        return values
    start = 0
    for name, size in zip(kinds, sizes, strict=True):
        message = (
            f"{what}[{name!r}] has missing (NaN) or infinite values: data may be exchanged for "
            "complete data only; give incomplete data as observed= from the start."
        )
        column = values[..., start : start + size]
        values = Assert(message)(values, pt.all(pt.abs(column) < np.inf))
        if what == "conditions" and not isinstance(kinds[name], Continuous):
            values = Assert(f"conditions[{name!r}] has values that are no {kinds[name]!r}.")(
                values, pt.all(_exists(kinds[name], values[..., start : start + size]))
            )
        start += size
    return values


def checked_together(
    conditions: TensorVariable, observables: TensorVariable, n_event: int
) -> TensorVariable:
    """Fail if conditions and observables differ in number: only one of them was exchanged.

    One log density depends on the last ``n_event`` dimensions. Conditions without leading axes, or
    with leading axes of known length one, hold for all data sets.
    """
    message = (
        "conditions and observables have different numbers of observations or data sets; exchange "
        "both together in pymc.set_data."
    )
    equal: list[TensorVariable] = []
    sizes: list[TensorVariable | None] = [None] * conditions.ndim
    for axis in range(-min(conditions.ndim, observables.ndim), -1):
        n_known, n = conditions.type.shape[axis], observables.type.shape[axis]
        if axis < -n_event and n_known == 1:
            continue
        if n_known is None or n is None:
            sizes[axis] = observables.shape[axis]
            equal.append(pt.eq(conditions.shape[axis], sizes[axis]))
        elif n_known != n:
            raise ValueError(message)
    if not equal:
        return conditions
    # PyTensor infers shapes beforehand, and would fail there if they were not stated to be those of
    # the observables.
    return pt.specify_shape(Assert(message)(conditions, *equal), sizes)


def _exists(kind: Observable, column: TensorVariable) -> TensorVariable:
    """Whether each value is a declared category or count."""
    last = kind.n_categories - 1 if isinstance(kind, Categorical) else getattr(kind, "upper", None)
    exists = pt.eq(column, pt.round(column)) & (column >= 0.0)
    return exists if last is None else exists & (column <= last)


def checked_probability(probability: TensorVariable) -> TensorVariable:
    """Fail at data that are not a probability, for which the density would be zero."""
    inputs = list(graph_inputs([probability]))
    if not all(isinstance(i, (Constant, TensorSharedVariable)) for i in inputs):
        return probability  # a random variable's, where it may be impossible
    if all(isinstance(i, Constant) for i in inputs):
        return probability
    message = "contamination must lie between 0 and 1: it is the probability of a lapse."
    exists = pt.all((probability >= 0.0) & (probability <= 1.0))
    return Assert(message)(probability, exists)


def checked_table(table: TensorVariable, index: TensorVariable) -> TensorVariable:
    """Fail if a constant index exceeds the rows of a table whose length is not known statically.

    This is the case for parameters with ``dims=``.
    """
    if not isinstance(index, Constant) or table.type.shape[0] is not None or not index.data.size:
        return table
    least, most = int(index.data.min()), int(index.data.max())
    exist = (table.shape[0] > most) & (table.shape[0] >= -least)
    message = f"{BEYOND_GROUPS}: it goes from {least} to {most}."
    return cast(TensorVariable, Assert(message)(table, exist))


def checked_group(
    index: TensorVariable, grouped: TensorVariable, n_rows: TensorVariable
) -> TensorVariable:
    """Make negative indices of groups positive, and fail if there is no such group.

    An index out of range would read the entry of another group in tables with several entries per
    group.
    """
    known, n_groups = grouped.type.shape[0], grouped.shape[0]
    message = BEYOND_GROUPS
    if not isinstance(index, Constant):
        in_step = "the index of the parameters must have a row for each of the observables."
        index = Assert(in_step)(index, pt.eq(index.shape[0], n_rows))
        index = Assert(f"{message}.")(index, pt.all((index >= -n_groups) & (index < n_groups)))
    elif known is not None and not ((index.data >= -known) & (index.data < known)).all():
        ends = index.data.min(), index.data.max()
        raise IndexError(f"{message}: there are {known}, and it goes from {ends[0]} to {ends[1]}.")
    # Small integer types overflow when positions in tables are computed from them.
    index = pt.cast(index, "int64")
    return pt.switch(index < 0, index + n_groups, index)
