"""Amortized inference: draws of one data set and of many, densities, likelihood tables.

Two moons by default, or any of the benchmark tasks; the pair is trained briefly if no file is
given, since its weights do not matter for the time. It is then without the adjustment that a full
training may end with, and that takes time of every draw: what is printed says so. Best and median
of repeated calls, CPU time beside wall time, since other jobs disturb the latter.

    python benchmarks/inference.py
    python benchmarks/inference.py --task slcp --approximator pair.safetensors
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import jana_pymc as jana
from jana_pymc.tasks import TASKS, task


def report(what: str, function: Callable[[], object], repeats: int, target: str = "") -> None:
    """Print milliseconds of a call."""
    function()
    wall, cpu = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        function()
        wall.append(1e3 * (time.perf_counter() - start[0]))
        cpu.append(1e3 * (time.process_time() - start[1]))
    print(
        f"{what}: {min(wall):.1f} ms best, {np.median(wall):.1f} median, "
        f"{np.median(cpu):.1f} CPU{f' (target {target})' if target else ''}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", default="two_moons", choices=TASKS)
    parser.add_argument("--approximator", type=Path, help="trained on the task; else briefly here")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    model = task(arguments.task, "benchmark").model
    if arguments.approximator is None:
        approximator = jana.fit(
            model,
            n_simulations=1_000,
            training=jana.TrainingSettings(n_steps=20, n_validations=1),
            random_seed=1,
            progressbar=False,
        )
    else:
        approximator = jana.load(arguments.approximator, model)
    batch = model.simulate(1_000, random_seed=1, progressbar=False).batch()
    theta = model.prior.draw(1_000, 1)
    posterior, likelihood = approximator.posterior, approximator.likelihood
    one, repeats = batch[:1], arguments.repeats
    adjusted = "without" if approximator.settings.posterior.adjustment is None else "with"
    print(f"{arguments.task}, {adjusted} adjustment, {torch.get_num_threads()} threads of torch")
    report(
        "1,000 draws of one data set", lambda: posterior.sample(one, 1_000, 1), repeats, "≤ 3 ms"
    )
    report(
        "100 draws of 200 data sets", lambda: posterior.sample(batch[:200], 100, 1), repeats, "≤ 60"
    )
    report("log q of 1,000 θ", lambda: posterior.log_prob(theta[None], one), repeats, "≤ 3 ms")
    report("1,000 draws of 1,000 data sets", lambda: posterior.sample(batch, 1_000, 1), 2)
    known = one.conditions[0] if one.conditions.shape[-1] else None
    report(
        "log-likelihood of one data set under 1,000 θ",
        lambda: likelihood.pointwise(one.observables[0], theta, known),
        repeats,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
