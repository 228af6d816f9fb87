"""A pair without networks: x_t = φ x_{t−1} + ε with φ normal, whose posterior is normal too."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pymc as pm
from scipy import stats

from jana_pymc.simulation import Continuous, DataBatch, DataSchema, PyMCPrior

PRIOR_SD = 0.5


def moments(x: np.ndarray) -> tuple[float, float]:
    """Posterior mean and standard deviation of φ given a sequence; x_1 ~ N(0, 1) tells nothing."""
    precision = PRIOR_SD**-2 + (x[:-1] ** 2).sum()
    return (x[:-1] * x[1:]).sum() / precision, precision**-0.5


def log_predictive(x: np.ndarray, ahead: int = 1) -> float:
    """Exact joint log density of the last observations given those before."""
    total = 0.0
    for t in range(len(x) - ahead, len(x)):
        mean, sd = moments(x[:t])
        total += stats.norm.logpdf(x[t], mean * x[t - 1], np.hypot(1.0, sd * x[t - 1]))
    return total


def sequence(n: int, phi: float, random_seed: int) -> np.ndarray:
    noise = np.random.default_rng(random_seed).standard_normal(n)
    for t in range(1, n):
        noise[t] += phi * noise[t - 1]
    return noise


class ExactLikelihood:
    def check_reachable(self, observed: np.ndarray) -> None:
        pass

    def log_prob(self, observed: np.ndarray, parameters: np.ndarray, conditions: object = None):
        past = np.concatenate([[0.0], observed[:-1, 0]])
        return stats.norm.logpdf(observed[:, 0], parameters * past)

    pointwise = log_prob


class AnyLength:
    """What is asked of a posterior network itself."""

    takes_one_length = False
    bounds = None


@dataclass
class ExactPosterior:
    """Shifted and stretched by some of its standard deviations; counts the calls."""

    network = AnyLength()
    shift: float = 0.0
    stretch: float = 1.0
    lengths: list[int] = field(default_factory=list)

    def sample_unconstrained(self, batch: DataBatch, draws: int, random_seed: object = None):
        n = int(batch.n_obs[0])
        self.lengths.append(n)
        mean, sd = moments(batch.observables[0, :n, 0])
        mean, sd = mean + self.shift * sd, self.stretch * sd
        u = np.random.default_rng(random_seed).normal(mean, sd, (1, draws, 1))
        return u, stats.norm.logpdf(u[..., 0], mean, sd)


@dataclass
class ExactAutoregression:
    """What leave-future-out asks of a `JointApproximator`."""

    posterior: ExactPosterior = field(default_factory=ExactPosterior)
    n_obs: tuple[int, int] = (4, 200)

    reference_distances = None  # nothing tells how far out its data may lie

    def __post_init__(self) -> None:
        with pm.Model() as prior:
            pm.Normal("phi", 0.0, PRIOR_SD)
        self.prior = PyMCPrior(prior)
        self.layout = self.prior.layout
        self.schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=self.n_obs)
        self.posterior.batch = lambda data, **options: self.schema.batch(data, **options)
        self.likelihood = ExactLikelihood()
