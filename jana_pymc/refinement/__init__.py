"""Amortized draws made better by the likelihood: importance resampling, and NUTS from there on."""

from jana_pymc.refinement.defence import defend
from jana_pymc.refinement.hamiltonian import nuts, prior_support
from jana_pymc.refinement.pooling import learn_pool_weight
from jana_pymc.refinement.proposals import (
    Proposed,
    log_importance_ratios,
    log_likelihood_of,
    propose,
)
from jana_pymc.refinement.refine import REFINEMENTS, Refinement, refine
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.refinement.resampling import CANDIDATES, psis, warn_unreliable

__all__ = [
    "CANDIDATES",
    "REFINEMENTS",
    "Proposed",
    "RefinedDraws",
    "Refinement",
    "defend",
    "learn_pool_weight",
    "log_importance_ratios",
    "log_likelihood_of",
    "nuts",
    "prior_support",
    "propose",
    "psis",
    "refine",
    "warn_unreliable",
]
