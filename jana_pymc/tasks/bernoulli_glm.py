"""A Bernoulli generalised linear model of spikes driven by white noise, raw or summarised.

Tasks T.5 and T.6 of [1]_. 100 trials, spikes z with probability sigmoid(β + f'v), where v are the
last nine values of the stimulus; f has a smoothing prior N(0, (F'F)⁻¹), F of second differences.

Paper [2]_: β has standard deviation 2, and each data set has its own design, 9 × 100 independent
normal values. Benchmark: β has variance 2, and one fixed stimulus gives the design of all data
sets; :func:`fixed_design` makes it by its published recipe (legacy NumPy generator, seed 42).

Raw, the trials are exchangeable given their stimulus, which is known: conditions ``stimulus_0`` to
``stimulus_8``. Summarised, a data set is the number of spikes, and for each filter value the sum of
the stimulus over the spikes. With the design known these are sufficient; in the paper each data set
has its own, which is not part of the data, and there is no likelihood in closed form.

References
----------
.. [1] Lueckmann, J.-M., et al. (2021). Benchmarking simulation-based inference. AISTATS.
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import toeplitz
from scipy.special import expit

from jana_pymc.simulation import Categorical, Continuous, Count, GenerativeModel, PyMCPrior
from jana_pymc.tasks.benchmark import Arrays, OneByOne, Task, check_definition

__all__ = ["bernoulli_glm", "bernoulli_glm_raw", "fixed_design", "fixed_stimulus"]

N_TRIALS = 100
N_FILTER = 9
STIMULI = tuple(f"stimulus_{i}" for i in range(N_FILTER))
_SD_BETA = {"paper": 2.0, "benchmark": math.sqrt(2.0)}


def bernoulli_glm(definition: str = "paper") -> Task:
    """Build the task of summary statistics.

    Parameters ``beta`` and ``f`` (9); a data set is ``n_spikes`` and ``stimulus_sum`` (9), flat in
    this order, and divided by the number of trials in the paper.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
    """
    check_definition("bernoulli_glm", definition, _SD_BETA)
    paper = definition == "paper"
    scale = N_TRIALS if paper else 1.0

    def unflatten(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        # A whole number divided and multiplied by 100 may come out next to itself.
        return {"n_spikes": np.rint(scale * x[..., 0]), "stimulus_sum": scale * x[..., 1:]}

    def flatten(arrays: Arrays) -> NDArray[np.float64]:
        count = arrays["n_spikes"][..., None]
        return np.concatenate([count, arrays["stimulus_sum"]], axis=-1) / scale

    model = GenerativeModel(
        _prior(definition),
        simulate_with_random_design if paper else simulate_with_fixed_design,
        observables={"n_spikes": Count(N_TRIALS), "stimulus_sum": Continuous(shape=(N_FILTER,))},
        structure="vector",
        vectorized=True,
    )
    return Task(
        "bernoulli_glm",
        definition,
        model,
        1 + N_FILTER,
        unflatten,
        flatten,
        None if paper else _log_likelihood_of_statistics,
        is_normalized=False,
        one_by_one=OneByOne(_one_prior, _one_statistics) if paper else None,
    )


def bernoulli_glm_raw(definition: str = "paper") -> Task:
    """Build the task of single trials.

    Parameters ``beta`` and ``f`` (9); observable ``spike``, conditions ``stimulus_0``, ... The flat
    form of the benchmark is the 100 spikes; that of the paper is, trial by trial, the spike and its
    nine stimulus values.

    Parameters
    ----------
    definition : {"paper", "benchmark"}
    """
    check_definition("bernoulli_glm_raw", definition, _SD_BETA)
    paper = definition == "paper"

    def unflatten(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        if paper:
            trials = x.reshape(*x.shape[:-1], N_TRIALS, 1 + N_FILTER)
        else:
            stimulus = np.broadcast_to(fixed_design()[:, 1:], (*x.shape, N_FILTER))
            trials = np.concatenate([x[..., None], stimulus], axis=-1)
        return dict(zip(("spike", *STIMULI), np.moveaxis(trials, -1, 0), strict=True))

    def flatten(arrays: Arrays) -> NDArray[np.float64]:
        if not paper:
            return np.asarray(arrays["spike"], dtype=np.float64)
        trials = np.stack([arrays[name] for name in ("spike", *STIMULI)], axis=-1)
        return trials.reshape(*trials.shape[:-2], -1)

    model = GenerativeModel(
        _prior(definition),
        simulate_spikes,
        observables={"spike": Categorical(2)},
        structure="exchangeable",
        n_obs=N_TRIALS,
        conditions={name: Continuous() for name in STIMULI},
        design=draw_design if paper else _same_design,
        vectorized=True,
    )
    return Task(
        "bernoulli_glm_raw",
        definition,
        model,
        N_TRIALS * (1 + N_FILTER if paper else 1),
        unflatten,
        flatten,
        _log_likelihood_of_trials if paper else _log_likelihood_of_spikes,
        one_by_one=OneByOne(_one_prior, _one_raw) if paper else None,
    )


@cache
def fixed_stimulus() -> NDArray[np.float64]:
    """White noise that drives all data sets of the benchmark, shape (100,), in single precision."""
    values = np.random.RandomState(42).normal(size=N_TRIALS)
    values = values.astype(np.float32).astype(np.float64)
    values.flags.writeable = False
    return values


@cache
def fixed_design() -> NDArray[np.float64]:
    """Design of the benchmark, shape (100, 10): a column of ones, the stimulus lagged 0 to 8."""
    lagged = toeplitz(fixed_stimulus(), np.r_[fixed_stimulus()[0], np.zeros(N_FILTER - 1)])
    design = np.concatenate([np.ones((N_TRIALS, 1)), lagged], axis=1)
    design.flags.writeable = False
    return design


def draw_design(rng: np.random.Generator, n_obs: int) -> dict[str, NDArray[np.float64]]:
    """Draw independent normal stimuli for the trials of one data set."""
    return dict(zip(STIMULI, rng.standard_normal((N_FILTER, n_obs)), strict=True))


def simulate_spikes(
    rng: np.random.Generator,
    beta: ArrayLike,
    f: NDArray[np.float64],
    n_obs: int,
    **stimuli: NDArray[np.float64],
) -> dict[str, NDArray[np.int8]]:
    """Draw the spikes of given trials; parameters of one data set or, with an axis of one, many."""
    logit = np.asarray(beta) + sum(f[..., i] * stimuli[name] for i, name in enumerate(STIMULI))
    return {"spike": (rng.random(logit.shape) < expit(logit)).astype(np.int8)}


def simulate_with_random_design(
    rng: np.random.Generator, beta: ArrayLike, f: NDArray[np.float64]
) -> dict[str, NDArray]:
    """Draw a design and spikes for each parameter vector, and summarise them."""
    design = rng.standard_normal((*np.shape(beta), N_TRIALS, N_FILTER))
    return _statistics(rng, np.asarray(beta), f, design)


def simulate_with_fixed_design(
    rng: np.random.Generator, beta: ArrayLike, f: NDArray[np.float64]
) -> dict[str, NDArray]:
    """Draw spikes under the benchmark's design, and summarise them."""
    return _statistics(rng, np.asarray(beta), f, fixed_design()[:, 1:])


def filter_covariance() -> NDArray[np.float64]:
    """Prior covariance (F'F)⁻¹ of the filter, shape (9, 9)."""
    difference = np.eye(N_FILTER) - np.eye(N_FILTER, k=-1)
    factor = difference @ difference + np.diag(np.sqrt(np.arange(N_FILTER) / N_FILTER))
    return np.linalg.inv(factor.T @ factor)


@cache
def _prior(definition: str) -> PyMCPrior:
    with pm.Model() as prior:
        pm.Normal("beta", 0.0, _SD_BETA[definition])
        pm.MvNormal("f", np.zeros(N_FILTER), cov=filter_covariance())
    return PyMCPrior(prior)


def _statistics(
    rng: np.random.Generator,
    beta: NDArray[np.float64],
    f: NDArray[np.float64],
    design: NDArray[np.float64],
) -> dict[str, NDArray]:
    logit = beta[..., None] + (design @ f[..., None])[..., 0]
    spikes = rng.random(logit.shape) < expit(logit)
    stimulus_sum = (spikes[..., None, :].astype(np.float64) @ design)[..., 0, :]
    return {"n_spikes": spikes.sum(axis=-1), "stimulus_sum": stimulus_sum}


def _same_design(rng: np.random.Generator, n_obs: int) -> dict[str, NDArray[np.float64]]:
    return dict(zip(STIMULI, fixed_design()[:n_obs, 1:].T, strict=True))


def _log_likelihood_of_statistics(
    x: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-likelihood less the logarithm of the number of spike trains with these statistics."""
    logit = theta @ fixed_design().T
    return (x * theta).sum(axis=-1) - np.logaddexp(0.0, logit).sum(axis=-1)


def _log_likelihood_of_spikes(
    x: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    return _log_likelihood_of_statistics(x @ fixed_design(), theta)


def _log_likelihood_of_trials(
    x: NDArray[np.float64], theta: NDArray[np.float64]
) -> NDArray[np.float64]:
    trials = x.reshape(*x.shape[:-1], N_TRIALS, 1 + N_FILTER)
    logit = theta[..., :1] + (trials[..., 1:] @ theta[..., 1:, None])[..., 0]
    return (trials[..., 0] * logit - np.logaddexp(0.0, logit)).sum(axis=-1)


def _one_prior(rng: np.random.Generator) -> NDArray[np.float64]:
    beta = rng.normal(0.0, 2.0)
    return np.append(beta, rng.multivariate_normal(np.zeros(N_FILTER), filter_covariance()))


def _one_trials(
    rng: np.random.Generator, theta: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    design = rng.normal(size=(N_FILTER, N_TRIALS))
    return rng.binomial(1, expit(design.T @ theta[1:] + theta[0])), design


def _one_statistics(rng: np.random.Generator, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    spikes, design = _one_trials(rng, theta)
    return np.append(spikes.sum(), design @ spikes) / N_TRIALS


def _one_raw(rng: np.random.Generator, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    spikes, design = _one_trials(rng, theta)
    return np.column_stack([spikes, design.T]).ravel()
