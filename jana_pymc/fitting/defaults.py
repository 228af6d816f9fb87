"""What a user gets who chooses nothing: networks and training by structure and dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from jana_pymc.checks import check_count, check_kind
from jana_pymc.fitting.search import MANY_COMPONENTS
from jana_pymc.flows.flow import FlowSettings
from jana_pymc.likelihoods import (
    AutoregressiveSettings,
    MarkovianSettings,
    TrajectorySettings,
    VectorSettings,
)
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import FlatSummarySettings, SetSummarySettings, TimeSeriesSettings
from jana_pymc.posterior import AdjustmentSettings, PosteriorSettings
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema
from jana_pymc.training import TrainingSettings

SHORT_SEQUENCE = 64
"""Sequences of one length and at most so many numbers are modelled as one vector."""

FEW_PARAMETERS = 5
"""With more parameters than this there is more to overfit: shallow networks, weights that decay.
With fewer, six residual layers follow what they determine far better than two wider ones do."""

FEWEST_PARAMETERS = 3
"""So few are worth networks as deep between the posterior's components: these follow sharp edges of
one parameter that move with another, and see waves of what comes before and rotated components. For
more parameters, ten thousand simulations are too few."""

SMALL_DATA, LARGE_DATA, LONG_ROW = 4, 128, 32
"""In numbers: so few are soon learned; more take the likelihood network long to make, and so do
more in a row, one drawn after the other, as are all but the observations of a set."""

SHRINKAGE = 2.0
"""Ten thousand simulations of a few numbers tell where these lie; of their shape, less."""

FEW_TIMES = 32
"""So many time points are soon gone through one after the other."""

TRIALS = 192
"""Counts up to a largest one, and continuous statistics, may be added up over trials: then this
many binary ones have their moments."""


def default_settings(
    schema: DataSchema,
    n_parameters: int,
    informative: Sequence[int] | None = None,
    draws: Sequence[Sequence[int]] | None = None,
) -> NetworkSettings:
    """Architecture that structure and dimensions of the data imply.

    Exchangeable observations of at most one continuous component, as reaction times and choices,
    without counts and conditions, have `AutoregressiveLikelihood`, whose work is shared among
    observations. Sequences with independent noise (``order=0``) have `TrajectoryLikelihood`, unless
    they have categories or conditions; those of few parameters and time points have laws of motion
    for all times. All others, counts, and short sequences of one length have `VectorLikelihood`;
    long sequences, those of differing length, and those of both discrete and continuous observables
    have `MarkovianLikelihood` with a recurrent memory.

    Parameters
    ----------
    schema : DataSchema
    n_parameters : int
        Size of the unconstrained parameters.
    informative : sequence of int, optional
        Of a vector, the components on which the parameters have an influence; None for all.
    draws : sequence of sequence of int, optional
        These components once more, those of each independent draw of one law together, if that is
        what they are.

    Returns
    -------
    NetworkSettings

    Raises
    ------
    TypeError
        If the schema is something else, or `n_parameters` no integer.
    ValueError
        If there are no parameters.
    """
    check_kind("schema", schema, (DataSchema,))
    check_count("n_parameters", n_parameters)
    kinds = list(schema.components.values())
    n_continuous = sum(isinstance(kind, Continuous) for kind in kinds)
    has_counts = any(isinstance(kind, Count) for kind in kinds)
    few = n_parameters <= FEW_PARAMETERS
    layers = 2 if few else 1
    hidden = (128,) * 6 if few else (128, 128)
    flow = FlowSettings(transform="autoregressive", n_layers=layers, hidden=hidden, residual=few)
    if n_parameters <= FEWEST_PARAMETERS:
        flow = replace(flow, conditioner_hidden=32, conditioner_layers=8, n_bins=16, n_waves=5)
    else:
        flow = replace(flow, linear="reversal")
    # What has no past has its location and scale from one network, and needs little of its own.
    own = 8 if schema.order == 0 else VectorSettings.conditioner_hidden
    adjustment = AdjustmentSettings(n_points=3 if few else 1)
    vector = VectorSettings(hidden=hidden, residual=few, conditioner_hidden=own, order=schema.order)
    wide = (256, 256) if few else (128, 128)
    of_set = SetSummarySettings(n_summaries=16, hidden=wide, means=True)
    if schema.structure == "exchangeable":
        # A regression's observations share nothing that could be computed once for all of them.
        if n_continuous <= 1 and not has_counts and not schema.conditions:
            deep = AutoregressiveSettings(hidden=(64,) * 5, residual=True)
            return NetworkSettings(PosteriorSettings(adjustment=adjustment), deep)
        return NetworkSettings(PosteriorSettings(of_set, flow, adjustment=adjustment), vector)
    if schema.structure == "markovian":
        short = _is_one_vector(schema)
        of_series = FlatSummarySettings() if short else TimeSeriesSettings()
        posterior = PosteriorSettings(of_series, flow, adjustment=adjustment)
        if _follows_a_trajectory(schema):
            if few and 1 < schema.n_obs[1] <= FEW_TIMES:
                motion = TrajectorySettings(
                    hidden=(64, 64), n_states=8, n_members=3, law_hidden=(16, 16)
                )
                return NetworkSettings(posterior, motion)
            return NetworkSettings(posterior, TrajectorySettings(hidden=hidden))
        if short:
            return NetworkSettings(posterior, vector)
        windows = MarkovianSettings()
        if schema.order is not None:
            # Without any past, time alone can tell one observation from the next.
            windows = MarkovianSettings(order=schema.order, memory=0, clock=schema.order == 0)
        return NetworkSettings(posterior, windows)
    if draws is not None:
        return NetworkSettings(
            PosteriorSettings(of_set, flow, draws=draws, adjustment=adjustment),
            replace(vector, draws=draws),
        )
    return NetworkSettings(
        PosteriorSettings(
            FlatSummarySettings(informative=informative), flow, adjustment=adjustment
        ),
        replace(vector, informative=informative),
    )


def _has_points(schema: DataSchema) -> bool:
    """Whether data sets consist of draws with continuous components."""
    has_continuous = any(isinstance(kind, Continuous) for kind in schema.components.values())
    return schema.structure == "exchangeable" and has_continuous


def _may_be_summed(schema: DataSchema) -> bool:
    """Whether a vector has counts up to a largest one, unbounded components, and nothing else."""
    few = len(schema.components) <= MANY_COMPONENTS
    if schema.structure != "vector" or schema.conditions or not few:
        return False
    kinds = list(schema.components.values())
    counts = [kind for kind in kinds if isinstance(kind, Count)]
    others = [kind for kind in kinds if isinstance(kind, Continuous)]
    plain = all(k.upper is not None for k in counts) and all(
        k.lower is k.upper is None for k in others
    )
    both = bool(counts and others) and len(counts) + len(others) == len(kinds)
    return both and plain


def _follows_a_trajectory(schema: DataSchema) -> bool:
    """Whether a sequence is what its parameters determine, with independent noise."""
    has_categories = any(isinstance(kind, Categorical) for kind in schema.components.values())
    return schema.order == 0 and not schema.conditions and not has_categories


def _is_one_vector(schema: DataSchema) -> bool:
    """Whether a sequence can be modelled as one vector in the order of time."""
    kinds = list(schema.components.values())
    of_one_kind = len({isinstance(kind, Continuous) for kind in kinds}) == 1
    length = schema.n_obs[1]
    return of_one_kind and schema.n_obs[0] == length and length * len(kinds) <= SHORT_SEQUENCE


def default_training(
    network: NetworkSettings, n_parameters: int, schema: DataSchema | None = None
) -> TrainingSettings:
    """Training that suits an architecture.

    Parameters
    ----------
    network : NetworkSettings
        Of both networks.
    n_parameters : int
        Size of the unconstrained parameters.
    schema : DataSchema, optional
        Of the data; without it they are taken for large.

    Returns
    -------
    TrainingSettings

    Raises
    ------
    TypeError
        If settings or schema are something else, or `n_parameters` is no integer.
    ValueError
        If settings of a network are left out, or there are no parameters.
    """
    check_kind("network", network, (NetworkSettings,))
    check_count("n_parameters", n_parameters)
    if schema is not None:
        check_kind("schema", schema, (DataSchema,))
    posterior, likelihood = network.both()
    if isinstance(likelihood, MarkovianSettings):
        return TrainingSettings(
            n_steps=5_000,
            batch_size=64,
            likelihood_learning_rate=5e-3,
            likelihood_obs=None,
            weight_average=0.998,
            n_validations=40,
        )
    if not isinstance(likelihood, (VectorSettings, TrajectorySettings)):
        return TrainingSettings()
    few = n_parameters <= FEW_PARAMETERS
    # Shapes shrink in flows alone, which classes and counts do not have.
    plain = (
        isinstance(likelihood, VectorSettings)
        and schema is not None
        and all(isinstance(kind, Continuous) for kind in schema.components.values())
    )
    moves = isinstance(likelihood, TrajectorySettings) and likelihood.n_states > 0
    size = row = math.inf
    if schema is not None:
        size = row = schema.max_size
        if isinstance(likelihood, VectorSettings) and likelihood.informative is not None:
            size = row = len(likelihood.informative)
        elif isinstance(likelihood, VectorSettings) and likelihood.draws is not None:
            row = len(likelihood.draws[0])
            size = row * len(likelihood.draws)
        elif schema.structure == "exchangeable":
            row = len(schema.components)
    small = few and size <= SMALL_DATA
    rehearses = size <= LARGE_DATA and row <= LONG_ROW
    adjusts = rehearses and posterior.adjustment is not None
    rate = 5e-3 if few else 2e-3
    return TrainingSettings(
        # A law of motion hardly overfits, and is slow to learn.
        n_steps=14_000 if moves else 6_000 if small else 8_000 if few else 5_000,
        batch_size=512 if small else 256,
        learning_rate=rate,
        likelihood_learning_rate=rate,
        likelihood_obs=5 if moves else 8,
        optimizer="adamw",
        weight_decay=0.0 if few else 0.3,
        shape_shrinkage=SHRINKAGE if small and plain else 0.0,
        linear_steps=600,
        weight_average=0.999,
        n_validations=40,
        patience=12,
        rehearsal_steps=0 if not rehearses else 10_000 if few else 3_000,
        rehearsal_learning_rate=rate,
        adjustment_steps=0 if not adjusts else 4_000 if few else 2_500,
        adjustment_learning_rate=2e-3 if few else 5e-4,
    )


def candidates(
    network: NetworkSettings, schema: DataSchema, n_parameters: int
) -> tuple[NetworkSettings, ...]:
    """Default networks between which simulations decide (`fitting/selection.py`).

    Parameters
    ----------
    network : NetworkSettings
        Its likelihood is that of `default_settings`.
    schema : DataSchema
    n_parameters : int
        Size of the unconstrained parameters.

    Returns
    -------
    tuple of NetworkSettings
        The given one; where data sets consist of draws of one continuous law, another with less
        freedom of shape; where a vector may be a sum of trials, two more: with laws of any shape,
        and with normal ones.
    """
    _, likelihood = network.both()
    if not isinstance(likelihood, VectorSettings):
        return (network,)
    if likelihood.draws is not None or _has_points(schema):
        plain = replace(likelihood, n_layers=1, conditioner_hidden=16)
        return network, replace(network, likelihood=plain)
    if n_parameters <= FEW_PARAMETERS or not _may_be_summed(schema):
        return (network,)
    summed = replace(likelihood, n_trials=TRIALS, conditioner_hidden=8)
    normal = replace(summed, n_layers=0)
    return network, *(replace(network, likelihood=each) for each in (summed, normal))
