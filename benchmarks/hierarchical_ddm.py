"""A hierarchical diffusion model: the neural likelihood against closed forms, HSSM's among them.

14 participants of 280 trials; drift, boundary and non-decision time of each participant around the
population's, non-centred. The same PyMC model is sampled with the neural likelihood by lowering,
with the closed form of `jana_pymc.tasks.wiener`, and, where HSSM is installed (0.3.0, Python 3.11),
with HSSM's closed-form likelihood, all by the same sampler and with the same seeds. The neural
likelihood is sampled once more with a score correction learned from its first posterior, and the
closed form with another seed, which tells what two runs of one model differ by. Posteriors are
compared with both runs of the closed form together, in units of their Monte-Carlo error. Sharper
than two chains apart is one chain with weights: draws of the neural posterior, weighted by exact
over neural likelihood, tell how far the network moves each mean, with the noise of both left out.

    python benchmarks/hierarchical_ddm.py --approximator ddm.safetensors
    python benchmarks/hierarchical_ddm.py --approximator ddm.safetensors --quick
    python benchmarks/hierarchical_ddm.py --approximator ddm.safetensors --weights-only

The file is what ``examples/ddm.py --approximator ddm.safetensors`` writes; if there is none, a pair
is trained (17 minutes) whose likelihood is meant for thousands of trials, and whose posterior is a
small one that nothing here uses.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from pymc.model.transform.conditioning import remove_value_transforms

import jana_pymc as jana
from jana_pymc.importance import pareto_smooth
from jana_pymc.inference_data import posterior_of
from jana_pymc.tasks.ddm import ddm, simulator
from jana_pymc.tasks.wiener import wiener_logp

POPULATION = ("v_mean", "v_sd", "a_mean", "a_sd", "t0_mean", "t0_sd", "w")


def simulate(n_participants: int, n_trials: int, random_seed: int) -> dict[str, np.ndarray]:
    """Trials of participants one after the other, and whose they are."""
    rng = np.random.default_rng(random_seed)
    v = 1.0 + 0.5 * rng.standard_normal(n_participants)
    a = 1.4 * np.exp(0.15 * rng.standard_normal(n_participants))
    t0 = 0.35 * np.exp(0.15 * rng.standard_normal(n_participants))
    parts = [simulator(rng, *each, 0.5, n_trials) for each in zip(v, a, t0, strict=True)]
    data = {name: np.concatenate([part[name] for part in parts]) for name in ("rt", "response")}
    return {**data, "participant": np.repeat(np.arange(n_participants), n_trials)}


def train(path: Path) -> jana.JointApproximator:
    """A likelihood of twice the default's width, learned slowly and averaged: nearly unbiased."""
    # A folder that cannot be made is found out before the training.
    path.parent.mkdir(parents=True, exist_ok=True)
    model = ddm()
    simulations = [
        model.simulate(400_000, source=source, random_seed=11 + i)
        for i, source in enumerate(("prior", "proposal"))
    ]
    posterior = jana.PosteriorSettings(
        jana.SetSummarySettings(n_summaries=4, hidden=(16, 16)),
        jana.FlowSettings(n_layers=1, hidden=(16,)),
    )
    likelihood = jana.AutoregressiveSettings(hidden=(128,) * 5, residual=True)
    approximator = jana.fit(
        model,
        simulations=simulations,
        network=jana.NetworkSettings(posterior, likelihood),
        training=jana.TrainingSettings(
            n_steps=40_000, patience=None, likelihood_learning_rate=4e-3, weight_average=0.999
        ),
        random_seed=2,
    )
    approximator.save(path)
    return approximator


def build(
    kind: str,
    likelihood: jana.LikelihoodApproximator,
    data: dict[str, Any],
    correction: jana.ScoreCorrection | None = None,
) -> pm.Model:
    """The model with one of the likelihoods: "neural", "closed form" or "HSSM"."""
    participant = data["participant"]
    with pm.Model(coords={"participant": np.unique(participant)}) as model:
        v = pm.Normal("v_mean", 0.0, 2.0) + pm.HalfNormal("v_sd", 1.0) * pm.Normal(
            "v_z", dims="participant"
        )
        a, t0 = (
            pm.LogNormal(f"{name}_mean", np.log(centre), 0.3)
            * pm.math.exp(
                pm.HalfNormal(f"{name}_sd", 0.3) * pm.Normal(f"{name}_z", dims="participant")
            )
            for name, centre in (("a", 1.3), ("t0", 0.25))
        )
        w = pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
        rt, response = data["rt"], data["response"]
        if kind == "neural":
            observed = {"rt": rt, "response": response}
            likelihood(
                "y",
                v=v[participant],
                a=a[participant],
                t0=t0[participant],
                w=w,
                observed=observed,
                correction=correction,
                backend="lowering",
            )
        else:
            theta = v[participant], a[participant], t0[participant]
            log_prob = (
                wiener_logp(rt, response, *theta, w)
                if kind == "closed form"
                else (hssm_logp(rt, response, *theta, w))
            )
            pm.Potential("y", log_prob.sum())
    return model


def hssm_logp(rt: Any, response: Any, v: Any, a: Any, t0: Any, w: Any) -> Any:
    """HSSM's own density; its boundary is half of ours, its responses are −1 and 1."""
    from hssm.likelihoods.analytical import logp_ddm  # noqa: PLC0415

    data = pt.constant(np.column_stack([rt, 2.0 * response - 1.0]))
    return logp_ddm(data, v, a / 2.0, w, t0)


def learn(
    approximator: jana.JointApproximator,
    trace: Any,
    model: pm.Model,
    arguments: argparse.Namespace,
) -> jana.ScoreCorrection:
    """The score correction for where the posterior of the first run lies."""
    before = time.perf_counter()
    rows = jana.row_parameters(trace, model, random_seed=arguments.random_seed)
    correction = approximator.score_correction(
        rows,
        n_simulations=1_000 if arguments.quick else arguments.simulations,
        random_seed=arguments.random_seed,
        progressbar=False,
    )
    print(f"correction in {time.perf_counter() - before:.1f} s")
    print(correction.shift(len(model["y"].eval())).round(3).to_string(), flush=True)
    return correction


def sample(
    model: pm.Model, arguments: argparse.Namespace, random_seed: int
) -> tuple[Any, dict[str, float]]:
    """Draws, and seconds of compilation, sampling and both."""
    draws = 50 if arguments.quick else arguments.draws
    options = {
        "chains": 2 if arguments.quick else arguments.chains,
        "random_seed": random_seed,
        "target_accept": 0.9,
        "progressbar": False,
    }
    start = {"t0_mean": 0.15, "a_mean": 1.3}
    with model:
        before = time.perf_counter()
        trace = pm.sample(
            draws,
            tune=draws,
            cores=2,
            nuts_sampler=arguments.sampler,
            initvals=start,
            **options,
        )
        total = time.perf_counter() - before
    sampling = float(trace.posterior.attrs.get("sampling_time", np.nan))
    ess = az.ess(population(trace))
    smallest = min(float(np.asarray(ess[name])) for name in POPULATION)
    times = {"sampling": sampling, "total": total, "ess per second": smallest / sampling}
    return trace, times


def population(*traces: Any) -> xr.Dataset:
    """Draws of the population's parameters, chains of several runs side by side."""
    parts = [posterior_of(trace)[list(POPULATION)] for trace in traces]
    joined = xr.concat(parts, "chain")
    return joined.assign_coords(chain=np.arange(joined.sizes["chain"]))


def distances(first: xr.Dataset, second: xr.Dataset) -> dict[str, dict[str, float]]:
    """Difference of posterior means in Monte-Carlo standard errors, and in posterior sds."""
    errors = az.mcse(first), az.mcse(second)
    apart = first.mean(("chain", "draw")) - second.mean(("chain", "draw"))
    sd = second.std(("chain", "draw"))
    return {
        name: {
            "errors": float(apart[name] / np.hypot(*(float(e[name]) for e in errors))),
            "sd": float(apart[name] / sd[name]),
        }
        for name in POPULATION
    }


def moved(
    trace: Any, neural: pm.Model, exact: pm.Model
) -> tuple[dict[str, dict[str, float]], float, float]:
    """How far the network moves posterior means, by weights of exact over neural likelihood.

    Returns
    -------
    dict
        Of each parameter the neural mean less the weighted one: in Monte-Carlo standard errors of
        the neural mean, and in posterior sds.
    pareto_k, effective_draws : float
    """
    densities = []
    for model in (exact, neural):
        plain = remove_value_transforms(model)
        densities.append(plain.compile_logp())
        names = [variable.name for variable in plain.free_RVs]
    posterior = posterior_of(trace).stack(sample=("chain", "draw"))
    columns = {name: posterior[name].transpose("sample", ...).to_numpy() for name in names}
    points = [{n: c[i] for n, c in columns.items()} for i in range(posterior.sizes["sample"])]
    log_ratios = np.array([densities[0](point) - densities[1](point) for point in points])
    weights = pareto_smooth(log_ratios)
    errors = az.mcse(population(trace))
    share = np.exp(weights.log_weights)
    result = {}
    for name in POPULATION:
        draws = posterior[name].to_numpy()
        apart = draws.mean() - share @ draws
        result[name] = {
            "errors": float(apart / float(errors[name])),
            "sd": float(apart / draws.std()),
        }
    return result, float(weights.pareto_k), float(weights.effective_draws)


def show(what: str, by_parameter: dict[str, dict[str, float]]) -> None:
    print(f"{what}, in Monte-Carlo errors (posterior sds):")
    print({k: f"{v['errors']:.2f} ({v['sd']:.3f})" for k, v in by_parameter.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--approximator", type=Path, required=True, help="trained diffusion model")
    parser.add_argument("--quick", action="store_true", help="4 participants of 40 trials")
    parser.add_argument("--draws", type=int, default=1000, help="of a chain, after as many to tune")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--simulations", type=int, default=30_000, help="for the correction")
    parser.add_argument("--weights-only", action="store_true", help="no chains of closed forms")
    parser.add_argument("--sampler", default="pymc", choices=("pymc", "nutpie"))
    parser.add_argument("--random-seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    arguments = parser.parse_args()
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    path = arguments.approximator
    approximator = jana.load(path, ddm()) if path.exists() else train(path)
    likelihood = approximator.likelihood
    data = simulate(*((4, 40) if arguments.quick else (14, 280)), arguments.random_seed)
    kinds = ["neural"] if arguments.weights_only else ["neural", "closed form"]
    try:
        import hssm  # noqa: F401, PLC0415
    except ImportError:
        print("HSSM is not installed: left out. It is for Python 3.11: pip install hssm==0.3.0")
    else:
        kinds += [] if arguments.weights_only else ["HSSM"]

    traces, results, by_weights = {}, {}, {}

    def run(name: str, model: pm.Model, random_seed: int) -> None:
        traces[name], results[name] = sample(model, arguments, random_seed)
        print(name, {k: round(v, 3) for k, v in results[name].items()}, flush=True)

    seed = arguments.random_seed
    for kind in kinds:
        model = build(kind, likelihood, data)
        run(kind, model, seed)
        if kind == "neural":
            correction = learn(approximator, traces[kind], model, arguments)
            corrected = build(kind, likelihood, data, correction)
            run("neural, corrected", corrected, seed)
            closed = build("closed form", likelihood, data)
            for name, each in (("neural", model), ("neural, corrected", corrected)):
                by_weights[name], k, n = moved(traces[name], each, closed)
                show(f"{name}, moved by the network (k̂ {k:.2f}, {n:.0f} draws)", by_weights[name])
        if kind == "closed form" and not arguments.quick:
            run("closed form, again", model, seed + 1)
    exact = [name for name in traces if name.startswith("closed form")]
    away = {}
    if exact:
        reference = population(*(traces[name] for name in exact))
        others = (name for name in traces if name not in exact)
        away = {name: distances(population(traces[name]), reference) for name in others}
    if len(exact) == 2:
        first, second = (population(traces[name]) for name in exact)
        away["closed form, again"] = distances(second, first)
    for name, by_parameter in away.items():
        show(f"{name} − closed form", by_parameter)
    results = {"times": results, "distances": away, "moved": by_weights}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
