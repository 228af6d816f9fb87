"""Correction of amortized draws by the likelihood: importance resampling and NUTS."""

from jana_pymc.refinement.convergence import unconverged, warn_unconverged
from jana_pymc.refinement.hamiltonian import nuts, prior_support
from jana_pymc.refinement.pooling import learn_pool_weight
from jana_pymc.refinement.proposals import (
    log_importance_ratios,
    log_likelihood_of,
    propose,
    total_log_likelihood,
)
from jana_pymc.refinement.refine import Refinement, refine
from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.refinement.resampling import CANDIDATES, psis, warn_unreliable
from jana_pymc.refinement.starts import chain_starts

__all__ = [
    "CANDIDATES",
    "RefinedDraws",
    "Refinement",
    "chain_starts",
    "learn_pool_weight",
    "log_importance_ratios",
    "log_likelihood_of",
    "nuts",
    "prior_support",
    "propose",
    "psis",
    "refine",
    "total_log_likelihood",
    "unconverged",
    "warn_unconverged",
    "warn_unreliable",
]
