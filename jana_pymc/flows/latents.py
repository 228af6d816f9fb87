"""Base distributions of the flows: standard Gaussian, multivariate Student-t, Gaussian mixture."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.checks import check_count


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


class GaussianMixtureLatent(nn.Module):
    r"""Mixture of Gaussians with unit covariance.

    .. math:: p(z) = \sum_k w_k\, \mathrm{Normal}(z \mid \mu_k, I)

    At first the weights are equal, and the means lie evenly on the diagonal between
    :math:`-(2, …, 2)` and :math:`(2, …, 2)`. With two components that is the base distribution of
    the paper's two moons: a posterior of two parts need not be torn from a single one.

    Parameters
    ----------
    dim : int
        Number of dimensions.
    n_components : int
    learned : bool
        Let training move means and weights; else they are constants.

    Raises
    ------
    TypeError, ValueError
        If the number of components is no integer of at least 2.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Appendix D.2.
    """

    means: Tensor
    logits: Tensor

    def __init__(self, dim: int, n_components: int = 2, learned: bool = False):
        super().__init__()
        check_count("n_components", n_components, least=2, why="of a mixture")
        self.dim = dim
        means = torch.linspace(-2.0, 2.0, n_components)[:, None].repeat(1, dim)
        logits = torch.zeros(n_components)
        if learned:
            self.means, self.logits = nn.Parameter(means), nn.Parameter(logits)
        else:
            self.register_buffer("means", means, persistent=False)
            self.register_buffer("logits", logits, persistent=False)

    def log_prob(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        square = ((z[..., None, :] - self.means) ** 2).sum(-1)
        log_sum = (self.logits.log_softmax(-1) - 0.5 * square).logsumexp(-1)
        return log_sum - 0.5 * self.dim * math.log(2.0 * math.pi)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor
    ) -> Tensor:
        """Draw a component for each point, then the point."""
        n = math.prod(shape)
        weights = self.logits.detach().softmax(-1)
        if n:  # multinomial refuses to draw nothing
            component = torch.multinomial(weights, n, replacement=True, generator=generator)
            centre = self.means[component].reshape(*shape, self.dim).to(like)
        else:
            centre = like.new_zeros((*shape, self.dim))
        return centre + _standard_normal((*shape, self.dim), generator, like)


Latent = GaussianLatent | StudentTLatent | GaussianMixtureLatent


def _standard_normal(
    shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor
) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
