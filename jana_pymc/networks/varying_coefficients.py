"""A network whose location is linear in the past, with coefficients that vary with the known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.networks.dense import DenseNetwork


class VaryingCoefficientNetwork(nn.Module):
    r"""Raw parameters of a density from what is known and from the past.

    .. math:: r = W u + \mathrm{MLP}(u) + e_1 \, b(k) \cdot y + f \, s(k), \qquad u = (k, \bar y)

    with known quantities k (parameters, conditions, which part of the past is there), the past y
    and the past :math:`\bar y` kept within what was seen in training. The first output, a location,
    is linear in the past with coefficients that depend on what is known: autoregressions and
    Kalman filters have this form exactly, and beyond the trained range it continues as a straight
    line while everything else stays as it was at the edge. At the beginning, where the flag f is
    one, a network s of its own adds to all outputs: the first of many time points has little weight
    in a loss, yet often a law of its own.

    Parameters
    ----------
    n_known, n_past, n_out : int
    flag : int
        Position among the known quantities of the flag of the beginning.
    hidden, coefficient_hidden : sequence of int
        Hidden layers of the dense network, and of those for the coefficients b and the beginning.
    activation : str
        See `DenseNetwork`.
    location : bool
        Whether the first output is a location; without it the past itself is left out.

    References
    ----------
    .. [1] Hastie, T., & Tibshirani, R. (1993). Varying-coefficient models. Journal of the Royal
       Statistical Society B, 55(4), 757-796.
    """

    def __init__(
        self,
        n_known: int,
        n_past: int,
        n_out: int,
        *,
        flag: int,
        hidden: Sequence[int],
        coefficient_hidden: Sequence[int],
        activation: str,
        location: bool,
    ):
        super().__init__()
        self.skip = nn.Linear(n_known + n_past, n_out)
        nn.init.zeros_(self.skip.weight)
        nn.init.zeros_(self.skip.bias)
        self.flag = flag
        options = {"activation": activation, "zero_output": True}
        self.dense = DenseNetwork(n_known + n_past, n_out, hidden=hidden, **options)  # type: ignore[arg-type]
        self.start = DenseNetwork(n_known, n_out, hidden=coefficient_hidden, **options)  # type: ignore[arg-type]
        self.coefficients = (
            DenseNetwork(n_known, n_past, hidden=coefficient_hidden, **options)  # type: ignore[arg-type]
            if location and n_past
            else None
        )

    def forward(
        self,
        known: Float[Tensor, "rows k"],
        past: Float[Tensor, "rows p"],
        bounded: Float[Tensor, "rows p"],
    ) -> Float[Tensor, "rows out"]:
        inputs = torch.cat([known, bounded], -1)
        raw = self.skip(inputs) + self.dense(inputs)
        raw = raw + known[:, self.flag, None] * self.start(known)
        if self.coefficients is None:
            return raw
        location = (self.coefficients(known) * past).sum(-1, keepdim=True)
        return torch.cat([raw[:, :1] + location, raw[:, 1:]], -1)
