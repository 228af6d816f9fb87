"""Smooth clamps: increasing maps of the real line into an interval, the identity near zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def atan_clamp(x: Tensor, bound: float) -> Tensor:
    """Into (-bound, bound) by the arctangent, which nears its ends slowly and keeps gradients."""
    return (2.0 * bound / math.pi) * torch.atan(x * (math.pi / (2.0 * bound)))


def tanh_clamp(x: Tensor, bound: float) -> Tensor:
    """Into (-bound, bound) by the hyperbolic tangent, which is nearer the identity, then flat."""
    return bound * torch.tanh(x / bound)
