"""Experiment 2 of the paper: two moons at three budgets, beside the published sequential methods.

For each budget and repetition the pair is trained anew, and draws at x = (0, 0) are compared with
exact ones by the maximum mean discrepancy of the paper's Figure 5: of the posterior, amortized and
refined, and of the posterior predictive ("joint"), whose draws are the neural likelihood's.
Training does not know that (0, 0) will be asked for; sequential methods spend all they have on it.

    python examples/experiment2_two_moons.py --output experiment2
    python examples/experiment2_two_moons.py --output experiment2 --repetitions 1 --budgets 2000
    python examples/experiment2_two_moons.py --output experiment2 --peers SNPE-C ABC-SMC

Peers are run live, from the extra `peers`: sbi's sequential methods and pyABC's. What is finished
stays in the folder; a run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from two_moons_peers import NEURAL, available, posterior_draws

import jana_pymc as jana
from jana_pymc.tasks.mmd import maximum_mean_discrepancy as mmd
from jana_pymc.tasks.two_moons import DEFINITIONS, sample_posterior, simulator, two_moons

BUDGETS = (2_000, 6_000, 10_000)
DRAWS = 1_000
OBSERVED = np.zeros(2)
CONSTANTS = DEFINITIONS["wiqvist"]

# Means and standard deviations over ten repetitions, by budget: Figure 5 of Radev et al. (2023).
POSTERIOR_MMD = {
    "g-SMC-ABC": ((0.327, 0.021), (0.321, 0.017), (0.317, 0.015)),
    "SNPE-C": ((0.304, 0.076), (0.226, 0.043), (0.207, 0.051)),
    "SNRE-B": ((0.992, 0.380), (0.704, 0.499), (0.923, 0.445)),
    "SNL": ((0.840, 0.462), (1.075, 0.309), (1.171, 0.340)),
    "SNPLA": ((0.315, 0.023), (0.273, 0.115), (0.410, 0.248)),
    "JANA (paper)": ((0.189, 0.021), (0.163, 0.019), (0.157, 0.012)),
}
PREDICTIVE_MMD = {
    "SNL": ((0.127, 0.010), (0.123, 0.007), (0.119, 0.008)),
    "SNPLA": ((0.173, 0.007), (0.122, 0.010), (0.121, 0.008)),
    "JANA (paper)": ((0.158, 0.017), (0.137, 0.011), (0.137, 0.010)),
}
OURS = {
    "posterior": ("jana_pymc, amortized", "jana_pymc, pooled", "exact draws"),
    "predictive": ("jana_pymc, amortized", "jana_pymc, pooled", "exact draws"),
}


def exact_draws(rng: np.random.Generator) -> np.ndarray:
    """From the posterior at (0, 0), as the paper's reference has them."""
    return sample_posterior(rng, OBSERVED, DRAWS, constants=CONSTANTS, truncate=False)


def simulate(rng: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    return simulator(rng, theta, constants=CONSTANTS)["x"]


def repetition(budget: int, seed: int, path: Path) -> dict[str, dict[str, float]]:
    """Train once, and hold draws against exact ones; from the file if it was done before."""
    if path.exists():
        return json.loads(path.read_text())
    start = time.perf_counter()
    approximator = jana.fit(
        two_moons("wiqvist").model, n_simulations=budget, random_seed=seed, progressbar=False
    )
    seconds = time.perf_counter() - start
    rng = np.random.default_rng((seed, budget))
    reference = exact_draws(rng)
    predicted = simulate(rng, reference)
    again = exact_draws(rng)
    theta = {"exact draws": again}
    predictive = {"exact draws": simulate(rng, again)}
    for name, refine in (("amortized", "none"), ("pooled", "pooled")):
        drawn = approximator.sample(
            {"x": OBSERVED},
            draws=DRAWS,
            chains=1,
            groups=("posterior",),
            refine=refine,
            random_seed=rng,
        )
        theta[f"jana_pymc, {name}"] = drawn["posterior"]["theta"].values[0]
        surrogate = approximator.simulate(theta[f"jana_pymc, {name}"], random_seed=rng)
        predictive[f"jana_pymc, {name}"] = surrogate.dataset["x"].values.reshape(DRAWS, 2)
    result = {
        "posterior": {name: mmd(draws, reference) for name, draws in theta.items()},
        "predictive": {name: mmd(draws, predicted) for name, draws in predictive.items()},
        "seconds": {"training": seconds},
    }
    np.savez(path.with_suffix(".npz"), reference=reference, **theta)
    _write(path, result)
    return result


def peer(method: str, budgets: list[int], seed: int, path: Path) -> dict[str, dict[str, float]]:
    """MMD of another package's posterior draws, and its seconds, at each budget; from the file."""
    if path.exists():
        return json.loads(path.read_text())
    result: dict[str, dict[str, float]] = {}
    for budget, theta, seconds in posterior_draws(method, simulate, OBSERVED, budgets, DRAWS, seed):
        reference = exact_draws(np.random.default_rng((seed, budget)))
        result[str(budget)] = {"posterior": mmd(theta, reference), "seconds": seconds}
    _write(path, result)
    return result


def _write(path: Path, result: dict) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(result, indent=2))
    temporary.replace(path)


def table(
    title: str, published: dict[str, tuple], ours: dict[str, list[tuple[float, float]]]
) -> Table:
    """Mean and standard deviation of each method at each budget."""
    budgets = len(next(iter(ours.values())))
    result = Table(title=title)
    for column in ("method", *(f"{b:,}" for b in BUDGETS[:budgets])):
        result.add_column(column)
    for name, values in {**published, **ours}.items():
        result.add_row(name, *(f"{mean:.3f} ({sd:.3f})" for mean, sd in values[:budgets]))
    return result


def plot_mmd(scores: dict[str, dict[str, list[tuple[float, float]]]], budgets: list[int]):
    """MMD against the budget, published and ours: Figure 5."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for axis, kind, published in zip(
        axes, ("posterior", "predictive"), (POSTERIOR_MMD, PREDICTIVE_MMD), strict=True
    ):
        for name, values in published.items():
            means = [mean for mean, _ in values]
            axis.plot(BUDGETS, means, "o--", color="0.7", lw=1)
            axis.annotate(name, (BUDGETS[-1], means[-1]), xytext=(4, 0), textcoords="offset points")
        for i, (name, values) in enumerate(scores[kind].items()):
            means, sds = np.transpose(values)
            axis.errorbar(budgets, means, sds, marker="o", color=f"C{i}", label=name)
        axis.set(xlabel="simulations", ylabel=f"MMD, {kind}", yscale="log")
        axis.legend()
    return figure


def plot_draws(path: Path):
    """Draws at (0, 0) beside exact ones: Figures 4 and 17."""
    with np.load(path) as arrays:
        draws = dict(arrays)
    figure, axes = plt.subplots(
        1, len(draws), figsize=(3 * len(draws), 3), sharex=True, sharey=True, layout="constrained"
    )
    for axis, (name, theta) in zip(axes, draws.items(), strict=True):
        axis.scatter(*theta.T, s=2, alpha=0.5)
        axis.set(title=name, xlabel="θ₁", aspect="equal")
    axes[0].set_ylabel("θ₂")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of results")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument(
        "--peers", nargs="+", choices=(*NEURAL, "ABC-SMC"), default=[], help="to be run live"
    )
    arguments = parser.parse_args()
    missing = set(arguments.peers) - set(available())
    if missing:
        parser.error(f"{', '.join(sorted(missing))}: pip install '.[peers]'")
    arguments.output.mkdir(parents=True, exist_ok=True)
    budgets = sorted(arguments.budgets)
    console = Console()
    found: dict[int, list] = {budget: [] for budget in budgets}
    for seed in range(1, arguments.repetitions + 1):
        for budget in budgets:
            result = repetition(budget, seed, arguments.output / f"{budget}_{seed}.json")
            found[budget].append(result)
            console.print(f"{budget:,} simulations, repetition {seed}:", result)
    scores: dict[str, dict[str, list[tuple[float, float]]]] = {
        kind: {
            name: [
                (float(np.mean(values)), float(np.std(values)))
                for budget in budgets
                for values in [[each[kind][name] for each in found[budget]]]
            ]
            for name in names
        }
        for kind, names in OURS.items()
    }
    for method in arguments.peers:
        results = [
            peer(method, budgets, seed, arguments.output / f"{method}_{seed}_{max(budgets)}.json")
            for seed in range(1, arguments.repetitions + 1)
        ]
        scores["posterior"][f"{method}, live"] = [
            (float(np.mean(values)), float(np.std(values)))
            for budget in budgets
            for values in [[each[str(budget)]["posterior"] for each in results]]
        ]
        took = [each[str(max(budgets))]["seconds"] for each in results]
        console.print(f"{method}: {np.mean(took):.0f} s to {max(budgets):,} simulations")
    if budgets == list(BUDGETS):
        for kind, published in (("posterior", POSTERIOR_MMD), ("predictive", PREDICTIVE_MMD)):
            console.print(table(f"MMD, {kind}: mean (sd)", published, scores[kind]))
    plot_mmd(scores, budgets).savefig(arguments.output / "mmd.png", dpi=150)
    plot_draws(arguments.output / f"{budgets[-1]}_1.npz").savefig(
        arguments.output / "draws.png", dpi=150
    )
    seconds = {b: [each["seconds"]["training"] for each in found[b]] for b in budgets}
    console.print("training, seconds:", seconds)
    (arguments.output / "scores.json").write_text(
        json.dumps({"budgets": budgets, "scores": scores, "seconds": seconds}, indent=2)
    )


if __name__ == "__main__":
    main()
