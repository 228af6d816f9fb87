"""Simulations as a dataset: what it holds, selections, joins, and files that come back the same."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

from jana_pymc.simulation import Categorical, Continuous, GenerativeModel, Simulations

SUFFIXES = [".nc", ".zarr"]


@pytest.fixture(scope="module")
def model() -> GenerativeModel:
    coords = {
        "side": ["left", "right"],
        "when": pd.date_range("2024-02-28", periods=3),
        "level": [1, 5],
    }
    with pm.Model(coords=coords) as prior:
        pm.Normal("mu", dims=("side", "level"))
        pm.Normal("trend", dims="when")
        pm.Dirichlet("weight", np.ones(3))
        pm.HalfNormal("low")

    def simulator(rng, mu, trend, weight, low, dose, n_obs):
        if mu[0, 0] > 1.5:
            raise ValueError("too large")
        x = low + rng.exponential(1.0, n_obs) + dose**2
        return {"x": x, "hit": rng.choice(3, n_obs, p=weight)}

    return GenerativeModel(
        prior,
        simulator,
        observables={"x": Continuous(lower="low"), "hit": Categorical(3)},
        conditions={"dose": Continuous()},
        design=lambda rng, n_obs: {"dose": rng.normal(size=n_obs)},
        n_obs=(3, 6),
    )


@pytest.fixture(scope="module")
def simulations(model) -> Simulations:
    with pytest.warns(UserWarning, match="too large"):
        return model.simulate(60, random_seed=1, progressbar=False)


# --- what it holds -----------------------------------------------------------------------------


def test_the_dataset_has_the_users_names_dims_and_coords(model, simulations):
    dataset = simulations.dataset
    names = {"mu", "trend", "weight", "low", "x", "hit", "dose", "n_obs"}
    assert set(dataset.data_vars) == names
    assert dataset["mu"].dims == ("simulation", "side", "level")
    assert dataset["weight"].dims == ("simulation", "weight_dim_0")
    assert dataset["x"].dims == dataset["dose"].dims == ("simulation", "obs")
    assert dataset["low"].sel(simulation=3).ndim == 0
    assert dataset["mu"].sel(side="left", level=5).shape == (len(simulations),)
    assert pd.Timestamp(dataset["when"].values[-1]) == pd.Timestamp("2024-03-01")
    assert simulations.layout == model.layout
    assert simulations.schema == model.schema
    assert simulations.failures.n_simulations == 60
    assert simulations.failures.n_failed == 60 - len(simulations) > 0


def test_parameters_are_flattened_as_the_layout_says(model, simulations):
    theta = simulations.parameters
    assert theta.shape == (len(simulations), model.layout.size)
    assert theta.dtype == np.float64
    column = model.layout.component_names.index("mu[1, 0]")
    mu = simulations.dataset["mu"].sel(side="right", level=1)
    np.testing.assert_array_equal(theta[:, column], mu)


def test_the_batch_holds_all_observations_or_pads(simulations):
    batch = simulations.batch()
    n = len(simulations)
    assert batch.observables.shape == (n, 6, 2)
    assert batch.conditions.shape == (n, 6, 1)
    assert np.isfinite(batch.observables).all()
    np.testing.assert_array_equal(batch.observables[..., 1], simulations.dataset["hit"])
    padded = simulations.batch(pad=True)
    present = np.arange(6) < batch.n_obs[:, None]
    np.testing.assert_array_equal(np.isnan(padded.observables[..., 0]), ~present)
    np.testing.assert_array_equal(padded.observables[present], batch.observables[present])
    np.testing.assert_array_equal(np.isnan(padded.conditions[..., 0]), ~present)
    # The user's way to the same thing.
    again = simulations.schema.batch(simulations.dataset)
    np.testing.assert_array_equal(again.observables, padded.observables)
    np.testing.assert_array_equal(again.conditions, padded.conditions)


# --- selections and joins ----------------------------------------------------------------------


def test_selections(simulations):
    part = simulations[10:20]
    assert len(part) == 10
    np.testing.assert_array_equal(part.parameters, simulations.parameters[10:20])
    np.testing.assert_array_equal(simulations[[2, 1]].parameters, simulations.parameters[[2, 1]])
    assert len(simulations[simulations.dataset["n_obs"].values == 3]) > 0
    with pytest.raises(TypeError, match=r"\[\[4\]\]"):
        simulations[4]


def test_joins(model, simulations):
    joined = Simulations.concat([simulations[:5], simulations[5:]])
    assert joined.dataset.equals(simulations.dataset)
    assert joined.failures.n_simulations == 120
    given = model.simulate(parameters=simulations.parameters[:2], random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match="same source"):
        Simulations.concat([simulations, given])
    with pytest.raises(ValueError, match="no simulations"):
        Simulations.concat([])


def test_the_prior_is_recognised_where_it_is_known(model, simulations):
    assert simulations.prior == simulations[:5].prior == model.prior.digest()
    given = model.simulate(parameters=simulations.parameters[:2], random_seed=1, progressbar=False)
    assert given.prior is None
    unknown = simulations.dataset.copy()
    del unknown.attrs["prior"]
    assert Simulations(unknown).prior is None
    assert Simulations.concat([simulations, Simulations(unknown)]).prior is None
    other = simulations.dataset.assign_attrs(prior=json.dumps(["0"]))
    for last in (other, unknown):
        with pytest.raises(ValueError, match="must have the same prior"):
            Simulations.concat(list(map(Simulations, (other, unknown, simulations.dataset, last))))
    assert Simulations.concat([simulations, simulations]).prior == simulations.prior


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_come_back_the_same(simulations, tmp_path, suffix):
    path = simulations.save(tmp_path / f"simulations{suffix}")
    loaded = Simulations.load(path)
    assert loaded.dataset.identical(simulations.dataset)
    assert {name: v.dtype for name, v in loaded.dataset.variables.items()} == {
        name: v.dtype for name, v in simulations.dataset.variables.items()
    }
    assert loaded.layout == simulations.layout
    assert loaded.schema == simulations.schema
    assert loaded.failures == simulations.failures
    assert loaded.source == "prior"
    assert loaded.prior == simulations.prior
    np.testing.assert_array_equal(loaded.parameters, simulations.parameters)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    again = Simulations.load(loaded[:7].save(tmp_path / f"again{suffix}"))
    assert len(again) == 7


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saving_replaces(simulations, tmp_path, suffix):
    path = str(tmp_path / f"simulations{suffix}")
    simulations.save(path)
    simulations[:3].save(path)
    assert len(Simulations.load(path)) == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_save_leaves_the_old_file(simulations, tmp_path, suffix, monkeypatch):
    path = simulations.save(tmp_path / f"simulations{suffix}")

    def full(self, target, **options):
        if suffix == ".zarr":
            target.mkdir()
        (target / "part" if suffix == ".zarr" else target).write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(OSError, match="no space"):
        simulations[:3].save(path)
    monkeypatch.undo()
    assert len(Simulations.load(path)) == len(simulations)
    assert len(list(tmp_path.iterdir())) == 1


def test_truncated_files(simulations, tmp_path):
    path = simulations.save(tmp_path / "simulations.nc")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cannot be read.*truncated"):
        Simulations.load(path)
    path.write_text("no netCDF at all")
    with pytest.raises(ValueError, match="cannot be read"):
        Simulations.load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_another_kind(simulations, tmp_path, suffix):
    path = tmp_path / f"other{suffix}"

    def write(attributes: dict) -> None:
        dataset = xr.Dataset({"y": ("x", [1.0])}, attrs=attributes)
        if suffix == ".nc":
            dataset.to_netcdf(path, engine="h5netcdf")
        else:
            dataset.to_zarr(path, zarr_format=2, mode="w")

    write({})
    with pytest.raises(ValueError, match="holds no simulations"):
        Simulations.load(path)
    write(simulations.dataset.attrs | {"version": 99})
    with pytest.raises(ValueError, match=r"version 99.*install a newer one"):
        Simulations.load(path)


def test_wrong_paths(simulations, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        Simulations.load(tmp_path / "missing.nc")
    for method in (simulations.save, Simulations.load):
        with pytest.raises(ValueError, match=r"\.nc or \.zarr, got .*simulations\.pkl"):
            method(tmp_path / "simulations.pkl")


def test_a_dataset_of_something_else():
    with pytest.raises(ValueError, match="holds no simulations"):
        Simulations(xr.Dataset())


def test_the_attributes_are_json(simulations):
    for name in ("layout", "schema", "failures"):
        assert json.loads(simulations.dataset.attrs[name])
