"""Checks of numbers and words that users pass as settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def check_count(name: str, value: Any, least: int = 1, why: str = "", *, other: str = "") -> int:
    """Ask for an integer that is large enough.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    least : int
    why : str
        What fewer would not suffice for.
    other : str
        What else the argument may be, for the message.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        If it is no integer (a boolean is none).
    ValueError
        If it is below `least`.

    Examples
    --------
    >>> check_count("draws", 4)
    4
    >>> check_count("draws", 0)
    Traceback (most recent call last):
    ValueError: draws=0: expected at least 1.
    """
    if not _is_integer(value):
        raise TypeError(f"{name}={value!r}: expected an integer{_or(other)}.")
    if value < least:
        raise ValueError(
            f"{name}={value}: expected at least {least}{why and ' ' + why}{_or(other)}."
        )
    return int(value)


def check_number(name: str, value: Any, *, zero: bool = False) -> float:
    """Ask for a finite number above 0.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    zero : bool
        Whether 0 itself is allowed.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is no real number (a boolean is none).
    ValueError
        If it is below, infinite or NaN.

    Examples
    --------
    >>> check_number("learning_rate", -1.0)
    Traceback (most recent call last):
    ValueError: learning_rate=-1.0: expected a positive number.
    """
    if not _is_real(value):
        raise TypeError(f"{name}={value!r}: expected a number.")
    if not (0 < value < math.inf or (zero and value == 0)):
        raise ValueError(
            f"{name}={value}: expected {'0 or more' if zero else 'a positive number'}."
        )
    return float(value)


def check_share(
    name: str, value: Any, *, zero: bool = False, one: bool = False, other: str = ""
) -> float:
    """Ask for a number between 0 and 1.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    zero, one : bool
        Whether 0 and 1 themselves are allowed.
    other : str
        What else the argument may be, for the message.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is no real number (a boolean is none).
    ValueError
        If it lies outside, or is NaN.

    Examples
    --------
    >>> check_share("level", 1.5)
    Traceback (most recent call last):
    ValueError: level=1.5: expected a number above 0 and below 1.
    """
    ends = f"{'from 0' if zero else 'above 0'} and {'up to 1' if one else 'below 1'}"
    if not _is_real(value):
        raise TypeError(f"{name}={value!r}: expected a number {ends}{_or(other)}.")
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        raise ValueError(f"{name}={value}: expected a number {ends}{_or(other)}.")
    return float(value)


def check_sizes(name: str, values: Any) -> tuple[int, ...]:
    """Ask for a sequence of sizes, each at least 1, as of the hidden layers of a network.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    values : object

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        If it is no sequence, or one of its values no integer.
    ValueError
        If one is below 1.

    Examples
    --------
    >>> check_sizes("hidden", [64, 64])
    (64, 64)
    >>> check_sizes("hidden", (64, 0))
    Traceback (most recent call last):
    ValueError: hidden[1]=0: expected at least 1.
    """
    if not _is_sequence(values):
        raise TypeError(f"{name}={values!r}: expected a sequence of sizes, such as (64, 64).")
    return tuple(check_count(f"{name}[{i}]", value) for i, value in enumerate(values))


def check_positions(name: str, values: Any, of: str, hint: str = "") -> tuple[int, ...]:
    """Ask for different positions among things that are numbered from 0.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    values : object
    of : str
        What is numbered.
    hint : str
        Where the numbers stand, for who passed something else.

    Returns
    -------
    tuple of int

    Raises
    ------
    TypeError
        If it is no sequence of integers.
    ValueError
        If one is negative, or is there twice.

    Examples
    --------
    >>> check_positions("angles", [2, 0], "parameters")
    (2, 0)
    >>> check_positions("angles", (1, 1), "parameters")
    Traceback (most recent call last):
    ValueError: angles=(1, 1): expected positions of parameters, different integers from 0.
    """
    expected = f"expected positions of {of}, different integers from 0"
    if not _is_sequence(values) or any(not _is_integer(value) for value in values):
        raise TypeError(f"{name}={values!r}: {expected}{hint and '; ' + hint}.")
    positions = tuple(int(value) for value in values)
    if any(position < 0 for position in positions) or len(set(positions)) < len(positions):
        raise ValueError(f"{name}={positions}: {expected}.")
    return positions


def check_kind(name: str, value: Any, kinds: Sequence[type]) -> None:
    """Ask for an object of one of a few classes.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    kinds : sequence of type

    Raises
    ------
    TypeError
        If it is of none of them; a class is none of its own objects.

    Examples
    --------
    >>> check_kind("flow", "spline", [int, float])
    Traceback (most recent call last):
    TypeError: flow='spline': expected int or float.
    """
    if not isinstance(value, tuple(kinds)):
        *first, last = (kind.__name__ for kind in kinds)
        expected = f"{', '.join(first)} or {last}" if first else last
        raise TypeError(f"{name}={value!r}: expected {expected}.")


def check_switch(name: str, value: Any) -> bool:
    """Ask for True or False, and nothing that is only taken for one of them.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object

    Returns
    -------
    bool

    Raises
    ------
    TypeError
        If it is neither.

    Examples
    --------
    >>> check_switch("means", "no")
    Traceback (most recent call last):
    TypeError: means='no': expected True or False.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}: expected True or False.")
    return bool(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Ask for one of a few words.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    choices : sequence of str

    Raises
    ------
    ValueError
        If it is none of them.

    Examples
    --------
    >>> check_choice("optimizer", "sgd", ("adam", "adamw"))
    Traceback (most recent call last):
    ValueError: optimizer='sgd' is not 'adam' or 'adamw'.
    """
    if not isinstance(value, str) or value not in choices:  # an array would compare by element
        first = ", ".join(map(repr, choices[:-1]))
        raise ValueError(f"{name}={value!r} is not {first} or {choices[-1]!r}.")


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, (float, np.floating))


def _is_sequence(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.ndim > 0
    return isinstance(values, Sequence) and not isinstance(values, (str, bytes))


def _or(other: str) -> str:
    return other and f", or {other}"
