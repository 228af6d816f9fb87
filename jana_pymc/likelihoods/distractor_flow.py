"""The density of components on which the parameters have no influence."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.likelihoods.elementary_laws import log_normal
from jana_pymc.networks.conditioners import compress


class DistractorFlow(nn.Module):
    r"""Density of distractors given the informative components, whatever the parameters.

    It cancels from every posterior; simulation and evidence need it. Distractors may have tails of
    any weight: the flow works on :math:`\operatorname{arsinh}((x - m) / s)`, m the median and s
    half the range of the middle 68 %.

    Parameters
    ----------
    dim, n_given : int
        Numbers of distractors and of the other components.
    """

    location: Tensor
    scale: Tensor
    given_location: Tensor
    given_scale: Tensor

    def __init__(self, dim: int, n_given: int):
        super().__init__()
        self.transform = AutoregressiveTransform(
            dim, n_given, n_bins=8, hidden=(), conditioner_hidden=32
        )
        for name, size in (("", dim), ("given_", n_given)):
            self.register_buffer(f"{name}location", torch.zeros(size))
            self.register_buffer(f"{name}scale", torch.ones(size))

    @torch.no_grad()
    def standardize(self, values: Float[Tensor, "rows d"], given: Float[Tensor, "rows g"]) -> None:
        """Take location and scale from simulations."""
        for location, scale, x in (
            (self.location, self.scale, values),
            (self.given_location, self.given_scale, given),
        ):
            low, middle, high = (torch.quantile(x[:100_000], q, dim=0) for q in (0.16, 0.5, 0.84))
            location.copy_(middle)
            scale.copy_(torch.where(high > low, (high - low) / 2, 1.0))

    def log_prob(
        self, values: Float[Tensor, "rows d"], given: Float[Tensor, "rows g"]
    ) -> Float[Tensor, " rows"]:
        """Log density of all distractors of each row."""
        t = (values - self.location) / self.scale
        z, log_derivative = self.transform.components(torch.asinh(t), self._context(given))
        log_det = log_derivative - self.scale.log() - 0.5 * torch.log1p(t**2)
        return (log_normal(z) + log_det).sum(-1)

    @torch.no_grad()
    def sample(
        self, given: Float[Tensor, "rows g"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "rows d"]:
        """Draw all distractors for each row."""
        z = torch.randn(
            (len(given), len(self.location)),
            generator=generator,
            dtype=given.dtype,
            device=given.device,
        )
        y, _ = self.transform.inverse(z, self._context(given))
        return torch.sinh(y.clamp(-30.0, 30.0)) * self.scale + self.location

    def _context(self, given: Tensor) -> Tensor:
        return compress((given - self.given_location) / self.given_scale)
