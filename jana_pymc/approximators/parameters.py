"""Parameters as users pass them to a likelihood, checked and in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorConstant, TensorVariable

from jana_pymc.simulation import ParameterLayout
from jana_pymc.warning import warn


def ordered_parameters(
    layout: ParameterLayout,
    region: np.ndarray,
    given: Mapping[str, Any],
    batch: tuple[int | None, ...] | None,
    each: str,
) -> list[TensorVariable]:
    """Tensors of all parameters in the order of the layout.

    Parameters
    ----------
    layout : ParameterLayout
    region : ndarray, shape (2, size)
        Trained region; numbers outside it raise a warning.
    given : mapping of str to number, array or tensor
        A scalar or array of the parameter's shape, behind any dimensions of the batch.
    batch : tuple of int or None, or None
        Sizes, where they are known, along which parameters may differ; None if nothing is known.
    each : str
        The unit between which parameters may differ: "observation" or "data set".

    Raises
    ------
    TypeError
        If a parameter is missing, unknown, or no number.
    ValueError
        If a parameter is NaN or does not have its shape.
    """
    check_given("the likelihood takes the parameters", layout.names, given)
    values = []
    for name in layout.names:
        value = _tensor(name, given[name])
        _check_shape(name, value, layout.shapes[name], batch, each)
        if isinstance(value, TensorConstant):
            _check_numbers(name, value.data, region[:, layout.slices[name]])
        values.append(value)
    return values


def check_together(
    layout: ParameterLayout,
    values: Iterable[TensorVariable],
    conditions: tuple[int | None, ...] | None,
    each: str,
) -> None:
    """Refuse parameters and conditions that are for different numbers of observations or data sets.

    Parameters
    ----------
    layout : ParameterLayout
    values : iterable of TensorVariable
        In its order.
    conditions : tuple of int or None, or None
        Sizes, where they are known, along which the conditions differ; None without conditions.
    each : str
        The unit between which parameters and conditions may differ.

    Raises
    ------
    ValueError
        If two numbers differ.
    """
    sizes = {} if conditions is None else {"the conditions": conditions}
    for (name, shape), value in zip(layout.shapes.items(), values, strict=True):
        sizes[f"parameter {name!r}"] = value.type.shape[: value.ndim - len(shape)]
    found: dict[int, tuple[str, int]] = {}
    for what, batch in sizes.items():
        for axis, n in enumerate(reversed(batch)):
            if n in (None, 1):
                continue
            other, m = found.setdefault(axis, (what, n))
            if n != m:
                raise ValueError(
                    f"{what} has {n} values, for which there would be {m} {each}s by {other}; "
                    f"expected one for each {each}, or one for all."
                )


def check_given(what: str, expected: Collection[str], given: Iterable[Any]) -> None:
    """Ask for all expected arguments and no others.

    Parameters
    ----------
    what : str
        Beginning of the message, before the expected names.
    expected : collection of str
    given : iterable of str

    Raises
    ------
    TypeError
        If one is missing or unknown.
    """
    given = list(given)
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        raise TypeError(f"{what} {', '.join(expected)}; {'; '.join(parts)}.")


def probability(name: str, value: Any, n_obs: int | None = None) -> TensorVariable:
    """Tensor of a probability, a scalar or one value per observation.

    Raises
    ------
    TypeError, ValueError
        If it is not a number, or outside 0 to 1.
    """
    tensor = _tensor(name, value)
    if isinstance(tensor, TensorConstant) and not ((tensor.data >= 0) & (tensor.data <= 1)).all():
        raise ValueError(f"{name}={value!r}: expected a probability between 0 and 1.")
    if tensor.ndim > 1:
        raise ValueError(f"{name} has {tensor.ndim} dimensions; expected a scalar or (n_obs,).")
    if tensor.ndim and n_obs is not None and tensor.type.shape[0] not in (None, 1, n_obs):
        raise ValueError(f"{name} has {tensor.type.shape[0]} values for {n_obs} observations.")
    return tensor


def _tensor(name: str, value: Any) -> TensorVariable:
    wrong = f"{name!r} is {type(value).__name__}; expected a number, array or tensor."
    if value is None or isinstance(value, str | bytes):
        raise TypeError(wrong)
    try:
        tensor = pt.as_tensor_variable(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TypeError(wrong) from error
    if tensor.dtype.startswith(("str", "complex", "object")):
        raise TypeError(wrong)
    return tensor


def _check_shape(
    name: str,
    value: TensorVariable,
    shape: tuple[int, ...],
    batch: tuple[int | None, ...] | None,
    each: str,
) -> None:
    if value.ndim < len(shape):
        raise ValueError(
            f"parameter {name!r} has {value.ndim} dimensions; expected {len(shape)}, of "
            f"shape {shape}, after those of the {each}s."
        )
    n_batch = value.ndim - len(shape)
    known = value.type.shape
    own = known[n_batch:]
    if any(size is not None and size != s for size, s in zip(own, shape, strict=True)):
        raise ValueError(f"parameter {name!r} has shape {own}; expected {shape}.")
    if batch is None:
        return
    if n_batch > len(batch):
        more = f", or one more for the {each}s" if batch else ": there is one data set"
        raise ValueError(
            f"parameter {name!r} has {value.ndim} dimensions; expected {len(shape)}{more}."
        )
    if n_batch and batch[-1] is not None and known[n_batch - 1] not in (None, 1, batch[-1]):
        raise ValueError(
            f"parameter {name!r} has {known[n_batch - 1]} values for {batch[-1]} {each}s; "
            f"expected one for each {each}, or one for all."
        )


def _check_numbers(name: str, value: np.ndarray, region: np.ndarray) -> None:
    if not np.isfinite(value).all():
        raise ValueError(f"parameter {name!r} is NaN or infinite.")
    flat = np.asarray(value, dtype=float).reshape(-1, region.shape[1])
    outside = (flat < region[0]) | (flat > region[1])
    if outside.any():
        column = int(np.argwhere(outside)[0, 1])
        low, high = region[:, column]
        warn(
            f"parameter {name!r} is {flat[outside][0]:.4g}, outside the trained region from "
            f"{low:.4g} to {high:.4g}: the density is zero there.",
        )
