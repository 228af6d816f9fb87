"""Simulate, build, train: from a generative model to an approximator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jana_pymc.approximators import JointApproximator
from jana_pymc.architecture import NetworkSettings, build_network
from jana_pymc.fitting.defaults import (
    candidates,
    default_settings,
    default_training,
    draws,
    informative,
)
from jana_pymc.fitting.selection import likeliest
from jana_pymc.fitting.sources import (
    MINIMUM_SIMULATIONS,
    AnySimulations,
    as_pair,
    fingerprint,
    simulated_online,
    simulations_in_memory,
    stores_and_first_chunks,
    streamed,
)
from jana_pymc.joint import Batch, JointNetwork
from jana_pymc.refinement import learn_pool_weight
from jana_pymc.simulation import (
    Continuous,
    GenerativeModel,
    PyMCPrior,
    Simulations,
    SimulationStore,
)
from jana_pymc.training import (
    BatchSource,
    SimulationRounds,
    StoredSimulations,
    TrainingHistory,
    TrainingRun,
    TrainingSettings,
    adjust,
    agreed_seed,
    learned_alone,
    rehearse,
    resolve_device,
    to_batch,
)
from jana_pymc.warning import warn

FEW_VALUES = 20
"""Of what is continuous, so few different values in many simulations are no chance."""


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
    """Train posterior and likelihood jointly.

    Their loss is Eq. 9 of [1]_.

    Parameters
    ----------
    model : GenerativeModel
    n_simulations : int
        Data sets to simulate from the prior, and as many from the proposal if the model has one.
        Online, that many are made anew for each round.
    simulations : Simulations or SimulationStore, or a sequence of either, optional
        Train on these instead: from the prior, and from the proposal if there is one. Stores are
        streamed from disk in shuffled chunks but for the first, which is for validation and scales.
    online : bool
        Keep simulating while training: each round of simulations is seen about once. What is given
        or made first is for validation and scales.
    network : NetworkSettings, optional
        By default what structure and dimensions of the data imply (`default_settings`), also in the
        place of one network whose settings are left out; where these leave several likelihoods,
        simulations choose after a short training of each.
    training : TrainingSettings, optional
        By default what the networks need (`default_training`).
    executor : concurrent.futures.Executor, optional
        Runs the simulator; the result does not depend on it.
    device : str
        "auto" takes a CUDA device where there is one.
    checkpoint : str or Path, optional
        File for the state of the training, written as it goes on. If it exists, training resumes
        and ends as an uninterrupted run would have; that takes the same `random_seed`. Distractors,
        candidates, rehearsal and adjustment have files of their own beside it.
    random_seed : int, optional
        The same seed on the same machine gives the same approximator, to the last bit if
        `TrainingSettings.n_threads` is a number: by default it is measured where there are more
        than three cores, and may differ if these are busy. Processes that train together take the
        first one's if there is none, and must not have different ones.
    progressbar : bool

    Returns
    -------
    JointApproximator

    Raises
    ------
    TypeError
        If an argument is of another kind than stated.
    ValueError
        If there are too few simulations, they belong to another model, or two sets of them are of
        one source; if the prior has draws, but no log density; if the training has steps for an
        adjustment that the network does not have; if there is a `checkpoint` without a
        `random_seed`.
    FileNotFoundError, IsADirectoryError
        If the folder of the `checkpoint` does not exist, or the path is one.
    SimulationError
        If every simulation failed.
    TrainingError
        If gradients were not finite in too many steps.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI.
    """
    _check_arguments(model, network, training, checkpoint, random_seed)
    seed = int(np.random.SeedSequence(random_seed).generate_state(1)[0])
    seed = agreed_seed(seed, chosen=random_seed is not None)
    torch_device = resolve_device(device)
    stores, in_memory = stores_and_first_chunks(model, simulations)
    sets = simulations_in_memory(model, in_memory, n_simulations, executor, seed, progressbar)
    constant = constant_conditions(sets)
    _warn_of_few_values(sets[0], constant)
    given = network or NetworkSettings()
    is_whole = given.posterior is not None and given.likelihood is not None
    with _doing("looking for distractors and draws", progressbar and not is_whole):
        network, training = _settings(model, sets[0], given, training)
    if not online:
        _warn_of_half_training(training, len((stores or sets)[0]))
    held_out, simulated = _split(model, sets, training, torch_device, seed)
    positive = _positive(sets[0])

    def build(settings: NetworkSettings) -> JointNetwork:
        joint = build_network(model.schema, model.prior, positive, _unadjusted(settings), seed)
        joint.to(torch_device)
        standardize(joint, [batch for batch in simulated.sets if batch is not None])
        return joint

    run = TrainingRun(
        build(network),
        simulated,
        held_out,
        training,
        model.prior,
        may_be_new=_may_be_new(model, sets[0]),
        seed=seed,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        data="" if checkpoint is None else _data(sets, stores, n_simulations if online else None),
        progressbar=progressbar,
    )
    if given.likelihood is None:
        n_parameters = model.prior.n_unconstrained
        chosen = likeliest(candidates(network, model.schema, n_parameters), build, run)
        if chosen is not network:
            network, run = chosen, replace(run, network=build(chosen))
    source: BatchSource = simulated
    if online:
        source = simulated_online(model, n_simulations, training, torch_device, seed, executor)
    elif stores:
        source = streamed(model, stores, training, torch_device, seed)
    history = _learn(run, source, network)
    approximator = JointApproximator(
        run.network,
        settings=replace(network, posterior=run.network.posterior.settings),
        prior=model.prior,
        schema=model.schema,
        region=trained_region(stores or sets),
        positive=positive,
        history=history,
        model=model,
        constant_conditions=constant,
    )
    with _doing("weighing the networks against each other", progressbar):
        approximator.pool_weight = learn_pool_weight(
            approximator,
            sets[0][: len(held_out[0])],
            random_seed=np.random.default_rng((seed, 30)),
        )
    return approximator


def _data(
    sets: Sequence[Simulations], stores: Sequence[SimulationStore], n_online: int | None
) -> str:
    """Fingerprint of the simulations and, after a space, how many are made anew for each round."""
    source = "stored" if n_online is None else f"online {n_online}"
    return f"{fingerprint(sets, sum(map(len, stores)))} {source}"


def _learn(run: TrainingRun, source: BatchSource, network: NetworkSettings) -> TrainingHistory:
    """Distractors, the pair, and what the posterior then learns from the likelihood."""
    try:
        with learned_alone(run):
            history = run.train(source)
    finally:
        if isinstance(source, SimulationRounds):
            source.close()
    if run.settings.rehearsal_steps:
        history = rehearse(run, history)
    if run.settings.adjustment_steps:
        posterior, _ = network.both()
        assert posterior.adjustment is not None  # narrows the type
        history = adjust(run, history, posterior.adjustment)
    return history


@contextmanager
def _doing(what: str, show: bool) -> Iterator[None]:
    """Say what goes on while nothing else shows progress."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        transient=True,
        disable=not show,
    ) as bar:
        bar.add_task(what, total=None)
        yield


def _settings(
    model: GenerativeModel,
    simulations: Simulations,
    network: NetworkSettings,
    training: TrainingSettings | None,
) -> tuple[NetworkSettings, TrainingSettings]:
    """Both settings in whole, by default what structure and dimensions of the data imply."""
    n_parameters = model.prior.n_unconstrained
    posterior, likelihood = network.posterior, network.likelihood
    if posterior is None or likelihood is None:
        found = informative(simulations)
        default = default_settings(model.schema, n_parameters, found, draws(simulations, found))
        network = NetworkSettings(posterior or default.posterior, likelihood or default.likelihood)
    training = training or default_training(network, n_parameters, model.schema)
    posterior, _ = network.both()
    if training.adjustment_steps and posterior.adjustment is None:
        raise ValueError(
            f"adjustment_steps={training.adjustment_steps}: the network has no adjustment; give "
            "its PosteriorSettings adjustment=AdjustmentSettings(), or the training no such steps."
        )
    return network, training


def _unadjusted(network: NetworkSettings) -> NetworkSettings:
    """The same without the adjustment, which comes last."""
    posterior, likelihood = network.both()
    return NetworkSettings(replace(posterior, adjustment=None), likelihood)


def _warn_of_half_training(training: TrainingSettings, n_simulations: int) -> None:
    if training.n_steps * training.batch_size < n_simulations:
        warn(
            f"n_steps={training.n_steps} of {training.batch_size} data sets are less than one pass "
            f"over {n_simulations} simulations: the networks will be half-trained.",
        )


def _warn_of_few_values(simulations: Simulations, constant: Mapping[str, float]) -> None:
    """Where a continuous component has a few values only, its density has no limit; and what a
    condition does that has one value, nobody can learn."""
    observables = simulations[:1_000].batch().observables
    kinds = simulations.schema.components.items()
    for i, (name, kind) in enumerate(kinds):
        if isinstance(kind, Continuous):
            values = np.unique(observables[..., i])
            values = values[np.isfinite(values)]
            if len(values) <= FEW_VALUES < len(observables):
                found = f"{values[0]:g}" + (f" to {values[-1]:g}" if len(values) > 1 else "")
                warn(
                    f"{name} is declared Continuous but has {len(values)} different value"
                    f"{'s' * (len(values) > 1)} in {len(observables)} simulations ({found}): a "
                    "density there is as high as the network can make it, and means nothing. "
                    "Declare a Count or a Categorical, or leave out what never varies."
                )
    for name, value in constant.items():
        warn(
            f"the condition {name!r} has 1 value in all simulations ({value:g}): what it does "
            "cannot be learned, and with another value in data the networks extrapolate. Vary it "
            "in the design, or leave it out."
        )


def _n_validation(training: TrainingSettings, n_simulations: int) -> int:
    """How many simulations are held out."""
    n_validation = max(1, round(training.validation_fraction * n_simulations))
    n_left = n_simulations - n_validation
    if n_left < MINIMUM_SIMULATIONS // 2:
        raise ValueError(
            f"validation_fraction={training.validation_fraction} leaves {n_left} of "
            f"{n_simulations} simulations to train on."
        )
    return n_validation


def _split(
    model: GenerativeModel,
    sets: Sequence[Simulations],
    training: TrainingSettings,
    device: torch.device,
    seed: int,
) -> tuple[tuple[Batch, Batch | None], StoredSimulations]:
    """What is held out, from the prior and from the proposal, and what is trained on.

    Each source gives its share, but none more data sets than the prior.
    """
    batches = [to_batch(each, model.prior, device) for each in sets]
    _check_unconstrained(batches[0])
    shares = [_n_validation(training, len(batch)) for batch in batches]
    parts = [(batch, min(n, shares[0])) for batch, n in zip(batches, shares, strict=True)]
    simulated = StoredSimulations(
        *as_pair([batch.rows(slice(n, None)) for batch, n in parts]),
        batch_size=training.batch_size,
        n_obs=model.schema.n_obs,
        seed=seed,
        ordered=model.schema.structure != "exchangeable",
    )
    return as_pair([batch.rows(slice(0, n)) for batch, n in parts]), simulated


def _may_be_new(model: GenerativeModel, simulations: Simulations) -> bool:
    """Whether parameters of surrogates may be new ones: nowhere does the simulator fail, nor do
    known conditions come from it, which belong to the parameters that they were made with."""
    made_by_simulator = bool(model.schema.conditions) and model.design is None
    return not simulations.failures.counts and not made_by_simulator


def constant_conditions(simulations: Sequence[Simulations]) -> dict[str, float]:
    """Components of conditions that have one value in all simulations, but for rounding.

    Parameters
    ----------
    simulations : sequence of Simulations

    Returns
    -------
    dict of str to float
        The value of each.
    """
    names = list(simulations[0].schema.condition_components)
    if not names:
        return {}
    values = np.concatenate([s.batch().conditions.reshape(-1, len(names)) for s in simulations])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    constant = np.isclose(low, high, rtol=1e-6, atol=0.0)
    return {name: float(low[i]) for i, name in enumerate(names) if constant[i]}


def trained_region(simulations: Sequence[AnySimulations]) -> np.ndarray:
    """Smallest and largest value of each parameter over all simulations.

    Parameters
    ----------
    simulations : sequence of Simulations or SimulationStore

    Returns
    -------
    ndarray, shape (2, size)
    """
    edges = [
        s.region
        if isinstance(s, SimulationStore)
        else np.stack([s.parameters.min(0), s.parameters.max(0)])
        for s in simulations
    ]
    return np.stack([np.min(edges, 0)[0], np.max(edges, 0)[1]])


def standardize(network: JointNetwork, batches: Sequence[Batch]) -> None:
    """Set both networks' input and output scales from simulations.

    Parameters
    ----------
    network : JointNetwork
        Changed in place.
    batches : sequence of Batch
        Those from the prior first, which the posterior's scales are from.
    """
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


def _check_arguments(
    model: GenerativeModel,
    network: NetworkSettings | None,
    training: TrainingSettings | None,
    checkpoint: str | Path | None,
    random_seed: int | None,
) -> None:
    for argument, value, kind in (
        ("model", model, GenerativeModel),
        ("network", network, NetworkSettings),
        ("training", training, TrainingSettings),
    ):
        if not isinstance(value, kind) and not (value is None and argument != "model"):
            raise TypeError(f"{argument} is {type(value).__name__}; expected {kind.__name__}.")
    if random_seed is not None and (
        not isinstance(random_seed, (int, np.integer)) or isinstance(random_seed, bool)
    ):
        raise TypeError(f"random_seed={random_seed!r}: expected an integer or None.")
    if random_seed is not None and random_seed < 0:
        raise ValueError(f"random_seed={random_seed}: expected 0 or more.")
    if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint={checkpoint!r}: expected the path of a file.")
    if checkpoint is not None and random_seed is None:
        raise ValueError("checkpoint needs random_seed: a resumed run must repeat its batches.")
    if checkpoint is not None:
        _check_file(Path(checkpoint))
    _check_density(model.prior)


def _check_density(prior: PyMCPrior) -> None:
    """Find out before simulating what is asked of the prior only after training."""
    try:
        prior.log_prob(np.zeros(prior.n_unconstrained))
    except NotImplementedError as error:
        raise ValueError(
            "the prior has draws, but no log density, by which the trained networks are weighed "
            "against each other, and a stored pair knows its prior again: give its pm.CustomDist "
            "logp=, or dist= in the place of random=, from which PyMC derives one "
            f"({str(error).strip()})."
        ) from error


def _check_file(checkpoint: Path) -> None:
    """Find out before hours of training that its state cannot be written."""
    if not checkpoint.parent.is_dir():
        raise FileNotFoundError(
            f"checkpoint={str(checkpoint)!r}: there is no folder {str(checkpoint.parent)!r}; make "
            "it."
        )
    if checkpoint.is_dir():
        raise IsADirectoryError(
            f"checkpoint={str(checkpoint)!r} is a folder; expected the path of a file in it."
        )


def _positive(simulations: Simulations) -> list[bool]:
    """For each component of an observation, whether it is continuous and always positive."""
    observables = simulations.batch().observables
    return [
        isinstance(kind, Continuous) and bool(np.nanmin(observables[..., i]) > 0.0)
        for i, kind in enumerate(simulations.schema.components.values())
    ]


def _check_unconstrained(batch: Batch) -> None:
    outside = int((~torch.isfinite(batch.unconstrained).all(-1)).sum())
    if outside:
        raise ValueError(
            f"simulations: {outside} of {len(batch)} parameter vectors lie outside the support of "
            "the model's prior; they were not drawn from it."
        )
