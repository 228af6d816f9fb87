"""Settings of the likelihood of vectors, and which part of it each component belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from jana_pymc.checks import check_count, check_positions, check_sizes, check_switch
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.likelihoods.entering import parameter_positions
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.columns import as_draws


@dataclass(frozen=True)
class VectorSettings:
    """Architecture of the vector likelihood.

    Parameters
    ----------
    n_layers : int or None
        Autoregressive layers of the flow; None takes 3 for up to three continuous components, 2
        for up to five and 1 for more, and 1 for sequences, whose layer must follow time. 0 is for
        sums of trials, and leaves their law normal.
    hidden : tuple of int
        Hidden layers of the network that standardises the components.
    residual : bool
        Residual connections between these.
    conditioner_hidden, conditioner_layers : int
        Width and number of hidden layers of each component's own network, whose layers are
        residual from the third.
    n_bins : int
        Inner bins of the splines of continuous components; counts have half as many.
    informative : tuple of int, optional
        The components that depend on the parameters; all by default. The others are continuous
        distractors: their density given these is learned without the parameters.
    draws : tuple of tuple of int, optional
        All components that depend on the parameters, grouped by independent draws of one law; the
        draws share one flow. Given instead of `informative`.
    order : int, optional
        How many observations back each observation of a sequence depends on, given the parameters:
        0 for a deterministic system that is observed with noise. By default all.
    angles : tuple of int
        Positions of parameters that are angles, in radians: their sines and cosines enter in their
        place, so that the ends of the circle are one point.
    n_trials : int
        If not 0, counts and continuous components are treated as statistics added up over trials:
        the mean and covariance of so many binary trials (`TrialSumTransform`) replace the network
        of `hidden` layers.

    Raises
    ------
    TypeError
        If a size, a number or a position is no integer.
    ValueError
        If one is too small, a position is given twice, or both `draws` and `informative` are given.
    """

    n_layers: int | None = None
    hidden: Sequence[int] = (256, 256)
    residual: bool = False
    conditioner_hidden: int = 64
    conditioner_layers: int = 2
    n_bins: int = 8
    informative: Sequence[int] | None = None
    draws: Sequence[Sequence[int]] | None = None
    order: int | None = None
    angles: Sequence[int] = ()
    n_trials: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("conditioner_hidden", 1),
            ("conditioner_layers", 2),
            ("n_bins", 1),
            ("n_trials", 0),
        ):
            check_count(name, getattr(self, name), least=least)
        check_switch("residual", self.residual)
        for name in ("n_layers", "order"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least=0, other="None")
        if self.n_layers == 0 and not self.n_trials:
            raise ValueError(
                "n_layers=0: without a layer the parameters would have no influence; expected 1 or "
                "more, or None, unless n_trials says that components are sums of trials."
            )
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        object.__setattr__(self, "angles", parameter_positions("angles", self.angles))
        if self.informative is not None:
            positions = check_positions("informative", self.informative, "components")
            object.__setattr__(self, "informative", positions)
        if self.draws is not None:
            object.__setattr__(self, "draws", as_draws(self.draws))
            if self.informative is not None:
                raise ValueError("give draws or informative, which draws tell, not both.")

    def layers(self, n_continuous: int, n_steps: int) -> int:
        """Number of autoregressive layers."""
        if self.n_layers is not None:
            return self.n_layers
        if n_steps > 1 or n_continuous > 5:
            return 1
        return 3 if n_continuous <= 3 else 2


class Parts(NamedTuple):
    """Positions of the components that are of one kind, and of those of each draw."""

    discrete: tuple[int, ...]
    continuous: tuple[int, ...]
    distractors: tuple[int, ...]
    draws: tuple[tuple[int, ...], ...]


def parts_of(
    components: Sequence[int | CountRange | Support],
    settings: VectorSettings,
    n_steps: int,
    n_conditions: int,
) -> Parts:
    """What each component of a vector is, as declared; without draws it is one draw.

    Raises
    ------
    ValueError
        If the settings do not fit the components.
    """
    positions = range(len(components))
    continuous = tuple(i for i in positions if isinstance(components[i], Support))
    discrete = tuple(i for i in positions if i not in continuous)
    name, informative = "informative", settings.informative
    if settings.draws is not None:
        name, informative = "draws", [i for draw in settings.draws for i in draw]
        if n_steps > 1 or n_conditions or any(c != Support() for c in components):
            raise ValueError(
                "draws must be of vectors of continuous and unbounded components, without "
                "conditions."
            )
    if informative is None:
        informative = positions
    elif not informative or not set(informative) <= set(positions):
        raise ValueError(
            f"{name}={getattr(settings, name)}: expected positions among {len(components)} "
            "components."
        )
    if not set(discrete) <= set(informative):
        raise ValueError(
            f"{name}={getattr(settings, name)} leaves out counts or categories; distractors must "
            "be continuous and unbounded."
        )
    distractors = tuple(i for i in continuous if i not in informative)
    if any(components[i] != Support() for i in distractors):
        raise ValueError("distractors must be continuous and unbounded.")
    continuous = tuple(i for i in continuous if i in informative)
    if n_steps > 1:
        _check_sequence(settings, discrete, continuous, distractors)
    draws = (continuous,) if settings.draws is None else tuple(map(tuple, settings.draws))
    if settings.n_trials:
        categories = any(isinstance(c, int) for c in components)
        if n_steps > 1 or len(draws) > 1 or categories or not continuous:
            raise ValueError(
                f"n_trials={settings.n_trials} must be of vectors of counts and continuous "
                "components, one of these at least; not of sequences, draws or categories."
            )
    return Parts(discrete, continuous, distractors, draws)


def visible_past(n_components: int, n_steps: int, order: int | None) -> Bool[Tensor, "d d"] | None:
    """Which components of a sequence (columns) enter the law of each (rows); None for all."""
    if order is None or n_steps == 1:
        return None
    step = torch.arange(n_components) // (n_components // n_steps)
    return step[None] >= step[:, None] - order


def _check_sequence(
    settings: VectorSettings,
    discrete: tuple[int, ...],
    continuous: tuple[int, ...],
    distractors: tuple[int, ...],
) -> None:
    """Refuse settings that break the order of time."""
    if discrete and continuous:
        raise ValueError(
            "a sequence with both discrete and continuous components cannot be modelled as "
            "one vector in the order of time."
        )
    if distractors:
        raise ValueError(
            f"informative={settings.informative}: a sequence has no distractors, which would be "
            "apart from their time; leave it out."
        )
    if continuous and (settings.n_layers or 1) > 1:
        raise ValueError(
            f"n_layers={settings.n_layers}: a sequence has a single layer, which follows time; "
            "leave it out."
        )
