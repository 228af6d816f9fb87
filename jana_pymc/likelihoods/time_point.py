"""Density of the vector of components at one time point, given what is known and the past."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from jana_pymc.checks import check_choice, check_count, check_sizes
from jana_pymc.flows.spline import SplineTable, n_spline_parameters
from jana_pymc.likelihoods.counts import CountRange, log_count
from jana_pymc.likelihoods.elementary_laws import draw_category
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.clamps import tanh_clamp
from jana_pymc.networks.dense import ACTIVATIONS
from jana_pymc.networks.moments import set_moments
from jana_pymc.networks.varying_coefficients import VaryingCoefficientNetwork

Component: TypeAlias = int | Support | CountRange
"""Number of categories, support of a continuous component, or range of a count."""

LOG_SCALE_RANGE = 8.0
"""Log scales bend towards ± this, far from any use: an exploding simulation stays finite."""

LARGEST_LOG = 80.0
"""Largest logarithm of a simulated distance from a bound: finite in single precision."""


@dataclass(frozen=True)
class ConditionalSettings:
    """Architecture of the conditional densities.

    Parameters
    ----------
    hidden : tuple of int
        Hidden layers of each network.
    coefficient_hidden : tuple of int
        Hidden layers of the networks for the coefficients of the past and for the beginning.
    activation : {"relu", "silu", "tanh"}
        A smooth one keeps gradients for NUTS smooth.
    n_bins : int
        Inner bins of each spline.
    """

    hidden: Sequence[int] = (64, 64)
    coefficient_hidden: Sequence[int] = (32, 32)
    activation: Literal["relu", "silu", "tanh"] = "silu"
    n_bins: int = 8

    def __post_init__(self) -> None:
        for name in ("hidden", "coefficient_hidden"):
            object.__setattr__(self, name, check_sizes(name, getattr(self, name)))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_count("n_bins", self.n_bins)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Observations as networks see them.

    Attributes
    ----------
    features : Tensor, shape (rows, features)
        Standardised real values of continuous components and counts, indicators of categories.
    log_abs_det_jacobian : Tensor, shape (rows,)
        For all continuous components together, standardisation included.
    inside : Tensor of bool, shape (rows,)
        Whether all components lie in their support.
    """

    features: Float[Tensor, "rows features"]
    log_abs_det_jacobian: Float[Tensor, " rows"]
    inside: Bool[Tensor, " rows"]


class TimePointDensity(nn.Module):
    r"""Product of conditionals, one component after the other in the order of the data.

    .. math::

        p(x_t \mid x_{<t}, \theta, c_t) = \prod_j p(x_{t,j} \mid x_{t,<j}, x_{<t}, \theta, c_t)

    A categorical component follows a softmax. A continuous one, mapped to the real line by its
    support and standardised, is shifted, scaled and bent by a rational-quadratic spline to a
    standard normal. A count is the cell of a real value that the same maps take to a standard
    logistic (`CountRange`).

    Parameters
    ----------
    components : sequence of int, Support or CountRange
    n_known, n_past : int
        Sizes of the inputs: what is known, and the features of the past.
    flag : int
        See `VaryingCoefficientNetwork`.
    settings : ConditionalSettings
    """

    mean: Tensor
    sd: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        components: Sequence[Component],
        n_known: int,
        n_past: int,
        flag: int,
        settings: ConditionalSettings,
    ):
        super().__init__()
        self.components = tuple(components)
        self.settings = settings
        self.n_past = n_past
        ends = [0]
        networks = []
        for component in self.components:
            categories = component if isinstance(component, int) else 0
            networks.append(
                VaryingCoefficientNetwork(
                    n_known,
                    n_past + ends[-1],
                    categories or 2 + n_spline_parameters(settings.n_bins),
                    flag=flag,
                    hidden=settings.hidden,
                    coefficient_hidden=settings.coefficient_hidden,
                    activation=settings.activation,
                    location=not categories,
                )
            )
            ends.append(ends[-1] + (categories or 1))
        self.networks = nn.ModuleList(networks)
        self.columns = tuple(slice(*pair) for pair in pairwise(ends))
        self.n_features = ends[-1]
        for name, value in (("mean", 0.0), ("sd", 1.0), ("low", -math.inf), ("high", math.inf)):
            self.register_buffer(name, torch.full((self.n_features,), value))

    @torch.no_grad()
    def standardize(
        self, observables: Float[Tensor, "rows c"], parameters: Float[Tensor, "rows p"]
    ) -> None:
        """Take location, scale and range of the features from simulations."""
        self.mean.zero_()
        self.sd.fill_(1.0)
        features = self.encode(observables, parameters).features
        for component, column in zip(self.components, self.columns, strict=True):
            if not isinstance(component, int):
                set_moments(self.mean[column], self.sd[column], features[:, column])
        features = (features - self.mean) / self.sd
        self.low.copy_(features.min(0).values)
        self.high.copy_(features.max(0).values)

    def encode(
        self, observables: Float[Tensor, "rows c"], parameters: Float[Tensor, "rows p"]
    ) -> Encoded:
        """Features of observations; finite also outside the support."""
        features = []
        inside = torch.ones(len(observables), dtype=torch.bool, device=observables.device)
        log_det = torch.zeros_like(observables[:, 0])
        for j, component in enumerate(self.components):
            x = observables[:, j]
            if isinstance(component, int):
                category = x.nan_to_num().round().clamp(0, component - 1)
                inside = inside & (x == category)
                features.append(_indicators(category, component, x.dtype))
                continue
            if isinstance(component, CountRange):
                possible = component.inside(x)
                y = component.to_real(torch.where(possible, x, 0.0))
            else:
                y, own_log_det, possible = component.to_real(x, parameters)
                log_det = log_det + own_log_det - torch.log(self.sd[self.columns[j]])
            inside = inside & possible
            features.append(y[:, None])
        return Encoded((torch.cat(features, -1) - self.mean) / self.sd, log_det, inside)

    def bounded(self, features: Float[Tensor, "*batch features"]) -> Tensor:
        """Features kept within what was seen in simulations."""
        return torch.clamp(features, self.low, self.high)

    def log_prob(
        self,
        observables: Float[Tensor, "rows c"],
        encoded: Encoded,
        known: Float[Tensor, "rows k"],
        past: Float[Tensor, "rows n_past"],
        bounded: Float[Tensor, "rows n_past"],
    ) -> Float[Tensor, " rows"]:
        """Log density of observations; −inf outside the support.

        Parameters
        ----------
        observables : Tensor, shape (rows, components)
        encoded : Encoded
            The same observations.
        known, past, bounded : Tensor, shape (rows, …)
            Inputs of the networks; see `VaryingCoefficientNetwork`.
        """
        own = self.bounded(encoded.features)
        log_prob = encoded.log_abs_det_jacobian
        for j, (component, column) in enumerate(zip(self.components, self.columns, strict=True)):
            raw = self.networks[j](
                known,
                torch.cat([past, encoded.features[:, : column.start]], -1),
                torch.cat([bounded, own[:, : column.start]], -1),
            )
            if isinstance(component, int):
                log_p = log_softmax(raw, -1)
                log_prob = log_prob + (log_p * encoded.features[:, column]).sum(-1)
                continue
            line = _RealLine(raw, self.settings.n_bins)
            if isinstance(component, CountRange):
                images = partial(line.of_cells, self.mean[column], self.sd[column])
                log_prob = log_prob + log_count(component, observables[:, j], images)
            else:
                z, log_derivative = line.forward(encoded.features[:, column.start])
                log_prob = log_prob + log_derivative - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        return torch.where(encoded.inside, log_prob, -torch.inf)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "rows p"],
        known: Float[Tensor, "rows k"],
        past: Float[Tensor, "rows n_past"],
        bounded: Float[Tensor, "rows n_past"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "rows c"], Float[Tensor, "rows features"]]:
        """Simulate an observation for each row.

        Returns
        -------
        observables : Tensor, shape (rows, components)
        features : Tensor, shape (rows, features)
        """
        columns: list[Tensor] = []
        for j, (component, column) in enumerate(zip(self.components, self.columns, strict=True)):
            raw = self.networks[j](known, past, bounded)
            if isinstance(component, int):
                category = draw_category(log_softmax(raw, -1), _uniform(raw, generator))
                columns.append(category.to(raw.dtype))
                own = _indicators(category, component, raw.dtype)
            else:
                mean, sd = self.mean[column], self.sd[column]
                line = _RealLine(raw, self.settings.n_bins)
                if isinstance(component, CountRange):
                    y = line.inverse(torch.logit(_uniform(raw[:, 0], generator)))
                    columns.append(component.from_real(y * sd + mean))
                    own = ((component.to_real(columns[-1]) - mean) / sd)[:, None]
                else:
                    y = line.inverse(_normal(raw[:, 0], generator))
                    columns.append(_from_real(component, y * sd + mean, parameters))
                    own = y[:, None]
            past = torch.cat([past, own], -1)
            bound = torch.clamp(own, self.low[column], self.high[column])
            bounded = torch.cat([bounded, bound], -1)
        return torch.stack(columns, -1), past[:, self.n_past :]


class _RealLine:
    """Increasing maps of the real line, one for each row: shift, scale, then spline."""

    def __init__(self, raw: Tensor, n_bins: int):
        self.shift = raw[:, 0]
        self.log_scale = tanh_clamp(raw[:, 1], LOG_SCALE_RANGE)
        self.table = SplineTable(raw[:, 2:], n_bins)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        z, log_derivative = self.table.forward((y - self.shift) * torch.exp(-self.log_scale))
        return z, log_derivative - self.log_scale

    def inverse(self, z: Tensor) -> Tensor:
        residual, _ = self.table.inverse(z)
        return residual * torch.exp(self.log_scale) + self.shift

    def of_cells(
        self, mean: Tensor, sd: Tensor, left: Tensor, right: Tensor, width: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images of cells, which are standardised first (`log_count`)."""
        left, right, width = (left - mean) / sd, (right - mean) / sd, width / sd
        _, log_slope = self.forward(0.5 * (left + right))
        return self.forward(left)[0], self.forward(right)[0], log_slope.exp() * width


def _indicators(category: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    """1 at each category, else 0; `one_hot` looks at values, and could not be traced."""
    return (category[:, None] == torch.arange(n, device=category.device)).to(dtype)


def _from_real(support: Support, real: Tensor, parameters: Tensor) -> Tensor:
    """`Support.from_real`, for values with bounds within exp(±`LARGEST_LOG`) of them."""
    if support != Support():
        real = real.clamp(-LARGEST_LOG, LARGEST_LOG)
    return support.from_real(real, parameters)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers strictly inside (0, 1), whose logits are finite."""
    drawn = torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)
    edge = torch.finfo(like.dtype).eps / 2
    return drawn.clamp(edge, 1.0 - edge)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
