"""The ten benchmark tasks: scores against reference posteriors, beside all published methods.

Experiment 1 of the paper (Figures 7 to 16), and the benchmark of Lueckmann et al. (2021). Each task
trains once in the benchmark's definition, to which the reference posteriors belong, and once in the
paper's, for calibration and losses; where they are the same model, once in all. What is finished is
kept: run it again after an interruption. Each random seed has a folder of its own in the output,
and so has a quick look.

    python examples/experiment1_benchmarks.py --reference-dir DIR --output DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published_scores
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from jana_pymc.tasks import TASKS
from jana_pymc.tasks.experiment import BOTH, QUICK, ExperimentProtocol, prepare_task
from jana_pymc.tasks.run_folder import write_json

PUBLISHED, GRID = "#6B7280", "#E5E7EB"
OURS = {"amortized": "#0072B2", "refined": "#D55E00"}
# The tables are wide; without a terminal, rich would cut them to 80 columns.
WIDTH = 150
console = Console() if Console().is_terminal else Console(width=WIDTH)


def folder_of(arguments: argparse.Namespace) -> Path:
    """Folder of the runs with these options: other options have other networks."""
    quick = "_quick" if arguments.quick else ""
    return arguments.output / f"seed{arguments.random_seed}{quick}"


def prepare(arguments: argparse.Namespace, name: str) -> Callable[[], dict[str, Any]]:
    """The run of one task; an error in its options is reported before any task is trained."""
    try:
        return prepare_task(
            name,
            folder_of(arguments) / name,
            definition=BOTH,
            reference=arguments.reference_dir / f"{name}.npz",
            protocol=QUICK if arguments.quick else ExperimentProtocol(),
            random_seed=arguments.random_seed,
            n_jobs=arguments.jobs,
            progressbar=not arguments.no_progress,
            report=console.print,
        )
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{name}: {error}") from error


def run(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Scores of each task."""
    prepared = {name: prepare(arguments, name) for name in arguments.tasks}
    results = {}
    for name, scores in prepared.items():
        console.rule(name)
        results[name] = scores()
        console.print(score_table(results))
    return results


def score_table(results: dict[str, dict[str, Any]]) -> Table:
    """C2ST beside published ones; ours is green where it is at or below the best of them all."""
    table = Table(title="mean C2ST (published: means over observations 1 to 10)")
    for column in ("task", "amortized", "refined", *published_scores.METHODS, "train s"):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for name, scores in results.items():
        amortized = published_scores.best(name, published_scores.AMORTIZED)
        of_all = published_scores.best(name)
        ours = [scores[f"c2st_{kind}_mean"] for kind in ("amortized", "refined")]
        table.add_row(
            name,
            *(_coloured(score, of_all, amortized) for score in ours),
            *(f"{score:.3f}" for score in published_scores.C2ST[name]),
            f"{scores['train_seconds']:.0f}",
        )
    return table


def plot_scores(results: dict[str, dict[str, Any]]) -> Figure:
    """C2ST of each task, a row each: ours in colour among the published ones in grey."""
    figure = Figure(figsize=(8.0, 1.4 + 0.38 * len(results)), layout="constrained")
    ax = figure.add_subplot()
    rows = range(len(results))
    amortizes = [method in published_scores.AMORTIZED for method in published_scores.METHODS]
    for kind, face, label in (
        (True, PUBLISHED, "published, amortized"),
        (False, "none", "published, one observation at a time"),
    ):
        points = [
            (score, row)
            for row, name in zip(rows, results, strict=True)
            for score, amortized in zip(published_scores.C2ST[name], amortizes, strict=True)
            if amortized == kind
        ]
        ax.scatter(
            *zip(*points, strict=True), s=26, facecolor=face, edgecolor=PUBLISHED, label=label
        )
    for kind, marker in (("amortized", "D"), ("refined", "o")):
        ours = [scores[f"c2st_{kind}_mean"] for scores in results.values()]
        ax.scatter(
            ours, rows, s=44, marker=marker, color=OURS[kind], zorder=3, label=f"ours, {kind}"
        )
    ax.axvline(0.5, color=PUBLISHED, linewidth=0.8)
    ax.set(xlim=(0.48, 1.01), xlabel="C2ST (0.5: cannot be told from the reference posterior)")
    ax.set_yticks(list(rows), list(results))
    ax.invert_yaxis()
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def calibration_table(results: dict[str, dict[str, Any]]) -> Table:
    """Verdicts of SBC and JSBC, and losses beside exact and published ones."""
    table = Table(title="calibration and losses (posterior, likelihood; nats a data set)")
    for column in ("task", "SBC", "JSBC", "losses", "above exact", "paper's units", "published"):
        table.add_column(column)
    for name, scores in results.items():
        halves = [scores["losses"][half] for half in ("posterior", "likelihood")]
        table.add_row(
            name,
            *(_verdict(scores[key]) for key in ("sbc", "jsbc")),
            "  ".join(_number(half["loss"], "not finite") for half in halves),
            "  ".join(_excess(half) for half in halves),
            "  ".join(_number(half["paper"], "–") for half in halves),
            "  ".join(f"{loss:.3f}" for loss in published_scores.LOSSES[name]),
        )
    return table


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3f}"


def _coloured(score: float, of_all: float, amortized: float) -> str:
    # Published means have three digits.
    colour = "green" if score <= of_all + 5e-4 else "yellow" if score < amortized else "red"
    return f"[{colour}]{score:.3f}[/{colour}]"


def _excess(loss: dict[str, Any]) -> str:
    """How far a loss is above the exact one: standard error and half the bracket together."""
    if loss["excess"] is None:
        return "–"
    return f"{loss['excess']:.3f} ± {loss['excess_standard_error'] + loss['exact_error']:.3f}"


def _verdict(components: dict[str, dict[str, Any]]) -> str:
    outside = [name for name, found in components.items() if not found["inside"]]
    return f"[red]outside: {', '.join(outside)}[/red]" if outside else "[green]inside[/green]"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--reference-dir",
        type=Path,
        required=True,
        help="folder with a file NAME.npz for each task: observation, reference_posterior, ...",
    )
    parser.add_argument("--output", type=Path, default=Path("output/experiment1"))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="small budgets, to see that it runs")
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes for scoring")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    absent = [
        name for name in arguments.tasks if not (arguments.reference_dir / f"{name}.npz").is_file()
    ]
    if absent:
        raise SystemExit(f"{arguments.reference_dir} lacks {', '.join(f'{n}.npz' for n in absent)}")
    results = run(arguments)
    console.print(score_table(results))
    console.print(calibration_table(results))
    path = folder_of(arguments) / "scores.json"
    write_json(path, results)
    figure_path = path.with_name("c2st.png")
    plot_scores(results).savefig(figure_path, dpi=150)
    console.print(f"written to {path} and {figure_path}")


if __name__ == "__main__":
    main()
