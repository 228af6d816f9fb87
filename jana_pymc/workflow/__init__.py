"""Checks, comparisons and predictions with a trained pair."""

from jana_pymc.workflow.analysis import Analysis, analyze
from jana_pymc.workflow.calibration import Calibration, calibration
from jana_pymc.workflow.criticism import Criticism, criticize
from jana_pymc.workflow.cross_validation import (
    kfold,
    leave_one_group_out,
    loo,
    loo_approximate_posterior,
)
from jana_pymc.workflow.cross_validation_result import CrossValidation
from jana_pymc.workflow.elpd_data import AmortizedRefit
from jana_pymc.workflow.evidence import LogMarginalLikelihood, log_marginal_likelihood
from jana_pymc.workflow.forecast import forecast
from jana_pymc.workflow.leave_future_out import LeaveFutureOut, leave_future_out
from jana_pymc.workflow.misspecification import Misspecification, detect_misspecification
from jana_pymc.workflow.model_comparison import (
    ModelComparison,
    ModelRecovery,
    compare_models,
    model_recovery,
)
from jana_pymc.workflow.posterior_calibration import posterior_calibration
from jana_pymc.workflow.prediction import Prediction, elpd
from jana_pymc.workflow.verdict import Verdict, verdict

__all__ = [
    "AmortizedRefit",
    "Analysis",
    "Calibration",
    "Criticism",
    "CrossValidation",
    "LeaveFutureOut",
    "LogMarginalLikelihood",
    "Misspecification",
    "ModelComparison",
    "ModelRecovery",
    "Prediction",
    "Verdict",
    "analyze",
    "calibration",
    "compare_models",
    "criticize",
    "detect_misspecification",
    "elpd",
    "forecast",
    "kfold",
    "leave_future_out",
    "leave_one_group_out",
    "log_marginal_likelihood",
    "loo",
    "loo_approximate_posterior",
    "model_recovery",
    "posterior_calibration",
    "verdict",
]
