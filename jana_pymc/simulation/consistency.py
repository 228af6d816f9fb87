"""Whether prior, proposal, simulator and declared data of a generative model fit together."""

from __future__ import annotations

import inspect
from typing import Any

from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.names import LIKELIHOOD_ARGUMENTS, RESERVED
from jana_pymc.simulation.schema import DataSchema


def check_unique_names(layout: ParameterLayout, schema: DataSchema) -> None:
    """Check that names differ, and that none is an argument of the trained likelihood."""
    dims = {dim for each in layout.dims.values() for dim in each if dim is not None}
    seen = set(RESERVED)
    for what, names in (
        ("parameter", layout.names),
        ("observable", schema.observables),
        ("condition", schema.conditions),
        ("dimension", dims),
    ):
        for name in names:
            if name in seen:
                raise ValueError(
                    f"the {what} {name!r} has the name of something else; names of parameters, "
                    f"observables, conditions and dims must differ, and not be any of "
                    f"{', '.join(RESERVED)}."
                )
            seen.add(name)
    for name in layout.names:
        if name in LIKELIHOOD_ARGUMENTS:
            raise ValueError(
                f"the parameter {name!r} has the name of an argument of the trained likelihood, "
                "which takes the parameters as keywords beside its own; name it otherwise, and not "
                f"any of {', '.join(LIKELIHOOD_ARGUMENTS)}."
            )


def check_bounds(layout: ParameterLayout, schema: DataSchema) -> None:
    """Check that observables are bounded by scalar parameters only."""
    for name, kind in schema.observables.items():
        for bound in kind.bound_parameters:
            if bound not in layout.names:
                raise ValueError(
                    f"observables[{name!r}] is bounded by {bound!r}, which is no parameter; the "
                    f"prior has {', '.join(layout.names)}."
                )
            if layout.shapes[bound] != ():
                raise ValueError(
                    f"observables[{name!r}] is bounded by {bound!r}, which has shape "
                    f"{layout.shapes[bound]}; a bound must be a scalar parameter."
                )


def check_proposal(prior: ParameterLayout, proposal: ParameterLayout) -> None:
    """Check that the proposal has the parameters of the prior."""
    if dict(prior.shapes) != dict(proposal.shapes):
        described = [
            ", ".join(f"{name} {layout.shapes[name]}" for name in layout.names)
            for layout in (prior, proposal)
        ]
        raise ValueError(
            f"the proposal has other parameters ({described[1]}) than the prior ({described[0]})."
        )


def check_signature(what: str, function: Any, arguments: list[str]) -> None:
    """Check that a simulator, or a design, takes the arguments that it will be given."""
    if not callable(function):
        raise TypeError(f"{what} must be callable, got {function!r}.")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have none
        return
    try:
        signature.bind(None, **dict.fromkeys(arguments))
    except TypeError as error:
        raise TypeError(
            f"{what}{signature} cannot be called as "
            f"{what}({', '.join(['rng', *(f'{name}=...' for name in arguments)])}): {error}."
        ) from error
