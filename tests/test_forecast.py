"""Forecasts of a random walk against its closed form."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from closed_forms import LAYOUT, vector, walk
from scipy import stats

import jana_pymc as jana
from jana_pymc.inference_data import (
    observable_dataset,
    parameter_dataset,
    to_groups,
    to_inference_data,
)
from jana_pymc.plots import plot_forecast
from jana_pymc.simulation import Categorical, Continuous, Count, DataSchema

pytestmark = pytest.mark.arviz

THETA = np.array([0.3, 0.1, -0.2])
PASTS = [np.cumsum(np.random.default_rng(i).normal(size=(n, 2)), 0) for i, n in enumerate((9, 4))]


def draws(*sets: np.ndarray, n: int = 2000):
    """A posterior that knows each data set's parameters: chains of equal draws."""
    many = np.broadcast_to(np.stack(sets)[:, None, None], (len(sets), 2, n // 2, LAYOUT.size))
    data = parameter_dataset(many if len(sets) > 1 else many[0], LAYOUT)
    return to_inference_data({"posterior": data})


def pair(likelihood=None, **members: object) -> SimpleNamespace:
    likelihood = likelihood or walk()
    schema = likelihood.schema
    return SimpleNamespace(
        likelihood=likelihood,
        schema=schema,
        layout=LAYOUT,
        posterior=SimpleNamespace(batch=lambda data, check_n_obs: schema.batch(data)),
        **members,
    )


@pytest.mark.parametrize("conditions", [False, True])
def test_steps_go_on_from_the_last_observation(conditions: bool) -> None:
    drift = np.array([0.5, -1.0, 2.0])
    past = {"x": PASTS[0]} | ({"drift": np.ones(9)} if conditions else {})
    known = {"drift": drift} if conditions else None
    made = jana.forecast(
        pair(walk(conditions)), past, 3, conditions=known, posterior=draws(THETA), random_seed=1
    )
    groups = to_groups(made)
    future = groups["predictions"]["x"]
    assert future.dims == ("chain", "draw", "ahead", "x_dim_0")
    assert future["ahead"].values.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(groups["observed_data"]["x"], PASTS[0])
    steps = np.arange(1, 4)
    mean = PASTS[0][-1] + steps[:, None] * (THETA[0] + THETA[1:])
    if conditions:
        mean = mean + drift.cumsum()[:, None]
        constant = groups["predictions_constant_data"]["drift"]
        np.testing.assert_array_equal(constant, drift)
        assert constant.dims == ("ahead",)
        assert groups["constant_data"]["drift"].dims == ("obs",)
    z = (future.to_numpy().reshape(-1, 3, 2) - mean) / np.sqrt(steps)[:, None]
    for step in range(3):
        for component in range(2):
            assert stats.kstest(z[:, step, component], "norm").pvalue > 0.001


def test_each_sequence_has_its_own_past_and_parameters() -> None:
    data = [{"x": past} for past in PASTS]
    far = THETA + np.array([0.0, 40.0, -40.0])
    made = to_groups(jana.forecast(pair(), data, 1, posterior=draws(THETA, far), random_seed=1))
    future = made["predictions"]["x"]
    assert future.dims == ("chain", "draw", "dataset", "ahead", "x_dim_0")
    for i, theta in enumerate((THETA, far)):
        mean = future.isel(dataset=i, ahead=0).mean(("chain", "draw"))
        np.testing.assert_allclose(mean, PASTS[i][-1] + theta[0] + theta[1:], atol=0.1)
    assert made["observed_data"].sizes == {"dataset": 2, "obs": 9, "x_dim_0": 2}
    alone = to_groups(jana.select_dataset(to_inference_data(made), 1))
    np.testing.assert_array_equal(alone["predictions"]["x"], future.isel(dataset=1))
    assert alone["observed_data"].sizes["obs"] == 4


def test_a_hierarchical_posterior_has_sites_and_parameters_that_they_share() -> None:
    b = np.array([[0.1, -0.2], [40.1, -40.2]])
    posterior = xr.Dataset(
        {
            "mu": (("chain", "draw"), np.full((2, 500), 0.3)),
            "b": (("chain", "draw", "site", "side"), np.broadcast_to(b, (2, 500, 2, 2))),
        },
        coords={"site": ["north", "south"]},
    )
    data = [{"x": past} for past in PASTS]
    idata = to_inference_data({"posterior": posterior})
    with pytest.raises(ValueError, match="Say dataset_dim='site' if that counts the data sets"):
        jana.forecast(pair(), data, 1, posterior=idata)
    with pytest.raises(ValueError, match=r"or select one: posterior\.sel\(site="):
        jana.forecast(pair(), data[0], 1, posterior=idata)
    made = jana.forecast(pair(), data, 1, posterior=idata, dataset_dim="site", random_seed=1)
    future = to_groups(made)["predictions"]["x"].isel(ahead=0)
    assert future.dims == ("chain", "draw", "dataset", "x_dim_0")
    mean = future.mean(("chain", "draw")).to_numpy()
    np.testing.assert_allclose(
        mean, [x[-1] + 0.3 + each for x, each in zip(PASTS, b, strict=True)], atol=0.2
    )
    turned = to_inference_data({"posterior": posterior.transpose("chain", "draw", "side", "site")})
    again = jana.forecast(pair(), data, 1, posterior=turned, dataset_dim="site", random_seed=1)
    np.testing.assert_array_equal(*(to_groups(each)["predictions"]["x"] for each in (made, again)))
    south = to_inference_data({"posterior": posterior.sel(site="south")})
    alone = jana.forecast(pair(), data[1], 1, posterior=south, random_seed=1)
    np.testing.assert_allclose(
        to_groups(alone)["predictions"]["x"].mean(("chain", "draw", "ahead")), mean[1], atol=0.2
    )


def test_draws_are_the_pairs_own_by_default() -> None:
    asked: dict[str, object] = {}

    def sample(data: object, **options: object):
        asked.update(options)
        return draws(THETA, n=20)

    made = jana.forecast(
        pair(sample=sample), {"x": PASTS[0]}, 2, draws=10, chains=2, refine="psis", random_seed=1
    )
    assert to_groups(made)["predictions"].sizes["draw"] == 10
    assert asked["groups"] == ("posterior",) and asked["refine"] == "psis"
    again = jana.forecast(
        pair(), {"x": PASTS[0]}, 2, posterior=to_inference_data(to_groups(made)), random_seed=1
    )
    assert to_groups(again)["predictions"]["x"].shape == (2, 10, 2, 2)


def test_what_lies_beyond_the_training_is_warned_of_or_refused() -> None:
    data = {"x": np.zeros((15, 2))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jana.forecast(pair(), data, 5, posterior=draws(THETA))
    with pytest.warns(UserWarning, match=r"15 \+ 6 time points.* trained on 20 at most"):
        jana.forecast(pair(), data, 6, posterior=draws(THETA))
    ends = walk()
    ends.network.n_steps = 20
    with pytest.raises(ValueError, match=r"this likelihood ends there\. Take a smaller `ahead`"):
        jana.forecast(pair(ends), data, 6, posterior=draws(THETA))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"ahead": 0}, ValueError, "ahead=0: expected at least 1"),
        (
            {"posterior": draws(THETA, THETA)},
            ValueError,
            "has 2 data sets along 'dataset', but data are 1",
        ),
        ({"posterior": {"mu": 1.0}}, TypeError, "expected InferenceData or DataTree"),
        ({"conditions": {"drift": np.ones(2)}}, TypeError, "trained without any"),
        ({"approximator": 3}, TypeError, "approximator is int"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, object], error: type, message: str) -> None:
    arguments = {
        "approximator": pair(),
        "data": {"x": PASTS[0]},
        "ahead": 2,
        "posterior": draws(THETA),
    } | changed
    with pytest.raises(error, match=message):
        jana.forecast(**arguments)


def test_what_has_no_future_is_refused() -> None:
    data = {"n": 3, "x": np.zeros((2, 2))}
    with pytest.raises(ValueError, match="declared 'vector', which has no future"):
        jana.forecast(pair(vector()), data, 2)
    with pytest.raises(TypeError, match=r"conditions are missing: .* trained with drift"):
        jana.forecast(pair(walk(True)), {"x": PASTS[0], "drift": np.ones(9)}, 2)
    poor = to_inference_data({"posterior": to_groups(draws(THETA))["posterior"][["mu"]]})
    with pytest.raises(ValueError, match="posterior lacks b; it holds mu"):
        jana.forecast(pair(), {"x": PASTS[0]}, 2, posterior=poor)
    mute = walk()
    mute.network.sample = lambda parameters, n_obs, conditions=None, generator=None: None
    with pytest.raises(ValueError, match="WalkNetwork cannot continue a sequence"):
        jana.forecast(pair(mute), {"x": PASTS[0]}, 2, posterior=draws(THETA))


def counts(n_sets: int = 2):
    """A forecast of counts and categories."""
    rng = np.random.default_rng(1)
    kinds = {"n": Count(), "kind": Categorical(3), "x": Continuous()}
    schema = DataSchema(kinds, structure="markovian", n_obs=(1, 9))
    past = schema.batch([{k: np.arange(size) % 3 for k in kinds} for size in (6, 3)[:n_sets]])
    future = rng.poisson(3.0, (n_sets, 2, 50, 4, 1)) % 3 * np.ones(3)
    return to_inference_data(
        {
            "observed_data": observable_dataset(past.observables, kinds),
            "predictions": observable_dataset(future, kinds).rename(obs="ahead"),
        }
    )


def test_the_figure_shows_past_and_future_of_each_sequence() -> None:
    figure = plot_forecast(counts(), value="n", last=4)
    assert [ax.get_title() for ax in figure.axes] == ["data set 0", "data set 1"]
    past, median = figure.axes[1].lines
    assert past.get_xdata().tolist() == [1, 2, 3] and past.get_ydata().tolist() == [0, 1, 2]
    assert median.get_xdata().tolist() == [4, 5, 6, 7]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [3, 4, 5, 6]
    assert figure.axes[0].get_ylabel() == "n"


def test_the_future_of_a_category_is_drawn_as_its_shares() -> None:
    made = counts(1)
    (ax,) = plot_forecast(made, value="kind").axes
    assert ax.lines[0].get_ydata().tolist() == [0, 1, 2, 0, 1, 2]
    draws = to_groups(made)["predictions"]["kind"].isel(dataset=0)
    for category, bar in enumerate(ax.patches):
        top, edges, bottom = bar.get_data()
        assert edges.tolist() == [6.5, 7.5, 8.5, 9.5, 10.5]
        np.testing.assert_allclose(top - bottom, (draws == category).mean(("chain", "draw")))
        np.testing.assert_allclose((top + bottom) / 2, category)
    assert len(ax.patches) == 3


def test_the_figure_takes_a_component_and_leaves_room_around_points() -> None:
    past = np.array([[3, 0], [1, 2], [0, 1]])
    future = np.zeros((2, 10, 2, 2))
    kinds = {"n": Count(shape=2)}
    made = to_inference_data(
        {
            "observed_data": observable_dataset(past, kinds),
            "predictions": observable_dataset(future, kinds).rename(obs="ahead"),
        }
    )
    for i in range(2):
        (ax,) = plot_forecast(made, value=f"n[{i}]").axes
        assert ax.lines[0].get_ydata().tolist() == past[:, i].tolist()
        assert ax.get_ylabel() == f"n[{i}]"
        assert ax.get_ylim()[0] < 0
    with pytest.raises(ValueError, match=r"Name a component, 'n\[0\]'"):
        plot_forecast(made)
    with pytest.raises(ValueError, match=r"result has no component 'n\[2\]'"):
        plot_forecast(made, value="n[2]")


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(ValueError, match="no observable 'm'; choose from n, kind, x"):
        plot_forecast(counts(), value="m")
    with pytest.raises(ValueError, match="the groups posterior; expected predictions"):
        plot_forecast(draws(THETA))
    made = jana.forecast(pair(), {"x": PASTS[0]}, 2, posterior=draws(THETA))
    with pytest.raises(ValueError, match="expected one number for each observation"):
        plot_forecast(made)
    groups = to_groups(made).items()
    one = {name: group.isel(x_dim_0=0, missing_dims="ignore") for name, group in groups}
    assert len(plot_forecast(to_inference_data(one)).axes) == 1
