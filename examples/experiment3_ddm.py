"""Evidence, prediction and calibration of the diffusion model, against exact answers.

Experiment 3 of the paper: marginal likelihoods (Figure 6, left) and leave-one-out prediction
(right) of amortized networks against exact values, calibration and recovery (Figures 18 and 19).
Networks are trained with the full budget of examples/ddm.py unless a file holds them.

    python examples/experiment3_ddm.py --datasets FILE.npz --exact FILE.npz --output DIR
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import Stopwatch
from ddm import train
from ddm_data import PARAMETERS, Trials, read_datasets, read_exact
from ddm_references import bridge_sampling, nuts_draws
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.plots import plot_ranks_ecdf
from jana_pymc.plots.style import COLOURS, REFERENCE, panels
from jana_pymc.tasks.ddm import ddm

console = Console()


def compare(
    approximator: jana.JointApproximator,
    trials: list[Trials],
    exact: dict[str, np.ndarray],
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Marginal likelihoods and leave-one-out densities, and their errors."""
    seed = arguments.random_seed
    approximator.sample(trials[0], draws=10, random_seed=0)  # compiles the prior's functions
    with watch("marginal likelihoods"):
        evidence = jana.log_marginal_likelihood(approximator, trials, random_seed=seed)
    with watch("leave-one-out, every fold amortized"):
        loo = jana.loo(approximator, trials, random_seed=seed)
    with watch("leave-one-out, one posterior a data set"):
        psis_loo = jana.loo_approximate_posterior(approximator, trials, random_seed=seed)
    with watch("leave-one-out, posterior network alone"):
        plain = jana.loo(approximator, trials, correction="none", draws=100, random_seed=seed)
    rng = np.random.default_rng(seed)
    with watch("bridge sampling, closed form"):
        bridge = np.array(
            [
                bridge_sampling(t, d.astype(float), rng)
                for t, d in zip(trials, exact["posterior_draws"], strict=True)
            ]
        )
    lml, elpd = exact["log_marginal_likelihood"], exact["elpd_loo"]
    estimates = {
        "lml": (evidence.median, lml),
        "lml_midway": (evidence.change_of_variables, lml),
        "lml_is": (evidence.importance, lml),
        "bridge": (bridge, lml),
        "elpd_loo": (loo.elpd, elpd),
        "psis_loo": (psis_loo.elpd, elpd),
        "elpd_loo_uncorrected": (plain.elpd, elpd),
    }
    scores: dict[str, Any] = {}
    for name, (estimate, reference) in estimates.items():
        scores[f"{name}_bias"] = np.mean(estimate - reference)
        scores[f"{name}_rmse"] = np.sqrt(np.mean((estimate - reference) ** 2))
    scores["lml_spread"] = np.median(evidence.spread)
    scores["lml_high_k"] = np.sum(evidence.pareto_k > evidence.threshold)
    scores["elpd_loo_refitted_folds"] = loo.refitted.sum()
    scores["elpd_loo_in_sample_bias"] = np.mean(np.nansum(loo.lpd_i, 1) - elpd)
    return scores, {
        "log marginal likelihood": evidence.median,
        "elpd, leave-one-out": loo.elpd,
    }


def recover(
    approximator: jana.JointApproximator,
    trials: list[Trials],
    theta: np.ndarray,
    exact: dict[str, np.ndarray],
    arguments: argparse.Namespace,
) -> tuple[dict[str, Any], np.ndarray]:
    """Posterior medians against true parameters and against exact medians."""
    batch = approximator.schema.batch(trials)
    drawn = approximator.posterior.sample(batch, 4000, random_seed=arguments.random_seed)
    medians = np.median(drawn, axis=1)
    reference = np.median(exact["posterior_draws"], axis=1)

    def correlations(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
        pairs = zip(PARAMETERS, first.T, second.T, strict=True)
        return {name: np.corrcoef(x, y)[0, 1] for name, x, y in pairs}

    scores = {
        "recovery": correlations(medians, theta),
        "recovery_exact": correlations(reference, theta),
        "recovery_against_exact": correlations(medians, reference),
    }
    return scores, medians


def check_nuts(
    trials: list[Trials],
    medians: np.ndarray,
    exact: dict[str, np.ndarray],
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> dict[str, Any]:
    """NUTS and bridge sampling on the closed form for the first few data sets, as in the paper."""
    rng = np.random.default_rng(arguments.random_seed)
    with watch(f"NUTS and bridge sampling, closed form, {arguments.nuts} data sets"):
        draws = [nuts_draws(t, arguments) for t in trials[: arguments.nuts]]
        bridge = [
            bridge_sampling(t, d, rng) for t, d in zip(trials[: arguments.nuts], draws, strict=True)
        ]
    sd = exact["posterior_sd"][: arguments.nuts]
    distance = np.abs(np.stack([np.median(d, axis=0) for d in draws]) - medians[: len(draws)]) / sd
    return {
        "nuts_bridge_error": (
            np.array(bridge) - exact["log_marginal_likelihood"][: arguments.nuts]
        ).tolist(),
        "nuts_median_distance_in_sd": dict(zip(PARAMETERS, distance.mean(0), strict=True)),
    }


def calibrate(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """Calibration on 1,000 fresh data sets, of the posterior and of the pair (Figure 18)."""
    checks = {}
    for key, joint in (("sbc", False), ("jsbc", True)):
        with watch(key):
            checks[key] = jana.calibration(
                approximator,
                joint=joint,
                random_seed=arguments.random_seed + 20,
                progressbar=not arguments.no_progress,
            )
    titled = {"posterior": checks["sbc"], "joint": checks["jsbc"]}
    plot_ranks_ecdf(titled).savefig(arguments.output / "calibration.png", dpi=150)
    scores: dict[str, Any] = {}
    for key, check in checks.items():
        scores[key] = {name: bool(inside) for name, inside in check.inside().items()}
        scores[f"{key}_familywise"] = all(check.inside(familywise=True).values())
        scores[f"{key}_p_values"] = check.p_values
    return scores


def plot_against_exact(estimates: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> Figure:
    """Figure 6: amortized against exact values, and their differences below."""
    figure, axes = panels(4, None, columns=2, size=(3.8, 3.0))
    references = (exact["log_marginal_likelihood"], exact["elpd_loo"])
    for i, ((title, estimate), reference) in enumerate(
        zip(estimates.items(), references, strict=True)
    ):
        r = np.corrcoef(estimate, reference)[0, 1]
        rmse = np.sqrt(np.mean((estimate - reference) ** 2))
        axes[i].plot(reference, estimate, ".", color=COLOURS[i])
        axes[i].axline((reference.mean(),) * 2, slope=1, color=REFERENCE, linewidth=0.8)
        axes[i].set_title(title, fontsize=10)
        axes[i].text(0.04, 0.9, f"r = {r:.4f}", transform=axes[i].transAxes, fontsize=8)
        axes[i].set_ylabel("amortized", fontsize=9)
        axes[i + 2].plot(reference, estimate - reference, ".", color=COLOURS[i])
        axes[i + 2].axhline(0, color=REFERENCE, linewidth=0.8)
        axes[i + 2].set_title(f"RMSE {rmse:.3f}", fontsize=9)
        axes[i + 2].set_xlabel("exact", fontsize=9)
        axes[i + 2].set_ylabel("amortized − exact", fontsize=9)
    return figure


def plot_medians(medians: np.ndarray, theta: np.ndarray, exact: dict[str, np.ndarray]) -> Figure:
    """Figure 19: amortized medians against the truth, and against exact medians."""
    figure, axes = panels(8, None, size=(2.6, 2.6))
    reference = np.median(exact["posterior_draws"], axis=1)
    for row, (label, x) in enumerate((("true", theta), ("exact posterior median", reference))):
        for i, name in enumerate(PARAMETERS):
            ax = axes[4 * row + i]
            ax.plot(x[:, i], medians[:, i], ".", color=COLOURS[row])
            ax.axline((x[:, i].mean(),) * 2, slope=1, color=REFERENCE, linewidth=0.8)
            r = np.corrcoef(x[:, i], medians[:, i])[0, 1]
            ax.set_title(f"{name}: r = {r:.3f}", fontsize=9)
            ax.set_xlabel(label, fontsize=8)
    axes[0].set_ylabel("amortized median", fontsize=8)
    axes[4].set_ylabel("amortized median", fontsize=8)
    return figure


def write(scores: dict[str, Any], arguments: argparse.Namespace) -> None:
    text = json.dumps(scores, indent=2, default=lambda value: value.item())
    (arguments.output / "scores.json").write_text(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--datasets", type=Path, required=True, help="arrays theta, signed_rt and n_trials (.npz)"
    )
    parser.add_argument(
        "--exact", type=Path, required=True, help="exact answers for some of them (.npz)"
    )
    parser.add_argument(
        "--approximator", type=Path, help="trained networks: read if the file exists, else written"
    )
    parser.add_argument("--limit", type=int, help="use only the first so many exact answers")
    parser.add_argument("--nuts", type=int, default=4, help="data sets for NUTS on the closed form")
    parser.add_argument("--output", type=Path, default=Path("output/experiment3"))
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="where the networks train")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    arguments = parser.parse_args()
    arguments.budget = "full"
    return arguments


def main() -> None:
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    exact = read_exact(arguments.exact, arguments.limit)
    trials, theta = read_datasets(arguments.datasets, exact["dataset"])
    approximator = train(ddm(n_obs=(80, 120)), arguments, watch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        scores, estimates = compare(approximator, trials, exact, arguments, watch)
    for each in caught:
        console.print(f"[yellow]{each.message}[/yellow]")
    recovery, medians = recover(approximator, trials, theta, exact, arguments)
    scores |= recovery
    scores |= calibrate(approximator, arguments, watch)
    scores["n_datasets"] = len(trials)
    scores["seconds"] = watch.seconds
    write(scores, arguments)
    if arguments.nuts:
        scores |= check_nuts(trials, medians, exact, arguments, watch)
        write(scores, arguments)
    plot_against_exact(estimates, exact).savefig(
        arguments.output / "evidence_and_prediction.png", dpi=150
    )
    plot_medians(medians, theta, exact).savefig(arguments.output / "recovery.png", dpi=150)

    table = Table("quantity", "bias", "RMSE", title=f"{len(trials)} data sets, nats")
    for name in [key.removesuffix("_rmse") for key in scores if key.endswith("_rmse")]:
        table.add_row(name, f"{scores[f'{name}_bias']:.3f}", f"{scores[f'{name}_rmse']:.3f}")
    console.print(table)
    table = Table("parameter", "recovery r", "exact", "SBC inside", "JSBC inside")
    for name in PARAMETERS:
        row = [f"{scores[key][name]:.3f}" for key in ("recovery", "recovery_exact")]
        row += [str(scores[key][name]) for key in ("sbc", "jsbc")]
        table.add_row(name, *row)
    console.print(table)
    table = Table("stage", "seconds", title=f"results in {arguments.output}")
    for stage, seconds in watch.seconds.items():
        table.add_row(stage, f"{seconds:.3g}")
    console.print(table)


if __name__ == "__main__":
    main()
