"""The neural likelihood as a PyMC random variable: names, shapes, draws, samplers, bad input."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import torch
from closed_forms import poisson
from modes import COMPILED, PYTHON
from scipy import stats
from untrained import HIGH, LOW, reaction_times, untrained

import jana_pymc as jana
from jana_pymc.pytensor import Contaminant
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema

pytestmark = pytest.mark.bridge

N_OBS = 30
RT = reaction_times()
SHORT = {
    "draws": 15,
    "tune": 15,
    "chains": 2,
    "cores": 1,
    "random_seed": 1,
    "progressbar": False,
    "compute_convergence_checks": False,
    "compile_kwargs": {"mode": COMPILED},
}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return RT.simulate(np.array([[0.5, 0.3]]), N_OBS, random_seed=0)[0]


def build(rows: Any, **options: Any) -> pm.Model:
    with pm.Model(coords={"obs": range(len(rows))}) as model:
        v = pm.Uniform("v", LOW, HIGH)
        t0 = pm.Uniform("t0", LOW, 0.3)
        RT("y", v=v, t0=t0, observed=rows, dims="obs", **options)
    return model


@pytest.fixture(scope="module")
def model(rows: np.ndarray) -> pm.Model:
    return build(rows)


@pytest.fixture(scope="module")
def sampled(rows: np.ndarray):
    with build(rows, backend="op") as model:  # which compiles sooner
        return pm.sample(nuts_sampler="pymc", initvals=jana.initvals(model), **SHORT)


# Names, shapes, dims


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"v": 0.5}, "missing: t0"),
        ({"v": 0.5, "t0": 0.3, "drift": 1.0}, "unknown: drift"),
        ({"v": 0.5, "ndt": 0.3}, "missing: t0; unknown: ndt"),
    ],
)
def test_parameters_go_by_name(given: dict[str, float], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        RT.dist(**given)
    with pytest.raises(TypeError, match=message):
        RT.logp(np.array([[1.0, 0.0]]), **given)
    with pm.Model(), pytest.raises(TypeError, match="takes the parameters v, t0"):
        RT("y", observed=np.array([[1.0, 0.0]]), **given)


def test_order_of_keywords_does_not_matter() -> None:
    x = np.array([[1.0, 0.0]])
    first, second = RT.logp(x, v=0.8, t0=0.2), RT.logp(x, t0=0.2, v=0.8)
    assert first.eval(mode=PYTHON) == second.eval(mode=PYTHON)


@pytest.mark.parametrize(
    ("parameters", "size", "shape"),
    [
        ({"v": 0.5, "t0": 0.3}, None, (2,)),
        ({"v": 0.5, "t0": 0.3}, 4, (4, 2)),
        ({"v": 0.5, "t0": 0.3}, (3, 4), (3, 4, 2)),
        ({"v": np.full(5, 0.5), "t0": 0.3}, None, (5, 2)),
        ({"v": np.full((3, 1), 0.5), "t0": np.full(4, 0.3)}, None, (3, 4, 2)),
        ({"v": np.full(5, 0.5), "t0": 0.3}, (3, 5), (3, 5, 2)),
    ],
)
def test_draws_have_the_shape_that_parameters_and_size_say(parameters, size, shape) -> None:
    rv = RT.dist(size=size, **parameters)
    assert rv.ndim == len(shape)
    drawn = pm.draw(rv, random_seed=0)
    assert drawn.shape == shape
    assert (drawn[..., 0] > 0.3).all() and set(np.unique(drawn[..., 1])) <= {0.0, 1.0}
    assert pm.draw(rv, draws=2, random_seed=0).shape == (2, *shape)


def test_vector_parameters_and_conditions() -> None:
    approximator = untrained(
        {"x": Continuous()}, {"b": (2,), "s": ()}, {"known": Continuous(), "kind": Categorical(2)}
    )
    known = {"known": np.linspace(-1, 1, 6), "kind": np.arange(6) % 2}
    rv = approximator.dist(b=[0.3, 0.6], s=0.5, conditions=known)
    drawn = pm.draw(rv, random_seed=0)
    assert drawn.shape == (6, 1)
    value = approximator.logp(drawn, b=[0.3, 0.6], s=0.5, conditions=known)
    expected = approximator.log_prob(drawn, np.array([[0.3, 0.6, 0.5]]), known)[0]
    np.testing.assert_allclose(value.eval(mode=PYTHON), expected, rtol=1e-6)
    many = np.stack([drawn, drawn + 0.1, drawn - 0.1])
    batch = approximator.dist(b=[0.3, 0.6], s=0.5, conditions=known, size=(3, 6))
    np.testing.assert_allclose(
        pm.logp(batch, many).eval(mode=PYTHON),
        [approximator.log_prob(x, np.array([[0.3, 0.6, 0.5]]), known)[0] for x in many],
        rtol=1e-6,
    )
    with pytest.raises(TypeError, match="needs the conditions known, kind"):
        approximator.dist(b=[0.3, 0.6], s=0.5)
    with pytest.raises(ValueError, match="parameter 'b' has 0 dimensions; expected 1"):
        approximator.dist(b=0.3, s=0.5, conditions=known)
    with pytest.raises(ValueError, match="parameter 'b' has 0 dimensions; expected 1"):
        approximator.logp(drawn, b=0.3, s=0.5, conditions=known)


def test_dims_name_observations_and_components(model: pm.Model) -> None:
    assert model.named_vars_to_dims["y"] == ("obs", "y_component")
    assert tuple(model.coords["y_component"]) == ("rt", "response")


def test_components_in_another_order_would_be_mislabelled(rows: np.ndarray) -> None:
    def labelled(labels: list[Any] | None) -> pm.Model:
        with pm.Model(coords={"obs": range(N_OBS)}) as model:
            model.add_coord("part", labels, length=2)
            RT("y", v=0.5, t0=LOW, observed=rows, dims=("obs", "part"))
        return model

    for labels in (["rt", "response"], ["seconds", "choice"], [0, 1], None):
        assert labelled(labels).named_vars_to_dims["y"] == ("obs", "part")
    with pytest.raises(ValueError, match=r"'part' has .* response, rt, but .* order rt, response"):
        labelled(["response", "rt"])


# Draws


def test_draws_follow_the_density() -> None:
    approximator = untrained({"x": Continuous(lower="t0")}, {"v": (), "t0": ()})
    theta = np.array([[0.7, 0.3]])
    drawn = pm.draw(approximator.dist(v=0.7, t0=0.3, size=4_000), random_seed=1)[:, 0]
    grid = 0.3 + np.exp(np.linspace(-25.0, 25.0, 40_001))
    density = np.exp(approximator.log_prob(grid[:, None], theta)[0])
    share = np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))
    assert share[-1] == pytest.approx(1.0, abs=1e-3)
    assert stats.kstest(drawn, lambda x: np.interp(x, grid[1:], share)).pvalue > 0.001


def test_seeds_reproduce_and_global_randomness_stays_as_it_was() -> None:
    rv = RT.dist(v=0.5, t0=0.3, size=5)
    before = torch.random.get_rng_state()
    first, again, other = (pm.draw(rv, random_seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


# In a model


def test_log_likelihood_has_one_value_a_trial(model: pm.Model, sampled: Any, rows) -> None:
    pm.compute_log_likelihood(sampled, model=model, progressbar=False)
    pointwise = sampled.log_likelihood["y"]
    assert pointwise.shape == (2, 15, N_OBS)
    theta = np.stack([sampled.posterior[n].values.ravel() for n in ("v", "t0")], -1)
    np.testing.assert_allclose(
        pointwise.values.reshape(-1, N_OBS), RT.log_prob(rows, theta), rtol=1e-6
    )


def test_predictive_draws_lie_in_the_support(rows: np.ndarray, sampled: Any) -> None:
    # Of a model of their own: PyMC 5.28 leaves one that was drawn from without a density.
    with build(rows):
        predictive = pm.sample_posterior_predictive(sampled, random_seed=1, progressbar=False)
        prior = pm.sample_prior_predictive(7, random_seed=1)
    drawn = predictive.posterior_predictive["y"]
    assert drawn.shape == (2, 15, N_OBS, 2)
    assert drawn.dims[2:] == ("obs", "y_component")
    assert (drawn.values[..., 0] > sampled.posterior["t0"].values[..., None]).all()
    assert prior.prior_predictive["y"].shape == (1, 7, N_OBS, 2)
    assert (prior.prior_predictive["y"].values[..., 0] > prior.prior["t0"].values[..., None]).all()


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_data_may_be_exchanged_for_more_or_fewer(rows: np.ndarray, backend: str) -> None:
    with pm.Model(coords={"obs": np.arange(N_OBS)}) as model:
        data = pm.Data("data", rows, dims=("obs", "component"))
        t0 = pm.Uniform("t0", LOW, 0.3)
        RT("y", v=0.5, t0=t0, observed=data, backend=backend)
    log_prob = model.compile_logp(vars=model.observed_RVs, mode=PYTHON)
    point = model.initial_point()
    theta = np.array([[0.5, 0.2]])
    for n in (N_OBS, 12, 1):
        with model:
            pm.set_data({"data": rows[:n]}, coords={"obs": np.arange(n)})
        point = {"t0_interval__": np.array(0.0)}  # the middle
        assert float(log_prob(point)) == pytest.approx(RT.log_prob(rows[:n], theta).sum())
        with model:
            prior = pm.sample_prior_predictive(2, random_seed=1)
        assert prior.prior_predictive["y"].shape == (1, 2, n, 2)


def test_potential_gives_the_same_model_density(model: pm.Model, rows: np.ndarray) -> None:
    with pm.Model() as other:
        v = pm.Uniform("v", LOW, HIGH)
        t0 = pm.Uniform("t0", LOW, 0.3)
        pm.Potential("y", RT.logp({"rt": rows[:, 0], "response": rows[:, 1]}, v=v, t0=t0).sum())
    point = {"v_interval__": np.array(0.3), "t0_interval__": np.array(-0.8)}
    values = [float(m.compile_logp(mode=PYTHON)(point)) for m in (model, other)]
    assert np.isfinite(values[0])
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_hierarchy_over_groups_matches_torch(rows: np.ndarray) -> None:
    subject = np.arange(N_OBS) % 4
    with pm.Model(coords={"subject": range(4)}) as model:
        v = pm.Uniform("v", LOW, HIGH, dims="subject")
        RT("y", v=v[subject], t0=0.2, observed=rows)
    point = {"v_interval__": np.array([-1.0, 0.0, 0.5, 1.0])}
    v = LOW + (HIGH - LOW) / (1.0 + np.exp(-point["v_interval__"]))
    theta = np.column_stack([v[subject], np.full(N_OBS, 0.2)])
    expected = [RT.log_prob(rows[[i]], theta[[i]])[0, 0] for i in range(N_OBS)]
    log_prob = model.compile_logp(vars=model.observed_RVs, sum=False, mode=PYTHON)
    np.testing.assert_allclose(log_prob(point)[0], expected, rtol=1e-6)


def test_groups_of_one_parameter_may_outnumber_those_of_another(rows: np.ndarray) -> None:
    subject = np.arange(N_OBS) % 4
    v, t0 = np.linspace(0.3, 0.8, 5), np.linspace(0.11, 0.25, 6)
    value = RT.logp(rows, v=pt.constant(v)[subject], t0=pt.constant(t0)[subject])
    each = zip(rows, v[subject], t0[subject], strict=True)
    expected = [RT.log_prob(row[None], np.array([[a, b]]))[0, 0] for row, a, b in each]
    np.testing.assert_allclose(value.eval(mode=PYTHON), expected, rtol=1e-6)


# Samplers


def check_posterior(posterior: Any) -> None:
    for name, high in (("v", HIGH), ("t0", 0.3)):
        values = posterior[name].values
        assert values.size >= 15
        assert ((values > LOW) & (values < high)).all()
        assert len(np.unique(values)) > 3


def test_nuts_samples(sampled: Any) -> None:
    check_posterior(sampled.posterior)


def test_slice_samples_through_the_op(rows: np.ndarray) -> None:
    with build(rows, backend="op") as model:
        start = jana.initvals(model)
        trace = pm.sample(step=pm.Slice(), initvals=start, **SHORT)
    check_posterior(trace.posterior)


# Copies


def test_pickling_and_copying_keep_the_likelihood(rows: np.ndarray) -> None:
    for other in (pickle.loads(pickle.dumps(RT)), copy.deepcopy(RT)):
        assert other == RT and hash(other) == hash(RT)
        theta = np.array([[0.5, 0.2]])
        np.testing.assert_array_equal(other.log_prob(rows, theta), RT.log_prob(rows, theta))
    assert reaction_times(4) != RT
    rv = RT.dist(v=0.5, t0=0.3, size=3)
    twin = pickle.loads(pickle.dumps(rv))
    np.testing.assert_array_equal(pm.draw(rv, random_seed=1), pm.draw(twin, random_seed=1))


# Initial values


def start_model(t0_low: float, t0_high: float) -> pm.Model:
    times = np.column_stack([np.linspace(0.2, 2.0, 8), np.arange(8) % 2])
    with pm.Model() as model:
        RT("y", v=0.5, t0=pm.Uniform("t0", t0_low, t0_high), observed=times)
    return model


def test_no_initial_values_where_pymc_needs_none() -> None:
    assert jana.initvals(start_model(LOW, 0.15), random_seed=1) == {}


def test_initial_values_have_a_finite_density() -> None:
    model = start_model(LOW, 0.9)
    log_prob = model.compile_logp(mode=PYTHON)
    assert log_prob(model.initial_point()) == -np.inf
    start = jana.initvals(model, random_seed=1)
    assert LOW < start["t0"] < 0.2
    share = (start["t0"] - LOW) / (0.9 - LOW)
    assert np.isfinite(log_prob({"t0_interval__": np.log(share / (1.0 - share))}))


def test_impossible_initial_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"density of y is zero .* contradict each other"):
        jana.initvals(start_model(0.5, 0.9), random_seed=1)


def test_other_variables_are_no_obstacle() -> None:
    with start_model(LOW, 0.9) as model:
        mean, sd = pm.Normal("mean", initval=0.3), pm.HalfNormal("sd")
        pm.Normal("of group", mean, sd, shape=3)
        pm.Categorical("kind", [0.2, 0.8])
        pm.Dirichlet("share", np.ones(3))
    start = jana.initvals(model, random_seed=1)
    assert list(start) == [rv.name for rv in model.free_RVs]
    assert start["t0"] < 0.2


def test_groups_with_bounds_of_their_own_find_a_start_together() -> None:
    n = 12
    times = np.column_stack([np.linspace(0.2, 2.0, 4 * n), np.arange(4 * n) % 2])
    group = np.arange(4 * n) % n
    with pm.Model() as model:
        t0 = pm.Uniform("t0", LOW, 0.9, shape=n)
        RT("y", v=0.5, t0=t0[group], observed=times)
    start = jana.initvals(model, random_seed=1)
    assert (start["t0"] < times[:n, 0]).all()


def test_start_of_what_cannot_be_drawn_or_is_no_model_is_refused() -> None:
    with start_model(LOW, 0.9) as model:
        pm.Flat("anywhere")
    with pytest.raises(ValueError, match=r"cannot be drawn from, such as\s+pm\.Flat"):
        jana.initvals(model)
    with pytest.raises(TypeError, match=r"expected a pymc\.Model"):
        jana.initvals(3)


# Bad input


def test_the_first_of_many_data_sets_that_cannot_be_is_named() -> None:
    sets = np.ones((3, 4, 2))
    sets[0, 2:] = np.nan  # padding
    RT.check_reachable(sets)
    sets[1:, 1, 0] = LOW, LOW / 2.0
    with pytest.raises(ValueError, match=r"'rt'\] of data set 1 reaches 0\.1, beyond every t0"):
        RT.check_reachable(sets)
    with pytest.raises(ValueError, match=r"'rt'\] reaches 0\.05, beyond every t0"):
        RT.check_reachable(sets[2:])
    assert RT.reachable(sets).tolist() == [True, False, False]


def test_each_draw_may_have_a_data_set_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jana_pymc.trained_likelihood.NUMBERS_AT_ONCE", 6)  # two at a time
    likelihood = untrained({"x": Continuous()}, {"b": (), "s": ()}, {"known": Continuous()})
    rng = np.random.default_rng(1)
    x, known, theta = (rng.uniform(LOW, HIGH, shape) for shape in ((5, 3, 1), (5, 3, 1), (5, 2)))
    found = likelihood.pointwise(x, theta, known)
    expected = [likelihood.pointwise(x[i], theta[[i]], known[i])[0] for i in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (np.ones(4), r"shape \(4,\); expected \(n_obs, 2\).*rt, response"),
        (np.ones((4, 3)), r"shape \(4, 3\); expected \(n_obs, 2\)"),
        (np.array([[1.0, 0.0], [1.0, np.nan]]), "'response'\\] has 1 missing value.*not imputed"),
        (np.array([[np.nan, 0.0], [np.nan, 1.0]]), "every value of observables\\['rt'\\]"),
        (np.array([[1.0, 0.0], [1.0, 2.0]]), "observables\\['response'\\].*outside"),
        (np.array([[1.0, 0.0], [1.0, 0.5]]), "observables\\['response'\\].*outside"),
        (np.array([[1.0, 0.0], [LOW, 0.0]]), "observables\\['rt'\\] reaches 0.1, beyond every t0"),
        ({"rt": np.ones(3)}, "response"),
        ({"rt": np.ones(3), "choice": np.ones(3)}, "choice|response"),
        ({"rt": np.ones(3), "response": np.ones(2)}, "response"),
        (pt.dvector("data"), r"1 dimensions.*expected \(n_obs, 2\)"),
    ],
)
def test_bad_data_are_refused_by_name(observed: Any, message: str) -> None:
    with pm.Model(), pytest.raises(ValueError, match=message):
        RT("y", v=0.5, t0=0.3, observed=observed)


def test_data_outside_a_constant_support_are_refused() -> None:
    approximator = untrained({"x": Continuous(lower=0.0, upper=2.0)}, {"v": (), "t0": ()})
    for value in (-0.5, 0.0, 2.0):
        with pytest.raises(ValueError, match=r"observables\['x'\] has 1 value outside"):
            approximator.logp(np.array([[1.0], [value]]), v=0.5, t0=0.3)


def test_data_of_another_type_are_refused() -> None:
    with pm.Model(), pytest.raises((TypeError, ValueError), match="rt"):
        RT("y", v=0.5, t0=0.3, observed={"rt": ["fast", "slow"], "response": [0, 1]})


@pytest.mark.parametrize(
    ("observed", "error", "message"),
    [
        (["a", "b"], TypeError, "the array of data has dtype <U1; expected real numbers"),
        ([[1.0, 0.0], [1.0]], ValueError, "the array of data is no regular array of numbers"),
    ],
)
def test_lists_that_are_no_numbers_are_refused(observed, error, message) -> None:
    with pm.Model(), pytest.raises(error, match=message):
        RT("y", v=0.5, t0=0.3, observed=observed)


def test_a_series_of_counts_is_data() -> None:
    likelihood, y = poisson(), pd.Series([0, 3, 1])
    dated = y.set_axis(pd.date_range("2024-01-01", periods=3))
    expected = stats.poisson.logpmf(y, np.exp(0.8))
    for given in (y, dated):
        value = likelihood.logp(given, mu=0.8).eval(mode=PYTHON)
        np.testing.assert_allclose(value, expected)
        np.testing.assert_array_equal(likelihood.schema.batch(given).observables[0, :, 0], y)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            np.array([1.0, np.nan]),
            r"1 (missing value|value missing).*not imputed.*Categorical\(2\)",
        ),
        (np.ma.array([1, 2], mask=[0, 1]), "1 missing value.*not imputed|masked values"),
        (pd.Series([1, None], dtype="Int64"), "1 .*missing.*not imputed"),
        ([1, None], "missing values .None or NA.*NaN"),
        (pd.Series(["a", "b"], dtype="category"), r"dtype category.*\.cat\.codes"),
    ],
)
def test_missing_counts_and_names_of_categories_are_refused_with_advice(missing, message) -> None:
    with pm.Model(), pytest.raises((TypeError, ValueError), match=message):
        poisson()("y", mu=0.8, observed={"y": missing})
    with pytest.raises((TypeError, ValueError), match=message):
        poisson().logp({"y": missing}, mu=0.8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [3, None]], r"missing values \(None or NA\).*\.to_numpy\(float, na_value="),
        ([[1, 2], [3, 4]], r"dtype object; expected real numbers; give \.to_numpy\(float\)"),
    ],
)
def test_nullable_frames_are_refused_with_advice(values, message) -> None:
    with pytest.raises(TypeError, match=message):
        poisson(2).logp({"y": pd.DataFrame(values, dtype="Int64")}, mu=0.8)


@pytest.mark.parametrize("columns", [["y[0]", "y[1]"], [0, 1]])
def test_the_columns_of_a_wide_table_are_said_to_be_one_array(columns) -> None:
    frame = pd.DataFrame([[0, 3], [1, 2]], columns=columns)
    likelihood = poisson(2)
    message = rf"y is one array: give \{{'y': frame\[\[{re.escape(repr(columns)[1:-1])}\]\]"
    for call in (lambda: likelihood.logp(frame, mu=0.8), lambda: likelihood.schema.batch(frame)):
        with pytest.raises(ValueError, match=message):
            call()


def test_backend_must_be_known() -> None:
    with pytest.raises(ValueError, match="backend='torch' is not 'auto', 'lowering' or 'op'"):
        RT.dist(v=0.5, t0=0.3, backend="torch")
    with pytest.raises(ValueError, match="backend='torch' is not"):
        RT.logp(np.array([[1.0, 0.0]]), v=0.5, t0=0.3, backend="torch")


def test_conditions_that_were_never_declared_are_refused() -> None:
    with pytest.raises(TypeError, match="trained without conditions"):
        RT.dist(v=0.5, t0=0.3, conditions=np.ones((4, 1)))


def test_parameter_outside_the_trained_region_has_no_density() -> None:
    rows = np.array([[1.0, 0.0], [1.5, 1.0]])
    v = np.array([HIGH + 0.01, HIGH])
    with pytest.warns(UserWarning, match="'v' is 0.91, outside the trained region from 0.1 to 0.9"):
        value = RT.logp(rows, v=v, t0=0.3)
    value = value.eval(mode=PYTHON)
    assert value[0] == -np.inf and np.isfinite(value[1])


@pytest.mark.parametrize(
    ("v", "error", "message"),
    [
        (None, TypeError, "'v' is NoneType; expected a number, array or tensor"),
        ("fast", TypeError, "'v' is str"),
        ({"a": 1}, TypeError, "'v' is dict"),
        (np.nan, ValueError, "parameter 'v' is NaN"),
        (np.full(3, 0.5), ValueError, "parameter 'v' has 3 values for 2 observations"),
    ],
)
def test_parameters_that_are_no_numbers_or_too_many_are_refused(v, error, message) -> None:
    rows = np.array([[1.0, 0.0], [1.5, 1.0]])
    with pytest.raises(error, match=message):
        RT.logp(rows, v=v, t0=0.3)
    with pm.Model(), pytest.raises(error, match=message):
        RT("y", v=v, t0=0.3, observed=rows)


# Columns, conditions, and data that are exchanged


KNOWN = untrained({"x": Continuous()}, {"s": ()}, {"dose": Continuous(), "arm": Categorical(2)})
COLUMNS = {"x": np.linspace(0.0, 1.0, 5), "dose": np.linspace(-1, 1, 5), "arm": np.arange(5) % 2}


def test_a_single_observable_may_be_a_vector() -> None:
    approximator = untrained({"x": Continuous()}, {"s": ()})
    x = np.array([0.1, 0.2, 0.4])
    values = [approximator.logp(data, s=0.5) for data in (x, x[:, None], {"x": x})]
    first, *others = (v.eval(mode=PYTHON) for v in values)
    assert first.shape == (3,)
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_conditions_may_lie_beside_the_observables() -> None:
    apart = {"dose": COLUMNS["dose"], "arm": COLUMNS["arm"]}
    expected = KNOWN.log_prob({"x": COLUMNS["x"]}, np.array([[0.5]]), apart)
    np.testing.assert_array_equal(KNOWN.log_prob(COLUMNS, np.array([[0.5]])), expected)
    together = KNOWN.logp(COLUMNS, s=0.5).eval(mode=PYTHON)
    np.testing.assert_allclose(together, expected[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"conditions are given for 5 observations.*have 4"):
        KNOWN.logp({"x": COLUMNS["x"][:4]}, s=0.5, conditions=apart)
    with pytest.raises(ValueError, match="the conditions lack arm; expected dose, arm"):
        KNOWN.logp({"x": COLUMNS["x"]}, s=0.5, conditions={"dose": COLUMNS["dose"]})


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_columns_may_be_data_of_the_model(backend: str) -> None:
    with pm.Model() as model:
        columns = {name: pm.Data(name, values.astype(float)) for name, values in COLUMNS.items()}
        KNOWN("y", s=0.5, observed=columns, backend=backend)
    log_prob = model.compile_logp(mode=PYTHON)
    for n in (5, 3):
        part = {name: values[:n].astype(float) for name, values in COLUMNS.items()}
        with model:
            pm.set_data(part)
        expected = KNOWN.log_prob(part, np.array([[0.5]])).sum()
        assert float(log_prob({})) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("backend", ["lowering", "op"])
@pytest.mark.parametrize("response", [2.0, -1.0, 0.5])
def test_exchanged_data_that_are_impossible_have_no_density(response: float, backend: str) -> None:
    with pm.Model() as model:
        data = pm.Data("data", np.array([[1.0, 0.0], [1.5, 1.0]]))
        RT("y", v=0.5, t0=0.3, observed=data, backend=backend)
        pm.set_data({"data": np.array([[1.0, response], [1.5, 1.0]])})
    first, second = model.compile_logp(sum=False, mode=PYTHON)({})[0]
    assert first == -np.inf and np.isfinite(second)


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_exchanged_data_that_are_missing_or_unequal_are_named(backend: str) -> None:
    with pm.Model() as model:
        columns = {"rt": pm.Data("rt", [1.0, 1.5]), "response": pm.Data("response", [0.0, 1.0])}
        RT("y", v=0.5, t0=0.3, observed=columns, backend=backend)
    log_prob = model.compile_logp(mode=PYTHON)
    incomplete = r"observables\['rt'\] has missing \(NaN\) or infinite"
    with model:
        pm.set_data({"rt": [1.0, np.nan]})
    with pytest.raises(AssertionError, match=incomplete):
        log_prob({})
    with model:
        pm.set_data({"rt": [1.0, np.inf]})
    with pytest.raises(AssertionError, match=incomplete):
        log_prob({})
    with model:
        pm.set_data({"rt": [1.0, 1.5, 2.0]})
    with pytest.raises(AssertionError, match="'response' and 'rt' have different numbers"):
        log_prob({})


@pytest.mark.parametrize("columns", [1, 3])
def test_exchanged_data_of_another_width_are_named(columns: int) -> None:
    with pm.Model() as model:
        RT("y", v=0.5, t0=0.3, observed=pm.Data("rows", [[1.0, 0.0]]))
    log_prob = model.compile_logp(mode=PYTHON)
    with model:
        pm.set_data({"rows": np.ones((4, columns))})
    with pytest.raises(AssertionError, match="must have 2 columns, for rt, response"):
        log_prob({})


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_an_exchanged_index_counts_from_the_end_too_but_not_beyond_it(backend: str) -> None:
    """One group too far would be another place of the lowering's tables, and of torch's."""
    rows = np.array([[1.0, 0.0], [1.5, 1.0], [1.2, 1.0]])
    with pm.Model() as model:
        index = pm.Data("index", np.array([0, 1, 2]))
        v = pt.as_tensor_variable([0.3, 0.5, 0.7])
        RT("y", v=v[index], t0=0.3, observed=rows, backend=backend)
    log_prob = model.compile_logp(mode=PYTHON)
    expected = log_prob({})
    with model:
        pm.set_data({"index": np.array([-3, 1, -1])})
    assert log_prob({}) == pytest.approx(expected, rel=1e-12)
    for wrong in (-4, 3):
        with model:
            pm.set_data({"index": np.full(3, wrong)})
        with pytest.raises(AssertionError, match="points beyond the groups that there are"):
            log_prob({})
    with model:
        pm.set_data({"index": np.array([0])})
    with pytest.raises(AssertionError, match="must have a row for each of the observables"):
        log_prob({})


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_a_constant_index_beyond_groups_of_a_dimension_is_named(backend: str) -> None:
    """Their number, that of ``dims=``, is not known before the model runs."""
    rows = np.array([[1.0, 0.0], [1.5, 1.0], [1.2, 1.0]])

    def log_prob(index: list[int]) -> float:
        with pm.Model(coords={"person": range(3)}) as model:
            v = pm.Normal("v", dims="person")
            RT("y", v=v[np.array(index)], t0=0.3, observed=rows, backend=backend)
        return float(model.compile_logp(vars=[model["y"]], mode=PYTHON)({"v": [0.3, 0.5, 0.7]}))

    assert log_prob([-3, 1, -1]) == pytest.approx(log_prob([0, 1, 2]), rel=1e-12)
    for wrong in ([3, 1, 1], [-4, 0, 0]):
        with pytest.raises(AssertionError, match=f"it goes from {min(wrong)} to {max(wrong)}"):
            log_prob(wrong)


def test_whole_numbers_of_data_that_may_be_exchanged_have_a_density() -> None:
    choice = untrained({"k": Categorical(3)}, {"g": ()})
    values = np.array([0, 2, 1])
    with pm.Model() as model:
        pm.Potential("y", choice.logp(pm.Data("k", values), g=0.5).sum())
    expected = choice.log_prob({"k": values}, {"g": [0.5]}).sum()
    np.testing.assert_allclose(model.compile_logp(mode=PYTHON)({}), expected, rtol=1e-9)


@pytest.mark.parametrize("backend", ["lowering", "op"])
@pytest.mark.parametrize("arm", [3.0, -1.0, 0.5])
def test_an_exchanged_condition_that_does_not_exist_is_named(arm: float, backend: str) -> None:
    kinds = {"x": Continuous()}, {"g": (), "h": ()}, {"dose": Continuous(), "arm": Categorical(3)}
    likelihood = untrained(*kinds)
    with pm.Model() as model:
        conditions = {"dose": np.zeros(2), "arm": pm.Data("arm", np.zeros(2))}
        likelihood(
            "y", g=0.5, h=0.5, observed={"x": [-1.0, 0.3]}, conditions=conditions, backend=backend
        )
    log_prob = model.compile_logp(mode=PYTHON)
    for n, value in enumerate((0.0, 2.0, arm)):
        with model:
            pm.set_data({"arm": np.full(2, value)})
        if n < 2:
            assert np.isfinite(log_prob({}))
    with pytest.raises(AssertionError, match=r"conditions\['arm'\] has values that are no Categ"):
        log_prob({})


def test_a_constant_index_beyond_the_groups_is_named() -> None:
    rows = np.array([[1.0, 0.0], [1.5, 1.0]])
    v = pt.vector("v", shape=(2,))
    with pytest.raises(IndexError, match="there are 2, and it goes from 0 to 2"):
        RT.logp(rows, v=v[np.array([0, 2])], t0=0.3)


def test_symbolic_data_of_another_width_are_named() -> None:
    with pytest.raises(ValueError, match="must have 2 columns, for rt, response"):
        pm.logp(RT.dist(v=0.5, t0=0.3, size=2), pt.matrix("y", shape=(None, 3)))
    rows = pt.matrix("rows")
    log_prob = RT.logp(rows, v=0.5, t0=0.3)
    with pytest.raises(AssertionError, match="must have 2 columns, for rt, response"):
        log_prob.eval({rows: np.ones((2, 3))}, mode=PYTHON)


def test_independent_observations_have_a_size_and_no_length() -> None:
    with pytest.raises(TypeError, match=r"n_obs=3: only sequences have a length; .* as size"):
        RT.dist(v=0.5, t0=0.3, n_obs=3)


def test_data_of_the_model_are_checked_when_they_come() -> None:
    with pm.Model():
        data = pm.Data("data", np.array([[1.0, 3.0]]))
        with pytest.raises(ValueError, match=r"observables\['response'\] has 1 value outside"):
            RT("y", v=0.5, t0=0.3, observed=data)


# Lapses


def test_an_exchanged_probability_of_a_lapse_is_checked(rows: np.ndarray) -> None:
    with pm.Model() as model:
        lapse = pm.Data("lapse", 0.05)
        options = {"contamination": lapse, "contaminant": {"rt": (0.0, 10.0)}}
        RT("y", v=0.5, t0=0.3, observed=rows, **options)
    log_prob = model.compile_logp(mode=PYTHON)
    assert np.isfinite(log_prob({}))
    with model:
        pm.set_data({"lapse": 1.5})
    with pytest.raises(AssertionError, match="contamination must lie between 0 and 1"):
        log_prob({})


LAPSES = {"contamination": 0.1, "contaminant": {"rt": (0.0, 10.0)}}


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_lapses_are_mixed_in(backend: str) -> None:
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [0.05, 1.0], [12.0, 0.0]])  # too early, too late
    v = pt.dscalar("v")
    value = RT.logp(rows, v=v, t0=0.3, backend=backend, **LAPSES)
    clean = RT.log_prob(rows, np.array([[0.5, 0.3]]))[0]
    lapse = np.where(rows[:, 0] <= 10.0, 0.1 / (10.0 * 2), 0.0)
    mixture = value.eval({v: 0.5}, mode=PYTHON)
    np.testing.assert_allclose(mixture, np.log(0.9 * np.exp(clean) + lapse), rtol=1e-6)
    slope = pt.grad(value.sum(), v).eval({v: 0.5}, mode=PYTHON)
    plus, minus = (value.sum().eval({v: 0.5 + h}, mode=PYTHON) for h in (1e-5, -1e-5))
    assert slope == pytest.approx((plus - minus) / 2e-5, rel=1e-4)


def test_numba_draws_the_same_without_a_warning() -> None:
    rv = RT.dist(v=np.array([0.3, 0.5]), t0=0.3, **LAPSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pm.draw(rv, 3, random_seed=1, mode="NUMBA")
    np.testing.assert_array_equal(drawn, pm.draw(rv, 3, random_seed=1, mode=PYTHON))


def test_lapses_are_drawn() -> None:
    p = np.r_[np.zeros(2_000), np.ones(2_000)]
    rv = RT.dist(v=0.5, t0=0.6, contamination=p, contaminant={"rt": (0.0, 0.5)})
    drawn = pm.draw(rv, random_seed=1)
    assert (drawn[:2_000, 0] > 0.6).all() and (drawn[2_000:, 0] < 0.5).all()
    assert stats.kstest(drawn[2_000:, 0], "uniform", (0.0, 0.5)).pvalue > 0.001
    assert drawn[2_000:, 1].mean() == pytest.approx(0.5, abs=0.05)


def test_lapses_of_counts_lie_in_their_range() -> None:
    lapses = Contaminant.over(DataSchema({"k": Count(), "x": Continuous(0.0, 2.0)}), {"k": (3, 7)})
    drawn = lapses.draw(np.random.default_rng(1), 2_000)
    assert set(drawn[:, 0]) == {3.0, 4.0, 5.0, 6.0, 7.0}
    assert lapses.log_density == pytest.approx(-np.log(5 * 2.0))
    with pytest.raises(ValueError, match=r"'k': expected integers from 0, got \(0.0, 2.5\)"):
        Contaminant.over(DataSchema({"k": Count()}), {"k": (0, 2.5)})
    with pytest.raises(ValueError, match=r"'k': expected integers 0 to 2, got \(0.0, 3.0\)"):
        Contaminant.over(DataSchema({"k": Categorical(3)}), {"k": (0, 3)})


@pytest.mark.parametrize("shape", [(), 2])
def test_lapses_of_one_value_are_zero_inflation(shape) -> None:
    likelihood, mu, share = poisson(shape), 0.8, 0.3
    options = {"contamination": share, "contaminant": {"y": (0, 0)}}
    counts = np.array(list(itertools.product(range(4), repeat=2 if shape else 1)))
    rows = counts.reshape(len(counts), *([shape] if shape else []))
    value = likelihood.logp({"y": rows}, mu=mu, **options).eval(mode=PYTHON)
    poisson_law = stats.poisson.pmf(counts, np.exp(mu)).prod(1)
    expected = share * (counts == 0).all(1) + (1.0 - share) * poisson_law
    np.testing.assert_allclose(np.exp(value), expected, rtol=1e-10)
    drawn = pm.draw(likelihood.dist(mu=mu, size=20_000, **options), random_seed=1)
    found = (drawn[:, None] == counts).all(-1).sum(0)
    observed, law = np.r_[found, 20_000 - found.sum()], np.r_[expected, 1.0 - expected.sum()]
    assert stats.chisquare(observed, 20_000 * law).pvalue > 0.001


def test_lapses_of_a_category_may_have_one_value() -> None:
    likelihood = untrained({"k": Categorical(3)}, {"v": (), "t0": ()})
    rows = np.arange(3.0)[:, None]
    options = {"contamination": 0.2, "contaminant": {"k": (1, 1)}}
    value = likelihood.logp(rows, v=0.5, t0=0.3, **options).eval(mode=PYTHON)
    clean = likelihood.log_prob(rows, np.array([[0.5, 0.3]]))[0]
    np.testing.assert_allclose(np.exp(value), 0.8 * np.exp(clean) + 0.2 * np.array([0, 1, 0]))


def test_a_range_of_lapses_may_be_an_array() -> None:
    schema = DataSchema({"x": Continuous()})
    assert Contaminant.over(schema, {"x": np.array([0.0, 10.0])}) == Contaminant.over(
        schema, {"x": (0.0, 10.0)}
    )


def test_the_share_of_lapses_may_be_unknown_and_explains_impossible_data() -> None:
    early = np.array([[1.0, 0.0], [0.05, 1.0]])
    with pm.Model() as model:
        p = pm.Beta("p", 1.0, 9.0)
        RT("y", v=0.5, t0=0.3, observed=early, contamination=p, contaminant={"rt": (0.0, 10.0)})
    point = model.initial_point()
    assert np.isfinite(model.compile_logp(mode=PYTHON)(point))
    assert np.isfinite(model.compile_dlogp(mode=PYTHON)(point)).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"contamination": 0.1}, ValueError, "finite range in which lapses of 'rt' lie"),
        ({"contamination": 1.5}, ValueError, "expected a probability between 0 and 1"),
        ({"contamination": "much"}, TypeError, "'contamination' is str"),
        ({"contaminant": {"rt": (0, 1)}}, TypeError, "contaminant needs contamination"),
        ({"contamination": 0.1, "contaminant": {"x": (0, 1)}}, ValueError, "contaminant names x"),
        ({"contamination": 0.1, "contaminant": {"rt": (2, 1)}}, ValueError, r"got \(2, 1\)"),
        (
            {"contamination": 0.1, "contaminant": {"rt": (1, 1)}},
            ValueError,
            r"with low < high; got \(1, 1\)",
        ),
        (
            {"contamination": 0.1, "contaminant": {"rt": (0, 1), "response": (1, 0)}},
            ValueError,
            r"'response': \(low, high\)} with low <= high; got \(1, 0\)",
        ),
    ],
)
def test_bad_lapses_are_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        RT.dist(v=0.5, t0=0.3, **options)


# Missing values


def test_missing_values_are_imputed(rows: np.ndarray) -> None:
    incomplete = rows.copy()
    incomplete[[2, 5, 6], 0] = np.nan
    subject = np.arange(N_OBS) % 2

    def with_gaps(backend: str) -> pm.Model:
        with pm.Model() as model:
            t0 = pm.Uniform("t0", LOW, 0.3, shape=2)
            with pytest.warns(Warning, match="contains missing values"):
                RT("y", v=0.5, t0=t0[subject], observed=incomplete, backend=backend)
        return model

    model = with_gaps("lowering")
    middle = LOW + 0.5 * (0.3 - LOW)
    y = np.array([-0.5, 0.1, 0.4])  # log(rt - t0)
    complete = incomplete.copy()
    complete[[2, 5, 6], 0] = middle + np.exp(y)
    expected = RT.log_prob(complete, np.array([[0.5, middle]])).sum() + y.sum()
    expected += 2 * np.log(0.25)  # of the logit of a uniform variable at its middle
    point = {"t0_interval__": np.zeros(2), "y_unobserved_missing__": y}
    assert float(model.compile_logp(mode=PYTHON)(point)) == pytest.approx(expected)
    gradient = model.compile_dlogp(mode=PYTHON)(point)
    assert np.isfinite(gradient).all()
    with with_gaps("op"):
        trace = pm.sample(nuts_sampler="pymc", **SHORT)
    imputed = trace.posterior["y_unobserved"].values
    assert (imputed > trace.posterior["t0"].values[..., subject[[2, 5, 6]]]).all()


def test_columns_of_pandas_own_types_are_read(rows: np.ndarray) -> None:
    frame = pd.DataFrame(rows, columns=["rt", "response"])
    nullable = frame.astype({"rt": "Float64", "response": "Int64"})
    nullable.loc[2, "rt"] = pd.NA
    with pm.Model() as model:
        with pytest.warns(Warning, match="contains missing values"):
            RT("y", v=0.5, t0=0.3, observed=nullable)
        RT("z", v=0.5, t0=0.3, observed=frame.astype({"response": "category"}))
    assert model["y_unobserved"].eval(mode=PYTHON).shape == (1,)
    np.testing.assert_array_equal(model.rvs_to_values[model["z"]].eval(mode=PYTHON), rows)


def test_rows_that_are_missing_whole_are_imputed() -> None:
    approximator = untrained({"x": Continuous(lower="t0")}, {"t0": ()})
    x = np.array([1.0, np.nan, 2.0])
    with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
        approximator("y", t0=pm.Uniform("t0", LOW, 0.3), observed=x[:, None])
    y, middle = np.array([[0.3]]), LOW + 0.5 * (0.3 - LOW)
    complete = np.array([1.0, middle + np.exp(0.3), 2.0])
    expected = approximator.log_prob(complete, np.array([[middle]])).sum() + 0.3 + np.log(0.25)
    point = {"t0_interval__": np.array(0.0), "y_unobserved_missing__": y}
    assert float(model.compile_logp(mode=PYTHON)(point)) == pytest.approx(expected)


@pytest.mark.parametrize("t0", [0.3, pt.as_tensor_variable(0.3), "variable"])
def test_missing_values_under_one_value_for_all(rows: np.ndarray, t0: Any) -> None:
    incomplete = rows.copy()
    incomplete[[3, 7], 0] = np.nan
    with pm.Model() as model:
        v = pm.Uniform("v", LOW, HIGH)
        bound = pm.Uniform("t0", LOW, 0.3) if isinstance(t0, str) else t0
        with pytest.warns(Warning, match="contains missing values"):
            RT("y", v=v, t0=bound, observed=incomplete)
    point = model.initial_point(random_seed=1)
    assert np.isfinite(model.compile_logp(mode=PYTHON)(point))


@pytest.mark.parametrize("truncation", [None, {"rt": (0.1, 2.0)}])
@pytest.mark.parametrize("contamination", [None, 0.3])
def test_missing_values_may_lie_wherever_recorded_ones_can(truncation, contamination) -> None:
    lapses = None if contamination is None else {"rt": (0.0, 4.0)}
    options = {"truncation": truncation, "contamination": contamination, "contaminant": lapses}
    with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
        RT("y", v=0.5, t0=0.3, observed=np.array([[np.nan, 1.0], [1.0, 0.0]]), **options)
    density = model.compile_logp(mode=PYTHON)
    end = np.log(4.0)  # of the lapses, where the density may have a step
    y = np.sort([*np.linspace(-25.0, 15.0, 401), end - 1e-9, end + 1e-9])
    values = [float(density({"y_unobserved_missing__": np.array([each])})) for each in y]
    assert np.isfinite(values).all()
    x = np.linspace(0.0, 1.0, 40_001)[1:] ** 4 * 1e4  # finer where there is more
    x = x if truncation is None else np.linspace(*truncation["rt"], 20_001)
    x = x if contamination else x[x > LOW]  # no other can be
    rows = np.stack([x, np.ones_like(x)], -1)
    other, *alone = RT.logp(np.vstack([[1.0, 0.0], rows]), v=0.5, t0=0.3, **options).eval(
        mode=PYTHON
    )
    found = np.trapezoid(np.exp(np.array(values) - other), y)
    assert found == pytest.approx(np.trapezoid(np.exp(alone), x), rel=2e-3)


def test_complex_data_are_named() -> None:
    with pm.Model(), pytest.raises(TypeError, match=r"observables\['rt'\] is complex"):
        RT("y", v=0.5, t0=0.3, observed=np.array([[1.0 + 1.0j, 1.0]]))


def test_no_observations() -> None:
    assert pm.draw(RT.dist(v=0.5, t0=0.3, size=0)).shape == (0, 2)
    with pm.Model(), pytest.raises(ValueError, match="the data set is empty"):
        RT("y", v=pm.Normal("v"), t0=0.3, observed={"rt": [], "response": []})


# What a group, a lapse or exchanged data lack is said at once


def test_a_group_parameter_without_its_index_is_refused(rows: np.ndarray) -> None:
    with pm.Model(coords={"subject": list("abcd")}):
        vs = pm.Normal("vs", dims="subject")
        with pytest.raises(ValueError, match=r"4 values, one for each subject.*vs\[subject\]"):
            RT("y", v=vs, t0=0.2, observed=rows)
        RT("y", v=vs[np.arange(N_OBS) % 4], t0=0.2, observed=rows)


def test_shapes_of_lapses_and_scalars_are_checked(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contamination has 7 values for 30 observations"):
        RT.logp(rows, v=0.5, t0=0.3, contamination=np.full(7, 0.1), contaminant={"rt": (0.0, 10.0)})
    with pytest.raises(ValueError, match="'v' has 2 dimensions; expected 0, or one more"):
        RT.logp(rows, v=np.full((N_OBS, 1), 0.5), t0=0.3)


def test_data_that_neither_model_nor_lapse_explains_are_refused() -> None:
    early = np.array([[1.0, 0.0], [0.05, 1.0]])
    with pm.Model(), pytest.raises(ValueError, match=r"reaches 0\.05, beyond every t0"):
        RT("y", v=0.5, t0=0.3, observed=early, contamination=0.1, contaminant={"rt": (0.1, 1.0)})


def test_a_density_alone_refuses_the_same_data() -> None:
    early = np.array([[1.0, 0.0], [0.05, 1.0]])
    with pytest.raises(ValueError, match=r"reaches 0\.05, beyond every t0"):
        RT.logp(early, v=0.5, t0=0.3)
    with pytest.raises(ValueError, match=r"reaches 0\.05, beyond every t0"):
        RT.logp(early, v=0.5, t0=0.3, contamination=0.1, contaminant={"rt": (0.1, 1.0)})
    RT.logp(early, v=0.5, t0=0.3, contamination=0.1, contaminant={"rt": (0.0, 1.0)})


def test_columns_of_the_model_are_checked_when_they_come() -> None:
    with pm.Model():
        columns = {"rt": pm.Data("rt", [-1.0, 1.0]), "response": pm.Data("response", [0.0, 5.0])}
        with pytest.raises(ValueError, match=r"'response'.*outside"):
            RT("y", v=0.5, t0=0.3, observed=columns)


def test_conditions_given_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="dose, arm given twice"):
        KNOWN.logp(COLUMNS, s=0.5, conditions={"dose": COLUMNS["dose"], "arm": COLUMNS["arm"]})
