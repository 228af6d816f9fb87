"""Maps between the declared support of a continuous observable and the real line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Bound:
    """One end of a support: a constant, or a column of the parameters.

    Parameters
    ----------
    value : float
        The constant; unused when ``column`` is given.
    column : int, optional
        Position of the bounding parameter in the flattened parameters.
    """

    value: float = 0.0
    column: int | None = None

    def of(self, parameters: Float[Tensor, "*rows p"]) -> Float[Tensor, "*rows"]:
        """Value of the bound for each row."""
        if self.column is None:
            return parameters.new_full(parameters.shape[:-1], self.value)
        return parameters[..., self.column]


@dataclass(frozen=True)
class Support:
    """Interval of a continuous observable; its map to the real line takes the bounds as declared.

    With a lower bound l, y = log(x − l); with an upper bound u, y = −log(u − x); with both,
    y = logit((x − l) / (u − l)); with none, y = x. All are increasing.

    Parameters
    ----------
    lower, upper : Bound, optional
    """

    lower: Bound | None = None
    upper: Bound | None = None

    @classmethod
    def declared(
        cls, lower: float | str | None, upper: float | str | None, names: Sequence[str]
    ) -> Support:
        """The support of an observable, whose bounds are numbers or names of parameters.

        Parameters
        ----------
        lower, upper : float, str or None
        names : sequence of str
            Of the flattened parameters.
        """
        return cls(_bound(lower, names), _bound(upper, names))

    @property
    def walls(self) -> tuple[int, ...]:
        """Sides, -1 below and 1 above, on which a parameter is the bound."""
        ends = ((-1, self.lower), (1, self.upper))
        return tuple(side for side, end in ends if end is not None and end.column is not None)

    def to_real(
        self, x: Float[Tensor, "*rows"], parameters: Float[Tensor, "*rows p"]
    ) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"], Bool[Tensor, "*rows"]]:
        """Map observations to the real line.

        Returns
        -------
        y, log_abs_det_jacobian : Tensor, shape (rows,)
            Finite also outside the support, so that gradients stay finite.
        inside : Tensor of bool, shape (rows,)
        """
        inside = torch.ones_like(x, dtype=torch.bool)
        above = below = None
        if self.lower is not None:
            above = x - self.lower.of(parameters)
            inside = inside & (above > 0)
        if self.upper is not None:
            below = self.upper.of(parameters) - x
            inside = inside & (below > 0)
        if above is None and below is None:
            return x, torch.zeros_like(x), inside
        if below is None:
            log_above = torch.log(torch.where(inside, above, 1.0))  # type: ignore[arg-type]
            return log_above, -log_above, inside
        log_below = torch.log(torch.where(inside, below, 1.0))
        if above is None:
            return -log_below, -log_below, inside
        log_above = torch.log(torch.where(inside, above, 1.0))
        log_range = torch.log(torch.where(inside, above + below, 2.0))
        return log_above - log_below, log_range - log_above - log_below, inside

    def from_real(
        self, y: Float[Tensor, "*rows"], parameters: Float[Tensor, "*rows p"]
    ) -> Float[Tensor, "*rows"]:
        """Map real values back to the support, also those that rounding would put on its edge."""
        if self.lower is None and self.upper is None:
            return y
        if self.upper is None:
            x = self.lower.of(parameters) + torch.exp(y)  # type: ignore[union-attr]
        elif self.lower is None:
            x = self.upper.of(parameters) - torch.exp(-y)
        else:
            lower, upper = self.lower.of(parameters), self.upper.of(parameters)
            x = lower + (upper - lower) * torch.exp(logsigmoid(y))
        return self.nearest(x, parameters)

    def nearest(
        self, x: Float[Tensor, "*rows"], parameters: Float[Tensor, "*rows p"]
    ) -> Float[Tensor, "*rows"]:
        """Move values that are outside to the first number inside; what has bounds is finite."""
        if self.lower is None and self.upper is None:
            return x
        infinity = torch.full_like(x, torch.inf)
        if self.lower is not None:
            x = torch.maximum(x, torch.nextafter(self.lower.of(parameters).detach(), infinity))
        if self.upper is not None:
            x = torch.minimum(x, torch.nextafter(self.upper.of(parameters).detach(), -infinity))
        largest = torch.finfo(x.dtype).max
        return x.clamp(-largest, largest)


def _bound(bound: float | str | None, names: Sequence[str]) -> Bound | None:
    if bound is None:
        return None
    if isinstance(bound, str):
        return Bound(column=names.index(bound))
    return Bound(value=float(bound))
