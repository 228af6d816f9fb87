"""The generative side: PyMC prior, simulator, declared data, and simulations from them."""

from __future__ import annotations

from jana_pymc.simulation.conditions import draw_conditions
from jana_pymc.simulation.failures import FailureReport, SimulationError
from jana_pymc.simulation.generative_model import GenerativeModel
from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.observables import (
    Categorical,
    Continuous,
    Count,
    Observable,
    observable_from_dict,
    scalar_components,
    split_components,
)
from jana_pymc.simulation.prior import PyMCPrior
from jana_pymc.simulation.randomness import RandomSeed, random_generator, seed_sequence
from jana_pymc.simulation.schema import DataBatch, DataSchema
from jana_pymc.simulation.simulations import Simulations
from jana_pymc.simulation.store import SimulationStore

__all__ = [
    "Categorical",
    "Continuous",
    "Count",
    "DataBatch",
    "DataSchema",
    "FailureReport",
    "GenerativeModel",
    "Observable",
    "ParameterLayout",
    "PyMCPrior",
    "RandomSeed",
    "SimulationError",
    "SimulationStore",
    "Simulations",
    "draw_conditions",
    "observable_from_dict",
    "random_generator",
    "scalar_components",
    "seed_sequence",
    "split_components",
]
