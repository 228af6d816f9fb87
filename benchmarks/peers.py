"""Two moons by this package and by sbi, on the same simulations: training, and what comes after.

Posterior and likelihood together here, NPE and NLE one after the other there, both with their own
defaults (neural spline flows for sbi). Amortized calls take turns, A B A B. Needs the extra
`peers`.

    python benchmarks/peers.py
    python benchmarks/peers.py --n-simulations 1000     # a look around
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable

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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n-simulations", type=int, default=10_000)
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
    with tempfile.TemporaryDirectory() as logs, contextlib.chdir(logs):  # sbi writes where it is
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
    rows = {
        "1,000 draws of one data set": (
            lambda: ours.posterior.sample(one, 1_000, 1),
            lambda: posterior.sample((1_000,), x=x_test[0], show_progress_bars=False),
        ),
        "100 draws of 200 data sets": (
            lambda: ours.posterior.sample(many, 100, 1),
            lambda: posterior.sample_batched((100,), x=x_test[:200], show_progress_bars=False),
        ),
        "normalised log q of 1,000 θ": (
            lambda: ours.posterior.log_prob(points.numpy()[None], one),
            lambda: posterior.log_prob(points, x=x_test[0]),
        ),
    }
    table = Table("two moons", "jana_pymc", "sbi", "ratio", title=f"{len(made)} simulations")
    table.add_row(
        "training, s (sbi: NPE + NLE)",
        f"{ours_seconds:.0f}",
        f"{npe_seconds:.0f} + {nle_seconds:.0f}",
        f"{(npe_seconds + nle_seconds) / ours_seconds:.2f}",
    )
    for name, first, second in zip(("log q", "log l"), mine, theirs, strict=True):
        table.add_row(f"mean {name} of 1,000 test sets", f"{first:.3f}", f"{second:.3f}", "")
    for name, (first, second) in rows.items():
        times = in_turns({"ours": first, "theirs": second}, arguments.repeats)
        table.add_row(
            f"{name}, ms",
            f"{times['ours']:.1f}",
            f"{times['theirs']:.1f}",
            f"{times['theirs'] / times['ours']:.1f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
