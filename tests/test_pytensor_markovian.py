"""Sequences in PyTensor: lowering and Op give what torch gives, values and gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import torch
from modes import PYTHON, REWRITTEN
from pytensor.graph.basic import Constant
from sequences import COMPONENTS, draw_conditions, draw_parameters, generator, random_likelihood

from jana_pymc.approximators import LikelihoodApproximator
from jana_pymc.likelihoods import MarkovianLikelihood
from jana_pymc.pytensor import (
    LogDensity,
    NoLowering,
    lower,
)
from jana_pymc.simulation import Continuous, DataSchema, ParameterLayout

pytestmark = pytest.mark.bridge

SIZES = (5, 1, 4)


@dataclass(frozen=True)
class Frozen:
    """A network that compares by name."""

    content_hash: str
    network: MarkovianLikelihood
    region: np.ndarray
    graph_device = torch.device("cpu")

    def network_on(self, device: torch.device) -> MarkovianLikelihood:
        return self.network

    def __hash__(self) -> int:
        return hash(self.content_hash)


def inputs(network: MarkovianLikelihood, n_conditions: int, sizes=SIZES):
    n = len(sizes)
    theta, known = draw_parameters(n, 3), draw_conditions(n, max(sizes), n_conditions, 3)
    x = network.sample(theta, max(sizes), known, generator(2))
    rows = torch.cat([x[i, :size] for i, size in enumerate(sizes)])
    group = torch.arange(n).repeat_interleave(torch.tensor(sizes))
    if known is not None:
        known = torch.cat([known[i, :size] for i, size in enumerate(sizes)])
    return rows, theta, group, known


def by_torch(network, rows, theta, group, known, cotangent):
    rows, theta = rows.clone().requires_grad_(), theta.clone().requires_grad_()
    value = network.log_prob_rows(rows, theta, group, known)
    slopes = torch.autograd.grad(value @ cotangent, [theta, rows], materialize_grads=True)
    return [value.detach().numpy(), *(s.numpy() for s in slopes)]


def continuous(network) -> list[int]:
    """Positions of components with a slope; counts have none in PyTensor's eyes or torch's."""
    return [i for i, c in enumerate(network.components) if type(c).__name__ == "Support"]


def assert_equal(actual, desired, network) -> None:
    columns = continuous(network)
    for a, d in zip(actual, (*desired[:2], desired[2][:, columns]), strict=True):
        np.testing.assert_allclose(a, d, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("components", "settings", "grouped"),
    [(c, "order 3 and clock", True) for c in COMPONENTS]
    + [
        ("real", "order 1", False),
        ("finite", "independent", False),
        ("mixed", "order 3 and clock", False),
    ],
)
def test_lowering_gives_what_torch_gives(components: str, settings: str, grouped: bool) -> None:
    network = random_likelihood(components, settings, n_conditions=1)
    rows, theta, group, known = inputs(network, 1, SIZES if grouped else (7,))
    cotangent = np.random.default_rng(0).normal(size=len(rows))
    x, parameters = pt.dmatrix("x"), pt.dmatrix("parameters")
    logp = lower(
        network, x, parameters, pt.constant(group.numpy()) if grouped else None, pt.constant(known)
    )
    wrt = [parameters, x]
    slopes = pytensor.grad(logp @ cotangent, wrt, disconnected_inputs="ignore")
    run = pytensor.function([x, parameters], [logp, *slopes], mode=PYTHON)
    value, d_theta, d_x = run(rows.numpy(), theta.numpy())
    expected = by_torch(network, rows, theta, group, known, torch.tensor(cotangent))
    assert_equal([value, d_theta, d_x[:, continuous(network)]], expected, network)


def test_lowering_outside_the_support_and_without_an_input() -> None:
    network = random_likelihood("mixed", "order 1")
    rows, theta, group, _ = inputs(network, 0, (6,))
    for column, bad in ((1, 2.0), (2, 0.5), (3, -4.0)):
        rows[1 + column, column] = bad
    parameters = pt.dmatrix()
    logp = lower(network, pt.constant(rows.numpy()), parameters, None, None)
    slope = pytensor.grad(pt.switch(pt.isinf(logp), 0.0, logp).sum(), parameters)
    value, slope = pytensor.function([parameters], [logp, slope], mode=PYTHON)(theta.numpy())
    np.testing.assert_allclose(value, network.log_prob_rows(rows, theta, group), rtol=1e-9)
    assert np.isneginf(value).sum() == 3 and np.isfinite(slope).all()
    needs = random_likelihood("real", "order 1", n_conditions=1)
    with pytest.raises(ValueError, match="needs 1 known"):
        lower(needs, pt.constant(rows.numpy()), parameters, None, None)
    with pytest.raises(NoLowering, match="memory"):
        lower(random_likelihood("real", "memory"), pt.dmatrix(), parameters, None, None)


@pytest.mark.parametrize("settings", ["order 1", "memory", "memory alone"])
@pytest.mark.parametrize("components", ["bounded by a parameter", "mixed"])
def test_op_gives_what_torch_gives(components: str, settings: str) -> None:
    """Whole sequences of equal length, each with parameters of its own."""
    network = random_likelihood(components, settings, n_conditions=1)
    rows, theta, _, known = inputs(network, 1, (5, 5))
    sets, known_sets = rows.reshape(2, 5, -1), known.reshape(2, 5, -1)
    group = torch.tensor([0, 1]).repeat_interleave(5)
    theta = theta[:2]
    cotangent = np.array([0.7, -1.3])
    everywhere = np.array([[-np.inf], [np.inf]]) * np.ones(theta.shape[1])
    x, parameters = pt.dtensor3(), pt.dmatrix()
    logp = LogDensity(Frozen("one", network, everywhere))(x, known_sets.numpy(), None, parameters)
    slopes = pytensor.grad(logp @ cotangent, [parameters, x])
    run = pytensor.function([x, parameters], [logp, *slopes], mode=REWRITTEN)
    weights = torch.tensor(cotangent).repeat_interleave(5)
    value, d_theta, d_x = by_torch(network, rows, theta, group, known, weights)
    columns = continuous(network)
    expected = [np.asarray(value).reshape(2, 5).sum(1), d_theta, np.asarray(d_x)]
    value, d_theta, d_x = run(sets.numpy(), theta.numpy())
    assert_equal([value, d_theta, d_x.reshape(10, -1)[:, columns]], expected, network)


def test_the_past_is_computed_when_the_graph_is_compiled() -> None:
    # With constant data nothing but the parameters is left to be multiplied by first layers.
    network = random_likelihood("real", "order 3 and clock")
    rows, theta, _, _ = inputs(network, 0, (7,))
    parameters = pt.dmatrix()
    logp = lower(network, pt.constant(rows.numpy()), parameters, None, None)
    run = pytensor.function([parameters], logp, mode=REWRITTEN)
    products = [n for n in run.maker.fgraph.toposort() if "Dot" in str(n.op)]
    assert products
    assert not any(isinstance(i, Constant) for n in products for i in n.inputs[:1])
    np.testing.assert_allclose(
        run(theta.numpy()),
        network.log_prob_rows(rows, theta, torch.zeros(7, dtype=torch.long)),
        rtol=1e-9,
    )


def test_a_sequence_is_one_random_variable() -> None:
    network = random_likelihood("real", "order 3 and clock")
    layout = ParameterLayout(("a", "b"), {"a": (), "b": ()})
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(2, 9))
    region = np.array([[0.0, 0.0], [1.0, 1.0]])
    approximator = LikelihoodApproximator(network, layout, schema, region)
    x = network.sample(torch.tensor([[0.3, 0.6]]).double(), 9, None, generator(1))[0].numpy()
    with pm.Model() as model:
        a = pm.Uniform("a")
        approximator("y", a=a, b=0.6, observed=x)
    theta = np.array([[0.3, 0.6], [0.8, 0.6]])
    expected = approximator.log_prob(x, theta)
    one_by_one = network.log_prob_rows(
        torch.tensor(x), torch.tensor(theta[1:]), torch.zeros(9).long()
    )
    np.testing.assert_allclose(expected[1], one_by_one)
    (y,) = model.observed_RVs
    (logp,) = model.logp(vars=[y], sum=False)
    values = pytensor.function([model.rvs_to_values[a]], logp, mode=PYTHON)
    point = np.log(0.3 / 0.7)  # PyMC's transform of the uniform distribution
    np.testing.assert_allclose(values(point), expected[0].sum(), rtol=1e-9)
    drawn = pm.draw(approximator.dist(a=0.3, b=0.6, n_obs=9), 5, random_seed=1)
    assert drawn.shape == (5, 9, 1)


def test_a_clock_says_where_it_was_never_trained() -> None:
    layout = ParameterLayout(("a", "b"), {"a": (), "b": ()})
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=(2, 6))
    region = np.array([[0.0, 0.0], [1.0, 1.0]])

    def likelihood(settings: str) -> LikelihoodApproximator:
        network = random_likelihood("real", settings)
        return LikelihoodApproximator(network, layout, schema, region)

    clocked, theta = likelihood("order 3 and clock"), {"a": 0.4, "b": 0.5}
    late = pytest.warns(UserWarning, match=r"7 time points.*trained on 6 at most.*clock=False")
    with late:
        clocked.logp({"x": np.zeros(7)}, **theta)
    with late:
        clocked.log_prob({"x": np.zeros(7)}, {name: [value] for name, value in theta.items()})
    with late, pm.Model():
        clocked("y", observed={"x": np.zeros((2, 7))}, **theta)
    with late:
        clocked.dist(n_obs=7, **theta)
    clocked.logp({"x": np.zeros(6)}, **theta)
    clocked.dist(**theta)
    likelihood("order 1").logp({"x": np.zeros(7)}, **theta)  # no different later on
