"""Options on which the epidemic's networks depend, and the record of them beside the networks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from epidemic_networks import training

import jana_pymc as jana
from jana_pymc.tasks.run_folder import read_json, write_json

DEFAULTS: dict[str, Any] = {
    "quick": False,
    "original": False,
    "original_conditioning": False,
    "posterior": None,
    "likelihood": None,
    "n_steps": None,
    "batch_size": None,
    "simulations_per_round": 16_000,
    "random_seed": 1,
}
"""The options by name, without those that do not change the result. None: what others imply."""


def networks_of(arguments: argparse.Namespace) -> Path:
    """The file of the networks."""
    return arguments.approximator or arguments.output / "epidemic.safetensors"


def record_of(networks: Path) -> Path:
    """The file of the options that networks were trained with."""
    return networks.with_name(f"{networks.stem}.options.json")


def write_record(arguments: argparse.Namespace) -> None:
    """Keep the options of this run beside its networks."""
    options = {name: getattr(arguments, name) for name in DEFAULTS}
    write_json(record_of(networks_of(arguments)), options)


def settings_of(arguments: argparse.Namespace) -> jana.TrainingSettings:
    """How the networks are trained."""
    settings = training(quick=arguments.quick, n_steps=arguments.n_steps)
    if arguments.batch_size is None:
        return settings
    return replace(settings, batch_size=arguments.batch_size)


def resolve(arguments: argparse.Namespace) -> None:
    """Complete the options that were not given: by the record of the networks, or by defaults.

    Networks that were saved by hand have no record. ``look_around`` is added to the arguments:
    whether the networks are known to be small ones.

    Raises
    ------
    SystemExit
        If there are networks that were trained with other options than those given.
    """
    path = networks_of(arguments)
    known = _recorded(path) if path.exists() else {}
    changed = []
    for name, default in DEFAULTS.items():
        given = getattr(arguments, name, None)
        if given is None:
            setattr(arguments, name, known.get(name, default))
        elif known and given != known[name]:
            changed.append(f"{name}={known[name]!r}, not {given!r}")
    if changed:
        raise SystemExit(
            f"{path} holds networks that were trained with {'; '.join(changed)}. Choose another "
            "--output or --approximator to train others, or leave these options out."
        )
    papers = arguments.original_conditioning
    arguments.posterior = arguments.posterior or ("towers" if papers else "flat")
    arguments.likelihood = arguments.likelihood or ("recurrent" if papers else "independent")
    settings = settings_of(arguments)
    arguments.n_steps, arguments.batch_size = settings.n_steps, settings.batch_size
    arguments.look_around = arguments.quick and (bool(known) or not path.exists())


def _recorded(networks: Path) -> dict[str, Any]:
    record = record_of(networks)
    known = read_json(record)
    if record.exists() and not set(DEFAULTS) <= set(known):
        raise SystemExit(
            f"{record} does not say with which options the networks in {networks} were trained. "
            "Choose another --output or --approximator, or delete that file and give the options "
            "yourself."
        )
    return known
