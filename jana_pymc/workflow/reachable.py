"""Which data sets a likelihood can explain at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.simulation import DataBatch
from jana_pymc.workflow.sources import resized

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


def reachable(approximator: JointApproximator, batch: DataBatch) -> np.ndarray:
    """Whether trained values of the bounding parameters can explain each data set.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        Observations beyond a set's own are of no account.

    Returns
    -------
    ndarray of bool, shape (sets,)
    """
    return approximator.likelihood.reachable(resized(batch, batch.n_obs).observables)
