"""A race without a closed form, from its simulator to a comparison with the diffusion model.

Two accumulators race to a threshold. Each receives an input of its own and noise, inhibits the
other, and never falls below zero: a competing accumulator, whose first passage times no formula
gives. Both models are trained on their simulators, sampled by NUTS on their neural likelihoods,
and compared in ArviZ on data of the race.

    python examples/race_model.py             # some minutes on two cores
    python examples/race_model.py --quick     # a look around
"""

from __future__ import annotations

import argparse

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from common import add_arguments, sampling, train, trained_ddm

import jana_pymc as jana
from jana_pymc.plots import plot_posterior_predictive
from jana_pymc.tasks.ddm import prior as ddm_prior

TRUTH = {"weak": 1.0, "strong": 2.5, "inhibition": 1.0, "threshold": 1.2, "t0": 0.3}
STEP = 0.01
LONGEST = 20.0
Data = dict[str, np.ndarray]


def race(rng, weak, strong, inhibition, threshold, t0, n_obs) -> Data:
    """Times and winners: 1 for the accumulator with the strong input, 0 for the other."""
    given = (weak, strong, inhibition, threshold, t0)
    shape = np.broadcast_shapes(*(np.shape(p) for p in given), (n_obs,))
    weak, strong, inhibition, threshold, t0 = (np.broadcast_to(p, shape).ravel() for p in given)
    time, winner = np.full(t0.size, np.nan), np.zeros(t0.size, dtype=int)
    inputs = np.stack([weak, strong])
    level, racing = np.zeros_like(inputs), np.arange(t0.size)
    for step in range(1, round(LONGEST / STEP)):
        noise = np.sqrt(STEP) * rng.standard_normal(level.shape)
        # Each is held back by the other: the two rows change places.
        drift = inputs[:, racing] - inhibition[racing] * level[::-1]
        level = np.maximum(level + STEP * drift + noise, 0.0)
        done = level.max(axis=0) >= threshold[racing]
        time[racing[done]] = step * STEP - STEP * rng.uniform(size=done.sum())
        winner[racing[done]] = level[:, done].argmax(axis=0)
        racing, level = racing[~done], level[:, ~done]
        if not racing.size:
            break
    return {"rt": (t0 + time).reshape(shape), "response": winner.reshape(shape)}


def race_prior() -> pm.Model:
    with pm.Model() as model:
        pm.TruncatedNormal("weak", 1.5, 1.0, lower=0.0, upper=5.0)
        pm.TruncatedNormal("strong", 2.0, 1.5, lower=0.0, upper=7.0)
        pm.TruncatedNormal("inhibition", 1.0, 1.0, lower=0.0, upper=3.0)
        pm.TruncatedNormal("threshold", 1.2, 0.6, lower=0.5, upper=2.5)
        pm.TruncatedNormal("t0", 0.4, 0.2, lower=0.1, upper=1.0)
    return model


def race_model(n_obs: tuple[int, int] = (80, 120)) -> jana.GenerativeModel:
    return jana.GenerativeModel(
        race_prior(),
        race,
        observables={"rt": jana.Continuous(lower="t0"), "response": jana.Categorical(2)},
        n_obs=n_obs,
        vectorized=True,
    )


def sample(
    likelihood: jana.LikelihoodApproximator,
    prior: pm.Model,
    data: Data,
    arguments: argparse.Namespace,
) -> jana.inference_data.ArviZData:
    """NUTS on the prior and the neural likelihood."""
    with prior as model:
        parameters = {name: model[name] for name in likelihood.layout.names}
        likelihood("y", **parameters, observed=data)
        start = jana.initvals(model, random_seed=arguments.random_seed)
        result = pm.sample(initvals=start, **sampling(arguments))
        pm.compute_log_likelihood(result, progressbar=False)
    likelihood.check_region(result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "output/race_model")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    model = race_model()
    pairs = {"race": train(model, arguments), "diffusion": trained_ddm(arguments)}
    data = race(np.random.default_rng(arguments.random_seed), **TRUTH, n_obs=120)
    priors = {"race": race_prior(), "diffusion": ddm_prior()}
    results = {
        name: sample(pair.likelihood, priors[name], data, arguments) for name, pair in pairs.items()
    }

    summary = az.summary(results["race"])
    summary.insert(0, "truth", [TRUTH[name] for name in summary.index])
    print(summary.to_string())
    print(az.compare(results).to_string())

    for name, pair in pairs.items():
        jana.save_inference_data(results[name], arguments.output / f"{name}.nc")
        drawn = pair.sample(data, draws=100, random_seed=arguments.random_seed)
        figure = plot_posterior_predictive(
            data, drawn["posterior_predictive"], value="rt", by="response"
        )
        figure.savefig(arguments.output / f"{name}_predictive.png", dpi=150)
        plt.close(figure)


if __name__ == "__main__":
    main()
