"""An autoregressive transform: standardised by the condition, then one spline after the other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.flows.spline import SplineTable, n_spline_parameters, unpacked
from jana_pymc.networks.clamps import atan_clamp
from jana_pymc.networks.conditioners import ConditionerBank, LocationScaleNetwork

MAX_LOG_SCALE = 5.0
"""Bound on the log scale that the condition may imply, relative to all simulations' scale."""

MAX_LOG_STRETCH = 3.0
"""Bound on the log scale within one autoregressive step."""


class AutoregressiveTransform(nn.Module):
    r"""Standardise by the condition, then transform each component given those before it.

    .. math::

        u = (x - m(c)) / s(c), \qquad z_j = g_j\bigl(u_j; h_j(c, u_{<j})\bigr),

    with g an increasing affine map followed by a rational-quadratic spline. The networks h see the
    residuals u instead of x: what is sharp around a location that moves with the condition, as in
    every location family, stays in one place for them. The density takes one pass; drawing takes
    one for each component.

    Parameters
    ----------
    dim, n_condition : int
    n_bins : int
        Inner bins of each spline.
    hidden : tuple of int
        Hidden layers of the network behind m and s; empty leaves both out.
    residual : bool
        Residual connections between these.
    conditioner_hidden, conditioner_layers : int
        Width and number of hidden layers of the networks h.
    n_waves : int
        Sines and cosines of each residual that these see beside it.
    sees : Tensor of bool, shape (dim, dim), optional
        Which of the components before its own each network sees; all by default.
    """

    def __init__(
        self,
        dim: int,
        n_condition: int,
        *,
        n_bins: int = 8,
        hidden: tuple[int, ...] = (128, 128),
        residual: bool = False,
        conditioner_hidden: int = 64,
        conditioner_layers: int = 2,
        n_waves: int = 0,
        sees: Bool[Tensor, "d d"] | None = None,
    ):
        super().__init__()
        self.dim, self.n_bins = dim, n_bins
        self.location_scale = (
            LocationScaleNetwork(n_condition, dim, hidden, residual) if hidden else None
        )
        self.conditioners = ConditionerBank(
            dim,
            n_condition,
            2 + n_spline_parameters(n_bins),
            hidden=conditioner_hidden,
            n_layers=conditioner_layers,
            n_waves=n_waves,
            sees=sees,
        )

    def forward(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Carry x to z, with the log determinant."""
        if x.ndim == 3 and condition.shape[1] < x.shape[1]:
            z, log_derivative = self._shared(x, condition)
            return z, log_derivative.sum(-1)
        batch = x.shape[:-1]
        condition = condition.expand(*batch, condition.shape[-1])
        rows, given = x.reshape(-1, self.dim), condition.reshape(-1, condition.shape[-1])
        z, log_derivative = self.components(rows, given)
        return z.reshape(x.shape), log_derivative.sum(-1).reshape(batch)

    def _shared(
        self, x: Float[Tensor, "sets n d"], condition: Float[Tensor, "sets 1 c"]
    ) -> tuple[Float[Tensor, "sets n d"], Float[Tensor, "sets n d"]]:
        """Where many points share a condition, what depends on that alone is computed once."""
        u, log_scale = self._standardize(x, condition)
        first = self.conditioners.one(0, condition, u[..., :0])
        parts = [monotone_forward(u[..., 0], first, self.n_bins)]
        if self.dim > 1:
            others = self.conditioners.after_first(condition[:, 0], u)
            z, log_derivative = monotone_forward(u[..., 1:], others, self.n_bins)
            parts += zip(z.unbind(-1), log_derivative.unbind(-1), strict=True)
        z, log_derivative = (torch.stack(part, -1) for part in zip(*parts, strict=True))
        return z, log_derivative - log_scale

    def components(
        self, x: Float[Tensor, "rows d"], condition: Float[Tensor, "rows c"]
    ) -> tuple[Float[Tensor, "rows d"], Float[Tensor, "rows d"]]:
        """Carry x to z, with the log derivative of each component given those before it."""
        u, log_scale = self._standardize(x, condition)
        z, log_derivative = monotone_forward(u, self.conditioners(condition, u), self.n_bins)
        return z, log_derivative - log_scale

    def inverse(
        self, z: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Undo `forward`, component by component."""
        u = z[..., :0]
        log_det = z.new_zeros(z.shape[:-1])
        for j in range(self.dim):
            raw = self.conditioners.one(j, condition, u)
            u_j, log_derivative = monotone_inverse(z[..., j], raw, self.n_bins)
            u = torch.cat([u, u_j[..., None]], -1)
            log_det = log_det + log_derivative
        if self.location_scale is not None:
            location, log_scale = self.location_scale(condition)
            log_scale = atan_clamp(log_scale, MAX_LOG_SCALE)
            u = u * log_scale.exp() + location
            log_det = log_det + log_scale.sum(-1)
        return u, log_det

    def _standardize(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        if self.location_scale is None:
            return x, torch.zeros_like(x)
        location, log_scale = self.location_scale(condition)
        log_scale = atan_clamp(log_scale, MAX_LOG_SCALE)
        return (x - location) * (-log_scale).exp(), log_scale


def monotone_forward(
    u: Float[Tensor, "*batch"], raw: Float[Tensor, "*#batch o"], n_bins: int
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """An increasing affine map, then a spline, with the log derivative of both."""
    location, log_scale = unpacked(raw[..., :2])
    log_scale = atan_clamp(log_scale, MAX_LOG_STRETCH)
    y = u * log_scale.exp() + location
    z, log_derivative = SplineTable(raw[..., 2:], n_bins).forward(y)
    return z, log_derivative + log_scale


def monotone_inverse(
    z: Float[Tensor, "*batch"], raw: Float[Tensor, "*#batch o"], n_bins: int
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Undo `monotone_forward`."""
    y, log_derivative = SplineTable(raw[..., 2:], n_bins).inverse(z)
    location, log_scale = unpacked(raw[..., :2])
    log_scale = atan_clamp(log_scale, MAX_LOG_STRETCH)
    return (y - location) * (-log_scale).exp(), log_derivative - log_scale
