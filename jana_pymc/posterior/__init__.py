"""The posterior network: a summary network, and a flow over unconstrained parameters."""

from jana_pymc.posterior.adjusted_flow import AdjustedFlow, AdjustmentSettings
from jana_pymc.posterior.data_bounds import DataBound, DataBounds
from jana_pymc.posterior.network import PosteriorNetwork, PosteriorSettings, SummarySettings
from jana_pymc.posterior.normal_scores import NormalScores
from jana_pymc.posterior.slopes import LatentSlopes

__all__ = [
    "AdjustedFlow",
    "AdjustmentSettings",
    "DataBound",
    "DataBounds",
    "LatentSlopes",
    "NormalScores",
    "PosteriorNetwork",
    "PosteriorSettings",
    "SummarySettings",
]
