"""Linear transforms between coupling layers: ActNorm, permutations and learned rotations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

Transformed = tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]


class ActNorm(nn.Module):
    """Elementwise z = scale · x + bias, learned; the identity at the start.

    Parameters
    ----------
    dim : int
        Number of dimensions.

    References
    ----------
    .. [1] Kingma, D. P., & Dhariwal, P. (2018). Glow: Generative flow with invertible 1x1
       convolutions. NeurIPS.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        log_det = self.log_scale.sum().expand(x.shape[:-1])
        return x * self.log_scale.exp() + self.bias, log_det

    def inverse(self, z: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        log_det = -self.log_scale.sum().expand(z.shape[:-1])
        return (z - self.bias) * (-self.log_scale).exp(), log_det


class Permutation(nn.Module):
    """A fixed reordering of the coordinates.

    Parameters
    ----------
    order : sequence of int
        Coordinate ``order[i]`` of the input becomes coordinate i of the output.
    """

    order: Tensor
    inverse_order: Tensor

    def __init__(self, order: list[int] | Tensor):
        super().__init__()
        order = torch.as_tensor(order, dtype=torch.long)
        self.register_buffer("order", order)
        self.register_buffer("inverse_order", torch.argsort(order))

    def forward(self, x: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return x.index_select(-1, self.order), x.new_zeros(x.shape[:-1])

    def inverse(self, z: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return z.index_select(-1, self.inverse_order), z.new_zeros(z.shape[:-1])


class Reversal(nn.Module):
    """The coordinates in reverse order: an autoregressive transform takes the last one first."""

    def forward(self, x: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return x.flip(-1), x.new_zeros(x.shape[:-1])

    def inverse(self, z: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return self.forward(z, condition)


class Rotation(nn.Module):
    """A learned rotation z = x Q with the Cayley transform Q = (I + S)⁻¹ (I − S), S = A − Aᵀ.

    Q is random at the start, and stays orthogonal whatever the optimizer does, so that log|det| is
    zero and the inverse a transpose.

    Parameters
    ----------
    dim : int
        Number of dimensions.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.skew = nn.Parameter(torch.randn(dim, dim))

    def matrix(self) -> Float[Tensor, "d d"]:
        skew = self.skew - self.skew.mT
        identity = torch.eye(len(skew), dtype=skew.dtype, device=skew.device)
        # I + S is never singular; to check it, as `solve` does, a GPU would wait for the host.
        return torch.linalg.solve_ex(identity + skew, identity - skew).result

    def forward(self, x: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return x @ self.matrix(), x.new_zeros(x.shape[:-1])

    def inverse(self, z: Float[Tensor, "*batch d"], condition: Tensor | None = None) -> Transformed:
        return z @ self.matrix().mT, z.new_zeros(z.shape[:-1])
