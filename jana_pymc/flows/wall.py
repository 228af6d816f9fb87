"""How a spline continues towards a wall, a bound of the data that is a parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jana_pymc.flows.spline import SplineTable, spline_forward, spline_inverse

CUT = 3.5
"""Where the spline ends, on the normal scale: 1 value in 4,300 lies beyond."""

CUBIC = 0.1
"""Coefficient of the third power."""

FARTHEST = 500.0
"""Bound on where a spline may end, in standardised data: within it bins can be told apart."""


@dataclass(frozen=True)
class WalledSplines:
    r"""A batch of splines without the plateau that they may have next to a wall.

    Next to the wall there are too few simulations to train a spline, which stays as flat there as
    it began: if the likelihood does not fall where a parameter moves the wall into the data,
    samplers run into it. From :math:`y_c` on, where :math:`z = g(y_c)` is ∓ `CUT`,

    .. math:: |z| = c + v + k v^3, \qquad v = g'(y_c) \, |y - y_c|,

    which keeps value and slope, increases, and has an inverse in closed form. The density of a
    uniform distribution has no reason to fall, and is so flat on this scale that v hardly leaves
    zero: in small trainings it was .1 to .2 nats too low at 1e-4 of the range from the wall, and 5
    at 1e-6. One that falls with a power of the distance suffers more, but few data ever lie there.

    Parameters
    ----------
    table : SplineTable
    walls : tuple of {-1, 1}
        Sides with a wall: -1 at y = −∞, 1 at ∞.
    """

    table: SplineTable
    walls: tuple[int, ...]

    def forward(
        self, y: Float[Tensor, " rows"], spline: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Value and log derivative.

        Parameters
        ----------
        y : Tensor, shape (rows,)
        spline : Tensor of int, shape (rows,)
            Which of the splines, an index into their flattened batch, each row goes through.
        """
        inner = self._inner(y, [self._start(side) for side in self.walls], spline)
        z, log_derivative = spline_forward(inner, self.table.lookup_grouped(inner, spline))
        if not self.walls:
            return z, log_derivative
        v = (y - inner) * log_derivative.exp()
        return z + v * (1.0 + CUBIC * v**2), log_derivative + torch.log1p(3.0 * CUBIC * v**2)

    def inverse(
        self, z: Float[Tensor, " rows"], spline: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """What `forward` takes to z."""
        every, ends = torch.arange(self.n_splines, device=z.device), []
        for side in self.walls:
            start = self._start(side)
            ends.append(spline_forward(start, self.table.lookup_grouped(start, every))[0])
        inner = self._inner(z, ends, spline)
        fields = self.table.lookup_grouped(inner, spline, field=2)
        y, log_derivative = spline_inverse(inner, fields)
        half = 1.5 * math.sqrt(3.0 * CUBIC)  # v + k v³ is a hyperbolic sine of a third argument
        v = 3.0 / half * torch.sinh(torch.asinh(half * (z - inner)) / 3.0)
        return y + v * log_derivative.exp()

    @property
    def n_splines(self) -> int:
        """Size of the flattened batch."""
        return self.table.fields.shape[:-2].numel()

    def _inner(self, values: Tensor, ends: list[Tensor], spline: Tensor) -> Tensor:
        """Values up to the ends of the splines, one for each wall."""
        for side, end in zip(self.walls, ends, strict=True):
            nearest = torch.maximum if side < 0 else torch.minimum
            values = nearest(values, end[spline])
        return values

    def _start(self, side: int) -> Float[Tensor, " splines"]:
        """Where each spline ends."""
        end = self.table.fields.new_full((self.n_splines,), side * CUT)
        every = torch.arange(self.n_splines, device=end.device)
        y, _ = spline_inverse(end, self.table.lookup_grouped(end, every, field=2))
        return y.clamp(-FARTHEST, FARTHEST)
