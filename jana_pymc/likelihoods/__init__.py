"""Likelihood networks l(x | θ): densities of observations, and simulators of them."""

from jana_pymc.likelihoods.autoregressive import AutoregressiveLikelihood, AutoregressiveSettings
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.counts import CountRange
from jana_pymc.likelihoods.markovian import MarkovianLikelihood, MarkovianSettings
from jana_pymc.likelihoods.signed_coupling import (
    SignedCouplingLikelihood,
    SignedCouplingSettings,
)
from jana_pymc.likelihoods.soft_flow import SoftFlowLikelihood, SoftFlowSettings
from jana_pymc.likelihoods.support import Bound, Support
from jana_pymc.likelihoods.time_point import ConditionalSettings
from jana_pymc.likelihoods.trajectory import TrajectoryLikelihood, TrajectorySettings
from jana_pymc.likelihoods.vector import VectorLikelihood
from jana_pymc.likelihoods.vector_settings import VectorSettings

__all__ = [
    "AutoregressiveLikelihood",
    "AutoregressiveSettings",
    "Bound",
    "ConditionalSettings",
    "CountRange",
    "LikelihoodNetwork",
    "MarkovianLikelihood",
    "MarkovianSettings",
    "SignedCouplingLikelihood",
    "SignedCouplingSettings",
    "SoftFlowLikelihood",
    "SoftFlowSettings",
    "Support",
    "TrajectoryLikelihood",
    "TrajectorySettings",
    "VectorLikelihood",
    "VectorSettings",
]
