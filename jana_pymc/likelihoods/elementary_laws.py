"""Elementary laws of which likelihoods are made: the standard normal, and categories."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def log_normal(z: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Log density of the standard normal distribution."""
    return -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)


def draw_category(
    log_probs: Float[Tensor, "*batch n"], uniform: Float[Tensor, "*batch n"]
) -> Int[Tensor, "*batch"]:
    """Draw categories by the Gumbel-max trick, which needs no cumulative probabilities.

    Parameters
    ----------
    log_probs : Tensor, shape (..., n)
    uniform : Tensor, shape (..., n)
        Uniform numbers inside (0, 1).
    """
    return (log_probs - torch.log(-torch.log(uniform))).argmax(-1)
