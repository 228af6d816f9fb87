"""Likelihood approximators with random weights: for tests of what does not depend on training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from jana_pymc import AutoregressiveSettings, LikelihoodApproximator
from jana_pymc.likelihoods import AutoregressiveLikelihood, Bound, Support
from jana_pymc.simulation import Categorical, Continuous, DataSchema, ParameterLayout

LOW, HIGH = 0.1, 0.9
"""Every parameter is trained on this interval."""


def untrained(
    observables: Mapping[str, Continuous | Categorical],
    parameters: Mapping[str, tuple[int, ...]],
    conditions: Mapping[str, Continuous | Categorical] | None = None,
    random_seed: int = 3,
) -> LikelihoodApproximator:
    layout = ParameterLayout(tuple(parameters), parameters)
    conditions = conditions or {}
    schema = DataSchema(observables, conditions=conditions, n_obs=(1, 1000))
    components = [
        kind.n_categories
        if isinstance(kind, Categorical)
        else Support(_bound(kind.lower, layout), _bound(kind.upper, layout))
        for kind in schema.components.values()
    ]
    settings = AutoregressiveSettings(hidden=(16,), n_bins=6)
    n_conditions = len(schema.condition_components)
    network = AutoregressiveLikelihood(components, layout.size, n_conditions, settings).double()
    generator = torch.Generator().manual_seed(random_seed)
    for values in network.parameters():
        values.data = 0.3 * torch.randn(values.shape, generator=generator, dtype=values.dtype)
    network.parameter_mean += 0.4
    network.parameter_sd *= 0.3
    network.real_mean += 0.2
    network.real_sd *= 1.5
    region = np.repeat([[LOW], [HIGH]], layout.size, axis=1)
    return LikelihoodApproximator(network, layout, schema, region)


def reaction_times(random_seed: int = 3) -> LikelihoodApproximator:
    """Times above t0 and a response, as in the diffusion model."""
    return untrained(
        {"rt": Continuous(lower="t0"), "response": Categorical(2)},
        {"v": (), "t0": ()},
        random_seed=random_seed,
    )


def _bound(bound: float | str | None, layout: ParameterLayout) -> Bound | None:
    if isinstance(bound, str):
        return Bound(column=layout.component_names.index(bound))
    return None if bound is None else Bound(bound)
