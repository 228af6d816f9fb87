"""Data sets from the neural likelihood, in the form of simulations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc import inference_data
from jana_pymc.approximators.beyond_training import warn_of_far_conditions
from jana_pymc.approximators.observed import check_columns
from jana_pymc.checks import check_count
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.simulation import (
    DataBatch,
    DataSchema,
    Simulations,
    random_generator,
    split_components,
)
from jana_pymc.simulation.failures import FailureReport
from jana_pymc.simulation.names import names_of
from jana_pymc.simulation.validation import as_float, check_values

if TYPE_CHECKING:
    from jana_pymc.approximators.joint import JointApproximator


def simulate(
    approximator: JointApproximator,
    parameters: ArrayLike | Mapping[str, ArrayLike],
    n_obs: int | ArrayLike | None = None,
    *,
    conditions: Any = None,
    random_seed: int | np.random.Generator | None = None,
) -> Simulations:
    """See `JointApproximator.simulate`."""
    rng = random_generator(random_seed)
    layout, schema = approximator.layout, approximator.schema
    theta = layout.vectors(parameters)
    if theta.ndim == 0 or theta.ndim > 2 or theta.shape[-1] != layout.size:
        raise ValueError(
            f"parameters have shape {theta.shape} when flattened; expected (sets, "
            f"{layout.size}) or ({layout.size},), for {', '.join(layout.component_names)}."
        )
    theta = theta.reshape(-1, layout.size)
    if not len(theta):
        raise ValueError("parameters hold no vector; expected at least one.")
    if not np.isfinite(theta).all():
        wrong = layout.component_names[int(np.argmax(~np.isfinite(theta).all(0)))]
        raise ValueError(f"parameters: {wrong!r} is NaN or infinite in some of the vectors.")
    known = joined_conditions(conditions, schema)
    if n_obs is None and known is not None and known.ndim > 1 and schema.structure != "vector":
        n_obs = known.shape[-2]
    sizes = _sizes(n_obs, len(theta), schema)
    if known is not None:
        known = checked_conditions(known, approximator.likelihood.network, schema, sizes)
    observables = approximator.likelihood.simulate(
        theta, int(sizes.max()), conditions=known, random_seed=rng
    )
    return Simulations.from_arrays(
        layout.unflatten(theta),
        schema.split_batch(observables, schema.observables),
        {} if known is None else schema.split_batch(known, schema.conditions),
        sizes,
        layout=layout,
        schema=schema,
        source="given",
        failures=FailureReport(0),
    )


def prior_predictive(
    approximator: JointApproximator,
    draws: int = 1000,
    n_obs: int | None = None,
    *,
    conditions: Any = None,
    random_seed: int | np.random.Generator | None = None,
) -> inference_data.ArviZData:
    """See `JointApproximator.prior_predictive`."""
    check_count("draws", draws)
    rng = random_generator(random_seed)
    theta = approximator.prior.draw(draws, rng)
    made = simulate(approximator, theta, n_obs, conditions=conditions, random_seed=rng)
    observables = made.batch().observables[None]
    return inference_data.to_inference_data(
        {
            "prior": inference_data.parameter_dataset(theta[None], approximator.layout),
            "prior_predictive": inference_data.observable_dataset(
                observables,
                approximator.schema.observables,
                structure=approximator.schema.structure,
            ),
        }
    )


def surrogate_batch(
    approximator: JointApproximator,
    parameters: NDArray[np.float64],
    conditions: NDArray[np.float64],
    n_obs: NDArray[np.int64],
    random_seed: int | np.random.Generator | None = None,
) -> DataBatch:
    """Simulate a batch from the likelihood, for given conditions and sizes.

    Parameters
    ----------
    approximator : JointApproximator
    parameters : ndarray, shape (sets, size)
    conditions : ndarray, shape (sets, obs, conditions)
        As in a `DataBatch`, with an empty last axis if there are no conditions.
    n_obs : ndarray of int, shape (sets,)
    random_seed : int or Generator, optional

    Returns
    -------
    DataBatch
    """
    width = conditions.shape[1]
    padding = (np.arange(width) >= n_obs[:, None])[..., None]
    known = _without_padding(conditions, padding) if conditions.shape[-1] else None
    observables = approximator.likelihood.simulate(
        parameters, width, conditions=known, random_seed=random_seed
    )
    return DataBatch(np.where(padding, np.nan, observables), conditions, n_obs)


def _sizes(n_obs: int | ArrayLike | None, n_sets: int, schema: DataSchema) -> NDArray[np.int64]:
    sizes = np.asarray(schema.n_obs[1] if n_obs is None else n_obs)
    if sizes.dtype.kind not in "iu" or sizes.shape not in ((), (n_sets,)) or (sizes < 1).any():
        raise ValueError(f"n_obs={n_obs!r}: expected a positive integer, or one for each data set.")
    if schema.structure == "vector" and (sizes != 1).any():
        raise ValueError(f"n_obs={n_obs!r}: a vector has no number of observations; leave it out.")
    return np.broadcast_to(sizes, n_sets).astype(np.int64)


def checked_conditions(
    values: NDArray[np.float64],
    network: LikelihoodNetwork,
    schema: DataSchema,
    sizes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Known conditions of all data sets, checked.

    Parameters
    ----------
    values : ndarray, shape (n_obs, components) or (sets, n_obs, components)
        As `joined_conditions` returns them.
    network : LikelihoodNetwork
    schema : DataSchema
    sizes : ndarray of int, shape (sets,)
        Observations of each data set.

    Returns
    -------
    ndarray, shape (sets, n_obs, components)

    Raises
    ------
    ValueError
        If they have another shape, or values that were not declared.

    Warns
    -----
    UserWarning
        If they lie far from all simulated conditions.
    """
    n_sets, n_obs, size = len(sizes), int(sizes.max()), len(schema.condition_components)
    if schema.structure == "vector" and values.shape in ((size,), (n_sets, size)):
        values = values[..., None, :]
    if values.shape not in ((n_obs, size), (n_sets, n_obs, size)):
        raise ValueError(
            f"conditions have shape {values.shape}; expected ({n_obs}, {size}), or one such "
            f"array for each of the {n_sets} data sets."
        )
    many = values.ndim == 3
    values = np.array(np.broadcast_to(values, (n_sets, n_obs, size)))
    padding = (np.arange(n_obs) >= sizes[:, None])[..., None] & np.isnan(values)
    values = _without_padding(values, padding)
    present = np.ones((n_sets, n_obs), dtype=bool)
    for name, column in split_components(values, schema.conditions).items():
        check_values(f"conditions[{name!r}]", schema.conditions[name], column, present, many)
    warn_of_far_conditions(network, schema, values)
    return values


def _without_padding(
    conditions: NDArray[np.float64], padding: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Replace padding, which must not reach the network, by any known conditions."""
    return np.where(padding, conditions[:, :1], conditions)


def joined_conditions(conditions: Any, schema: DataSchema) -> NDArray[np.float64] | None:
    """Named or joined conditions as one array with the components last; None if there are none.

    Raises
    ------
    TypeError
        If the model has conditions and none are given, or the other way round.
    ValueError
        If names or shapes differ from those of the model.
    """
    kinds = schema.conditions
    if conditions is None and kinds:
        raise TypeError(
            f"conditions are missing: the likelihood was trained with {', '.join(kinds)}. Give "
            "conditions= as a mapping of each to its values, of one data set or of every one."
        )
    if conditions is None:
        return None
    if not kinds:
        raise TypeError("conditions do not fit: the likelihood was trained without any.")
    named = names_of(conditions)
    if named is None:
        return as_float("conditions", conditions)
    check_columns(named, kinds, conditions=True)
    parts = []
    for name, kind in kinds.items():
        part = as_float(f"conditions[{name!r}]", conditions[name])
        n_lead = part.ndim - len(kind.shape)
        if n_lead < 0 or part.shape[n_lead:] != kind.shape:
            raise ValueError(
                f"conditions[{name!r}] has shape {part.shape}; expected to end in {kind.shape}."
            )
        parts.append(part.reshape(*part.shape[:n_lead], math.prod(kind.shape)))
    leads = {name: part.shape[:-1] for name, part in zip(kinds, parts, strict=True)}
    if len(set(leads.values())) > 1:
        shapes = ", ".join(f"{name} {lead}" for name, lead in leads.items())
        raise ValueError(f"conditions have differing numbers of values: {shapes}.")
    return np.concatenate(parts, -1)
