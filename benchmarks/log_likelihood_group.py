"""The log_likelihood group of a posterior by `pymc.compute_log_likelihood`.

The diffusion model, 4,000 draws by 500 trials, by the lowering and by the Op: wall and CPU seconds
of the first call, which compiles unless an earlier run did, and of the second, whose modules are at
hand. Weights are random, also those of the last layer: before training it has zeros, which PyTensor
would fold away with all that leads to them.

    python benchmarks/log_likelihood_group.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pymc as pm
import torch
import xarray as xr

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings
from jana_pymc.inference_data import to_inference_data
from jana_pymc.tasks.ddm import ddm, prior, simulator

TRUTH = {"v": 1.0, "a": 1.5, "t0": 0.3, "w": 0.5}


def seconds(function: Callable[[], object]) -> str:
    """Wall and CPU seconds of a call."""
    start = time.perf_counter(), time.process_time()
    function()
    return f"{time.perf_counter() - start[0]:6.2f} {time.process_time() - start[1]:6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000, help="of each of four chains")
    parser.add_argument("--trials", type=int, default=500)
    arguments = parser.parse_args()
    model = ddm()
    torch.manual_seed(1)
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    network = build_network(model.schema, model.prior, (True, False), settings)
    with torch.no_grad():
        for parameter in network.likelihood.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    region = np.array([[-5.5, 0.4, 0.1, 0.28], [5.5, 3.1, 1.1, 0.72]])
    likelihood = jana.LikelihoodApproximator(network.likelihood, model.layout, model.schema, region)
    rng = np.random.default_rng(1)
    data = simulator(rng, *TRUTH.values(), arguments.trials)
    shape = (4, arguments.draws)
    draws = {
        name: (("chain", "draw"), value + 0.02 * rng.standard_normal(shape))
        for name, value in TRUTH.items()
    }
    print(f"{np.prod(shape):,} draws × {arguments.trials} trials     wall    CPU  (seconds)")
    for backend in ("lowering", "op"):
        with prior() as user_model:
            parameters = {name: user_model[name] for name in TRUTH}
            likelihood("y", **parameters, observed=data, backend=backend)

        def group(user_model: pm.Model = user_model) -> None:
            trace = to_inference_data({"posterior": xr.Dataset(draws)})
            pm.compute_log_likelihood(trace, model=user_model, progressbar=False)

        print(f"{backend:8} first        {seconds(group)}")
        print(f"{backend:8} second       {seconds(group)}", flush=True)


if __name__ == "__main__":
    main()
