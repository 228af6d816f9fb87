"""Markov windows re-expressed as ordinary PyTensor graphs: all time points at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable
from torch import nn

from jana_pymc.likelihoods import CountRange, MarkovianLikelihood
from jana_pymc.likelihoods.time_point import LOG_SCALE_RANGE, TimePointDensity
from jana_pymc.networks import DenseNetwork
from jana_pymc.networks.varying_coefficients import VaryingCoefficientNetwork
from jana_pymc.pytensor.lowering import lower
from jana_pymc.pytensor.lowering_parts import (
    ACTIVATIONS,
    NoLowering,
    array,
    count_to_real,
    has_begun,
    is_count,
    log_count,
    shifted,
    time_since_start,
    to_real,
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
    one log density each. Features that depend on observations alone are computed once, at
    compilation, if these are constants.
    """
    if network.gru is not None:
        raise NoLowering("a recurrent memory has no PyTensor version; settings with memory=0 have.")
    if observables.ndim == 3:
        return _whole_sequences(network, observables, parameters, group, conditions)
    features, log_det, inside = _encode(network.density, observables, parameters, group)
    there = has_begun(observables, group, network.n_flags)
    known = [1.0 - t for t in there]
    if network.n_conditions:
        if conditions is None:
            raise ValueError(f"this likelihood needs {network.n_conditions} known conditions.")
        mean, sd = array(network.condition_mean), array(network.condition_sd)
        known.insert(0, (conditions - mean) / sd)
    if network.settings.clock:
        clock = 2.0 * time_since_start(observables, group) / float(network.length) - 1.0
        known.append(clock[:, None])
    low, high = array(network.density.low), array(network.density.high)
    bounded = pt.clip(features, low, high)
    lags = [
        (shifted(features, j + 1) * t, shifted(bounded, j + 1) * t)
        for j, t in enumerate(there[: network.settings.order])
    ]
    nothing = pt.zeros((observables.shape[0], 0))
    smallest = array(network.smallest)
    safe = pt.maximum(parameters, np.where(smallest > 0, smallest, 1.0))
    theta = pt.concatenate([parameters, pt.switch(smallest > 0, pt.log(safe), 0.0)], axis=1)
    theta = (theta - array(network.parameter_mean)) / array(network.parameter_sd)
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
    """Sums over time; each sequence has its own group, so that neighbouring ones stay separate."""
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
    """Inputs of the conditional density, with the parameters once per sequence."""

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
        weight = array(layer.weight).T
        n = self.n_parameters
        own = self.theta @ pt.constant(weight[:n]) + pt.constant(array(layer.bias))
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
        raw = _varying_coefficients(density.networks[j], earlier)  # type: ignore[arg-type]
        if isinstance(component, int):
            log_p = pt.special.log_softmax(raw, axis=1)
            total = total + (log_p * features[:, column]).sum(axis=1)
            continue
        line = _RealLine(raw, bins)
        if isinstance(component, CountRange):
            mean, sd = (float(b[column.start]) for b in (density.mean, density.sd))
            total = total + log_count(component, observables[:, j], line, mean, sd)
        else:
            total = total + line.log_density(features[:, column.start])
    return total


def _varying_coefficients(network: VaryingCoefficientNetwork, inputs: _Inputs) -> TensorVariable:
    raw = inputs.linear(network.skip, inputs.known, inputs.bounded)
    raw = raw + _dense_of_rows(network.dense, inputs, inputs.known, inputs.bounded)
    begins = inputs.known[:, network.flag - inputs.n_parameters]
    raw = raw + begins[:, None] * _dense_of_rows(network.start, inputs, inputs.known)
    if network.coefficients is None:
        return raw
    coefficients = _dense_of_rows(network.coefficients, inputs, inputs.known)
    location = (coefficients * inputs.past).sum(axis=1)
    return pt.concatenate([(raw[:, 0] + location)[:, None], raw[:, 1:]], axis=1)


def _dense_of_rows(network: DenseNetwork, inputs: _Inputs, *rows: TensorVariable) -> TensorVariable:
    x = None
    for layer in network.layers:
        if isinstance(layer, nn.Linear):
            if x is None:
                x = inputs.linear(layer, *rows)
            else:
                x = x @ pt.constant(array(layer.weight).T) + pt.constant(array(layer.bias))
        else:
            x = ACTIVATIONS[type(layer)](x)
    return x


class _RealLine:
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
            possible = is_count(component, x)
            y = count_to_real(component, pt.switch(possible, x, 0.0))[:, None]
        else:
            real, own_log_det, possible = to_real(component, x, parameters, group)
            log_det = log_det + own_log_det - math.log(float(density.sd[column.start]))
            y = real[:, None]
        inside = pt.and_(inside, possible)
        features.append(y)
    joined = pt.concatenate(features, axis=1)
    return (joined - array(density.mean)) / array(density.sd), log_det, inside
