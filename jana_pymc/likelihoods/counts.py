"""Counts: a discretised density on a monotone image of the real line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from jana_pymc.flows.autoregressive import monotone_forward

Images: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From left ends, right ends and widths of cells to their images under an increasing map of the
real line; those of the widths to first order."""

NARROW = 1e-2
"""Cells narrower than this are measured by the spline's slope: differences would cancel."""

LARGEST_LOG_COUNT = 40.0
"""Simulated counts stay finite, also in single precision."""


@dataclass(frozen=True)
class CountRange:
    r"""The integers 0, 1, … up to an optional largest one, as cells of the real line.

    The count k owns the cell (k − ½, k + ½) of (−½, n + ½), which y = log(v + ½) − log(n + ½ − v)
    maps to the real line; without a largest count, y = log(v + ½). The lowest cell then starts at
    −∞ and the highest ends at +∞, so that any distribution function F on the real line gives

    .. math:: P(k) = F(y(k + 1/2)) - F(y(k - 1/2)), \qquad \sum_k P(k) = 1

    without a normalising constant.

    Parameters
    ----------
    upper : int, optional
        The largest possible count.
    """

    upper: int | None = None

    def to_real(self, value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Map counts, or the ends of their cells, to the real line."""
        if self.upper is None:
            return torch.log(value + 0.5)
        return torch.log(value + 0.5) - torch.log(self.upper + 0.5 - value)

    def real_of_mean(
        self, mean: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Image of a mean, clipped to the range of the counts, and the log slope there."""
        inside = mean.clamp(0.0, self.upper)
        slope = 1.0 / (inside + 0.5)
        if self.upper is not None:
            slope = slope + 1.0 / (self.upper + 0.5 - inside)
        return self.to_real(inside), slope.log()

    def from_real(self, y: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Count in whose cell a real value lies."""
        if self.upper is None:
            return torch.floor(torch.exp(y.clamp(max=LARGEST_LOG_COUNT)))
        return torch.floor((self.upper + 1) * torch.sigmoid(y)).clamp(0, self.upper)

    def inside(self, counts: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
        """Tell which values are possible counts."""
        possible = (counts >= 0) & (counts == torch.floor(counts))
        return possible if self.upper is None else possible & (counts <= self.upper)

    def cells(
        self, counts: Float[Tensor, "*batch"]
    ) -> tuple[Bool[Tensor, "*batch"], Bool[Tensor, "*batch"], Float[Tensor, "3 ..."]]:
        """Ends of the cells of possible counts.

        Returns
        -------
        has_left, has_right : Tensor of bool, shape (rows,)
            Whether the cell has a finite left and right end.
        ends : Tensor, shape (3, rows)
            Left end, right end, and the width by a formula that does not cancel. Finite also where
            the end is infinite, so that gradients stay finite.
        """
        has_left = counts > 0
        has_right = torch.ones_like(has_left) if self.upper is None else counts < self.upper
        above_zero = torch.where(has_left, counts, 1.0)
        left, right = torch.log(above_zero), torch.log(counts + 1.0)
        width = torch.log1p(1.0 / above_zero)
        if self.upper is not None:
            below_upper = torch.where(has_right, self.upper - counts, 1.0)
            left = left - torch.log(self.upper + 1.0 - counts)
            right = right - torch.log(below_upper)
            width = width + torch.log1p(1.0 / below_upper)
        return has_left, has_right, torch.stack([left, right, width])


def log_count(
    kind: CountRange, counts: Float[Tensor, "*batch"], images: Images
) -> Float[Tensor, "*batch"]:
    """Log probability of counts; finite, but meaningless, for values that are no counts.

    Parameters
    ----------
    kind : CountRange
    counts : Tensor
    images : callable
        Images under the map that makes the counts' law standard logistic.
    """
    safe = torch.where(kind.inside(counts), counts, 0.0)
    has_left, has_right, (left, right, width) = kind.cells(safe)
    return log_cell_probability(has_left, has_right, *images(left, right, width))


def monotone_images(
    raw: Float[Tensor, "*batch o"],
    n_bins: int,
    location: Float[Tensor, "*batch"],
    inverse_scale: Float[Tensor, "*batch"],
    shift: Float[Tensor, "*batch"] | None = None,
) -> Images:
    """Images under `monotone_forward` of values that are first standardised, then shifted."""

    def images(left: Tensor, right: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = torch.stack([left, right, 0.5 * (left + right)], -1)
        u = (points - location[..., None]) * inverse_scale[..., None]
        if shift is not None:
            u = u - shift[..., None]
        z, log_slope = monotone_forward(u, raw[..., None, :], n_bins)
        return z[..., 0], z[..., 1], width * inverse_scale * log_slope[..., 2].exp()

    return images


def log_cell_probability(
    has_left: Bool[Tensor, "*batch"],
    has_right: Bool[Tensor, "*batch"],
    left: Float[Tensor, "*batch"],
    right: Float[Tensor, "*batch"],
    narrow: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    r"""Log probability of cells under the standard logistic distribution, stable in both tails.

    .. math:: \sigma(b) - \sigma(a) = \sigma(b) \, \sigma(-a) \, (1 - e^{a - b})

    Parameters
    ----------
    has_left, has_right : Tensor of bool, shape (rows,)
        Whether the ends are finite.
    left, right : Tensor, shape (rows,)
        The ends a and b.
    narrow : Tensor, shape (rows,)
        b − a to first order, which takes over where the difference would cancel.
    """
    both = has_left & has_right
    width = torch.where(right - left > NARROW, right - left, narrow)
    width = torch.where(both, width, 1.0)
    zero = torch.zeros_like(left)
    return (
        torch.where(has_right, logsigmoid(right), zero)
        + torch.where(has_left, logsigmoid(-left), zero)
        + torch.where(both, torch.log(-torch.expm1(-width)), zero)
    )
