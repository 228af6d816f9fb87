"""Likelihood networks in closed form, one for each structure of data."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from jana_pymc import LikelihoodApproximator
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.simulation import Continuous, Count, DataSchema, ParameterLayout

LAYOUT = ParameterLayout(("mu", "b"), {"mu": (), "b": (2,)})
REGION = np.array([[-3.0] * 3, [3.0] * 3])


def _normal(x: Tensor, mean: Tensor, sd: float = 1.0) -> Tensor:
    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2.0 * math.pi)


class VectorNetwork(LikelihoodNetwork):
    """A count n ~ Poisson(e^mu) and a matrix x (2, 2) with rows ~ N(b, 1), n and x apart.

    With a condition, it is added to all of x.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def log_prob_rows(self, observables, parameters, group, conditions=None):
        mu, mean = parameters[group, 0], parameters[group, 1:].repeat(1, 2)
        if conditions is not None:
            mean = mean + conditions
        n = observables[:, 0]
        count = n * mu - mu.exp() - torch.lgamma(n + 1.0)
        return count + _normal(observables[:, 1:], mean).sum(-1)

    def log_prob(self, observables, parameters, conditions=None):
        assert observables.shape[1] == 1 and len(observables) == len(parameters)
        known = None if conditions is None else conditions[:, 0]
        group = torch.arange(len(parameters))
        return self.log_prob_rows(observables[:, 0], parameters, group, known)[:, None]

    def sample(self, parameters, n_obs, conditions=None, generator=None):
        assert n_obs == 1
        count = torch.poisson(parameters[:, :1].exp(), generator=generator)
        noise = torch.randn((len(parameters), 4), generator=generator, dtype=parameters.dtype)
        x = parameters[:, 1:].repeat(1, 2) + noise
        x = x if conditions is None else x + conditions[:, 0]
        return torch.cat([count, x], -1)[:, None]


class WalkNetwork(LikelihoodNetwork):
    """A random walk in two dimensions: x_t ~ N(x_{t-1} + b + mu, 1), from the origin."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def log_prob(self, observables, parameters, conditions=None):
        step = (parameters[:, :1] + parameters[:, 1:])[:, None]
        step = step if conditions is None else step + conditions
        before = torch.cat([torch.zeros_like(observables[:, :1]), observables[:, :-1]], 1)
        return _normal(observables, before + step).sum(-1)

    def sample(self, parameters, n_obs, conditions=None, generator=None, *, past=None):
        step = (parameters[:, :1] + parameters[:, 1:])[:, None]
        step = step if conditions is None else step + conditions[:, -n_obs:]
        shape = (len(parameters), n_obs, 2)
        noise = torch.randn(shape, generator=generator, dtype=parameters.dtype)
        return (step + noise).cumsum(1) + (0.0 if past is None else past[:, -1:])


class PoissonNetwork(LikelihoodNetwork):
    """Counts that are independent Poisson(e^mu)."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.ones(n_components))

    def log_prob_rows(self, observables, parameters, group, conditions=None):
        mu = parameters[group, :1]
        return (observables * mu - mu.exp() - torch.lgamma(observables + 1.0)).sum(-1)

    def sample(self, parameters, n_obs, conditions=None, generator=None):
        rates = parameters[:, None, :1].exp() * self.sizes
        return torch.poisson(rates.repeat(1, n_obs, 1), generator=generator)


def poisson(shape: int | tuple[()] = ()) -> LikelihoodApproximator:
    kind = Count(shape=shape)
    layout = ParameterLayout(("mu",), {"mu": ()})
    schema = DataSchema({"y": kind}, n_obs=(1, 1000))
    return LikelihoodApproximator(
        PoissonNetwork(math.prod(kind.shape)), layout, schema, REGION[:, :1]
    )


def vector(conditions: bool = False) -> LikelihoodApproximator:
    known = {"dose": Continuous()} if conditions else {}
    observables = {"n": Count(), "x": Continuous(shape=(2, 2))}
    schema = DataSchema(observables, known, structure="vector")
    return LikelihoodApproximator(VectorNetwork(), LAYOUT, schema, REGION)


def walk(conditions: bool = False) -> LikelihoodApproximator:
    known = {"drift": Continuous()} if conditions else {}
    schema = DataSchema({"x": Continuous(shape=2)}, known, structure="markovian", n_obs=(2, 20))
    return LikelihoodApproximator(WalkNetwork(), LAYOUT, schema, REGION)
