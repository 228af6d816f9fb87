"""What every likelihood network offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Generator, Tensor, nn


class LikelihoodNetwork(nn.Module):
    """Density and simulator of observations given parameters.

    Observables are on the user's scale (categories as 0, 1, …), parameters constrained and
    flattened. Shapes: observables (sets, obs, components), parameters (sets, parameters),
    conditions (sets, obs, conditions) or None.

    A likelihood for PyMC needs `log_prob`, `sample`, and, unless it is of sequences,
    `log_prob_rows`; a trained one needs `standardize` too. The rest has defaults.

    Attributes
    ----------
    is_sequential : bool
        Whether observations depend on those before them, or on their place: then none may be left
        out, nor their order changed.
    n_steps : int or None
        For sequences, the most observations that one may have; None if there is no such number.
    takes_one_length : bool
        Whether sequences must have exactly `n_steps` observations.
    log_prob_at : callable or None
        For sequences, ``log_prob_at(times, observables, parameters)``: the log density of some
        time points alone, (sets, times), where these cost less than all of them.
    distractors : tuple of int
        Components that tell nothing of the parameters.
    observables_are_declared : bool
        Whether the observables are known by their names and kinds, and not only by their number.
    constant_conditions : mapping of str to float
        Components of the conditions that had one value in all simulations; a trained pair sets it.

    Notes
    -----
    Three things are looked for by name, and may be absent. Buffers ``condition_mean`` and
    ``condition_sd``, shape (conditions,), hold location and scale of the simulated conditions. A
    ``sample`` that takes ``past=None``, observations (sets, past, components), continues these;
    its conditions are then those of past and future. ``linear_parameters()`` of the network, or of
    any module in it, lists the parameters that are trained first.
    """

    is_sequential: bool = False
    n_steps: int | None = None
    takes_one_length: bool = False
    log_prob_at: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    distractors: tuple[int, ...] = ()
    observables_are_declared: bool = True
    constant_conditions: Mapping[str, float] = MappingProxyType({})

    def standardize(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> None:
        """Take location and scale of inputs and outputs from simulations.

        The arguments have a row for each observation, or for each data set if the network is
        sequential.
        """
        raise NotImplementedError

    def log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """Log density of each observation, shape (sets, obs)."""
        raise NotImplementedError

    def log_prob_rows(
        self,
        observables: Tensor,
        parameters: Tensor,
        group: Tensor,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """Log density of each row, whose parameters are those at its entry of `group`.

        A row is an observation, the next time point of the sequence before it, or a vector that
        holds a whole sequence, as the network says.
        """
        raise NotImplementedError

    def sample(
        self,
        parameters: Tensor,
        n_obs: int,
        conditions: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draw observations for each parameter vector, shape (sets, n_obs, components)."""
        raise NotImplementedError

    def training_log_prob(
        self,
        observables: Tensor,
        parameters: Tensor,
        conditions: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """What the training loss averages: by default the log density, without random numbers."""
        return self.log_prob(observables, parameters, conditions)

    def informative_log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """`log_prob` without the density of the distractors, which no parameter changes."""
        return self.log_prob(observables, parameters, conditions)

    def sample_informative(
        self,
        parameters: Tensor,
        n_obs: int,
        conditions: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """`sample` with zeros in the place of the distractors, for the price of the others."""
        return self.sample(parameters, n_obs, conditions, generator)
