"""From a generative model to an approximator: simulate, choose, build, train."""

from jana_pymc.fitting.defaults import default_settings, default_training
from jana_pymc.fitting.fit import fit, standardize

__all__ = ["default_settings", "default_training", "fit", "standardize"]
