"""Truncated data: the network's own distribution function, and what cannot be truncated."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from closed_forms import vector
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import PYTHON, SIMPLIFIED
from pytensor.graph.basic import Constant
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import graph_inputs
from untrained import HIGH, LOW, reaction_times, untrained

from jana_pymc.pytensor import Truncation
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema

pytestmark = [pytest.mark.bridge, pytest.mark.usefixtures("interpreted")]

RT = reaction_times()
FAST = {"mode": PYTHON}
SCALARS = {"v": (), "t0": ()}
LIKELIHOODS = {
    "lower bound": (RT, (0.5, 2.0)),
    "no bound": (untrained({"k": Categorical(3), "x": Continuous()}, SCALARS), (-1.0, 1.5)),
    "both bounds": (untrained({"x": Continuous(lower=-1.0, upper="v")}, SCALARS), (-0.5, 0.3)),
    "two continuous": (
        untrained({"x": Continuous(), "y": Continuous(lower=0.0)}, SCALARS),
        (-1.0, 1.0),
    ),
}
THETA = np.array([[0.5, 0.3]])


def mass(approximator, low: float, high: float) -> float:
    """Probability of the window, by Gauss's rule in many panels of the continuous component."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.linspace(low, high, 401)
    middle, half = (edges[1:] + edges[:-1]) / 2.0, np.diff(edges) / 2.0
    x = (middle[:, None] + half[:, None] * nodes).ravel()
    column, density = approximator.network.continuous[0], 0.0
    for cell in range(approximator.network.n_cells):
        rows = np.full((len(x), len(approximator.schema.components)), float(cell))
        rows[:, column] = x
        density = density + np.exp(approximator.log_prob(rows, THETA)[0])
    return float(density @ (half[:, None] * weights).ravel())


@pytest.mark.parametrize("name", ["lower bound", "no bound", "both bounds"])
@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_density_is_divided_by_the_probability_of_the_window(name: str, backend: str) -> None:
    approximator, (low, high) = LIKELIHOODS[name]
    observable = "rt" if name == "lower bound" else "x"
    rng = np.random.default_rng(0)
    rows = approximator.simulate(THETA, 400, random_seed=rng)[0]
    column = approximator.network.continuous[0]
    rows = rows[(rows[:, column] > low) & (rows[:, column] < high)][:5]
    value = approximator.logp(
        rows, v=0.5, t0=0.3, truncation={observable: (low, high)}, backend=backend
    )
    expected = approximator.log_prob(rows, THETA)[0] - np.log(mass(approximator, low, high))
    np.testing.assert_allclose(value.eval(**FAST), expected, rtol=1e-6)


def test_truncated_draws_follow_the_truncated_density() -> None:
    for approximator, window in (LIKELIHOODS["no bound"], LIKELIHOODS["two continuous"]):
        column = approximator.network.continuous[0]
        observable = list(approximator.schema.components)[column]
        rv = approximator.dist(v=0.5, t0=0.3, truncation={observable: window}, size=4_000)
        drawn = pm.draw(rv, random_seed=1)[:, column]
        assert (drawn >= window[0]).all() and (drawn <= window[1]).all()
        # The share below the middle is that of a narrower window.
        middle = np.median(drawn)
        one = np.zeros((1, len(approximator.schema.components)))
        one[0, :] = 1.0
        one[0, column] = 0.5 * (window[0] + middle)
        shares = [
            float(approximator.logp(one, v=0.5, t0=0.3, truncation={observable: w}).eval(**FAST)[0])
            for w in (window, (window[0], middle))
        ]
        assert np.exp(shares[0] - shares[1]) == pytest.approx(0.5, abs=0.03)


def test_open_windows_and_groups() -> None:
    rows = np.array([[1.0, 0.0], [1.2, 1.0], [1.4, 1.0], [1.1, 0.0]])
    v = np.array([0.3, 0.7])
    subject = np.array([0, 1, 1, 0])
    both = RT.logp(rows, v=pt.constant(v)[subject], t0=0.3, truncation={"rt": (None, 2.0)})
    each = [
        RT.logp(rows[[i]], v=v[s], t0=0.3, truncation={"rt": (0.3, 2.0)}).eval(**FAST)[0]
        for i, s in enumerate(subject)
    ]
    np.testing.assert_allclose(both.eval(**FAST), each, rtol=1e-10)
    upper = RT.logp(rows, v=0.3, t0=0.3, truncation={"rt": (0.9, None)}).eval(**FAST)
    assert (upper > RT.log_prob(rows, np.array([[0.3, 0.3]]))[0]).all()


WINDOWS = ((0.5, 2.0), (0.95, 0.9500001), (1e6, 1e12))


@pytest.fixture(scope="module")
def truncated_slope():
    """Log density and slope within a window that is an input: one graph to rewrite for them all."""
    theta, data = pt.dvector("theta"), pt.tensor("data", shape=(1, 2), dtype="float64")
    placeholders = (0.6251, 2.1733)
    logp = RT.logp(data, v=theta[0], t0=theta[1], truncation={"rt": placeholders}).sum()
    ends = pt.dscalar("low"), pt.dscalar("high")
    replace = {
        constant: end
        for constant in graph_inputs([logp])
        for placeholder, end in zip(placeholders, ends, strict=True)
        if isinstance(constant, Constant) and np.array_equal(constant.data, placeholder)
    }
    assert set(replace.values()) == set(ends)
    logp = graph_replace(logp, replace)
    outputs = [logp, pt.grad(logp, theta)]
    with pytensor.config.change_flags(cxx=""):
        return pytensor.function([theta, data, *ends], outputs, mode=SIMPLIFIED)


def test_the_window_of_the_slope_is_the_one_declared(truncated_slope) -> None:
    for window in WINDOWS:
        row = np.array([[0.5 * sum(window), 1.0]])
        expected = RT.logp(row, v=0.5, t0=0.3, truncation={"rt": window}).eval(**FAST)
        found, _ = truncated_slope(THETA[0], row, *window)
        assert found == pytest.approx(expected[0], rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(st.floats(LOW, HIGH), st.floats(LOW, HIGH), st.floats(-20.0, 20.0))
def test_no_gradient_is_nan_under_truncation(truncated_slope, v, t0, exponent) -> None:
    row = np.array([[t0 + 10.0**exponent, 1.0]])
    for window in WINDOWS:
        value, gradient = truncated_slope(np.array([v, t0]), row, *window)
        assert not np.isnan(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("approximator", "window", "error", "message"),
    [
        (RT, {"response": (0, 1)}, ValueError, r"only that of the first continuous.*\(rt\)"),
        (RT, {"rt": (2.0, 1.0)}, ValueError, "expected low < high"),
        (RT, {"rt": 1.0}, ValueError, r"no \(low, high\)"),
        (RT, (0.2, 1.0), TypeError, r"expected \{observable: \(low, high\)\}"),
        (LIKELIHOODS["two continuous"][0], {"y": (0.0, 1.0)}, ValueError, r"continuous.*\(x\)"),
        (vector(), {"x[0, 0]": (0.0, 1.0)}, ValueError, "has no distribution function"),
    ],
)
def test_windows_that_are_not_known_exactly_are_refused(
    approximator, window, error, message
) -> None:
    theta = {"v": 0.5, "t0": 0.3} if "v" in approximator.layout.names else {"mu": 0, "b": [0, 0]}
    with pytest.raises(error, match=message):
        approximator.dist(**theta, truncation=window)


def test_data_outside_the_window_are_refused_and_exchanged_ones_impossible() -> None:
    window = {"rt": (0.5, 2.0)}
    rows = np.array([[1.0, 0.0], [2.5, 1.0]])
    with pytest.raises(ValueError, match="1 observations lie outside truncation"):
        RT.logp(rows, v=0.5, t0=0.3, truncation=window)
    data = pt.dmatrix("data")
    value = RT.logp(data, v=0.5, t0=0.3, truncation=window).eval({data: rows}, **FAST)
    assert np.isfinite(value[0]) and value[1] == -np.inf
    with pytest.raises(ValueError, match="did not fall between"):
        pm.draw(RT.dist(v=0.5, t0=0.3, truncation={"rt": (1e9, 1.1e9)}, size=2), random_seed=1)


@pytest.mark.parametrize(
    ("observables", "structure", "advice"),
    [
        (
            {"x": Continuous(), "z": Continuous()},
            "exchangeable",
            "likelihood=AutoregressiveSettings",
        ),
        ({"x": Continuous(), "n": Count()}, "exchangeable", "draw again what falls outside"),
        ({"x": Continuous()}, "vector", "draw again what falls outside"),
    ],
)
def test_advice_for_networks_without_a_distribution_function(
    observables, structure, advice
) -> None:
    schema = DataSchema(observables, structure=structure)
    with pytest.raises(ValueError, match=f"VectorNetwork has no distribution function.*{advice}"):
        Truncation.over(vector().network, schema, {"x": (0.1, None)})


def test_pymc_says_that_it_cannot_truncate_or_censor() -> None:
    for wrapped in (pm.Truncated, pm.Censored):
        with pytest.raises(NotImplementedError, match=r"[Mm]ultivariate"):
            wrapped.dist(RT.dist(v=0.5, t0=0.3, size=3), lower=0.5, upper=2.0)


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_lapses_of_truncated_data_lie_in_the_window(backend: str) -> None:
    window = (0.5, 2.0)
    lapses = {"contamination": 0.3, "contaminant": {"rt": (0.0, 10.0)}}
    options = {"truncation": {"rt": window}, **lapses}
    edges = np.linspace(*window, 2001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    total = sum(
        np.exp(
            RT.logp(
                np.c_[middle, np.full(len(middle), response)],
                v=0.5,
                t0=0.3,
                backend=backend,
                **options,
            ).eval(**FAST)
        ).sum()
        * (edges[1] - edges[0])
        for response in (0.0, 1.0)
    )
    assert total == pytest.approx(1.0, abs=1e-4)
    drawn = pm.draw(RT.dist(v=0.5, t0=0.3, size=500, **options), random_seed=1)
    assert (drawn[:, 0] >= window[0]).all() and (drawn[:, 0] <= window[1]).all()
    with pytest.raises(ValueError, match="none would be recorded"):
        RT.dist(v=0.5, t0=0.3, truncation={"rt": (20.0, 30.0)}, **lapses)
