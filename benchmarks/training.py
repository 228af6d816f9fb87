"""Training: steps a second as Python runs them and as we do, time to a loss, peak memory.

On a CPU a step runs eagerly, on one of torch's threads and on all, then traced with both networks
side by side; on a CUDA device eagerly and as a captured graph. All train the same networks on the
same batches, taking turns. Then one whole training, with the time at which each network first
reaches a mean log density on simulations that it has not seen.

    python benchmarks/training.py
    python benchmarks/training.py --task two_moons --n-steps 5000 --posterior 3.50 --likelihood 4.28
    python benchmarks/training.py --steps-only --compile
"""

from __future__ import annotations

import argparse
import copy
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings, default_training, standardize
from jana_pymc.simulation import GenerativeModel
from jana_pymc.tasks import TASKS, task
from jana_pymc.tasks.ddm import ddm
from jana_pymc.training import StoredSimulations, TrainingSettings, resolve_device, to_batch
from jana_pymc.training.cores import cores
from jana_pymc.training.gradients import Gradients, gradients_of
from jana_pymc.training.step import GraphedStep, TrainingStep

ROUNDS = 4


def defaults(model: GenerativeModel) -> TrainingSettings:
    """The training that the dimensions of the data imply."""
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    return default_training(settings, model.prior.n_unconstrained, model.schema)


def steppers(
    model: GenerativeModel, training: TrainingSettings, executions: list[str]
) -> dict[str, tuple[Gradients, Callable[[int], None], int]]:
    """For each way to run it: its context, a step, and torch's threads."""
    device = resolve_device("auto")
    made = model.simulate(2_000, random_seed=1, progressbar=False)
    batch = to_batch(made, model.prior, device)
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    joint = build_network(
        model.schema, model.prior, [False] * len(model.schema.components), settings, 1
    ).to(device)
    standardize(joint, [batch])
    source = StoredSimulations(
        batch,
        None,
        batch_size=training.batch_size,
        n_obs=model.schema.n_obs,
        seed=1,
        ordered=model.schema.structure != "exchangeable",
    )
    ways = {}
    for name in executions:
        for threads in {1, cores()} if name == "eager" and device.type == "cpu" else {1}:
            network = copy.deepcopy(joint)
            own = replace(training, execution=name)
            gradients = gradients_of(network, own)
            graphed = name == "graph" and device.type == "cuda"
            learn = TrainingStep(
                network, copy.deepcopy(network), own, gradients, seed=1, capturable=graphed
            )
            once = GraphedStep(learn) if graphed else learn

            def step(number: int, learn: TrainingStep = learn, once=once) -> None:
                drawn, other = source.batch(number)
                learn.schedule(training.linear_steps + number)
                once(drawn, other)

            label = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            ways[label if device.type == "cpu" else name] = gradients, step, threads
    return ways


def steps_per_second(
    ways: dict[str, tuple[Gradients, Callable[[int], None], int]], n_steps: int
) -> dict[str, float]:
    """Medians over rounds in which the ways take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, (gradients, step, threads) in ways.items():
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            before = torch.get_num_threads()
            gradients.use_threads(threads)
            start = time.perf_counter()
            for i in range(n_steps):
                step(number * n_steps + i)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round traces, captures or compiles
                rates[name].append(n_steps / (time.perf_counter() - start))
            torch.set_num_threads(before)
    return {name: float(np.median(values)) for name, values in rates.items()}


def first_time(seconds: list[float], losses: list[float], goal: float) -> str:
    """When the loss first was at the goal, as text."""
    reached = [s for s, loss in zip(seconds, losses, strict=True) if loss <= goal]
    return f"{reached[0]:.0f} s" if reached else "not reached"


def loss_at(density: float, reached: float, loss: float, n_obs: float = 1.0) -> float:
    """The validation loss with which a mean log density of data sets went together.

    Losses are of unconstrained parameters or of single observations: from log densities of data
    sets they differ by a constant, or by the number of observations.

    Parameters
    ----------
    density : float
        Whose loss is wanted.
    reached, loss : float
        Log density and loss of the same network.
    n_obs : float
        Mean number of observations behind one log density for each behind one loss.
    """
    return loss + (reached - density) / n_obs


def mean_log_likelihood(pair: jana.JointApproximator, test: jana.Simulations) -> float:
    """Of data sets as the posterior sees them: each of as many observations as it is said to have.

    More are simulated where the number varies.
    """
    batch = test.batch()
    conditions = batch.conditions if batch.conditions.shape[-1] else [None] * len(test)
    values = [
        pair.likelihood.log_prob(x[:n], theta[None], None if known is None else known[:n]).sum()
        for x, theta, known, n in zip(
            batch.observables, test.parameters, conditions, batch.n_obs, strict=True
        )
    ]
    return float(np.mean(values))


def whole_training(model: GenerativeModel, arguments: argparse.Namespace) -> None:
    """Train as `fit` does, and print how long it took to what."""
    made = model.simulate(arguments.n_simulations, random_seed=1, progressbar=False)
    test = model.simulate(1_000, random_seed=2, progressbar=False)
    training = None
    if arguments.n_steps is not None:
        # By the data's dimensions alone, without the search for distractors and repeated draws.
        training = replace(defaults(model), n_steps=arguments.n_steps)
    start = time.perf_counter()
    pair = jana.fit(model, simulations=made, training=training, random_seed=1, progressbar=False)
    seconds = time.perf_counter() - start
    batch = test.batch()
    posterior = pair.posterior.log_prob(test.parameters[:, None], batch).mean()
    likelihood = mean_log_likelihood(pair, test)
    history = pair.history
    print(f"{len(made)} simulations, {history.step[-1]} steps of all stages: {seconds:.1f} s")
    print(f"mean log densities of 1,000 new data sets: q {posterior:.3f}, l {likelihood:.3f}")
    if arguments.posterior is not None:
        goal = loss_at(arguments.posterior, posterior, history.best_posterior)
        when = first_time(history.seconds, history.validation_posterior, goal)
        print(f"log q {arguments.posterior} after {when}")
    if arguments.likelihood is not None:
        n_obs = batch.n_obs.mean()
        goal = loss_at(arguments.likelihood, likelihood, history.best_likelihood, n_obs)
        when = first_time(history.seconds, history.validation_likelihood, goal)
        print(f"log l {arguments.likelihood} after {when}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", default="two_moons", choices=(*TASKS, "ddm"))
    parser.add_argument("--steps", type=int, default=100, help="timed at a time")
    parser.add_argument("--steps-only", action="store_true", help="no whole training")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--n-simulations", type=int, default=10_000)
    parser.add_argument("--n-steps", type=int, help="of the whole training; else the default")
    parser.add_argument("--posterior", type=float, help="mean log q to be timed")
    parser.add_argument("--likelihood", type=float, help="mean log l to be timed")
    arguments = parser.parse_args()
    model = ddm() if arguments.task == "ddm" else task(arguments.task, "benchmark").model
    training = defaults(model)
    executions = ["eager", "graph", *(["compile"] if arguments.compile else [])]
    rates = steps_per_second(steppers(model, training, executions), arguments.steps)
    eager = next(rate for name, rate in rates.items() if name.startswith("eager"))
    table = Table(f"{arguments.task}, batches of {training.batch_size}", "steps a second", "ratio")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}", f"{rate / eager:.2f}")
    Console(width=90).print(table)
    if not arguments.steps_only:
        whole_training(model, arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")
    if torch.cuda.is_available():
        print(f"peak memory of the GPU {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
