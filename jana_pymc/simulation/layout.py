"""How named parameters of any shape lie in one flat vector."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.simulation.names import (
    check_complete,
    component_labels,
    component_names,
    unnamed_dims,
)
from jana_pymc.simulation.validation import as_float


@dataclass(frozen=True)
class ParameterLayout:
    """Names, shapes, dims and coords of the parameters, and their order in a flat vector.

    Parameters
    ----------
    names : tuple of str
        In the order of the flat vector.
    shapes : mapping of str to tuple of int
        Constrained shape of each parameter; ``()`` for a scalar.
    dims : mapping of str to tuple of str or None, optional
        Names of the parameter's dimensions; None for a dimension without a name.
    coords : mapping of str to sequence, optional
        Labels along named dimensions.

    Raises
    ------
    TypeError
        If a label in coords is neither a string, nor a number, nor a date.
    ValueError
        If names repeat, or names, shapes, dims and coords do not fit together.

    Examples
    --------
    >>> layout = ParameterLayout(("mu", "beta"), {"mu": (), "beta": (2,)})
    >>> layout.component_names
    ('mu', 'beta[0]', 'beta[1]')
    >>> layout.flatten({"mu": 1.0, "beta": [2.0, 3.0]})
    array([1., 2., 3.])
    >>> layout.unflatten([1.0, 2.0, 3.0])["beta"]
    array([2., 3.])
    """

    names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dims: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = tuple(self.names)
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"parameter names must differ, but {', '.join(repeated)} repeat.")
        check_complete("shapes", names, self.shapes)
        shapes = {name: tuple(int(size) for size in self.shapes[name]) for name in names}
        unknown = set(self.dims) - set(names)
        if unknown:
            raise ValueError(f"dims names unknown parameters: {', '.join(sorted(unknown))}.")
        dims = {name: tuple(self.dims.get(name) or (None,) * len(shapes[name])) for name in names}
        coords = {
            dim: tuple(_plain_label(dim, label) for label in labels)
            for dim, labels in self.coords.items()
        }
        for attribute, value in {
            "names": names,
            "shapes": shapes,
            "dims": dims,
            "coords": coords,
        }.items():
            object.__setattr__(self, attribute, value)
        self._check_sizes()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of components of each parameter."""
        return {name: math.prod(self.shapes[name]) for name in self.names}

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Where each parameter lies in the flat vector."""
        ends = np.cumsum([0, *self.sizes.values()])
        return {
            name: slice(int(start), int(stop))
            for name, start, stop in zip(self.names, ends[:-1], ends[1:], strict=True)
        }

    @property
    def component_names(self) -> tuple[str, ...]:
        """A name for each component of the flat vector: ``v``, ``beta[0]``, ``R[1, 0]``."""
        return tuple(
            component
            for name in self.names
            for component in component_names(name, self.shapes[name])
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """A label for each component, by coords as ArviZ does: ``v``, ``psi[wet]``, ``R[1, left]``.

        Indices stand for coords that are missing or repeat. For figures and tables; files and
        messages about arrays have `component_names`.
        """
        labels: list[str] = []
        for name in self.names:
            axes = [
                np.asarray(self.coords[dim]) if dim and dim in self.coords else range(size)
                for dim, size in zip(self.dims[name], self.shapes[name], strict=True)
            ]
            own = component_labels(name, axes)
            labels += own if len(set(own)) == len(own) else component_names(name, self.shapes[name])
        return tuple(labels)

    def dim_names(self, name: str) -> tuple[str, ...]:
        """Name the dimensions of a parameter, as ArviZ does where the user has not.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of str
        """
        dims = self.dims[name]
        made_up = unnamed_dims(name, len(dims))
        return tuple(dim or new for dim, new in zip(dims, made_up, strict=True))

    def flatten(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Lay named parameters out in flat vectors.

        Parameters
        ----------
        values : mapping of str to array_like, shape (..., *shape of the parameter)
            Every parameter, with the same leading shape.

        Returns
        -------
        ndarray, shape (..., size)

        Raises
        ------
        TypeError
            If `values` have no names, or are not real numbers.
        ValueError
            If a parameter is missing, unknown or has the wrong shape.
        """
        if not hasattr(values, "keys"):  # a DataFrame of draws is no Mapping, but has names
            raise TypeError(
                f"parameters is {type(values).__name__}; expected a mapping with a value for each "
                f"of {', '.join(self.names)}."
            )
        check_complete("parameters", self.names, values.keys())
        arrays = {
            name: as_float(f"parameters[{name!r}]", values[name], hint="") for name in self.names
        }
        batch: tuple[int, ...] | None = None
        flat = []
        for name, array in arrays.items():
            leading = self._leading_shape(name, array.shape)
            if batch is not None and leading != batch:
                raise ValueError(
                    f"parameters[{name!r}] has leading shape {leading}, but "
                    f"parameters[{self.names[0]!r}] has {batch}; they must be the same."
                )
            batch = leading
            flat.append(array.reshape((*leading, self.sizes[name])))
        return np.concatenate(flat, axis=-1) if flat else np.empty(0)

    def vectors(self, values: ArrayLike | Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Flat vectors of parameters that may have names.

        Parameters
        ----------
        values : mapping of str to array_like, or array_like, shape (..., size)
            Values that have names, such as a DataFrame of draws or a row of it, are read by name.

        Returns
        -------
        ndarray
            For an array a copy, whose shape is not checked.

        Raises
        ------
        TypeError, ValueError
            As :meth:`flatten`.
        """
        if hasattr(values, "keys") or hasattr(values, "columns"):
            return self.flatten(values)  # type: ignore[arg-type]
        return np.array(values, dtype=np.float64, order="C")

    def unflatten(self, values: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Name the parts of flat vectors; the inverse of :meth:`flatten`.

        Parameters
        ----------
        values : array_like, shape (..., size)

        Returns
        -------
        dict of str to ndarray, shape (..., *shape of the parameter)
            Views of `values` where NumPy can.

        Raises
        ------
        ValueError
            If the last axis has not the layout's size.
        """
        array = np.asarray(values)
        if array.ndim == 0 or array.shape[-1] != self.size:
            raise ValueError(
                f"parameters have shape {array.shape}; expected (..., {self.size}), the last axis "
                f"holding {', '.join(self.names)}."
            )
        return {
            name: array[..., part].reshape((*array.shape[:-1], *self.shapes[name]))
            for name, part in self.slices.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form.

        Returns
        -------
        dict
        """
        return {
            "names": list(self.names),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "dims": {name: list(dims) for name, dims in self.dims.items()},
            "coords": {
                dim: [_encode_label(label) for label in labels]
                for dim, labels in self.coords.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ParameterLayout:
        """Inverse of :meth:`to_dict`.

        Parameters
        ----------
        values : mapping of str to object

        Returns
        -------
        ParameterLayout

        Raises
        ------
        TypeError, ValueError
            As for the layout itself.
        """
        return cls(
            names=tuple(values["names"]),
            shapes=values["shapes"],
            dims=values["dims"],
            coords={
                dim: tuple(_decode_label(label) for label in labels)
                for dim, labels in values["coords"].items()
            },
        )

    def _leading_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        own = self.shapes[name]
        split = len(shape) - len(own)
        if split < 0 or shape[split:] != own:
            expected = ", ".join(["...", *map(str, own)])
            raise ValueError(f"parameters[{name!r}] has shape {shape}; expected ({expected}).")
        return shape[:split]

    def _check_sizes(self) -> None:
        for name in self.names:
            shape, dims = self.shapes[name], self.dims[name]
            if len(dims) != len(shape):
                raise ValueError(f"parameter {name!r} has shape {shape}, but dims {dims}.")
            for dim, size in zip(dims, shape, strict=True):
                labels = self.coords.get(dim) if dim is not None else None
                if labels is not None and len(labels) != size:
                    raise ValueError(
                        f"parameter {name!r} has {size} components along {dim!r}, but coords has "
                        f"{len(labels)} labels for it."
                    )


def _plain_label(dim: str, label: Any) -> Any:
    """Strip NumPy and pandas off a label, so that it compares and serialises."""
    if isinstance(label, (date, np.datetime64)):  # datetime and pandas.Timestamp are dates, too
        return np.datetime64(label).astype("datetime64[ns]")
    if isinstance(label, np.generic):
        label = label.item()
    if not isinstance(label, (str, int, float)):
        raise TypeError(
            f"coords[{dim!r}] has the label {label!r}; labels must be strings, numbers or dates."
        )
    return label


def _encode_label(label: Any) -> Any:
    return {"datetime64": str(label)} if isinstance(label, np.datetime64) else label


def _decode_label(label: Any) -> Any:
    return np.datetime64(label["datetime64"], "ns") if isinstance(label, dict) else label
