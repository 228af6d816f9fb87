"""Single numbers of an observable with a shape, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

LEADING = {"chain", "draw", "dataset", "obs", "ahead"}
"""Dimensions that are not an observable's own."""


def find_component(
    source: Mapping[str, ArrayLike] | xr.Dataset, name: str, what: str
) -> ArrayLike | xr.DataArray:
    """Find an observable, or one component of it.

    Parameters
    ----------
    source : mapping of str to array, shape (..., *shape of the observable)
    name : str
        Name of an observable, such as ``"h"``, or of a component, such as ``"h[0]"`` or
        ``"R[0, 1]"``.
    what : str
        What has the observables, for messages.

    Returns
    -------
    array_like, shape (..., *shape of the observable), or (...) for a component

    Raises
    ------
    ValueError
        If there is no such observable or component.
    """
    if name in source:
        return source[name]
    written = re.fullmatch(r"(.+)\[(\d+(?:, ?\d+)*)\]", name)
    if written is None or written[1] not in source:
        raise ValueError(
            f"{what} has no observable {name!r}; choose from {', '.join(map(str, source))}."
        )
    index = tuple(int(i) for i in written[2].split(","))
    given: Any = source[written[1]]
    array: Any = given if isinstance(given, xr.DataArray) else np.asarray(given)
    sizes, dims = array.shape[-len(index) :], getattr(array, "dims", ())[-len(index) :]
    fits = len(sizes) == len(index) and not LEADING.intersection(dims)
    if not fits or any(i >= size for i, size in zip(index, sizes, strict=True)):
        raise ValueError(
            f"{what} has no component {name!r}: {written[1]!r} has the shape {array.shape}"
            + (f", with the dimensions {', '.join(map(str, array.dims))}." if dims else ".")
        )
    component: ArrayLike | xr.DataArray = array[(..., *index)]
    return component
