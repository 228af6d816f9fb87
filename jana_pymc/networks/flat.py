"""Summaries of data of one fixed size: the numbers themselves, or a dense network of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.networks.dense import ACTIVATIONS, DenseNetwork


@dataclass(frozen=True)
class FlatDenseSettings:
    """Architecture of a dense network of a whole data set.

    Parameters
    ----------
    hidden, activation, dropout, residual
        See `DenseNetwork`.
    """

    hidden: Sequence[int] = (128, 128)
    activation: Literal["relu", "silu", "tanh"] = "silu"
    dropout: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is not one of {sorted(ACTIVATIONS)}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout}: expected a fraction below 1.")


class FlatIdentity(nn.Module):
    """All numbers of a data set in a row, observation by observation.

    Parameters
    ----------
    n_in, n_obs : int
        Features of one observation, number of observations.

    Attributes
    ----------
    n_out : int
        Size of the summary.
    """

    def __init__(self, n_in: int, n_obs: int):
        super().__init__()
        self.n_obs = n_obs
        self.n_out = n_in * n_obs

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Flatten each data set; zeros where the mask is false.

        Parameters
        ----------
        x : Tensor, shape (sets, n_obs, n_in)
        mask : Tensor of bool, shape (sets, n_obs)

        Returns
        -------
        Tensor, shape (sets, n_obs * n_in)

        Raises
        ------
        ValueError
            If there are more or fewer observations than announced.
        """
        if x.shape[1] != self.n_obs:
            raise ValueError(
                f"got data sets of {x.shape[1]} observations, but this summary was built for "
                f"{self.n_obs}; data of differing sizes need a summary network for sets or "
                "sequences."
            )
        return x.masked_fill(~mask[..., None], 0.0).flatten(1)


class FlatDense(nn.Module):
    """A dense network of all numbers of a data set.

    Parameters
    ----------
    n_in, n_obs, n_out : int
        Features of one observation, number of observations, size of the summary.
    settings : FlatDenseSettings
    """

    def __init__(self, n_in: int, n_obs: int, n_out: int, settings: FlatDenseSettings):
        super().__init__()
        self.flatten = FlatIdentity(n_in, n_obs)
        self.network = DenseNetwork(
            self.flatten.n_out,
            n_out,
            hidden=settings.hidden,
            activation=settings.activation,
            dropout=settings.dropout,
            residual=settings.residual,
        )

    def forward(
        self, x: Float[Tensor, "sets obs f"], mask: Bool[Tensor, "sets obs"]
    ) -> Float[Tensor, "sets s"]:
        """Summarise each data set; values count as zero where the mask is false."""
        return self.network(self.flatten(x, mask))
