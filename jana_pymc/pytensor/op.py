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
from pytensor.graph.traversal import ancestors
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
    in_numba = False

    def __init__(self, frozen: FrozenNetwork):
        self.frozen = frozen

    def make_node(
        self,
        observables: Any,
        parameters: Any,
        conditions: Any,
        group: Any = None,
        *cotangent: Any,
    ) -> Apply:
        """Apply to rows, or to sequences: the number of dimensions of the observables decides."""
        inputs = [
            pt.cast(pt.as_tensor_variable(i), "float64")
            for i in (observables, parameters, conditions, *cotangent)
        ]
        n_dims = 3 if inputs[0].type.ndim == 3 else 2
        # A single vector of parameters needs no matrix, which the gradient would take apart.
        names = {"observables": (n_dims,), "parameters": (1, 2), "conditions": (n_dims,)}
        for (name, expected), variable in zip(names.items(), inputs, strict=False):
            if variable.type.ndim not in expected:
                raise TypeError(
                    f"{name} has {variable.type.ndim} dimensions, expected "
                    f"{' or '.join(map(str, expected))}."
                )
        index = pt.arange(inputs[0].shape[0]) if group is None else pt.as_tensor_variable(group)
        inputs.insert(3, pt.cast(index, "int64"))
        log_prob = pt.vector(dtype="float64", shape=inputs[0].type.shape[:1])
        return Apply(self, inputs, [log_prob, *(i.type() for i in self._like(inputs))])

    def _like(self, inputs: Any) -> Any:
        """Inputs whose shapes the outputs after the first have."""
        return []

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],), *self._like(shapes)]

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        try:
            with one_thread():
                outputs = self._evaluate(inputs)
        except Exception as error:
            if not (self.in_numba and _keep(self.frozen, error)):
                raise
            shapes = [inputs[0].shape[:1], *(i.shape for i in self._like(inputs))]
            outputs = [np.full(shape, np.nan) for shape in shapes]
        for storage, output in zip(output_storage, outputs, strict=True):
            storage[0] = output

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        raise NotImplementedError

    def _log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor, group: Tensor
    ) -> Tensor:
        """Log density of each row or sequence, −inf outside the trained region."""
        low, high = torch.from_numpy(self.frozen.region)
        parameters = torch.atleast_2d(parameters)
        inside = ((parameters >= low) & (parameters <= high)).all(-1)
        # At the region's edge instead of outside, where slopes need not be finite.
        parameters = parameters.clamp(low, high)
        known = conditions if conditions.shape[-1] else None
        network = self.frozen.network
        if observables.ndim == 3:
            log_prob = network.log_prob(observables, parameters[group], known).sum(-1)
        else:
            log_prob = network.log_prob_rows(observables, parameters, group, known)
        return torch.where(inside[group], log_prob, -math.inf)


@runs_in_object_mode
@with_gradient
class LogDensity(_Batched):
    """Log density of each row of observables, or of each sequence, given its parameters.

    Inputs, float64: observables (rows, components), distinct parameters (groups, parameters), or
    (parameters,) of a single group, conditions (rows, conditions), and the group of each row,
    integers (rows,), by default its own; of sequences, observables (sets, obs, components),
    conditions (sets, obs, conditions), and the group of each. Output: (rows,) or (sets,), −inf for
    parameters outside the trained region, where the slopes are zero.
    """

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """As many rows at once as the memory should hold."""
        observables, parameters, conditions, group = (torch.tensor(i) for i in inputs)
        size = max(1, ROWS_AT_ONCE // max(1, math.prod(observables.shape[1:-1])))
        parts = []
        with torch.no_grad():
            for rows, known, index in zip(
                *(t.split(size) for t in (observables, conditions, group)), strict=True
            ):
                own, within = torch.unique(index, return_inverse=True)
                theta = torch.atleast_2d(parameters)[own]
                parts.append(self._log_prob(rows, theta, known, within))
        return [torch.cat(parts).numpy()]

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        _, d_observables, d_parameters = LogDensityAndPullback(self.frozen)(*inputs, *cotangents)
        return [d_observables, d_parameters, disconnected_type(), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [True], [False], [False]]


@runs_in_object_mode
class LogDensityAndPullback(_Batched):
    """Log density of each row or sequence and its pullback, by one pass through torch.

    Inputs as of `LogDensity`, and a cotangent (rows,). Outputs: log density (rows,), and what the
    cotangent gives the observables, (rows, components), and the distinct parameters,
    (groups, parameters). That torch itself sums over the rows of a group leaves PyTensor little
    to compile, and the network runs once for each group.
    """

    def _like(self, inputs: Any) -> Any:
        return inputs[:2]

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        observables, parameters, conditions, group, cotangent = (torch.tensor(i) for i in inputs)
        observables.requires_grad_()
        parameters.requires_grad_()
        with torch.enable_grad():
            log_prob = self._log_prob(observables, parameters, conditions, group)
            finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
            # Of a number: torch loads half a second's worth of modules to check a cotangent.
            # Categories enter through an index, which has no slope: zeros, not an error.
            slopes = torch.autograd.grad(
                torch.dot(finite, cotangent), [observables, parameters], materialize_grads=True
            )
        return [log_prob.detach().numpy(), *(slope.numpy() for slope in slopes)]


@_vectorize_node.register(LogDensity)
@_vectorize_node.register(LogDensityAndPullback)
def _as_more_rows(op: _Batched, node: Apply, *batched: Variable) -> Any:
    """A batch of matrices is a matrix of more rows: one call of torch instead of a loop."""
    core = [i.type.ndim for i in node.inputs]
    n_batch = max(b.type.ndim - n for b, n in zip(batched, core, strict=True))
    if n_batch == 0:
        return op.make_node(*batched)
    shapes = [tuple(b.shape)[: b.type.ndim - n] for b, n in zip(batched, core, strict=True)]
    batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
    n_sets = pt.prod(pt.stack(batch))
    n_groups = batched[1].shape[-2] if core[1] == 2 else 1
    flat = []
    for position, (variable, n) in enumerate(zip(batched, core, strict=True)):
        own = tuple(variable.shape)[variable.type.ndim - n :]
        if variable.type.shape[-1] == 0:  # which NumPy cannot reshape
            flat.append(pt.zeros((n_sets * own[0], *own[1:])))
            continue
        full = pt.broadcast_to(variable, (*batch, *own))
        if position == 3:  # each set of the batch has its own groups
            full = full.reshape((n_sets, own[0])) + n_groups * pt.arange(n_sets)[:, None]
        if position == 1:
            flat.append(full.reshape((n_sets * n_groups, own[-1])))
        else:
            flat.append(full.reshape((n_sets * own[0], *own[1:]), ndim=n))
    outputs = op.make_node(*flat).outputs
    rows = tuple(batched[0].shape)[-core[0] :]
    own_shapes = [rows[:1], rows, tuple(batched[1].shape)[-core[1] :]]
    return [
        o.reshape((*batch, *own), ndim=n_batch + len(own))
        for o, own in zip(outputs, own_shapes, strict=False)
    ]


@register_specialize
@node_rewriter([LogDensity])
def share_the_pass(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Take the value from the Op that pulls back too, where there is one."""
    for client, _ in fgraph.clients[node.inputs[1]]:
        if isinstance(getattr(client, "op", None), LogDensityAndPullback) and (
            client.op.frozen == node.op.frozen and client.inputs[:4] == node.inputs
        ):
            # The cotangent of a mixture with lapses depends on the value: that takes two passes.
            cotangent = client.inputs[4]
            if node.outputs[0] not in ancestors([cotangent]):
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
