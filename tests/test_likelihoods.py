"""Likelihood networks: densities that integrate to one, draws that follow them, supports."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from jana_pymc.flows import FlowSettings
from jana_pymc.likelihoods import (
    AutoregressiveLikelihood,
    AutoregressiveSettings,
    Bound,
    ConditionalSettings,
    LikelihoodNetwork,
    MarkovianLikelihood,
    MarkovianSettings,
    SignedCouplingLikelihood,
    SoftFlowLikelihood,
    SoftFlowSettings,
    Support,
    TrajectoryLikelihood,
    TrajectorySettings,
    VectorLikelihood,
    VectorSettings,
)
from jana_pymc.likelihoods.elementary_laws import draw_category, log_normal

SETTINGS = AutoregressiveSettings(hidden=(16,), n_bins=6)


def perturbed(components: list, n_parameters: int = 2, n_conditions: int = 0):
    """An untrained network away from its start, in double precision."""
    generator = torch.Generator().manual_seed(3)
    network = AutoregressiveLikelihood(components, n_parameters, n_conditions, SETTINGS).double()
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


PARAMETERS = torch.tensor([[0.4, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("support", "low", "high"),
    [
        (Support(), -60.0, 60.0),
        (Support(lower=Bound(column=0)), 0.4, 400.0),
        (Support(upper=Bound(2.0)), -400.0, 2.0),
        (Support(lower=Bound(-1.0), upper=Bound(column=0)), -1.0, 0.4),
    ],
)
def test_density_of_a_response_and_a_time_integrates_to_one(support, low, high) -> None:
    network = perturbed([support, 3])
    # Midpoints on a grid that is fine where the support's map is steep.
    share = torch.linspace(-16.0, 16.0, 40_001, dtype=torch.float64)
    edges = low + (high - low) * torch.sigmoid(share)
    x, width = 0.5 * (edges[1:] + edges[:-1]), edges.diff()
    total = 0.0
    for k in range(3):
        rows = torch.stack([x, torch.full_like(x, k)], -1)[None]
        with torch.no_grad():
            total += float((network.log_prob(rows, PARAMETERS)[0].exp() * width).sum())
    assert total == pytest.approx(1.0, abs=2e-3)


def test_density_of_two_continuous_components_integrates_to_one() -> None:
    network = perturbed([Support(), Support()])
    axis = torch.linspace(-25, 25, 801, dtype=torch.float64)
    rows = torch.cartesian_prod(axis, axis)[None]
    with torch.no_grad():
        total = network.log_prob(rows, PARAMETERS).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=5e-3)


def test_categories_alone_sum_to_one() -> None:
    network = perturbed([2, 3])
    rows = torch.cartesian_prod(torch.arange(2.0), torch.arange(3.0)).double()[None]
    total = network.log_prob(rows, PARAMETERS).detach().exp().sum()
    assert float(total) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "components",
    [
        [Support(lower=Bound(column=0)), 2],
        [3, Support(), Support(upper=Bound(1.0))],
        [2, 2, Support(lower=Bound(0.0), upper=Bound(1.0))],
    ],
)
def test_draws_follow_the_density(components: list) -> None:
    """Cross entropy of draws equals the entropy by integration: exp(log p) averages to ∫p²."""
    network = perturbed(components)
    n = 20_000
    draws = network.sample(PARAMETERS, n, generator=torch.Generator().manual_seed(0))
    assert draws.shape == (1, n, len(components))
    with torch.no_grad():
        log_prob = network.log_prob(draws, PARAMETERS)[0]
    assert torch.isfinite(log_prob).all()
    again = network.sample(PARAMETERS, n, generator=torch.Generator().manual_seed(1))
    # For draws from p itself, E[q/p] = 1 for any density q: take q = p at shifted parameters.
    with torch.no_grad():
        other = network.log_prob(again, PARAMETERS)[0]
    assert stats.ks_2samp(log_prob.numpy(), other.numpy()).pvalue > 0.01
    shifted = PARAMETERS + torch.tensor([[0.0, 0.3]], dtype=torch.float64)
    with torch.no_grad():
        ratio = (network.log_prob(draws, shifted)[0] - log_prob).exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=5 * float(ratio.std()) / math.sqrt(n))


def test_groups_give_what_separate_data_sets_give() -> None:
    network = perturbed([Support(lower=Bound(0.0)), 2])
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    data = network.sample(parameters, 4, generator=generator)
    together = network.log_prob(data, parameters)
    rows = torch.randperm(12, generator=generator)
    group = torch.arange(3).repeat_interleave(4)[rows]
    torch.testing.assert_close(
        network.log_prob_rows(data.flatten(0, 1)[rows], parameters, group),
        together.flatten()[rows],
    )


def test_outside_the_support_is_minus_infinity_with_finite_gradient() -> None:
    network = perturbed([Support(lower=Bound(column=0)), 2])
    parameters = PARAMETERS.clone().requires_grad_()
    rows = torch.tensor([[[0.3, 1.0], [0.4, 0.0], [0.5, 1.0]]], dtype=torch.float64)
    log_prob = network.log_prob(rows, parameters)[0]
    assert log_prob[:2].tolist() == [-math.inf, -math.inf]
    log_prob[2].backward()
    assert torch.isfinite(parameters.grad).all()


@pytest.mark.parametrize("n_conditions", [0, 1])
def test_what_is_no_category_is_impossible(n_conditions: int) -> None:
    network = perturbed([2, Support(), 3], 2, n_conditions)
    rows = torch.tensor([[1.0, 0.5, 2.0]], dtype=torch.float64).repeat(6, 1)
    rows[1:, 0] = torch.tensor([2.0, -1.0, 0.5, torch.nan, 1.0])
    rows[5, 2] = 3.0
    known = torch.zeros(6, n_conditions, dtype=torch.float64) if n_conditions else None
    parameters = PARAMETERS.repeat(6, 1).requires_grad_()
    log_prob = network.log_prob_rows(rows, parameters, torch.arange(6), known)
    assert torch.isfinite(log_prob[0]) and torch.isneginf(log_prob[1:]).all()
    log_prob[0].backward()
    assert torch.isfinite(parameters.grad).all()


def test_standardizing_makes_the_start_a_fit() -> None:
    """Untrained, the density of log(x − bound) is standard normal after standardizing."""
    rng = np.random.default_rng(0)
    parameters = torch.as_tensor(rng.normal(size=(5_000, 2)))
    y = torch.as_tensor(rng.normal(0.7, 0.2, 5_000))
    observables = torch.stack([parameters[:, 0] + y.exp(), torch.zeros(5_000)], -1)
    network = AutoregressiveLikelihood([Support(lower=Bound(column=0)), 2], 2, 0, SETTINGS).double()
    network.standardize(observables, parameters)
    log_prob = network.log_prob(observables[:, None], parameters)[:, 0]
    exact = stats.norm(float(y.mean()), float(y.std())).logpdf(y.numpy()) - y.numpy()
    near = np.abs(y.numpy() - 0.7) < 0.6  # where each spline is the identity
    np.testing.assert_allclose(
        log_prob.detach().numpy()[near], exact[near] + math.log(0.5), atol=1e-6
    )


def test_conditions_reach_the_density() -> None:
    network = perturbed([Support()], n_conditions=1)
    x = torch.zeros(1, 2, 1, dtype=torch.float64)
    conditions = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    first, second = network.log_prob(x, PARAMETERS, conditions)[0].tolist()
    assert first != pytest.approx(second)
    with pytest.raises(ValueError, match="1 known conditions"):
        network.log_prob(x, PARAMETERS)


def test_too_many_categories_are_refused() -> None:
    with pytest.raises(ValueError, match="1000 joint values"):
        AutoregressiveLikelihood([10, 100], 1)


def test_signed_coupling_is_deterministic_and_normalised() -> None:
    network = SignedCouplingLikelihood([2, Support()], 2).double()
    t = torch.linspace(0.0, 12.0, 4_001, dtype=torch.float64)
    total = 0.0
    for response in (0.0, 1.0):
        rows = torch.stack([torch.full_like(t, response), t], -1)[None]
        with torch.no_grad():
            first, second = (network.log_prob(rows, PARAMETERS) for _ in range(2))
        assert torch.equal(first, second)
        total += float(torch.trapezoid(first[0].exp(), t))
    # Untrained, time and dummy are one Student-t vector, which fixes the density at dummy = 0.
    joint = stats.multivariate_t(df=50, shape=np.eye(2)).pdf(np.c_[t, np.zeros_like(t)])
    expected = 2 * np.trapezoid(joint, t) / stats.norm.pdf(0.0)
    assert total == pytest.approx(expected, rel=1e-6)


def test_signed_coupling_refuses_other_data() -> None:
    with pytest.raises(ValueError, match="AutoregressiveSettings"):
        SignedCouplingLikelihood([3, Support()], 2)


def test_signed_coupling_is_impossible_outside_the_support() -> None:
    network = SignedCouplingLikelihood([Support(lower=Bound(column=0)), 2], 2).double()
    plain = SignedCouplingLikelihood([Support(), 2], 2).double()
    plain.load_state_dict(network.state_dict())
    rows = torch.tensor([[[0.3, 1.0], [0.4, 0.0], [0.5, 1.0], [-0.5, 0.0]]], dtype=torch.float64)
    log_prob, known = (n.log_prob(rows, PARAMETERS)[0] for n in (network, plain))
    assert torch.isneginf(log_prob).tolist() == [True, True, False, True]
    assert torch.isneginf(known).tolist() == [False, False, False, True]  # times are no signs
    assert log_prob[2] == known[2]
    # Untrained, a half of its draws are below .4 or so: those lie at the edge.
    drawn, free = (n.sample(PARAMETERS, 200, generator=seeded()) for n in (network, plain))
    assert torch.isfinite(network.log_prob(drawn, PARAMETERS)).all()
    late = free[..., 0] > 0.4
    assert 0 < late.sum() < 200
    assert torch.equal(drawn[late], free[late]) and torch.equal(drawn[..., 1], free[..., 1])


def test_signed_coupling_refuses_simulations_of_negative_times() -> None:
    network = SignedCouplingLikelihood([2, Support()], 2)
    with pytest.raises(ValueError, match="returned negative ones; use AutoregressiveSettings"):
        network.standardize(torch.tensor([[1.0, 0.3], [0.0, -0.2]]), torch.zeros(2, 2))


def test_signed_coupling_takes_a_constant_parameter() -> None:
    network = SignedCouplingLikelihood([2, Support()], 2)
    parameters = torch.stack([torch.full((50,), 0.3), torch.randn(50, generator=seeded())], -1)
    network.standardize(torch.ones(50, 2), parameters)
    assert network.parameter_sd[0] == 1.0 and network.parameter_sd[1] == parameters[:, 1].std()
    assert torch.isfinite(network.log_prob(torch.ones(50, 1, 2), parameters)).all()


# Supports

BELOW, ABOVE = Bound(column=0), Bound(column=1)
SUPPORTS = [
    Support(lower=BELOW),
    Support(upper=ABOVE),
    Support(BELOW, ABOVE),
    Support(Bound(0.0), Bound(0.7)),
    Support(lower=Bound(0.0)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("support", SUPPORTS)
def test_what_comes_from_the_line_is_inside(support: Support, dtype: torch.dtype) -> None:
    y = torch.tensor([-torch.inf, -1e4, -104.0, -20.0, -3.0, 0.3, 20.0, 104.0, 1e4, torch.inf])
    y = y.to(dtype)
    theta = torch.tensor([0.3, 0.7], dtype=dtype).expand(len(y), 2)
    x = support.from_real(y, theta)
    back, log_det, inside = support.to_real(x, theta)
    assert inside.all() and torch.isfinite(x).all()
    assert torch.isfinite(back).all() and torch.isfinite(log_det).all()
    # What rounding left inside is as it was.
    lower, upper = (None if b is None else b.of(theta) for b in (support.lower, support.upper))
    if lower is None:
        plain = upper - torch.exp(-y)
    elif upper is None:
        plain = lower + torch.exp(y)
    else:
        plain = lower + (upper - lower) * torch.exp(torch.nn.functional.logsigmoid(y))
    kept = support.to_real(plain, theta)[2] & torch.isfinite(plain)
    assert kept.sum() >= 2 and torch.equal(x[kept], plain[kept])


PAIR = [Support(lower=BELOW), Support(BELOW, ABOVE)]
FLOW = FlowSettings(n_layers=1, transform="autoregressive", hidden=(4,))
WINDOWS = MarkovianSettings(memory=0, conditional=ConditionalSettings((4,), (4,)))
NETWORKS: dict[str, tuple[Callable[[], LikelihoodNetwork], str]] = {
    "autoregressive": (lambda: AutoregressiveLikelihood(PAIR, 2, 0, SETTINGS), "real_mean"),
    "vector": (lambda: VectorLikelihood(PAIR, 2, 0, VectorSettings(hidden=(4,))), "real_mean"),
    "soft flow": (lambda: SoftFlowLikelihood(PAIR, 2, 0, SoftFlowSettings(FLOW)), "real_mean"),
    "trajectory": (
        lambda: TrajectoryLikelihood(PAIR, 2, 3, TrajectorySettings(hidden=(4,))),
        "y_mean",
    ),
    "markovian": (lambda: MarkovianLikelihood(PAIR, 2, 0, WINDOWS), "density.mean"),
}
OTHERS: dict[str, Callable[[], LikelihoodNetwork]] = {
    "signed coupling": lambda: SignedCouplingLikelihood([Support(lower=BELOW), 2], 2),
    "vectors in time": lambda: VectorLikelihood(
        [Support(lower=BELOW)] * 6, 2, 0, VectorSettings(hidden=(4,)), n_steps=3
    ),
    "distractors": lambda: VectorLikelihood(
        [Support()] * 2, 2, 0, VectorSettings(hidden=(4,), informative=(1,))
    ),
    "memory": lambda: MarkovianLikelihood(PAIR, 2, 0, MarkovianSettings(order=2, memory=3)),
    "motion": lambda: TrajectoryLikelihood(
        PAIR, 2, 3, TrajectorySettings(hidden=(4,), n_states=2, order=1)
    ),
}


@pytest.mark.parametrize("far", [-30.0, 95.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_draws_in_single_precision_are_possible(name: str, far: float) -> None:
    """Where rounding would put them on a bound, and where their exponential overflows."""
    build, location = NETWORKS[name]
    network = build()
    network.get_buffer(location).fill_(far)
    theta = torch.tensor([[0.3, 0.7], [0.1, 0.4]])
    drawn = network.sample(theta, 3, generator=seeded())
    assert torch.isfinite(drawn).all()
    assert torch.isfinite(network.log_prob(drawn, theta)).all()


@pytest.mark.parametrize("name", [*NETWORKS, *OTHERS])
def test_every_likelihood_keeps_the_contract(name: str) -> None:
    network = (OTHERS[name] if name in OTHERS else NETWORKS[name][0])().double()
    theta = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    theta[:, 1] += 1.0
    x = network.sample(theta, 3, generator=seeded())
    assert x.shape == (20, 3, 2) and torch.equal(x, network.sample(theta, 3, generator=seeded()))
    in_time = network.is_sequential
    observables, parameters = (x, theta) if in_time else (x[:, 0], theta)
    network.standardize(observables, parameters)
    x = network.sample(theta, 3, generator=seeded())

    log_prob = network.log_prob(x, theta)
    assert log_prob.shape == (20, 3) and torch.isfinite(log_prob).all()
    assert network.training_log_prob(x, theta, None, seeded()).shape == (20, 3)
    group = torch.arange(20).repeat_interleave(3)
    if name != "vectors in time":  # whose rows are whole sequences
        torch.testing.assert_close(
            network.log_prob_rows(x.flatten(0, 1), theta, group), log_prob.flatten()
        )
    changed = x.clone()
    changed[:, 0] = x[:, 1]
    others = (network.log_prob(changed, theta) - log_prob)[:, 2:].abs().max()
    assert in_time or others < 1e-9
    if network.log_prob_at is not None:
        times = torch.tensor([2, 0])
        torch.testing.assert_close(network.log_prob_at(times, x, theta), log_prob[:, times])
    distractors = list(network.distractors)
    other = x.clone()
    other[..., distractors] += 1.0
    torch.testing.assert_close(
        network.informative_log_prob(other, theta), network.informative_log_prob(x, theta)
    )
    drawn = network.sample_informative(theta, 3, generator=seeded())
    x[..., distractors] = 0.0
    torch.testing.assert_close(drawn, x)


def test_a_density_alone_is_a_likelihood_without_a_simulator() -> None:
    class Exponential(LikelihoodNetwork):
        def log_prob(self, observables, parameters, conditions=None):
            return parameters.log() - parameters * observables[..., 0]

    network, x, theta = Exponential(), torch.rand(4, 3, 1), torch.rand(4, 1)
    expected = network.log_prob(x, theta)
    torch.testing.assert_close(network.training_log_prob(x, theta, None, seeded()), expected)
    torch.testing.assert_close(network.informative_log_prob(x, theta), expected)
    assert not network.is_sequential and network.log_prob_at is None
    for missing in (network.sample, network.sample_informative):
        with pytest.raises(NotImplementedError):
            missing(theta, 3)


def test_standard_normal_density_is_that_of_the_field() -> None:
    z = torch.linspace(-6.0, 6.0, 13, dtype=torch.float64)
    torch.testing.assert_close(log_normal(z), torch.tensor(stats.norm.logpdf(z)))


def test_drawn_categories_have_their_probabilities() -> None:
    p = torch.tensor([0.2, 0.0, 0.7, 0.1], dtype=torch.float64)
    uniform = torch.rand((200_000, 4), generator=seeded(), dtype=torch.float64)
    drawn = draw_category(p.log().expand(200_000, -1), uniform)
    shares = drawn.bincount(minlength=4) / 200_000
    assert shares[1] == 0.0
    torch.testing.assert_close(shares.double(), p, rtol=0.0, atol=0.005)  # five standard errors


@pytest.mark.parametrize(
    "network",
    [
        AutoregressiveLikelihood([Support()], 2, 3),
        MarkovianLikelihood([Support()], 2, 3),
        SoftFlowLikelihood([Support(), 2], 2, 3),
        VectorLikelihood([Support(), Support()], 2, 3),
    ],
    ids=lambda network: type(network).__name__,
)
def test_conditions_that_are_missing_are_asked_for(network: LikelihoodNetwork) -> None:
    with pytest.raises(ValueError, match=r"needs 3 known conditions .* give conditions"):
        network.sample(PARAMETERS.float(), 2)
