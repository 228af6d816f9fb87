"""Jointly amortized neural approximation for PyMC: when the likelihood is a simulator."""

from jana_pymc.approximators import (
    JointApproximator,
    LikelihoodApproximator,
    PosteriorApproximator,
    from_torch,
    load,
)
from jana_pymc.architecture import NetworkSettings
from jana_pymc.fit import fit
from jana_pymc.flows import FlowSettings
from jana_pymc.inference_data import save_inference_data, select_dataset
from jana_pymc.initial_values import initvals
from jana_pymc.likelihoods import AutoregressiveSettings, SignedCouplingSettings
from jana_pymc.networks import DeepSetSettings, SetSummarySettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataSchema,
    GenerativeModel,
    PyMCPrior,
    SimulationError,
    Simulations,
)
from jana_pymc.storage import StorageError
from jana_pymc.training import TrainingError, TrainingHistory, TrainingSettings
from jana_pymc.workflow import (
    AmortizedRefit,
    Analysis,
    Calibration,
    Criticism,
    CrossValidation,
    LeaveFutureOut,
    LogMarginalLikelihood,
    Misspecification,
    ModelComparison,
    ModelRecovery,
    Prediction,
    Verdict,
    analyze,
    calibration,
    compare_models,
    criticize,
    detect_misspecification,
    elpd,
    kfold,
    leave_future_out,
    leave_one_group_out,
    log_marginal_likelihood,
    loo,
    loo_approximate_posterior,
    model_recovery,
    posterior_calibration,
    verdict,
)

__version__ = "0.1.0"

__all__ = [
    "AmortizedRefit",
    "Analysis",
    "AutoregressiveSettings",
    "Calibration",
    "Categorical",
    "Continuous",
    "Count",
    "Criticism",
    "CrossValidation",
    "DataSchema",
    "DeepSetSettings",
    "FlowSettings",
    "GenerativeModel",
    "JointApproximator",
    "LeaveFutureOut",
    "LikelihoodApproximator",
    "LogMarginalLikelihood",
    "Misspecification",
    "ModelComparison",
    "ModelRecovery",
    "NetworkSettings",
    "PosteriorApproximator",
    "PosteriorSettings",
    "Prediction",
    "PyMCPrior",
    "SetSummarySettings",
    "SignedCouplingSettings",
    "SimulationError",
    "Simulations",
    "StorageError",
    "TrainingError",
    "TrainingHistory",
    "TrainingSettings",
    "Verdict",
    "analyze",
    "calibration",
    "compare_models",
    "criticize",
    "detect_misspecification",
    "elpd",
    "fit",
    "from_torch",
    "initvals",
    "kfold",
    "leave_future_out",
    "leave_one_group_out",
    "load",
    "log_marginal_likelihood",
    "loo",
    "loo_approximate_posterior",
    "model_recovery",
    "posterior_calibration",
    "save_inference_data",
    "select_dataset",
    "verdict",
]
