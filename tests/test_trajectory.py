"""Likelihoods around a trajectory: proper, causal, true to their own simulations, learned."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pymc as pm
import pytest
import torch
from scipy import stats
from sequences import draw_parameters, generator, randomize

import jana_pymc as jana
from jana_pymc.joint_network import _some_times
from jana_pymc.likelihoods import (
    Bound,
    CountRange,
    Support,
    TrajectoryLikelihood,
    TrajectorySettings,
)
from jana_pymc.likelihoods.entering import EnteringParameters
from jana_pymc.likelihoods.trajectory import MAX_SHIFT

N_OBS = 6
COMPONENTS = {
    "real": (Support(),),
    "bounded by a parameter": (Support(lower=Bound(column=0)), Support(Bound(-9.0), Bound(9.0))),
    "counts": (CountRange(), CountRange(upper=5)),
    "few counts": (CountRange(upper=7), CountRange(upper=5)),
    "mixed": (Support(), CountRange(), Support(lower=Bound(value=-3.0))),
}
SMALL = {"hidden": (8, 8), "law_hidden": (6, 6), "n_features": 1}
ORDERS = pytest.mark.parametrize("order", [0, 2])
STATES = pytest.mark.parametrize("n_states", [0, 3])


def random_likelihood(
    components: str, order: int, seed: int = 0, n_states: int = 0
) -> TrajectoryLikelihood:
    settings = TrajectorySettings(order=order, n_states=n_states, **SMALL)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TrajectoryLikelihood(COMPONENTS[components], 2, N_OBS, settings).double()
        theta = draw_parameters(200, seed)
        network.standardize(network.sample(theta, N_OBS, None, generator(seed)), theta)
        randomize(network, 0.05 if n_states else 0.1)
    return network.eval().requires_grad_(False)


@ORDERS
@STATES
@pytest.mark.parametrize("components", COMPONENTS)
def test_simulations_follow_the_density(components: str, n_states: int, order: int) -> None:
    # Under draws from p, the mean of p'/p is one for any density p' on the same support.
    network = random_likelihood(components, order, n_states=n_states)
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        randomize(other, 0.01)
    theta = draw_parameters(3000, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    here, there = (n.log_prob(x, theta).sum(1) for n in (network, other))
    assert torch.isfinite(here).all()
    ratio = torch.exp(there - here)
    assert ratio.std() > 0.01
    assert abs(float((ratio.mean() - 1) / (ratio.std() / math.sqrt(len(ratio))))) < 4


@ORDERS
@pytest.mark.parametrize("components", COMPONENTS)
def test_forecasts_follow_the_density_given_the_past(components: str, order: int) -> None:
    # As above, but for the future of one past, not typical of most parameters.
    network = random_likelihood(components, order)
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        randomize(other, 0.01)
    theta = draw_parameters(1, 3).expand(2000, -1)
    past = network.sample(theta[:1], 4, None, generator(5)).expand(2000, -1, -1)
    whole = torch.cat([past, network.sample(theta, 2, None, generator(6), past=past)], 1)
    difference = other.log_prob(whole, theta) - network.log_prob(whole, theta)
    ratio = difference[:, 4:].sum(1).exp()
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / math.sqrt(len(ratio))
    # A past of no observations is none.
    none = network.sample(theta[:5], 3, None, generator(1), past=past[:5, :0])
    torch.testing.assert_close(none, network.sample(theta[:5], 3, None, generator(1)))


@ORDERS
def test_terms_sum_to_one_given_the_past(order: int) -> None:
    network = random_likelihood("few counts", order)
    theta = draw_parameters(1, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    first, second = torch.meshgrid(
        torch.arange(8.0).double(), torch.arange(6.0).double(), indexing="ij"
    )
    every = x.repeat(first.numel(), 1, 1)
    every[:, 3, 0], every[:, 3, 1] = first.flatten(), second.flatten()
    log_prob = network.log_prob(every, theta.expand(len(every), -1))[:, 3]
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-9)


@ORDERS
def test_density_integrates_to_one_given_the_past(order: int) -> None:
    network = random_likelihood("real", order)
    theta = draw_parameters(1, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    grid = torch.linspace(-40.0, 40.0, 40_001, dtype=torch.float64)
    every = x.repeat(len(grid), 1, 1)
    every[:, 3, 0] = grid
    density = network.log_prob(every, theta.expand(len(every), -1))[:, 3].exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-4)


@ORDERS
def test_the_past_matters_as_far_as_declared(order: int) -> None:
    network = random_likelihood("mixed", order)
    theta = draw_parameters(3, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    moved = x.clone()
    moved[:, 2] += 1.0
    differs = (network.log_prob(moved, theta) != network.log_prob(x, theta)).any(0)
    assert differs.tolist() == [False, False, *[True] * (1 + order), *[False] * (3 - order)]


@ORDERS
@STATES
def test_shorter_sequences_and_rows(order: int, n_states: int) -> None:
    network = random_likelihood("mixed", order, n_states=n_states)
    theta = draw_parameters(2, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    whole = network.log_prob(x, theta)
    short = x.clone()
    short[0, 4:] = torch.nan
    padded = network.log_prob(short, theta)
    torch.testing.assert_close(padded[0], torch.cat([whole[0, :4], torch.zeros(2).double()]))
    torch.testing.assert_close(padded[1], whole[1])
    torch.testing.assert_close(network.log_prob(x[:, :3], theta), whole[:, :3])
    times = torch.tensor([5, 1])
    torch.testing.assert_close(network.log_prob_at(times, x, theta), whole[:, times])
    rows = torch.cat([x[0, :4], x[1]])
    group = torch.tensor([0] * 4 + [1] * N_OBS)
    expected = torch.cat([whole[0, :4], whole[1]])
    torch.testing.assert_close(network.log_prob_rows(rows, theta, group), expected)
    assert network.sample(theta, 2, None, generator(1)).shape == (2, 2, 3)
    with pytest.raises(ValueError, match="6 time points at most"):
        network.sample(theta, 7)


def test_departures_do_not_grow_without_end() -> None:
    """Even where the law carries every departure on, and more."""
    network = random_likelihood("real", 2)
    network.law.layers[-1].bias[-network.n_seen :] = 3.0
    location, log_scale, _ = network._trajectory(draw_parameters(500, 3), N_OBS)
    x = network.sample(draw_parameters(500, 3), N_OBS, None, generator(5))
    residual = (x - location) * (-log_scale).exp()
    assert residual[:, -1].std() > 4.0  # most are at the bound
    assert residual.abs().max() < MAX_SHIFT + 12.0


def test_outside_the_support() -> None:
    network = random_likelihood("counts", 0)
    theta = draw_parameters(2, 3)
    x = network.sample(theta, N_OBS, None, generator(5))
    x[0, 1, 0], x[1, 2, 1] = 0.5, 6.0
    impossible = torch.isneginf(network.log_prob(x, theta))
    assert impossible.nonzero().tolist() == [[0, 1], [1, 2]]


@STATES
def test_gradients_are_those_of_finite_differences(n_states: int) -> None:
    network = random_likelihood("mixed", 2, n_states=n_states)
    theta = draw_parameters(2, 3).requires_grad_()
    x = network.sample(theta.detach(), N_OBS, None, generator(5))
    assert torch.autograd.gradcheck(lambda p: network.log_prob(x, p).sum(), theta)


def test_what_is_rounded_enters_as_a_whole_number_and_angles_as_a_circle() -> None:
    entering = EnteringParameters(4, angles=(1,), rounded=(2,)).double()
    theta = torch.tensor([[1.0, -math.pi, 2.6, 1.0], [50.0, math.pi, 3.4, 1.1]]).double()
    entering.standardize(torch.cat([theta, theta + 0.3]))
    first, second = entering(theta)
    assert entering.logarithmic.tolist() == [True, False, False, False]
    torch.testing.assert_close(first[[1, 2, 4]], second[[1, 2, 4]], atol=1e-5, rtol=0.0)
    entering.sd.fill_(1.0), entering.mean.fill_(0.0)
    torch.testing.assert_close(entering(theta)[:, 0], theta[:, 0].log())
    assert entering(theta)[:, 2].tolist() == [3.0, 3.0]
    for wrong in ({"angles": (4,)}, {"rounded": (-1,)}):
        with pytest.raises(ValueError, match="positions among 4 parameters, from 0 to 3"):
            EnteringParameters(4, **wrong)
    for wrong in ({"angles": (1, 1)}, {"angles": (1,), "rounded": (1,)}):
        with pytest.raises(ValueError, match="different positions"):
            EnteringParameters(4, **wrong)


def decay() -> jana.GenerativeModel:
    with pm.Model() as prior:
        pm.Uniform("start", 1.0, 5.0)
        pm.Uniform("rate", 0.1, 1.0)

    def simulator(rng, start, rate, n_obs):
        level = start * np.exp(-rate * np.arange(n_obs))
        return {"x": level + 0.1 * rng.standard_normal(level.shape)}

    return jana.GenerativeModel(
        prior,
        simulator,
        observables={"x": jana.Continuous()},
        structure="markovian",
        n_obs=(5, 12),
        order=0,
        vectorized=True,
    )


@pytest.mark.trains
@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(("n_states", "n_members"), [(0, 1), (4, 1), (4, 2)])
def test_learns_an_exponential_decay_and_is_stored(n_states: int, n_members: int, tmp_path) -> None:
    model = decay()
    network = jana.NetworkSettings(
        jana.PosteriorSettings(jana.TimeSeriesSettings(n_hidden=8, width=8, n_filters=4)),
        TrajectorySettings(hidden=(32, 32), n_states=n_states, n_members=n_members),
    )
    training = jana.TrainingSettings(
        n_steps=350, batch_size=64, n_validations=5, linear_steps=50, likelihood_obs=5
    )
    pair = jana.fit(
        model,
        n_simulations=4000,
        network=network,
        training=training,
        random_seed=1,
        progressbar=False,
    )
    simulations = model.simulate(300, random_seed=2, progressbar=False)
    theta = simulations.parameters
    level = theta[:, :1] * np.exp(-theta[:, 1:] * np.arange(12))
    x = simulations.dataset["x"].values
    exact = stats.norm.logpdf(x, level, 0.1)
    given = torch.as_tensor(x)[..., None], torch.as_tensor(theta)
    neural = pair.likelihood.network.log_prob(*given).numpy()
    assert 0.0 < (exact - neural).mean() < 0.05
    pair.save(tmp_path / "pair.safetensors")
    again = jana.load(tmp_path / "pair.safetensors", model)
    assert again.settings == network
    first = x[0][:, None], theta[:1]
    np.testing.assert_array_equal(*(each.likelihood.pointwise(*first) for each in (again, pair)))
    data = {"x": x[0, :7]}
    posterior = pair.sample(data, draws=50, chains=2, random_seed=1)
    assert posterior["log_likelihood"]["y"].shape == (2, 50, 7)
    with pytest.raises(ValueError, match="13 time points; this likelihood was trained on 12"):
        pair.likelihood.logp({"x": np.zeros(13)}, start=1.0, rate=0.1)
    values = []
    for backend in ("op", "lowering"):
        with decay().prior.model as free:
            known = {"start": free["start"], "rate": free["rate"]}
            pair.likelihood("y", **known, observed=data, backend=backend)
            point = free.initial_point()
            values.append(free.compile_logp()(point))
            assert np.isfinite(values[-1])
    np.testing.assert_allclose(*values, rtol=1e-8)


def test_batches_choose_time_points_at_even_distances() -> None:
    begins = set()
    for seed in range(40):
        times = _some_times(draw_parameters(64, seed), 12, 4)
        assert sorted((times - times[0]).remainder(12).tolist()) == [0, 3, 6, 9]
        begins.add(int(times[0]))
        again = _some_times(draw_parameters(64, seed), 12, 4)
        assert again.tolist() == times.tolist()
    assert len(begins) > 8 and min(begins) >= 0 and max(begins) < 12
    uneven = _some_times(draw_parameters(64, 1), 81, 20)
    assert len(set(uneven.tolist())) == 20


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no categories"):
        TrajectoryLikelihood((2, CountRange()), 2, N_OBS)
    with pytest.raises(ValueError, match="positions among 3 parameters"):
        TrajectoryLikelihood((CountRange(),), 3, N_OBS, TrajectorySettings(angles=(3,)))
    model = decay()
    vector = jana.GenerativeModel(
        model.prior.model,
        lambda rng, start, rate: {"x": start + rng.normal()},
        observables={"x": jana.Continuous()},
        structure="vector",
    )
    network = jana.NetworkSettings(likelihood=TrajectorySettings())
    with pytest.raises(ValueError, match="sequences without conditions"):
        jana.fit(vector, n_simulations=100, network=network, progressbar=False)
    remembering = copy.copy(model)
    remembering.schema = dataclasses.replace(model.schema, order=2)
    with pytest.raises(ValueError, match=r"\(order=0\) sees fewer .* declares with order=2"):
        jana.fit(remembering, n_simulations=100, network=network, progressbar=False)


def built(**values: object) -> TrajectorySettings:
    """As where annotations are not enforced, which they are in tests."""
    settings = TrajectorySettings()
    for name, value in values.items():
        object.__setattr__(settings, name, value)
    settings.__post_init__()
    return settings


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"order": -1}, ValueError, "^order=-1: expected at least 0"),
        ({"order": None}, TypeError, "order=None: .* say order=0"),
        ({"order": 1.0}, TypeError, "order=1.0: expected an integer"),
        ({"n_features": -1}, ValueError, "^n_features=-1: expected at least 0"),
        ({"n_features": True}, TypeError, "n_features=True"),
        ({"n_bins": 0}, ValueError, "n_bins=0"),
        ({"n_states": -1}, ValueError, "^n_states=-1: expected at least 0"),
        ({"n_substeps": 0}, ValueError, "^n_substeps=0: expected at least 1"),
        ({"n_members": 0}, ValueError, "^n_members=0: expected at least 1"),
        (
            {"n_members": 3},
            ValueError,
            "^n_members=3, n_states=0: only laws of motion have members",
        ),
        ({"n_states": 2, "hidden": ()}, ValueError, "n_states=2: .* at least one hidden layer"),
        ({"hidden": (8, 0)}, ValueError, r"hidden\[1\]=0: expected at least 1"),
        ({"hidden": 64}, TypeError, "hidden=64: expected a sequence of sizes"),
        ({"law_hidden": (8.0,)}, TypeError, r"law_hidden\[0\]=8.0"),
        ({"angles": 1}, TypeError, "angles=1: expected positions of parameters"),
        ({"angles": "phi"}, TypeError, "angles='phi': expected positions of parameters"),
        ({"angles": ["phi"]}, TypeError, "model.layout.component_names"),
        ({"rounded": (True, False)}, TypeError, "rounded=.* expected positions of parameters"),
        ({"rounded": (1.0,)}, TypeError, "rounded=.* expected positions of parameters"),
        ({"rounded": (-1,)}, ValueError, "rounded=.* integers from 0"),
        ({"rounded": (1, 1)}, ValueError, "rounded=.* different integers"),
        ({"angles": (0, 2), "rounded": (2,)}, ValueError, "different positions, but 2 is in both"),
    ],
)
def test_settings_are_checked_when_built(wrong: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        built(**wrong)


def test_settings_take_whole_numbers_of_numpy() -> None:
    settings = built(
        hidden=[np.int64(8)], order=np.int64(2), angles=np.array([1, 0]), rounded=range(2, 4)
    )
    plain = TrajectorySettings(hidden=(8,), order=2, angles=(1, 0), rounded=(2, 3))
    assert settings == plain
    assert type(settings.order) is type(settings.angles[0]) is int


@STATES
def test_a_constant_component_has_scale_one_in_single_precision(n_states: int) -> None:
    settings = TrajectorySettings(n_states=n_states, **SMALL)
    network = TrajectoryLikelihood((Support(), Support()), 2, N_OBS, settings)
    x = torch.randn(1000, N_OBS, 2, generator=generator(0))
    x[..., 0] = 1000.1  # of which the mean is rounded, and the deviation from that is not zero
    network.standardize(x, draw_parameters(1000).float())
    assert (network.y_sd[:, 0] == 1.0).all()
    torch.testing.assert_close(network.y_sd[:, 1], torch.ones(N_OBS), rtol=0.1, atol=0.0)
