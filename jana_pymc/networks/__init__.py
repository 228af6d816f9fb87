"""Neural networks that are not flows: dense networks and summary networks."""

from jana_pymc.networks.attention import AttentionSettings
from jana_pymc.networks.deep_set import DeepSet, DeepSetSettings
from jana_pymc.networks.dense import DenseNetwork
from jana_pymc.networks.dynamics import DynamicsEnsemble, DynamicsNetwork
from jana_pymc.networks.flat_summary import FlatSummary, FlatSummarySettings
from jana_pymc.networks.set_summary import SetSummarySettings
from jana_pymc.networks.set_transformer import SetTransformer, SetTransformerSettings
from jana_pymc.networks.time_series import TimeSeriesNetwork, TimeSeriesSettings
from jana_pymc.networks.time_series_transformer import (
    TimeSeriesTransformer,
    TimeSeriesTransformerSettings,
)

__all__ = [
    "AttentionSettings",
    "DeepSet",
    "DeepSetSettings",
    "DenseNetwork",
    "DynamicsEnsemble",
    "DynamicsNetwork",
    "FlatSummary",
    "FlatSummarySettings",
    "SetSummarySettings",
    "SetTransformer",
    "SetTransformerSettings",
    "TimeSeriesNetwork",
    "TimeSeriesSettings",
    "TimeSeriesTransformer",
    "TimeSeriesTransformerSettings",
]
