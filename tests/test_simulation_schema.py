"""Declared data: support, layout of parameters, and data sets that are read or turned down."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataBatch,
    DataSchema,
    ParameterLayout,
    observable_from_dict,
    seed_sequence,
)

LAYOUT = ParameterLayout(("v", "beta"), {"v": (), "beta": (2,)})
SCHEMA = DataSchema(
    {"rt": Continuous(lower="t0", upper=10.0), "response": Categorical(2)},
    {"x": Continuous(lower=-1.0)},
    n_obs=(2, 4),
)


def data(n: int = 3, **changes) -> dict:
    good = {"rt": np.linspace(0.5, 1.5, n), "response": np.arange(n) % 2, "x": np.zeros(n)}
    return good | changes


# --- observables -------------------------------------------------------------------------------


def test_support_is_the_open_interval():
    both = Continuous(lower=0.0, upper=1.0)
    values = [-1.0, 0.0, 0.5, 1.0, np.nan, np.inf]
    assert both.outside(values).tolist() == [True, True, False, True, False, False]
    assert not Continuous().outside(values).any()


def test_a_parameter_bounds_row_by_row():
    kind = Continuous(lower="t0")
    t0 = np.array([[0.2], [0.6]])
    values = np.array([[0.3, 0.7], [0.3, 0.7]])
    assert kind.outside(values, {"t0": t0}).tolist() == [[False, False], [True, False]]
    assert not kind.outside(values).any()
    assert kind.bound_parameters == ("t0",)


def test_categories_are_integers_from_zero():
    assert Categorical(3).outside([0, 2, 3, -1, 0.5]).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Continuous(lower=1.0, upper=1.0), ValueError, "lower < upper"),
        (lambda: Continuous(lower="a", upper="a"), ValueError, "lower < upper"),
        (lambda: Continuous(lower=np.nan), ValueError, "no bound"),
        (lambda: Continuous(upper=[1.0]), TypeError, "upper"),
        (lambda: Categorical(1), ValueError, "n_categories=1: expected at least 2"),
        (lambda: Categorical(2.0), TypeError, "n_categories=2.0: expected an integer"),
        (lambda: observable_from_dict({"kind": "ordinal"}), ValueError, "'ordinal'"),
    ],
)
def test_wrong_observables(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("kind", [Continuous(), Continuous(0, "b"), Categorical(np.int64(5))])
def test_observables_survive_json(kind):
    assert observable_from_dict(json.loads(json.dumps(kind.to_dict()))) == kind


# --- layout ------------------------------------------------------------------------------------


shapes = st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=1, max_size=4)


@given(shapes=shapes, batch=st.lists(st.integers(0, 3), max_size=2).map(tuple))
def test_flatten_and_unflatten_are_inverse(shapes, batch):
    names = tuple(f"p{i}" for i in range(len(shapes)))
    layout = ParameterLayout(names, dict(zip(names, shapes, strict=True)))
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(*batch, *layout.shapes[name])) for name in names}
    flat = layout.flatten(values)
    assert flat.shape == (*batch, layout.size)
    assert len(set(layout.component_names)) == layout.size
    for name, back in layout.unflatten(flat).items():
        np.testing.assert_array_equal(back, values[name])


def test_component_names_follow_the_flat_order():
    layout = ParameterLayout(("v", "R"), {"v": (), "R": (2, 2)})
    assert layout.component_names == ("v", "R[0, 0]", "R[0, 1]", "R[1, 0]", "R[1, 1]")
    flat = layout.flatten({"v": 0.0, "R": [[1.0, 2.0], [3.0, 4.0]]})
    assert flat.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_labels_follow_coords_as_those_of_arviz():
    shapes = {"v": (), "psi": (2,), "R": (2, 2), "same": (2,), "free": (2,)}
    dims = {"psi": ("year",), "R": ("side", None), "same": ("twice",)}
    coords = {"year": (1999, 2000), "side": ("left", "right"), "twice": ("a", "a")}
    layout = ParameterLayout(tuple(shapes), shapes, dims, coords)
    assert layout.labels == (
        *("v", "psi[1999]", "psi[2000]"),
        *("R[left, 0]", "R[left, 1]", "R[right, 0]", "R[right, 1]"),
        *("same[0]", "same[1]", "free[0]", "free[1]"),
    )
    assert layout.component_names[1:3] == ("psi[0]", "psi[1]")


def test_layout_survives_json_with_all_kinds_of_labels():
    layout = ParameterLayout(
        ("a", "b", "c"),
        {"a": (2,), "b": (2, 1), "c": ()},
        {"a": ("who",), "b": ("when", None)},
        {
            "who": np.array(["Ann", "Bob"]),
            "when": pd.date_range("2020-01-01", periods=2),
        },
    )
    again = ParameterLayout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert again == layout
    assert again.coords["when"][1] == np.datetime64("2020-01-02")
    assert again.dims == {"a": ("who",), "b": ("when", None), "c": ()}


def test_what_has_names_is_read_by_them():
    layout = ParameterLayout(("mu", "sd"), {"mu": (), "sd": ()})
    frame = pd.DataFrame({"sd": [1.0, 2.0], "mu": [3.0, 4.0]})
    assert layout.vectors(frame).tolist() == [[3.0, 1.0], [4.0, 2.0]]
    assert layout.vectors(frame.iloc[0]).tolist() == [3.0, 1.0]
    assert layout.vectors({"sd": 1.0, "mu": 3.0}).tolist() == [3.0, 1.0]
    assert layout.vectors(frame.to_numpy()).tolist() == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(ValueError, match="parameters lacks mu, sd"):
        layout.vectors(pd.Series([3.0, 1.0]))


def test_the_order_of_a_schema_counts():
    x, y = Continuous(), Continuous(lower=0.0)
    schema = DataSchema({"x": x, "y": y}, {"a": x, "b": x})
    assert schema == DataSchema({"x": x, "y": y}, {"a": x, "b": x})
    assert schema != DataSchema({"y": y, "x": x}, {"a": x, "b": x})
    assert schema != DataSchema({"x": x, "y": y}, {"b": x, "a": x})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((("a", "a"), {"a": ()}), "repeat"),
        ((("a",), {"b": ()}), "lacks a and has the unknown b"),
        ((("a",), {"a": (2,)}, {"a": ("g", "h")}), "shape"),
        ((("a",), {"a": ()}, {"b": ("g",)}), "unknown parameters: b"),
        ((("a",), {"a": (2,)}, {"a": ("g",)}, {"g": "xyz"}), "3 labels"),
    ],
)
def test_wrong_layouts(arguments, match):
    with pytest.raises(ValueError, match=match):
        ParameterLayout(*arguments)


def test_labels_of_no_known_kind():
    with pytest.raises(TypeError, match=r"coords\['g'\]"):
        ParameterLayout(("a",), {"a": (1,)}, {"a": ("g",)}, {"g": [("x", 1)]})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"v": 1.0}, "lacks beta"),
        ({"v": 1.0, "beta": [1.0, 2.0], "z": 0.0}, "unknown z"),
        ({"v": 1.0, "beta": [1.0, 2.0, 3.0]}, r"expected \(..., 2\)"),
        ({"v": [1.0, 2.0, 3.0], "beta": [1.0, 2.0]}, "leading shape"),
    ],
)
def test_wrong_parameters(values, match):
    with pytest.raises(ValueError, match=match):
        LAYOUT.flatten(values)
    with pytest.raises(ValueError, match=r"\(..., 3\)"):
        LAYOUT.unflatten(np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.zeros(3), "parameters is ndarray; expected a mapping with a value for each of v, beta"),
        (None, "parameters is NoneType; expected a mapping"),
        ({"v": "a", "beta": [1.0, 2.0]}, r"parameters\['v'\] has dtype <U1; expected real numbers"),
        ({"v": 1.0, "beta": [1.0, None]}, r"parameters\['beta'\] has dtype object, with missing"),
        ({"v": 1.0, "beta": np.array(["a", None])}, r"has dtype object; expected real numbers"),
    ],
)
def test_parameters_that_are_no_numbers(values, match):
    with pytest.raises(TypeError, match=match):
        LAYOUT.flatten(values)


def test_a_table_of_draws_is_flattened():
    layout = ParameterLayout(("a", "b"), {"a": (), "b": ()})
    draws = pd.DataFrame({"b": [2, 3], "a": [0.0, 1.0]})
    assert layout.flatten(draws).tolist() == [[0.0, 2.0], [1.0, 3.0]]


# --- one data set ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        dict,
        pd.DataFrame,
        lambda d: xr.Dataset({name: (("trial",), values) for name, values in d.items()}),
        lambda d: {name: values.tolist() for name, values in d.items()},
    ],
)
def test_one_data_set_in_any_form(kind):
    batch = SCHEMA.batch(kind(data()))
    assert batch.observables.shape == (1, 3, 2)
    assert batch.observables.dtype == batch.conditions.dtype == np.float64
    np.testing.assert_array_equal(batch.observables[0, :, 0], data()["rt"])
    np.testing.assert_array_equal(batch.observables[0, :, 1], data()["response"])
    np.testing.assert_array_equal(batch.conditions, np.zeros((1, 3, 1)))
    assert batch.n_obs.tolist() == [3]
    assert SCHEMA.batch(batch) is batch


def test_without_conditions_their_axis_is_empty():
    batch = DataSchema({"x": Continuous()}, n_obs=3).batch({"x": [1.0, 2.0, 3.0]})
    assert batch.conditions.shape == (1, 3, 0)


def test_the_data_are_copied():
    given_data = data()
    batch = SCHEMA.batch(given_data)
    batch.observables[:] = 0.0
    assert given_data["rt"][0] == 0.5


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        ({"rt": [1.0, 2.0, 3.0]}, ValueError, "lack response, x"),
        (data(y=np.zeros(3)), ValueError, "unknown y"),
        (data(rt=[[1.0, 2.0, 3.0]]), ValueError, r"'rt'\] has shape \(1, 3\)"),
        (data(rt=1.0), ValueError, r"'rt'\] has shape \(\)"),
        (data(rt=[1.0, 2.0]), ValueError, "rt has 2, response has 3"),
        (data(0), ValueError, "empty"),
        (data(rt=[1.0, np.nan, np.nan]), ValueError, "2 values missing.*first at position 1"),
        (data(rt=[1.0, np.inf, 2.0]), ValueError, "1 value infinite"),
        (data(rt=[1.0, 10.0, 11.0]), ValueError, "2 values outside.*upper=10.*position 1: 10"),
        (data(response=[0, 1, 2]), ValueError, "1 value outside.*integers 0 to 1.*2: 2"),
        (data(response=[0.5, 0, 1]), ValueError, "integers 0 to 1"),
        (data(x=[0.0, -1.0, 2.0]), ValueError, r"conditions\['x'\] has 1 value outside"),
        (data(rt=["a", "b", "c"]), TypeError, "dtype"),
        (data(rt=np.ones(3) * 1j), TypeError, "complex"),
        (data(rt=np.array([1, None, 2])), TypeError, "object"),
        (data(rt=np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])), ValueError, "masked"),
        (data(rt=[[1.0], [1.0, 2.0]]), ValueError, "regular"),
        (
            data(rt=torch.ones(3, requires_grad=True)),
            TypeError,
            r"'rt'\] is Tensor that NumPy.*detach",
        ),
        (data(rt=[torch.ones(1, requires_grad=True)] * 3), TypeError, r"'rt'\] is list"),
        (np.zeros((3, 2)), TypeError, "array without names"),
        ("rt.csv", TypeError, "str"),
        ([], ValueError, "empty"),
        ([data(), data(rt=[1.0])], ValueError, "data set 1: all variables"),
        ([data(), data(rt=[1.0, np.nan, 1.0])], ValueError, "data set 1, position 1"),
    ],
)
def test_wrong_data_are_named_and_counted(bad, error, match):
    with pytest.raises(error, match=match):
        SCHEMA.batch(bad)


def test_parameter_bounds_are_left_to_the_likelihood():
    SCHEMA.batch(data(rt=[-5.0, 0.1, 0.2]))


# --- many data sets ----------------------------------------------------------------------------


def test_a_list_is_padded_with_nan():
    batch = SCHEMA.batch([data(2), data(4)])
    assert batch.n_obs.tolist() == [2, 4]
    assert np.isnan(batch.observables[0, 2:]).all()
    assert np.isnan(batch.conditions[0, 2:]).all()
    assert not np.isnan(batch.observables[1]).any()
    assert len(batch) == 2
    np.testing.assert_array_equal(batch[[1]].observables, batch.observables[1:])
    with pytest.raises(TypeError, match=r"\[\[1\]\]"):
        batch[1]


@pytest.mark.parametrize("structure", ["exchangeable", "vector"])
def test_a_list_of_arrays_is_a_list_of_data_sets(structure):
    sizes = {} if structure == "vector" else {"n_obs": (1, 3)}
    schema = DataSchema({"x": Continuous(), "k": Count()}, structure=structure, **sizes)
    first, second = np.array([[0.5, 1.0], [1.5, 2.0], [2.5, 0.0]]), np.array([[3.5, 4.0]])
    if structure == "vector":
        first, second = first[0], second[0]
    named = {"x": second[..., 0], "k": second[..., 1]}
    for several in ([first, second], (first, named)):
        batch = schema.batch(several)
        for i, array in enumerate((first, second)):
            alone = schema.batch(array)
            assert batch.n_obs[i] == alone.n_obs[0]
            own = batch.observables[i, : alone.n_obs[0]]
            np.testing.assert_array_equal(own, alone.observables[0])
    with pytest.raises(ValueError, match=r"data set 1: an array of one data set .*got \(2, 7\)\.$"):
        schema.batch([first, np.zeros((2, 7))])
    with pytest.raises(ValueError, match=r"Give many data sets as a list"):
        schema.batch(np.zeros((2, 2, 2)))


def rows(sizes: tuple[int, ...], structure: str) -> DataSchema:
    kinds = {"k": Count(), "x": Continuous(shape=sizes)}
    n_obs = {} if structure == "vector" else {"n_obs": (2, 9)}
    return DataSchema(kinds, {"dose": Continuous()}, structure=structure, **n_obs)


@pytest.mark.parametrize("sizes", [(), (3,), (2, 2)])
@pytest.mark.parametrize("structure", ["vector", "markovian"])
def test_an_axis_in_front_is_that_of_data_sets(structure, sizes):
    schema, own = rows(sizes, structure), (4,) if structure == "markovian" else ()
    rng = np.random.default_rng(1)
    columns = {
        "k": rng.poisson(2.0, (3, *own)),
        "x": rng.normal(size=(3, *own, *sizes)),
        "dose": rng.normal(size=(3, *own)),
    }
    sets = [{name: values[i] for name, values in columns.items()} for i in range(3)]
    together, expected = schema.batch(columns), schema.batch(sets)
    np.testing.assert_array_equal(together.observables, expected.observables)
    np.testing.assert_array_equal(together.conditions, expected.conditions)
    np.testing.assert_array_equal(together.n_obs, expected.n_obs)
    one = schema.batch({name: values[:1] for name, values in columns.items()})
    np.testing.assert_array_equal(one.observables, schema.batch(sets[0]).observables)
    shared = schema.batch(columns | {"dose": columns["dose"][1]})
    np.testing.assert_array_equal(shared.observables, expected.observables)
    np.testing.assert_array_equal(shared.conditions, expected.conditions[[1, 1, 1]])
    apart = DataSchema(schema.observables, structure=structure, n_obs=schema.n_obs)
    array = expected.observables.reshape(3, *own, -1)
    np.testing.assert_array_equal(apart.batch(array).observables, expected.observables)


def test_a_data_frame_has_a_vector_in_each_row():
    schema = rows((), "vector")
    frame = pd.DataFrame({"dose": [0.1, 0.2, 0.3], "k": [0, 4, 1], "x": [1.5, 2.5, -1.0]})
    batch = schema.batch(frame)
    assert batch.observables.tolist() == [[[0.0, 1.5]], [[4.0, 2.5]], [[1.0, -1.0]]]
    assert batch.conditions.tolist() == [[[0.1]], [[0.2]], [[0.3]]]
    for one in (frame[1:2], frame.iloc[1]):
        assert schema.batch(one).observables.tolist() == [[[4.0, 2.5]]]
        assert schema.batch(one).conditions.tolist() == [[[0.2]]]
    listed = schema.batch([row for _, row in frame.iterrows()])
    np.testing.assert_array_equal(listed.observables, batch.observables)
    with pytest.raises(TypeError, match="array without names, which has no room"):
        schema.batch(frame["x"])


@pytest.mark.parametrize(
    ("structure", "changes", "match"),
    [
        ("vector", {"k": 1}, r"x has shape \(5, 3\), with an axis of data sets, but k .*\(\), wi"),
        ("vector", {"k": [1, 2]}, "same number of data sets, but k has 2, x has 5, dose has 5"),
        ("vector", {"dose": np.zeros(4)}, "but k has 5, x has 5, dose has 4"),
        ("vector", {"x": np.zeros(3)}, r"k has shape \(5,\), .* but x has shape \(3,\), without"),
        (
            "vector",
            {"x": np.zeros((5, 2))},
            r"'x'\] has shape \(5, 2\); .*\(3,\), many need \(sets, 3",
        ),
        (
            "vector",
            {"k": np.zeros((5, 1))},
            r"'k'\] has shape \(5, 1\); .*\(\), many need \(sets,\)",
        ),
        (
            "vector",
            {"k": [0, 1, 2, 3, -1]},
            r"'k'\] has 1 value .*first at data set 4, position 0: -1",
        ),
        ("vector", {"k": [], "x": np.zeros((0, 3)), "dose": 1.0}, "no data set"),
        (
            "markovian",
            {"k": np.zeros((5, 3))},
            "number of values, but k has 3, x has 4, dose has 4",
        ),
        ("markovian", {"k": np.zeros(4)}, r"but k has shape \(4,\), without"),
        ("markovian", {"k": np.zeros((5, 4, 1))}, r"\(n_obs,\), many need \(sets, n_obs\)"),
    ],
)
def test_axes_of_data_sets_that_do_not_fit(structure, changes, match):
    own = (4,) if structure == "markovian" else ()
    good = {"k": np.ones((5, *own)), "x": np.ones((5, *own, 3)), "dose": np.ones((5, *own))}
    schema = rows((3,), structure)
    assert len(schema.batch(good)) == 5
    with pytest.raises(ValueError, match=match):
        schema.batch(good | changes)


def test_a_column_is_no_sequence_of_single_observations():
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(2, 9))
    with pytest.raises(ValueError, match=r"shape \(6, 1\), .* 6 sequences of one observation, but"):
        schema.batch({"x": np.zeros((6, 1))})
    short = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(1, 9))
    assert len(short.batch({"x": np.zeros((6, 1))})) == 6


def many(**changes) -> xr.Dataset:
    variables = {
        "rt": (("simulation", "obs"), np.full((2, 4), 0.7)),
        "response": (("obs", "simulation"), np.ones((4, 2), dtype=int)),
        "x": (("simulation", "obs"), np.zeros((2, 4))),
        "n_obs": (("simulation",), np.array([3, 4])),
        "t0": (("simulation",), np.array([0.2, 0.3])),
    }
    return xr.Dataset(variables | changes)


def test_a_dataset_of_many_may_hold_rubbish_beyond_its_sizes():
    dataset = many()
    dataset["rt"][0, 3] = -1e9
    dataset["response"][3, 0] = 7
    batch = SCHEMA.batch(dataset)
    assert batch.n_obs.tolist() == [3, 4]
    assert np.isnan(batch.observables[0, 3]).all()
    assert (batch.observables[1] == [0.7, 1.0]).all()


def test_a_dataset_of_shorter_data_sets_is_cut_to_the_longest_of_them():
    batch, alone = SCHEMA.batch(many()), SCHEMA.batch(many().isel(simulation=[0]))
    assert alone.n_obs.tolist() == [3]
    np.testing.assert_array_equal(alone.observables, batch.observables[:1, :3])
    np.testing.assert_array_equal(alone.conditions, batch.conditions[:1, :3])


@pytest.mark.parametrize(
    ("dataset", "match"),
    [
        (many(n_obs=(("simulation",), np.array([3, 5]))), "room for 1 to 4"),
        (many(n_obs=(("simulation",), np.array([3.0, 4.0]))), "dtype float64"),
        (many(rt=(("simulation",), np.ones(2))), "expected"),
        (many(x=(("obs",), np.ones(4))), r"conditions\['x'\] has dims"),
        (many().drop_vars("x"), "expected rt, response, x"),
        (many().drop_vars("rt"), "lack rt"),
        (many(z=(("simulation", "obs"), np.ones((2, 4)))), "rt, response, x, z"),
    ],
)
def test_wrong_datasets_of_many(dataset, match):
    with pytest.raises(ValueError, match=match):
        SCHEMA.batch(dataset)


def test_sizes_outside_the_trained_range_warn():
    with pytest.warns(UserWarning, match="n_obs=9, outside the range 2 to 4"):
        SCHEMA.batch(data(9))
    with pytest.warns(UserWarning, match="2 of 3 data sets have n_obs=1 to 9, outside"):
        SCHEMA.batch([data(1), data(3), data(9)])
    SCHEMA.batch(data(9), check_n_obs=False)


# --- the schema itself -------------------------------------------------------------------------


def test_schema_survives_json():
    assert DataSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA
    assert DataSchema({"x": Continuous()}, n_obs=5).n_obs == (5, 5)


def test_integers_of_numpy_are_integers():
    plain = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(2, 4), order=1)
    numpy = DataSchema(
        {"x": Continuous()}, structure="markovian", n_obs=np.array([2, 4]), order=np.int64(1)
    )
    assert numpy == plain
    assert json.dumps(numpy.to_dict()) == json.dumps(plain.to_dict())


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"observables": {}}, ValueError, "empty"),
        ({"observables": ["x"]}, TypeError, "dict"),
        ({"observables": {"x": "continuous"}}, TypeError, r"observables\['x'\]"),
        ({"observables": {"n_obs": Continuous()}}, ValueError, "'n_obs'"),
        ({"observables": {"chain": Continuous()}}, ValueError, "cannot be named 'chain'"),
        ({"conditions": {"dataset": Continuous()}}, ValueError, "cannot be named 'dataset'"),
        ({"conditions": {"x": Continuous()}}, ValueError, "x: declared"),
        ({"conditions": {"c": Continuous(lower="t0")}}, ValueError, "'t0'"),
        ({"structure": "tree"}, ValueError, "'tree' is not 'exchangeable', .* or 'vector'"),
        ({"structure": "vector", "n_obs": 3}, ValueError, "leave n_obs out"),
        ({"n_obs": (5, 2)}, ValueError, r"n_obs=\(5, 2\): expected the smallest first"),
        ({"n_obs": 0}, ValueError, "n_obs=0: expected at least 1"),
        ({"n_obs": (0, 2)}, ValueError, r"n_obs\[0\]=0: expected at least 1"),
        ({"n_obs": 2.5}, TypeError, "n_obs=2.5: expected an integer, or a pair"),
        ({"n_obs": "12"}, TypeError, "n_obs='12': expected an integer, or a pair"),
        ({"n_obs": (1, 2.5)}, TypeError, r"n_obs\[1\]=2.5: expected an integer"),
        ({"n_obs": (1, 2, 3)}, TypeError, r"n_obs=\(1, 2, 3\): expected an integer, or a pair"),
        ({"order": 1}, ValueError, "order=1 belongs to structure='markovian'"),
        ({"structure": "markovian", "order": -1}, ValueError, "order=-1: expected at least 0"),
        ({"structure": "markovian", "order": "1"}, TypeError, "order='1': expected an integer"),
        ({"structure": "markovian", "order": True}, TypeError, "order=True: expected an integer"),
    ],
)
def test_wrong_schemas(arguments, error, match):
    with pytest.raises(error, match=match):
        DataSchema(**({"observables": {"x": Continuous()}} | arguments))


def test_batches_are_plain_arrays():
    batch = DataBatch(np.zeros((2, 3, 1)), np.zeros((2, 3, 0)), np.array([1, 3]))
    assert len(batch[:1]) == 1
    assert batch[np.array([True, True])].observables.shape == (2, 3, 1)


# --- seeds -------------------------------------------------------------------------------------


def test_seeds():
    def state(seed) -> list:
        return seed_sequence(seed).generate_state(2).tolist()

    sequence = np.random.SeedSequence(3)
    sequence.spawn(5)
    assert state(3) == state(np.int64(3)) == state(sequence)
    assert state(None) != state(None)
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert state(rng) == state(twin)
    assert state(rng) != state(np.random.default_rng(1))


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_wrong_seeds(seed, error):
    with pytest.raises(error, match="random_seed"):
        seed_sequence(seed)
