"""The paper's likelihood of discrete data: a continuous flow of slightly noisy observations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jana_pymc.checks import check_kind, check_number
from jana_pymc.flows.flow import FlowSettings, conditional_flow
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.likelihoods.entering import known_conditions
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.moments import set_moments


@dataclass(frozen=True)
class SoftFlowSettings:
    """Architecture of the SoftFlow likelihood.

    For counts and categories it gives, as the paper's network does, densities of values with noise.
    Their sum over all integers is not exactly one: log marginal likelihoods and expected log
    densities of such data cannot be compared with those of other networks. The default networks
    give probabilities.

    Parameters
    ----------
    flow : FlowSettings
    noise : tuple of float
        Smallest and largest standard deviation of the noise, in units of each component's own.
    evaluation_noise : float
        The noise level at which densities are evaluated and observations drawn. The original
        takes 0.001; the level that is learned best is the largest.

    Raises
    ------
    TypeError
        If `flow` is something else, or a level no number.
    ValueError
        If the levels are not positive and in order, or that of the evaluation lies outside.
    """

    flow: FlowSettings = field(
        default_factory=lambda: FlowSettings(n_layers=2, transform="autoregressive")
    )
    noise: Sequence[float] = (0.001, 0.05)
    evaluation_noise: float = 0.05

    def __post_init__(self) -> None:
        check_kind("flow", self.flow, (FlowSettings,))
        try:
            low, high = self.noise
        except (TypeError, ValueError) as error:
            expected = "expected two levels, smallest and largest"
            raise TypeError(f"noise={self.noise!r}: {expected}.") from error
        low, high = check_number("noise[0]", low), check_number("noise[1]", high)
        object.__setattr__(self, "noise", (low, high))
        if not low < high:
            raise ValueError(f"noise={self.noise}: expected 0 < smallest < largest.")
        check_number("evaluation_noise", self.evaluation_noise)
        if not low <= self.evaluation_noise <= high:
            raise ValueError(
                f"evaluation_noise={self.evaluation_noise} lies outside noise={self.noise}, where "
                "the flow is not trained."
            )


class SoftFlowLikelihood(LikelihoodNetwork):
    r"""Density of a vector through SoftFlow dequantisation.

    Every discrete component gets Gaussian noise, whose level c is drawn anew for each observation
    and is a condition of the flow; continuous components are left as they are, on the real line to
    which their support is mapped. At evaluation the noise is zero and c fixed, so the value is
    deterministic. The noisy density at an integer k is

    .. math:: l(k \mid \theta, c) = \sum_j P(j \mid \theta)\, N(k; j, c^2)
              \approx P(k \mid \theta) \sum_j N(k; j, c^2),

    for noise far below the gap, where only j = k counts, as for noise far above it, where P varies
    little. The last sum is divided out: values are comparable with those of `VectorLikelihood`,
    which needs no such approximation and is the default. Here the height of a narrow peak stands
    for its mass: probabilities are off by some percent and do not sum to one exactly.

    Parameters
    ----------
    components : sequence of int, CountRange or Support
        For each component: the number of categories, the range of a count, or the support of a
        continuous one.
    n_parameters, n_conditions : int
    settings : SoftFlowSettings

    References
    ----------
    .. [1] Kim, H., et al. (2020). SoftFlow: Probabilistic framework for normalizing flow on
       manifolds. NeurIPS.
    .. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI.
    """

    parameter_mean: Tensor
    parameter_sd: Tensor
    condition_mean: Tensor
    condition_sd: Tensor
    real_mean: Tensor
    real_sd: Tensor
    noisy: Tensor

    def __init__(
        self,
        components: Sequence[int | CountRange | Support],
        n_parameters: int,
        n_conditions: int = 0,
        settings: SoftFlowSettings = SoftFlowSettings(),
    ):
        super().__init__()
        self.components = tuple(components)
        self.n_conditions = n_conditions
        self.settings = settings
        dim = len(self.components)
        self.flow = conditional_flow(dim, n_parameters + n_conditions + 1, settings.flow)
        discrete = [not isinstance(c, Support) for c in self.components]
        self.register_buffer("noisy", torch.tensor(discrete), persistent=False)
        for name, size in (
            ("parameter", n_parameters),
            ("condition", n_conditions),
            ("real", dim),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "rows p"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulations."""
        set_moments(self.parameter_mean, self.parameter_sd, parameters)
        if conditions is not None and self.n_conditions:
            set_moments(self.condition_mean, self.condition_sd, conditions)
        set_moments(self.real_mean, self.real_sd, self._to_real(observables, parameters)[0])

    def training_log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of freshly noised observations, each at a noise level of its own."""
        rows, own, known = _rows(observables, parameters, conditions)
        low, high = self.settings.noise
        level = low + (high - low) * torch.rand(
            (len(rows), 1), generator=generator, dtype=rows.dtype, device=rows.device
        )
        noise = level * torch.randn(
            rows.shape, generator=generator, dtype=rows.dtype, device=rows.device
        )
        return self._log_prob(rows, own, known, level, noise).reshape(observables.shape[:2])

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation; deterministic."""
        rows, own, known = _rows(observables, parameters, conditions)
        return self._log_prob(rows, own, known).reshape(observables.shape[:2])

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of single observations, each with the parameters of its group.

        Returns
        -------
        Tensor, shape (rows,)
            −inf where a component is outside its support.
        """
        return self._log_prob(observables, parameters[group], conditions)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate n_obs observations for each parameter vector; discrete ones are rounded."""
        own = parameters.repeat_interleave(n_obs, 0)
        known = None if conditions is None else conditions.flatten(0, 1)
        context = self._context(own, known, self._level(own))
        real = self.flow.sample(1, context, generator)[:, 0] * self.real_sd + self.real_mean
        columns = []
        for value, component in zip(real.unbind(-1), self.components, strict=True):
            if isinstance(component, Support):
                columns.append(component.from_real(value, own))
            else:
                columns.append(torch.round(value).clamp(0, _largest(component)))
        return torch.stack(columns, -1).reshape(len(parameters), n_obs, -1)

    def _log_prob(
        self,
        rows: Tensor,
        parameters: Tensor,
        conditions: Tensor | None,
        level: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Float[Tensor, " rows"]:
        real, log_det, inside = self._to_real(rows, parameters)
        level = self._level(parameters) if level is None else level
        y = (real - self.real_mean) / self.real_sd
        if noise is not None:
            y = y + self.noisy * noise
        context = self._context(parameters, conditions, level)
        spread = _log_noise_at_integers(level * self.real_sd)
        density = self.flow.log_prob(y, context) - self.real_sd.log().sum()
        density = density + log_det.sum(-1) - (self.noisy * spread).sum(-1)
        return torch.where(inside.all(-1), density, -torch.inf)

    def _to_real(self, rows: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values on the real line, log |dy/dx|, and which are possible, each (rows, components)."""
        parts = []
        for value, component in zip(rows.unbind(-1), self.components, strict=True):
            if isinstance(component, Support):
                parts.append(component.to_real(value, parameters))
            else:
                possible = (value >= 0) & (value <= _largest(component))
                possible = possible & (value == torch.floor(value))
                parts.append((value, torch.zeros_like(value), possible))
        real, log_det, inside = (torch.stack(part, -1) for part in zip(*parts, strict=True))
        return real, log_det, inside

    def _level(self, like: Tensor) -> Float[Tensor, "rows 1"]:
        return like.new_full((len(like), 1), self.settings.evaluation_noise)

    def _context(
        self, parameters: Tensor, conditions: Tensor | None, level: Tensor
    ) -> Float[Tensor, "rows c"]:
        context = [(parameters - self.parameter_mean) / self.parameter_sd]
        if self.n_conditions:
            context.append(known_conditions(conditions, self.condition_mean, self.condition_sd))
        low, high = self.settings.noise
        return torch.cat([*context, (level - low) / (high - low)], -1)


def _largest(component: int | CountRange | Support) -> float:
    if isinstance(component, CountRange):
        return math.inf if component.upper is None else float(component.upper)
    assert isinstance(component, int)  # narrows the type; callers exclude continuous components
    return component - 1.0


def _rows(
    observables: Tensor, parameters: Tensor, conditions: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Observations one below the other, with their parameters and conditions."""
    own = parameters.repeat_interleave(observables.shape[1], 0)
    known = None if conditions is None else conditions.flatten(0, 1)
    return observables.flatten(0, 1), own, known


def _log_noise_at_integers(sd: Float[Tensor, "rows c"]) -> Float[Tensor, "rows c"]:
    """log Σⱼ N(j; 0, sd²): how dense noise around all integers is at one of them.

    By Poisson's summation the sum is 1 for all sd ≥ 1 to within 1e-8, and below that it has few
    terms.
    """
    narrow = sd.clamp(max=1.0)
    reach = torch.arange(-7, 8, device=sd.device, dtype=sd.dtype)
    terms = -0.5 * (reach / narrow[..., None]) ** 2
    total = torch.logsumexp(terms, -1) - narrow.log() - 0.5 * math.log(2.0 * math.pi)
    return torch.where(sd < 1.0, total, 0.0)
