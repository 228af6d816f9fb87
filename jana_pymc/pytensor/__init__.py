"""Likelihood networks inside PyTensor graphs: an Op that calls torch, and a native lowering."""

from jana_pymc.pytensor.contamination import Contaminant
from jana_pymc.pytensor.density import Backend, Given, log_density
from jana_pymc.pytensor.lowering import lower
from jana_pymc.pytensor.lowering_markovian import lower_markovian
from jana_pymc.pytensor.lowering_parts import NoLowering
from jana_pymc.pytensor.lowering_trajectory import lower_trajectory
from jana_pymc.pytensor.lowering_vector import lower_vector
from jana_pymc.pytensor.op import LogDensity, LogDensityAndPullback, failure
from jana_pymc.pytensor.score_correction import ScoreCorrection
from jana_pymc.pytensor.truncation import Truncation

__all__ = [
    "Backend",
    "Contaminant",
    "Given",
    "LogDensity",
    "LogDensityAndPullback",
    "NoLowering",
    "ScoreCorrection",
    "Truncation",
    "failure",
    "log_density",
    "lower",
    "lower_markovian",
    "lower_trajectory",
    "lower_vector",
]
