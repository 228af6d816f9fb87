"""Elementwise functions that carry their own derivatives, so that both take one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pytensor.scalar as ps
from pytensor.gradient import DisconnectedType, grad
from pytensor.graph.basic import Variable
from pytensor.scalar.basic import Composite, ScalarVariable
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.variable import TensorVariable

from jana_pymc.pytensor._compat import with_gradient


@with_gradient
class ElemwiseWithSlopes(Elemwise):
    """Elementwise function f whose further outputs are its partial derivatives.

    .. math:: (x_1, \\dots, x_m) \\mapsto (f, \\partial_1 f, \\dots, \\partial_m f)

    PyTensor would derive the gradient itself, but it rewrites a sum of quotients so that each is
    divided on its own: for a spline that is twenty divisions a row instead of three. The scalar
    graph of this Op is left as it was written. Outputs that nobody asks for cost nothing, PyTensor
    strips them before it compiles. Second derivatives work, too, by the ordinary way.
    """

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Variable]:
        known = {
            i: c for i, c in enumerate(cotangents) if not isinstance(c.type, DisconnectedType)
        }
        if set(known) == {0}:
            terms = [known[0] * slope for slope in outputs[1:]]
            return [_sum_to(t, i, outputs[0]) for t, i in zip(terms, inputs, strict=True)]
        plain = self._expanded(inputs)
        return grad(
            None,
            inputs,
            known_grads={plain[i]: c for i, c in known.items()},
            disconnected_inputs="ignore",
            return_disconnected="zero",
        )

    def _expanded(self, inputs: list[Variable]) -> list[Variable]:
        """The outputs as a graph of elementary operations, which PyTensor can differentiate."""
        graph = self.scalar_op.fgraph
        known: dict[Variable, Any] = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.toposort():
            values = [known[i] if i in known else float(i.data) for i in node.inputs]
            known[node.outputs[0]] = Elemwise(node.op)(*values)
        return [known[o] for o in graph.outputs]


def elemwise_with_slopes(
    inputs: Sequence[ScalarVariable], value: ScalarVariable, slopes: Sequence[ScalarVariable]
) -> ElemwiseWithSlopes:
    """Build the Op from scalar expressions of the inputs: the value, and its slope in each."""
    # An output that is itself an input, or the same as another, is no legal Composite.
    outputs: list[ScalarVariable] = []
    for output in (value, *slopes):
        taken = output in inputs or output in outputs or output.owner is None
        outputs.append(ps.identity(output) if taken else output)
    return ElemwiseWithSlopes(Composite(list(inputs), outputs))


@lru_cache
def _relu() -> ElemwiseWithSlopes:
    x = ps.float64("x")
    zero, one = constant(0.0), constant(1.0)
    return elemwise_with_slopes([x], ps.switch(x > zero, x, zero), [ps.switch(x > zero, one, zero)])


@lru_cache
def _silu() -> ElemwiseWithSlopes:
    x = ps.float64("x")
    gate = ps.sigmoid(x)
    value = x * gate
    return elemwise_with_slopes([x], value, [gate + value * (constant(1.0) - gate)])


@lru_cache
def _tanh() -> ElemwiseWithSlopes:
    x = ps.float64("x")
    value = ps.tanh(x)
    return elemwise_with_slopes([x], value, [constant(1.0) - value * value])


@lru_cache
def _softplus() -> ElemwiseWithSlopes:
    x = ps.float64("x")
    return elemwise_with_slopes([x], ps.softplus(x), [ps.sigmoid(x)])


def _first_output(build: Callable[[], ElemwiseWithSlopes]) -> Callable[[Any], TensorVariable]:
    return lambda x: build()(x)[0]


relu = _first_output(_relu)
silu = _first_output(_silu)
tanh = _first_output(_tanh)
softplus = _first_output(_softplus)


def constant(value: float) -> ScalarVariable:
    """A double-precision scalar."""
    return ps.constant(value, dtype="float64")


def _sum_to(gradient: Any, like: Variable, output: Variable) -> Any:
    """Sum over the dimensions along which an input was broadcast."""
    axes = [
        i
        for i, (own, full) in enumerate(zip(like.type.shape, output.type.shape, strict=True))
        if own == 1 and full != 1
    ]
    return gradient.sum(axis=axes, keepdims=True) if axes else gradient
