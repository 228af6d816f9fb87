"""What simulations are searched for: components that matter, and draws of one law among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jana_pymc.fitting.replicates import replicated_draws
from jana_pymc.screening import informative_components
from jana_pymc.simulation import Continuous, DataSchema, Simulations

MANY_COMPONENTS = 32
"""Vectors of so many components are searched for such as do not depend on the parameters; of more,
covariances are large."""

FEWEST_IN_DRAWS = 4
"""Vectors of so many components are searched for draws of one law."""


def find_informative(simulations: Simulations) -> tuple[int, ...] | None:
    """Components of long vectors that depend on the parameters.

    Parameters
    ----------
    simulations : Simulations

    Returns
    -------
    tuple of int, or None
        None for all.
    """
    if not _is_plain_vector(simulations.schema, MANY_COMPONENTS):
        return None
    parameters, observables = _to_be_searched(simulations)
    varies = observables.std(axis=0) > 0
    if (observables[:, varies] > 0).all(0).any():  # these enter twice, as their logarithms too
        return None
    found = informative_components(parameters, observables)
    return None if len(found) == observables.shape[1] else tuple(int(i) for i in found)


def find_draws(
    simulations: Simulations, informative: Sequence[int] | None = None
) -> tuple[tuple[int, ...], ...] | None:
    """Independent draws of one law that a vector's informative components are.

    Parameters
    ----------
    simulations : Simulations
    informative : sequence of int, optional
        These components; None for all.

    Returns
    -------
    tuple of tuple of int, or None
        Components of each draw; None if they are not such draws.
    """
    if not _is_plain_vector(simulations.schema, FEWEST_IN_DRAWS):
        return None
    parameters, observables = _to_be_searched(simulations)
    among = range(observables.shape[1]) if informative is None else informative
    among = [i for i in among if observables[:, i].std() > 0]
    if len(among) < FEWEST_IN_DRAWS:
        return None
    found = replicated_draws(parameters, observables[:, among])
    return found and tuple(tuple(among[i] for i in draw) for draw in found)


def _is_plain_vector(schema: DataSchema, least: int) -> bool:
    kinds = list(schema.components.values())
    plain = all(isinstance(k, Continuous) and k.lower is k.upper is None for k in kinds)
    return schema.structure == "vector" and len(kinds) >= least and plain and not schema.conditions


def _to_be_searched(simulations: Simulations) -> tuple[np.ndarray, np.ndarray]:
    first = slice(0, 20_000)
    return simulations.parameters[first], simulations.batch().observables[first, 0]
