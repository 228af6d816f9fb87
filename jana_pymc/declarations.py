"""Comparison of the declarations of parameters and data of models, pairs and simulations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jana_pymc.simulation import DataSchema, ParameterLayout, Simulations

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


def declared(layout: ParameterLayout, schema: DataSchema, *, named: bool = True) -> dict[str, Any]:
    """Declarations in which networks and a model must agree; as lists, since the order matters.

    Numbers of observations are not included, since the density of one observation is the same.

    Parameters
    ----------
    layout : ParameterLayout
    schema : DataSchema
    named : bool
        Whether observables have names and kinds; those of a torch function have none.

    Returns
    -------
    dict of str to object
    """
    always = {
        "parameters": [(name, layout.shapes[name]) for name in layout.names],
        "conditions": list(schema.conditions.items()),
    }
    if not named:
        return {**always, "numbers of observables": len(schema.components)}
    return {
        **always,
        "coordinates": _coordinates(layout),
        "observables": list(schema.observables.items()),
        "structures": schema.structure,
        "orders": schema.order,
    }


def check_declared(
    given: Mapping[str, Any], expected: Mapping[str, Any], whose: str, than: str, advice: str
) -> None:
    """Refuse declarations that differ.

    Parameters
    ----------
    given, expected : mapping of str to object
        Results of `declared`.
    whose, than : str
        Owners of the two in the message, such as "the model's" and "the likelihood's".
    advice : str
        End of the message: what to do.

    Raises
    ------
    ValueError
        Naming the first difference and both declarations.
    """
    for what, theirs in given.items():
        ours = expected[what]
        if ours != theirs:
            raise ValueError(
                f"{whose} {what} ({_shown(theirs)}) differ from {than} ({_shown(ours)}); {advice}."
            )


def check_approximator(value: Any, name: str = "approximator") -> None:
    """Refuse an argument that is no trained pair, such as data passed in its place.

    Parameters
    ----------
    value : object
        The argument.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    TypeError
        If it lacks an attribute that every pair has.
    """
    if not all(hasattr(value, part) for part in ("posterior", "likelihood", "schema")):
        raise TypeError(
            f"{name} is {type(value).__name__}; expected a JointApproximator, as jana_pymc.fit or "
            "jana_pymc.load returns it."
        )


def check_simulations(
    approximator: JointApproximator,
    simulations: Any,
    *,
    from_prior: bool = False,
    name: str = "simulations",
) -> None:
    """Refuse an argument that is no simulations, or simulations of another model than a pair's.

    Parameters
    ----------
    approximator : JointApproximator
    simulations : object
        The argument.
    from_prior : bool
        Whether their parameters must be drawn from the prior.
    name : str
        Name of the argument, for the messages.

    Raises
    ------
    TypeError
        If they are no `Simulations`.
    ValueError
        If there are no data sets, if declarations differ from the pair's, or if parameters are not
        from the prior although they must be.
    """
    if not isinstance(simulations, Simulations):
        raise TypeError(
            f"{name} is {type(simulations).__name__}; expected Simulations, as model.simulate or "
            "Simulations.load returns them."
        )
    check_declared(
        declared(simulations.layout, simulations.schema),
        declared(approximator.layout, approximator.schema),
        f"{name}: their",
        "the approximator's",
        "give those of the model that it was trained on",
    )
    if not len(simulations):
        raise ValueError(f"{name} has no data sets; expected at least one.")
    if from_prior and simulations.source != "prior":
        found = "were given" if simulations.source == "given" else "come from the proposal"
        raise ValueError(
            f"{name}: their parameters {found}; expected draws from the prior, as "
            "model.simulate(n_simulations) makes them."
        )


def _coordinates(layout: ParameterLayout) -> list[tuple[str, Any]]:
    """Each parameter that has labels, and the labels along its dimensions, None without."""
    labels = [(n, [layout.coords.get(dim or "") for dim in layout.dims[n]]) for n in layout.names]
    return [(name, each) for name, each in labels if any(label is not None for label in each)]


def _shown(declaration: Any) -> str:
    """A declaration in a message: scalar parameters by their name alone."""
    if not isinstance(declaration, list):
        return str(declaration)
    shown = (name if kind == () else f"{name}: {kind}" for name, kind in declaration)
    return ", ".join(shown) or "none"
