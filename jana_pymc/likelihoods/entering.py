"""Parameters and conditions as networks take them: transformed, then standardised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_positions
from jana_pymc.networks.moments import set_moments

SKEWED = 5.0
"""A positive parameter whose 99 % and 1 % quantiles have a larger ratio enters as its logarithm."""


class EnteringParameters(nn.Module):
    """Constrained parameters in the form in which a network learns most from them.

    Parameters
    ----------
    n_parameters : int
    angles : sequence of int
        Positions of angles in radians: sines and cosines enter in their place.
    rounded : sequence of int
        Positions of parameters that the simulator rounds to whole numbers. They enter rounded:
        values that round to the same number give the same data.

    Raises
    ------
    ValueError
        If a position is not among the parameters, or is given twice.
    """

    logarithmic: Tensor
    mean: Tensor
    sd: Tensor
    whole: Tensor
    turning: Tensor

    def __init__(self, n_parameters: int, angles: Sequence[int] = (), rounded: Sequence[int] = ()):
        super().__init__()
        self.angles, self.rounded = list(angles), list(rounded)
        both = [*self.angles, *self.rounded]
        given = f"angles={tuple(angles)}, rounded={tuple(rounded)}"
        check_among(given, both, n_parameters)
        if len(set(both)) < len(both):
            raise ValueError(f"{given}: expected different positions, each only once.")
        self.n_entering = n_parameters + len(self.angles)
        self.register_buffer("logarithmic", torch.zeros(n_parameters, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(self.n_entering))
        self.register_buffer("sd", torch.ones(self.n_entering))
        whole = torch.zeros(n_parameters, dtype=torch.bool)
        whole[self.rounded] = True
        self.register_buffer("whole", whole, persistent=False)
        # Columns that sines replace; a buffer, since a list would be copied to a GPU at each use.
        self.register_buffer(
            "turning", torch.tensor(self.angles, dtype=torch.long), persistent=False
        )

    @torch.no_grad()
    def standardize(self, parameters: Float[Tensor, "rows p"]) -> None:
        """Take location and scale from simulations, and see which are skewed."""
        self.logarithmic.copy_(skewed(parameters))
        self.logarithmic[self.angles + self.rounded] = False
        set_moments(self.mean, self.sd, self._transformed(parameters))

    def forward(self, parameters: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch e"]:
        return (self._transformed(parameters) - self.mean) / self.sd

    def _transformed(self, parameters: Tensor) -> Tensor:
        return entering(
            parameters,
            self.logarithmic,
            self.turning if self.angles else None,
            self.whole if self.rounded else None,
        )


def entering(
    parameters: Float[Tensor, "*batch p"],
    logarithmic: Bool[Tensor, " p"],
    turning: Int[Tensor, " angles"] | None = None,
    whole: Bool[Tensor, " p"] | None = None,
) -> Float[Tensor, "*batch e"]:
    """Parameters as networks take them, before they are standardised.

    Parameters
    ----------
    parameters : Tensor, shape (..., parameters)
    logarithmic : Tensor of bool, shape (parameters,)
        Which enter as logarithms.
    turning : Tensor of int, shape (angles,), optional
        Columns that have sines in their place; the cosines come last.
    whole : Tensor of bool, shape (parameters,), optional
        Which are rounded.

    Returns
    -------
    Tensor, shape (..., parameters + angles)
    """
    positive = parameters.clamp_min(torch.finfo(parameters.dtype).tiny)
    plain = torch.where(logarithmic, positive.log(), parameters)
    if whole is not None:
        plain = torch.where(whole, parameters.round(), plain)
    if turning is None:
        return plain
    angles = parameters.index_select(-1, turning)
    return torch.cat([plain.index_copy(-1, turning, angles.sin()), angles.cos()], -1)


def known_conditions(
    conditions: Float[Tensor, "*batch k"] | None,
    mean: Float[Tensor, " k"],
    sd: Float[Tensor, " k"],
) -> Float[Tensor, "*batch k"]:
    """Standardised conditions.

    Raises
    ------
    ValueError
        If none are given.
    """
    if conditions is None:
        raise ValueError(
            f"this likelihood needs {len(mean)} known conditions for each observation: give "
            "conditions, whose last axis has as many."
        )
    return (conditions - mean) / sd


def skewed(parameters: Float[Tensor, "rows p"]) -> Bool[Tensor, " p"]:
    """Which parameters are positive and spread over more than `SKEWED` in simulations."""
    some = parameters[:: -(-len(parameters) // 100_000)]  # those of a proposal come last
    low, high = (torch.quantile(some, q, dim=0) for q in (0.01, 0.99))
    return (parameters > 0).all(0) & (high > SKEWED * low)


def parameter_positions(name: str, values: Any) -> tuple[int, ...]:
    """A setting that names parameters by their positions, checked.

    Raises
    ------
    TypeError, ValueError
        See `check_positions`.
    """
    hint = "model.layout.component_names lists the parameters in their order"
    return check_positions(name, values, "parameters", hint)


def check_among(given: str, positions: Sequence[int], n_parameters: int) -> None:
    """Refuse positions at which there is no parameter.

    Parameters
    ----------
    given : str
        The setting, for the message.
    positions : sequence of int
    n_parameters : int

    Raises
    ------
    ValueError
        If there is no parameter at one of them.
    """
    if any(not 0 <= position < n_parameters for position in positions):
        raise ValueError(
            f"{given}: expected positions among {n_parameters} parameters, from 0 to "
            f"{n_parameters - 1}."
        )
