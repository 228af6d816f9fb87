"""How often verdict and misspecification test are right: level and power, on the diffusion model.

A pair that is trained well is damaged on purpose, its posterior or its likelihood, and judged on
new simulations; exact pairs of a conjugate model must not be accused. Data sets of the simulator's
own must pass the misspecification test, and those with a few fast guesses must not.

    python benchmarks/judgement.py                                   # trains a pair first
    python benchmarks/judgement.py --approximator ddm.safetensors    # read if there, else written
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import jana_pymc as jana
from jana_pymc.tasks.ddm import ddm

ROOT = Path(__file__).resolve().parent.parent
FAST_GUESSES = 0.05
"""Share of trials that are fast guesses: 50 to 250 ms, either response."""


class StretchedPosterior:
    """A posterior whose draws lie farther from their centre than they should, or are shifted."""

    def __init__(self, approximator: jana.JointApproximator, stretch: float, shift: float):
        self.posterior, self.prior = approximator.posterior, approximator.prior
        self.stretch, self.shift = stretch, shift

    def sample(self, batch, draws, random_seed=None):
        u, _ = self.posterior.sample_unconstrained(batch, draws, random_seed)
        mean, sd = u.mean(1, keepdims=True), u.std(1, keepdims=True)
        return self.prior.constrain(mean + self.stretch * (u - mean) + self.shift * sd)

    def __getattr__(self, name: str):
        return getattr(self.posterior, name)


def with_posterior(
    approximator: jana.JointApproximator, *, stretch: float = 1.0, shift: float = 0.0
) -> jana.JointApproximator:
    damaged = copy.copy(approximator)
    damaged.posterior = StretchedPosterior(approximator, stretch, shift)
    return damaged


def with_likelihood(
    approximator: jana.JointApproximator, parameter: str, by: float
) -> jana.JointApproximator:
    """The likelihood takes one parameter for a smaller one than it is."""
    damaged = copy.copy(approximator)
    damaged.likelihood = copy.deepcopy(approximator.likelihood)
    position = approximator.layout.names.index(parameter)
    damaged.likelihood.network.parameter_mean[position] += by
    return damaged


def trained(path: Path | None) -> jana.JointApproximator:
    """The budget of ``examples/ddm.py``."""
    model = ddm()
    if path is not None and path.exists():
        return jana.load(path, model)
    if path is not None:  # a folder that cannot be made is found out before the training
        path.parent.mkdir(parents=True, exist_ok=True)
    approximator = jana.fit(
        model,
        n_simulations=50_000,
        training=jana.TrainingSettings(n_steps=6_000, patience=None),
        random_seed=1,
    )
    if path is not None:
        approximator.save(path)
    return approximator


def accused(faults: Counter[str]) -> float:
    """Share of verdicts that blame a network; one that is undecided blames none."""
    return sum(faults[name] for name in ("posterior", "likelihood", "both")) / faults.total()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--approximator", type=Path)
    parser.add_argument("--tries", type=int, default=40, help="for each kind of damage")
    parser.add_argument("--exact-tries", type=int, default=100, help="with exact pairs")
    parser.add_argument("--sets", type=int, default=1000, help="data sets for level and power")
    arguments = parser.parse_args()
    approximator = trained(arguments.approximator)

    pairs = {
        "posterior too wide": (with_posterior(approximator, stretch=1.3), "posterior"),
        "posterior shifted": (with_posterior(approximator, shift=0.4), "posterior"),
        "likelihood of another v": (with_likelihood(approximator, "v", 0.3), "likelihood"),
        "likelihood of another a": (with_likelihood(approximator, "a", 0.15), "likelihood"),
        "as trained": (approximator, "neither"),
    }
    options = {"n_simulations": 400, "draws": 99, "error_rate": 0.01, "progressbar": False}
    for name, (pair, right) in pairs.items():
        faults = Counter(
            jana.verdict(pair, random_seed=seed, **options).fault for seed in range(arguments.tries)
        )
        print(f"{name}: {faults[right]} of {arguments.tries} right, {dict(faults)}", flush=True)

    sys.path.append(str(ROOT / "tests"))
    from normal_means import ExactPair  # noqa: PLC0415

    exact = Counter(
        jana.verdict(ExactPair(), random_seed=seed, **options).fault
        for seed in range(arguments.exact_tries)
    )
    print(f"exact pairs: {accused(exact):.1%} accused (target ≤ 1 %), {dict(exact)}", flush=True)

    rng = np.random.default_rng(1)
    right = approximator.model.simulate(arguments.sets, random_seed=rng, progressbar=False).batch()
    guesses = rng.random(right.observables.shape[:2]) < FAST_GUESSES
    contaminated = right.observables.copy()
    contaminated[guesses, 0] = rng.uniform(0.05, 0.25, guesses.sum())
    contaminated[guesses, 1] = rng.integers(2, size=guesses.sum())
    wrong = type(right)(contaminated, right.conditions, right.n_obs)
    for name, batch, target in (
        ("level", right, "5 % ± 2 %"),
        ("power on 5 % fast guesses", wrong, "≥ 80 %"),
    ):
        test = jana.detect_misspecification(
            approximator, batch, level=0.05, random_seed=2, progressbar=False
        )
        print(f"misspecification, {name}: {test.outliers.mean():.1%} (target {target})", flush=True)


if __name__ == "__main__":
    main()
