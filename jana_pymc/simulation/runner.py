"""Many simulations, cut into blocks that any executor may work on in any order."""

from __future__ import annotations

import math
import pickle
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jana_pymc.simulation.block import Arrays, BlockResult, Job, run_block
from jana_pymc.simulation.failures import Failure, FailureReport, SimulationError
from jana_pymc.warning import warn

# Each block has its own seed, so that its size must depend on the model alone: the trials that a
# vectorised simulator makes at once, or the data sets of a simulator that is called set by set.
_TRIALS_IN_BLOCK = 49_152
_SETS_IN_BLOCK = 16
# A worker gets one task at a time; there are enough of them for the progress bar to move.
_TASKS = 100

RETRIES = 2
"""How often a task that a worker lost is run again."""

MISTAKES = (TypeError, ValueError, SimulationError)
"""Errors that would be raised again: the simulator does not fit its declaration."""

Block: TypeAlias = tuple[Arrays, Arrays | None, np.random.SeedSequence]
Results: TypeAlias = Generator[tuple[int, BlockResult], None, None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of all simulations.

    Parameters
    ----------
    observables, conditions : dict of str to ndarray, shape (good sets, obs, *shape)
    good : ndarray of bool, shape (sets,)
    report : FailureReport
    """

    observables: Arrays
    conditions: Arrays
    good: NDArray[np.bool_]
    report: FailureReport


def block_size(job: Job) -> int:
    """Data sets in a block.

    Parameters
    ----------
    job : Job

    Returns
    -------
    int
    """
    if not job.vectorized:
        return _SETS_IN_BLOCK
    largest = max(math.prod(kind.shape) for kind in job.schema.observables.values())
    return max(1, _TRIALS_IN_BLOCK // (job.n_obs * largest))


def run_simulations(
    job: Job,
    parameters: Arrays,
    seed: np.random.SeedSequence,
    *,
    conditions: Arrays | None,
    executor: Executor | None,
    progressbar: bool,
) -> Outcome:
    """Simulate a data set for each row of the parameters.

    Parameters
    ----------
    job : Job
    parameters : dict of str to ndarray, shape (sets, *shape of the parameter)
    seed : SeedSequence
        The outcome depends on it, but not on the executor.
    conditions : dict of str to ndarray, shape (sets, obs, *shape), or None
        Known conditions, used instead of those that the design would draw.
    executor : Executor or None
        None simulates here.
    progressbar : bool

    Returns
    -------
    Outcome

    Raises
    ------
    SimulationError
        If all simulations failed, or all of the first task in a way that only a mistake in the
        simulator explains.
    """
    tasks = _tasks(job, parameters, conditions, seed)
    n_sets = len(next(iter(parameters.values())))
    results: dict[int, BlockResult] = {}
    with (
        simulation_progress(progressbar) as progress,
        closing(_run_tasks(job, tasks, executor)) as done,
    ):
        bar = progress.add_task("Simulating", total=n_sets)
        for number, result in done:
            results[number] = result
            progress.advance(bar, len(result.failure))
    return _gather([results[number] for number in range(len(tasks))])


def simulation_progress(progressbar: bool) -> Progress:
    """Progress bar of simulations.

    Parameters
    ----------
    progressbar : bool
        Whether it is shown.

    Returns
    -------
    Progress
    """
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        disable=not progressbar,
    )


def _tasks(
    job: Job, parameters: Arrays, conditions: Arrays | None, seed: np.random.SeedSequence
) -> list[list[Block]]:
    n_sets, size = len(next(iter(parameters.values()))), block_size(job)

    def part(arrays: Arrays, start: int) -> Arrays:
        return {name: values[start : start + size] for name, values in arrays.items()}

    starts = range(0, n_sets, size)
    blocks = [
        (part(parameters, start), None if conditions is None else part(conditions, start), child)
        for start, child in zip(starts, seed.spawn(len(starts)), strict=True)
    ]
    step = -(-len(blocks) // _TASKS)
    return [blocks[start : start + step] for start in range(0, len(blocks), step)]


def _run_task(job: Job, blocks: Sequence[Block]) -> BlockResult:
    return _concatenate([run_block(job, *block) for block in blocks])


def _run_tasks(job: Job, tasks: Sequence[Sequence[Block]], executor: Executor | None) -> Results:
    """Run the first task alone, to find mistakes early, and then the others."""
    if executor is None:
        results = ((number, _run_task(job, task)) for number, task in enumerate(tasks))
    else:
        results = _submit(job, tasks, executor)
    for number, result in results:
        if number == 0 and np.isin(result.failure, (Failure.EXCEPTION, Failure.SHAPE)).all():
            report = _report(result)
            raise SimulationError(f"gave up after the first of these simulations: {report}")
        yield number, result


def _submit(job: Job, tasks: Sequence[Sequence[Block]], executor: Executor) -> Results:
    """Run tasks in an executor; one that a worker loses is run again, with the same seed."""
    _check_executor(job, executor)
    futures: dict[Future[BlockResult], int] = {}
    lost: dict[int, int] = {}

    def finished(future: Future[BlockResult], number: int) -> BlockResult | None:
        try:
            return future.result()
        except (BrokenProcessPool, *MISTAKES):
            raise
        except Exception as error:
            lost[number] = lost.get(number, 0) + 1
            if lost[number] > RETRIES:
                error.add_note(f"A task of the simulation was lost {lost[number]} times.")
                raise
            futures[executor.submit(_run_task, job, tasks[number])] = number
            return None

    try:
        for first in range(min(1, len(tasks))), range(1, len(tasks)):
            futures |= {executor.submit(_run_task, job, tasks[number]): number for number in first}
            while futures:
                future = next(as_completed(futures))
                number = futures.pop(future)
                result = finished(future, number)
                if result is not None:
                    yield number, result
    except BrokenProcessPool as error:
        error.add_note(
            "A worker process died. If this is a script, start it below "
            "`if __name__ == '__main__':`; else the simulator may have crashed or taken all memory."
        )
        raise
    finally:
        for future in futures:
            future.cancel()
    if lost:
        warn(
            f"{sum(lost.values())} times a worker lost a task of the simulation, which was run "
            "again; nothing is missing.",
            RuntimeWarning,
        )


def _check_executor(job: Job, executor: Executor) -> None:
    if not isinstance(executor, Executor):
        raise TypeError(
            f"executor must be a concurrent.futures.Executor, got {executor!r}; for a "
            "dask.distributed.Client, pass client.get_executor()."
        )
    if not isinstance(executor, ProcessPoolExecutor):
        return
    for name in ("simulator", "design"):
        try:
            pickle.dumps(getattr(job, name))
        except Exception as error:
            raise TypeError(
                f"{name} cannot be sent to other processes ({error}); define it at the top level "
                "of a module, or use a ThreadPoolExecutor."
            ) from error


def _concatenate(results: Sequence[BlockResult]) -> BlockResult:
    first: dict[Failure, tuple[int, str]] = {}
    offset = 0
    for result in results:
        for kind, (row, message) in result.first.items():
            first.setdefault(kind, (offset + row, message))
        offset += len(result.failure)
    return BlockResult(
        observables=_join([result.observables for result in results]),
        conditions=_join([result.conditions for result in results]),
        failure=np.concatenate([result.failure for result in results]),
        first=first,
    )


def _join(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _gather(results: Sequence[BlockResult]) -> Outcome:
    total = _concatenate(results)
    report, good = _report(total), total.failure == 0
    if not good.any():
        raise SimulationError(str(report))
    if good.all():
        return Outcome(total.observables, total.conditions, good, report)
    return Outcome(
        {name: values[good] for name, values in total.observables.items()},
        {name: values[good] for name, values in total.conditions.items()},
        good,
        report,
    )


def _report(result: BlockResult) -> FailureReport:
    kinds = [kind for kind in Failure if kind in result.first]
    return FailureReport(
        n_simulations=len(result.failure),
        counts={kind.words: int((result.failure == kind).sum()) for kind in kinds},
        first={
            kind.words: f"simulation {row}, {message}"
            for kind in kinds
            for row, message in [result.first[kind]]
        },
    )
