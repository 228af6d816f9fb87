"""Any differentiable torch density as a likelihood in PyMC."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jana_pymc.approximators.likelihood import LikelihoodApproximator
from jana_pymc.checks import check_count
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.simulation import Continuous, DataSchema, ParameterLayout
from jana_pymc.simulation.names import LIKELIHOOD_ARGUMENTS

MOST_OBSERVATIONS = 10**9
"""The number of observations that the density was made for is unknown."""


class TorchDensity(LikelihoodNetwork):
    """A user's log density in the shape of a likelihood network.

    Parameters
    ----------
    log_prob : callable
        Function of x, shape (rows, *event_shape), and θ, shape (rows, parameters), that returns
        shape (rows,).
    event_shape : tuple of int
    sample : callable, optional
        Function of θ, shape (rows, parameters), that returns x.
    dtype : torch.dtype
        Data type of the tensors that it is called with.
    """

    observables_are_declared = False
    """Names and kinds of the observables of a torch function are unknown."""

    def __init__(
        self,
        log_prob: Callable[[Tensor, Tensor], Tensor],
        event_shape: tuple[int, ...],
        sample: Callable[[Tensor], Tensor] | None,
        dtype: torch.dtype,
    ):
        super().__init__()
        owner = getattr(log_prob, "__self__", None)
        if isinstance(owner, nn.Module):  # a module's method: copied with its module
            self.module = copy.deepcopy(owner).cpu()
            self._call: Any = log_prob.__name__
        elif isinstance(log_prob, nn.Module):
            self.module = copy.deepcopy(log_prob).cpu()
            self._call = "__call__"
        else:
            self._call = log_prob
        self.event_shape = event_shape
        self._sample = sample
        self._dtype = dtype
        self._is_differentiable = False  # not checked yet
        # Closures cannot be compared, so that each call of `from_torch` makes a different density.
        token = np.frombuffer(uuid.uuid4().bytes, dtype=np.uint8)
        self.register_buffer("token", torch.tensor(token.astype(np.int64)))

    def to(  # type: ignore[override]
        self, device: str | torch.device, dtype: torch.dtype | None = None
    ) -> TorchDensity:
        """Move a module to another device; its dtype stays."""
        return super().to(device)

    def log_prob_rows(
        self,
        observables: Tensor,
        parameters: Tensor,
        group: Tensor,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """Log density of each row, shape (rows,)."""
        x = observables.to(self._dtype).reshape(-1, *self.event_shape)
        call = getattr(self.module, self._call) if isinstance(self._call, str) else self._call
        theta = parameters[group].to(self._dtype)
        values = call(x, theta)
        if not isinstance(values, Tensor) or values.shape != (len(x),):
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"log_prob returned {shape} for {len(x)} rows; expected a tensor of shape "
                f"({len(x)},), one log density a row."
            )
        if torch.is_grad_enabled() and theta.requires_grad and not self._is_differentiable:
            self._check_gradient(values, theta)
        return values.double()

    def _check_gradient(self, values: Tensor, theta: Tensor) -> None:
        """Refuse a density that is not differentiable in the parameters."""
        found = None
        if values.requires_grad:
            (found,) = torch.autograd.grad(
                values.sum(), theta, retain_graph=True, allow_unused=True
            )
        if found is None:
            raise ValueError(
                "log_prob lost the gradient with respect to theta: it must be differentiable in "
                "torch, without detach() or NumPy on the way."
            )
        self._is_differentiable = True

    def log_prob(
        self, observables: Tensor, parameters: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """Log density, shape (sets, obs)."""
        sets, n_obs, _ = observables.shape
        group = torch.arange(sets, device=parameters.device).repeat_interleave(n_obs)
        with torch.no_grad():
            rows = self.log_prob_rows(observables.flatten(0, 1), parameters, group)
        return rows.reshape(sets, n_obs)

    def sample(
        self,
        parameters: Tensor,
        n_obs: int,
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draws by the user's function, shape (sets, obs, components)."""
        if self._sample is None:
            raise NotImplementedError(
                "this density cannot be drawn from; pass sample= to from_torch."
            )
        seed = int(torch.randint(2**62, (), generator=generator))
        theta = parameters.repeat_interleave(n_obs, 0).to(self._dtype)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            # Not `torch.manual_seed`, which also seeds accelerators, whose states are not restored.
            torch.default_generator.manual_seed(seed)
            drawn = self._sample(theta)
        expected = (len(theta), *self.event_shape)
        if not isinstance(drawn, Tensor) or drawn.shape != expected:
            shape = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
            raise ValueError(
                f"sample returned {shape} for {len(theta)} rows of theta; expected a tensor of "
                f"shape {expected}, one draw a row."
            )
        return drawn.double().reshape(len(parameters), n_obs, -1)


def from_torch(
    log_prob: Callable[[Tensor, Tensor], Tensor],
    *,
    parameter_names: Sequence[str],
    event_shape: tuple[int, ...] = (),
    sample: Callable[[Tensor], Tensor] | None = None,
    region: Mapping[str, tuple[float, float]] | None = None,
    dtype: torch.dtype = torch.float32,
) -> LikelihoodApproximator:
    """Use any differentiable torch density as a likelihood in PyMC.

    Parameters
    ----------
    log_prob : callable
        ``log_prob(x, theta)`` takes x, shape ``(rows, *event_shape)``, and theta, shape
        (rows, parameters), and returns the log density of each row, shape (rows,). A module, or a
        method of one, is copied, frozen in evaluation mode, and moved by
        `LikelihoodApproximator.to`. A plain function is called with tensors on that device;
        whatever it closes over must be on that device too, and must not change.
    parameter_names : sequence of str
        Scalar parameters, in the order of theta's columns.
    event_shape : tuple of int
        Shape of one observation: () or (components,).
    sample : callable, optional
        ``sample(theta)`` returns one draw per row, for predictive draws. It may use torch's global
        CPU generator, whose state is restored.
    region : mapping of str to (low, high), optional
        Range of each parameter outside which the density is zero; unbounded by default.
    dtype : torch.dtype
        Data type of the tensors that the density is called with; PyMC gets float64.

    Returns
    -------
    LikelihoodApproximator

    Raises
    ------
    TypeError, ValueError
        If names, shape or region do not fit together, or `log_prob` is not callable.

    Examples
    --------
    An sbi estimator of the likelihood expects its own shapes::

        likelihood = from_torch(
            lambda x, theta: estimator.log_prob(x[None], theta)[0],
            parameter_names=("a", "b"), event_shape=(2,),
        )
        likelihood("y", a=a, b=b, observed=x)
    """
    if not callable(log_prob):
        raise TypeError(f"log_prob is {type(log_prob).__name__}; expected log_prob(x, theta).")
    if isinstance(parameter_names, str) or not parameter_names:
        raise TypeError(f"parameter_names={parameter_names!r}: expected a sequence of names.")
    if not isinstance(event_shape, tuple) or len(event_shape) > 1:
        raise ValueError(f"event_shape={event_shape!r}: expected () or (components,).")
    for n_components in event_shape:
        check_count("event_shape", n_components)
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype={dtype!r}: expected torch.float32 or torch.float64.")
    if sample is not None and not callable(sample):
        raise TypeError(f"sample is {type(sample).__name__}; expected sample(theta).")
    if region is not None and not isinstance(region, Mapping):
        raise TypeError(f"region is {type(region).__name__}; expected {{name: (low, high)}}.")
    names = tuple(parameter_names)
    _check_names(names)
    unknown = [name for name in region or {} if name not in names]
    if unknown:
        raise ValueError(
            f"region names {', '.join(unknown)}; the parameters are {', '.join(names)}."
        )
    limits = [_limits(name, (region or {}).get(name, (-np.inf, np.inf))) for name in names]
    components = [f"x{i}" for i in range(event_shape[0])] if event_shape else ["x"]
    network = TorchDensity(log_prob, event_shape, sample, dtype)
    schema = DataSchema(dict.fromkeys(components, Continuous()), n_obs=(1, MOST_OBSERVATIONS))
    layout = ParameterLayout(names, dict.fromkeys(names, ()))
    return LikelihoodApproximator(network, layout, schema, np.array(limits, dtype=float).T)


def _check_names(names: tuple[str, ...]) -> None:
    """Parameters become keyword arguments of the likelihood, beside its own."""
    taken = (*LIKELIHOOD_ARGUMENTS, "n_obs")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier() or name in taken:
            raise ValueError(
                f"parameter_names has {name!r}; expected names that a keyword argument may have, "
                "other than the likelihood's own, such as 'observed'."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"parameter_names={names}: expected different names.")


def _limits(name: str, ends: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise ValueError(f"region of {name!r}: {ends!r} is no (low, high).") from error
    if not low < high:
        raise ValueError(f"region of {name!r}: expected low < high, got ({low}, {high}).")
    return low, high
