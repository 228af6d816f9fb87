"""Score trained diffusion-model networks on data sets whose exact answers are known."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pymc as pm
from ddm_stopwatch import Stopwatch

import jana_pymc as jana
from jana_pymc.tasks.ddm import log_likelihood, prior

PARAMETERS = ("v", "a", "t0", "w")


def score(
    approximator: jana.JointApproximator, arguments: argparse.Namespace, watch: Stopwatch
) -> dict[str, Any]:
    """Errors of both networks on the data sets of a file, in nats.

    Returns
    -------
    dict
        ``likelihood_error_sd``: standard deviation over data sets of the neural minus the exact
        summed log-likelihood at the true parameters; ``likelihood_error_mean``; ``kl_per_trial``:
        mean exact minus neural log-likelihood of a trial; ``posterior_log_prob``: mean
        log q(θ* | x). With exact posteriors also ``amortized`` and ``nuts``: the median distance
        of means in exact standard deviations and the median ratio of standard deviations.
    """
    with np.load(arguments.datasets) as file:
        theta = file["theta"].astype(float)
        signed, n_trials = file["signed_rt"].astype(float), file["n_trials"]
    trials = [
        {"rt": np.abs(s[:n]), "response": (s[:n] > 0).astype(int)}
        for s, n in zip(signed, n_trials, strict=True)
    ]
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
        "kl_per_trial": -error.sum() / n_trials.sum(),
        "posterior_log_prob": log_q.mean(),
    }
    if arguments.exact is not None:
        scores |= _compare_posteriors(approximator, trials, arguments, watch)
    return scores


def _compare_posteriors(
    approximator: jana.JointApproximator,
    trials: list[dict[str, np.ndarray]],
    arguments: argparse.Namespace,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Amortized posterior and NUTS on the neural likelihood against exact moments."""
    with np.load(arguments.exact) as file:
        rows = file["dataset"][: arguments.limit]
        mean = file["posterior_mean"][: arguments.limit]
        sd = file["posterior_sd"][: arguments.limit]
    chosen = [trials[row] for row in rows]
    with watch("amortized posteriors"):
        batch = approximator.schema.batch(chosen)
        amortized = approximator.posterior.sample(batch, 4000, random_seed=1)
    with watch("NUTS"):
        nuts = np.stack([_nuts(approximator, t, arguments.random_seed) for t in chosen])
    return {
        name: {
            "mean_error_in_sd": np.median(np.abs(draws.mean(1) - mean) / sd, axis=0).tolist(),
            "mean_error_in_sd_all": np.median(np.abs(draws.mean(1) - mean) / sd),
            "sd_ratio": np.median(draws.std(1) / sd, axis=0).tolist(),
        }
        for name, draws in (("amortized", amortized), ("nuts", nuts))
    }


def _nuts(
    approximator: jana.JointApproximator, trials: dict[str, np.ndarray], random_seed: int
) -> np.ndarray:
    with prior() as model:
        theta = {name: model[name] for name in PARAMETERS}
        approximator.likelihood("y", **theta, observed=trials)
        drawn = pm.sample(
            chains=2,
            cores=2,
            initvals=jana.initvals(random_seed=random_seed),
            nuts_sampler="pymc",
            random_seed=random_seed,
            progressbar=False,
        )
    return np.stack([np.asarray(drawn["posterior"][n]).ravel() for n in PARAMETERS], -1)
