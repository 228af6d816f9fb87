"""The log density of a neural likelihood as a PyTensor graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Constant
from pytensor.tensor.variable import TensorVariable

from jana_pymc.checks import check_choice
from jana_pymc.pytensor._compat import taken_rows
from jana_pymc.pytensor.contamination import Contaminant
from jana_pymc.pytensor.exchanged import (
    checked_data,
    checked_group,
    checked_probability,
    checked_table,
    checked_together,
)
from jana_pymc.pytensor.lowering import lower
from jana_pymc.pytensor.lowering_parts import NoLowering
from jana_pymc.pytensor.op import LogDensity
from jana_pymc.pytensor.score_correction import ScoreCorrection
from jana_pymc.pytensor.truncation import Truncation, log_share
from jana_pymc.simulation import Categorical, Continuous, DataSchema, ParameterLayout
from jana_pymc.trained_likelihood import TrainedLikelihood

Backend: TypeAlias = Literal["auto", "lowering", "op"]

FEW_PARAMETERS = 8
"""Up to this number, bounds are compared one by one, which PyTensor fuses with other nodes."""


@dataclass(frozen=True)
class Given:
    """Checked inputs of a density, besides its values.

    Parameters
    ----------
    parameters : list of TensorVariable
        In the order of the layout.
    conditions : TensorVariable, optional
    probability : TensorVariable, optional
        Probability of a lapse, whose distribution is `contaminant`.
    contaminant : Contaminant, optional
    truncation : Truncation, optional
    correction : ScoreCorrection, optional
    """

    parameters: list[TensorVariable]
    conditions: TensorVariable | None = None
    probability: TensorVariable | None = None
    contaminant: Contaminant | None = None
    truncation: Truncation | None = None
    correction: ScoreCorrection | None = None


def log_density(
    approximator: TrainedLikelihood,
    backend: Backend,
    value: TensorVariable,
    given: Given,
) -> TensorVariable:
    """Log density over the leading dimensions of ``value``, −inf outside the trained region.

    An event is a row of components or, for sequences, a matrix of shape (n_obs, components).
    """
    check_choice("backend", backend, get_args(Backend))
    schema, layout = approximator.schema, approximator.layout
    if not value.dtype.startswith("float"):  # counts and categories, as pymc.Data holds them
        value = pt.cast(value, "float64")
    event = schema.event_dims
    n_batch = value.ndim - event
    batch = tuple(value.shape)[:n_batch]
    conditions = given.conditions
    if conditions is not None:
        conditions = checked_together(conditions, value, event)
        n_lead = conditions.ndim - event
        # As in the random variable, where all inputs have the axes of the batch.
        if n_batch != 1 or all(conditions.type.broadcastable[:n_lead]):
            own = tuple(conditions.shape)[n_lead:]
            conditions = pt.broadcast_to(conditions, (*batch, *own)).reshape((-1, *own))
    if n_batch != 1:
        value = value.reshape((-1, *tuple(value.shape)[n_batch:]))
    exists, events = _possible(schema, value)
    if conditions is not None:
        conditions = checked_data(schema.conditions, conditions, "conditions")
    matrix, group = _distinct(layout, given.parameters, batch, n_batch)
    numbers = None if group is not None else _numbers(layout, given.parameters)
    log_prob, knows_region = _evaluate(
        approximator, backend, events, matrix, group, conditions, numbers
    )
    if given.correction is not None:
        log_prob = log_prob - given.correction.at(matrix, group, conditions)
    truncation, contaminant = given.truncation, given.contaminant
    if truncation is not None:
        network = approximator.network
        log_prob = log_prob - log_share(network, truncation, events, matrix, group, conditions)
        # A constant that is true everywhere would only trip a rewrite of PyTensor 2.38.
        if not (isinstance(events, Constant) and truncation.holds(events.data).all()):
            inside = truncation.holds(events)
            exists = inside if exists is None else exists & inside
    possible = exists
    if not knows_region or truncation is not None or contaminant is not None:
        trained = _in_region(approximator.region, matrix)
        trained = trained[0] if group is None else trained[group]
        possible = trained if exists is None else trained & exists
    if contaminant is not None and given.probability is not None:
        probability = checked_probability(given.probability)
        lapse = probability if probability.ndim == 0 else _as_rows(probability, (), batch)[:, 0]
        log_prob = contaminant.mix(log_prob, events, lapse)
    if possible is not None:
        log_prob = pt.switch(possible, log_prob, -np.inf)
    return log_prob if n_batch == 1 else log_prob.reshape(batch, ndim=n_batch)


def _possible(
    schema: DataSchema, values: TensorVariable
) -> tuple[TensorVariable | None, TensorVariable]:
    """Which events hold only valid categories and counts, and values with invalid ones replaced.

    Constants are checked beforehand, but `pymc.set_data` may bring in unchecked data, and an
    invalid category would index another cell of a table.
    """
    kinds = schema.components
    if isinstance(values, Constant):
        return None, values
    values = checked_data(schema.observables, values, "observables")
    if all(isinstance(kind, Continuous) for kind in kinds.values()):
        return None, values
    columns, exists = [], pt.ones_like(values[..., 0], dtype="bool")
    for i, kind in enumerate(kinds.values()):
        column = values[..., i]
        if not isinstance(kind, Continuous):
            last = kind.n_categories - 1 if isinstance(kind, Categorical) else kind.upper
            nearest = pt.clip(pt.round(column), 0, np.inf if last is None else last)
            exists = exists & pt.eq(column, nearest)
            column = pt.switch(pt.eq(column, nearest), nearest, 0.0)
        columns.append(column)
    exists = pt.all(exists, axis=1) if schema.is_sequence else exists
    return exists, pt.stack(columns, axis=-1)


def _evaluate(
    approximator: TrainedLikelihood,
    backend: Backend,
    events: TensorVariable,
    matrix: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
    numbers: list[TensorVariable] | None,
) -> tuple[TensorVariable, bool]:
    """Log density, and whether it is −inf outside the trained region already, as that of the Op.

    A graph without the region's bounds, or a matrix of ``numbers``, is quicker to compile.
    """
    if backend != "op":
        try:
            return lower(approximator.network, events, matrix, group, conditions), False
        except NoLowering:
            if backend == "lowering":
                raise
    n_events = events.type.shape[0]
    if group is None:
        n_events = events.shape[0] if n_events is None else n_events
        group = pt.zeros(n_events, dtype="int64")
    known = pt.zeros((*tuple(events.shape)[:-1], 0)) if conditions is None else conditions
    return LogDensity(approximator)(events, known, group, *(numbers or [matrix])), True


def _in_region(region: np.ndarray, matrix: TensorVariable) -> TensorVariable:
    """Whether each parameter vector lies where the likelihood was trained."""
    low, high = region
    if len(low) > FEW_PARAMETERS:
        return pt.all((matrix >= pt.constant(low)) & (matrix <= pt.constant(high)), axis=1)
    inside = pt.ones_like(matrix[:, 0], dtype="bool")
    for i, (smallest, largest) in enumerate(zip(*region, strict=True)):
        column = matrix[:, i]
        inside = inside & (column >= smallest) & (column <= largest)
    return inside


def _distinct(
    layout: ParameterLayout, parameters: Any, batch: Any, n_batch: int
) -> tuple[TensorVariable, TensorVariable | None]:
    """Distinct parameter vectors (groups, size) and each row's group; None for a single one."""
    scalar = [
        all(p.type.broadcastable[: p.ndim - len(s)])
        for p, s in zip(parameters, layout.shapes.values(), strict=True)
    ]
    if all(scalar):
        numbers = _numbers(layout, parameters)
        if numbers is not None:  # fewer Ops, quicker to compile
            return pt.stack(numbers)[None], None
        return pt.concatenate([p.reshape((1, -1)) for p in parameters], axis=1), None
    index = _common_index(layout, parameters, scalar) if n_batch == 1 else None
    columns = []
    if index is not None:
        sources = [
            p if s else taken_rows(p)[0]  # type: ignore[index]
            for p, s in zip(parameters, scalar, strict=True)
        ]
        grouped = next(v for v, s in zip(sources, scalar, strict=True) if not s)
        group = checked_group(index, grouped, batch[0])
        for source, shape in zip(sources, layout.shapes.values(), strict=True):
            columns.append(_as_rows(source, shape, (grouped.shape[0],)))
        return checked_table(pt.concatenate(columns, axis=1), index), group
    for p, shape in zip(parameters, layout.shapes.values(), strict=True):
        columns.append(_as_rows(p, shape, batch))
    return pt.concatenate(columns, axis=1), pt.arange(columns[0].shape[0])


def _numbers(layout: ParameterLayout, parameters: Any) -> list[TensorVariable] | None:
    """Parameters of a single group as they are, if each of them is a number."""
    return None if any(layout.shapes.values()) else [p.squeeze() for p in parameters]


def _as_rows(p: TensorVariable, shape: tuple[int, ...], batch: Any) -> TensorVariable:
    full = pt.broadcast_to(p, (*batch, *shape))
    return full.reshape((-1, int(np.prod(shape))))


def _common_index(
    layout: ParameterLayout, parameters: Any, scalar: list[bool]
) -> TensorVariable | None:
    """The index if every parameter that varies is ``x[index]`` with one and the same index.

    None where sources are known to be of differing lengths: they have no common groups.
    """
    found = None
    lengths: set[int | None] = set()
    for p, shape, is_scalar in zip(parameters, layout.shapes.values(), scalar, strict=True):
        if is_scalar:
            continue
        taken = taken_rows(p)
        if taken is None or len(taken[1]) != 1 or taken[0].ndim != 1 + len(shape):
            return None
        (index,) = taken[1]
        if found is not None and not _same(found, index):
            return None
        found = index
        lengths.add(taken[0].type.shape[0])
    return None if len(lengths - {None}) > 1 else found


def _same(first: TensorVariable, second: TensorVariable) -> bool:
    if isinstance(first, Constant) and isinstance(second, Constant):
        return np.array_equal(first.data, second.data)
    return first is second
