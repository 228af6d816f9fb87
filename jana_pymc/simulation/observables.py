"""What one observation consists of: continuous and categorical components with their support."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Continuous:
    """A real-valued component of an observation.

    Parameters
    ----------
    lower, upper : float, str or None
        Ends of the support, which is the open interval between them. A string names a scalar
        parameter that is the bound, as the non-decision time is for reaction times. None means
        unbounded.

    Raises
    ------
    TypeError
        If a bound is neither a number, nor a string, nor None.
    ValueError
        If a bound is not finite, or two constant bounds leave nothing between them.

    Examples
    --------
    >>> Continuous(lower="t0")
    Continuous(lower='t0', upper=None)
    >>> Continuous(lower=0.0).outside([-1.0, 0.0, 2.0])
    array([ True,  True, False])
    """

    lower: float | str | None = None
    upper: float | str | None = None

    def __post_init__(self) -> None:
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
        """JSON-serialisable form, read by :func:`observable_from_dict`."""
        return {"kind": "continuous", **asdict(self)}


@dataclass(frozen=True)
class Categorical:
    """A component of an observation that takes the values 0, 1, ..., n_categories - 1.

    Parameters
    ----------
    n_categories : int

    Raises
    ------
    TypeError
        If the number of categories is not an integer.
    ValueError
        If it is smaller than two.

    Examples
    --------
    >>> Categorical(2).outside([0, 1, 2, 0.5])
    array([False, False,  True,  True])
    """

    n_categories: int

    def __post_init__(self) -> None:
        number = self.n_categories
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise TypeError(f"Categorical needs an integer n_categories, got {number!r}.")
        if self.n_categories < 2:
            raise ValueError(f"Categorical needs n_categories >= 2, got {self.n_categories}.")
        object.__setattr__(self, "n_categories", int(self.n_categories))

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
        """Tell which values are finite, but no category; see :meth:`Continuous.outside`."""
        values = np.asarray(values, dtype=np.float64)
        category = (values >= 0) & (values < self.n_categories) & (values == np.floor(values))
        return ~category & np.isfinite(values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, read by :func:`observable_from_dict`."""
        return {"kind": "categorical", **asdict(self)}


Observable: TypeAlias = Continuous | Categorical
"""A declared component of an observation."""

_KINDS: dict[str, type[Continuous] | type[Categorical]] = {
    "continuous": Continuous,
    "categorical": Categorical,
}


def observable_from_dict(values: Mapping[str, Any]) -> Observable:
    """Read what ``to_dict`` of an observable wrote."""
    options = dict(values)
    kind = options.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of observable {kind!r}; known are {', '.join(_KINDS)}.")
    return _KINDS[kind](**options)


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
