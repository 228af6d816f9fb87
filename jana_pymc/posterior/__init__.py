"""The posterior network: a summary network, and a flow over unconstrained parameters."""

from jana_pymc.posterior.adjusted_flow import AdjustedFlow, AdjustmentSettings
from jana_pymc.posterior.network import PosteriorNetwork, PosteriorSettings, SummarySettings
from jana_pymc.posterior.slopes import LatentSlopes

__all__ = [
    "AdjustedFlow",
    "AdjustmentSettings",
    "LatentSlopes",
    "PosteriorNetwork",
    "PosteriorSettings",
    "SummarySettings",
]
