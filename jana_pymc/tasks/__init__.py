"""Ready-made generative models: one module each, with its prior, simulator and exact answers."""

from __future__ import annotations

from jana_pymc.tasks import ddm, epidemic, wiener
from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.c2st import c2st
from jana_pymc.tasks.mmd import maximum_mean_discrepancy
from jana_pymc.tasks.registry import TASKS, task

__all__ = [
    "TASKS",
    "Task",
    "c2st",
    "ddm",
    "epidemic",
    "maximum_mean_discrepancy",
    "task",
    "wiener",
]
