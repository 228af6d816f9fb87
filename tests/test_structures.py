"""Arrays, vectors and sequences in PyMC and xarray: shapes, densities, draws, missing values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import torch
from closed_forms import LAYOUT, vector, walk
from modes import PYTHON
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors
from scipy import stats
from untrained import reaction_times, untrained

from jana_pymc import LikelihoodApproximator
from jana_pymc.approximators import surrogate
from jana_pymc.inference_data import (
    observable_dataset,
    select_dataset,
    to_groups,
    to_inference_data,
)
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.pytensor import LogDensity
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema, ParameterLayout

pytestmark = pytest.mark.bridge

VECTOR, WALK = vector(), walk()
THETA = {"mu": 0.4, "b": np.array([0.3, -0.6])}
FLAT = LAYOUT.flatten(THETA)
SETS = [{"n": n, "x": np.random.default_rng(n).normal(size=(2, 2))} for n in (0, 2, 5)]
WALKS = [{"x": np.random.default_rng(i).normal(size=(6, 2)).cumsum(0)} for i in range(3)]
FAST = {"mode": PYTHON}


def vector_logp(data: dict[str, Any], mu: float, b: np.ndarray) -> float:
    return stats.poisson.logpmf(data["n"], np.exp(mu)) + stats.norm.logpdf(data["x"], b).sum()


def walk_logp(x: np.ndarray, mu: float, b: np.ndarray) -> np.ndarray:
    steps = np.diff(x, axis=0, prepend=np.zeros((1, 2)))
    return stats.norm.logpdf(steps, mu + b).sum(-1)


def flat(data: dict[str, Any]) -> np.ndarray:
    return np.r_[data["n"], data["x"].ravel()]


@pytest.mark.parametrize("form", ["mapping", "array", "list", "rows"])
def test_a_vector_has_one_log_density_a_data_set(form: str) -> None:
    many = form in ("list", "rows")
    given = {
        "mapping": SETS[1],
        "array": flat(SETS[1]),
        "list": SETS,
        "rows": np.stack([flat(s) for s in SETS]),
    }[form]
    value = VECTOR.logp(given, **THETA).eval(**FAST)
    expected = [vector_logp(s, **THETA) for s in SETS]
    assert value.shape == ((3,) if many else ())
    np.testing.assert_allclose(value, expected if many else expected[1], rtol=1e-12)
    table = VECTOR.log_prob(given, np.stack([FLAT, FLAT + 0.1]))
    assert table.shape == (2, 3 if many else 1)
    np.testing.assert_allclose(table[0], expected if many else expected[1:2], rtol=1e-12)


def test_vectors_may_have_parameters_and_conditions_of_their_own() -> None:
    approximator = vector(conditions=True)
    mu, dose = np.array([0.1, 0.5, 0.9]), np.array([0.0, 1.0, -1.0])
    with pm.Model(coords={"person": list("abc")}) as model:
        free = pm.Uniform("mu", -3, 3, dims="person")
        given = [{**s, "dose": d} for s, d in zip(SETS, dose, strict=True)]
        approximator("y", mu=free, b=THETA["b"], observed=given, dims="person")
    assert model.named_vars_to_dims["y"] == ("person", "y_component")
    assert tuple(model.coords["y_component"]) == ("n", "x[0, 0]", "x[0, 1]", "x[1, 0]", "x[1, 1]")
    point = {"mu_interval__": np.log((mu + 3) / (3 - mu))}
    log_prob = model.compile_logp(vars=model.observed_RVs, sum=False, **FAST)(point)[0]
    expected = [
        vector_logp({"n": s["n"], "x": s["x"] - d}, m, THETA["b"])
        for s, d, m in zip(SETS, dose, mu, strict=True)
    ]
    np.testing.assert_allclose(log_prob, expected, rtol=1e-10)
    with pytest.raises(ValueError, match="'mu' has 2 values for 3 data sets"):
        approximator.logp(given, mu=[0.1, 0.2], b=THETA["b"])


def test_draws_of_a_vector() -> None:
    rv = VECTOR.dist(**THETA)
    assert rv.ndim == 1 and pm.draw(rv, random_seed=1).shape == (5,)
    drawn = pm.draw(VECTOR.dist(**THETA, size=4_000), random_seed=1)
    assert drawn.shape == (4_000, 5)
    assert drawn[:, 0].mean() == pytest.approx(np.exp(0.4), abs=0.08)
    np.testing.assert_allclose(drawn[:, 1:].mean(0), np.tile(THETA["b"], 2), atol=0.07)
    assert pm.draw(VECTOR.dist(mu=[0.1, 0.2], b=THETA["b"]), random_seed=1).shape == (2, 5)


@pytest.mark.parametrize("form", ["mapping", "array", "list"])
def test_a_sequence_has_one_log_density(form: str) -> None:
    given = {
        "mapping": WALKS[1],
        "array": WALKS[1]["x"],
        "list": WALKS,
    }[form]
    value = WALK.logp(given, **THETA).eval(**FAST)
    expected = [walk_logp(w["x"], **THETA).sum() for w in WALKS]
    assert value.shape == ((3,) if form == "list" else ())
    np.testing.assert_allclose(value, expected if form == "list" else expected[1], rtol=1e-12)
    if form != "list":
        pointwise = WALK.log_prob(given, np.stack([FLAT, FLAT]))
        assert pointwise.shape == (2, 6)
        np.testing.assert_allclose(pointwise[0], walk_logp(WALKS[1]["x"], **THETA), rtol=1e-12)


def test_gradients_of_sequences_are_those_of_the_closed_form() -> None:
    x = np.stack([w["x"] for w in WALKS])
    data, mu = pt.dtensor3("data"), pt.dvector("mu")
    total = WALK.logp(data, mu=mu, b=THETA["b"]).sum()
    point = np.array([0.1, 0.4, -0.2])
    d_mu, d_x = (g.eval({data: x, mu: point}, **FAST) for g in pt.grad(total, [mu, data]))
    error = np.diff(x, axis=1, prepend=0.0) - (point[:, None] + THETA["b"])[:, None]
    np.testing.assert_allclose(d_mu, error.sum((1, 2)), rtol=1e-10)
    expected = -error
    expected[:, :-1] += error[:, 1:]
    np.testing.assert_allclose(d_x, expected, rtol=1e-9, atol=1e-12)


def test_a_sequence_in_a_model_is_predicted_in_its_length() -> None:
    approximator = walk(conditions=True)
    drift = np.linspace(0.0, 1.0, 6)
    with pm.Model(coords={"time": range(6)}) as model:
        data = pm.Data("data", WALKS[0]["x"], dims=("time", "part"))
        known = pm.Data("drift", drift, dims="time")
        mu = pm.Normal("mu")
        approximator("y", mu=mu, b=THETA["b"], observed=data, conditions=known, dims="time")
    assert model.named_vars_to_dims["y"] == ("time", "y_component")
    log_prob = model.compile_logp(vars=model.observed_RVs, **FAST)
    shifted = WALKS[0]["x"] - np.cumsum(drift)[:, None]
    point = {"mu": np.array(0.4)}
    assert float(log_prob(point)) == pytest.approx(walk_logp(shifted, **THETA).sum())
    with model:
        prior = pm.sample_prior_predictive(3, random_seed=1)
        assert prior.prior_predictive["y"].shape == (1, 3, 6, 2)
        pm.set_data({"data": np.zeros((4, 2)), "drift": np.zeros(4)}, coords={"time": range(4)})
        prior = pm.sample_prior_predictive(3, random_seed=1)
    assert prior.prior_predictive["y"].shape == (1, 3, 4, 2)
    assert float(log_prob(point)) == pytest.approx(walk_logp(np.zeros((4, 2)), **THETA).sum())


def test_draws_of_a_sequence() -> None:
    drawn = pm.draw(WALK.dist(**THETA, n_obs=3, size=3_000), random_seed=1)
    assert drawn.shape == (3_000, 3, 2)
    steps = np.diff(drawn, axis=1, prepend=0.0)
    np.testing.assert_allclose(steps.mean(0), np.tile(0.4 + THETA["b"], (3, 1)), atol=0.08)
    assert pm.draw(WALK.dist(mu=[0.1, 0.2], b=THETA["b"], n_obs=3)).shape == (2, 3, 2)
    assert pm.draw(WALK.dist(**THETA)).shape == (20, 2)
    with pm.Model(), pytest.raises(TypeError, match="number of observations of a sequence"):
        WALK("y", **THETA)
    with pytest.raises(TypeError, match="depend on one another"):
        WALK.dist(**THETA, n_obs=3, contamination=0.1)
    for observed in (WALKS, WALKS[0]):
        with pm.Model(), pytest.raises(TypeError, match="depend on one another"):
            WALK("y", **THETA, observed=observed, contamination=0.1, contaminant={"x": (-9.0, 9.0)})
    with pytest.raises(ValueError, match="of equal length"):
        WALK.logp([WALKS[0], {"x": np.zeros((3, 2))}], **THETA)


def test_missing_parts_of_a_sequence_are_imputed() -> None:
    x = WALKS[0]["x"].copy()
    x[2, 1] = np.nan
    with pm.Model() as model:
        mu = pm.Normal("mu")
        with pytest.warns(Warning, match="contains missing values"):
            WALK("y", mu=mu, b=THETA["b"], observed={"x": x})
    complete = np.where(np.isnan(x), 0.7, x)
    point = {"mu": np.array(0.4), "y_unobserved_missing__": np.array([0.7])}
    expected = walk_logp(complete, **THETA).sum() + stats.norm.logpdf(0.4)
    assert float(model.compile_logp(**FAST)(point)) == pytest.approx(expected)
    assert np.isfinite(model.compile_dlogp(**FAST)(point)).all()


def test_masked_parts_of_a_vector_are_imputed() -> None:
    row = np.ma.masked_array(flat(SETS[1]), [False, True, False, False, True])
    with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
        VECTOR("y", mu=pm.Normal("mu"), b=THETA["b"], observed=row)
    point = {"mu": np.array(0.4), "y_unobserved_missing__": np.array([0.7, -0.2])}
    complete = {"n": SETS[1]["n"], "x": SETS[1]["x"].copy()}
    complete["x"][0, 0], complete["x"][1, 1] = 0.7, -0.2
    expected = vector_logp(complete, **THETA) + stats.norm.logpdf(0.4)
    assert float(model.compile_logp(**FAST)(point)) == pytest.approx(expected)


@pytest.mark.parametrize("form", ["list", "array"])
def test_missing_parts_of_many_data_sets_are_imputed(form: str) -> None:
    walks = np.stack([walk["x"] for walk in WALKS])
    walks[1, 2, 1] = walks[2, 0, 0] = np.nan
    rows = np.stack([flat(s) for s in SETS])
    rows[1, 1] = rows[2, 4] = np.nan
    for likelihood, data, logp in (
        (WALK, walks, lambda x: walk_logp(x, **THETA).sum()),
        (VECTOR, rows, lambda x: vector_logp({"n": x[0], "x": x[1:].reshape(2, 2)}, **THETA)),
    ):
        given = data
        if form == "list" and likelihood is WALK:
            given = [{"x": x} for x in data]
        elif form == "list":
            given = [{"n": x[0], "x": x[1:].reshape(2, 2)} for x in data]
        with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
            likelihood("y", mu=pm.Normal("mu"), b=THETA["b"], observed=given)
        complete = data.copy()
        complete[np.isnan(data)] = 0.7, -0.2
        point = {"mu": np.array(0.4), "y_unobserved_missing__": np.array([0.7, -0.2])}
        expected = sum(map(logp, complete)) + stats.norm.logpdf(0.4)
        assert float(model.compile_logp(**FAST)(point)) == pytest.approx(expected)


def normals(observables: dict[str, Continuous], structure: str) -> LikelihoodApproximator:
    """Every component of every observation is x ~ N(mu, 1)."""

    class Normals(LikelihoodNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("one", torch.ones(()))

        def log_prob_rows(self, observables, parameters, group, conditions=None):
            mean = parameters[group]
            return (-0.5 * (observables - mean) ** 2 - 0.5 * np.log(2 * np.pi)).sum(-1)

        def log_prob(self, observables, parameters, conditions=None):
            groups = torch.arange(len(parameters))
            return self.log_prob_rows(observables.swapaxes(0, 1), parameters, groups).T

    n_obs = {} if structure == "vector" else {"n_obs": (1, 9)}
    return LikelihoodApproximator(
        Normals(),
        ParameterLayout(("mu",), {"mu": ()}),
        DataSchema(observables, structure=structure, **n_obs),
        np.array([[-3.0], [3.0]]),
    )


@pytest.mark.parametrize("form", ["flat", "masked", "list", "list of one masked", "column"])
@pytest.mark.parametrize("structure", ["exchangeable", "markovian", "vector"])
def test_missing_values_are_imputed_whatever_the_form(structure: str, form: str) -> None:
    x = np.array([0.3, np.nan, -0.4])
    names = "xyz" if structure == "vector" else "x"
    likelihood = normals({name: Continuous(upper=2.0) for name in names}, structure)
    column = x[None] if structure == "vector" else x[:, None]
    given = {
        "flat": x,
        "masked": np.ma.masked_invalid(x),
        "list": x.tolist(),
        "list of one masked": list(np.ma.masked_invalid(column)),
        "column": column,
    }[form]
    with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
        likelihood("y", mu=pm.Normal("mu"), observed=given)
    free = model.rvs_to_values[model["y_unobserved"]]
    value = np.full((1,) * free.ndim, -np.log(2.0 - 0.7))  # stands for 0.7, the bound being 2
    point = {"mu": np.array(0.1), "y_unobserved_missing__": value}
    expected = stats.norm.logpdf([0.3, 0.7, -0.4], 0.1).sum() + stats.norm.logpdf(0.1)
    jacobian = np.log(2.0 - 0.7)
    assert float(model.compile_logp(**FAST)(point)) == pytest.approx(expected + jacobian)


def test_a_vector_needs_a_value_to_impute_the_others_from() -> None:
    likelihood = normals({"x": Continuous(), "y": Continuous()}, "vector")
    with pm.Model(), pytest.raises(ValueError, match="every value of the data is missing"):
        likelihood("y", mu=0.0, observed=np.full(2, np.nan))


def test_exchanged_counts_that_are_none_have_no_density() -> None:
    with pm.Model() as model:
        data = pm.Data("data", flat(SETS[1]))
        VECTOR("y", **THETA, observed=data)
        for n, possible in ((3.0, True), (2.5, False), (-1.0, False)):
            pm.set_data({"data": np.r_[n, np.zeros(4)]})
            assert np.isfinite(model.compile_logp(**FAST)({})) == possible


# Arrays of exchangeable observations


def test_arrays_of_observations_are_rows_of_components() -> None:
    approximator = untrained(
        {"x": Continuous(shape=2), "k": Categorical(2)}, {"v": ()}, {"dose": Continuous(shape=2)}
    )
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(4, 2)), "k": np.array([0, 1, 1, 0])}
    dose = {"dose": rng.normal(size=(4, 2))}
    rows = np.column_stack([data["x"], data["k"]])
    value = approximator.logp(data, v=0.5, conditions=dose).eval(**FAST)
    expected = approximator.log_prob(rows, np.array([[0.5]]), dose["dose"])[0]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    with pm.Model() as model:
        columns = {n: pm.Data(n, np.asarray(v, dtype=float)) for n, v in {**data, **dose}.items()}
        approximator("y", v=0.5, observed=columns)
    np.testing.assert_allclose(model.compile_logp(sum=False, **FAST)({})[0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"expected \(n_obs, 3\).*x\[0\], x\[1\], k"):
        approximator.logp(rows[:, :2], v=0.5, conditions=dose)
    with pytest.raises(ValueError, match="2 data sets; a likelihood takes the observations of one"):
        approximator.logp([data, data], v=0.5, conditions=dose)


# xarray


def test_arrays_keep_their_shape_in_xarray() -> None:
    kinds = {"n": Count(), "x": Continuous(shape=(2, 3))}
    values = np.arange(4 * 5 * 6 * 7.0).reshape(4, 5, 6, 7)
    drawn = observable_dataset(values, kinds)
    assert drawn["x"].dims == ("chain", "draw", "obs", "x_dim_0", "x_dim_1")
    np.testing.assert_array_equal(drawn["x"][1, 2, 3], values[1, 2, 3, 1:].reshape(2, 3))
    assert drawn["n"].dims == ("chain", "draw", "obs") and drawn["n"].dtype.kind == "i"
    one = observable_dataset(values[0, 0, :1], kinds, structure="vector")
    assert one["x"].dims == ("x_dim_0", "x_dim_1") and one["n"].dims == ()
    many = observable_dataset(values[0, :, :1], kinds, structure="vector")
    assert many["x"].dims == ("dataset", "x_dim_0", "x_dim_1") and many["n"].dims == ("dataset",)


def test_counts_are_integers_again_without_padding() -> None:
    values = np.array([[[3.0], [np.nan]], [[1.0], [2.0]]])
    many = to_inference_data({"observed_data": observable_dataset(values, {"n": Count()})})
    alone = to_groups(select_dataset(many, 0))["observed_data"]["n"]
    assert alone.dtype.kind == "i" and alone.values.tolist() == [3]


class Pair:
    """What `surrogate.simulate` asks of a pair."""

    def __init__(self, likelihood: Any):
        self.likelihood, self.schema = likelihood, likelihood.schema
        self.layout = likelihood.layout


def test_surrogate_data_have_the_declared_shapes() -> None:
    theta = np.tile(FLAT, (3, 1))
    made = surrogate.simulate(Pair(VECTOR), theta, random_seed=1)
    assert made.dataset["x"].dims == ("simulation", "x_dim_0", "x_dim_1")
    assert made.dataset["n"].dims == ("simulation",)
    assert made.batch().observables.shape == (3, 1, 5)
    dose = np.array([1.0, 1.0, -0.5])
    with_dose = surrogate.simulate(
        Pair(vector(conditions=True)), theta, conditions={"dose": dose}, random_seed=1
    )
    assert with_dose.dataset["dose"].dims == ("simulation",)
    np.testing.assert_array_equal(with_dose.dataset["n"], made.dataset["n"])
    np.testing.assert_allclose(with_dose.dataset["x"], made.dataset["x"] + dose[:, None, None])
    made = surrogate.simulate(Pair(WALK), theta, n_obs=7, random_seed=1)
    assert made.dataset["x"].dims == ("simulation", "obs", "x_dim_0")


def test_a_data_frame_of_parameters_is_read_by_its_names() -> None:
    pair = Pair(reaction_times())
    frame = pd.DataFrame({"t0": [0.2, 0.3], "v": [0.4, 0.8]})
    theta = frame[["v", "t0"]].to_numpy()
    for calls in (
        lambda given: surrogate.simulate(pair, given, 4, random_seed=1).batch().observables,
        lambda given: pair.likelihood.simulate(given, 4, random_seed=1),
        lambda given: pair.likelihood.log_prob({"rt": [0.9, 0.5], "response": [1, 0]}, given),
    ):
        np.testing.assert_array_equal(calls(frame), calls(theta))


@pytest.mark.parametrize(
    ("conditions", "error", "message"),
    [
        ({"drift": [0.0, np.nan, 1.0]}, ValueError, r"conditions\['drift'\] has 1 value missing"),
        ({"drift": [0.0, np.inf, 1.0]}, ValueError, r"conditions\['drift'\] has 1 value infinite"),
        ({"drift": [0.0, -2.0, 1.0]}, ValueError, "1 value outside its support .*lower=-1"),
        ({"drift": [0.0, 1.0, 1.0], "arm": [1] * 3}, ValueError, "have the unknown arm; expected"),
        ({"arm": [1] * 3}, ValueError, "lack drift and have the unknown arm; expected drift"),
        ({"drift": ["low", "high", "low"]}, TypeError, "dtype <U4; expected real numbers"),
        (["low", "high", "low"], TypeError, "conditions has dtype <U4; expected real numbers"),
        ({"drift": np.zeros(4)}, ValueError, r"conditions have shape \(4, 1\); expected \(3, 1\)"),
    ],
)
def test_conditions_of_surrogates_are_checked(conditions, error, message) -> None:
    pair = Pair(walk(conditions=True))
    kinds = {"drift": Continuous(lower=-1.0)}
    pair.schema = dataclasses.replace(pair.schema, conditions=kinds)
    with pytest.raises(error, match=message):
        surrogate.simulate(pair, FLAT, n_obs=3, conditions=conditions)


def test_padding_of_conditions_is_no_missing_value() -> None:
    pair, theta = Pair(walk(conditions=True)), np.tile(FLAT, (2, 1))
    drift = np.array([[0.5, 1.0, np.nan], [0.0, 0.1, 0.2]])
    made = surrogate.simulate(pair, theta, [2, 3], conditions={"drift": drift}, random_seed=1)
    assert np.isfinite(made.batch().observables).all()
    np.testing.assert_array_equal(made.batch(pad=True).conditions[..., 0], drift)
    with pytest.raises(ValueError, match="missing"):
        surrogate.simulate(pair, theta, 3, conditions={"drift": drift})


@pytest.mark.parametrize(
    ("parameters", "n_obs", "message"),
    [
        (FLAT, 0, "n_obs=0: expected at least 1"),
        (FLAT, 2.5, r"n_obs=2\.5: expected an integer"),
        (np.zeros((2, 4)), 3, r"parameters have shape \(2, 4\); expected \(sets, 3\), for mu, b"),
    ],
)
def test_arguments_of_simulate_are_checked(parameters, n_obs, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        WALK.simulate(parameters, n_obs)


# Batches of parameters


@pytest.mark.parametrize("approximator", [VECTOR, WALK])
def test_a_batch_of_parameters_is_one_call_of_torch(approximator) -> None:
    data = SETS if approximator is VECTOR else WALKS
    mu = pt.dscalar("mu")
    value = approximator.logp(data, mu=mu, b=THETA["b"], backend="op")
    many = np.linspace(-1.0, 1.0, 4)
    batched = vectorize_graph(value, {mu: pt.constant(many)})
    ops = [v.owner.op for v in ancestors([batched]) if v.owner is not None]
    assert sum(isinstance(op, LogDensity) for op in ops) == 1
    assert not any(isinstance(getattr(op, "core_op", None), LogDensity) for op in ops)
    expected = [value.eval({mu: m}, **FAST) for m in many]
    np.testing.assert_allclose(batched.eval(**FAST), expected, rtol=1e-12)
