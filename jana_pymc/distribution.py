"""The neural likelihood as a PyMC random variable, and its log density as a PyTensor graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import Distribution, _support_point
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Constant
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.checks import check_choice
from jana_pymc.pytensor import (
    Contaminant,
    LogDensity,
    NoLowering,
    ScoreCorrection,
    Truncation,
    log_share,
    lower,
    taken_rows,
)
from jana_pymc.pytensor.exchanged import (
    checked_data,
    checked_group,
    checked_probability,
    checked_together,
)
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    DataSchema,
    ParameterLayout,
    split_components,
)
from jana_pymc.simulation.validation import check_values

if TYPE_CHECKING:
    from jana_pymc.approximators import LikelihoodApproximator

Backend: TypeAlias = Literal["auto", "lowering", "op"]

FEW_PARAMETERS = 8
"""So many bounds are compared one by one, which PyTensor compiles together with other things."""


class NeuralLikelihoodRV(RandomVariable):
    """Random variable whose law is a likelihood network.

    The approximator is one of the Op's properties, and compares by its weights, so that PyTensor
    neither merges two networks nor keeps a stale one.
    """

    name = "neural_likelihood"
    _print_name = ("NeuralLikelihood", "\\operatorname{NeuralLikelihood}")
    __props__ = (
        "signature",
        "inplace",
        "approximator",
        "backend",
        "contaminant",
        "truncation",
        "correction",
    )

    def __init__(
        self,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
        correction: ScoreCorrection | None = None,
        signature: str | None = None,
        inplace: bool = False,
    ):
        self.approximator = approximator
        self.backend = backend
        self.contaminant = contaminant
        self.truncation = truncation
        self.correction = correction
        signature = signature or _signature(approximator, contaminant)
        super().__init__(signature=signature, dtype="float64", inplace=inplace)

    def split(self, inputs: Any) -> tuple[list[Any], Any, Any]:
        """Parameters, conditions and probability of a lapse among the inputs; None for none."""
        values = list(inputs)
        if is_sequence(self.approximator.schema):
            values.pop()  # the number of observations
        probability = values.pop() if self.contaminant is not None else None
        known = values.pop() if self.approximator.schema.conditions else None
        return values, known, probability

    def _supp_shape_from_params(
        self, dist_params: Any, param_shapes: Any = None
    ) -> tuple[Any, ...]:
        """One row of components; of a sequence, as many rows as the last input says."""
        n_components = len(self.approximator.schema.components)
        if not is_sequence(self.approximator.schema):
            return (n_components,)
        n_obs = dist_params[-1]
        return (n_obs if n_obs.type.ndim == 0 else n_obs.ravel()[0], n_components)

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate by the network; many observations of equal parameters share its work.

        Raises
        ------
        ValueError
            If a condition is missing, infinite or not of its declared kind, or those of a sequence
            are not as many as its observations.
        """
        *inputs, size = arguments
        approximator = self.approximator
        schema = approximator.schema
        values, known, probability = self.split(inputs)
        sequence = is_sequence(schema)
        n_obs = int(np.ravel(inputs[-1])[0]) if sequence else 1
        shapes = tuple(approximator.layout.shapes.values())
        batches = [v.shape[: v.ndim - len(s)] for v, s in zip(values, shapes, strict=True)]
        if known is not None:
            batches.append(known.shape[: known.ndim - 1 - sequence])
        if probability is not None and probability.ndim:
            batches.append(probability.shape)
        batch = np.broadcast_shapes(*batches) if size is None else tuple(size)
        n_rows = int(np.prod(batch))
        if n_rows == 0:
            return np.empty((*batch, *[n_obs] * sequence, len(schema.components)))
        one_theta = all(np.prod(b) == 1 for b in batches)
        flat = approximator.layout.flatten(
            {
                name: v.reshape(s) if one_theta else np.broadcast_to(v, (*batch, *s))
                for name, v, s in zip(approximator.layout.names, values, shapes, strict=True)
            }
        )
        rows = np.array(np.broadcast_to(flat, (*batch, flat.shape[-1]))).reshape(n_rows, -1)
        if known is not None:
            own = known.shape[known.ndim - 1 - sequence :]
            if sequence and own[0] != n_obs:
                raise ValueError(
                    f"conditions are given for {own[0]} observations, but the sequences have "
                    f"{n_obs}; exchange both together in pymc.set_data."
                )
            known = np.array(np.broadcast_to(known, (*batch, *own)))
            _check_conditions(schema, known)
            known = known.reshape(n_rows, n_obs, -1)

        def simulate(chosen: slice | np.ndarray) -> np.ndarray:
            theta, given = rows[chosen], None if known is None else known[chosen]
            if one_theta and known is None and schema.structure == "exchangeable":
                drawn = approximator.simulate(theta[:1], len(theta), random_seed=rng)
            else:
                drawn = approximator.simulate(theta, n_obs, conditions=given, random_seed=rng)
            return drawn.reshape(len(theta), n_obs, -1)

        drawn = simulate(slice(None))
        if self.truncation is not None:
            drawn = self.truncation.draw_again(drawn, simulate)
        drawn = drawn.reshape(*batch, *drawn.shape[1 if sequence else 2 :])
        if self.contaminant is not None:
            lapse = rng.uniform(size=batch) < probability
            drawn[lapse] = self.contaminant.draw(rng, int(lapse.sum()))
        return drawn


def _check_conditions(schema: DataSchema, known: np.ndarray) -> None:
    """Refuse what is no condition, which `pymc.set_data` may have brought, before it is drawn for.

    A log density refuses it in its graph (`checked_data`).
    """
    rows = known.reshape(1, -1, known.shape[-1])
    present = np.ones(rows.shape[:2], dtype=bool)
    for name, values in split_components(rows, schema.conditions).items():
        kind = schema.conditions[name]
        check_values(f"conditions[{name!r}]", kind, values, present, many=False)


class NeuralLikelihood(Distribution):
    """PyMC distribution behind `LikelihoodApproximator.__call__`."""

    rv_type = NeuralLikelihoodRV

    @classmethod
    def dist(
        cls,
        approximator: LikelihoodApproximator,
        backend: Backend,
        parameters: list[TensorVariable],
        conditions: TensorVariable | None = None,
        probability: TensorVariable | None = None,
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
        n_obs: Any = None,
        correction: ScoreCorrection | None = None,
        **kwargs: Any,
    ) -> TensorVariable:
        """Build the variable from parameters in the layout's order (`ordered_parameters`)."""
        check_choice("backend", backend, get_args(Backend))
        given = [*parameters, *(v for v in (conditions, probability) if v is not None)]
        values = [pt.cast(v, "float64") for v in given]
        if is_sequence(approximator.schema):
            values.append(pt.cast(pt.as_tensor_variable(n_obs), "int64"))
        return super().dist(
            values,
            approximator=approximator,
            backend=backend,
            contaminant=contaminant,
            truncation=truncation,
            correction=correction,
            **kwargs,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: TensorVariable,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
        correction: ScoreCorrection | None = None,
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        # Calling the Op differs between PyTensor 2 and 3 in what it returns; its node does not.
        op = NeuralLikelihoodRV(approximator, backend, contaminant, truncation, correction)
        rng = pytensor.shared(np.random.default_rng()) if rng is None else rng
        return op.make_node(rng, size, *parameters).default_output()


@_logprob.register(NeuralLikelihoodRV)
def _neural_logprob(
    op: NeuralLikelihoodRV, values: Any, rng: Any, size: Any, *inputs: Any, **kwargs: Any
) -> TensorVariable:
    (value,) = values
    parameters, known, probability = op.split(inputs)
    return log_density(
        op.approximator,
        op.backend,
        value,
        parameters,
        known,
        probability,
        op.contaminant,
        op.truncation,
        op.correction,
    )


@_support_point.register(NeuralLikelihoodRV)
def _neural_support_point(
    op: NeuralLikelihoodRV, rv: TensorVariable, rng: Any, size: Any, *inputs: Any
) -> TensorVariable:
    """A simulated value: inside the support whatever the parameters."""
    return rv


def log_density(
    approximator: LikelihoodApproximator,
    backend: Backend,
    value: TensorVariable,
    parameters: Any,
    conditions: TensorVariable | None = None,
    probability: TensorVariable | None = None,
    contaminant: Contaminant | None = None,
    truncation: Truncation | None = None,
    correction: ScoreCorrection | None = None,
) -> TensorVariable:
    """Log density over the leading dimensions of ``value``, −inf outside the trained region.

    An event is a row of components; of a sequence, a matrix of shape (n_obs, components).
    """
    check_choice("backend", backend, get_args(Backend))
    schema = approximator.schema
    event = 2 if is_sequence(schema) else 1
    n_batch = value.ndim - event
    batch = tuple(value.shape)[:n_batch]
    if conditions is not None:
        conditions = checked_together(conditions, value, event)
        n_lead = conditions.ndim - event
        # As the random variable does, whose inputs all have the axes of the batch.
        if n_batch != 1 or all(conditions.type.broadcastable[:n_lead]):
            own = tuple(conditions.shape)[n_lead:]
            conditions = pt.broadcast_to(conditions, (*batch, *own)).reshape((-1, *own))
    if n_batch != 1:
        value = value.reshape((-1, *tuple(value.shape)[n_batch:]))
    exists, events = _possible(schema, value)
    if conditions is not None:
        conditions = checked_data(schema.conditions, conditions, "conditions")
    matrix, group = _distinct(approximator.layout, parameters, batch, n_batch)
    numbers = None if group is not None else _numbers(approximator.layout, parameters)
    log_prob, knows_region = _evaluate(
        approximator, backend, events, matrix, group, conditions, numbers
    )
    if correction is not None:
        log_prob = log_prob - correction.at(matrix, group, conditions)
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
    if contaminant is not None and probability is not None:
        probability = checked_probability(probability)
        lapse = probability if probability.ndim == 0 else _as_rows(probability, (), batch)[:, 0]
        log_prob = contaminant.mix(log_prob, events, lapse)
    if possible is not None:
        log_prob = pt.switch(possible, log_prob, -np.inf)
    return log_prob if n_batch == 1 else log_prob.reshape(batch, ndim=n_batch)


def is_sequence(schema: DataSchema) -> bool:
    """Whether one log density belongs to all observations of a data set together."""
    return schema.structure == "markovian"


def _possible(
    schema: DataSchema, values: TensorVariable
) -> tuple[TensorVariable | None, TensorVariable]:
    """Which events hold categories and counts that exist, and values of which all do.

    Constants were checked when they came in; `pymc.set_data` exchanges data behind our back, and
    a category that does not exist would be looked up in another cell of a table.
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
    exists = pt.all(exists, axis=1) if is_sequence(schema) else exists
    return exists, pt.stack(columns, axis=-1)


def _evaluate(
    approximator: LikelihoodApproximator,
    backend: Backend,
    events: TensorVariable,
    matrix: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
    numbers: list[TensorVariable] | None,
) -> tuple[TensorVariable, bool]:
    """Log density, and whether it is −inf outside the trained region already, as the Op's is.

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
        return pt.concatenate(columns, axis=1), group
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


def _signature(approximator: LikelihoodApproximator, contaminant: Contaminant | None) -> str:
    schema = approximator.schema
    inputs = [f"({','.join(map(str, shape))})" for shape in approximator.layout.shapes.values()]
    if schema.conditions:
        rows = "t," if is_sequence(schema) else ""
        inputs.append(f"({rows}{len(schema.condition_components)})")
    if contaminant is not None:
        inputs.append("()")
    if not is_sequence(schema):
        return f"{','.join(inputs)}->({len(schema.components)})"
    return f"{','.join(inputs)},()->(n,{len(schema.components)})"
