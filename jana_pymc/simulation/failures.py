"""Simulations that failed: which kinds there are, how many, and the first of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class SimulationError(RuntimeError):
    """No simulation succeeded."""


class Failure(IntEnum):
    """What can go wrong with one data set; the value is its code in arrays, 0 being good."""

    PARAMETERS = 1
    EXCEPTION = 2
    SHAPE = 3
    NOT_FINITE = 4
    OUTSIDE = 5

    @property
    def words(self) -> str:
        """The kind in words, which is also its name in stored reports."""
        return _WORDS[self]


_WORDS = {
    Failure.PARAMETERS: "invalid parameters",
    Failure.EXCEPTION: "exception in the simulator",
    Failure.SHAPE: "wrong shape or type",
    Failure.NOT_FINITE: "not finite",
    Failure.OUTSIDE: "outside the support",
}


@dataclass(frozen=True)
class FailureReport:
    """How many simulations were asked for, and how many failed in which way.

    Parameters
    ----------
    n_simulations : int
        All of them, good and failed.
    counts : mapping of str to int
        Number of failed simulations of each kind that occurred.
    first : mapping of str to str
        Message of the first failure of each kind.

    Examples
    --------
    >>> print(FailureReport(10, {"not finite": 2}, {"not finite": "rt has 1 value NaN"}))
    2 of 10 simulations failed: 2 not finite (the first: rt has 1 value NaN).
    """

    n_simulations: int
    counts: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        """Number of failed simulations."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        if not self.n_failed:
            return f"none of {self.n_simulations} simulations failed."
        kinds = [f"{n} {kind} (the first: {self.first[kind]})" for kind, n in self.counts.items()]
        return f"{self.n_failed} of {self.n_simulations} simulations failed: {'; '.join(kinds)}."

    def __add__(self, other: FailureReport) -> FailureReport:
        counts = {
            kind: self.counts.get(kind, 0) + other.counts.get(kind, 0)
            for kind in {**self.counts, **other.counts}
        }
        first = {**other.first, **self.first}
        return FailureReport(self.n_simulations + other.n_simulations, counts, first)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form.

        Returns
        -------
        dict
        """
        return {
            "n_simulations": self.n_simulations,
            "counts": dict(self.counts),
            "first": dict(self.first),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FailureReport:
        """Inverse of :meth:`to_dict`.

        Parameters
        ----------
        values : mapping of str to object

        Returns
        -------
        FailureReport
        """
        return cls(values["n_simulations"], dict(values["counts"]), dict(values["first"]))
