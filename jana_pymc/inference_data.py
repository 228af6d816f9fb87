"""Draws and densities as ArviZ reads them: InferenceData (ArviZ 0.23) or DataTree (1.x).

Everything is built as plain xarray datasets and wrapped last, so that the two versions differ in
`to_inference_data` and `to_groups` alone. Dimensions follow ArviZ: ``chain``, ``draw``, then
``dataset`` where there are many data sets, then the variable's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import arviz as az
import numpy as np
import xarray as xr

from jana_pymc.checks import check_count
from jana_pymc.files import replacing
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Observable,
    ParameterLayout,
    scalar_components,
    split_components,
)
from jana_pymc.simulation.names import unnamed_dims
from jana_pymc.storage import check_target

ArviZData: TypeAlias = Any
"""`arviz.InferenceData` with ArviZ 0.23, `xarray.DataTree` with ArviZ 1.x."""

# Asking ArviZ 1.x for its InferenceData raises a warning, so the version decides.
_HAS_INFERENCE_DATA = int(az.__version__.split(".")[0]) < 1


def to_inference_data(
    groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any] | None = None
) -> ArviZData:
    """Wrap datasets into the container of the installed ArviZ.

    Parameters
    ----------
    groups : mapping of str to Dataset
        Groups by name; ArviZ uses ``posterior``, ``log_likelihood``, ``sample_stats`` and others.
    attrs : mapping, optional
        Attributes of the container, in addition to ``inference_library``. netCDF restricts their
        values to strings, numbers and arrays.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> posterior = xr.Dataset({"mu": (("chain", "draw"), np.zeros((4, 10)))})
    >>> data = to_inference_data({"posterior": posterior})
    >>> data["posterior"]["mu"].shape
    (4, 10)
    """
    attrs = {"inference_library": "jana_pymc", **(attrs or {})}
    if _HAS_INFERENCE_DATA:
        return az.InferenceData(attrs, **dict[str, Any](groups))
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def to_groups(data: ArviZData) -> dict[str, xr.Dataset]:
    """Take an InferenceData or DataTree apart; the inverse of `to_inference_data`.

    Parameters
    ----------
    data : InferenceData or DataTree

    Returns
    -------
    dict of str to Dataset

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(data, xr.DataTree):
        return {name: child.to_dataset() for name, child in data.children.items()}
    # InferenceData is recognised by its method: accessing the class warns in ArviZ 1.x.
    if not callable(getattr(data, "groups", None)):
        raise TypeError(
            f"data is {type(data).__name__}; expected InferenceData or DataTree, as pm.sample and "
            "JointApproximator.sample return it."
        )
    return {name: data[name] for name in data.groups()}


def posterior_of(data: ArviZData) -> xr.Dataset:
    """Posterior draws in the result of a sampler.

    Parameters
    ----------
    data : InferenceData or DataTree

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it has no group "posterior".
    """
    groups = to_groups(data)
    if "posterior" not in groups:
        raise ValueError(
            f"data has no group 'posterior', only {', '.join(groups) or 'none'}; sample from the "
            "posterior of the model first."
        )
    return groups["posterior"]


def divergent_share(data: ArviZData) -> float:
    """Share of divergent transitions; 0 if the sampler recorded none.

    Parameters
    ----------
    data : InferenceData or DataTree
    """
    statistics: Mapping[Any, Any] = to_groups(data).get("sample_stats", {})
    return float(np.mean(statistics["diverging"])) if "diverging" in statistics else 0.0


def split_chains(values: np.ndarray, chains: int) -> np.ndarray:
    """Lay independent draws out as chains, which between-chain diagnostics need.

    Parameters
    ----------
    values : ndarray, shape (sets, chains · draws, ...)
    chains : int

    Returns
    -------
    ndarray, shape (sets, chains, draws, ...)
    """
    sets, total, *rest = values.shape
    if chains < 1 or total % chains:
        raise ValueError(f"{total} draws cannot be laid out as {chains} chains of equal length.")
    return values.reshape(sets, chains, total // chains, *rest)


def parameter_dataset(parameters: np.ndarray, layout: ParameterLayout) -> xr.Dataset:
    """Parameter draws under the user's names, dims and coords.

    Parameters
    ----------
    parameters : ndarray, shape (chains, draws, size) or (sets, chains, draws, size)
        Flattened in the order of `layout`.
    layout : ParameterLayout

    Returns
    -------
    Dataset
        Dimensions (chain, draw, [dataset], the parameter's own).
    """
    leading = _leading_dims("parameters", parameters, trailing=1)
    return named_dataset(layout.unflatten(parameters), leading, layout)


def named_dataset(
    values: Mapping[str, np.ndarray], leading: tuple[str, ...], layout: ParameterLayout
) -> xr.Dataset:
    """Arrays that share the parameters' names and shapes, behind common leading dimensions.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (*leading, *shape of the parameter)
    leading : tuple of str
    layout : ParameterLayout

    Returns
    -------
    Dataset
    """
    variables = {name: (leading + layout.dim_names(name), array) for name, array in values.items()}
    return _with_coords(variables, layout.coords)


def observable_dataset(
    values: np.ndarray, observables: Mapping[str, Observable], *, structure: str = "exchangeable"
) -> xr.Dataset:
    """Observations (or known conditions) under the user's names and in their shapes.

    Parameters
    ----------
    values : ndarray, shape (obs, components)
        With leading axes also (sets, obs, components), (chains, draws, obs, components) or
        (sets, chains, draws, obs, components). Shorter data sets are padded with NaN. A vector is
        one observation.
    observables : mapping of str to Continuous, Categorical or Count
        In the order of the components; arrays are flattened.
    structure : str
        As declared. Vectors have no dimension "obs".

    Returns
    -------
    Dataset
        Dimensions ([chain, draw], [dataset], obs, and ``x_dim_0``, ... of an array x).
        Categories and counts are integers, except where padding makes them floats.
    """
    components = scalar_components(observables)
    if values.shape[-1] != len(components):
        raise ValueError(
            f"values has {values.shape[-1]} components, but there are {len(components)} "
            f"observables: {', '.join(components)}."
        )
    leading: tuple[str, ...] = ("dataset",) if values.ndim == 3 else ()
    if values.ndim > 3:
        leading = _leading_dims("values", values, trailing=2)
    dims = (*leading, "obs")
    if structure == "vector":
        values, dims = values[..., 0, :], leading
    variables = {
        name: _observable(each, (*dims, *unnamed_dims(name, len(kind.shape))), kind)
        for (name, kind), each in zip(
            observables.items(), split_components(values, observables).values(), strict=True
        )
    }
    return _with_coords(variables, {})


def log_likelihood_dataset(log_likelihood: np.ndarray, name: str) -> xr.Dataset:
    """Pointwise log-likelihoods.

    Parameters
    ----------
    log_likelihood : ndarray, shape (chains, draws, obs) or (sets, chains, draws, obs)
        In nats; NaN where a shorter data set is padded.
    name : str
        The name that the observed variable has in a PyMC model of the same data.

    Returns
    -------
    Dataset
        Dimensions (chain, draw, [dataset], obs).
    """
    leading = _leading_dims("log_likelihood", log_likelihood, trailing=1)
    return _with_coords({name: ((*leading, "obs"), log_likelihood)}, {})


def sample_stats_dataset(statistics: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Statistics of each draw: ``lp``, the log joint density, and ``log_q``, its proposal's.

    Parameters
    ----------
    statistics : mapping of str to ndarray, shape (chains, draws) or (sets, chains, draws)

    Returns
    -------
    Dataset
        Dimensions (chain, draw, [dataset]).
    """
    variables = {
        name: (_leading_dims(name, values, trailing=0), values)
        for name, values in statistics.items()
    }
    return _with_coords(variables, {})


def select_dataset(data: ArviZData, dataset: int) -> ArviZData:
    """Select one of many data sets, without padding, for `arviz.loo` and similar functions.

    Parameters
    ----------
    data : InferenceData or DataTree
        Results for many data sets, with a dimension ``dataset``.
    dataset : int
        Coordinate of the data set, counted from zero.

    Returns
    -------
    InferenceData or DataTree
        In the same form as the result for a single data set.

    Raises
    ------
    TypeError
        If `data` is of another type, or `dataset` is no integer.
    ValueError
        If the data have no dimension ``dataset``, or `dataset` is negative.
    KeyError
        If there is no such data set.
    """
    groups = to_groups(data)
    check_count("dataset", dataset, least=0)
    known = {int(value) for group in groups.values() for value in group.get("dataset", ())}
    if not known:
        raise ValueError("the data have no dimension 'dataset': there is nothing to select from.")
    if dataset not in known:
        raise KeyError(f"no data set {dataset}; there are {min(known)} to {max(known)}.")
    groups = {
        name: _of_dataset(group, dataset) if "dataset" in group.dims else group
        for name, group in groups.items()
    }
    return to_inference_data(_without_padding(groups), data.attrs)


def _of_dataset(group: xr.Dataset, dataset: int) -> xr.Dataset:
    """One data set's part of a group, and of its attributes about refinement."""
    # Files return an array with one number as a number.
    attrs = {
        name: np.atleast_1d(group.attrs[name])[[dataset]]
        for name in ("pareto_k", "divergences")
        if name in group.attrs
    }
    if "refined" in group.attrs:
        attrs["refined"] = group.attrs["refined"].split(",")[dataset]
    return group.sel(dataset=dataset, drop=True).assign_attrs(attrs)


def save_inference_data(data: ArviZData, path: str | Path) -> Path:
    """Save as netCDF, for `arviz.from_netcdf`; an existing file is replaced only at the end.

    Parameters
    ----------
    data : InferenceData or DataTree
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If the folder does not exist, or the path is a folder.
    """
    path = Path(path)
    check_target(path)
    with replacing(path) as aside:
        data.to_netcdf(aside, engine="h5netcdf")
    return path


def _leading_dims(name: str, values: np.ndarray, trailing: int) -> tuple[str, ...]:
    leading = ("dataset", "chain", "draw")[3 - (values.ndim - trailing) :]
    if len(leading) < 2 or values.ndim - trailing > 3:
        raise ValueError(
            f"{name} has shape {values.shape}; expected (chains, draws) or (sets, chains, draws) "
            f"before the last {trailing} axes."
        )
    return leading


def _observable(
    values: np.ndarray, dims: tuple[str, ...], kind: Observable
) -> tuple[tuple[str, ...], np.ndarray, dict[str, Any]]:
    if isinstance(kind, Continuous):
        return dims, values, {}
    # The attribute that the CF conventions give to categorical data, and one of our own.
    attrs: dict[str, Any] = {"kind": "count"}
    if isinstance(kind, Categorical):
        attrs = {"flag_values": np.arange(kind.n_categories)}
    return dims, values if np.isnan(values).any() else values.astype(int), attrs


def _with_coords(variables: Mapping[str, Any], coords: Mapping[str, Any]) -> xr.Dataset:
    """Build a dataset in ArviZ's order of dimensions, each with a coordinate, if only a count."""
    dataset = xr.Dataset(dict(variables))
    labels = {str(dim): np.arange(size) for dim, size in dataset.sizes.items()}
    labels |= {dim: np.asarray(c) for dim, c in coords.items() if dim in labels and c is not None}
    first = [dim for dim in ("chain", "draw") if dim in dataset.dims]
    return dataset.assign_coords(labels).transpose(*first, ...)


def _without_padding(groups: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    for name in ("observed_data", "log_likelihood", "posterior_predictive"):
        if name in groups and "obs" in groups[name].dims:
            break
    else:
        return dict(groups)
    n_obs = groups[name].dropna("obs", how="all").sizes["obs"]
    return {
        name: _as_integers(group.isel(obs=slice(n_obs), missing_dims="ignore"))
        for name, group in groups.items()
    }


def _as_integers(group: xr.Dataset) -> xr.Dataset:
    """Give categorical values back the type that padding took from them."""
    floats = {
        name: variable.astype(int)
        for name, variable in group.items()
        if ("flag_values" in variable.attrs or variable.attrs.get("kind") == "count")
        and variable.dtype.kind == "f"
    }
    return group.assign(floats)
