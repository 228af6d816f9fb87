"""From a generative model to an approximator: simulate, choose, build, train."""

from jana_pymc.fitting.defaults import default_settings, default_training
from jana_pymc.fitting.fit import fit
from jana_pymc.fitting.preparation import standardize
from jana_pymc.fitting.sources import MINIMUM_SIMULATIONS

__all__ = ["MINIMUM_SIMULATIONS", "default_settings", "default_training", "fit", "standardize"]
