"""From declared data and settings to untrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from jana_pymc.flows.flow import FlowSettings
from jana_pymc.joint import JointNetwork
from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
    AutoregressiveSettings,
    Bound,
    LikelihoodNetwork,
    SignedCouplingLikelihood,
    SignedCouplingSettings,
    Support,
)
from jana_pymc.networks import DeepSetSettings, SetSummarySettings
from jana_pymc.posterior import PosteriorNetwork, PosteriorSettings
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema, ParameterLayout

LikelihoodSettings = AutoregressiveSettings | SignedCouplingSettings

_LIKELIHOODS: dict[str, type[LikelihoodSettings]] = {
    "autoregressive": AutoregressiveSettings,
    "signed_coupling": SignedCouplingSettings,
}


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture of the pair.

    Parameters
    ----------
    posterior : PosteriorSettings
    likelihood : AutoregressiveSettings or SignedCouplingSettings
    """

    posterior: PosteriorSettings = field(default_factory=PosteriorSettings)
    likelihood: LikelihoodSettings = field(default_factory=AutoregressiveSettings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        name = next(n for n, kind in _LIKELIHOODS.items() if isinstance(self.likelihood, kind))
        return {
            "posterior": asdict(self.posterior),
            "likelihood": {"kind": name, **asdict(self.likelihood)},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """Inverse of `to_dict`."""
        summary = dict(values["posterior"]["summary"])
        summary["deep_set"] = DeepSetSettings(**summary["deep_set"])
        posterior = PosteriorSettings(
            summary=SetSummarySettings(**summary),
            flow=FlowSettings(**values["posterior"]["flow"]),
        )
        likelihood = dict(values["likelihood"])
        kind = _LIKELIHOODS[likelihood.pop("kind")]
        if "flow" in likelihood:
            likelihood["flow"] = FlowSettings(**likelihood["flow"])
        return cls(posterior, kind(**likelihood))


def check_supported(schema: DataSchema) -> None:
    """Refuse declarations that no network here can learn, before anything is simulated.

    Raises
    ------
    ValueError
        If the data are not exchangeable, or have shapes or counts.
    """
    if schema.structure != "exchangeable":
        raise ValueError(
            f"structure={schema.structure!r} can be simulated, but there is no network for it yet; "
            "networks are there for 'exchangeable'."
        )
    for name, kind in {**schema.observables, **schema.conditions}.items():
        if kind.shape:
            raise ValueError(
                f"{name!r} has shape {kind.shape}, which can be simulated, but there is no network "
                "for it yet; declare its components as variables of their own."
            )
        if isinstance(kind, Count):
            raise ValueError(
                f"{name!r} is a Count, which can be simulated, but there is no network for it yet; "
                "declare it Categorical if it has few values."
            )


def build_network(
    schema: DataSchema,
    layout: ParameterLayout,
    n_unconstrained: int,
    positive: Sequence[bool],
    settings: NetworkSettings,
    random_seed: int = 0,
) -> JointNetwork:
    """Build the untrained pair.

    Parameters
    ----------
    schema : DataSchema
        Observables and conditions.
    layout : ParameterLayout
        Constrained parameters.
    n_unconstrained : int
        Size of the prior's unconstrained space.
    positive : sequence of bool
        For each observable, whether it is positive in all simulations.
    settings : NetworkSettings
    random_seed : int
        Initial weights, rotations and permutations; torch's global state is left as it was.
    """
    check_supported(schema)
    n_conditions = len(schema.conditions)
    categories = [
        o.n_categories if isinstance(o, Categorical) else None for o in schema.observables.values()
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_seed)
        posterior = PosteriorNetwork(
            categories, positive, n_unconstrained, n_conditions, settings.posterior
        )
        likelihood = _build_likelihood(schema, layout, settings.likelihood)
    return JointNetwork(posterior, likelihood)


def _build_likelihood(
    schema: DataSchema, layout: ParameterLayout, settings: LikelihoodSettings
) -> LikelihoodNetwork:
    components: list[int | Support] = []
    for kind in schema.observables.values():
        if isinstance(kind, Categorical):
            components.append(kind.n_categories)
        elif isinstance(kind, Continuous):
            components.append(Support(_bound(kind.lower, layout), _bound(kind.upper, layout)))
    n_conditions = len(schema.conditions)
    if isinstance(settings, SignedCouplingSettings):
        return SignedCouplingLikelihood(components, layout.size, n_conditions, settings)
    return AutoregressiveLikelihood(components, layout.size, n_conditions, settings)


def _bound(bound: float | str | None, layout: ParameterLayout) -> Bound | None:
    if bound is None:
        return None
    if isinstance(bound, str):
        return Bound(column=layout.component_names.index(bound))
    return Bound(value=float(bound))
