"""Conditional coupling layers: affine and rational-quadratic spline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.flows.linear import Transformed
from jana_pymc.flows.spline import SplineTable, n_spline_parameters
from jana_pymc.networks.dense import DenseNetwork

CLAMP = 1.9
"""Bound c on the log scale: one affine layer cannot stretch by more than exp(c), which keeps deep
stacks finite early in training."""


class AffineElementwise:
    """z = x exp(s) + t with the soft clamp s ← (2 c / π) arctan(s / c), c = `CLAMP`."""

    n_parameters = 2

    def forward(
        self, x: Float[Tensor, "*batch d"], raw: Float[Tensor, "*batch d 2"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d"]]:
        log_scale = self._log_scale(raw)
        return x * log_scale.exp() + raw[..., 1], log_scale

    def inverse(
        self, z: Float[Tensor, "*batch d"], raw: Float[Tensor, "*batch d 2"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d"]]:
        log_scale = self._log_scale(raw)
        return (z - raw[..., 1]) * (-log_scale).exp(), -log_scale

    def _log_scale(self, raw: Tensor) -> Tensor:
        return (2.0 * CLAMP / math.pi) * torch.atan(raw[..., 0] / CLAMP)


class SplineElementwise:
    """An affine map, then a rational-quadratic spline, in each coordinate.

    The affine map takes up location and scale of the conditional distribution, so that the
    spline's bins lie where the mass is.

    Parameters
    ----------
    n_bins : int
        Number of inner bins.
    """

    def __init__(self, n_bins: int):
        self.n_bins = n_bins
        self.affine = AffineElementwise()
        self.n_parameters = self.affine.n_parameters + n_spline_parameters(n_bins)

    def forward(
        self, x: Float[Tensor, "*batch d"], raw: Float[Tensor, "*batch d p"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d"]]:
        y, log_scale = self.affine.forward(x, raw[..., :2])
        z, log_derivative = SplineTable(raw[..., 2:], self.n_bins).forward(y)
        return z, log_scale + log_derivative

    def inverse(
        self, z: Float[Tensor, "*batch d"], raw: Float[Tensor, "*batch d p"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d"]]:
        y, log_derivative = SplineTable(raw[..., 2:], self.n_bins).inverse(z)
        x, log_scale = self.affine.inverse(y, raw[..., :2])
        return x, log_scale + log_derivative


class Coupling(nn.Module):
    """Two-sided coupling: each half is transformed given the other.

    With x = (u₁, u₂), v₁ = T(u₁ | u₂, c) and then v₂ = T(u₂ | v₁, c). One network a half returns
    all parameters of T at once. A single dimension is transformed given the condition alone.

    Parameters
    ----------
    dim, n_condition : int
        Sizes of the input and of the condition (0 for none).
    elementwise : AffineElementwise or SplineElementwise
        The family of T.
    hidden, activation, dropout, residual
        The two conditioning networks, see `DenseNetwork`.

    References
    ----------
    .. [1] Dinh, L., Sohl-Dickstein, J., & Bengio, S. (2017). Density estimation using Real NVP.
       ICLR.
    .. [2] Radev, S. T., et al. (2022). BayesFlow: Learning complex stochastic models with
       invertible neural networks. IEEE TNNLS, 33(4), 1452-1466.
    """

    def __init__(
        self,
        dim: int,
        n_condition: int,
        elementwise: AffineElementwise | SplineElementwise,
        *,
        hidden: Sequence[int],
        activation: str,
        dropout: float,
        residual: bool,
    ):
        super().__init__()
        self.n_first = dim // 2
        self.n_second = dim - self.n_first
        self.elementwise = elementwise

        def conditioner(n_given: int, n_transformed: int) -> DenseNetwork:
            return DenseNetwork(
                n_given + n_condition,
                n_transformed * elementwise.n_parameters,
                hidden=hidden,
                activation=activation,
                dropout=dropout,
                residual=residual,
                zero_output=True,
            )

        self.first = conditioner(self.n_second, self.n_first) if self.n_first else None
        self.second = conditioner(self.n_first, self.n_second)

    def forward(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"] | None = None
    ) -> Transformed:
        """Transform the first part given the second, then the second given the new first."""
        u1, u2 = x.split((self.n_first, self.n_second), -1)
        v1, log_det1 = u1, x.new_zeros(())
        if self.first is not None:
            v1, log_det1 = self.elementwise.forward(u1, self._raw(self.first, u1, u2, condition))
            log_det1 = log_det1.sum(-1)
        v2, log_det2 = self.elementwise.forward(u2, self._raw(self.second, u2, v1, condition))
        return torch.cat([v1, v2], -1), log_det1 + log_det2.sum(-1)

    def inverse(
        self, z: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"] | None = None
    ) -> Transformed:
        """Undo `forward`, the second part first."""
        v1, v2 = z.split((self.n_first, self.n_second), -1)
        u2, log_det2 = self.elementwise.inverse(v2, self._raw(self.second, v2, v1, condition))
        u1, log_det1 = v1, z.new_zeros(())
        if self.first is not None:
            u1, log_det1 = self.elementwise.inverse(v1, self._raw(self.first, v1, u2, condition))
            log_det1 = log_det1.sum(-1)
        return torch.cat([u1, u2], -1), log_det1 + log_det2.sum(-1)

    def _raw(
        self, network: DenseNetwork, target: Tensor, given: Tensor, condition: Tensor | None
    ) -> Tensor:
        inputs = given
        if condition is not None:
            inputs = torch.cat([given, condition.expand(*given.shape[:-1], -1)], -1)
        return network(inputs).unflatten(-1, (target.shape[-1], self.elementwise.n_parameters))
