"""The command ``jana-pymc``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jana_pymc.simulation import SimulationError
from jana_pymc.storage import StorageError
from jana_pymc.tasks import TASKS
from jana_pymc.tasks.experiment import QUICK, ExperimentProtocol, prepare_task
from jana_pymc.training import TrainingError

SUMMARY = "Train on a benchmark task, check its calibration, and score it against references."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        0; wrong arguments and files end the process with a message and status 2, simulations or
        trainings that fail with 1, an interruption with 130.
    """
    parser, task_parser = _parsers()
    given = parser.parse_args(arguments)
    console = Console()
    try:
        run = _checked(given, console, task_parser)
        scores = run()
    except KeyboardInterrupt:
        task_parser.exit(130, "\ninterrupted; the same command goes on from here\n")
    except (OSError, StorageError) as error:
        task_parser.exit(2, f"{task_parser.prog}: error: {error}\n")
    except (SimulationError, TrainingError) as error:
        task_parser.exit(1, f"{task_parser.prog}: the run failed: {error}\n")
    console.print(summary(scores))
    console.print(f"written to {given.output}", highlight=False, markup=False)
    return 0


def _checked(
    given: argparse.Namespace, console: Console, parser: argparse.ArgumentParser
) -> Callable[[], dict[str, Any]]:
    """Prepare the run; a ValueError that it raises later is not caused by the arguments."""
    protocol = QUICK if given.quick else ExperimentProtocol()
    try:
        if given.n_simulations is not None:
            protocol = replace(protocol, n_simulations=given.n_simulations)
        return prepare_task(
            given.name,
            given.output,
            definition=given.definition,
            reference=given.reference,
            protocol=protocol,
            random_seed=given.random_seed,
            n_jobs=given.jobs,
            device=given.device,
            progressbar=not given.no_progress,
            report=lambda message: console.print(message, highlight=False, markup=False),
        )
    except (ValueError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def summary(scores: dict[str, Any]) -> Table:
    """Table of what a run found."""
    table = Table(title=f"{scores['task']} ({scores['definition']})", show_header=False)
    if "c2st_amortized_mean" in scores:
        table.add_row("C2ST, amortized", _number(scores["c2st_amortized_mean"]))
        table.add_row("C2ST, refined", _number(scores["c2st_refined_mean"]))
    for key in ("sbc", "jsbc"):
        outside = [name for name, found in scores[key].items() if not found["inside"]]
        text = f"outside: {', '.join(outside)}" if outside else f"all {len(scores[key])} inside"
        table.add_row(f"{key.upper()}, 95 % band", text)
    for half, loss in scores["losses"].items():
        if half in ("posterior", "likelihood"):
            table.add_row(f"loss, {half}", f"{_number(loss['loss'])}{_exact(loss)}")
    table.add_row("training", f"{scores['train_seconds']:.0f} s")
    return table


def _number(value: float | None) -> str:
    """Text of a number; those that are not finite are stored as None."""
    return "not finite" if value is None else f"{value:.3f}"


def _exact(loss: dict[str, Any]) -> str:
    if loss["exact"] is None:
        return ""
    error = f" ± {loss['exact_error']:.3f}" if loss["exact_error"] else ""
    return f" (exact {loss['exact']:.3f}{error})"


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="jana-pymc", description="Jointly amortized neural approximation for PyMC."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    task = commands.add_parser("task", help=SUMMARY, description=SUMMARY)
    task.add_argument("name", metavar="NAME", help=f"one of {', '.join(TASKS)}")
    task.add_argument(
        "--n-simulations", type=int, help="simulations to train on (10000; with --quick 1000)"
    )
    task.add_argument("--reference", type=Path, metavar="FILE", help="reference posteriors (.npz)")
    task.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of results")
    task.add_argument("--random-seed", type=int, default=1, metavar="S", help="(1)")
    task.add_argument(
        "--definition",
        help="paper, benchmark, or both: calibration in the paper's, scores in the benchmark's "
        "(benchmark with --reference, else paper)",
    )
    task.add_argument(
        "--quick",
        action="store_true",
        help="small budgets, to see that it runs; the numbers mean nothing",
    )
    task.add_argument("--jobs", type=int, default=2, help="processes for scoring (2)")
    task.add_argument("--device", default="auto", help="where the networks train (auto)")
    task.add_argument("--no-progress", action="store_true", help="no progress bars")
    return parser, task


if __name__ == "__main__":
    raise SystemExit(main())
