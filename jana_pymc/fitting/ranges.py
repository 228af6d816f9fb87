"""Which values simulations have: what is known of the data beyond their declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jana_pymc.fitting.sources import AnySimulations
from jana_pymc.simulation import Continuous, Simulations, SimulationStore
from jana_pymc.warning import warn

FEW_VALUES = 20
"""Of what is continuous, so few different values in many simulations are no chance."""


def trained_region(
    simulations: Sequence[AnySimulations], seen: np.ndarray | None = None
) -> np.ndarray:
    """Smallest and largest value of each parameter over all simulations.

    Parameters
    ----------
    simulations : sequence of Simulations or SimulationStore
    seen : ndarray, shape (2, size), optional
        Those of simulations that are not kept.

    Returns
    -------
    ndarray, shape (2, size)
    """
    edges = [
        s.region
        if isinstance(s, SimulationStore)
        else np.stack([s.parameters.min(0), s.parameters.max(0)])
        for s in simulations
    ]
    if seen is not None:
        edges.append(seen)
    return np.stack([np.min(edges, 0)[0], np.max(edges, 0)[1]])


def always_positive(simulations: Simulations) -> list[bool]:
    """For each component of an observation, whether it is continuous and always positive."""
    observables = simulations.batch().observables
    return [
        isinstance(kind, Continuous) and bool(np.nanmin(observables[..., i]) > 0.0)
        for i, kind in enumerate(simulations.schema.components.values())
    ]


def constant_conditions(simulations: Sequence[Simulations]) -> dict[str, float]:
    """Components of conditions that have one value in all simulations, but for rounding.

    Parameters
    ----------
    simulations : sequence of Simulations

    Returns
    -------
    dict of str to float
        The value of each.
    """
    names = list(simulations[0].schema.condition_components)
    if not names:
        return {}
    values = np.concatenate([s.batch().conditions.reshape(-1, len(names)) for s in simulations])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    constant = np.isclose(low, high, rtol=1e-6, atol=0.0)
    return {name: float(low[i]) for i, name in enumerate(names) if constant[i]}


def warn_of_few_values(simulations: Simulations) -> None:
    """Name continuous components that have a few values only: their density has no limit."""
    observables = simulations[:1_000].batch().observables
    for i, (name, kind) in enumerate(simulations.schema.components.items()):
        if not isinstance(kind, Continuous):
            continue
        values = np.unique(observables[..., i])
        values = values[np.isfinite(values)]
        if len(values) <= FEW_VALUES < len(observables):
            found = f"{values[0]:g}" + (f" to {values[-1]:g}" if len(values) > 1 else "")
            warn(
                f"{name} is declared Continuous but has {len(values)} different value"
                f"{'s' * (len(values) > 1)} in {len(observables)} simulations ({found}): a "
                "density there is as high as the network can make it, and means nothing. "
                "Declare a Count or a Categorical, or leave out what never varies."
            )


def warn_of_constant_conditions(constant: Mapping[str, float]) -> None:
    """Name conditions of which nobody can learn what they do."""
    for name, value in constant.items():
        warn(
            f"the condition {name!r} has 1 value in all simulations ({value:g}): what it does "
            "cannot be learned, and with another value in data the networks extrapolate. Vary it "
            "in the design, or leave it out."
        )
