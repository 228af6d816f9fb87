"""A permutation-invariant summary network for exchangeable data: the deep set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.checks import check_choice, check_count, check_sizes
from jana_pymc.networks.dense import ACTIVATIONS, DenseNetwork


@dataclass(frozen=True)
class DeepSetSettings:
    """Architecture of a deep set.

    Parameters
    ----------
    n_equivariant : int
        Number of equivariant modules, in which every observation learns of the pooled set.
    hidden : tuple of int
        Hidden layers of each inner network; each also ends in a layer of the last width.
    n_extremes : int
        Besides the mean of all inner features, the maximum of the first n of them is kept: it
        shows what a mean blurs, such as the fastest response, which bounds the non-decision time.
    activation : {"relu", "silu", "tanh"}
    """

    n_equivariant: int = 0
    hidden: Sequence[int] = (32, 32)
    n_extremes: int = 8
    activation: Literal["relu", "silu", "tanh"] = "silu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        if not self.hidden:
            raise ValueError("hidden=(): a deep set needs at least one hidden layer.")
        check_count("n_equivariant", self.n_equivariant, least=0)
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        if check_count("n_extremes", self.n_extremes, least=0) > self.hidden[-1]:
            raise ValueError(
                f"n_extremes={self.n_extremes}: expected 0 to {self.hidden[-1]}, the last width."
            )


class DeepSet(nn.Module):
    """Summarise sets of differing sizes, whatever the order of their elements.

    Parameters
    ----------
    n_in, n_out : int
        Features of one observation, size of the summary.
    settings : DeepSetSettings

    References
    ----------
    .. [1] Zaheer, M., et al. (2017). Deep sets. NeurIPS.
    .. [2] Bloem-Reddy, B., & Teh, Y. W. (2020). Probabilistic symmetries and invariant neural
       networks. JMLR, 21(90).
    """

    def __init__(self, n_in: int, n_out: int, settings: DeepSetSettings):
        super().__init__()
        self.equivariant = nn.ModuleList()
        width = n_in
        for _ in range(settings.n_equivariant):
            self.equivariant.append(_Equivariant(width, settings))
            width = settings.hidden[-1]
        self.invariant = _Invariant(width, settings)
        self.output = nn.Linear(settings.hidden[-1], n_out)

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Summarise each set, counting only observations where the mask is true."""
        for module in self.equivariant:
            x = module(x, mask)
        return self.output(self.invariant(x, mask))


class _Invariant(nn.Module):
    """s₂(pool s₁(x))."""

    def __init__(self, n_in: int, settings: DeepSetSettings):
        super().__init__()
        self.n_extremes = settings.n_extremes
        self.before = _inner_network(n_in, settings)
        self.after = _inner_network(settings.hidden[-1] + settings.n_extremes, settings)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.after(_pool(self.before(x), mask, self.n_extremes))


class _Equivariant(nn.Module):
    """s₃([x, s₂(pool s₁(x))])."""

    def __init__(self, n_in: int, settings: DeepSetSettings):
        super().__init__()
        self.invariant = _Invariant(n_in, settings)
        self.combine = _inner_network(n_in + settings.hidden[-1], settings)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        pooled = self.invariant(x, mask)[:, None].expand(-1, x.shape[1], -1)
        return self.combine(torch.cat([x, pooled], -1))


def _inner_network(n_in: int, settings: DeepSetSettings) -> nn.Sequential:
    *hidden, width = settings.hidden
    network = DenseNetwork(n_in, width, hidden=hidden, activation=settings.activation)
    return nn.Sequential(network, ACTIVATIONS[settings.activation]())


def _pool(
    x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"], n_extremes: int
) -> Float[Tensor, "sets pooled"]:
    # A matrix product is several times faster than a masked sum, forward and backward.
    weights = mask.to(x.dtype) / mask.sum(1, keepdim=True)
    mean = (weights[:, None] @ x)[:, 0]
    if n_extremes == 0:
        return mean
    candidates = x[..., :n_extremes].masked_fill(~mask[..., None], -torch.inf)
    return torch.cat([mean, candidates.max(1).values], -1)
