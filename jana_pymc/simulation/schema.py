"""What a data set looks like, and data sets brought into one padded, validated form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.checks import check_choice, check_count
from jana_pymc.simulation.names import RESERVED, without_index
from jana_pymc.simulation.observables import (
    Categorical,
    Continuous,
    Count,
    Observable,
    observable_from_dict,
    scalar_components,
    split_components,
)
from jana_pymc.simulation.validation import check_values, missing_advice, read_many, read_one
from jana_pymc.warning import warn

STRUCTURES = ("exchangeable", "markovian", "vector")

DATA_DIMS = {"exchangeable": (2,), "vector": (1, 2), "markovian": (2, 3)}
"""Dimensions that an array of data may have, the last being the components.

Exchangeable: (n_obs, components). A vector: (components,), or (sets, components) for many data
sets. A sequence: (n_obs, components), or (sets, n_obs, components).
"""


@dataclass(frozen=True, eq=False)
class DataBatch:
    """Data sets of differing sizes, padded to the largest.

    Parameters
    ----------
    observables : ndarray, shape (sets, obs, components)
        float64, NaN beyond a set's own size. Arrays are flattened: the last axis is that of
        :attr:`DataSchema.components`. A vector data set is one observation.
    conditions : ndarray, shape (sets, obs, conditions)
        float64, NaN beyond a set's own size; the last axis is empty without conditions.
    n_obs : ndarray of int, shape (sets,)
        Number of observations in each set.
    """

    observables: NDArray[np.float64]
    conditions: NDArray[np.float64]
    n_obs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.n_obs)

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> DataBatch:
        """Some of the data sets, by a slice or an array of positions."""
        if isinstance(index, (int, np.integer)):
            raise TypeError(f"a batch is indexed by a slice or an array; write [[{index}]].")
        return DataBatch(self.observables[index], self.conditions[index], self.n_obs[index])

    def resized(self, n_obs: NDArray[np.int64]) -> DataBatch:
        """The first observations of each data set, padded with NaN to the largest.

        Parameters
        ----------
        n_obs : ndarray of int, shape (sets,)
            Number of observations to keep, at most the width of the arrays. It may exceed a set's
            own size only in a batch without padding.

        Returns
        -------
        DataBatch
        """
        sizes = np.minimum(n_obs, self.observables.shape[1])
        beyond = (np.arange(sizes.max()) >= sizes[:, None])[..., None]
        observables, conditions = (
            np.where(beyond, np.nan, each[:, : sizes.max()])
            for each in (self.observables, self.conditions)
        )
        return DataBatch(observables, conditions, sizes)


@dataclass(frozen=True)
class DataSchema:
    """Declaration of a data set: its observables, known conditions, structure and size.

    Parameters
    ----------
    observables : mapping of str to Continuous, Categorical or Count
        Components of one observation, in order; their ``shape`` is that within one observation.
    conditions : mapping of str to Continuous, Categorical or Count, optional
        Covariates known for each observation, in order.
    structure : str
        ``"exchangeable"``: the order of the observations carries no information.
        ``"markovian"``: the observations are a sequence, each depending on those before it.
        ``"vector"``: a data set is one value of each observable, of its declared shape, without
        an axis of observations.
    n_obs : int or tuple of int
        Smallest and largest number of observations in a data set; 1 for a vector.
    order : int, optional
        For a sequence: how many observations back each depends on, given the parameters. 0 for a
        deterministic system that is observed with independent noise, None for all or if unknown.

    Raises
    ------
    TypeError, ValueError
        If the declaration is incomplete or contradicts itself.

    Examples
    --------
    >>> schema = DataSchema({"rt": Continuous(lower=0.0), "response": Categorical(2)}, n_obs=(1, 9))
    >>> batch = schema.batch({"rt": [0.4, 0.9], "response": [1, 0]})
    >>> batch.observables
    array([[[0.4, 1. ],
            [0.9, 0. ]]])
    >>> schema.batch({"rt": [0.4, -0.1], "response": [1, 0]})
    Traceback (most recent call last):
    ...
    ValueError: observables['rt'] has 1 value outside its support (values with lower=0.0), \
the first at position 1: -0.1.
    """

    observables: Mapping[str, Observable]
    conditions: Mapping[str, Observable] = field(default_factory=dict)
    structure: str = "exchangeable"
    n_obs: tuple[int, int] = (1, 1)
    order: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "observables", _declared("observables", self.observables))
        object.__setattr__(self, "conditions", _declared("conditions", self.conditions or {}))
        object.__setattr__(self, "n_obs", size_range(self.n_obs))
        if self.structure == "vector" and self.n_obs != (1, 1):
            raise ValueError(
                f"n_obs={self.n_obs}, but with structure='vector' a data set is one value of each "
                "observable; leave n_obs out, and declare shapes: Continuous(shape=...)."
            )
        if not self.observables:
            raise ValueError("observables is empty; declare at least one component.")
        both = [name for name in self.observables if name in self.conditions]
        if both:
            raise ValueError(f"{', '.join(both)}: declared as observable and as condition.")
        for name, condition in self.conditions.items():
            if condition.bound_parameters:
                raise ValueError(
                    f"conditions[{name!r}] is bounded by the parameter "
                    f"{condition.bound_parameters[0]!r}; a condition is known beforehand, its "
                    "bounds must be constants."
                )
        check_choice("structure", self.structure, STRUCTURES)
        if self.order is not None:
            if not self.is_sequence:
                raise ValueError(
                    f"order={self.order} belongs to structure='markovian', but "
                    f"structure={self.structure!r}; leave it out."
                )
            order = check_count("order", self.order, least=0, other="None")
            object.__setattr__(self, "order", order)

    def __eq__(self, other: object) -> bool:
        """Whether both declare the same, in the same order too, which is that of columns."""
        return isinstance(other, DataSchema) and self._declaration == other._declaration

    @property
    def _declaration(self) -> tuple[Any, ...]:
        groups = (list(each.items()) for each in (self.observables, self.conditions))
        return *groups, self.structure, self.n_obs, self.order

    @property
    def components(self) -> dict[str, Observable]:
        """The single numbers of one observation, by name: the last axis of a batch."""
        return scalar_components(self.observables)

    @property
    def is_sequence(self) -> bool:
        """Whether one log density belongs to all observations of a data set together."""
        return self.structure == "markovian"

    @property
    def event_dims(self) -> int:
        """Dimensions of what one log density belongs to: a row of components, or a sequence."""
        return 2 if self.is_sequence else 1

    @property
    def max_size(self) -> int:
        """How many numbers the largest data set holds."""
        return len(self.components) * self.n_obs[1]

    @property
    def condition_components(self) -> dict[str, Observable]:
        """The single numbers of the conditions of one observation, by name."""
        return scalar_components(self.conditions)

    def array_shape(self, name: str, n_obs: int) -> tuple[int, ...]:
        """Shape of an observable or condition in one data set.

        Parameters
        ----------
        name : str
        n_obs : int
            Number of observations; ignored for a vector.

        Returns
        -------
        tuple of int

        Raises
        ------
        KeyError
            If there is none of that name.
        """
        shape = {**self.observables, **self.conditions}[name].shape
        return shape if self.structure == "vector" else (n_obs, *shape)

    def split_batch(
        self, values: NDArray[Any], kinds: Mapping[str, Observable]
    ) -> dict[str, NDArray[Any]]:
        """Split the arrays of a batch into variables of the shapes that simulators return.

        Parameters
        ----------
        values : ndarray, shape (sets, obs, components)
        kinds : mapping of str to Continuous, Categorical or Count
            The observables or the conditions.

        Returns
        -------
        dict of str to ndarray, shape ``(sets, obs, *shape)``
            Without the axis of observations for vectors.
        """
        return split_components(values[:, 0] if self.structure == "vector" else values, kinds)

    def _named(self, values: NDArray[Any], prefix: str = "") -> dict[str, NDArray[Any]]:
        """Split the columns of an array into the observables."""
        if self.conditions:
            raise TypeError(
                f"{prefix}data are an array without names, which has no room for the conditions "
                f"{', '.join(self.conditions)}; give a mapping or a DataFrame."
            )
        size, dims = len(self.components), DATA_DIMS[self.structure]
        if dims[0] == 2 and size == 1 and values.ndim == 1:
            values = values[:, None]
        if values.ndim not in (dims[:1] if prefix else dims) or values.shape[-1] != size:
            expected = f"(n_obs, {size})" if dims[0] == 2 else f"({size},)"
            array = f", or an array with the axis of data sets before {expected}"
            advice = f" Give many data sets as a list{array if len(dims) > 1 else ''}."
            raise ValueError(
                f"{prefix}an array of one data set has shape {expected}, for "
                f"{', '.join(self.components)}; got {values.shape}.{'' if prefix else advice}"
            )
        return split_components(values, self.observables)

    def batch(self, data: Any, *, check_n_obs: bool = True) -> DataBatch:
        """Bring one data set or many into one padded, validated form.

        Parameters
        ----------
        data : mapping, DataFrame, Dataset, sequence of these, ndarray, Series, or DataBatch
            One data set: one array of shape ``(n_obs, *shape)`` for each observable and condition;
            for a vector of shape ``shape``, and a Series, a row of a DataFrame, will do. An array,
            or a Series without names, is one data set without conditions, (n_obs, components) with
            the components in the order in which they were declared; (components,) for a vector.
            Many: a sequence of data sets, or an xarray Dataset with a dimension ``simulation`` and,
            if their sizes differ, a variable ``n_obs``. Many vectors, and sequences of one length,
            may also have an axis ``sets`` in front of each array, so that a DataFrame has a vector
            in each row; conditions without that axis hold for all data sets.
        check_n_obs : bool
            Warn if a data set is smaller or larger than those declared.

        Returns
        -------
        DataBatch

        Raises
        ------
        TypeError
            If `data` is none of these, or values are not real numbers.
        ValueError
            If a name is missing or unknown, shapes do not fit, values are missing, infinite or
            outside the constant part of their support. The message counts them.

        Warns
        -----
        UserWarning
            If a data set has a number of observations outside the declared range.
        """
        if isinstance(data, DataBatch):
            return data
        data = without_index(data)
        if isinstance(data, np.ndarray):
            data = self._named(data)
        elif is_many(data) and isinstance(data, Sequence):
            data = [
                self._named(each, f"data set {i}: ") if isinstance(each, np.ndarray) else each
                for i, each in enumerate(data)
            ]
        declared = {"observables": self.observables, "conditions": self.conditions}
        arrays, n_obs, _ = self._read(data, declared)
        if check_n_obs:
            self.warn_of_sizes(n_obs)
        return DataBatch(arrays["observables"], arrays["conditions"], n_obs)

    def read_alone(
        self, group: str, data: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
        """Read the observables, or the conditions, as if they were all the data.

        Parameters
        ----------
        group : {"observables", "conditions"}
        data : mapping, DataFrame, Dataset, or sequence of these
            As for `batch`.

        Returns
        -------
        values : ndarray, shape (sets, obs, components)
        n_obs : ndarray of int, shape (sets,)
        many : bool
            Whether the data were given as many data sets, even if there is only one.

        Raises
        ------
        TypeError, ValueError
            As for `batch`.
        """
        arrays, n_obs, many = self._read(data, {group: getattr(self, group)})
        return arrays[group], n_obs, many

    def _read(
        self, data: Any, declared: Mapping[str, Mapping[str, Observable]]
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64], bool]:
        """Validated arrays (sets, obs, components) of each group, sizes, and whether many."""
        if many := is_many(data):
            columns, n_obs = read_many(data, declared, structure=self.structure)
        else:
            columns, n_obs, many = read_one(
                data, declared, structure=self.structure, least=self.n_obs[0]
            )
        present = np.arange(max(n_obs)) < n_obs[:, None]
        arrays = {}
        for group, kinds in declared.items():
            for name, kind in kinds.items():
                advice = {"advice": missing_advice(kind)} if group == "observables" else {}
                check_values(f"{group}[{name!r}]", kind, columns[name], present, many, **advice)
            flat = [columns[name].reshape(*present.shape, -1) for name in kinds]
            arrays[group] = np.concatenate([np.empty((*present.shape, 0)), *flat], axis=-1)
        return arrays, n_obs, many

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form.

        Returns
        -------
        dict
        """
        return {
            "observables": {name: kind.to_dict() for name, kind in self.observables.items()},
            "conditions": {name: kind.to_dict() for name, kind in self.conditions.items()},
            "structure": self.structure,
            "n_obs": list(self.n_obs),
            "order": self.order,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataSchema:
        """Inverse of :meth:`to_dict`.

        Parameters
        ----------
        values : mapping of str to object

        Returns
        -------
        DataSchema

        Raises
        ------
        TypeError, ValueError
            As for the schema itself.
        """
        return cls(
            observables={n: observable_from_dict(v) for n, v in values["observables"].items()},
            conditions={n: observable_from_dict(v) for n, v in values["conditions"].items()},
            structure=values["structure"],
            n_obs=tuple(values["n_obs"]),
            order=values.get("order"),
        )

    def warn_of_sizes(self, n_obs: NDArray[np.int64]) -> None:
        """Say which data sets are smaller or larger than those declared."""
        low, high = self.n_obs
        outside = n_obs[(n_obs < low) | (n_obs > high)]
        if not outside.size:
            return
        sizes = sorted({int(outside.min()), int(outside.max())})
        which = (
            f"{outside.size} of {n_obs.size} data sets have n_obs" if n_obs.size > 1 else "n_obs"
        )
        warn(
            f"{which}={' to '.join(map(str, sizes))}, outside the range {low} to {high} that was "
            "declared and trained on: the amortized posterior extrapolates there.",
        )


def is_many(data: Any) -> bool:
    """Tell many data sets, even a list of one, from one data set.

    Parameters
    ----------
    data : object
        As `DataSchema.batch` takes it, but no DataBatch.

    Returns
    -------
    bool
        True for a sequence, and for a Dataset with the dimension ``simulation``. Arrays that have
        an axis of data sets are recognised only by their declaration.
    """
    if "simulation" in getattr(data, "dims", ()):
        return True
    return isinstance(data, Sequence) and not isinstance(data, (str, bytes))


def size_range(n_obs: Any) -> tuple[int, int]:
    """Smallest and largest number of observations, of one number or of both.

    Parameters
    ----------
    n_obs : int or tuple of int

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        If it is no integer, or no pair of them.
    ValueError
        If one is below 1, or the first is the larger.

    Examples
    --------
    >>> size_range(5), size_range([1, 9])
    ((5, 5), (1, 9))
    """
    pair = "a pair of them, the smallest and the largest"
    if isinstance(n_obs, str) or not isinstance(n_obs, (Sequence, np.ndarray)):
        number = check_count("n_obs", n_obs, other=pair)
        return number, number
    if len(n_obs) != 2:
        raise TypeError(f"n_obs={n_obs!r}: expected an integer, or {pair}.")
    low, high = (check_count(f"n_obs[{i}]", number) for i, number in enumerate(n_obs))
    if low > high:
        raise ValueError(f"n_obs={n_obs!r}: expected the smallest first, then the largest.")
    return low, high


def _declared(what: str, kinds: Any) -> dict[str, Observable]:
    if not isinstance(kinds, Mapping):
        raise TypeError(
            f"{what} must be a dict of names to Continuous, Categorical or Count, got {kinds!r}."
        )
    for name, kind in kinds.items():
        if not isinstance(kind, (Continuous, Categorical, Count)):
            raise TypeError(
                f"{what}[{name!r}] must be Continuous, Categorical or Count, got {kind!r}."
            )
        if name in RESERVED or not isinstance(name, str):
            raise ValueError(f"{what} cannot be named {name!r}; choose another name.")
    return dict(kinds)
