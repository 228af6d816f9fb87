"""Draws of one law among the components of a vector: found, refused, and modelled as such."""

import json
import re

import numpy as np
import pymc as pm
import pytest
import torch

from jana_pymc.fitting.defaults import default_settings
from jana_pymc.fitting.replicates import replicated_draws
from jana_pymc.fitting.search import find_draws, find_informative
from jana_pymc.likelihoods import CountRange, Support, VectorLikelihood, VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import FlatSummarySettings, SetSummarySettings
from jana_pymc.posterior import PosteriorNetwork, PosteriorSettings
from jana_pymc.simulation import Continuous, GenerativeModel
from jana_pymc.tasks.slcp import distractor_mixture, slcp_distractors
from jana_pymc.training import pilot

DRAWS = ((4, 0), (1, 3), (5, 7))
"""Three draws of two components; the others, 2 and 6, are distractors."""

EXCHANGED = [3, 4, 2, 0, 1, 5, 6, 7]
"""The first two draws in each other's place."""


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What depends on the parameters simply is learned soon."""
    monkeypatch.setattr(pilot, "N_STEPS", 300)


def points(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three points of the plane each, whose correlation changes its sign with a parameter."""
    theta = rng.uniform(-2.0, 2.0, (n, 3))
    z = rng.normal(size=(2, n, 3))
    correlation = np.tanh(theta[:, 2:])
    first = theta[:, :1] + z[0]
    second = 3.0 + np.exp(theta[:, 1:2]) * (
        correlation * z[0] + np.sqrt(1.0 - correlation**2) * z[1]
    )
    return theta, np.stack([first, second], -1)


@pytest.mark.usefixtures("few_steps")
def test_draws_are_found_in_whatever_order() -> None:
    theta, x = points(np.random.default_rng(1), 5_000)
    columns = np.argsort([i for draw in DRAWS for i in draw])
    found = replicated_draws(theta, x.reshape(-1, 6)[:, columns])
    # Of the components that are draws the first is 0, the second 1, the third (number 3) 2, ...
    assert found is not None
    rank = {position: i for i, position in enumerate(sorted(i for d in DRAWS for i in d))}
    assert {frozenset(d) for d in found} == {frozenset(rank[i] for i in d) for d in DRAWS}
    kinds = {tuple(sorted(column)) for column in zip(*found, strict=True)}
    assert kinds == {
        tuple(sorted(rank[d[0]] for d in DRAWS)),
        tuple(sorted(rank[d[1]] for d in DRAWS)),
    }


@pytest.mark.usefixtures("few_steps")
def test_scalars_of_one_law_are_draws_of_one_component() -> None:
    rng = np.random.default_rng(2)
    theta = rng.normal(size=(4_000, 2))
    x = theta[:, :1] + np.exp(theta[:, 1:] / 2) * rng.standard_t(3, (4_000, 5))
    assert replicated_draws(theta, x) == ((0,), (1,), (2,), (3,), (4,))


def shifted_together(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x + rng.normal(size=(len(x), 1, 1))


def stretched_together(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(rng.chisquare(3, (len(x), 1, 1)) / 3)


def one_shifted(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x + np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.0]])


def one_stretched(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x * np.array([[1.0, 1.0], [1.0, 1.0], [1.2, 1.0]])


def unchanged(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "change", [unchanged, shifted_together, stretched_together, one_shifted, one_stretched]
)
def test_only_a_sample_of_one_law_is_found(change) -> None:
    rng = np.random.default_rng(3)
    theta, x = points(rng, 5_000)
    found = replicated_draws(theta, change(rng, x).reshape(-1, 6))
    assert (found is not None) == (change is unchanged)


@pytest.mark.usefixtures("few_steps")
def test_little_that_many_share_is_much() -> None:
    """A shared part of a fiftieth is .4 of the variance of a mean of twenty."""
    rng = np.random.default_rng(6)
    theta = rng.normal(size=(8_000, 1))
    own, shared = rng.normal(size=(8_000, 20)), rng.normal(size=(8_000, 1))
    found = replicated_draws(theta, theta + own)
    assert found is not None
    assert len(found) == 20
    assert replicated_draws(theta, theta + own + np.sqrt(0.02) * shared) is None


@pytest.mark.usefixtures("few_steps")
def test_a_kind_is_matched_by_whichever_it_depends_on() -> None:
    """The first and the last component of a draw are independent; the middle one is their sum."""
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(5_000, 2))
    first, last = rng.normal(size=(2, 5_000, 3))
    middle = first + last + 0.5 * rng.normal(size=(5_000, 3))
    x = np.stack([first + theta[:, :1], last[:, [2, 0, 1]] + theta[:, 1:], middle], -1)
    assert replicated_draws(theta, x.reshape(-1, 9)) == ((0, 4, 2), (3, 7, 5), (6, 1, 8))


def test_few_simulations_are_not_searched() -> None:
    theta, x = points(np.random.default_rng(1), 2_999)
    assert replicated_draws(theta, x.reshape(-1, 6)) is None


@pytest.mark.usefixtures("few_steps")
def test_constant_components_are_left_aside() -> None:
    with pm.Model() as prior:
        pm.Normal("theta", shape=2)

    def simulator(rng, theta):
        x = theta[..., None, :1] + rng.standard_normal((*theta.shape[:-1], 4, 1))
        return {"x": np.concatenate([np.ones_like(x), x], -1)}

    model = GenerativeModel(
        prior,
        simulator,
        observables={"x": Continuous(shape=(4, 2))},
        structure="vector",
        vectorized=True,
    )
    simulations = model.simulate(3_000, random_seed=1, progressbar=False)
    assert find_draws(simulations) == ((1,), (3,), (5,), (7,))


@pytest.mark.usefixtures("few_steps")
def test_the_global_random_state_of_torch_is_left_alone() -> None:
    theta, x = points(np.random.default_rng(4), 3_000)
    state = torch.random.get_rng_state()
    replicated_draws(theta, x.reshape(-1, 6))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("definition", ["paper", "benchmark"])
def test_points_are_found_among_distractors(definition: str) -> None:
    model = slcp_distractors(definition).model
    simulations = model.simulate(5_000, random_seed=5, progressbar=False)
    own = np.arange(8)
    if definition == "benchmark":
        own = np.argsort(distractor_mixture().order)[:8]
    found = find_informative(simulations)
    assert found == tuple(sorted(own))
    pairs = find_draws(simulations, found)
    assert pairs is not None
    assert {frozenset(pair) for pair in pairs} == {frozenset(p) for p in own.reshape(4, 2).tolist()}
    settings = default_settings(model.schema, 5, found, pairs)
    assert settings.likelihood.draws == settings.posterior.draws == pairs
    assert isinstance(settings.posterior.summary, SetSummarySettings)


def random_likelihood(draws) -> VectorLikelihood:
    torch.manual_seed(0)
    settings = VectorSettings(hidden=(8,), conditioner_hidden=5, n_bins=4, draws=draws)
    network = VectorLikelihood([Support()] * 8, 2, settings=settings).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    return network


def test_the_likelihood_of_draws_is_that_of_observations() -> None:
    network = random_likelihood(DRAWS)
    x, theta = torch.randn(6, 1, 8).double(), torch.randn(6, 2).double()
    single = VectorLikelihood(
        [Support()] * 2, 2, settings=VectorSettings(hidden=(8,), conditioner_hidden=5, n_bins=4)
    ).double()
    single.flow.load_state_dict(network.flow.state_dict())
    of_points = single.log_prob(x[:, 0, network.of_draws].reshape(6, 3, 2), theta).sum(1)
    exchanged = x[..., EXCHANGED]
    moved = x.clone()
    moved[..., [2, 6]] += 1.0
    alone = network.distractor_part.log_prob(x[:, 0, [2, 6]], x[:, 0, list(network.continuous)])
    torch.testing.assert_close(network.log_prob(x, theta)[:, 0], of_points + alone)
    ratio = network.log_prob(x, theta) - network.log_prob(x, theta + 1.0)
    for other in (exchanged, moved):
        of_other = network.log_prob(other, theta) - network.log_prob(other, theta + 1.0)
        torch.testing.assert_close(ratio, of_other)


def test_draws_have_the_density_that_they_are_given() -> None:
    network = random_likelihood(((2, 0), (1, 3)))
    network.distractors, network.distractor_part = (), None
    theta = torch.tensor([[0.4, -0.3]]).double()
    x = network.sample(theta.expand(40_000, 2), 1)[:, 0]
    first, second = x[:, [2, 0]], x[:, [1, 3]]
    for moment in (lambda v: v.mean(0), lambda v: torch.cov(v.T)):
        torch.testing.assert_close(moment(first), moment(second), atol=0.05, rtol=0.05)
    across = torch.corrcoef(x[:, [2, 0, 1, 3]].T)[:2, 2:]
    assert across.abs().max() < 0.02


def test_the_posterior_sees_draws_as_a_set() -> None:
    settings = PosteriorSettings(SetSummarySettings(n_summaries=4, hidden=(8,)), draws=DRAWS)
    network = PosteriorNetwork([None] * 8, [False] * 8, 2, 0, settings).double()
    x, n_obs = torch.randn(5, 1, 8).double(), torch.ones(5, dtype=torch.long)
    network.standardize(torch.randn(5, 2).double(), x, n_obs)
    summary = network.summarize(x, n_obs)
    other = x[..., EXCHANGED]
    torch.testing.assert_close(network.summarize(other, n_obs), summary)
    other = x[..., [0, 4, 2, 3, 1, 5, 6, 7]]  # members of different draws
    assert not torch.allclose(network.summarize(other, n_obs), summary)


@pytest.mark.parametrize(
    "draws",
    [
        ((0, 1), (2,)),
        ((0, 1), (1, 2)),
        ((0, 1), (2, -1)),
        ((0, 1), (2, 1.5)),
        ((),),
        (),
        (0, 1, 2),
        3,
        "01",
    ],
)
def test_draws_that_are_none_are_refused(draws, unchecked_annotations) -> None:
    for settings in (VectorSettings, PosteriorSettings):
        with pytest.raises(ValueError, match=re.escape(f"draws={draws!r}")):
            settings(draws=draws)


def test_settings_that_draws_do_not_go_with_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        VectorSettings(draws=DRAWS, informative=(0, 1))
    settings = VectorSettings(draws=((0, 1), (2, 3)))
    with pytest.raises(ValueError, match="continuous and unbounded"):
        VectorLikelihood([Support()] * 3 + [CountRange(3)], 2, settings=settings)
    with pytest.raises(ValueError, match="among 3 components"):
        VectorLikelihood([Support()] * 3, 2, settings=settings)
    flat = PosteriorSettings(FlatSummarySettings(), draws=DRAWS)
    with pytest.raises(ValueError, match="SetSummarySettings"):
        PosteriorNetwork([None] * 8, [False] * 8, 2, 0, flat)
    of_set = PosteriorSettings(SetSummarySettings(), draws=DRAWS)
    with pytest.raises(ValueError, match="among 7 components"):
        PosteriorNetwork([None] * 7, [False] * 7, 2, 0, of_set)
    for components, n_conditions, n_obs in (
        ([None] * 7 + [2], 0, 1),
        ([None] * 8, 1, 1),
        ([None] * 8, 0, 5),
    ):
        with pytest.raises(ValueError, match="one vector of continuous"):
            PosteriorNetwork(components, [False] * 8, 2, n_conditions, of_set, n_obs)
    for positions in ((), (3,)):
        with pytest.raises(ValueError, match="among 3 components"):
            VectorLikelihood([Support()] * 3, 2, settings=VectorSettings(informative=positions))
    with pytest.raises(ValueError, match=r"informative=\(-1,\).*from 0"):
        VectorSettings(informative=(-1,))


def test_draws_are_stored_with_the_settings() -> None:
    posterior = PosteriorSettings(SetSummarySettings(), draws=DRAWS)
    settings = NetworkSettings(posterior, VectorSettings(draws=DRAWS))
    assert NetworkSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
