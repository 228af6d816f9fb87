r"""Classifier two-sample test (C2ST) between draws, by the protocol of the benchmark's scores.

A classifier is trained to tell two sets of draws apart. Its accuracy on draws that it has not seen
is 1/2 if the sets have the same distribution, and 1 if it tells every draw; that of the best
possible classifier is :math:`\frac12 + \frac12 \mathrm{TV}`, with TV the total variation distance
of the two.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Lopez-Paz, D., & Oquab, M. (2017). Revisiting classifier two-sample tests. ICLR.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.checks import check_count
from jana_pymc.simulation import random_generator

__all__ = ["c2st", "scikit_learn"]

N_FOLDS = 5
UNITS_PER_DIMENSION = 10
MAX_ITERATIONS = 10_000


def c2st(
    reference: ArrayLike,
    draws: ArrayLike,
    *,
    n_draws: int | None = None,
    n_jobs: int = 2,
    random_seed: int = 1,
) -> float:
    """Cross-validated accuracy of a classifier between reference draws and draws to be scored.

    Both are standardised by the reference's mean and standard deviation. The classifier is
    scikit-learn's ``MLPClassifier`` with two hidden layers of ten units a dimension, trained by
    Adam; the accuracy is the mean over five shuffled folds.

    Parameters
    ----------
    reference, draws : array_like, shape (n, d)
        The published protocol has 10,000 of each.
    n_draws : int, optional
        Number of each that are compared, chosen at random. A classifier learns less from fewer
        draws: the result tends to be lower, and is for trials only.
    n_jobs : int
        Folds side by side, each in a process of its own with one thread; the result does not
        depend on it.
    random_seed : int
        Seed of the classifier and of the folds; 1 in the protocol.

    Returns
    -------
    float
        From about 0.5, no difference found, to 1.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError
        If `n_jobs` is no integer.
    ValueError
        If shapes do not fit, values are not finite, the reference does not vary, or `n_jobs` or
        `n_draws` is too small.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x, y = rng.normal(size=(2, 300, 1))
    >>> c2st(x, y + 100.0, n_jobs=1)
    1.0
    """
    learn = scikit_learn()
    first, second = _checked("reference", reference), _checked("draws", draws)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"reference and draws have shapes {first.shape} and {second.shape}; d must be equal."
        )
    check_count("n_jobs", n_jobs)
    if n_draws is not None:
        rng = random_generator(random_seed)
        first, second = (_some(each, n_draws, rng) for each in (first, second))
    mean, sd = first.mean(axis=0), first.std(axis=0, ddof=1)
    if not (sd > 0).all():
        raise ValueError(f"column {int(np.argmin(sd))} of reference has the same value throughout.")
    # The benchmark's own draws are in single precision, and the classifier learns in theirs.
    both = ((np.concatenate([first, second]) - mean) / sd).astype(np.float32)
    label = np.repeat([0, 1], [len(first), len(second)])
    width = UNITS_PER_DIMENSION * first.shape[1]
    classifier = learn.neural_network.MLPClassifier(
        hidden_layer_sizes=(width, width),
        activation="relu",
        solver="adam",
        max_iter=MAX_ITERATIONS,
        random_state=random_seed,
    )
    folds = learn.model_selection.KFold(N_FOLDS, shuffle=True, random_state=random_seed)
    with ExitStack() as settings:
        if n_jobs == 1:
            # Matrices this small are multiplied fastest by one thread.
            settings.enter_context(learn.threadpoolctl.threadpool_limits(1))
        else:
            # Fresh processes, not forks: they need no guard in the user's script, and inherit
            # neither torch's threads nor its memory.
            processes = learn.joblib.parallel_config("loky", inner_max_num_threads=1)
            settings.enter_context(processes)
        accuracy = learn.model_selection.cross_val_score(
            classifier, both, label, cv=folds, scoring="accuracy", n_jobs=n_jobs
        )
    return float(np.mean(accuracy))


class _ScikitLearn(NamedTuple):
    """The optional modules; joblib and threadpoolctl come with scikit-learn."""

    neural_network: ModuleType
    model_selection: ModuleType
    joblib: ModuleType
    threadpoolctl: ModuleType


def scikit_learn() -> _ScikitLearn:
    """Import what the test needs.

    Raises
    ------
    ImportError
        Without scikit-learn, naming the extra that brings it.
    """
    try:
        import joblib  # noqa: PLC0415
        import threadpoolctl  # noqa: PLC0415
        from sklearn import model_selection, neural_network  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "c2st needs scikit-learn: install the extra, pip install 'jana_pymc[tasks]'."
        ) from error
    return _ScikitLearn(neural_network, model_selection, joblib, threadpoolctl)


def _some(values: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if not N_FOLDS <= n <= len(values):
        raise ValueError(f"n_draws={n}: expected {N_FOLDS} to {len(values)}.")
    return values[rng.permutation(len(values))[:n]]


def _checked(name: str, draws: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < N_FOLDS or not values.shape[1]:
        raise ValueError(
            f"{name} has shape {values.shape}; expected (draws, d), with {N_FOLDS} draws or more."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has {np.sum(~np.isfinite(values))} values that are not finite.")
    return values
