"""Which data sets a likelihood can explain at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.simulation import DataBatch

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
    return np.array([_is_reachable(approximator, batch, i) for i in range(len(batch))], dtype=bool)


def _is_reachable(approximator: JointApproximator, batch: DataBatch, dataset: int) -> bool:
    observed = batch.observables[dataset, : int(batch.n_obs[dataset])]
    try:
        approximator.likelihood.check_reachable(observed)
    except ValueError:
        return False
    return True
