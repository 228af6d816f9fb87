"""One model under every sampler: the same posterior, no deadlock, no swallowed exception."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterable
from multiprocessing import get_context
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import torch
from modes import PYTHON
from pytensor.compile.mode import get_default_mode
from untrained import HIGH, LOW, reaction_times, untrained

import jana_pymc as jana
from jana_pymc.pytensor import LogDensity, failure
from jana_pymc.simulation import Continuous

pytestmark = pytest.mark.bridge

RT = reaction_times()
N_OBS = 60
QUIET = {"random_seed": 1, "progressbar": False, "compute_convergence_checks": False}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return RT.simulate(np.array([[0.5, 0.3]]), N_OBS, random_seed=0)[0]


def build(rows: np.ndarray, backend: str = "lowering") -> pm.Model:
    with pm.Model() as model:
        v = pm.Uniform("v", LOW, HIGH)
        t0 = pm.Uniform("t0", LOW, 0.3)
        RT("y", v=v, t0=t0, observed=rows, backend=backend)
    return model


@pytest.fixture(scope="module")
def many_rows() -> np.ndarray:
    """So many that their posterior is nearly normal, with both parameters amid their priors."""
    return RT.simulate(np.array([[0.5, 0.2]]), 300, random_seed=0)[0]


def log_densities(rows: np.ndarray, n: int = 201) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parameters on a grid over their priors, and the exact log density at each point of it."""
    v, t0 = np.meshgrid(np.linspace(LOW, HIGH, n), np.linspace(LOW, 0.3, n), indexing="ij")
    theta = np.column_stack([v.ravel(), t0.ravel()])
    return {"v": theta[:, 0], "t0": theta[:, 1]}, RT.log_prob(rows, theta).sum(1)


@pytest.fixture(scope="module")
def grid(rows: np.ndarray) -> dict[str, tuple[float, float]]:
    """Exact posterior mean and standard deviation, by quadrature."""
    return moments(*log_densities(rows))


def moments(
    points: dict[str, np.ndarray], log_density: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each parameter, by its values on an even grid."""
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    found = {}
    for name, values in points.items():
        mean = float(values @ weight)
        found[name] = mean, float(np.sqrt((values - mean) ** 2 @ weight))
    return found


def check(trace: Any, grid: dict[str, tuple[float, float]], tolerance: float = 0.2) -> None:
    for name, (mean, sd) in grid.items():
        drawn = trace.posterior[name].values
        assert drawn.mean() == pytest.approx(mean, abs=tolerance * sd), name
        assert drawn.std() == pytest.approx(sd, rel=0.2), name


SAMPLERS = [
    "pymc",
    # Compilation by JAX takes most of the time.
    pytest.param("numpyro", marks=pytest.mark.slow),
    pytest.param("blackjax", marks=pytest.mark.slow),
]


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.filterwarnings("ignore:There are not enough devices")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_nuts_finds_the_exact_posterior(sampler: str, rows, grid) -> None:
    if sampler != "pymc":
        pytest.importorskip(sampler)
    options: dict[str, Any] = {}
    if sampler in ("numpyro", "blackjax"):
        options["nuts_sampler_kwargs"] = {"chain_method": "vectorized"}
    with build(rows) as model:
        trace = pm.sample(
            600,
            tune=400,
            chains=2,
            nuts_sampler=sampler,
            cores=1,
            initvals=None if sampler != "pymc" else jana.initvals(model),
            **options,
            **QUIET,
        )
    check(trace, grid)


def test_nutpie_starts_where_it_is_told_and_finds_the_exact_posterior() -> None:
    """PyMC's start, the middle of the prior, is impossible: it lies beyond some of the times."""
    nutpie = pytest.importorskip("nutpie")
    times = untrained({"x": Continuous(lower="t0")}, {"t0": ()})
    x = times.simulate(np.array([[0.3]]), N_OBS, random_seed=0)[0]
    with pm.Model() as model:
        times("y", t0=pm.Uniform("t0", LOW, HIGH), observed=x)
    start = jana.initvals(model, random_seed=1)
    assert start["t0"] < x.min() < 0.5 * (LOW + HIGH)
    compiled = nutpie.compile_pymc_model(model, initial_points=start)
    trace = nutpie.sample(compiled, draws=600, tune=400, chains=2, seed=1, progress_bar=False)
    t0 = np.linspace(LOW, min(x.min(), HIGH), 2_001)[:-1]
    check(trace, moments({"t0": t0}, times.log_prob(x, t0[:, None]).sum(1)))


# PyMC 6.4 renamed the argument.
START = "initvals" if "initvals" in inspect.signature(pm.find_MAP).parameters else "start"


def find_map(**options: Any) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        # PyMC 6.4 announces what later releases will return and where they will start.
        warnings.simplefilter("ignore", FutureWarning)
        return pm.find_MAP(progressbar=False, **options)


@pytest.mark.usefixtures("compiled")
def test_metropolis(rows, grid) -> None:
    with build(rows):
        trace = pm.sample(3_000, tune=1_000, chains=2, cores=1, step=pm.Metropolis(), **QUIET)
    check(trace, grid, 0.3)


@pytest.mark.usefixtures("compiled")
def test_variational_inference(many_rows) -> None:
    with build(many_rows, "op"):
        fitted = pm.fit(
            1_000,
            method="fullrank_advi",
            # At the default rate, a twentieth of this, so many steps do not arrive.
            obj_optimizer=pm.adagrad_window(learning_rate=0.02),
            random_seed=1,
            progressbar=False,
        )
    drawn = fitted.sample(1_000, random_seed=1)
    for name, (mean, sd) in moments(*log_densities(many_rows, 41)).items():
        assert drawn.posterior[name].values.mean() == pytest.approx(mean, abs=0.3 * sd)


@pytest.mark.usefixtures("compiled")
def test_the_mode_has_the_highest_density_there_is(many_rows) -> None:
    with build(many_rows, "op"):
        best = find_map()
    assert LOW < best["v"] < HIGH and LOW < best["t0"] < 0.3
    found = RT.log_prob(many_rows, np.array([[best["v"], best["t0"]]])).sum()
    assert found >= log_densities(many_rows, 41)[1].max() - 0.05


@pytest.mark.usefixtures("compiled")
def test_sequential_monte_carlo(rows, grid) -> None:
    with build(rows):
        trace = pm.sample_smc(
            500,
            chains=2,
            cores=1,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
        )
    check(trace, grid, 0.3)


# Processes


def train_a_little() -> None:
    """Leave torch with threads and a backward pass behind, as training does."""
    torch.set_num_threads(2)
    layer = torch.nn.Linear(256, 256)
    for _ in range(3):
        layer(torch.randn(2_000, 256)).square().mean().backward()


NUMBERS = untrained({"x": Continuous()}, {"v": ()})
"""As small as a likelihood can be: every process compiles it for itself."""


def small(backends: Iterable[str]) -> pm.Model:
    """The same data under one likelihood for each of the backends."""
    with pm.Model() as model:
        v = pm.Uniform("v", LOW, HIGH)
        for backend in backends:
            NUMBERS(backend, v=v, observed=np.linspace(-1.0, 1.0, 20), backend=backend)
    return model


def drawn(model: pm.Model, cores: int = 1, start: str | None = None, n: int = 10) -> np.ndarray:
    with model:
        trace = pm.sample(
            n,
            tune=n,
            chains=2,
            cores=cores,
            mp_ctx=start,
            nuts_sampler="pymc",
            initvals=jana.initvals(model),
            **QUIET,
        )
    return trace.posterior["v"].values


def a_draw(backends: Iterable[str]) -> None:
    drawn(small(backends), n=1)


def fill_cache(backends: Iterable[str]) -> None:
    """Compile in another process.

    What numba has just compiled rounds differently, by 1e-14, from what it reads from its cache,
    whatever the model: a process that compiles and one that is started afresh would differ.
    """
    if "Numba" in type(get_default_mode().linker).__name__:
        process = get_context("spawn").Process(target=a_draw, args=(backends,))
        process.start()
        process.join()
        assert process.exitcode == 0


@pytest.mark.slow
# Where JAX was imported before, it warns of every fork.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_chains_in_processes_give_the_same_draws_however_they_start() -> None:
    backends = ("lowering", "op")
    fill_cache(backends)
    # A new process imports the package for ten seconds; the server that forks others does it once.
    get_context("forkserver").set_forkserver_preload(["jana_pymc"])
    try:
        train_a_little()
        model = small(backends)
        alone = drawn(model)
        for start in ("fork", "forkserver", "spawn"):
            np.testing.assert_array_equal(drawn(model, 2, start), alone, err_msg=start)
    finally:
        torch.set_num_threads(1)
        get_context("forkserver").set_forkserver_preload(["__main__"])
    assert len(np.unique(alone)) > 3


# Exceptions


class Failing(Exception):
    pass


def failing(after: int) -> jana.LikelihoodApproximator:
    calls = 0

    def log_prob(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Failing("the density gave up")
        return -0.5 * (x - theta[:, 0]) ** 2

    return jana.from_torch(log_prob, parameter_names=("mu",))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("method", ["nuts", "slice", "metropolis", "smc", "map"])
def test_exceptions_reach_the_user(method: str) -> None:
    with pm.Model(), pytest.raises(Failing, match="gave up"):  # noqa: PT012
        mu = pm.Normal("mu")
        failing(1 if method == "map" else 12)("y", mu=mu, observed=np.zeros(3))
        if method == "smc":
            pm.sample_smc(10, chains=1, cores=1, progressbar=False)
        elif method == "map":
            find_map(**{START: {"mu": 3.0}})
        else:
            step = {"nuts": pm.NUTS, "slice": pm.Slice, "metropolis": pm.Metropolis}[method]()
            pm.sample(20, tune=20, chains=1, cores=1, step=step, **QUIET)


def test_exceptions_under_nutpie_are_said_and_kept() -> None:
    pytest.importorskip("nutpie")
    likelihood = failing(60)
    with pm.Model():
        likelihood("y", mu=pm.Normal("mu"), observed=np.zeros(3))
        with pytest.warns(RuntimeWarning, match="Failing: the density gave up"):
            trace = pm.sample(30, tune=30, chains=1, nuts_sampler="nutpie", **QUIET)
    with pytest.raises(Failing, match="gave up"):
        likelihood.check_region(trace)
    likelihood.check_region(trace)  # said once


def evaluate_as_nutpie_does(likelihood: jana.LikelihoodApproximator) -> list[str]:
    """By compiled code, in a thread of the sampler's own; returns what is warned of."""
    op = LogDensity(likelihood)
    op.in_numba = True
    inputs = [np.zeros((1, 1)), np.zeros((1, 0)), np.zeros(1, dtype=int), np.zeros((1, 1))]
    thread = threading.Thread(target=op.perform, args=(op.make_node(*inputs), inputs, [[None]]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread.start()
        thread.join()
    return [str(each.message) for each in caught]


def failing_with(messages: Iterable[str]) -> jana.LikelihoodApproximator:
    messages = iter(messages)

    def log_prob(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        raise Failing(next(messages))

    return jana.from_torch(log_prob, parameter_names=("mu",))


def test_each_kind_of_failure_is_said_and_the_latest_kept() -> None:
    likelihood = failing_with(["no memory", "no memory\nfor draw 2", "no device", "no device"])
    said = [evaluate_as_nutpie_does(likelihood) for _ in range(4)]
    assert [len(each) for each in said] == [1, 0, 1, 0]
    assert "Failing: no memory" in said[0][0] and "Failing: no device" in said[2][0]
    assert str(failure(likelihood)) == "no device"
    assert failure(likelihood) is None


def test_a_new_run_is_not_blamed_for_failures_before() -> None:
    likelihood = failing_with(["no memory", "no memory"])
    assert evaluate_as_nutpie_does(likelihood)
    mu = pt.dscalar("mu")
    pt.grad(likelihood.logp(np.zeros(1), mu=mu).sum(), mu)  # with which every run begins
    assert failure(likelihood) is None
    assert evaluate_as_nutpie_does(likelihood)  # said anew


# No stale compilation


def test_new_weights_are_compiled_anew(rows) -> None:
    values = []
    for seed in (3, 4, 3):
        other = reaction_times(seed)
        with pm.Model() as model:
            other("y", v=0.5, t0=0.2, observed=rows)
        values.append(float(model.compile_logp(mode=PYTHON)({})))
        assert values[-1] == pytest.approx(other.log_prob(rows, np.array([[0.5, 0.2]])).sum())
    assert values[0] == values[2] != values[1]


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_two_likelihoods_in_a_model_and_one_twice(rows, backend: str) -> None:
    other = reaction_times(4)
    with pm.Model() as model:
        v = pm.Uniform("v", LOW, HIGH)
        RT("first", v=v, t0=0.2, observed=rows, backend=backend)
        RT("again", v=v, t0=0.2, observed=rows[:10], backend=backend)
        other("other", v=v, t0=0.2, observed=rows, backend=backend)
    parts = model.compile_logp(vars=model.observed_RVs, sum=False, mode=PYTHON)
    theta = np.array([[LOW + 0.5 * (HIGH - LOW), 0.2]])
    expected = [RT.log_prob(rows, theta)[0], RT.log_prob(rows[:10], theta)[0]]
    expected.append(other.log_prob(rows, theta)[0])
    for part, exact in zip(parts({"v_interval__": np.array(0.0)}), expected, strict=True):
        np.testing.assert_allclose(part, exact, rtol=1e-6)
