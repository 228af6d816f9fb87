"""The default likelihood of vectors: discrete components, then a flow of the continuous ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.flows.flow import ConditionalFlow
from jana_pymc.flows.latents import GaussianLatent
from jana_pymc.flows.linear import Reversal
from jana_pymc.flows.trials import TrialSumTransform
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.likelihoods.discrete import DiscreteAutoregressive, Law
from jana_pymc.likelihoods.distractor_flow import DistractorFlow
from jana_pymc.likelihoods.elementary_laws import log_normal
from jana_pymc.likelihoods.entering import check_among, entering, known_conditions, skewed
from jana_pymc.likelihoods.support import Support
from jana_pymc.likelihoods.vector_settings import VectorSettings, parts_of, visible_past
from jana_pymc.networks.moments import set_moments

MAX_PRODUCTS = 256
"""More products of parameters and conditions than this are left to the networks."""


class VectorLikelihood(LikelihoodNetwork):
    r"""Density of a vector of discrete and continuous components,

    .. math::

        l(x \mid \theta) = \prod_i P(k_i \mid \theta, k_{<i}) \; p(y \mid \theta, k).

    The first factors are softmaxes and discretised densities (`DiscreteAutoregressive`), the last
    is an autoregressive spline flow on the real line to which declared supports are mapped
    (`AutoregressiveTransform`). Known conditions join the parameters, with all products of a
    parameter and a condition, so that regressions are linear in what the networks see.

    Vectors may be single observations of an exchangeable data set, or a whole sequence of
    `n_steps` observations in the order of time.

    Parameters
    ----------
    components : sequence of int, CountRange or Support
        For each component: the number of categories, the range of a count, or the support of a
        continuous one. Those of a sequence, step by step.
    n_parameters, n_conditions : int
        Sizes of the flattened parameters and of the conditions of one vector.
    settings : VectorSettings
    n_steps : int
        Time points of a sequence; 1 otherwise.

    Raises
    ------
    ValueError
        If a sequence has both discrete and continuous components, distractors, or more than one
        layer; if `angles`, `informative` or `draws` of the settings are no positions, or name
        components that they are not for.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 7 (the likelihood network's loss).
    """

    n_steps: int
    parameter_mean: Tensor
    parameter_sd: Tensor
    parameter_log: Tensor
    turning: Tensor
    of_draws: Tensor
    of_discrete: Tensor
    of_distractors: Tensor
    of_others: Tensor
    condition_mean: Tensor
    condition_sd: Tensor
    real_mean: Tensor
    real_sd: Tensor
    count_mean: Tensor
    count_sd: Tensor

    def __init__(
        self,
        components: Sequence[int | CountRange | Support],
        n_parameters: int,
        n_conditions: int = 0,
        settings: VectorSettings = VectorSettings(),
        n_steps: int = 1,
    ):
        super().__init__()
        self.components = tuple(components)
        self.n_steps, self.n_conditions = n_steps, n_conditions
        self.is_sequential = self.takes_one_length = n_steps > 1
        self.settings = settings
        parts = parts_of(self.components, settings, n_steps, n_conditions)
        self.discrete, self.continuous = parts.discrete, parts.continuous
        self.distractors, self.draws = parts.distractors, parts.draws
        # The flow's components, once for each draw that it is the law of.
        self.supports: tuple[Support, ...] = tuple(self.components[i] for i in self.draws[0])  # type: ignore[misc]
        self.angles = list(settings.angles)
        check_among(f"angles={settings.angles}", self.angles, n_parameters)
        n_entering = n_parameters + len(self.angles)
        n_products = n_entering * n_conditions
        self.n_products = n_products if n_products <= MAX_PRODUCTS else 0
        n_context = n_entering + n_conditions + self.n_products
        self.discrete_part = self._discrete_part(n_context) if self.discrete else None
        self.flow = self._flow(n_context) if self.supports else None
        self.sees_parameters_alone = not self.discrete and not n_conditions and n_steps == 1
        self.distractor_part: DistractorFlow | None = None
        if self.distractors:
            n_others = len(self.components) - len(self.distractors)
            self.distractor_part = DistractorFlow(len(self.distractors), n_others)
        self.register_buffer("parameter_log", torch.zeros(n_parameters, dtype=torch.bool))
        self._register_indices()
        self._register_moments(n_entering)

    def _network_options(self) -> dict[str, Any]:
        """What the networks of discrete and of continuous components have in common."""
        settings = self.settings
        return {
            "residual": settings.residual,
            "conditioner_hidden": settings.conditioner_hidden,
            "conditioner_layers": settings.conditioner_layers,
            "sees": visible_past(len(self.components), self.n_steps, settings.order),
        }

    def _discrete_part(self, n_context: int) -> DiscreteAutoregressive:
        """The probability of the discrete components."""
        settings = self.settings
        return DiscreteAutoregressive(
            [c for c in self.components if not isinstance(c, Support)],
            n_context,
            n_bins=max(2, settings.n_bins // 2),
            hidden=() if settings.n_trials else tuple(settings.hidden),
            **self._network_options(),
        )

    def _flow(self, n_context: int) -> ConditionalFlow:
        """The density of the continuous components, given those that are discrete."""
        settings, dim, n_given = self.settings, len(self.supports), len(self.discrete)
        transforms: list[nn.Module] = []
        n_seen = n_context + n_given
        if settings.n_trials:
            # Discrete components are given to the flow twice: by their codes, and as they are.
            n_seen += n_given
            transforms.append(
                TrialSumTransform(n_given + dim, n_context, n_given, settings.n_trials)
            )
        for layer in range(settings.layers(dim, self.n_steps)):
            transforms += [Reversal()] if layer else []
            transforms.append(
                AutoregressiveTransform(
                    dim,
                    n_seen,
                    n_bins=settings.n_bins,
                    hidden=() if layer or settings.n_trials else tuple(settings.hidden),
                    **self._network_options(),
                )
            )
        return ConditionalFlow(transforms, GaussianLatent(dim))

    def _register_indices(self) -> None:
        """Positions of components and parameters; lists would be copied to a GPU at each use."""
        indices = {
            "turning": self.angles,
            "of_draws": [i for draw in self.draws for i in draw],
            "of_discrete": self.discrete,
            "of_distractors": self.distractors,
            "of_others": (*self.discrete, *self.continuous),
        }
        for name, positions in indices.items():
            index = torch.tensor(positions, dtype=torch.long)
            self.register_buffer(name, index, persistent=False)

    def _register_moments(self, n_entering: int) -> None:
        """Location and scale of all that is standardised."""
        sizes = {
            "parameter": n_entering,
            "condition": self.n_conditions,
            "real": len(self.supports),
        }
        if self.settings.n_trials:
            sizes["count"] = len(self.discrete)
        for name, size in sizes.items():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "rows ..."],
        parameters: Float[Tensor, "rows p"],
        conditions: Float[Tensor, "rows ..."] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulations."""
        observables = observables.flatten(1)
        conditions = None if conditions is None else conditions.flatten(1)
        self.parameter_log.copy_(skewed(parameters))
        self.parameter_log[self.angles] = False
        set_moments(self.parameter_mean, self.parameter_sd, self._entering(parameters))
        if conditions is not None and self.n_conditions:
            set_moments(self.condition_mean, self.condition_sd, conditions)
        if self.discrete_part is not None:
            self.discrete_part.standardize(observables[:, self.of_discrete])
        if self.supports:
            values = observables[:, self.of_draws].unflatten(1, (len(self.draws), -1))
            own_parameters = parameters[:, None].expand(-1, len(self.draws), -1)
            real = [
                s.to_real(values[..., j], own_parameters)[0] for j, s in enumerate(self.supports)
            ]
            set_moments(self.real_mean, self.real_sd, torch.stack(real, -1).flatten(0, 1))
        if self.trial_sum is not None:
            self._standardize_trials(observables, parameters, conditions)
        if self.distractor_part is not None:
            self.distractor_part.standardize(
                observables[:, self.of_distractors], observables[:, self.of_others]
            )

    def _standardize_trials(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None
    ) -> None:
        assert self.trial_sum is not None  # narrows the type; the caller has checked
        counts = observables[:, self.of_discrete]
        if self.discrete:
            set_moments(self.count_mean, self.count_sd, counts)
        y, _, _ = self._standardized(observables.index_select(-1, self.of_draws), parameters)
        rows = torch.arange(len(parameters), device=parameters.device)
        context = self._context(parameters, conditions, rows)
        self.trial_sum.standardize(torch.cat([self._plain(counts), y], -1), context)

    @property
    def trial_sum(self) -> TrialSumTransform | None:
        """The transform for components that are sums of trials, if there is one."""
        if self.flow is None or not self.settings.n_trials:
            return None
        return self.flow.transforms[0]  # type: ignore[return-value]

    def _plain(self, counts: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Counts in standard deviations, as they add up over trials."""
        return (counts - self.count_mean) / self.count_sd

    def _given(
        self, values: Float[Tensor, "rows d"], context: Float[Tensor, "rows c"]
    ) -> Float[Tensor, "rows k"]:
        """Conditions of the flow for each row, discrete components included."""
        assert self.discrete_part is not None  # narrows the type; callers have checked
        seen = [context, self.discrete_part.codes(values)]
        return torch.cat(seen if self.trial_sum is None else [*seen, self._plain(values)], -1)

    def _count_law(self, context: Float[Tensor, "rows c"]) -> Law | None:
        """Mean and standard deviation of the counts, if they are sums of trials."""
        if self.trial_sum is None:
            return None
        mean, sd = self.trial_sum.given_moments(context)
        return mean * self.count_sd + self.count_mean, sd * self.count_sd

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation; in a sequence, of each step given those before it."""
        n_sets, n_obs, _ = observables.shape
        if self.distractor_part is not None and n_sets > 1 and observables.stride(0) == 0:
            # One data set under many parameters: its distractors are evaluated once.
            alone = self._distractors_log_prob(observables[0])
            return self.informative_log_prob(observables, parameters, conditions) + alone
        together = self.informative_log_prob(observables, parameters, conditions)
        if self.distractor_part is None:
            return together
        alone = self._distractors_log_prob(observables.flatten(0, 1)).reshape(n_sets, n_obs)
        return together + alone

    def informative_log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation without its distractors, which no parameter changes."""
        n_sets, n_obs, _ = observables.shape
        if self.sees_parameters_alone:
            context = self._context(parameters, None)
            return self._draws_log_prob(observables, parameters, context)
        n_rows = 1 if self.n_steps > 1 else n_obs
        group = torch.arange(n_sets, device=observables.device).repeat_interleave(n_rows)
        rows = self.components_log_prob(
            observables.reshape(n_sets * n_rows, -1),
            parameters,
            group,
            None if conditions is None else conditions.reshape(n_sets * n_rows, -1),
        )
        return rows.reshape(n_sets, n_obs, -1).sum(-1)

    def _draws_log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        context: Float[Tensor, "sets k"],
    ) -> Float[Tensor, "sets obs"]:
        """Log density of the continuous components, whose context all observations share."""
        assert self.flow is not None  # narrows the type; callers have checked
        n_draws, dim = len(self.draws), len(self.supports)
        values = observables.index_select(-1, self.of_draws).reshape(len(observables), -1, dim)
        own_parameters = parameters[:, None].expand(-1, values.shape[1], -1)
        y, log_det, inside = self._standardized(values, own_parameters)
        joint = self.flow.log_prob(y, context[:, None]) + log_det.sum(-1)
        joint = torch.where(inside.all(-1), joint, -torch.inf)
        return joint.unflatten(1, (-1, n_draws)).sum(-1)

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of single vectors, each with the parameters of its group.

        Returns
        -------
        Tensor, shape (rows,)
            −inf outside the declared support.
        """
        together = self.components_log_prob(observables, parameters, group, conditions).sum(-1)
        if self.distractor_part is None:
            return together
        return together + self._distractors_log_prob(observables)

    def _distractors_log_prob(self, observables: Tensor) -> Tensor:
        assert self.distractor_part is not None  # narrows the type; callers have checked
        given = observables.index_select(1, self.of_others)
        values = observables.index_select(1, self.of_distractors)
        return self.distractor_part.log_prob(values, given)

    def components_log_prob(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, "rows parts"]:
        """Log densities of the components given those before them, without distractors.

        For a sequence there is one for each component, in order; otherwise only their sum has a
        meaning.
        """
        context = self._context(parameters, conditions, group)
        parts = []
        if self.discrete_part is not None:
            values = observables.index_select(1, self.of_discrete)
            log_prob = self.discrete_part.log_prob(values, context, self._count_law(context))
            possible = self.discrete_part.possible(values)
            parts.append(torch.where(possible, log_prob, -torch.inf))
            context = self._given(values, context)
        transforms = [] if self.flow is None else list(self.flow.transforms)
        is_one = len(transforms) == len(self.draws) == 1
        if is_one and isinstance(only := transforms[0], AutoregressiveTransform):
            values = observables.index_select(1, self.of_draws)
            y, log_det, inside = self._standardized(values, parameters[group])
            z, contribution = only.components(y, context)
            density = log_normal(z) + contribution + log_det
            parts.append(torch.where(inside, density, -torch.inf))
        elif self.flow is not None:
            parts.append(self._draws_log_prob(observables[:, None], parameters[group], context))
        return torch.cat(parts, -1)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate n_obs observations for each parameter vector.

        Raises
        ------
        ValueError
            If a sequence of another length is asked for.
        """
        drawn = self.sample_informative(parameters, n_obs, conditions, generator)
        if self.distractor_part is not None:
            given = drawn[..., self.of_others].flatten(0, 1)
            alone = self.distractor_part.sample(given, generator)
            drawn[..., self.of_distractors] = alone.reshape(*drawn.shape[:2], -1)
        return drawn

    @torch.no_grad()
    def sample_informative(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """`sample` with zeros in the place of distractors, which take most of the work."""
        if self.n_steps > 1 and n_obs != self.n_steps:
            raise ValueError(
                f"n_obs={n_obs}: this likelihood was trained on sequences of {self.n_steps}."
            )
        n_sets, n_draws = len(parameters), len(self.draws)
        n_rows = 1 if self.n_steps > 1 else n_obs
        drawn = parameters.new_zeros((n_sets, n_rows, len(self.components)))
        if self.sees_parameters_alone:
            assert self.flow is not None  # narrows the type
            y = self.flow.sample(n_rows * n_draws, self._context(parameters, None), generator)
            drawn[..., self.of_draws] = self._from_standardized(y, parameters, n_draws)
            return drawn
        group = torch.arange(n_sets, device=parameters.device).repeat_interleave(n_rows)
        known = None if conditions is None else conditions.reshape(n_sets * n_rows, -1)
        context = self._context(parameters, known, group)
        drawn = drawn.flatten(0, 1)
        if self.discrete_part is not None:
            values = self.discrete_part.sample(context, generator, self._count_law(context))
            drawn[:, self.of_discrete] = values
            context = self._given(values, context)
        if self.flow is not None:
            y = self.flow.sample(n_draws, context, generator)
            drawn[:, self.of_draws] = self._from_standardized(y, parameters[group], n_draws)[:, 0]
        return drawn.reshape(n_sets, n_obs, -1)

    def _standardized(
        self, values: Float[Tensor, "*rows d"], parameters: Float[Tensor, "*rows p"]
    ) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"], Bool[Tensor, "*rows d"]]:
        """Values as the flow takes them, the log derivative, and whether they are possible."""
        mapped = [s.to_real(values[..., j], parameters) for j, s in enumerate(self.supports)]
        real, log_det, inside = (torch.stack(m, -1) for m in zip(*mapped, strict=True))
        return (real - self.real_mean) / self.real_sd, log_det - self.real_sd.log(), inside

    def _from_standardized(
        self, y: Float[Tensor, "sets n d"], parameters: Float[Tensor, "sets p"], n_draws: int
    ) -> Float[Tensor, "sets obs c"]:
        """Values of the draws of each observation, one draw after the other."""
        real = y * self.real_sd + self.real_mean
        own_parameters = parameters[:, None].expand(-1, y.shape[1], -1)
        own = [s.from_real(real[..., j], own_parameters) for j, s in enumerate(self.supports)]
        return torch.stack(own, -1).reshape(len(y), -1, n_draws * len(own))

    def _entering(self, parameters: Tensor) -> Tensor:
        """Parameters as the networks take them, before they are standardised."""
        return entering(parameters, self.parameter_log, self.turning if self.angles else None)

    def _context(
        self, parameters: Tensor, conditions: Tensor | None, group: Tensor | None = None
    ) -> Float[Tensor, "rows c"]:
        """Inputs of the networks for each row; for each set, if there is no group."""
        context = (self._entering(parameters) - self.parameter_mean) / self.parameter_sd
        context = context if group is None else context[group]
        if not self.n_conditions:
            return context
        known = known_conditions(conditions, self.condition_mean, self.condition_sd)
        if not self.n_products:
            return torch.cat([context, known], -1)
        products = (context[:, :, None] * known[:, None]).flatten(1)
        return torch.cat([context, known, products], -1)
