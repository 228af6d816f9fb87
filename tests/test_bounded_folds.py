"""Cross-validation where a left-out observation alone bounds a parameter, against exact values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest
from exact_pair import ExactPair
from scipy import stats
from scipy.special import expit, logit

import jana_pymc as jana
from jana_pymc.posterior.data_bounds import DataBound, DataBounds
from jana_pymc.simulation import Continuous, DataBatch, DataSchema, PyMCPrior

SCHEMA = DataSchema({"x": Continuous()}, n_obs=(2, 100))


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
