"""What several examples share: wall times, the command line, trained networks, sampling."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import jana_pymc as jana
from jana_pymc.tasks.ddm import ddm


class Stopwatch:
    """``with watch("stage"): ...`` adds an entry to ``watch.seconds``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str) -> Stopwatch:
        self.stage = stage
        return self

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.stage] = time.perf_counter() - self.start


def add_arguments(
    parser: argparse.ArgumentParser, output: str, model: str = "diffusion model"
) -> None:
    """What the smaller examples have in common."""
    parser.add_argument("--quick", action="store_true", help="little of everything, to look around")
    parser.add_argument("--output", type=Path, default=Path(output), help="folder for results")
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument(
        "--approximator", type=Path, help=f"trained {model}: read if it exists, else written"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


def read_or_train(
    path: Path | None, model: jana.GenerativeModel, train: Callable[[], jana.JointApproximator]
) -> jana.JointApproximator:
    """The pair of a file, or if there is none a trained one, which is written to it."""
    if path is None:
        return train()
    if path.exists():
        return jana.load(path, model)
    # A folder that cannot be made is found out before the training.
    path.parent.mkdir(parents=True, exist_ok=True)
    approximator = train()
    approximator.save(path)
    return approximator


def train(model: jana.GenerativeModel, arguments: argparse.Namespace) -> jana.JointApproximator:
    """Train any model on a budget of minutes, or seconds with ``--quick``."""
    return jana.fit(
        model,
        n_simulations=2_000 if arguments.quick else 50_000,
        training=jana.TrainingSettings(n_steps=300 if arguments.quick else 6_000, patience=None),
        random_seed=arguments.random_seed,
        progressbar=not arguments.no_progress,
    )


def trained_ddm(arguments: argparse.Namespace) -> jana.JointApproximator:
    """The diffusion model, from a file if there is one."""
    model = ddm(n_obs=(80, 120))
    return read_or_train(arguments.approximator, model, lambda: train(model, arguments))


def sampling(arguments: argparse.Namespace) -> dict[str, object]:
    """Options of `pymc.sample`."""
    draws = 50 if arguments.quick else 1000
    return {
        "draws": draws,
        "tune": draws,
        "chains": 2 if arguments.quick else 4,
        "cores": 2,
        "target_accept": 0.9,
        "nuts_sampler": "pymc",
        "random_seed": arguments.random_seed,
        "progressbar": not arguments.no_progress,
    }
