"""Data and known conditions as users pass them, brought into the array that PyMC sees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import Assert
from pytensor.tensor.variable import TensorConstant, TensorVariable

from jana_pymc.simulation import (
    Continuous,
    DataSchema,
    Observable,
    ParameterLayout,
    scalar_components,
    split_components,
)
from jana_pymc.simulation.names import check_complete, names_of
from jana_pymc.simulation.schema import DATA_DIMS, is_many
from jana_pymc.simulation.validation import as_float, read_many
from jana_pymc.warning import warn

FAR = 8.0
"""Standard deviations of the simulated conditions beyond which a condition is unheard of."""

EVENT_DIMS = {"exchangeable": 1, "vector": 1, "markovian": 2}
"""Last dimensions of the data that one log density belongs to."""


def split_conditions(schema: DataSchema, observed: Any, conditions: Any) -> tuple[Any, Any]:
    """Take the conditions out of data that hold them beside the observables.

    Data sets that an xarray Dataset holds along ``simulation`` become a list.
    """
    if "simulation" in getattr(observed, "dims", ()):
        observed = _listed(schema, observed)
    if schema.conditions and conditions is None and _is_many(observed):
        pairs = [split_conditions(schema, each, None) for each in observed]
        if pairs and all(known is not None for _, known in pairs):
            return [rest for rest, _ in pairs], [known for _, known in pairs]
    named = names_of(observed)
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


def _listed(schema: DataSchema, data: Any) -> list[dict[str, np.ndarray]]:
    """The data sets of a Dataset one by one, without conditions if it does not hold them."""
    declared = {"observables": schema.observables}
    if all(name in data.data_vars for name in schema.conditions):
        declared["conditions"] = schema.conditions
    columns, n_obs = read_many(data, declared, structure=schema.structure)
    if schema.structure == "vector":
        return [{name: v[i, 0] for name, v in columns.items()} for i in range(len(n_obs))]
    return [{name: v[i, :n] for name, v in columns.items()} for i, n in enumerate(n_obs)]


def as_array(schema: DataSchema, data: Any, *, conditions: bool = False) -> Any:
    """Observables, or conditions, as the array that PyMC sees (`DATA_DIMS`).

    Parameters
    ----------
    schema : DataSchema
    data : mapping, DataFrame, Dataset, array, tensor, mapping of tensors, or sequence of mappings
        Arrays and tensors have the components last; a single one may be left out. Many data sets,
        in a sequence or by an axis in front of each array, are for vectors and for sequences of
        equal length.
    conditions : bool
        Which of the two they are.

    Returns
    -------
    ndarray or TensorVariable
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
    named = names_of(data)
    if named is not None and any(isinstance(data[name], Variable) for name in named):
        check_columns(named, kinds, conditions)
        return _join_columns(schema, {name: data[name] for name in kinds}, conditions)
    if named is None and not _is_many(data) and isinstance(data, np.ndarray | list | tuple):
        label = "the array of conditions" if conditions else "the array of data"
        data = _by_name(schema, as_float(label, data), kinds)
    elif named is not None and "simulation" not in getattr(data, "dims", ()):
        check_columns(named, kinds, conditions)
    values, n_obs, many = schema.read_alone("conditions" if conditions else "observables", data)
    if schema.structure == "vector":
        values = values[:, 0]
    if not many:
        return values[0]
    if schema.structure == "exchangeable":
        raise ValueError(
            f"{len(values)} data sets; a likelihood takes the observations of one. Add one for "
            "each data set, or join their observations and index the parameters by observation."
        )
    if len(set(n_obs)) > 1:
        raise ValueError(
            f"the sequences have {n_obs.min()} to {n_obs.max()} observations; those of one "
            "likelihood must be of equal length. Add one likelihood for each length."
        )
    return values


def fill_missing(schema: DataSchema, data: Any) -> tuple[Any, np.ndarray | None]:
    """Put placeholders into missing values of continuous observables.

    Returns
    -------
    data : the same, or a mapping or array without missing values
    missing : ndarray of bool, shape (..., components), or None if nothing is missing

    Raises
    ------
    ValueError
        If a categorical value is missing, or every value of an observable: of a vector, which may
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
            f"observables[{name!r}] has {n_missing} missing values; only continuous "
            "observables can be imputed. Leave such observations out; cut a sequence there."
        )
    if recorded.size:
        return float(np.median(recorded))
    low, high = kind.lower, kind.upper
    # One vector has one value of each observable, and so tells of it by the others.
    if schema.structure != "vector" or isinstance(low, str) or isinstance(high, str):
        raise ValueError(f"every value of observables[{name!r}] is missing.")
    if low is None:
        return 0.0 if high is None else high - 1.0
    return low + 1.0 if high is None else (low + high) / 2.0


def check_reachable(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observed: Any
) -> None:
    """Refuse data that no trained value of a bounding parameter can explain.

    Raises
    ------
    ValueError
        If so, naming the observable, its extreme value and the parameter; of many data sets the
        first one's, and its position.
    """
    values = observed.get_value() if hasattr(observed, "get_value") else observed
    if not isinstance(values, np.ndarray) or not values.size:
        return
    n_sets = len(values) if values.ndim == 3 else 1
    values = values.reshape(n_sets, -1, len(schema.components))
    for name, bound, edge, reached, beyond in _extremes(schema, layout, region, values):
        if beyond.any():
            first = int(beyond.argmax())
            which = f" of data set {first}" if n_sets > 1 else ""
            raise ValueError(
                f"observables[{name!r}]{which} reaches {reached[first]:.4g}, beyond every "
                f"{bound} that the likelihood was trained on (from {edge:.4g}): the density "
                "would be zero everywhere. Remove such observations, or train on a wider "
                "proposal."
            )


def reachable(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observables: np.ndarray
) -> np.ndarray:
    """Which data sets `check_reachable` would not refuse; see `LikelihoodApproximator`."""
    possible = np.ones(len(observables), dtype=bool)
    for *_, beyond in _extremes(schema, layout, region, observables):
        possible &= ~beyond
    return possible


def _extremes(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observables: np.ndarray
) -> Iterator[tuple[str, str, float, np.ndarray, np.ndarray]]:
    """Components that a parameter bounds, and how far each of the data sets goes there.

    Yields
    ------
    name, bound : str
        The component and its parameter.
    edge : float
        The parameter's trained value that leaves the most room.
    reached : ndarray, shape (sets,)
        Smallest or largest value of the component.
    beyond : ndarray of bool, shape (sets,)
        Whether that is at the edge, or beyond.
    """
    for column, (name, kind) in enumerate(schema.components.items()):
        for end, bound, extreme in (
            (0, getattr(kind, "lower", None), np.nanmin),
            (1, getattr(kind, "upper", None), np.nanmax),
        ):
            if isinstance(bound, str):
                edge = float(region[end, layout.component_names.index(bound)])
                reached = extreme(observables[..., column], axis=1)
                yield name, bound, edge, reached, (reached - edge) * (1 - 2 * end) <= 0.0


def warn_of_far_conditions(network: Any, schema: DataSchema, conditions: Any) -> None:
    """Say which conditions are farther out than any that were simulated, if known.

    Parameters
    ----------
    network : LikelihoodNetwork
        That knows their mean and standard deviation.
    schema : DataSchema
    conditions : ndarray, shape (..., conditions), or symbolic data, of which nothing is said

    Warns
    -----
    UserWarning
    """
    names = list(schema.condition_components)
    if not isinstance(conditions, np.ndarray):
        return
    constant = getattr(network, "constant_conditions", {})
    for name, value in constant.items():
        column = conditions.reshape(-1, len(names))[:, names.index(name)]
        other = column[~np.isclose(column, value, rtol=1e-6, atol=0.0)]  # of single precision
        if other.size:
            warn(
                f"the condition {name!r} reaches {other[0]:.6g}, but was {value:.6g} throughout "
                "training: the networks know nothing of what it does; train on a wider design.",
            )
    if not hasattr(network, "condition_mean"):
        return
    mean, sd = (each.cpu().numpy() for each in (network.condition_mean, network.condition_sd))
    if not conditions.size or len(mean) != len(names):  # a network of whole sequences
        return
    flat = conditions.reshape(-1, len(names))
    distance = np.abs(flat - mean) / sd
    for i, name in enumerate(names):
        worst = distance[:, i].argmax()
        if distance[worst, i] > FAR and name not in constant:
            warn(
                f"the condition {name!r} reaches {flat[worst, i]:.4g}, but was {mean[i]:.4g} ± "
                f"{sd[i]:.4g} in training: the networks extrapolate there; train on a "
                "wider design.",
            )


def _by_name(
    schema: DataSchema, array: np.ndarray, kinds: Mapping[str, Observable]
) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
    """One data set, or a list of many, from an array with the components last."""
    n_components = len(scalar_components(kinds))
    dims = DATA_DIMS[schema.structure]
    array = _with_components(schema, array, n_components)
    if array.ndim not in dims or array.shape[-1] != n_components:
        raise ValueError(
            f"the data have shape {array.shape}; expected {_expected(schema, n_components)}, one "
            f"column for each of {', '.join(scalar_components(kinds))}."
        )
    if array.ndim == dims[0]:
        return split_components(array, kinds)
    return [split_components(each, kinds) for each in array]


def _with_components(schema: DataSchema, data: Any, n_components: int) -> Any:
    """Give the only component of observations its axis, where an array or tensor lacks it."""
    alone = data.ndim == 1 and n_components == 1 and schema.structure != "vector"
    return data[:, None] if alone else data


def _symbolic(schema: DataSchema, data: Any, conditions: bool) -> TensorVariable:
    kinds = schema.conditions if conditions else schema.observables
    if hasattr(data, "get_value"):
        as_array(schema, data.get_value(), conditions=conditions)
    elif isinstance(data, TensorConstant):
        return as_array(schema, data.data, conditions=conditions)
    n_components = len(scalar_components(kinds))
    data = _with_components(schema, data, n_components)
    dims = DATA_DIMS[schema.structure]
    if data.ndim not in dims or data.type.shape[-1] not in (None, n_components):
        raise ValueError(
            f"symbolic data have {data.ndim} dimensions, of shape {data.type.shape}; expected "
            f"{_expected(schema, n_components)}, one column for each of "
            f"{', '.join(scalar_components(kinds))}."
        )
    return data


def _join_columns(
    schema: DataSchema, columns: Mapping[str, Any], conditions: bool
) -> TensorVariable:
    """One tensor from a tensor for each name, all with the same leading dimensions."""
    kinds = schema.conditions if conditions else schema.observables
    dims = tuple(n - 1 for n in DATA_DIMS[schema.structure])
    tensors = {name: pt.as_tensor_variable(columns[name]) for name in kinds}
    leading = {name: tensors[name].ndim - len(kind.shape) for name, kind in kinds.items()}
    for name, kind in kinds.items():
        if leading[name] not in dims:
            sizes = ["n_obs"] * (schema.structure != "vector") + [str(n) for n in kind.shape]
            raise ValueError(
                f"{name!r} has {tensors[name].ndim} dimensions; expected ({', '.join(sizes)}"
                f"{',' * (len(sizes) == 1)})."
            )
    first = max(leading, key=leading.__getitem__)
    for name, n_lead in leading.items():
        if n_lead < leading[first] and not conditions:
            raise ValueError(
                f"{first!r} has {tensors[first].ndim} dimensions, with an axis of data sets, but "
                f"{name!r} has {tensors[name].ndim}, without; give it to all observables, or for "
                "one data set to none."
            )
    today = {name: _value_today(columns[name]) for name in kinds}
    if all(value is not None for value in today.values()):
        schema.read_alone("conditions" if conditions else "observables", today)
    all_lead = tuple(tensors[first].shape)[: leading[first]]
    parts = []
    for name, n_lead in leading.items():
        own = tuple(tensors[name].shape)
        column = pt.cast(tensors[name], "float64")
        if name != first and n_lead:
            # `pymc.set_data` exchanges one column at a time.
            message = f"{name!r} and {first!r} have different numbers of values."
            pairs = zip(own[:n_lead], all_lead[-n_lead:], strict=True)
            column = Assert(message)(column, *(pt.eq(n, m) for n, m in pairs))
        if n_lead < len(all_lead):  # a condition of all data sets
            column = pt.broadcast_to(column, (*all_lead, *own[n_lead:]))
        parts.append(column.reshape((*all_lead, int(np.prod(kinds[name].shape)))))
    return pt.concatenate(parts, axis=-1)


def _as_numbers(schema: DataSchema, data: Any) -> Any:
    """Numbers without names as one array with the components last; whatever else as it is."""
    if isinstance(data, list | tuple) and not _is_many(data):
        try:
            array = np.ma.asarray(data)  # which keeps the masks of what is in the list
        except (TypeError, ValueError, RuntimeError):  # `as_array` says what is wrong with it
            return data
        data = array if array.dtype.kind in "biuf" else data
    if isinstance(data, np.ndarray):
        return _with_components(schema, data, len(schema.components))
    return data


def _stacked(schema: DataSchema, data: Any) -> Any:
    """Data sets of one size as one array, if any of their values are missing; else as they are."""
    if schema.structure == "exchangeable" or not isinstance(data, Sequence) or not _is_many(data):
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


def _expected(schema: DataSchema, n_components: int) -> str:
    one = {
        "exchangeable": f"(n_obs, {n_components})",
        "vector": f"({n_components},) or (sets, {n_components})",
        "markovian": f"(n_obs, {n_components}) or (sets, n_obs, {n_components})",
    }
    return one[schema.structure]


def _value_today(column: Any) -> Any:
    """What a `pymc.Data` or an array holds; None of other symbolic data."""
    if hasattr(column, "get_value"):
        return column.get_value()
    return None if isinstance(column, Variable) else column


def _is_many(data: Any) -> bool:
    """Whether these are many data sets with names; numbers in a list are one array."""
    if not isinstance(data, Sequence):
        return is_many(data)
    # A sequence of anything but mappings is an array.
    return is_many(data) and len(data) > 0 and all(names_of(each) is not None for each in data)


def check_columns(named: Iterable[Any], kinds: Mapping[str, Any], conditions: bool) -> None:
    """Refuse observables, or conditions, that are missing or unknown."""
    what = "the conditions" if conditions else "the data"
    check_complete(what, kinds, named, verbs=("lack", "have"))
