"""The neural likelihood as a PyMC random variable."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import torch
from pymc.distributions.distribution import Distribution, _support_point
from pymc.logprob.abstract import _logprob
from pytensor.graph.basic import Constant
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.pytensor import LogDensity, NoLowering, lower, taken_rows
from jana_pymc.simulation import DataSchema, ParameterLayout

Backend = Literal["auto", "lowering", "op"]
ROWS_AT_ONCE = 200_000
"""Draws times observations evaluated at once, which bounds the memory."""


class LikelihoodApproximator:
    """A trained likelihood network: density, simulator, and random variable.

    Immutable; two compare equal if their weights, parameters and data declaration are the same.
    It pickles and copies without the torch graph.

    Parameters
    ----------
    network : LikelihoodNetwork
        A trained torch module; a copy in double precision is kept, on the CPU.
    layout : ParameterLayout
        Names and shapes of the parameters.
    schema : DataSchema
        Observables and known conditions.
    region : ndarray, shape (2, parameters)
        Smallest and largest value of each parameter trained on. Outside it the log density that
        PyMC sees is −inf: the network was never told what happens there.
    """

    def __init__(
        self,
        network: LikelihoodNetwork,
        layout: ParameterLayout,
        schema: DataSchema,
        region: np.ndarray,
    ):
        self.device = next(network.parameters()).device  # type: ignore[attr-defined]
        frozen = copy.deepcopy(network).to("cpu", torch.float64)  # type: ignore[attr-defined]
        self.network: Any = frozen.eval().requires_grad_(False)
        self.layout = layout
        self.schema = schema
        self.region = np.asarray(region, dtype=float)
        self.content_hash = _content_hash(self.network, layout, schema, self.region)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LikelihoodApproximator) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        return (
            f"LikelihoodApproximator({', '.join(self.schema.observables)} | "
            f"{', '.join(self.layout.names)}; {self.content_hash[:8]})"
        )

    def __call__(
        self,
        name: str,
        *,
        observed: Any = None,
        conditions: Any = None,
        dims: Any = None,
        backend: Backend = "auto",
        **parameters: Any,
    ) -> TensorVariable:
        """Add the likelihood to the PyMC model on the context stack.

        One observation is a row of its components, in the order in which they were declared; the
        log density has one value a row.

        Parameters
        ----------
        name : str
        observed : mapping, DataFrame, Dataset, array (n_obs, components), or pm.Data of that shape
        conditions : the same, with the declared conditions, optional
        dims : str or tuple, optional
            Dimension of the observations. That of the components is added, ``{name}_component``.
        backend : {"auto", "lowering", "op"}
            "lowering" re-expresses the network in PyTensor; "op" calls torch. "auto" takes the
            first where there is one.
        **parameters
            One value for each parameter that the network was trained on: a scalar, one for each
            observation, or group parameters indexed by observation, ``v[subject]``.

        Returns
        -------
        TensorVariable
            The registered random variable, of shape (n_obs, components).

        Raises
        ------
        TypeError
            If a parameter is missing or unknown.
        ValueError
            If the data do not fit the declared observables.
        """
        values = self._in_order(parameters)
        if observed is not None:
            observed = self._array(observed, self.schema.observables)
            self._check_reachable(observed)
        if dims is not None:
            dims = (dims,) if isinstance(dims, str) else tuple(dims)
        if dims is not None and len(dims) == 1:
            components = f"{name}_component"
            pm.modelcontext(None).add_coord(components, tuple(self.schema.observables))
            dims = (*dims, components)
        return NeuralLikelihood(
            name,
            self,
            backend,
            values,
            self._conditions(conditions),
            observed=observed,
            dims=dims,
        )

    def dist(
        self,
        *,
        conditions: Any = None,
        backend: Backend = "auto",
        size: Any = None,
        **parameters: Any,
    ) -> TensorVariable:
        """Build the random variable outside a model, for `pm.draw` and `pm.logp`.

        Parameters
        ----------
        size : int or tuple, optional
            Number of observations, if the parameters do not say it.
        """
        return NeuralLikelihood.dist(
            self, backend, self._in_order(parameters), self._conditions(conditions), size=size
        )

    def logp(
        self, observed: Any, *, conditions: Any = None, backend: Backend = "auto", **parameters: Any
    ) -> TensorVariable:
        """Log density of each observation, shape (n_obs,), for `pm.Potential`.

        Arguments as for calling the approximator.
        """
        value = pt.as_tensor_variable(self._array(observed, self.schema.observables))
        values = [pt.as_tensor_variable(v) for v in self._in_order(parameters)]
        known = self._conditions(conditions)
        return _log_density(self, backend, value, values, known)

    def log_prob(self, observed: Any, parameters: np.ndarray, conditions: Any = None) -> np.ndarray:
        """Log density of each observation under each of many parameter vectors.

        Parameters
        ----------
        observed : mapping, DataFrame, Dataset, or array (n_obs, components)
        parameters : ndarray, shape (draws, size)
            Flattened by `ParameterLayout`.
        conditions : mapping or array (n_obs, conditions), optional

        Returns
        -------
        ndarray, shape (draws, n_obs)
        """
        rows = torch.as_tensor(self._array(observed, self.schema.observables))
        known = self._conditions(conditions)
        known = None if known is None else torch.as_tensor(np.asarray(known.data))
        theta = torch.as_tensor(np.atleast_2d(np.asarray(parameters, dtype=float)))
        network = self.network.to(self.device)
        parts = []
        for part in theta.split(max(1, ROWS_AT_ONCE // max(1, len(rows)))):
            n = len(part)
            values = network.log_prob(
                rows.expand(n, -1, -1).to(self.device),
                part.to(self.device),
                None if known is None else known.expand(n, -1, -1).to(self.device),
            )
            parts.append(values.cpu().numpy())
        self.network.to("cpu")
        return np.concatenate(parts)

    def simulate(
        self,
        parameters: np.ndarray,
        n_obs: int,
        *,
        conditions: np.ndarray | None = None,
        random_seed: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Surrogate data sets.

        Parameters
        ----------
        parameters : ndarray, shape (sets, size)
        n_obs : int
        conditions : ndarray, shape (sets, n_obs, conditions), optional
        random_seed : int or Generator, optional

        Returns
        -------
        ndarray, shape (sets, n_obs, components)
        """
        generator = torch.Generator().manual_seed(
            int(np.random.default_rng(random_seed).integers(2**63))
        )
        theta = torch.as_tensor(np.atleast_2d(np.asarray(parameters, dtype=float)))
        size = max(1, ROWS_AT_ONCE // n_obs)
        parts = []
        for start in range(0, len(theta), size):
            known = None
            if conditions is not None:
                known = torch.as_tensor(np.asarray(conditions[start : start + size], dtype=float))
            part = theta[start : start + size]
            parts.append(self.network.sample(part, n_obs, known, generator).numpy())
        return np.concatenate(parts)

    def _in_order(self, parameters: Mapping[str, Any]) -> list[Any]:
        missing = [n for n in self.layout.names if n not in parameters]
        unknown = [n for n in parameters if n not in self.layout.names]
        if missing or unknown:
            parts = [f"missing: {', '.join(missing)}"] if missing else []
            parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
            raise TypeError(
                f"the likelihood takes the parameters {', '.join(self.layout.names)}; "
                + "; ".join(parts)
                + "."
            )
        return [parameters[n] for n in self.layout.names]

    def _check_reachable(self, observed: Any) -> None:
        """Refuse data that no trained value of a bounding parameter can explain."""
        values = observed.get_value() if hasattr(observed, "get_value") else observed
        if not isinstance(values, np.ndarray) or not len(values):
            return
        for column, (name, kind) in enumerate(self.schema.observables.items()):
            for end, bound, extreme in (
                (0, getattr(kind, "lower", None), values[:, column].min()),
                (1, getattr(kind, "upper", None), values[:, column].max()),
            ):
                if not isinstance(bound, str):
                    continue
                edge = self.region[end, self.layout.component_names.index(bound)]
                if (extreme - edge) * (1 - 2 * end) <= 0.0:
                    raise ValueError(
                        f"observables[{name!r}] reaches {extreme:.4g}, beyond every {bound} that "
                        f"the likelihood was trained on (from {edge:.4g}): the density would be "
                        "zero everywhere. Remove such observations, or train on a wider proposal."
                    )

    def _array(self, data: Any, kinds: Mapping[str, Any]) -> Any:
        """Columns of the data as an array, checked; symbolic data are taken as they are."""
        if isinstance(data, TensorVariable) or hasattr(data, "get_value"):
            if data.ndim != 2:
                raise ValueError(
                    f"symbolic data have {data.ndim} dimensions; expected (n_obs, {len(kinds)})."
                )
            return data
        if isinstance(data, np.ndarray | list | tuple) and not isinstance(data, Mapping):
            array = np.asarray(data, dtype=float)
            if array.ndim != 2 or array.shape[1] != len(kinds):
                raise ValueError(
                    f"the data have shape {array.shape}; expected (n_obs, {len(kinds)}), one "
                    f"column for each of {', '.join(kinds)}."
                )
            data = {name: array[:, i] for i, name in enumerate(kinds)}
        schema = DataSchema(kinds, structure=self.schema.structure, n_obs=self.schema.n_obs)
        return schema.batch(data, check_n_obs=False).observables[0]

    def _conditions(self, conditions: Any) -> TensorVariable | None:
        kinds = self.schema.conditions
        if not kinds:
            if conditions is not None:
                raise TypeError("the likelihood was trained without conditions; pass none.")
            return None
        if conditions is None:
            raise TypeError(f"the likelihood needs the conditions {', '.join(kinds)}.")
        return pt.as_tensor_variable(self._array(conditions, kinds))


class NeuralLikelihoodRV(RandomVariable):
    """Random variable whose law is a likelihood network.

    The approximator is one of the Op's properties, and compares by its weights, so that PyTensor
    neither merges two networks nor keeps a stale one.
    """

    name = "neural_likelihood"
    _print_name = ("NeuralLikelihood", "\\operatorname{NeuralLikelihood}")
    __props__ = ("signature", "inplace", "approximator", "backend")
    ndims_supp = 1

    def __init__(
        self,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        signature: str | None = None,
        inplace: bool = False,
    ):
        self.approximator = approximator
        self.backend = backend
        super().__init__(
            signature=signature or _signature(approximator), dtype="float64", inplace=inplace
        )

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate by the network; many observations of equal parameters share its work."""
        *values, size = arguments
        approximator = self.approximator
        known = values.pop() if approximator.schema.conditions else None
        shapes = tuple(approximator.layout.shapes.values())
        batches = [v.shape[: v.ndim - len(s)] for v, s in zip(values, shapes, strict=True)]
        if known is not None:
            batches.append(known.shape[:-1])
        batch = np.broadcast_shapes(*batches) if size is None else tuple(size)
        n_rows = int(np.prod(batch))
        one_theta = all(np.prod(b) == 1 for b in batches)
        flat = approximator.layout.flatten(
            {
                name: v.reshape(s) if one_theta else np.broadcast_to(v, (*batch, *s))
                for name, v, s in zip(approximator.layout.names, values, shapes, strict=True)
            }
        )
        if one_theta and known is None:
            drawn = approximator.simulate(flat.reshape(1, -1), n_rows, random_seed=rng)
        else:
            rows = np.broadcast_to(flat, (*batch, flat.shape[-1])).reshape(n_rows, -1)
            if known is not None:
                known = np.broadcast_to(known, (*batch, known.shape[-1])).reshape(n_rows, 1, -1)
            drawn = approximator.simulate(rows, 1, conditions=known, random_seed=rng)
        return drawn.reshape(*batch, -1)


class NeuralLikelihood(Distribution):
    """PyMC distribution behind `LikelihoodApproximator.__call__`."""

    rv_type = NeuralLikelihoodRV

    @classmethod
    def dist(
        cls,
        approximator: LikelihoodApproximator,
        backend: Backend,
        parameters: list[Any],
        conditions: TensorVariable | None,
        **kwargs: Any,
    ) -> TensorVariable:
        if backend not in ("auto", "lowering", "op"):
            raise ValueError(f"backend={backend!r} is not 'auto', 'lowering' or 'op'.")
        values = [pt.as_tensor_variable(p) for p in parameters]
        for name, value, shape in zip(
            approximator.layout.names, values, approximator.layout.shapes.values(), strict=True
        ):
            if value.ndim < len(shape):
                raise ValueError(
                    f"parameter {name!r} has {value.ndim} dimensions; expected {len(shape)}, of "
                    f"shape {shape}, after those of the observations."
                )
        if conditions is not None:
            values.append(conditions)
        return super().dist(
            [pt.cast(v, "float64") for v in values],
            approximator=approximator,
            backend=backend,
            **kwargs,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: TensorVariable,
        approximator: LikelihoodApproximator,
        backend: Backend = "auto",
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        return NeuralLikelihoodRV(approximator, backend)(*parameters, size=size, rng=rng)


@_logprob.register(NeuralLikelihoodRV)
def _neural_logprob(
    op: NeuralLikelihoodRV, values: Any, rng: Any, size: Any, *inputs: Any, **kwargs: Any
) -> TensorVariable:
    (value,) = values
    known = inputs[-1] if op.approximator.schema.conditions else None
    parameters = inputs[: len(op.approximator.layout.names)]
    return _log_density(op.approximator, op.backend, value, parameters, known)


@_support_point.register(NeuralLikelihoodRV)
def _neural_support_point(
    op: NeuralLikelihoodRV, rv: TensorVariable, rng: Any, size: Any, *inputs: Any
) -> TensorVariable:
    """A simulated value: inside the support whatever the parameters."""
    return rv


def _log_density(
    approximator: LikelihoodApproximator,
    backend: Backend,
    value: TensorVariable,
    parameters: Any,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Log density over the leading dimensions of ``value``, −inf outside the trained region."""
    batch = value.shape[:-1]
    n_batch = value.ndim - 1
    observables = value if n_batch == 1 else value.reshape((-1, value.shape[-1]))
    if conditions is not None and n_batch != 1:
        conditions = conditions.reshape((-1, conditions.shape[-1]))
    matrix, group = _distinct(approximator.layout, parameters, batch, n_batch)
    low, high = (pt.constant(end) for end in approximator.region)
    trained = pt.all((matrix >= low) & (matrix <= high), axis=1)
    log_prob = _evaluate(approximator, backend, observables, matrix, group, conditions)
    log_prob = pt.switch(trained[0] if group is None else trained[group], log_prob, -np.inf)
    return log_prob if n_batch == 1 else log_prob.reshape(batch, ndim=n_batch)


def _evaluate(
    approximator: LikelihoodApproximator,
    backend: Backend,
    observables: TensorVariable,
    matrix: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    if backend != "op":
        try:
            return lower(approximator.network, observables, matrix, group, conditions)
        except NoLowering:
            if backend == "lowering":
                raise
    n_rows = observables.shape[0]
    shared = group is None
    rows = pt.broadcast_to(matrix, (n_rows, matrix.shape[1])) if shared else matrix[group]
    known = pt.zeros((n_rows, 0)) if conditions is None else conditions
    return LogDensity(approximator)(observables, rows, known)


def _distinct(
    layout: ParameterLayout, parameters: Any, batch: Any, n_batch: int
) -> tuple[TensorVariable, TensorVariable | None]:
    """Distinct parameter vectors (groups, size) and each row's group; None for a single one."""
    scalar = [
        all(p.type.broadcastable[: p.ndim - len(s)])
        for p, s in zip(parameters, layout.shapes.values(), strict=True)
    ]
    if all(scalar):
        flat = [p.reshape((1, -1)) for p in parameters]
        return pt.concatenate(flat, axis=1), None
    index = _common_index(layout, parameters, scalar) if n_batch == 1 else None
    columns = []
    if index is not None:
        sources = [
            p if s else taken_rows(p)[0]  # type: ignore[index]
            for p, s in zip(parameters, scalar, strict=True)
        ]
        n_groups = next(v.shape[0] for v, s in zip(sources, scalar, strict=True) if not s)
        for source, shape in zip(sources, layout.shapes.values(), strict=True):
            columns.append(_as_rows(source, shape, (n_groups,)))
        return pt.concatenate(columns, axis=1), index
    for p, shape in zip(parameters, layout.shapes.values(), strict=True):
        columns.append(_as_rows(p, shape, batch))
    return pt.concatenate(columns, axis=1), pt.arange(columns[0].shape[0])


def _as_rows(p: TensorVariable, shape: tuple[int, ...], batch: Any) -> TensorVariable:
    full = pt.broadcast_to(p, (*batch, *shape))
    return full.reshape((-1, int(np.prod(shape))))


def _common_index(
    layout: ParameterLayout, parameters: Any, scalar: list[bool]
) -> TensorVariable | None:
    """The index if every parameter that varies is ``x[index]`` with one and the same index."""
    found = None
    for p, shape, is_scalar in zip(parameters, layout.shapes.values(), scalar, strict=True):
        if is_scalar:
            continue
        taken = taken_rows(p)
        if taken is None or taken[0].ndim != 1 + len(shape):
            return None
        if found is not None and not _same(found, taken[1]):
            return None
        found = taken[1]
    return found


def _same(first: TensorVariable, second: TensorVariable) -> bool:
    if isinstance(first, Constant) and isinstance(second, Constant):
        return np.array_equal(first.data, second.data)
    return first is second


def _signature(approximator: LikelihoodApproximator) -> str:
    inputs = [f"({','.join(map(str, shape))})" for shape in approximator.layout.shapes.values()]
    if approximator.schema.conditions:
        inputs.append(f"({len(approximator.schema.conditions)})")
    return f"{','.join(inputs)}->({len(approximator.schema.observables)})"


def _content_hash(
    network: Any, layout: ParameterLayout, schema: DataSchema, region: np.ndarray
) -> str:
    digest = hashlib.sha256(repr((type(network), network)).encode())
    digest.update(repr((layout.to_dict(), schema.to_dict())).encode())
    digest.update(region.tobytes())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
