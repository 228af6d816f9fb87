"""The default likelihood of vectors: discrete components, then a flow of the continuous ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count
from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.flows.flow import ConditionalFlow
from jana_pymc.flows.latents import GaussianLatent
from jana_pymc.flows.linear import Reversal
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.likelihoods.discrete import DiscreteAutoregressive
from jana_pymc.likelihoods.distractors import DistractorFlow
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.columns import columns
from jana_pymc.networks.moments import set_moments

MAX_PRODUCTS = 256
"""More products of parameters and conditions than this are left to the networks."""

SKEWED = 5.0
"""A positive parameter whose 99 % and 1 % quantiles have a larger ratio enters as its logarithm."""


@dataclass(frozen=True)
class VectorSettings:
    """Architecture of the vector likelihood.

    Parameters
    ----------
    n_layers : int or None
        Autoregressive layers of the flow; None takes 3 for up to three continuous components, 2
        for up to five and 1 for more, and 1 for sequences, whose layer must follow time.
    hidden : tuple of int
        Hidden layers of the network that standardises the components.
    residual : bool
        Residual connections between these.
    conditioner_hidden, conditioner_layers : int
        Width and number of hidden layers of each component's own network, whose layers are
        residual from the third.
    n_bins : int
        Inner bins of the splines of continuous components; counts have half as many.
    informative : tuple of int, optional
        The components that depend on the parameters; all by default. The others are continuous
        distractors, whose density given these is learned without the parameters.
    order : int, optional
        How many observations of a sequence back each depends on, given the parameters: 0 for a
        deterministic system that is observed with noise. By default all.
    angles : tuple of int
        Positions of parameters that are angles, in radians: their sines and cosines enter in their
        place, so that the ends of the circle are one point.
    """

    n_layers: int | None = None
    hidden: Sequence[int] = (256, 256)
    residual: bool = False
    conditioner_hidden: int = 64
    conditioner_layers: int = 2
    n_bins: int = 8
    informative: Sequence[int] | None = None
    order: int | None = None
    angles: Sequence[int] = ()

    def __post_init__(self) -> None:
        check_count("conditioner_layers", self.conditioner_layers, least=2)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "angles", tuple(self.angles))
        if self.informative is not None:
            object.__setattr__(self, "informative", tuple(self.informative))
        if self.order is not None and self.order < 0:
            raise ValueError(f"order={self.order}: expected 0 or more, or None.")

    def layers(self, n_continuous: int, n_steps: int) -> int:
        """Number of autoregressive layers."""
        if self.n_layers is not None:
            return self.n_layers
        if n_steps > 1 or n_continuous > 5:
            return 1
        return 3 if n_continuous <= 3 else 2


class VectorLikelihood(nn.Module):
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
        If a sequence has both discrete and continuous components.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 7 (the likelihood network's loss).
    """

    parameter_mean: Tensor
    parameter_sd: Tensor
    parameter_log: Tensor
    turning: Tensor
    condition_mean: Tensor
    condition_sd: Tensor
    real_mean: Tensor
    real_sd: Tensor

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
        self.settings = settings
        discrete = [c for c in self.components if not isinstance(c, Support)]
        self.supports = tuple(c for c in self.components if isinstance(c, Support))
        self.discrete = tuple(
            i for i, c in enumerate(self.components) if not isinstance(c, Support)
        )
        self.continuous = tuple(i for i, c in enumerate(self.components) if isinstance(c, Support))
        self.distractors: tuple[int, ...] = ()
        if settings.informative is not None:
            self.distractors = tuple(i for i in self.continuous if i not in settings.informative)
            self.continuous = tuple(i for i in self.continuous if i in settings.informative)
            self.supports = tuple(self.components[i] for i in self.continuous)  # type: ignore[misc]
            if any(self.components[i] != Support() for i in self.distractors):
                raise ValueError("distractors must be continuous and unbounded.")
        if n_steps > 1 and discrete and self.supports:
            raise ValueError(
                "a sequence with both discrete and continuous components cannot be modelled as "
                "one vector in the order of time."
            )
        self.angles = list(settings.angles)
        if any(not 0 <= position < n_parameters for position in self.angles):
            raise ValueError(
                f"angles={settings.angles}: expected positions among {n_parameters} parameters."
            )
        n_entering = n_parameters + len(self.angles)
        n_products = n_entering * n_conditions
        self.n_products = n_products if n_products <= MAX_PRODUCTS else 0
        n_context = n_entering + n_conditions + self.n_products
        hidden, width = tuple(settings.hidden), settings.conditioner_hidden
        depth = settings.conditioner_layers
        sees = _past(len(self.components), n_steps, settings.order)
        self.discrete_part = None
        if discrete:
            self.discrete_part = DiscreteAutoregressive(
                discrete,
                n_context,
                n_bins=max(2, settings.n_bins // 2),
                hidden=hidden,
                residual=settings.residual,
                conditioner_hidden=width,
                conditioner_layers=depth,
                sees=sees,
            )
        self.flow = None
        if self.supports:
            dim = len(self.supports)
            transforms: list[nn.Module] = []
            for layer in range(settings.layers(dim, n_steps)):
                transforms += [Reversal()] if layer else []
                transforms.append(
                    AutoregressiveTransform(
                        dim,
                        n_context + len(discrete),
                        n_bins=settings.n_bins,
                        hidden=() if layer else hidden,
                        residual=settings.residual,
                        conditioner_hidden=width,
                        conditioner_layers=depth,
                        sees=sees,
                    )
                )
            self.flow = ConditionalFlow(transforms, GaussianLatent(dim))
        self.distractor_part = None
        if self.distractors:
            self.distractor_part = DistractorFlow(
                len(self.distractors), len(self.components) - len(self.distractors)
            )
        self.register_buffer("parameter_log", torch.zeros(n_parameters, dtype=torch.bool))
        # An index that no list must carry to a GPU.
        self.register_buffer(
            "turning", torch.tensor(self.angles, dtype=torch.long), persistent=False
        )
        for name, size in (
            ("parameter", n_entering),
            ("condition", n_conditions),
            ("real", len(self.supports)),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))

    @property
    def is_sequential(self) -> bool:
        """Whether observations depend on those before them."""
        return self.n_steps > 1

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
        low, high = (torch.quantile(parameters[:100_000], q, dim=0) for q in (0.01, 0.99))
        self.parameter_log.copy_((parameters > 0).all(0) & (high > SKEWED * low))
        self.parameter_log[self.angles] = False
        set_moments(self.parameter_mean, self.parameter_sd, self._entering(parameters))
        if conditions is not None and self.n_conditions:
            set_moments(self.condition_mean, self.condition_sd, conditions)
        if self.discrete_part is not None:
            self.discrete_part.standardize(observables[:, self.discrete])
        if self.supports:
            real = [
                s.to_real(observables[:, c], parameters)[0]
                for s, c in zip(self.supports, self.continuous, strict=True)
            ]
            set_moments(self.real_mean, self.real_sd, torch.stack(real, -1))
        if self.distractor_part is not None:
            self.distractor_part.standardize(
                observables[:, self.distractors], observables[:, self._others]
            )

    @property
    def _others(self) -> tuple[int, ...]:
        """All components but the distractors."""
        return (*self.discrete, *self.continuous)

    def training_log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """What the training loss averages: the exact log density, which needs no randomness."""
        return self.log_prob(observables, parameters, conditions)

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation; of a sequence, of each step given those before it."""
        n_sets, n_obs, _ = observables.shape
        if self.distractor_part is not None and n_sets > 1 and observables.stride(0) == 0:
            # One data set under many parameters: its distractors are evaluated once.
            alone = self._distractors_log_prob(observables[0])
            return self._informative_log_prob(observables, parameters, conditions) + alone
        together = self._informative_log_prob(observables, parameters, conditions)
        if self.distractor_part is None:
            return together
        alone = self._distractors_log_prob(observables.flatten(0, 1)).reshape(n_sets, n_obs)
        return together + alone

    def _informative_log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None
    ) -> Tensor:
        n_sets, n_obs, _ = observables.shape
        n_rows = 1 if self.n_steps > 1 else n_obs
        group = torch.arange(n_sets, device=observables.device).repeat_interleave(n_rows)
        rows = self.components_log_prob(
            observables.reshape(n_sets * n_rows, -1),
            parameters,
            group,
            None if conditions is None else conditions.reshape(n_sets * n_rows, -1),
        )
        return rows.reshape(n_sets, n_obs, -1).sum(-1)

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
        given = observables[:, self._others]
        return self.distractor_part.log_prob(observables[:, self.distractors], given)

    def components_log_prob(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, "rows parts"]:
        """Log densities of the components given those before them, without distractors.

        Of a sequence there is one for each component, in order; otherwise they are good for their
        sum only.
        """
        context = self._context(parameters, conditions, group)
        parts = []
        if self.discrete_part is not None:
            values = observables[:, columns(self.discrete)]
            log_prob = self.discrete_part.log_prob(values, context)
            possible = self.discrete_part.possible(values)
            parts.append(torch.where(possible, log_prob, -torch.inf))
            context = torch.cat([context, self.discrete_part.codes(values)], -1)
        if self.flow is not None:
            own_parameters = parameters[group]
            mapped = [
                s.to_real(observables[:, c], own_parameters)
                for s, c in zip(self.supports, self.continuous, strict=True)
            ]
            real, log_det, inside = (torch.stack(m, -1) for m in zip(*mapped, strict=True))
            y = (real - self.real_mean) / self.real_sd
            log_det = log_det - self.real_sd.log()
            if len(self.flow.transforms) == 1:
                only: AutoregressiveTransform = self.flow.transforms[0]  # type: ignore[assignment]
                z, contribution = only.components(y, context)
                density = -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi) + contribution + log_det
                parts.append(torch.where(inside, density, -torch.inf))
            else:
                joint = self.flow.log_prob(y, context) + log_det.sum(-1)
                parts.append(torch.where(inside.all(-1), joint, -torch.inf)[:, None])
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
        if self.n_steps > 1 and n_obs != self.n_steps:
            raise ValueError(
                f"n_obs={n_obs}: this likelihood was trained on sequences of {self.n_steps}."
            )
        n_sets = len(parameters)
        n_rows = 1 if self.n_steps > 1 else n_obs
        group = torch.arange(n_sets, device=parameters.device).repeat_interleave(n_rows)
        known = None if conditions is None else conditions.reshape(n_sets * n_rows, -1)
        context = self._context(parameters, known, group)
        drawn = parameters.new_empty((len(group), len(self.components)))
        if self.discrete_part is not None:
            values = self.discrete_part.sample(context, generator)
            drawn[:, self.discrete] = values
            context = torch.cat([context, self.discrete_part.codes(values)], -1)
        if self.flow is not None:
            y = self.flow.sample(1, context, generator)[:, 0]
            real = y * self.real_sd + self.real_mean
            own_parameters = parameters[group]
            for j, (support, column) in enumerate(zip(self.supports, self.continuous, strict=True)):
                drawn[:, column] = support.from_real(real[:, j], own_parameters)
        if self.distractor_part is not None:
            given = drawn[:, self._others]
            drawn[:, self.distractors] = self.distractor_part.sample(given, generator)
        return drawn.reshape(n_sets, n_obs, -1)

    def _entering(self, parameters: Tensor) -> Tensor:
        """Parameters as the networks take them, before they are standardised."""
        positive = parameters.clamp_min(torch.finfo(parameters.dtype).tiny)
        plain = torch.where(self.parameter_log, positive.log(), parameters)
        if not self.angles:
            return plain
        angles = parameters.index_select(-1, self.turning)
        return torch.cat([plain.index_copy(-1, self.turning, angles.sin()), angles.cos()], -1)

    def _context(
        self, parameters: Tensor, conditions: Tensor | None, group: Tensor
    ) -> Float[Tensor, "rows c"]:
        context = ((self._entering(parameters) - self.parameter_mean) / self.parameter_sd)[group]
        if not self.n_conditions:
            return context
        if conditions is None:
            raise ValueError(f"this likelihood needs {self.n_conditions} known conditions a row.")
        known = (conditions - self.condition_mean) / self.condition_sd
        if not self.n_products:
            return torch.cat([context, known], -1)
        products = (context[:, :, None] * known[:, None]).flatten(1)
        return torch.cat([context, known, products], -1)


def _past(n_components: int, n_steps: int, order: int | None) -> Bool[Tensor, "d d"] | None:
    """Which components of a sequence, step by step, enter the law of which."""
    if order is None or n_steps == 1:
        return None
    step = torch.arange(n_components) // (n_components // n_steps)
    return step[None] >= step[:, None] - order
