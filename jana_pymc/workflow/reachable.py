"""Which data sets a likelihood can explain at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.simulation import DataBatch
from jana_pymc.workflow.sources import resized

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


def reachable(approximator: JointApproximator, batch: DataBatch) -> np.ndarray:
    """Whether each data set lies within constant bounds and those that trained parameters can be.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        Observations beyond a set's own are of no account.

    Returns
    -------
    ndarray of bool, shape (sets,)
    """
    observables = resized(batch, batch.n_obs).observables
    possible = approximator.likelihood.reachable(observables)
    for column, kind in enumerate(approximator.schema.components.values()):
        possible = possible & ~kind.outside(observables[..., column]).any(axis=1)
    return possible
