"""Sequences as tensors: values some steps earlier, and rows of one sequence after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def shifted(values: Shaped[Tensor, "sets obs f"], steps: int) -> Shaped[Tensor, "sets obs f"]:
    """Values so many steps earlier, zero (or false) before the beginning."""
    n = max(values.shape[1] - steps, 0)
    start = torch.zeros_like(values[:, : values.shape[1] - n])
    return torch.cat([start, values[:, :n]], 1)


def within_groups(
    log_prob: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    observables: Float[Tensor, "rows c"],
    parameters: Float[Tensor, "groups p"],
    group: Int[Tensor, " rows"],
    conditions: Float[Tensor, "rows k"] | None = None,
) -> Float[Tensor, " rows"]:
    """Evaluate rows that are time points of one sequence after the other.

    Parameters
    ----------
    log_prob : callable
        From observables (sets, obs, components), shorter sequences ending in NaN, parameters
        (sets, p) and conditions to log densities (sets, obs).
    observables : Tensor, shape (rows, components)
    parameters : Tensor, shape (groups, parameters)
        Of each sequence.
    group : Tensor of int, shape (rows,)
        Row of ``parameters`` for each time point. A new sequence begins where it changes.
    conditions : Tensor, shape (rows, conditions), optional

    Returns
    -------
    Tensor, shape (rows,)
    """
    if not len(group):
        return observables.new_zeros(0)
    begins = torch.ones_like(group, dtype=torch.bool)
    begins[1:] = group[1:] != group[:-1]
    sequence = begins.cumsum(0) - 1
    first = begins.nonzero()[:, 0]
    time = torch.arange(len(group), device=group.device) - first[sequence]
    shape = (len(first), int(time.max()) + 1)

    def padded(rows: Tensor) -> Tensor:
        full = rows.new_full((*shape, rows.shape[-1]), torch.nan)
        return full.index_put((sequence, time), rows)

    known = None if conditions is None else padded(conditions)
    return log_prob(padded(observables), parameters[group[first]], known)[sequence, time]
