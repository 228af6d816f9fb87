"""The generative side: PyMC prior, simulator, declared data, and simulations from them."""

from __future__ import annotations

from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.observables import (
    Categorical,
    Continuous,
    Observable,
    observable_from_dict,
)
from jana_pymc.simulation.schema import DataBatch, DataSchema

__all__ = [
    "Categorical",
    "Continuous",
    "DataBatch",
    "DataSchema",
    "Observable",
    "ParameterLayout",
    "observable_from_dict",
]
