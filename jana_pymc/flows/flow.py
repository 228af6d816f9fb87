"""A conditional normalizing flow: a chain of transforms and a base distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.checks import (
    check_choice,
    check_count,
    check_number,
    check_share,
    check_sizes,
    check_switch,
)
from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.flows.coupling import AffineElementwise, Coupling, SplineElementwise
from jana_pymc.flows.latents import (
    GaussianLatent,
    GaussianMixtureLatent,
    Latent,
    StudentTLatent,
)
from jana_pymc.flows.linear import ActNorm, Permutation, Reversal, Rotation
from jana_pymc.networks.dense import ACTIVATIONS

MOST_WAVES = 12
"""With more of them, the shortest would be finer than single precision resolves."""

_OF_AUTOREGRESSIVE = ("conditioner_hidden", "conditioner_layers", "n_waves")
NOT_FOR: Mapping[str, tuple[str, ...]] = {
    "spline": _OF_AUTOREGRESSIVE,
    "affine": ("n_bins", *_OF_AUTOREGRESSIVE),
    "interleaved": _OF_AUTOREGRESSIVE,
    "autoregressive": ("activation", "dropout"),
}
"""For each transform, the settings that belong to others and have no effect on it."""


@dataclass(frozen=True)
class FlowSettings:
    """Architecture of a flow.

    Parameters
    ----------
    n_layers : int
        Number of coupling layers, each preceded by ActNorm and a linear map; or of autoregressive
        layers, with a linear map between them.
    transform : {"spline", "affine", "interleaved", "autoregressive"}
        Elementwise family of coupling layers, "interleaved" alternates, affine first; or
        autoregressive splines, see `AutoregressiveTransform`.
    linear : {"rotation", "permutation", "reversal"}
        Learned rotation, fixed random permutation or reversed order between layers.
    hidden, activation, dropout
        The conditioning networks, see `DenseNetwork`. In an autoregressive flow, ``hidden`` is for
        the network that standardises by the condition; the other two are for coupling layers only.
    conditioner_hidden, conditioner_layers : int
        Width and number of hidden layers of each component's own network in an autoregressive
        flow. Its first two layers are plain, further ones residual.
    n_waves : int
        Sines and cosines of each earlier component that these networks see beside it: what varies
        fast with it, like the edges of narrow curved posteriors, is learned sooner.
    n_bins : int
        Inner bins of the splines.
    degrees_of_freedom : float, optional
        Tail index of the multivariate Student-t base distribution; 50 if left out.
    latent : {"gaussian", "student_t", "mixture"}, optional
        Base distribution. Left out, it is the Student-t if degrees of freedom are given, else the
        Gaussian.
    n_components : int
        Components of the mixture.
    learned_latent : bool
        Train means and weights of the mixture.
    residual : bool
        Residual connections in the conditioning networks.

    Raises
    ------
    TypeError
        If a number, a width or a switch is something else.
    ValueError
        If one is out of range, a word is unknown, or a setting is given that the transform or the
        base distribution does not have.
    """

    n_layers: int = 3
    transform: Literal["spline", "affine", "interleaved", "autoregressive"] = "spline"
    linear: Literal["rotation", "permutation", "reversal"] = "rotation"
    hidden: Sequence[int] = (128, 128)
    activation: Literal["relu", "silu", "tanh"] = "silu"
    dropout: float = 0.0
    conditioner_hidden: int = 64
    conditioner_layers: int = 2
    n_waves: int = 0
    n_bins: int = 8
    degrees_of_freedom: float | None = None
    latent: Literal["gaussian", "student_t", "mixture"] | None = None
    n_components: int = 2
    learned_latent: bool = False
    residual: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("transform", tuple(NOT_FOR)),
            ("linear", ("rotation", "permutation", "reversal")),
            ("activation", tuple(ACTIVATIONS)),
        ):
            check_choice(name, getattr(self, name), allowed)
        if self.latent is not None:
            check_choice("latent", self.latent, ("gaussian", "student_t", "mixture"))
        check_share("dropout", self.dropout, zero=True)
        check_count("n_layers", self.n_layers)
        check_count("n_bins", self.n_bins, least=2)
        check_count("conditioner_hidden", self.conditioner_hidden)
        check_count("conditioner_layers", self.conditioner_layers, least=2)
        check_count("n_waves", self.n_waves, least=0)
        for name in ("learned_latent", "residual"):
            check_switch(name, getattr(self, name))
        self._check_transform()
        if self.degrees_of_freedom is not None:
            if self.latent not in (None, "student_t"):
                raise ValueError(
                    f"degrees_of_freedom={self.degrees_of_freedom} belong to latent='student_t', "
                    f"but latent={self.latent!r}; leave one of them out."
                )
            check_number("degrees_of_freedom", self.degrees_of_freedom)
        if self.learned_latent and self.latent != "mixture":
            raise ValueError("learned_latent=True: only latent='mixture' can be learned.")
        check_count("n_components", self.n_components, least=2, why="of a mixture")
        if self.n_components != type(self).n_components and self.latent != "mixture":
            raise ValueError(
                f"n_components={self.n_components} belong to latent='mixture', but latent="
                f"{self.latent!r}; leave one of them out."
            )
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))

    def _check_transform(self) -> None:
        """Refuse settings of other transforms, which would be ignored."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in NOT_FOR[self.transform]:
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not for transform={self.transform!r}; "
                    f"leave it out."
                )
        if self.n_waves > MOST_WAVES:
            raise ValueError(
                f"n_waves={self.n_waves}: expected at most {MOST_WAVES}; each is half as long as "
                "the one before."
            )

    def build_latent(self, dim: int) -> Latent:
        """Make the base distribution in `dim` dimensions."""
        if self.latent == "mixture":
            return GaussianMixtureLatent(dim, self.n_components, self.learned_latent)
        if self.degrees_of_freedom is not None:
            return StudentTLatent(dim, self.degrees_of_freedom)
        return StudentTLatent(dim) if self.latent == "student_t" else GaussianLatent(dim)


class ConditionalFlow(nn.Module):
    """The density p(x | c) = p_z(g(x; c)) |det ∂g/∂x|.

    Parameters
    ----------
    transforms : sequence of modules
        In the order in which they carry x to the latent z.
    latent : GaussianLatent, StudentTLatent or GaussianMixtureLatent
        Base distribution of z.
    """

    def __init__(self, transforms: Sequence[nn.Module], latent: Latent):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self.latent = latent

    def log_prob(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"] | None = None
    ) -> Float[Tensor, "*batch"]:
        """Log density of x given the condition, which may be shared along an axis of size one."""
        z, log_det = self.to_latent(x, condition)
        return self.latent.log_prob(z) + log_det

    def to_latent(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"] | None = None
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Carry x to the latent distribution, with the log determinant."""
        log_det = x.new_zeros(())
        for transform in self.transforms:
            x, contribution = transform(x, condition)
            log_det = log_det + contribution
        return x, log_det

    def from_latent(
        self, z: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"] | None = None
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Carry points of the latent distribution to x, with the log determinant."""
        log_det = z.new_zeros(())
        for transform in reversed(self.transforms):
            z, contribution = transform.inverse(z, condition)  # type: ignore[operator]
            log_det = log_det + contribution
        return z, log_det

    def sample(
        self,
        n: int,
        condition: Float[Tensor, "*batch c"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*batch n d"]:
        """Draw n points for each condition."""
        z = self.latent.sample((*condition.shape[:-1], n), generator, condition)
        return self.from_latent(z, condition.unsqueeze(-2))[0]

    def push(
        self, z: Float[Tensor, "*batch n d"], condition: Float[Tensor, "*batch c"]
    ) -> tuple[Float[Tensor, "*batch n d"], Float[Tensor, "*batch n"]]:
        """Carry points of the latent distribution to x, with the log density of x."""
        x, log_det = self.from_latent(z, condition.unsqueeze(-2))
        return x, self.latent.log_prob(z) - log_det


def conditional_flow(dim: int, n_condition: int, settings: FlowSettings) -> ConditionalFlow:
    """Build a flow.

    Parameters
    ----------
    dim, n_condition : int
        Sizes of the target and of the condition.
    settings : FlowSettings
    """
    latent = settings.build_latent(dim)
    if settings.transform == "autoregressive":
        return ConditionalFlow(_autoregressive(dim, n_condition, settings), latent)
    return ConditionalFlow(_coupling(dim, n_condition, settings), latent)


def linear_map(dim: int, kind: str) -> list[nn.Module]:
    """The "rotation", "permutation" or "reversal" before a layer; none in one dimension."""
    if dim == 1:
        return []
    if kind == "rotation":
        return [Rotation(dim)]
    if kind == "reversal":
        return [Reversal()]
    return [Permutation(torch.randperm(dim))]


def _autoregressive(dim: int, n_condition: int, settings: FlowSettings) -> list[nn.Module]:
    transforms: list[nn.Module] = []
    for layer in range(settings.n_layers):
        transforms += linear_map(dim, settings.linear) if layer else []
        transforms.append(
            AutoregressiveTransform(
                dim,
                n_condition,
                n_bins=settings.n_bins,
                hidden=() if layer else tuple(settings.hidden),
                residual=settings.residual,
                conditioner_hidden=settings.conditioner_hidden,
                conditioner_layers=settings.conditioner_layers,
                n_waves=settings.n_waves,
            )
        )
    return transforms


def _coupling(dim: int, n_condition: int, settings: FlowSettings) -> list[nn.Module]:
    transforms: list[nn.Module] = []
    for layer in range(settings.n_layers):
        affine = settings.transform == "affine" or (
            settings.transform == "interleaved" and layer % 2 == 0
        )
        transforms.append(ActNorm(dim))
        transforms += linear_map(dim, settings.linear)
        transforms.append(
            Coupling(
                dim,
                n_condition,
                AffineElementwise() if affine else SplineElementwise(settings.n_bins),
                hidden=settings.hidden,
                activation=settings.activation,
                dropout=settings.dropout,
                residual=settings.residual,
            )
        )
    return transforms
