"""Experiment 4 of the paper: an epidemic with 34 parameters and 81 days of reports.

Trains posterior and likelihood on the simulator of Radev et al. (2021) for the first wave of
Covid-19 in Germany, and asks whether the likelihood simulates like the simulator (Figures 2 and
22), whether both networks are calibrated, alone (SBC) and together (JSBC), which surrogates the
posterior finds implausible, and whether data from another process are told apart.

    python examples/experiment4_epidemic.py --output look --quick        # a look, on two cores
    python examples/experiment4_epidemic.py --output epidemic            # full size, for a GPU
    python examples/experiment4_epidemic.py --output minutes --batch-size 512 --workers 4 \
        --simulations-per-round 64000 --n-steps 11015                    # five minutes of an H200
    python examples/experiment4_epidemic.py --output paper --posterior towers \
        --likelihood recurrent                                           # the paper's networks
    python examples/experiment4_epidemic.py --output repeated --original-conditioning
    python examples/experiment4_epidemic.py --output reports --csv FILE.csv \
        --approximator epidemic/epidemic.safetensors                     # networks of before

The likelihood is one of whole reports given parameters alone: nothing is standardised by the data
that are to be predicted. With ``--original-conditioning`` it is, as in the paper: series are
standardised by their own mean and standard deviation, which the networks are given, and surrogates
are drawn with those of simulated epidemics. That repeats the paper's figures; it is no p(x | θ).
The paper's networks (Appendix D.4) take far longer to train than the default ones. Trained networks
stay in the folder, beside a record of the options that they were trained with. The next run uses
them: it takes these options where it is given none, and refuses others. A run that was cut short
goes on.
"""

from __future__ import annotations

import argparse
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import Stopwatch
from epidemic_networks import LIKELIHOODS, POSTERIORS, network
from epidemic_options import DEFAULTS, networks_of, resolve, settings_of, write_record
from epidemic_scores import (
    EnergyDistance,
    energy_distance,
    exact_log_likelihood,
    neural_log_likelihood,
    plot_bands,
    reported,
)
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.plots import plot_history
from jana_pymc.tasks.epidemic import (
    OBSERVABLES,
    PARAMETERS,
    TEASER,
    epidemic,
    load_reports,
    standardized_reports,
)
from jana_pymc.tasks.run_folder import write_json

DAYS = 81
FAILED_IN_PAPER = ("phi_I", "phi_R", "phi_D", "sigma_I", "sigma_R", "sigma_D", "L_D")
"""Parameters whose joint ranks leave the band in the paper's figure."""

console = Console()


def sizes(arguments: argparse.Namespace) -> dict[str, int]:
    """Runs for each parameter vector, data sets and draws of calibration, held-out data sets."""
    if arguments.tiny:
        return {"runs": 40, "thetas": 1, "sets": 60, "draws": 20, "held_out": 50, "null": 200}
    if arguments.quick:
        return {"runs": 500, "thetas": 10, "sets": 300, "draws": 100, "held_out": 500, "null": 1000}
    return {"runs": 1000, "thetas": 10, "sets": 1000, "draws": 100, "held_out": 2000, "null": 2000}


def read(path: Path, model: jana.GenerativeModel, device: str) -> jana.JointApproximator:
    """Networks of an earlier run, which must be of data like the model's."""
    console.print(f"networks are read from {path}")
    try:
        approximator = jana.load(path, model, device=device)
    except (ValueError, OSError) as error:
        raise SystemExit(f"{path}: {error}") from error
    if approximator.schema != model.schema:
        raise SystemExit(
            f"{path} holds networks of other data than these options make: "
            f"{approximator.schema}, not {model.schema}. Was --original-conditioning forgotten, or "
            "not meant?"
        )
    return approximator


def train(
    model: jana.GenerativeModel, arguments: argparse.Namespace, watch: Stopwatch
) -> jana.JointApproximator:
    """Train, or load what an earlier run has trained."""
    path = networks_of(arguments)
    if path.exists():
        return read(path, model, arguments.device)
    # A folder that cannot be made is found out before the training.
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.output / "checkpoint.safetensors"
    try:
        with watch("training"), _workers(arguments.workers) as executor:
            approximator = jana.fit(
                model,
                n_simulations=arguments.simulations_per_round,
                online=True,
                network=network(arguments.posterior, arguments.likelihood, quick=arguments.quick),
                training=settings_of(arguments),
                executor=executor,
                device=arguments.device,
                random_seed=arguments.random_seed,
                checkpoint=checkpoint,
                progressbar=not arguments.no_progress,
            )
    except jana.StorageError as error:  # a checkpoint of other options
        raise SystemExit(str(error)) from error
    # The record is written first: networks without one count as saved by hand.
    write_record(arguments)
    approximator.save(path)
    checkpoint.unlink()
    plot_history(approximator.history).savefig(arguments.output / "training.png", dpi=150)
    return approximator


def _workers(n: int) -> AbstractContextManager[Executor | None]:
    """Processes that simulate; none simulates here, beside the training."""
    return ProcessPoolExecutor(n, get_context("spawn")) if n else nullcontext()


def hold_out(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """Log-likelihood of new epidemics, against the closed form that this simulator has."""
    simulations = approximator.model.simulate(
        sizes(arguments)["held_out"], random_seed=arguments.random_seed + 100, progressbar=False
    )
    with watch("log-likelihoods of held-out epidemics"):
        neural = neural_log_likelihood(approximator, simulations)
    if arguments.original_conditioning:
        # Standardised series, given their mean and standard deviation, have no closed form.
        return {"log_likelihood_per_day": neural.mean()}
    exact = exact_log_likelihood(simulations, original=arguments.original)
    difference = (exact - neural).mean(axis=1)
    return {
        "log_likelihood_per_day": neural.mean(),
        "exact_log_likelihood_per_day": exact.mean(),
        "kl_per_day": difference.mean(),
        "kl_per_day_median": np.median(difference),
        "kl_per_day_se": difference.std() / np.sqrt(len(difference)),
    }


def compare_runs(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """Surrogate against simulator, for the paper's parameters and others, and the critic."""
    n, n_thetas = sizes(arguments)["runs"], sizes(arguments)["thetas"]
    rng = np.random.default_rng(arguments.random_seed + 200)
    thetas = np.vstack(
        [[TEASER[name] for name in PARAMETERS], approximator.prior.draw(n_thetas, rng)]
    )
    bands, critics = {}, []
    distances: dict[str, list[EnergyDistance]] = {
        name: [] for name in ("energy", "energy_log", "energy_of_plausible")
    }
    with watch(f"surrogate against simulator, {len(thetas)} parameter vectors"):
        for i, theta in enumerate(thetas):
            simulated = approximator.model.simulate(
                parameters=np.repeat(theta[None], 2 * n, axis=0), random_seed=rng, progressbar=False
            )
            critic = jana.criticize(
                approximator,
                theta,
                simulations=simulated[np.arange(n)],
                random_seed=rng,
                progressbar=False,
            )
            theirs, ours, kept = map(reported, (simulated, critic.surrogate, critic.plausible))
            distances["energy"].append(energy_distance(ours, theirs, rng))
            distances["energy_log"].append(energy_distance(ours, theirs, rng, logarithms=True))
            distances["energy_of_plausible"].append(
                energy_distance(kept, theirs[: 2 * len(kept)], rng)
            )
            critics.append(critic)
            bands["the paper's" if i == 0 else f"prior draw {i}"] = (theirs[:n], ours)
    first = next(iter(bands))
    plot_bands({first: bands[first]}).savefig(arguments.output / "figure2.png", dpi=150)
    plot_bands(bands).savefig(arguments.output / "figure22.png", dpi=100)
    critics[0].plot().savefig(arguments.output / "critic.png", dpi=150)
    return {
        "runs": n,
        "parameters": [dict(zip(PARAMETERS, theta.tolist(), strict=True)) for theta in thetas],
        **{name: [_entry(each) for each in found] for name, found in distances.items()},
        **{f"{name}_inside": sum(e.inside for e in found) for name, found in distances.items()},
        "implausible_share": [float((c.p_values <= 0.01).mean()) for c in critics],
    }


def _entry(each: EnergyDistance) -> dict[str, Any]:
    return {
        "distance": each.distance,
        "simulated_median": np.median(each.simulated),
        "simulated_largest": each.simulated.max(),
        "ratio": each.ratio,
        "inside": each.inside,
    }


def calibrate(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """SBC and JSBC with a simultaneous band for each parameter, and which network is at fault."""
    with watch("calibration"):
        verdict = jana.verdict(
            approximator,
            n_simulations=sizes(arguments)["sets"],
            draws=sizes(arguments)["draws"],
            random_seed=arguments.random_seed + 300,
            progressbar=not arguments.no_progress,
        )
    verdict.plot().savefig(arguments.output / "calibration.png", dpi=150)
    summary = verdict.sbc.summary()
    return {
        "calibration_sets": len(verdict.sbc),
        "calibration_draws": verdict.sbc.draws,
        "sbc_inside": {name: bool(v) for name, v in verdict.sbc.inside().items()},
        "jsbc_inside": {name: bool(v) for name, v in verdict.jsbc.inside().items()},
        "sbc_p_values": verdict.sbc.p_values,
        "jsbc_p_values": verdict.jsbc.p_values,
        "contraction": summary["contraction"].to_dict(),
        "recovery_r": summary["r"].to_dict(),
        "verdict": str(verdict),
    }


def tell_apart(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """Share of outliers among the simulator's epidemics, and among some that it cannot make.

    Offices that report the deaths of a week together on its last day leave everything else as it
    is.
    """
    rng = np.random.default_rng(arguments.random_seed + 400)
    n = sizes(arguments)["held_out"] // 2
    right = approximator.model.simulate(n, random_seed=rng, progressbar=False)
    null = approximator.model.simulate(sizes(arguments)["null"], random_seed=rng, progressbar=False)
    reports = dict(zip(OBSERVABLES, np.moveaxis(reported(right), -1, 0), strict=True))
    deaths = np.zeros_like(reports["deaths"])
    for end in range(6, DAYS, 7):
        deaths[:, end] = reports["deaths"][:, end - 6 : end + 1].sum(axis=1)
    shares = {}
    form = standardized_reports if arguments.original_conditioning else dict
    for name, data in (
        ("the simulator's", form(reports)),
        ("deaths once a week", form({**reports, "deaths": deaths})),
    ):
        sets = [{key: value[i] for key, value in data.items()} for i in range(n)]
        with watch(f"misspecification, {name}"):
            result = jana.detect_misspecification(
                approximator,
                sets,
                simulations=null,
                random_seed=rng,
                progressbar=not arguments.no_progress,
            )
        shares[name] = {
            "outliers": float(result.outliers.mean()),
            "mmd_p_value": float(result.mmd_p_value),
        }
    result.plot().savefig(arguments.output / "misspecification.png", dpi=150)
    return {"misspecification": shares, "misspecification_sets": n}


def read_reports(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Reports from a file, of as many days as the networks take, each of shape (days,)."""
    reports = load_reports(
        arguments.csv,
        columns=dict(zip(OBSERVABLES, arguments.columns, strict=True)),
        date=arguments.date,
        start=arguments.start,
        end=arguments.end,
        cumulative=arguments.cumulative,
        negative="zero",
    )
    length = len(reports["cases"])
    if length != DAYS:
        raise SystemExit(
            f"{arguments.csv} has {length} days; the networks take epidemics of {DAYS}. Choose as "
            "many with --start and --end."
        )
    return reports


def analyse(
    approximator: jana.JointApproximator,
    reports: dict[str, np.ndarray],
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Posterior, prediction and misspecification of reports from a file."""
    data = {name: np.rint(values) for name, values in reports.items()}
    if arguments.original_conditioning:
        data = standardized_reports(reports)
    rng = np.random.default_rng(arguments.random_seed + 500)
    with watch("posterior of the reports"):
        batch = approximator.schema.batch(data)
        drawn = approximator.posterior.sample(batch, 1000, random_seed=rng)[0]
    misfit = jana.detect_misspecification(
        approximator, data, n_simulations=sizes(arguments)["null"], random_seed=rng,
        progressbar=False,
    )  # fmt: skip
    conditions = batch.conditions[0] if arguments.original_conditioning else None
    surrogate = approximator.simulate(drawn, conditions=conditions, random_seed=rng)
    predicted = reported(surrogate)
    observed = np.stack([reports[name] for name in OBSERVABLES], -1)[None].repeat(2, axis=0)
    plot_bands({"reports and predictions": (observed, predicted)}).savefig(
        arguments.output / "reports.png", dpi=150
    )
    low, median, high = np.quantile(drawn, (0.025, 0.5, 0.975), axis=0)
    table = Table("parameter", "2.5 %", "median", "97.5 %", title=str(arguments.csv))
    for name, *values in zip(PARAMETERS, low, median, high, strict=True):
        table.add_row(name, *(f"{value:.3g}" for value in values))
    console.print(table)
    return {
        "reports": {
            "median": dict(zip(PARAMETERS, median.tolist(), strict=True)),
            "misspecification_p_value": float(misfit.p_values[0]),
        }
    }


def report(scores: dict[str, Any], arguments: argparse.Namespace, watch: Stopwatch) -> None:
    """What was found beside what was aimed at, and what can be said for a run of this size."""
    sbc, jsbc = scores["sbc_inside"], scores["jsbc_inside"]
    n, n_thetas = scores["calibration_sets"], len(scores["energy"])
    table = Table("quantity", "found", "target", title=f"results in {arguments.output}")
    if arguments.original_conditioning:
        table.add_row("log-likelihood a day", f"{scores['log_likelihood_per_day']:.3f}", "")
    else:
        both = scores["log_likelihood_per_day"], scores["exact_log_likelihood_per_day"]
        table.add_row("log-likelihood a day, network | exact", "{:.3f} | {:.3f}".format(*both), "=")
        table.add_row("Kullback-Leibler divergence a day", f"{scores['kl_per_day']:.3f}", "0")
    table.add_row(
        f"energy distance inside ({scores['runs']} runs)",
        f"{scores['energy_inside']} of {n_thetas}",
        "9 of 11",
    )
    table.add_row("  of logarithms", f"{scores['energy_log_inside']} of {n_thetas}", "9 of 11")
    table.add_row(
        "  without the 1 % that the posterior finds worst",
        f"{scores['energy_of_plausible_inside']} of {n_thetas}",
        "",
    )
    table.add_row(f"SBC inside ({n} sets)", f"{sum(sbc.values())} of {len(sbc)}", "34 of 34")
    table.add_row(f"JSBC inside ({n} sets)", f"{sum(jsbc.values())} of {len(jsbc)}", "34 of 34")
    table.add_row(
        "  of those that fail in the paper",
        f"{sum(jsbc[name] for name in FAILED_IN_PAPER)} of {len(FAILED_IN_PAPER)}",
        "all",
    )
    for name, each in scores["misspecification"].items():
        target = "0.05" if name == "the simulator's" else "high"
        table.add_row(f"outliers, {name}", f"{each['outliers']:.3f}", target)
    console.print(table)
    outside = [name for name in PARAMETERS if not (sbc[name] and jsbc[name])]
    console.print("outside a 95 % band:", ", ".join(outside) or "none", highlight=False)
    console.print("verdict:", scores["verdict"], highlight=False)
    ratios = ", ".join(f"{each['ratio']:.1f}" for each in scores["energy"])
    console.print(f"energy distance over the median among simulations: {ratios}", highlight=False)
    if arguments.quick:
        console.print(
            f"Calibration on {n} data sets sees coarse faults only, and 2 of 34 parameters leave a "
            "95 % band by chance.",
            highlight=False,
        )
    if arguments.look_around:
        console.print(
            "This is a look around: small networks and a few minutes of training. Where noise is a "
            "percent of the reports, surrogates of such a likelihood are wider than the "
            "simulator's. The paper's networks train for 100,000 steps on a GPU.",
            highlight=False,
        )
    for stage, seconds in watch.seconds.items():
        console.print(f"{stage}: {seconds:.0f} s", highlight=False)


def positive(text: str) -> int:
    """A number of at least one, as an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    # The networks' record, if there is one, completes what is left out.
    option = {"default": argparse.SUPPRESS}
    parser.add_argument("--output", type=Path, default=Path("output/experiment4"))
    parser.add_argument(
        "--quick", **option, action="store_true", help="small networks, fewer data sets"
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--random-seed", **option, type=int, help=f"by default {DEFAULTS['random_seed']}"
    )
    parser.add_argument(
        "--posterior",
        **option,
        choices=list(POSTERIORS),
        help="its network: by default flat, or towers with --original-conditioning",
    )
    parser.add_argument(
        "--likelihood",
        **option,
        choices=list(LIKELIHOODS),
        help="its network: by default independent, or recurrent with --original-conditioning",
    )
    parser.add_argument(
        "--original-conditioning",
        **option,
        action="store_true",
        help="series standardised by their own mean and sd, which the networks are given",
    )
    parser.add_argument("--n-steps", **option, type=positive, help="steps of training")
    parser.add_argument("--batch-size", **option, type=positive, help="epidemics a step")
    parser.add_argument(
        "--simulations-per-round",
        **option,
        type=positive,
        help=f"by default {DEFAULTS['simulations_per_round']}",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate")
    parser.add_argument(
        "--original", **option, action="store_true", help="the authors' program's errors too"
    )
    parser.add_argument("--approximator", type=Path, help="trained networks, read or written")
    parser.add_argument("--device", default="auto", help="where the networks train")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    parser.add_argument("--csv", type=Path, help=f"daily reports of {DAYS} days to analyse")
    parser.add_argument("--columns", nargs=3, default=list(OBSERVABLES), help="their names there")
    parser.add_argument("--date", default="date", help="column of dates")
    parser.add_argument("--start", help="first day to take")
    parser.add_argument("--end", help="last day to take")
    parser.add_argument("--cumulative", action="store_true", help="the file has running totals")
    arguments = parser.parse_args(argv)
    if arguments.tiny:
        arguments.quick = True
    resolve(arguments)
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    conditioned = arguments.original_conditioning
    model = epidemic(
        DAYS, original=arguments.original, whole=not conditioned, standardized=conditioned
    )
    reports = None if arguments.csv is None else read_reports(arguments)
    approximator = train(model, arguments, watch)
    scores: dict[str, Any] = {}
    if reports is not None:
        scores |= analyse(approximator, reports, arguments, watch)
    for stage in (hold_out, compare_runs, calibrate, tell_apart):
        scores |= stage(approximator, arguments, watch)
        scores["seconds"] = watch.seconds
        write_json(arguments.output / "scores.json", scores)
    report(scores, arguments, watch)


if __name__ == "__main__":
    main()
