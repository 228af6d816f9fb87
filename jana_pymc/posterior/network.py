"""The posterior network: a summary network and a flow over unconstrained parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_kind, check_switch
from jana_pymc.flows.flow import ConditionalFlow, FlowSettings, conditional_flow
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.networks.columns import as_draws
from jana_pymc.networks.conditioners import compress
from jana_pymc.networks.flat_summary import FlatSummary, FlatSummarySettings
from jana_pymc.networks.moments import set_moments
from jana_pymc.networks.order_statistics import guarded_log, values_and_cells
from jana_pymc.networks.set_summary import SetSummary, SetSummarySettings
from jana_pymc.networks.set_transformer import SetTransformer, SetTransformerSettings
from jana_pymc.networks.time_series import TimeSeriesNetwork, TimeSeriesSettings
from jana_pymc.networks.time_series_transformer import (
    TimeSeriesTransformer,
    TimeSeriesTransformerSettings,
)
from jana_pymc.posterior.adjusted_flow import AdjustedFlow, AdjustmentSettings
from jana_pymc.posterior.data_bounds import DataBound, DataBounds
from jana_pymc.posterior.normal_scores import NormalScores

SummarySettings: TypeAlias = (
    SetSummarySettings
    | SetTransformerSettings
    | TimeSeriesSettings
    | TimeSeriesTransformerSettings
    | FlatSummarySettings
)

DEFAULT_SUMMARIES = 32

MAX_PRODUCTS = 64
"""Most products among the features: if those of observables and conditions are more, they are left
to the networks; so are those of conditions with each other, if both kinds together are more."""


@dataclass(frozen=True)
class PosteriorSettings:
    """Architecture of the posterior network.

    Parameters
    ----------
    summary : SummarySettings
        Summary network: `SetSummarySettings` or `SetTransformerSettings` for exchangeable data,
        `TimeSeriesSettings` or `TimeSeriesTransformerSettings` for sequences,
        `FlatSummarySettings` for vectors and for sequences of one length.
    flow : FlowSettings
    draws : tuple of tuple of int, optional
        In a vector, the components of each independent draw of one law. The draws are summarised as
        exchangeable observations, and all other components are ignored.
    n_summaries : int
        Size of the summary where the summary's own settings do not say it, as `SetSummarySettings`
        and `FlatSummarySettings` do.
    data_bounds : bool
        Keep parameters that bound an observable on their side of the data (`DataBounds`).
    normal_scores : bool
        Give the flow the normal scores of parameters within an interval (`NormalScores`).
    adjustment : AdjustmentSettings or None
        How the trained posterior is adjusted to the likelihood network, if the training has steps
        for it (`TrainingSettings.adjustment_steps`). In the settings of a trained pair it is None
        if there were no such steps, or they gained nothing.

    Raises
    ------
    TypeError
        If `summary`, `flow` or `adjustment` is something else, `n_summaries` no integer, or
        `data_bounds` or `normal_scores` no bool.
    ValueError
        If `n_summaries` is below 1, or is given beside a summary whose own settings say it.
    """

    summary: SummarySettings = field(default_factory=SetSummarySettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    n_summaries: int = DEFAULT_SUMMARIES
    data_bounds: bool = True
    normal_scores: bool = True
    draws: Sequence[Sequence[int]] | None = None
    adjustment: AdjustmentSettings | None = None

    def __post_init__(self) -> None:
        check_kind("summary", self.summary, get_args(SummarySettings))
        check_kind("flow", self.flow, (FlowSettings,))
        check_count("n_summaries", self.n_summaries)
        for name in ("data_bounds", "normal_scores"):
            check_switch(name, getattr(self, name))
        if self.draws is not None:
            object.__setattr__(self, "draws", as_draws(self.draws))
        if not isinstance(self.adjustment, AdjustmentSettings | None):
            raise TypeError(
                f"adjustment={self.adjustment!r}: expected AdjustmentSettings, or None for none."
            )
        if hasattr(self.summary, "n_summaries") and self.n_summaries != DEFAULT_SUMMARIES:
            name = type(self.summary).__name__
            raise ValueError(
                f"n_summaries={self.n_summaries} would have no effect: {name} say themselves how "
                f"many. Write {name}(n_summaries={self.n_summaries})."
            )


class PosteriorNetwork(nn.Module):
    """Amortized posterior q(u | x) over unconstrained parameters u.

    Data sets of differing sizes are summarised together; the logarithm of the number of
    observations is passed to the flow beside the summary, since a mean forgets it.

    Parameters
    ----------
    components : sequence of int, CountRange or None
        For each component of an observation: the number of categories, the range of a count, None
        for a continuous one.
    positive : sequence of bool
        For each component, whether it is positive in all simulations: its logarithm is then fed
        to the summary network too.
    n_unconstrained, n_conditions : int
        Sizes of the unconstrained parameters and of the known conditions of one observation.
    settings : PosteriorSettings
    n_obs : int
        Observations in every data set, for a summary of data of fixed size.
    bounds : sequence of DataBound
        Parameters that the data bound.
    logits : sequence of int
        Columns that are the logit of a place in an interval, and not bounded by data.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 6 (the posterior network's loss).
    """

    feature_mean: Tensor
    feature_sd: Tensor
    size_mean: Tensor
    size_sd: Tensor
    parameter_mean: Tensor
    parameter_sd: Tensor
    of_draws: Tensor

    def __init__(
        self,
        components: Sequence[int | CountRange | None],
        positive: Sequence[bool],
        n_unconstrained: int,
        n_conditions: int = 0,
        settings: PosteriorSettings = PosteriorSettings(),
        n_obs: int = 1,
        bounds: Sequence[DataBound] = (),
        logits: Sequence[int] = (),
    ):
        super().__init__()
        self.components = tuple(components)
        self.positive = tuple(positive)
        draws = settings.draws
        if draws is not None:
            if isinstance(settings.summary, FlatSummarySettings):
                raise ValueError(
                    "draws are summarised as exchangeable observations; give the PosteriorSettings "
                    "summary=SetSummarySettings()."
                )
            if n_obs != 1 or n_conditions or bounds or any(c is not None for c in self.components):
                raise ValueError(
                    "draws must be of one vector of continuous and unbounded components, without "
                    "conditions."
                )
            if max(i for draw in draws for i in draw) >= len(self.components):
                raise ValueError(
                    f"draws={draws}: expected positions among {len(self.components)} components."
                )
            self.components = tuple(self.components[i] for i in draws[0])
            self.positive = tuple(all(positive[d[j]] for d in draws) for j in range(len(draws[0])))
            of_draws = torch.tensor([i for draw in draws for i in draw], dtype=torch.long)
            self.register_buffer("of_draws", of_draws, persistent=False)
        self.settings = settings
        self.n_obs = n_obs
        categories = [c for c in self.components if isinstance(c, int)]
        n_continuous = len(self.components) - len(categories)
        n_observed = n_continuous + sum(self.positive) + sum(categories)
        n_products = n_observed * n_conditions
        self.has_products = 0 < n_products <= MAX_PRODUCTS
        # Their means tell how well a regression's coefficients are determined.
        n_pairs = n_conditions * (n_conditions + 1) // 2
        means = isinstance(settings.summary, SetSummarySettings) and settings.summary.means
        self.has_pairs = means and 0 < n_pairs <= MAX_PRODUCTS - n_products
        n_features = n_observed + n_conditions
        n_features += n_products * self.has_products + n_pairs * self.has_pairs
        n_features *= n_obs if isinstance(settings.summary, FlatSummarySettings) else 1
        n_distances = sum(len(bound.components) for bound in bounds)
        self.summary, n_summaries = _summary_network(
            settings, n_features, n_observed, n_continuous + n_distances, math.prod(categories)
        )
        self.n_condition = n_condition = n_summaries + 1 + len(bounds)
        self.flow: ConditionalFlow | AdjustedFlow
        self.flow = conditional_flow(n_unconstrained, n_condition, settings.flow)
        self.bounds = DataBounds(bounds, n_unconstrained) if bounds else None
        self.scores = NormalScores(logits, n_unconstrained) if logits else None
        for name, size in (("feature", n_features), ("size", 1), ("parameter", n_unconstrained)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))
        if settings.adjustment is not None:
            self.adjust(settings.adjustment)

    @property
    def adjustment(self) -> AdjustedFlow | None:
        """The flow with its adjustment, if it has one."""
        return self.flow if isinstance(self.flow, AdjustedFlow) else None

    @property
    def takes_one_length(self) -> bool:
        """Whether data sets must have as many observations as those that it was trained on."""
        return self._is_flat

    def check_length(self, n_obs: int) -> None:
        """Refuse another number of observations, where only one is taken."""
        if self.takes_one_length and n_obs != self.n_obs:
            raise ValueError(
                f"data sets have {n_obs} observations; this posterior was trained on sequences of "
                f"{self.n_obs}, and takes no others. Train on sequences of several lengths "
                "(GenerativeModel(n_obs=(fewest, most)))."
            )

    def sees(self, component: int) -> bool:
        """Whether the posterior may depend on a component of the observations."""
        if self.settings.draws is not None:
            return any(component in draw for draw in self.settings.draws)
        summary = self.settings.summary
        informative = summary.informative if isinstance(summary, FlatSummarySettings) else None
        if informative is None or any(self.positive) or any(self.components):
            return True  # features may be others than the components
        return component in informative

    def adjust(self, settings: AdjustmentSettings | None) -> None:
        """Give the flow an untrained adjustment in place of the one that it has, or none."""
        flow = self.flow.flow if isinstance(self.flow, AdjustedFlow) else self.flow
        self.flow = flow
        if settings is not None:
            n_unconstrained = len(self.parameter_mean)
            self.flow = AdjustedFlow(flow, n_unconstrained, self.n_condition, settings)
        self.to(self.parameter_mean)
        self.settings = replace(self.settings, adjustment=settings)

    @torch.no_grad()
    def standardize(
        self,
        unconstrained: Float[Tensor, "sets u"],
        observables: Float[Tensor, "sets obs c"],
        n_obs: Int[Tensor, " sets"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulations."""
        observables, mask = self._summarized(observables, n_obs)
        features = self._features(observables, conditions)
        rows = features.flatten(1) if self._is_flat else features[mask]
        for mean, sd, values in (
            (self.feature_mean, self.feature_sd, rows),
            (self.size_mean, self.size_sd, n_obs[:, None].to(observables.dtype).log()),
            (self.parameter_mean, self.parameter_sd, self._scored(unconstrained)[0]),
        ):
            set_moments(mean, sd, values)
        if self.bounds is not None:
            moments = self.parameter_mean, self.parameter_sd
            inputs = (self._scored(unconstrained)[0] - self.parameter_mean) / self.parameter_sd
            self.bounds.standardize(inputs, observables, mask, *moments)
        if isinstance(self.summary, SetSummary):
            standardized = (features - self.feature_mean) / self.feature_sd
            self.summary.standardize(standardized, *self._values_and_cells(observables, mask), mask)

    def summarize(
        self,
        observables: Float[Tensor, "sets obs c"],
        n_obs: Int[Tensor, " sets"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets s"]:
        """Learned summary statistics of each data set."""
        observables, mask = self._summarized(observables, n_obs)
        features = self._features(observables, conditions)
        if self._is_flat and features[0].numel() != len(self.feature_mean):
            self.check_length(int(features.shape[1]))
        shape = features.shape[1:] if self._is_flat else features.shape[-1:]
        mean, sd = self.feature_mean.reshape(shape), self.feature_sd.reshape(shape)
        features = torch.where(mask[..., None], (features - mean) / sd, 0.0)
        if self._is_flat:
            features = compress(features)
        if isinstance(self.summary, SetSummary | FlatSummary):
            return self.summary(features, *self._values_and_cells(observables, mask), mask)
        return self.summary(features, mask)

    def condition(
        self,
        summary: Float[Tensor, "sets s"],
        observables: Float[Tensor, "sets obs c"],
        n_obs: Int[Tensor, " sets"],
        slopes: Float[Tensor, "sets slopes"] | None = None,
    ) -> Float[Tensor, "sets s1"]:
        """What the density is conditioned on: summary, log sample size, and bounds by the data.

        An adjusted posterior is conditioned on the slopes too (`LatentSlopes`), which come first;
        without them it is as it was before.
        """
        size = (n_obs[:, None].to(summary.dtype).log() - self.size_mean) / self.size_sd
        parts = [summary, size] if slopes is None else [slopes, summary, size]
        if self.bounds is not None:
            moments = self.parameter_mean, self.parameter_sd
            bounds = self.bounds.of(observables, _mask(observables, n_obs), *moments)
            parts += [self.bounds.features(bounds), bounds]
        return torch.cat(parts, -1)

    def log_prob(
        self, unconstrained: Float[Tensor, "*batch u"], condition: Float[Tensor, "*#batch s1"]
    ) -> Float[Tensor, "*batch"]:
        """Log density of unconstrained parameters given `condition`."""
        scored, log_det = self._scored(unconstrained)
        values = (scored - self.parameter_mean) / self.parameter_sd
        log_det = log_det - self.parameter_sd.log().sum()
        if self.bounds is not None:
            values, contribution = self.bounds(values, self._bounds_in(condition))
            log_det = log_det + contribution
        return self.flow.log_prob(values, self.seen_by_flow(condition)) + log_det

    def sample_latent(
        self,
        n: int,
        condition: Float[Tensor, "sets s1"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets n u"]:
        """Draw what `push` carries to the posterior."""
        return self.flow.latent.sample((len(condition), n), generator, condition)

    def draw(
        self, z: Float[Tensor, "sets n u"], condition: Float[Tensor, "sets s1"]
    ) -> Float[Tensor, "sets n u"]:
        """Carry latent points to unconstrained parameters."""
        return self.push(z, condition)[0]

    def push(
        self, z: Float[Tensor, "sets n u"], condition: Float[Tensor, "sets s1"]
    ) -> tuple[Float[Tensor, "sets n u"], Float[Tensor, "sets n"]]:
        """Carry latent points to unconstrained parameters, with their log densities."""
        values, log_prob = self.flow.push(z, self.seen_by_flow(condition))
        log_prob = log_prob - self.parameter_sd.log().sum()
        if self.bounds is not None:
            bounds = self._bounds_in(condition)[:, None]
            values, contribution = self.bounds.inverse(values, bounds)
            log_prob = log_prob + contribution
        values = values * self.parameter_sd + self.parameter_mean
        if self.scores is not None:
            values, contribution = self.scores.inverse(values)
            log_prob = log_prob + contribution
        return values, log_prob

    def _scored(self, unconstrained: Tensor) -> tuple[Tensor, Tensor]:
        """Normal scores of the parameters within intervals, and the log determinant."""
        if self.scores is None:
            return unconstrained, unconstrained.new_zeros(())
        return self.scores(unconstrained)

    def seen_by_flow(self, condition: Float[Tensor, "*batch s1"]) -> Float[Tensor, "*batch s2"]:
        """All of a `condition` but the bounds themselves, which transform what the flow gives."""
        return condition if self.bounds is None else condition[..., : -len(self.bounds)]

    def _bounds_in(self, condition: Tensor) -> Tensor:
        assert self.bounds is not None  # narrows the type
        return condition[..., -len(self.bounds) :]

    def _summarized(self, observables: Tensor, n_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Observables as the summary network takes them, and where they are no padding."""
        if self.settings.draws is None:
            return observables, _mask(observables, n_obs)
        shape = len(self.settings.draws), len(self.components)
        observables = observables[:, 0].index_select(-1, self.of_draws).unflatten(-1, shape)
        return observables, torch.ones_like(observables[..., 0], dtype=torch.bool)

    def _features(self, observables: Tensor, conditions: Tensor | None) -> Tensor:
        features: list[Tensor] = []
        for column, (kind, positive) in enumerate(zip(self.components, self.positive, strict=True)):
            values = observables[..., column]
            if isinstance(kind, int):
                categories = torch.arange(kind, device=values.device)
                features.append((values[..., None] == categories).to(values.dtype))
                continue
            values = values if kind is None else kind.to_real(values)
            features.append(values[..., None])
            if positive:
                features.append(guarded_log(values)[..., None])
        observed = torch.cat(features, -1)
        if conditions is None:
            return observed
        parts = [observed, conditions]
        if self.has_products:  # sufficient, or nearly so, in regressions
            parts.append((observed[..., :, None] * conditions[..., None, :]).flatten(-2))
        if self.has_pairs:
            i, j = torch.triu_indices(*2 * conditions.shape[-1:], device=conditions.device)
            parts.append(conditions[..., i] * conditions[..., j])
        return torch.cat(parts, -1)

    @property
    def _is_flat(self) -> bool:
        return isinstance(self.summary, FlatSummary)

    def _values_and_cells(self, observables: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Continuous components on a scale of their own, and each observation's category.

        Logarithms of positive ones, and beside them those of the distances from data bounds.
        """
        columns = [
            kind.to_real(x) if isinstance(kind, CountRange) else x
            for kind, x in zip(self.components, observables.unbind(-1), strict=True)
        ]
        categories = [kind if isinstance(kind, int) else None for kind in self.components]
        values, cell = values_and_cells(columns, categories, self.positive)
        if self.bounds is not None:
            values = torch.cat([values, self.bounds.log_distances(observables, mask)], -1)
        return values, cell


def _summary_network(
    settings: PosteriorSettings, n_features: int, n_observed: int, n_continuous: int, n_cells: int
) -> tuple[nn.Module, int]:
    """The summary network, and the size of what it returns."""
    summary, n_summaries = settings.summary, settings.n_summaries
    if isinstance(summary, SetSummarySettings):
        set_summary = SetSummary(n_features, n_continuous, n_cells, summary)
        return set_summary, set_summary.n_summaries
    if isinstance(summary, FlatSummarySettings):
        flat = FlatSummary(n_features, summary)
        return flat, flat.n_summaries
    if isinstance(summary, SetTransformerSettings):
        return SetTransformer(n_features, n_summaries, summary), n_summaries
    if isinstance(summary, TimeSeriesSettings):
        return TimeSeriesNetwork(n_features, n_summaries, summary, n_observed), n_summaries
    return TimeSeriesTransformer(n_features, n_summaries, summary), n_summaries


def _mask(
    observables: Float[Tensor, "sets obs c"], n_obs: Int[Tensor, " sets"]
) -> Bool[Tensor, "sets obs"]:
    return torch.arange(observables.shape[1], device=n_obs.device) < n_obs[:, None]
