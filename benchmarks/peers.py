"""Two moons by this package, sbi and BayesFlow, on the same simulations: training, and after.

Posterior and likelihood together here; NPE and NLE one after the other in sbi, with its defaults
and neural spline flows; the posterior alone in BayesFlow (on torch), with six spline layers.
Amortized calls take turns, A B A B. Needs the extra `peers`; BayesFlow is left out where it is
missing.

    python benchmarks/peers.py
    python benchmarks/peers.py --n-simulations 1000 --bayesflow-epochs 5     # a look around
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.tasks.two_moons import two_moons

try:
    from sbi.inference import NLE, NPE
    from sbi.utils import BoxUniform
except ImportError as error:
    raise SystemExit(
        f"benchmarks/peers.py needs the extra `peers`: pip install '.[peers]' ({error})"
    ) from error

os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    import bayesflow
except ImportError:
    bayesflow = None
torch.set_grad_enabled(True)  # BayesFlow switches gradients off, for all

Call = Callable[[], object]


def clock(call: Call) -> tuple[float, object]:
    """Seconds, and what the call returns."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def in_turns(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Median milliseconds of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(1e3 * clock(call)[0])
    return {name: float(np.median(values)) for name, values in times.items()}


def bayesflow_posterior(theta: np.ndarray, x: np.ndarray, epochs: int) -> tuple[float, Any]:
    """Seconds of training, and BayesFlow's workflow, which samples and evaluates."""
    workflow = bayesflow.BasicWorkflow(
        inference_network=bayesflow.networks.CouplingFlow(transform="spline", depth=6),
        inference_variables=["theta"],
        inference_conditions=["x"],
        standardize="all",
    )
    data = {"theta": theta, "x": x}
    seconds, _ = clock(lambda: workflow.fit_offline(data, epochs=epochs, batch_size=128, verbose=0))
    return seconds, workflow


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n-simulations", type=int, default=10_000)
    parser.add_argument("--bayesflow-epochs", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--random-seed", type=int, default=1)
    arguments = parser.parse_args()
    seed = arguments.random_seed
    torch.manual_seed(seed)
    model = two_moons("benchmark").model
    made = model.simulate(arguments.n_simulations, random_seed=seed, progressbar=False)
    test = model.simulate(1_000, random_seed=seed + 1, progressbar=False)
    theta, x = (
        torch.as_tensor(values, dtype=torch.float32)
        for values in (made.parameters, made.batch().observables[:, 0])
    )
    theta_test, x_test = (
        torch.as_tensor(values, dtype=torch.float32)
        for values in (test.parameters, test.batch().observables[:, 0])
    )
    prior = BoxUniform(-torch.ones(2), torch.ones(2))

    ours_seconds, ours = clock(
        lambda: jana.fit(model, simulations=made, random_seed=seed, progressbar=False)
    )
    npe, nle = NPE(prior, density_estimator="nsf"), NLE(prior, density_estimator="nsf")
    npe_seconds, q = clock(lambda: npe.append_simulations(theta, x).train())
    nle_seconds, likelihood = clock(lambda: nle.append_simulations(theta, x).train())
    posterior = npe.build_posterior(q)

    batch = test.batch()
    with torch.no_grad():
        theirs = [
            float(q.log_prob(theta_test[None], x_test).mean()),
            float(likelihood.log_prob(x_test[None], theta_test).mean()),
        ]
    likelihoods = [
        ours.likelihood.log_prob(x, t[None])[0].sum()
        for x, t in zip(batch.observables, test.parameters, strict=True)
    ]
    mine = [
        float(ours.posterior.log_prob(test.parameters[:, None], batch).mean()),
        float(np.mean(likelihoods)),
    ]
    one, many = batch[:1], batch[:200]
    points = torch.as_tensor(model.prior.draw(1_000, 1), dtype=torch.float32)
    rows: dict[str, list[Call]] = {
        "1,000 draws of one data set": [
            lambda: ours.posterior.sample(one, 1_000, 1),
            lambda: posterior.sample((1_000,), x=x_test[0], show_progress_bars=False),
        ],
        "100 draws of 200 data sets": [
            lambda: ours.posterior.sample(many, 100, 1),
            lambda: posterior.sample_batched((100,), x=x_test[:200], show_progress_bars=False),
        ],
        "normalised log q of 1,000 θ": [
            lambda: ours.posterior.log_prob(points.numpy()[None], one),
            lambda: posterior.log_prob(points, x=x_test[0]),
        ],
    }
    names = ["jana_pymc", "sbi"]
    training = [f"{ours_seconds:.0f}", f"{npe_seconds:.0f} + {nle_seconds:.0f}"]
    densities = [[f"{mine[0]:.3f}", f"{theirs[0]:.3f}"], [f"{mine[1]:.3f}", f"{theirs[1]:.3f}"]]
    if bayesflow is not None:
        arrays = [np.asarray(values) for values in (theta, x, theta_test, x_test, points)]
        seconds, workflow = bayesflow_posterior(*arrays[:2], arguments.bayesflow_epochs)
        log_q = workflow.log_prob({"theta": arrays[2], "x": arrays[3]})
        names.append("BayesFlow")
        training.append(f"{seconds:.0f} + –")
        densities[0].append(f"{np.mean(log_q):.3f}")
        densities[1].append("–")
        repeated = np.repeat(arrays[3][:1], len(points), 0)
        for calls, call in zip(
            rows.values(),
            (
                lambda: workflow.sample(num_samples=1_000, conditions={"x": arrays[3][:1]}),
                lambda: workflow.sample(num_samples=100, conditions={"x": arrays[3][:200]}),
                lambda: workflow.log_prob({"theta": arrays[4], "x": repeated}),
            ),
            strict=True,
        ):
            calls.append(call)
    table = Table("two moons", *names, title=f"{len(made)} simulations")
    table.add_row("training (posterior + likelihood), s", *training)
    for name, values in zip(("log q", "log l"), densities, strict=True):
        # Of the flow itself: sbi's posterior would be normalised anew for each data set.
        of_sbi = " (sbi: leakage included)" if name == "log q" else ""
        table.add_row(f"mean {name} of 1,000 test sets{of_sbi}", *values)
    for name, calls in rows.items():
        times = in_turns(dict(zip(names, calls, strict=True)), arguments.repeats)
        table.add_row(f"{name}, ms", *(f"{times[each]:.1f}" for each in names))
    Console(width=110).print(table)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as logs, contextlib.chdir(logs):  # sbi writes where it is
        main()
