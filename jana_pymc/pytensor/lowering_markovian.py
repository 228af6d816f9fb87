"""Markov windows re-expressed as ordinary PyTensor graphs: all time points at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.likelihoods import CountRange, MarkovianLikelihood
from jana_pymc.likelihoods.conditioner import Conditioner
from jana_pymc.likelihoods.counts import NARROW
from jana_pymc.likelihoods.time_point import LOG_SCALE_RANGE, TimePointDensity
from jana_pymc.networks import DenseNetwork
from jana_pymc.pytensor.lowering import (
    ACTIVATIONS,
    NoLowering,
    _numpy,
    _to_real,
    lower,
)
from jana_pymc.pytensor.lowering_spline import Splines


@lower.register
def lower_markovian(
    network: MarkovianLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Rows are the time points of one sequence; with a group, of one after the other.

    A new sequence begins where the group changes. Sequences of shape (sets, n_obs, components) have
    one log density each. What depends on observations alone is a constant
    of the graph if they are, and is computed once, when it is compiled.
    """
    if network.gru is not None:
        raise NoLowering("a recurrent memory has no PyTensor version; settings with memory=0 have.")
    if observables.ndim == 3:
        return _whole_sequences(network, observables, parameters, group, conditions)
    features, log_det, inside = _encode(network.density, observables, parameters, group)
    there = _there(observables, group, network.n_flags)
    known = [1.0 - t for t in there]
    if network.n_conditions:
        if conditions is None:
            raise ValueError(f"this likelihood needs {network.n_conditions} known conditions.")
        mean, sd = _numpy(network.condition_mean), _numpy(network.condition_sd)
        known.insert(0, (conditions - mean) / sd)
    if network.settings.clock:
        clock = 2.0 * _time(observables, group) / float(network.length) - 1.0
        known.append(clock[:, None])
    low, high = _numpy(network.density.low), _numpy(network.density.high)
    bounded = pt.clip(features, low, high)
    lags = [
        (_shifted(features, j + 1) * t, _shifted(bounded, j + 1) * t)
        for j, t in enumerate(there[: network.settings.order])
    ]
    nothing = pt.zeros((observables.shape[0], 0))
    smallest = _numpy(network.smallest)
    safe = pt.maximum(parameters, np.where(smallest > 0, smallest, 1.0))
    theta = pt.concatenate([parameters, pt.switch(smallest > 0, pt.log(safe), 0.0)], axis=1)
    theta = (theta - _numpy(network.parameter_mean)) / _numpy(network.parameter_sd)
    inputs = _Inputs(
        n_parameters=len(network.parameter_mean),
        theta=theta,
        group=group,
        known=pt.concatenate([nothing, *known], axis=1),
        past=pt.concatenate([nothing, *(lag for lag, _ in lags)], axis=1),
        bounded=pt.concatenate([nothing, *(lag for _, lag in lags)], axis=1),
    )
    log_prob = log_det + _components(network.density, observables, features, bounded, inputs)
    return pt.switch(inside, log_prob, -np.inf)


def _whole_sequences(
    network: MarkovianLikelihood,
    sequences: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Sums over time; each sequence has a group of its own, so that neighbours stay apart."""
    n_sets, n_obs = sequences.shape[0], sequences.shape[1]
    if group is None:
        own = pt.broadcast_to(parameters, (n_sets, parameters.shape[1]))
    else:
        own = parameters[group]
    rows = sequences.reshape((-1, sequences.shape[2]))
    known = None if conditions is None else conditions.reshape((-1, conditions.shape[-1]))
    steps = lower_markovian(network, rows, own, pt.repeat(pt.arange(n_sets), n_obs), known)
    return steps.reshape((n_sets, n_obs)).sum(axis=1)


@dataclass(frozen=True)
class _Inputs:
    """What the conditional density sees, the parameters once a sequence."""

    n_parameters: int
    theta: TensorVariable
    group: TensorVariable | None
    known: TensorVariable
    past: TensorVariable
    bounded: TensorVariable

    def given(self, earlier: TensorVariable, bounded: TensorVariable) -> _Inputs:
        """The same with components of the time point itself."""
        return replace(
            self,
            past=pt.concatenate([self.past, earlier], axis=1),
            bounded=pt.concatenate([self.bounded, bounded], axis=1),
        )

    def linear(self, layer: nn.Linear, *rows: TensorVariable) -> TensorVariable:
        """A linear layer of parameters, followed by what is there once a row."""
        weight = _numpy(layer.weight).T
        n = self.n_parameters
        own = self.theta @ pt.constant(weight[:n]) + pt.constant(_numpy(layer.bias))
        own = own[0] if self.group is None else own[self.group]
        return own + pt.concatenate(rows, axis=1) @ pt.constant(weight[n:])


def _components(
    density: TimePointDensity,
    observables: TensorVariable,
    features: TensorVariable,
    bounded: TensorVariable,
    inputs: _Inputs,
) -> TensorVariable:
    total = pt.zeros(observables.shape[:1])
    bins = density.settings.n_bins
    for j, (component, column) in enumerate(zip(density.components, density.columns, strict=True)):
        earlier = inputs.given(features[:, : column.start], bounded[:, : column.start])
        raw = _conditioner(density.networks[j], earlier)  # type: ignore[arg-type]
        if isinstance(component, int):
            log_p = pt.special.log_softmax(raw, axis=1)
            total = total + (log_p * features[:, column]).sum(axis=1)
            continue
        line = _Line(raw, bins)
        if isinstance(component, CountRange):
            mean, sd = (float(b[column.start]) for b in (density.mean, density.sd))
            total = total + log_count(component, observables[:, j], line, mean, sd)
        else:
            total = total + line.log_density(features[:, column.start])
    return total


def _conditioner(network: Conditioner, inputs: _Inputs) -> TensorVariable:
    raw = inputs.linear(network.skip, inputs.known, inputs.bounded)
    raw = raw + _dense(network.dense, inputs, inputs.known, inputs.bounded)
    begins = inputs.known[:, network.flag - inputs.n_parameters]
    raw = raw + begins[:, None] * _dense(network.start, inputs, inputs.known)
    if network.coefficients is None:
        return raw
    coefficients = _dense(network.coefficients, inputs, inputs.known)
    location = (coefficients * inputs.past).sum(axis=1)
    return pt.concatenate([(raw[:, 0] + location)[:, None], raw[:, 1:]], axis=1)


def _dense(network: DenseNetwork, inputs: _Inputs, *rows: TensorVariable) -> TensorVariable:
    x = None
    for layer in network.layers:
        if isinstance(layer, nn.Linear):
            if x is None:
                x = inputs.linear(layer, *rows)
            else:
                x = x @ pt.constant(_numpy(layer.weight).T) + pt.constant(_numpy(layer.bias))
        else:
            x = ACTIVATIONS[type(layer)](x)
    return x


class Line(Protocol):
    """An increasing map of the real line, one a row."""

    def value(self, y: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Images of points, shape (points, rows), and log derivatives."""


class _Line:
    """`_RealLine` in PyTensor."""

    def __init__(self, raw: TensorVariable, bins: int):
        self.shift = raw[:, 0]
        self.log_scale = LOG_SCALE_RANGE * pt.tanh(raw[:, 1] / LOG_SCALE_RANGE)
        self.splines = Splines(raw[:, 2:], bins)

    def log_density(self, y: TensorVariable) -> TensorVariable:
        """Under a standard normal."""
        z, log_derivative = self.value(y)
        return log_derivative - 0.5 * z * z - 0.5 * math.log(2.0 * math.pi)

    def value(self, y: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Images of points, shape (rows,) or (points, rows), and log derivatives."""
        residual = (y - self.shift) * pt.exp(-self.log_scale)
        row = pt.arange(self.shift.shape[0])
        row = row if y.ndim == 1 else pt.tile(row, y.shape[0])
        z, log_derivative = self.splines(residual.ravel(), row)
        log_derivative = log_derivative.reshape(y.shape, ndim=y.ndim) - self.log_scale
        return z.reshape(y.shape, ndim=y.ndim), log_derivative


def log_count(
    component: CountRange, counts: TensorVariable, line: Line, mean: float, sd: float
) -> TensorVariable:
    """`log_cell_probability` of counts in PyTensor."""
    counts = pt.switch(_is_count(component, counts), counts, 0.0)
    has_left, upper = counts > 0, component.upper
    above_zero = pt.switch(has_left, counts, 1.0)
    left, right, width = pt.log(above_zero), pt.log(counts + 1.0), pt.log1p(1.0 / above_zero)
    has_right = pt.ones_like(has_left)
    if upper is not None:
        has_right = counts < upper
        below_upper = pt.switch(has_right, upper - counts, 1.0)
        left = left - pt.log(upper + 1.0 - counts)
        right = right - pt.log(below_upper)
        width = width + pt.log1p(1.0 / below_upper)
    left, right = (left - mean) / sd, (right - mean) / sd
    z, slope = line.value(pt.stack([left, right, 0.5 * (left + right)]))
    a, b, narrow = z[0], z[1], pt.exp(slope[2]) * width / sd
    both = pt.and_(has_left, has_right)
    width = pt.switch(both, pt.switch(b - a > NARROW, b - a, narrow), 1.0)
    return (
        pt.switch(has_right, -pt.softplus(-b), 0.0)
        + pt.switch(has_left, -pt.softplus(a), 0.0)
        + pt.switch(both, pt.log(-pt.expm1(-width)), 0.0)
    )


def _is_count(component: CountRange, x: TensorVariable) -> TensorVariable:
    possible = pt.and_(x >= 0, pt.eq(x, pt.floor(x)))
    return possible if component.upper is None else pt.and_(possible, x <= component.upper)


def _encode(
    density: TimePointDensity,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """`TimePointDensity.encode` in PyTensor: features, log determinant, and whether inside."""
    features, log_det = [], pt.zeros(observables.shape[:1])
    inside = pt.ones(observables.shape[:1], dtype="bool")
    for j, (component, column) in enumerate(zip(density.components, density.columns, strict=True)):
        x = observables[:, j]
        if isinstance(component, int):
            category = pt.clip(pt.round(x), 0, component - 1)
            possible = pt.eq(x, category)
            y = pt.cast(pt.eq(category[:, None], np.arange(component)), "float64")
        elif isinstance(component, CountRange):
            possible = _is_count(component, x)
            safe = pt.switch(possible, x, 0.0)
            real = pt.log(safe + 0.5)
            if component.upper is not None:
                real = real - pt.log(component.upper + 0.5 - safe)
            y = real[:, None]
        else:
            real, own_log_det, possible = _to_real(component, x, parameters, group)
            log_det = log_det + own_log_det - math.log(float(density.sd[column.start]))
            y = real[:, None]
        inside = pt.and_(inside, possible)
        features.append(y)
    joined = pt.concatenate(features, axis=1)
    return (joined - _numpy(density.mean)) / _numpy(density.sd), log_det, inside


def _there(
    observables: TensorVariable, group: TensorVariable | None, order: int
) -> list[TensorVariable]:
    """For each lag, whether the sequence had begun, as columns of zeros and ones."""
    row = pt.arange(observables.shape[0])
    if group is None:
        return [pt.cast(row > j, "float64")[:, None] for j in range(order)]
    continues = pt.concatenate([np.zeros(1, dtype="float64"), pt.eq(group[1:], group[:-1])])
    columns, there = [], pt.ones_like(continues)
    for j in range(order):
        there = there * _shifted(continues[:, None], j)[:, 0]
        columns.append(there[:, None])
    return columns


def _time(observables: TensorVariable, group: TensorVariable | None) -> TensorVariable:
    """Steps since the sequence began."""
    row = pt.arange(observables.shape[0], dtype="float64")
    if group is None:
        return row
    begins = pt.concatenate([np.ones(1, dtype=bool), pt.neq(group[1:], group[:-1])])
    first = pt.nonzero(begins)[0]
    return row - first[pt.cumsum(pt.cast(begins, "int64")) - 1]


def _shifted(values: TensorVariable, steps: int) -> TensorVariable:
    """Rows of some steps before; zeros at the top."""
    if steps == 0:
        return values
    return pt.concatenate([pt.zeros_like(values[:steps]), values[:-steps]], axis=0)
