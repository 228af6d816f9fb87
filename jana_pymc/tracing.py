"""Functions of tensors without Python: traced once, then run by torch's own interpreter."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

CALLS_BEFORE_TRACING = 2
MOST_TRACES = 8


class ValuesAsked(TorchDispatchMode):
    """Notes operations whose result, or its shape, depends on values of tensors."""

    NAMES: tuple[str, ...] = ("local_scalar_dense", "nonzero", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        by_mask = "index.Tensor" in str(function) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or any(name in str(function) for name in self.NAMES):
            self.found.add(str(function))
        return function(*args, **(kwargs or {}))


def traced(
    module: nn.Module, tensors: Sequence[Tensor], *, frozen: bool = False
) -> Callable[..., Any] | None:
    """What does the same for tensors of the same shapes, or None if there is no such thing.

    The same operations in the same order: results are equal to the last bit.

    Parameters
    ----------
    module : Module
        Its parameters stay variables; all else that it holds becomes constant.
    tensors : sequence of Tensor
        Its arguments.
    frozen : bool
        Make the parameters constants too, and compute once what depends on them alone.
    """
    with torch.random.fork_rng(devices=[]):
        with torch.no_grad(), ValuesAsked() as asked:
            module(*tensors)
        if asked.found:
            return None
        try:
            with warnings.catch_warnings():
                # That shapes become constants is meant; and torch.export, which is to replace the
                # tracer, leaves no gradients.
                warnings.simplefilter("ignore")
                trace = torch.jit.trace(module, tuple(tensors), check_trace=False)
                if frozen:
                    trace = torch.jit.freeze(trace.eval(), optimize_numerics=False)
        except RuntimeError:  # whatever the tracer does not take
            return None

    def run(*tensors: Tensor) -> Any:
        with torch.jit.optimized_execution(False):
            return trace(*tensors)

    return run


class Repeated:
    """A module that is traced for those shapes with which it is called again and again.

    Its weights are constants of a trace, which is made anew if they have been changed. Pickles and
    copies without the traces.

    Parameters
    ----------
    module : Module
        Without random numbers of its own.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._weights = list(module.parameters())
        self._calls: OrderedDict[Any, int] = OrderedDict()
        self._traces: dict[Any, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *tensors: Tensor) -> Any:
        """Evaluate."""
        shapes = tuple((t.shape, t.stride(), t.dtype, t.device) for t in tensors)
        key = shapes, tuple((p._version, p.data_ptr()) for p in self._weights)
        with self._lock:
            function = self._look(key, tensors)
        return function(*tensors)

    def _look(self, key: Any, tensors: Sequence[Tensor]) -> Callable[..., Any]:
        """Count the call, trace if it is time, and forget the shapes that were not seen longest."""
        self._calls[key] = calls = self._calls.pop(key, 0) + 1
        while len(self._calls) > MOST_TRACES:
            oldest, _ = self._calls.popitem(last=False)
            self._traces.pop(oldest, None)
        if calls > CALLS_BEFORE_TRACING and key not in self._traces:
            self._traces[key] = traced(self.module, tensors, frozen=True) or self.module
        return self._traces.get(key, self.module)

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
