"""Draws of the future of a sequence, given its past (Eq. 15)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from jana_pymc import inference_data
from jana_pymc.approximators.surrogate import checked_conditions, joined_conditions
from jana_pymc.checks import check_count
from jana_pymc.declarations import check_approximator
from jana_pymc.refinement import Refinement
from jana_pymc.simulation import DataBatch, ParameterLayout, random_generator
from jana_pymc.simulation.schema import is_many
from jana_pymc.warning import warn

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator


def forecast(
    approximator: JointApproximator,
    data: Any,
    ahead: int,
    *,
    conditions: Any = None,
    posterior: inference_data.ArviZData | None = None,
    dataset_dim: str = "dataset",
    draws: int = 1000,
    chains: int = 4,
    refine: Refinement = "none",
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> inference_data.ArviZData:
    r"""Draw the continuation of each sequence: counts, categories or real numbers.

    The likelihood network continues the sequence step by step, once for each posterior draw:

    .. math::

        x_{T+1:T+A} \sim l(\cdot \mid x_{1:T}, \theta_s), \quad
        \theta_s \sim q(\theta \mid x_{1:T})

    `leave_future_out` estimates how good such forecasts are.

    Parameters
    ----------
    approximator : JointApproximator
        A pair for a model with ``structure="markovian"``.
    data : mapping, DataFrame, Dataset, or sequence of these
        The past of one sequence or of many, as for `JointApproximator.sample`.
    ahead : int
        Observations to draw.
    conditions : mapping of str to array, shape (ahead, ...) or (sets, ahead, ...), optional
        Known conditions of the future, if the model has any; those of the past are in `data`.
    posterior : InferenceData or DataTree, optional
        Draws of all parameters by another sampler, such as `pm.sample`. By default they come from
        `JointApproximator.sample`.
    dataset_dim : str
        Dimension of `posterior` along which parameters differ between data sets, such as the sites
        of a hierarchical model, in the order of `data`. Parameters without it are shared.
    draws, chains, refine, progressbar
        As for `JointApproximator.sample`; ignored with `posterior`.
    random_seed : int or Generator, optional

    Returns
    -------
    InferenceData or DataTree
        Groups "posterior", "observed_data", and "predictions" with the dimensions (chain, draw,
        [dataset], ahead); ``ahead`` counts from 1. Conditions, if there are any, are in
        "constant_data" and, those of the future, in "predictions_constant_data".

    Raises
    ------
    TypeError
        If `approximator` is no pair, `posterior` is no ArviZ data, or conditions are missing or
        not expected.
    ValueError
        If the data are no sequences or do not fit the declaration, past and future are longer than
        the likelihood allows, or `posterior` lacks a parameter, has another number of data sets, or
        has dimensions that are neither theirs nor the parameters' own.

    Warns
    -----
    UserWarning
        If past and future together are longer than the sequences in training; and as
        `JointApproximator.sample`.

    See Also
    --------
    jana_pymc.plots.plot_forecast : The past, and bands of the future.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 15.
    """
    check_approximator(approximator)
    check_count("ahead", ahead)
    schema, rng = approximator.schema, random_generator(random_seed)
    if not schema.is_sequence:
        raise ValueError(
            f"the data are declared {schema.structure!r}, which has no future. New data with the "
            "same parameters are in the group 'posterior_predictive' of JointApproximator.sample."
        )
    known = joined_conditions(conditions, schema)
    if posterior is None:  # `sample` reads the data again, and warns of them
        batch = schema.batch(data, check_n_obs=False)
    else:
        batch = approximator.posterior.batch(data, check_n_obs=False)
    _check_reach(approximator, int(batch.n_obs.max()), ahead)
    if known is not None:
        known = checked_conditions(
            known, approximator.likelihood.network, schema, np.full(len(batch), ahead)
        )
    if posterior is None:
        made = approximator.sample(
            data,
            draws=draws,
            chains=chains,
            groups=("posterior",),
            refine=refine,
            random_seed=rng,
            progressbar=progressbar,
        )
        drawn, dataset_dim = inference_data.posterior_of(made), "dataset"
    else:
        drawn = inference_data.posterior_of(posterior)
    theta = _parameters(approximator.layout, drawn, len(batch), dataset_dim)
    single = len(batch) == 1 and not is_many(data)
    future = _continued(approximator, batch, theta, ahead, known, rng)
    groups = {
        "posterior": drawn,
        "predictions": _ahead(future[0] if single else future, schema.observables),
        "observed_data": inference_data.observable_dataset(
            batch.observables[0] if single else batch.observables, schema.observables
        ),
    }
    if known is not None:
        before = batch.conditions[0] if single else batch.conditions
        groups["constant_data"] = inference_data.observable_dataset(before, schema.conditions)
        groups["predictions_constant_data"] = _ahead(
            known[0] if single else known, schema.conditions
        )
    return inference_data.to_inference_data(groups)


def _check_reach(approximator: JointApproximator, n_past: int, ahead: int) -> None:
    """Refuse what the likelihood cannot continue, and warn of what it was not trained on."""
    network, longest = approximator.likelihood.network, approximator.schema.n_obs[1]
    if "past" not in inspect.signature(network.sample).parameters:
        raise ValueError(
            f"{type(network).__name__} cannot continue a sequence: its sample() takes no past."
        )
    total = n_past + ahead
    if total <= longest:
        return
    what = f"past and future have {n_past} + {ahead} time points; the pair was trained on {longest}"
    if network.n_steps is not None:
        raise ValueError(
            f"{what} at most, and this likelihood ends there. Take a smaller `ahead`, or train on "
            "longer sequences (GenerativeModel(n_obs=...))."
        )
    warn(
        f"{what} at most: beyond that the forecast is an extrapolation. Train on longer sequences "
        "(GenerativeModel(n_obs=(fewest, most)))."
    )


def _parameters(
    layout: ParameterLayout, posterior: xr.Dataset, n_sets: int, dataset_dim: str
) -> np.ndarray:
    """Draws for each data set, shape (sets, chains, draws, size)."""
    missing = [name for name in layout.names if name not in posterior]
    if missing:
        raise ValueError(
            f"posterior lacks {', '.join(missing)}; it holds {', '.join(map(str, posterior))}. "
            "Rename its variables to the parameters of the model, or draw from the pair's own."
        )
    values = {}
    for name, shape in layout.shapes.items():
        array = posterior[name]
        first = (dim for dim in ("chain", "draw", dataset_dim) if dim in array.dims)
        array = array.transpose(*first, ...)
        leading = array.dims[: array.ndim - len(shape)]
        other = set(leading) - {"chain", "draw", dataset_dim}
        if other or not {"chain", "draw"} <= set(leading):
            advice = "".join(
                f" Say dataset_dim={dim!r} if that counts the data sets, in their order, or select "
                f"one: posterior.sel({dim}=...)."
                for dim in other
            )
            raise ValueError(
                f"posterior[{name!r}] has the dimensions {', '.join(map(str, array.dims))}; "
                f"expected chain, draw, perhaps {dataset_dim!r}, and {len(shape)} of its "
                f"own.{advice}"
            )
        if posterior.sizes.get(dataset_dim, n_sets) != n_sets:
            raise ValueError(
                f"posterior has {posterior.sizes[dataset_dim]} data sets along {dataset_dim!r}, "
                f"but data are {n_sets}; expected the draws of each."
            )
        if dataset_dim not in leading:
            array = array.expand_dims({dataset_dim: n_sets})
        values[name] = array.transpose(dataset_dim, "chain", "draw", ...).to_numpy()
    return layout.flatten(values)


def _continued(
    approximator: JointApproximator,
    batch: DataBatch,
    theta: np.ndarray,
    ahead: int,
    known: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Futures of each sequence, shape (sets, chains, draws, ahead, components)."""
    n_sets, chains, draws, _ = theta.shape
    n_components = batch.observables.shape[-1]
    future = np.empty((n_sets, chains, draws, ahead, n_components))
    for i, n_past in enumerate(batch.n_obs):
        conditions = None
        if known is not None:
            conditions = np.concatenate([batch.conditions[i, :n_past], known[i]])
            conditions = np.broadcast_to(conditions, (chains * draws, *conditions.shape))
        past = batch.observables[i, :n_past]
        future[i] = approximator.likelihood.simulate(
            theta[i].reshape(chains * draws, -1),
            ahead,
            conditions=conditions,
            past=np.broadcast_to(past, (chains * draws, *past.shape)),
            random_seed=rng,
        ).reshape(future.shape[1:])
    return future


def _ahead(values: np.ndarray, kinds: Any) -> xr.Dataset:
    """Values by name, with a dimension of their own for time, which goes on from the past."""
    dataset = inference_data.observable_dataset(values, kinds).rename(obs="ahead")
    return dataset.assign_coords(ahead=1 + np.arange(dataset.sizes["ahead"]))
