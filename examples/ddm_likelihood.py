"""A trained diffusion model for the examples that put its likelihood into other models."""

from __future__ import annotations

import argparse
from pathlib import Path

import jana_pymc as jana
from jana_pymc.tasks.ddm import ddm


def add_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """What these examples have in common."""
    parser.add_argument("--quick", action="store_true", help="little of everything, to look around")
    parser.add_argument("--output", type=Path, default=Path(output), help="folder for results")
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument(
        "--approximator", type=Path, help="trained diffusion model: read if it exists, else written"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


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
    path = arguments.approximator
    if path is not None and path.exists():
        return jana.load(path, model)
    approximator = train(model, arguments)
    if path is not None:
        approximator.save(path)
    return approximator


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
