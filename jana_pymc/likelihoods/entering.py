"""Parameters as networks take them: logarithms, angles, whole numbers, then standardised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.networks.moments import set_moments

SKEWED = 5.0
"""A positive parameter whose 99 % and 1 % quantiles have a larger ratio enters as its logarithm."""


class EnteringParameters(nn.Module):
    """Constrained parameters in the form in which a network learns most from them.

    Parameters
    ----------
    n_parameters : int
    angles : sequence of int
        Positions of angles in radians: sines and cosines enter in their place.
    rounded : sequence of int
        Positions of those that the simulator rounds to whole numbers: it knows no difference
        between values that round to the same, and the network is told none.

    Raises
    ------
    ValueError
        If a position is not among the parameters, or is given twice.
    """

    logarithmic: Tensor
    mean: Tensor
    sd: Tensor
    whole: Tensor
    turning: Tensor

    def __init__(self, n_parameters: int, angles: Sequence[int] = (), rounded: Sequence[int] = ()):
        super().__init__()
        self.angles, self.rounded = list(angles), list(rounded)
        both = [*self.angles, *self.rounded]
        given = f"angles={tuple(angles)}, rounded={tuple(rounded)}"
        if any(not 0 <= p < n_parameters for p in both):
            raise ValueError(
                f"{given}: expected positions among {n_parameters} parameters, from 0 to "
                f"{n_parameters - 1}."
            )
        if len(set(both)) < len(both):
            raise ValueError(f"{given}: expected different positions, each only once.")
        self.n_entering = n_parameters + len(self.angles)
        self.register_buffer("logarithmic", torch.zeros(n_parameters, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(self.n_entering))
        self.register_buffer("sd", torch.ones(self.n_entering))
        whole = torch.zeros(n_parameters, dtype=torch.bool)
        whole[self.rounded] = True
        self.register_buffer("whole", whole, persistent=False)
        # Which columns have sines in their place, and an index that no list must carry to a GPU.
        self.register_buffer(
            "turning", torch.tensor(self.angles, dtype=torch.long), persistent=False
        )

    @torch.no_grad()
    def standardize(self, parameters: Float[Tensor, "rows p"]) -> None:
        """Take location and scale from simulations, and see which are skewed."""
        low, high = (torch.quantile(parameters[:100_000], q, dim=0) for q in (0.01, 0.99))
        self.logarithmic.copy_((parameters > 0).all(0) & (high > SKEWED * low))
        self.logarithmic[self.angles + self.rounded] = False
        set_moments(self.mean, self.sd, self._transformed(parameters))

    def forward(self, parameters: Float[Tensor, "*batch p"]) -> Float[Tensor, "*batch e"]:
        return (self._transformed(parameters) - self.mean) / self.sd

    def _transformed(self, parameters: Tensor) -> Tensor:
        positive = parameters.clamp_min(torch.finfo(parameters.dtype).tiny)
        plain = torch.where(self.logarithmic, positive.log(), parameters)
        if self.rounded:
            plain = torch.where(self.whole, parameters.round(), plain)
        if not self.angles:
            return plain
        angles = parameters.index_select(-1, self.turning)
        return torch.cat([plain.index_copy(-1, self.turning, angles.sin()), angles.cos()], -1)
