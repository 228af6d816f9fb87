"""A pair that is right, and ways to damage it: three normal means with unit noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from jana_pymc.simulation import Continuous, DataBatch, DataSchema, ParameterLayout

LAYOUT = ParameterLayout(
    names=("mu", "beta"),
    shapes={"mu": (), "beta": (2,)},
    dims={"mu": (), "beta": ("group",)},
    coords={"group": ("left", "right")},
)
SCHEMA = DataSchema({name: Continuous() for name in "xyz"}, n_obs=(8, 24))


@dataclass
class ExactSimulations:
    parameters: np.ndarray
    data: DataBatch

    def batch(self, pad: bool = False) -> DataBatch:
        return self.data

    def __len__(self) -> int:
        return len(self.parameters)


class ExactModel:
    def simulate(self, n_simulations, *, parameters=None, random_seed=None, progressbar=True):
        rng = np.random.default_rng(random_seed)
        if parameters is None:
            parameters = rng.standard_normal((n_simulations, 3))
        n_obs = rng.integers(SCHEMA.n_obs[0], SCHEMA.n_obs[1] + 1, n_simulations)
        noise = rng.standard_normal((n_simulations, SCHEMA.n_obs[1], 3))
        data = DataBatch(parameters[:, None] + noise, np.empty((*noise.shape[:2], 0)), n_obs)
        return ExactSimulations(parameters, data)


@dataclass
class ExactPosterior:
    """Right, unless shifted or scaled, in posterior standard deviations; or it is the prior."""

    shift: float = 0.0
    scale: float = 1.0
    blind: bool = False

    batch = SCHEMA.batch

    def sample(self, batch, draws, random_seed=None):
        noise = np.random.default_rng(random_seed).standard_normal((len(batch.n_obs), draws, 3))
        if self.blind:
            return noise
        present = np.arange(batch.observables.shape[1]) < batch.n_obs[:, None]
        sd = (1 + batch.n_obs[:, None, None]) ** -0.5
        total = np.where(present[..., None], batch.observables, 0.0).sum(axis=1)
        return total[:, None] * sd**2 + sd * (self.shift + self.scale * noise)

    def summarize(self, batch):
        return np.nanmean(batch.observables, axis=1)


@dataclass
class ExactLikelihood:
    """Right, unless shifted, or with another spread."""

    shift: float = 0.0
    scale: float = 1.0

    def simulate(self, parameters, n_obs, *, conditions=None, random_seed=None):
        rng = np.random.default_rng(random_seed)
        noise = rng.standard_normal((len(parameters), n_obs, 3))
        return parameters[:, None] + self.shift + self.scale * noise

    def pointwise(self, observed, parameters, conditions=None):
        location = parameters[:, None] + self.shift
        return stats.norm.logpdf(observed, location, self.scale).sum(axis=-1)


@dataclass
class ExactPair:
    posterior: ExactPosterior = field(default_factory=ExactPosterior)
    likelihood: ExactLikelihood = field(default_factory=ExactLikelihood)
    model: ExactModel | None = field(default_factory=ExactModel)
    layout: ParameterLayout = LAYOUT
    schema: DataSchema = SCHEMA
    positive: tuple[bool, ...] = (False, False, False)
