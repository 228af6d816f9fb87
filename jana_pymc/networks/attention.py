"""Multi-head attention over padded sets, and the residual block that is built on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from jana_pymc.checks import check_choice, check_count, check_share, check_sizes
from jana_pymc.networks.dense import ACTIVATIONS, DenseNetwork


@dataclass(frozen=True)
class AttentionSettings:
    """Architecture of one attention block.

    Parameters
    ----------
    width : int
        Features of every element between the blocks.
    n_heads, key_size : int
        Number of heads, and the size of keys, queries and values in each.
    hidden : tuple of int
        Hidden layers of the network that each element passes through after the attention.
    activation : {"relu", "silu", "tanh"}
    dropout : float
        Fraction of attention weights and hidden units dropped while training.
    """

    width: int = 64
    n_heads: int = 4
    key_size: int = 32
    hidden: Sequence[int] = (64, 64)
    activation: Literal["relu", "silu", "tanh"] = "relu"
    dropout: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        for name in ("width", "n_heads", "key_size"):
            check_count(name, getattr(self, name))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_share("dropout", self.dropout, zero=True)


class MultiHeadAttention(nn.Module):
    r"""Every query takes a weighted mean of the values, the weights given by the keys.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{k})\, V

    in each head, the heads joined by a linear map back to the width of the queries.

    Parameters
    ----------
    settings : AttentionSettings

    References
    ----------
    .. [1] Vaswani, A., et al. (2017). Attention is all you need. NeurIPS.
    """

    def __init__(self, settings: AttentionSettings):
        super().__init__()
        self.n_heads = settings.n_heads
        self.dropout = settings.dropout
        size = settings.n_heads * settings.key_size
        self.queries = nn.Linear(settings.width, size)
        self.keys = nn.Linear(settings.width, size)
        self.values = nn.Linear(settings.width, size)
        self.output = nn.Linear(size, settings.width)

    def forward(
        self,
        x: Float[Tensor, "sets queries w"],
        y: Float[Tensor, "sets keys w"],
        mask: Bool[Tensor, "sets keys"] | None = None,
    ) -> Float[Tensor, "sets queries w"]:
        """Let elements of x attend to those of y where the mask is true, at least once a set."""
        queries, keys, values = (
            layer(z).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for layer, z in ((self.queries, x), (self.keys, y), (self.values, y))
        )
        heads = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=None if mask is None else mask[:, None, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(heads.transpose(1, 2).flatten(-2))


class AttentionBlock(nn.Module):
    """h = LayerNorm(x + attention(x, y)), then LayerNorm(h + network(h)).

    Parameters
    ----------
    settings : AttentionSettings

    References
    ----------
    .. [1] Lee, J., et al. (2019). Set transformer: A framework for attention-based
       permutation-invariant neural networks. ICML. Equation 6.
    """

    def __init__(self, settings: AttentionSettings):
        super().__init__()
        self.attention = MultiHeadAttention(settings)
        self.network = DenseNetwork(
            settings.width,
            settings.width,
            hidden=settings.hidden,
            activation=settings.activation,
            dropout=settings.dropout,
        )
        self.after_attention = nn.LayerNorm(settings.width)
        self.after_network = nn.LayerNorm(settings.width)

    def forward(
        self,
        x: Float[Tensor, "sets queries w"],
        y: Float[Tensor, "sets keys w"],
        mask: Bool[Tensor, "sets keys"] | None = None,
    ) -> Float[Tensor, "sets queries w"]:
        """Let elements of x learn of those of y where the mask is true, at least once a set."""
        h = self.after_attention(x + self.attention(x, y, mask))
        return self.after_network(h + self.network(h))
