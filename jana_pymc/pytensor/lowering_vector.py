"""The vector likelihood re-expressed as ordinary PyTensor graphs: all components at once."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from jana_pymc.flows.autoregressive import MAX_LOG_SCALE, AutoregressiveTransform
from jana_pymc.flows.trials import LEAST_SCALE, PACE, TrialSumTransform
from jana_pymc.likelihoods import CountRange, VectorLikelihood
from jana_pymc.likelihoods.discrete import LOGISTIC_LOG_SD, DiscreteAutoregressive
from jana_pymc.likelihoods.distractor_flow import DistractorFlow
from jana_pymc.networks.conditioners import FAR, ConditionerBank, LocationScaleNetwork
from jana_pymc.pytensor.lowering import lower
from jana_pymc.pytensor.lowering_parts import (
    CountLine,
    NoLowering,
    array,
    atan_clamp,
    count_to_real,
    dense_network,
    entering_parameters,
    is_count,
    log_count,
    monotone,
    rows_of,
    to_real,
)

MOST_KINDS = 4
"""Most kinds of discrete components; each has a graph of its own, which is slow to compile."""


@lower.register
def lower_vector(
    network: VectorLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """Rows are vectors; sequences of shape (sets, n_obs, components) are rows once flattened."""
    if network.discrete_part is not None:
        n_kinds = len(set(network.discrete_part.components))
        if n_kinds > MOST_KINDS:
            raise NoLowering(f"{n_kinds} kinds of discrete components would compile for minutes.")
    if observables.ndim == 3:
        observables = observables.reshape((observables.shape[0], len(network.components)))
        if conditions is not None:
            conditions = conditions.reshape((conditions.shape[0], network.n_conditions))
    context = _context(network, observables, parameters, group, conditions)
    log_prob = pt.zeros(observables.shape[:1])
    if network.discrete_part is not None:
        values = observables[:, list(network.discrete)]
        law = None
        if network.trial_sum is not None:
            law = _count_law(network, network.trial_sum, context)
        log_prob, codes = _discrete(network.discrete_part, values, context, law)
        seen = [context, codes]
        if network.trial_sum is not None:
            seen.append((values - array(network.count_mean)) / array(network.count_sd))
        context = pt.concatenate(seen, axis=1)
    if network.flow is not None:
        draws = [observables[:, list(draw)] for draw in network.draws]
        if len(draws) == 1:
            log_prob = log_prob + _flow(network, draws[0], parameters, group, context)
        else:  # one below the other, all on the real line already
            below = pt.concatenate(draws), parameters, group, pt.concatenate([context] * len(draws))
            log_prob = _flow(network, *below).reshape((len(draws), -1)).sum(axis=0)
    if network.distractor_part is not None:
        given = observables[:, [*network.discrete, *network.continuous]]
        distractors = observables[:, list(network.distractors)]
        log_prob = log_prob + _distractors(network.distractor_part, distractors, given)
    return log_prob


def _flow(
    network: VectorLikelihood,
    values: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    context: TensorVariable,
) -> TensorVariable:
    """Log density of the continuous components, one row per draw."""
    assert network.flow is not None  # narrows the type; the caller has checked
    log_prob = pt.zeros(values.shape[:1])
    columns, inside = [], pt.ones(values.shape[:1], dtype="bool")
    for j, support in enumerate(network.supports):
        y, log_det, possible = to_real(support, values[:, j], parameters, group)
        columns.append((y - float(network.real_mean[j])) / float(network.real_sd[j]))
        log_prob = log_prob + log_det - math.log(float(network.real_sd[j]))
        inside = inside & possible
    z = pt.stack(columns, axis=1)
    for transform in network.flow.transforms:
        if isinstance(transform, AutoregressiveTransform):
            z, log_det = _transform(transform, z, context)
            log_prob = log_prob + log_det.sum(axis=1)
        elif isinstance(transform, TrialSumTransform):
            z, log_det = _trial_sum(transform, z, context)
            log_prob = log_prob + log_det
        else:
            z = z[:, ::-1]
    return pt.switch(inside, log_prob + _log_normal(z), -np.inf)


def _context(
    network: VectorLikelihood,
    observables: TensorVariable,
    parameters: TensorVariable,
    group: TensorVariable | None,
    conditions: TensorVariable | None,
) -> TensorVariable:
    """`VectorLikelihood._context`, one row per observation."""
    entering = entering_parameters(parameters, network.parameter_log, network.angles)
    theta = (entering - array(network.parameter_mean)) / array(network.parameter_sd)
    context = rows_of(theta, group, observables)
    if not network.n_conditions:
        return context
    if conditions is None:
        raise ValueError(f"this likelihood needs {network.n_conditions} known conditions a row.")
    known = (conditions - array(network.condition_mean)) / array(network.condition_sd)
    parts = [context, known]
    if network.n_products:
        products = context[:, :, None] * known[:, None]
        parts.append(products.reshape((-1, network.n_products)))
    return pt.concatenate(parts, axis=1)


def _transform(
    transform: AutoregressiveTransform, x: TensorVariable, context: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """z, and the log derivative of each component."""
    log_scale: TensorVariable | float = 0.0
    if transform.location_scale is not None:
        location, log_scale = _location_scale(transform.location_scale, context)
        x = (x - location) * pt.exp(-log_scale)
    raw = _bank(transform.conditioners, context, x)
    n_outputs = transform.conditioners.bias_out.shape[1]
    z, log_derivative = monotone(x.ravel(), raw.reshape((-1, n_outputs)), transform.n_bins)
    return z.reshape(x.shape), log_derivative.reshape(x.shape) - log_scale


def _trial_sum(
    transform: TrialSumTransform, x: TensorVariable, condition: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """`TrialSumTransform.forward`: z, and the log determinant."""
    n, unit = transform.n_given, array(transform.unit)
    mean, covariance = _trial_moments(transform, condition[:, : transform.n_context])
    values = x
    if n:
        given = condition[:, -n:]
        values = pt.concatenate([given, x], axis=1)
    factor = pt.linalg.cholesky(covariance)
    residual = values @ pt.constant(np.linalg.inv(unit).T) - mean
    z = pt.linalg.solve_triangular(factor, residual, lower=True, b_ndim=1)
    diagonal = pt.diagonal(factor, axis1=1, axis2=2)[:, n:]
    log_det = -pt.log(diagonal).sum(axis=1) - np.log(np.diag(unit)[n:]).sum()
    return z[:, n:], log_det


def _trial_moments(
    transform: TrialSumTransform, context: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """Means and covariances of all components, in the regression's units."""
    jump, dim = PACE * array(transform.jump), transform.dim
    by_context = jump @ array(transform.slopes) + PACE * array(transform.difference)
    logit = context @ pt.constant(by_context.T) + PACE * array(transform.bias)
    probability = pt.sigmoid(logit)
    mean = array(transform.location) + (probability - 0.5) @ pt.constant(jump)
    products = (jump[:, :, None] * jump[:, None]).reshape(len(jump), -1)
    covariance = (probability * (1.0 - probability)) @ pt.constant(products)
    variance = LEAST_SCALE**2 + np.exp(2.0 * array(transform.log_scale))
    return mean, covariance.reshape((-1, dim, dim)) + np.diag(variance)


def _count_law(
    network: VectorLikelihood, transform: TrialSumTransform, context: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """`VectorLikelihood._count_law`: mean and standard deviation of the counts."""
    n = transform.n_given
    unit, sd = array(transform.unit)[:n, :n], array(network.count_sd)
    mean, covariance = _trial_moments(transform, context)
    variance = ((unit @ covariance[:, :n, :n]) * unit).sum(axis=2)
    mean = mean[:, :n] @ pt.constant(unit.T)
    return mean * sd + array(network.count_mean), pt.sqrt(variance) * sd


def _discrete(
    part: DiscreteAutoregressive,
    values: TensorVariable,
    context: TensorVariable,
    law: tuple[TensorVariable, TensorVariable] | None = None,
) -> tuple[TensorVariable, TensorVariable]:
    """Log probability of all components, and the codes that stand for them."""
    mean, sd = array(part.code_mean), array(part.code_sd)
    columns_of: dict[int | CountRange, list[int]] = {}
    for j, kind in enumerate(part.components):
        columns_of.setdefault(kind, []).append(j)
    order = np.argsort([j for columns in columns_of.values() for j in columns])
    real, possible = [], pt.ones(values.shape[:1], dtype="bool")
    for kind, columns in columns_of.items():
        value = values[:, columns]
        if isinstance(kind, CountRange):
            exists = is_count(kind, value)
            real.append(count_to_real(kind, pt.switch(exists, value, 0.0)))
        else:
            exists = pt.eq(value, pt.clip(pt.round(value), 0, kind - 1))
            real.append(value)
        possible = possible & exists.all(axis=1)
    codes = (pt.concatenate(real, axis=1)[:, order] - mean) / sd
    location, log_scale = _location_scale(part.location_scale, context)
    if law is not None:
        of_law = _image_of_law(part, *law)
        location, log_scale = location + of_law[0], log_scale + of_law[1]
    raw = _bank(part.conditioners, context, (codes - location) * pt.exp(-log_scale))
    total = pt.zeros(values.shape[:1])
    for kind, columns in columns_of.items():  # components of one kind are one long column
        value = values[:, columns].ravel()
        raw_of_kind = raw[:, columns].reshape((-1, part.conditioners.bias_out.shape[1]))
        if isinstance(kind, int):
            log_probs = pt.special.log_softmax(raw_of_kind[:, :kind], axis=1)
            category = pt.cast(pt.clip(pt.round(value), 0, kind - 1), "int64")
            log_prob = log_probs[pt.arange(value.shape[0]), category]
        else:
            inverse_scale = (pt.exp(-log_scale[:, columns]) / sd[columns]).ravel()
            shift = (mean[columns] + sd[columns] * location[:, columns]).ravel()
            line = CountLine(raw_of_kind, part.n_bins, shift, inverse_scale)
            log_prob = log_count(kind, value, line, 0.0, 1.0)
        total = total + log_prob.reshape((values.shape[0], len(columns))).sum(axis=1)
    return pt.switch(possible, total, -np.inf), codes


def _image_of_law(
    part: DiscreteAutoregressive, mean: TensorVariable, sd: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """Locations and log scales of counts that have these means and standard deviations."""
    real, log_slope = [], []
    for j, kind in enumerate(part.components):
        assert isinstance(kind, CountRange)  # narrows the type: there are no categories
        inside = pt.clip(mean[:, j], 0.0, np.inf if kind.upper is None else kind.upper)
        slope = 1.0 / (inside + 0.5)
        if kind.upper is not None:
            slope = slope + 1.0 / (kind.upper + 0.5 - inside)
        real.append(count_to_real(kind, inside))
        log_slope.append(pt.log(slope))
    code_mean, code_sd = array(part.code_mean), array(part.code_sd)
    scale = pt.stack(log_slope, axis=1) + pt.log(sd) - np.log(code_sd) - LOGISTIC_LOG_SD
    return (pt.stack(real, axis=1) - code_mean) / code_sd, scale


def _distractors(
    part: DistractorFlow, values: TensorVariable, given: TensorVariable
) -> TensorVariable:
    scale = array(part.scale)
    t = (values - array(part.location)) / scale
    context = _compress((given - array(part.given_location)) / array(part.given_scale))
    z, log_det = _transform(part.transform, pt.arcsinh(t), context)
    log_det = log_det - np.log(scale) - 0.5 * pt.log1p(t**2)
    return _log_normal(z) + log_det.sum(axis=1)


def _location_scale(
    network: LocationScaleNetwork, context: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    n = network.linear.weight.shape[1]
    output = dense_network(network.dense, context, np.zeros(n), np.ones(n))
    dim = network.linear.weight.shape[0]
    location, log_scale = pt.split(output, [dim, dim], axis=1)
    location = location + context @ pt.constant(array(network.linear.weight).T)
    return location, atan_clamp(log_scale, MAX_LOG_SCALE)


def _bank(
    bank: ConditionerBank, context: TensorVariable, components: TensorVariable
) -> TensorVariable:
    """`ConditionerBank.forward`, shape (rows, components, outputs)."""
    x = pt.concatenate([context, _compress(components)], axis=1)
    mask = array(bank.mask)
    first = (array(bank.weight_in) * mask[..., None]).transpose(1, 0, 2)
    hidden = first.shape[2]
    h = x @ pt.constant(first.reshape(first.shape[0], -1)) + array(bank.bias_in).ravel()
    h = _silu(h).reshape((-1, bank.dim, hidden)).transpose(1, 0, 2)
    h = _silu(h @ pt.constant(array(bank.weight)) + array(bank.bias)[:, None])
    for weight, bias in zip(bank.residual_weights, bank.residual_biases, strict=True):
        h = h + _silu(h @ pt.constant(array(weight)) + array(bias)[:, None])
    raw = h @ pt.constant(array(bank.weight_out)) + array(bank.bias_out)[:, None]
    shift = x @ pt.constant((array(bank.linear) * mask).T)
    own = np.zeros(raw.type.shape[2] or bank.bias_out.shape[1])
    own[0] = 1.0
    return raw.transpose(1, 0, 2) + shift[..., None] * own


def _compress(x: TensorVariable) -> TensorVariable:
    beyond = pt.abs(x) - FAR
    far = pt.sign(x) * (FAR + pt.log1p(pt.maximum(beyond, 0.0)))
    return pt.switch(beyond > 0.0, far, x)


def _silu(x: TensorVariable) -> TensorVariable:
    return x * pt.sigmoid(x)


def _log_normal(z: TensorVariable) -> TensorVariable:
    return -0.5 * (z**2).sum(axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)
