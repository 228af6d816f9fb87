"""The drift diffusion model from simulator to model comparison.

Simulates, trains posterior and likelihood jointly, analyses one data set by the amortized
posterior, by NUTS on the neural likelihood and by NUTS on the closed form, compares the three in
ArviZ, and checks the calibration of the posterior and of the pair.

    python examples/ddm.py                          # five minutes on two cores
    python examples/ddm.py --budget full            # longer training, about half an hour
    python examples/ddm.py --datasets FILE.npz      # score the networks on other data sets
    python examples/ddm.py --csv FILE.csv --rt rt --response response --group participant
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import arviz as az
import numpy as np
import pymc as pm
from common import Stopwatch
from ddm_data import PARAMETERS, Trials, read_trials
from ddm_real_data import analyse_groups
from ddm_scores import read_references, score
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.inference_data import ArviZData
from jana_pymc.plots import (
    plot_history,
    plot_posterior_pairs,
    plot_posterior_predictive,
    plot_ranks_ecdf,
    plot_recovery,
)
from jana_pymc.tasks.ddm import ddm, prior, simulator
from jana_pymc.tasks.wiener import wiener_logp

BUDGETS = {
    "demo": {"n_simulations": 50_000, "n_steps": 6_000},
    "full": {"n_simulations": 300_000, "n_steps": 40_000},
}
TRUTH = {"v": 1.2, "a": 1.5, "t0": 0.35, "w": 0.45}
N_TRIALS = 100
console = Console()


def train(
    model: jana.GenerativeModel, arguments: argparse.Namespace, watch: Stopwatch
) -> jana.JointApproximator:
    """Train on simulations, or load what an earlier run has trained."""
    if arguments.approximator is not None and arguments.approximator.exists():
        return jana.load(arguments.approximator, model, device=arguments.device)
    path = arguments.approximator or arguments.output / "ddm.safetensors"
    # A folder that cannot be made is found out before the training.
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.output / "checkpoint.safetensors"
    budget = BUDGETS[arguments.budget]
    show = not arguments.no_progress
    with watch("simulation"):
        simulations = [
            model.simulate(
                budget["n_simulations"],
                source=source,
                random_seed=arguments.random_seed + i,
                progressbar=show,
            )
            for i, source in enumerate(("prior", "proposal"))
        ]
    with watch("joint training"):
        approximator = jana.fit(
            model,
            simulations=simulations,
            training=jana.TrainingSettings(n_steps=budget["n_steps"], patience=None),
            device=arguments.device,
            random_seed=arguments.random_seed,
            checkpoint=checkpoint,
            progressbar=show,
        )
    approximator.save(path)
    checkpoint.unlink()
    plot_history(approximator.history).savefig(arguments.output / "training.png", dpi=150)
    return approximator


def sample_nuts(
    data: Trials, arguments: argparse.Namespace, likelihood: jana.LikelihoodApproximator | None
) -> ArviZData:
    """NUTS with the neural likelihood or, without one, with the closed form."""
    with prior() as model:
        theta = {name: model[name] for name in PARAMETERS}
        if likelihood is not None:
            likelihood("y", **theta, observed=data)
        else:
            pm.CustomDist(
                "y",
                *theta.values(),
                logp=lambda rt, v, a, t0, w: wiener_logp(rt, data["response"], v, a, t0, w),
                observed=data["rt"],
            )
        return pm.sample(
            initvals=jana.initvals(random_seed=arguments.random_seed),
            random_seed=arguments.random_seed,
            chains=4,
            cores=2,
            nuts_sampler="pymc",
            progressbar=not arguments.no_progress,
            idata_kwargs={"log_likelihood": True},
        )


def analyse(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> None:
    """One data set with known truth: amortized, neural NUTS and closed-form NUTS side by side."""
    rng = np.random.default_rng(arguments.random_seed + 10)
    data = simulator(rng, **TRUTH, n_obs=N_TRIALS)
    approximator.sample(data, draws=10, random_seed=0)  # compiles the prior's transforms
    with watch("amortized posterior, 4,000 draws"):
        approximator.sample(data, groups=("posterior",), random_seed=1)
    results = {"amortized": approximator.sample(data, random_seed=1)}
    with watch("NUTS, neural likelihood"):
        results["NUTS, neural"] = sample_nuts(data, arguments, approximator.likelihood)
    with watch("NUTS, closed form"):
        results["NUTS, closed form"] = sample_nuts(data, arguments, None)

    for name, result in results.items():
        file = name.lower().replace(", ", "_").replace(" ", "_")
        jana.save_inference_data(result, arguments.output / f"{file}.nc")
    figure = plot_posterior_pairs(results, var_names=PARAMETERS, true=TRUTH)
    figure.savefig(arguments.output / "posteriors.png", dpi=150)
    drawn = results["amortized"]["posterior_predictive"]
    figure = plot_posterior_predictive(data, drawn, value="rt", by="response")
    figure.savefig(arguments.output / "posterior_predictive.png", dpi=150)

    table = Table("parameter", "truth", *results, title=f"posterior mean ± sd, {N_TRIALS} trials")
    for name in PARAMETERS:
        draws = [np.asarray(r["posterior"][name]) for r in results.values()]
        table.add_row(
            name, f"{TRUTH[name]:.3f}", *(f"{d.mean():.3f} ± {d.std():.3f}" for d in draws)
        )
    console.print(table)
    console.print(
        "[bold]az.compare[/bold], the same model three times: equal up to the networks' error"
    )
    console.print(az.compare(results).to_string())


def calibrate(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> None:
    """Calibration of the posterior against the simulator, and of the pair against itself."""
    checks = {}
    for title, joint in (("SBC: posterior", False), ("JSBC: joint", True)):
        with watch(title):
            checks[title] = jana.calibration(
                approximator,
                joint=joint,
                random_seed=arguments.random_seed + 20,
                progressbar=not arguments.no_progress,
            )
    plot_ranks_ecdf(checks).savefig(arguments.output / "calibration.png", dpi=150)
    plot_recovery(checks["SBC: posterior"]).savefig(arguments.output / "recovery.png", dpi=150)
    table = Table("parameter", *checks, "recovery r", title="inside the 95 % simultaneous band")
    recovery = checks["SBC: posterior"].summary()["r"]
    for name in PARAMETERS:
        verdicts = ("yes" if c.inside()[name] else "no" for c in checks.values())
        table.add_row(name, *verdicts, f"{recovery[name]:.3f}")
    console.print(table)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--budget", choices=sorted(BUDGETS), default="demo")
    parser.add_argument(
        "--output", type=Path, default=Path("output/ddm"), help="folder for results"
    )
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="where the networks train")
    parser.add_argument(
        "--approximator", type=Path, help="trained networks: read if the file exists, else written"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    scores = parser.add_argument_group("scoring on given data sets")
    scores.add_argument("--datasets", type=Path, help="arrays theta, signed_rt and n_trials (.npz)")
    scores.add_argument("--exact", type=Path, help="exact posteriors of some of them (.npz)")
    scores.add_argument(
        "--limit", type=int, default=50, help="how many exact posteriors to compare"
    )
    scores.add_argument(
        "--samplers",
        nargs="*",
        choices=("NUTS", "slice", "nutpie"),
        default=["NUTS"],
        help="with which the neural likelihood is compared",
    )
    real = parser.add_argument_group("real data")
    real.add_argument("--csv", type=Path, help="one trial a row")
    real.add_argument("--rt", default="rt", help="column of reaction times in seconds")
    real.add_argument(
        "--response", default="response", help="column of responses: 1 upper, else lower"
    )
    real.add_argument("--group", help="column of participants")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch()
    if arguments.csv is not None:
        trials = read_trials(arguments.csv, arguments.rt, arguments.response, arguments.group)
        sizes = [len(t["rt"]) for t in trials.values()]
        approximator = train(ddm(n_obs=(min(sizes), max(sizes))), arguments, watch)
        analyse_groups(approximator, trials, arguments, watch, console)
    else:
        references = None if arguments.datasets is None else read_references(arguments)
        approximator = train(ddm(n_obs=(80, 120)), arguments, watch)
        if references is not None:
            scores = score(approximator, references, arguments, watch)
            scores["seconds"] = watch.seconds
            (arguments.output / "scores.json").write_text(json.dumps(scores, indent=2))
            console.print_json(data=scores)
        else:
            analyse(approximator, arguments, watch)
            calibrate(approximator, arguments, watch)
    table = Table("stage", "seconds", title=f"results in {arguments.output}")
    for stage, seconds in watch.seconds.items():
        table.add_row(stage, f"{seconds:.3g}")
    console.print(table)


if __name__ == "__main__":
    main()
