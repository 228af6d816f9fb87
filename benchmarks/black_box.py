"""Draws a second of nutpie: our likelihood lowered to PyTensor, against Ops that call torch.

One diffusion-model data set, the same prior, and three neural likelihoods: ours; the twelve-layer
coupling flow of the paper; and a dense network of 3 × 100 units, fitted to the closed form by least
squares, as a likelihood network of simple make would be. Seconds are those of warm-up and sampling,
compilation apart. The posterior of the dense network is not the data's, and its chains take other
steps: there gradients are what compares.

    python benchmarks/black_box.py --approximator FILE      # else trains for a few minutes

Needs the extra `nutpie`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import jana_pymc as jana
from jana_pymc.likelihoods import SignedCouplingSettings
from jana_pymc.tasks.ddm import ddm, log_likelihood, prior, simulator

try:
    import nutpie
except ImportError as error:
    raise SystemExit(
        f"benchmarks/black_box.py needs the extra `nutpie`: pip install '.[nutpie]' ({error})"
    ) from error

NAMES = ("v", "a", "t0", "w")
TRUTH = {"v": 1.0, "a": 1.5, "t0": 0.3, "w": 0.5}


@dataclass(frozen=True)
class Speed:
    """What a likelihood reached."""

    draws_a_second: float
    gradients_a_second: float
    mean: np.ndarray


def dense(n_steps: int, random_seed: int) -> jana.LikelihoodApproximator:
    """A network of (θ, log(rt − t0), response), fitted to the log density of simulated trials."""
    rng = np.random.default_rng(random_seed)
    model = ddm()
    theta = np.repeat(model.proposal.draw(20_000, rng), 5, axis=0)
    columns = dict(zip(NAMES, theta.T, strict=True))
    trials = simulator(rng, *(column[:, None] for column in columns.values()), 1)
    trials = {name: values[:, 0] for name, values in trials.items()}
    exact = log_likelihood(trials, columns)
    torch.manual_seed(random_seed)
    sizes = (6, 100, 100, 100)
    hidden = [
        layer
        for n_in, n_out in itertools.pairwise(sizes)
        for layer in (nn.Linear(n_in, n_out), nn.Tanh())
    ]
    network = nn.Sequential(*hidden, nn.Linear(100, 1))

    def log_prob(x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        above = (x[:, :1] - parameters[:, 2:3]).clamp_min(1e-6)
        inputs = torch.cat([parameters, above.log(), x[:, 1:]], -1)
        return network(inputs)[:, 0]

    x = torch.as_tensor(np.stack([trials["rt"], trials["response"]], -1), dtype=torch.float32)
    parameters = torch.as_tensor(theta, dtype=torch.float32)
    target = torch.as_tensor(exact, dtype=torch.float32).clamp_min(-20.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        rows = torch.randint(0, len(x), (2_000,))
        loss = (log_prob(x[rows], parameters[rows]) - target[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return jana.from_torch(log_prob, parameter_names=NAMES, event_shape=(2,))


def run(
    likelihood: jana.LikelihoodApproximator, backend: str, draws: int, arguments: argparse.Namespace
) -> Speed:
    """Sample one data set."""
    data = simulator(np.random.default_rng(1), *TRUTH.values(), arguments.trials)
    rows = np.stack([data["rt"], data["response"]], -1).astype(float)
    with prior() as model:
        parameters = {name: model[name] for name in NAMES}
        likelihood("y", **parameters, observed=rows, backend=backend)
        # The least reaction time bounds t0: chains begin below it.
        start = jana.initvals(model, random_seed=1) or None
    compiled = nutpie.compile_pymc_model(model, initial_points=start)
    begin = time.perf_counter()
    result = nutpie.sample(
        compiled,
        draws=draws,
        tune=draws,
        chains=arguments.chains,
        cores=2,
        seed=1,
        progress_bar=False,
    )
    seconds = time.perf_counter() - begin
    return Speed(
        2 * draws * arguments.chains / seconds,
        n_gradients(result) / seconds,
        np.array([float(result["posterior"][name].mean()) for name in NAMES]),
    )


def n_gradients(result: Any) -> int:
    """Of warm-up and of draws, as the seconds are of both."""
    groups = result["warmup_sample_stats"], result["sample_stats"]
    return sum(int(np.asarray(each["n_steps"]).sum()) for each in groups)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--approximator", type=Path, help="trained diffusion model")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000, help="and as many of warm-up, a chain")
    parser.add_argument("--slow-draws", type=int, default=100, help="the same of the Ops")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3000, help="of training where it is needed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    model = ddm()
    training = jana.TrainingSettings(n_steps=arguments.steps, patience=None)
    if arguments.approximator is not None:
        ours = jana.load(arguments.approximator, model)
    else:
        ours = jana.fit(model, training=training, random_seed=1)
    settings = jana.NetworkSettings(jana.PosteriorSettings(), SignedCouplingSettings())
    paper = jana.fit(model, network=settings, training=training, random_seed=1)
    runs = {
        "ours, lowered": (ours.likelihood, "lowering", arguments.draws),
        "ours, Op": (ours.likelihood, "op", arguments.slow_draws),
        "3 × 100 MLP, Op": (dense(arguments.steps, 1), "op", arguments.slow_draws),
        "the paper's flow, Op": (paper.likelihood, "op", arguments.slow_draws),
    }
    results = {name: run(*each, arguments) for name, each in runs.items()}
    fastest = results["ours, lowered"].draws_a_second
    table = Table(
        title=f"nutpie, {arguments.trials} trials, {arguments.chains} chains on two cores"
    )
    for column in ("likelihood", "draws/s", "ours is faster", "gradients/s", "posterior means"):
        table.add_column(column, no_wrap=True)
    for name, speed in results.items():
        table.add_row(
            name,
            f"{speed.draws_a_second:.1f}",
            f"{fastest / speed.draws_a_second:.0f}×",
            f"{speed.gradients_a_second:.0f}",
            " ".join(f"{value:.2f}" for value in speed.mean),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
