"""Trained networks in the user's hands: posterior, likelihood, and the pair."""

from jana_pymc.approximators.joint import JointApproximator, load
from jana_pymc.approximators.likelihood import LikelihoodApproximator
from jana_pymc.approximators.posterior import PosteriorApproximator
from jana_pymc.approximators.row_parameters import row_parameters
from jana_pymc.approximators.torch_density import from_torch

__all__ = [
    "JointApproximator",
    "LikelihoodApproximator",
    "PosteriorApproximator",
    "from_torch",
    "load",
    "row_parameters",
]
