"""What can be asked of a trained pair, beyond draws."""

from jana_pymc.workflow.analysis import Analysis, analyze
from jana_pymc.workflow.bands import EcdfBand, ecdf_band, randomized_pit, uniformity_p_value
from jana_pymc.workflow.calibration import Calibration, calibration
from jana_pymc.workflow.criticism import Criticism, criticize
from jana_pymc.workflow.misspecification import Misspecification, detect_misspecification
from jana_pymc.workflow.posterior_calibration import posterior_calibration
from jana_pymc.workflow.verdict import Verdict, verdict

__all__ = [
    "Analysis",
    "Calibration",
    "Criticism",
    "EcdfBand",
    "Misspecification",
    "Verdict",
    "analyze",
    "calibration",
    "criticize",
    "detect_misspecification",
    "ecdf_band",
    "posterior_calibration",
    "randomized_pit",
    "uniformity_p_value",
    "verdict",
]
