"""The custom PyTensor Op that evaluates a likelihood network in torch, and its gradient."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from typing import Any, Protocol

import numpy as np
import pytensor.tensor as pt
import torch
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.rewriting.basic import register_specialize
from torch import Tensor

from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.pytensor._compat import infer_shape_arguments, runs_in_object_mode, with_gradient
from jana_pymc.threads import one_thread

ROWS_AT_ONCE = 100_000
"""Observations evaluated at once, which bounds the memory."""

_FAILURES: dict[str, BaseException] = {}
"""The first exception of each network, by its content hash."""


class FrozenNetwork(Protocol):
    """A trained likelihood network that compares by its weights."""

    content_hash: str
    network: LikelihoodNetwork
    region: np.ndarray
    """Smallest and largest value of each parameter trained on, shape (2, parameters)."""


class _Batched(Op):
    """What both Ops share: inputs, shapes, batches, and the call into torch.

    Parameters
    ----------
    frozen : FrozenNetwork
        Compared by content, so that PyTensor never merges two networks into one.
    """

    __props__ = ("frozen",)
    n_slopes = 0
    in_numba = False

    def __init__(self, frozen: FrozenNetwork):
        self.frozen = frozen

    def make_node(self, observables: Any, parameters: Any, conditions: Any) -> Apply:
        """Apply to rows, or to sequences: the number of dimensions of the observables decides."""
        inputs = [
            pt.cast(pt.as_tensor_variable(i), "float64")
            for i in (observables, parameters, conditions)
        ]
        n_dims = 3 if inputs[0].type.ndim == 3 else 2
        names = {"observables": n_dims, "parameters": 2, "conditions": n_dims}
        for (name, expected), variable in zip(names.items(), inputs, strict=True):
            if variable.type.ndim != expected:
                raise TypeError(f"{name} has {variable.type.ndim} dimensions, expected {expected}.")
        log_prob = pt.vector(dtype="float64", shape=inputs[0].type.shape[:1])
        return Apply(self, inputs, [log_prob, *(i.type() for i in inputs[: self.n_slopes])])

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],), *shapes[: self.n_slopes]]

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        try:
            with one_thread():
                outputs = self._evaluate(inputs)
        except Exception as error:
            if not (self.in_numba and _keep(self.frozen, error)):
                raise
            shapes = [inputs[0].shape[:1], *(i.shape for i in inputs[: self.n_slopes])]
            outputs = [np.full(shape, np.nan) for shape in shapes]
        for storage, output in zip(output_storage, outputs, strict=True):
            storage[0] = output

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError

    def _log_prob(self, observables: Tensor, parameters: Tensor, conditions: Tensor) -> Tensor:
        """Log density of each row or sequence, −inf outside the trained region."""
        low, high = torch.from_numpy(self.frozen.region)
        inside = ((parameters >= low) & (parameters <= high)).all(-1)
        # At the region's edge instead of outside, where slopes need not be finite.
        log_prob = self._in_region(observables, parameters.clamp(low, high), conditions)
        return torch.where(inside, log_prob, -math.inf)

    def _in_region(self, observables: Tensor, parameters: Tensor, conditions: Tensor) -> Tensor:
        known = conditions if conditions.shape[-1] else None
        network = self.frozen.network
        if observables.ndim == 3:
            return network.log_prob(observables, parameters, known).sum(-1)
        if parameters.requires_grad or not len(parameters):  # each row wants a slope of its own
            group = torch.arange(len(observables))
        else:
            parameters, group = torch.unique_consecutive(parameters, return_inverse=True, dim=0)
        return network.log_prob_rows(observables, parameters, group, known)


@runs_in_object_mode
@with_gradient
class LogDensity(_Batched):
    """Log density of each row of observables, or of each sequence, given its parameters.

    Inputs, float64: observables (rows, components), parameters (rows, parameters), conditions
    (rows, conditions); of sequences, observables (sets, obs, components), parameters
    (sets, parameters), conditions (sets, obs, conditions). Output: (rows,) or (sets,), −inf for
    parameters outside the trained region, where the slopes are zero.
    """

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """As many rows at once as the memory should hold."""
        tensors = [torch.tensor(i) for i in inputs]
        size = max(1, ROWS_AT_ONCE // max(1, math.prod(tensors[0].shape[1:-1])))
        with torch.no_grad():
            parts = zip(*(t.split(size) for t in tensors), strict=True)
            return [torch.cat([self._log_prob(*part) for part in parts]).numpy()]

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        _, d_observables, d_parameters = LogDensityAndGradient(self.frozen)(*inputs)
        own = pt.shape_padright(cotangents[0], inputs[0].type.ndim - 1)
        return [own * d_observables, cotangents[0][:, None] * d_parameters, disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [True], [False]]


@runs_in_object_mode
class LogDensityAndGradient(_Batched):
    """Log density of each row or sequence and its gradients, by one pass through torch.

    Outputs: log density (rows,), its gradients with respect to the row's own observables
    (rows, components) and parameters (rows, parameters); sequences likewise.
    """

    n_slopes = 2

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        observables, parameters, conditions = (torch.tensor(i) for i in inputs)
        observables.requires_grad_()
        parameters.requires_grad_()
        with torch.enable_grad():
            log_prob = self._log_prob(observables, parameters, conditions)
            finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
            # Categories enter through an index, which has no slope: zeros, not an error.
            slopes = torch.autograd.grad(
                finite.sum(), [observables, parameters], materialize_grads=True
            )
        return [log_prob.detach().numpy(), *(slope.numpy() for slope in slopes)]


@_vectorize_node.register(LogDensity)
@_vectorize_node.register(LogDensityAndGradient)
def _as_more_rows(op: _Batched, node: Apply, *batched: Variable) -> Any:
    """A batch of matrices is a matrix of more rows: one call of torch instead of a loop."""
    core = [i.type.ndim for i in node.inputs]
    n_batch = max(b.type.ndim - n for b, n in zip(batched, core, strict=True))
    if n_batch == 0:
        return op.make_node(*batched)
    shapes = [tuple(b.shape)[: b.type.ndim - n] for b, n in zip(batched, core, strict=True)]
    batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
    rows = batched[0].shape[-core[0]]
    n_rows = pt.prod(pt.stack([*batch, rows]))
    flat = []
    for variable, n in zip(batched, core, strict=True):
        own = tuple(variable.shape)[variable.type.ndim - n :]
        if variable.type.shape[-1] == 0:  # which NumPy cannot reshape
            flat.append(pt.zeros((n_rows, *own[1:])))
            continue
        full = pt.broadcast_to(variable, (*batch, *own))
        flat.append(full.reshape((n_rows, *own[1:]), ndim=n))
    outputs = op.make_node(*flat).outputs
    return [
        o.reshape((*batch, rows, *tuple(o.shape)[1:]), ndim=n_batch + o.type.ndim) for o in outputs
    ]


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


def failure(frozen: FrozenNetwork) -> BaseException | None:
    """Hand over the first exception that a network raised in a graph, and forget it.

    nutpie takes an exception in the middle of sampling for a divergence and goes on.
    """
    return _FAILURES.pop(frozen.content_hash, None)


def _keep(frozen: FrozenNetwork, error: Exception) -> bool:
    """Keep the first exception of a thread that cannot pass it on, and say it aloud.

    nutpie calls compiled code from threads of its own. An exception that leaves Python there is
    taken for a divergence, and in time corrupts the memory; NaN is taken for one too, and does not.
    """
    if threading.current_thread() is threading.main_thread():
        return False
    if frozen.content_hash not in _FAILURES:
        _FAILURES[frozen.content_hash] = error
        # A filter that makes errors of warnings must not raise here either.
        with contextlib.suppress(RuntimeWarning):
            warnings.warn(
                f"the density of {frozen!r} failed: {type(error).__name__}: {error}; "
                "all draws after that are of no use.",
                RuntimeWarning,
                stacklevel=2,
            )
    return True
