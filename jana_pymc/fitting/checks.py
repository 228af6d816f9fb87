"""What is asked of the arguments of `fit`, before the first simulation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from jana_pymc.checks import check_count, check_switch
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.simulation import GenerativeModel, PyMCPrior
from jana_pymc.storage import check_target
from jana_pymc.training import TrainingSettings
from jana_pymc.warning import warn


def check_arguments(
    model: GenerativeModel,
    network: NetworkSettings | None,
    training: TrainingSettings | Mapping[str, Any] | None,
    checkpoint: str | Path | None,
    random_seed: int | None,
    *,
    n_simulations: int,
    **switches: bool,
) -> None:
    """Refuse what would be found out only after simulating, or after training.

    Raises
    ------
    TypeError, ValueError
        As `fit` tells.
    FileNotFoundError, IsADirectoryError
        If the checkpoint cannot be written.
    """
    if isinstance(training, Mapping):
        unknown = sorted(set(training) - {field.name for field in fields(TrainingSettings)})
        if unknown:
            raise ValueError(
                f"training has the unknown settings {', '.join(map(repr, unknown))}; expected "
                "fields of TrainingSettings."
            )
        # Checked alone: what else there is follows from networks that are chosen later.
        training = TrainingSettings(**{"optimizer": "adamw", "n_steps": 10**9, **training})
    for argument, value, kind in (
        ("model", model, GenerativeModel),
        ("network", network, NetworkSettings),
        ("training", training, TrainingSettings),
    ):
        if not isinstance(value, kind) and not (value is None and argument != "model"):
            or_mapping = " or a mapping" * (argument == "training")
            raise TypeError(
                f"{argument} is {type(value).__name__}; expected {kind.__name__}{or_mapping}."
            )
    check_count("n_simulations", n_simulations)
    for argument, switch in switches.items():
        check_switch(argument, switch)
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
        check_target(Path(checkpoint), "checkpoint")
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


def warn_of_half_training(training: TrainingSettings, n_simulations: int) -> None:
    """Say so if the training ends before it has seen all simulations once."""
    if training.n_steps * training.batch_size < n_simulations:
        warn(
            f"n_steps={training.n_steps} of {training.batch_size} data sets are less than one pass "
            f"over {n_simulations} simulations: the networks will be half-trained.",
        )
