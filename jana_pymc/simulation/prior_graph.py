"""PyTensor graphs of a PyMC prior, turned into functions of many rows at once.

The one module that touches PyTensor here, and the place for differences between its versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.distributions.shape_utils import change_dist_size
from pymc.logprob.basic import transformed_conditional_logp
from pymc.logprob.utils import local_check_parameter_to_ninf_switch, replace_rvs_by_values
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import Op
from pytensor.graph.replace import clone_replace, graph_replace, vectorize_graph
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.traversal import ancestors, graph_inputs
from pytensor.link.vm import VMLinker
from pytensor.scalar.math import Softplus
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomGeneratorType
from pytensor.tensor.type import TensorType

Shape: TypeAlias = tuple[int, ...]
RowFunction: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps rows (n, size) to rows (n, other size)."""

DrawFunction: TypeAlias = Callable[[np.random.SeedSequence], list[NDArray]]
"""Maps a seed to one array (DRAWS_AT_ONCE, *shape) for each random variable."""

AFTER_STABILIZING = 3.0
"""Position among PyTensor's rewrites."""

DRAWS_AT_ONCE = 1024
"""A constant, because not all distributions take a size that is known only later."""


class _Softplus(Op):
    """log(1 + exp(x)) by NumPy: without a compiler PyTensor computes it number by number."""

    __props__ = ()

    def make_node(self, x: Variable) -> Apply:
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: Any, outputs: Any) -> None:
        outputs[0][0] = np.logaddexp(0.0, inputs[0], dtype=node.outputs[0].type.dtype)


@node_rewriter([Elemwise])
def _softplus_of_arrays(fgraph: FunctionGraph, node: Apply) -> list[Variable] | None:
    if not isinstance(node.op.scalar_op, Softplus):
        return None
    return [_Softplus()(node.inputs[0])]


# Everything here runs on whole arrays, where NumPy is as fast as it needs to be, while compiling
# with C or numba would take longer than all evaluations of a training. So: no compiler, and of the
# rewrites the simplest and those for numerical stability.
_MODE = Mode(
    linker=VMLinker(use_cloop=False, c_thunks=False),
    optimizer=RewriteDatabaseQuery(include=["fast_compile", "py_only", "stabilize"]),
).register((in2out(_softplus_of_arrays), AFTER_STABILIZING))


@dataclass(frozen=True, eq=False)
class PriorGraph:
    """The free random variables of a model, cut loose from it.

    Parameters
    ----------
    rvs : list of Variable
        Clones in which shared data and dimension lengths are constants and generators are inputs,
        so that neither the model nor later changes to it matter.
    values : list of Variable
        A new unconstrained value variable for each.
    transforms : list of Transform or None
        The model's own.
    shapes, value_shapes : list of tuple of int
        Constrained and unconstrained shapes.
    """

    rvs: list[Variable]
    values: list[Variable]
    transforms: list[Any]
    shapes: list[Shape]
    value_shapes: list[Shape]

    @classmethod
    def of(cls, model: pm.Model) -> PriorGraph:
        """Clone the free random variables of a model.

        Parameters
        ----------
        model : pymc.Model

        Returns
        -------
        PriorGraph

        Raises
        ------
        ValueError
            If a parameter comes from pymc.dims.
        """
        for rv in model.free_RVs:
            if not isinstance(rv.type, TensorType):
                raise ValueError(
                    f"the parameter {rv.name!r} comes from pymc.dims, which is not supported; "
                    "take the distribution of the same name from pymc, with dims=."
                )
        rvs = clone_replace(
            model.free_RVs,
            replace={
                variable: _unshared(variable)
                for variable in graph_inputs(model.free_RVs)
                if isinstance(variable, SharedVariable)
            },
            rebuild_strict=False,
        )
        for rv, original in zip(rvs, model.free_RVs, strict=True):
            rv.name = original.name
        transforms = [model.rvs_to_transforms[rv] for rv in model.free_RVs]
        unconstrained = [
            rv if transform is None else transform.forward(rv, *rv.owner.inputs)
            for rv, transform in zip(rvs, transforms, strict=True)
        ]
        values = [each.type() for each in unconstrained]
        for value, original in zip(values, model.free_RVs, strict=True):
            value.name = model.rvs_to_values[original].name
        shapes = _shapes([*rvs, *unconstrained])
        return cls(rvs, values, transforms, shapes[: len(rvs)], shapes[len(rvs) :])

    def log_prob(self) -> RowFunction:
        """Log density over unconstrained rows, Jacobian included.

        Returns
        -------
        callable
            Compiled, as all that follow; it takes rows, shape (rows, unconstrained values).
        """
        return self._log_prob(self.values, self.value_shapes, self.transforms)

    def log_prob_constrained(self) -> RowFunction:
        """Log density over constrained rows.

        Returns
        -------
        callable
        """
        values = [rv.type() for rv in self.rvs]
        return self._log_prob(values, self.shapes, [None] * len(values))

    def log_abs_det_jacobian(self) -> RowFunction:
        """Log absolute determinant of the derivative of :meth:`constrain`.

        Returns
        -------
        callable
        """
        return _row_sum(self._log_jac_dets(), self.values, self.value_shapes)

    def constrain(self) -> RowFunction:
        """Unconstrained to constrained rows.

        Returns
        -------
        callable
        """
        constrained = self._replace_rvs(self.rvs)
        return _row_function(constrained, self.shapes, self.values, self.value_shapes)

    def unconstrain(self) -> RowFunction:
        """Constrained to unconstrained rows.

        Returns
        -------
        callable
        """
        return _row_function(self._unconstrained(), self.value_shapes, self.rvs, self.shapes)

    def unconstrain_with_jacobian(self) -> RowFunction:
        """Constrained to unconstrained rows, and after these :meth:`log_abs_det_jacobian` there.

        Returns
        -------
        callable
        """
        values = self._unconstrained()
        terms = self._log_jac_dets()
        there = graph_replace(terms, dict(zip(self.values, values, strict=True)), strict=False)
        function = _row_function(
            [*values, *there], [*self.value_shapes, *(() for _ in there)], self.rvs, self.shapes
        )
        n_values = sum(int(np.prod(shape)) for shape in self.value_shapes)

        def rows_with_sum(rows: NDArray[np.float64]) -> NDArray[np.float64]:
            found = function(rows)
            log_det = found[:, n_values:].sum(axis=1, keepdims=True)
            return np.concatenate([found[:, :n_values], log_det], axis=1)

        return rows_with_sum

    def draw(self) -> DrawFunction:
        """Draw a block from the prior, at once if every distribution can, else one by one.

        Returns
        -------
        callable
            It takes a seed.
        """
        try:
            draw = _vectorised_draw(self.rvs)
            arrays = draw(np.random.SeedSequence(0))
        except Exception:  # whatever a distribution raises that does not know batches
            return _looped_draw(self.rvs)
        expected = [(DRAWS_AT_ONCE, *shape) for shape in self.shapes]
        return draw if [array.shape for array in arrays] == expected else _looped_draw(self.rvs)

    def _log_prob(
        self, values: list[Variable], shapes: list[Shape], transforms: list[Any]
    ) -> RowFunction:
        terms = transformed_conditional_logp(
            rvs=self.rvs,
            rvs_to_values=dict(zip(self.rvs, values, strict=True)),
            rvs_to_transforms=dict(zip(self.rvs, transforms, strict=True)),
        )
        return _row_sum(_checks_to_switches([term.sum() for term in terms]), values, shapes)

    def _unconstrained(self) -> list[Variable]:
        return [
            rv if transform is None else transform.forward(rv, *rv.owner.inputs)
            for rv, _, transform in self._triples()
        ]

    def _log_jac_dets(self) -> list[Variable]:
        terms = [
            transform.log_jac_det(value, *rv.owner.inputs).sum()
            for rv, value, transform in self._triples()
            if transform is not None
        ]
        return self._replace_rvs(terms)

    def _replace_rvs(self, graphs: Sequence[Variable]) -> list[Variable]:
        if not graphs:
            return []
        return replace_rvs_by_values(
            graphs,
            rvs_to_values=dict(zip(self.rvs, self.values, strict=True)),
            rvs_to_transforms=dict(zip(self.rvs, self.transforms, strict=True)),
        )

    def _triples(self) -> list[tuple[Variable, Variable, Any]]:
        return list(zip(self.rvs, self.values, self.transforms, strict=True))


def _unshared(variable: SharedVariable) -> Variable:
    if isinstance(variable.type, RandomGeneratorType):
        return variable.type()
    return variable.type.constant_type(
        type=variable.type, data=variable.get_value(), name=variable.name
    )


def _shapes(variables: Sequence[Variable]) -> list[Shape]:
    """Shapes from the types where they are known, else from the graphs."""
    unknown = [v for v in variables if None in v.type.shape]
    evaluated = iter(())
    if unknown:
        shapes = [variable.shape for variable in unknown]
        inputs = [v for v in graph_inputs(shapes) if not isinstance(v, Constant)]
        function = pytensor.function(inputs, shapes, mode=_MODE, on_unused_input="ignore")
        evaluated = iter(function(*(np.random.default_rng(0) for _ in inputs)))
    return [
        tuple(int(size) for size in (next(evaluated) if None in v.type.shape else v.type.shape))
        for v in variables
    ]


def _row_function(
    outputs: Sequence[Variable],
    output_shapes: Sequence[Shape],
    inputs: Sequence[Variable],
    input_shapes: Sequence[Shape],
) -> RowFunction:
    """Compile a function of flat rows from graphs of single variables."""
    rows = pt.dmatrix("rows")
    n = rows.shape[0]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in input_shapes)])
    replace = {
        variable: rows[:, start:stop].reshape((n, *shape)).astype(variable.type.dtype)
        for variable, shape, (start, stop) in zip(inputs, input_shapes, pairwise(ends), strict=True)
    }
    flat = []
    for batched, shape in zip(vectorize_graph(outputs, replace), output_shapes, strict=True):
        # An output that depends on none of the inputs has not been given rows.
        filled = pt.broadcast_to(batched, (n, *shape))
        flat.append(filled.reshape((n, int(np.prod(shape)))).astype("float64"))
    return pytensor.function(
        [rows], pt.concatenate(flat, axis=1), mode=_MODE, on_unused_input="ignore"
    )


def _row_sum(
    terms: Sequence[Variable], inputs: Sequence[Variable], input_shapes: Sequence[Shape]
) -> RowFunction:
    """Compile a function of flat rows that adds up scalar graphs.

    NumPy adds them: without a compiler PyTensor adds no more than 31 arrays in one operation.
    """
    graphs = list(terms) or [pt.zeros(())]
    each = _row_function(graphs, [()] * len(graphs), inputs, input_shapes)
    return lambda rows: each(rows).sum(axis=1, keepdims=True)


def _checks_to_switches(graphs: Sequence[Variable]) -> list[Variable]:
    """Let invalid parameters of a distribution give -inf, which is done row by row once batched.

    Batched first, PyTensor would take one invalid row for the fault of all.
    """
    fgraph = FunctionGraph(outputs=list(graphs), clone=True, copy_inputs=False)
    in2out(local_check_parameter_to_ninf_switch).rewrite(fgraph)
    return list(fgraph.outputs)


def _vectorised_draw(rvs: Sequence[Variable]) -> DrawFunction:
    others = set(rvs)
    roots = [rv for rv in rvs if not others & set(ancestors(rv.owner.inputs))]
    resized = {rv: change_dist_size(rv, (DRAWS_AT_ONCE,), expand=True) for rv in roots}
    return _random_function(vectorize_graph(rvs, resized))


def _looped_draw(rvs: Sequence[Variable]) -> DrawFunction:
    draw_one = _random_function(rvs)

    def draw(seed: np.random.SeedSequence) -> list[NDArray]:
        singles = [draw_one(child) for child in seed.spawn(DRAWS_AT_ONCE)]
        return [np.stack(values) for values in zip(*singles, strict=True)]

    return draw


def _random_function(outputs: Sequence[Variable]) -> DrawFunction:
    """Compile random graphs into a function of a seed, without any state of its own."""
    used = [v for v in graph_inputs(outputs) if isinstance(v.type, RandomGeneratorType)]
    generators = [variable.type() for variable in used]
    replace = dict(zip(used, generators, strict=True))
    function = pytensor.function(
        generators, clone_replace(outputs, replace), mode=_MODE, on_unused_input="ignore"
    )

    def draw(seed: np.random.SeedSequence) -> list[NDArray]:
        return function(*map(np.random.default_rng, seed.spawn(len(generators))))

    return draw
