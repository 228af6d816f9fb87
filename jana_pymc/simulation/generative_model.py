"""The generative model: prior, simulator and declared data, from which simulations come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray

from jana_pymc.checks import check_choice, check_count, check_switch
from jana_pymc.simulation.block import Job
from jana_pymc.simulation.conditions import sizes
from jana_pymc.simulation.consistency import (
    check_bounds,
    check_proposal,
    check_signature,
    check_unique_names,
)
from jana_pymc.simulation.failures import Failure, FailureReport, SimulationError
from jana_pymc.simulation.observables import Continuous, Observable
from jana_pymc.simulation.prior import PyMCPrior
from jana_pymc.simulation.randomness import RandomSeed, seed_sequence
from jana_pymc.simulation.runner import run_simulations, simulation_progress
from jana_pymc.simulation.schema import DataBatch, DataSchema
from jana_pymc.simulation.simulations import Simulations
from jana_pymc.simulation.store import SimulationStore, default_chunk_size, fill_store
from jana_pymc.warning import warn


class GenerativeModel:
    r"""A prior :math:`p(\theta)` and a simulator of :math:`p(x \mid \theta)`.

    Parameters
    ----------
    prior : pymc.Model or PyMCPrior
        Its free random variables are the parameters. Models that share a `PyMCPrior` compile it
        once; its model must not be changed.
    simulator : callable
        ``simulator(rng, **parameters, **conditions, n_obs)`` returns a dict with one array of
        shape ``(n_obs, *shape)`` for each observable. Parameters come as floats, or as arrays of
        their shape; conditions as arrays ``(n_obs, *shape)``, of int64 for categories and counts.
        For vectors there is neither the argument nor the axis ``n_obs``.
    observables : dict of str to Continuous, Categorical or Count
        Components of one observation.
    structure : str
        ``"exchangeable"``: observations are independent given parameters and conditions.
        ``"markovian"``: a sequence, the first observations of which are a shorter data set.
        ``"vector"``: a data set is one value of each observable, of its declared shape.
    n_obs : int or tuple of int, optional
        Smallest and largest number of observations in a data set; left out for vectors alone.
    order : int, optional
        For a sequence: how many observations back each depends on, given the parameters. 0 for a
        deterministic system that is observed with independent noise, None for all or if unknown.
    conditions : dict of str to Continuous, Categorical or Count, optional
        Covariates known for each observation.
    design : callable or "simulator", optional
        ``design(rng, n_obs)`` returns a dict with one array ``(n_obs, *shape)`` for each
        condition: those of one data set to simulate; ``design(rng)`` for vectors. Conditions that
        come about with the data, as in an adaptive experiment, are returned by the simulator
        beside the observables, and not given to it: ``design="simulator"``.
    proposal : pymc.Model or PyMCPrior, optional
        Another distribution of the same parameters, wider than the prior. The likelihood is
        trained on it, and so holds in hierarchical models and under other priors.
    vectorized : bool
        The simulator makes many data sets in one call: parameters have shape
        ``(n_sets, 1, *shape)``, conditions ``(n_sets, n_obs, *shape)``, and so have the
        observables. For vectors parameters, conditions and observables all have shape
        ``(n_sets, *shape)``.

    Attributes
    ----------
    prior : PyMCPrior
    proposal : PyMCPrior or None
    schema : DataSchema
    layout : ParameterLayout

    Raises
    ------
    TypeError
        If simulator or design cannot be called with these arguments, or `vectorized` is no bool;
        if prior or proposal is no model, or has coords that `PyMCPrior` does not take.
    ValueError
        If names clash, or a parameter has the name of one of the likelihood's own arguments; if a
        bound names no scalar parameter, or the proposal's parameters differ.

    Examples
    --------
    >>> import pymc as pm
    >>> from jana_pymc.simulation import Continuous, GenerativeModel
    >>> with pm.Model() as prior:
    ...     mu = pm.Normal("mu")
    >>> def simulator(rng, mu, n_obs):
    ...     return {"x": rng.normal(mu, 1.0, n_obs)}
    >>> model = GenerativeModel(prior, simulator, observables={"x": Continuous()}, n_obs=(10, 20))
    >>> simulations = model.simulate(100, random_seed=1, progressbar=False)
    >>> dict(simulations.dataset.sizes)
    {'simulation': 100, 'obs': 20}

    A vector:

    >>> def simulator(rng, mu):
    ...     return {"x": rng.normal(mu, 1.0, 3)}
    >>> model = GenerativeModel(
    ...     prior, simulator, observables={"x": Continuous(shape=3)}, structure="vector"
    ... )
    >>> model.simulate(100, random_seed=1, progressbar=False).batch().observables.shape
    (100, 1, 3)
    """

    def __init__(
        self,
        prior: pm.Model | PyMCPrior,
        simulator: Callable[..., Mapping[str, Any]],
        *,
        observables: Mapping[str, Observable],
        structure: str = "exchangeable",
        n_obs: int | tuple[int, int] | None = None,
        order: int | None = None,
        conditions: Mapping[str, Observable] | None = None,
        design: Callable[..., Mapping[str, Any]] | Literal["simulator"] | None = None,
        proposal: pm.Model | PyMCPrior | None = None,
        vectorized: bool = False,
    ):
        self.prior = _read(prior)
        self.proposal = None if proposal is None else _read(proposal)
        if n_obs is None:
            if structure != "vector":
                raise ValueError(
                    f"n_obs is missing: structure={structure!r} needs the number of observations "
                    "in a data set, or the smallest and the largest."
                )
            n_obs = 1
        self.schema = DataSchema(observables, conditions or {}, structure, n_obs, order)  # type: ignore[arg-type]
        self.layout = self.prior.layout
        self.simulator = simulator
        if design is not None and design != "simulator" and not callable(design):
            raise TypeError(
                f"design={design!r}: expected a function design(rng, ...), or 'simulator' for "
                "conditions that the simulator returns."
            )
        # Declared conditions that no design draws are the simulator's own.
        self.design = None if design == "simulator" else design
        self.vectorized = check_switch("vectorized", vectorized)
        check_unique_names(self.layout, self.schema)
        check_bounds(self.layout, self.schema)
        if self.proposal is not None:
            check_proposal(self.layout, self.proposal.layout)
        if (design is None) != (not self.schema.conditions):
            raise ValueError("conditions and design belong together: give both, or neither.")
        told = [*sizes(self.schema)]
        given = [] if self.design is None else list(self.schema.conditions)
        check_signature("simulator", simulator, [*self.layout.names, *given, *told])
        if self.design is not None:
            check_signature("design", self.design, told)

    def __repr__(self) -> str:
        simulator = getattr(self.simulator, "__name__", type(self.simulator).__name__)
        parameters, observables = ", ".join(self.layout.names), ", ".join(self.schema.observables)
        structure = self.schema.structure
        return f"GenerativeModel({parameters} | {observables}; {structure}, simulator {simulator})"

    def simulate(
        self,
        n_simulations: int | None = None,
        *,
        source: Literal["prior", "proposal"] = "prior",
        parameters: ArrayLike | Mapping[str, ArrayLike] | None = None,
        random_seed: RandomSeed = None,
        executor: Executor | None = None,
        progressbar: bool = True,
    ) -> Simulations:
        """Simulate data sets.

        All have as many observations as the largest may have. Each comes with an `n_obs` of its
        own, uniform over the range: since observations are exchangeable, or a sequence, the first
        `n_obs` of them are a data set of that size.

        Parameters
        ----------
        n_simulations : int
            Number of data sets; may be left out when `parameters` are given.
        source : {"prior", "proposal"}
            Where the parameters are drawn from.
        parameters : mapping of str to array, DataFrame, or array (n_simulations, size), optional
            Simulate for these instead; the `source` of the simulations is then ``"given"``.
        random_seed : int, Generator or None
            The same seed gives the same simulations, whatever the executor.
        executor : concurrent.futures.Executor, optional
            Runs the simulator, else it runs here. For processes the simulator must be importable.
        progressbar : bool

        Returns
        -------
        Simulations
            Those that succeeded.

        Raises
        ------
        SimulationError
            If none succeeded; after the first dozens of them, if all raised or had wrong shapes.
        TypeError, ValueError
            If arguments are wrong, the simulator returns other names than were declared, or the
            design raises or returns anything else.

        Warns
        -----
        UserWarning
            If some failed: how many, in which way, and the first of each kind.
        """
        for_parameters, for_sizes, for_simulator = seed_sequence(random_seed).spawn(3)
        if parameters is None:
            theta = self._draw(n_simulations, source, for_parameters)
        else:
            theta = self._given(n_simulations, parameters)
        n_sets = len(theta)
        usable, report = self._usable(theta, check=parameters is None and source == "prior")
        low, high = self.schema.n_obs
        n_obs = np.random.default_rng(for_sizes).integers(low, high + 1, n_sets)
        theta, n_obs = theta[usable], n_obs[usable]
        origin: Literal["prior", "proposal", "given"] = source if parameters is None else "given"
        return self._run(
            theta, n_obs, for_simulator, report, origin, executor=executor, progressbar=progressbar
        )

    def simulate_alike(
        self,
        data: DataBatch,
        n_simulations: int,
        *,
        random_seed: RandomSeed = None,
        progressbar: bool = True,
    ) -> Simulations:
        """Simulate from the prior data sets as large as others, and under their known conditions.

        What these would be like if the model were right: a design tells which conditions to train
        for, and an experiment has its own.

        Parameters
        ----------
        data : DataBatch
            The others, each of which is taken as often, or once more. The simulator is told of the
            largest size nevertheless, for which conditions come again from the first.
        n_simulations : int
        random_seed : int, Generator or None
        progressbar : bool

        Returns
        -------
        Simulations

        Raises
        ------
        SimulationError
            As for `simulate`.
        ValueError
            If conditions come about in the simulator: they are no others' then.

        Warns
        -----
        UserWarning
            As for `simulate`.
        """
        if self.schema.conditions and self.design is None:
            raise ValueError("conditions come about in the simulator; others' cannot be given.")
        for_parameters, for_order, for_simulator = seed_sequence(random_seed).spawn(3)
        theta = self._draw(n_simulations, "prior", for_parameters)
        usable, report = self._usable(theta, check=True)
        order = np.random.default_rng(for_order).permutation(len(data))
        alike = data[np.resize(order, len(theta))[usable]]
        n_obs = np.minimum(alike.n_obs, self.schema.n_obs[1])
        rows = np.arange(self.schema.n_obs[1]) % n_obs[:, None]
        conditions = np.take_along_axis(alike.conditions, rows[..., None], axis=1)
        return self._run(
            theta[usable],
            n_obs,
            for_simulator,
            report,
            "prior",
            conditions=self._arrays(conditions) if self.schema.conditions else None,
            progressbar=progressbar,
        )

    def _arrays(self, conditions: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Conditions by name, as a design draws them: for the simulator."""
        kinds = self.schema.conditions
        return {
            name: values if isinstance(kinds[name], Continuous) else values.astype(np.int64)
            for name, values in self.schema.split_batch(conditions, kinds).items()
        }

    def _run(
        self,
        theta: NDArray[np.float64],
        n_obs: NDArray[np.int64],
        seed: np.random.SeedSequence,
        report: FailureReport,
        source: Literal["prior", "proposal", "given"],
        *,
        conditions: dict[str, NDArray[Any]] | None = None,
        executor: Executor | None = None,
        progressbar: bool,
    ) -> Simulations:
        """Simulate for parameters, and warn of what failed, now and in the report so far."""
        outcome = run_simulations(
            Job(self.simulator, self.design, self.schema, self.vectorized),
            self.layout.unflatten(theta),
            seed,
            conditions=conditions,
            executor=executor,
            progressbar=progressbar,
        )
        report = report + outcome.report
        if report.n_failed:
            warn(
                f"{report} The good ones are kept; if failures depend on the parameters, these no "
                "longer follow the prior."
            )
        return Simulations.from_arrays(
            self.layout.unflatten(theta[outcome.good]),
            outcome.observables,
            outcome.conditions,
            n_obs[outcome.good],
            layout=self.layout,
            schema=self.schema,
            source=source,
            failures=report,
            prior=_digest(self.prior) if source == "prior" else None,
        )

    def simulate_to(
        self,
        path: str | Path,
        n_simulations: int,
        *,
        chunk_size: int | None = None,
        source: Literal["prior", "proposal"] = "prior",
        random_seed: int,
        executor: Executor | None = None,
        progressbar: bool = True,
    ) -> SimulationStore:
        """Simulate to disk, chunk by chunk, as many data sets as the disk holds.

        A run that was cut short goes on with the chunk that it was at, and gives what an
        uninterrupted one would have; with a larger `n_simulations` a store grows. A chunk whose
        folder was deleted is made again. Another prior is noticed, if it has a log density; another
        proposal or simulator is not, unless a chunk is made again and differs.

        Parameters
        ----------
        path : str or Path
            Folder of the store.
        n_simulations : int
            Number of data sets in all; rounded up to whole chunks.
        chunk_size : int, optional
            Data sets in a chunk, the last one too: it is filled up. By default that of the store,
            if it is there; else the data sets asked for are shared equally among the fewest chunks
            of at most 10,000: 100 are one chunk of 100, and 15,000 two of 7,500. A few chunks are
            in memory at a time, and to stream a store takes two.
        source : {"prior", "proposal"}
        random_seed : int
            Chunks depend on it, on their number and on their size; a run that was cut short goes on
            by it.
        executor : concurrent.futures.Executor, optional
        progressbar : bool

        Returns
        -------
        SimulationStore
            For `jana_pymc.fit`.

        Raises
        ------
        ImportError
            Without the extra ``zarr``.
        TypeError, ValueError
            If arguments are wrong, or the folder holds something else, as a store with other
            options.
        SimulationError
            As for `simulate`, of each chunk.

        Warns
        -----
        UserWarning
            As for `simulate`; or if a chunk that is made again differs from what it was.
        """
        random_seed = check_count("random_seed", random_seed, least=0)
        check_count("n_simulations", n_simulations)
        path = Path(path)
        if chunk_size is None:
            chunk_size = default_chunk_size(path, n_simulations)
        check_count("chunk_size", chunk_size)
        options = {
            "source": source,
            "random_seed": random_seed,
            "chunk_size": int(chunk_size),
            "schema": self.schema.to_dict(),
            "layout": self.layout.to_dict(),
            "prior": _digest(self.prior),
        }
        n_chunks = -(-n_simulations // chunk_size)
        with simulation_progress(progressbar) as progress:
            bar = progress.add_task("Simulating chunks", total=n_chunks)

            def simulate(number: int, size: int) -> Simulations:
                progress.update(bar, completed=number)
                key = (random_seed, int(source == "proposal"), number)
                return self.simulate(
                    size,
                    source=source,
                    random_seed=np.random.SeedSequence(key),
                    executor=executor,
                    progressbar=False,
                )

            store = fill_store(
                path, json.loads(json.dumps(options)), [int(chunk_size)] * n_chunks, simulate
            )
            progress.update(bar, completed=n_chunks)
        return store

    def _draw(
        self, n_simulations: int | None, source: str, seed: np.random.SeedSequence
    ) -> NDArray[np.float64]:
        number = check_count("n_simulations", n_simulations)
        check_choice("source", source, ("prior", "proposal"))
        if source == "prior":
            return self.prior.draw(number, seed)
        if self.proposal is None:
            raise ValueError("source='proposal', but the model was given no proposal.")
        draws = self.proposal.draw(number, seed)
        return self.layout.flatten(self.proposal.layout.unflatten(draws))  # the order may differ

    def _given(
        self, n_simulations: int | None, parameters: ArrayLike | Mapping[str, ArrayLike]
    ) -> NDArray[np.float64]:
        theta = self.layout.vectors(parameters)
        if theta.ndim != 2 or theta.shape[1] != self.layout.size or not len(theta):
            raise ValueError(
                f"parameters have shape {theta.shape} when flattened; expected (n_simulations, "
                f"{self.layout.size})."
            )
        if n_simulations not in (None, len(theta)):
            raise ValueError(f"n_simulations={n_simulations}, but {len(theta)} parameters given.")
        return theta

    def _usable(
        self, theta: NDArray[np.float64], *, check: bool
    ) -> tuple[NDArray[np.bool_], FailureReport]:
        """Leave out parameters on the very edge of the prior, which rounding may give.

        They have no finite unconstrained values, which the posterior is trained on.
        """
        usable = np.ones(len(theta), dtype=bool)
        if check:
            usable = np.asarray(np.isfinite(self.prior.unconstrain(theta)).all(axis=1))
        if usable.all():
            return usable, FailureReport(0)
        first = f"draw {int(np.argmin(usable))}, a parameter on the edge of the prior's support"
        kind = Failure.PARAMETERS.words
        report = FailureReport(int((~usable).sum()), {kind: int((~usable).sum())}, {kind: first})
        if not usable.any():
            raise SimulationError(str(report))
        return usable, report


def _read(prior: pm.Model | PyMCPrior) -> PyMCPrior:
    return prior if isinstance(prior, PyMCPrior) else PyMCPrior(prior)


def _digest(prior: PyMCPrior) -> list[str] | None:
    """By what the prior is recognised; None if it has no log density."""
    try:
        return prior.digest()
    except NotImplementedError:
        return None
