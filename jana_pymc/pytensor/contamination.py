"""Lapses: a share of observations that the model does not explain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from jana_pymc.simulation import Categorical, Continuous, DataSchema
from jana_pymc.simulation.observables import Observable


@dataclass(frozen=True)
class Contaminant:
    """Uniform distribution over a box of the observables.

    Parameters
    ----------
    low, high : tuple of float, one per component
        Smallest and largest value of each component, both inclusive. For a count or a category
        they may be equal: all lapses then have this value, as in zero inflation.
    n_values : tuple of int, one per component
        Number of integers in the range; 0 for a continuous component.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    n_values: tuple[int, ...]

    @classmethod
    def over(cls, schema: DataSchema, ranges: Mapping[str, tuple[float, float]]) -> Contaminant:
        """Uniform over given ranges, declared constant bounds, and all categories.

        Raises
        ------
        TypeError, ValueError
            If a continuous observable or a count has neither, if a range names no observable, or
            if that of a count or of categories does not consist of possible values.
        """
        if not isinstance(ranges, Mapping):
            raise TypeError(f"contaminant={ranges!r}: expected {{observable: (low, high)}}.")
        unknown = [name for name in ranges if name not in schema.observables]
        if unknown:
            raise ValueError(
                f"contaminant names {', '.join(map(str, unknown))}; the observables are "
                f"{', '.join(schema.observables)}."
            )
        ends, n_values = [], []
        for name, kind in schema.observables.items():
            given = ranges.get(name)
            end = _finite_range(name, kind, _declared_range(kind) if given is None else given)
            n = 0
            if not isinstance(kind, Continuous):
                if kind.outside(end).any():
                    raise ValueError(
                        f"contaminant of {name!r}: expected {kind.support}, got {end}."
                    )
                n = int(end[1] - end[0]) + 1
            ends += [end] * math.prod(kind.shape)
            n_values += [n] * math.prod(kind.shape)
        low, high = zip(*ends, strict=True)
        return cls(low, high, tuple(n_values))

    def within(self, column: int, low: float, high: float) -> Contaminant:
        """Restrict lapses to a window of one component, outside which none are recorded.

        Raises
        ------
        ValueError
            If the window does not overlap the range of lapses.
        """
        new_low, new_high = list(self.low), list(self.high)
        new_low[column], new_high[column] = max(low, self.low[column]), min(high, self.high[column])
        if not new_low[column] < new_high[column]:
            raise ValueError(
                f"lapses lie between {self.low[column]} and {self.high[column]}, outside the "
                f"window from {low} to {high}: none would be recorded."
            )
        return replace(self, low=tuple(new_low), high=tuple(new_high))

    @property
    def log_density(self) -> float:
        """Log density inside the box."""
        ends = zip(self.low, self.high, self.n_values, strict=True)
        return -sum(math.log(n or high - low) for low, high, n in ends)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Lapses, shape (n, components)."""
        drawn = rng.uniform(self.low, self.high, (n, len(self.low)))
        for column, n_values in enumerate(self.n_values):
            if n_values:
                drawn[:, column] = self.low[column] + rng.integers(n_values, size=n)
        return drawn

    def mix(
        self, log_prob: TensorVariable, observables: TensorVariable, probability: TensorVariable
    ) -> TensorVariable:
        """Log density of a mixture of the model and lapses.

        Parameters
        ----------
        log_prob : TensorVariable, shape (rows,)
            Log density of the model; may be −inf.
        observables : TensorVariable, shape (rows, components)
        probability : TensorVariable, shape () or (rows,)
            Probability of a lapse.

        Returns
        -------
        TensorVariable, shape (rows,)
            −inf where `probability` lies outside [0, 1].
        """
        low, high = np.array(self.low), np.array(self.high)
        inside = pt.all((observables >= low) & (observables <= high), axis=1)
        is_share = (probability >= 0) & (probability <= 1)
        share = pt.switch(is_share, probability, 0.5)
        # The larger density times a mean of 1 and the ratio of the smaller to it: infinite values
        # are never combined, so that gradients exist where the model is impossible, and at 0 and 1.
        lapse = self.log_density
        of_larger = pt.switch(log_prob >= lapse, 1.0 - share, share)
        mean = of_larger + (1.0 - of_larger) * pt.exp(-pt.abs(log_prob - lapse))
        some = mean > 0  # else the smaller one has all the weight, and underflows
        mixture = pt.maximum(log_prob, lapse) + pt.log(pt.switch(some, mean, 1.0))
        mixture = pt.switch(some, mixture, pt.minimum(log_prob, lapse))
        not_all = share < 1
        alone = log_prob + pt.log1p(-pt.switch(not_all, share, 0.0))
        alone = pt.switch(not_all, alone, -np.inf)
        return pt.switch(is_share, pt.switch(inside, mixture, alone), -np.inf)


def _declared_range(kind: Observable) -> tuple[Any, Any]:
    if isinstance(kind, Continuous):
        return kind.lower, kind.upper
    return 0, kind.n_categories - 1 if isinstance(kind, Categorical) else kind.upper


def _finite_range(name: str, kind: Observable, ends: Any) -> tuple[float, float]:
    continuous = isinstance(kind, Continuous)
    try:
        low, high = (float(end) for end in ends)
        ordered = low < high if continuous else low <= high
        if math.isfinite(low) and math.isfinite(high) and ordered:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"contamination needs the finite range in which lapses of {name!r} lie, "
        f"contaminant={{{name!r}: (low, high)}} with low {'<' if continuous else '<='} high; "
        f"got {ends}."
    )
