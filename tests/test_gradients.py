"""No gradient of a lowered likelihood is NaN, whatever the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modes import PYTHON
from sequences import COMPONENTS, random_likelihood
from untrained import HIGH, LOW, reaction_times
from vectors import CASES, random_vector_likelihood

from jana_pymc.likelihoods import CountRange, Support
from jana_pymc.pytensor import Contaminant, lower

pytestmark = pytest.mark.bridge

N_STEPS = 3
FEW = settings(max_examples=20, deadline=None)

Function = Callable[..., list[np.ndarray]]


@cache
def compiled(kind: str, case: str) -> tuple[Function, tuple, int]:
    """Log density and its slopes, the components of a row, and the number of conditions of it."""
    if kind == "vector":
        network = random_vector_likelihood(case)
        components, n_rows, n_known = network.components, 1, network.n_conditions
    else:
        network = random_likelihood(case, "order 1", n_conditions=1)
        components, n_rows, n_known = COMPONENTS[case], N_STEPS, 1
    data, theta, known = pt.dmatrix(), pt.dmatrix(), pt.dmatrix()
    group = pt.constant(np.zeros(n_rows, dtype=int))
    value = lower(network, data, theta, group, known if n_known else None)
    total = pt.switch(pt.isinf(value), 0.0, value).sum()
    slopes = pytensor.grad(total, [theta, data], disconnected_inputs="ignore")
    run = pytensor.function(
        [data, theta, known], [value, *slopes], mode=PYTHON, on_unused_input="ignore"
    )
    return run, components, n_known


extremes = st.builds(
    lambda sign, exponent: sign * 10.0**exponent,
    st.sampled_from([-1.0, 1.0]),
    st.floats(-16.0, 8.0),
)
inside = st.floats(0.05, 0.95) | st.sampled_from([0.05, 0.95])


@st.composite
def values(draw: st.DrawFn, component: int | CountRange | Support, theta: list[float]) -> float:
    """Near the ends of the support and far out; categories and counts that are none, too."""
    if isinstance(component, Support):
        bounds = [b for b in (component.lower, component.upper) if b is not None]
        ends = [b.value if b.column is None else theta[b.column] for b in bounds]
        return draw(st.sampled_from([0.0, *ends])) + draw(extremes)
    if isinstance(component, CountRange):
        largest = component.upper or 10**9
        return float(draw(st.integers(0, largest) | st.sampled_from([-1, largest, largest + 1])))
    return float(draw(st.integers(-1, component)))


def assert_no_nan(kind: str, case: str, data: st.DataObject) -> None:
    run, components, n_known = compiled(kind, case)
    theta = data.draw(st.lists(inside, min_size=2, max_size=2))
    n_rows = 1 if kind == "vector" else N_STEPS
    rows = [[data.draw(values(c, theta)) for c in components] for _ in range(n_rows)]
    known = [[data.draw(st.floats(-1e3, 1e3)) for _ in range(n_known)] for _ in range(n_rows)]
    shape = (n_rows, n_known)
    value, *slopes = run(np.array(rows), np.array([theta]), np.array(known).reshape(shape))
    assert not np.isnan(value).any() and not np.isposinf(value).any()
    for slope in slopes:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("case", CASES)
@FEW
@given(data=st.data())
def test_vectors(case: str, data: st.DataObject) -> None:
    assert_no_nan("vector", case, data)


@pytest.mark.parametrize("case", COMPONENTS)
@FEW
@given(data=st.data())
def test_sequences(case: str, data: st.DataObject) -> None:
    assert_no_nan("sequence", case, data)


@cache
def lapses() -> Function:
    """Log density of a trial that may be a lapse, and its slopes."""
    likelihood = reaction_times()
    rows, theta, probability = pt.dmatrix(), pt.dvector(), pt.dscalar()
    value = likelihood.logp(
        rows,
        v=theta[0],
        t0=theta[1],
        contamination=probability,
        contaminant={"rt": (0.0, 5.0)},
        backend="lowering",
    )
    finite = pt.switch(pt.isinf(value), 0.0, value).sum()
    slopes = pytensor.grad(finite, [theta, probability, rows])
    return pytensor.function([rows, theta, probability], [value, *slopes], mode=PYTHON)


trained = st.floats(LOW, HIGH) | st.sampled_from([LOW, HIGH])


@FEW
@given(trained, trained, extremes, st.integers(0, 1), st.floats(-16.0, -1e-12))
def test_lapses(v: float, t0: float, distance: float, response: int, exponent: float) -> None:
    """Also of trials that the model alone calls impossible, and of lapses that hardly occur."""
    rt = t0 + distance
    row = np.array([[rt, float(response)]])
    value, *slopes = lapses()(row, np.array([v, t0]), 10.0**exponent)
    assert not np.isnan(value).any()
    assert np.isfinite(value).all() if 0.0 <= rt <= 5.0 else True
    for slope in slopes:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("probability", [-5.0, -0.1, 1.5, np.nan])
@pytest.mark.parametrize("rt", [0.1, 1.2, 7.0])
def test_what_is_no_probability_of_a_lapse_is_impossible(probability: float, rt: float) -> None:
    value, *slopes = lapses()(np.array([[rt, 1.0]]), np.array([0.5, 0.3]), probability)
    assert value == -np.inf
    for slope in slopes:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("log_density", [-0.5, -4.0])  # of the model: more and less than lapses'
def test_the_slope_by_the_share_of_lapses(probability: float, log_density: float) -> None:
    """∂ log((1 − p) m + p l) / ∂p = (l − m) / ((1 − p) m + p l), at the ends too."""
    box = Contaminant((0.0,), (5.0,), (0,))
    p, m = pt.dscalar(), pt.dvector()
    value = box.mix(m, pt.constant(np.ones((1, 1))), p).sum()
    slopes = pytensor.function([m, p], pytensor.grad(value, [m, p]), mode=PYTHON)
    own, lapse = np.exp(log_density), 0.2
    mixture = (1.0 - probability) * own + probability * lapse
    by_model, by_share = slopes(np.array([log_density]), probability)
    np.testing.assert_allclose(by_share, (lapse - own) / mixture, rtol=1e-12)
    np.testing.assert_allclose(by_model[0], (1.0 - probability) * own / mixture, atol=1e-12)


@pytest.mark.parametrize("probability", [0.0, 1.0])
@pytest.mark.parametrize("rt", [0.1, 1.2, 7.0])  # too early for the model, possible, no lapse
def test_where_none_or_all_are_lapses(probability: float, rt: float) -> None:
    row, theta = np.array([[rt, 1.0]]), np.array([0.5, 0.3])
    value, *slopes = lapses()(row, theta, probability)
    model = reaction_times().log_prob(row, theta[None])[0]
    lapse = np.log(1.0 / (5.0 * 2)) if rt <= 5.0 else -np.inf
    np.testing.assert_allclose(value, lapse if probability else model, rtol=1e-6)
    for slope in slopes:
        assert np.isfinite(slope).all()
