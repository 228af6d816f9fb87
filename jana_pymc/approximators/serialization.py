"""Trained pairs in files, without the prior model and the simulator, which are code."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pymc as pm

from jana_pymc import storage
from jana_pymc.architecture import build_network
from jana_pymc.declarations import check_declared, declared
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.simulation import DataSchema, GenerativeModel, ParameterLayout, PyMCPrior
from jana_pymc.training import TrainingHistory, resolve_device

if TYPE_CHECKING:
    from jana_pymc.approximators.joint import JointApproximator

KIND = "approximator"


def write(approximator: JointApproximator, path: str | Path) -> Path:
    """See `JointApproximator.save`."""
    file = _as_path(path)
    configuration = {
        "settings": approximator.settings.to_dict(),
        "schema": approximator.schema.to_dict(),
        "layout": approximator.layout.to_dict(),
        "n_unconstrained": approximator.prior.n_unconstrained,
        "region": np.asarray(approximator.region).tolist(),
        "positive": list(approximator.positive),
        "history": asdict(approximator.history),
        "pool_weight": approximator.pool_weight,
        "constant_conditions": approximator.constant_conditions,
        "prior_fingerprint": _fingerprint(approximator.prior),
    }
    storage.write(file, approximator.network.state_dict(), configuration, kind=KIND)
    return file


def read(
    path: str | Path, prior: pm.Model | PyMCPrior | GenerativeModel, device: str
) -> dict[str, Any]:
    """Arguments of `JointApproximator`; see `load`."""
    tensors, configuration = storage.read(_as_path(path), kind=KIND)
    model = prior if isinstance(prior, GenerativeModel) else None
    if isinstance(prior, GenerativeModel):
        prior = prior.prior
    prior = prior if isinstance(prior, PyMCPrior) else PyMCPrior(prior)
    _check_prior(prior, configuration)
    schema = DataSchema.from_dict(configuration["schema"])
    if model is not None:
        check_declared(
            declared(model.layout, model.schema),
            declared(prior.layout, schema),
            "the model's",
            "those of the pair in the file",
            "load it with the GenerativeModel that it was trained on, or with the prior alone",
        )
    settings = NetworkSettings.from_dict(configuration["settings"])
    network = build_network(schema, prior, configuration["positive"], settings)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise storage.StorageError(
            f"{str(path)!r} does not hold the weights that its configuration describes. It is "
            "damaged, or of an earlier version, whose networks had other inputs: train the pair "
            f"again. {error}"
        ) from error
    return {
        "network": network.to(resolve_device(device)).eval(),
        "settings": settings,
        "prior": prior,
        "schema": schema,
        "region": np.asarray(configuration["region"]),
        "positive": configuration["positive"],
        "history": TrainingHistory(**configuration["history"]),
        "model": model,
        "pool_weight": configuration.get("pool_weight"),
        "constant_conditions": configuration.get("constant_conditions"),
    }


def _as_path(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise TypeError(
            f"path is {type(path).__name__}; expected the name of a file, a str or Path."
        ) from error


def _fingerprint(prior: PyMCPrior) -> list[float]:
    """Densities and transforms of a prior at fixed points, which identify it."""
    points = np.array([[-1.0], [0.0], [1.0]]) * np.ones((1, prior.n_unconstrained))
    return [*prior.fingerprint(), *prior.constrain(points).ravel().tolist()]


def _declared_of(layout: ParameterLayout) -> dict[str, Any]:
    """All that a layout declares; lists where the order matters, or for the message."""
    return {
        "parameters": [(name, layout.shapes[name]) for name in layout.names],
        "dims": [(name, dims) for name, dims in layout.dims.items() if dims],
        "coords": sorted(layout.coords.items()),
    }


def _check_prior(prior: PyMCPrior, configuration: dict[str, Any]) -> None:
    check_declared(
        _declared_of(prior.layout),
        _declared_of(ParameterLayout.from_dict(configuration["layout"])),
        "the prior's",
        "those of the pair in the file",
        "load it with the model that it was trained on",
    )
    expected = np.asarray(configuration["prior_fingerprint"])
    actual = np.asarray(_fingerprint(prior))
    if expected.shape != actual.shape or not np.allclose(expected, actual, rtol=1e-6, atol=1e-8):
        raise ValueError(
            "the prior's density differs from that of the prior the pair was trained with; an "
            "amortized posterior is tied to its prior. Pass the same model, or train anew."
        )
