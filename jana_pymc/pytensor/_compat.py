"""The differences between PyTensor 2.38 and 3, in one place."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.op import Op
from pytensor.graph.traversal import graph_inputs
from pytensor.link.numba.dispatch import numba_funcify
from pytensor.link.numba.dispatch.basic import generate_fallback_impl
from pytensor.tensor import subtensor
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

OpClass = TypeVar("OpClass", bound=type[Op])

GRADIENT_METHOD = "pullback" if hasattr(Op, "pullback") else "L_op"
"""PyTensor 3 renamed the vector-Jacobian product; the arguments are the same."""

_TAKE_OPS = tuple(
    getattr(subtensor, name)
    for name in ("AdvancedSubtensor", "AdvancedSubtensor1")
    if hasattr(subtensor, name)
)


def with_gradient(cls: OpClass) -> OpClass:
    """Expose an Op's ``_vjp(inputs, outputs, cotangents)`` under the name that PyTensor expects."""
    setattr(cls, GRADIENT_METHOD, cls._vjp)
    return cls


def infer_shape_arguments(*arguments: Any) -> tuple[Apply, Sequence[Any]]:
    """Node and input shapes; PyTensor 2 passes the graph before them."""
    node, shapes = arguments[-2:]
    return node, shapes


def runs_in_object_mode(cls: OpClass) -> OpClass:
    """Let numba call an Op's ``perform`` in object mode without a warning.

    An Op that calls torch cannot be compiled, so that the warning would be pointless.
    """

    def funcify(op: Op, node: Apply, **options: Any) -> Callable:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            op = copy.copy(op)
            op.in_numba = True
            return generate_fallback_impl(op, node, **options)

    numba_funcify.register(cls)(funcify)
    return cls


def position(index: TensorVariable, by_data: TensorVariable) -> TensorVariable:
    """A nonnegative index in a form that PyTensor's rewrites can handle.

    Rewrites of PyTensor 3.3 log errors for a sum of three terms, which the index is if the part
    that depends on data is not constant, as with data that `pymc.set_data` may exchange.
    """
    if all(isinstance(i, Constant) for i in graph_inputs([by_data])):
        return index
    return pt.maximum(index, 0)


def taken_rows(variable: Variable) -> tuple[Variable, tuple[Variable, ...]] | None:
    """Source and indices of ``source[i, j, ...]`` with integer vectors.

    Returns
    -------
    source : Variable
    indices : tuple of Variable
        Integer vectors, one for each leading axis of the source; None instead of the pair if the
        variable is anything else.
    """
    node = variable.owner
    if node is None or not isinstance(node.op, _TAKE_OPS):
        return None
    if any(not isinstance(entry, int) for entry in getattr(node.op, "idx_list", ())):
        return None
    source, *indices = node.inputs
    for index in indices:
        integers = isinstance(index.type, TensorType) and np.issubdtype(index.dtype, np.integer)
        if not integers or index.type.ndim != 1:
            return None
    return source, tuple(indices)
