"""The ArviZ groups of amortized draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from jana_pymc import inference_data
from jana_pymc.refinement import log_likelihood_of
from jana_pymc.simulation import DataBatch, Observable, ParameterLayout

if TYPE_CHECKING:
    from jana_pymc.approximators.joint import JointApproximator

GROUPS = ("posterior", "log_likelihood", "posterior_predictive", "prior", "observed_data")
NOT_OBSERVED = ("chain", "draw", "dataset", "obs")
"""Dimensions of the log-likelihood, whose names its variable cannot have."""


class Drawn(NamedTuple):
    """Draws from the posterior of each data set, with statistics and attributes.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, chains · draws, unconstrained)
    parameters : ndarray, shape (sets, chains · draws, parameters)
        The same, constrained.
    statistics : dict of str to ndarray, shape (sets, chains · draws)
        Statistics of each draw.
    attributes : dict
        Attributes of all draws together.
    """

    unconstrained: np.ndarray
    parameters: np.ndarray
    statistics: dict[str, np.ndarray]
    attributes: dict[str, Any]


def check_groups(groups: Any) -> None:
    """Ask for names of groups, at least one.

    Raises
    ------
    TypeError
        If they are no sequence of strings.
    ValueError
        If there is none, or one is unknown.
    """
    one = isinstance(groups, str)
    if one or not isinstance(groups, Sequence):
        example = groups if one else "posterior"
        raise TypeError(f"groups={groups!r}: expected a sequence of names, ({example!r},).")
    if not all(isinstance(name, str) for name in groups):
        raise TypeError(f"groups={groups!r}: expected names, of {list(GROUPS)}.")
    if not groups:
        raise ValueError(f"groups={groups!r} is empty; choose from {list(GROUPS)}.")
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise ValueError(f"groups={unknown} are unknown; choose from {list(GROUPS)}.")


def check_observed_name(name: Any, layout: ParameterLayout) -> None:
    """Ask for a name that log-likelihoods can have beside parameters and dimensions.

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If a parameter or a dimension has it.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"observed_name={name!r}: expected the name of a variable, a string such as 'y'."
        )
    taken = "a parameter" if name in layout.names else "a dimension"
    if name in (*layout.names, *NOT_OBSERVED):
        raise ValueError(f"observed_name={name!r} is the name of {taken}; choose another.")


def groups_of_draws(
    approximator: JointApproximator,
    batch: DataBatch,
    drawn: Drawn,
    groups: Sequence[str],
    *,
    observed_name: str,
    chains: int,
    single: bool,
    rng: np.random.Generator,
) -> dict[str, xr.Dataset]:
    """Datasets for `to_inference_data`, one for each requested group.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    drawn : Drawn
    groups, observed_name, chains
        As for `JointApproximator.sample`.
    single : bool
        Whether the one data set of the batch gets no dimension "dataset".
    rng : Generator

    Returns
    -------
    dict of str to Dataset
    """
    schema, layout, prior = approximator.schema, approximator.layout, approximator.prior

    def chained(values: np.ndarray) -> np.ndarray:
        values = inference_data.split_chains(values, chains)
        return values[0] if single else values

    def observations(
        values: np.ndarray, kinds: Mapping[str, Observable] = schema.observables
    ) -> xr.Dataset:
        return inference_data.observable_dataset(values, kinds, structure=schema.structure)

    result = {}
    if "posterior" in groups:
        result["posterior"] = inference_data.parameter_dataset(chained(drawn.parameters), layout)
    if "log_likelihood" in groups:
        pointwise = _pointwise(approximator, batch, drawn.parameters)
        lp = prior.log_prob(drawn.unconstrained) + np.nansum(pointwise, -1)
        result["sample_stats"] = inference_data.sample_stats_dataset(
            {name: chained(values) for name, values in {"lp": lp, **drawn.statistics}.items()}
        ).assign_attrs(drawn.attributes)
        result["log_likelihood"] = inference_data.log_likelihood_dataset(
            chained(pointwise), observed_name
        )
    if "posterior_predictive" in groups:
        predictive = _predictive(approximator, batch, drawn.parameters, rng)
        result["posterior_predictive"] = observations(chained(predictive))
    if "prior" in groups:
        draws = drawn.parameters.shape[1] // chains
        result["prior"] = inference_data.parameter_dataset(prior.draw(draws, rng)[None], layout)
    if "observed_data" in groups:
        data, known = (
            each[0] if single else each for each in (batch.observables, batch.conditions)
        )
        result["observed_data"] = observations(data)
        if schema.conditions:
            result["constant_data"] = observations(known, schema.conditions)
    return result


def _pointwise(
    approximator: JointApproximator, batch: DataBatch, parameters: np.ndarray
) -> np.ndarray:
    """Log densities of each data set's observations under its own draws, NaN for padding."""
    sets, draws, _ = parameters.shape
    result = np.full((sets, draws, batch.observables.shape[1]), np.nan)
    for i, n in enumerate(batch.n_obs):
        result[i, :, :n] = log_likelihood_of(approximator, batch, i, parameters[i])
    return result


def _predictive(
    approximator: JointApproximator,
    batch: DataBatch,
    parameters: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Surrogate data sets of each draw, padded like the observed ones."""
    sets, draws, _ = parameters.shape
    result = np.full((sets, draws, *batch.observables.shape[1:]), np.nan)
    for i, n in enumerate(batch.n_obs):
        conditions = batch.conditions[i : i + 1, :n] if batch.conditions.shape[-1] else None
        if conditions is not None:
            conditions = np.broadcast_to(conditions, (draws, *conditions.shape[1:]))
        result[i, :, :n] = approximator.likelihood.simulate(
            parameters[i], int(n), conditions=conditions, random_seed=rng
        )
    return result
