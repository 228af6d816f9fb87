"""The likelihood around a trajectory re-expressed as ordinary PyTensor graphs."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import Assert
from pytensor.tensor.variable import TensorVariable

from jana_pymc.likelihoods import CountRange, TrajectoryLikelihood
from jana_pymc.likelihoods.entering import EnteringParameters
from jana_pymc.likelihoods.trajectory import MAX_LOG_SCALE, MAX_SEEN, MAX_SHIFT
from jana_pymc.networks.dynamics import LARGEST, MAX_LOG_GAIN, DynamicsNetwork
from jana_pymc.pytensor.barrier import barrier
from jana_pymc.pytensor.lowering import NoLowering, _dense, _layers, _numpy, _to_real, lower
from jana_pymc.pytensor.lowering_markovian import _is_count, _shifted, _there, _time, log_count
from jana_pymc.pytensor.lowering_vector import _Line, _monotone, _soft_clamp

MAX_STEPS = 24
"""Of a law of motion; each is some twenty nodes of the graph, with its gradient."""


@lower.register
def lower_trajectory(
    network: TrajectoryLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Rows are the time points of one sequence; with a group, of one after the other.

    A new sequence begins where the group changes. Sequences of shape (sets, n_obs, components) have
    one log density each.
    """
    curves = _curves(network, parameters)
    if observables.ndim == 2:
        time = _within(network, pt.cast(_time(observables, group), "int64"))
        there = _there(observables, group, network.settings.order)
        own = pt.zeros_like(time) if group is None else group
        return _rows(network, observables, parameters, group, curves[own, time], time, there)
    n_sets, n_obs = observables.shape[0], observables.shape[1]
    rows = observables.reshape((-1, observables.shape[2]))
    time = _within(network, pt.tile(pt.arange(n_obs), n_sets))
    sets = pt.repeat(pt.arange(n_sets), n_obs)
    own = pt.zeros_like(sets) if group is None else group[sets]
    there = _there(rows, sets, network.settings.order)
    single = None if group is None else own
    steps = _rows(network, rows, parameters, single, curves[own, time], time, there)
    return steps.reshape((n_sets, n_obs)).sum(axis=1)


def _within(network: TrajectoryLikelihood, time: TensorVariable) -> TensorVariable:
    """Fail where `pymc.set_data` brought in sequences longer than the trajectory."""
    message = f"this likelihood was trained on {network.n_steps} time points at most."
    return Assert(message)(time, pt.all(time < network.n_steps))


def _curves(network: TrajectoryLikelihood, parameters: TensorVariable) -> TensorVariable:
    """What the networks make of each parameter vector, (groups, times, components, features)."""
    theta = _entering(network.entering, parameters)
    n = network.entering.n_entering
    if isinstance(network.trajectory, DynamicsNetwork):
        raw = _dynamics(network.trajectory, theta)
    else:
        raw = _dense(network.trajectory, theta, np.zeros(n), np.ones(n))
    if network.linear is not None:
        raw = raw + theta @ pt.constant(_numpy(network.linear.weight).T)
    dim = len(network.components)
    return raw.reshape((-1, network.n_steps, dim, 2 + network.settings.n_features))


def _dynamics(network: DynamicsNetwork, theta: TensorVariable) -> TensorVariable:
    """`DynamicsNetwork.forward` in PyTensor, one step after the other.

    A loop (`pytensor.scan`) takes as long to compile, and more than twice as long to evaluate.
    """
    n_steps = (network.n_times - 1) * network.n_substeps
    if n_steps > MAX_STEPS:
        raise NoLowering(
            f"a law of motion with {n_steps} steps, from first to last time point of the longest "
            f"sequence, would take long to compile: expected at most {MAX_STEPS}. Leave backend at "
            "'auto', or say 'op'."
        )
    context = _layers([network.context], theta)
    width = network.enter.out_features
    shift, log_gain = barrier(context[:, :width]), context[:, width:]
    gain = barrier(pt.exp(_bounded(log_gain, MAX_LOG_GAIN)))
    enter = pt.constant(_numpy(network.enter.weight).T)
    state = barrier(_layers(network.start.layers, theta))
    states = [state]
    for _ in range(network.n_times - 1):
        for _ in range(network.n_substeps):
            entered = barrier((state @ enter) * gain + shift)
            change = _layers(network.law.layers, entered * pt.sigmoid(entered))
            state = barrier(_bounded(state + change / network.n_substeps, LARGEST))
        states.append(state)
    return _layers([network.out], pt.stack(states, axis=1))


def _bounded(x: TensorVariable, bound: float) -> TensorVariable:
    return bound * pt.tanh(x / bound)


def _entering(network: EnteringParameters, parameters: TensorVariable) -> TensorVariable:
    """`EnteringParameters.forward` in PyTensor."""
    logs = network.logarithmic.cpu().numpy()
    plain = parameters
    if logs.any():
        safe = pt.maximum(parameters, np.where(logs, np.finfo(np.float64).tiny, -np.inf))
        plain = pt.switch(logs, pt.log(pt.switch(logs, safe, 1.0)), parameters)
    if network.rounded:
        columns = plain[:, network.rounded]
        plain = pt.set_subtensor(columns, pt.round(columns))
    if network.angles:
        angles = parameters[:, network.angles]
        plain = pt.set_subtensor(plain[:, network.angles], pt.sin(angles))
        plain = pt.concatenate([plain, pt.cos(angles)], axis=1)
    return (plain - _numpy(network.mean)) / _numpy(network.sd)


def _rows(
    network: TrajectoryLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    features: TensorVariable,
    time: TensorVariable,
    there: list[TensorVariable],
) -> TensorVariable:
    """Log density of time points, given their features, (rows, components, features)."""
    y_sd = pt.constant(_numpy(network.y_sd))[time]
    location = pt.constant(_numpy(network.y_mean))[time] + y_sd * features[..., 0]
    log_scale = pt.log(y_sd) + _soft_clamp(features[..., 1], MAX_LOG_SCALE)
    inverse_scale = pt.exp(-log_scale)
    columns, log_det = [], pt.zeros(observables.shape[:1])
    inside = pt.ones(observables.shape[:1], dtype="bool")
    for j, component in enumerate(network.components):
        x = observables[:, j]
        if isinstance(component, CountRange):
            possible = _is_count(component, x)
            safe = pt.switch(possible, x, 0.0)
            y = pt.log(safe + 0.5)
            if component.upper is not None:
                y = y - pt.log(component.upper + 0.5 - safe)
        else:
            y, own, possible = _to_real(component, x, parameters, group)
            log_det = log_det + own - log_scale[:, j]
        columns.append(y)
        inside = pt.and_(inside, possible)
    residual = (pt.stack(columns, axis=1) - location) * inverse_scale
    seen = _soft_clamp(residual, MAX_SEEN)
    lags = [_shifted(seen, k + 1) * each for k, each in enumerate(there)]
    raw, shift = _law(network, features, pt.concatenate([*lags, seen], axis=1))
    log_prob = log_det
    bins = network.settings.n_bins
    for j, component in enumerate(network.components):
        if isinstance(component, CountRange):
            moved = location[:, j] + shift[:, j] * pt.exp(log_scale[:, j])
            line = _Line(raw[:, j], bins, moved, inverse_scale[:, j])
            log_prob = log_prob + log_count(component, observables[:, j], line, 0.0, 1.0)
        else:
            z, slope = _monotone(residual[:, j] - shift[:, j], raw[:, j], bins)
            log_prob = log_prob + slope - 0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)
    return pt.switch(inside, log_prob, -np.inf)


def _law(
    network: TrajectoryLikelihood, features: TensorVariable, residuals: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """`TrajectoryLikelihood._law` in PyTensor, all components of all rows at once."""
    dim, n_seen = len(network.components), network.n_seen
    n_rows, n_features = features.shape[0], 2 + network.settings.n_features
    visible = np.ones((dim, n_seen))
    visible[:, n_seen - dim :] = _numpy(network.before)
    seen = residuals[:, None] * visible
    which = pt.broadcast_to(np.eye(dim)[None], (n_rows, dim, dim))
    entering = pt.concatenate([features, which, seen], axis=2)
    n = n_features + dim + n_seen
    rows = entering.reshape((-1, n))
    raw = _dense(network.law, rows, np.zeros(n), np.ones(n))
    raw = raw.reshape((n_rows, dim, -1))
    shift = _soft_clamp((raw[..., -n_seen:] * seen).sum(axis=2), MAX_SHIFT)
    return raw[..., :-n_seen], shift
