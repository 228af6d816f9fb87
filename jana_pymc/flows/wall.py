"""How a spline goes on towards a wall: a bound of the data that is a parameter."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jana_pymc.flows.spline import N_FIELDS, SplineTable, spline_inverse

CUT = 3.5
"""Where the spline ends, on the normal scale: 1 value in 4,300 lies beyond."""

CUBIC = 0.1
"""Coefficient of the third power."""


class WallTail:
    r"""The side of a batch of splines towards a wall, without the plateau that a spline may have.

    Next to the wall there are too few simulations to train a spline, and what it keeps of its
    beginnings is flat: a likelihood that does not fall where a parameter moves the wall into the
    data lets samplers run into it. From :math:`y_c` on, where :math:`z = g(y_c)` is ∓ `CUT`,

    .. math:: |z| = c + v + k v^3, \qquad v = g'(y_c) \, |y - y_c|,

    which keeps value and slope, increases, and has an inverse in closed form. The density of a
    uniform distribution has no reason to fall, and is so flat on this scale that v hardly leaves
    zero: in small trainings it was .1 to .2 nats too low at 1e-4 of the range from the wall, and 5
    at 1e-6. One that falls with a power of the distance suffers more, but few data ever lie there.

    Parameters
    ----------
    table : SplineTable
    side : {-1, 1}
        Where the wall is: -1 at y = −∞, 1 at ∞.
    """

    def __init__(self, table: SplineTable, side: int):
        self.side = side
        flat = table.fields.reshape(-1, table.n_rows, N_FIELDS)
        end = flat.new_full((len(flat),), side * CUT)
        bins = (end[:, None] >= flat[:, 1:, 2].detach()).sum(-1)
        fields = flat[torch.arange(len(flat), device=flat.device), bins]
        self.start, log_derivative = spline_inverse(end, fields)
        self.log_slope = -log_derivative

    def forward(
        self,
        y: Float[Tensor, " rows"],
        z: Float[Tensor, " rows"],
        log_derivative: Float[Tensor, " rows"],
        group: Int[Tensor, " rows"],
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Value and log derivative, given those of the spline, which hold up to the tail.

        Parameters
        ----------
        y, z, log_derivative : Tensor, shape (rows,)
        group : Tensor of int, shape (rows,)
            Which spline each row belongs to.
        """
        log_slope = self.log_slope[group]
        beyond = self.side * (y - self.start[group])
        v = beyond.clamp(min=0.0) * log_slope.exp()
        tail = self.side * (CUT + v * (1.0 + CUBIC * v**2))
        log_tail = log_slope + torch.log1p(3.0 * CUBIC * v**2)
        inner = beyond <= 0.0
        return torch.where(inner, z, tail), torch.where(inner, log_derivative, log_tail)

    def inverse(
        self, z: Float[Tensor, " rows"], y: Float[Tensor, " rows"], group: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """What `forward` takes to z, given what the spline does."""
        beyond = (self.side * z - CUT).clamp(min=0.0)
        half = 1.5 * math.sqrt(3.0 * CUBIC)  # v + k v³ is a hyperbolic sine of a third argument
        v = 3.0 / half * torch.sinh(torch.asinh(half * beyond) / 3.0)
        tail = self.start[group] + self.side * v * torch.exp(-self.log_slope[group])
        return torch.where(self.side * z <= CUT, y, tail)
