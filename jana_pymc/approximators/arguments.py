"""What users pass to a likelihood: data, conditions and parameters, checked and in order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorConstant, TensorVariable

from jana_pymc.simulation import Categorical, DataSchema, ParameterLayout


def ordered_parameters(
    layout: ParameterLayout,
    region: np.ndarray,
    given: Mapping[str, Any],
    n_obs: int | None = None,
    one_set: bool = False,
) -> list[TensorVariable]:
    """Tensors of all parameters in the order of the layout.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
        Trained on; numbers outside it are warned of.
    given : mapping of str to number, array or tensor
        A scalar or vector of the parameter's shape, after any dimensions of the observations.
    n_obs : int, optional
        Number of observations, where it is known.
    one_set : bool
        Whether they are for the observations of one data set.

    Raises
    ------
    TypeError
        If a parameter is missing, unknown, or no number.
    ValueError
        If a parameter is NaN or does not have its shape.
    """
    missing = [n for n in layout.names if n not in given]
    unknown = [n for n in given if n not in layout.names]
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        raise TypeError(
            f"the likelihood takes the parameters {', '.join(layout.names)}; {'; '.join(parts)}."
        )
    values = []
    for name in layout.names:
        value = _tensor(name, given[name])
        _check_shape(name, value, layout.shapes[name], n_obs, one_set)
        if isinstance(value, TensorConstant):
            _check_numbers(name, value.data, region[:, layout.slices[name]])
        values.append(value)
    return values


def probability(name: str, value: Any, n_obs: int | None = None) -> TensorVariable:
    """Tensor of a probability, a scalar or one value an observation.

    Raises
    ------
    TypeError, ValueError
        If it is no number, or a number outside 0 to 1.
    """
    tensor = _tensor(name, value)
    if isinstance(tensor, TensorConstant) and not ((tensor.data >= 0) & (tensor.data <= 1)).all():
        raise ValueError(f"{name}={value!r}: expected a probability between 0 and 1.")
    if tensor.ndim > 1:
        raise ValueError(f"{name} has {tensor.ndim} dimensions; expected a scalar or (n_obs,).")
    if tensor.ndim and n_obs is not None and tensor.type.shape[0] not in (None, 1, n_obs):
        raise ValueError(f"{name} has {tensor.type.shape[0]} values for {n_obs} observations.")
    return tensor


def split_conditions(schema: DataSchema, observed: Any, conditions: Any) -> tuple[Any, Any]:
    """Take the conditions out of data that hold them beside the observables."""
    named = _names(observed)
    if not schema.conditions or named is None:
        return observed, conditions
    twice = [name for name in schema.conditions if name in named]
    if conditions is not None and twice:
        raise ValueError(
            f"{', '.join(twice)} given twice: beside the observables and in conditions=."
        )
    if conditions is not None:
        return observed, conditions
    if not all(name in named for name in schema.conditions):
        return observed, conditions
    rest = {name: observed[name] for name in named if name not in schema.conditions}
    return rest, {name: observed[name] for name in schema.conditions}


def as_rows(schema: DataSchema, data: Any, *, conditions: bool = False) -> Any:
    """Observables, or conditions, as one row an observation.

    Parameters
    ----------
    schema : DataSchema
    data : mapping, DataFrame, Dataset, array (n_obs, columns), tensor, or mapping of tensors
        A single column may also be an array or tensor of shape (n_obs,).
    conditions : bool
        Which of the two they are.

    Returns
    -------
    ndarray or TensorVariable, shape (n_obs, columns)
        Numbers are checked; of symbolic data only the shape is, and the value that a `pymc.Data`
        has today.

    Raises
    ------
    TypeError, ValueError
        If the data are not what was declared.
    """
    kinds = schema.conditions if conditions else schema.observables
    if isinstance(data, Variable):
        return _symbolic(schema, data, conditions)
    named = _names(data)
    if named is not None and any(isinstance(data[name], Variable) for name in named):
        _check_columns(named, kinds, conditions)
        columns = [pt.as_tensor_variable(data[name]) for name in kinds]
        for name, column in zip(kinds, columns, strict=True):
            if column.ndim != 1:
                raise ValueError(f"{name!r} has {column.ndim} dimensions; expected (n_obs,).")
        today = {n: _value_today(data[n]) for n in kinds}
        if all(value is not None for value in today.values()):
            _alone(schema, conditions).batch(today, check_n_obs=False)
        return pt.stack([pt.cast(column, "float64") for column in columns], axis=1)
    if isinstance(data, np.ndarray | list | tuple):
        array = np.asarray(data, dtype=float)
        if array.ndim == 1 and len(kinds) == 1:
            array = array[:, None]
        if array.ndim != 2 or array.shape[1] != len(kinds):
            raise ValueError(
                f"the data have shape {array.shape}; expected (n_obs, {len(kinds)}), one "
                f"column for each of {', '.join(kinds)}."
            )
        data = {name: array[:, i] for i, name in enumerate(kinds)}
    elif named is not None:
        _check_columns(named, kinds, conditions)
    return _alone(schema, conditions).batch(data, check_n_obs=False).observables[0]


def fill_missing(schema: DataSchema, data: Any) -> tuple[Any, np.ndarray | None]:
    """Put placeholders into missing values of continuous observables.

    Returns
    -------
    data : the same, or a mapping without missing values
    missing : ndarray of bool, shape (n_obs, components), or None if nothing is missing

    Raises
    ------
    ValueError
        If a categorical value is missing, or every value of an observable.
    """
    named = _names(data)
    if isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == len(schema.observables):
        data_columns = {n: data[:, i] for i, n in enumerate(schema.observables)}
    elif named is not None and set(named) == set(schema.observables):
        data_columns = {name: data[name] for name in schema.observables}
    else:
        return data, None
    columns, masks = {}, []
    for name, kind in schema.observables.items():
        column = data_columns[name]
        if isinstance(column, Variable) or np.asarray(column).dtype.kind not in "biuf":
            return data, None
        mask = np.ma.getmaskarray(column) | np.isnan(np.asarray(column, dtype=float))
        if mask.any() and isinstance(kind, Categorical):
            raise ValueError(
                f"observables[{name!r}] has {mask.sum()} missing values; only continuous "
                "observables can be imputed. Leave such observations out."
            )
        if mask.all():
            raise ValueError(f"every value of observables[{name!r}] is missing.")
        values = np.array(column, dtype=float)
        values[mask] = np.median(values[~mask])
        columns[name] = values
        masks.append(mask)
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1 or not any(mask.any() for mask in masks):
        return data, None
    return columns, np.stack(masks, axis=1)


def check_reachable(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observed: Any
) -> None:
    """Refuse data that no trained value of a bounding parameter can explain.

    Raises
    ------
    ValueError
        If so, naming the observable, its extreme value and the parameter.
    """
    values = observed.get_value() if hasattr(observed, "get_value") else observed
    if not isinstance(values, np.ndarray) or not len(values):
        return
    values = values.reshape(-1, len(schema.observables))
    for column, (name, kind) in enumerate(schema.observables.items()):
        for end, bound, extreme in (
            (0, getattr(kind, "lower", None), np.nanmin(values[:, column])),
            (1, getattr(kind, "upper", None), np.nanmax(values[:, column])),
        ):
            if not isinstance(bound, str):
                continue
            edge = region[end, layout.component_names.index(bound)]
            if (extreme - edge) * (1 - 2 * end) <= 0.0:
                raise ValueError(
                    f"observables[{name!r}] reaches {extreme:.4g}, beyond every {bound} that "
                    f"the likelihood was trained on (from {edge:.4g}): the density would be "
                    "zero everywhere. Remove such observations, or train on a wider proposal."
                )


def _tensor(name: str, value: Any) -> TensorVariable:
    wrong = f"{name!r} is {type(value).__name__}; expected a number, array or tensor."
    if value is None or isinstance(value, str | bytes):
        raise TypeError(wrong)
    try:
        tensor = pt.as_tensor_variable(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(wrong) from error
    if tensor.dtype.startswith(("str", "complex", "object")):
        raise TypeError(wrong)
    return tensor


def _check_shape(
    name: str,
    value: TensorVariable,
    shape: tuple[int, ...],
    n_obs: int | None,
    one_set: bool,
) -> None:
    if value.ndim < len(shape):
        raise ValueError(
            f"parameter {name!r} has {value.ndim} dimensions; expected {len(shape)}, of "
            f"shape {shape}, after those of the observations."
        )
    n_batch = value.ndim - len(shape)
    known = value.type.shape
    own = known[n_batch:]
    if any(size is not None and size != s for size, s in zip(own, shape, strict=True)):
        raise ValueError(f"parameter {name!r} has shape {own}; expected {shape}.")
    if one_set and n_batch > 1:
        raise ValueError(
            f"parameter {name!r} has {value.ndim} dimensions; expected {len(shape)}, or one more "
            "for the observations."
        )
    if n_obs is not None and n_batch and known[n_batch - 1] not in (None, 1, n_obs):
        raise ValueError(
            f"parameter {name!r} has {known[n_batch - 1]} values for {n_obs} observations; "
            "expected one for each observation, or one for all."
        )


def _check_numbers(name: str, value: np.ndarray, region: np.ndarray) -> None:
    if not np.isfinite(value).all():
        raise ValueError(f"parameter {name!r} is NaN or infinite.")
    flat = np.asarray(value, dtype=float).reshape(-1, region.shape[1])
    outside = (flat < region[0]) | (flat > region[1])
    if outside.any():
        column = int(np.argwhere(outside)[0, 1])
        low, high = region[:, column]
        warnings.warn(
            f"parameter {name!r} is {flat[outside][0]:.4g}, outside the trained region from "
            f"{low:.4g} to {high:.4g}: the density is zero there.",
            UserWarning,
            stacklevel=4,
        )


def _symbolic(schema: DataSchema, data: Any, conditions: bool) -> TensorVariable:
    kinds = schema.conditions if conditions else schema.observables
    if hasattr(data, "get_value"):
        as_rows(schema, data.get_value(), conditions=conditions)
    elif isinstance(data, TensorConstant):
        return as_rows(schema, data.data, conditions=conditions)
    if data.ndim == 1 and len(kinds) == 1:
        data = data[:, None]
    if data.ndim != 2 or data.type.shape[1] not in (None, len(kinds)):
        raise ValueError(
            f"symbolic data have {data.ndim} dimensions, of shape {data.type.shape}; expected "
            f"(n_obs, {len(kinds)}), one column for each of {', '.join(kinds)}."
        )
    return data


def _value_today(column: Any) -> Any:
    """What a `pymc.Data` or an array holds; None of other symbolic data."""
    if hasattr(column, "get_value"):
        return column.get_value()
    return None if isinstance(column, Variable) else column


def _names(data: Any) -> list[Any] | None:
    for attribute in ("data_vars", "columns"):  # an xarray Dataset, a DataFrame
        if hasattr(data, attribute):
            return list(getattr(data, attribute))
    return list(data) if isinstance(data, Mapping) else None


def _check_columns(named: Iterable[Any], kinds: Mapping[str, Any], conditions: bool) -> None:
    missing = [name for name in kinds if name not in named]
    unknown = [str(name) for name in named if name not in kinds]
    if not missing and not unknown:
        return
    parts = [f"lack {', '.join(missing)}"] if missing else []
    parts += [f"have the unknown {', '.join(unknown)}"] if unknown else []
    raise ValueError(
        f"the {'conditions' if conditions else 'data'} {' and '.join(parts)}; expected "
        f"{', '.join(kinds)}."
    )


def _alone(schema: DataSchema, conditions: bool) -> DataSchema:
    """Declare the observables, or the conditions, as if they were all the data."""
    kinds = schema.conditions if conditions else schema.observables
    return DataSchema(kinds, structure=schema.structure, n_obs=schema.n_obs)
