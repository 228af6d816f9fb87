"""Checkpoints: which run may go on from one."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conjugate import normal_mean

from jana_pymc import storage
from jana_pymc.architecture import build_network
from jana_pymc.fitting.sources import fingerprint
from jana_pymc.flows import FlowSettings
from jana_pymc.joint_network import JointNetwork
from jana_pymc.likelihoods import AutoregressiveSettings, VectorSettings
from jana_pymc.network_settings import LikelihoodSettings, NetworkSettings
from jana_pymc.networks import SetSummarySettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.training import TrainingHistory, TrainingSettings
from jana_pymc.training.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("interpreted")

MODEL = normal_mean()
POSTERIOR = PosteriorSettings(
    SetSummarySettings(n_summaries=2, n_quantiles=2, hidden=(4,)),
    FlowSettings(transform="autoregressive", n_layers=1, hidden=(4,), n_bins=3),
)
VECTOR = VectorSettings(n_layers=1, hidden=(4,), conditioner_hidden=4, n_bins=3)
SETTINGS = TrainingSettings(n_steps=5)


def network_of(posterior: PosteriorSettings, likelihood: LikelihoodSettings) -> JointNetwork:
    settings = NetworkSettings(posterior, likelihood)
    return build_network(MODEL.schema, MODEL.prior, (False,), settings, 1)


def parts(network: JointNetwork, data: str = "ab stored") -> tuple[Any, ...]:
    return network, torch.optim.Adam(network.parameters()), SETTINGS, 1, data


def saved(path: Path, network: JointNetwork) -> Path:
    """A checkpoint of no step."""
    Checkpoint(TrainingHistory(), best={}, average={}).save(path, *parts(network))
    return path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            (POSTERIOR, AutoregressiveSettings(hidden=(4,), n_bins=3)),
            (POSTERIOR, AutoregressiveSettings(hidden=(4,), n_bins=3, activation="tanh")),
            "likelihood.activation='silu', not 'tanh'",
        ),
        (
            (POSTERIOR, VECTOR),
            (POSTERIOR, replace(VECTOR, residual=True)),
            "likelihood.residual=False, not True",
        ),
        (
            (POSTERIOR, VECTOR),
            (replace(POSTERIOR, flow=replace(POSTERIOR.flow, degrees_of_freedom=9.0)), VECTOR),
            "posterior.flow.degrees_of_freedom=None, not 9.0",
        ),
    ],
    ids=["activation", "residual", "within"],
)
def test_networks_of_the_same_weights_are_told_apart(
    tmp_path: Path, before: tuple, after: tuple, message: str
) -> None:
    path = saved(tmp_path / "checkpoint", network_of(*before))
    Checkpoint.load(path, *parts(network_of(*before)))
    ours, theirs = (network_of(*each).state_dict() for each in (before, after))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    with pytest.raises(storage.StorageError, match=f"another architecture, with {message}"):
        Checkpoint.load(path, *parts(network_of(*after)))


@pytest.mark.usefixtures("unchecked_annotations")
def test_settings_of_numpy_numbers_are_those_of_plain_ones(tmp_path: Path) -> None:
    path = saved(tmp_path / "run", network_of(POSTERIOR, replace(VECTOR, n_bins=np.int64(3))))
    Checkpoint.load(path, *parts(network_of(POSTERIOR, VECTOR)))


def test_simulations_made_anew_are_not_those_that_were_stored(tmp_path: Path) -> None:
    network = network_of(POSTERIOR, VECTOR)
    path = saved(tmp_path / "checkpoint", network)
    for data in ("ab online 500", "cd stored"):
        with pytest.raises(storage.StorageError, match=r"other simulations .*or online"):
            Checkpoint.load(path, *parts(network, data))
    fit = importlib.import_module("jana_pymc.fitting.fit")  # the name is the function's, too
    sets = [MODEL.simulate(20, random_seed=1, progressbar=False)]
    said = {fit._data(sets, [], n) for n in (None, 20, 30)}
    assert said == {f"{fingerprint(sets, 0)} {how}" for how in ("stored", "online 20", "online 30")}
