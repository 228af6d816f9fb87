"""The state of an interrupted training run on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jana_pymc import storage
from jana_pymc.joint_network import JointNetwork
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.settings import TrainingSettings

KIND = "checkpoint"


def trained_with(path: Path) -> dict[str, Any]:
    """Settings of the training whose state a file holds.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to object
        The fields of `TrainingSettings`.

    Raises
    ------
    StorageError
        If the file is no checkpoint.
    """
    _, configuration = storage.read(path, kind=KIND)
    settings: dict[str, Any] = configuration["settings"]
    return settings


@dataclass
class Checkpoint:
    """What a resumed run needs beside the network and the optimizer it is loaded into.

    Attributes
    ----------
    history : TrainingHistory
    best : dict of str to state dict
        Best weights so far, for "posterior" and "likelihood".
    average : state dict
        The average of the weights that is validated.
    n_threads : int or None
        Threads of torch for each network, which the rounding depends on; None on a GPU.
    seen : Tensor or None
        See `BatchSource`.
    """

    history: TrainingHistory
    best: dict[str, dict[str, Tensor]]
    average: dict[str, Tensor]
    n_threads: int | None = None
    seen: Tensor | None = None

    def save(
        self,
        path: Path,
        network: JointNetwork,
        optimizer: torch.optim.Optimizer,
        settings: TrainingSettings,
        seed: int,
        data: str,
    ) -> None:
        """Write network, optimizer and this state, atomically."""
        tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        for half, weights in self.best.items():
            tensors |= {f"best/{half}/{k}": v for k, v in weights.items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{k}": v for k, v in moments.items()}
        if self.seen is not None:
            tensors["seen/parameters"] = self.seen
        configuration = {
            "settings": asdict(settings),
            "seed": seed,
            "data": data,
            "history": asdict(self.history),
            "n_threads": self.n_threads,
            "networks": _architecture(network),
        }
        storage.write(path, tensors, configuration, kind=KIND)

    @classmethod
    def load(
        cls,
        path: Path,
        network: JointNetwork,
        optimizer: torch.optim.Optimizer,
        settings: TrainingSettings,
        seed: int,
        data: str,
    ) -> Checkpoint:
        """Restore network and optimizer in place.

        Raises
        ------
        StorageError
            If the file is no checkpoint, or one of a run with other settings, seed, simulations or
            networks.
        """
        tensors, configuration = storage.read(path, kind=KIND)
        changed = _differences(configuration["settings"], asdict(settings))
        if configuration["seed"] != seed:
            changed.append("another random_seed")
        if configuration["data"] != data:
            changed.append("other simulations (another simulator, prior, n_simulations or online)")
        if changed:
            raise storage.StorageError(
                f"the checkpoint {str(path)!r} is of a run with {'; '.join(changed)}. Use the "
                "same, or another checkpoint file."
            )
        others = _differences(configuration["networks"], _architecture(network))
        if others:
            raise storage.StorageError(
                f"the checkpoint {str(path)!r} belongs to networks of another architecture, with "
                f"{'; '.join(others)}."
            )
        device = next(network.parameters()).device
        groups: dict[str, dict[str, Tensor]] = {
            group: {} for group in ("network", "average", "best", "optimizer", "seen")
        }
        for key, value in tensors.items():
            group, name = key.split("/", 1)
            groups[group][name] = value.to(device)
        try:
            network.load_state_dict(groups["network"])
        except RuntimeError as error:
            raise storage.StorageError(
                f"the checkpoint {str(path)!r} belongs to networks of another architecture."
            ) from error
        state = optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in groups["optimizer"].items():
            index, name = key.split("/")
            moments.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": moments, "param_groups": state["param_groups"]})
        best: dict[str, dict[str, Tensor]] = {"posterior": {}, "likelihood": {}}
        for key, value in groups["best"].items():
            half, name = key.split("/", 1)
            best[half][name] = value
        history = TrainingHistory(**configuration["history"])
        seen = groups["seen"].get("parameters")
        return cls(
            history,
            best,
            groups["average"],
            configuration["n_threads"],
            None if seen is None else seen.cpu(),
        )


def _architecture(network: JointNetwork) -> dict[str, Any]:
    """Settings from which the networks were built, in the form in which a file gives them back."""
    halves: dict[str, Any] = dict(network.named_children())
    settings = {k: asdict(half.settings) for k, half in halves.items() if hasattr(half, "settings")}
    return dict(json.loads(json.dumps(settings, default=float)))  # NumPy's numbers, too


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], within: str = "") -> list[str]:
    """What differs, in words; of settings within settings, what differs in these."""
    found = []
    for name, value in ours.items():
        other = theirs.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            found += _differences(other, value, f"{within}{name}.")
        elif other != value:
            found.append(f"{within}{name}={other!r}, not {value!r}")
    return found
