"""What can be asked of a trained pair, beyond draws."""

from jana_pymc.workflow.bands import EcdfBand, ecdf_band, randomized_pit, uniformity_p_value
from jana_pymc.workflow.calibration import Calibration, calibration

__all__ = [
    "Calibration",
    "EcdfBand",
    "calibration",
    "ecdf_band",
    "randomized_pit",
    "uniformity_p_value",
]
