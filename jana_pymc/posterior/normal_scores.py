"""Parameters within an interval as normal scores: a uniform prior becomes the flow's own latent.

PyMC carries an interval to the line by the logit. A uniform prior, like most posteriors near an end
of the interval, has mass at the ends, which becomes logistic tails: they are heavier than those of
a Gaussian latent, and a flow spends its layers on them. Normal scores of the place in the interval
have the Gaussian's tails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

FAR = 80.0
"""Logits beyond this count as infinite: single precision cannot tell their place from the end."""


class NormalScores(nn.Module):
    r"""The map from a logit to the normal score of the same place, z = Φ⁻¹(σ(u)), in some columns.

    Parameters
    ----------
    columns : sequence of int
        Which columns hold logits; others stay as they are.
    dim : int
        Number of columns.
    """

    is_logit: Tensor

    def __init__(self, columns: Sequence[int], dim: int):
        super().__init__()
        is_logit = torch.zeros(dim, dtype=torch.bool)
        is_logit[list(columns)] = True
        self.register_buffer("is_logit", is_logit, persistent=False)

    def forward(
        self, u: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Scores, and the log determinant."""
        logit = torch.where(self.is_logit, u, 0.0).clamp(-FAR, FAR)
        lower = torch.special.ndtri(torch.sigmoid(-logit.abs()))  # the upper tail would round to 1
        score = torch.where(logit > 0.0, -lower, lower)
        return torch.where(self.is_logit, score, u), self._log_det(logit, score)

    def inverse(
        self, z: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Logits of scores, and the log determinant of `forward` there."""
        score = torch.where(self.is_logit, z, 0.0)
        logit = torch.special.log_ndtr(score) - torch.special.log_ndtr(-score)
        return torch.where(self.is_logit, logit, z), self._log_det(logit, score)

    def _log_det(self, logit: Tensor, score: Tensor) -> Tensor:
        """Of σ'(u) / φ(z), which is constant in the other columns."""
        logistic = logsigmoid(logit) + logsigmoid(-logit) + 0.5 * math.log(2.0 * math.pi)
        log_det = torch.add(logistic, score**2, alpha=0.5)
        return torch.where(self.is_logit, log_det, 0.0).sum(-1)
