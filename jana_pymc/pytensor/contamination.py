"""Lapses: a share of observations that the model does not explain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema
from jana_pymc.simulation.observables import Observable


@dataclass(frozen=True)
class Contaminant:
    """Uniform distribution over a box of the observables.

    Parameters
    ----------
    low, high : tuple of float, one a component
        Range of each continuous component; for categories and counts 0 and the last.
    n_categories : tuple of int, one a component
        0 for a continuous component.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    n_categories: tuple[int, ...]

    @classmethod
    def over(cls, schema: DataSchema, ranges: Mapping[str, tuple[float, float]]) -> Contaminant:
        """Uniform over given ranges, declared constant bounds, and all categories.

        Raises
        ------
        ValueError
            If a continuous observable has neither, or a range names none.
        """
        unknown = [name for name in ranges if name not in schema.observables]
        if unknown:
            raise ValueError(
                f"contaminant names {', '.join(map(str, unknown))}; the observables are "
                f"{', '.join(schema.observables)}."
            )
        ends, n_categories = [], []
        for name, kind in schema.observables.items():
            n = 0
            if isinstance(kind, Categorical):
                n = kind.n_categories
            elif isinstance(kind, Count):
                _, last = _finite_range(name, ranges.get(name) or (0, kind.upper))
                n = int(last) + 1
            if n:
                end = (0.0, n - 1.0)
            else:
                end = _finite_range(name, ranges.get(name) or _declared_range(kind))
            ends += [end] * math.prod(kind.shape)
            n_categories += [n] * math.prod(kind.shape)
        low, high = zip(*ends, strict=True)
        return cls(low, high, tuple(n_categories))

    @property
    def log_density(self) -> float:
        """Inside the box."""
        ends = zip(self.low, self.high, self.n_categories, strict=True)
        return -sum(math.log(n or high - low) for low, high, n in ends)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Lapses, shape (n, components)."""
        drawn = rng.uniform(self.low, self.high, (n, len(self.low)))
        for column, categories in enumerate(self.n_categories):
            if categories:
                drawn[:, column] = rng.integers(categories, size=n)
        return drawn

    def mix(
        self, log_prob: TensorVariable, observables: TensorVariable, probability: TensorVariable
    ) -> TensorVariable:
        """Log density of a mixture of the model and lapses.

        Parameters
        ----------
        log_prob : TensorVariable, shape (rows,)
            The model's; may be −inf.
        observables : TensorVariable, shape (rows, components)
        probability : TensorVariable, shape () or (rows,)
            Of a lapse.

        Returns
        -------
        TensorVariable, shape (rows,)
        """
        low, high = np.array(self.low), np.array(self.high)
        inside = pt.all((observables >= low) & (observables <= high), axis=1)
        model = pt.log1p(-probability) + log_prob
        lapse = pt.log(probability) + self.log_density
        # The larger one plus a correction: no infinite value meets another, so that gradients exist
        # where the model is impossible.
        mixture = pt.maximum(model, lapse) + pt.softplus(-pt.abs(model - lapse))
        return pt.switch(inside, mixture, model)


def _declared_range(kind: Observable) -> tuple[Any, Any]:
    return (kind.lower, kind.upper) if isinstance(kind, Continuous) else (None, None)


def _finite_range(name: str, ends: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in ends)
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"contamination needs the finite range in which lapses of {name!r} lie, "
        f"contaminant={{{name!r}: (low, high)}}; got {ends}."
    )
