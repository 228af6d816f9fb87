"""Checks of numbers that users pass as settings."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_count(name: str, value: Any, least: int = 1, why: str = "") -> int:
    """Ask for an integer that is large enough.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    least : int
    why : str
        What fewer would not suffice for.

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
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r}: expected an integer.")
    if value < least:
        raise ValueError(f"{name}={value}: expected at least {least}{why and ' ' + why}.")
    return int(value)


def check_share(name: str, value: Any, *, zero: bool = False, one: bool = False) -> None:
    """Ask for a number between 0 and 1.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : object
    zero, one : bool
        Whether 0 and 1 themselves are allowed.

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
    low, high = ("from 0" if zero else "above 0"), ("up to 1" if one else "below 1")
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name}={value!r}: expected a number {low} and {high}.")
    if not (0 < value < 1 or (zero and value == 0) or (one and value == 1)):
        raise ValueError(f"{name}={value}: expected a number {low} and {high}.")
