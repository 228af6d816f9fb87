"""Likelihood networks inside PyTensor graphs: an Op that calls torch, and a native lowering."""

from jana_pymc.pytensor._compat import taken_rows
from jana_pymc.pytensor.contamination import Contaminant
from jana_pymc.pytensor.lowering import NoLowering, lower
from jana_pymc.pytensor.lowering_markovian import lower_markovian
from jana_pymc.pytensor.op import LogDensity, LogDensityAndGradient
from jana_pymc.pytensor.sequence_op import SequenceLogDensity, SequenceLogDensityPullback

__all__ = [
    "Contaminant",
    "LogDensity",
    "LogDensityAndGradient",
    "NoLowering",
    "SequenceLogDensity",
    "SequenceLogDensityPullback",
    "lower",
    "lower_markovian",
    "taken_rows",
]
