"""The likelihood around a trajectory re-expressed as ordinary PyTensor graphs."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.raise_op import Assert
from pytensor.tensor.variable import TensorVariable

from jana_pymc.likelihoods import CountRange, TrajectoryLikelihood
from jana_pymc.likelihoods.trajectory import MAX_LOG_SCALE, MAX_SEEN, MAX_SHIFT
from jana_pymc.networks.dynamics import LARGEST, MAX_LOG_GAIN, DynamicsEnsemble, DynamicsNetwork
from jana_pymc.pytensor.barrier import barrier
from jana_pymc.pytensor.lowering import lower
from jana_pymc.pytensor.lowering_parts import (
    CountLine,
    NoLowering,
    apply_layers,
    array,
    atan_clamp,
    count_to_real,
    dense_network,
    entering_parameters,
    has_begun,
    is_count,
    log_count,
    monotone,
    shifted,
    time_since_start,
    to_real,
)

MAX_STEPS = 24
"""Most steps of a law of motion; each is some twenty nodes of the graph, with its gradient."""


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
        time = _within(network, pt.cast(time_since_start(observables, group), "int64"))
        there = has_begun(observables, group, network.settings.order)
        own = pt.zeros_like(time) if group is None else group
        return _rows(network, observables, parameters, group, curves[own, time], time, there)
    n_sets, n_obs = observables.shape[0], observables.shape[1]
    rows = observables.reshape((-1, observables.shape[2]))
    time = _within(network, pt.tile(pt.arange(n_obs), n_sets))
    sets = pt.repeat(pt.arange(n_sets), n_obs)
    own = pt.zeros_like(sets) if group is None else group[sets]
    there = has_begun(rows, sets, network.settings.order)
    single = None if group is None else own
    steps = _rows(network, rows, parameters, single, curves[own, time], time, there)
    return steps.reshape((n_sets, n_obs)).sum(axis=1)


def _within(network: TrajectoryLikelihood, time: TensorVariable) -> TensorVariable:
    """Fail if `pymc.set_data` exchanged sequences for ones longer than the trajectory."""
    message = f"this likelihood was trained on {network.n_steps} time points at most."
    return Assert(message)(time, pt.all(time < network.n_steps))


def _curves(network: TrajectoryLikelihood, parameters: TensorVariable) -> TensorVariable:
    """Features of each parameter vector, shape (groups, times, components, features)."""
    own = network.entering
    plain = entering_parameters(parameters, own.logarithmic, own.angles, own.rounded)
    theta, n = (plain - array(own.mean)) / array(own.sd), own.n_entering
    trajectory = network.trajectory
    if isinstance(trajectory, DynamicsEnsemble):
        trajectory = trajectory.merged()  # a larger network, not a larger graph
    if isinstance(trajectory, DynamicsNetwork):
        raw = _dynamics(trajectory, theta)
    else:
        raw = dense_network(trajectory, theta, np.zeros(n), np.ones(n))
    if network.linear is not None:
        raw = raw + theta @ pt.constant(array(network.linear.weight).T)
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
    context = apply_layers([network.context], theta)
    width = network.enter.out_features
    shift, log_gain = barrier(context[:, :width]), context[:, width:]
    gain = barrier(pt.exp(_tanh_clamp(log_gain, MAX_LOG_GAIN)))
    enter = pt.constant(array(network.enter.weight).T)
    state = barrier(apply_layers(network.start.layers, theta))
    states = [state]
    for _ in range(network.n_times - 1):
        for _ in range(network.n_substeps):
            entered = barrier((state @ enter) * gain + shift)
            change = apply_layers(network.law.layers, entered * pt.sigmoid(entered))
            state = barrier(_tanh_clamp(state + change / network.n_substeps, LARGEST))
        states.append(state)
    return apply_layers([network.out], pt.stack(states, axis=1))


def _tanh_clamp(x: TensorVariable, bound: float) -> TensorVariable:
    """`networks.clamps.tanh_clamp` in PyTensor."""
    return bound * pt.tanh(x / bound)


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
    y_sd = pt.constant(array(network.y_sd))[time]
    location = pt.constant(array(network.y_mean))[time] + y_sd * features[..., 0]
    log_scale = pt.log(y_sd) + atan_clamp(features[..., 1], MAX_LOG_SCALE)
    inverse_scale = pt.exp(-log_scale)
    columns, log_det = [], pt.zeros(observables.shape[:1])
    inside = pt.ones(observables.shape[:1], dtype="bool")
    for j, component in enumerate(network.components):
        x = observables[:, j]
        if isinstance(component, CountRange):
            possible = is_count(component, x)
            y = count_to_real(component, pt.switch(possible, x, 0.0))
        else:
            y, own, possible = to_real(component, x, parameters, group)
            log_det = log_det + own - log_scale[:, j]
        columns.append(y)
        inside = pt.and_(inside, possible)
    residual = (pt.stack(columns, axis=1) - location) * inverse_scale
    seen = atan_clamp(residual, MAX_SEEN)
    lags = [shifted(seen, k + 1) * each for k, each in enumerate(there)]
    raw, shift = _law(network, features, pt.concatenate([*lags, seen], axis=1))
    log_prob = log_det
    bins = network.settings.n_bins
    for j, component in enumerate(network.components):
        if isinstance(component, CountRange):
            moved = location[:, j] + shift[:, j] * pt.exp(log_scale[:, j])
            line = CountLine(raw[:, j], bins, moved, inverse_scale[:, j])
            log_prob = log_prob + log_count(component, observables[:, j], line, 0.0, 1.0)
        else:
            z, slope = monotone(residual[:, j] - shift[:, j], raw[:, j], bins)
            log_prob = log_prob + slope - 0.5 * z**2 - 0.5 * math.log(2.0 * math.pi)
    return pt.switch(inside, log_prob, -np.inf)


def _law(
    network: TrajectoryLikelihood, features: TensorVariable, residuals: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """`TrajectoryLikelihood._law` in PyTensor, all components of all rows at once."""
    dim, n_seen = len(network.components), network.n_seen
    n_rows, n_features = features.shape[0], 2 + network.settings.n_features
    visible = np.ones((dim, n_seen))
    visible[:, n_seen - dim :] = array(network.before)
    seen = residuals[:, None] * visible
    which = pt.broadcast_to(np.eye(dim)[None], (n_rows, dim, dim))
    entering = pt.concatenate([features, which, seen], axis=2)
    n = n_features + dim + n_seen
    rows = entering.reshape((-1, n))
    raw = dense_network(network.law, rows, np.zeros(n), np.ones(n))
    raw = raw.reshape((n_rows, dim, -1))
    shift = atan_clamp((raw[..., -n_seen:] * seen).sum(axis=2), MAX_SHIFT)
    return raw[..., :-n_seen], shift
