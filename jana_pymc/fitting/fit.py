"""Simulate, build, train: from a generative model to an approximator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jana_pymc.approximators import JointApproximator
from jana_pymc.architecture import build_network
from jana_pymc.fitting.checks import check_arguments, warn_of_half_training
from jana_pymc.fitting.defaults import (
    candidates,
    default_settings,
    default_training,
)
from jana_pymc.fitting.preparation import hold_out, standardize
from jana_pymc.fitting.ranges import (
    always_positive,
    constant_conditions,
    trained_region,
    warn_of_atoms,
    warn_of_constant_conditions,
    warn_of_extremes,
    warn_of_few_values,
)
from jana_pymc.fitting.search import find_draws, find_informative
from jana_pymc.fitting.selection import select_likelihood
from jana_pymc.fitting.sources import (
    AnySimulations,
    fingerprint,
    simulated_online,
    simulations_in_memory,
    stores_and_first_chunks,
    streamed,
)
from jana_pymc.joint_network import JointNetwork
from jana_pymc.likelihoods import VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.refinement import learn_pool_weight
from jana_pymc.simulation import (
    GenerativeModel,
    Simulations,
    SimulationStore,
)
from jana_pymc.training import (
    BatchSource,
    SimulationRounds,
    TrainingHistory,
    TrainingRun,
    TrainingSettings,
    adjust,
    agreed_seed,
    learned_alone,
    rehearse,
    resolve_device,
)


def fit(
    model: GenerativeModel,
    *,
    n_simulations: int = 10_000,
    simulations: AnySimulations | Sequence[AnySimulations] | None = None,
    online: bool = False,
    network: NetworkSettings | None = None,
    training: TrainingSettings | Mapping[str, Any] | None = None,
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
    training : TrainingSettings or mapping, optional
        By default what the networks need (`default_training`). A mapping changes some of these
        settings, ``training={"n_steps": 2_000}``; `TrainingSettings` replaces them all.
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
        adjustment that the network does not have, or shrinks what it does not have; if there is a
        `checkpoint` without a `random_seed`.
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
    check_arguments(
        model,
        network,
        training,
        checkpoint,
        random_seed,
        n_simulations=n_simulations,
        online=online,
        progressbar=progressbar,
    )
    seed = int(np.random.SeedSequence(random_seed).generate_state(1)[0])
    seed = agreed_seed(seed, chosen=random_seed is not None)
    torch_device = resolve_device(device)
    stores, in_memory = stores_and_first_chunks(model, simulations)
    sets = simulations_in_memory(model, in_memory, n_simulations, executor, seed, progressbar)
    constant = constant_conditions(sets)
    warn_of_few_values(sets[0])
    warn_of_atoms(sets[0])
    warn_of_extremes(sets[0])
    warn_of_constant_conditions(constant)
    given = network or NetworkSettings()
    is_whole = given.posterior is not None and given.likelihood is not None
    with _doing("looking for distractors and draws", progressbar and not is_whole):
        network, training = _settings(model, sets[0], given, training)
    if not online:
        warn_of_half_training(training, len((stores or sets)[0]))
    held_out, simulated = hold_out(model, sets, training, torch_device, seed)
    positive = always_positive(sets[0])

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
        chosen = select_likelihood(candidates(network, model.schema, n_parameters), build, run)
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
        region=trained_region(stores or sets, source.seen if online else None),
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
    training: TrainingSettings | Mapping[str, Any] | None,
) -> tuple[NetworkSettings, TrainingSettings]:
    """Both settings in whole, by default what structure and dimensions of the data imply."""
    n_parameters = model.prior.n_unconstrained
    posterior, likelihood = network.posterior, network.likelihood
    if posterior is None or likelihood is None:
        found = find_informative(simulations)
        draws = find_draws(simulations, found)
        default = default_settings(model.schema, n_parameters, found, draws)
        network = NetworkSettings(posterior or default.posterior, likelihood or default.likelihood)
    if not isinstance(training, TrainingSettings):
        training = _changed(default_training(network, n_parameters, model.schema), training or {})
    posterior, likelihood = network.both()
    if training.adjustment_steps and posterior.adjustment is None:
        raise ValueError(
            f"adjustment_steps={training.adjustment_steps}: the network has no adjustment; give "
            "its PosteriorSettings adjustment=AdjustmentSettings(), or the training no such steps."
        )
    if training.shape_shrinkage and not isinstance(likelihood, VectorSettings):
        raise ValueError(
            f"shape_shrinkage={training.shape_shrinkage} is for the flows of VectorSettings; "
            f"{type(likelihood).__name__} have none that could shrink, so leave it out."
        )
    return network, training


def _changed(default: TrainingSettings, changes: Mapping[str, Any]) -> TrainingSettings:
    """Default settings with some changes, and what follows from these for the others."""
    follows: dict[str, Any] = {}
    if "n_steps" in changes:
        follows["linear_steps"] = min(default.linear_steps, changes["n_steps"] // 4)
    if changes.get("optimizer") == "adam":
        follows["weight_decay"] = 0.0
    return replace(default, **{**follows, **changes})


def _unadjusted(network: NetworkSettings) -> NetworkSettings:
    """The same without the adjustment, which comes last."""
    posterior, likelihood = network.both()
    return NetworkSettings(replace(posterior, adjustment=None), likelihood)


def _may_be_new(model: GenerativeModel, simulations: Simulations) -> bool:
    """True if no simulation failed and no known conditions come from the simulator; only then may
    surrogates use new parameters."""
    made_by_simulator = bool(model.schema.conditions) and model.design is None
    return not simulations.failures.counts and not made_by_simulator
