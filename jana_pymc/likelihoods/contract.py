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
    conditions (sets, obs, conditions) or None. A row of `log_prob_rows` is an observation, the next
    time point of the sequence before it, or a vector that holds a sequence, as the network says.

    What else a network may have is looked for by name, and taken for absent or as stated here:

    ``is_sequential`` : bool, False
        Observations depend on those before them, or on their place: neither may one be left out,
        nor their order changed.
    ``n_steps`` : int, and ``takes_one_length`` : bool, False
        Of a sequence, the most observations that it may have, or their only number.
    ``log_prob_at(times, observables, parameters)``
        Of a sequence, the log density of some time points alone, (sets, times), at their price.
    ``sample(..., past=None)``
        Of a sequence, observations before, (sets, past, components), which the draws continue. With
        a past, conditions are of the past too.
    ``distractors`` : tuple of int, empty
        Components that tell nothing of the parameters. Who has any has ``informative_log_prob`` and
        ``sample_informative``, which take what `log_prob` and `sample` take, and leave them out.
    ``condition_mean``, ``condition_sd`` : Tensor, shape (conditions,)
        Where the conditions of the simulations lay.
    ``constant_conditions`` : dict of str to float, empty
        Components of conditions that had one value in all simulations; a trained pair sets it.
    ``observables_are_declared`` : bool, True
        Whether the network knows its observables one by one.
    ``linear_parameters()`` : list of Parameter
        Of the network or any module in it: what is trained first.
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
