"""Missing values of continuous observables as free variables of a PyMC model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.logprob.transforms import Transform
from pytensor.tensor.variable import TensorVariable

from jana_pymc.pytensor import Contaminant, Truncation
from jana_pymc.simulation import Continuous
from jana_pymc.trained_likelihood import TrainedLikelihood

SMALLEST = 1e-300


class MissingValues(Transform):
    """Map each missing value from its support, which may depend on parameters, to the real line.

    Lapses extend the support of the approximator's observables; a truncation window restricts it.

    Parameters
    ----------
    approximator : TrainedLikelihood
    mask : ndarray of bool, shape (..., components)
        Which values are missing, in the shape of the data.
    contaminant : Contaminant, optional
    truncation : Truncation, optional
    """

    name = "missing"
    ndim_supp = 0

    def __init__(
        self,
        approximator: TrainedLikelihood,
        mask: np.ndarray,
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
    ):
        self.approximator = approximator
        self.contaminant, self.truncation = contaminant, truncation
        n_batch = mask.ndim - approximator.schema.event_dims
        # Component of each missing value, and the event whose parameters it depends on.
        self.columns = np.nonzero(mask)[-1]
        self.events = np.nonzero(mask)[0] if n_batch else np.zeros(len(self.columns), dtype=int)

    def forward(self, value: TensorVariable, *inputs: Any) -> TensorVariable:
        """Constrained to unconstrained."""
        return self._each(value, inputs, _forward)

    def backward(self, value: TensorVariable, *inputs: Any) -> TensorVariable:
        """Unconstrained to constrained."""
        return self._each(value, inputs, _backward)

    def log_jac_det(self, value: TensorVariable, *inputs: Any) -> TensorVariable:
        """Log derivative of `backward`, in the shape of the density that PyMC adds it to.

        Empty for a variable that PyMC keeps whole, where `correction` replaces it.
        """
        if self._parameters(inputs)[1]:
            return pt.zeros((0,))
        return self._each(value, inputs, _log_derivative).sum(axis=-1)

    def correction(self, missing: TensorVariable) -> TensorVariable | None:
        """Term of the model's log density that PyMC omits for a variable that it keeps whole."""
        node = missing.owner
        assert node is not None, "a free variable has inputs"
        inputs = node.inputs
        if not self._parameters(inputs)[1]:
            return None
        return self._each(self.forward(missing, *inputs), inputs, _log_derivative).sum()

    def _each(self, value: TensorVariable, inputs: Any, function: Any) -> TensorVariable:
        """Apply a function to the missing values of each component."""
        flat = value.ravel()
        result = pt.zeros_like(flat)
        parameters, whole = self._parameters(inputs)
        kinds = list(self.approximator.schema.components.values())
        for column in np.unique(self.columns):
            positions = np.nonzero(self.columns == column)[0]
            # If PyMC splits incomplete rows off, it keeps only the parameters of these rows.
            where = self.events[positions] if whole else _ranks(self.events)[positions]
            kind = kinds[column]
            assert isinstance(kind, Continuous)
            ends = (self._bound(end, parameters, where) for end in (kind.lower, kind.upper))
            low, high = self._support(int(column), *ends)
            result = result[positions].set(function(flat[positions], low, high))
        return result.reshape(value.shape)

    def _support(self, column: int, low: Any, high: Any) -> tuple[Any, Any]:
        """Bounds of a component with lapses and window, from its declared ones; None for none."""
        lapses, window = self.contaminant, self.truncation
        if lapses is not None:
            low = None if low is None else pt.minimum(low, lapses.low[column])
            high = None if high is None else pt.maximum(high, lapses.high[column])
        if window is not None and window.column == column:
            if np.isfinite(window.low):
                low = window.low if low is None else pt.maximum(low, window.low)
            if np.isfinite(window.high):
                high = window.high if high is None else pt.minimum(high, window.high)
        return low, high

    def _parameters(self, inputs: Any) -> tuple[Any, bool]:
        """Parameters, and whether they are those of all rows instead of the incomplete ones.

        PyMC splits a variable if all values of its incomplete rows are missing; otherwise it keeps
        the variable whole and selects values by a mask.
        """
        node = getattr(inputs[0], "owner", None)
        if node is not None and hasattr(node.op, "approximator"):
            return node.inputs[2:], True
        return inputs[2:], False

    def _bound(self, end: Any, parameters: Any, rows: np.ndarray) -> Any:
        if not isinstance(end, str):
            return end
        layout = self.approximator.layout
        index = layout.component_names.index(end)
        for name, part in layout.slices.items():
            if part.start <= index < part.stop:
                shape = layout.shapes[name]
                p = parameters[layout.names.index(name)]
                p = p[(..., *np.unravel_index(index - part.start, shape))] if shape else p
                return p if p.ndim == 0 or p.type.broadcastable[0] else p[rows]
        raise AssertionError(end)


def _ranks(events: np.ndarray) -> np.ndarray:
    """Rank of each event among the distinct events."""
    return np.unique(events, return_inverse=True)[1]


def _forward(x: TensorVariable, low: Any, high: Any) -> TensorVariable:
    if low is None and high is None:
        return x
    if high is None:
        return pt.log(x - low)
    if low is None:
        return -pt.log(high - x)
    return pt.log(x - low) - pt.log(high - x)


def _backward(y: TensorVariable, low: Any, high: Any) -> TensorVariable:
    if low is None and high is None:
        return y
    if high is None:
        return low + pt.exp(y)
    if low is None:
        return high - pt.exp(-y)
    return low + _width(low, high) * pt.sigmoid(y)


def _log_derivative(y: TensorVariable, low: Any, high: Any) -> TensorVariable:
    if low is None and high is None:
        return pt.zeros_like(y)
    if high is None:
        return y
    if low is None:
        return -y
    return pt.log(_width(low, high)) - pt.softplus(y) - pt.softplus(-y)


def _width(low: Any, high: Any) -> Any:
    """Width, kept positive where a parameter leaves nothing of a window: there, log p is −inf."""
    return pt.maximum(high - low, SMALLEST)
