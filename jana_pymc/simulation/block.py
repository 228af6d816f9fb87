"""One block of simulations: call the simulator, check what it returns, keep count of failures."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.simulation.conditions import Arrays, Design, draw_conditions, sizes
from jana_pymc.simulation.failures import Failure
from jana_pymc.simulation.observables import Observable
from jana_pymc.simulation.returned import as_numbers, check_names, compact
from jana_pymc.simulation.schema import DataSchema


@dataclass(frozen=True, eq=False)
class Job:
    """All that a worker needs to simulate, besides parameters and seeds.

    Parameters
    ----------
    simulator, design : callable
        As given to the generative model. Declared conditions without a design are returned by the
        simulator.
    schema : DataSchema
    vectorized : bool
    """

    simulator: Callable[..., Mapping[str, Any]]
    design: Design | None
    schema: DataSchema
    vectorized: bool

    @property
    def n_obs(self) -> int:
        """Observations in each simulated data set: as many as the largest has."""
        return self.schema.n_obs[1]

    @property
    def is_vector(self) -> bool:
        """Whether data sets have no axis of observations."""
        return self.schema.structure == "vector"

    @property
    def sizes(self) -> dict[str, int]:
        """Arguments of simulator and design besides parameters and conditions."""
        return sizes(self.schema)

    @property
    def returned(self) -> dict[str, Observable]:
        """What the simulator returns."""
        conditions = self.schema.conditions if self.design is None else {}
        return {**self.schema.observables, **conditions}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an observable or condition in one data set.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of int
        """
        return self.schema.array_shape(name, self.n_obs)


@dataclass(eq=False)
class BlockResult:
    """Data sets of a block, good and failed.

    Parameters
    ----------
    observables, conditions : dict of str to ndarray, shape (sets, obs, *shape)
        Without the axis ``obs`` for vectors. Values of failed sets have no meaning.
    failure : ndarray of int, shape (sets,)
        0 for a good set, else the code of its :class:`Failure`.
    first : dict of Failure to (int, str)
        For each kind that occurred, the position of the first and its message.
    """

    observables: Arrays
    conditions: Arrays
    failure: NDArray[np.int8]
    first: dict[Failure, tuple[int, str]] = field(default_factory=dict)

    def group(self, name: str) -> str:
        """Where a variable is: "observables" or "conditions".

        Parameters
        ----------
        name : str

        Returns
        -------
        str
        """
        return "observables" if name in self.observables else "conditions"

    def record(self, kind: Failure, rows: NDArray[np.intp], message: str) -> None:
        """Mark sets as failed.

        Parameters
        ----------
        kind : Failure
        rows : ndarray of int
            Their positions.
        message : str
            Of the first of them.
        """
        if rows.size:
            self.failure[rows] = kind
            self.first.setdefault(kind, (int(rows[0]), message))


def run_block(
    job: Job, parameters: Arrays, conditions: Arrays | None, seed: np.random.SeedSequence
) -> BlockResult:
    """Simulate one data set for each row of the parameters.

    Parameters
    ----------
    job : Job
    parameters : dict of str to ndarray, shape (sets, *shape of the parameter)
    conditions : dict of str to ndarray, shape (sets, obs, *shape), or None
        Known conditions, used instead of those that the design would draw.
    seed : SeedSequence
        All randomness of the block.

    Returns
    -------
    BlockResult

    Raises
    ------
    TypeError, ValueError
        If the simulator does not return what was declared by name, or the design does not return
        what was declared at all: that is no failure of a single set.
    """
    # Of a copy: a task that was lost after it began gets the same streams again.
    design_seed, simulator_seed, retry_seed = copy.copy(seed).spawn(3)
    n_sets = len(next(iter(parameters.values())))
    result = BlockResult(
        observables={n: np.full((n_sets, *job.shape(n)), np.nan) for n in job.schema.observables},
        conditions=conditions or _conditions(job, n_sets, np.random.default_rng(design_seed)),
        failure=np.zeros(n_sets, dtype=np.int8),
    )
    finite = np.ones(n_sets, dtype=bool)
    for values in parameters.values():
        finite &= np.isfinite(values.reshape(n_sets, -1)).all(axis=1)
    result.record(Failure.PARAMETERS, np.nonzero(~finite)[0], "parameters are NaN or infinite")
    _simulate(job, result, parameters, np.nonzero(finite)[0], simulator_seed, retry_seed)
    _check_values(job, result, parameters)
    for kinds, group in (
        (job.schema.observables, result.observables),
        (job.schema.conditions, result.conditions),
    ):
        for name, kind in kinds.items():
            group[name] = compact(kind, group[name])
    return result


def _simulate(
    job: Job,
    result: BlockResult,
    parameters: Arrays,
    rows: NDArray[np.intp],
    seed: np.random.SeedSequence,
    retry_seed: np.random.SeedSequence,
) -> None:
    rng = np.random.default_rng(seed)
    if not job.vectorized:
        for row in rows:
            _simulate_rows(job, result, parameters, row, rng)
    elif rows.size and not _simulate_rows(job, result, parameters, rows, rng, record=False):
        # Which of them made it raise? Each gets its own generator, as the block's is used up.
        for row, child in zip(rows, retry_seed.spawn(rows.size), strict=True):
            _simulate_rows(job, result, parameters, row[None], np.random.default_rng(child))


def _simulate_rows(
    job: Job,
    result: BlockResult,
    parameters: Arrays,
    rows: Any,
    rng: np.random.Generator,
    *,
    record: bool = True,
) -> bool:
    """Call the simulator once, for one row or an array of them; tell whether it returned."""
    # Copies, because the simulator may change its arguments in place.
    arguments = {name: values[rows].copy() for name, values in parameters.items()}
    if job.vectorized and not job.is_vector:
        arguments = {name: values[:, None] for name, values in arguments.items()}
    if job.design is not None:
        arguments |= {name: values[rows].copy() for name, values in result.conditions.items()}
    try:
        output = job.simulator(rng, **arguments, **job.sizes)
    except (Exception, SystemExit) as error:  # a library's way out must not end the whole run
        if record:
            result.record(Failure.EXCEPTION, np.atleast_1d(rows), _describe(error))
        return False
    check_names("the simulator", output, job.returned)
    for name in job.returned:
        shape = (len(rows), *job.shape(name)) if job.vectorized else job.shape(name)
        array, problem = as_numbers(output[name], shape)
        group = result.group(name)
        if array is None:
            message = f"{group}[{name!r}] {problem}"
            result.record(Failure.SHAPE, np.atleast_1d(rows), message)
            break
        getattr(result, group)[name][rows] = array
    return True


def _check_values(job: Job, result: BlockResult, parameters: Arrays) -> None:
    for name, kind in job.returned.items():
        group = result.group(name)
        values = getattr(result, group)[name]
        within = (-1, *(1,) * (values.ndim - 1))
        bounds = {bound: parameters[bound].reshape(within) for bound in kind.bound_parameters}
        outside = f"outside the declared support ({kind.support})"
        for failure, wrong, problem in (
            (Failure.NOT_FINITE, ~np.isfinite(values), "not finite"),
            (Failure.OUTSIDE, kind.outside(values, bounds), outside),
        ):
            some = wrong.reshape(len(wrong), -1).any(axis=1)
            rows = np.nonzero(some & (result.failure == 0))[0]
            if rows.size:
                bad = values[rows[0]][wrong[rows[0]]]
                count = f"{bad.size} {'value' if bad.size == 1 else 'values'}"
                message = f"{group}[{name!r}] has {count} {problem}, as {bad[0]:g}"
                result.record(failure, rows, message)


def _conditions(job: Job, n_sets: int, rng: np.random.Generator) -> Arrays:
    """Those that the design draws; room for them if the simulator returns them."""
    if job.design is not None:
        return draw_conditions(job.design, job.schema, n_sets, rng)
    declared = job.schema.conditions
    return {name: np.full((n_sets, *job.shape(name)), np.nan) for name in declared}


def _describe(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"line {place.lineno} of {Path(place.filename).name}"
    return f"{type(error).__name__}: {error} ({where})"
