"""Calibration around the parameters that are plausible given observed data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jana_pymc.approximators.surrogate import surrogate_batch
from jana_pymc.checks import check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.simulation import DataBatch, random_generator
from jana_pymc.workflow.calibration import Calibration, ranked
from jana_pymc.workflow.sources import simulated

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


def posterior_calibration(
    approximator: JointApproximator,
    data: Any,
    *,
    n_replicate: int | None = None,
    n_simulations: int = 1000,
    draws: int = 250,
    joint: bool = False,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> Calibration:
    r"""Posterior simulation-based calibration: SBC with the posterior as prior.

    Parameters :math:`\theta^* \sim q(\theta \mid x)` are drawn for the observed data, a replicate
    :math:`x^* \sim p(x \mid \theta^*)` for each, and the rank of :math:`\theta^*` is taken among
    draws from the posterior :math:`q(\theta \mid x, x^*)` given both [1]_. Ranks are uniform if the
    amortized posterior is consistent with Bayesian updating at and around these data; SBC over the
    whole prior may hide local errors.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping, DataFrame or Dataset
        One data set.
    n_replicate : int, optional
        Observations in the replicate. By default as many as the data have, but data and replicate
        together are no larger than the largest data set in training.
    n_simulations, draws : int
        Replicates, and posterior draws for each.
    joint : bool
        Whether replicates come from the neural likelihood instead of the simulator, which tests
        the pair. Required with known conditions.
    random_seed : int, Generator or None
    progressbar : bool

    Returns
    -------
    Calibration
        Its `parameters` are posterior draws; recovery and contraction refer to their spread.

    Raises
    ------
    TypeError
        If `approximator` is no pair.
    ValueError
        If the data are no exchangeable observations, the posterior was trained on no data sets as
        large as data and replicate together, or there is no model to simulate; with known
        conditions, unless `joint`.

    References
    ----------
    .. [1] Säilynoja, T., Schmitt, M., Bürkner, P.-C., & Vehtari, A. (2025). Posterior SBC:
       Simulation-based calibration checking conditional on data. arXiv:2502.03279.
    """
    check_approximator(approximator)
    check_count("n_simulations", n_simulations)
    check_count("draws", draws)
    if n_replicate is not None:
        check_count("n_replicate", n_replicate)
    structure = approximator.schema.structure
    if structure != "exchangeable":
        raise ValueError(
            f"the data are declared {structure!r}; posterior calibration joins data and replicate "
            "into one set, which only exchangeable observations allow: a replicate is no more of "
            "the same sequence or vector. Take jana_pymc.calibration, or declare a whole data set "
            "as one observation (structure='exchangeable', observables with shapes, n_obs of two "
            "or more) and train again."
        )
    observed = approximator.posterior.batch(data)
    if len(observed) != 1:
        raise ValueError(f"there are {len(observed)} data sets; posterior calibration takes one.")
    n, largest = int(observed.n_obs[0]), approximator.schema.n_obs[1]
    size = min(n, largest - n) if n_replicate is None else n_replicate
    if size < 1:
        raise ValueError(
            f"the data have {n} observations and the posterior was trained on at most {largest}: "
            "there is no room for a replicate. Train with a larger n_obs, or pass a part of the "
            "data."
        )
    if n + size > largest:
        raise ValueError(
            f"n_replicate={size}: expected at most {largest - n}, since the data have {n} "
            f"observations and the posterior was trained on at most {largest}. Take a smaller "
            "replicate, or train with a larger n_obs."
        )
    rng = random_generator(random_seed)
    repeated = observed[np.zeros(n_simulations, dtype=int)]
    parameters = approximator.posterior.sample(observed, n_simulations, random_seed=rng)[0]
    if joint or approximator.schema.conditions:
        replicate = _surrogate(approximator, parameters, repeated, size, joint, rng)
    else:
        made = simulated(approximator, n_simulations, rng, progressbar, parameters=parameters)
        parameters, replicate = np.asarray(made.parameters), made.batch()
        repeated = repeated[: len(parameters)]
        if replicate.observables.shape[1] < size:
            raise ValueError(
                f"n_replicate={size}; the model simulates at most "
                f"{replicate.observables.shape[1]} observations."
            )
    observables, conditions = (
        np.concatenate([first[:, :n], second[:, :size]], axis=1)
        for first, second in (
            (repeated.observables, replicate.observables),
            (repeated.conditions, replicate.conditions),
        )
    )
    both = DataBatch(observables, conditions, np.full(len(parameters), n + size))
    return ranked(
        approximator,
        parameters,
        both,
        draws,
        joint=joint,
        random_seed=rng,
        progressbar=progressbar,
    )


def _surrogate(
    approximator: JointApproximator,
    parameters: np.ndarray,
    observed: DataBatch,
    size: int,
    joint: bool,
    rng: np.random.Generator,
) -> DataBatch:
    """Replicates from the likelihood, under conditions drawn from those of the data."""
    if not joint:
        raise ValueError(
            "with known conditions only joint=True is available: a simulator chooses its own "
            "conditions, and the replicate needs those of the data."
        )
    rows = rng.integers(observed.n_obs[0], size=(len(observed), size))
    conditions = np.take_along_axis(observed.conditions, rows[..., None], axis=1)
    sizes = np.full(len(observed), size)
    return surrogate_batch(approximator, parameters, conditions, sizes, rng)
