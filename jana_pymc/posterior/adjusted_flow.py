"""A flow that depends, beside its condition, on the slopes of the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_sizes
from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.flows.flow import ConditionalFlow
from jana_pymc.flows.latents import Latent
from jana_pymc.networks.conditioners import compress
from jana_pymc.networks.moments import set_moments


@dataclass(frozen=True)
class AdjustmentSettings:
    """Architecture of a posterior's adjustment to the likelihood network.

    Parameters
    ----------
    n_points : int
        Latent points at which the joint density's slope is taken: the centre, and random ones. Each
        costs a gradient of the likelihood for every data set.
    hidden : tuple of int
        Hidden layers, residual, of the network that standardises by the slopes.

    Raises
    ------
    TypeError, ValueError
        If a number or a width is no positive integer.
    """

    n_points: int = 1
    hidden: Sequence[int] = (128, 128)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_points", check_count("n_points", self.n_points))
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        if not self.hidden:
            raise ValueError("hidden=(): an adjustment needs at least one hidden layer.")

    def n_slopes(self, dim: int) -> int:
        """Numbers that `LatentSlopes` gives for a data set, by the size of the parameters."""
        return self.n_points * dim + (self.n_points if self.n_points > 1 else 0)


class AdjustedFlow(nn.Module):
    r"""The density of a flow whose latent points are first moved, according to slopes.

    .. math::

        q(x \mid c, s) = p_z(h(g(x; c); c, s))\, |\det \partial h / \partial x|,

    where g is the flow and h one `AutoregressiveTransform`. Were the flow the posterior, the
    posterior would have the density :math:`p_z` in the latent space; the slopes s say how it
    differs from that (`LatentSlopes`). Where they are small, the transform's linear effect of the
    slopes on the location is Le Cam's one-step estimator [1]_.

    A condition without slopes gives the flow as it was.

    Parameters
    ----------
    flow : ConditionalFlow
    dim, n_condition : int
        Sizes of the target and of the flow's condition.
    settings : AdjustmentSettings

    References
    ----------
    .. [1] Le Cam, L. (1956). On the asymptotic theory of estimation and testing hypotheses.
       Proceedings of the Third Berkeley Symposium, 1, 129-156.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self, flow: ConditionalFlow, dim: int, n_condition: int, settings: AdjustmentSettings
    ):
        super().__init__()
        self.flow = flow
        self.n_slopes = settings.n_slopes(dim)
        n_seen = self.n_slopes + n_condition
        self.transform = AutoregressiveTransform(
            dim, n_seen, hidden=tuple(settings.hidden), residual=True
        )
        self.register_buffer("mean", torch.zeros(n_seen))
        self.register_buffer("sd", torch.ones(n_seen))

    @property
    def latent(self) -> Latent:
        """Base distribution, the flow's own."""
        return self.flow.latent

    @torch.no_grad()
    def standardize(self, condition: Float[Tensor, "sets s"]) -> None:
        """Take location and scale of slopes and condition, which are one tensor."""
        set_moments(self.mean, self.sd, condition)

    def log_prob(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch s"]
    ) -> Float[Tensor, "*batch"]:
        """Log density of x given slopes and condition."""
        seen, given = self._split(condition)
        z, log_det = self.flow.to_latent(x, given)
        if seen is not None:
            z, contribution = self.transform(z, seen)
            log_det = log_det + contribution
        return self.latent.log_prob(z) + log_det

    def push(
        self, z: Float[Tensor, "*batch n d"], condition: Float[Tensor, "*batch s"]
    ) -> tuple[Float[Tensor, "*batch n d"], Float[Tensor, "*batch n"]]:
        """Carry points of the latent distribution to x, with the log density of x."""
        seen, given = self._split(condition.unsqueeze(-2))
        log_prob = self.latent.log_prob(z)
        if seen is not None:
            z, contribution = self.transform.inverse(z, seen)
            log_prob = log_prob - contribution
        x, log_det = self.flow.from_latent(z, given)
        return x, log_prob - log_det

    def _split(self, condition: Tensor) -> tuple[Tensor | None, Tensor]:
        """What the adjustment sees, and what the flow sees."""
        if condition.shape[-1] < len(self.mean):
            return None, condition
        return compress((condition - self.mean) / self.sd), condition[..., self.n_slopes :]
