"""The bias of a likelihood network's score, learned from the simulator."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from jana_pymc.approximators.parameters import check_given
from jana_pymc.checks import check_count
from jana_pymc.declarations import check_declared, declared
from jana_pymc.pytensor import ScoreCorrection
from jana_pymc.pytensor.score_correction import fitted, n_coefficients
from jana_pymc.simulation import GenerativeModel, Simulations, seed_sequence
from jana_pymc.slices import slices
from jana_pymc.threads import one_thread
from jana_pymc.trained_likelihood import TrainedLikelihood

ROWS_AT_ONCE = 100_000
"""Observations whose scores are computed at once, which bounds the memory."""

ENOUGH = 10
"""Simulations needed per coefficient of a correction of degree 2, and per parameter at least."""

MOST_FAILED = 0.05
"""Share of failed simulations above which the successful ones are a biased selection."""


def score_correction(
    likelihood: TrainedLikelihood,
    parameters: Mapping[str, ArrayLike],
    model: GenerativeModel,
    *,
    n_simulations: int = 10_000,
    random_seed: int | np.random.Generator | None = None,
    progressbar: bool = True,
) -> ScoreCorrection:
    """See `LikelihoodApproximator.score_correction`."""
    size = likelihood.layout.size
    why = f"for {size} parameters, {ENOUGH} for each"
    check_count("n_simulations", n_simulations, ENOUGH * size, why)
    _check_model(likelihood, model)
    theta, known = _points(likelihood, parameters)
    for_points, for_simulations = seed_sequence(random_seed).spawn(2)
    # Whole rounds of all points, so that each counts equally, and a random choice for the rest.
    order = np.random.default_rng(for_points).permutation(len(theta))
    chosen = np.resize(order, n_simulations)
    simulations, given = simulate(
        model, theta[chosen], known[chosen], for_simulations, progressbar=progressbar
    )
    failures = simulations.failures
    if failures.n_failed > MOST_FAILED * n_simulations:
        # E[∇ log p] = 0 holds over all data sets, not over the successful ones alone.
        raise ValueError(
            f"{failures} Beyond {MOST_FAILED:.0%} the others are a selection of data sets, over "
            "which even a true likelihood has no mean score of zero; mend the simulator, or "
            "choose parameters where it succeeds."
        )
    batch = simulations.batch()
    scores = mean_scores(likelihood, batch.observables, simulations.parameters, batch.conditions)
    coefficients = n_coefficients(theta.shape[1], known.shape[1])
    n_distinct = len(np.unique(np.concatenate([theta, known], 1), axis=0))
    enough = n_distinct > coefficients and len(scores) >= ENOUGH * coefficients
    return fitted(
        likelihood.content_hash,
        likelihood.layout.component_names,
        simulations.parameters,
        given,
        scores,
        n_obs=batch.observables.shape[1],
        degree=2 if enough else 1,
    )


def simulate(
    model: GenerativeModel,
    parameters: NDArray[np.float64],
    conditions: NDArray[np.float64],
    random_seed: np.random.SeedSequence,
    *,
    progressbar: bool,
) -> tuple[Simulations, NDArray[np.float64]]:
    """One data set for each vector of parameters, all its observations under the same conditions.

    Returns
    -------
    simulations : Simulations
        Successful simulations.
    conditions : ndarray, shape (simulations, conditions)
        Conditions of each simulation.
    """
    schema = model.schema
    if schema.conditions:
        remaining = iter(conditions)

        def design(rng: np.random.Generator, n_obs: int = 1) -> Mapping[str, Any]:
            values = np.broadcast_to(next(remaining), (1, n_obs, conditions.shape[1]))
            split = schema.split_batch(values, schema.conditions)
            return {name: each[0] for name, each in split.items()}

        # Without an executor data sets are made one after the other, each with its own design.
        model = copy.copy(model)
        model.design = design
    simulations = model.simulate(
        parameters=parameters, random_seed=random_seed, progressbar=progressbar
    )
    return simulations, simulations.batch().conditions[:, 0]


def mean_scores(
    likelihood: TrainedLikelihood,
    observables: NDArray[np.float64],
    parameters: NDArray[np.float64],
    conditions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Mean over each data set of ∇ log l(x | θ).

    Parameters
    ----------
    observables : ndarray, shape (sets, n_obs, components)
    parameters : ndarray, shape (sets, parameters)
    conditions : ndarray, shape (sets, n_obs, conditions)

    Returns
    -------
    ndarray, shape (sets, parameters)

    Raises
    ------
    ValueError
        If a simulated observation is impossible for the network.
    """
    sets, n_obs, _ = observables.shape
    parts = []
    for part in slices(sets, n_obs, ROWS_AT_ONCE):
        theta = torch.tensor(parameters[part]).requires_grad_()
        known = torch.tensor(conditions[part]).flatten(0, 1) if conditions.shape[-1] else None
        group = torch.arange(len(theta)).repeat_interleave(n_obs)
        with one_thread(), torch.enable_grad():
            rows = torch.tensor(observables[part]).flatten(0, 1)
            log_prob = likelihood.network.log_prob_rows(rows, theta, group, known)
            impossible = int((~torch.isfinite(log_prob)).sum())
            if impossible:
                raise ValueError(
                    f"{impossible} of {len(rows)} simulated observations have no density under "
                    "the likelihood network; its score is infinite there."
                )
            (slope,) = torch.autograd.grad(log_prob.sum(), theta)
        parts.append(slope.numpy() / n_obs)
    return np.concatenate(parts)


def _points(
    likelihood: TrainedLikelihood, given: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters, shape (points, size), and conditions, (points, conditions), of the user's."""
    layout, kinds = likelihood.layout, likelihood.schema.conditions
    if not isinstance(given, Mapping):
        raise TypeError(
            f"parameters is {type(given).__name__}; expected a mapping of names to arrays, as of "
            "posterior means or as row_parameters returns it."
        )
    wanted = {**layout.shapes, **{name: kind.shape for name, kind in kinds.items()}}
    check_given("expected values of", wanted, given)
    arrays = {name: np.asarray(given[name], dtype=float) for name in wanted}
    for name, array in arrays.items():
        if not array.size:
            raise ValueError(
                f"{name!r} is empty, of shape {array.shape}; expected at least one point, such as "
                "posterior draws or their mean."
            )
    leads = {name: arrays[name].shape[: arrays[name].ndim - len(s)] for name, s in wanted.items()}
    try:
        lead = np.broadcast_shapes(*leads.values())
    except ValueError as error:
        sizes = ", ".join(f"{name} {shape}" for name, shape in leads.items())
        raise ValueError(f"parameters have differing numbers of values: {sizes}.") from error
    flat = []
    for name, shape in wanted.items():
        if arrays[name].shape[len(leads[name]) :] != shape:
            raise ValueError(
                f"{name!r} has shape {arrays[name].shape}; expected to end in {shape}."
            )
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name!r} is NaN or infinite.")
        full = np.broadcast_to(arrays[name], (*lead, *shape))
        flat.append(full.reshape(math.prod(lead), math.prod(shape)))
    joined = np.concatenate(flat, axis=1)
    theta, known = joined[:, : layout.size], joined[:, layout.size :]
    low, high = likelihood.region
    outside = (theta < low) | (theta > high)
    if outside.any():
        name = layout.component_names[int(np.argmax(outside.any(0)))]
        raise ValueError(
            f"parameter {name!r} leaves the trained region in {int(outside.any(1).sum())} of "
            f"{len(theta)} vectors: the density is zero there."
        )
    return theta, known


def _check_model(likelihood: TrainedLikelihood, model: Any) -> None:
    """The model must simulate what the likelihood is of."""
    if not isinstance(model, GenerativeModel):
        raise TypeError(
            f"model is {type(model).__name__}; the correction needs the GenerativeModel, since it "
            "is learned from the simulator. jana_pymc.load(path, model) keeps it."
        )
    if "markovian" in (likelihood.schema.structure, model.schema.structure):
        raise ValueError(
            "sequences have no score correction: their score depends on their length. "
            "Exchangeable observations and vectors do."
        )
    if model.schema.conditions and model.design is None:
        raise ValueError(
            f"the model's conditions ({', '.join(model.schema.conditions)}) come about in the "
            "simulator, which cannot be given those of the observations: there is no score "
            "correction of this model."
        )
    named = likelihood.network.observables_are_declared
    check_declared(
        declared(model.layout, model.schema, named=named),
        declared(likelihood.layout, likelihood.schema, named=named),
        "the model's",
        "the likelihood's",
        "give the model that the likelihood was trained on",
    )
