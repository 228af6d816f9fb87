"""How to train: optimizer, schedule, stopping, device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from jana_pymc.checks import check_choice, check_count, check_number, check_share
from jana_pymc.training.parallel import local_device


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training loop.

    These defaults suit small exchangeable data. Those that fit a model's structure are
    `default_training`'s; to change some of them, pass a mapping: ``fit(..., training={"n_steps":
    2_000})``.

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
        at the same ones. For sequences only `TrajectorySettings` take fewer than all.
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
        Share of the simulations held out for validation: of those from the prior, and of those from
        the proposal, of which no more are held out than from the prior.
    n_validations : int
        How often the validation loss is computed, evenly over the steps.
    patience : int or None
        Stop after so many validations in which neither network improved; None never stops early.
        Each network ends with its own best weights in either case.
    n_threads : int, "auto" or None
        Threads of torch on a CPU while training, for each of the two networks, which learn side by
        side; restored afterwards. "auto" takes one on up to three cores and measures on more: small
        networks train fastest with one; processes that train together take that of the first. None
        leaves the number as it is. Another number rounds differently.
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

    Raises
    ------
    TypeError, ValueError
        If a setting is of another kind or out of range. NumPy's numbers are kept as Python's.

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
            self._keep(name, check_count(name, getattr(self, name)))
        for name in ("rehearsal_steps", "adjustment_steps", "linear_steps"):
            self._keep(name, check_count(name, getattr(self, name), least=0))
        for name in ("patience", "likelihood_obs"):
            if getattr(self, name) is not None:
                self._keep(name, check_count(name, getattr(self, name), other="None"))
        rates = (
            *("learning_rate", "likelihood_learning_rate"),
            *("rehearsal_learning_rate", "adjustment_learning_rate"),
        )
        for name in (*rates, "gradient_clip"):
            self._keep(name, check_number(name, getattr(self, name)))
        for name in ("mmd_weight", "weight_decay", "shape_shrinkage"):
            self._keep(name, check_number(name, getattr(self, name), zero=True))
        held_out, average = self.validation_fraction, self.weight_average
        self._keep("validation_fraction", check_share("validation_fraction", held_out))
        if average is not None:
            self._keep("weight_average", check_share("weight_average", average, other="None"))
        check_choice("optimizer", self.optimizer, ("adam", "adamw"))
        check_choice("execution", self.execution, ("graph", "compile", "eager"))
        threads = self.n_threads
        if threads is not None and not (isinstance(threads, str) and threads == "auto"):
            self._keep("n_threads", check_count("n_threads", threads, other="'auto' or None"))
        if self.linear_steps >= self.n_steps:
            raise ValueError(f"linear_steps={self.linear_steps}: expected fewer than n_steps.")
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError("weight_decay is for optimizer='adamw'; 'adam' ignores it.")

    def _keep(self, name: str, value: Any) -> None:
        """Plain numbers, which serialise, in the place of what was given."""
        object.__setattr__(self, name, value)

    @property
    def validate_every(self) -> int:
        """Steps between two validations."""
        return max(1, self.n_steps // self.n_validations)


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn ``"auto"`` into a CUDA device where there is one, and check any other name.

    Parameters
    ----------
    device : str or torch.device

    Returns
    -------
    torch.device

    Raises
    ------
    TypeError
        If it is neither a name nor a device.
    ValueError
        If the device does not exist on this machine, or is neither the CPU nor a CUDA device.
    """
    if not isinstance(device, (str, torch.device)):
        raise TypeError(
            f"device={device!r}: expected 'auto', the name of a device such as 'cpu' or 'cuda', or "
            "a torch.device."
        )
    if device == "auto":
        return local_device()
    expected = f"device={device!r}: expected 'auto', 'cpu', 'cuda' or 'cuda:N'."
    try:
        resolved = torch.device(device)
    except RuntimeError as error:  # whose message lists some twenty names
        raise ValueError(expected) from error
    if resolved.type not in ("cpu", "cuda"):  # Apple's has no double precision, which PyMC is in
        raise ValueError(expected)
    try:
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} is not available here ({error}); use 'auto' or 'cpu'."
        ) from error
    return resolved
