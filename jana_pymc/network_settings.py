"""Settings of both networks, and their form as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from jana_pymc.checks import check_kind
from jana_pymc.flows.flow import NOT_FOR, FlowSettings
from jana_pymc.likelihoods import (
    AutoregressiveSettings,
    ConditionalSettings,
    MarkovianSettings,
    SignedCouplingSettings,
    SoftFlowSettings,
    TrajectorySettings,
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
from jana_pymc.posterior import AdjustmentSettings, PosteriorSettings, SummarySettings

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
    `fit` replaces what is left out by what the data imply (`default_settings`).
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
                "data_bounds": False,  # older files have neither
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
        values = {**values, "linear": "reversal"}  # older files had no choice
    ignored = NOT_FOR[values["transform"]]  # older files may have them
    return FlowSettings(**{name: value for name, value in values.items() if name not in ignored})


def _name_of(settings: Any, kinds: Mapping[str, type]) -> str:
    return next(name for name, kind in kinds.items() if isinstance(settings, kind))
