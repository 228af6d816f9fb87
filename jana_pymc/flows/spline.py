"""Monotonic rational-quadratic splines with a learned domain and linear tails."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear, softplus

N_FIELDS = 6
MINIMUM = 1e-3
"""Smallest bin width, bin height and knot derivative: keeps the inverse well conditioned."""

HALF_WIDTH = 4.0
"""Raw parameters of zero give the identity, with knots as far as this to either side of zero."""


class SplineLayout(NamedTuple):
    """The constant, linear map from spline parameters to the table of its bins.

    Left edge, widths, heights and derivatives enter each bin's six fields linearly, so that the
    whole table is one matrix product. The same two arrays serve torch and PyTensor.

    Attributes
    ----------
    matrix : ndarray, shape (3 K + 3, (K + 2) * 6)
    offset : ndarray, shape ((K + 2) * 6,)
    shift : ndarray, shape (3 K + 3,)
        Added to the raw parameters; a network that returns zeros yields the identity.
    """

    matrix: np.ndarray
    offset: np.ndarray
    shift: np.ndarray


def n_spline_parameters(n_bins: int) -> int:
    """Numbers that describe one spline: two edges, K widths, K heights, K + 1 derivatives."""
    return 3 * n_bins + 3


@lru_cache
def spline_layout(n_bins: int) -> SplineLayout:
    """Build the linear map from (edges, widths, heights, derivatives) to the bins' fields.

    The K inner bins are flanked by two that stand for the linear tails: a rational-quadratic
    piece whose two derivatives equal its slope is a straight line everywhere, also outside [0, 1],
    so that the tails need no branch.

    Parameters
    ----------
    n_bins : int
        Number K of inner bins.
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
            edge = derivatives[0] if b == 0 else derivatives[-1]
            offset[b, 1] = 1.0
            table[edge, b, 3:] = 1.0
    offset = offset.ravel() + MINIMUM * table[2:].sum(0).ravel()
    shift = np.zeros(n_spline_parameters(k))
    shift[left] = shift[bottom] = -HALF_WIDTH
    shift[2 : 2 + 2 * k] = np.log(np.expm1(2 * HALF_WIDTH / k - MINIMUM))
    shift[derivatives] = np.log(np.expm1(1.0 - MINIMUM))
    return SplineLayout(table.reshape(table.shape[0], -1), offset, shift)


@cache
def _layout_on(
    n_bins: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """`spline_layout` as tensors, which travel to a device once."""
    arrays = spline_layout(n_bins)
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

    References
    ----------
    .. [1] Gregory, J. A., & Delbourgo, R. (1982). Piecewise rational quadratic interpolation to
       monotonic data. IMA Journal of Numerical Analysis, 2(2), 123-130.
    .. [2] Durkan, C., Bekasov, A., Murray, I., & Papamakarios, G. (2019). Neural spline flows.
       NeurIPS.
    """

    def __init__(self, raw: Float[Tensor, "*batch p"], n_bins: int):
        matrix, offset, shift = _layout_on(n_bins, raw.dtype, raw.device)
        raw = raw + shift
        # Softplus of all, then cut: a slice has gaps in memory, and takes ten times as long.
        positive = torch.cat([raw[..., :2], softplus(raw)[..., 2:]], dim=-1)
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

    def forward(
        self, x: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Evaluate z = g(x), with its log derivative; splines broadcast against the inputs."""
        bins = (x[..., None] >= self.knots(0)).sum(-1)
        return spline_forward(x, self.lookup(bins))

    def inverse(
        self, z: Float[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Solve g(x) = z, with the log derivative of the inverse."""
        bins = (z[..., None] >= self.knots(2)).sum(-1)
        return spline_inverse(z, self.lookup(bins))

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
    """The fields one by one, without gaps in memory, which would slow down each operation."""
    return fields.movedim(-1, 0).contiguous().unbind(0)


def spline_forward(
    x: Float[Tensor, "*batch"], fields: Float[Tensor, "*batch 6"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Evaluate z = g(x) inside known bins.

    Returns
    -------
    z, log_abs_det_jacobian : Tensor, shape (...)
        Value and log derivative.
    """
    x_left, width, y_bottom, height, d_left, d_right = unpacked(fields)
    position = (x - x_left) / width
    # In the straight tails position is beyond [0, 1], where powers of it would only cancel.
    xi = position.clamp(0.0, 1.0)
    slope = height / width
    rest = 1.0 - xi
    product = xi * rest
    bend = torch.sub(d_left + d_right, slope, alpha=2.0)
    denominator = torch.addcmul(slope, bend, product)
    rise = torch.addcmul(d_left * product, slope, xi**2) / denominator
    z = torch.addcmul(y_bottom, height, rise + (position - xi))
    return z, _log_derivative(xi, rest, product, slope, denominator, d_left, d_right)


def spline_inverse(
    z: Float[Tensor, "*batch"], fields: Float[Tensor, "*batch 6"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Solve g(x) = z inside known bins.

    Returns
    -------
    x, log_abs_det_jacobian : Tensor, shape (...)
        Value and log derivative of the inverse.
    """
    x_left, width, y_bottom, height, d_left, d_right = unpacked(fields)
    slope = height / width
    above = z - y_bottom
    rise = torch.minimum(above.clamp(min=0.0), height)
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
    position = xi + (above - rise) / height
    return torch.addcmul(x_left, position, width), -log_derivative


def _log_derivative(
    xi: Tensor,
    rest: Tensor,
    product: Tensor,
    slope: Tensor,
    denominator: Tensor,
    d_left: Tensor,
    d_right: Tensor,
) -> Tensor:
    """Log derivative of z by x; all terms of the numerator are positive, and none cancels."""
    ends = torch.addcmul(d_right * xi**2, d_left, rest**2)
    numerator = torch.addcmul(ends, slope, product, value=2.0)
    return torch.log(numerator * (slope / denominator) ** 2)
