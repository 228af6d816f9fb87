"""A hierarchical diffusion model over participants, with an effect of the condition on drift.

The neural likelihood of one trial serves any number of participants, conditions and trials. All
participants' parameters are drawn around their population's, non-centred, since what single
participants tell of some parameters is little.

    python examples/hierarchical_ddm.py              # simulated participants, truth known
    python examples/hierarchical_ddm.py --quick      # a look around
    python examples/hierarchical_ddm.py --correct    # and once more, with a score correction
    python examples/hierarchical_ddm.py --csv FILE.csv --participant participant_id --condition stim
"""

from __future__ import annotations

import argparse
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymc as pm
from common import add_arguments, sampling, trained_ddm

import jana_pymc as jana
from jana_pymc.tasks.ddm import simulator

TRUTH = {"v_mean": [1.0, 0.4], "v_sd": 0.5, "a_mean": 1.4, "t0_mean": 0.35, "w": 0.5}


def simulated_trials(n_participants: int, n_trials: int, random_seed: int) -> pd.DataFrame:
    """Participants with drifts, boundaries and non-decision times of their own."""
    rng = np.random.default_rng(random_seed)
    parts = []
    for participant in range(n_participants):
        shift = TRUTH["v_sd"] * rng.standard_normal()
        a = TRUTH["a_mean"] * np.exp(0.15 * rng.standard_normal())
        t0 = TRUTH["t0_mean"] * np.exp(0.15 * rng.standard_normal())
        for condition, v in zip(("easy", "hard"), TRUTH["v_mean"], strict=True):
            trials = simulator(rng, v + shift, a, t0, TRUTH["w"], n_trials // 2)
            parts.append(
                pd.DataFrame({**trials, "participant": participant, "condition": condition})
            )
    return pd.concat(parts, ignore_index=True)


def real_trials(arguments: argparse.Namespace) -> pd.DataFrame:
    """Read one trial a row, in the columns that the command line names."""
    names = {
        arguments.rt: "rt",
        arguments.response: "response",
        arguments.participant: "participant",
        arguments.condition: "condition",
    }
    table = pd.read_csv(arguments.csv)
    missing = [name for name in names if name not in table]
    if missing:
        raise SystemExit(f"{arguments.csv} has no column {missing}; its columns: {list(table)}.")
    trials = table[list(names)].rename(columns=names).dropna()
    if len(trials) < len(table):
        print(f"{len(table) - len(trials)} of {len(table)} trials are incomplete: left out.")
    return trials.assign(response=(trials["response"] > 0).astype(int))


def hierarchical(
    likelihood: jana.LikelihoodApproximator,
    trials: pd.DataFrame,
    correction: jana.ScoreCorrection | None = None,
) -> pm.Model:
    """Population, participants, and one likelihood of all trials."""
    participant, participants = pd.factorize(trials["participant"], sort=True)
    condition, conditions = pd.factorize(trials["condition"], sort=True)
    # Parameters are the same within a cell of the design: the network runs once for each cell.
    cell = participant * len(conditions) + condition
    of_cell = np.repeat(np.arange(len(participants)), len(conditions))
    coords = {"participant": list(participants), "condition": list(conditions)}
    with pm.Model(coords=coords) as model:
        v_mean = pm.Normal("v_mean", 0.0, 2.0, dims="condition")
        v_sd = pm.HalfNormal("v_sd", 1.0)
        v_z = pm.Normal("v_z", dims="participant")
        effect_sd = pm.HalfNormal("effect_sd", 0.5)
        effect_z = pm.Normal("effect_z", dims=("participant", "condition"))
        v = pm.Deterministic(
            "v",
            v_mean + v_sd * v_z[:, None] + effect_sd * effect_z,
            dims=("participant", "condition"),
        )
        a, t0 = (
            positive(name, mean, spread)
            for name, mean, spread in (("a", 1.3, 0.3), ("t0", 0.3, 0.3))
        )
        w = pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
        # A few trials are no decisions: lapses of any time and response.
        lapse = pm.Beta("lapse", 1.0, 30.0)
        likelihood(
            "y",
            v=v.ravel()[cell],
            a=a[of_cell][cell],
            t0=t0[of_cell][cell],
            w=w,
            observed=trials[["rt", "response"]],
            contamination=lapse,
            contaminant={"rt": (0.0, float(trials["rt"].max()) + 1.0)},
            correction=correction,
        )
    return model


def positive(name: str, centre: float, spread: float) -> pm.Deterministic:
    """A positive parameter of each participant, log-normal around the population's."""
    mean = pm.LogNormal(f"{name}_mean", np.log(centre), spread)
    sd = pm.HalfNormal(f"{name}_sd", 0.3)
    z = pm.Normal(f"{name}_z", dims="participant")
    return pm.Deterministic(name, mean * pm.math.exp(sd * z), dims="participant")


def sample(model: pm.Model, arguments: argparse.Namespace) -> jana.inference_data.ArviZData:
    """NUTS from a start where the density is positive."""
    with model:
        start = jana.initvals(model, random_seed=arguments.random_seed)
        return pm.sample(initvals=start, **sampling(arguments))


def plot_effects(result: jana.inference_data.ArviZData) -> plt.Figure:
    """Drift of each participant in each condition, and the population's."""
    v = result["posterior"]["v"]
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    x = np.arange(v.sizes["participant"])
    for i, condition in enumerate(v["condition"].values):
        drawn = v.sel(condition=condition).stack(sample=("chain", "draw"))
        low, middle, high = np.quantile(np.asarray(drawn), [0.05, 0.5, 0.95], axis=-1)
        error = [middle - low, high - middle]
        ax.errorbar(x + 0.1 * i, middle, error, fmt="o", color=f"C{i}", label=str(condition))
        mean = float(result["posterior"]["v_mean"].sel(condition=condition).mean())
        ax.axhline(mean, color=f"C{i}", lw=0.8, ls=":")
    ax.set(xlabel="participant", ylabel="drift (median, 90 % interval)", xticks=x)
    ax.set_xticklabels(v["participant"].values)
    ax.legend(title="condition")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "output/hierarchical_ddm")
    parser.add_argument(
        "--correct", action="store_true", help="sample again with a score correction"
    )
    parser.add_argument("--csv", type=Path, help="real trials, one a row")
    parser.add_argument("--rt", default="rt", help="column of reaction times in seconds")
    parser.add_argument("--response", default="response", help="column: 1 upper, else lower")
    parser.add_argument("--participant", default="participant", help="column of participants")
    parser.add_argument("--condition", default="condition", help="column of conditions")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    if arguments.csv is not None:
        trials = real_trials(arguments)
    else:
        size = (4, 60) if arguments.quick else (14, 280)
        trials = simulated_trials(*size, arguments.random_seed)
    approximator = trained_ddm(arguments)
    likelihood = approximator.likelihood
    model = hierarchical(likelihood, trials)
    result = sample(model, arguments)
    if arguments.correct:
        # What all trials share is known better than the network is accurate: ask the simulator.
        rows = jana.row_parameters(result, model, "y", random_seed=arguments.random_seed)
        correction = approximator.score_correction(
            rows, random_seed=arguments.random_seed, progressbar=not arguments.no_progress
        )
        print(correction.shift(len(trials)).to_string())
        result = sample(hierarchical(likelihood, trials, correction), arguments)
    likelihood.check_region(result)
    jana.save_inference_data(result, arguments.output / "hierarchical.nc")

    population = ["v_mean", "v_sd", "effect_sd", "a_mean", "a_sd", "t0_mean", "t0_sd", "w", "lapse"]
    print(az.summary(result, var_names=population).to_string())
    if arguments.csv is None:
        print("truth:", TRUTH)
    plot_effects(result).savefig(arguments.output / "drift.png", dpi=150)


if __name__ == "__main__":
    main()
