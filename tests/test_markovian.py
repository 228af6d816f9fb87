"""Likelihoods of sequences: proper, causal, true to their own simulations, right after training."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from scipy import stats
from sequences import (
    COMPONENTS,
    SETTINGS,
    draw_conditions,
    draw_parameters,
    generator,
    random_likelihood,
    randomize,
)

from jana_pymc.likelihoods import (
    ConditionalSettings,
    CountRange,
    MarkovianLikelihood,
    MarkovianSettings,
    Support,
)
from jana_pymc.likelihoods.counts import log_cell_probability

N_OBS = 6
EVERY = pytest.mark.parametrize("settings", SETTINGS)
KINDS = pytest.mark.parametrize("components", COMPONENTS)


def simulated(network: MarkovianLikelihood, n: int, n_conditions: int = 0):
    theta, known = draw_parameters(n, 3), draw_conditions(n, N_OBS, n_conditions, 3)
    return network.sample(theta, N_OBS, known, generator(5)), theta, known


@EVERY
@KINDS
def test_simulations_follow_the_density(components: str, settings: str) -> None:
    # Under draws from p, the mean of p'/p is one for any density p' on the same support.
    network = random_likelihood(components, settings, n_conditions=1)
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        randomize(other, 0.01)
    x, theta, known = simulated(network, 2000, 1)
    here, there = (n.log_prob(x, theta, known).sum(1) for n in (network, other))
    assert torch.isfinite(here).all()
    ratio = torch.exp(there - here)
    error = (ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio)))
    assert ratio.std() > 0.01
    assert abs(float(error)) < 4


@EVERY
def test_forecasts_follow_the_density_given_the_past(settings: str) -> None:
    network = random_likelihood("mixed", settings, n_conditions=1)
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        randomize(other, 0.01)
    x, theta, known = simulated(network, 1000, 1)
    past = x[:1, :4].expand(1000, -1, -1)  # the same for all, and not typical of most parameters
    future = network.sample(theta, 2, known, generator(6), past=past)
    whole = torch.cat([past, future], 1)
    here, there = (n.log_prob(whole, theta, known)[:, 4:].sum(1) for n in (network, other))
    ratio = torch.exp(there - here)
    assert abs(float((ratio.mean() - 1) / (ratio.std() / math.sqrt(1000)))) < 4
    # A past of no observations is none, and the same seed draws the same.
    none = network.sample(theta[:5], 3, known[:5, :3], generator(1), past=x[:5, :0])
    torch.testing.assert_close(none, network.sample(theta[:5], 3, known[:5, :3], generator(1)))


@EVERY
def test_terms_integrate_to_one_given_the_past(settings: str) -> None:
    network = random_likelihood("real", settings)
    x, theta, _ = simulated(network, 2)
    grid = torch.linspace(-60, 60, 12_001, dtype=torch.float64)
    for t in (0, 1, N_OBS - 1):
        many = x[:1].repeat(len(grid), 1, 1)
        many[:, t, 0] = grid
        density = network.log_prob(many, theta[:1].expand(len(grid), -1))[:, t].exp()
        assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-3)


def test_probabilities_of_counts_and_categories_sum_to_one() -> None:
    network = random_likelihood("finite", "memory")
    x, theta, _ = simulated(network, 1)
    every = torch.cartesian_prod(torch.arange(2), torch.arange(6), torch.arange(3)).double()
    many = x.repeat(len(every), 1, 1)
    many[:, 2] = every
    total = network.log_prob(many, theta.expand(len(every), -1))[:, 2].exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-9)


@KINDS
@pytest.mark.parametrize("settings", ["order 3 and clock", "memory"])
def test_the_past_matters_and_the_future_does_not(components: str, settings: str) -> None:
    network = random_likelihood(components, settings)
    x, theta, _ = simulated(network, 30)
    first = network.log_prob(x, theta)
    t = 2
    other = x.clone()
    other[:, t] = x.roll(1, 0)[:, t]
    moved = (network.log_prob(other, theta) - first).abs().amax(0)
    # A bound by a parameter may make another sequence's value impossible.
    reach = network.settings.order if network.gru is None else N_OBS
    changed = moved > 0
    assert not changed[:t].any()
    assert changed[t + 1 : t + 1 + reach].all()
    assert not changed[t + 1 + reach :].any()


@EVERY
def test_shorter_sequences_are_padded(settings: str) -> None:
    network = random_likelihood("mixed", settings, n_conditions=1).requires_grad_(True)
    x, theta, known = simulated(network, 3, 1)
    padded, known_padded = x.clone(), known.clone()
    padded[1, 4:], known_padded[1, 4:] = torch.nan, torch.nan
    padded[2, :], known_padded[2, :] = torch.nan, torch.nan
    theta.requires_grad_()
    log_prob = network.log_prob(padded, theta, known_padded)
    short = network.log_prob(x[1:2, :4], theta[1:2], known[1:2, :4])
    torch.testing.assert_close(log_prob[1, :4], short[0])
    assert (log_prob[1, 4:] == 0).all() and (log_prob[2] == 0).all()
    slopes = torch.autograd.grad(log_prob.sum(), [theta, *network.parameters()])
    assert all(torch.isfinite(s).all() for s in slopes)
    assert (slopes[0][2] == 0).all() and (slopes[0][0] != 0).any()
    network.standardize(padded, theta.detach(), known_padded)
    assert all(torch.isfinite(b).all() for b in network.buffers())


@EVERY
def test_rows_are_sequences_one_after_the_other(settings: str) -> None:
    network = random_likelihood("mixed", settings, n_conditions=1)
    x, theta, known = simulated(network, 3, 1)
    sizes = [6, 2, 4]
    rows, rows_known = (torch.cat([v[i, :n] for i, n in enumerate(sizes)]) for v in (x, known))
    group = torch.tensor([2, 0, 1]).repeat_interleave(torch.tensor(sizes))
    by_rows = network.log_prob_rows(rows, theta[[1, 2, 0]], group, rows_known)
    whole = network.log_prob(x, theta, known)
    torch.testing.assert_close(by_rows, torch.cat([whole[i, :n] for i, n in enumerate(sizes)]))
    assert len(network.log_prob_rows(rows[:0], theta, group[:0], rows_known[:0])) == 0


@KINDS
def test_outside_the_support(components: str) -> None:
    network = random_likelihood(components, "memory")
    x, theta, _ = simulated(network, 2)
    x[:, 2] = -99.5
    theta.requires_grad_()
    log_prob = network.log_prob(x, theta)
    if components != "real":
        assert torch.isneginf(log_prob[:, 2]).all()
    assert torch.isfinite(log_prob[:, [0, 1, 3, 4, 5]]).all()
    finite = torch.where(torch.isfinite(log_prob), log_prob, 0.0)
    (slope,) = torch.autograd.grad(finite.sum(), theta)
    assert torch.isfinite(slope).all()


def test_seeds_repeat_and_the_clock_tells_time() -> None:
    network = random_likelihood("mixed", "order 3 and clock")
    theta = draw_parameters(5)
    first, again = (network.sample(theta, 4, None, generator(1)) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    still = random_likelihood("real", "order 3 and clock")
    same = torch.full((1, 9, 1), 0.3, dtype=torch.float64)
    terms = still.log_prob(same, theta[:1])[0]
    assert (terms[5:] != terms[4]).all()
    without = random_likelihood("real", "order 1").log_prob(same, theta[:1])[0]
    torch.testing.assert_close(without[2:], without[1].expand(7))


def test_counts_are_cells_of_the_line() -> None:
    for component, counts in (
        (CountRange(), torch.arange(2000.0).double()),
        (CountRange(upper=7), torch.arange(8.0).double()),
    ):
        has_left, has_right, (left, right, width) = component.cells(counts)
        assert not has_left[0] and bool(has_right[-1]) == (component.upper is None)
        torch.testing.assert_close(left[2:], right[1:-1])  # no gap and no overlap
        torch.testing.assert_close(width[1:-1], (right - left)[1:-1])
        torch.testing.assert_close(component.from_real(component.to_real(counts)), counts)
        log_p = log_cell_probability(has_left, has_right, left, right, width)
        rest = 0.0 if component.upper is not None else float(torch.sigmoid(-right[-1]))
        assert float(log_p.exp().sum()) + rest == pytest.approx(1, abs=1e-12)


def test_cell_probabilities_are_stable_in_both_tails_and_single_precision() -> None:
    a = torch.tensor([-80.0, -30.0, 0.0, 30.0, 80.0])
    for width in (1e-4, 1e-3, 0.02, 3.0):
        ends = (a, a + width)
        both = torch.ones(5, dtype=torch.bool)
        log_p = log_cell_probability(both, both, *ends, torch.full_like(a, width))
        # σ(b) − σ(a), by the symmetry of the two tails and in double precision.
        upper, lower = (
            torch.tensor(stats.logistic.logsf(e)) for e in (a.double() + width, a.double())
        )
        exact = lower + torch.log(-torch.expm1(upper - lower))
        torch.testing.assert_close(log_p.double(), exact, rtol=2e-4, atol=1e-4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="order=-1"):
        MarkovianSettings(order=-1)
    network = random_likelihood("real", "memory", n_conditions=1)
    with pytest.raises(ValueError, match="needs 1 known conditions"):
        network.sample(draw_parameters(2), 3)


@pytest.mark.parametrize("memory", [0, 16])
def test_learns_an_autoregression(memory: int) -> None:
    # x_t = φ x_{t−1} + ε: what is learned in seconds is within a few hundredths of a nat a step.
    def draw(n: int, seed: int):
        g = generator(seed)
        phi = 1.8 * torch.rand(n, 1, generator=g) - 0.9
        x = [torch.randn(n, generator=g)]
        for _ in range(14):
            x.append(phi[:, 0] * x[-1] + torch.randn(n, generator=g))
        return torch.stack(x, 1)[..., None], phi

    settings = MarkovianSettings(1, memory, conditional=ConditionalSettings(hidden=(16,), n_bins=4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MarkovianLikelihood((Support(),), 1, 0, settings)
    x, phi = draw(2000, 0)
    network.standardize(x, phi)
    steps, rate = 250, 1e-2
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(x), (64,), generator=generator(step))
        optimizer.zero_grad()
        (-network.training_log_prob(x[rows], phi[rows]).mean()).backward()
        optimizer.step()
    x, phi = draw(2000, 1)
    past = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)[..., 0]
    exact = torch.distributions.Normal(phi * past, 1.0).log_prob(x[..., 0])
    with torch.no_grad():
        divergence = float((exact - network.log_prob(x, phi)).mean())
    assert -0.002 < divergence < 0.02


def test_a_constant_component_has_scale_one_in_single_precision() -> None:
    network = MarkovianLikelihood((Support(), Support()), 2, 0, SETTINGS["order 1"])
    x = torch.randn(1000, N_OBS, 2, generator=generator(0))
    x[..., 0] = 1000.1  # of which the mean is rounded, and the deviation from that is not zero
    network.standardize(x, draw_parameters(1000).float())
    assert network.density.sd.tolist() == [1.0, pytest.approx(1.0, rel=0.1)]
