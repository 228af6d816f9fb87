"""Names of parameters and data: which are taken, which are missing, those of single numbers."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from itertools import product
from typing import Any

import pandas as pd

RESERVED = ("n_obs", "rng", "simulation", "obs", "chain", "draw", "dataset", "ahead")
"""Names with a meaning of their own in simulators, stored simulations and InferenceData."""

LIKELIHOOD_ARGUMENTS = (
    *("self", "name", "observed", "dims", "size"),
    *("conditions", "contamination", "contaminant", "truncation", "correction", "backend"),
)
"""What a trained likelihood takes in a PyMC model beside the parameters, which come as keywords."""


def component_names(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the single numbers of a variable.

    Parameters
    ----------
    name : str
    shape : tuple of int

    Returns
    -------
    tuple of str
        In the order in which arrays hold them.

    Examples
    --------
    >>> component_names("v", ()), component_names("R", (1, 2))
    (('v',), ('R[0, 0]', 'R[0, 1]'))
    """
    return component_labels(name, map(range, shape))


def component_labels(name: str, axes: Iterable[Iterable[Any]]) -> tuple[str, ...]:
    """Label the single numbers of a variable by coordinates, as ArviZ does.

    Parameters
    ----------
    name : str
    axes : iterable of iterables
        The coordinates along each dimension.

    Returns
    -------
    tuple of str
        In the order in which arrays hold them.

    Examples
    --------
    >>> component_labels("psi", [("wet", "dry"), (0, 1)])
    ('psi[wet, 0]', 'psi[wet, 1]', 'psi[dry, 0]', 'psi[dry, 1]')
    """
    return tuple(f"{name}[{', '.join(map(str, at))}]" if at else name for at in product(*axes))


def unnamed_dims(name: str, ndim: int) -> tuple[str, ...]:
    """Names that ArviZ makes up for the dimensions of a variable without named ones.

    Parameters
    ----------
    name : str
    ndim : int

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> unnamed_dims("R", 2)
    ('R_dim_0', 'R_dim_1')
    """
    return tuple(f"{name}_dim_{i}" for i in range(ndim))


def names_of(data: Any) -> list[Any] | None:
    """Names of the variables of a mapping, DataFrame or Dataset, or of the values of a Series.

    Parameters
    ----------
    data : object

    Returns
    -------
    list or None
        None for anything else, such as a Series whose values are numbered.
    """
    for attribute in ("data_vars", "columns"):  # an xarray Dataset, a DataFrame
        if hasattr(data, attribute):
            return list(getattr(data, attribute))
    if getattr(getattr(data, "index", None), "inferred_type", None) == "string":
        return list(data.index)  # a Series, as a row of a DataFrame is
    return list(data) if isinstance(data, Mapping) else None


def without_index(data: Any) -> Any:
    """A Series of numbered or dated values as an array; anything else as it is.

    Parameters
    ----------
    data : object

    Returns
    -------
    object
    """
    return data.to_numpy() if isinstance(data, pd.Series) and names_of(data) is None else data


def check_complete(
    what: str,
    expected: Collection[str],
    given: Iterable[Hashable],
    *,
    verbs: tuple[str, str] = ("lacks", "has"),
    hint: str = "",
) -> None:
    """Check that all expected names are given, and no others.

    Parameters
    ----------
    what : str
        What has the names, for the message.
    expected : collection of str
    given : iterable of str
    verbs : tuple of str
        Of the message, for missing names and for unknown ones.
    hint : str
        End of the message: what to do.

    Raises
    ------
    ValueError
        If a name is missing or unknown.

    Examples
    --------
    >>> check_complete("parameters", ("mu", "sd"), ("mu", "sigma"))
    Traceback (most recent call last):
    ValueError: parameters lacks sd and has the unknown sigma; expected mu, sd and nothing else.
    """
    given = list(given)
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    if missing or unknown:
        parts = [f"{verbs[0]} {', '.join(missing)}"] if missing else []
        parts += [f"{verbs[1]} the unknown {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"{what} {' and '.join(parts)}; expected {', '.join(expected)} and nothing else."
            f"{hint and ' ' + hint}"
        )
