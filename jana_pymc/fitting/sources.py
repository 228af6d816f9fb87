"""Where the simulations come from that networks learn: memory, disk, or the simulator itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from jana_pymc.joint_network import Batch
from jana_pymc.simulation import GenerativeModel, SimulationError, Simulations, SimulationStore
from jana_pymc.training import ChunkRounds, SimulationRounds, TrainingSettings, to_batch

AnySimulations: TypeAlias = Simulations | SimulationStore

MINIMUM_SIMULATIONS = 20


def simulations_in_memory(
    model: GenerativeModel,
    simulations: Simulations | Sequence[Simulations] | None,
    n_simulations: int,
    executor: Executor | None,
    seed: int,
    progressbar: bool,
) -> list[Simulations]:
    """Simulations from the prior, and from the proposal if there is one.

    Parameters
    ----------
    model : GenerativeModel
    simulations : Simulations or sequence of Simulations, optional
        Made now if there are none.
    n_simulations : int
        To make of each source.
    executor : concurrent.futures.Executor, optional
    seed : int
    progressbar : bool

    Returns
    -------
    list of Simulations
        Those from the prior first.

    Raises
    ------
    TypeError
        If `simulations` are something else.
    ValueError
        If they are too few or of another model, if none are from the prior, or two of one source.
    """
    if simulations is None:
        sets = [
            model.simulate(
                n_simulations,
                source=source,
                random_seed=np.random.default_rng((seed, i)),
                executor=executor,
                progressbar=progressbar,
            )
            for i, source in enumerate(_sources(model))
        ]
    else:
        sets = _listed(simulations)
        _check_sources(sets, "join them with Simulations.concat")
        sets.sort(key=lambda s: s.source != "prior")
    if not sets or sets[0].source != "prior":
        raise ValueError("simulations: the posterior needs some that were drawn from the prior.")
    for s in sets:
        _check_model(s, model, "simulations belong")
        if len(s) < MINIMUM_SIMULATIONS:
            raise ValueError(
                f"{len(s)} simulations from the {s.source} are too few to train on; expected at "
                f"least {MINIMUM_SIMULATIONS}."
            )
    return sets


def stores_and_first_chunks(
    model: GenerativeModel, simulations: Any
) -> tuple[list[SimulationStore], Any]:
    """Stores to be streamed, and what stands for them in memory: their first chunks.

    Parameters
    ----------
    model : GenerativeModel
    simulations : Simulations or SimulationStore, or a sequence of either, or None

    Returns
    -------
    stores : list of SimulationStore
        Those from the prior first; empty if there are none, or all are small enough for memory.
    in_memory : list of Simulations, or None
        What was given, if these were no stores.

    Raises
    ------
    TypeError
        If `simulations` are something else, or of both kinds.
    ValueError
        If a store is empty or of another model, or two are of one source; if one has a single
        chunk, but not the other.
    """
    if simulations is None:
        return [], None
    given = _listed(simulations)
    stores = [each for each in given if isinstance(each, SimulationStore)]
    if not stores:
        return [], given
    if len(stores) < len(given):
        raise TypeError("simulations: give either stores or what is in memory, not both.")
    _check_sources(stores, "let GenerativeModel.simulate_to make one store of them all")
    stores.sort(key=lambda store: store.source != "prior")
    for store in stores:
        _check_model(store, model, f"{store!r} belongs")
        if not store.chunks:
            raise ValueError(f"{store!r} is empty.")
    if all(len(store.chunks) == 1 for store in stores):
        return [], [store.load(0) for store in stores]
    if any(len(store.chunks) == 1 for store in stores):
        raise ValueError(
            "one of the stores has a single chunk, which is held out for validation: none is left "
            "to train on. Make it again with a smaller chunk_size."
        )
    return stores, [store.load(0) for store in stores]


def _listed(simulations: Any) -> list[Any]:
    """One or several sets of simulations, as a list."""
    kinds = (Simulations, SimulationStore)
    several = isinstance(simulations, Sequence) and not isinstance(simulations, str)
    sets = list(simulations) if several else [simulations]
    for each in sets:
        if not isinstance(each, kinds):
            raise TypeError(
                f"simulations {'hold' if several else 'is'} {type(each).__name__}; expected what "
                "model.simulate, Simulations.load or SimulationStore returns, or a sequence of "
                "these."
            )
    return sets


def _check_model(simulated: AnySimulations, model: GenerativeModel, belong: str) -> None:
    """Refuse what another model made: networks find columns by their place."""
    if simulated.schema != model.schema or simulated.layout.names != model.layout.names:
        raise ValueError(
            f"{belong} to another model: schema or parameters differ, or the order in which they "
            "were declared."
        )
    of_prior = simulated.prior if simulated.source == "prior" else None
    if of_prior is not None and of_prior != model.prior.digest():
        raise ValueError(
            f"{belong} to another model: the prior has another density; simulate from the model's "
            "own."
        )


def _check_sources(sets: Sequence[AnySimulations], advice: str) -> None:
    """Refuse two sets from one source, and more than two sets."""
    for source, count in Counter(each.source for each in sets).items():
        if count > 1:
            raise ValueError(
                f"simulations: {count} sets from the {source}; expected one of each source: "
                f"{advice}."
            )
    if len(sets) > 2:
        raise ValueError(
            f"simulations: {len(sets)} sets, from {', '.join(s.source for s in sets)}; expected "
            "one from the prior, and one from the proposal or another source."
        )


def streamed(
    model: GenerativeModel,
    stores: Sequence[SimulationStore],
    training: TrainingSettings,
    device: torch.device,
    seed: int,
) -> SimulationRounds:
    """Rounds of a few chunks on disk, in shuffled order (`ChunkRounds`).

    Parameters
    ----------
    model : GenerativeModel
    stores : sequence of SimulationStore
        From the prior, and from the proposal if there is one.
    training : TrainingSettings
    device : torch.device
    seed : int

    Returns
    -------
    SimulationRounds
    """
    rounds = [ChunkRounds(store, seed + i) for i, store in enumerate(stores)]

    def load(number: int) -> list[Batch]:
        return [to_batch(each.load(number), model.prior, device) for each in rounds]

    return _in_rounds(load, model, training, rounds[0].n_simulations, seed)


def fingerprint(sets: Sequence[Simulations], n_streamed: int) -> str:
    """Hash of all parameters in memory, of the first data sets, and of how many are on disk.

    Parameters
    ----------
    sets : sequence of Simulations
    n_streamed : int
        Simulations on disk.

    Returns
    -------
    str
    """
    digest = hashlib.sha256(str(n_streamed).encode() if n_streamed else b"")
    for each in sets:
        digest.update(np.ascontiguousarray(each.parameters).tobytes())
        first = each.batch()
        digest.update(np.ascontiguousarray(first.observables[:1_000]).tobytes())
    return digest.hexdigest()


def as_pair(batches: Sequence[Batch]) -> tuple[Batch, Batch | None]:
    """The batch from the prior, and that from the proposal if there is one.

    Parameters
    ----------
    batches : sequence of Batch
        One or two, that from the prior first.

    Returns
    -------
    tuple of Batch and (Batch or None)
    """
    prior, proposal = (*batches, None)[:2]
    assert prior is not None  # narrows the type
    return prior, proposal


def _sources(model: GenerativeModel) -> tuple[Literal["prior", "proposal"], ...]:
    """Distributions from which the model's parameters are drawn."""
    return ("prior",) if model.proposal is None else ("prior", "proposal")


def simulated_online(
    model: GenerativeModel,
    n_simulations: int,
    training: TrainingSettings,
    device: torch.device,
    seed: int,
    executor: Executor | None,
) -> SimulationRounds:
    """Rounds that are simulated in the background, each seen about once.

    Parameters
    ----------
    model : GenerativeModel
    n_simulations : int
        Of a round, of each source.
    training : TrainingSettings
    device : torch.device
    seed : int
    executor : concurrent.futures.Executor, optional

    Returns
    -------
    SimulationRounds
    """

    def simulate(number: int) -> list[Batch]:
        batches = []
        for i, source in enumerate(_sources(model)):
            rng = np.random.default_rng((seed, 10 + i, number))
            try:
                made = model.simulate(
                    n_simulations,
                    source=source,
                    random_seed=rng,
                    executor=executor,
                    progressbar=False,
                )
            except SimulationError as error:
                error.add_note(
                    f"This was round {number} of online training; with checkpoint= it can go on "
                    "from its last validation."
                )
                raise
            batches.append(to_batch(made, model.prior, device))
        return batches

    return _in_rounds(simulate, model, training, n_simulations, seed)


def _in_rounds(
    get: Callable[[int], Sequence[Batch]],
    model: GenerativeModel,
    training: TrainingSettings,
    n_simulations: int,
    seed: int,
) -> SimulationRounds:
    """Rounds of so many simulations each, from the prior and from the proposal if there is one."""
    return SimulationRounds(
        lambda number: as_pair(get(number)),
        batch_size=min(training.batch_size, n_simulations),
        steps_per_round=max(1, n_simulations // training.batch_size),
        n_obs=model.schema.n_obs,
        seed=seed,
        ordered=model.schema.structure != "exchangeable",
    )
