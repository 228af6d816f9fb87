"""A summary network for sequences: causal convolutions, then a recurrent network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.checks import check_choice, check_count, check_share, check_sizes, check_switch
from jana_pymc.networks.dense import ACTIVATIONS

RECURRENT: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True)
class TimeSeriesSettings:
    """Architecture of a network of convolutions and a memory.

    Parameters
    ----------
    n_convolutions : int
        Number of convolutional layers.
    kernel_sizes : tuple of int
        Lengths of the filters, in time steps. Each layer applies all of them side by side, and
        then merges them at every step. The paper's epidemic has 2 to 7, in three layers.
    n_filters : int
        Filters of each length.
    width : int
        Features of a step after each convolutional layer.
    activation : {"relu", "silu", "tanh"}
    recurrent : {"lstm", "gru"}
    n_hidden : int
        Size of the memory.
    dropout : float
        Fraction of features dropped after each convolutional layer while training.
    separate : bool
        Give every observed feature a network of its own, which sees the known conditions too, and
        join their memories at the end, as the paper does for the three series of the epidemic.
    """

    n_convolutions: int = 2
    kernel_sizes: Sequence[int] = (1, 2, 3)
    n_filters: int = 32
    width: int = 64
    activation: Literal["relu", "silu", "tanh"] = "relu"
    recurrent: Literal["lstm", "gru"] = "lstm"
    n_hidden: int = 128
    dropout: float = 0.0
    separate: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel_sizes", check_sizes("kernel_sizes", self.kernel_sizes))
        if not self.kernel_sizes:
            raise ValueError("kernel_sizes=(): expected one length at least.")
        check_count("n_convolutions", self.n_convolutions, least=0)
        for name in ("n_filters", "width", "n_hidden"):
            check_count(name, getattr(self, name))
        check_choice("recurrent", self.recurrent, tuple(RECURRENT))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_share("dropout", self.dropout, zero=True)
        check_switch("separate", self.separate)


class TimeSeriesNetwork(nn.Module):
    """Summarise sequences of differing lengths by the memory after their last step.

    Nothing looks ahead: :meth:`states` at a step depends on that and earlier steps alone, and one
    pass gives the summaries of all beginnings of a sequence.

    Parameters
    ----------
    n_in, n_out : int
        Features of one time step, size of the summary.
    settings : TimeSeriesSettings
    n_observed : int, optional
        Number of observed features, which come first; the others are known. By default all.

    References
    ----------
    .. [1] Radev, S. T., et al. (2021). OutbreakFlow: Model-based Bayesian inference of disease
       outbreak dynamics with invertible neural networks. PLoS Computational Biology, 17(10).
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        settings: TimeSeriesSettings,
        n_observed: int | None = None,
    ):
        super().__init__()
        self.separate = settings.separate
        n_observed = n_in if n_observed is None else n_observed
        n_towers, each = (n_observed, 1 + n_in - n_observed) if self.separate else (1, n_in)
        self.towers = nn.ModuleList(_Tower(each, settings) for _ in range(n_towers))
        self.output = nn.Linear(n_towers * settings.n_hidden, n_out)

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Summarise each sequence up to its last step where the mask is true.

        Parameters
        ----------
        x : Tensor, shape (sets, obs, n_in)
        mask : Tensor of bool, shape (sets, obs)
            False for the padding after the end of each sequence.

        Returns
        -------
        Tensor, shape (sets, n_out)
        """
        states = self._memory(x.masked_fill(~mask[..., None], 0.0))
        return self.output(states[torch.arange(len(x), device=x.device), last_step(mask)])

    def _memory(self, x: Tensor) -> Tensor:
        parts = [x]
        if self.separate:
            n = len(self.towers)
            parts = [torch.cat([x[..., i : i + 1], x[..., n:]], -1) for i in range(n)]
        return torch.cat([tower(part) for tower, part in zip(self.towers, parts, strict=True)], -1)


class CausalConvolutions(nn.Module):
    """Filters of several lengths side by side, none of which looks ahead, merged at each step.

    Parameters
    ----------
    n_in, n_out : int
        Features of a step, before and after.
    kernel_sizes : sequence of int
    n_filters : int
        Filters of each length.
    activation : {"relu", "silu", "tanh"}
    """

    def __init__(
        self, n_in: int, n_out: int, kernel_sizes: Sequence[int], n_filters: int, activation: str
    ):
        super().__init__()
        self.kernel_sizes = tuple(kernel_sizes)
        self.filters = nn.ModuleList(nn.Conv1d(n_in, n_filters, size) for size in kernel_sizes)
        self.activation = ACTIVATIONS[activation]()
        self.merge = nn.Conv1d(n_filters * len(kernel_sizes), n_out, 1)

    def forward(self, x: Float[Tensor, "sets f obs"]) -> Float[Tensor, "sets g obs"]:
        """Filter each sequence; before its first step there are zeros."""
        filtered = [
            convolution(nn.functional.pad(x, (size - 1, 0)))
            for size, convolution in zip(self.kernel_sizes, self.filters, strict=True)
        ]
        return self.activation(self.merge(self.activation(torch.cat(filtered, 1))))


class _Tower(nn.Module):
    """Convolutions and memory of one or more features."""

    def __init__(self, n_in: int, settings: TimeSeriesSettings):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(settings.n_convolutions):
            layers.append(
                CausalConvolutions(
                    n_in if i == 0 else settings.width,
                    settings.width,
                    settings.kernel_sizes,
                    settings.n_filters,
                    settings.activation,
                )
            )
            if settings.dropout > 0.0:
                layers.append(nn.Dropout(settings.dropout))
        self.convolutions = nn.Sequential(*layers)
        width = settings.width if settings.n_convolutions else n_in
        self.memory = RECURRENT[settings.recurrent](width, settings.n_hidden, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.memory(self.convolutions(x.mT).mT)[0]


def last_step(mask: Bool[Tensor, "sets obs"]) -> Tensor:
    """Position of the last step of each sequence where the mask is true."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, positions, 0).max(1).values
