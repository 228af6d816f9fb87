"""A regression on two parameters of the diffusion model, by its neural likelihood.

Drift follows the strength of the evidence from trial to trial, the boundary follows whether speed
or accuracy was asked for. No network is trained for this design: the likelihood of one trial is
all that the regression needs.

    python examples/ddm_regression.py                 # some minutes on two cores
    python examples/ddm_regression.py --quick         # a look around
    python examples/ddm_regression.py --approximator ddm.safetensors   # keep the trained networks
"""

from __future__ import annotations

import argparse

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from common import add_arguments, sampling, trained_ddm

import jana_pymc as jana
from jana_pymc.tasks.ddm import simulator

TRUTH = {"v_0": 0.3, "v_slope": 1.5, "a_speed": 0.9, "a_accuracy": 1.6, "t0": 0.35, "w": 0.5}


def simulate(n_trials: int, random_seed: int) -> dict[str, np.ndarray]:
    """Trials of one participant, with their strength of evidence and instruction."""
    rng = np.random.default_rng(random_seed)
    strength, accuracy = rng.uniform(-1.0, 1.0, n_trials), rng.integers(0, 2, n_trials)
    v = TRUTH["v_0"] + TRUTH["v_slope"] * strength
    a = np.where(accuracy, TRUTH["a_accuracy"], TRUTH["a_speed"])
    trials = simulator(rng, v, a, TRUTH["t0"], TRUTH["w"], n_trials)
    return {**trials, "strength": strength, "accuracy": accuracy}


def regression(likelihood: jana.LikelihoodApproximator, data: dict[str, np.ndarray]) -> pm.Model:
    """Drift on the strength of the evidence, boundary on the instruction."""
    with pm.Model() as model:
        v_0 = pm.Normal("v_0", 0.0, 1.0)
        v_slope = pm.Normal("v_slope", 0.0, 2.0)
        a_speed = pm.TruncatedNormal("a_speed", 1.0, 1.0, lower=0.4, upper=3.0)
        a_accuracy = pm.TruncatedNormal("a_accuracy", 1.0, 1.0, lower=0.4, upper=3.0)
        t0 = pm.TruncatedNormal("t0", 0.4, 0.2, lower=0.1, upper=1.0)
        w = pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
        v = v_0 + v_slope * data["strength"]
        a = pm.math.switch(data["accuracy"], a_accuracy, a_speed)
        observed = {name: data[name] for name in ("rt", "response")}
        likelihood("y", v=v, a=a, t0=t0, w=w, observed=observed)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "output/ddm_regression")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    likelihood = trained_ddm(arguments).likelihood
    data = simulate(100 if arguments.quick else 500, arguments.random_seed)
    with regression(likelihood, data) as model:
        start = jana.initvals(model, random_seed=arguments.random_seed)
        result = pm.sample(initvals=start, **sampling(arguments))
        pm.compute_log_likelihood(result, progressbar=False)
    likelihood.check_region(result)
    jana.save_inference_data(result, arguments.output / "regression.nc")

    summary = az.summary(result, var_names=list(TRUTH))
    summary.insert(0, "truth", list(TRUTH.values()))
    print(summary.to_string())
    print(az.loo(result))

    figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
    for ax, (name, truth) in zip(axes.flat, TRUTH.items(), strict=True):
        ax.hist(np.asarray(result["posterior"][name]).ravel(), bins=40, density=True, color="0.7")
        ax.axvline(truth, color="C3")
        ax.set(title=name, yticks=[])
    figure.savefig(arguments.output / "posterior.png", dpi=150)


if __name__ == "__main__":
    main()
