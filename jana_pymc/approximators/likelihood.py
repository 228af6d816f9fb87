"""The trained likelihood: density, simulator, and random variable."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import torch
from pytensor.tensor.variable import TensorVariable

from jana_pymc.approximators import arguments
from jana_pymc.distribution import Backend, NeuralLikelihood, log_density
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.missing_values import MissingValues
from jana_pymc.pytensor import Contaminant
from jana_pymc.simulation import DataSchema, ParameterLayout

ROWS_AT_ONCE = 200_000
NUMBERS_AT_ONCE = 400_000
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
        tensors = network.state_dict().values()  # type: ignore[attr-defined]
        self.device = next(iter(tensors)).device
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
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
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
            Or a mapping of `pm.Data` of shape (n_obs,). If it holds the declared conditions too,
            they are taken from it. Continuous values that are NaN or masked are imputed: they
            become the free variable ``{name}_unobserved``.
        conditions : the same, with the declared conditions, optional
        dims : str or tuple, optional
            Dimension of the observations. That of the components is added, ``{name}_component``.
        contamination : float or tensor, optional
            Probability that an observation is a lapse, drawn uniformly whatever the parameters:
            a number, a random variable, or one value an observation.
        contaminant : mapping of str to (low, high), optional
            Range of a lapse's continuous components; by default their declared constant bounds.
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
            If a parameter is missing, unknown or no number.
        ValueError
            If the data do not fit the declared observables, or a parameter has not its shape.

        Warns
        -----
        UserWarning
            If a parameter given as a number lies outside the trained region.
        """
        missing = None
        if observed is None:
            known = self._conditions(conditions)
        else:
            observed, conditions = arguments.split_conditions(self.schema, observed, conditions)
            observed, missing = arguments.fill_missing(self.schema, observed)
            observed, known = self._data(observed, conditions)
            self._check_explained(observed, contamination, contaminant)
        _check_dims(parameters, self.layout, observed)
        values = self._parameters(parameters, observed)
        if dims is not None:
            dims = (dims,) if isinstance(dims, str) else tuple(dims)
        if dims is not None and len(dims) == 1:
            components = f"{name}_component"
            pm.modelcontext(None).add_coord(components, tuple(self.schema.observables))
            dims = (*dims, components)
        options: dict[str, Any] = {}
        if missing is not None:
            observed = np.ma.masked_array(observed, missing)
            options["default_transform"] = MissingValues(self, missing)
        likelihood = NeuralLikelihood(
            name,
            self,
            backend,
            values,
            known,
            *self._contamination(contamination, contaminant, observed),
            observed=observed,
            dims=dims,
            **options,
        )
        if missing is not None:
            imputed = pm.modelcontext(None)[f"{name}_unobserved"]
            correction = options["default_transform"].correction(imputed)
            if correction is not None:
                pm.Potential(f"{name}_missing", correction)
        return likelihood

    def dist(
        self,
        *,
        conditions: Any = None,
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
        backend: Backend = "auto",
        size: Any = None,
        **parameters: Any,
    ) -> TensorVariable:
        """Build the random variable outside a model, for `pm.draw` and `pm.logp`.

        Parameters
        ----------
        size : int or tuple, optional
            Number of observations, if the parameters do not say it.
        conditions, contamination, contaminant, backend, **parameters
            As for calling the approximator.
        """
        return NeuralLikelihood.dist(
            self,
            backend,
            self._parameters(parameters),
            self._conditions(conditions),
            *self._contamination(contamination, contaminant),
            size=size,
        )

    def logp(
        self,
        observed: Any,
        *,
        conditions: Any = None,
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
        backend: Backend = "auto",
        **parameters: Any,
    ) -> TensorVariable:
        """Log density of each observation, shape (n_obs,), for `pm.Potential`.

        Arguments as for calling the approximator.
        """
        rows, known = self._data(observed, conditions)
        value, values = pt.as_tensor_variable(rows), self._parameters(parameters, rows)
        lapses = self._contamination(contamination, contaminant, rows)
        return log_density(self, backend, value, values, known, *lapses)

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
        numbers, given = self._data(observed, conditions)
        known = None if given is None else np.asarray(given.data)
        return self.pointwise(numbers, parameters, known)

    def pointwise(
        self, observables: np.ndarray, parameters: np.ndarray, conditions: np.ndarray | None = None
    ) -> np.ndarray:
        """Log densities of the observations of one data set, which is already in arrays.

        Parameters
        ----------
        observables : ndarray, shape (n_obs, components)
            As in a `DataBatch`, without padding; nothing is checked.
        parameters : ndarray, shape (draws, size)
        conditions : ndarray, shape (n_obs, conditions), optional

        Returns
        -------
        ndarray, shape (draws, n_obs)
        """
        rows = torch.tensor(observables)
        known = None if conditions is None else torch.tensor(conditions)
        theta = torch.tensor(np.atleast_2d(np.asarray(parameters, dtype=float)))
        network = self.network.to(self.device)
        parts = []
        for part in theta.split(max(1, NUMBERS_AT_ONCE // max(1, rows.numel()))):
            n = len(part)
            values = network.log_prob(
                rows.expand(n, -1, -1).to(self.device),
                part.to(self.device),
                None if known is None else known.expand(n, -1, -1).to(self.device),
            )
            parts.append(values.detach().cpu().numpy())
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
        theta = torch.tensor(np.atleast_2d(np.asarray(parameters, dtype=float)))
        size = max(1, ROWS_AT_ONCE // n_obs)
        parts = []
        for start in range(0, len(theta), size):
            known = None
            if conditions is not None:
                known = torch.tensor(np.asarray(conditions[start : start + size], dtype=float))
            part = theta[start : start + size]
            parts.append(self.network.sample(part, n_obs, known, generator).numpy())
        return np.concatenate(parts)

    def check_reachable(self, observed: Any) -> None:
        """Refuse data that no trained value of a bounding parameter can explain."""
        arguments.check_reachable(self.schema, self.layout, self.region, observed)

    def _parameters(self, given: Mapping[str, Any], observed: Any = None) -> list[TensorVariable]:
        n_obs = None if observed is None else _n_obs(observed)
        return arguments.ordered_parameters(
            self.layout, self.region, given, n_obs, one_set=observed is not None
        )

    def _data(self, observed: Any, conditions: Any) -> tuple[Any, TensorVariable | None]:
        """Rows of observables and of conditions, which may come together or apart."""
        observed, conditions = arguments.split_conditions(self.schema, observed, conditions)
        rows = arguments.as_rows(self.schema, observed)
        known = self._conditions(conditions)
        n_rows = _n_obs(rows)
        n_known = n_rows if known is None else _n_obs(known)
        if None not in (n_rows, n_known) and n_rows != n_known:
            raise ValueError(
                f"conditions are given for {n_known} observations, but the data have {n_rows}."
            )
        return rows, known

    def _conditions(self, conditions: Any) -> TensorVariable | None:
        kinds = self.schema.conditions
        if not kinds:
            if conditions is not None:
                raise TypeError("the likelihood was trained without conditions; pass none.")
            return None
        if conditions is None:
            raise TypeError(f"the likelihood needs the conditions {', '.join(kinds)}.")
        return pt.as_tensor_variable(arguments.as_rows(self.schema, conditions, conditions=True))

    def _check_explained(self, observed: Any, contamination: Any, contaminant: Any) -> None:
        """Refuse data that neither the likelihood nor a lapse can explain."""
        if contamination is None:
            self.check_reachable(observed)
        elif isinstance(observed, np.ndarray):
            lapses = Contaminant.over(self.schema, contaminant or {})
            inside = ((observed >= lapses.low) & (observed <= lapses.high)).all(axis=1)
            self.check_reachable(observed[~inside])

    def _contamination(
        self,
        contamination: Any,
        contaminant: Mapping[str, tuple[float, float]] | None,
        observed: Any = None,
    ) -> tuple[TensorVariable | None, Contaminant | None]:
        if contamination is None:
            if contaminant is not None:
                raise TypeError("contaminant needs contamination, the probability of a lapse.")
            return None, None
        n_obs = None if observed is None else _n_obs(observed)
        probability = arguments.probability("contamination", contamination, n_obs)
        return probability, Contaminant.over(self.schema, contaminant or {})


def _check_dims(parameters: Mapping[str, Any], layout: ParameterLayout, observed: Any) -> None:
    """Refuse a group parameter without its index, whose length only the model knows."""
    n_obs = None if observed is None else _n_obs(observed)
    model = pm.modelcontext(None)
    for name, value in parameters.items():
        dims = model.named_vars_to_dims.get(getattr(value, "name", None) or "")
        if n_obs is None or not dims or name not in layout.names:
            continue
        if len(dims) != 1 + len(layout.shapes[name]) or model.coords.get(dims[0]) is None:
            continue
        n_groups = len(model.coords[dims[0]])
        if n_groups not in (1, n_obs):
            raise ValueError(
                f"parameter {name!r} has {n_groups} values, one for each {dims[0]}, but there are "
                f"{n_obs} observations; index it by observation, {value.name}[{dims[0]}]."
            )


def _n_obs(rows: Any) -> int | None:
    """Observations, if their number is known before the graph runs."""
    return rows.shape[0] if isinstance(rows, np.ndarray) else rows.type.shape[0]


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
