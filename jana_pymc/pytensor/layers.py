"""Layers of dense networks re-expressed in PyTensor."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable
from torch import Tensor, nn

from jana_pymc.networks import DenseNetwork
from jana_pymc.pytensor.slopes import relu, silu, tanh

SMALL_PRODUCT = 1024
"""Up to so many weights, a matrix-vector product is cheaper as multiplication and sum."""


class NoLowering(TypeError):
    """There is no PyTensor version of this layer or network; the Op serves it."""


@singledispatch
def lower_layer(layer: Any, x: TensorVariable) -> TensorVariable:
    """Apply a layer to rows, shape (rows, features), in float64.

    Register more layers by ``lower_layer.register``.

    Parameters
    ----------
    layer : torch.nn.Module
        Its weights become constants.
    x : TensorVariable, shape (rows, n_in)

    Returns
    -------
    TensorVariable, shape (rows, n_out)

    Raises
    ------
    NoLowering
        If there is no PyTensor version of the layer.
    """
    raise NoLowering(f"{type(layer).__name__} has no PyTensor version.")


@lower_layer.register
def _(layer: nn.Linear, x: TensorVariable) -> TensorVariable:
    weight = numpy(layer.weight)
    bias = np.zeros(len(weight)) if layer.bias is None else numpy(layer.bias)
    return affine(x, weight, bias)


@lower_layer.register
def _(layer: nn.ReLU, x: TensorVariable) -> TensorVariable:
    return relu(x)


@lower_layer.register
def _(layer: nn.SiLU, x: TensorVariable) -> TensorVariable:
    return silu(x)


@lower_layer.register
def _(layer: nn.Tanh, x: TensorVariable) -> TensorVariable:
    return tanh(x)


@lower_layer.register
def _(layer: nn.Dropout, x: TensorVariable) -> TensorVariable:
    return x


@lower_layer.register
def _(layer: nn.Sequential, x: TensorVariable) -> TensorVariable:
    for part in layer:
        x = lower_layer(part, x)
    return x


@lower_layer.register
def _(layer: DenseNetwork, x: TensorVariable) -> TensorVariable:
    return lower_layer(layer.layers, x)


def affine(x: TensorVariable, weight: np.ndarray, bias: np.ndarray) -> TensorVariable:
    """Rows of x times the transposed weight, plus the bias.

    Parameters
    ----------
    x : TensorVariable, shape (rows, n_in)
    weight : ndarray, shape (n_out, n_in)
    bias : ndarray, shape (n_out,)

    Returns
    -------
    TensorVariable, shape (rows, n_out)
    """
    if x.type.shape[0] != 1:
        return pt.dot(x, np.ascontiguousarray(weight.T)) + bias
    row = x[0]
    if weight.size <= SMALL_PRODUCT:
        product = pt.sum(row[:, None] * np.ascontiguousarray(weight.T), axis=0)
    else:
        product = pt.dot(np.ascontiguousarray(weight), row)
    return (product + bias)[None]


def numpy(tensor: Tensor) -> np.ndarray:
    """Weights in double precision."""
    return tensor.detach().cpu().double().numpy()
