"""What ArviZ makes of our output, on a conjugate normal model whose LOO is known exactly."""

from __future__ import annotations

import arviz as az
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from jana_pymc.inference_data import (
    log_likelihood_dataset,
    observable_dataset,
    parameter_dataset,
    sample_stats_dataset,
    save_inference_data,
    select_dataset,
    split_chains,
    to_groups,
    to_inference_data,
)
from jana_pymc.simulation import Categorical, Continuous, ParameterLayout

pytestmark = [
    pytest.mark.arviz,
    # ArviZ 0.23 with newer versions of pandas and matplotlib than it knows.
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
    pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping"),
]

ARVIZ_1 = not az.__version__.startswith("0.")

LAYOUT = ParameterLayout(
    names=("mu", "beta", "free"),
    shapes={"mu": (), "beta": (2,), "free": (2, 2)},
    dims={"mu": (), "beta": ("group",), "free": (None, None)},
    coords={"group": ("left", "right")},
)
MEAN = ParameterLayout(names=("mu",), shapes={"mu": ()}, dims={"mu": ()}, coords={})
OBSERVABLES = {"rt": Continuous(lower=0.0), "response": Categorical(2)}
CHAINS, DRAWS, N_OBS = 4, 1000, 30


def conjugate(observed, prior_sd, rng, name="y"):
    """Exact analysis of y ~ N(mu, 1), mu ~ N(0, prior_sd): draws, densities, and LOO."""
    precision = prior_sd**-2 + len(observed)
    mean, sd = observed.sum() / precision, precision**-0.5
    mu = rng.normal(mean, sd, (1, CHAINS * DRAWS, 1))
    log_likelihood = stats.norm.logpdf(observed, mu)
    log_q = stats.norm.logpdf(mu[..., 0], mean, sd)
    lp = log_likelihood.sum(-1) + stats.norm.logpdf(mu[..., 0], 0, prior_sd)
    groups = {
        "posterior": parameter_dataset(split_chains(mu, CHAINS)[0], MEAN),
        "log_likelihood": log_likelihood_dataset(split_chains(log_likelihood, CHAINS)[0], name),
        "sample_stats": sample_stats_dataset(
            {"lp": split_chains(lp, CHAINS)[0], "log_q": split_chains(log_q, CHAINS)[0]}
        ),
        "observed_data": observable_dataset(observed[:, None], {"value": Continuous()}),
    }
    held_out = precision - 1
    loo = stats.norm.logpdf(
        observed, (observed.sum() - observed) / held_out, np.sqrt(1 + 1 / held_out)
    )
    return to_inference_data(groups), loo.sum()


@pytest.fixture(scope="module")
def observed():
    return np.random.default_rng(2).normal(0.4, 1.0, N_OBS)


@pytest.fixture(scope="module")
def analysed(observed):
    return conjugate(observed, 1.0, np.random.default_rng(3))


def elpd(result) -> float:
    """A Series with ArviZ 0.23, an object with 1.x."""
    return float(result["elpd_loo"] if hasattr(result, "index") else result.elpd)


def test_the_installed_arviz_decides_the_type(analysed):
    assert type(analysed[0]).__name__ == ("DataTree" if ARVIZ_1 else "InferenceData")
    assert analysed[0].attrs["inference_library"] == "jana_pymc"


def test_loo_is_the_exact_one(analysed):
    data, exact = analysed
    result = az.loo(data, pointwise=True)
    assert elpd(result) == pytest.approx(exact, abs=0.03)
    assert np.asarray(result.pareto_k).shape == (N_OBS,)
    assert float(np.max(result.pareto_k)) < 0.5


def test_compare_finds_the_exact_difference(analysed, observed):
    data, exact = analysed
    narrow, exact_narrow = conjugate(observed, 0.05, np.random.default_rng(4))
    exactly = {"round_to": "none"} if ARVIZ_1 else {}
    table = az.compare({"narrow": narrow, "wide": data}, **exactly)
    assert list(table.index) == ["wide", "narrow"]
    # ArviZ 1.x gives the difference a negative sign.
    difference = abs(float(table["elpd_diff"].iloc[1]))
    assert difference == pytest.approx(exact - exact_narrow, abs=0.05)


def test_summary_of_independent_draws(analysed, observed):
    table = az.summary(analysed[0], round_to="none")
    assert list(table.index) == ["mu"]
    precision = 1 + N_OBS
    assert float(table["mean"].iloc[0]) == pytest.approx(observed.sum() / precision, abs=0.015)
    assert float(table["r_hat"].iloc[0]) < 1.01
    assert float(table["ess_bulk"].iloc[0]) > 0.7 * CHAINS * DRAWS


@pytest.mark.parametrize("name", ["plot_trace", "plot_forest", "plot_autocorr", "plot_rank"])
def test_plots_of_arviz(analysed, name):
    matplotlib.use("Agg")
    getattr(az, name)(analysed[0], var_names=["mu"])
    plt.close("all")


def test_lp_and_log_q_differ_by_the_evidence(analysed, observed):
    stats_group = to_groups(analysed[0])["sample_stats"]
    difference = stats_group["lp"] - stats_group["log_q"]
    covariance = np.eye(N_OBS) + 1.0
    evidence = stats.multivariate_normal.logpdf(observed, np.zeros(N_OBS), covariance)
    np.testing.assert_allclose(difference, evidence, rtol=1e-10)


def test_parameters_have_names_dims_and_coords():
    values = np.random.default_rng(0).normal(size=(CHAINS, 5, 7))
    dataset = parameter_dataset(values, LAYOUT)
    assert dataset["mu"].dims == ("chain", "draw")
    assert dataset["beta"].dims == ("chain", "draw", "group")
    assert dataset["free"].dims == ("chain", "draw", "free_dim_0", "free_dim_1")
    assert list(dataset["group"].values) == ["left", "right"]
    np.testing.assert_array_equal(dataset["beta"].sel(group="right"), values[..., 2])
    np.testing.assert_array_equal(dataset["free"], values[..., 3:].reshape(CHAINS, 5, 2, 2))


def test_many_data_sets_summarised_at_once():
    values = np.random.default_rng(0).normal(size=(3, CHAINS, 50, 7))
    dataset = parameter_dataset(values, LAYOUT)
    assert dataset["beta"].dims == ("chain", "draw", "dataset", "group")
    np.testing.assert_array_equal(dataset["mu"].sel(dataset=2), values[2, ..., 0])
    table = az.summary(to_inference_data({"posterior": dataset}), var_names=["mu", "beta"])
    assert len(table) == 3 + 3 * 2
    assert "beta[1, left]" in table.index


def test_observables_of_all_shapes():
    rng = np.random.default_rng(0)
    shapes = {
        (6,): ("obs",),
        (3, 6): ("dataset", "obs"),
        (4, 5, 6): ("chain", "draw", "obs"),
        (3, 4, 5, 6): ("chain", "draw", "dataset", "obs"),
    }
    # Two leading axes are (chain, draw) in predictive draws, which come with both.
    for shape, dims in shapes.items():
        values = np.stack([rng.random(shape), rng.integers(0, 2, shape)], axis=-1)
        dataset = observable_dataset(values, OBSERVABLES)
        assert dataset["rt"].dims == dims
        assert dataset["rt"].dtype.kind == "f"
        assert dataset["response"].dtype.kind == "i"


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"2 observables: rt, response"):
        observable_dataset(np.zeros((6, 3)), OBSERVABLES)
    with pytest.raises(ValueError, match=r"parameters has shape \(5, 7\)"):
        parameter_dataset(np.zeros((5, 7)), LAYOUT)
    with pytest.raises(ValueError, match="10 draws cannot be laid out as 4 chains"):
        split_chains(np.zeros((1, 10, 2)), 4)


def test_one_of_many_padded_data_sets_equals_it_alone():
    rng = np.random.default_rng(6)
    n_obs = [20, 12]
    padded = np.full((2, 20, 2), np.nan)
    log_likelihood = np.full((2, CHAINS, 200, 20), np.nan)
    for i, n in enumerate(n_obs):
        padded[i, :n] = np.stack([rng.random(n), rng.integers(0, 2, n)], axis=-1)
        log_likelihood[i, ..., :n] = rng.normal(-1, 0.1, (CHAINS, 200, n))
    parameters = rng.normal(size=(2, CHAINS, 200, 1))
    many = to_inference_data(
        {
            "posterior": parameter_dataset(parameters, MEAN),
            "log_likelihood": log_likelihood_dataset(log_likelihood, "trials"),
            "observed_data": observable_dataset(padded, OBSERVABLES),
            "constant_data": observable_dataset(padded, OBSERVABLES),
        },
        attrs={"note": "kept"},
    )
    alone = to_inference_data(
        {
            "posterior": parameter_dataset(parameters[1], MEAN),
            "log_likelihood": log_likelihood_dataset(log_likelihood[1, ..., :12], "trials"),
            "observed_data": observable_dataset(padded[1, :12], OBSERVABLES),
            "constant_data": observable_dataset(padded[1, :12], OBSERVABLES),
        }
    )
    selected = select_dataset(many, 1)
    for name, group in to_groups(alone).items():
        xr.testing.assert_identical(to_groups(selected)[name], group)
    assert selected.attrs["note"] == "kept"
    assert elpd(az.loo(selected)) == pytest.approx(elpd(az.loo(alone)), rel=1e-12)
    with pytest.raises(KeyError, match="there are 0 to 1"):
        select_dataset(many, 2)
    with pytest.raises(ValueError, match="no dimension 'dataset'"):
        select_dataset(alone, 0)


@pytest.mark.parametrize("n_sets", [1, 3])
def test_what_was_noted_of_each_data_set_is_selected_with_it(tmp_path, n_sets):
    noted = {
        "pareto_k": np.array([0.1, 0.8, np.inf])[:n_sets],
        "refined": ",".join(["psis", "nuts", "psis"][:n_sets]),
        "divergences": np.array([0, 4, 0])[:n_sets],
    }
    lp = np.zeros((n_sets, CHAINS, 5))
    group = sample_stats_dataset({"lp": lp}).assign_attrs(noted, note="kept")
    made = to_inference_data({"sample_stats": group})
    loaded = az.from_netcdf(save_inference_data(made, tmp_path / "results.nc"))
    last = n_sets - 1
    for data in (made, loaded):
        attrs = to_groups(select_dataset(data, last))["sample_stats"].attrs
        assert attrs["pareto_k"].tolist() == [noted["pareto_k"][last]]
        assert attrs["divergences"].tolist() == [0]
        assert attrs["refined"] == "psis" and attrs["note"] == "kept"


def test_netcdf_round_trip(tmp_path, analysed):
    path = save_inference_data(analysed[0], tmp_path / "results.nc")
    save_inference_data(analysed[0], path)  # over the old one
    loaded = to_groups(az.from_netcdf(path))
    for name, group in to_groups(analysed[0]).items():
        xr.testing.assert_equal(loaded[name], group)
    assert [file.name for file in tmp_path.iterdir()] == ["results.nc"]


def test_save_names_the_folder_that_is_missing(tmp_path, analysed):
    path = tmp_path / "missing" / "results.nc"
    with pytest.raises(FileNotFoundError, match=r"results\.nc': there is no folder '.*missing'"):
        save_inference_data(analysed[0], path)
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        save_inference_data(analysed[0], tmp_path)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ([0, 1], TypeError, r"dataset=\[0, 1\]: expected an integer"),
        ("first", TypeError, "dataset='first': expected an integer"),
        (-1, ValueError, "dataset=-1: expected at least 0"),
    ],
)
def test_a_data_set_is_selected_by_its_number(analysed, dataset, error, message):
    with pytest.raises(error, match=message):
        select_dataset(analysed[0], dataset)


def test_what_is_no_inference_data_is_named():
    with pytest.raises(TypeError, match="data is dict; expected InferenceData or DataTree"):
        select_dataset({}, 0)


def test_failed_save_leaves_the_old_file(tmp_path, analysed):
    path = save_inference_data(analysed[0], tmp_path / "results.nc")
    before = path.read_bytes()
    broken = to_inference_data(to_groups(analysed[0]), attrs={"unserialisable": object()})
    with pytest.raises((TypeError, ValueError)):
        save_inference_data(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.nc"]
