"""Densities of counts and categories, one after the other, exact over the integers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jana_pymc.flows.autoregressive import MAX_LOG_SCALE, monotone_inverse
from jana_pymc.flows.spline import n_spline_parameters
from jana_pymc.likelihoods.counts import CountRange, log_count, monotone_images
from jana_pymc.likelihoods.elementary_laws import draw_category
from jana_pymc.networks.clamps import atan_clamp
from jana_pymc.networks.conditioners import ConditionerBank, LocationScaleNetwork
from jana_pymc.networks.moments import set_moments

Law = tuple[Float[Tensor, "rows d"], Float[Tensor, "rows d"]]
"""Means and standard deviations of counts."""

LOGISTIC_LOG_SD = math.log(math.pi / math.sqrt(3.0))
"""Log standard deviation of the standard logistic distribution."""


class DiscreteAutoregressive(nn.Module):
    r"""Probability of discrete components, each given the context and those before it.

    A category has a softmax. A count has the probability that a continuous law gives its interval,

    .. math::

        P(k) = \sigma(g(y_{k + 1/2})) - \sigma(g(y_{k - 1/2})),

    where y is the count's map to the real line (`CountRange`), standardised by the context, g an
    increasing spline and σ the logistic function: over all integers these sum to one.

    Parameters
    ----------
    components : sequence of int or CountRange
        Number of categories, or the range of a count.
    n_context : int
    n_bins : int
        Inner bins of the splines of counts.
    hidden : tuple of int
        Hidden layers of the network that standardises counts.
    residual : bool
        Residual connections between these.
    conditioner_hidden, conditioner_layers : int
        Width and number of hidden layers of each component's own network.
    sees : Tensor of bool, shape (dim, dim), or None
        Which of the components before its own each depends on; None for all.
    """

    code_mean: Tensor
    code_sd: Tensor
    by_kind: Tensor
    in_order: Tensor

    def __init__(
        self,
        components: Sequence[int | CountRange],
        n_context: int,
        *,
        n_bins: int,
        hidden: tuple[int, ...],
        residual: bool,
        conditioner_hidden: int,
        conditioner_layers: int,
        sees: Bool[Tensor, "d d"] | None,
    ):
        super().__init__()
        self.components, self.n_bins = tuple(components), n_bins
        dim = len(self.components)
        n_outputs = max(
            c if isinstance(c, int) else 2 + n_spline_parameters(n_bins) for c in self.components
        )
        self.location_scale = LocationScaleNetwork(n_context, dim, hidden, residual)
        self.conditioners = ConditionerBank(
            dim,
            n_context,
            n_outputs,
            hidden=conditioner_hidden,
            n_layers=conditioner_layers,
            sees=sees,
        )
        self.register_buffer("code_mean", torch.zeros(dim))
        self.register_buffer("code_sd", torch.ones(dim))
        # Components of a kind are evaluated together. Their indices are buffers, since lists would
        # be copied to a GPU at each use.
        positions: dict[int | CountRange, list[int]] = {}
        for j, kind in enumerate(self.components):
            positions.setdefault(kind, []).append(j)
        ends = pairwise(accumulate(map(len, positions.values()), initial=0))
        self.kinds = {kind: slice(*pair) for kind, pair in zip(positions, ends, strict=True)}
        by_kind = torch.tensor([j for own in positions.values() for j in own])
        self.register_buffer("by_kind", by_kind, persistent=False)
        self.register_buffer("in_order", by_kind.argsort(), persistent=False)

    @torch.no_grad()
    def standardize(self, values: Float[Tensor, "rows d"]) -> None:
        """Take location and scale of the components from simulations."""
        set_moments(self.code_mean, self.code_sd, self._real(values))

    def codes(self, values: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
        """Standardised numbers that stand for the components as inputs of networks."""
        return (self._real(values) - self.code_mean) / self.code_sd

    def possible(self, values: Float[Tensor, "rows d"]) -> Bool[Tensor, "rows d"]:
        """Whether each value is a category or a count."""
        parts = []
        for kind, value in self._split(values):
            if isinstance(kind, int):
                parts.append((value >= 0) & (value < kind) & (value == torch.floor(value)))
            else:
                parts.append(kind.inside(value))
        return self._in_order(parts)

    def log_prob(
        self,
        values: Float[Tensor, "rows d"],
        context: Float[Tensor, "rows c"],
        law: Law | None = None,
    ) -> Float[Tensor, "rows d"]:
        """Log probability of each component given those before it.

        Parameters
        ----------
        values, context : Tensor
        law : tuple of Tensor, optional
            Mean and standard deviation of the counts, which the networks then correct.
        """
        location, log_scale = self._location_scale(context, law)
        residual = self._residual(self.codes(values), location, log_scale)
        raw = self.conditioners(context, residual)
        inverse_scale = (-log_scale).exp() / self.code_sd
        centre = self.code_mean + self.code_sd * location
        parts = []
        for kind, value, raw_own, *line in self._split(values, raw, centre, inverse_scale):
            if isinstance(kind, int):
                log_probs = torch.log_softmax(raw_own[..., :kind], -1)
                category = value.long().clamp(0, kind - 1)
                parts.append(log_probs.gather(-1, category[..., None])[..., 0])
                continue
            images = monotone_images(raw_own, self.n_bins, *line)
            parts.append(log_count(kind, value, images))
        return self._in_order(parts)

    @torch.no_grad()
    def sample(
        self,
        context: Float[Tensor, "rows c"],
        generator: torch.Generator | None = None,
        law: Law | None = None,
    ) -> Float[Tensor, "rows d"]:
        """Draw all components for each row of the context, by the same law."""
        location, log_scale = self._location_scale(context, law)
        n_rows = len(context)
        values = context.new_zeros((n_rows, 0))
        residual = context.new_zeros((n_rows, 0))
        for j, kind in enumerate(self.components):
            raw = self.conditioners.one(j, context, residual)
            uniform = torch.rand(
                (n_rows, kind if isinstance(kind, int) else 1),
                generator=generator,
                dtype=context.dtype,
                device=context.device,
            ).clamp(1e-7, 1.0 - 1e-7)
            if isinstance(kind, int):
                category = draw_category(torch.log_softmax(raw[:, :kind], -1), uniform)
                value = category.to(context.dtype)
            else:
                z = torch.logit(uniform[:, 0])
                u, _ = monotone_inverse(z, raw, self.n_bins)
                standardized = u * log_scale[:, j].exp() + location[:, j]
                value = kind.from_real(standardized * self.code_sd[j] + self.code_mean[j])
            values = torch.cat([values, value[:, None]], -1)
            code = self._code(j, value)[:, None]
            new = self._residual(code, location[:, j : j + 1], log_scale[:, j : j + 1])
            residual = torch.cat([residual, new], -1)
        return values

    def _location_scale(
        self, context: Float[Tensor, "rows c"], law: Law | None
    ) -> tuple[Tensor, Tensor]:
        location, log_scale = self.location_scale(context)
        log_scale = atan_clamp(log_scale, MAX_LOG_SCALE)
        if law is None:
            return location, log_scale
        mean, sd = law
        images = [
            kind.real_of_mean(mean[:, j])  # type: ignore[union-attr]
            for j, kind in enumerate(self.components)
        ]
        real, log_slope = (torch.stack(parts, -1) for parts in zip(*images, strict=True))
        of_law = (real - self.code_mean) / self.code_sd
        own_scale = log_slope + sd.log() - self.code_sd.log() - LOGISTIC_LOG_SD
        return location + of_law, log_scale + own_scale

    def _residual(self, code: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
        return (code - location) * (-log_scale).exp()

    def _real(self, values: Tensor) -> Tensor:
        """Categories, and images of counts; finite also for values that are no counts."""
        parts = []
        for kind, value in self._split(values):
            if not isinstance(kind, int):
                value = kind.to_real(torch.where(kind.inside(value), value, 0.0))
            parts.append(value)
        return self._in_order(parts)

    def _split(self, *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
        """Each kind of component, and the columns of its components."""
        if len(self.kinds) > 1:
            tensors = tuple(each.index_select(1, self.by_kind) for each in tensors)
        return ((kind, *(each[:, own] for each in tensors)) for kind, own in self.kinds.items())

    def _in_order(self, parts: list[Tensor]) -> Tensor:
        """Columns that were computed kind by kind, in the order of the components."""
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1).index_select(1, self.in_order)

    def _code(self, j: int, value: Tensor) -> Tensor:
        kind = self.components[j]
        real = value if isinstance(kind, int) else kind.to_real(value)
        return (real - self.code_mean[j]) / self.code_sd[j]
