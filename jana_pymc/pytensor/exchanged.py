"""Data that `pymc.set_data` may exchange are checked when the model runs."""

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
    """Fail at what is no data: the density would be NaN, or wrong.

    Categories and counts that do not exist are named among conditions; as observables they are
    impossible, which is for the density to say.
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
    """Fail at conditions and observables of different numbers: one was exchanged without the other.

    Of the last ``n_event`` dimensions one log density depends. Conditions of one data set, or with
    an axis before that is known to be of length one, are those of all.
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
    # As shapes are inferred beforehand, PyTensor would fail there if it were not told that they are
    # those of the observables.
    return pt.specify_shape(Assert(message)(conditions, *equal), sizes)


def _exists(kind: Observable, column: TensorVariable) -> TensorVariable:
    """Whether each value is a category, or a count, of those that are declared."""
    last = kind.n_categories - 1 if isinstance(kind, Categorical) else getattr(kind, "upper", None)
    exists = pt.eq(column, pt.round(column)) & (column >= 0.0)
    return exists if last is None else exists & (column <= last)


def checked_probability(probability: TensorVariable) -> TensorVariable:
    """Fail at data that are no probability of a lapse: nothing would be possible under them."""
    inputs = list(graph_inputs([probability]))
    if not all(isinstance(i, (Constant, TensorSharedVariable)) for i in inputs):
        return probability  # a random variable's, where it may be impossible
    if all(isinstance(i, Constant) for i in inputs):
        return probability
    message = "contamination must lie between 0 and 1: it is the probability of a lapse."
    exists = pt.all((probability >= 0.0) & (probability <= 1.0))
    return Assert(message)(probability, exists)


def checked_table(table: TensorVariable, index: TensorVariable) -> TensorVariable:
    """Fail where a constant index points beyond the rows of a table, whose number is not known yet.

    As it is not where parameters have ``dims=``.
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
    """Count from the start what counts from the end, and fail where there is no such group.

    One too far would be found at another place of a table with several entries a group.
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
