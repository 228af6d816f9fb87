"""A permutation-invariant summary network of attention blocks: the set transformer."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_kind
from jana_pymc.networks.attention import AttentionBlock, AttentionSettings


@dataclass(frozen=True)
class SetTransformerSettings:
    """Architecture of a set transformer.

    Parameters
    ----------
    n_blocks : int
        Number of blocks in which observations learn of each other.
    n_inducing : int
        Learned points through which they do so, so that the cost grows with the size of a set and
        not with its square; 0 lets every observation attend to every other.
    n_seeds : int
        Learned queries that pool a set.
    attention : AttentionSettings

    Raises
    ------
    TypeError
        If a number is no integer, or `attention` something else.
    ValueError
        If a number is too small.
    """

    n_blocks: int = 2
    n_inducing: int = 32
    n_seeds: int = 1
    attention: AttentionSettings = field(default_factory=AttentionSettings)

    def __post_init__(self) -> None:
        for name, least in (("n_blocks", 0), ("n_inducing", 0), ("n_seeds", 1)):
            check_count(name, getattr(self, name), least=least)
        check_kind("attention", self.attention, (AttentionSettings,))


class SetTransformer(nn.Module):
    """Summarise sets of differing sizes, whatever the order of their elements.

    Attention forms means, in which the size of a set is lost: where it matters, it must be passed
    on beside the summary.

    Parameters
    ----------
    n_in, n_out : int
        Features of one observation, size of the summary.
    settings : SetTransformerSettings

    References
    ----------
    .. [1] Lee, J., et al. (2019). Set transformer: A framework for attention-based
       permutation-invariant neural networks. ICML.
    """

    def __init__(self, n_in: int, n_out: int, settings: SetTransformerSettings):
        super().__init__()
        attention = settings.attention
        self.embed = nn.Linear(n_in, attention.width)
        self.blocks = nn.ModuleList(
            _InducedBlock(settings.n_inducing, attention)
            if settings.n_inducing
            else _SelfBlock(attention)
            for _ in range(settings.n_blocks)
        )
        self.seeds = _learned_points(settings.n_seeds, attention.width)
        self.pool = AttentionBlock(attention)
        self.output = nn.Linear(settings.n_seeds * attention.width, n_out)

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Summarise each set, counting only observations where the mask is true.

        Parameters
        ----------
        x : Tensor, shape (sets, obs, n_in)
        mask : Tensor of bool, shape (sets, obs)
            True for at least one observation of each set.

        Returns
        -------
        Tensor, shape (sets, n_out)
        """
        # An attention weight of zero does not silence a NaN.
        h = self.embed(x.masked_fill(~mask[..., None], 0.0))
        for block in self.blocks:
            h = block(h, mask)
        seeds = self.seeds.expand(len(x), -1, -1)
        return self.output(self.pool(seeds, h, mask).flatten(1))


class _InducedBlock(nn.Module):
    """Induced set attention: learned points attend to the set, and the set to what they found."""

    def __init__(self, n_inducing: int, settings: AttentionSettings):
        super().__init__()
        self.inducing = _learned_points(n_inducing, settings.width)
        self.gather = AttentionBlock(settings)
        self.spread = AttentionBlock(settings)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        points = self.inducing.expand(len(x), -1, -1)
        return self.spread(x, self.gather(points, x, mask))


class _SelfBlock(nn.Module):
    """The set attends to itself."""

    def __init__(self, settings: AttentionSettings):
        super().__init__()
        self.block = AttentionBlock(settings)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.block(x, x, mask)


def _learned_points(n: int, width: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(n, width)))
