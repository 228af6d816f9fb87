"""Likelihoods of sequences with random weights, one of each kind, for tests without training."""

from __future__ import annotations

import numpy as np
import torch

from jana_pymc import LikelihoodApproximator
from jana_pymc.likelihoods import (
    Bound,
    ConditionalSettings,
    CountRange,
    MarkovianLikelihood,
    MarkovianSettings,
    Support,
)
from jana_pymc.simulation import Continuous, DataSchema, ParameterLayout

SMALL = ConditionalSettings(hidden=(8,), coefficient_hidden=(6,), n_bins=4)
N_PARAMETERS, N_CONDITIONS = 2, 1

COMPONENTS = {
    "real": (Support(),),
    "bounded by a parameter": (Support(lower=Bound(column=0)), Support(Bound(-9.0), Bound(9.0))),
    "finite": (2, CountRange(upper=5), 3),
    "counts": (CountRange(), CountRange(upper=5)),
    "mixed": (Support(), 2, CountRange(), Support(lower=Bound(value=-3.0))),
}
SETTINGS = {
    "order 1": MarkovianSettings(order=1, memory=0, conditional=SMALL),
    "order 3 and clock": MarkovianSettings(order=3, memory=0, clock=True, conditional=SMALL),
    "memory": MarkovianSettings(order=1, memory=5, conditional=SMALL),
    "independent": MarkovianSettings(order=0, memory=0, conditional=SMALL),
    "memory alone": MarkovianSettings(order=0, memory=5, conditional=SMALL),
}


def random_likelihood(
    components: str, settings: str, *, n_conditions: int = 0, seed: int = 0, spread: float = 0.1
) -> MarkovianLikelihood:
    """Double precision, standardised by its own simulations, weights drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MarkovianLikelihood(
            COMPONENTS[components], N_PARAMETERS, n_conditions, SETTINGS[settings]
        ).double()
        theta = draw_parameters(200, seed)
        known = draw_conditions(200, 6, n_conditions, seed)
        network.standardize(network.sample(theta, 6, known, generator(seed)), theta, known)
        randomize(network, spread)
    return network.eval().requires_grad_(False)


def recurrent_likelihood() -> LikelihoodApproximator:
    """Of up to nine real observations with a memory, and parameters a and b from 0 to 1."""
    layout = ParameterLayout(("a", "b"), {"a": (), "b": ()})
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(2, 9))
    region = np.array([[0.0, 0.0], [1.0, 1.0]])
    return LikelihoodApproximator(random_likelihood("real", "memory"), layout, schema, region)


def randomize(network: torch.nn.Module, spread: float) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(spread * torch.randn_like(weight))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_parameters(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, N_PARAMETERS, generator=generator(seed + 1), dtype=torch.float64)


def draw_conditions(n: int, n_obs: int, size: int, seed: int = 0) -> torch.Tensor | None:
    shape = (n, n_obs, size)
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64) if size else None
