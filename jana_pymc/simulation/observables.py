"""What data consist of: continuous, categorical and count variables, their support and shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.checks import check_count, check_sizes
from jana_pymc.simulation.names import component_names

LARGEST_COUNT = 2**53
"""Double precision holds all whole numbers up to it, and beyond only some."""


@dataclass(frozen=True)
class Continuous:
    """A real-valued component of an observation.

    Parameters
    ----------
    lower, upper : float, str or None
        Ends of the support, which is the open interval between them. A string names a scalar
        parameter that is the bound, as the non-decision time is for reaction times. None means
        unbounded.
    shape : int or tuple of int
        Shape of the value; ``()``, the default, for a single number.

    Raises
    ------
    TypeError
        If a bound is neither a number, nor a string, nor None, or the shape is of no integers.
    ValueError
        If a bound is not finite, two constant bounds leave nothing between them, or the shape has
        a size below 1.

    Examples
    --------
    >>> Continuous(lower="t0")
    Continuous(lower='t0', upper=None, shape=())
    >>> Continuous(lower=0.0).outside([-1.0, 0.0, 2.0])
    array([ True,  True, False])
    """

    lower: float | str | None = None
    upper: float | str | None = None
    shape: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        for end in ("lower", "upper"):
            object.__setattr__(self, end, _checked_bound(end, getattr(self, end)))
        lower, upper = self.lower, self.upper
        empty = isinstance(lower, float) and isinstance(upper, float) and lower >= upper
        if empty or (lower is not None and lower == upper):
            raise ValueError(f"Continuous needs lower < upper, got {lower!r} and {upper!r}.")

    @property
    def bound_parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are bounds."""
        return tuple(bound for bound in (self.lower, self.upper) if isinstance(bound, str))

    @property
    def support(self) -> str:
        """The support in words, for messages."""
        ends = [f"{end}={getattr(self, end)!r}" for end in ("lower", "upper")]
        declared = [end for end in ends if not end.endswith("=None")]
        return "values with " + ", ".join(declared) if declared else "real numbers"

    def outside(
        self, values: ArrayLike, parameters: Mapping[str, NDArray] | None = None
    ) -> NDArray[np.bool_]:
        """Tell which values are finite, but not inside the support.

        Parameters
        ----------
        values : array_like
        parameters : mapping of str to ndarray, optional
            Values of the bounding parameters, which broadcast against `values`. Bounds that are
            parameters are not checked without them.

        Returns
        -------
        ndarray of bool
            Broadcast shape. False where a value is NaN or infinite.
        """
        values = np.asarray(values, dtype=np.float64)
        wrong = np.zeros(values.shape, dtype=bool)
        if (lower := _bound_value(self.lower, parameters)) is not None:
            wrong = wrong | (values <= lower)
        if (upper := _bound_value(self.upper, parameters)) is not None:
            wrong = wrong | (values >= upper)
        return wrong & np.isfinite(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, read by :func:`observable_from_dict`.

        Returns
        -------
        dict
        """
        return {"kind": "continuous", **asdict(self)}


@dataclass(frozen=True)
class Categorical:
    """A component of an observation that takes the values 0, 1, ..., n_categories - 1.

    Parameters
    ----------
    n_categories : int
    shape : int or tuple of int
        Shape of the value; ``()``, the default, for a single category.

    Raises
    ------
    TypeError
        If the number of categories is not an integer, or the shape is of no integers.
    ValueError
        If there are fewer than two, or the shape has a size below 1.

    Examples
    --------
    >>> Categorical(2).outside([0, 1, 2, 0.5])
    array([False, False,  True,  True])
    """

    n_categories: int
    shape: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        n_categories = check_count("n_categories", self.n_categories, least=2)
        object.__setattr__(self, "n_categories", n_categories)

    @property
    def bound_parameters(self) -> tuple[str, ...]:
        """No parameter bounds a categorical component."""
        return ()

    @property
    def support(self) -> str:
        """The support in words, for messages."""
        return f"integers 0 to {self.n_categories - 1}"

    def outside(
        self, values: ArrayLike, parameters: Mapping[str, NDArray] | None = None
    ) -> NDArray[np.bool_]:
        """Tell which values are finite, but no category; see :meth:`Continuous.outside`.

        Parameters
        ----------
        values : array_like
        parameters : mapping of str to ndarray, optional
            Ignored.

        Returns
        -------
        ndarray of bool
            Of the shape of `values`. False where a value is NaN or infinite.
        """
        values = np.asarray(values, dtype=np.float64)
        category = (values >= 0) & (values < self.n_categories) & (values == np.floor(values))
        return ~category & np.isfinite(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, read by :func:`observable_from_dict`.

        Returns
        -------
        dict
        """
        return {"kind": "categorical", **asdict(self)}


@dataclass(frozen=True)
class Count:
    """A component of an observation that counts something: 0, 1, 2, ...

    Parameters
    ----------
    upper : int or None
        The largest possible value, as the number of trials of a binomial count; None if there is
        none but 2⁵³, up to which double precision holds all whole numbers.
    shape : int or tuple of int
        Shape of the value; ``()``, the default, for a single count.

    Raises
    ------
    TypeError
        If the largest value is not an integer, or the shape is of no integers.
    ValueError
        If it is smaller than one, or larger than 2⁵³, or the shape has a size below 1.

    Examples
    --------
    >>> Count(upper=3).outside([0, 3, 4, 0.5, -1])
    array([False, False,  True,  True,  True])
    """

    upper: int | None = None
    shape: tuple[int, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))
        if self.upper is None:
            return
        upper = check_count("upper", self.upper, other="None")
        if upper > LARGEST_COUNT:
            raise ValueError(f"upper={upper}: expected at most 2**53, or None.")
        object.__setattr__(self, "upper", upper)

    @property
    def bound_parameters(self) -> tuple[str, ...]:
        """No parameter bounds a count."""
        return ()

    @property
    def support(self) -> str:
        """The support in words, for messages."""
        return "integers from 0" if self.upper is None else f"integers 0 to {self.upper}"

    def outside(
        self, values: ArrayLike, parameters: Mapping[str, NDArray] | None = None
    ) -> NDArray[np.bool_]:
        """Tell which values are finite, but no possible count; see :meth:`Continuous.outside`.

        Parameters
        ----------
        values : array_like
        parameters : mapping of str to ndarray, optional
            Ignored.

        Returns
        -------
        ndarray of bool
            Of the shape of `values`. False where a value is NaN or infinite.
        """
        values = np.asarray(values, dtype=np.float64)
        upper = self.upper or LARGEST_COUNT
        count = (values >= 0) & (values <= upper) & (values == np.floor(values))
        return ~count & np.isfinite(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, read by :func:`observable_from_dict`.

        Returns
        -------
        dict
        """
        return {"kind": "count", **asdict(self)}


Observable: TypeAlias = Continuous | Categorical | Count
"""A declared component of an observation."""

_KINDS: dict[str, type[Continuous] | type[Categorical] | type[Count]] = {
    "continuous": Continuous,
    "categorical": Categorical,
    "count": Count,
}


def scalar_components(kinds: Mapping[str, Observable]) -> dict[str, Observable]:
    """Name the single numbers of declared variables, in the order in which arrays hold them.

    Parameters
    ----------
    kinds : mapping of str to Continuous, Categorical or Count

    Returns
    -------
    dict of str to Continuous, Categorical or Count
        Each without a shape: ``x`` for a single number, ``x[0]``, ``y[1, 2]`` for parts of arrays.

    Examples
    --------
    >>> list(scalar_components({"n": Count(), "x": Continuous(shape=2)}))
    ['n', 'x[0]', 'x[1]']
    """
    return {
        component: replace(kind, shape=())
        for name, kind in kinds.items()
        for component in component_names(name, kind.shape)
    }


def split_components(
    values: NDArray[Any], kinds: Mapping[str, Observable]
) -> dict[str, NDArray[Any]]:
    """Give flattened variables back their shapes.

    Parameters
    ----------
    values : ndarray, shape (..., components)
        The last axis in the order of :func:`scalar_components`.
    kinds : mapping of str to Continuous, Categorical or Count

    Returns
    -------
    dict of str to ndarray, shape (..., *shape of the variable)

    Examples
    --------
    >>> split_components(np.arange(3), {"n": Count(), "x": Continuous(shape=2)})
    {'n': array(0), 'x': array([1, 2])}
    """
    parts, start = {}, 0
    for name, kind in kinds.items():
        stop = start + math.prod(kind.shape)
        parts[name] = values[..., start:stop].reshape((*values.shape[:-1], *kind.shape))
        start = stop
    return parts


def observable_from_dict(values: Mapping[str, Any]) -> Observable:
    """Read what ``to_dict`` of an observable wrote.

    Parameters
    ----------
    values : mapping of str to object

    Returns
    -------
    Continuous, Categorical or Count

    Raises
    ------
    TypeError, ValueError
        If the kind is unknown, or as for the observable itself.
    """
    options = dict(values)
    kind = options.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of observable {kind!r}; known are {', '.join(_KINDS)}.")
    return _KINDS[kind](**options)


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, Sequence):
        return check_sizes("shape", shape)
    return (check_count("shape", shape, other="a tuple of them"),)


def _checked_bound(end: str, bound: Any) -> float | str | None:
    if bound is None or isinstance(bound, str):
        return bound
    if isinstance(bound, bool) or not isinstance(bound, (int, float, np.integer, np.floating)):
        raise TypeError(
            f"Continuous takes a number, the name of a parameter or None for {end}, got {bound!r}."
        )
    if not math.isfinite(bound):
        raise ValueError(f"Continuous got {end}={bound}; write None for no bound.")
    return float(bound)


def _bound_value(
    bound: float | str | None, parameters: Mapping[str, NDArray] | None
) -> float | NDArray | None:
    if isinstance(bound, str):
        return None if parameters is None else parameters[bound]
    return bound
