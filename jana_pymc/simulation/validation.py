"""Checks of data sets: names, shapes, types and values, with messages that say what to do."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import infer_dtype

from jana_pymc.simulation.names import check_complete, names_of
from jana_pymc.simulation.observables import Continuous, Observable

Declared: TypeAlias = Mapping[str, Mapping[str, Observable]]
"""The observables and the conditions, by group and name."""

Columns: TypeAlias = dict[str, NDArray[np.float64]]
"""One array of shape (sets, obs, *shape) for each name."""


def read_one(
    data: Any, declared: Declared, *, structure: str, least: int
) -> tuple[Columns, NDArray[np.int64], bool]:
    """Read one data set as a batch of one, or many vectors or sequences of one length.

    Many have an axis in front of those of one data set. Conditions without it hold for all of them.

    Parameters
    ----------
    data : mapping, DataFrame or Dataset
    declared : mapping
        The observables and the conditions, by group and name, or one of the two.
    structure : str
        As for `DataSchema`; a vector is one value of each, without an axis of observations.
    least : int
        Smallest number of observations that was declared.

    Returns
    -------
    columns : dict of str to ndarray, shape (sets, obs, *shape)
    n_obs : ndarray of int, shape (sets,)
    many : bool
        Whether there was an axis of data sets, even one of length one.

    Raises
    ------
    TypeError, ValueError
        If names, shapes or types do not fit.
    """
    columns, alone = _columns(data, declared, "", structure, structure != "exchangeable")
    many = len(alone) < len(columns)
    if many:
        _spread(columns, alone)
    n_sets, n_obs = len(next(iter(columns.values()))), _common_length(columns, "")
    if structure == "markovian" and n_sets > 1 and n_obs == 1 < least:
        raise ValueError(
            f"the data have shape ({n_sets}, 1), which is that of {n_sets} sequences of one "
            f"observation, but at least {least} were declared; one sequence needs shape (n_obs,)."
        )
    return columns, np.full(n_sets, n_obs), many


def read_many(
    data: Any, declared: Declared, *, structure: str
) -> tuple[Columns, NDArray[np.int64]]:
    """Read a sequence of data sets, or a Dataset with the dimension ``simulation``.

    Parameters
    ----------
    data : sequence of mapping, DataFrame or Dataset; or Dataset
    declared, structure
        As for :func:`read_one`.

    Returns
    -------
    columns : dict of str to ndarray, shape (sets, obs, *shape)
        Beyond a set's own size NaN, or whatever a Dataset holds there.
    n_obs : ndarray of int, shape (sets,)

    Raises
    ------
    TypeError, ValueError
        If names, shapes or types do not fit; the message says in which data set.
    """
    if "simulation" in getattr(data, "dims", ()):
        return _read_dataset(data, declared, structure == "vector")
    if not len(data):
        raise ValueError("the sequence of data sets is empty.")
    rows = [
        _columns(each, declared, f"data set {i}: ", structure)[0] for i, each in enumerate(data)
    ]
    n_obs = np.array([_common_length(row, f"data set {i}: ") for i, row in enumerate(rows)])
    columns = {
        name: np.full((len(rows), max(n_obs), *values.shape[2:]), np.nan)
        for name, values in rows[0].items()
    }
    for i, row in enumerate(rows):
        for name, values in row.items():
            columns[name][i, : values.shape[1]] = values[0]
    return columns, n_obs


def check_values(
    label: str,
    kind: Observable,
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    many: bool,
    advice: str = "Conditions must be known: fill them in.",
) -> None:
    """Raise if a value that is not padding is missing, infinite or outside its constant support.

    Parameters
    ----------
    label : str
        Name of the variable, for the message.
    kind : Continuous, Categorical or Count
    values : ndarray, shape (sets, obs, *shape)
        Padding is set to NaN, in place.
    present : ndarray of bool, shape (sets, obs)
        False for padding.
    many : bool
        Whether the message says in which data set.
    advice : str
        What to do about missing values, for the message; by default that for conditions.

    Raises
    ------
    ValueError
        If there is such a value. The message counts them.
    """
    values[~present] = np.nan
    missing = np.isnan(values) & present.reshape(*present.shape, *(1,) * (values.ndim - 2))
    problems = (
        (missing, "missing (NaN)"),
        (np.isinf(values), "infinite"),
        (kind.outside(values), f"outside its support ({kind.support})"),
    )
    for wrong, problem in problems:
        count = int(wrong.sum())
        if not count:
            continue
        dataset, position, *within = (int(i) for i in np.argwhere(wrong)[0])
        where = f"data set {dataset}, position {position}" if many else f"position {position}"
        if within:
            where += f", component [{', '.join(map(str, within))}]"
        detail = f". {advice}" if wrong is missing else f": {values[dataset, position, *within]:g}."
        raise ValueError(
            f"{label} has {count} {'value' if count == 1 else 'values'} {problem}, "
            f"the first at {where}{detail}"
        )


def missing_advice(kind: Observable) -> str:
    """What to do about missing values of an observable, for messages."""
    leave_out = "leave out exchangeable observations that are incomplete"
    if isinstance(kind, Continuous):
        return f"A likelihood in a PyMC model imputes continuous values; elsewhere, {leave_out}."
    return (
        f"Counts and categories are not imputed: {leave_out}, or in sequences and arrays mark "
        "missing values by a Categorical(2) condition (see 'Missing counts and categories' in the "
        "guide). Do not cut a sequence there: its second part would begin anew."
    )


def check_names(what: str, kinds: Mapping[str, Any], given: Iterable[Hashable]) -> None:
    """Refuse variables that are missing or unknown, with a hint where a table may be wide.

    Parameters
    ----------
    what : str
        What has the names, for the message.
    kinds : mapping of str to Observable
        The expected variables.
    given : iterable of str

    Raises
    ------
    ValueError
        If a name is missing or unknown.
    """
    given = list(given)
    unknown = [name for name in given if name not in kinds]
    for name, kind in kinds.items():
        n_columns = math.prod(kind.shape)
        if name not in given and kind.shape and len(unknown) >= n_columns:
            columns = ", ".join(map(repr, unknown[:2])) + ", ..." * (len(unknown) > 2)
            reshaped = f".reshape(-1, {', '.join(map(str, kind.shape))})" * (len(kind.shape) > 1)
            hint = (
                f"{name} is one array: give {{{name!r}: "
                f"frame[[{columns}]].to_numpy(){reshaped}, ...}}."
            )
            break
    else:
        hint = ""
    check_complete(what, kinds, given, verbs=("lack", "have"), hint=hint)


def _columns(
    data: Any, declared: Declared, prefix: str, structure: str, several: bool = False
) -> tuple[Columns, list[str]]:
    """Arrays (sets, obs, *shape), and names of those that came without an axis of data sets.

    Unless ``several`` are allowed, each array is one data set, and none has that axis.
    """
    available = names_of(data)
    if available is None:
        names = ", ".join(repr(name) + ": ..." for kinds in declared.values() for name in kinds)
        raise TypeError(
            f"{prefix}a data set must be a dict of arrays, a DataFrame or an xarray Dataset, got "
            f"{type(data).__name__}; write {{{names}}}."
        )
    expected = {name: group for group, kinds in declared.items() for name in kinds}
    kinds = {name: declared[group][name] for name, group in expected.items()}
    check_names(f"{prefix}the data", kinds, available)
    own: tuple[str, ...] = () if structure == "vector" else ("n_obs",)
    columns: Columns = {}
    alone: list[str] = []
    given = {}
    for name, group in expected.items():
        label = f"{prefix}{group}[{name!r}]"
        values = as_float(label, data[name])
        shape, given[name] = declared[group][name].shape, values.shape
        if not several or values.ndim <= len(own) + len(shape):
            values = values[None]
            alone.append(name)
        if values.ndim != 1 + len(own) + len(shape) or values.shape[1 + len(own) :] != shape:
            many = (
                f"many need {_written('sets', *own, *shape)} or" if several else "and many go into"
            )
            raise ValueError(
                f"{label} has shape {given[name]}; one data set needs shape "
                f"{_written(*own, *shape)}, {many} a list of data sets."
            )
        columns[name] = values if own else values[:, None]
    having = next((name for name in expected if name not in alone), None)
    lacking = next((name for name in alone if name in declared.get("observables", ())), None)
    if having and lacking:
        raise ValueError(
            f"{having} has shape {given[having]}, with an axis of data sets, but {lacking} has "
            f"shape {given[lacking]}, without; give it to all observables, or for one data set to "
            "none."
        )
    return columns, alone


def _written(*sizes: str | int) -> str:
    """A shape, some of whose sizes are names."""
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(map(str, sizes))})"


def _spread(columns: Columns, alone: list[str]) -> None:
    """Repeat the conditions ``alone``, which hold for all data sets, for each; in place."""
    sizes = {name: len(values) for name, values in columns.items() if name not in alone}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"all variables need the same number of data sets, but {counts}.")
    n_sets = next(iter(sizes.values()))
    if not n_sets:
        raise ValueError("the data hold no data set; at least one is needed.")
    for name in alone:
        columns[name] = np.repeat(columns[name], n_sets, axis=0)


def as_float(
    label: str, values: Any, hint: str = " (categories as integers 0, 1, ...)"
) -> NDArray[np.float64]:
    """Copy real numbers into a float64 array; an error names them by their label.

    Parameters
    ----------
    label : str
        Name of the values, for the message.
    values : array_like
    hint : str
        Added to the message, after the real numbers that it expects.

    Returns
    -------
    ndarray

    Raises
    ------
    TypeError
        If the values are not real numbers, or NumPy cannot read them, as a tensor that requires a
        gradient.
    ValueError
        If the array is masked or ragged.
    """
    if np.ma.is_masked(values):
        raise ValueError(
            f"{label} has masked values; expected numbers, or NaN where values may be missing."
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{label} is no regular array of numbers.") from error
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"{label} is {type(values).__name__} that NumPy cannot read ({error}); expected real "
            "numbers. For a torch tensor give tensor.detach().cpu().numpy()."
        ) from error
    if array.dtype.kind not in "biuf":
        if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
            problem = "category"
            hint = "; give its codes, integers 0, 1, ... (of a Series, .cat.codes)"
        elif array.dtype == object and infer_dtype(array, skipna=True) in ("string", "mixed"):
            problem = "object"
        elif array.dtype == object and pd.isna(array).any():
            problem = "object, with missing values (None or NA)"
            hint = (
                ", or NaN where values may be missing (with pandas, "
                ".to_numpy(float, na_value=numpy.nan))"
            )
        elif array.dtype == object and hasattr(values, "to_numpy"):  # nullable integers
            problem, hint = "object", "; give .to_numpy(float)"
        else:
            problem = str(array.dtype)
        raise TypeError(f"{label} has dtype {problem}; expected real numbers{hint}.")
    return array.astype(np.float64)


def _common_length(columns: Columns, prefix: str) -> int:
    lengths = {name: values.shape[1] for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"{prefix}all variables need the same number of values, but {counts}.")
    length = next(iter(lengths.values()))
    if not length:
        raise ValueError(f"{prefix}the data set is empty; it needs at least one observation.")
    return length


def _read_dataset(data: Any, declared: Declared, vector: bool) -> tuple[Columns, NDArray[np.int64]]:
    """Read a Dataset of many; variables without the dimension of observations are ignored."""
    if vector:
        return _read_vectors(data, declared)
    (first, kind), group = next(
        (item, g) for g, kinds in declared.items() for item in kinds.items()
    )
    if first not in data.data_vars:
        raise ValueError(f"the data lack {first}; they hold {', '.join(map(str, data.data_vars))}.")
    own = [dim for dim in data[first].dims if dim != "simulation"]
    if len(own) != 1 + len(kind.shape) or len(data[first].dims) != 1 + len(own):
        more = "".join(f", '{first}_dim_{i}'" for i in range(len(kind.shape)))
        raise ValueError(
            f"{group}[{first!r}] has dims {data[first].dims}; expected ('simulation', 'obs'{more})."
        )
    of_observations = [n for n in data.data_vars if own[0] in data[n].dims]
    ordered = data[of_observations].transpose("simulation", own[0], ..., missing_dims="ignore")
    expected = {name: group for group, kinds in declared.items() for name in kinds}
    if set(of_observations) != set(expected):
        raise ValueError(
            f"the variables along {own[0]!r} are {', '.join(map(str, of_observations))}; expected "
            f"{', '.join(expected)} and nothing else."
        )
    shape = (data.sizes["simulation"], data.sizes[own[0]])
    columns = {}
    for name, group in expected.items():
        columns[name] = as_float(f"{group}[{name!r}]", ordered[name].values)
        within = declared[group][name].shape
        if columns[name].shape != (*shape, *within):
            needed = f"('simulation', {own[0]!r})" + (f" and shape {within}" if within else "")
            raise ValueError(f"{group}[{name!r}] has dims {ordered[name].dims}; expected {needed}.")
    n_obs = _sizes(data, shape)
    # Of some chosen simulations, none may be as long as the arrays are.
    return {name: values[:, : n_obs.max()] for name, values in columns.items()}, n_obs


def _read_vectors(data: Any, declared: Declared) -> tuple[Columns, NDArray[np.int64]]:
    """Read a Dataset of vectors; others of its variables may be parameters, and are ignored."""
    columns = {}
    for group, kinds in declared.items():
        for name, kind in kinds.items():
            if name not in data.data_vars:
                held = ", ".join(map(str, data.data_vars))
                raise ValueError(f"the data lack {name}; they hold {held}.")
            values = data[name].transpose("simulation", ..., missing_dims="ignore")
            array = as_float(f"{group}[{name!r}]", values.values)
            if array.shape != (data.sizes["simulation"], *kind.shape):
                raise ValueError(
                    f"{group}[{name!r}] has dims {values.dims} and shape {array.shape}; expected "
                    f"'simulation' first, then shape {kind.shape}."
                )
            columns[name] = array[:, None]
    return columns, _sizes(data, (data.sizes["simulation"], 1))


def _sizes(data: Any, shape: tuple[int, int]) -> NDArray[np.int64]:
    n_sets, longest = shape
    if not n_sets or not longest:
        raise ValueError("the Dataset holds no data sets or no observations.")
    if "n_obs" not in data.variables:
        return np.full(n_sets, longest)
    n_obs = np.asarray(data["n_obs"].values)
    if n_obs.dtype.kind not in "iu" or n_obs.shape not in {(), (n_sets,)}:
        raise ValueError(
            f"n_obs has dtype {n_obs.dtype} and shape {n_obs.shape}; expected {n_sets} integers."
        )
    if n_obs.min() < 1 or n_obs.max() > longest:
        raise ValueError(
            f"n_obs ranges from {n_obs.min()} to {n_obs.max()}; the Dataset has room for 1 to "
            f"{longest} observations."
        )
    return np.broadcast_to(n_obs, (n_sets,)).astype(np.int64)
