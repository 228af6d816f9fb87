"""Trained networks in the user's hands: posterior, likelihood, and the pair."""

from jana_pymc.approximators.joint import JointApproximator, load
from jana_pymc.approximators.likelihood import LikelihoodApproximator
from jana_pymc.approximators.posterior import PosteriorApproximator

__all__ = ["JointApproximator", "LikelihoodApproximator", "PosteriorApproximator", "load"]
