"""Folds against exact values: of several observations, and of one that alone bounds a parameter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest
from exact_pair import ExactPair, data_sets
from exact_pair import log_predictive as normal_predictive
from scipy import stats
from scipy.special import expit, logit

import jana_pymc as jana
from jana_pymc.posterior.data_bounds import DataBound, DataBounds
from jana_pymc.simulation import Continuous, DataBatch, DataSchema, PyMCPrior

SCHEMA = DataSchema({"x": Continuous()}, n_obs=(2, 100))
FAR = 50.0
"""So far from the prior's mean that each further copy of it shows in the predictive density."""


@pytest.mark.parametrize("correction", ["psis", "none"])
@pytest.mark.parametrize("k", [5, 3])
def test_of_equal_observations_only_the_sizes_of_folds_matter(k: int, correction: str) -> None:
    x = {"x": np.full(10, FAR)}
    result = jana.kfold(ExactPair(), x, k, correction=correction, random_seed=1)
    left_out = np.array([2] * 10 if k == 5 else [4] * 4 + [3] * 6)
    expected = [normal_predictive(x["x"][:1], x["x"][n:]) for n in left_out]
    # One copy more or fewer among the rest is a fifth of a nat.
    np.testing.assert_allclose(np.sort(result.elpd_i[0]), np.sort(expected), atol=0.07)
    assert (result.kind, result.elpd_i.shape) == ("kfold", (1, 10))


def test_folds_are_drawn_by_the_seed_and_anew_for_each_data_set() -> None:
    x = {"x": np.full(10, FAR)}
    results = [jana.kfold(ExactPair(), [x, x], 3, random_seed=seed).elpd_i for seed in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    larger = [terms < np.median(terms) - 0.1 for each in results[1:] for terms in each]
    assert len({tuple(each) for each in larger}) == 4


@pytest.mark.parametrize("correction", ["psis", "none"])
def test_groups_of_several_data_sets_are_their_own(correction: str) -> None:
    data = data_sets(8, 10, 12)
    labels = [list("babacccb"), np.arange(10) % 2, [7, 7, 7, 3, 3, 9, 9, 9, 9, 5, 5, 5]]
    result = jana.leave_one_group_out(
        ExactPair(), data, labels, correction=correction, draws=4_000, random_seed=1
    )
    assert result.elpd_i.shape == (3, 4)
    for terms, each, given in zip(result.elpd_i, data, map(np.array, labels), strict=True):
        groups = np.unique(given)
        expected = [normal_predictive(each["x"][given == g], each["x"][given != g]) for g in groups]
        np.testing.assert_allclose(terms[: len(groups)], expected, atol=0.15)
        assert np.isnan(terms[len(groups) :]).all()
    np.testing.assert_array_equal(result.summary()["units"], [3, 2, 4])


class DelayedLikelihood:
    """x_i = t0 + an exponential time."""

    def check_reachable(self, observed: np.ndarray) -> None:
        pass

    def log_prob(self, observed: np.ndarray, parameters: np.ndarray, conditions: object = None):
        return stats.expon.logpdf(observed[:, 0] - parameters)

    pointwise = log_prob


class DelayedPosterior:
    """The exact posterior of t0 ~ U(0, 1): proportional to exp(n t0) below the data."""

    batch = SCHEMA.batch
    network = SimpleNamespace(
        bounds=DataBounds([DataBound(0, (0,), below=True, lower=0.0, upper=1.0)], 1),
        takes_one_length=False,
    )

    @staticmethod
    def _law(batch: DataBatch) -> tuple[np.ndarray, np.ndarray]:
        top = np.minimum(np.nanmin(batch.observables[..., 0], axis=1), 1.0)[:, None]
        return batch.n_obs[:, None].astype(float), top

    def sample_unconstrained(self, batch: DataBatch, draws: int, random_seed: object = None):
        rate, top = self._law(batch)
        share = np.random.default_rng(random_seed).random((len(batch), draws))
        t0 = top + np.log(share + (1 - share) * np.exp(-rate * top)) / rate
        u = logit(t0)[..., None]
        return u, self.log_prob_unconstrained(u, batch)

    def log_prob_unconstrained(self, u: np.ndarray, batch: DataBatch) -> np.ndarray:
        rate, top = self._law(batch)
        t0 = expit(u[..., 0])
        log_p = np.log(rate) + rate * (t0 - top) - np.log(-np.expm1(-rate * top))
        return np.where(t0 <= top, log_p + np.log(t0 * (1 - t0)), -np.inf)


@pytest.fixture(scope="module")
def pair() -> ExactPair:
    made = ExactPair()
    with pm.Model() as prior:
        pm.Uniform("t0", 0.0, 1.0)
    made.prior, made.schema = PyMCPrior(prior), SCHEMA
    made.posterior, made.likelihood = DelayedPosterior(), DelayedLikelihood()
    return made


def log_predictive(x: float, others: np.ndarray) -> float:
    """log p(x | others), exact."""
    n, top = len(others), min(others.min(), 1.0)
    ways = n / (n + 1) * np.expm1((n + 1) * min(x, top)) / np.expm1(n * top)
    return float(np.log(ways) - x)


@pytest.mark.parametrize("first", [0.2, 0.9])
@pytest.mark.parametrize("how", [jana.loo, jana.loo_approximate_posterior])
def test_what_alone_bounds_a_parameter_is_predicted_from_beyond(pair, how, first: float) -> None:
    x = np.concatenate([[first], 1.0 + np.random.default_rng(2).exponential(size=19)])
    result = how(pair, {"x": x}, random_seed=1)
    assert result.elpd_i[0, 0] == pytest.approx(log_predictive(first, x[1:]), abs=0.1)
    assert result.refitted[0, 0] and result.pareto_k[0, 0] < 0.7


def test_where_no_refit_is_allowed_its_k_is_infinite(pair) -> None:
    x = np.concatenate([[0.2], 1.0 + np.random.default_rng(2).exponential(size=19)])
    with pytest.warns(UserWarning, match="k̂"):
        result = jana.loo_approximate_posterior(pair, {"x": x}, refit=False, random_seed=1)
    assert np.isposinf(result.pareto_k[0, 0]) and np.isfinite(result.pareto_k[0, 1:]).all()


def test_two_folds_with_the_smallest_bound_it_together(pair) -> None:
    x = np.array([0.5, 0.5, 1.2, 1.5, 1.1])
    result = jana.loo_approximate_posterior(pair, {"x": x}, random_seed=1)
    assert not result.refitted.any()


def test_draws_given_a_longer_past_do_not_serve_a_shorter_one_beyond_its_bound(pair) -> None:
    x = np.array([1.5, 1.2, 1.8, 0.3, 0.9, 1.3, 0.2, 0.8])
    result = jana.leave_future_out(pair, {"x": x}, start=2, random_seed=1)
    expected = [log_predictive(x[t], x[:t]) for t in range(2, len(x))]
    np.testing.assert_allclose(result.elpd_i[0], expected, atol=0.1)
    assert (result.pareto_k < 0.7).all()


def test_where_all_draws_are_given_the_whole_sequence_its_past_is_said_to_be_out_of_reach(
    pair, monkeypatch
) -> None:
    network = SimpleNamespace(bounds=DelayedPosterior.network.bounds, takes_one_length=True)
    monkeypatch.setattr(DelayedPosterior, "network", network)
    monkeypatch.setattr(pair, "schema", DataSchema({"x": Continuous()}, n_obs=(8, 8)))
    x = np.array([1.5, 1.2, 1.8, 0.3, 0.9, 1.3, 1.2, 0.8])
    with pytest.warns(UserWarning, match="k̂"):
        result = jana.leave_future_out(pair, {"x": x}, start=2, random_seed=1)
    assert np.isposinf(result.pareto_k[0]).tolist() == [True, True, False, False, False, False]


def test_beyond_the_support_of_a_parameter_no_observation_bounds_it(pair) -> None:
    x = np.array([1.3, 1.1, 1.9, 1.05, 1.6])
    for result in (
        jana.loo_approximate_posterior(pair, {"x": x}, random_seed=1),
        jana.leave_future_out(pair, {"x": x}, start=2, random_seed=1),
    ):
        assert not result.refitted.any() and (result.pareto_k < 0.7).all()
