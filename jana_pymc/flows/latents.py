"""Base distributions of the flows: standard Gaussian and multivariate Student-t."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GaussianLatent(nn.Module):
    """Standard normal distribution in ``dim`` dimensions."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def log_prob(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        return -0.5 * (z**2).sum(-1) - 0.5 * self.dim * math.log(2.0 * math.pi)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        return _standard_normal((*shape, self.dim), generator, like)


class StudentTLatent(nn.Module):
    """Multivariate Student-t distribution with unit scale matrix.

    Not a product of univariate ones: all coordinates share one chi-square divisor.

    Parameters
    ----------
    dim : int
        Number of dimensions.
    degrees_of_freedom : float
        Tail index; the paper uses 50 for the diffusion model and the epidemic benchmarks.
    """

    def __init__(self, dim: int, degrees_of_freedom: float = 50.0):
        super().__init__()
        self.dim = dim
        self.degrees_of_freedom = degrees_of_freedom

    def log_prob(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        nu, d = self.degrees_of_freedom, self.dim
        constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
        return constant - (nu + d) / 2 * torch.log1p((z**2).sum(-1) / nu)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        """Scale a normal vector by one χ² variable, shared by its components."""
        normal = _standard_normal((*shape, self.dim), generator, like)
        # torch's gamma sampler is the only one that takes a generator for a real shape parameter.
        alpha = torch.full(
            (*shape, 1), self.degrees_of_freedom / 2, dtype=like.dtype, device=like.device
        )
        chi_square = 2.0 * torch._standard_gamma(alpha, generator=generator)
        return normal * torch.sqrt(self.degrees_of_freedom / chi_square)


Latent = GaussianLatent | StudentTLatent


def _standard_normal(
    shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor
) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
