"""A summary network for sequences: self-attention, pooled by a recurrent network's query."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.checks import check_choice, check_count, check_kind, check_number
from jana_pymc.networks.attention import AttentionBlock, AttentionSettings
from jana_pymc.networks.time_series import RECURRENT, last_step


@dataclass(frozen=True)
class TimeSeriesTransformerSettings:
    """Architecture of a transformer for sequences.

    Parameters
    ----------
    n_blocks : int
        Number of blocks in which the steps attend to each other, early to late and late to early.
    longest_wave : float
        Steps are told apart by sine waves of their number, with wave lengths from 2π steps to this
        many times 2π. It should exceed the length of the sequences.
    recurrent : {"lstm", "gru"}
        Network that reads the sequence and forms the query.
    n_hidden : int
        Size of its memory.
    attention : AttentionSettings

    Raises
    ------
    TypeError
        If a number or `attention` is something else.
    ValueError
        If a number is too small, the recurrent network is unknown, or the width is odd.
    """

    n_blocks: int = 2
    longest_wave: float = 1000.0
    recurrent: Literal["lstm", "gru"] = "lstm"
    n_hidden: int = 64
    attention: AttentionSettings = field(default_factory=AttentionSettings)

    def __post_init__(self) -> None:
        for name, least in (("n_blocks", 0), ("n_hidden", 1)):
            check_count(name, getattr(self, name), least=least)
        if check_number("longest_wave", self.longest_wave) < 1.0:
            raise ValueError(f"longest_wave={self.longest_wave}: expected at least 1.0.")
        check_choice("recurrent", self.recurrent, tuple(RECURRENT))
        check_kind("attention", self.attention, (AttentionSettings,))
        if self.attention.width % 2:
            raise ValueError(
                f"attention.width={self.attention.width}: expected an even number, for as many "
                "sines as cosines of the time."
            )


class TimeSeriesTransformer(nn.Module):
    """Summarise sequences of differing lengths.

    The steps attend to each other; then a recurrent network's memory of the whole sequence, the
    template, attends to them, and what it finds is the summary.

    Parameters
    ----------
    n_in, n_out : int
        Features of one time step, size of the summary.
    settings : TimeSeriesTransformerSettings

    References
    ----------
    .. [1] Vaswani, A., et al. (2017). Attention is all you need. NeurIPS. Section 3.5.
    .. [2] Wen, Q., et al. (2023). Transformers in time series: A survey. IJCAI.
    """

    def __init__(self, n_in: int, n_out: int, settings: TimeSeriesTransformerSettings):
        super().__init__()
        attention = settings.attention
        self.longest_wave = settings.longest_wave
        self.embed = nn.Linear(n_in, attention.width)
        self.blocks = nn.ModuleList(AttentionBlock(attention) for _ in range(settings.n_blocks))
        memory = RECURRENT[settings.recurrent]
        self.memory = memory(attention.width, settings.n_hidden, batch_first=True)
        self.template = nn.Linear(settings.n_hidden, attention.width)
        self.pool = AttentionBlock(attention)
        self.output = nn.Linear(attention.width, n_out)

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Summarise each sequence, counting only steps where the mask is true.

        Parameters
        ----------
        x : Tensor, shape (sets, obs, n_in)
        mask : Tensor of bool, shape (sets, obs)
            False for the padding after the end of each sequence.

        Returns
        -------
        Tensor, shape (sets, n_out)
        """
        # An attention weight of zero does not silence a NaN.
        embedded = self.embed(x.masked_fill(~mask[..., None], 0.0))
        states = self.memory(embedded)[0]
        template = self.template(states[torch.arange(len(x), device=x.device), last_step(mask)])
        h = embedded + time_waves(embedded, self.longest_wave)
        for block in self.blocks:
            h = block(h, h, mask)
        return self.output(self.pool(template[:, None], h, mask)[:, 0])


def time_waves(like: Float[Tensor, "sets obs w"], longest_wave: float) -> Float[Tensor, "obs w"]:
    """Sines and cosines of the number of each step, at frequencies from 1 to 1/longest_wave."""
    n_obs, width = like.shape[1:]
    kind, place = like.dtype, like.device
    log_frequency = torch.linspace(
        0.0, -math.log(longest_wave), width // 2, dtype=kind, device=place
    )
    phase = torch.arange(n_obs, dtype=kind, device=place)[:, None] * log_frequency.exp()
    return torch.cat([phase.sin(), phase.cos()], -1)
