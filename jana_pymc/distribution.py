"""The neural likelihood as a PyMC random variable, and its log density as a PyTensor graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import Distribution, _support_point
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Constant
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.pytensor import Contaminant, LogDensity, NoLowering, lower, taken_rows
from jana_pymc.simulation import Categorical, ParameterLayout

if TYPE_CHECKING:
    from jana_pymc.approximators import LikelihoodApproximator

Backend: TypeAlias = Literal["auto", "lowering", "op"]


class NeuralLikelihoodRV(RandomVariable):
    """Random variable whose law is a likelihood network.

    The approximator is one of the Op's properties, and compares by its weights, so that PyTensor
    neither merges two networks nor keeps a stale one.
    """

    name = "neural_likelihood"
    _print_name = ("NeuralLikelihood", "\\operatorname{NeuralLikelihood}")
    __props__ = ("signature", "inplace", "approximator", "backend", "contaminant")
    ndims_supp = 1

    def __init__(
        self,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        signature: str | None = None,
        inplace: bool = False,
    ):
        self.approximator = approximator
        self.backend = backend
        self.contaminant = contaminant
        signature = signature or _signature(approximator, contaminant)
        super().__init__(signature=signature, dtype="float64", inplace=inplace)

    def split(self, inputs: Any) -> tuple[list[Any], Any, Any]:
        """Parameters, conditions and probability of a lapse among the inputs; None for none."""
        values = list(inputs)
        probability = values.pop() if self.contaminant is not None else None
        known = values.pop() if self.approximator.schema.conditions else None
        return values, known, probability

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate by the network; many observations of equal parameters share its work."""
        *inputs, size = arguments
        approximator = self.approximator
        values, known, probability = self.split(inputs)
        shapes = tuple(approximator.layout.shapes.values())
        batches = [v.shape[: v.ndim - len(s)] for v, s in zip(values, shapes, strict=True)]
        if known is not None:
            batches.append(known.shape[:-1])
        if probability is not None and probability.ndim:
            batches.append(probability.shape)
        batch = np.broadcast_shapes(*batches) if size is None else tuple(size)
        n_rows = int(np.prod(batch))
        one_theta = all(np.prod(b) == 1 for b in batches)
        flat = approximator.layout.flatten(
            {
                name: v.reshape(s) if one_theta else np.broadcast_to(v, (*batch, *s))
                for name, v, s in zip(approximator.layout.names, values, shapes, strict=True)
            }
        )
        if one_theta and known is None:
            drawn = approximator.simulate(flat.reshape(1, -1), n_rows, random_seed=rng)
        else:
            rows = np.array(np.broadcast_to(flat, (*batch, flat.shape[-1]))).reshape(n_rows, -1)
            if known is not None:
                known = np.array(np.broadcast_to(known, (*batch, known.shape[-1])))
                known = known.reshape(n_rows, 1, -1)
            drawn = approximator.simulate(rows, 1, conditions=known, random_seed=rng)
        drawn = drawn.reshape(*batch, -1)
        if self.contaminant is not None:
            lapse = rng.uniform(size=batch) < probability
            drawn[lapse] = self.contaminant.draw(rng, int(lapse.sum()))
        return drawn


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
        **kwargs: Any,
    ) -> TensorVariable:
        """Build the variable from parameters in the layout's order (`ordered_parameters`)."""
        _check(backend)
        values = [*parameters, *(v for v in (conditions, probability) if v is not None)]
        return super().dist(
            [pt.cast(v, "float64") for v in values],
            approximator=approximator,
            backend=backend,
            contaminant=contaminant,
            **kwargs,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: TensorVariable,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        # Calling the Op differs between PyTensor 2 and 3 in what it returns; its node does not.
        op = NeuralLikelihoodRV(approximator, backend, contaminant)
        rng = pytensor.shared(np.random.default_rng()) if rng is None else rng
        return op.make_node(rng, size, *parameters).default_output()


@_logprob.register(NeuralLikelihoodRV)
def _neural_logprob(
    op: NeuralLikelihoodRV, values: Any, rng: Any, size: Any, *inputs: Any, **kwargs: Any
) -> TensorVariable:
    (value,) = values
    parameters, known, probability = op.split(inputs)
    return log_density(
        op.approximator, op.backend, value, parameters, known, probability, op.contaminant
    )


@_support_point.register(NeuralLikelihoodRV)
def _neural_support_point(
    op: NeuralLikelihoodRV, rv: TensorVariable, rng: Any, size: Any, *inputs: Any
) -> TensorVariable:
    """A simulated value: inside the support whatever the parameters."""
    return rv


def _check(backend: str) -> None:
    if backend not in ("auto", "lowering", "op"):
        raise ValueError(f"backend={backend!r} is not 'auto', 'lowering' or 'op'.")


def log_density(
    approximator: LikelihoodApproximator,
    backend: Backend,
    value: TensorVariable,
    parameters: Any,
    conditions: TensorVariable | None = None,
    probability: TensorVariable | None = None,
    contaminant: Contaminant | None = None,
) -> TensorVariable:
    """Log density over the leading dimensions of ``value``, −inf outside the trained region."""
    _check(backend)
    batch = value.shape[:-1]
    n_batch = value.ndim - 1
    observables = value if n_batch == 1 else value.reshape((-1, value.shape[-1]))
    if conditions is not None and n_batch != 1:
        n_conditions = len(approximator.schema.conditions)
        conditions = _as_rows(conditions, (n_conditions,), batch)
    possible, observables = _possible(approximator, observables)
    matrix, group = _distinct(approximator.layout, parameters, batch, n_batch)
    low, high = (pt.constant(end) for end in approximator.region)
    trained = pt.all((matrix >= low) & (matrix <= high), axis=1)
    log_prob = _evaluate(approximator, backend, observables, matrix, group, conditions)
    trained = trained[0] if group is None else trained[group]
    trained = trained if possible is None else trained & possible
    if contaminant is not None and probability is not None:
        lapse = probability if probability.ndim == 0 else _as_rows(probability, (), batch)[:, 0]
        log_prob = contaminant.mix(log_prob, observables, lapse)
    log_prob = pt.switch(trained, log_prob, -np.inf)
    return log_prob if n_batch == 1 else log_prob.reshape(batch, ndim=n_batch)


def _possible(
    approximator: LikelihoodApproximator, observables: TensorVariable
) -> tuple[TensorVariable | None, TensorVariable]:
    """Which rows hold categories that exist, and rows whose categories all do.

    Constants were checked when they came in; `pymc.set_data` exchanges data behind our back, and
    a category that does not exist would be looked up in another cell of the table.
    """
    kinds = list(approximator.schema.observables.values())
    if isinstance(observables, Constant) or not any(isinstance(k, Categorical) for k in kinds):
        return None, observables
    columns, possible = [], None
    for i, kind in enumerate(kinds):
        column = observables[:, i]
        if isinstance(kind, Categorical):
            clipped = pt.clip(pt.round(column), 0, kind.n_categories - 1)
            exists = pt.eq(column, clipped)
            column = pt.switch(exists, clipped, 0.0)
            possible = exists if possible is None else possible & exists
        columns.append(column)
    return possible, pt.stack(columns, axis=1)


def _evaluate(
    approximator: LikelihoodApproximator,
    backend: Backend,
    observables: TensorVariable,
    matrix: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    if backend != "op":
        try:
            return lower(approximator.network, observables, matrix, group, conditions)
        except NoLowering:
            if backend == "lowering":
                raise
    n_rows = observables.shape[0]
    shared = group is None
    rows = pt.broadcast_to(matrix, (n_rows, matrix.shape[1])) if shared else matrix[group]
    known = pt.zeros((n_rows, 0)) if conditions is None else conditions
    return LogDensity(approximator)(observables, rows, known)


def _distinct(
    layout: ParameterLayout, parameters: Any, batch: Any, n_batch: int
) -> tuple[TensorVariable, TensorVariable | None]:
    """Distinct parameter vectors (groups, size) and each row's group; None for a single one."""
    scalar = [
        all(p.type.broadcastable[: p.ndim - len(s)])
        for p, s in zip(parameters, layout.shapes.values(), strict=True)
    ]
    if all(scalar):
        flat = [p.reshape((1, -1)) for p in parameters]
        return pt.concatenate(flat, axis=1), None
    index = _common_index(layout, parameters, scalar) if n_batch == 1 else None
    columns = []
    if index is not None:
        sources = [
            p if s else taken_rows(p)[0]  # type: ignore[index]
            for p, s in zip(parameters, scalar, strict=True)
        ]
        n_groups = next(v.shape[0] for v, s in zip(sources, scalar, strict=True) if not s)
        for source, shape in zip(sources, layout.shapes.values(), strict=True):
            columns.append(_as_rows(source, shape, (n_groups,)))
        # Small integer types overflow when positions in tables are computed from them.
        group = pt.cast(index, "int64")
        return pt.concatenate(columns, axis=1), pt.switch(group < 0, group + n_groups, group)
    for p, shape in zip(parameters, layout.shapes.values(), strict=True):
        columns.append(_as_rows(p, shape, batch))
    return pt.concatenate(columns, axis=1), pt.arange(columns[0].shape[0])


def _as_rows(p: TensorVariable, shape: tuple[int, ...], batch: Any) -> TensorVariable:
    full = pt.broadcast_to(p, (*batch, *shape))
    return full.reshape((-1, int(np.prod(shape))))


def _common_index(
    layout: ParameterLayout, parameters: Any, scalar: list[bool]
) -> TensorVariable | None:
    """The index if every parameter that varies is ``x[index]`` with one and the same index."""
    found = None
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
    return found


def _same(first: TensorVariable, second: TensorVariable) -> bool:
    if isinstance(first, Constant) and isinstance(second, Constant):
        return np.array_equal(first.data, second.data)
    return first is second


def _signature(approximator: LikelihoodApproximator, contaminant: Contaminant | None) -> str:
    inputs = [f"({','.join(map(str, shape))})" for shape in approximator.layout.shapes.values()]
    if approximator.schema.conditions:
        inputs.append(f"({len(approximator.schema.conditions)})")
    if contaminant is not None:
        inputs.append("()")
    return f"{','.join(inputs)}->({len(approximator.schema.observables)})"
