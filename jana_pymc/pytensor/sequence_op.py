"""The Op that evaluates a likelihood of sequences in torch, and its pullback."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
import torch
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.graph.traversal import ancestors
from pytensor.tensor.rewriting.basic import register_specialize

from jana_pymc.pytensor._compat import infer_shape_arguments, runs_in_object_mode, with_gradient
from jana_pymc.pytensor.op import FrozenNetwork, one_thread

INPUTS = ("observables", "parameters", "group", "conditions")


def _prepared(observables: Any, parameters: Any, group: Any, conditions: Any) -> list[Variable]:
    given = (observables, parameters, group, conditions)
    inputs = []
    for name, value in zip(INPUTS, given, strict=True):
        variable = pt.cast(value, "int64" if name == "group" else "float64")
        expected = 1 if name == "group" else 2
        if variable.type.ndim != expected:
            raise TypeError(f"{name} has {variable.type.ndim} dimensions, expected {expected}.")
        inputs.append(variable)
    return inputs


@runs_in_object_mode
@with_gradient
class SequenceLogDensity(Op):
    """Log density of each time point given its past.

    Inputs: observables (rows, components), the time points of one sequence after the other;
    parameters (groups, parameters); group (rows,), the row of parameters for each time point, where
    a change begins a new sequence; conditions (rows, conditions). Output: (rows,).

    Every term may depend on all observations before it and on the parameters of its sequence, so
    that there is no gradient of single rows, as `LogDensity` has it, but only that of a weighted
    sum of them.

    Parameters
    ----------
    frozen : FrozenNetwork
        Compared by content, so that PyTensor never merges two networks into one.
    """

    __props__ = ("frozen",)

    def __init__(self, frozen: FrozenNetwork):
        self.frozen = frozen

    def make_node(self, observables: Any, parameters: Any, group: Any, conditions: Any) -> Apply:
        inputs = _prepared(observables, parameters, group, conditions)
        log_prob = pt.vector(dtype="float64", shape=inputs[0].type.shape[:1])
        return Apply(self, inputs, [log_prob])

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],)]

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        with one_thread(), torch.no_grad():
            log_prob = _log_prob(self.frozen, *(torch.tensor(i) for i in inputs))
        output_storage[0][0] = log_prob.numpy()

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        pullback = SequenceLogDensityPullback(self.frozen)
        _, d_observables, d_parameters = pullback(*inputs, cotangents[0])
        return [d_observables, d_parameters, disconnected_type(), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [True], [False], [False]]


@runs_in_object_mode
class SequenceLogDensityPullback(Op):
    """Log density of each time point, and the gradient of their sum weighted by a cotangent.

    Inputs: those of `SequenceLogDensity`, and the cotangent (rows,). Outputs: log density (rows,),
    gradients with respect to observables (rows, components) and parameters (groups, parameters).
    """

    __props__ = ("frozen",)

    def __init__(self, frozen: FrozenNetwork):
        self.frozen = frozen

    def make_node(
        self, observables: Any, parameters: Any, group: Any, conditions: Any, cotangent: Any
    ) -> Apply:
        inputs = _prepared(observables, parameters, group, conditions)
        inputs.append(pt.cast(cotangent, "float64"))
        log_prob = pt.vector(dtype="float64", shape=inputs[0].type.shape[:1])
        return Apply(self, inputs, [log_prob, inputs[0].type(), inputs[1].type()])

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],), shapes[0], shapes[1]]

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        *given, cotangent = (torch.tensor(i) for i in inputs)
        observables, parameters = given[0].requires_grad_(), given[1].requires_grad_()
        with one_thread(), torch.enable_grad():
            log_prob = _log_prob(self.frozen, *given)
            finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
            # Categories enter through an index, which has no slope: zeros, not an error.
            slopes = torch.autograd.grad(
                finite, [observables, parameters], cotangent, materialize_grads=True
            )
        output_storage[0][0] = log_prob.detach().numpy()
        for storage, slope in zip(output_storage[1:], slopes, strict=True):
            storage[0] = slope.numpy()


def _log_prob(frozen: FrozenNetwork, *inputs: torch.Tensor) -> torch.Tensor:
    observables, parameters, group, conditions = inputs
    known = conditions if conditions.shape[1] else None
    return frozen.network.log_prob_rows(observables, parameters, group, known)


@register_specialize
@node_rewriter([SequenceLogDensity])
def share_the_pass_of_sequences(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Take the value from the Op that computes the gradient too, where there is one.

    Not where the cotangent itself hangs on the value: that would make a circle.
    """
    (value,) = node.outputs
    for client, _ in fgraph.clients[node.inputs[1]]:
        if (
            isinstance(getattr(client, "op", None), SequenceLogDensityPullback)
            and client.op.frozen == node.op.frozen
            and client.inputs[:-1] == node.inputs
            and value not in set(ancestors([client.inputs[-1]]))
        ):
            return [client.outputs[0]]
    return None
