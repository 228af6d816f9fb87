"""An identity that PyTensor's rewrites do not see through."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.compile.ops import TypeCastingOp
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import _vectorize_node

from jana_pymc.pytensor._compat import infer_shape_arguments, with_gradient


@with_gradient
class Barrier(TypeCastingOp):
    """Prevent rewrites from merging nodes, and hide that a matrix has a single row.

    Each kind of node is compiled as a module of its own, so that both save much compilation time.
    Without barriers, rewrites merge the residuals of all layers into sums of two, three, four, ...
    terms, each of another kind; with barriers, the layers of a network and of its gradient consist
    of the same few kinds. A matrix that is known to have a single row is squeezed, multiplied as a
    vector, which is slower without BLAS, and expanded again.
    """

    def make_node(self, x: Any) -> Apply:
        """Apply to a matrix."""
        x = pt.as_tensor_variable(x)
        return Apply(self, [x], [pt.tensor(dtype=x.dtype, shape=(None, *x.type.shape[1:]))])

    def infer_shape(self, *arguments: Any) -> list[Any]:
        _, shapes = infer_shape_arguments(*arguments)
        return [shapes[0]]

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        return [barrier(cotangents[0])]


barrier = Barrier()


@_vectorize_node.register(Barrier)
def _of_a_batch(op: Barrier, node: Apply, batched: Variable) -> Apply:
    """Apply to a batch of matrices."""
    return op.make_node(batched)
