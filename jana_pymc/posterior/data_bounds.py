"""Parameters that bound the data are bounded by them.

Where an observable lies above a parameter, as reaction times above the non-decision time, the
parameter lies below the smallest observation: the posterior's support is known, and given to the
flow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.networks.columns import columns
from jana_pymc.networks.moments import set_moments

ROUNDING = 1e-6
"""Smallest distance from the bound that counts as not zero, in prior standard deviations."""

SHARE = 0.03
"""Share of the mean distance from the extreme observation that is added to all distances."""

SMALLEST = 1e-9
"""Guards the logarithm of the distances of one observation alone."""


@dataclass(frozen=True)
class DataBound:
    """A parameter on one side of all observations of some components.

    Parameters
    ----------
    column : int
        The parameter's position in the unconstrained space.
    components : tuple of int
        The observables' columns.
    below : bool
        Whether the parameter lies below the observations, or above.
    lower, upper : float
        Ends of the parameter's own support, infinite for none. The unconstrained value is the
        logarithm of the distance from the one finite end, the logit between two, or the parameter.
    """

    column: int
    components: tuple[int, ...]
    below: bool
    lower: float = -math.inf
    upper: float = math.inf

    @property
    def orientation(self) -> float:
        """1 if the unconstrained value has an upper bound, -1 if a lower one."""
        decreasing = math.isinf(self.lower) and not math.isinf(self.upper)
        return 1.0 if self.below != decreasing else -1.0

    def of(
        self, observables: Float[Tensor, "sets obs c"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, " sets"]:
        """Unconstrained value of the bound, infinite where the data tell nothing."""
        values = columns(observables, self.components)
        nowhere = math.inf if self.below else -math.inf
        values = torch.where(mask[..., None] & ~values.isnan(), values, nowhere)
        return self._unconstrain(values.amin((1, 2)) if self.below else values.amax((1, 2)))

    def log_distance(
        self, observables: Float[Tensor, "sets obs c"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets obs k"]:
        """Logarithm of each observation's distance from the extreme one, in the data's own scale.

        A small share of the mean distance is added, for the extreme observation itself.
        """
        values = columns(observables, self.components) * (1.0 if self.below else -1.0)
        known = mask[..., None] & ~values.isnan()
        distance = torch.where(known, values, math.inf)
        distance = torch.where(known, values - distance.amin((1, 2), keepdim=True), 0.0)
        mean = distance.sum((1, 2), keepdim=True) / known.sum((1, 2), keepdim=True).clamp_min(1)
        return (distance + SHARE * mean + SMALLEST).log()

    def _unconstrain(self, value: Float[Tensor, " sets"]) -> Float[Tensor, " sets"]:
        if math.isinf(self.lower) and math.isinf(self.upper):
            return value
        if math.isinf(self.upper):
            return (value - self.lower).clamp_min(0.0).log()
        if math.isinf(self.lower):
            return (self.upper - value).clamp_min(0.0).log()
        inside = value.clamp(self.lower, self.upper)
        return (inside - self.lower).log() - (self.upper - inside).log()


class DataBounds(nn.Module):
    r"""Carries standardised parameters below their bounds to the real line, and back.

    With a parameter s below the bound b, both in units of the prior's standard deviation,

    .. math:: e^{-r} = e^{-s} - e^{-b},

    so that r is s itself far below the bound, and the logarithm of the distance from it nearby.
    For a logit-transformed parameter this is the logit within the smaller interval. The bound is
    subtracted too: what remains of the posterior then changes little from one data set to the next.

    Parameters
    ----------
    bounds : sequence of DataBound
        At most one for each parameter.
    dim : int
        Size of the unconstrained space.
    """

    lowest: Tensor
    highest: Tensor
    mean: Tensor
    sd: Tensor

    def __init__(self, bounds: Sequence[DataBound], dim: int):
        super().__init__()
        self.bounds = tuple(bounds)
        positions = [bound.column for bound in self.bounds]
        if len(set(positions)) < len(positions):
            raise ValueError(f"unconstrained columns {positions}: more than one bound for one.")
        self.register_buffer("lowest", torch.zeros(len(positions)))
        self.register_buffer("highest", torch.zeros(len(positions)))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("sd", torch.ones(dim))

    def __len__(self) -> int:
        return len(self.bounds)

    def of(
        self,
        observables: Float[Tensor, "sets obs c"],
        mask: Bool[Tensor, "sets obs"],
        mean: Float[Tensor, " dim"],
        sd: Float[Tensor, " dim"],
    ) -> Float[Tensor, "sets bounds"]:
        """Bounds of oriented, standardised parameters.

        Data that leave a parameter no room at all are treated as if they left some: the posterior
        of an impossible data set is as good as any other.
        """
        values = [
            bound.orientation
            * (bound.of(observables, mask) - mean[bound.column])
            / sd[bound.column]
            for bound in self.bounds
        ]
        return torch.maximum(torch.stack(values, -1), self.lowest)

    def log_distances(
        self, observables: Float[Tensor, "sets obs c"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets obs k"]:
        """`DataBound.log_distance` of all bounds."""
        return torch.cat([bound.log_distance(observables, mask) for bound in self.bounds], -1)

    def features(self, bounds: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """The bounds, made finite: beyond the largest simulated parameter they have no effect."""
        return torch.minimum(bounds, self.highest)

    @torch.no_grad()
    def standardize(
        self,
        standardized: Float[Tensor, "sets dim"],
        observables: Float[Tensor, "sets obs c"],
        mask: Bool[Tensor, "sets obs"],
        mean: Float[Tensor, " dim"],
        sd: Float[Tensor, " dim"],
    ) -> None:
        """Take location and scale of the real values from simulations; arguments as of `of`."""
        oriented = self._oriented(standardized)
        self.lowest.copy_(oriented.amin(0))
        self.highest.copy_(oriented.amax(0))
        bounds = self.of(observables, mask, mean, sd)
        real, _ = self.forward(standardized, bounds)
        set_moments(self.mean, self.sd, real)

    def forward(
        self, standardized: Float[Tensor, "*batch dim"], bounds: Float[Tensor, "*#batch k"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Parameters to real values.

        Returns
        -------
        real : Tensor, shape (*batch, dim)
        log_abs_det_jacobian : Tensor, shape (*batch,)
            -inf where a parameter lies beyond its bound.
        """
        s = self._oriented(standardized)
        distance = bounds - s
        log_det = -torch.log(-torch.expm1(-distance.clamp_min(ROUNDING)))
        r = s + log_det - self.features(bounds)
        outside = (distance < -100 * ROUNDING).any(-1)  # by more than rounding
        log_det = torch.where(outside, -math.inf, log_det.sum(-1))
        real = (self._replaced(standardized, r) - self.mean) / self.sd
        return real, log_det - self.sd.log().sum()

    def inverse(
        self, real: Float[Tensor, "*batch dim"], bounds: Float[Tensor, "*#batch k"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Real values to parameters, and the log determinant of `forward` there."""
        values = real * self.sd + self.mean
        r = self._oriented(values) + self.features(bounds)
        s = -torch.logaddexp(-r, -bounds)
        log_det = (r - s).sum(-1) - self.sd.log().sum()
        return self._replaced(values, s), log_det

    def _oriented(self, values: Tensor) -> Tensor:
        """The bounded columns, those with a lower bound with the opposite sign."""
        return torch.stack([b.orientation * values[..., b.column] for b in self.bounds], -1)

    def _replaced(self, values: Tensor, oriented: Tensor) -> Tensor:
        parts = list(values.unbind(-1))
        for bound, new in zip(self.bounds, oriented.unbind(-1), strict=True):
            parts[bound.column] = bound.orientation * new
        return torch.stack(parts, -1)
