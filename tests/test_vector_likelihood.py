"""The vector likelihood: probabilities over integers sum to one, densities match draws."""

import itertools
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from jana_pymc import LikelihoodApproximator
from jana_pymc.flows import FlowSettings
from jana_pymc.flows.autoregressive import AutoregressiveTransform
from jana_pymc.flows.trials import LEAST_SCALE, PACE, TrialSumTransform
from jana_pymc.likelihoods import (
    Bound,
    CountRange,
    Support,
    VectorLikelihood,
    VectorSettings,
)
from jana_pymc.screening import informative_components
from jana_pymc.simulation import Continuous, DataSchema, ParameterLayout

SMALL = VectorSettings(hidden=(16, 16), conditioner_hidden=8, n_bins=4)


@pytest.fixture(autouse=True)
def same_initial_weights():
    """Networks draw theirs from torch's global state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def shaken(network: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> torch.nn.Module:
    """Weights away from the identity at which flows start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return network.double()


@pytest.mark.parametrize("layers", [2, 4])
def test_autoregressive_transform_has_its_jacobian_and_inverse(layers: int) -> None:
    transform = shaken(
        AutoregressiveTransform(3, 2, hidden=(8,), conditioner_hidden=8, conditioner_layers=layers)
    )
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    condition = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z, log_det = transform(x, condition)
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: transform(row[None], condition[i : i + 1])[0][0], x[i]
        )
        assert torch.triu(jacobian, 1).abs().max() < 1e-12
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[i])
    back, inverse_log_det = transform.inverse(z, condition)
    torch.testing.assert_close(back, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)
    # Points that share a condition take the same networks by another way.
    shared = transform(x[:, None].expand(5, 3, 3), condition[:, None])
    torch.testing.assert_close(shared[0], z[:, None].expand(5, 3, 3), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(shared[1], log_det[:, None].expand(5, 3), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("settings", [FlowSettings, VectorSettings])
def test_conditioners_have_two_layers_at_least(settings: type) -> None:
    with pytest.raises(ValueError, match="conditioner_layers=1: expected at least 2"):
        settings(conditioner_layers=1)


def test_probabilities_of_discrete_components_sum_to_one() -> None:
    network = shaken(VectorLikelihood([3, CountRange(4), 2], 2, settings=SMALL))
    cells = torch.tensor(list(itertools.product(range(3), range(5), range(2)))).double()
    theta = torch.tensor([[0.3, -1.2], [2.0, 0.1]], dtype=torch.float64)
    for i in range(2):
        log_prob = network.log_prob_rows(cells, theta, torch.full((len(cells),), i))
        assert math.isclose(log_prob.exp().sum().item(), 1.0, abs_tol=1e-10)


def test_unbounded_counts_sum_to_one_and_stay_finite_far_out() -> None:
    network = shaken(VectorLikelihood([CountRange()], 1, settings=SMALL))
    counts = torch.arange(200_000, dtype=torch.float64)[:, None].requires_grad_()
    theta = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    group = torch.zeros(len(counts), dtype=torch.long)
    log_prob = network.log_prob_rows(counts, theta, group)
    assert 0.99 < log_prob.exp().sum().item() <= 1.0 + 1e-9
    assert torch.isfinite(log_prob).all()
    (gradient,) = torch.autograd.grad(log_prob.sum(), theta)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("value", [-1.0, 0.5, 5.0])
def test_impossible_counts_have_no_probability(value: float) -> None:
    network = shaken(VectorLikelihood([CountRange(4)], 1, settings=SMALL))
    row = torch.tensor([[value]], dtype=torch.float64)
    theta = torch.zeros((1, 1), dtype=torch.float64, requires_grad=True)
    log_prob = network.log_prob_rows(row, theta, torch.zeros(1, dtype=torch.long))
    assert log_prob.item() == -math.inf


def test_what_is_impossible_has_no_probability_beside_what_is_possible() -> None:
    kinds = [CountRange(), 3, Support(), CountRange(4), 3]
    network = shaken(VectorLikelihood(kinds, 1, settings=SMALL))
    possible = torch.tensor([3.0, 1.0, 0.7, 4.0, 2.0], dtype=torch.float64)
    wrong = {0: -1.0, 1: 3.0, 3: 5.0, 4: 0.5}
    rows = possible.repeat(1 + len(wrong), 1)
    for row, (column, value) in enumerate(wrong.items(), 1):
        rows[row, column] = value
    theta = torch.zeros((1, 1), dtype=torch.float64, requires_grad=True)
    log_prob = network.log_prob(rows[None], theta)[0]
    assert torch.isfinite(log_prob[0]) and torch.isneginf(log_prob[1:]).all()
    finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
    (slope,) = torch.autograd.grad(finite.sum(), theta)
    assert torch.isfinite(slope).all()


def test_mixed_draws_follow_the_density() -> None:
    """Means of draws equal integrals of the density, over both kinds of components."""
    components = [Support(), CountRange(3), Support(lower=Bound(column=0))]
    network = shaken(VectorLikelihood(components, 1, settings=SMALL), 0.2)
    theta = torch.tensor([[0.5]], dtype=torch.float64)
    drawn = network.sample(theta, 40_000, generator=torch.Generator().manual_seed(3))[0]
    assert (drawn[:, 2] > 0.5).all()
    counts = torch.arange(4, dtype=torch.float64)
    x, y = torch.linspace(-22, 22, 177).double(), torch.linspace(-22, 22, 177).double()
    grid = torch.stack(torch.meshgrid(x, counts, y, indexing="ij"), -1).reshape(-1, 3)
    area = (x[1] - x[0]) * (y[1] - y[0])
    rows = torch.cat([grid[:, :2], 0.5 + grid[:, 2:].exp()], -1)
    log_prob = network.log_prob_rows(rows, theta, torch.zeros(len(rows), dtype=torch.long))
    weight = (log_prob + grid[:, 2]).exp() * area
    assert math.isclose(weight.sum().item(), 1.0, abs_tol=5e-3)
    mapped = torch.cat([drawn[:, :2], (drawn[:, 2:] - 0.5).log()], -1)
    for values, points in ((mapped, grid), (mapped**2, grid**2)):
        expected = (weight[:, None] * points).sum(0)
        error = values.std(0) / math.sqrt(len(values))
        assert ((values.mean(0) - expected).abs() < 4.5 * error + 5e-3).all()


def test_parts_of_a_sequence_follow_time() -> None:
    """The density of a step does not see what comes after it."""
    for kinds in ([Support(), Support()], [CountRange(9)]):
        network = shaken(VectorLikelihood(kinds * 4, 2, settings=SMALL, n_steps=4))
        rng = np.random.default_rng(0)
        x = torch.tensor(rng.integers(0, 9, (3, 4, len(kinds)))).double()
        theta = torch.tensor(rng.normal(size=(3, 2)))
        before = network.log_prob(x, theta)
        assert before.shape == (3, 4)
        x[:, 3] = 1.0
        torch.testing.assert_close(network.log_prob(x, theta)[:, :3], before[:, :3])
    with pytest.raises(ValueError, match="sequences of 4"):
        network.sample(theta, 5)
    with pytest.raises(ValueError, match="both discrete and continuous"):
        VectorLikelihood([2, Support()] * 2, 1, n_steps=2)


def test_a_regression_is_linear_in_what_the_networks_see() -> None:
    """Logistic regression is among what the linear parts alone can express."""
    network = VectorLikelihood([2], 2, 2, settings=SMALL).double()
    with torch.no_grad():
        linear = network.discrete_part.conditioners.linear  # context: θ, v, θ⊗v
        linear[0, 4], linear[0, 7] = -1.0, -1.0
    theta = torch.tensor([[0.4, -0.7]], dtype=torch.float64)
    v = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ones = torch.ones(6, 1, dtype=torch.float64)
    log_prob = network.log_prob_rows(ones, theta, torch.zeros(6, dtype=torch.long), v)
    torch.testing.assert_close(log_prob, torch.nn.functional.logsigmoid(v @ theta[0]))


def test_skewed_positive_parameters_enter_as_logarithms() -> None:
    network = VectorLikelihood([Support()], 2, settings=SMALL)
    parameters = torch.tensor(
        np.random.default_rng(0).lognormal(0.0, [0.2, 1.0], (1_000, 2)), dtype=torch.float32
    )
    network.standardize(parameters[:, :1], parameters)
    assert network.parameter_log.tolist() == [False, True]
    # Also where only a wider proposal, whose rows come last of very many, spreads them.
    narrow = 1.0 + 0.1 * torch.rand(100_000, 2)
    both = torch.cat([narrow, parameters.repeat(100, 1)])
    network.standardize(both[:, :1], both)
    assert network.parameter_log.tolist() == [False, True]


def test_distractors_are_found_and_cancel_from_ratios() -> None:
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(4_000, 2))
    noise = rng.standard_t(2, size=(4_000, 6))
    noise[:, 4] += theta[:, 0]
    noise[:, 1] *= np.exp(theta[:, 1])
    assert informative_components(theta, noise).tolist() == [1, 4]
    settings = VectorSettings(hidden=(16,), conditioner_hidden=8, informative=(1, 4))
    network = VectorLikelihood([Support()] * 6, 2, settings=settings)
    network.standardize(torch.tensor(noise).float(), torch.tensor(theta).float())
    network = shaken(network)
    parameters = torch.tensor(theta[:5])
    one = torch.tensor(noise[:1])[None].expand(5, 1, 6)
    together = network.log_prob(one, parameters)
    torch.testing.assert_close(together, network.log_prob(one.clone(), parameters))
    moved = one.clone()
    moved[..., [0, 2, 3, 5]] *= -3.0
    difference = network.log_prob(moved, parameters) - together
    torch.testing.assert_close(difference, difference[:1].expand(5, 1))
    assert difference.abs().max() > 0
    assert network.sample(parameters, 3).shape == (5, 3, 6)


def test_products_of_many_parameters_are_not_held_at_once() -> None:
    rng = np.random.default_rng(0)
    theta, noise = rng.normal(size=(2_000, 60)), rng.normal(size=(2_000, 4))
    noise[:, 2] += theta[:, 30] * theta[:, 50]
    tracemalloc.start()
    try:
        assert informative_components(theta, noise).tolist() == [2]
        assert tracemalloc.get_traced_memory()[1] < 0.3 * 8 * len(theta) * 60 * 63 / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("order", "reach"), [(0, 0), (1, 1), (None, 4)])
@pytest.mark.parametrize("component", [Support(), CountRange(9)])
def test_observations_of_a_sequence_depend_on_so_many_before_them(component, order, reach):
    n_steps = 5
    settings = VectorSettings(hidden=(8,), conditioner_hidden=8, order=order)
    network = shaken(VectorLikelihood([component] * 2 * n_steps, 1, 0, settings, n_steps))
    generator = torch.Generator().manual_seed(4)
    theta = torch.randn((1, 1), generator=generator, dtype=torch.float64)
    x = torch.randint(0, 8, (1, n_steps, 2), generator=generator).to(theta)
    before = network.log_prob(x, theta)
    changed = x.clone()
    changed[:, 0] += 1.0
    moved = (network.log_prob(changed, theta) - before).abs()[0] > 1e-6
    assert moved.tolist() == [step <= reach for step in range(n_steps)]
    drawn = network.sample(theta, n_steps, generator=generator)
    assert torch.isfinite(network.log_prob(drawn, theta)).all()


def test_likelihood_has_the_period_of_its_angles() -> None:
    network = shaken(VectorLikelihood([CountRange(4)], 2, settings=replace(SMALL, angles=(1,))))
    theta = torch.tensor([[0.4, -math.pi], [0.4, math.pi], [0.4, 0.0]], dtype=torch.float64)
    rows, group = torch.full((3, 1), 2.0, dtype=torch.float64), torch.arange(3)
    low, high, middle = network.log_prob_rows(rows, theta, group).tolist()
    assert math.isclose(low, high, rel_tol=1e-9)
    assert not math.isclose(low, middle, rel_tol=1e-3)


def test_an_angle_that_is_no_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"angles=.*2 parameters"):
        VectorLikelihood([CountRange(4)], 2, settings=replace(SMALL, angles=(2,)))


@pytest.mark.parametrize(
    ("components", "changes", "message"),
    [
        ([Support()], {"n_layers": 2}, "n_layers=2: a sequence has a single layer"),
        ([Support()], {"informative": (0, 2)}, r"informative=\(0, 2\): a sequence has no distr"),
        ([Support()], {"informative": (0, 2), "order": 1}, "informative=.* no distractors"),
        ([CountRange(3), Support()], {}, "both discrete and continuous"),
    ],
)
def test_what_would_leave_the_order_of_time_is_refused(components, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        VectorLikelihood(components * 4, 2, 0, replace(SMALL, **changes), n_steps=4)


@pytest.mark.parametrize("changes", [{"n_layers": 1}, {"informative": range(4)}])
def test_settings_that_say_what_holds_of_sequences_anyway(changes: dict) -> None:
    network = VectorLikelihood([Support()] * 4, 2, 0, replace(SMALL, **changes), n_steps=4)
    theta = torch.zeros(3, 2)
    assert network.log_prob(network.sample(theta, 4), theta).shape == (3, 4)


def test_a_sum_of_trials_has_their_mean_and_covariance() -> None:
    """Of 2^5 outcomes of five binary trials, given their log odds."""
    transform = shaken(TrialSumTransform(2, 3, n_trials=5))
    context = torch.tensor([[0.3, -1.0, 0.6]], dtype=torch.float64)
    jump = PACE * transform.jump
    odds = PACE * (transform.difference @ context[0] + transform.bias)
    outcomes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5))).double()
    chance = torch.sigmoid(odds * (2.0 * outcomes - 1.0)).prod(-1)
    sums = (outcomes - 0.5) @ jump + transform.location
    mean = chance @ sums
    covariance = torch.einsum("n,ni,nj->ij", chance, sums - mean, sums - mean)
    rest = LEAST_SCALE**2 + (2.0 * transform.log_scale).exp()
    actual_mean, actual_covariance = transform.moments(context)
    torch.testing.assert_close(actual_mean[0], mean)
    torch.testing.assert_close(actual_covariance[0], covariance + torch.diag(rest))


@pytest.mark.parametrize("n_given", [0, 2])
def test_a_sum_of_trials_is_standardised_by_its_law(n_given: int) -> None:
    """z has the given components' law taken out: the density is the conditional normal one."""
    dim, n_context = 4, 3
    transform = shaken(TrialSumTransform(dim, n_context, n_given, n_trials=6))
    generator = torch.Generator().manual_seed(1)
    transform.unit += 0.3 * torch.randn((dim, dim), generator=generator).double().tril()
    transform.slopes.normal_(generator=generator)
    context = torch.randn((5, n_context), generator=generator).double()
    values = torch.randn((5, dim), generator=generator).double()
    given, x = values[:, :n_given], values[:, n_given:]
    z, log_det = transform(x, torch.cat([context, given], -1))
    mean, covariance = transform.moments(context)
    mean = mean @ transform.unit.T
    covariance = transform.unit @ covariance @ transform.unit.T

    def log_density(first: int) -> torch.Tensor:
        law = torch.distributions.MultivariateNormal(mean[:, :first], covariance[:, :first, :first])
        return law.log_prob(values[:, :first])

    expected = log_density(dim) - (log_density(n_given) if n_given else 0.0)
    size = dim - n_given
    actual = log_det - 0.5 * (z**2).sum(-1) - 0.5 * size * math.log(2.0 * math.pi)
    torch.testing.assert_close(actual, expected)
    back, inverse_log_det = transform.inverse(z, torch.cat([context, given], -1))
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    means, sds = transform.given_moments(context)
    torch.testing.assert_close(means, mean[:, :n_given])
    torch.testing.assert_close(sds**2, torch.diagonal(covariance, dim1=-2, dim2=-1)[:, :n_given])


def test_sums_of_trials_start_from_a_regression() -> None:
    """At the centre, before any training: the residuals' covariance, and the regression's mean."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(5_000, 2))
    noise = rng.normal(size=(5_000, 3)) @ np.array([[0.5, 0.4, -0.1], [0, 0.3, 0.2], [0, 0, 0.8]])
    values = torch.tensor(1.0 + theta @ np.array([[0.2, 0.1, 0], [0, -0.2, 0.3]]) + noise)
    transform = TrialSumTransform(3, 2, n_trials=20_000).double()
    context = torch.tensor(theta)
    transform.standardize(values, context)
    mean, covariance = (m.detach() for m in transform.moments(context[:50] / 5.0))
    unit = transform.unit
    residual = torch.tensor(noise.T @ noise / len(noise))
    torch.testing.assert_close((unit @ covariance @ unit.T).mean(0), residual, rtol=0.06, atol=0.02)
    line = 1.0 + context[:50] / 5.0 @ torch.tensor([[0.2, 0.1, 0], [0, -0.2, 0.3]]).double()
    torch.testing.assert_close(mean @ unit.T, line, rtol=0.0, atol=0.05)


def test_counts_and_sums_of_trials_integrate_to_one() -> None:
    components = [CountRange(6), Support(), CountRange()]
    network = shaken(
        VectorLikelihood(components, 1, settings=replace(SMALL, n_trials=7)), 0.1, seed=1
    )
    assert network.trial_sum is not None
    network.count_mean.copy_(torch.tensor([2.0, 3.0]))
    network.count_sd.copy_(torch.tensor([1.5, 2.0]))
    counts = torch.cartesian_prod(torch.arange(7), torch.arange(60)).double()
    x = torch.linspace(-30.0, 30.0, 401).double()
    rows = torch.stack(
        [
            counts[:, :1].expand(-1, len(x)),
            x.expand(len(counts), -1),
            counts[:, 1:].expand(-1, len(x)),
        ],
        -1,
    ).flatten(0, 1)
    theta = torch.tensor([[0.5]], dtype=torch.float64)
    log_prob = network.log_prob_rows(rows, theta, torch.zeros(len(rows), dtype=torch.long))
    weight = log_prob.exp() * (x[1] - x[0])
    assert math.isclose(weight.sum().item(), 1.0, abs_tol=5e-3)
    drawn = network.sample(theta, 40_000, generator=torch.Generator().manual_seed(3))[0]
    for power in (1, 2):
        expected = (weight[:, None] * rows**power).sum(0)
        values = drawn**power
        error = values.std(0) / math.sqrt(len(values))
        assert ((values.mean(0) - expected).abs() < 4.5 * error + 1e-2).all()


def test_what_is_no_sum_of_trials_is_refused() -> None:
    settings = replace(SMALL, n_trials=8)
    for components, options in (
        ([2, Support()], {}),
        ([CountRange(4)], {}),
        ([Support()] * 4, {"n_steps": 2}),
    ):
        with pytest.raises(ValueError, match="n_trials=8 must be of vectors of counts and"):
            VectorLikelihood(components, 2, settings=settings, **options)
    drawn = replace(settings, draws=((0, 1), (2, 3)))
    with pytest.raises(ValueError, match="n_trials=8 must be"):
        VectorLikelihood([Support()] * 4, 2, settings=drawn)
    for name in ("n_trials", "n_layers"):
        with pytest.raises(ValueError, match=f"{name}=-1: expected"):
            VectorSettings(**{name: -1})
    with pytest.raises(ValueError, match="n_layers=0: without a layer the parameters"):
        VectorSettings(n_layers=0)


@pytest.mark.parametrize("rows", [9, 4_000])
def test_what_does_not_vary_is_not_taken_for_certain(rows: int) -> None:
    """A constant, a copy and what was hardly seen keep a scale, in single precision too."""
    rng = np.random.default_rng(0)
    theta = torch.tensor(rng.normal(size=(rows, 3))).float()
    count = torch.tensor(rng.binomial(20, 0.3, rows)).float()
    x = theta[:, 0] + 0.5 * torch.tensor(rng.normal(size=rows)).float()
    observables = torch.stack(
        [count, torch.zeros(rows), x, x, torch.full((rows,), 0.1), count / 20.0], -1
    )
    components = [CountRange(20), CountRange(20), *[Support()] * 4]
    network = VectorLikelihood(components, 3, settings=replace(SMALL, n_trials=50))
    network.standardize(observables, theta)
    group = torch.arange(5)
    seen = observables[:5].clone()
    seen[0, 1] = 1.0  # of a count that was always zero
    single = network.log_prob_rows(seen, theta[:5], group).double()
    precise = network.double().log_prob_rows(seen.double(), theta[:5].double(), group)
    assert (precise > -1e3).all()
    torch.testing.assert_close(single, precise, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("upper", "slopes"), [(4, (20 / 9, 2 / 3 + 2 / 7)), (None, (2.0, 2 / 3))])
def test_means_of_counts_keep_to_possible_ones(
    upper: int | None, slopes: tuple[float, float]
) -> None:
    means = torch.tensor([-3.0, 1.0, 1e9], dtype=torch.float64)
    real, log_slope = CountRange(upper).real_of_mean(means)
    inside = means.clamp(0.0, upper)
    torch.testing.assert_close(real, CountRange(upper).to_real(inside))
    torch.testing.assert_close(log_slope[:2].exp(), torch.tensor(slopes).double())
    assert torch.isfinite(real).all() and torch.isfinite(log_slope).all()


def test_sequences_of_another_length_are_refused() -> None:
    network = VectorLikelihood([Support()], 1, n_steps=4, settings=SMALL)
    assert network.takes_one_length
    schema = DataSchema({"x": Continuous()}, structure="markovian", n_obs=4)
    layout = ParameterLayout(("a",), {"a": ()})
    likelihood = LikelihoodApproximator(network.double(), layout, schema, np.array([[-1.0], [1.0]]))
    for n_obs in (3, 5):
        data = {"x": np.zeros(n_obs)}
        for call in (
            lambda data=data: likelihood.log_prob(data, {"a": np.zeros(1)}),
            lambda data=data: likelihood.logp(data, a=0.0),
            lambda n_obs=n_obs: likelihood.pointwise(np.zeros((n_obs, 1)), np.zeros((1, 1))),
        ):
            with pytest.raises(ValueError, match=rf"{n_obs} time points.*on sequences of 4, and"):
                call()
