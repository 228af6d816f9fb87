"""Simulated data sets for checks: the user's, or fresh ones from the approximator's own model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jana_pymc.checks import check_count

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import Simulations


def simulated(
    approximator: JointApproximator,
    n_simulations: int,
    random_seed: np.random.Generator,
    progressbar: bool,
    *,
    parameters: np.ndarray | None = None,
) -> Simulations:
    """Simulate from the prior, or at given parameters.

    Raises
    ------
    ValueError
        If the approximator has no model.
    """
    check_count("n_simulations", n_simulations)
    if approximator.model is None:
        raise ValueError(
            "the approximator has no model to simulate from: load it with the GenerativeModel "
            "that it was trained on (jana_pymc.load(path, model)), or pass simulations= made by it."
        )
    return approximator.model.simulate(
        n_simulations, parameters=parameters, random_seed=random_seed, progressbar=progressbar
    )
