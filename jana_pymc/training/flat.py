"""Parameters in one piece: what treats them all alike is then one kernel, not one for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FlatParameters:
    """Parameters, and their gradients, as views of one vector each.

    The modules notice nothing. Gradients must be added to, not replaced: set them to zero by
    `gradient`, never to None.

    Parameters
    ----------
    parameters : sequence of Parameter
        Of one device and type.

    Attributes
    ----------
    value : Parameter, shape (size,)
        What an optimizer changes.
    gradient : Tensor, shape (size,)
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = list(parameters)
        sizes = [p.numel() for p in self.parameters]
        self.value = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self.parameters]))
        self.gradient = torch.zeros_like(self.value)
        values, gradients = (t.detach().split(sizes) for t in (self.value, self.gradient))
        for p, value, gradient in zip(self.parameters, values, gradients, strict=True):
            p.data = value.view_as(p)
            p.grad = gradient.view_as(p)
        self.take_part(True)

    def take_part(self, whether: bool) -> None:
        """Whether the optimizer sees the gradient; without one it leaves the values as they are."""
        self.value.grad = self.gradient if whether else None

    def follow(self, other: FlatParameters, pace: Tensor) -> None:
        """Go a part of the way to others."""
        self.value.detach().lerp_(other.value.detach(), pace)

    def release(self) -> None:
        """Give every parameter a tensor of its own again, and no gradient."""
        for p in self.parameters:
            p.data = p.data.clone()
            p.grad = None
