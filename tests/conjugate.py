"""A model whose answers are known in closed form: a normal mean with known variance."""

from __future__ import annotations

from functools import cache

import numpy as np
import pymc as pm

import jana_pymc as jana
from jana_pymc.simulation import Continuous, GenerativeModel, PyMCPrior

N_OBS = (5, 15)

SMALL = jana.NetworkSettings(
    jana.PosteriorSettings(
        jana.SetSummarySettings(
            n_summaries=4,
            n_quantiles=4,
            hidden=(32,),
            deep_set=jana.DeepSetSettings(hidden=(8,), n_extremes=2),
        ),
        jana.FlowSettings(n_layers=2, hidden=(32,), n_bins=4),
    ),
    jana.AutoregressiveSettings(hidden=(16,), n_bins=6),
)
"""Networks that learn it within seconds."""


def simulator(rng: np.random.Generator, mu: np.ndarray, n_obs: int) -> dict[str, np.ndarray]:
    return {"x": rng.normal(mu, 1.0, np.broadcast_shapes(np.shape(mu), (n_obs,)))}


def normal_prior(sd: float = 2.0) -> pm.Model:
    with pm.Model() as prior:
        pm.Normal("mu", 0.0, sd)
    return prior


@cache
def compiled_prior(sd: float = 2.0) -> PyMCPrior:
    """One for all models of a process, which compile it once; nothing may be added to its model."""
    return PyMCPrior(normal_prior(sd))


def normal_mean(prior: PyMCPrior | None = None, **options: object) -> GenerativeModel:
    """mu ~ N(0, 2²), x_i ~ N(mu, 1)."""
    return GenerativeModel(
        compiled_prior() if prior is None else prior,
        simulator,
        observables={"x": Continuous()},
        n_obs=N_OBS,
        vectorized=True,
        **options,
    )


def exact_posterior(x: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of mu given x."""
    precision = 1 / 4 + len(x)
    return x.sum() / precision, precision**-0.5
