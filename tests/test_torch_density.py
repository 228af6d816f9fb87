"""A torch density of the user's as a likelihood in PyMC."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import torch
from modes import PYTHON
from scipy import stats
from torch import Tensor, nn

import jana_pymc as jana

pytestmark = pytest.mark.bridge


def normal_log_prob(x: Tensor, theta: Tensor) -> Tensor:
    mu, log_sd = theta.T
    return -0.5 * ((x - mu) / log_sd.exp()) ** 2 - log_sd - 0.5 * math.log(2 * math.pi)


def normal_sample(theta: Tensor) -> Tensor:
    return theta[:, 0] + theta[:, 1].exp() * torch.randn(len(theta))


class Shifted(nn.Module):
    """Two independent components around mu plus a weight, with dropout that must be off."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.5))
        self.dropout = nn.Dropout(0.5)

    def log_prob(self, x: Tensor, theta: Tensor) -> Tensor:
        error = self.dropout(x - theta - self.shift)
        return (-0.5 * error**2 - 0.5 * math.log(2 * math.pi)).sum(-1)

    forward = log_prob


NAMES = ("mu", "log_sd")
DOUBLE = jana.from_torch(
    normal_log_prob, parameter_names=NAMES, sample=normal_sample, dtype=torch.float64
)
X = np.linspace(-1.0, 2.0, 7)


def test_value_and_gradient_are_the_density_s() -> None:
    mu, log_sd, x = pt.dscalar("mu"), pt.dscalar("log_sd"), pt.dvector("x")
    value = DOUBLE.logp(x[:, None], mu=mu, log_sd=log_sd)
    slopes = pt.grad(value.sum(), [mu, log_sd, x])
    given = {mu: 0.3, log_sd: -0.2, x: X}
    sd = math.exp(-0.2)
    z = (X - 0.3) / sd
    np.testing.assert_allclose(
        value.eval(given, mode=PYTHON), stats.norm.logpdf(X, 0.3, sd), rtol=1e-12
    )
    expected = [z.sum() / sd, (z**2 - 1).sum(), -z / sd]
    for slope, exact in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(slope.eval(given, mode=PYTHON), exact, rtol=1e-10)


def test_a_region_ends_the_density_in_pymc_alone() -> None:
    """Arrays have the user's own density everywhere."""
    bounded = jana.from_torch(
        normal_log_prob, parameter_names=NAMES, region={"mu": (-1.0, 1.0)}, dtype=torch.float64
    )
    theta = np.array([[0.5, 0.2], [1.5, 0.2], [-3.0, 9.0]])
    expected = stats.norm.logpdf(X, theta[:, :1], np.exp(theta[:, 1:]))
    for values in (bounded.log_prob(X, theta), bounded.pointwise(X[:, None], theta)):
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    mu, log_sd = pt.dscalars("mu", "log_sd")
    value = bounded.logp(X, mu=mu, log_sd=log_sd)
    seen = [value.eval({mu: a, log_sd: b}, mode=PYTHON) for a, b in theta]
    np.testing.assert_allclose(seen[0], expected[0], rtol=1e-12)
    np.testing.assert_array_equal(seen[1:], np.full((2, 7), -np.inf))


def test_a_correction_is_of_the_network_s_density_and_not_of_lapses() -> None:
    curvature = np.array([[0.2, 0.1], [0.1, -0.3]])
    mean, sd, slope = np.array([0.1, -0.2]), np.array([0.5, 0.25]), np.array([3.0, -1.0])
    correction = jana.ScoreCorrection(
        likelihood=DOUBLE.content_hash,
        names=NAMES,
        mean=tuple(mean),
        sd=tuple(sd),
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
        slope=tuple(slope),
        curvature=tuple(map(tuple, curvature)),
        crossing=((), ()),
        condition_mean=(),
        condition_sd=(),
        bias=(0.0, 0.0),
        information=((1.0, 0.0), (0.0, 1.0)),
        n_observations=1_000,
    )
    theta, x = np.array([0.3, -0.1]), np.append(X, [3.5, 5.0])  # the last one is no lapse
    z = (theta - mean) / sd
    c = slope @ z + 0.5 * z @ curvature @ z
    lapses = np.array([0.0, 0.05, 0.2, 0.2, 0.5, 0.9, 1.0, 0.2, 0.2])
    value = DOUBLE.logp(
        x,
        **dict(zip(NAMES, theta, strict=True)),
        correction=correction,
        contamination=lapses,
        contaminant={"x": (-4.0, 4.0)},
    )
    network = stats.norm.pdf(x, theta[0], np.exp(theta[1])) * np.exp(-c)
    expected = (1.0 - lapses) * network + lapses * stats.uniform.pdf(x, -4.0, 8.0)
    assert abs(c) > 0.5
    np.testing.assert_allclose(value.eval(mode=PYTHON), np.log(expected), rtol=1e-12)


def test_single_precision_is_accepted() -> None:
    single = jana.from_torch(normal_log_prob, parameter_names=NAMES)
    value = single.logp(X, mu=0.3, log_sd=-0.2).eval(mode=PYTHON)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, stats.norm.logpdf(X, 0.3, math.exp(-0.2)), rtol=1e-5)


@pytest.mark.parametrize("method", [False, True])
def test_a_module_is_frozen_and_evaluates(method: bool) -> None:
    module = Shifted()
    log_prob = module.log_prob if method else module
    likelihood = jana.from_torch(log_prob, parameter_names=("mu",), event_shape=(2,))
    with torch.no_grad():
        module.shift += 10.0  # training goes on: the copy is not touched
    assert module.dropout.training
    rows = np.stack([X, -X], axis=1)
    value = likelihood.logp(rows, mu=0.1).eval(mode=PYTHON)
    np.testing.assert_allclose(value, stats.norm.logpdf(rows, 0.6).sum(1), rtol=1e-5)


@pytest.mark.parametrize(
    "log_prob",
    [Shifted(), Shifted().log_prob, lambda x, theta: -(x - theta).square().sum(1)],
    ids=["module", "method", "function"],
)
def test_a_density_goes_to_another_device_in_its_own_dtype(log_prob, monkeypatch) -> None:
    on_cpu = jana.from_torch(log_prob, parameter_names=("mu",), event_shape=(2,))
    # A device without numbers, which every machine has.
    monkeypatch.setattr("jana_pymc.trained_likelihood.resolve_device", torch.device)
    moved = on_cpu.to("meta")
    network = moved.network_on(moved.graph_device)
    options = {"dtype": torch.float64, "device": "meta"}
    values = network.log_prob(torch.zeros(1, 3, 2, **options), torch.zeros(1, 1, **options))
    assert (values.device.type, values.shape) == ("meta", (1, 3))
    for own, other in zip(network.parameters(), on_cpu.network.parameters(), strict=True):
        assert (own.device.type, other.device.type) == ("meta", "cpu")
        assert own.dtype == other.dtype == torch.float32


def test_draws_follow_the_sampler_and_leave_torch_s_generator_alone() -> None:
    before = torch.random.get_rng_state()
    drawn = pm.draw(DOUBLE.dist(mu=1.0, log_sd=0.5, size=3_000), random_seed=1)[:, 0]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert stats.kstest((drawn - 1.0) / math.exp(0.5), "norm").pvalue > 0.001
    without = jana.from_torch(normal_log_prob, parameter_names=NAMES)
    with pytest.raises(NotImplementedError, match="pass sample= to from_torch"):
        pm.draw(without.dist(mu=1.0, log_sd=0.5, size=2))


def test_draws_leave_accelerators_alone(monkeypatch) -> None:
    """Their generators' states are not restored, so they must not be seeded."""
    seeded = []
    for name in ("cuda", "mps", "xpu"):
        for function in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(f"torch.{name}.{function}", seeded.append, raising=False)
    pm.draw(DOUBLE.dist(mu=1.0, log_sd=0.5, size=3), random_seed=1)
    assert seeded == []


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda theta: theta, r"returned \(2, 2\) for 2 rows .*shape \(2,\)"),
        (lambda theta: theta[:1, 0], r"returned \(1,\) for 2 rows"),
        (lambda theta: theta[:, 0].numpy(), "returned ndarray for 2 rows"),
    ],
)
def test_draws_of_a_wrong_shape_are_named(sample, message) -> None:
    likelihood = jana.from_torch(normal_log_prob, parameter_names=NAMES, sample=sample)
    with pytest.raises(ValueError, match=message):
        pm.draw(likelihood.dist(mu=1.0, log_sd=0.5, size=2))


def test_nuts_finds_the_conjugate_posterior() -> None:
    with pm.Model():
        mu = pm.Normal("mu", 0.0, 2.0)
        DOUBLE("y", mu=mu, log_sd=0.0, observed=X)
        trace = pm.sample(
            400, tune=300, chains=2, cores=1, random_seed=1, progressbar=False, nuts_sampler="pymc"
        )
    precision = 0.25 + len(X)
    drawn = trace.posterior["mu"].values
    assert drawn.mean() == pytest.approx(X.sum() / precision, abs=0.06)
    assert drawn.std() == pytest.approx(precision**-0.5, rel=0.12)


def test_two_densities_are_never_mistaken_for_one_another() -> None:
    twin = copy.deepcopy(DOUBLE)
    assert twin == DOUBLE and pickle.loads(pickle.dumps(DOUBLE)) == DOUBLE
    assert jana.from_torch(normal_log_prob, parameter_names=NAMES, dtype=torch.float64) != DOUBLE


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [
        (lambda x, theta: normal_log_prob(x, theta).sum(), r"returned \(\) for 7 rows"),
        (lambda x, theta: 0.0, "returned float for 7 rows"),
    ],
)
def test_wrong_shapes_are_named(log_prob, message) -> None:
    likelihood = jana.from_torch(log_prob, parameter_names=NAMES)
    with pytest.raises(ValueError, match=message):
        likelihood.log_prob(X, np.zeros((1, 2)))


def test_a_gradient_lost_on_the_way_is_named() -> None:
    """The gradient with respect to the data is there, but not that to the parameters."""
    likelihood = jana.from_torch(
        lambda x, theta: -((x - theta[:, 0].detach()) ** 2), parameter_names=("a",)
    )
    with pm.Model() as model:
        likelihood("y", a=pm.Flat("a"), observed=np.array([1.0, 2.0]))
    gradient = model.compile_dlogp(mode=PYTHON)
    with pytest.raises(ValueError, match="lost the gradient with respect to theta"):
        gradient({"a": np.array(0.5)})


def test_a_lost_gradient_is_named() -> None:
    likelihood = jana.from_torch(torch.no_grad()(normal_log_prob), parameter_names=NAMES)
    mu = pt.dscalar("mu")
    slope = pt.grad(likelihood.logp(X, mu=mu, log_sd=0.0).sum(), mu)
    with pytest.raises(ValueError, match="lost the gradient"):
        slope.eval({mu: 0.0}, mode=PYTHON)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"log_prob": 3}, TypeError, "log_prob is int"),
        ({"parameter_names": "mu"}, TypeError, "expected a sequence of names"),
        ({"event_shape": (2, 3)}, ValueError, r"expected \(\) or \(components,\)"),
        ({"event_shape": (-1,)}, ValueError, "event_shape=-1"),
        ({"event_shape": (2.0,)}, TypeError, "event_shape=2.0"),
        ({"region": {"sd": (0, 1)}}, ValueError, "region names sd"),
        ({"region": [(0, 1)]}, TypeError, r"region is list; expected \{name: \(low, high\)\}"),
        ({"dtype": "float32"}, TypeError, "expected torch.float32 or torch.float64"),
        ({"dtype": torch.float16}, TypeError, "expected torch.float32 or torch.float64"),
        ({"dtype": torch.int64}, TypeError, "expected torch.float32 or torch.float64"),
        ({"sample": 3}, TypeError, r"sample is int; expected sample\(theta\)"),
    ],
)
def test_bad_arguments_are_refused(options, error, message) -> None:
    arguments = {"log_prob": normal_log_prob, "parameter_names": NAMES} | options
    with pytest.raises(error, match=message):
        jana.from_torch(arguments.pop("log_prob"), **arguments)


def sbi_estimator():
    """A likelihood estimator of sbi, as NLE trains it."""
    factory = pytest.importorskip("sbi.neural_nets.factory", reason="needs the extra `peers`")
    theta, x = torch.randn(100, 2), torch.randn(100, 2)
    estimator = factory.likelihood_nn("maf")(theta, x)
    return lambda x, theta: estimator.log_prob(x[None], theta)[0]


def zuko_flow():
    """A conditional flow of zuko."""
    flows = pytest.importorskip("zuko.flows", reason="needs the extra `peers`")
    flow = flows.NSF(2, context=2, transforms=2, hidden_features=(16,))
    return lambda x, theta: flow(theta).log_prob(x)


@pytest.mark.filterwarnings("ignore")  # what these packages do is not for this suite to judge
@pytest.mark.parametrize("make", [sbi_estimator, zuko_flow])
def test_densities_of_other_packages(make) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        log_prob = make()
    density = jana.from_torch(log_prob, parameter_names=("a", "b"), event_shape=(2,))
    x = np.array([[0.3, -0.2], [1.0, 0.4], [-0.7, 0.1]])
    with pm.Model() as model:
        a, b = pm.Normal("a"), pm.Normal("b")
        density("y", a=a, b=b, observed=x)
    point = {"a": np.array(0.4), "b": np.array(-0.3)}
    theta = torch.tensor([0.4, -0.3], requires_grad=True)
    expected = log_prob(torch.tensor(x, dtype=torch.float32), theta.expand(3, 2)).sum()
    (slope,) = torch.autograd.grad(expected, theta)
    prior = stats.norm.logpdf([0.4, -0.3]).sum()
    assert model.compile_logp()(point) == pytest.approx(float(expected) + prior, rel=1e-5)
    gradient = model.compile_dlogp()(point)
    np.testing.assert_allclose(gradient, slope.numpy() - [0.4, -0.3], rtol=1e-4, atol=1e-5)
