"""How a spline goes on towards a wall: a bound of the data that is a parameter."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

CUT = 3.5
"""Where the outermost knot lies, on the normal scale: 1 value in 4,300 lies beyond."""

CUBIC = 0.1
"""Coefficient of the third power."""


def steepened(
    u: Float[Tensor, "*batch"], walls: tuple[int, ...]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""What the straight tails of a spline become towards walls, without a plateau.

    Next to the wall there are too few simulations to train a spline, and what it keeps of its
    beginnings is flat: a likelihood that does not fall where a parameter moves the wall into the
    data lets samplers run into it. So the outermost knot lies at ∓ `CUT` on the normal scale
    towards a wall, and beyond it

    .. math:: z = \mp c + u + k u^3

    with u what the straight tail would add, which keeps value and slope, increases, and has an
    inverse in closed form. The density of a uniform distribution has no reason to fall, and is so
    flat on this scale that u hardly leaves zero. One that falls with a power of the distance
    suffers more, but few data ever lie there.

    Parameters
    ----------
    u : Tensor, shape (...)
        Negative in the left tail, positive in the right one, zero between.
    walls : tuple of {-1, 1}
        Sides with a wall: -1 below, 1 above.

    Returns
    -------
    u, log_slope : Tensor, shape (...)
        Value, and log derivative.
    """
    if not walls:
        return u, torch.zeros_like(u)
    towards = _towards(u, walls)
    return u + CUBIC * towards**3, torch.log1p(3.0 * CUBIC * towards**2)


def straightened(u: Float[Tensor, "*batch"], walls: tuple[int, ...]) -> Float[Tensor, "*batch"]:
    """Undo `steepened`."""
    if not walls:
        return u
    towards = _towards(u, walls)
    half = 1.5 * math.sqrt(3.0 * CUBIC)  # u + k u³ is a hyperbolic sine of a third argument
    return u - towards + 3.0 / half * torch.sinh(torch.asinh(half * towards) / 3.0)


def _towards(u: Tensor, walls: tuple[int, ...]) -> Tensor:
    """The part on sides with a wall."""
    return u.clamp(-math.inf if -1 in walls else 0.0, math.inf if 1 in walls else 0.0)
