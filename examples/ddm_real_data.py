"""Real reaction times: amortized posteriors of groups, and a hierarchical model over them."""

from __future__ import annotations

import argparse

import arviz as az
import numpy as np
import pymc as pm
from common import Stopwatch
from ddm_data import PARAMETERS, Trials
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.inference_data import ArviZData
from jana_pymc.plots import plot_posterior_pairs, plot_posterior_predictive

EDGE = 0.02
"""Share of the prior's range next to its ends in which draws are said to lean on the edge."""


def analyse_groups(
    approximator: jana.JointApproximator,
    trials: dict[str, Trials],
    arguments: argparse.Namespace,
    watch: Stopwatch,
    console: Console,
) -> None:
    """Amortized posterior of each group, hierarchical model over all, and what to distrust."""
    with watch("amortized posteriors"):
        amortized = approximator.sample(
            list(trials.values()), groups=("posterior",), random_seed=arguments.random_seed
        )
    names = list(trials)
    with watch("NUTS, hierarchical"):
        hierarchical = sample_hierarchical(approximator, trials, amortized, arguments)
    jana.save_inference_data(amortized, arguments.output / "amortized.nc")
    jana.save_inference_data(hierarchical, arguments.output / "hierarchical.nc")

    table = Table("group", "trials", *PARAMETERS, title="amortized | hierarchical, mean ± sd")
    for i, name in enumerate(names):
        cells = []
        for parameter in PARAMETERS:
            alone = np.asarray(amortized["posterior"][parameter].sel(dataset=i))
            pooled = np.asarray(hierarchical["posterior"][parameter].sel(group=name))
            cells.append(
                f"{alone.mean():.2f} ± {alone.std():.2f} | {pooled.mean():.2f} ± {pooled.std():.2f}"
            )
        table.add_row(name, str(len(trials[name]["rt"])), *cells)
    console.print(table)
    summary = az.summary(hierarchical, kind="diagnostics", round_to="none")
    divergences = int(np.asarray(hierarchical["sample_stats"]["diverging"]).sum())
    console.print(f"largest r-hat {summary['r_hat'].max():.3f}, {divergences} divergences")
    lapse = np.asarray(hierarchical["posterior"]["lapse"])
    console.print(f"share of lapses {lapse.mean():.3f} ± {lapse.std():.3f}")
    approximator.likelihood.check_region(hierarchical)
    for line in doubts(approximator, hierarchical, trials):
        console.print(f"[yellow]{line}[/yellow]")

    plot_predictive(hierarchical, trials).savefig(
        arguments.output / "posterior_predictive.png", dpi=150
    )
    both = {
        "amortized": {p: np.asarray(amortized["posterior"][p].sel(dataset=0)) for p in PARAMETERS},
        "hierarchical": {
            p: np.asarray(hierarchical["posterior"][p].sel(group=names[0])) for p in PARAMETERS
        },
    }
    plot_posterior_pairs(both).savefig(arguments.output / f"posterior_{names[0]}.png", dpi=150)


def sample_hierarchical(
    approximator: jana.JointApproximator,
    trials: dict[str, Trials],
    amortized: ArviZData,
    arguments: argparse.Namespace,
) -> ArviZData:
    """NUTS over groups whose parameters share a population, each group many trials.

    Some trials are lapses, uniform in time: without them, one fast guess holds a group's t0 down.

    Each chain starts from an amortized draw of every group: dispersed, and where the density is
    positive. PyMC's jitter would carry log a and log t0 out of the trained region.
    """
    data = {k: np.concatenate([t[k] for t in trials.values()]) for k in ("rt", "response")}
    group = np.repeat(np.arange(len(trials)), [len(t["rt"]) for t in trials.values()])
    with pm.Model(coords={"group": list(trials)}):
        v = _population("v", 0.0, 2.0, 1.5)
        log_a = _population("log_a", np.log(1.5), 0.5, 0.4)
        log_t0 = _population("log_t0", np.log(0.35), 0.5, 0.4)
        logit_w = _population("logit_w", 0.0, 0.3, 0.2, centred=False)
        lapse = pm.Beta("lapse", 1.0, 20.0)
        a = pm.Deterministic("a", pm.math.exp(log_a), dims="group")
        t0 = pm.Deterministic("t0", pm.math.exp(log_t0), dims="group")
        w = pm.Deterministic("w", pm.math.sigmoid(logit_w), dims="group")
        approximator.likelihood(
            "y",
            v=v[group],
            a=a[group],
            t0=t0[group],
            w=w[group],
            contamination=lapse,
            contaminant={"rt": (0.0, 1.1 * float(data["rt"].max()))},
            observed=data,
        )
        result = pm.sample(
            chains=4,
            cores=2,
            target_accept=0.9,
            nuts_sampler="pymc",
            init="adapt_diag",
            initvals=[start(amortized, trials, chain) for chain in range(4)],
            random_seed=arguments.random_seed,
            progressbar=not arguments.no_progress,
        )
        pm.sample_posterior_predictive(
            result,
            extend_inferencedata=True,
            random_seed=arguments.random_seed,
            progressbar=not arguments.no_progress,
        )
    return result


def start(amortized: ArviZData, trials: dict[str, Trials], chain: int) -> dict[str, np.ndarray]:
    """One amortized draw of each group, and the population that they make."""
    drawn = {p: np.asarray(amortized["posterior"][p])[chain, 0] for p in PARAMETERS}
    fastest = np.array([t["rt"].min() for t in trials.values()])
    groups = {
        "v": drawn["v"],
        "log_a": np.log(drawn["a"]),
        "log_t0": np.log(np.minimum(drawn["t0"], 0.95 * fastest)),
        "logit_w": np.log(drawn["w"] / (1.0 - drawn["w"])),
    }
    means = {f"{name}_mean": values.mean() for name, values in groups.items()}
    sds = {f"{name}_sd": max(values.std(), 0.05) for name, values in groups.items()}
    logit_w = groups.pop("logit_w")
    offset = (logit_w - means["logit_w_mean"]) / sds["logit_w_sd"]
    return groups | means | sds | {"logit_w_offset": offset}


def _population(
    name: str, location: float, location_sd: float, scale: float, *, centred: bool = True
):
    """Values of the groups, normal around a population mean.

    Centred where a group's own trials say more than the population does, as they do of all
    parameters but w.
    """
    mean = pm.Normal(f"{name}_mean", location, location_sd)
    sd = pm.HalfNormal(f"{name}_sd", scale)
    if centred:
        return pm.Normal(name, mean, sd, dims="group")
    offset = pm.Normal(f"{name}_offset", dims="group")
    return pm.Deterministic(name, mean + sd * offset, dims="group")


def doubts(
    approximator: jana.JointApproximator, result: ArviZData, trials: dict[str, Trials]
) -> list[str]:
    """What the reader should know before believing: sizes not trained on, a prior too narrow."""
    lines = []
    low, high = approximator.schema.n_obs
    sizes = [len(t["rt"]) for t in trials.values()]
    if min(sizes) < low or max(sizes) > high:
        lines.append(
            f"groups have {min(sizes)} to {max(sizes)} trials, the posterior network was trained "
            f"on {low} to {high}: the amortized posteriors extrapolate."
        )
    ends = approximator.prior.constrain(np.array([[-50.0], [50.0]]) * np.ones((1, 4)))
    for parameter, (bottom, top) in zip(PARAMETERS, ends.T, strict=True):
        draws = np.asarray(result["posterior"][parameter])
        width = EDGE * (top - bottom)
        share = np.mean((draws < bottom + width) | (draws > top - width), axis=(0, 1))
        leaning = [g for g, s in zip(trials, share, strict=True) if s > 0.01]
        if leaning:
            lines.append(
                f"{parameter} of {', '.join(leaning)} leans on the edge of the prior of the "
                f"amortized posterior [{bottom:.2f}, {top:.2f}]: widen it and train anew."
            )
    return lines


def plot_predictive(result: ArviZData, trials: dict[str, Trials]) -> Figure:
    """Posterior predictive densities of the hierarchical model against the data of each group."""
    drawn = np.asarray(result["posterior_predictive"]["y"])[:, ::20]
    group = np.repeat(list(trials), [len(t["rt"]) for t in trials.values()])
    observed = {k: np.concatenate([t[k] for t in trials.values()]) for k in ("rt", "response")}
    return plot_posterior_predictive(
        observed,
        {"rt": drawn[..., 0], "response": drawn[..., 1]},
        value="rt",
        by="response",
        group=group,
    )
