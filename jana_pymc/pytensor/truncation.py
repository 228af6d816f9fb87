"""Truncated observations: those outside a window were never recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from jana_pymc.likelihoods import AutoregressiveLikelihood
from jana_pymc.pytensor.lowering import normal_scores
from jana_pymc.simulation import Continuous, Count, DataSchema

MOST_ROUNDS = 1_000
"""Rounds of redrawing what fell outside the window."""

FAR = 38.0
"""Standard normal probabilities beyond are zero in double precision."""

SMALLEST = 1e-300
"""A window less probable than this is impossible: the ratio of densities would be noise."""


@dataclass(frozen=True)
class Truncation:
    """A window of one continuous observable outside which nothing is recorded.

    Parameters
    ----------
    column : int
        The component.
    low, high : float
        Ends of the window, inclusive; infinite for an open end.
    """

    column: int
    low: float
    high: float

    @classmethod
    def over(
        cls, network: Any, schema: DataSchema, window: Mapping[str, tuple[Any, Any]]
    ) -> Truncation:
        """Window from ``{name: (low, high)}``, with None for an open end.

        The share of observations inside the window is known exactly only for the first continuous
        component of an `AutoregressiveLikelihood`: there the distribution function is
        Φ(spline), given the discrete components, and later components integrate to one. For a later
        component it would be an integral over the earlier ones.

        Raises
        ------
        TypeError, ValueError
            If the window is not one of such a component.
        """
        if not isinstance(window, Mapping) or len(window) != 1:
            raise TypeError(f"truncation={window!r}: expected {{observable: (low, high)}}, one.")
        ((name, ends),) = window.items()
        names = list(schema.components)
        first = [n for n, kind in schema.components.items() if isinstance(kind, Continuous)][:1]
        if name not in first:
            raise ValueError(
                f"truncation of {name!r}: only that of the first continuous observable "
                f"({', '.join(first) or 'there is none'}) is known exactly."
            )
        if not isinstance(network, AutoregressiveLikelihood):
            counts = any(isinstance(kind, Count) for kind in schema.components.values())
            possible = schema.structure == "exchangeable" and not counts
            raise ValueError(
                f"{type(network).__name__} has no distribution function, which truncation is "
                "normalised by; "
                + (
                    "train with NetworkSettings(likelihood=AutoregressiveSettings())."
                    if possible
                    else "only the network of AutoregressiveSettings has one, for exchangeable "
                    "observations without counts. Train on simulations that are truncated alike: "
                    "let the simulator draw again what falls outside the window."
                )
            )
        try:
            low, high = (
                float(default if end is None else end)
                for end, default in zip(ends, (-math.inf, math.inf), strict=True)
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"truncation of {name!r}: {ends!r} is no (low, high).") from error
        if not low < high:
            raise ValueError(f"truncation of {name!r}: expected low < high, got ({low}, {high}).")
        return cls(names.index(name), low, high)

    def holds(self, rows: Any) -> Any:
        """Which rows lie in the window; of arrays or tensors."""
        return (rows[..., self.column] >= self.low) & (rows[..., self.column] <= self.high)

    def draw_again(
        self, drawn: np.ndarray, simulate: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Redraw observations outside the window until all lie inside.

        Parameters
        ----------
        drawn : ndarray, shape (rows, 1, components)
        simulate : callable
            New draws, shape (chosen, 1, components), for the rows with given positions.

        Raises
        ------
        ValueError
            If the window is so improbable that a thousand draws miss it.
        """
        for _ in range(MOST_ROUNDS):
            outside = np.nonzero(~self.holds(drawn)[:, 0])[0]
            if not outside.size:
                return drawn
            drawn[outside] = simulate(outside)
        raise ValueError(
            f"{outside.size} of {len(drawn)} observations did not fall between {self.low} and "
            f"{self.high} in {MOST_ROUNDS} draws: under these parameters hardly any would."
        )


def log_share(
    network: Any,
    truncation: Truncation,
    rows: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    r"""Log probability that an observation falls into the window.

    .. math:: \log \sum_k \pi_k [\Phi(s_k(b)) - \Phi(s_k(a))]

    with the categories' probabilities π and splines s, computed once for each distinct parameter
    vector if there are no conditions. Infinite where the probability is below 1e-300.

    Returns
    -------
    TensorVariable
        Broadcasts against (rows,).
    """
    ends = []
    log_cells: Any = None
    for end, sign in ((truncation.low, -1.0), (truncation.high, 1.0)):
        if math.isinf(end):
            ends.append(pt.constant(sign * FAR))
            continue
        scores, log_cells = normal_scores(network, end, rows, parameters, group, conditions)
        ends.append(pt.clip(scores, -FAR, FAR))
    if log_cells is None:
        return pt.constant(0.0)
    low, high = ends
    # In the nearer tail, where differences of small numbers keep their precision.
    upper = low + high > 0.0
    left, right = pt.switch(upper, low, -high), pt.switch(upper, high, -low)
    inside = 0.5 * (pt.erfc(left / math.sqrt(2.0)) - pt.erfc(right / math.sqrt(2.0)))
    share = (pt.exp(log_cells) * inside).sum(axis=1)
    possible = share > SMALLEST
    result = pt.switch(possible, pt.log(pt.switch(possible, share, 1.0)), np.inf)
    if network.n_conditions:
        return result
    return result[0] if group is None else result[group]
