"""Conditioning networks of autoregressive densities: with linear parts, and evaluated together."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from jana_pymc.networks.dense import DenseNetwork

FAR = 8.0
"""Standardised values beyond this are outliers."""

LONGEST_WAVE = 8.0
"""Length of the longest wave in standardised units; each further one is half as long."""


class LocationScaleNetwork(nn.Module):
    """Location and log scale of each component given the context.

    The location has a linear part of its own, beside the network: in the many models that are
    nearly linear it is all there is to learn, and takes few simulations.

    Parameters
    ----------
    n_context, dim : int
        Sizes of the context and of what is standardised.
    hidden : tuple of int
        Hidden layers.
    residual : bool
        Residual connections between them.
    """

    def __init__(self, n_context: int, dim: int, hidden: tuple[int, ...], residual: bool):
        super().__init__()
        self.dense = DenseNetwork(
            n_context, 2 * dim, hidden=hidden, residual=residual, zero_output=True
        )
        self.linear = nn.Linear(n_context, dim, bias=False)
        nn.init.zeros_(self.linear.weight)

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear part and the constants: what is trained first."""
        return [self.linear.weight, self.dense.layers[-1].bias]  # type: ignore[list-item]

    def forward(
        self, context: Float[Tensor, "*batch c"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch d"]]:
        location, log_scale = self.dense(context).chunk(2, -1)
        return location + self.linear(context), log_scale


class ConditionerBank(nn.Module):
    """As many networks as there are components, the j-th seeing the context and components < j.

    The networks share no weights, but are evaluated together, by one batched product a layer.
    The first output of each, the shift, has a linear part beside the network.

    Parameters
    ----------
    dim, n_context, n_outputs : int
        Number of networks, size of the context, outputs of each network.
    hidden : int
        Width of the hidden layers.
    n_layers : int
        Number of hidden layers, at least 2; those after the second are residual.
    n_waves : int
        Sines and cosines of each component that are seen beside it. Networks are slow to learn what
        varies fast, unless their inputs vary as fast [1]_.
    sees : Tensor of bool, shape (dim, dim), optional
        Which of the components before its own each network sees; all by default.

    References
    ----------
    .. [1] Tancik, M., et al. (2020). Fourier features let networks learn high frequency functions
       in low dimensional domains. NeurIPS.
    """

    mask: Tensor
    frequencies: Tensor

    def __init__(
        self,
        dim: int,
        n_context: int,
        n_outputs: int,
        *,
        hidden: int,
        n_layers: int = 2,
        n_waves: int = 0,
        sees: Bool[Tensor, "d d"] | None = None,
    ):
        super().__init__()
        self.dim, self.n_context = dim, n_context
        self.n_features = 1 + 2 * n_waves
        n_in = n_context + dim * self.n_features
        earlier = torch.ones(dim, dim).tril(-1)
        if sees is not None:
            earlier *= sees
        mask = torch.cat([torch.ones(dim, n_context), earlier.repeat(1, self.n_features)], 1)
        self.register_buffer("mask", mask, persistent=False)
        frequencies = 2.0 * math.pi / LONGEST_WAVE * 2.0 ** torch.arange(n_waves)
        self.register_buffer("frequencies", frequencies, persistent=False)
        bound = mask.sum(1).clamp_min(1.0).rsqrt()[:, None]
        self.weight_in = nn.Parameter(_uniform(dim, n_in, hidden) * bound[..., None])
        self.bias_in = nn.Parameter(_uniform(dim, hidden) * bound)
        self.weight = nn.Parameter(_uniform(dim, hidden, hidden) / math.sqrt(hidden))
        self.bias = nn.Parameter(_uniform(dim, hidden) / math.sqrt(hidden))
        self.residual_weights = nn.ParameterList(
            _uniform(dim, hidden, hidden) / math.sqrt(hidden) for _ in range(n_layers - 2)
        )
        self.residual_biases = nn.ParameterList(
            _uniform(dim, hidden) / math.sqrt(hidden) for _ in range(n_layers - 2)
        )
        self.weight_out = nn.Parameter(torch.zeros(dim, hidden, n_outputs))
        self.bias_out = nn.Parameter(torch.zeros(dim, n_outputs))
        self.linear = nn.Parameter(torch.zeros(dim, n_in))

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear part and the constants: what is trained first."""
        return [self.linear, self.bias_out]

    def context_weights(self) -> Float[Tensor, "d c h"]:
        """By how much each entry of the context enters the hidden units of each network."""
        return self.weight_in[:, : self.n_context]

    def forward(
        self, context: Float[Tensor, "rows c"], components: Float[Tensor, "rows d"]
    ) -> Float[Tensor, "rows d o"]:
        """Outputs of all networks, for components that are all known."""
        x = torch.cat([context, self._features(components)], -1)
        h = torch.einsum("bi,jih->jbh", x, self.weight_in * self.mask[..., None])
        h = silu(h + self.bias_in[:, None])
        h = silu(torch.baddbmm(self.bias[:, None], h, self.weight))
        for weight, bias in self._residual_layers():
            h = h + silu(torch.baddbmm(bias[:, None], h, weight))
        raw = torch.baddbmm(self.bias_out[:, None], h, self.weight_out).transpose(0, 1)
        return _with_shift(raw, x @ (self.linear * self.mask).T)

    def one(
        self, j: int, context: Float[Tensor, "*#batch c"], earlier: Float[Tensor, "*batch j"]
    ) -> Float[Tensor, "*_ o"]:
        """Outputs of network j, given the components before it.

        A context with an axis of size one serves all along it, and so do the outputs of the first
        network, which sees nothing else.
        """
        c = self.n_context
        h = context @ self.weight_in[j, :c] + self.bias_in[j]
        shift = context @ self.linear[j, :c]
        if j:
            x = self._features(earlier)
            seen = self._of_earlier(self.mask[j], j)
            h = h + x @ (self._of_earlier(self.weight_in[j], j) * seen[:, None])
            shift = shift + x @ (self._of_earlier(self.linear[j], j) * seen)
        h = silu(linear(silu(h), self.weight[j].T, self.bias[j]))
        for weight, bias in self._residual_layers():
            h = h + silu(linear(h, weight[j].T, bias[j]))
        return _with_shift(linear(h, self.weight_out[j].T, self.bias_out[j]), shift)

    def after_first(
        self, context: Float[Tensor, "sets c"], components: Float[Tensor, "sets n d"]
    ) -> Float[Tensor, "sets n d1 o"]:
        """Outputs of all networks but the first, for points that share their context."""
        c, n_sets, n, dim = self.n_context, *components.shape[:2], self.dim
        x = self._features(components).flatten(0, 1)
        weight = (self.weight_in * self.mask[..., None])[1:, c:].transpose(0, 1).flatten(1)
        shared = torch.einsum("sc,jch->sjh", context, self.weight_in[1:, :c]) + self.bias_in[1:]
        h = (x @ weight).reshape(n_sets, n, dim - 1, -1) + shared[:, None]
        h = silu(h).flatten(0, 1).transpose(0, 1)
        h = silu(torch.baddbmm(self.bias[1:, None], h, self.weight[1:]))
        for weight, bias in self._residual_layers():
            h = h + silu(torch.baddbmm(bias[1:, None], h, weight[1:]))
        raw = torch.baddbmm(self.bias_out[1:, None], h, self.weight_out[1:]).transpose(0, 1)
        weight = (self.linear * self.mask)[1:]
        shift = (x @ weight[:, c:].T).reshape(n_sets, n, -1) + (context @ weight[:, :c].T)[:, None]
        return _with_shift(raw.reshape(n_sets, n, dim - 1, -1), shift)

    def _features(self, components: Float[Tensor, "*batch j"]) -> Float[Tensor, "*batch jf"]:
        """What networks see of components: these, then all their sines and cosines."""
        x = compress(components)
        if self.n_features == 1:
            return x
        angles = x[..., None, :] * self.frequencies[:, None]
        return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)

    def _of_earlier(self, weights: Float[Tensor, "n_in ..."], j: int) -> Tensor:
        """The part of weights that belongs to features of the first j components."""
        by_feature = weights[self.n_context :].unflatten(0, (self.n_features, self.dim))
        return by_feature[:, :j].flatten(0, 1)

    def _residual_layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.residual_weights, self.residual_biases, strict=True)


def _with_shift(raw: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([raw[..., :1] + shift[..., None], raw[..., 1:]], -1)


def compress(x: Tensor) -> Tensor:
    """The identity within ±`FAR`, logarithmic beyond: no outlier drives a network to infinity."""
    near = x.clamp(-FAR, FAR)
    beyond = x - near
    return near + torch.log1p(beyond.abs()).copysign(beyond)


def _uniform(*shape: int) -> Tensor:
    return 2.0 * torch.rand(shape) - 1.0
