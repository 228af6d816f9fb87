"""Whether draws lean on the edge of the region that a likelihood was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jana_pymc.simulation import ParameterLayout
from jana_pymc.warning import warn

NEAR = 0.1
"""An edge is near within this share of the draws' standard deviation."""

MOST_NEAR = 0.01
"""A normal posterior that is cut off 1.7 standard deviations from its mean has so many there."""

IN_REACH = 3.5
"""Trajectories meet an edge within so many standard deviations of the draws' mean."""

MANY_DIVERGED = 0.005
"""Of a normal posterior, trajectories of twenty steps so often meet an edge just in reach."""

MARGIN = 0.05
"""Share of the region's width by which parameters may lie outside before it is said."""

FEW = 0.01
"""Share of all parameter vectors that may lie outside: tails of the prior always do."""


@dataclass(frozen=True)
class Leaning:
    """Draws of one parameter at one end of the trained region.

    Parameters
    ----------
    name : str
        The component, as `ParameterLayout.component_names` names it.
    edge : float
    share : float
        Of draws at the edge or beyond.
    """

    name: str
    edge: float
    share: float


def leaning(
    layout: ParameterLayout,
    region: np.ndarray,
    draws: np.ndarray,
    support: np.ndarray | None = None,
) -> list[Leaning]:
    """Find the ends of the trained region that draws lean on.

    The density is zero outside the region. A posterior that would go on beyond is cut off there,
    and more than a hundredth of its draws lie within a tenth of their standard deviation of the
    edge; of a normal posterior, if it is cut closer than 1.7 standard deviations to its mean.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
    draws : ndarray, shape (draws, size)
        NaN for parameters of which nothing is known.
    support : ndarray, shape (2, size), optional
        Where the prior ends. An edge of the region that is one of the prior too cuts nothing off.

    Returns
    -------
    list of Leaning
    """
    found = []
    sd, width = draws.std(axis=0), region[1] - region[0]
    for i, name in enumerate(layout.component_names):
        if not np.isfinite(sd[i]):
            continue
        for end, sign in ((0, 1.0), (1, -1.0)):
            edge = region[end, i]
            if not np.isfinite(edge):
                continue
            if support is not None and sign * (edge - support[end, i]) < 0.01 * width[i]:
                continue
            share = float((sign * (draws[:, i] - edge) <= NEAR * sd[i]).mean())
            if share > MOST_NEAR:
                found.append(Leaning(name, float(edge), share))
    return found


def leaning_posterior(
    layout: ParameterLayout,
    region: np.ndarray,
    posterior: Mapping[Any, Any],
    renamed: Mapping[str, str],
) -> list[Leaning]:
    """Find the ends of the trained region that variables of a posterior lean on.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
    posterior : mapping of str to array, shape (chains, draws, ..., *shape)
        Dimensions before a parameter's own are groups, each of which is looked at.
    renamed : mapping of str to str
        Name in the posterior of each parameter that has another name there.

    Returns
    -------
    list of Leaning

    Raises
    ------
    TypeError
        If `renamed` is no mapping.
    ValueError
        If a variable has not the shape of its parameter, `renamed` names a parameter or a variable
        that does not exist, or the posterior holds no parameter at all.
    """
    groups = _groups(layout, posterior, renamed)
    return [found for draws in groups for found in leaning(layout, region, draws)]


def edges_in_reach(
    layout: ParameterLayout,
    region: np.ndarray,
    posterior: Mapping[Any, Any],
    renamed: Mapping[str, str],
) -> list[tuple[str, float]]:
    """Find the ends of the trained region that trajectories of a sampler will have met.

    Where the density falls to zero, Hamiltonian trajectories diverge, and keep the draws away
    from there: an edge may cost draws without any that lean on it.

    Parameters
    ----------
    layout, region, posterior, renamed
        As in `leaning_posterior`, which raises the same.

    Returns
    -------
    list of (str, float)
        Component and edge, each once.
    """
    found: dict[tuple[str, float], None] = {}
    for draws in _groups(layout, posterior, renamed):
        mean, sd = draws.mean(axis=0), draws.std(axis=0)
        for end, i in zip(*np.nonzero(np.abs(region - mean) <= IN_REACH * sd), strict=True):
            found[layout.component_names[i], float(region[end, i])] = None
    return list(found)


def _groups(
    layout: ParameterLayout, posterior: Mapping[Any, Any], renamed: Mapping[str, str]
) -> Iterator[np.ndarray]:
    """Draws of each parameter in each group, shape (draws, size), NaN for all other parameters."""
    for name, variable in _variables(layout, posterior, renamed).items():
        shape = layout.shapes[name]
        values = np.asarray(posterior[variable], dtype=float)
        if values.shape[values.ndim - len(shape) :] != shape:
            raise ValueError(
                f"{variable!r} has shape {values.shape}; expected to end in {shape}, that of the "
                f"parameter {name!r}."
            )
        own = layout.slices[name]
        flat = values.reshape(*values.shape[:2], -1, own.stop - own.start)
        for group in range(flat.shape[2]):
            draws = np.full((flat.shape[0] * flat.shape[1], layout.size), np.nan)
            draws[:, own] = flat[:, :, group].reshape(len(draws), -1)
            yield draws


def _variables(
    layout: ParameterLayout, posterior: Mapping[Any, Any], renamed: Mapping[str, str]
) -> dict[str, str]:
    """Name in the posterior of each parameter that it holds.

    A slip in a name must not read as if nothing leaned on an edge.
    """
    if not isinstance(renamed, Mapping):
        raise TypeError(
            f"parameters is {type(renamed).__name__}; expected a mapping of each parameter to its "
            "name in the posterior."
        )
    held = ", ".join(map(str, posterior)) or "nothing"
    for name, variable in renamed.items():
        if name not in layout.names:
            raise ValueError(
                f"parameters names {name!r}, which is none; those of the likelihood are "
                f"{', '.join(layout.names)}. Map each of them to its name in the posterior."
            )
        if variable not in posterior:
            raise ValueError(
                f"parameters says that {name!r} is {variable!r} in the posterior, which holds "
                f"{held}; give the name that it has there."
            )
    named = {name: renamed.get(name, name) for name in layout.names}
    found = {name: variable for name, variable in named.items() if variable in posterior}
    if not found:
        raise ValueError(
            f"the posterior holds {held}, but no parameter of the likelihood "
            f"({', '.join(layout.names)}); say in parameters= what they are called there."
        )
    return found


def warn_of_leaning(found: list[Leaning]) -> None:
    """Name the parameters whose draws lean on an edge, if there are any."""
    if not found:
        return
    worst: dict[tuple[str, float], float] = {}
    for each in found:
        worst[each.name, each.edge] = max(each.share, worst.get((each.name, each.edge), 0.0))
    parts = [f"{100 * s:.0f}% of the draws of {n} at {e:.4g}" for (n, e), s in worst.items()]
    warn(
        f"draws lean on the edge of the region that the likelihood was trained on: "
        f"{'; '.join(parts)}. The posterior is cut off there, unless the prior ends there too. "
        "Train on a wider proposal (GenerativeModel(proposal=...)), or narrow the prior.",
    )


def warn_of_divergences(share: float, edges: list[tuple[str, float]]) -> None:
    """Say that divergences may come from the edges in reach, if there are many and any."""
    if share <= MANY_DIVERGED or not edges:
        return
    parts = ", ".join(f"{name} at {edge:.4g}" for name, edge in edges)
    warn(
        f"{100 * share:.1f}% of the transitions diverged, and the draws come near the edge of the "
        f"region that the likelihood was trained on ({parts}). Trajectories that leave the region "
        "diverge, and draws are then too rare near its edge. Train on a wider proposal "
        "(GenerativeModel(proposal=...)), or give these parameters a prior that ends there.",
    )


def share_outside(region: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Share of parameter vectors that lie clearly outside the trained region.

    Parameters
    ----------
    region : ndarray, shape (2, size)
    parameters : ndarray, shape (..., draws, size)

    Returns
    -------
    ndarray, shape (...)
    """
    return (_beyond(region, parameters) > 0.0).any(axis=-1).mean(axis=-1)


def warn_of_draws_outside_region(shares: np.ndarray, model: str | None = None) -> None:
    """Name the data sets whose draws often lie outside the trained region.

    Parameters
    ----------
    shares : ndarray, shape (sets,)
        As `share_outside` finds them.
    model : str, optional
        What the pair is called, where it is one of several.
    """
    found = np.flatnonzero(shares > FEW)
    if not len(found):
        return
    parts = ", ".join(f"{i} ({100 * shares[i]:.0f}%)" for i in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    of = "" if model is None else f" of {model!r}"
    warn(
        f"draws of data sets {parts}{more} lie outside the region that the likelihood{of} was "
        "trained on. Their weights are an extrapolation, whatever their k̂ is. "
        "detect_misspecification tells whether the model can make such data; "
        "GenerativeModel(proposal=...) trains the likelihood on a wider region.",
    )


def warn_of_parameters_outside_region(
    layout: ParameterLayout, region: np.ndarray, parameters: np.ndarray
) -> None:
    """Name the parameters, shape (sets, size), that lie clearly outside the trained region."""
    beyond = _beyond(region, parameters)
    outside = beyond > 0.0
    columns = np.nonzero(outside.any(axis=0))[0]
    if outside.any(axis=1).sum() <= FEW * len(parameters):
        return
    parts = []
    for i in columns:
        worst = parameters[beyond[:, i].argmax(), i]
        low, high = region[:, i]
        name = layout.component_names[i]
        parts.append(f"{name} reaches {worst:.4g}, trained from {low:.4g} to {high:.4g}")
    warn(
        f"{int(outside.any(axis=1).sum())} of {len(parameters)} parameter vectors lie outside the "
        f"trained region ({'; '.join(parts)}): data simulated there are an extrapolation.",
    )


def _beyond(region: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """By how much parameters exceed the region and a margin; negative inside."""
    width = np.where(np.isfinite(region).all(0), region[1] - region[0], 0.0)
    return np.maximum(region[0] - parameters, parameters - region[1]) - MARGIN * width
