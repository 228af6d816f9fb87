"""Vectors, sequences, arrays in an observation and counts: declared, simulated, stored, read."""

from __future__ import annotations

import json

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from conjugate import normal_mean

from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataSchema,
    GenerativeModel,
    Simulations,
    observable_from_dict,
)

VECTOR = {"n": Count(upper=9), "x": Continuous(lower=0.0, shape=(2, 2))}
SEQUENCE = {"n": Count(), "x": Continuous(lower="low", shape=2)}


def prior() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("mu", shape=2)
        pm.Uniform("low", 0.0, 1.0)
    return model


def vectors(rng, mu, low):
    """Serve as a simulator of one set and of many."""
    low = np.asarray(low)
    x = np.exp(np.asarray(mu)[..., None] + rng.normal(size=(*low.shape, 2, 2)))
    return {"n": rng.binomial(9, low), "x": x}


def sequences(rng, mu, low, dose, n_obs):
    low = np.asarray(low)
    x = low[..., None] + rng.exponential(size=(*np.broadcast_shapes(low.shape, (n_obs,)), 2))
    return {"n": rng.poisson(np.abs(dose).sum(-1) + 0 * x[..., 0]), "x": x}


def design(rng, n_obs):
    return {"dose": rng.normal(size=(n_obs, 3))}


def vector_model(vectorized: bool) -> GenerativeModel:
    return GenerativeModel(
        prior(), vectors, observables=VECTOR, structure="vector", vectorized=vectorized
    )


def sequence_model(vectorized: bool) -> GenerativeModel:
    return GenerativeModel(
        prior(),
        sequences,
        observables=SEQUENCE,
        structure="markovian",
        n_obs=(2, 5),
        conditions={"dose": Continuous(shape=3)},
        design=design,
        vectorized=vectorized,
    )


def simulate(model: GenerativeModel, n: int = 30) -> Simulations:
    return model.simulate(n, random_seed=1, progressbar=False)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_vector_has_no_axis_of_observations(vectorized):
    simulations = simulate(vector_model(vectorized))
    assert simulations.dataset["x"].dims == ("simulation", "x_dim_0", "x_dim_1")
    assert simulations.dataset["n"].dims == ("simulation",)
    assert simulations.dataset["n"].dtype == np.int8
    batch = simulations.batch(pad=True)
    assert batch.observables.shape == (30, 1, 5)
    assert batch.n_obs.tolist() == [1] * 30
    np.testing.assert_array_equal(batch.observables[:, 0, 0], simulations.dataset["n"])
    flat = simulations.dataset["x"].values.reshape(30, 4)
    np.testing.assert_array_equal(batch.observables[:, 0, 1:], flat)
    names = list(simulations.schema.components)
    assert names == ["n", "x[0, 0]", "x[0, 1]", "x[1, 0]", "x[1, 1]"]


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_sequence_of_arrays_with_conditions(vectorized):
    simulations = simulate(sequence_model(vectorized))
    assert dict(simulations.dataset["x"].sizes) == {"simulation": 30, "obs": 5, "x_dim_0": 2}
    assert dict(simulations.dataset["dose"].sizes) == {"simulation": 30, "obs": 5, "dose_dim_0": 3}
    assert simulations.dataset["n"].dtype == np.int64
    batch = simulations.batch(pad=True)
    assert batch.observables.shape == (30, 5, 3) and batch.conditions.shape == (30, 5, 3)
    beyond = np.arange(5) >= batch.n_obs[:, None]
    np.testing.assert_array_equal(np.isnan(batch.observables), np.repeat(beyond[..., None], 3, 2))
    assert list(simulations.schema.condition_components) == ["dose[0]", "dose[1]", "dose[2]"]
    low = simulations.dataset["low"].values
    assert (simulations.dataset["x"].values > low[:, None, None]).all()


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_vector_with_conditions(vectorized):
    def simulator(rng, mu, low, gain):
        return {"x": rng.normal(np.asarray(gain), 1e-9)}

    model = GenerativeModel(
        prior(),
        simulator,
        observables={"x": Continuous(shape=(4,))},
        structure="vector",
        conditions={"gain": Continuous(shape=(4,))},
        design=lambda rng: {"gain": rng.normal(size=4)},
        vectorized=vectorized,
    )
    batch = simulate(model).batch()
    assert batch.conditions.shape == (30, 1, 4)
    assert len(np.unique(batch.conditions)) == 120
    np.testing.assert_allclose(batch.observables, batch.conditions, atol=1e-7)


@pytest.mark.parametrize("make", [vector_model, sequence_model])
def test_files_and_data_sets_come_back(make, tmp_path):
    simulations = simulate(make(vectorized=True))
    loaded = Simulations.load(simulations.save(tmp_path / "simulations.nc"))
    xr.testing.assert_identical(loaded.dataset, simulations.dataset)
    assert loaded.schema == simulations.schema
    expected = simulations.batch(pad=True)
    schema = simulations.schema
    names = [*schema.observables, *schema.conditions]
    one_by_one = [
        {
            name: simulations.dataset[name].values[i][
                slice(n) if schema.structure == "markovian" else ...
            ]
            for name in names
        }
        for i, n in enumerate(expected.n_obs)
    ]
    for data in (simulations.dataset, one_by_one):
        actual = schema.batch(data)
        np.testing.assert_array_equal(actual.observables, expected.observables)
        np.testing.assert_array_equal(actual.conditions, expected.conditions)
        np.testing.assert_array_equal(actual.n_obs, expected.n_obs)
    np.testing.assert_array_equal(
        schema.batch(one_by_one[3]).observables[0],
        expected.observables[3, : expected.n_obs[3]],
    )
    joined = Simulations.concat([loaded[:10], loaded[10:]])
    np.testing.assert_array_equal(joined.batch().observables, simulations.batch().observables)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x": np.ones(4)}, r"observables\['x'\] has shape \(4,\); .* needs shape \(2, 2\)"),
        ({"x": np.ones((3, 2, 2))}, r"x has shape \(3, 2, 2\), with an axis .* n has shape \(\), "),
        ({"n": [1]}, r"n has shape \(1,\), with an axis of data sets, but x has shape \(2, 2\), "),
        ({"x": [[1.0, 1.0], [-2.0, 1.0]]}, r"position 0, component \[1, 0\]: -2"),
        ({"x": [[1.0, np.nan], [2.0, 1.0]]}, r"missing .* component \[0, 1\]"),
        ({"n": 1.5}, r"integers 0 to 9.*1\.5"),
        ({"n": 10}, "integers 0 to 9"),
    ],
)
def test_wrong_vectors(changes, match):
    schema = DataSchema(VECTOR, structure="vector")
    good = {"n": 3, "x": np.ones((2, 2))}
    assert schema.batch(good).observables.tolist() == [[[3.0, 1.0, 1.0, 1.0, 1.0]]]
    with pytest.raises(ValueError, match=match):
        schema.batch(good | changes)


def test_wrong_sequences_and_datasets():
    schema = simulate(sequence_model(vectorized=True)).schema
    good = {"n": [1, 2], "x": np.ones((2, 2)), "dose": np.ones((2, 3))}
    with pytest.raises(ValueError, match=r"'x'\] has shape \(2,\); .* needs shape \(n_obs, 2\)"):
        schema.batch(good | {"x": [1.0, 2.0]})
    many = simulate(sequence_model(vectorized=True)).dataset
    with pytest.raises(ValueError, match=r"'dose'\] has dims .* and shape \(3,\)"):
        schema.batch(many.isel(dose_dim_0=slice(2)))
    vector = DataSchema(VECTOR, structure="vector")
    many = simulate(vector_model(vectorized=True)).dataset
    with pytest.raises(ValueError, match="lack n"):
        vector.batch(many.drop_vars("n"))
    with pytest.raises(ValueError, match=r"shape \(30, 1, 2\); expected 'simulation' first"):
        vector.batch(many.isel(x_dim_0=slice(1)))


@pytest.mark.filterwarnings("ignore:.*simulations failed")
def test_failed_vectors_are_counted():
    def sometimes(rng, mu, low):
        x = np.ones((2, 2))
        x[1, 1] = np.nan if low < 0.3 else -1.0 if low < 0.5 else 1.0
        return {"n": 99 if low > 0.9 else 0, "x": x}

    model = GenerativeModel(prior(), sometimes, observables=VECTOR, structure="vector")
    failures = simulate(model, 200).failures
    assert failures.counts.keys() == {"not finite", "outside the support"}
    assert 60 < failures.n_failed < 160


def test_counts_beyond_double_precision_are_failures():
    def simulator(rng, n_obs):
        return {"n": np.array([2.0**53, np.inf, 1e19])[rng.integers(3)] * np.ones(n_obs)}

    with pm.Model() as prior:
        pm.Normal("mu")
    model = GenerativeModel(
        prior, lambda rng, mu, n_obs: simulator(rng, n_obs), observables={"n": Count()}, n_obs=2
    )
    with pytest.warns(UserWarning, match=r"\(integers from 0\), as 1e\+19"):
        simulations = model.simulate(60, random_seed=1, progressbar=False)
    assert (simulations.dataset["n"].values == 2**53).all()
    assert simulations.failures.n_failed == 60 - len(simulations)


def test_count_is_declared_and_survives_json():
    assert Count().outside([0, 2**40, -1, 0.5, np.nan]).tolist() == [
        False,
        False,
        True,
        True,
        False,
    ]
    for kind in (Count(), Count(np.int64(7), shape=[2, 3]), Categorical(2, shape=4)):
        assert observable_from_dict(json.loads(json.dumps(kind.to_dict()))) == kind
    # Files of before there were shapes.
    assert observable_from_dict({"kind": "categorical", "n_categories": 3}) == Categorical(3)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Count(2.5), TypeError, "upper=2.5: expected an integer, or None"),
        (lambda: Count(0), ValueError, "upper=0: expected at least 1, or None"),
        (lambda: Count(2**53 + 1), ValueError, r"upper=9007199254740993: expected at most 2\*\*53"),
        (lambda: Continuous(shape=1.5), TypeError, "shape=1.5: expected an integer, or a tuple"),
        (lambda: Continuous(shape=0), ValueError, "shape=0: expected at least 1, or a tuple"),
        (lambda: Continuous(shape=(2, 0)), ValueError, r"shape\[1\]=0: expected at least 1"),
        (lambda: Categorical(2, shape=(True,)), TypeError, r"shape\[0\]=True: expected an integer"),
    ],
)
def test_wrong_declarations(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_wrong_models():
    with pytest.raises(ValueError, match="n_obs is missing"):
        GenerativeModel(prior(), sequences, observables=SEQUENCE, structure="markovian")
    with pytest.raises(TypeError, match="cannot be called"):
        GenerativeModel(prior(), sequences, observables=VECTOR, structure="vector")


def test_an_array_is_one_data_set() -> None:
    schema = DataSchema({"rt": Continuous(lower=0.0), "response": Categorical(2)}, n_obs=(1, 9))
    rows = np.array([[0.4, 1.0], [0.7, 0.0]])
    ours = schema.batch(rows)
    theirs = schema.batch({"rt": rows[:, 0], "response": rows[:, 1]})
    np.testing.assert_array_equal(ours.observables, theirs.observables)
    single = DataSchema({"x": Continuous()}, n_obs=3).batch(np.array([1.0, 2.0, 3.0]))
    assert single.observables.shape == (1, 3, 1)
    vector = DataSchema({"x": Continuous(shape=(2,))}, structure="vector", n_obs=1)
    assert vector.batch(np.array([1.0, 2.0])).observables.shape == (1, 1, 2)
    with pytest.raises(ValueError, match=r"shape \(n_obs, 2\), for rt, response; got \(2, 3\)"):
        schema.batch(np.zeros((2, 3)))


def test_a_model_shows_what_it_is_of(tmp_path) -> None:
    model = normal_mean()
    assert repr(model) == "GenerativeModel(mu | x; exchangeable, simulator simulator)"
    made = model.simulate(2, random_seed=1, progressbar=False)
    with pytest.raises(FileNotFoundError, match="no folder"):
        made.save(tmp_path / "missing" / "simulations.nc")
