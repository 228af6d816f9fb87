"""The custom PyTensor Op that evaluates a likelihood network in torch, and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pytensor.tensor as pt
import torch
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.rewriting.basic import register_specialize

from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.pytensor._compat import infer_shape_arguments, runs_in_object_mode, with_gradient


class FrozenNetwork(Protocol):
    """A trained likelihood network that compares by its weights."""

    content_hash: str
    network: LikelihoodNetwork


class _RowWise(Op):
    """What both Ops share: inputs, shapes, and the call into torch.

    Parameters
    ----------
    frozen : FrozenNetwork
        Compared by content, so that PyTensor never merges two networks into one.
    """

    __props__ = ("frozen",)

    def __init__(self, frozen: FrozenNetwork):
        self.frozen = frozen

    def make_node(self, observables: Any, parameters: Any, conditions: Any) -> Apply:
        """Apply to three matrices with one row an observation."""
        inputs = [
            pt.cast(pt.as_tensor_variable(i), "float64")
            for i in (observables, parameters, conditions)
        ]
        names = ("observables", "parameters", "conditions")
        for name, variable in zip(names, inputs, strict=True):
            if variable.type.ndim != 2:
                raise TypeError(f"{name} has {variable.type.ndim} dimensions, expected 2.")
        log_prob = pt.vector(dtype="float64", shape=inputs[0].type.shape[:1])
        return Apply(self, inputs, [log_prob, *(i.type() for i in inputs[: self.n_slopes])])

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],), *shapes[: self.n_slopes]]

    n_slopes = 0


@runs_in_object_mode
@with_gradient
class LogDensity(_RowWise):
    """Log density of each row of observables given its row of parameters.

    Inputs, float64: observables (rows, components), parameters (rows, parameters), conditions
    (rows, conditions). Output: (rows,).
    """

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        observables, parameters, conditions = (torch.tensor(i) for i in inputs)
        rows = len(observables)
        group = torch.arange(rows)
        if rows and bool((parameters == parameters[0]).all()):
            parameters, group = parameters[:1], torch.zeros(rows, dtype=torch.long)
        with one_thread(), torch.no_grad():
            log_prob = self.frozen.network.log_prob_rows(
                observables, parameters, group, conditions if conditions.shape[1] else None
            )
        output_storage[0][0] = log_prob.numpy()

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        _, d_observables, d_parameters = LogDensityAndGradient(self.frozen)(*inputs)
        cotangent = cotangents[0][:, None]
        return [cotangent * d_observables, cotangent * d_parameters, disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [True], [False]]


@runs_in_object_mode
class LogDensityAndGradient(_RowWise):
    """Log density of each row and its gradients, by one pass through torch.

    Outputs: log density (rows,), its gradients with respect to the row's own observables
    (rows, components) and parameters (rows, parameters).
    """

    n_slopes = 2

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        observables, parameters, conditions = (torch.tensor(i) for i in inputs)
        observables.requires_grad_()
        parameters.requires_grad_()
        with one_thread(), torch.enable_grad():
            log_prob = self.frozen.network.log_prob_rows(
                observables,
                parameters,
                torch.arange(len(observables)),
                conditions if conditions.shape[1] else None,
            )
            finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
            # Categories enter through an index, which has no slope: zeros, not an error.
            slopes = torch.autograd.grad(
                finite.sum(), [observables, parameters], materialize_grads=True
            )
        output_storage[0][0] = log_prob.detach().numpy()
        for storage, slope in zip(output_storage[1:], slopes, strict=True):
            storage[0] = slope.numpy()


@register_specialize
@node_rewriter([LogDensity])
def share_the_pass(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Take the value from the Op that computes gradients too, where there is one."""
    for client, _ in fgraph.clients[node.inputs[1]]:
        if isinstance(getattr(client, "op", None), LogDensityAndGradient) and (
            client.op.frozen == node.op.frozen and client.inputs == node.inputs
        ):
            return [client.outputs[0]]
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, which a forked sampler needs; the setting as it was afterwards."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
