"""Score trained diffusion-model networks on data sets whose exact answers are known."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pymc as pm
from common import Stopwatch
from ddm_data import PARAMETERS, Trials, read_datasets, read_exact

import jana_pymc as jana
from jana_pymc.tasks.ddm import log_likelihood, prior


@dataclass(frozen=True)
class References:
    """Data sets, their true parameters, and exact posteriors of some of them, if there are any."""

    trials: list[Trials]
    theta: np.ndarray
    exact: dict[str, np.ndarray] | None


def read_references(arguments: argparse.Namespace) -> References:
    """All that scoring needs, so that what is missing is found out before the training."""
    if arguments.exact is None:
        return References(*read_datasets(arguments.datasets), None)
    if "nutpie" in arguments.samplers:
        import_nutpie()
    exact = read_exact(arguments.exact, arguments.limit)
    return References(*read_datasets(arguments.datasets), exact)


def import_nutpie() -> ModuleType:
    """The sampler, which is an extra."""
    try:
        import nutpie  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(
            f"--samplers nutpie needs the extra `nutpie`: pip install '.[nutpie]' ({error})"
        ) from error
    return nutpie


def score(
    approximator: jana.JointApproximator,
    references: References,
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Errors of both networks on the data sets, in nats.

    Returns
    -------
    dict
        ``likelihood_error_sd``: standard deviation over data sets of the neural minus the exact
        summed log-likelihood at the true parameters; ``likelihood_error_mean``; ``kl_per_trial``:
        mean exact minus neural log-likelihood of a trial; ``posterior_log_prob``: mean
        log q(θ* | x). With exact posteriors also ``amortized`` and each of the samplers: the median
        distance of means in exact standard deviations and the median ratio of standard deviations.
    """
    trials, theta = references.trials, references.theta
    with watch("scoring the likelihood"):
        neural = np.array(
            [
                approximator.likelihood.log_prob(t, p[None])[0].sum()
                for t, p in zip(trials, theta, strict=True)
            ]
        )
    exact = np.array(
        [
            log_likelihood(t, dict(zip(PARAMETERS, p, strict=True))).sum()
            for t, p in zip(trials, theta, strict=True)
        ]
    )
    with watch("scoring the posterior"):
        batch = approximator.schema.batch(trials)
        log_q = approximator.posterior.log_prob(theta[:, None], batch)[:, 0]
    error = neural - exact
    scores: dict[str, Any] = {
        "n_datasets": len(theta),
        "likelihood_error_sd": error.std(ddof=1),
        "likelihood_error_mean": error.mean(),
        "kl_per_trial": -error.sum() / sum(len(t["rt"]) for t in trials),
        "posterior_log_prob": log_q.mean(),
    }
    if references.exact is not None:
        scores |= _compare_posteriors(approximator, trials, references.exact, arguments, watch)
    return scores


def _compare_posteriors(
    approximator: jana.JointApproximator,
    trials: list[Trials],
    exact: dict[str, np.ndarray],
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Amortized posterior and MCMC with the neural likelihood against exact moments."""
    mean, sd = exact["posterior_mean"], exact["posterior_sd"]
    chosen = [trials[row] for row in exact["dataset"]]
    with watch("amortized posteriors"):
        batch = approximator.schema.batch(chosen)
        amortized = approximator.posterior.sample(batch, 4000, random_seed=1)
    drawn = {"amortized": amortized}
    for sampler in arguments.samplers:
        with watch(sampler):
            if sampler == "nutpie":
                drawn[sampler] = _nutpie(approximator, chosen, arguments.random_seed)
            else:
                step = pm.Slice if sampler == "slice" else pm.NUTS
                parts = [_pymc(approximator, t, step, arguments.random_seed) for t in chosen]
                drawn[sampler] = np.stack(parts)
    return {
        name: {
            "mean_error_in_sd": np.median(np.abs(draws.mean(1) - mean) / sd, axis=0).tolist(),
            "mean_error_in_sd_all": np.median(np.abs(draws.mean(1) - mean) / sd),
            "sd_ratio": np.median(draws.std(1) / sd, axis=0).tolist(),
        }
        for name, draws in drawn.items()
    }


def _pymc(
    approximator: jana.JointApproximator,
    trials: Trials,
    step: Any,
    random_seed: int,
) -> np.ndarray:
    """Draws by one of PyMC's step methods, shape (draws, 4)."""
    with prior() as model:
        theta = {name: model[name] for name in PARAMETERS}
        approximator.likelihood("y", **theta, observed=trials)
        drawn = pm.sample(
            draws=3000 if step is pm.Slice else 1000,
            tune=300 if step is pm.Slice else 1000,
            step=step(),
            chains=2,
            cores=2,
            initvals=jana.initvals(random_seed=random_seed),
            random_seed=random_seed,
            progressbar=False,
            compute_convergence_checks=False,
        )
    return np.stack([np.asarray(drawn["posterior"][n]).ravel() for n in PARAMETERS], -1)


def _nutpie(
    approximator: jana.JointApproximator, trials: list[Trials], random_seed: int
) -> np.ndarray:
    """Draws of all data sets by one compiled model, shape (data sets, draws, 4)."""
    nutpie = import_nutpie()
    rows = [np.stack([t["rt"], t["response"]], -1).astype(float) for t in trials]
    with prior() as model:
        theta = {name: model[name] for name in PARAMETERS}
        approximator.likelihood("y", **theta, observed=pm.Data("rows", rows[0]))
    # Below the smallest reaction time of all data sets, the density of each is positive.
    start = {"t0": 0.5 * (0.2 + min(each[:, 0].min() for each in rows))}
    compiled = nutpie.compile_pymc_model(model, initial_points=start, jitter_rvs=set())
    result = []
    for each in rows:
        drawn = nutpie.sample(
            compiled.with_data(rows=each),
            draws=1000,
            tune=1000,
            chains=2,
            cores=2,
            seed=random_seed,
            progress_bar=False,
        )
        result.append([np.asarray(drawn["posterior"][n]).ravel() for n in PARAMETERS])
    return np.moveaxis(np.array(result), 1, 2)
