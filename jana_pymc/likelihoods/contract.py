"""What every likelihood network offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LikelihoodNetwork(Protocol):
    """Density and simulator of observations given parameters, a `torch.nn.Module`.

    Observables are on the user's scale (categories as 0, 1, …), parameters constrained and
    flattened. Shapes: observables (sets, obs, components), parameters (sets, parameters),
    conditions (sets, obs, conditions) or None.
    """

    def standardize(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> None: ...

    def training_log_prob(
        self,
        observables: Tensor,
        parameters: Tensor,
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor: ...

    def log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> Tensor: ...

    def log_prob_rows(
        self,
        observables: Tensor,
        parameters: Tensor,
        group: Tensor,
        conditions: Tensor | None = None,
    ) -> Tensor: ...

    def sample(
        self,
        parameters: Tensor,
        n_obs: int,
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor: ...
