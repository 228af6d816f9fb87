"""Figures, drawn with matplotlib alone: each function returns one and changes nothing global."""

from jana_pymc.plots.calibration import plot_ranks_ecdf, plot_recovery
from jana_pymc.plots.history import plot_history
from jana_pymc.plots.pairs import plot_posterior_pairs
from jana_pymc.plots.predictive import plot_posterior_predictive

__all__ = [
    "plot_history",
    "plot_posterior_pairs",
    "plot_posterior_predictive",
    "plot_ranks_ecdf",
    "plot_recovery",
]
