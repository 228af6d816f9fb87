"""How to train: optimizer, schedule, stopping, device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from jana_pymc.checks import check_count
from jana_pymc.training.parallel import local_device


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training loop.

    Parameters
    ----------
    n_steps : int
        Optimizer steps; the learning rate falls to zero over them along a cosine.
    batch_size : int
        Data sets a step.
    learning_rate, likelihood_learning_rate : float
        Peak learning rates of the posterior and of the likelihood network, reached after a short
        linear warm-up. The likelihood network is the smaller one and bears the higher rate.
    likelihood_obs : int or None
        Observations of each data set that enter the likelihood's loss at a step, chosen at random;
        None takes all. Different parameters teach the likelihood more than further observations
        at the same ones. Of sequences only `TrajectorySettings` take a part.
    optimizer : {"adam", "adamw"}
    weight_decay : float
        Only with "adamw".
    shape_shrinkage : float
        How strongly the laws of continuous components are drawn to one shape for all parameters, by
        proximal steps of a group lasso [1]_ on what the networks behind the splines see of these;
        location and scale, of the flow's first layer, stay free. A step takes so many learning
        rates from the norm of each group. 0 leaves it out; it is for `VectorSettings` alone.
    linear_steps : int
        The first so many steps train only the linear parts of networks that have them, with a
        schedule of their own: what is linear then takes no capacity, and what is not starts well.
    weight_average : float or None
        Decay of the exponential average of the weights that is validated and kept in place of the
        last weights; None keeps these.
    gradient_clip : float
        Largest norm of each network's gradient.
    mmd_weight : float
        Weight λ of the summary-space term of Eq. 9; 0 leaves it out.
    validation_fraction : float
        Share of the simulations held out for validation.
    n_validations : int
        How often the validation loss is computed, evenly over the steps.
    patience : int or None
        Stop after so many validations in which neither network improved; None never stops early.
        Each network ends with its own best weights in either case.
    n_threads : int, "auto" or None
        Threads of torch on a CPU while training, for each of the two networks, which learn side by
        side; restored afterwards. "auto" takes one on up to three cores and measures on more: small
        networks train fastest with one. None leaves the number as it is. Another number rounds
        differently.
    rehearsal_steps : int
        So many steps more in which the posterior alone learns, from data that the likelihood
        network makes for ever new parameters: it overfits a few simulations long before that
        does. Weights are kept only if they are better on held-out simulations.
    rehearsal_learning_rate : float
        Peak learning rate of these.
    adjustment_steps : int
        So many steps at the end in which the posterior learns to follow the likelihood network's
        slopes, if its settings have an `AdjustmentSettings`; its own weights stay. What is learned
        is kept only if it is better on held-out simulations, by a hundredth of a nat.
    adjustment_learning_rate : float
        Peak learning rate of these.
    execution : {"graph", "compile", "eager"}
        "graph": on a CPU the losses are traced once and run without Python, the two networks side
        by side; on a CUDA device the whole step is captured as a graph and replayed, unless several
        processes train together. "compile": by torch.compile, which takes a compiler, and a minute
        to begin. "eager": operation by operation.

    References
    ----------
    .. [1] Yuan, M., & Lin, Y. (2006). Model selection and estimation in regression with grouped
       variables. JRSS B, 68, 49-67.
    """

    n_steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 3e-3
    likelihood_learning_rate: float = 1e-2
    likelihood_obs: int | None = 32
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    shape_shrinkage: float = 0.0
    linear_steps: int = 0
    weight_average: float | None = None
    gradient_clip: float = 5.0
    mmd_weight: float = 0.0
    validation_fraction: float = 0.05
    n_validations: int = 50
    patience: int | None = 15
    n_threads: int | Literal["auto"] | None = "auto"
    rehearsal_steps: int = 0
    rehearsal_learning_rate: float = 2e-3
    adjustment_steps: int = 0
    adjustment_learning_rate: float = 1e-3
    execution: Literal["graph", "compile", "eager"] = "graph"

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "n_validations"):
            check_count(name, getattr(self, name))
        for name in ("patience", "likelihood_obs"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r}: expected a positive integer, or None.")
        rates = (
            *("learning_rate", "likelihood_learning_rate"),
            *("rehearsal_learning_rate", "adjustment_learning_rate"),
        )
        for name in (*rates, "gradient_clip"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}={getattr(self, name)!r}: expected a number.")
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected a positive number.")
        for name in ("rehearsal_steps", "adjustment_steps"):
            steps = getattr(self, name)
            if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
                raise ValueError(f"{name}={steps!r}: expected a number of steps, or 0.")
        if not 0 <= self.linear_steps < self.n_steps:
            raise ValueError(f"linear_steps={self.linear_steps}: expected fewer than n_steps.")
        if self.weight_average is not None and not 0.0 < self.weight_average < 1.0:
            raise ValueError(
                f"weight_average={self.weight_average}: expected a decay between 0 and 1, or None."
            )
        for name in ("mmd_weight", "weight_decay", "shape_shrinkage"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}={value!r}: expected a number.")
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name}={value}: expected 0 or more.")
        if self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"optimizer={self.optimizer!r} is not 'adam' or 'adamw'.")
        if self.execution not in ("graph", "compile", "eager"):
            raise ValueError(f"execution={self.execution!r} is not 'graph', 'compile' or 'eager'.")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("weight_decay is for optimizer='adamw'; 'adam' ignores it.")
        n = self.n_threads
        if n not in ("auto", None) and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
            raise ValueError(f"n_threads={n!r}: expected a positive integer, 'auto' or None.")
        if not 0.0 < self.validation_fraction < 1.0:
            raise ValueError(
                f"validation_fraction={self.validation_fraction}: expected a share between 0 and 1."
            )

    @property
    def validate_every(self) -> int:
        """Steps between two validations."""
        return max(1, self.n_steps // self.n_validations)


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn ``"auto"`` into a CUDA device where there is one, and check any other name.

    Raises
    ------
    ValueError
        If the device does not exist on this machine.
    """
    if device == "auto":
        return local_device()
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} is not available here ({error}); use 'auto' or 'cpu'."
        ) from error
    return resolved
