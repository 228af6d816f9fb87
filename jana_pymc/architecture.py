"""From declared data and settings to untrained networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from jana_pymc.joint_network import JointNetwork
from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
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
from jana_pymc.network_settings import LikelihoodSettings, NetworkSettings
from jana_pymc.networks import FlatSummarySettings
from jana_pymc.posterior import PosteriorNetwork, SummarySettings
from jana_pymc.posterior.data_bounds import DataBound
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataSchema,
    ParameterLayout,
    PyMCPrior,
)


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
        Architecture of both networks, neither of which may be left out.
    random_seed : int
        Determines initial weights, rotations and permutations; torch's global state stays.

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
    """Refuse flat summaries of data sets of differing sizes."""
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
    """Refuse networks that see less far back than declared, or a past where there is none."""
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
