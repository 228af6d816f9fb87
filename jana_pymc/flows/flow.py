"""A conditional normalizing flow: a chain of transforms and a base distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.flows.autoregressive import AutoregressiveTransform, Reverse
from jana_pymc.flows.coupling import AffineElementwise, Coupling, SplineElementwise
from jana_pymc.flows.latents import GaussianLatent, Latent, StudentTLatent
from jana_pymc.flows.linear import ActNorm, Permutation, Rotation


@dataclass(frozen=True)
class FlowSettings:
    """Architecture of a flow.

    Parameters
    ----------
    n_layers : int
        Number of coupling layers, each preceded by ActNorm and a linear map; or of autoregressive
        layers, each in the reverse order of the one before.
    transform : {"spline", "affine", "interleaved", "autoregressive"}
        Elementwise family of coupling layers, "interleaved" alternates, affine first; or
        autoregressive splines, see `AutoregressiveTransform`.
    linear : {"rotation", "permutation"}
        Learned rotation or fixed random permutation between layers.
    hidden, activation, dropout
        The conditioning networks, see `DenseNetwork`; of an autoregressive flow, the network that
        standardises by the condition.
    conditioner_hidden : int
        Width of each component's own network in an autoregressive flow.
    n_bins : int
        Inner bins of the splines.
    degrees_of_freedom : float, optional
        Multivariate Student-t base distribution with that many; None for a Gaussian.
    """

    n_layers: int = 3
    transform: Literal["spline", "affine", "interleaved", "autoregressive"] = "spline"
    linear: Literal["rotation", "permutation"] = "rotation"
    hidden: Sequence[int] = (128, 128)
    activation: Literal["relu", "silu", "tanh"] = "silu"
    dropout: float = 0.0
    conditioner_hidden: int = 64
    n_bins: int = 8
    degrees_of_freedom: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("transform", ("spline", "affine", "interleaved", "autoregressive")),
            ("linear", ("rotation", "permutation")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {allowed}.")
        if self.n_layers < 1:
            raise ValueError(f"n_layers={self.n_layers}: a flow needs at least one layer.")
        object.__setattr__(self, "hidden", tuple(self.hidden))


class ConditionalFlow(nn.Module):
    """The density p(x | c) = p_z(g(x; c)) |det ∂g/∂x|.

    Parameters
    ----------
    transforms : sequence of modules
        In the order in which they carry x to the latent z.
    latent : GaussianLatent or StudentTLatent
        Base distribution of z.
    """

    def __init__(self, transforms: Sequence[nn.Module], latent: Latent):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.latent = latent

    def log_prob(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*batch c"] | None = None
    ) -> Float[Tensor, "*batch"]:
        """Log density of x given the condition."""
        log_det = x.new_zeros(x.shape[:-1])
        for transform in self.transforms:
            x, contribution = transform(x, condition)
            log_det = log_det + contribution
        return self.latent.log_prob(x) + log_det

    def sample(
        self,
        n: int,
        condition: Float[Tensor, "*batch c"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch n d"]:
        """Draw n points for each condition."""
        return self.sample_with_log_prob(n, condition, generator)[0]

    def sample_with_log_prob(
        self,
        n: int,
        condition: Float[Tensor, "*batch c"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "*batch n d"], Float[Tensor, "*batch n"]]:
        """Draw n points for each condition, with their log densities, in one pass."""
        condition = condition.unsqueeze(-2)
        condition = condition.expand(*condition.shape[:-2], n, condition.shape[-1])
        x = self.latent.sample(tuple(condition.shape[:-1]), generator, condition)
        log_prob = self.latent.log_prob(x)
        for transform in reversed(self.transforms):
            x, contribution = transform.inverse(x, condition)  # type: ignore[operator]
            log_prob = log_prob - contribution
        return x, log_prob


def conditional_flow(
    dim: int,
    n_condition: int,
    settings: FlowSettings,
    generator: torch.Generator | None = None,
) -> ConditionalFlow:
    """Build a flow.

    Parameters
    ----------
    dim, n_condition : int
        Sizes of the target and of the condition.
    settings : FlowSettings
    generator : torch.Generator, optional
        Draws the fixed permutations or the rotations' base.
    """
    latent: Latent = (
        GaussianLatent(dim)
        if settings.degrees_of_freedom is None
        else StudentTLatent(dim, settings.degrees_of_freedom)
    )
    if settings.transform == "autoregressive":
        return ConditionalFlow(_autoregressive(dim, n_condition, settings), latent)
    return ConditionalFlow(_coupling(dim, n_condition, settings, generator), latent)


def _autoregressive(dim: int, n_condition: int, settings: FlowSettings) -> list[nn.Module]:
    transforms: list[nn.Module] = []
    for layer in range(settings.n_layers):
        transforms += [Reverse()] if layer else []
        transforms.append(
            AutoregressiveTransform(
                dim,
                n_condition,
                n_bins=settings.n_bins,
                hidden=() if layer else tuple(settings.hidden),
                conditioner_hidden=settings.conditioner_hidden,
            )
        )
    return transforms


def _coupling(
    dim: int, n_condition: int, settings: FlowSettings, generator: torch.Generator | None
) -> list[nn.Module]:
    transforms: list[nn.Module] = []
    for layer in range(settings.n_layers):
        affine = settings.transform == "affine" or (
            settings.transform == "interleaved" and layer % 2 == 0
        )
        transforms.append(ActNorm(dim))
        if dim > 1 and settings.linear == "rotation":
            transforms.append(Rotation(dim, generator))
        elif dim > 1:
            transforms.append(Permutation(torch.randperm(dim, generator=generator)))
        transforms.append(
            Coupling(
                dim,
                n_condition,
                AffineElementwise() if affine else SplineElementwise(settings.n_bins),
                hidden=settings.hidden,
                activation=settings.activation,
                dropout=settings.dropout,
            )
        )
    return transforms
