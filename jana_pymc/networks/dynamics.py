"""A trajectory step by step: by one law of motion of a hidden state, or the mean of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from jana_pymc.networks.clamps import tanh_clamp
from jana_pymc.networks.dense import DenseNetwork, Residual

LARGEST = 16.0
"""Bound of the hidden state: no parameters, however unusual, send it to infinity."""

MAX_LOG_GAIN = 4.0
"""Bound on the logarithm of the gains by which parameters multiply the state."""


class DynamicsNetwork(nn.Module):
    r"""Outputs at successive times, all by one law of motion.

    .. math::

        h_0 = e(c), \qquad h_{k+1} = B \bigl(h_k + f(h_k; c) / m\bigr), \qquad o_t = W h_{mt} + w,

    with m steps from one time to the next. The law f is a dense network; after its first linear map
    the state is multiplied by gains and shifted, both functions of the condition c: rates multiply
    what they act on. B(h) = 16 tanh(h / 16) keeps the state bounded. Systems of differential
    equations have one law for all times, which can be learned m T times from each simulation [1]_.

    Parameters
    ----------
    n_in, n_out, n_times : int
        Size of the condition, of the output at a time, and number of times.
    n_states : int
        Size of the hidden state.
    n_substeps : int
        Steps from one time to the next.
    hidden : sequence of int
        Hidden layers of the law, residual where widths agree; at least one.

    References
    ----------
    .. [1] Chen, R. T. Q., et al. (2018). Neural ordinary differential equations. NeurIPS. (Euler's
       method is enough here: the law is learned together with its step.)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_times: int,
        *,
        n_states: int = 8,
        n_substeps: int = 2,
        hidden: Sequence[int] = (64, 64),
    ):
        super().__init__()
        self.n_times, self.n_substeps, self.hidden = n_times, n_substeps, tuple(hidden)
        width = hidden[0]
        self.start = DenseNetwork(n_in, n_states, hidden=(width,))
        self.context = nn.Linear(n_in, 2 * width)
        self.enter = nn.Linear(n_states, width, bias=False)
        self.law = DenseNetwork(width, n_states, hidden=hidden[1:], residual=True)
        self.out = nn.Linear(n_states, n_out)
        with torch.no_grad():  # the state hardly moves at first, and all scales are those of y
            self.law.layers[-1].weight.mul_(0.1)  # type: ignore[operator]
            self.out.weight.mul_(0.1)
            self.out.bias.zero_()

    def forward(self, condition: Float[Tensor, "*n n_in"]) -> Float[Tensor, "*n n_times n_out"]:
        return self.follow(condition, self.start, self.context, self.enter, self.law, self.out)

    def follow(self, condition: Tensor, *parts: Callable[[Tensor], Tensor]) -> Tensor:
        """Outputs at all times, by the given parts for its own, for any number of members."""
        start, context, enter, law, out = parts
        shift, log_gain = context(condition).chunk(2, -1)
        gain = tanh_clamp(log_gain, MAX_LOG_GAIN).exp()
        state = start(condition)
        states = [state]
        for _ in range(self.n_times - 1):
            for _ in range(self.n_substeps):
                change = law(silu(enter(state) * gain + shift))
                state = tanh_clamp(state + change / self.n_substeps, LARGEST)
            states.append(state)
        # One product for all times, whether members stand before the rows or not.
        shape = (len(states), state.shape[-2])
        return out(torch.cat(states, -2)).unflatten(-2, shape).transpose(-3, -2)


class DynamicsEnsemble(nn.Module):
    r"""Mean of several laws of motion that have learned apart.

    From few simulations each learns errors of its own, and the mean has smaller ones [1]_. In
    training each member sees a share of the batch, so that a step costs hardly more than that of
    one law.

    Parameters
    ----------
    members : sequence of DynamicsNetwork
        Of the same sizes.

    References
    ----------
    .. [1] Lakshminarayanan, B., Pritzel, A., and Blundell, C. (2017). Simple and scalable
       predictive uncertainty estimation using deep ensembles. NeurIPS.
    """

    def __init__(self, members: Sequence[DynamicsNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, condition: Float[Tensor, "sets n_in"]) -> Float[Tensor, "sets n_times n_out"]:
        n, n_sets = len(self.members), len(condition)
        parts = ("start", "context", "enter", "law", "out")
        laws = [stacked([getattr(law, part) for law in self.members]) for part in parts]
        first: Any = self.members[0]
        if not self.training:
            return first.follow(condition.expand(n, -1, -1), *laws).mean(0)
        # A member takes every n-th set, since a batch may hold first the prior's sets and then a
        # proposal's. Shares are filled up from the first set on, repeatedly if sets are too few.
        filled = condition.repeat(n, 1)[: n_sets + -n_sets % n]
        found = first.follow(filled.unflatten(0, (-1, n)).transpose(0, 1), *laws)
        return found.transpose(0, 1).flatten(0, 1)[:n_sets]

    @torch.no_grad()
    def merged(self) -> DynamicsNetwork:
        """One network that does the same, with the members' weights as blocks on a diagonal."""
        members: list[DynamicsNetwork] = list(self.members)  # type: ignore[arg-type]
        n, one = len(members), members[0]
        with torch.random.fork_rng(devices=[]):  # its initial weights are of no use
            merged = DynamicsNetwork(
                one.context.in_features,
                one.out.out_features,
                one.n_times,
                n_states=n * one.enter.in_features,
                n_substeps=one.n_substeps,
                hidden=[n * width for width in one.hidden],
            ).to(one.out.weight)
        for name, weight in merged.named_parameters():
            parts: list[Tensor] = [law.get_parameter(name) for law in members]
            if name.startswith("context"):  # all shifts, then all gains
                halves = [part.unflatten(0, (2, -1)) for part in parts]
                weight.copy_(torch.cat(halves, 1).flatten(0, 1))
            elif name == "out.weight":
                weight.copy_(torch.cat(parts, 1) / n)
            elif name == "out.bias":
                weight.copy_(torch.stack(parts).mean(0))
            elif name.endswith("bias") or name == "start.layers.0.weight":  # all have one input
                weight.copy_(torch.cat(parts))
            else:
                weight.copy_(torch.block_diag(*parts))
        return merged


def stacked(layers: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """The same layer of each member, for inputs of shape (members, rows, n)."""
    first: Any = layers[0]
    if isinstance(first, nn.Linear):
        weight = torch.stack([layer.weight for layer in layers]).mT
        biases = [layer.bias[None] for layer in layers if layer.bias is not None]
        if not biases:
            return lambda x: torch.bmm(x, weight)
        bias = torch.stack(biases)
        return lambda x: torch.baddbmm(bias, x, weight)
    if isinstance(first, DenseNetwork):
        return stacked([layer.layers for layer in layers])
    if isinstance(first, nn.Sequential):
        steps = [stacked(each) for each in zip(*layers, strict=True)]

        def run(x: Tensor) -> Tensor:
            y = x
            for step in steps:
                y = step(y)
            return x + y if isinstance(first, Residual) else y

        return run
    return first  # an activation
