"""The Op and the lowering: equal to torch, differentiable, finite, and never more work than due."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from modes import COMPILED, PYTHON, REWRITTEN, SIMPLIFIED
from pytensor.gradient import verify_grad
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors
from sequences import recurrent_likelihood
from untrained import HIGH, LOW, reaction_times, untrained

from jana_pymc.likelihoods import SignedCouplingLikelihood, Support
from jana_pymc.pytensor import LogDensity, LogDensityAndPullback, NoLowering, lower
from jana_pymc.pytensor.op import _Batched
from jana_pymc.simulation import Categorical, Continuous

pytestmark = pytest.mark.bridge

SCALARS = {"v": (), "t0": ()}
LIKELIHOODS = {
    "lower bound a parameter": reaction_times(),
    "lower bound a constant": untrained(
        {"k": Categorical(3), "x": Continuous(lower=-1.0)}, SCALARS
    ),
    "upper bound a parameter": untrained({"x": Continuous(upper="v")}, SCALARS),
    "upper bound a constant": untrained({"x": Continuous(upper=2.0)}, SCALARS),
    "both bounds": untrained(
        {"x": Continuous(lower=-1.0, upper="v"), "k": Categorical(2)}, SCALARS
    ),
    "two continuous": untrained(
        {"x": Continuous(), "k": Categorical(3), "y": Continuous(lower="t0")}, SCALARS
    ),
    "categories only": untrained({"j": Categorical(2), "k": Categorical(3)}, SCALARS),
    "vector parameters": untrained({"x": Continuous(lower="t0")}, {"b": (2,), "t0": ()}),
    "conditions": untrained(
        {"x": Continuous(), "k": Categorical(2), "y": Continuous()},
        {"b": (2,), "t0": ()},
        {"known": Continuous(), "other": Categorical(2)},
    ),
}
N_GROUPS, N_ROWS = 3, 11


def draw_inputs(approximator, rng) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, Any]:
    """Group parameters, each row's group, its observables, and known conditions."""
    theta = rng.uniform(LOW, HIGH, (N_GROUPS, approximator.layout.size))
    group = np.concatenate([np.arange(N_GROUPS), rng.integers(N_GROUPS, size=N_ROWS - N_GROUPS)])
    known = None
    if approximator.schema.conditions:
        known = np.column_stack([rng.normal(size=N_ROWS), rng.integers(2, size=N_ROWS)])
    x = approximator.simulate(
        theta[group], 1, conditions=None if known is None else known[:, None], random_seed=rng
    )[:, 0]
    return approximator.layout.unflatten(theta), group, x, known


def torch_pass(approximator, theta, x, known, cotangent) -> list[np.ndarray]:
    """Values and pulled-back cotangent by torch, everything a row."""
    theta, x = (torch.tensor(i, requires_grad=True) for i in (theta, x))
    known = None if known is None else torch.as_tensor(known)
    rows = approximator.network.log_prob_rows(x, theta, torch.arange(len(x)), known)
    continuous = list(approximator.network.continuous)
    slopes = torch.autograd.grad(rows @ torch.as_tensor(cotangent), [theta, x], allow_unused=True)
    d_x = np.zeros(x.shape) if slopes[1] is None else slopes[1].numpy()
    return [rows.detach().numpy(), slopes[0].numpy(), d_x[:, continuous]]


def assert_close(actual: np.ndarray, desired: np.ndarray) -> None:
    scale = np.abs(desired).max(initial=1e-300)
    np.testing.assert_allclose(actual, desired, rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize("arrangement", ["one", "rows", "grouped"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_lowering_and_op_give_what_torch_gives(name: str, arrangement: str) -> None:
    approximator = LIKELIHOODS[name]
    layout, rng = approximator.layout, np.random.default_rng(0)
    groups, group, x, known = draw_inputs(approximator, rng)
    if arrangement == "one":
        group = np.zeros_like(group)
        groups = {n: v[0] for n, v in groups.items()}
        x = approximator.simulate(
            layout.flatten(groups),
            N_ROWS,
            conditions=None if known is None else known[None],
            random_seed=rng,
        )[0]
        by_row = layout.flatten(
            {n: np.broadcast_to(v, (N_ROWS, *v.shape)) for n, v in groups.items()}
        )
    else:
        by_row = layout.flatten(groups)[group]
        groups = groups if arrangement == "grouped" else {n: v[group] for n, v in groups.items()}
    symbols = {n: pt.tensor(n, shape=(None,) * v.ndim, dtype="float64") for n, v in groups.items()}
    data = pt.dmatrix("data")
    arguments = {n: s[group] if arrangement == "grouped" else s for n, s in symbols.items()}
    cotangent = rng.normal(size=N_ROWS)
    outputs = []
    for backend in ("lowering", "op"):
        logp = approximator.logp(data, conditions=known, backend=backend, **arguments)
        wrt = [*symbols.values(), data]
        outputs += [logp, *pytensor.grad(logp @ cotangent, wrt, disconnected_inputs="ignore")]
    run = pytensor.function([*symbols.values(), data], outputs, mode=PYTHON)
    results = run(*groups.values(), x)

    value, d_theta, d_x = torch_pass(approximator, by_row, x, known, cotangent)
    if arrangement != "rows":
        summed = np.zeros((N_GROUPS, layout.size))
        np.add.at(summed, group, d_theta)
        d_theta = summed[0] if arrangement == "one" else summed
    continuous = list(approximator.network.continuous)
    half = len(results) // 2
    for logp, *slopes, slope_x in (results[:half], results[half:]):
        assert_close(logp, value)
        assert_close(layout.flatten(dict(zip(symbols, slopes, strict=True))), d_theta)
        assert_close(slope_x[:, continuous], d_x)


def test_default_linker_agrees_too() -> None:
    approximator = LIKELIHOODS["two continuous"]
    _, group, x, _ = draw_inputs(approximator, np.random.default_rng(1))
    theta = pt.dvector("theta")
    v = pt.concatenate([theta, theta * 0.5])[group % 2]
    outputs = []
    for backend in ("lowering", "op"):
        logp = approximator.logp(x, backend=backend, v=v, t0=LOW)
        outputs += [logp, pytensor.grad(logp.sum(), theta)]
    results = pytensor.function([theta], outputs, mode=COMPILED)(np.array([0.6]))
    assert np.isfinite(results[0]).any()
    assert_close(results[0], results[2])
    assert_close(results[1], results[3])


@pytest.mark.parametrize("backend", ["lowering", "op"])
@pytest.mark.parametrize("name", ["lower bound a parameter", "both bounds", "two continuous"])
def test_gradients_are_those_of_finite_differences(name: str, backend: str) -> None:
    """With random cotangents, to parameters that broadcast and to continuous data."""
    approximator = LIKELIHOODS[name]
    rng = np.random.default_rng(2)
    x = approximator.simulate(np.array([[0.8, 0.2]]), 6, random_seed=rng)[0].reshape(2, 3, -1)
    continuous = list(approximator.network.continuous)

    def log_prob(v, t0, part):
        rv = approximator.dist(backend=backend, v=v, t0=t0, size=(2, 3))
        return pm.logp(rv, pt.set_subtensor(pt.constant(x)[..., continuous], part))

    point = [rng.uniform(0.82, 0.88, (2, 1)), rng.uniform(0.15, 0.2, 3), x[..., continuous]]
    verify_grad(log_prob, point, rng=np.random.default_rng(0), mode=PYTHON)


def test_verify_grad_on_the_op_itself() -> None:
    approximator = LIKELIHOODS["conditions"]
    groups, group, x, known = draw_inputs(approximator, np.random.default_rng(3))
    theta = approximator.layout.flatten(groups)[group]

    def rows(parameters, first):
        data = pt.set_subtensor(pt.constant(x)[:, 0], first)
        return LogDensity(approximator)(data, known, None, parameters)

    verify_grad(rows, [theta, x[:, 0]], rng=np.random.default_rng(0), mode=PYTHON)


def test_op_is_impossible_and_flat_outside_the_trained_region() -> None:
    approximator = LIKELIHOODS["lower bound a parameter"]
    theta, data = pt.dmatrix("theta"), np.array([[1.2, 0.0]] * 3)
    logp = LogDensity(approximator)(pt.constant(data), np.zeros((3, 0)), None, theta)
    run = pytensor.function([theta], [logp, pytensor.grad(logp[:1].sum(), theta)], mode=PYTHON)
    points = np.array([[0.85, 0.15], [HIGH + 1e-6, 0.15], [0.85, LOW - 0.5]])
    values, slopes = run(points)
    assert np.isfinite(values).tolist() == [True, False, False]
    run = pytensor.function([theta], pytensor.grad(logp.sum(), theta), mode=PYTHON)
    np.testing.assert_array_equal(run(points)[1:], 0.0)
    assert (run(points)[0] != 0.0).all()
    np.testing.assert_array_equal(run(points)[0], slopes[0])


@pytest.fixture(scope="module")
def both_gradients():
    """Values, and gradients to (v, u), of both backends at one row."""
    compiled = {}
    for name in ("lower bound a parameter", "both bounds"):
        approximator = LIKELIHOODS[name]
        theta, data = pt.dvector("theta"), pt.tensor("data", shape=(1, 2), dtype="float64")
        outputs = []
        for backend in ("lowering", "op"):
            logp = approximator.logp(data, backend=backend, v=theta[0], t0=theta[1]).sum()
            outputs += [logp, pytensor.grad(logp, theta)]
        compiled[name] = pytensor.function([theta, data], outputs, mode=SIMPLIFIED)
    return compiled


INSIDE = st.floats(LOW, HIGH)


@settings(max_examples=150, deadline=None)
@given(INSIDE, INSIDE, st.floats(-20.0, 300.0), st.integers(0, 1))
@example(LOW, HIGH, -20.0, 0)
@example(HIGH, LOW, 300.0, 1)
def test_no_gradient_is_nan_for_times(both_gradients, v, t0, exponent, response) -> None:
    """From one rounding error above the edge, or on it, to the largest numbers there are."""
    rt = t0 + 10.0**exponent
    results = both_gradients["lower bound a parameter"](
        np.array([v, t0]), np.array([[rt, response]])
    )
    for value, gradient in (results[:2], results[2:]):
        assert np.isfinite(value) if rt > t0 else value == -np.inf
        assert np.isfinite(gradient).all()


@settings(max_examples=150, deadline=None)
@given(INSIDE, INSIDE, st.floats(0.0, 1.0), st.integers(0, 1))
@example(0.5, 0.5, 0.0, 0)
@example(0.5, 0.5, 1.0, 0)
@example(0.5, 0.5, 5e-17, 1)
@example(0.5, 0.5, 1.0 - 2.0**-53, 1)
def test_no_gradient_is_nan_between_bounds(both_gradients, v, t0, share, response) -> None:
    x = -1.0 + share * (v + 1.0)
    results = both_gradients["both bounds"](np.array([v, t0]), np.array([[x, response]]))
    for value, gradient in (results[:2], results[2:]):
        assert np.isfinite(value) if -1.0 < x < v else value == -np.inf
        assert np.isfinite(gradient).all()


def test_extreme_values_on_the_whole_line_stay_finite() -> None:
    """Tails are straight lines: far out the log density is a parabola, however far."""
    approximator = LIKELIHOODS["two continuous"]
    theta, data = pt.dvector("theta"), pt.dmatrix("data")
    outputs = []
    for backend in ("lowering", "op"):
        logp = approximator.logp(data, backend=backend, v=theta[0], t0=theta[1])
        outputs += [logp, pytensor.grad(logp.sum(), theta)]
    run = pytensor.function([theta, data], outputs, mode=SIMPLIFIED)
    for size in (1e3, 1e6, 1e9, 1e12):
        lowered, slope, by_op, _ = run(
            np.array([0.4, 0.4]), np.array([[size, 0.0, 1.0], [-size, 1.0, 1.0]])
        )
        assert np.isfinite(lowered).all() and np.isfinite(slope).all()
        if size <= 1e6:
            assert_close(lowered, by_op)


@pytest.mark.parametrize("backend", [0, 2])
def test_outside_support_and_region_is_minus_infinity(both_gradients, backend: int) -> None:
    run = both_gradients["lower bound a parameter"]
    time = np.array([[1.5, 1.0]])
    for theta, data in (
        ([0.5, 0.5], [[0.4, 1.0]]),  # before t0
        ([0.5, 0.5], [[0.5, 1.0]]),  # at t0
        ([HIGH + 1e-6, 0.5], time),
        ([0.5, LOW - 1e-6], time),
    ):
        value, gradient = run(np.array(theta), np.array(data))[backend : backend + 2]
        assert value == -np.inf
        assert not np.isnan(gradient).any()
    value, gradient = run(np.array([HIGH, LOW]), time)[backend : backend + 2]
    assert np.isfinite(value) and np.isfinite(gradient).all() and (gradient != 0.0).all()


def ops_in(function) -> list[str]:
    found = [type(node.op).__name__ for node in function.maker.fgraph.apply_nodes]
    return [name for name in found if name.startswith(LogDensity.__name__)]


def test_value_and_gradient_share_one_pass() -> None:
    approximator = reaction_times()
    theta = pt.dvector("theta")
    total = approximator.logp(
        np.array([[1.2, 0.0], [2.0, 1.0]]), backend="op", v=theta[0], t0=theta[1]
    ).sum()
    fused = pytensor.function([theta], [total, pytensor.grad(total, theta)], mode=REWRITTEN)
    assert ops_in(fused) == [LogDensityAndPullback.__name__]
    alone = pytensor.function([theta], total, mode=REWRITTEN)
    assert ops_in(alone) == [LogDensity.__name__]
    point = np.array([0.5, 0.4])
    assert float(fused(point)[0]) == pytest.approx(float(alone(point)), rel=1e-12)


@pytest.mark.parametrize("single", [True, False])
def test_a_batch_of_graphs_is_one_call_with_more_groups(single: bool, monkeypatch) -> None:
    """Values and pullbacks of many draws, each with groups of its own, are those of a loop."""
    approximator, rng = reaction_times(), np.random.default_rng(7)
    x = np.column_stack([rng.uniform(1.0, 2.0, 5), rng.integers(2, size=5)])
    group = np.zeros(5, dtype=int) if single else np.array([1, 0, 2, 2, 0])
    data, theta = pt.dmatrix("data"), pt.dvector("theta") if single else pt.dmatrix("theta")
    parameters = (theta[0], theta[1]) if single else (theta,)
    logp = LogDensity(approximator)(data, np.zeros((5, 0)), group, *parameters)
    outputs = [logp, *pytensor.grad((logp * np.arange(5.0)).sum(), [theta, data])]
    draws = rng.uniform(0.3, 0.7, (4, 2) if single else (4, 3, 2))
    many = pt.tensor("draws", shape=(None,) * draws.ndim, dtype="float64")
    batched = vectorize_graph(outputs, {theta: many})
    calls = []
    evaluate = approximator.network.log_prob_rows

    def counted(rows, parameters, *rest):
        calls.append(len(parameters))
        return evaluate(rows, parameters, *rest)

    monkeypatch.setattr(approximator.network, "log_prob_rows", counted)
    together = pytensor.function([many, data], batched, mode=PYTHON)(draws, x)
    assert calls and set(calls) == {4 if single else 12}
    one = pytensor.function([theta, data], outputs, mode=PYTHON)
    for result, alone in zip(together, zip(*(one(d, x) for d in draws), strict=True), strict=True):
        np.testing.assert_allclose(result, np.stack(alone), rtol=1e-12)


@pytest.mark.parametrize("arrangement", ["one", "grouped", "sequences"])
def test_rows_of_any_number_are_pulled_back_in_parts(arrangement: str, monkeypatch) -> None:
    """The memory is bounded; values and slopes by data and parameters are those of all at once."""
    rng = np.random.default_rng(9)
    if arrangement == "sequences":
        approximator, n = recurrent_likelihood(), 5
        x, none = rng.normal(size=(n, 4, 1)), np.zeros((n, 4, 0))
    else:
        approximator, n = reaction_times(), 11
        x, none = np.column_stack([rng.uniform(1.0, 2.0, n), np.arange(n) % 2]), np.zeros((n, 0))
    group = np.zeros(n, dtype=int) if arrangement == "one" else rng.integers(3, size=n)
    data, theta = pt.constant(x).type("data"), pt.dmatrix("theta")
    parameters = (theta[0, 0], theta[0, 1]) if arrangement == "one" else (theta,)
    logp = LogDensity(approximator)(data, none, group, *parameters)
    outputs = [logp, *pytensor.grad(logp @ rng.normal(size=n), [theta, data])]
    run = pytensor.function([theta, data], outputs, mode=REWRITTEN)
    assert ops_in(run) == [LogDensityAndPullback.__name__]
    point = rng.uniform(0.2, 0.8, (4, 2)), x  # no row is of the last group
    together = run(*point)
    sizes = []
    evaluate = _Batched._log_prob

    def watched(op, observables, *rest):
        sizes.append(int(np.prod(observables.shape[:-1])))
        return evaluate(op, observables, *rest)

    monkeypatch.setattr(_Batched, "_log_prob", watched)
    monkeypatch.setattr("jana_pymc.pytensor.op.ROWS_AT_ONCE", 9 if x.ndim == 3 else 4)
    for result, expected in zip(run(*point), together, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)
    assert sizes == ([8, 8, 4] if x.ndim == 3 else [4, 4, 3])
    assert np.isfinite(together[0]).all() and (together[1][group] != 0.0).all()


@pytest.mark.parametrize("n", [0, 3])
def test_a_batch_of_one_broadcasts_among_batches(n: int) -> None:
    """Numbers of which one has a batch axis known to be one, and another is not batched at all."""
    approximator, rng = reaction_times(), np.random.default_rng(8)
    rows = np.array([[1.2, 0.0], [2.0, 1.0]])
    v, t0 = pt.dscalar("v"), pt.dscalar("t0")
    logp = approximator.logp(rows, backend="op", v=v, t0=t0)
    many, one = pt.dvector("many"), pt.tensor("one", shape=(1,), dtype="float64")
    values = rng.uniform(0.3, 0.7, n)
    both = vectorize_graph(logp, {v: many, t0: one}).eval(
        {many: values, one: np.array([0.4])}, mode=PYTHON
    )
    first = vectorize_graph(logp, {v: many}).eval({many: values, t0: 0.4}, mode=PYTHON)
    expected = np.array([logp.eval({v: x, t0: 0.4}, mode=PYTHON) for x in values]).reshape(n, 2)
    np.testing.assert_allclose(both, expected, rtol=1e-12)
    np.testing.assert_allclose(first, expected, rtol=1e-12)


def test_the_op_names_rows_out_of_step() -> None:
    op, theta = LogDensity(reaction_times()), pt.dmatrix("theta")
    rows, none = np.array([[1.2, 0.0], [2.0, 1.0]]), np.zeros((2, 0))
    for known, group, message in (
        (none[:1], [0, 0], "conditions has 1 rows for 2 of the observables"),
        (none, [0], "the index of the parameters has 1 rows for 2 of the observables"),
    ):
        value = op(rows, known, group, theta)
        with pytest.raises(ValueError, match=message):
            value.eval({theta: [[0.5, 0.3]]}, mode=PYTHON)


def test_no_gradient_is_nan_at_parameters_that_are() -> None:
    theta = pt.dvector("theta")
    logp = reaction_times().logp(np.array([[1.2, 0.0]]), backend="op", v=theta[0], t0=theta[1])
    value, slope = pytensor.function(
        [theta], [logp.sum(), pytensor.grad(logp.sum(), theta)], mode=SIMPLIFIED
    )(np.array([np.nan, 0.4]))
    assert value == -np.inf and (slope == 0.0).all()


def test_the_op_says_who_has_second_derivatives() -> None:
    v = pt.dscalar("v")
    logp = reaction_times().logp(np.array([[1.2, 0.0]]), backend="op", v=v, t0=0.3).sum()
    with pytest.raises(NotImplementedError, match="backend='lowering' has"):
        pytensor.grad(pytensor.grad(logp, v), v)


def test_a_cotangent_that_depends_on_the_value_closes_no_circle() -> None:
    approximator = reaction_times()
    theta, lapse = pt.dvector("theta"), pt.dscalar("lapse")
    rows = np.array([[1.2, 0.0], [2.0, 1.0]])
    options = {"contamination": lapse, "contaminant": {"rt": (0.0, 5.0)}}
    outputs = []
    for backend in ("op", "lowering"):
        logp = approximator.logp(rows, backend=backend, v=theta[0], t0=theta[1], **options).sum()
        outputs += [logp, *pytensor.grad(logp, [theta, lapse])]
    values = pytensor.function([theta, lapse], outputs, mode=REWRITTEN)(np.array([0.5, 0.4]), 0.1)
    for op, lowered in zip(values[:3], values[3:], strict=True):
        np.testing.assert_allclose(op, lowered, rtol=1e-6)


def test_two_networks_stay_two_and_the_same_twice_is_one() -> None:
    first, again, other = reaction_times(3), reaction_times(3), reaction_times(4)
    assert first == again and hash(first) == hash(again) and first != other
    v, rows = pt.dscalar("v"), np.array([[1.2, 0.0], [2.0, 1.0]])

    def both(second):
        values = [a.logp(rows, backend="op", v=v, t0=0.3).sum() for a in (first, second)]
        return pytensor.function([v], values, mode=REWRITTEN)

    assert len(ops_in(both(again))) == 1
    different = both(other)
    assert len(ops_in(different)) == 2
    one, two = different(0.5)
    assert one != pytest.approx(two)


@pytest.mark.parametrize(("indexed", "expected"), [(("v",), 3), (("v", "t0"), 3), ((), 50)])
def test_network_runs_once_for_each_distinct_group(indexed: tuple[str, ...], expected: int) -> None:
    approximator = reaction_times()
    rng = np.random.default_rng(5)
    v, t0, index = *pt.dvectors("v", "t0"), rng.integers(3, size=50)
    rows = np.column_stack([rng.uniform(1.0, 2.0, 50), rng.integers(2, size=50)])
    arguments = {"v": v[index] if indexed else v, "t0": t0[index] if "t0" in indexed else 0.3}
    logp = approximator.logp(rows, backend="lowering", **arguments)
    products = [
        a.owner.inputs[0].shape[0]
        for a in ancestors([logp])
        if a.owner is not None and type(a.owner.op).__name__ in ("Dot", "MatMul", "Blockwise")
    ]
    assert products
    count = pytensor.function([v, t0], products, mode=PYTHON, on_unused_input="ignore")
    sizes = count(np.full(expected, 0.4), np.full(expected, 0.3))
    assert {int(s) for s in sizes} == {expected, 2 * expected}  # once more for each response


def test_indices_of_any_kind_pick_the_right_group() -> None:
    """Negative ones, small integers as in pandas categories, shared by parameters or not."""
    approximator = LIKELIHOODS["two continuous"]
    rng = np.random.default_rng(6)
    index = np.r_[0:100, -100:0].astype("int8")
    values = {"v": rng.uniform(LOW, HIGH, 100), "t0": rng.uniform(LOW, 0.4, 100)}
    rows = np.column_stack([rng.normal(size=200), index % 3, rng.uniform(1.0, 2.0, 200)])
    v, t0 = pt.dvectors("v", "t0")
    run = pytensor.function(
        [v, t0],
        [
            approximator.logp(rows, v=v[index], t0=t0[index]),
            approximator.logp(rows, v=v[index], t0=t0[index[::-1].copy()]),
            approximator.logp(rows, v=v[index], t0=0.3),
            approximator.logp(rows, v=v[index], t0=0.3, backend="op"),
        ],
        mode=PYTHON,
    )
    reverse = values["t0"][index[::-1]]
    for result, other in zip(
        run(**values), (values["t0"][index], reverse, [0.3] * 200, [0.3] * 200), strict=True
    ):
        theta = np.column_stack([values["v"][index], other])
        expected = [approximator.log_prob(rows[[i]], theta[[i]])[0, 0] for i in range(200)]
        np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_network_without_a_lowering_says_so_and_runs_as_an_op() -> None:
    network = SignedCouplingLikelihood([Support(), 2], 2).double()
    with pytest.raises(NoLowering, match="SignedCouplingLikelihood has no PyTensor version"):
        lower(network, pt.dmatrix(), pt.dmatrix(), None, None)


def test_op_refuses_inputs_of_the_wrong_rank() -> None:
    op, rows = LogDensity(reaction_times()), pt.dmatrix()
    for parameters in ([pt.dtensor3()], [pt.dvector()], [pt.dmatrix(), pt.dscalar()]):
        with pytest.raises(TypeError, match="expected one matrix"):
            op(rows, rows, None, *parameters)
    with pytest.raises(TypeError, match="conditions has 3 dimensions, expected 2"):
        op(rows, pt.dtensor3(), None, rows)


def test_op_leaves_the_number_of_threads_as_it_was() -> None:
    approximator = reaction_times()
    torch.set_num_threads(2)
    try:
        rows = approximator.logp(np.array([[1.2, 0.0]]), backend="op", v=0.5, t0=0.3)
        assert np.isfinite(rows.eval(mode=PYTHON)).all()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_what_is_no_category_is_impossible_to_the_lowering_too() -> None:
    network = LIKELIHOODS["two continuous"].network
    x = np.array([[0.1, k, 2.0] for k in (0.0, -1.0, 0.5, 3.0, np.nan, 2.0)])
    theta = np.array([[0.2, 0.3], [0.4, 0.1]])
    group = np.array([0, 0, 1, 1, 1, 1])
    expected = network.log_prob_rows(*map(torch.as_tensor, (x, theta, group))).detach().numpy()
    lowered = lower(network, pt.as_tensor(x), pt.as_tensor(theta), pt.as_tensor(group), None)
    np.testing.assert_allclose(lowered.eval(mode=PYTHON), expected, rtol=1e-6)
    assert np.isfinite(expected).tolist() == [True, False, False, False, False, True]
