"""Data and known conditions outside the range that a likelihood was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jana_pymc.simulation import DataSchema, ParameterLayout
from jana_pymc.warning import warn

FAR = 8.0
"""Standard deviations of the simulated conditions beyond which a condition raises a warning."""


def check_reachable(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observed: Any
) -> None:
    """Refuse data that no trained value of a bounding parameter can explain.

    Raises
    ------
    ValueError
        If so, naming the observable, its extreme value and the parameter; for many data sets also
        the position of the first that cannot be explained.
    """
    values = observed.get_value() if hasattr(observed, "get_value") else observed
    if not isinstance(values, np.ndarray) or not values.size:
        return
    n_sets = len(values) if values.ndim == 3 else 1
    values = values.reshape(n_sets, -1, len(schema.components))
    for name, bound, edge, reached, beyond in _extremes(schema, layout, region, values):
        if beyond.any():
            first = int(beyond.argmax())
            which = f" of data set {first}" if n_sets > 1 else ""
            raise ValueError(
                f"observables[{name!r}]{which} reaches {reached[first]:.4g}, beyond every "
                f"{bound} that the likelihood was trained on (from {edge:.4g}): the density "
                "would be zero everywhere. Remove such observations, or train on a wider "
                "proposal."
            )


def reachable(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observables: np.ndarray
) -> np.ndarray:
    """Which data sets the likelihood can explain; see `LikelihoodApproximator.reachable`."""
    possible = np.ones(len(observables), dtype=bool)
    for *_, beyond in _extremes(schema, layout, region, observables):
        possible &= ~beyond
    for column, kind in enumerate(schema.components.values()):
        possible &= ~kind.outside(observables[..., column]).any(axis=1)
    return possible


def _extremes(
    schema: DataSchema, layout: ParameterLayout, region: np.ndarray, observables: np.ndarray
) -> Iterator[tuple[str, str, float, np.ndarray, np.ndarray]]:
    """Components that a parameter bounds, with the extreme values of each data set.

    Yields
    ------
    name, bound : str
        The component and its parameter.
    edge : float
        The trained value of the parameter that leaves the most room.
    reached : ndarray, shape (sets,)
        Smallest or largest value of the component.
    beyond : ndarray of bool, shape (sets,)
        Whether this value is at the edge or beyond.
    """
    for column, (name, kind) in enumerate(schema.components.items()):
        for end, bound, extreme in (
            (0, getattr(kind, "lower", None), np.nanmin),
            (1, getattr(kind, "upper", None), np.nanmax),
        ):
            if isinstance(bound, str):
                edge = float(region[end, layout.component_names.index(bound)])
                reached = extreme(observables[..., column], axis=1)
                yield name, bound, edge, reached, (reached - edge) * (1 - 2 * end) <= 0.0


def warn_of_far_conditions(network: Any, schema: DataSchema, conditions: Any) -> None:
    """Warn of conditions that lie farther out than all simulated ones.

    Parameters
    ----------
    network : LikelihoodNetwork
        If it stores no mean and standard deviation of the conditions, only constants are checked.
    schema : DataSchema
    conditions : ndarray, shape (..., conditions), or symbolic data, which are not checked

    Warns
    -----
    UserWarning
    """
    names = list(schema.condition_components)
    if not isinstance(conditions, np.ndarray):
        return
    constant = network.constant_conditions
    for name, value in constant.items():
        column = conditions.reshape(-1, len(names))[:, names.index(name)]
        other = column[~np.isclose(column, value, rtol=1e-6, atol=0.0)]  # single precision
        if other.size:
            warn(
                f"the condition {name!r} reaches {other[0]:.6g}, but was {value:.6g} throughout "
                "training: the networks cannot have learned its effect; train on a wider design.",
            )
    if not hasattr(network, "condition_mean"):
        return
    mean, sd = (each.cpu().numpy() for each in (network.condition_mean, network.condition_sd))
    if not conditions.size or len(mean) != len(names):  # a network of whole sequences
        return
    flat = conditions.reshape(-1, len(names))
    distance = np.abs(flat - mean) / sd
    for i, name in enumerate(names):
        worst = distance[:, i].argmax()
        if distance[worst, i] > FAR and name not in constant:
            warn(
                f"the condition {name!r} reaches {flat[worst, i]:.4g}, but was {mean[i]:.4g} ± "
                f"{sd[i]:.4g} in training: the networks extrapolate there; train on a "
                "wider design.",
            )
