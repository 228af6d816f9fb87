"""A pair without networks: the conjugate normal model, its posterior exact or wrong on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pymc as pm
from conjugate import N_OBS, compiled_prior, normal_mean
from scipy import stats

from jana_pymc.inference_data import parameter_dataset, to_inference_data
from jana_pymc.simulation import Continuous, DataBatch, DataSchema

SCHEMA = DataSchema({"x": Continuous()}, n_obs=N_OBS)


class NormalLikelihood:
    """x_i ~ N(mu, 1), with what the workflow asks of a `LikelihoodApproximator`.

    Of data that reach as far down as `lowest` it says that no trained parameter explains them.
    """

    region = np.array([[-np.inf], [np.inf]])

    def __init__(self, lowest: float = -np.inf):
        self.lowest = lowest

    def __call__(self, name: str, *, mu: object, observed: object, conditions: object = None):
        return pm.Normal(name, mu, 1.0, observed=observed[:, 0])

    def reachable(self, observables: np.ndarray) -> np.ndarray:
        return np.nanmin(observables, axis=(1, 2)) > self.lowest

    def check_reachable(self, observed: np.ndarray) -> None:
        if np.nanmin(observed) <= self.lowest:
            raise ValueError("beyond every bound")

    def log_prob(self, observed: object, parameters: np.ndarray, conditions: object = None):
        x = observed["x"] if isinstance(observed, dict) else observed[..., 0]
        return stats.norm.logpdf(x, parameters, 1.0)

    pointwise = log_prob

    def simulate(self, parameters, n_obs, *, conditions=None, random_seed=None):
        noise = np.random.default_rng(random_seed).normal(size=(len(parameters), n_obs, 1))
        return parameters[:, None] + noise


@dataclass
class NormalPosterior:
    """Exact posterior of mu, shifted and stretched by some of its standard deviations."""

    prior_sd: float = 2.0
    shift: float = 0.0
    stretch: float = 1.0

    network = SimpleNamespace(bounds=None)

    @staticmethod
    def batch(data: object, *, check_n_obs: bool = True, schema: DataSchema = SCHEMA) -> DataBatch:
        batch = schema.batch(data, check_n_obs=check_n_obs)
        return batch.resized(batch.n_obs)

    def moments(self, batch: DataBatch) -> tuple[np.ndarray, np.ndarray]:
        precision = self.prior_sd**-2 + batch.n_obs
        present = np.arange(batch.observables.shape[1]) < batch.n_obs[:, None]
        mean = np.where(present, batch.observables[..., 0], 0.0).sum(1) / precision
        sd = precision**-0.5
        return mean + self.shift * sd, self.stretch * sd

    def sample_unconstrained(self, batch: DataBatch, draws: int, random_seed: object = None):
        mean, sd = self.moments(batch)
        rng = np.random.default_rng(random_seed)
        u = rng.normal(mean[:, None], sd[:, None], (len(batch), draws))[..., None]
        return u, self.log_prob_unconstrained(u, batch)

    def log_prob_unconstrained(self, u: np.ndarray, batch: DataBatch) -> np.ndarray:
        mean, sd = self.moments(batch)
        return stats.norm.logpdf(u[..., 0], mean[:, None], sd[:, None])

    def summarize(self, batch: DataBatch) -> np.ndarray:
        return np.stack(self.moments(batch), axis=-1)


@dataclass
class ExactPair:
    """What the workflow asks of a `JointApproximator`."""

    posterior: NormalPosterior = field(default_factory=NormalPosterior)

    reference_distances = None  # nothing tells how far out its data may lie
    positive = (False,)

    def __post_init__(self) -> None:
        self.prior = compiled_prior(self.posterior.prior_sd)
        self.layout = self.prior.layout
        self.schema = SCHEMA
        self.likelihood = NormalLikelihood()
        self.model = normal_mean(self.prior)

    def sample(self, data: object, *, draws: int, chains: int, random_seed: object, **_: object):
        batch = self.schema.batch(data)
        mu = self.posterior.sample_unconstrained(batch, draws * chains, random_seed)[0]
        values = mu[0].reshape(chains, draws, 1)
        return to_inference_data({"posterior": parameter_dataset(values, self.layout)})


def log_evidence(x: np.ndarray, prior_sd: float = 2.0) -> float:
    """Exact log marginal likelihood."""
    covariance = np.eye(len(x)) + prior_sd**2
    return stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(x)


def log_predictive(held_out: np.ndarray, rest: np.ndarray) -> float:
    """Exact joint log density of some observations given others."""
    return log_evidence(np.concatenate([held_out, rest])) - log_evidence(rest)


def data_sets(*sizes: int, random_seed: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(random_seed)
    return [{"x": rng.normal(rng.normal(0, 2), 1.0, n)} for n in sizes]
