"""The identity, but for PyTensor's rewrites, which do not look through it."""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.compile.ops import TypeCastingOp
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import _vectorize_node

from jana_pymc.pytensor._compat import infer_shape_arguments, with_gradient


@with_gradient
class Barrier(TypeCastingOp):
    """Keep apart what rewrites would put together, and forget that there is a single row.

    Both cost dearly in compilation, where each kind of node is a module of its own. A sum of
    residuals becomes one of two terms, of three, of four, each another kind; cut into, the layers
    of a network and of its gradient are all of the same few. And what is known to be a row is
    squeezed, multiplied as a vector, which without BLAS takes longer to call, and expanded again.
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
    """The identity of a batch of matrices is one too."""
    return op.make_node(batched)
