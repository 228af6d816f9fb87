"""Monotonic rational-quadratic splines with a learned domain and linear tails, or steeper ones."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, softplus

from jana_pymc.flows.wall import CUT, steepened, straightened

N_FIELDS = 6
MINIMUM = 1e-3
"""Smallest bin width, bin height and knot derivative: keeps the inverse well conditioned."""


class SplineLayout(NamedTuple):
    """The constant, linear map from spline parameters to the table of its bins.

    Left edge, widths, heights and derivatives enter each bin's six fields linearly, so that the
    whole table is one matrix product. The same arrays serve torch and PyTensor.

    Attributes
    ----------
    matrix : ndarray, shape (3 K + 3, (K + 2) * 6)
    offset : ndarray, shape ((K + 2) * 6,)
    shift : ndarray, shape (3 K + 3,)
        Added to the raw parameters; a network that returns zeros yields the identity.
    total_height : float or None
        What the heights of the inner bins add up to, if both ends are fixed.
    """

    matrix: np.ndarray
    offset: np.ndarray
    shift: np.ndarray
    total_height: float | None


def n_spline_parameters(n_bins: int) -> int:
    """Numbers that describe one spline: two edges, K widths, K heights, K + 1 derivatives."""
    return 3 * n_bins + 3


@lru_cache
def spline_layout(
    n_bins: int, half_width: float = 4.0, walls: tuple[int, ...] = ()
) -> SplineLayout:
    """Build the linear map from (edges, widths, heights, derivatives) to the bins' fields.

    The K inner bins are flanked by two that stand for the linear tails: pieces whose two
    derivatives equal their slope, which are straight lines everywhere, also outside [0, 1], so
    that the tails need no branch. The right one is mirrored, with negative width and height:
    a position in either tail is one below zero.

    Parameters
    ----------
    n_bins : int
        Number K of inner bins.
    half_width : float
        The identity spline, which raw parameters of zero give, spans [-half_width, half_width].
    walls : tuple of {-1, 1}
        Sides on which the outermost knot lies, and the identity ends, at ∓ `CUT`; the lower edge
        of the bins is no parameter then. See `steepened`.
    """
    k = n_bins
    left, bottom = 0, 1
    widths, heights = 2 + np.arange(k), 2 + k + np.arange(k)
    derivatives = 2 + 2 * k + np.arange(k + 1)
    table = np.zeros((n_spline_parameters(k), k + 2, N_FIELDS))
    offset = np.zeros((k + 2, N_FIELDS))
    for b in range(k + 2):  # fields: x, width, y, height, left and right derivative
        first_inner = max(b - 1, 0)  # the left tail starts at the first knot, like bin 1
        table[left, b, 0] = table[bottom, b, 2] = 1.0
        table[widths[:first_inner], b, 0] = 1.0
        table[heights[:first_inner], b, 2] = 1.0
        if 1 <= b <= k:
            table[widths[b - 1], b, 1] = table[heights[b - 1], b, 3] = 1.0
            table[derivatives[b - 1], b, 4] = table[derivatives[b], b, 5] = 1.0
        else:
            edge, direction = (derivatives[0], 1.0) if b == 0 else (derivatives[-1], -1.0)
            offset[b, 1] = table[edge, b, 3] = direction
            table[edge, b, 4:] = 1.0
    if walls:
        table[bottom, :, 2] = 0.0
    if -1 in walls:
        offset[:, 2] = -CUT
    elif 1 in walls:  # counted from above
        table[heights, :, 2] -= 1.0
        offset[:, 2] = CUT
    offset = offset.ravel() + MINIMUM * table[2:].sum(0).ravel()
    low, high = (-CUT if -1 in walls else -half_width), (CUT if 1 in walls else half_width)
    shift = np.zeros(n_spline_parameters(k))
    shift[left] = shift[bottom] = low
    shift[2 : 2 + 2 * k] = np.log(np.expm1((high - low) / k - MINIMUM))
    shift[derivatives] = np.log(np.expm1(1.0 - MINIMUM))
    total = 2.0 * CUT - k * MINIMUM if len(walls) == 2 else None
    return SplineLayout(table.reshape(table.shape[0], -1), offset, shift, total)


@cache
def _layout_on(
    n_bins: int,
    half_width: float,
    walls: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """`spline_layout` as tensors, which travel to a device once."""
    arrays = spline_layout(n_bins, half_width, walls)[:3]
    with torch.inference_mode(False):  # else tensors of a first call in it could not be trained on
        matrix, offset, shift = (torch.as_tensor(a, dtype=dtype, device=device) for a in arrays)
    return matrix, offset, shift


class SplineTable:
    """The bins of a batch of splines, ready to be looked up.

    Parameters
    ----------
    raw : Tensor, shape (..., 3 K + 3)
        Unconstrained parameters, as a network returns them.
    n_bins : int
        Number K of inner bins.
    half_width, walls
        See `spline_layout`.

    References
    ----------
    .. [1] Gregory, J. A., & Delbourgo, R. (1982). Piecewise rational quadratic interpolation to
       monotonic data. IMA Journal of Numerical Analysis, 2(2), 123-130.
    .. [2] Durkan, C., Bekasov, A., Murray, I., & Papamakarios, G. (2019). Neural spline flows.
       NeurIPS.
    """

    def __init__(
        self,
        raw: Float[Tensor, "*batch p"],
        n_bins: int,
        half_width: float = 4.0,
        walls: tuple[int, ...] = (),
    ):
        matrix, offset, shift = _layout_on(n_bins, half_width, walls, raw.dtype, raw.device)
        raw = raw + shift
        # Of all, and then cut: what is cut first has gaps in memory, and takes ten times as long.
        positive = torch.cat([raw[..., :2], softplus(raw)[..., 2:]], dim=-1)
        total = spline_layout(n_bins, half_width, walls).total_height
        if total is not None:
            edges, widths, heights, others = positive.split([2, n_bins, n_bins, n_bins + 1], -1)
            heights = heights * (total / heights.sum(-1, keepdim=True))
            positive = torch.cat([edges, widths, heights, others], dim=-1)
        fields = linear(positive, matrix.T, offset)
        self.fields = fields.unflatten(-1, (n_bins + 2, N_FIELDS))

    @property
    def n_rows(self) -> int:
        """Number of bins of one spline, both tails included."""
        return int(self.fields.shape[-2])

    def knots(self, field: int) -> Float[Tensor, "*batch k"]:
        """Edges between the bins: on the x axis (``field=0``) or the y axis (``field=2``)."""
        return self.fields[..., 1:, field].detach()

    def lookup(self, bins: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 6"]:
        """Fields of one bin for each input; splines broadcast against the inputs."""
        shape = torch.broadcast_shapes(self.fields.shape[:-2], bins.shape)
        fields = self.fields.expand(*shape, *self.fields.shape[-2:])
        index = bins[..., None, None].expand(*shape, 1, N_FIELDS)
        return torch.gather(fields, -2, index).squeeze(-2)

    def lookup_grouped(
        self, x: Float[Tensor, " rows"], group: Int[Tensor, " rows"], field: int = 0
    ) -> Float[Tensor, "rows 6"]:
        """Fields of the bin that holds each input, where many inputs share a spline.

        Parameters
        ----------
        x : Tensor, shape (rows,)
        group : Tensor of int, shape (rows,)
            Which spline each input belongs to, an index into the flattened batch of splines.
        field : int
            0 to look up by x, 2 to look up by y.
        """
        knots = self.knots(field).reshape(-1, self.n_rows - 1)
        bins = (x[:, None] >= knots[group]).sum(-1)
        return self.fields.reshape(-1, N_FIELDS)[group * self.n_rows + bins]


def unpacked(fields: Float[Tensor, "*batch f"]) -> tuple[Float[Tensor, "*batch"], ...]:
    """The fields one by one, without gaps in memory, which cost each operation on them dearly."""
    return fields.movedim(-1, 0).contiguous().unbind(0)


def spline_forward(
    x: Float[Tensor, "*batch"], fields: Float[Tensor, "*batch 6"], walls: tuple[int, ...] = ()
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Evaluate z = g(x) inside known bins, towards walls as the table's.

    Returns
    -------
    z, log_abs_det_jacobian : Tensor, shape (...)
        Value and log derivative.
    """
    x_left, width, y_bottom, height, d_left, d_right = unpacked(fields)
    position = (x - x_left) / width
    # In the tails position is beyond [0, 1], where powers of it would only cancel.
    xi = position.clamp(0.0, 1.0)
    slope = height / width
    rest = 1.0 - xi
    product = xi * rest
    bend = torch.sub(d_left + d_right, slope, alpha=2.0)
    denominator = torch.addcmul(slope, bend, product)
    rise = torch.addcmul(d_left * product, slope, xi**2) / denominator
    log_derivative = _log_derivative(xi, rest, product, slope, denominator, d_left, d_right)
    if not walls:
        return torch.addcmul(y_bottom, height, rise + (position - xi)), log_derivative
    beyond, log_slope = steepened(height * (position - xi), walls)
    return torch.addcmul(y_bottom, height, rise) + beyond, log_derivative + log_slope


def spline_inverse(
    z: Float[Tensor, "*batch"], fields: Float[Tensor, "*batch 6"], walls: tuple[int, ...] = ()
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Solve g(x) = z inside known bins, towards walls as the table's.

    Returns
    -------
    x, log_abs_det_jacobian : Tensor, shape (...)
        Value and log derivative of the inverse.
    """
    x_left, width, y_bottom, height, d_left, d_right = unpacked(fields)
    slope = height / width
    above = z - y_bottom
    tail = (above < 0.0) | (height < 0.0)
    rise = torch.where(tail, 0.0, torch.minimum(above, height))
    beyond = straightened(above - rise, walls)
    height = height.abs()
    bend = torch.sub(d_left + d_right, slope, alpha=2.0)
    curvature = rise * bend
    a = torch.addcmul(curvature, height, slope - d_left)
    b = height * d_left - curvature
    c = slope * rise
    # The form 2c / (b + sqrt(.)) of the root does not cancel when a is near zero.
    discriminant = torch.addcmul(b**2, a, c, value=4.0).clamp(min=0.0)
    xi = 2.0 * c / (b + torch.sqrt(discriminant))
    rest = 1.0 - xi
    product = xi * rest
    denominator = torch.addcmul(slope, bend, product)
    log_derivative = _log_derivative(xi, rest, product, slope, denominator, d_left, d_right)
    if walls:
        log_derivative = log_derivative + steepened(beyond, walls)[1]
    return x_left + xi * width + beyond / slope, -log_derivative


def _log_derivative(
    xi: Tensor,
    rest: Tensor,
    product: Tensor,
    slope: Tensor,
    denominator: Tensor,
    d_left: Tensor,
    d_right: Tensor,
) -> Tensor:
    """Of z by x; all terms of the numerator are positive, so that none cancels another."""
    ends = torch.addcmul(d_right * xi**2, d_left, rest**2)
    numerator = torch.addcmul(ends, slope, product, value=2.0)
    return torch.log(numerator * (slope / denominator) ** 2)
