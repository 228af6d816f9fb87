"""Conversion of data and known conditions, as users pass them, to the arrays in PyMC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.raise_op import Assert
from pytensor.tensor.variable import TensorConstant, TensorVariable

from jana_pymc.simulation import DataSchema, Observable, scalar_components, split_components
from jana_pymc.simulation.names import names_of, without_index
from jana_pymc.simulation.schema import DATA_DIMS, is_many
from jana_pymc.simulation.validation import as_float, check_names, read_many


def split_conditions(schema: DataSchema, observed: Any, conditions: Any) -> tuple[Any, Any]:
    """Take the conditions out of data that hold them beside the observables.

    Data sets that an xarray Dataset holds along ``simulation`` become a list, and a Series without
    names an array.
    """
    observed = without_index(observed)
    if "simulation" in getattr(observed, "dims", ()):
        observed = _listed(schema, observed)
    if schema.conditions and conditions is None and are_named_sets(observed):
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
    """Observables, or conditions, as the array that PyMC uses (`DATA_DIMS`).

    Parameters
    ----------
    schema : DataSchema
    data : mapping, DataFrame, Dataset, array, tensor, mapping of tensors, or sequence of mappings
        Arrays and tensors have the components last; the axis of a single component may be left
        out. Many data sets, in a sequence or along a leading axis of each array, are allowed for
        vectors and for sequences of equal length.
    conditions : bool
        Whether the data are conditions.

    Returns
    -------
    ndarray or TensorVariable
        Numbers are checked; for symbolic data only the shape and, for `pymc.Data`, the current
        value.

    Raises
    ------
    TypeError, ValueError
        If the data are not what was declared.
    """
    kinds = schema.conditions if conditions else schema.observables
    data = without_index(data)
    if isinstance(data, Variable):
        return _symbolic(schema, data, conditions)
    named = names_of(data)
    if named is not None and any(isinstance(data[name], Variable) for name in named):
        check_columns(named, kinds, conditions)
        return _join_columns(schema, {name: data[name] for name in kinds}, conditions)
    if named is None and not are_named_sets(data) and isinstance(data, np.ndarray | list | tuple):
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


def _by_name(
    schema: DataSchema, array: np.ndarray, kinds: Mapping[str, Observable]
) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
    """One data set, or a list of many, from an array with the components last."""
    n_components = len(scalar_components(kinds))
    dims = DATA_DIMS[schema.structure]
    array = with_components(schema, array, n_components)
    if array.ndim not in dims or array.shape[-1] != n_components:
        raise ValueError(
            f"the data have shape {array.shape}; expected {_expected(schema, n_components)}, one "
            f"column for each of {', '.join(scalar_components(kinds))}."
        )
    if array.ndim == dims[0]:
        return split_components(array, kinds)
    return [split_components(each, kinds) for each in array]


def with_components(schema: DataSchema, data: Any, n_components: int) -> Any:
    """Add the axis of a single component, where an array or tensor lacks it."""
    alone = data.ndim == 1 and n_components == 1 and schema.structure != "vector"
    return data[:, None] if alone else data


def _symbolic(schema: DataSchema, data: Any, conditions: bool) -> TensorVariable:
    kinds = schema.conditions if conditions else schema.observables
    if hasattr(data, "get_value"):
        as_array(schema, data.get_value(), conditions=conditions)
    elif isinstance(data, TensorConstant):
        return as_array(schema, data.data, conditions=conditions)
    n_components = len(scalar_components(kinds))
    data = with_components(schema, data, n_components)
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


def _expected(schema: DataSchema, n_components: int) -> str:
    one = {
        "exchangeable": f"(n_obs, {n_components})",
        "vector": f"({n_components},) or (sets, {n_components})",
        "markovian": f"(n_obs, {n_components}) or (sets, n_obs, {n_components})",
    }
    return one[schema.structure]


def _value_today(column: Any) -> Any:
    """Value of a `pymc.Data` or an array; None for other symbolic data."""
    if hasattr(column, "get_value"):
        return column.get_value()
    return None if isinstance(column, Variable) else column


def are_named_sets(data: Any) -> bool:
    """Whether these are many data sets with names; numbers in a list are one array."""
    if not isinstance(data, Sequence):
        return is_many(data)
    # A sequence of anything but mappings is an array.
    return is_many(data) and len(data) > 0 and all(names_of(each) is not None for each in data)


def check_columns(named: Iterable[Any], kinds: Mapping[str, Any], conditions: bool) -> None:
    """Refuse observables, or conditions, that are missing or unknown."""
    what = "the conditions" if conditions else "the data"
    check_names(what, kinds, named)
