"""What a user's simulator or design returned: names, numbers, shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.simulation.observables import LARGEST_COUNT, Categorical, Count, Observable


def check_names(function: str, output: Any, declared: Iterable[str]) -> None:
    """Raise unless a user's function returned a mapping with just the declared names.

    Parameters
    ----------
    function : str
        Its name, for the message.
    output : object
        What it returned.
    declared : iterable of str

    Raises
    ------
    TypeError
        If it is no mapping.
    ValueError
        If it has other names.
    """
    if not isinstance(output, Mapping):
        raise TypeError(
            f"{function} returned {type(output).__name__}; expected a dict with "
            f"{', '.join(declared)}."
        )
    if set(output) != set(declared):
        raise ValueError(
            f"{function} returned {', '.join(map(str, output)) or 'nothing'}; expected "
            f"{', '.join(declared)}."
        )


def as_numbers(values: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any] | None, str]:
    """Return the values as an array, or None and what is wrong with them.

    Parameters
    ----------
    values : array_like
    shape : tuple of int
        Shape that they must have.

    Returns
    -------
    array : ndarray or None
    problem : str
        Empty if there is none.
    """
    try:
        array = np.asarray(values)
        if np.ma.is_masked(values):  # what is masked is missing, not what lies behind the mask
            array = np.where(np.ma.getmaskarray(values), np.nan, array)
    except (RuntimeError, TypeError, ValueError):  # a tensor with a gradient, say
        return None, "is no regular array"
    if array.dtype.kind not in "biuf":
        return None, f"has dtype {array.dtype}; expected real numbers"
    if array.shape != shape:
        return None, f"has shape {array.shape}; expected {shape}"
    return array, ""


def compact(kind: Observable, values: NDArray[Any]) -> NDArray[Any]:
    """Keep categories and counts in integers, the smallest for their range; NaN becomes 0.

    Parameters
    ----------
    kind : Continuous, Categorical or Count
    values : ndarray

    Returns
    -------
    ndarray
    """
    if isinstance(kind, Categorical):
        dtype = np.min_scalar_type(-kind.n_categories)
    elif isinstance(kind, Count):
        dtype = np.min_scalar_type(-1 - kind.upper) if kind.upper else np.dtype(np.int64)
    else:
        return values
    # Infinite and overlong values belong to failed sets, and have no meaning.
    held = np.clip(np.nan_to_num(values), 0, min(np.iinfo(dtype).max, LARGEST_COUNT))
    return held.astype(dtype, copy=False)
