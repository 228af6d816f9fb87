"""Which values simulations have: what is known of the data beyond their declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from jana_pymc.fitting.sources import AnySimulations
from jana_pymc.networks.moments import NORMAL_RANGE, OUTLYING
from jana_pymc.simulation import Continuous, Simulations, SimulationStore
from jana_pymc.warning import warn

FEW_VALUES = 20
"""Of what is continuous, so few different values in many simulations are no chance."""

ATOM = 0.01
"""Nor is one value in so large a share of all observations."""

ROUNDED = 10
"""Unless others are nearly as frequent: so many times less at most, as of what is rounded."""

LOOKED_AT = 1_000
"""Simulations that are looked at for it."""


def trained_region(simulations: Sequence[AnySimulations], seen: Tensor | None = None) -> np.ndarray:
    """Smallest and largest value of each parameter over all simulations.

    Parameters
    ----------
    simulations : sequence of Simulations or SimulationStore
    seen : Tensor, shape (2, size), optional
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
        edges.append(seen.numpy().astype(float))
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
    observables = simulations[:LOOKED_AT].batch().observables
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


def warn_of_atoms(simulations: Simulations) -> None:
    """Name continuous components that equal one value, a condition or a parameter again and again.

    Such values, as of what is censored, have a probability, but no density.
    """
    some = simulations[:LOOKED_AT]
    batch, layout = some.batch(), some.layout
    of_set = dict(zip(layout.component_names, np.asarray(some.parameters).T, strict=True))
    conditions = np.moveaxis(batch.conditions, -1, 0)
    of_row = dict(zip(some.schema.condition_components, conditions, strict=True))
    others = of_row | {name: values[:, None] for name, values in of_set.items()}
    for i, (name, kind) in enumerate(some.schema.components.items()):
        values = batch.observables[..., i]
        if not isinstance(kind, Continuous) or not np.isfinite(values).any():
            continue
        distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
        if len(distinct) <= FEW_VALUES:  # said by `warn_of_few_values`
            continue
        found = _most_frequent(distinct, counts)
        equal = {other: values == theirs for other, theirs in others.items()}
        other = max(equal, key=lambda each: int(equal[each].sum()))
        share = float(equal[other].mean())
        if share > ATOM and _mostly_distinct(values[~equal[other]]):  # else both may be rounded
            found = (f"equals {other}", share)
        if found is not None:
            warn(
                f"{name} is declared Continuous but {found[0]} in {100 * found[1]:.0f}% of the "
                "simulated observations, as what is censored or cut off does: these have a "
                "probability, but no density, and a network makes it as high as it can. Evidence "
                "and refined posteriors then mean nothing. Let a Categorical tell them from the "
                "others, and the simulator return noise in their place, which does not depend on "
                "the parameters."
            )


def warn_of_extremes(simulations: Simulations) -> None:
    """Name unbounded components of which a few values lie so far off that networks waste on them.

    Networks scale by the others then (`networks.moments.location_and_scale`), except that of a
    trajectory.
    """
    observables = simulations.batch().observables
    for i, (name, kind) in enumerate(simulations.schema.components.items()):
        if not isinstance(kind, Continuous) or not kind.lower is kind.upper is None:
            continue
        values = observables[..., i]
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [0.05, 0.95]) if len(values) else (0.0, 0.0)
        with np.errstate(over="ignore"):  # an infinite deviation is one too
            deviation = values.std() if len(values) else 0.0
        if 0.0 < OUTLYING * (high - low) / NORMAL_RANGE < deviation:
            worst = values[np.abs(values).argmax()]
            warn(
                f"{name} reaches {worst:.3g} in simulations, of which nine tenths lie between "
                f"{low:.3g} and {high:.3g}: networks learn little of values so far apart, and the "
                "few extreme ones disturb their training. Narrow the prior until the model makes "
                "none of them, or let the simulator return another scale, such as "
                "numpy.arcsinh of it."
            )


def _mostly_distinct(values: np.ndarray) -> bool:
    """Whether hardly any value comes twice, as of what is not rounded."""
    finite = values[np.isfinite(values)]
    return 2 * len(np.unique(finite)) >= len(finite)


def _most_frequent(distinct: np.ndarray, counts: np.ndarray) -> tuple[str, float] | None:
    """A value that comes again as no continuous one does, in words, and its share."""
    most, total = counts.argmax(), counts.sum()
    # Where values are rounded, most observations have one that is nearly as frequent.
    others = np.delete(counts, [0, int(most), len(counts) - 1])  # clipped ones are at both ends
    if counts[most] <= max(ATOM * total, ROUNDED * np.quantile(np.repeat(others, others), 0.25)):
        return None
    return f"is {distinct[most]:g}", counts[most] / total


def warn_of_constant_conditions(constant: Mapping[str, float]) -> None:
    """Name conditions of which nobody can learn what they do."""
    for name, value in constant.items():
        warn(
            f"the condition {name!r} has 1 value in all simulations ({value:g}): what it does "
            "cannot be learned, and with another value in data the networks extrapolate. Vary it "
            "in the design, or leave it out."
        )
