"""Cross-validation in ArviZ: its result object, and its wrapper for refits."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import arviz as az
import numpy as np
import xarray as xr

from jana_pymc.declarations import check_approximator
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.inference_data import ArviZData, to_groups, to_inference_data
from jana_pymc.refinement import Refinement
from jana_pymc.simulation import random_generator
from jana_pymc.simulation.observables import split_components

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.simulation import DataSchema


def to_elpd_data(
    elpd_i: np.ndarray, lpd_i: np.ndarray, pareto_k: np.ndarray, *, n_samples: int
) -> Any:
    """Build the installed ArviZ's result of `arviz.loo` from terms computed elsewhere.

    Parameters
    ----------
    elpd_i, lpd_i, pareto_k : ndarray, shape (obs,)
        Cross-validated and in-sample log densities, and the reliability of the former.
    n_samples : int

    Returns
    -------
    ELPDData
    """
    n = len(elpd_i)
    threshold = pareto_k_threshold(n_samples)
    result = _template(n)
    terms = {"elpd_i": elpd_i, "pareto_k": pareto_k}
    values: dict[str, Any] = {
        "elpd": float(elpd_i.sum()),
        "se": float(np.sqrt(n * np.var(elpd_i))),
        "p": float(lpd_i.sum() - elpd_i.sum()),
        "n_samples": n_samples,
        "n_data_points": n,
        "warning": bool((pareto_k > threshold).any()),
        "good_k": threshold,
    }
    for name, array in terms.items():
        values[name] = xr.DataArray(array, dims="obs", coords={"obs": np.arange(n)})
    former = {"elpd": "elpd_loo", "p": "p_loo", "elpd_i": "loo_i"}
    for name, value in values.items():
        old = former.get(name, name)
        result[old if hasattr(result, old) else name] = value
    if hasattr(result, "log_weights"):
        result["log_weights"] = None  # terms rest on several sets of draws, not on one
    return result


def _template(n: int) -> Any:
    """Object made by ArviZ from arbitrary numbers, since its fields differ between versions."""
    noise = np.random.default_rng(0).normal(scale=0.1, size=(4, 100, n))
    dims = ("chain", "draw", "obs")
    posterior = xr.Dataset({"unused": (dims[:2], noise[..., 0])})
    likelihood = xr.Dataset({"y": (dims, noise)})
    coords = {"chain": np.arange(4), "draw": np.arange(100)}
    groups = {
        "posterior": posterior.assign_coords(coords),
        "log_likelihood": likelihood.assign_coords({**coords, "obs": np.arange(n)}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return az.loo(to_inference_data(groups), pointwise=True)


def check_exchangeable(schema: DataSchema) -> None:
    """Refuse data from which single observations cannot be left out.

    Raises
    ------
    ValueError
        If the observations are not exchangeable.
    """
    if schema.structure == "exchangeable":
        return
    future = "; of a sequence take leave_future_out" if schema.structure == "markovian" else ""
    raise ValueError(
        f"the data are declared {schema.structure!r}: single observations can be left out of "
        f"exchangeable data only{future}."
    )


class AmortizedRefit(az.SamplingWrapper):
    """Sampling wrapper for `arviz.reloo` that refits by the amortized posterior.

    ``az.reloo(AmortizedRefit(approximator, data, idata))`` replaces the terms of `arviz.loo` whose
    k̂ is high, in milliseconds each.

    Parameters
    ----------
    approximator : JointApproximator
    data : mapping or DataFrame
        One data set.
    idata : InferenceData or DataTree
        Posterior of the data set with a group "log_likelihood", from `JointApproximator.sample` or
        from NUTS.
    draws, chains : int
        Draws and chains of each refit.
    refine : {"none", "pooled", "psis", "nuts", "auto"}
        See `JointApproximator.sample`.
    random_seed : int or Generator, optional

    Raises
    ------
    TypeError
        If `approximator` is no pair.
    ValueError
        If the data are not exchangeable, there is more than one data set, or it does not fit the
        declared observables.
    """

    def __init__(
        self,
        approximator: JointApproximator,
        data: Any,
        idata: ArviZData,
        *,
        draws: int = 1000,
        chains: int = 4,
        refine: Refinement = "psis",
        random_seed: int | np.random.Generator | None = None,
    ):
        check_approximator(approximator)
        check_exchangeable(approximator.schema)
        super().__init__(approximator, idata_orig=idata)
        batch = approximator.schema.batch(data)
        if len(batch) != 1:
            raise ValueError(f"{len(batch)} data sets were given; a refit is of one at a time.")
        schema = approximator.schema
        self.columns = {
            **split_components(batch.observables[0], schema.observables),
            **split_components(batch.conditions[0], schema.conditions),
        }
        self.sample_kwargs = {"draws": draws, "chains": chains, "refine": refine}
        self.random_generator = random_generator(random_seed)

    def sel_observations(self, idx: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Split the data into those without and those with the given positions."""
        positions = next(iter(idx.values())) if isinstance(idx, dict) else idx
        chosen = np.zeros(len(next(iter(self.columns.values()))), dtype=bool)
        chosen[np.atleast_1d(np.asarray(positions))] = True
        return (
            {name: values[~chosen] for name, values in self.columns.items()},
            {name: values[chosen] for name, values in self.columns.items()},
        )

    def sample(self, modified_observed_data: dict[str, np.ndarray]) -> ArviZData:
        """Draw from the posterior of the remaining data."""
        approximator = self.model
        with warnings.catch_warnings():
            # One observation fewer than the smallest declared size: the weights account for it.
            warnings.filterwarnings("ignore", message="n_obs=")
            return approximator.sample(
                modified_observed_data,
                groups=("posterior",),
                random_seed=self.random_generator,
                progressbar=False,
                **self.sample_kwargs,
            )

    def get_inference_data(self, fitted_model: ArviZData) -> ArviZData:
        """`sample` returns it already."""
        return fitted_model

    def log_likelihood__i(
        self, excluded_obs: dict[str, np.ndarray], idata__i: ArviZData
    ) -> xr.DataArray:
        """Log density of the excluded observations under draws without them."""
        approximator = self.model
        posterior = to_groups(idata__i)["posterior"]
        layout = approximator.layout
        shape = (posterior.sizes["chain"], posterior.sizes["draw"])
        parameters = layout.flatten(
            {
                name: posterior[name].to_numpy().reshape(-1, *layout.shapes[name])
                for name in layout.names
            }
        )
        schema = approximator.schema
        observed = {name: excluded_obs[name] for name in schema.observables}
        known = {name: excluded_obs[name] for name in schema.conditions} or None
        values = approximator.likelihood.log_prob(observed, parameters, conditions=known).sum(1)
        return xr.DataArray(values.reshape(shape), dims=("chain", "draw"))
