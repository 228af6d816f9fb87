"""A model whose answers are known in closed form: a normal mean with known variance."""

from __future__ import annotations

import numpy as np
import pymc as pm

from jana_pymc.simulation import Continuous, GenerativeModel

N_OBS = (5, 15)


def simulator(rng: np.random.Generator, mu: np.ndarray, n_obs: int) -> dict[str, np.ndarray]:
    return {"x": rng.normal(mu, 1.0, np.broadcast_shapes(np.shape(mu), (n_obs,)))}


def normal_prior() -> pm.Model:
    with pm.Model() as prior:
        pm.Normal("mu", 0.0, 2.0)
    return prior


def normal_mean(**options: object) -> GenerativeModel:
    """mu ~ N(0, 2²), x_i ~ N(mu, 1)."""
    return GenerativeModel(
        normal_prior(),
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
