"""From declared data and settings to untrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from jana_pymc.checks import check_kind
from jana_pymc.flows.flow import NOT_FOR, FlowSettings
from jana_pymc.joint_network import JointNetwork
from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
    AutoregressiveSettings,
    ConditionalSettings,
    CountRange,
    LikelihoodNetwork,
    MarkovianLikelihood,
    MarkovianSettings,
    SignedCouplingLikelihood,
    SignedCouplingSettings,
    SoftFlowLikelihood,
    SoftFlowSettings,
    Support,
    TrajectoryLikelihood,
    TrajectorySettings,
    VectorLikelihood,
    VectorSettings,
)
from jana_pymc.networks import (
    AttentionSettings,
    DeepSetSettings,
    FlatSummarySettings,
    SetSummarySettings,
    SetTransformerSettings,
    TimeSeriesSettings,
    TimeSeriesTransformerSettings,
)
from jana_pymc.posterior import (
    AdjustmentSettings,
    PosteriorNetwork,
    PosteriorSettings,
    SummarySettings,
)
from jana_pymc.posterior.data_bounds import DataBound
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataSchema,
    ParameterLayout,
    PyMCPrior,
)

LikelihoodSettings: TypeAlias = (
    AutoregressiveSettings
    | SignedCouplingSettings
    | VectorSettings
    | MarkovianSettings
    | TrajectorySettings
    | SoftFlowSettings
)

_LIKELIHOODS: dict[str, type[LikelihoodSettings]] = {
    "autoregressive": AutoregressiveSettings,
    "signed_coupling": SignedCouplingSettings,
    "vector": VectorSettings,
    "markovian": MarkovianSettings,
    "trajectory": TrajectorySettings,
    "soft_flow": SoftFlowSettings,
}
_SUMMARIES: dict[str, type[SummarySettings]] = {
    "set": SetSummarySettings,
    "set_transformer": SetTransformerSettings,
    "time_series": TimeSeriesSettings,
    "time_series_transformer": TimeSeriesTransformerSettings,
    "flat": FlatSummarySettings,
}
_PARTS: dict[str, type] = {
    "deep_set": DeepSetSettings,
    "attention": AttentionSettings,
    "conditional": ConditionalSettings,
    "flow": FlowSettings,
}
"""Settings within settings."""


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture of the pair.

    Parameters
    ----------
    posterior : PosteriorSettings, optional
    likelihood : settings of a likelihood, optional
        `AutoregressiveSettings`, `VectorSettings`, `MarkovianSettings`, `TrajectorySettings`,
        `SoftFlowSettings` or `SignedCouplingSettings`.

    Raises
    ------
    TypeError
        If one of them is something else.

    Notes
    -----
    In the place of what is left out `fit` takes what the data imply (`default_settings`).
    """

    posterior: PosteriorSettings | None = None
    likelihood: LikelihoodSettings | None = None

    def __post_init__(self) -> None:
        if self.posterior is not None:
            check_kind("posterior", self.posterior, (PosteriorSettings,))
        if self.likelihood is not None:
            check_kind("likelihood", self.likelihood, tuple(_LIKELIHOODS.values()))

    def both(self) -> tuple[PosteriorSettings, LikelihoodSettings]:
        """Settings of posterior and likelihood, where neither may be left out.

        Raises
        ------
        ValueError
            If one was.
        """
        if self.posterior is None or self.likelihood is None:
            missing = "likelihood" if self.likelihood is None else "posterior"
            raise ValueError(
                f"NetworkSettings without {missing}=: only jana_pymc.fit chooses it from the data. "
                "Give it, or take both from default_settings."
            )
        return self.posterior, self.likelihood

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form; neither network may be left out."""
        posterior, likelihood = self.both()
        summary = _name_of(posterior.summary, _SUMMARIES)
        values = asdict(posterior)
        return {
            "posterior": {**values, "summary": {"kind": summary, **values["summary"]}},
            "likelihood": {"kind": _name_of(likelihood, _LIKELIHOODS), **asdict(likelihood)},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """Inverse of `to_dict`."""
        summary = dict(values["posterior"]["summary"])
        summary_kind = _SUMMARIES[summary.pop("kind", "set")]
        adjustment = values["posterior"].get("adjustment")
        posterior = PosteriorSettings(
            **{
                "data_bounds": False,  # files of before there were any
                "normal_scores": False,
                **values["posterior"],
                "adjustment": None if adjustment is None else AdjustmentSettings(**adjustment),
                "summary": summary_kind(**_with_parts(summary)),
                "flow": _flow_settings(values["posterior"]["flow"]),
            }
        )
        likelihood = dict(values["likelihood"])
        likelihood_kind = _LIKELIHOODS[likelihood.pop("kind")]
        return cls(posterior, likelihood_kind(**_with_parts(likelihood)))


def _with_parts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _part(name, v) if name in _PARTS else v for name, v in values.items()}


def _part(name: str, values: Mapping[str, Any]) -> Any:
    return _flow_settings(values) if name == "flow" else _PARTS[name](**values)


def _flow_settings(values: Mapping[str, Any]) -> FlowSettings:
    if values["transform"] == "autoregressive" and "n_waves" not in values:
        values = {**values, "linear": "reversal"}  # files of before there was a choice
    ignored = NOT_FOR[values["transform"]]  # in files of before these were refused
    return FlowSettings(**{name: value for name, value in values.items() if name not in ignored})


def build_network(
    schema: DataSchema,
    prior: PyMCPrior,
    positive: Sequence[bool],
    settings: NetworkSettings,
    random_seed: int = 0,
) -> JointNetwork:
    """Build the untrained pair.

    Parameters
    ----------
    schema : DataSchema
        Observables and conditions.
    prior : PyMCPrior
        Names and sizes of the parameters, and the intervals of those that bound data.
    positive : sequence of bool
        For each component of an observation, whether it is positive in all simulations.
    settings : NetworkSettings
        Of both networks.
    random_seed : int
        Initial weights, rotations and permutations; torch's global state is left as it was.

    Raises
    ------
    ValueError
        If settings of a network are left out, or do not fit the data.
    """
    of_posterior, of_likelihood = settings.both()
    _check_summary(schema, of_posterior.summary)
    n_conditions = len(schema.condition_components)
    bounds = data_bounds(schema, prior) if of_posterior.data_bounds else ()
    logits = _logits(prior, bounds) if of_posterior.normal_scores else ()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_seed)
        posterior = PosteriorNetwork(
            [
                None if isinstance(kind, Continuous) else _discrete(kind)
                for kind in schema.components.values()
            ],
            positive,
            prior.n_unconstrained,
            n_conditions,
            of_posterior,
            schema.n_obs[1],
            bounds=bounds,
            logits=logits,
        )
        likelihood = _build_likelihood(schema, prior.layout, of_likelihood)
    return JointNetwork(posterior, likelihood)


def _check_summary(schema: DataSchema, settings: SummarySettings) -> None:
    """A row of values needs data sets of one size."""
    if isinstance(settings, FlatSummarySettings) and schema.n_obs[0] != schema.n_obs[1]:
        exchangeable = schema.structure == "exchangeable"
        raise ValueError(
            f"FlatSummarySettings are for data sets of one size, not of n_obs={schema.n_obs}; use "
            f"{'SetSummarySettings' if exchangeable else 'TimeSeriesSettings'}."
        )


def data_bounds(schema: DataSchema, prior: PyMCPrior) -> tuple[DataBound, ...]:
    """Parameters that observables declare as bounds, where the prior gives them fixed intervals.

    A parameter that is a lower bound of some components and an upper bound of others is kept below
    the former alone.
    """
    bounded: dict[tuple[str, bool], list[int]] = {}
    for component, kind in enumerate(schema.components.values()):
        if isinstance(kind, Continuous):
            for name, below in ((kind.lower, True), (kind.upper, False)):
                if isinstance(name, str):
                    bounded.setdefault((name, below), []).append(component)
    found: dict[str, DataBound] = {}
    for (name, below), components in sorted(bounded.items(), key=lambda item: not item[0][1]):
        interval = prior.interval(name)
        if interval is not None and name not in found:
            found[name] = DataBound(interval[0], tuple(components), below, *interval[1])
    return tuple(found.values())


def _logits(prior: PyMCPrior, bounds: Sequence[DataBound]) -> tuple[int, ...]:
    """Columns of parameters within an interval, but for those that the data bound."""
    bounded = {bound.column for bound in bounds}
    return tuple(
        column
        for column, ends in enumerate(prior.intervals())
        if ends is not None and np.isfinite(ends).all() and column not in bounded
    )


def _name_of(settings: Any, kinds: Mapping[str, type]) -> str:
    return next(name for name, kind in kinds.items() if isinstance(settings, kind))


def _discrete(kind: Categorical | Count) -> int | CountRange:
    return kind.n_categories if isinstance(kind, Categorical) else CountRange(kind.upper)


def _build_likelihood(
    schema: DataSchema, layout: ParameterLayout, settings: LikelihoodSettings
) -> LikelihoodNetwork:
    components = [
        Support.declared(kind.lower, kind.upper, layout.component_names)
        if isinstance(kind, Continuous)
        else _discrete(kind)
        for kind in schema.components.values()
    ]
    n_conditions = len(schema.condition_components)
    _check_order(schema, settings)
    if isinstance(settings, MarkovianSettings):
        return MarkovianLikelihood(components, layout.size, n_conditions, settings)
    if isinstance(settings, TrajectorySettings):
        if schema.structure != "markovian" or n_conditions:
            raise ValueError(
                "TrajectorySettings model sequences without conditions. "
                + (
                    "Use MarkovianSettings."
                    if schema.structure == "markovian"
                    else "Leave the network out, and one that fits the data is chosen."
                )
            )
        return TrajectoryLikelihood(components, layout.size, schema.n_obs[1], settings)
    if isinstance(settings, VectorSettings):
        n_steps = schema.n_obs[1] if schema.structure == "markovian" else 1
        if n_steps > 1 and schema.n_obs[0] != n_steps:
            raise ValueError(
                f"VectorSettings model sequences of one length, not of n_obs={schema.n_obs}; use "
                "MarkovianSettings."
            )
        return VectorLikelihood(
            components * n_steps, layout.size, n_conditions * n_steps, settings, n_steps
        )
    if isinstance(settings, SoftFlowSettings):
        if schema.structure == "markovian":
            raise ValueError("SoftFlowSettings do not model sequences; use MarkovianSettings.")
        return SoftFlowLikelihood(components, layout.size, n_conditions, settings)
    plain = [c for c in components if not isinstance(c, CountRange)]
    if schema.structure != "exchangeable" or len(plain) < len(components):
        of_sequences = schema.structure == "markovian" and schema.n_obs[0] != schema.n_obs[1]
        raise ValueError(
            f"{type(settings).__name__} is for exchangeable observations without counts; use "
            f"{'MarkovianSettings' if of_sequences else 'VectorSettings'}."
        )
    if isinstance(settings, SignedCouplingSettings):
        return SignedCouplingLikelihood(plain, layout.size, n_conditions, settings)
    return AutoregressiveLikelihood(plain, layout.size, n_conditions, settings)


def _check_order(schema: DataSchema, settings: LikelihoodSettings) -> None:
    """The network must see as far back as the model declares; only sequences have a past."""
    if schema.structure != "markovian":
        order = settings.order if isinstance(settings, VectorSettings) else None
        if isinstance(settings, MarkovianSettings) or order is not None:
            raise ValueError(
                f"{type(settings).__name__}{'' if order is None else f'(order={order})'} is for "
                f"sequences, but structure={schema.structure!r} has none; leave it out."
            )
        return
    declared = schema.order
    if not declared or not isinstance(
        settings, (MarkovianSettings, TrajectorySettings, VectorSettings)
    ):
        return
    remembers = isinstance(settings, MarkovianSettings) and settings.memory > 0
    if settings.order is not None and settings.order < declared and not remembers:
        raise ValueError(
            f"{type(settings).__name__}(order={settings.order}) sees fewer of the past "
            f"observations than the model declares with order={declared}; give the settings "
            f"order={declared}."
        )
