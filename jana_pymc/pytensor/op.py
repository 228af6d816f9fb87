"""The custom PyTensor Op that evaluates a likelihood network in torch, and its gradient."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

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

from jana_pymc.pytensor._compat import infer_shape_arguments, runs_in_object_mode, with_gradient
from jana_pymc.threads import one_thread
from jana_pymc.trained_likelihood import TrainedLikelihood
from jana_pymc.warning import warn

ROWS_AT_ONCE = 100_000
"""Observations evaluated at once, which bounds the memory."""

_FAILURES: dict[str, BaseException] = {}
"""The latest exception of each network in the current run, by its content hash."""


class _Batched(Op):
    """Base of both Ops: inputs, shapes, batches, and the call into torch.

    Parameters
    ----------
    frozen : TrainedLikelihood
        Compared by content, so that PyTensor never merges two networks into one.
    """

    __props__ = ("frozen",)
    in_numba = False

    def __init__(self, frozen: TrainedLikelihood):
        self.frozen = frozen

    def make_node(self, observables: Any, conditions: Any, group: Any, *others: Any) -> Apply:
        """Apply to rows, or to sequences: the number of dimensions of the observables decides."""
        observables, conditions, *values = (
            pt.cast(pt.as_tensor_variable(i), "float64") for i in (observables, conditions, *others)
        )
        n_dims = 3 if observables.type.ndim == 3 else 2
        for name, variable in {"observables": observables, "conditions": conditions}.items():
            if variable.type.ndim != n_dims:
                raise TypeError(f"{name} has {variable.type.ndim} dimensions, expected {n_dims}.")
        ranks = [parameter.type.ndim for parameter in self._parameters(values)]
        if ranks != [2] and any(ranks):
            raise TypeError(
                f"parameters of {ranks} dimensions; expected one matrix (groups, parameters), "
                "or a number for each parameter."
            )
        index = pt.arange(observables.shape[0]) if group is None else pt.as_tensor_variable(group)
        inputs = [observables, conditions, pt.cast(index, "int64"), *values]
        log_prob = pt.vector(dtype="float64", shape=observables.type.shape[:1])
        return Apply(self, inputs, [log_prob, *(i.type() for i in self._like(inputs))])

    def _parameters(self, others: Sequence[Any]) -> Sequence[Any]:
        """The parameters among the inputs after the group: a matrix, or numbers."""
        return others

    def _like(self, inputs: Any) -> Any:
        """Inputs whose shapes the outputs after the first have."""
        return []

    def infer_shape(self, *arguments: Any) -> list[tuple[Any, ...]]:
        _, shapes = infer_shape_arguments(*arguments)
        return [(shapes[0][0],), *self._like(shapes)]

    def perform(self, node: Apply, inputs: list[np.ndarray], output_storage: Any) -> None:
        """Call torch in one thread."""
        try:
            _check_rows(*inputs[:3])
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

    def _parts(
        self, observables: Tensor, conditions: Tensor, group: Tensor, *others: Tensor
    ) -> Iterator[tuple[Tensor, ...]]:
        """Split the rows into parts that fit into memory.

        Yields
        ------
        own : Tensor of int
            The groups that occur in the part.
        observables, conditions, within, *others : Tensor
            Rows of the part; ``within`` is the position of each row's group in ``own``.
        """
        size = max(1, ROWS_AT_ONCE // max(1, math.prod(observables.shape[1:-1])))
        columns = (observables, conditions, group, *others)
        for rows, known, index, *rest in zip(*(t.split(size) for t in columns), strict=True):
            own, within = torch.unique(index, return_inverse=True)
            yield own, rows, known, within, *rest

    def _on_device(self, *arrays: np.ndarray) -> list[Tensor]:
        return [torch.tensor(array, device=self.frozen.graph_device) for array in arrays]

    def _log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor, group: Tensor
    ) -> Tensor:
        """Log density of each row or sequence, −inf outside the trained region."""
        low, high = torch.from_numpy(self.frozen.region).to(parameters.device)
        inside = ((parameters >= low) & (parameters <= high)).all(-1)
        # Outside the region, evaluate at its edge, since slopes outside need not be finite.
        parameters = torch.where(parameters.isnan(), 0.0, parameters).clamp(low, high)
        known = conditions if conditions.shape[-1] else None
        network = self.frozen.network_on(parameters.device)
        if observables.ndim == 3:
            log_prob = network.log_prob(observables, parameters[group], known).sum(-1)
        else:
            log_prob = network.log_prob_rows(observables, parameters, group, known)
        return torch.where(inside[group], log_prob, -math.inf)


def _check_rows(observables: np.ndarray, conditions: np.ndarray, group: np.ndarray) -> None:
    """Fail where torch would broadcast a single row."""
    n = len(observables)
    for name, rows in (("conditions", conditions), ("the index of the parameters", group)):
        if len(rows) != n:
            raise ValueError(
                f"{name} has {len(rows)} rows for {n} of the observables; exchange both together "
                "in pymc.set_data."
            )


@runs_in_object_mode
@with_gradient
class LogDensity(_Batched):
    """Log density of each row of observables, or of each sequence, given its parameters.

    Inputs: observables (rows, components); conditions (rows, conditions); the group of each row as
    integers (rows,), by default a group per row; and the distinct parameters (groups, parameters),
    or the parameters of a single group as separate numbers. For sequences: observables
    (sets, obs, components), conditions (sets, obs, conditions), and the group of each sequence.
    Output: (rows,) or (sets,), −inf for parameters outside the trained region, where the slopes are
    zero.
    """

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        *rows, parameters = self._on_device(*inputs[:3], _matrix(inputs[3:]))
        with torch.no_grad():
            parts = [
                self._log_prob(observables, parameters[own], conditions, group)
                for own, observables, conditions, group in self._parts(*rows)
            ]
        return [torch.cat(parts).cpu().numpy()]

    def _vjp(
        self, inputs: list[Variable], outputs: list[Variable], cotangents: list[Any]
    ) -> list[Any]:
        # Each run of a sampler that swallows exceptions begins with a new graph of slopes.
        _FAILURES.pop(self.frozen.content_hash, None)
        pullback = LogDensityAndPullback(self.frozen)
        _, d_observables, *d_parameters = pullback(*inputs, *cotangents)
        return [d_observables, disconnected_type(), disconnected_type(), *d_parameters]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[i not in (1, 2)] for i in range(len(node.inputs))]


@runs_in_object_mode
@with_gradient
class LogDensityAndPullback(_Batched):
    """Log density of each row or sequence and its pullback, by one pass through torch.

    Inputs are those of `LogDensity` and a cotangent (rows,). Outputs: log density (rows,), and the
    pullback of the cotangent to the observables, (rows, components), and to the distinct
    parameters, (groups, parameters) or numbers. Torch sums over the rows of a group, so that
    PyTensor has little to compile and the network runs once per group.
    """

    def _parameters(self, others: Sequence[Any]) -> Sequence[Any]:
        return others[:-1]

    def _like(self, inputs: Any) -> Any:
        return [inputs[0], *inputs[3:-1]]

    def _evaluate(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        *rows, cotangent, parameters = self._on_device(
            *inputs[:3], inputs[-1], _matrix(inputs[3:-1])
        )
        log_prob, d_observables, d_parameters = [], [], torch.zeros_like(parameters)
        for own, observables, conditions, group, weight in self._parts(*rows, cotangent):
            theta = parameters[own].requires_grad_()
            observables.requires_grad_()
            with torch.enable_grad():
                values = self._log_prob(observables, theta, conditions, group)
                finite = torch.where(torch.isfinite(values), values, 0.0)
                # The gradient of a number: for a cotangent, torch loads modules for half a second.
                # Categories enter through an index, which has no slope: zeros, not an error.
                by_row, by_group = torch.autograd.grad(
                    torch.dot(finite, weight), [observables, theta], materialize_grads=True
                )
            log_prob.append(values.detach())
            d_observables.append(by_row)
            d_parameters[own] += by_group
        slopes = d_parameters.cpu().numpy()
        by_input = map(np.asarray, slopes[0]) if inputs[3].ndim == 0 else [slopes]
        return [*(torch.cat(each).cpu().numpy() for each in (log_prob, d_observables)), *by_input]

    def _vjp(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        raise NotImplementedError(
            "the Op has no second derivatives; backend='lowering' has, where the likelihood can be "
            "lowered."
        )


def _matrix(parameters: list[np.ndarray]) -> np.ndarray:
    """Distinct parameters (groups, parameters): the input itself, or numbers as a single row."""
    return parameters[0] if parameters[0].ndim else np.array([parameters])


@_vectorize_node.register(LogDensity)
@_vectorize_node.register(LogDensityAndPullback)
def _as_more_rows(op: _Batched, node: Apply, *batched: Variable) -> Any:
    """A batch of matrices is a matrix of more rows: one call of torch instead of a loop."""
    core = [i.type.ndim for i in node.inputs]
    n_batch = max(b.type.ndim - n for b, n in zip(batched, core, strict=True))
    if n_batch == 0:
        return op.make_node(*batched)
    shapes = [_sizes(b)[: b.type.ndim - n] for b, n in zip(batched, core, strict=True)]
    batch = pt.broadcast_shape(*shapes, arrays_are_shapes=True)
    n_sets = pt.prod(pt.stack(batch))
    full = [
        pt.broadcast_to(variable, (*batch, *tuple(variable.shape)[variable.type.ndim - n :]))
        for variable, n in zip(batched, core, strict=True)
    ]
    observables, conditions, group, *others = full
    parameters = op._parameters(others)
    cotangent = others[len(parameters) :]
    numbers = core[3] == 0
    matrices = pt.stack(parameters, axis=-1)[..., None, :] if numbers else parameters[0]
    n_groups = matrices.shape[-2]
    # Each set of the batch has its own groups.
    group = group.reshape((n_sets, group.shape[-1])) + n_groups * pt.arange(n_sets)[:, None]
    outputs = op.make_node(
        _joined(observables, n_batch, n_sets),
        _joined(conditions, n_batch, n_sets),
        group.reshape((-1,)),
        matrices.reshape((n_sets * n_groups, matrices.shape[-1])),
        *(c.reshape((-1,)) for c in cotangent),
    ).outputs
    parts = [outputs[0].reshape(full[2].shape, ndim=n_batch + 1)]
    if len(outputs) > 1:
        parts.append(outputs[1].reshape(observables.shape, ndim=observables.type.ndim))
        slopes = outputs[2].reshape(matrices.shape, ndim=n_batch + 2)
        parts += [slopes[..., 0, i] for i in range(len(parameters))] if numbers else [slopes]
    return parts


def _sizes(variable: Variable) -> list[Any]:
    """The shape, with numbers where it is known: an axis known to be one broadcasts."""
    known = variable.type.shape
    return [n if n is not None else variable.shape[i] for i, n in enumerate(known)]


def _joined(variable: Variable, n_batch: int, n_sets: Variable) -> Variable:
    """Rows of all sets of a batch one after the other."""
    n_rows, *own = tuple(variable.shape)[n_batch:]
    if variable.type.shape[-1] == 0:  # which NumPy cannot reshape
        return pt.zeros((n_sets * n_rows, *own))
    return variable.reshape((n_sets * n_rows, *own), ndim=1 + len(own))


@register_specialize
@node_rewriter([LogDensity])
def share_the_pass(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Take the value from the Op that also computes the pullback, where there is one."""
    for client, _ in fgraph.clients[node.inputs[0]]:
        if isinstance(getattr(client, "op", None), LogDensityAndPullback) and (
            client.op.frozen == node.op.frozen and client.inputs[:-1] == node.inputs
        ):
            # With lapses, the cotangent depends on the value, which takes two passes.
            cotangent = client.inputs[-1]
            if node.outputs[0] not in ancestors([cotangent]):
                return [client.outputs[0]]
    return None


def failure(frozen: TrainedLikelihood) -> BaseException | None:
    """Return and clear the latest exception that a network raised in a graph.

    nutpie treats an exception during sampling as a divergence and continues. Exceptions of earlier
    runs are cleared when a new graph of slopes is built, as at the beginning of a run.
    """
    return _FAILURES.pop(frozen.content_hash, None)


def _keep(frozen: TrainedLikelihood, error: Exception) -> bool:
    """Keep an exception in a thread that cannot raise it, and warn once of each kind.

    nutpie calls compiled code from its own threads. An exception that leaves Python there is
    treated as a divergence, but corrupts the memory in time; NaN is treated as one without harm.
    """
    if threading.current_thread() is threading.main_thread():
        return False
    before = _FAILURES.get(frozen.content_hash)
    _FAILURES[frozen.content_hash] = error
    if before is None or _kind(error) != _kind(before):
        # Must not raise, even if a filter turns warnings into errors.
        with contextlib.suppress(RuntimeWarning):
            warn(
                f"the density of {frozen!r} failed: {type(error).__name__}: {error}; "
                "all later draws are invalid.",
                RuntimeWarning,
            )
    return True


def _kind(error: BaseException) -> tuple[type[BaseException], list[str]]:
    """Type and first line; further lines often hold the numbers of a single draw."""
    return type(error), str(error).splitlines()[:1]
