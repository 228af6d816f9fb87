"""Data with missing values: where these are, and placeholders until PyMC imputes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pytensor.graph.basic import Variable

from jana_pymc.approximators.observed import are_named_sets, with_components
from jana_pymc.simulation import Continuous, DataSchema, split_components
from jana_pymc.simulation.names import names_of
from jana_pymc.simulation.schema import DATA_DIMS
from jana_pymc.simulation.validation import as_float, missing_advice


def fill_missing(schema: DataSchema, data: Any) -> tuple[Any, np.ndarray | None]:
    """Put placeholders into missing values of continuous observables.

    Returns
    -------
    data : the same, or a mapping or array without missing values
    missing : ndarray of bool, shape (..., components), or None if nothing is missing

    Raises
    ------
    ValueError
        If a count or a category is missing, or every value of an observable: of a vector, which may
        have but one of each, every value of all, or of one that is bounded by a parameter.
    """
    data = _stacked(schema, _as_numbers(schema, data))
    columns = _numeric_columns(schema, data)
    if columns is None:
        return data, None
    filled, masks = {}, []
    for name, kind in schema.observables.items():
        column = columns[name]
        if isinstance(column, np.ma.MaskedArray):
            values = np.ma.filled(column.astype(float), np.nan)
        else:
            values = np.array(as_float(f"observables[{name!r}]", column))
        mask = np.isnan(values)
        if mask.any():
            values[mask] = _placeholder(schema, name, values[~mask], int(mask.sum()))
        filled[name] = values
        n_lead = mask.ndim - len(kind.shape)
        masks.append(mask.reshape(*mask.shape[:n_lead], math.prod(kind.shape)))
    shapes = {mask.shape[:-1] for mask in masks}
    if len(shapes) > 1 or not any(mask.any() for mask in masks):
        return data, None
    missing = np.concatenate(masks, axis=-1)
    if missing.all():
        raise ValueError("every value of the data is missing.")
    if not isinstance(data, np.ndarray):
        return filled, missing
    lead = missing.shape[:-1]
    return np.concatenate([v.reshape(*lead, -1) for v in filled.values()], axis=-1), missing


def _placeholder(schema: DataSchema, name: str, recorded: np.ndarray, n_missing: int) -> float:
    """A value within an observable's support: as one it is checked, and then never read."""
    kind = schema.observables[name]
    if not isinstance(kind, Continuous):
        raise ValueError(
            f"observables[{name!r}] has {n_missing} missing "
            f"{'value' if n_missing == 1 else 'values'}. {missing_advice(kind)}"
        )
    if recorded.size:
        return float(np.median(recorded))
    low, high = kind.lower, kind.upper
    # A vector has one value of each observable, which the other observables can impute.
    if schema.structure != "vector" or isinstance(low, str) or isinstance(high, str):
        raise ValueError(f"every value of observables[{name!r}] is missing.")
    if low is None:
        return 0.0 if high is None else high - 1.0
    return low + 1.0 if high is None else (low + high) / 2.0


def _as_numbers(schema: DataSchema, data: Any) -> Any:
    """Numbers without names as one array with the components last; whatever else as it is."""
    if isinstance(data, list | tuple) and not are_named_sets(data):
        try:
            array = np.ma.asarray(data)  # keeps the masks of arrays in the list
        except (TypeError, ValueError, RuntimeError):  # `as_array` raises a better error
            return data
        data = array if array.dtype.kind in "biuf" else data
    if isinstance(data, np.ndarray):
        return with_components(schema, data, len(schema.components))
    return data


def _stacked(schema: DataSchema, data: Any) -> Any:
    """Data sets of one size as one array, if any of their values are missing; else as they are."""
    if (
        schema.structure == "exchangeable"
        or not isinstance(data, Sequence)
        or not are_named_sets(data)
    ):
        return data
    sets = []
    for each in data:
        columns = _numeric_columns(schema, each)
        if columns is None:
            return data
        lead: tuple[int, ...] = () if schema.structure == "vector" else (-1,)
        parts: list[np.ndarray] = [
            np.ma.filled(np.ma.asarray(column, dtype=float), np.nan).reshape(
                *lead, int(np.prod(schema.observables[name].shape))
            )
            for name, column in columns.items()
        ]
        if len({part.shape[:-1] for part in parts}) > 1:
            return data
        sets.append(np.concatenate(parts, axis=-1))
    if len({each.shape for each in sets}) > 1 or not any(np.isnan(each).any() for each in sets):
        return data
    return np.stack(sets)


def _numeric_columns(schema: DataSchema, data: Any) -> dict[str, Any] | None:
    """One numeric array for each observable, if the data are one such data set."""
    kinds = schema.observables
    named = names_of(data)
    if isinstance(data, np.ndarray):
        fits = data.ndim in DATA_DIMS[schema.structure] and data.shape[-1] == len(schema.components)
        columns: dict[str, Any] = split_components(data, kinds) if fits else {}
    else:
        fits = named is not None and set(named) == set(kinds)
        columns = {name: data[name] for name in kinds} if fits else {}
    for name, column in columns.items():
        if not isinstance(column, Variable) and np.iscomplexobj(column):
            raise TypeError(f"observables[{name!r}] is complex; expected real numbers.")
        if isinstance(column, Variable) or np.asarray(column).dtype.kind not in "biuf":
            return None
    if any(np.ndim(columns[name]) < len(kind.shape) for name, kind in kinds.items() if columns):
        return None
    return columns or None
