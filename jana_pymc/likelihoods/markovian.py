"""Likelihood networks for sequences: Markov windows, and a recurrent memory of all that was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_kind, check_switch
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.entering import known_conditions
from jana_pymc.likelihoods.sequences import shifted, within_groups
from jana_pymc.likelihoods.time_point import Component, ConditionalSettings, TimePointDensity
from jana_pymc.networks.moments import set_moments


@dataclass(frozen=True)
class MarkovianSettings:
    """Architecture of the likelihood of a sequence.

    Parameters
    ----------
    order : int
        How many of the observations just before it each observation is given. 0 without a memory
        is a sequence of independent observations.
    memory : int
        Units of the recurrent memory of the whole past; 0 for none. Without it the density is
        that of a Markov process of the given order, and evaluates in native PyTensor.
    clock : bool
        Whether the density may depend on how long ago the sequence began, beyond `order` steps.
        A process whose law does not change with time needs none, and is learned from fewer
        simulations without it.
    conditional : ConditionalSettings
        Architecture of the density of one observation given its past.

    Raises
    ------
    TypeError
        If a number is no integer, `clock` no bool, or `conditional` something else.
    ValueError
        If a number is negative.
    """

    order: int = 1
    memory: int = 64
    clock: bool = False
    conditional: ConditionalSettings = field(default_factory=ConditionalSettings)

    def __post_init__(self) -> None:
        for name in ("order", "memory"):
            check_count(name, getattr(self, name), least=0)
        check_switch("clock", self.clock)
        check_kind("conditional", self.conditional, (ConditionalSettings,))


class MarkovianLikelihood(LikelihoodNetwork):
    r"""Density of a sequence as a product over time (Eq. 15).

    .. math::

        l(x_{1:T} \mid \theta) = \prod_t p(x_t \mid x_{<t}, \theta, c_t)

    The law of an observation depends on the last ``order`` observations and, with ``memory``, on
    the state of a gated recurrent unit [2]_ that has read all observations before, the parameters
    and the known conditions so far. What lies before the beginning is marked as absent. Densities
    of all time points are computed at once (teacher forcing); simulation goes step by step.

    The density of one time point given its past is that of `TimePointDensity`.

    Parameters
    ----------
    components : sequence of int, Support or CountRange
        For each component of an observation, in the order of the data: the number of categories,
        the support if it is continuous, the range of a count.
    n_parameters, n_conditions : int
        Sizes of the flattened parameters and of the known conditions of one time point.
    settings : MarkovianSettings

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 15 and Appendix C.3.
    .. [2] Cho, K., et al. (2014). Learning phrase representations using RNN encoder-decoder for
       statistical machine translation. EMNLP.
    """

    is_sequential = True
    parameter_mean: Tensor
    parameter_sd: Tensor
    smallest: Tensor
    condition_mean: Tensor
    condition_sd: Tensor
    length: Tensor

    def __init__(
        self,
        components: Sequence[Component],
        n_parameters: int,
        n_conditions: int = 0,
        settings: MarkovianSettings = MarkovianSettings(),
    ):
        super().__init__()
        self.components = tuple(components)
        self.n_conditions = n_conditions
        self.settings = settings
        n_features = sum(c if isinstance(c, int) else 1 for c in self.components)
        # Flags of what lies before the beginning; the first observation is marked in any case.
        self.n_flags = max(settings.order, 1)
        n_context = 2 * n_parameters + n_conditions
        self.density = TimePointDensity(
            components,
            n_context + self.n_flags + settings.clock,
            n_features * settings.order + settings.memory,
            n_context + self.n_flags - 1,
            settings.conditional,
        )
        self.gru = (
            nn.GRU(n_context + n_features + 1, settings.memory, batch_first=True)
            if settings.memory
            else None
        )
        for name, size in (("parameter", 2 * n_parameters), ("condition", n_conditions)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))
        self.register_buffer("smallest", torch.zeros(n_parameters))
        self.register_buffer("length", torch.tensor(1.0))

    def train(self, mode: bool = True) -> MarkovianLikelihood:
        """Set the mode; the memory, which has no dropout, stays in that of training.

        cuDNN computes gradients of a recurrent network in that mode alone.
        """
        super().train(mode)
        if self.gru is not None:
            self.gru.train()
        return self

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulated sequences.

        Shorter sequences end in NaN.
        """
        self.smallest.copy_(parameters.min(0).values)
        set_moments(self.parameter_mean, self.parameter_sd, self._with_logarithms(parameters))
        present = ~torch.isnan(observables).any(-1)
        if conditions is not None and self.n_conditions:
            set_moments(self.condition_mean, self.condition_sd, conditions[present])
        owner = present.nonzero()[:, 0]
        self.density.standardize(observables[present], parameters[owner])
        self.length.fill_(observables.shape[1])

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation given those before it and the sequence's parameters.

        Parameters
        ----------
        observables : Tensor, shape (sets, obs, components)
            Shorter sequences end in NaN.
        parameters : Tensor, shape (sets, parameters)
        conditions : Tensor, shape (sets, obs, conditions), optional

        Returns
        -------
        Tensor, shape (sets, obs)
            −inf outside the declared support; 0 where a sequence has ended, so that a sum over
            time is the log density of the sequence.
        """
        n_sets, n_obs = map(int, observables.shape[:2])  # a tracer makes them tensors
        present = ~torch.isnan(observables).any(-1)
        filled = torch.where(present[..., None], observables, 0.0)
        rows = filled.flatten(0, 1)
        encoded = self.density.encode(rows, parameters.repeat_interleave(n_obs, 0))
        features = encoded.features.reshape(n_sets, n_obs, -1)
        features = torch.where(present[..., None], features, 0.0)

        context = self._context(parameters, n_obs, conditions)
        time = torch.arange(n_obs, device=rows.device)
        # The last `order` observations; what comes before the first is zero and not there.
        lags = [shifted(features, j + 1) for j in range(self.settings.order)]
        there = [shifted(present[..., None], j + 1) for j in range(self.n_flags)]
        memory = None
        if self.gru is not None:
            read = [shifted(features, 1), shifted(present[..., None], 1), context]
            memory, _ = self.gru(_joined(read, context))
        inputs = self._inputs(context, lags, there, memory, time)
        log_prob = self.density.log_prob(rows, encoded, *(i.flatten(0, 1) for i in inputs))
        return torch.where(present, log_prob.reshape(n_sets, n_obs), 0.0)

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of time points of one sequence after the other.

        Parameters
        ----------
        observables : Tensor, shape (rows, components)
        parameters : Tensor, shape (groups, parameters)
            Of each sequence.
        group : Tensor of int, shape (rows,)
            Row of ``parameters`` for each time point. A new sequence begins where it changes.
        conditions : Tensor, shape (rows, conditions), optional

        Returns
        -------
        Tensor, shape (rows,)
        """
        return within_groups(self.log_prob, observables, parameters, group, conditions)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets all_obs k"] | None = None,
        generator: torch.Generator | None = None,
        *,
        past: Float[Tensor, "sets past_obs c"] | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate a sequence for each parameter vector, step by step, or continue one.

        Parameters
        ----------
        parameters : Tensor, shape (sets, parameters)
        n_obs : int
            Observations to simulate.
        conditions : Tensor, shape (sets, obs, conditions), optional
            With a past, those of past and future.
        generator : torch.Generator, optional
        past : Tensor, shape (sets, past_obs, components), optional
            Observations before, all of one length: the result is a forecast.

        Returns
        -------
        Tensor, shape (sets, n_obs, components)
        """
        order, begin = self.settings.order, 0 if past is None else past.shape[1]
        context = self._context(parameters, begin + n_obs, conditions)
        lags, there, state = self._remember(parameters, context[:, :begin], past)
        steps = []
        for t in range(begin, begin + n_obs):
            now = context[:, t : t + 1]
            memory = None
            if self.gru is not None:
                memory, state = self.gru(_joined([lags[0], there[0], now], now), state)
            time = torch.full((1,), t, device=parameters.device)
            inputs = self._inputs(now, lags[:order], there, memory, time)
            known, before, bounded = (i[:, 0] for i in inputs)
            x, features = self.density.sample(parameters, known, before, bounded, generator)
            lags = [features[:, None], *lags[:-1]]
            there = [torch.ones_like(there[0]), *there[:-1]]
            steps.append(x)
        return torch.stack(steps, 1)

    def _remember(
        self, parameters: Tensor, context: Tensor, past: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        """The last observations, whether they are there, and the memory of those before them."""
        n_sets, begin = context.shape[:2]
        features = parameters.new_zeros(n_sets, begin, self.density.n_features)
        if past is not None and begin:
            rows = past.flatten(0, 1)
            features = self.density.encode(rows, parameters.repeat_interleave(begin, 0)).features
            features = features.reshape(n_sets, begin, -1)
        present = torch.ones_like(features[..., :1], dtype=torch.bool)
        state = None
        if self.gru is not None and begin:
            read = [shifted(features, 1), shifted(present, 1), context]
            _, state = self.gru(_joined(read, context))
        ends = range(begin - 1, begin - 1 - self.n_flags, -1)
        nothing = parameters.new_zeros(n_sets, 1, self.density.n_features)
        lags = [features[:, [t]] if t >= 0 else nothing for t in ends]
        there = [torch.full_like(nothing[..., :1], t >= 0, dtype=torch.bool) for t in ends]
        return lags, there, state

    def _with_logarithms(self, parameters: Tensor) -> Tensor:
        """Parameters, and the logarithms of those that were positive in simulations.

        Scales and rates are common, and log densities are simple in their logarithms.
        """
        positive = self.smallest > 0
        safe = torch.maximum(parameters, torch.where(positive, self.smallest, 1.0))
        logarithms = torch.where(positive, torch.log(safe), 0.0)
        return torch.cat([parameters, logarithms], -1)

    def _context(self, parameters: Tensor, n_obs: int, conditions: Tensor | None) -> Tensor:
        """Standardised parameters and conditions of each time point, (sets, obs, 2 p + k)."""
        context = self._with_logarithms(parameters)
        context = (context - self.parameter_mean) / self.parameter_sd
        context = context[:, None].expand(-1, n_obs, -1)
        if self.n_conditions == 0:
            return context
        known = known_conditions(conditions, self.condition_mean, self.condition_sd)
        return torch.cat([context, known.nan_to_num()], -1)

    def _inputs(
        self,
        context: Tensor,
        lags: list[Tensor],
        there: list[Tensor],
        memory: Tensor | None,
        time: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the conditional density: what is known, the past, and the past in its range."""
        known = [context, *(~t for t in there)]
        if self.settings.clock:
            clock = 2.0 * time.to(context.dtype) / self.length - 1.0
            known.append(clock[:, None].expand(len(context), -1, -1))
        bounded = [
            torch.where(t, self.density.bounded(x), 0.0)
            for x, t in zip(lags, there[: len(lags)], strict=True)
        ]
        read = [] if memory is None else [memory]
        return (
            _joined(known, context),
            _joined([*lags, *read], context),
            _joined([*bounded, *read], context),
        )


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    """Concatenate along the last axis, in the type of `like`; empty if there are no parts."""
    if not parts:
        return like[..., :0]
    return torch.cat([p.to(like.dtype) for p in parts], -1)
