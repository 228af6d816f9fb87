"""Experiment 2 of the paper: two moons at three budgets, beside the published sequential methods.

For each budget and repetition the pair is trained anew, and draws at x = (0, 0) are compared with
exact ones by the maximum mean discrepancy of the paper's Figure 5: of the posterior, amortized and
refined, and of the posterior predictive ("joint"), whose draws are the neural likelihood's.
Training does not aim at (0, 0); sequential methods spend all of their budget on it.

    python examples/experiment2_two_moons.py --output experiment2
    python examples/experiment2_two_moons.py --output experiment2 --repetitions 1 --budgets 2000
    python examples/experiment2_two_moons.py --output experiment2 --peers SNPE-C ABC-SMC

Peers are run live, from the extra `peers`: sbi's sequential methods and pyABC's. What is finished
stays in the folder, and a run that was cut short goes on. Repetitions with defaults other than
today's are made anew.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from two_moons_peers import NEURAL, available, posterior_draws

import jana_pymc as jana
from jana_pymc.fitting.defaults import default_settings, default_training
from jana_pymc.tasks.mmd import maximum_mean_discrepancy as mmd
from jana_pymc.tasks.run_folder import write_json
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
SECONDS = {"SNPE-C": 409.8, "SNRE-B": 376.6, "SNL": 1276.9, "SNPLA": 821.1}
"""Median training time at 10,000, on the authors' machine."""

WITHIN_A_MINUTE = {
    "n_steps": 3_500,
    "batch_size": 256,
    "rehearsal_steps": 2_500,
    "adjustment_steps": 0,
    "shape_shrinkage": 0.0,
}
"""Shorter and plainer than the default: both networks are then trained within a minute."""

OURS = ("jana_pymc, amortized", "jana_pymc, pooled", "exact draws")
Moments = tuple[float, float]


def exact_draws(rng: np.random.Generator) -> np.ndarray:
    """Draws from the posterior at (0, 0), made like the paper's reference."""
    return sample_posterior(rng, OBSERVED, DRAWS, constants=CONSTANTS, truncate=False)


def simulate(rng: np.random.Generator, theta: np.ndarray) -> np.ndarray:
    return simulator(rng, theta, constants=CONSTANTS)["x"]


def choices(model: jana.GenerativeModel) -> tuple[jana.NetworkSettings, jana.TrainingSettings]:
    """What the package chooses for the task today, but for the length of the training."""
    size = model.prior.n_unconstrained
    network = default_settings(model.schema, size)
    training = default_training(network, size, model.schema)
    return network, replace(training, **WITHIN_A_MINUTE)


def repetition(model: jana.GenerativeModel, budget: int, seed: int, path: Path) -> dict[str, Any]:
    """Train once, and compare draws with exact ones; read from the file if it was done before."""
    network, training = choices(model)
    # By these, finished repetitions are recognised.
    parts = {"network": network.to_dict(), "training": asdict(training)}
    settings = json.loads(json.dumps(parts))
    if (done := _finished(path)) is not None and done.get("defaults") == settings:
        return done
    start = time.perf_counter()
    approximator = jana.fit(
        model,
        n_simulations=budget,
        network=network,
        training=training,
        random_seed=seed,
        progressbar=False,
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
        "seconds": seconds,
        "defaults": settings,
    }
    _write_draws(path, {"reference": reference, **theta}, {"reference": predicted, **predictive})
    write_json(path, result)
    return result


def peer(method: str, budgets: list[int], seed: int, path: Path) -> dict[str, dict[str, float]]:
    """MMD of another package's posterior draws, and its seconds, at each budget; from the file."""
    done = _finished(path) or {}
    if all(str(budget) in done for budget in budgets):
        return done
    # One run makes all budgets; those in the file are made again, with the others.
    wanted = sorted({*map(int, done), *budgets})
    result: dict[str, dict[str, float]] = {}
    for budget, theta, seconds in posterior_draws(method, simulate, OBSERVED, wanted, DRAWS, seed):
        reference = exact_draws(np.random.default_rng((seed, budget)))
        result[str(budget)] = {"posterior": mmd(theta, reference), "seconds": seconds}
        _write_draws(path.with_stem(f"{path.stem}_at_{budget}"), {f"{method}, live": theta}, {})
    write_json(path, result)
    return result


def _finished(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _write_draws(path: Path, theta: dict[str, np.ndarray], x: dict[str, np.ndarray]) -> None:
    arrays = {
        f"{kind}/{name}": draws
        for kind, each in (("posterior", theta), ("predictive", x))
        for name, draws in each.items()
    }
    np.savez(path.with_suffix(".npz"), **arrays)


def moments(values: list[float]) -> Moments:
    return float(np.mean(values)), float(np.std(values))


def table(title: str, budgets: list[int], published: dict, ours: dict[str, list[Moments]]) -> Table:
    """Mean and standard deviation of each method at each budget."""
    result = Table(title=title)
    for column in ("method", *(f"{b:,}" for b in budgets)):
        result.add_column(column)
    known = {
        name: [values[BUDGETS.index(b)] for b in budgets] for name, values in published.items()
    }
    for name, values in {**known, **ours}.items():
        result.add_row(name, *(f"{mean:.3f} ({sd:.3f})" for mean, sd in values))
    return result


def table_of_seconds(budgets: list[int], ours: dict[str, list[float]]) -> Table:
    """Wall times, published ones of another machine."""
    result = Table(title="seconds of training (published: median, another machine)")
    for column in ("method", *(f"{b:,}" for b in budgets)):
        result.add_column(column)
    for name, seconds in SECONDS.items():
        result.add_row(name, *(f"{seconds:.0f}" if b == BUDGETS[-1] else "" for b in budgets))
    for name, values in ours.items():
        result.add_row(name, *(f"{each:.0f}" for each in values))
    return result


def plot_mmd(scores: dict[str, dict[str, list[Moments]]], budgets: list[int]):
    """MMD against the budget, published and ours: Figure 5."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), constrained_layout=True)
    kinds = ("posterior", "log", POSTERIOR_MMD), ("predictive", "linear", PREDICTIVE_MMD)
    for axis, (kind, scale, published) in zip(axes, kinds, strict=True):
        for name, values in published.items():
            means = [mean for mean, _ in values]
            axis.plot(BUDGETS, means, "o--", color="0.7", lw=1)
            axis.annotate(name, (BUDGETS[-1], means[-1]), xytext=(4, 0), textcoords="offset points")
        for i, (name, values) in enumerate(scores[kind].items()):
            means, sds = np.transpose(values)
            axis.errorbar(budgets, means, sds, marker="o", color=f"C{i}", label=name)
        axis.set(xlabel="simulations", ylabel=f"MMD, {kind}", yscale=scale)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    return figure


def plot_draws(folder: Path, kind: str, budgets: list[int]):
    """Draws of the first repetition at each budget beside exact ones: Figures 4 and 17."""
    rows = []
    for budget in budgets:
        draws: dict[str, np.ndarray] = {}
        for path in [folder / f"{budget}_1.npz", *sorted(folder.glob(f"*_1_*_at_{budget}.npz"))]:
            with np.load(path) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            for name, values in found.items():
                if name.startswith(f"{kind}/"):
                    draws[name.removeprefix(f"{kind}/")] = values
        rows.append(draws)
    n_columns = max(map(len, rows))
    figure, axes = plt.subplots(
        *(len(rows), n_columns),
        figsize=(2.6 * n_columns, 2.6 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, draws, budget in zip(axes, rows, budgets, strict=True):
        for axis, (name, values) in zip(row, draws.items(), strict=False):
            axis.scatter(*values.T, s=2, alpha=0.5)
            axis.set_title(name, fontsize=9)
            axis.set_aspect("equal")
        row[0].set_ylabel(f"{budget:,} simulations")
    return figure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output/experiment2"))
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument(
        "--peers", nargs="+", choices=(*NEURAL, "ABC-SMC"), default=[], help="to be run live"
    )
    arguments = parser.parse_args(argv)
    missing = set(arguments.peers) - set(available())
    if missing:
        parser.error(f"{', '.join(sorted(missing))}: pip install '.[peers]'")
    if arguments.repetitions < 1:
        parser.error("--repetitions: expected 1 or more.")
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    budgets = sorted(set(arguments.budgets))
    seeds = range(1, arguments.repetitions + 1)
    console = Console()
    model = two_moons("wiqvist").model
    found: dict[int, list[dict[str, Any]]] = {budget: [] for budget in budgets}
    for seed in seeds:
        for budget in budgets:
            result = repetition(model, budget, seed, folder / f"{budget}_{seed}.json")
            found[budget].append(result)
            console.print(
                f"{budget:,} simulations, repetition {seed}, {result['seconds']:.0f} s:",
                {kind: result[kind] for kind in ("posterior", "predictive")},
            )
    scores: dict[str, dict[str, list[Moments]]] = {
        kind: {
            name: [moments([each[kind][name] for each in found[budget]]) for budget in budgets]
            for name in OURS
        }
        for kind in ("posterior", "predictive")
    }
    seconds = {
        "jana_pymc, both networks": [
            float(np.mean([each["seconds"] for each in found[budget]])) for budget in budgets
        ]
    }
    for method in arguments.peers:
        results = [
            peer(method, budgets, seed, folder / f"{method}_{seed}_{max(budgets)}.json")
            for seed in seeds
        ]
        of_budget = [[each[str(budget)] for each in results] for budget in budgets]
        scores["posterior"][f"{method}, live"] = [
            moments([each["posterior"] for each in all_of_one]) for all_of_one in of_budget
        ]
        seconds[f"{method}, live"] = [
            float(np.mean([each["seconds"] for each in all_of_one])) for all_of_one in of_budget
        ]
    for kind, published in (("posterior", POSTERIOR_MMD), ("predictive", PREDICTIVE_MMD)):
        console.print(table(f"MMD, {kind}: mean (sd)", budgets, published, scores[kind]))
        plot_draws(folder, kind, budgets).savefig(folder / f"draws_{kind}.png", dpi=150)
    console.print(table_of_seconds(budgets, seconds))
    plot_mmd(scores, budgets).savefig(folder / "mmd.png", dpi=150)
    write_json(
        folder / "scores.json",
        {
            "budgets": budgets,
            "repetitions": arguments.repetitions,
            "scores": scores,
            "seconds": seconds,
        },
    )


if __name__ == "__main__":
    main()
