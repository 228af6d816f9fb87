"""Draws at the edge of, or outside, the region that a likelihood was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jana_pymc.simulation import ParameterLayout
from jana_pymc.warning import warn

NEAR = 0.1
"""Draws within this share of their standard deviation from an edge count as near it."""

MOST_NEAR = 0.01
"""Share of draws near an edge for a normal posterior cut off 1.7 sds from its mean."""

IN_REACH = 3.5
"""Trajectories may meet an edge within so many standard deviations of the draws' mean."""

MANY_DIVERGED = 0.005
"""Share of trajectories of twenty steps that meet an edge just in reach, for a normal posterior."""

MARGIN = 0.05
"""Share of the region's width by which parameters may lie outside without a warning."""

FEW = 0.01
"""Share of parameter vectors that may lie outside, as some in the tails of the prior do."""


@dataclass(frozen=True)
class Leaning:
    """Draws of one parameter at one end of the trained region.

    Parameters
    ----------
    name : str
        The component, as `ParameterLayout.component_names` names it.
    edge : float
    share : float
        Share of draws at the edge or beyond.
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
    """Find the ends of the trained region where draws pile up.

    The density is zero outside the region, so that a posterior that extends beyond it is cut off.
    The criterion is that more than a hundredth of the draws lie within a tenth of their standard
    deviation of the edge, which is the case for a normal posterior that is cut off closer than 1.7
    standard deviations to its mean.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
    draws : ndarray, shape (draws, size)
        NaN for parameters that are not checked.
    support : ndarray, shape (2, size), optional
        Ends of the prior. An edge that is also an end of the prior cuts nothing off.

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
    """Find the ends of the trained region where variables of a posterior pile up.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
    posterior : mapping of str to array, shape (chains, draws, ..., *shape)
        Dimensions before a parameter's own are groups, which are checked one by one.
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
        If a variable does not have the shape of its parameter, `renamed` names a parameter or a
        variable that does not exist, or the posterior holds no parameter.
    """
    groups = _groups(layout, posterior, renamed)
    return [found for draws in groups for found in leaning(layout, region, draws)]


def edges_in_reach(
    layout: ParameterLayout,
    region: np.ndarray,
    posterior: Mapping[Any, Any],
    renamed: Mapping[str, str],
) -> list[tuple[str, float]]:
    """Find the ends of the trained region that trajectories of a sampler are likely to have met.

    Hamiltonian trajectories diverge where the density falls to zero, which keeps draws away: an
    edge may distort the posterior although no draws pile up there.

    Parameters
    ----------
    layout, region, posterior, renamed
        As in `leaning_posterior`, which raises the same.

    Returns
    -------
    list of (str, float)
        Component and edge, without repetitions.
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

    Misspelt names are refused: they would look like a posterior without problems.
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
            f"({', '.join(layout.names)}); give their names there in parameters=."
        )
    return found


def warn_of_leaning(found: list[Leaning]) -> None:
    """Warn of parameters whose draws pile up at an edge, if there are any."""
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
    """Warn that divergences may come from edges in reach, if there are many of them."""
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
    """Warn of data sets whose draws often lie outside the trained region.

    Parameters
    ----------
    shares : ndarray, shape (sets,)
        As returned by `share_outside`.
    model : str, optional
        Name of the pair, if it is one of several.
    """
    found = np.flatnonzero(shares > FEW)
    if not len(found):
        return
    parts = ", ".join(f"{i} ({100 * shares[i]:.0f}%)" for i in found[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    of = "" if model is None else f" of {model!r}"
    warn(
        f"draws of data sets {parts}{more} lie outside the region that the likelihood{of} was "
        "trained on. Their weights are an extrapolation, even where k̂ is low. "
        "detect_misspecification tests whether the model can generate such data; "
        "GenerativeModel(proposal=...) trains the likelihood on a wider region.",
    )


def warn_of_parameters_outside_region(
    layout: ParameterLayout, region: np.ndarray, parameters: np.ndarray
) -> None:
    """Warn of parameters, shape (sets, size), that lie clearly outside the trained region."""
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
