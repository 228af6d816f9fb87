"""Time from ``pm.sample()`` to the first draw, with a cold compilation cache and a warm one.

A fresh process for each measurement, with a compilation directory of its own; the diffusion model
with 500 trials, by the lowering and by the Op. Weights are random: they do not change the graph.

    python benchmarks/compile_time.py
    python benchmarks/compile_time.py --trials 50 --samplers pymc
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLERS = ("pymc", "nutpie", "numpyro", "blackjax")


def first_draw(backend: str, sampler: str, n_trials: int) -> float:
    """Seconds from the call of `pymc.sample` until one draw has come back, in this process."""
    import numpy as np  # noqa: PLC0415
    import pymc as pm  # noqa: PLC0415
    import torch  # noqa: PLC0415

    import jana_pymc as jana  # noqa: PLC0415
    from jana_pymc.architecture import build_network  # noqa: PLC0415
    from jana_pymc.fitting import default_settings  # noqa: PLC0415
    from jana_pymc.tasks.ddm import ddm, prior, simulator  # noqa: PLC0415

    model = ddm()
    torch.manual_seed(1)
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    network = build_network(model.schema, model.prior, (True, False), settings)
    with torch.no_grad():  # the last layer has zeros, which PyTensor would fold away
        for parameter in network.likelihood.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    region = np.array([[-5.5, 0.4, 0.1, 0.28], [5.5, 3.1, 1.1, 0.72]])
    likelihood = jana.LikelihoodApproximator(network.likelihood, model.layout, model.schema, region)
    data = simulator(np.random.default_rng(1), 1.0, 1.5, 0.5, 0.5, n_trials)
    with prior() as user_model:
        parameters = {name: user_model[name] for name in model.layout.names}
        likelihood("y", **parameters, observed=data, backend=backend)
        start = {"v": 1.0, "a": 1.5, "t0": 0.3, "w": 0.5}  # by hand: the clock is cold
        before = time.perf_counter()
        if sampler == "nutpie":
            import nutpie  # noqa: PLC0415

            compiled = nutpie.compile_pymc_model(user_model, initial_points=start)
            options = {"tune": 1, "chains": 1, "cores": 1, "progress_bar": False}
            nutpie.sample(compiled, draws=1, seed=1, **options)
            return time.perf_counter() - before
        pm.sample(
            1,
            tune=0,
            chains=1,
            nuts_sampler=sampler,
            progressbar=False,
            compute_convergence_checks=False,
            random_seed=1,
            cores=1,
            initvals=start,
        )
    return time.perf_counter() - before


def measure(backend: str, sampler: str, n_trials: int, directory: str) -> float | None:
    """The same in a fresh process, whose compilation directory is given; None if it fails."""
    flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={directory}"]
    environment = {
        **os.environ,
        "PYTENSOR_FLAGS": ",".join(filter(None, flags)),
        "NUMBA_CACHE_DIR": directory,
    }
    command = [sys.executable, __file__, "--one", backend, sampler, "--trials", str(n_trials)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"{backend}, {sampler}: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(result.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["pymc", "nutpie"])
    parser.add_argument("--backends", nargs="+", default=["op", "lowering"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(first_draw(*arguments.one, arguments.trials))
        return
    print(f"{'backend':<10}{'sampler':<10}{'cold':>8}{'warm':>8}   seconds to the first draw")
    for sampler in arguments.samplers:
        for backend in arguments.backends:
            if backend == "op" and sampler in ("numpyro", "blackjax"):
                continue  # which need the lowering
            with tempfile.TemporaryDirectory() as directory:
                times = [measure(backend, sampler, arguments.trials, directory) for _ in range(2)]
            cells = "".join("       —" if t is None else f"{t:>8.1f}" for t in times)
            print(f"{backend:<10}{sampler:<10}{cells}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
