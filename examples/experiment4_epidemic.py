"""The first wave of an epidemic: a likelihood of sequences with 34 parameters.

Experiment 4 of the paper. Surrogate epidemics of the likelihood network beside the simulator's for
the paper's parameters and ten more (Figures 2 and 22), calibration of the posterior and of the
pair, the posterior network as critic of the likelihood, and the test for misspecification. Reports
are whole people: a day without any has a probability. Nothing but the parameters is given to the
likelihood; the paper's is told mean and standard deviation of the series that it is to explain.

    python examples/experiment4_epidemic.py --quick             # 15 minutes on two cores
    python examples/experiment4_epidemic.py                     # the paper's networks: wants a GPU
    python examples/experiment4_epidemic.py --csv FILE.csv      # daily reports of one's own

With --quick the networks are small and see 10,000 epidemics, not three million: it shows that all
works, and what a quarter of an hour buys. Training resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from ddm_stopwatch import Stopwatch
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import cdist

import jana_pymc as jana
from jana_pymc.flows import FlowSettings
from jana_pymc.likelihoods import ConditionalSettings, MarkovianSettings
from jana_pymc.networks import TimeSeriesSettings
from jana_pymc.plots import plot_history, plot_ranks_ecdf
from jana_pymc.tasks.epidemic import OBSERVABLES, PARAMETERS, TEASER, epidemic, load_reports
from jana_pymc.workflow.criticism import criticize

N_MORE = 10
N_SPLITS = 200
PAPER_FAILS = ("phi_I", "phi_R", "phi_D", "sigma_I", "sigma_R", "sigma_D", "L_D")
"""Parameters for which the paper's joint calibration leaves the band."""

console = Console()


@dataclass(frozen=True)
class Plan:
    """Networks, training and how much is looked at."""

    network: jana.NetworkSettings
    training: jana.TrainingSettings
    n_simulations: int
    online: bool
    n_runs: int
    n_calibration: int


FULL = Plan(
    network=jana.NetworkSettings(
        posterior=jana.PosteriorSettings(
            summary=TimeSeriesSettings(
                n_convolutions=3,
                kernel_sizes=(2, 3, 4, 5, 6, 7),
                n_filters=32,
                width=64,
                n_hidden=64,
                separate=True,
            ),
            flow=FlowSettings(n_layers=6, transform="affine"),
            n_summaries=192,
        ),
        likelihood=MarkovianSettings(
            order=1, memory=256, conditional=ConditionalSettings(hidden=(128, 128))
        ),
    ),
    training=jana.TrainingSettings(
        n_steps=100_000,
        batch_size=32,
        learning_rate=5e-4,
        likelihood_learning_rate=5e-4,
        likelihood_obs=None,
        mmd_weight=1.0,
        patience=None,
    ),
    n_simulations=32_000,
    online=True,
    n_runs=1000,
    n_calibration=1000,
)
QUICK = Plan(
    network=jana.NetworkSettings(
        posterior=jana.PosteriorSettings(
            summary=TimeSeriesSettings(n_hidden=96),
            flow=FlowSettings(n_layers=1, transform="autoregressive", hidden=(128, 128)),
            n_summaries=64,
        ),
        likelihood=MarkovianSettings(order=3, memory=0, clock=True),
    ),
    training=jana.TrainingSettings(
        n_steps=2_500,
        batch_size=64,
        learning_rate=2e-3,
        likelihood_learning_rate=3e-3,
        likelihood_obs=None,
        mmd_weight=0.1,
        weight_average=0.998,
        n_validations=25,
        patience=None,
    ),
    n_simulations=10_000,
    online=False,
    n_runs=400,
    n_calibration=300,
)


def trained(
    model: jana.GenerativeModel, plan: Plan, arguments: argparse.Namespace
) -> jana.JointApproximator:
    """The pair, from its file if it was trained before."""
    path = arguments.output / "epidemic.safetensors"
    if path.exists():
        return jana.load(path, model, device=arguments.device)
    approximator = jana.fit(
        model,
        n_simulations=plan.n_simulations,
        online=plan.online,
        network=plan.network,
        training=plan.training,
        device=arguments.device,
        checkpoint=arguments.output / "checkpoint.safetensors",
        random_seed=arguments.random_seed,
        progressbar=not arguments.no_progress,
    )
    approximator.save(path)
    plot_history(approximator.history).savefig(arguments.output / "training.png", dpi=150)
    return approximator


def series(simulations: jana.Simulations) -> np.ndarray:
    """Reports, shape (runs, days, series)."""
    return simulations.batch(pad=True).observables


def energy_distance(distances: np.ndarray, first: np.ndarray) -> float:
    """Between two samples, from the distances of all pairs; `first` says who is in the first.

    References
    ----------
    Székely, G. J., & Rizzo, M. L. (2013). Energy statistics. J. Stat. Plan. Inference, 143(8).
    """
    between = distances[np.ix_(first, ~first)].mean()
    within = distances[np.ix_(first, first)].mean() + distances[np.ix_(~first, ~first)].mean()
    return float(2.0 * between - within)


def compare(
    approximator: jana.JointApproximator, theta: np.ndarray, n_runs: int, seed: int
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Surrogate and simulated epidemics for one parameter vector.

    Their energy distance on the scale of logarithms, beside those of random halves of twice as many
    simulations.
    """
    model, rng = approximator.model, np.random.default_rng(seed)
    simulated = series(
        model.simulate(
            parameters=np.repeat(theta[None], 2 * n_runs, 0), random_seed=rng, progressbar=False
        )
    )
    surrogate = series(approximator.simulate(np.repeat(theta[None], n_runs, 0), random_seed=rng))
    both = np.log1p(np.concatenate([simulated, surrogate]).reshape(3 * n_runs, -1))
    distances = cdist(both, both)
    own = distances[: 2 * n_runs, : 2 * n_runs]
    halves = [energy_distance(own, rng.permutation(2 * n_runs) < n_runs) for _ in range(N_SPLITS)]
    held = np.r_[0:n_runs, 2 * n_runs : 3 * n_runs]
    first = np.arange(2 * n_runs) < n_runs
    distance = energy_distance(distances[np.ix_(held, held)], first)
    scores = {
        "energy_distance": distance,
        "simulator_95": float(np.quantile(halves, 0.95)),
        "simulator_largest": float(np.max(halves)),
        "within": bool(distance <= np.max(halves)),
        "median_log_error": float(
            np.abs(np.median(np.log1p(surrogate), 0) - np.median(np.log1p(simulated), 0)).mean()
        ),
    }
    return scores, simulated, surrogate


def plot_bands(pairs: list[tuple[np.ndarray, np.ndarray]]) -> plt.Figure:
    """Medians with 50 and 95 % bands, one column a parameter vector (Figures 2 and 22)."""
    figure, axes = plt.subplots(
        3, len(pairs), figsize=(2.6 * len(pairs) + 0.6, 6), squeeze=False, layout="constrained"
    )
    for column, pair in zip(axes.T, pairs, strict=True):
        for row, (ax, name) in enumerate(zip(column, OBSERVABLES, strict=True)):
            for values, colour, label in zip(
                pair, ("C0", "C1"), ("simulator", "likelihood network"), strict=True
            ):
                days = np.arange(values.shape[1])
                quantiles = np.quantile(values[..., row], [0.025, 0.25, 0.5, 0.75, 0.975], axis=0)
                ax.fill_between(days, quantiles[0], quantiles[4], color=colour, alpha=0.2, lw=0)
                ax.fill_between(days, quantiles[1], quantiles[3], color=colour, alpha=0.3, lw=0)
                ax.plot(days, quantiles[2], color=colour, lw=1, label=label)
            ax.set_yscale("symlog", linthresh=10.0)
            if ax in axes[:, 0]:
                ax.set_ylabel(name)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("day")
    return figure


def surrogates(
    approximator: jana.JointApproximator, plan: Plan, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The paper's parameters and ten more: distances, bands, and the posterior as critic."""
    theta = np.concatenate(
        [
            np.array([[TEASER[name] for name in PARAMETERS]]),
            approximator.prior.draw(N_MORE, random_seed=arguments.random_seed + 1),
        ]
    )
    scores, pairs = [], []
    for i, each in enumerate(theta):
        score, simulated, surrogate = compare(
            approximator, each, plan.n_runs, arguments.random_seed + 100 + i
        )
        scores.append(score)
        pairs.append((simulated, surrogate))
    plot_bands(pairs[:1]).savefig(arguments.output / "teaser.png", dpi=150)
    plot_bands(pairs[1:]).savefig(arguments.output / "more.png", dpi=110)
    criticism = criticize(
        approximator,
        theta[0],
        n_simulations=plan.n_runs,
        random_seed=arguments.random_seed,
        progressbar=False,
    )
    criticism.plot().savefig(arguments.output / "criticism.png", dpi=150)
    plausible = series(criticism.plausible)
    plot_bands([(pairs[0][0], plausible)]).savefig(
        arguments.output / "teaser_plausible.png", dpi=150
    )
    return {
        "surrogates": scores,
        "n_within": sum(score["within"] for score in scores),
        "criticism_share_below_5": float(np.mean(criticism.p_values <= 0.05)),
    }


def calibrate(
    approximator: jana.JointApproximator, plan: Plan, arguments: argparse.Namespace
) -> dict[str, Any]:
    """SBC and JSBC of all 34 parameters."""
    checks = {}
    for title, joint in (("posterior", False), ("joint", True)):
        checks[title] = jana.calibration(
            approximator,
            n_simulations=plan.n_calibration,
            draws=100,
            joint=joint,
            random_seed=arguments.random_seed + 20,
            progressbar=not arguments.no_progress,
        )
    plot_ranks_ecdf(checks).savefig(arguments.output / "calibration.png", dpi=150)
    return {
        key: {name: bool(inside) for name, inside in check.inside().items()}
        for key, check in zip(("sbc", "jsbc"), checks.values(), strict=True)
    }


def weekend_reports_on_mondays(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the simulator does not know: offices that are closed for two days a week."""
    moved = {name: values.copy() for name, values in data.items()}
    for values in moved.values():
        for day in range(5, values.shape[-1] - 2, 7):
            values[..., day + 2] += values[..., day] + values[..., day + 1]
            values[..., day : day + 2] = 0
    return moved


def misspecification(
    approximator: jana.JointApproximator, plan: Plan, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Level and power of the test, and what it says of the user's data."""
    model, seed = approximator.model, arguments.random_seed
    good = model.simulate(plan.n_calibration, random_seed=seed + 30, progressbar=False)
    arrays = {name: np.asarray(good.dataset[name]) for name in OBSERVABLES}
    bad = [
        {name: values[i] for name, values in weekend_reports_on_mondays(arrays).items()}
        for i in range(len(good))
    ]
    scores = {}
    for name, data in (("level", good), ("power", bad)):
        test = jana.detect_misspecification(
            approximator, data, random_seed=seed + 31, progressbar=False
        )
        scores[name] = float(test.outliers.mean())
        test.plot().savefig(arguments.output / f"misspecification_{name}.png", dpi=150)
    if arguments.csv is not None:
        data = load_reports(arguments.csv, cumulative=arguments.cumulative)
        days = model.schema.n_obs[1]
        if len(data["cases"]) < days:
            raise SystemExit(f"{arguments.csv} has {len(data['cases'])} days; {days} are needed.")
        data = {name: values[:days] for name, values in data.items()}
        test = jana.detect_misspecification(approximator, data, random_seed=seed)
        scores["p_value_of_csv"] = float(test.p_values[0])
        result = approximator.sample(data, random_seed=seed)
        jana.save_inference_data(result, arguments.output / "posterior.nc")
    return {"misspecification": scores}


def report(scores: dict[str, Any], plan: Plan) -> None:
    table = Table(
        "parameters",
        "energy distance",
        "simulator's own, 95 %",
        "largest",
        "within",
        title=f"{plan.n_runs} surrogate epidemics against the simulator's, logarithms",
    )
    for i, score in enumerate(scores["surrogates"]):
        table.add_row(
            "the paper's" if i == 0 else f"draw {i}",
            *(f"{score[k]:.3f}" for k in ("energy_distance", "simulator_95", "simulator_largest")),
            "yes" if score["within"] else "no",
        )
    console.print(table)
    console.print(f"within the simulator's range: {scores['n_within']} of 11 (target: 9)")
    for key, title in (("sbc", "SBC"), ("jsbc", "JSBC")):
        outside = [name for name, inside in scores[key].items() if not inside]
        console.print(
            f"{title}, {plan.n_calibration} data sets: {34 - len(outside)} of 34 parameters inside "
            f"the 95 % band" + (f"; outside: {', '.join(outside)}" if outside else "")
        )
    won = [name for name in PAPER_FAILS if scores["jsbc"][name]]
    console.print(f"inside where the paper's JSBC fails: {', '.join(won) or 'none'}")
    test = scores["misspecification"]
    console.print(
        f"misspecification test: {test['level']:.1%} of good epidemics called misspecified "
        f"(target 5 %), {test['power']:.1%} of those with weekend reports on Mondays"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="15 minutes on two cores")
    parser.add_argument("--csv", type=Path, help="daily cases, recoveries and deaths")
    parser.add_argument("--cumulative", action="store_true", help="the CSV file holds totals")
    parser.add_argument("--output", type=Path, default=Path("output/experiment4"))
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="where the networks train")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    plan = QUICK if arguments.quick else FULL
    watch = Stopwatch()
    with watch("simulation and training"):
        approximator = trained(epidemic(whole=True), plan, arguments)
    scores: dict[str, Any] = {"quick": arguments.quick, "training": asdict(plan.training)}
    for title, stage in (
        ("surrogates", surrogates),
        ("calibration", calibrate),
        ("misspecification", misspecification),
    ):
        with watch(title):
            scores |= stage(approximator, plan, arguments)
    history = approximator.history
    scores["loss_posterior"] = min(history.validation_posterior)
    scores["loss_likelihood"] = min(history.validation_likelihood)
    scores["seconds"] = watch.seconds
    text = json.dumps(scores, indent=2, default=float)
    (arguments.output / "scores.json").write_text(text)
    report(scores, plan)


if __name__ == "__main__":
    main()
