"""Figures, drawn with matplotlib alone: each function returns one and changes nothing global."""

from jana_pymc.plots.accuracy import plot_contraction, plot_coverage, plot_ranks_histogram
from jana_pymc.plots.analysis import plot_analysis
from jana_pymc.plots.calibration import plot_ranks_ecdf, plot_recovery
from jana_pymc.plots.cross_validation import plot_cross_validation
from jana_pymc.plots.evidence import (
    plot_log_marginal_likelihood,
    plot_model_comparison,
    plot_model_recovery,
)
from jana_pymc.plots.forecast import plot_forecast
from jana_pymc.plots.history import plot_history
from jana_pymc.plots.leave_future_out import plot_leave_future_out
from jana_pymc.plots.misspecification import plot_criticism, plot_misspecification
from jana_pymc.plots.pairs import plot_posterior_pairs
from jana_pymc.plots.prediction import plot_prediction
from jana_pymc.plots.predictive import plot_posterior_predictive
from jana_pymc.plots.score_correction import plot_score_correction
from jana_pymc.plots.surrogate import plot_surrogate

__all__ = [
    "plot_analysis",
    "plot_contraction",
    "plot_coverage",
    "plot_criticism",
    "plot_cross_validation",
    "plot_forecast",
    "plot_history",
    "plot_leave_future_out",
    "plot_log_marginal_likelihood",
    "plot_misspecification",
    "plot_model_comparison",
    "plot_model_recovery",
    "plot_posterior_pairs",
    "plot_posterior_predictive",
    "plot_prediction",
    "plot_ranks_ecdf",
    "plot_ranks_histogram",
    "plot_recovery",
    "plot_score_correction",
    "plot_surrogate",
]
