"""Time of a likelihood's value and gradient for one parameter vector, six ways side by side.

Neural densities are untrained and evaluate in double precision: time does not depend on weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import torch
from pytensor.compile.mode import Mode, get_mode
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from jana_pymc import LikelihoodApproximator
from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
    Bound,
    LikelihoodNetwork,
    SignedCouplingLikelihood,
    Support,
)
from jana_pymc.simulation import Categorical, Continuous, DataSchema, ParameterLayout
from jana_pymc.tasks import ddm
from jana_pymc.tasks.wiener import wiener_logp

NAMES = ("v", "a", "t0", "w")
THETA = np.array([1.0, 1.5, 0.3, 0.5])
REGION = np.array([[-6.0, 0.3, 0.0, 0.2], [6.0, 4.0, 1.5, 0.8]])
SIZES = (100, 500, 5_000)
REFERENCE = "closed form, matrix"

Density = Callable[..., Any]
Compiled = Callable[[np.ndarray], list[np.ndarray]]


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    densities = _densities()
    seconds = 1.0 if options.quick else 8.0
    results: dict[str, Any] = {}
    for linker, mode in _modes().items():
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(linker, total=len(SIZES))
            results[linker] = {}
            for n_obs in SIZES:
                progress.update(task, description=f"{linker}, {n_obs:,} trials")
                results[linker][str(n_obs)] = _timed(densities, n_obs, mode, seconds)
                progress.advance(task)
        Console().print(_table(linker, results[linker]))
    report = {
        "unit": "median milliseconds for value and gradient",
        "versions": {m.__name__: m.__version__ for m in (pytensor, torch, np)},
        "python": platform.python_version(),
        "milliseconds": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    Console().print(f"written to {options.output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--output", type=Path, default=Path("output/likelihood_gradient.json"))
    return parser.parse_args()


def _densities() -> dict[str, Density]:
    """Log density of (data, v, a, t0, w) as a PyTensor graph, by name."""
    default = _approximator(
        AutoregressiveLikelihood([Support(lower=Bound(column=2)), 2], len(NAMES))
    )
    mlp = _approximator(DenseLikelihood(len(NAMES)))
    coupling = _approximator(SignedCouplingLikelihood([Support(), 2], len(NAMES)))
    return {
        "lowering": _neural(default, "lowering"),
        "Op": _neural(default, "op"),
        "closed form": lambda data, *theta: wiener_logp(data[:, 0], data[:, 1], *theta),
        REFERENCE: lambda data, *theta: matrix_wiener_logp(data[:, 0], data[:, 1], *theta),
        "3 × 100 MLP": _neural(mlp, "op"),
        "12-layer coupling flow": _neural(coupling, "op"),
    }


def _approximator(network: LikelihoodNetwork) -> LikelihoodApproximator:
    """The network, moved away from its start, as a likelihood of the diffusion model."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    schema = DataSchema({"rt": Continuous(lower="t0"), "response": Categorical(2)})
    layout = ParameterLayout(NAMES, dict.fromkeys(NAMES, ()))
    return LikelihoodApproximator(network, layout, schema, REGION)


def _neural(approximator: LikelihoodApproximator, backend: str) -> Density:
    return lambda data, *theta: approximator.logp(
        data, backend=backend, **dict(zip(NAMES, theta, strict=True))
    )


class DenseLikelihood(LikelihoodNetwork):
    """Log density as a dense network of (θ, time, response), as likelihood ratio methods have it.

    Parameters
    ----------
    n_parameters : int
    """

    def __init__(self, n_parameters: int):
        super().__init__()
        sizes = (n_parameters + 2, 100, 100, 100)
        hidden = [
            layer
            for n_in, n_out in itertools.pairwise(sizes)
            for layer in (nn.Linear(n_in, n_out), nn.Tanh())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(100, 1))

    def log_prob_rows(
        self, observables: Tensor, parameters: Tensor, group: Tensor, conditions: None = None
    ) -> Tensor:
        return self.layers(torch.cat([parameters[group], observables], -1))[:, 0]


def matrix_wiener_logp(rt: Any, response: Any, v: Any, a: Any, t0: Any, w: Any) -> Any:
    """The Wiener density with both series as matrices of 20 terms a trial, as is usual."""
    terms = 20
    upper = pt.eq(response, 1)
    drift, start = pt.switch(upper, -v, v), pt.switch(upper, 1 - w, w)
    t = pt.maximum(rt - t0, 1e-10)
    scaled = (t / a**2)[:, None]
    image = start[:, None] + 2 * pt.arange(-(terms // 2), terms // 2 + 1)
    small = (image * pt.exp(-(image**2) / 2 / scaled)).sum(1)
    small = small / pt.sqrt(2 * math.pi * scaled[:, 0] ** 3)
    k = pt.arange(1, terms + 1)
    large = k * pt.sin(k * math.pi * start[:, None]) * pt.exp(-((k * math.pi) ** 2) * scaled / 2)
    density = pt.switch(scaled[:, 0] < 0.5, small, math.pi * large.sum(1))
    return pt.log(pt.maximum(density, 1e-29)) - drift * a * start - v**2 * t / 2 - 2 * pt.log(a)


def _modes() -> dict[str, Any]:
    modes = {}
    compiler = pytensor.config.cxx
    if compiler and shutil.which(compiler.split()[0]):
        modes["C"] = Mode(linker="cvm", optimizer="fast_run")
    try:
        import numba  # noqa: F401, PLC0415
    except ImportError:
        return modes
    modes["numba"] = get_mode("NUMBA")
    return modes


def _timed(
    densities: dict[str, Density], n_obs: int, mode: Any, seconds: float
) -> dict[str, float]:
    """Median time of each method in milliseconds, methods taking turns."""
    data = ddm.simulator(np.random.default_rng(0), *THETA, n_obs)
    rows = np.column_stack([data["rt"], data["response"]]).astype(float)
    compiled = {name: _compile(density, rows, mode) for name, density in densities.items()}
    values = [compiled[name](THETA)[0] for name in ("lowering", "Op")]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
    values = [compiled[name](THETA)[0] for name in ("closed form", REFERENCE)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)

    times: dict[str, list[float]] = {name: [] for name in compiled}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[REFERENCE]) < 15:
        for name, function in compiled.items():
            times[name] += _calls(function)
    return {name: float(np.median(t)) * 1e3 for name, t in times.items()}


def _calls(function: Compiled, repeats: int = 5) -> list[float]:
    """Times of a few calls in a row; a first one brings the data back into the caches."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function(THETA)
        times.append(time.perf_counter() - start)
    return times[1:]


def _compile(density: Density, rows: np.ndarray, mode: Any) -> Compiled:
    theta = pt.dvector("theta")
    total = density(pt.constant(rows), *(theta[i] for i in range(len(NAMES)))).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numba calls an Op by way of Python
        function = pytensor.function([theta], [total, pytensor.grad(total, theta)], mode=mode)
    function.trust_input = True
    function(THETA)
    return function


def _table(linker: str, results: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"Value and gradient in ms, {linker} linker (× the matrix closed form)")
    table.add_column("likelihood", no_wrap=True)
    for n_obs in SIZES:
        table.add_column(f"{n_obs:,} trials", justify="right")
    for name in next(iter(results.values())):
        cells = []
        for column in results.values():
            cells.append(f"{column[name]:.3f} ({column[name] / column[REFERENCE]:.2f}×)")
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    main()
