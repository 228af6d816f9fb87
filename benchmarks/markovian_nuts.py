"""NUTS on neural likelihoods of sequences against exact posteriors, and what a gradient costs.

An AR(1) process by Markov windows, lowered to PyTensor, and a hidden level by a recurrent memory,
through the Op. Exact posteriors come from a fine grid over the two parameters.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import torch
from markovian_accuracy import N_OBS, PROCESSES, judge, train
from scipy import stats

from jana_pymc import LikelihoodApproximator
from jana_pymc.inference_data import posterior_of
from jana_pymc.likelihoods import MarkovianLikelihood, MarkovianSettings, Support
from jana_pymc.pytensor import LogDensity, lower
from jana_pymc.simulation import Continuous, DataSchema, ParameterLayout

GRID = 120


@dataclass(frozen=True)
class Case:
    """A process, its parameters, their prior in PyMC and on a grid, and the network for it."""

    process: str
    names: tuple[str, str]
    settings: MarkovianSettings
    prior: Callable[[], list[Any]]
    log_prior: Callable[[np.ndarray], np.ndarray]
    ends: np.ndarray


def autoregression_prior() -> list[Any]:
    return [pm.Uniform("phi", -0.95, 0.95), pm.LogNormal("sigma", 0.0, 0.5)]


def local_level_prior() -> list[Any]:
    return [pm.LogNormal("walk", -0.7, 0.5), pm.LogNormal("noise", -0.7, 0.5)]


CASES = {
    "AR(1), lowering": Case(
        "AR(1)",
        ("phi", "sigma"),
        MarkovianSettings(order=1, memory=0),
        autoregression_prior,
        lambda theta: stats.lognorm.logpdf(theta[:, 1], 0.5),
        np.array([[-0.95, 0.1], [0.95, 6.0]]),
    ),
    "local level, Op": Case(
        "local level",
        ("walk", "noise"),
        MarkovianSettings(order=1, memory=64),
        local_level_prior,
        lambda theta: stats.lognorm.logpdf(theta, 0.5, scale=np.exp(-0.7)).sum(1),
        np.array([[0.03, 0.03], [3.0, 3.0]]),
    ),
}


def exact_moments(case: Case, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and sd, on a grid that is refined around the posterior once."""
    low, high = case.ends
    for _ in range(2):
        axes = [np.linspace(a, b, GRID + 2)[1:-1] for a, b in zip(low, high, strict=True)]
        theta = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], -1)
        density = PROCESSES[case.process].log_density(theta, np.repeat(x[None], len(theta), 0))
        log_p = density.sum(1) + case.log_prior(theta)
        weights = np.exp(log_p - log_p.max())
        weights /= weights.sum()
        mean = weights @ theta
        sd = np.sqrt(weights @ (theta - mean) ** 2)
        low, high = np.maximum(mean - 6 * sd, case.ends[0]), np.minimum(mean + 6 * sd, case.ends[1])
    return mean, sd


def likelihood_of(case: Case, network: MarkovianLikelihood) -> LikelihoodApproximator:
    """The network as PyTensor takes it, with a density for all parameters."""
    layout = ParameterLayout(case.names, dict.fromkeys(case.names, ()))
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=N_OBS)
    everywhere = np.array([[-np.inf] * 2, [np.inf] * 2])
    return LikelihoodApproximator(network, layout, schema, everywhere)


def log_density(case: Case, likelihood: LikelihoodApproximator, x: np.ndarray, theta: Any) -> Any:
    rows = pt.constant(x[:, None])
    if case.settings.memory == 0:
        return lower(likelihood.network, rows, theta, None, None)
    return LogDensity(likelihood)(rows[None], np.zeros((1, len(x), 0)), None, theta)


def milliseconds(case: Case, likelihood: LikelihoodApproximator, x: np.ndarray) -> float:
    """Of value and gradient, best of several rounds."""
    theta = pt.dmatrix("theta")
    value = log_density(case, likelihood, x, pt.specify_shape(theta, (1, 2))).sum()
    run = pytensor.function([theta], [value, pytensor.grad(value, theta)], trust_input=True)
    point = case.ends.mean(0, keepdims=True) * 0.5
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(20):
            run(point)
        rounds.append((time.perf_counter() - start) / 20)
    return 1e3 * min(rounds)


def sample(
    case: Case, likelihood: LikelihoodApproximator, x: np.ndarray, draws: int, seed: int
) -> Any:
    with pm.Model():
        parameters = case.prior()
        theta = pt.stack(parameters)[None]
        pm.Potential("x", log_density(case, likelihood, x, theta).sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pm.sample(
                draws, tune=500, chains=2, cores=1, random_seed=seed, progressbar=False, quiet=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.json:  # a folder that cannot be made is found out before the training
        options.json.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name in options.only:
        case = CASES[name]
        process = PROCESSES[case.process]
        torch.manual_seed(1)
        network = MarkovianLikelihood((Support(),), 2, 0, case.settings)
        network = train(
            network,
            process.draw,
            n_simulations=options.simulations,
            n_steps=options.steps,
            seed=1,
        )
        likelihood = likelihood_of(case, network)
        accuracy = judge(network, process, 2000, 1001)
        print(name, accuracy, flush=True)
        _, sequences = process.draw(np.random.default_rng(7), options.sets)
        rows = []
        for i, x in enumerate(sequences):
            start = time.perf_counter()
            idata = sample(case, likelihood, x, options.draws, i)
            seconds = time.perf_counter() - start
            posterior = posterior_of(idata)
            ess = az.ess(posterior)
            mean, sd = exact_moments(case, x)
            drawn = np.stack([posterior[v].to_numpy().ravel() for v in case.names], -1)
            rows.append(
                {
                    "error_in_sd": ((drawn.mean(0) - mean) / sd).round(4).tolist(),
                    "sd_ratio": (drawn.std(0) / sd).round(4).tolist(),
                    "monte_carlo_error_in_sd": (
                        drawn.std(0) / np.sqrt([float(ess[v]) for v in case.names]) / sd
                    )
                    .round(4)
                    .tolist(),
                    "divergences": int(idata["sample_stats"]["diverging"].sum()),
                    "seconds": round(seconds, 1),
                }
            )
            print(name, rows[-1], flush=True)
        results[name] = {
            "accuracy": accuracy,
            "milliseconds": milliseconds(case, likelihood, sequences[0]),
            "sets": rows,
        }
        print(name, f"value and gradient {results[name]['milliseconds']:.3f} ms", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
