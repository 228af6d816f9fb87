"""The ten benchmark tasks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.bernoulli_glm import bernoulli_glm, bernoulli_glm_raw
from jana_pymc.tasks.gaussian_linear import gaussian_linear, gaussian_linear_uniform
from jana_pymc.tasks.gaussian_mixture import gaussian_mixture
from jana_pymc.tasks.lotka_volterra import lotka_volterra
from jana_pymc.tasks.sir import sir
from jana_pymc.tasks.slcp import slcp, slcp_distractors
from jana_pymc.tasks.two_moons import two_moons

TASKS: Mapping[str, Callable[[str], Task]] = {
    "gaussian_linear": gaussian_linear,
    "gaussian_linear_uniform": gaussian_linear_uniform,
    "slcp": slcp,
    "slcp_distractors": slcp_distractors,
    "bernoulli_glm": bernoulli_glm,
    "bernoulli_glm_raw": bernoulli_glm_raw,
    "gaussian_mixture": gaussian_mixture,
    "two_moons": two_moons,
    "sir": sir,
    "lotka_volterra": lotka_volterra,
}
"""Functions that build a task from the name of its definition, in the paper's order."""


def task(name: str, definition: str = "paper") -> Task:
    """Build a benchmark task.

    Parameters
    ----------
    name : str
        One of :data:`TASKS`.
    definition : str
        ``"paper"`` for the models of [1]_, ``"benchmark"`` for those of [2]_, to which its
        reference posteriors belong; two_moons has two more.

    Returns
    -------
    Task

    Raises
    ------
    ValueError
        If there is no such task or definition.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Experiment 1.
    .. [2] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.

    Examples
    --------
    >>> two_moons = task("two_moons", "benchmark")
    >>> simulations = two_moons.model.simulate(5, random_seed=1, progressbar=False)
    >>> two_moons.flatten(simulations).shape
    (5, 2)
    >>> two_moons.sample_posterior([0.0, 0.0], 100, random_seed=1).shape
    (100, 2)
    """
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}.")
    return TASKS[name](definition)
