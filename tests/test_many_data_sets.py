"""Many vectors and sequences in PyMC: the forms they come in, conditions of all, wrong numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
import xarray as xr
from closed_forms import vector
from modes import PYTHON, REWRITTEN
from scipy import stats
from sequences import random_likelihood
from vectors import random_vector_likelihood

from jana_pymc import LikelihoodApproximator
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema, ParameterLayout

pytestmark = pytest.mark.bridge

FAST = {"mode": PYTHON}
LAYOUT = ParameterLayout(("a", "b"), {"a": (), "b": ()})
REGION = np.array([[0.0, 0.0], [1.0, 1.0]])
KNOWN = {"c": Continuous(shape=2), "d": Continuous()}
VECTOR = LikelihoodApproximator(
    random_vector_likelihood("regression"),
    LAYOUT,
    DataSchema({"k": Categorical(2), "x": Continuous()}, KNOWN, structure="vector"),
    REGION,
)
SEQUENCE = LikelihoodApproximator(
    random_likelihood("real", "order 1", n_conditions=1),
    LAYOUT,
    DataSchema({"x": Continuous()}, {"u": Continuous()}, structure="markovian", n_obs=(2, 9)),
    REGION,
)
RNG = np.random.default_rng(1)
ROWS = np.column_stack([[0.0, 1.0, 1.0, 0.0], RNG.normal(size=4)])
WALKS = RNG.normal(size=(4, 5, 1))
OF_ONE = {"vector": RNG.normal(size=3), "sequence": RNG.normal(size=(5, 1))}
OF_EACH = {"vector": RNG.normal(size=(4, 3)), "sequence": RNG.normal(size=(4, 5, 1))}
A = np.array([0.2, 0.4, 0.6, 0.8])
THETA = {"mu": 0.4, "b": np.array([0.3, -0.6])}
BACKENDS = pytest.mark.parametrize("backend", ["lowering", "op"])
STRUCTURES = pytest.mark.parametrize("structure", ["vector", "sequence"])


def data(structure: str) -> tuple[LikelihoodApproximator, np.ndarray]:
    return (VECTOR, ROWS) if structure == "vector" else (SEQUENCE, WALKS)


def one_by_one(structure: str, conditions: np.ndarray, a: np.ndarray = A) -> np.ndarray:
    """Log densities of the data sets under parameters of their own, each by torch alone."""
    likelihood, x = data(structure)
    known = np.broadcast_to(conditions, (4, *OF_ONE[structure].shape))
    each = zip(x, a, known, strict=True)
    return np.array([likelihood.log_prob(i, [[j, 0.5]], k).sum() for i, j, k in each])


# Conditions of all data sets


@BACKENDS
@STRUCTURES
def test_conditions_of_one_data_set_are_those_of_all(structure: str, backend: str) -> None:
    (likelihood, x), known = data(structure), OF_ONE[structure]
    with pm.Model() as model:
        a = pm.Uniform("a", 0.0, 1.0, shape=4)
        likelihood("y", a=a, b=0.5, observed=x, conditions=known, backend=backend)
        likelihood("z", a=a[0], b=0.5, observed=x, conditions=known, backend=backend)
        drawn = pm.draw(model["y"], random_seed=1)
    assert drawn.shape == x.shape
    point = {"a_interval__": np.log(A / (1.0 - A))}
    logp = model.compile_logp(vars=model.observed_RVs, sum=False, **FAST)(point)
    np.testing.assert_allclose(logp[0], one_by_one(structure, known), rtol=1e-9)
    np.testing.assert_allclose(logp[1], one_by_one(structure, known, np.full(4, 0.2)), rtol=1e-9)
    value = likelihood.logp(x, a=A, b=0.5, conditions=known, backend=backend)
    np.testing.assert_allclose(value.eval(**FAST), logp[0], rtol=1e-12)


def test_one_of_several_conditions_may_be_that_of_all() -> None:
    c, d = OF_EACH["vector"][:, :2], 0.7
    expected = one_by_one("vector", np.column_stack([c, np.full(4, d)]))
    for given in ({"c": c, "d": d}, {"c": c, "d": np.full(4, d)}):
        value = VECTOR.logp(ROWS, a=A, b=0.5, conditions=given)
        np.testing.assert_allclose(value.eval(**FAST), expected, rtol=1e-9)
    beside = {"k": ROWS[:, 0], "x": ROWS[:, 1], "c": c, "d": d}
    np.testing.assert_allclose(VECTOR.logp(beside, a=A, b=0.5).eval(**FAST), expected, rtol=1e-9)
    np.testing.assert_array_equal(VECTOR.schema.batch(beside).conditions[:, 0, 2], np.full(4, d))


def test_log_prob_of_many_vectors_takes_conditions_of_all() -> None:
    theta, known = np.array([[0.2, 0.5], [0.7, 0.1]]), OF_ONE["vector"]
    found = VECTOR.log_prob(ROWS, theta, known)
    expected = VECTOR.log_prob(ROWS, theta, np.tile(known, (4, 1)))
    np.testing.assert_array_equal(found, expected)


def test_conditions_as_data_of_the_model_may_be_those_of_all() -> None:
    with pm.Model() as model:
        known = {"c": pm.Data("c", OF_EACH["vector"][:, :2]), "d": pm.Data("d", 0.7)}
        VECTOR("y", a=A, b=0.5, observed=pm.Data("rows", ROWS), conditions=known)
    log_prob = model.compile_logp(sum=False, **FAST)
    for d in (0.7, -0.2):
        with model:
            pm.set_data({"d": d})
        together = np.column_stack([OF_EACH["vector"][:, :2], np.full(4, d)])
        np.testing.assert_allclose(log_prob({})[0], one_by_one("vector", together), rtol=1e-9)


# Forms of many data sets


def columns(structure: str) -> dict[str, np.ndarray]:
    _, x = data(structure)
    known = OF_EACH[structure]
    if structure == "sequence":
        return {"x": x[..., 0], "u": known[..., 0]}
    return {"k": x[:, 0], "x": x[:, 1], "c": known[:, :2], "d": known[:, 2]}


def dataset(structure: str) -> xr.Dataset:
    dims = ("simulation", "obs") if structure == "sequence" else ("simulation",)
    variables = {
        name: ((*dims, "c_dim_0")[: values.ndim], values)
        for name, values in columns(structure).items()
    }
    return xr.Dataset(variables).transpose(..., "simulation")


@pytest.mark.parametrize("form", ["columns", "list", "dataset", "apart", "named apart", "pm.Data"])
@STRUCTURES
def test_many_data_sets_are_read_alike_in_every_form(structure: str, form: str) -> None:
    likelihood, x = data(structure)
    given = columns(structure)
    known = {name: given[name] for name in likelihood.schema.conditions}
    observed, conditions = {
        "columns": (given, None),
        "list": ([{name: v[i] for name, v in given.items()} for i in range(4)], None),
        "dataset": (dataset(structure), None),
        "apart": (x, OF_EACH[structure]),
        "named apart": (x, known),
        "pm.Data": ({name: pytensor.shared(v) for name, v in given.items()}, None),
    }[form]
    with pm.Model() as model:
        likelihood("y", a=A, b=0.5, observed=observed, conditions=conditions)
    expected = one_by_one(structure, OF_EACH[structure])
    np.testing.assert_allclose(model.compile_logp(sum=False, **FAST)({})[0], expected, rtol=1e-9)
    value = likelihood.logp(observed, a=A, b=0.5, conditions=conditions)
    np.testing.assert_allclose(value.eval(**FAST), expected, rtol=1e-9)
    if form in ("columns", "list", "dataset"):
        batch = likelihood.schema.batch(observed)
        np.testing.assert_array_equal(batch.observables.reshape(x.shape), x)
        np.testing.assert_array_equal(
            batch.conditions.reshape(OF_EACH[structure].shape), OF_EACH[structure]
        )


def test_a_data_frame_has_a_vector_in_each_row() -> None:
    kinds = {"n": Count(), **{name: Continuous() for name in "vwxy"}}
    schema = DataSchema(kinds, {"dose": Continuous()}, structure="vector")
    exact = vector(conditions=True)
    likelihood = LikelihoodApproximator(exact.network, exact.layout, schema, exact.region)
    values = np.column_stack([[0, 2, 5], np.random.default_rng(2).normal(size=(3, 5))])
    frame = pd.DataFrame(values, columns=["n", *"vwxy", "dose"]).astype({"n": int})
    mean = np.tile(THETA["b"], 2)
    expected = stats.poisson.logpmf(frame["n"], np.exp(0.4))
    expected += stats.norm.logpdf(values[:, 1:5], mean + values[:, 5:]).sum(1)

    def logp(data: Any) -> np.ndarray:
        return likelihood.logp(data, **THETA).eval(**FAST)

    np.testing.assert_allclose(logp(frame), expected, rtol=1e-12)
    np.testing.assert_allclose(logp(frame[1:2]), expected[1:2], rtol=1e-12)
    np.testing.assert_allclose(logp(frame.iloc[1]), expected[1], rtol=1e-12)
    np.testing.assert_allclose(logp([row for _, row in frame.iterrows()]), expected, rtol=1e-12)
    table = likelihood.log_prob(frame, np.r_[THETA["mu"], THETA["b"]])
    np.testing.assert_allclose(table, expected[None], rtol=1e-12)


@pytest.mark.parametrize("form", ["columns", "dataset"])
@STRUCTURES
def test_missing_values_of_many_data_sets_are_imputed(structure: str, form: str) -> None:
    likelihood, _ = data(structure)
    given = dataset(structure).astype(float)
    first = {"simulation": 1} if structure == "vector" else {"simulation": 1, "obs": 0}
    recorded = float(given["x"][first])
    given["x"][first] = np.nan
    if form == "columns":
        given = {name: given[name].transpose("simulation", ...).values for name in given}
    with pm.Model() as model, pytest.warns(Warning, match="contains missing values"):
        likelihood("y", a=pm.Uniform("a", 0.0, 1.0), b=0.5, observed=given)
    point = {"a_interval__": 0.0, "y_unobserved_missing__": np.array([recorded])}
    expected = one_by_one(structure, OF_EACH[structure], np.full(4, 0.5)).sum() + np.log(0.25)
    assert float(model.compile_logp(**FAST)(point)) == pytest.approx(expected)


# Numbers that do not fit


@pytest.mark.parametrize(
    ("likelihood", "observed", "conditions", "message"),
    [
        (VECTOR, ROWS[0], OF_EACH["vector"][:2], "for 2 data sets, but the data have 1"),
        (VECTOR, ROWS, OF_EACH["vector"][:2], "for 2 data sets, but the data have 4"),
        (SEQUENCE, WALKS, OF_ONE["sequence"][:3], "for 3 observations, but the data have 5"),
        (SEQUENCE, WALKS, OF_EACH["sequence"][:3], "for 3 data sets, but the data have 4"),
        (SEQUENCE, WALKS, {"u": OF_ONE["sequence"]}, "that of 5 sequences of one observation"),
    ],
)
def test_conditions_of_other_data_sets_are_refused(likelihood, observed, conditions, message):
    with pytest.raises(ValueError, match=message):
        likelihood.logp(observed, a=0.5, b=0.5, conditions=conditions)


def test_parameters_and_conditions_of_different_numbers_are_named() -> None:
    known = OF_EACH["vector"][:2]
    message = r"'a' has 4 values, for which there would be 2 data sets by the conditions"
    with pytest.raises(ValueError, match=message):
        VECTOR.dist(a=A, b=0.5, conditions=known)
    with pm.Model(), pytest.raises(ValueError, match=message):
        VECTOR("y", a=A, b=0.5, conditions=known)
    with pytest.raises(ValueError, match=r"'b' has 3 values, .* 4 data sets by parameter 'a'"):
        SEQUENCE.dist(a=A, b=A[:3], conditions=OF_ONE["sequence"])
    assert pm.draw(VECTOR.dist(a=A[:, None], b=0.5, conditions=known)).shape == (4, 2, 2)


def test_a_sequence_is_as_long_as_its_conditions() -> None:
    known = OF_ONE["sequence"]
    assert pm.draw(SEQUENCE.dist(a=0.5, b=0.5, conditions=known, n_obs=5)).shape == (5, 1)
    with pytest.raises(ValueError, match="n_obs=3, but conditions are given for 5 observations"):
        SEQUENCE.dist(a=0.5, b=0.5, conditions=known, n_obs=3)
    unknown = pytensor.shared(known)
    with pytest.raises(ValueError, match="for 5 observations, but the sequences have 3"):
        pm.draw(SEQUENCE.dist(a=0.5, b=0.5, conditions=unknown, n_obs=3))


@pytest.mark.parametrize("exchanged", ["rows", "known"])
@BACKENDS
@pytest.mark.parametrize("form", ["vectors", "sequence", "sequences"])
def test_data_and_conditions_are_exchanged_together(
    form: str, backend: str, exchanged: str
) -> None:
    structure = form.removesuffix("s")
    likelihood, x = data(structure)
    known = OF_EACH[structure]
    x, known = (x[0], known[0]) if form == "sequence" else (x, known)
    with pm.Model() as model:
        observed, conditions = pm.Data("rows", x), pm.Data("known", known)
        likelihood("y", a=0.5, b=0.5, observed=observed, conditions=conditions, backend=backend)
    log_prob = model.compile_logp(mode=REWRITTEN)  # which infers shapes, and may fail at them
    assert np.isfinite(log_prob({}))
    with model:
        pm.set_data({exchanged: {"rows": x, "known": known}[exchanged][:3]})
    with pytest.raises(AssertionError, match=r"exchange both together in pymc\.set_data"):
        log_prob({})
    with model:
        pm.set_data({"rows": x[:3], "known": known[:3]})
    each = zip(x[:3], known[:3], strict=True)
    expected = (
        likelihood.log_prob(x[:3], [[0.5, 0.5]], known[:3]).sum()
        if form == "sequence"
        else sum(likelihood.log_prob(i, [[0.5, 0.5]], k).sum() for i, k in each)
    )
    assert float(log_prob({})) == pytest.approx(expected)


def test_a_vector_has_no_length() -> None:
    with pytest.raises(TypeError, match=r"n_obs=3: only sequences have a length; .* as size"):
        VECTOR.dist(a=0.5, b=0.5, conditions=OF_ONE["vector"], n_obs=3)
