"""Simulations as networks take them: some held out, and all in their scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from jana_pymc.fitting.sources import MINIMUM_SIMULATIONS, as_pair
from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.simulation import GenerativeModel, Simulations
from jana_pymc.training import StoredSimulations, TrainingSettings, to_batch


def hold_out(
    model: GenerativeModel,
    sets: Sequence[Simulations],
    training: TrainingSettings,
    device: torch.device,
    seed: int,
) -> tuple[tuple[Batch, Batch | None], StoredSimulations]:
    """What is held out, from the prior and from the proposal, and what is trained on.

    Each source gives its share, but none more data sets than the prior.

    Parameters
    ----------
    model : GenerativeModel
    sets : sequence of Simulations
        From the prior, and from the proposal if there is one.
    training : TrainingSettings
    device : torch.device
    seed : int
        Of the order in which they are seen.

    Returns
    -------
    held_out : tuple of Batch and (Batch or None)
    simulated : StoredSimulations

    Raises
    ------
    ValueError
        If too few would be left, or parameters lie outside the prior's support.
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
    sequences = network.likelihood.is_sequential
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


def _check_unconstrained(batch: Batch) -> None:
    outside = int((~torch.isfinite(batch.unconstrained).all(-1)).sum())
    if outside:
        raise ValueError(
            f"simulations: {outside} of {len(batch)} parameter vectors lie outside the support of "
            "the model's prior; they were not drawn from it."
        )
