"""Posterior draws of the parameters of single observations in a PyMC model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from pytensor.graph.traversal import ancestors
from pytensor.tensor.variable import TensorVariable

from jana_pymc.checks import check_count
from jana_pymc.distribution import NeuralLikelihoodRV
from jana_pymc.inference_data import ArviZData, posterior_of
from jana_pymc.simulation import random_generator, split_components

MOST_DRAWS = 200
"""Posterior draws that rows are taken from; the rows of one draw are evaluated together."""


def row_parameters(
    data: ArviZData,
    model: pm.Model | None = None,
    name: str | None = None,
    *,
    n_rows: int = 2_000,
    random_seed: int | np.random.Generator | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Posterior draws of the parameters of single observations, as the likelihood receives them.

    The model itself resolves hierarchies, regressions and groups: rows are the parameters of
    random observations (for vectors, data sets) under some of the posterior draws. They are the
    input of `JointApproximator.score_correction`.

    Parameters
    ----------
    data : InferenceData or DataTree
        With a group "posterior" of all free variables of the model, from any sampler.
    model : pymc.Model, optional
        By default the model on the context stack.
    name : str, optional
        Name of the neural likelihood in the model; needed if there are several.
    n_rows : int
    random_seed : int or Generator, optional

    Returns
    -------
    dict of str to ndarray, shape ``(n_rows, *shape)``
        Parameters, and conditions if there are any.

    Raises
    ------
    TypeError
        If `data`, `model` or `name` is of another type.
    ValueError
        If there is no such likelihood, no posterior, or the posterior lacks a variable.
    """
    check_count("n_rows", n_rows)
    _check_types(data, model, name)
    posterior = posterior_of(data)
    model = pm.modelcontext(model)
    likelihood = _likelihood(model, name)
    op, inputs = likelihood.owner.op, likelihood.owner.inputs[2:]
    values, known, _ = op.split(inputs)
    approximator = op.approximator
    schema, layout = approximator.schema, approximator.layout
    batch = tuple(likelihood.shape)[: likelihood.ndim - schema.event_dims]
    columns = [
        pt.broadcast_to(v, (*batch, *shape)).reshape((-1, int(np.prod(shape, dtype=int))))
        for v, shape in zip(values, layout.shapes.values(), strict=True)
    ]
    if known is not None:
        if schema.is_sequence:
            raise ValueError("conditions of a sequence differ within it; rows have none of theirs.")
        n_known = len(schema.condition_components)
        columns.append(pt.broadcast_to(known, (*batch, n_known)).reshape((-1, n_known)))
    rows = pt.concatenate([pt.cast(c, "float64") for c in columns], axis=1)
    drawn = _draws(model, rows, posterior, n_rows, random_generator(random_seed))
    result = layout.unflatten(drawn[:, : layout.size])
    if known is not None:
        result |= split_components(drawn[:, layout.size :], schema.conditions)
    return result


def _check_types(data: Any, model: Any, name: Any) -> None:
    """Each argument in its place."""
    if isinstance(data, pm.Model):
        swapped = "swapped with model" if model is not None else "the model"
        raise TypeError(f"data is {swapped}; call row_parameters(data, model).")
    if model is not None and not isinstance(model, pm.Model):
        raise TypeError(f"model is {type(model).__name__}; expected a pymc.Model.")
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"name is {type(name).__name__}; expected the name of a variable as a string, "
            "that the likelihood was called with."
        )


def _draws(
    model: pm.Model,
    rows: TensorVariable,
    posterior: xr.Dataset,
    n_rows: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Rows of posterior draws, evenly many of each, shape (n_rows, columns)."""
    above = set(ancestors([rows]))
    free = [rv for rv in model.free_RVs if rv in above]
    missing = [rv.name for rv in free if rv.name not in posterior]
    if missing:
        raise ValueError(f"the posterior lacks {', '.join(missing)}, which the likelihood needs.")
    draws = {}
    for rv in free:
        values = posterior[rv.name].transpose("chain", "draw", ...).to_numpy()
        draws[rv.name] = values.reshape(-1, *values.shape[2:])
    evaluate = pytensor.function(free, rows, on_unused_input="ignore", mode="FAST_COMPILE")
    total = len(next(iter(draws.values()))) if draws else 1
    chosen = rng.permutation(total)[: min(total, MOST_DRAWS, n_rows)]
    sizes = np.diff(np.linspace(0, n_rows, len(chosen) + 1).astype(int))
    parts = []
    for draw, size in zip(chosen, sizes, strict=True):
        values = evaluate(*(draws[rv.name][draw].astype(rv.dtype) for rv in free))
        # Each row as often as every other, as far as the number allows.
        parts.append(values[np.resize(rng.permutation(len(values)), size)])
    return np.concatenate(parts)


def _likelihood(model: pm.Model, name: str | None) -> TensorVariable:
    """The variable whose law is a neural likelihood, even if missing values are split off."""
    known = _likelihoods(model, model.observed_RVs)
    listed = f"its neural likelihoods are {', '.join(known)}" if known else "it has none"
    if name is None:
        found = known
    elif name in model.named_vars:
        found = _likelihoods(model, [model[name]])
    else:
        raise ValueError(f"the model has no variable {name!r}; {listed}.")
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ValueError(f"there are several likelihoods; name one: {', '.join(found)}.")
    if name is None:
        raise ValueError(
            "the model has no neural likelihood; call an approximator's likelihood in it, with "
            "observed=."
        )
    raise ValueError(f"{name!r} of the model is no neural likelihood; {listed}.")


def _likelihoods(model: pm.Model, variables: Iterable[Any]) -> dict[str, TensorVariable]:
    """Neural likelihoods among variables, by the names that the user gave them."""
    found = {}
    for variable in variables:
        for above in ancestors([variable]):
            if above.owner is not None and isinstance(above.owner.op, NeuralLikelihoodRV):
                # Where values are missing, PyMC joins the observed part under the user's name.
                joined = variable.name.removesuffix("_observed")
                found[joined if joined in model.named_vars else variable.name] = above
                break
    return found
