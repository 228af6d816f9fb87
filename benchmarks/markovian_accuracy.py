"""Likelihoods of sequences against closed forms: AR(1), Ornstein-Uhlenbeck, Kalman filter, counts.

Each network learns from simulations of its process and is judged on fresh ones: mean difference of
the log density of a time point, exact less neural, which is the Kullback-Leibler divergence a step;
mean absolute difference of a time point; and that of a whole sequence, divided by its length.
Posteriors under exact and neural likelihood are compared by weighting the same prior draws.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.special import gammaln, softmax
from torch import Tensor

from jana_pymc.likelihoods import CountRange, MarkovianLikelihood, MarkovianSettings, Support

TARGET = 0.005
N_OBS = 50


@dataclass(frozen=True)
class Process:
    """A model of sequences with known density.

    Attributes
    ----------
    draw : callable
        ``draw(rng, n)``: parameters (n, p) from the prior and sequences (n, obs).
    log_density : callable
        ``log_density(parameters, sequences)``: of each time point given its past, (n, obs).
    """

    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
    log_density: Callable[[np.ndarray, np.ndarray], np.ndarray]
    component: Support | CountRange = field(default_factory=Support)


def log_normal(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return -0.5 * ((x - mean) / sd) ** 2 - np.log(sd) - 0.5 * math.log(2 * math.pi)


def draw_autoregression(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x_t = φ x_{t−1} + σ ε, stationary from the start; φ ~ U(−.95, .95), log σ ~ N(0, .5²)."""
    phi, sigma = rng.uniform(-0.95, 0.95, n), np.exp(rng.normal(0.0, 0.5, n))
    x = np.empty((n, N_OBS))
    x[:, 0] = rng.normal(0.0, sigma / np.sqrt(1 - phi**2))
    for t in range(1, N_OBS):
        x[:, t] = phi * x[:, t - 1] + sigma * rng.standard_normal(n)
    return np.stack([phi, sigma], -1), x


def log_density_autoregression(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    phi, sigma = theta.T[..., None]
    first = log_normal(x[:, :1], np.zeros_like(phi), sigma / np.sqrt(1 - phi**2))
    return np.concatenate([first, log_normal(x[:, 1:], phi * x[:, :-1], sigma)], 1)


def ornstein_uhlenbeck(theta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, decay over a step of ½, its noise and the stationary standard deviation."""
    kappa, mu, sigma = theta.T[..., None]
    decay, stationary = np.exp(-0.5 * kappa), sigma / np.sqrt(2 * kappa)
    return mu, decay, stationary * np.sqrt(1 - decay**2), stationary


def draw_ornstein_uhlenbeck(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """dx = κ (μ − x) dt + σ dW, stationary from the start; log κ, μ and log σ normal."""
    theta = np.stack(
        [
            np.exp(rng.normal(0.0, 0.5, n)),
            rng.normal(0.0, 1.0, n),
            np.exp(rng.normal(0.0, 0.5, n)),
        ],
        -1,
    )
    mu, decay, sd, stationary = (v[:, 0] for v in ornstein_uhlenbeck(theta))
    x = np.empty((n, N_OBS))
    x[:, 0] = rng.normal(mu, stationary)
    for t in range(1, N_OBS):
        x[:, t] = rng.normal(mu + decay * (x[:, t - 1] - mu), sd)
    return theta, x


def log_density_ornstein_uhlenbeck(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    mu, decay, sd, stationary = ornstein_uhlenbeck(theta)
    later = log_normal(x[:, 1:], mu + decay * (x[:, :-1] - mu), sd)
    return np.concatenate([log_normal(x[:, :1], mu, stationary), later], 1)


def draw_local_level(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Random walk with noise σ_η from N(0, 1), seen through noise σ_ε; both log-normal(−.7, .5)."""
    theta = np.exp(rng.normal(-0.7, 0.5, (n, 2)))
    steps = theta[:, :1] * rng.standard_normal((n, N_OBS))
    steps[:, 0] = rng.standard_normal(n)
    return theta, steps.cumsum(1) + theta[:, 1:] * rng.standard_normal((n, N_OBS))


def log_density_local_level(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Prediction errors of the Kalman filter."""
    walk, noise = theta.T**2
    mean, variance = np.zeros(len(x)), np.ones(len(x))
    terms = np.empty(x.shape)
    for t in range(x.shape[1]):
        total = variance + noise
        terms[:, t] = log_normal(x[:, t], mean, np.sqrt(total))
        gain = variance / total
        mean = mean + gain * (x[:, t] - mean)
        variance = variance * (1 - gain) + walk
    return terms


def draw_counts(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x_t ~ Poisson(a + b x_{t−1}) from x_1 ~ Poisson(a); log a ~ N(1, 1), b ~ U(0, .95)."""
    theta = np.stack([np.exp(rng.normal(1.0, 1.0, n)), rng.uniform(0.0, 0.95, n)], -1)
    x = np.zeros((n, N_OBS))
    x[:, 0] = rng.poisson(theta[:, 0])
    for t in range(1, N_OBS):
        x[:, t] = rng.poisson(theta[:, 0] + theta[:, 1] * x[:, t - 1])
    return theta, x


def log_density_counts(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    past = np.concatenate([np.zeros((len(x), 1)), x[:, :-1]], 1)
    rate = theta[:, :1] + theta[:, 1:] * past
    return x * np.log(rate) - rate - gammaln(x + 1)


PROCESSES = {
    "AR(1)": Process(draw_autoregression, log_density_autoregression),
    "Ornstein-Uhlenbeck": Process(draw_ornstein_uhlenbeck, log_density_ornstein_uhlenbeck),
    "local level": Process(draw_local_level, log_density_local_level),
    "Poisson counts": Process(draw_counts, log_density_counts, CountRange()),
}

RUNS = {
    "AR(1), order 1": ("AR(1)", MarkovianSettings(order=1, memory=0)),
    "Ornstein-Uhlenbeck, order 1": ("Ornstein-Uhlenbeck", MarkovianSettings(order=1, memory=0)),
    "local level, order 10": ("local level", MarkovianSettings(order=10, memory=0)),
    "AR(1), memory 32": ("AR(1)", MarkovianSettings(order=1, memory=32)),
    "Poisson counts, order 1": ("Poisson counts", MarkovianSettings(order=1, memory=0)),
    "local level, memory 64": ("local level", MarkovianSettings(order=1, memory=64)),
}


def train(
    network: MarkovianLikelihood,
    draw: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]],
    *,
    n_simulations: int,
    n_steps: int,
    batch_size: int = 128,
    learning_rate: float = 5e-3,
    decay: float = 0.998,
    seed: int = 0,
) -> MarkovianLikelihood:
    """Adam with a cosine decay over a fixed set of simulations; returns averaged weights."""
    rng = np.random.default_rng(seed)
    theta, x = (torch.tensor(a, dtype=torch.float32) for a in draw(rng, n_simulations))
    x = x[..., None]
    network.standardize(x, theta)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    for step in range(n_steps):
        warm = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / n_steps))
        rows = torch.from_numpy(rng.integers(0, n_simulations, batch_size))
        loss = -network.training_log_prob(x[rows], theta[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        share = max(1 - decay, 1 / (step + 1))
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, share)
    return averaged.double().eval()


@torch.no_grad()
def judge(network: MarkovianLikelihood, process: Process, n: int, seed: int) -> dict[str, float]:
    """Errors on fresh simulations, in nats a time point."""
    theta, x = process.draw(np.random.default_rng(seed), n)
    inputs: tuple[Tensor, Tensor] = (torch.tensor(x)[..., None], torch.tensor(theta))
    excess = process.log_density(theta, x) - network.log_prob(*inputs).numpy()
    return {
        "kl_per_step": float(excess.mean()),
        "kl_standard_error": float(excess.mean(1).std() / math.sqrt(n)),
        "error_of_sequence_per_step": float(np.abs(excess.mean(1)).mean()),
        "error_of_time_point": float(np.abs(excess).mean()),
    }


@torch.no_grad()
def judge_posteriors(
    network: MarkovianLikelihood, process: Process, n_sets: int, n_draws: int, seed: int
) -> dict[str, float]:
    """Errors of posterior means and sds, in exact posterior sds, by weighting prior draws."""
    rng = np.random.default_rng(seed)
    _, sequences = process.draw(rng, n_sets)
    theta, _ = process.draw(rng, n_draws)
    error, ratio = [], []
    for x in sequences:
        many = np.repeat(x[None], n_draws, 0)
        exact = softmax(process.log_density(theta, many).sum(1))
        if 1 / (exact**2).sum() < 30:  # too few draws near this posterior to speak of its shape
            continue
        inputs = (torch.tensor(many)[..., None], torch.tensor(theta))
        neural = softmax(network.log_prob(*inputs).sum(1).numpy())
        means = [w @ theta for w in (exact, neural)]
        sds = [np.sqrt(w @ theta**2 - m**2) for w, m in zip((exact, neural), means, strict=True)]
        error.append(np.abs(means[1] - means[0]) / sds[0])
        ratio.append(sds[1] / sds[0])
    return {
        "posterior_mean_error": float(np.mean(error)),
        "posterior_sd_ratio": float(np.mean(ratio)),
        "posteriors": len(error),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.json:  # a folder that cannot be made is found out before the training
        options.json.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    results = {}
    for name in options.only:
        process_name, settings = RUNS[name]
        process = PROCESSES[process_name]
        torch.manual_seed(options.seed)
        theta, _ = process.draw(np.random.default_rng(0), 1)
        network = MarkovianLikelihood((process.component,), theta.shape[1], 0, settings)
        start = time.perf_counter()
        trained = train(
            network,
            process.draw,
            n_simulations=options.simulations,
            n_steps=options.steps,
            seed=options.seed,
        )
        seconds = time.perf_counter() - start
        results[name] = {
            "settings": asdict(settings),
            "training_seconds": seconds,
            **judge(trained, process, 2000, options.seed + 1000),
            **judge_posteriors(trained, process, 20, 4000, options.seed + 2000),
        }
        print(name, {k: v for k, v in results[name].items() if k != "settings"}, flush=True)
    table = Table(title=f"nats a time point, target {TARGET} for the first two columns")
    for column in ("likelihood", "KL", "± se", "|sequence| / T", "|time point|", "mean", "sd", "s"):
        table.add_column(column, justify="left" if column == "likelihood" else "right")
    for name, r in results.items():
        keys = ("kl_per_step", "kl_standard_error", "error_of_sequence_per_step")
        numbers = [f"{r[k]:.5f}" for k in (*keys, "error_of_time_point")]
        numbers += [f"{r[f'posterior_{k}']:.3f}" for k in ("mean_error", "sd_ratio")]
        table.add_row(name, *numbers, f"{r['training_seconds']:.0f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
