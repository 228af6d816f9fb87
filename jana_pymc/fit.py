"""Simulate, build, train: from a generative model to an approximator."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from jana_pymc.approximators import JointApproximator
from jana_pymc.architecture import (
    FEW_PARAMETERS,
    NetworkSettings,
    build_network,
    default_settings,
)
from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.likelihoods import MarkovianSettings, VectorSettings
from jana_pymc.refinement import learn_pool_weight
from jana_pymc.screening import informative_components
from jana_pymc.simulation import Continuous, GenerativeModel, Simulations, SimulationStore
from jana_pymc.training import (
    BatchSource,
    ChunkRounds,
    SimulationRounds,
    StoredSimulations,
    TrainingSettings,
    rehearse,
    resolve_device,
    to_batch,
    train,
)

AnySimulations: TypeAlias = Simulations | SimulationStore

MINIMUM_SIMULATIONS = 20

SMALL_DATA, LARGE_DATA = 4, 32
"""In numbers: so few are soon learned; more take the likelihood network long to make."""

MANY_COMPONENTS = 32
"""Vectors of so many components are searched for such as do not depend on the parameters."""


def fit(
    model: GenerativeModel,
    *,
    n_simulations: int = 10_000,
    simulations: AnySimulations | Sequence[AnySimulations] | None = None,
    online: bool = False,
    network: NetworkSettings | None = None,
    training: TrainingSettings | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> JointApproximator:
    """Train posterior and likelihood jointly (Eq. 9 of the paper).

    Parameters
    ----------
    model : GenerativeModel
    n_simulations : int
        Data sets to simulate from the prior, and as many from the proposal if the model has one.
        Online, that many are made anew for each round.
    simulations : Simulations or SimulationStore, or a sequence of either, optional
        Train on these instead: from the prior, and from the proposal if there is one. Stores are
        streamed from disk in shuffled chunks; their first chunk is for validation and scales.
    online : bool
        Keep simulating while training: each round of simulations is seen about once.
    network : NetworkSettings, optional
        By default what structure and dimensions of the data imply (`default_settings`).
    training : TrainingSettings, optional
        By default what the networks need (`default_training`).
    executor : concurrent.futures.Executor, optional
        Runs the simulator; the result does not depend on it.
    device : str
        "auto" takes a CUDA device where there is one.
    checkpoint : str or Path, optional
        File for the state of the training, written as it goes on. If it exists, training resumes
        and ends as an uninterrupted run would have; that takes the same `random_seed`. A rehearsal
        has a file of its own beside it.
    random_seed : int, optional
        The same seed on the same machine gives the same approximator.
    progressbar : bool

    Returns
    -------
    JointApproximator

    Raises
    ------
    ValueError
        If there are too few simulations, or they belong to another model.
    SimulationError
        If every simulation failed.
    TrainingError
        If the loss is no longer finite.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI.
    """
    for argument, value, kind in (
        ("model", model, GenerativeModel),
        ("network", network, NetworkSettings),
        ("training", training, TrainingSettings),
    ):
        if not isinstance(value, kind) and not (value is None and argument != "model"):
            raise TypeError(f"{argument} is {type(value).__name__}; expected {kind.__name__}.")
    if checkpoint is not None and random_seed is None:
        raise ValueError("checkpoint needs random_seed: a resumed run must repeat its batches.")
    seed = int(np.random.SeedSequence(random_seed).generate_state(1)[0])
    torch_device = resolve_device(device)
    stores, in_memory = _stores(model, simulations)
    sets = _simulations(model, in_memory, n_simulations, executor, seed, progressbar)
    if network is None:
        informative = _informative(sets[0])
        network = default_settings(model.schema, model.prior.n_unconstrained, informative)
    training = training or default_training(
        network, model.prior.n_unconstrained, model.schema.max_size
    )
    positive = [
        isinstance(kind, Continuous) and bool(np.nanmin(sets[0].batch().observables[..., i]) > 0.0)
        for i, kind in enumerate(model.schema.components.values())
    ]
    joint = build_network(model.schema, model.prior, positive, network, seed)
    joint.to(torch_device)
    batches = [to_batch(s, model.prior, torch_device) for s in sets]
    _check_unconstrained(batches[0])
    if not online and training.n_steps * training.batch_size < len(batches[0]):
        warnings.warn(
            f"n_steps={training.n_steps} of {training.batch_size} data sets are less than one pass "
            f"over {len(batches[0])} simulations: the networks will be half-trained.",
            UserWarning,
            stacklevel=2,
        )
    n_validation = max(1, round(training.validation_fraction * len(batches[0])))
    validation = [b.rows(slice(0, n_validation)) for b in batches]
    stored = [b.rows(slice(n_validation, None)) for b in batches]
    standardize(joint, stored)
    region = trained_region(sets)
    source: BatchSource = StoredSimulations(
        stored[0],
        stored[1] if len(stored) > 1 else None,
        batch_size=training.batch_size,
        n_obs=model.schema.n_obs,
        seed=seed,
        ordered=model.schema.structure != "exchangeable",
    )
    if online:
        source = _online(model, n_simulations, training, torch_device, seed, executor)
    elif stores:
        source = _streamed(model, stores, training, torch_device, seed)
        edges = np.stack([store.region for store in stores])
        region = np.stack([edges[:, 0].min(0), edges[:, 1].max(0)])
    held_out = validation[0], validation[1] if len(validation) > 1 else None
    path = None if checkpoint is None else Path(checkpoint)
    data = "" if checkpoint is None else _fingerprint(sets, sum(map(len, stores)))
    try:
        history = train(
            joint,
            source,
            held_out,
            training,
            seed=seed,
            checkpoint=path,
            data=data,
            progressbar=progressbar,
        )
    finally:
        if isinstance(source, SimulationRounds):
            source.close()
    if training.rehearsal_steps:
        history = rehearse(
            joint,
            stored[0],
            held_out,
            training,
            history,
            prior=None if sets[0].failures.counts else model.prior,
            n_obs=model.schema.n_obs,
            ordered=model.schema.structure != "exchangeable",
            seed=seed,
            checkpoint=None
            if path is None
            else path.with_name(f"{path.stem}-rehearsal{path.suffix}"),
            data=data,
            progressbar=progressbar,
        )
    approximator = JointApproximator(
        joint,
        settings=network,
        prior=model.prior,
        schema=model.schema,
        region=region,
        positive=positive,
        history=history,
        model=model,
    )
    approximator.pool_weight = learn_pool_weight(
        approximator, sets[0][:n_validation], random_seed=np.random.default_rng((seed, 30))
    )
    return approximator


def _informative(simulations: Simulations) -> tuple[int, ...] | None:
    """Components of long vectors that depend on the parameters; None for all."""
    kinds = list(simulations.schema.components.values())
    plain = all(isinstance(k, Continuous) and k.lower is k.upper is None for k in kinds)
    if simulations.schema.structure != "vector" or len(kinds) < MANY_COMPONENTS or not plain:
        return None
    first = slice(0, 20_000)
    observables = simulations.batch().observables[first, 0]
    if (observables > 0).all(0).any():  # such components enter twice, as their logarithms too
        return None
    found = informative_components(simulations.parameters[first], observables)
    return None if len(found) == len(kinds) else tuple(int(i) for i in found)


def default_training(
    network: NetworkSettings, n_parameters: int, data_size: int | None = None
) -> TrainingSettings:
    """Training that suits an architecture.

    Parameters
    ----------
    network : NetworkSettings
    n_parameters : int
        Size of the unconstrained parameters.
    data_size : int, optional
        Numbers in the largest data set.
    """
    if isinstance(network.likelihood, MarkovianSettings):
        return TrainingSettings(
            n_steps=5_000,
            batch_size=64,
            likelihood_learning_rate=5e-3,
            likelihood_obs=None,
            weight_average=0.998,
            n_validations=40,
        )
    if not isinstance(network.likelihood, VectorSettings):
        return TrainingSettings()
    few = n_parameters <= FEW_PARAMETERS
    size = math.inf if data_size is None else data_size
    small = few and size <= SMALL_DATA
    rate = 5e-3 if few else 2e-3
    return TrainingSettings(
        n_steps=5_000 if small or not few else 8_000,
        batch_size=256,
        learning_rate=rate,
        likelihood_learning_rate=rate,
        likelihood_obs=8,
        optimizer="adamw",
        weight_decay=0.0 if few else 0.3,
        linear_steps=600,
        weight_average=0.999,
        n_validations=40,
        patience=12,
        rehearsal_steps=3_000 if not small and size <= LARGE_DATA else 0,
    )


def trained_region(simulations: Sequence[Simulations]) -> np.ndarray:
    """Smallest and largest value of each parameter over all simulations, shape (2, size)."""
    parameters = np.concatenate([s.parameters for s in simulations])
    return np.stack([parameters.min(0), parameters.max(0)])


def standardize(network: JointNetwork, batches: Sequence[Batch]) -> None:
    """Set both networks' input and output scales from simulations."""
    first = batches[0].rows(slice(0, 5_000))
    network.posterior.standardize(
        first.unconstrained, first.observables, first.n_obs, first.conditions
    )
    sequences = getattr(network.likelihood, "is_sequential", False)
    n_rows = 1 if sequences else first.observables.shape[1]
    observables, parameters, conditions = [], [], []
    for batch in batches:
        part = batch.rows(slice(0, 5_000))
        parameters.append(part.parameters.repeat_interleave(n_rows, 0))
        observables.append(part.observables if sequences else part.observables.flatten(0, 1))
        if part.conditions is not None:
            conditions.append(part.conditions if sequences else part.conditions.flatten(0, 1))
    network.likelihood.standardize(
        torch.cat(observables),
        torch.cat(parameters),
        torch.cat(conditions) if conditions else None,
    )


def _simulations(
    model: GenerativeModel,
    simulations: Simulations | Sequence[Simulations] | None,
    n_simulations: int,
    executor: Executor | None,
    seed: int,
    progressbar: bool,
) -> list[Simulations]:
    """Simulations from the prior, and from the proposal if there is one."""
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
        sets = [simulations] if isinstance(simulations, Simulations) else list(simulations)
        if not all(isinstance(each, Simulations) for each in sets):
            raise TypeError(
                f"simulations is {type(simulations).__name__}; expected what model.simulate or "
                "Simulations.load returns, or a sequence of these."
            )
        sets.sort(key=lambda s: s.source != "prior")
    if not sets or sets[0].source != "prior":
        raise ValueError("simulations: the posterior needs some that were drawn from the prior.")
    for s in sets:
        if s.schema != model.schema or s.layout.names != model.layout.names:
            raise ValueError("simulations belong to another model: schema or parameters differ.")
        if len(s) < MINIMUM_SIMULATIONS:
            raise ValueError(
                f"{len(s)} simulations from the {s.source} are too few to train on; expected at "
                f"least {MINIMUM_SIMULATIONS}."
            )
    return sets


def _stores(model: GenerativeModel, simulations: Any) -> tuple[list[SimulationStore], Any]:
    """Stores to be streamed, and what stands for them in memory: their first chunks."""
    given = list(simulations) if isinstance(simulations, (list, tuple)) else [simulations]
    stores = [each for each in given if isinstance(each, SimulationStore)]
    if not stores:
        return [], simulations
    if len(stores) < len(given):
        raise TypeError("simulations: give either stores or what is in memory, not both.")
    stores.sort(key=lambda store: store.source != "prior")
    for store in stores:
        if store.schema != model.schema or store.layout.names != model.layout.names:
            raise ValueError(f"{store!r} belongs to another model: schema or parameters differ.")
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


def _streamed(
    model: GenerativeModel,
    stores: Sequence[SimulationStore],
    training: TrainingSettings,
    device: torch.device,
    seed: int,
) -> SimulationRounds:
    rounds = [ChunkRounds(store, seed + i) for i, store in enumerate(stores)]

    def get(number: int) -> tuple[Batch, Batch | None]:
        batches = [to_batch(each.load(number), model.prior, device) for each in rounds]
        return batches[0], batches[1] if len(batches) > 1 else None

    return SimulationRounds(
        get,
        batch_size=training.batch_size,
        steps_per_round=max(1, rounds[0].n_simulations // training.batch_size),
        n_obs=model.schema.n_obs,
        seed=seed,
        ordered=model.schema.structure != "exchangeable",
    )


def _fingerprint(sets: Sequence[Simulations], n_streamed: int) -> str:
    """Hash of all parameters in memory, of the first data sets, and of how many are on disk."""
    digest = hashlib.sha256(str(n_streamed).encode() if n_streamed else b"")
    for each in sets:
        digest.update(np.ascontiguousarray(each.parameters).tobytes())
        first = each.batch()
        digest.update(np.ascontiguousarray(first.observables[:1_000]).tobytes())
    return digest.hexdigest()


def _check_unconstrained(batch: Batch) -> None:
    outside = int((~torch.isfinite(batch.unconstrained).all(-1)).sum())
    if outside:
        raise ValueError(
            f"simulations: {outside} of {len(batch)} parameter vectors lie outside the support of "
            "the model's prior; they were not drawn from it."
        )


def _sources(model: GenerativeModel) -> tuple[Literal["prior", "proposal"], ...]:
    return ("prior",) if model.proposal is None else ("prior", "proposal")


def _online(
    model: GenerativeModel,
    n_simulations: int,
    training: TrainingSettings,
    device: torch.device,
    seed: int,
    executor: Executor | None,
) -> SimulationRounds:
    def simulate(number: int) -> tuple[Batch, Batch | None]:
        batches = []
        for i, source in enumerate(_sources(model)):
            rng = np.random.default_rng((seed, 10 + i, number))
            made = model.simulate(
                n_simulations,
                source=source,
                random_seed=rng,
                executor=executor,
                progressbar=False,
            )
            batches.append(to_batch(made, model.prior, device))
        return batches[0], batches[1] if len(batches) > 1 else None

    return SimulationRounds(
        simulate,
        batch_size=training.batch_size,
        steps_per_round=max(1, n_simulations // training.batch_size),
        n_obs=model.schema.n_obs,
        seed=seed,
        ordered=model.schema.structure != "exchangeable",
    )
