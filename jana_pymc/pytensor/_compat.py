"""The differences between PyTensor 2.38 and 3, in one place."""

from __future__ import annotations

from typing import TypeVar

from pytensor.graph.op import Op

OpClass = TypeVar("OpClass", bound=type[Op])

GRADIENT_METHOD = "pullback" if hasattr(Op, "pullback") else "L_op"
"""PyTensor 3 renamed the vector-Jacobian product; the arguments are the same."""


def with_gradient(cls: OpClass) -> OpClass:
    """Offer an Op's ``_vjp(inputs, outputs, cotangents)`` under the name PyTensor looks for."""
    setattr(cls, GRADIENT_METHOD, cls._vjp)  # type: ignore[attr-defined]
    return cls


def infer_shape_arguments(*arguments: object) -> tuple[object, object]:
    """Node and input shapes; PyTensor 2 passes the graph before them."""
    node, shapes = arguments[-2:]
    return node, shapes
