"""A transform to an interval that leaves its inside nearly as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytensor.tensor as pt
from pymc.logprob.transforms import Transform


class SoftInterval(Transform):
    r"""Carry the real line to an interval, leaving its inside nearly as it is.

    .. math:: x = a + s\, [\log(1 + e^{(u - a)/s}) - \log(1 + e^{(u - b)/s})]

    lies between a and b, and differs from u by less than s/50 at a distance of 4 s from both.

    Parameters
    ----------
    bounds : callable
        Maps the inputs of the random variable to a and b.
    softness : float
        s.
    logarithmic : bool
        Let x be the logarithm of the variable, and a and b those of its bounds.
    """

    name = "soft_interval"

    def __init__(
        self, bounds: Callable[..., tuple[Any, Any]], softness: float, logarithmic: bool = False
    ):
        self.bounds = bounds
        self.softness = softness
        self.logarithmic = logarithmic

    def forward(self, value: Any, *inputs: Any) -> Any:
        """Variable to unconstrained value."""
        lower, upper = self._bounds(*inputs)
        y = ((pt.log(value) if self.logarithmic else value) - lower) / self.softness
        width = (upper - lower) / self.softness
        # log(exp(y) - 1), where exp(y) might overflow
        scaled = y + pt.log(-pt.expm1(-y)) - pt.log(-pt.expm1(y - width))
        return lower + self.softness * scaled

    def backward(self, value: Any, *inputs: Any) -> Any:
        """Unconstrained value to variable."""
        lower, upper = self._bounds(*inputs)
        inside = self._inside(value, lower, upper)
        return pt.exp(inside) if self.logarithmic else inside

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        """Log derivative of `backward`."""
        lower, upper = self._bounds(*inputs)
        log_derivative = (
            -pt.softplus((lower - value) / self.softness)
            - pt.softplus((value - upper) / self.softness)
            + pt.log(-pt.expm1((lower - upper) / self.softness))
        )
        if self.logarithmic:
            return log_derivative + self._inside(value, lower, upper)
        return log_derivative

    def _bounds(self, *inputs: Any) -> tuple[Any, Any]:
        # PyTensor takes numbers like 0.5 for single precision.
        lower, upper = (pt.cast(bound, "float64") for bound in self.bounds(*inputs))
        return lower, upper

    def _inside(self, value: Any, lower: Any, upper: Any) -> Any:
        above = pt.softplus((value - lower) / self.softness)
        return lower + self.softness * (above - pt.softplus((value - upper) / self.softness))
