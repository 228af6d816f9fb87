"""Pools of normal posteriors are normal: scores, weights and draws against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from exact_pair import ExactPair, NormalLikelihood, NormalPosterior, data_sets
from scipy import stats

import jana_pymc as jana
from jana_pymc.refinement import pooling, psis, refine
from jana_pymc.refinement.pooling import FEWEST_SETS, MOST_SETS, WEIGHTS, pool_scores

pytestmark = pytest.mark.arviz
SHIFT, STRETCH = 0.5, 1.3


@pytest.fixture(autouse=True)
def many_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as outside of tests."""
    monkeypatch.setattr(pooling, "MOST_SETS", MOST_SETS)
    monkeypatch.setattr(pooling, "FEWEST_SETS", FEWEST_SETS)


class Shifted(NormalLikelihood):
    """A likelihood that takes observations for larger than they are."""

    def pointwise(self, observed, parameters, conditions=None):
        return super().log_prob(observed + 0.4, parameters)


def held_out(pair: ExactPair, n: int = 300):
    return pair.model.simulate(n, random_seed=2, progressbar=False)


def pool(pair: ExactPair, batch, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd of the pool of the wrong posterior with the exact one."""
    mean, sd = NormalPosterior().moments(batch)
    wrong_mean, wrong_sd = pair.posterior.moments(batch)
    precision = (1 - weight) / wrong_sd**2 + weight / sd**2
    centre = ((1 - weight) * wrong_mean / wrong_sd**2 + weight * mean / sd**2) / precision
    return centre, precision**-0.5


def test_scores_are_those_of_the_pooled_normals() -> None:
    pair = ExactPair(NormalPosterior(shift=SHIFT, stretch=STRETCH))
    simulations = held_out(pair)
    scores = pool_scores(pair, simulations, random_seed=1)
    expected = [
        stats.norm.logpdf(
            simulations.parameters[:, 0], *pool(pair, simulations.batch(), weight)
        ).mean()
        for weight in WEIGHTS
    ]
    np.testing.assert_allclose(scores, expected, atol=0.01)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_draws_follow_the_pool(weight: float) -> None:
    pair = ExactPair(NormalPosterior(shift=SHIFT, stretch=STRETCH))
    batch = pair.schema.batch(data_sets(5, 9, 15))
    refined = psis(pair, batch, 4_000, pool_weight=weight, random_seed=1)
    mean, sd = pool(pair, batch, weight)
    draws = refined.unconstrained[..., 0]
    np.testing.assert_allclose(draws.mean(1), mean, atol=0.06 * sd.min())
    np.testing.assert_allclose(draws.std(1), sd, rtol=0.05)


class OfNegativeMeans(NormalLikelihood):
    """A likelihood under which no mean above zero is possible."""

    def pointwise(self, observed, parameters, conditions=None):
        values = super().log_prob(observed, parameters)
        return np.where(parameters > 0.0, -np.inf, values)


@pytest.mark.filterwarnings("error")
def test_without_weight_the_likelihood_takes_no_draw_away() -> None:
    """Half of the first data set's draws are impossible for it, and all of the second's."""
    pair = ExactPair()
    pair.likelihood = OfNegativeMeans()
    batch = pair.schema.batch([{"x": np.zeros(9)}, {"x": np.full(9, 50.0)}])
    refined = psis(pair, batch, 200, pool_weight=0.0, random_seed=1)
    amortized, log_q = pair.posterior.sample_unconstrained(batch, 200, 1)
    np.testing.assert_array_equal(refined.unconstrained, amortized)
    np.testing.assert_array_equal(refined.log_q, log_q)
    assert refined.method.tolist() == ["pooled", "pooled"]
    assert (refined.pareto_k == 0.0).all() and (refined.effective_share == 1.0).all()


def test_a_light_tailed_proposal_is_defended_for_the_pool_too() -> None:
    pair = ExactPair(NormalPosterior(stretch=0.3))
    batch = pair.schema.batch(data_sets(5, 9))
    refined = psis(pair, batch, 4_000, pool_weight=0.9, random_seed=1)
    mean, sd = pool(pair, batch, 0.9)
    np.testing.assert_allclose(refined.unconstrained[..., 0].mean(1), mean, atol=0.1 * sd.min())
    np.testing.assert_allclose(refined.unconstrained[..., 0].std(1), sd, rtol=0.06)


def test_the_network_that_is_right_gets_the_weight() -> None:
    wrong_posterior = ExactPair(NormalPosterior(shift=1.0, stretch=1.5))
    assert jana.learn_pool_weight(wrong_posterior, held_out(wrong_posterior), random_seed=1) > 0.8
    wrong_likelihood = ExactPair()
    wrong_likelihood.likelihood = Shifted()
    assert jana.learn_pool_weight(wrong_likelihood, held_out(wrong_likelihood), random_seed=1) < 0.2
    exact = ExactPair()
    np.testing.assert_allclose(
        np.ptp(pool_scores(exact, held_out(exact), random_seed=1)), 0.0, atol=1e-9
    )


def test_errors_that_cancel_are_pooled() -> None:
    pair = ExactPair(NormalPosterior(shift=-1.0))
    pair.likelihood = Shifted()
    weight = jana.learn_pool_weight(pair, held_out(pair), random_seed=1)
    assert 0.3 < weight < 0.8
    pair.pool_weight = weight
    batch = held_out(pair).batch()
    scores = pool_scores(pair, held_out(pair), random_seed=1)
    assert scores.max() > max(scores[0], scores[-1]) + 0.1
    refined = refine(pair, batch, 200, method="pooled", random_seed=1)
    assert set(refined.method) == {"pooled"}


def test_what_is_missing_is_said() -> None:
    pair = ExactPair()
    pair.pool_weight = None
    with pytest.raises(ValueError, match="before pool weights were learned"):
        refine(pair, pair.schema.batch(data_sets(5)), 100, method="pooled")
