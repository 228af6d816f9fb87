"""Pools of normal posteriors are normal: scores, weights and draws against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conjugate import normal_mean
from exact_pair import ExactPair, NormalLikelihood, NormalPosterior, data_sets
from scipy import stats

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import standardize
from jana_pymc.inference_data import to_groups
from jana_pymc.refinement import pooling, psis, refine
from jana_pymc.refinement.pooling import FEWEST_SETS, MOST_SETS, WEIGHTS, pool_scores
from jana_pymc.training import TrainingHistory
from jana_pymc.training.batches import to_batch

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_one_truth_without_density_takes_the_weight_from_the_network_at_fault(value) -> None:
    class OneImpossible(NormalPosterior):
        def log_prob_unconstrained(self, u, batch):
            values = super().log_prob_unconstrained(u, batch)
            if u.shape[1] == 1:  # the true parameters
                values[0] = value
            return values

    class AnotherImpossible(NormalLikelihood):
        def pointwise(self, observed, parameters, conditions=None):
            values = super().log_prob(observed, parameters)
            if observed.shape[0] > 1:  # one true parameter for each of several data sets
                values[0] = value
            return values

    exact = ExactPair()
    wrong = ExactPair(OneImpossible())
    scores = pool_scores(wrong, held_out(wrong), random_seed=1)
    assert (scores[:-1] == -np.inf).all()
    assert scores[-1] == pool_scores(exact, held_out(exact), random_seed=1)[-1]
    assert jana.learn_pool_weight(wrong, held_out(wrong), random_seed=1) == 1.0
    exact.likelihood = AnotherImpossible()
    assert jana.learn_pool_weight(exact, held_out(exact), random_seed=1) == 0.0


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


def networks(pool_weight: float | None) -> jana.JointApproximator:
    """A pair that says it was trained."""
    settings = jana.NetworkSettings(
        jana.PosteriorSettings(
            jana.SetSummarySettings(n_summaries=4, n_quantiles=4, hidden=(8,)),
            jana.FlowSettings(n_layers=1, hidden=(8,), n_bins=4),
        ),
        jana.AutoregressiveSettings(hidden=(8,), n_bins=4),
    )
    model = normal_mean()
    network = build_network(model.schema, model.prior, (False,), settings, 1).eval()
    simulations = model.simulate(100, random_seed=1, progressbar=False)
    standardize(network, [to_batch(simulations, model.prior, torch.device("cpu"))])
    return jana.JointApproximator(
        network,
        settings=settings,
        prior=model.prior,
        schema=model.schema,
        region=np.array([[-9.0], [9.0]]),
        positive=(False,),
        history=TrainingHistory([1], [0.0], [0.0], [0.0], [0.0], [0.0]),
        model=model,
        pool_weight=pool_weight,
    )


def test_a_file_keeps_the_weight_of_the_pool(tmp_path: Path) -> None:
    made = networks(0.35)
    loaded = jana.load(made.save(tmp_path / "pair.safetensors"), made.model, device="cpu")
    assert loaded.pool_weight == 0.35
    data = made.simulate({"mu": 1.0}, 8, random_seed=3).batch()
    options = {"draws": 100, "chains": 2, "groups": ("posterior", "log_likelihood")}
    drawn = []
    for pair, method in ((made, "pooled"), (loaded, "pooled"), (loaded, "psis")):
        groups = to_groups(pair.sample(data, refine=method, random_seed=1, **options))
        assert groups["sample_stats"].attrs["refined"] == method
        drawn.append(groups["posterior"]["mu"].to_numpy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[1] != drawn[2]).any()
    made.pool_weight = None
    assert jana.load(made.save(tmp_path / "older.safetensors"), made.model).pool_weight is None
