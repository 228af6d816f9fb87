"""Simulated data sets with their parameters, as an xarray Dataset that saves and loads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from jana_pymc.files import replacing
from jana_pymc.simulation.failures import FailureReport
from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.names import unnamed_dims
from jana_pymc.simulation.observables import Observable
from jana_pymc.simulation.schema import DataBatch, DataSchema

FORMAT = "jana_pymc simulations"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Simulations:
    """Simulated data sets.

    Parameters
    ----------
    dataset : xarray.Dataset
        Dimensions ``simulation``, ``obs`` (not for vectors) and those of parameters and shapes.
        One variable for each parameter, observable and condition, and ``n_obs``. Its attributes
        describe the model; a selection along ``simulation`` is again valid.

    Raises
    ------
    ValueError
        If the Dataset holds something else, or was written by a newer version.

    Examples
    --------
    >>> from jana_pymc.tasks import ddm
    >>> simulations = ddm.ddm(n_obs=(2, 3)).simulate(4, random_seed=1, progressbar=False)
    >>> simulations.parameters.shape, simulations[:2].batch().observables.shape
    ((4, 4), (2, 3, 2))
    """

    dataset: xr.Dataset

    def __post_init__(self) -> None:
        _check_attributes(self.dataset.attrs, "the Dataset")

    @classmethod
    def from_arrays(
        cls,
        parameters: Mapping[str, NDArray[Any]],
        observables: Mapping[str, NDArray[Any]],
        conditions: Mapping[str, NDArray[Any]],
        n_obs: NDArray[Any],
        *,
        layout: ParameterLayout,
        schema: DataSchema,
        source: str,
        failures: FailureReport,
        prior: Sequence[str] | None = None,
    ) -> Simulations:
        """Build the Dataset.

        Parameters
        ----------
        parameters : mapping of str to ndarray, shape ``(simulations, *shape)``
        observables, conditions : mapping of str to ndarray, shape ``(simulations, obs, *shape)``
            Without the axis ``obs`` for vectors.
        n_obs : ndarray of int, shape (simulations,)
        layout : ParameterLayout
        schema : DataSchema
        source : str
            ``"prior"``, ``"proposal"`` or ``"given"``.
        failures : FailureReport
        prior : sequence of str, optional
            Digest of the prior that the parameters were drawn from, as of `PyMCPrior.digest`.

        Returns
        -------
        Simulations
        """
        variables: dict[str, Any] = {
            name: (("simulation", *layout.dim_names(name)), values)
            for name, values in parameters.items()
        }
        kinds = {**schema.observables, **schema.conditions}
        obs = () if schema.structure == "vector" else ("obs",)
        variables |= {
            name: (("simulation", *obs, *unnamed_dims(name, len(kinds[name].shape))), values)
            for name, values in {**observables, **conditions}.items()
        }
        variables["n_obs"] = (("simulation",), np.asarray(n_obs, dtype=np.int64))
        attributes = {
            "format": FORMAT,
            "version": VERSION,
            "source": source,
            "layout": json.dumps(layout.to_dict()),
            "schema": json.dumps(schema.to_dict()),
            "failures": json.dumps(failures.to_dict()),
        }
        if prior is not None:
            attributes["prior"] = json.dumps(list(prior))
        used = {dim for name in layout.names for dim in layout.dim_names(name)}
        coords = {dim: list(labels) for dim, labels in layout.coords.items() if dim in used}
        return cls(xr.Dataset(variables, coords=coords, attrs=attributes))

    @cached_property
    def layout(self) -> ParameterLayout:
        """Names, shapes, dims and coords of the parameters."""
        return ParameterLayout.from_dict(json.loads(self.dataset.attrs["layout"]))

    @cached_property
    def schema(self) -> DataSchema:
        """Declaration of the data sets."""
        return DataSchema.from_dict(json.loads(self.dataset.attrs["schema"]))

    @cached_property
    def failures(self) -> FailureReport:
        """How many simulations failed, and are not here."""
        return FailureReport.from_dict(json.loads(self.dataset.attrs["failures"]))

    @property
    def source(self) -> str:
        """Where the parameters are from: ``"prior"``, ``"proposal"``, or ``"given"``."""
        return self.dataset.attrs["source"]

    @property
    def prior(self) -> list[str] | None:
        """Digest of the prior that the parameters were drawn from; None if it is not known."""
        prior = self.dataset.attrs.get("prior")
        return None if prior is None else json.loads(prior)

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Parameters, flattened as the layout says, shape (simulations, size)."""
        return self.layout.flatten({name: self.dataset[name].values for name in self.layout.names})

    def batch(self, *, pad: bool = False) -> DataBatch:
        """Data sets in the form that networks take.

        Parameters
        ----------
        pad : bool
            Put NaN in place of the observations beyond each set's `n_obs`. By default they are
            kept: they are as good as the others, and training may choose among all.

        Returns
        -------
        DataBatch
        """
        n_obs = self.dataset["n_obs"].values.copy()
        observables = self._stack(self.schema.observables)
        conditions = self._stack(self.schema.conditions)
        if pad:
            beyond = np.arange(observables.shape[1]) >= n_obs[:, None]
            observables[beyond] = np.nan
            conditions[beyond] = np.nan
        return DataBatch(observables, conditions, n_obs)

    def __len__(self) -> int:
        return self.dataset.sizes["simulation"]

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Simulations:
        """Some of the simulations, by a slice or an array of positions."""
        if isinstance(index, (int, np.integer)):
            raise TypeError(f"simulations are indexed by a slice or array; write [[{index}]].")
        return Simulations(self.dataset.isel(simulation=index))

    @classmethod
    def concat(cls, simulations: Sequence[Simulations]) -> Simulations:
        """Join simulations of the same model and source.

        Parameters
        ----------
        simulations : sequence of Simulations

        Returns
        -------
        Simulations
            In the order in which they were given.

        Raises
        ------
        ValueError
            If there are none, or their parameters, data, sources or priors differ.
        """
        if not simulations:
            raise ValueError("there are no simulations to join.")
        first = simulations[0]
        for what in ("layout", "schema", "source"):
            if any(getattr(other, what) != getattr(first, what) for other in simulations):
                raise ValueError(f"simulations to be joined must have the same {what}.")
        priors = [each.prior for each in simulations]
        if any(a != b for a, b in pairwise(prior for prior in priors if prior is not None)):
            raise ValueError("simulations to be joined must have the same prior.")
        variables = {
            name: (variable.dims, np.concatenate([s.dataset[name].values for s in simulations]))
            for name, variable in first.dataset.data_vars.items()
        }
        failures = reduce(add, (each.failures for each in simulations))
        attributes = {**first.dataset.attrs, "failures": json.dumps(failures.to_dict())}
        if None in priors:
            attributes.pop("prior", None)  # it is not known of all
        return cls(xr.Dataset(variables, first.dataset.coords, attributes))

    def save(self, path: str | Path) -> Path:
        """Save to netCDF or Zarr; an older file stays whole until the new one is.

        Parameters
        ----------
        path : str or Path
            Ends in ``.nc`` or ``.zarr``.

        Returns
        -------
        Path

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        ValueError
            If the path ends in something else.
        """
        path = Path(path)
        _check_suffix(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to save to; make it.")
        with replacing(path) as aside:
            if path.suffix == ".nc":
                self.dataset.to_netcdf(aside, engine="h5netcdf")
            else:
                # Version 2 of the format: in version 3 text labels are not standardised yet.
                self.dataset.to_zarr(aside, mode="w", zarr_format=2, consolidated=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Simulations:
        """Load what :meth:`save` wrote.

        Parameters
        ----------
        path : str or Path
            Ends in ``.nc`` or ``.zarr``.

        Returns
        -------
        Simulations

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it cannot be read, holds no simulations, or was written by a newer version.
        """
        path = Path(path)
        _check_suffix(path)
        if not path.exists():
            raise FileNotFoundError(f"no file {str(path)!r}.")
        engine = "h5netcdf" if path.suffix == ".nc" else "zarr"
        try:
            with xr.open_dataset(path, engine=engine) as file:
                dataset = file.load()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ValueError(
                f"{str(path)!r} cannot be read ({error}); it may be truncated or no {path.suffix} "
                "file."
            ) from error
        _check_attributes(dataset.attrs, repr(str(path)))
        return cls(dataset)

    def _stack(self, kinds: Mapping[str, Observable]) -> NDArray[np.float64]:
        n_obs = 1 if self.schema.structure == "vector" else self.dataset.sizes["obs"]
        sizes = {name: math.prod(kind.shape) for name, kind in kinds.items()}
        stacked = np.empty((len(self), n_obs, sum(sizes.values())))
        start = 0
        for name, size in sizes.items():
            flat = self.dataset[name].values.reshape(len(self), n_obs, size)
            stacked[..., start : start + size] = flat
            start += size
        return stacked


def _check_attributes(attributes: Mapping[Any, Any], what: str) -> None:
    if attributes.get("format") != FORMAT:
        raise ValueError(f"{what} holds no simulations of jana_pymc.")
    if int(attributes["version"]) > VERSION:
        raise ValueError(
            f"{what} has version {attributes['version']} of the format, but this jana_pymc reads "
            f"up to {VERSION}; install a newer one."
        )


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"the file must end in .nc or .zarr, got {str(path)!r}.")
