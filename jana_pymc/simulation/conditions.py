"""Known conditions of data sets, drawn from the user's design."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jana_pymc.simulation.observables import Continuous
from jana_pymc.simulation.returned import as_numbers, check_names
from jana_pymc.simulation.schema import DataSchema

Arrays: TypeAlias = dict[str, NDArray[Any]]
Design: TypeAlias = Callable[..., Mapping[str, Any]]
"""``design(rng, n_obs)``, or ``design(rng)`` for vectors, draws the conditions of a data set."""


def sizes(schema: DataSchema) -> dict[str, int]:
    """Arguments of simulator and design besides parameters and conditions.

    Parameters
    ----------
    schema : DataSchema

    Returns
    -------
    dict of str to int
    """
    return {} if schema.structure == "vector" else {"n_obs": schema.n_obs[1]}


def draw_conditions(
    design: Design, schema: DataSchema, n_sets: int, rng: np.random.Generator
) -> Arrays:
    """Draw the conditions of data sets as large as declared.

    Parameters
    ----------
    design : callable
    schema : DataSchema
    n_sets : int
    rng : Generator

    Returns
    -------
    dict of str to ndarray, shape (sets, obs, *shape)
        Without the axis ``obs`` for vectors. Of float64, and of int64 for categories and counts:
        what a simulator computes with them must not overflow.

    Raises
    ------
    TypeError, ValueError
        If the design raises, or does not return what was declared.
    """
    declared, told = schema.conditions, sizes(schema)
    shapes = {name: schema.array_shape(name, schema.n_obs[1]) for name in declared}
    conditions = {name: np.empty((n_sets, *shape)) for name, shape in shapes.items()}
    for row in range(n_sets):
        try:
            drawn = design(rng, **told)
        except Exception as error:
            arguments = "".join(f", {name}={size}" for name, size in told.items())
            raise ValueError(
                f"design(rng{arguments}) raised {type(error).__name__}: {error}"
            ) from error
        check_names("design", drawn, declared)
        for name, shape in shapes.items():
            array, problem = as_numbers(drawn[name], shape)
            if array is None:
                raise ValueError(f"conditions[{name!r}], returned by design, {problem}.")
            conditions[name][row] = array
    for name, kind in declared.items():
        wrong = ~np.isfinite(conditions[name]) | kind.outside(conditions[name])
        if wrong.any():
            raise ValueError(
                f"conditions[{name!r}], returned by design, has values that are not finite or "
                f"outside the declared support ({kind.support}): {wrong.sum()} in {n_sets} data "
                f"sets, as {conditions[name][wrong][0]:g}."
            )
        if not isinstance(kind, Continuous):
            conditions[name] = conditions[name].astype(np.int64)
    return conditions
