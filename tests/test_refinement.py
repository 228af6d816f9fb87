"""Refined draws follow the posterior that likelihood and prior imply, whatever q was."""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest
from conjugate import exact_posterior, normal_mean, normal_prior
from exact_pair import SCHEMA, ExactPair, NormalPosterior, data_sets
from rich.progress import Progress
from scipy import stats

import jana_pymc as jana
from jana_pymc.inference_data import select_dataset, to_groups
from jana_pymc.refinement import nuts, propose, psis, refine, total_log_likelihood
from jana_pymc.refinement.convergence import split_r_hat
from jana_pymc.refinement.defensive_mixture import DEGREES, _log_student_t
from jana_pymc.simulation import PyMCPrior

pytestmark = [
    pytest.mark.arviz,
    pytest.mark.bridge,
    pytest.mark.trains,
    pytest.mark.usefixtures("compiled"),
]


def test_importance_resampling_mends_a_wrong_posterior() -> None:
    pair = ExactPair(NormalPosterior(shift=0.7, stretch=1.4))
    data = data_sets(5, 9, 15)
    refined = psis(pair, pair.schema.batch(data), 4000, random_seed=1)
    assert (refined.pareto_k < 0.7).all() and (refined.method == "psis").all()
    for draws, each in zip(refined.unconstrained[..., 0], data, strict=True):
        mean, sd = exact_posterior(each["x"])
        assert draws.mean() == pytest.approx(mean, abs=0.06 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.05)


def test_proposals_with_light_tails_are_defended() -> None:
    pair = ExactPair(NormalPosterior(stretch=0.3))
    data = data_sets(5, 9)
    batch = pair.schema.batch(data)
    bare = propose(pair, batch, 8_000, random_seed=1)
    assert (bare.weights.pareto_k > bare.weights.threshold).all()
    refined = psis(pair, batch, 2_000, random_seed=1)
    assert (refined.pareto_k < 0.5).all()
    for draws, each in zip(refined.unconstrained[..., 0], data, strict=True):
        mean, sd = exact_posterior(each["x"])
        assert draws.mean() == pytest.approx(mean, abs=0.08 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.06)
    np.testing.assert_allclose(
        refined.log_q, pair.posterior.log_prob_unconstrained(refined.unconstrained, batch)
    )


def log_normal(u: np.ndarray, centre: object = 0.0) -> np.ndarray:
    return stats.norm.logpdf(u, centre).sum(-1)


class OneStray:
    """Normal, as one mode of the target is; one draw in 4,000 lies in its other mode."""

    other = np.array([12.0, 0.0])

    def log_prob_unconstrained(self, u, batch):
        return log_normal(u) + 0.01 * np.sin(3.0 * u[..., 0])  # all but

    def sample_unconstrained(self, batch, draws, random_seed):
        u = random_seed.normal(size=(len(batch), draws, 2))
        u[:, :1] = self.other + 0.3 * random_seed.normal(size=(len(batch), 1, 2))
        return u, self.log_prob_unconstrained(u, batch)

    def log_target(self, observed, u, conditions):
        return np.logaddexp(log_normal(u), log_normal(u, self.other))[:, None]


@pytest.mark.parametrize("seed", range(5))
def test_a_stray_draw_in_another_mode_goes_on_raising_the_alarm(seed: int) -> None:
    posterior = OneStray()
    pair = SimpleNamespace(
        posterior=posterior,
        likelihood=SimpleNamespace(pointwise=posterior.log_target),
        prior=SimpleNamespace(constrain=lambda u: u, log_prob=lambda u: np.zeros(u.shape[:-1])),
    )
    batch = SCHEMA.batch([{"x": np.zeros(5)}])
    alarm = propose(pair, batch, 4_000, random_seed=seed).weights
    assert alarm.pareto_k[0] > alarm.threshold
    np.testing.assert_array_equal(
        psis(pair, batch, 1_000, random_seed=seed).pareto_k, alarm.pareto_k
    )


def test_the_tails_are_student_s() -> None:
    rng = np.random.default_rng(1)
    factors = np.tril(rng.normal(size=(2, 3, 3))) + 2.0 * np.eye(3)
    points = 3.0 * rng.normal(size=(2, 50, 3))
    for found, each, factor in zip(_log_student_t(points, factors), points, factors, strict=True):
        law = stats.multivariate_t(np.zeros(3), factor @ factor.T, df=DEGREES)
        np.testing.assert_allclose(found, law.logpdf(each), rtol=1e-12)


def test_data_sets_of_one_size_are_evaluated_together(monkeypatch) -> None:
    pair = ExactPair()
    batch = pair.schema.batch(data_sets(9, 5, 9, 9))
    parameters = np.random.default_rng(1).normal(size=(4, 2, 1))
    expected = total_log_likelihood(pair, batch, parameters)
    calls, pointwise = [], pair.likelihood.pointwise

    def counted(observed, *others):
        calls.append(observed.shape)
        return pointwise(observed, *others)

    monkeypatch.setattr(pair.likelihood, "pointwise", counted)
    for draw in (0, 1):
        found = total_log_likelihood(pair, batch, parameters[:, [draw]])
        np.testing.assert_allclose(found, expected[:, [draw]], rtol=1e-12)
    assert calls == [(1, 5, 1), (3, 9, 1)] * 2


def test_the_defence_of_one_data_set_leaves_the_others_as_they_are() -> None:
    class OneNarrow(NormalPosterior):
        def moments(self, batch):
            mean, sd = super().moments(batch)
            return mean, np.where(batch.n_obs == 9, 0.3, 1.2) * sd

    pair = ExactPair(OneNarrow())
    data = data_sets(6, 9, 12)
    together = psis(pair, pair.schema.batch(data), 2_000, random_seed=1)
    alone = psis(pair, pair.schema.batch(data[:1]), 2_000, random_seed=1)
    assert together.effective_share[[0, 2]] == pytest.approx(alone.effective_share[0], rel=0.02)
    for draws, each in zip(together.unconstrained[..., 0], data, strict=True):
        mean, sd = exact_posterior(each["x"])
        assert draws.mean() == pytest.approx(mean, abs=0.08 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.06)
    batch = pair.schema.batch(data)
    expected = pair.posterior.log_prob_unconstrained(together.unconstrained, batch)
    np.testing.assert_allclose(together.log_q, expected)


def test_auto_climbs_only_where_it_must() -> None:
    # The posterior of the second data set is far too narrow and beside the point.
    class OneWrong(NormalPosterior):
        def moments(self, batch):
            mean, sd = super().moments(batch)
            bad = batch.n_obs == 9
            return np.where(bad, mean + 3 * sd, mean), np.where(bad, 0.4 * sd, 1.1 * sd)

    pair = ExactPair(OneWrong())
    data = data_sets(6, 9, 12)
    refined = refine(pair, pair.schema.batch(data), 1000, method="auto", chains=2, random_seed=1)
    assert refined.method.tolist() == ["psis", "nuts", "psis"]
    for draws, each in zip(refined.unconstrained[..., 0], data, strict=True):
        mean, sd = exact_posterior(each["x"])
        assert draws.mean() == pytest.approx(mean, abs=0.2 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.15)
    batch = pair.schema.batch(data)
    expected = pair.posterior.log_prob_unconstrained(refined.unconstrained, batch)
    np.testing.assert_allclose(refined.log_q, expected)


def test_exact_pairs_need_nothing() -> None:
    pair = ExactPair()
    refined = psis(pair, pair.schema.batch(data_sets(8)), 500, random_seed=1)
    assert refined.pareto_k[0] == 0.0
    assert refined.effective_share[0] == pytest.approx(1.0)
    assert len(np.unique(refined.unconstrained)) == 500


def test_chains_start_in_the_trained_region_and_leave_data_beyond_it_alone(monkeypatch) -> None:
    """Half of the first posterior's draws lie inside; the second data set is impossible."""
    begun, evaluated = [], []

    class Sampler:
        def __init__(self, *_: object) -> None:
            pass

        def sample(self, batch, starts, first, **_: object):
            begun.append(starts[first, 0])
            return starts + 1.0, 3

    monkeypatch.setattr("jana_pymc.refinement.hamiltonian._Sampler", Sampler)
    pair = ExactPair()
    batch = pair.schema.batch([{"x": np.zeros(9)}, {"x": np.full(9, 50.0)}])
    possible = pair.likelihood.pointwise

    def pointwise(x, parameters, conditions):
        evaluated.append(len(parameters))
        return np.where(x[:, 0] > 10.0, -np.inf, possible(x, parameters))

    monkeypatch.setattr(pair.likelihood, "pointwise", pointwise)
    monkeypatch.setattr(pair.likelihood, "region", np.array([[-np.inf], [0.0]]))
    with pytest.warns(UserWarning, match=r"data sets \[1\].*at none of their draws"):
        refined = refine(pair, batch, 40, method="nuts", random_seed=1)
    assert evaluated.count(40) == 2  # the likelihood of resampled draws, once for each data set
    assert (begun[0] <= 0.0).all() and len(begun) == 1
    assert list(refined.method) == ["nuts", "psis"] and list(refined.divergences) == [3, 0]
    resampled = psis(pair, batch, 40, random_seed=1)
    np.testing.assert_array_equal(refined.unconstrained[1], resampled.unconstrained[1])


def test_chains_start_apart_where_few_draws_have_weight(monkeypatch) -> None:
    """The weight of the second data set's draws is on very few; the prior has others."""

    class OneAstray(NormalPosterior):
        def moments(self, batch):
            mean, sd = super().moments(batch)
            bad = batch.n_obs == 9
            return np.where(bad, mean + 20 * sd, mean), np.where(bad, 0.1, 1.1) * sd

    begun = []
    monkeypatch.setattr(
        importlib.import_module("jana_pymc.refinement.refine"),
        "nuts",
        lambda *_, starts, **__: begun.append(starts.unconstrained[..., 0]) or starts,
    )
    pair = ExactPair(OneAstray())
    batch = pair.schema.batch(data_sets(6, 9))
    resampled = psis(pair, batch, 400, random_seed=1)
    assert 4 * 400 * resampled.effective_share[1] < 10
    refine(pair, batch, 400, method="nuts", random_seed=1)
    ((kept, others),) = begun
    np.testing.assert_array_equal(kept, resampled.unconstrained[0, :, 0])
    assert len(np.unique(others)) > 20
    mean, sd = (float(value[1]) for value in NormalPosterior().moments(batch))
    assert others.mean() == pytest.approx(mean, abs=sd)


def test_where_the_prior_has_no_start_either_the_draws_are_left(monkeypatch) -> None:
    pair = ExactPair()
    batch = pair.schema.batch(data_sets(8))
    monkeypatch.setattr(pair.likelihood, "pointwise", lambda x, *_: np.full((1, len(x)), -np.inf))
    with pytest.warns(UserWarning, match=r"data sets \[0\].*at none of their draws"):
        refined = refine(pair, batch, 40, method="nuts", random_seed=1)
    resampled = psis(pair, batch, 40, random_seed=1)
    assert refined.method.tolist() == ["psis"]
    np.testing.assert_array_equal(refined.unconstrained, resampled.unconstrained)


def test_r_hat_is_that_of_split_chains() -> None:
    """Chains that alternate by one around centres which are two apart."""
    n = 20
    together = np.tile([-1.0, 1.0], (2, n // 2))
    apart, still = together + np.array([[-1.0], [1.0]]), np.ones((2, n))
    half = n // 2
    within = half / (half - 1)
    expected = np.sqrt([(half - 1) / half + 4 / 3 / within, (half - 1) / half])
    draws = np.stack([apart, together, still])[..., None]
    np.testing.assert_allclose(split_r_hat(draws), [*expected, np.inf])
    both = np.concatenate([draws[[0]], draws[[1]]], axis=-1)
    np.testing.assert_allclose(split_r_hat(both), expected[0])
    assert np.isnan(split_r_hat(draws[:, :, :3])).all()


def test_a_bar_counts_the_steps_of_all_chains() -> None:
    pair = ExactPair()
    batch = pair.schema.batch(data_sets(8, 12))
    with Progress(disable=True) as progress:
        starts = psis(pair, batch, 40, random_seed=1)
        options = {"starts": starts, "chains": 2, "tune": 50, "random_seed": 1}
        watched = nuts(pair, batch, progress=progress, **options)
    (bar,) = progress.tasks
    assert bar.completed == bar.total == 2 * (40 + 2 * 50)
    np.testing.assert_array_equal(nuts(pair, batch, **options).unconstrained, watched.unconstrained)


def test_a_prior_that_has_been_observed_since_is_refused() -> None:
    pair = ExactPair()
    pair.prior = PyMCPrior(normal_prior())  # one of its own
    with pair.prior.model as model:
        pm.Normal("y", model["mu"], 1.0, observed=[1.0])
    with pytest.raises(ValueError, match="observed in the prior"):
        refine(pair, pair.schema.batch(data_sets(8)), 40, method="nuts", random_seed=1)


@pytest.fixture(scope="module")
def approximator() -> jana.JointApproximator:
    """Trained too briefly, so that there is something to refine."""
    return jana.fit(
        normal_mean(),
        n_simulations=2_000,
        training=jana.TrainingSettings(n_steps=300),
        random_seed=1,
        progressbar=False,
    )


def test_chains_of_one_draw_leave_the_prior_alone(approximator) -> None:
    before = list(approximator.prior.model.named_vars)
    drawn = approximator.sample(
        data_sets(10), draws=1, chains=1, refine="nuts", random_seed=1, progressbar=False
    )
    assert np.isfinite(to_groups(drawn)["posterior"]["mu"]).all()
    assert list(approximator.prior.model.named_vars) == before
    assert normal_prior().named_vars.keys() == approximator.prior.model.named_vars.keys()


def test_sample_refines(approximator) -> None:
    data = data_sets(10, 12)
    drawn = approximator.sample(data, draws=500, refine="psis", random_seed=1)
    result = to_groups(drawn)
    statistics = result["sample_stats"]
    assert set(statistics) == {"lp"}  # no longer draws from q
    assert statistics.attrs["pareto_k"].shape == (2,)
    assert statistics.attrs["refined"] == "psis,psis"
    alone = to_groups(select_dataset(drawn, 1))["sample_stats"].attrs
    assert alone["pareto_k"].tolist() == [statistics.attrs["pareto_k"][1]]
    assert alone["refined"] == "psis" and alone["divergences"].tolist() == [0]
    again = to_groups(approximator.sample(data, draws=500, refine="psis", random_seed=1))
    np.testing.assert_array_equal(result["posterior"]["mu"], again["posterior"]["mu"])


class StuckOrDivergent:
    """In place of NUTS: chains of the first data set disagree, the last one's draws diverge."""

    def __init__(self, *_: object) -> None:
        self.sets = 0

    def sample(self, batch, starts, first, **_: object):
        self.sets += 1
        draws = np.random.default_rng(self.sets).normal(1.0, 0.1, starts.shape)
        draws[: len(draws) // 2] -= 2.0 * (self.sets == 1)
        return draws, 50 * (self.sets == 3)


def test_chains_that_have_not_converged_are_named_once(approximator, monkeypatch) -> None:
    monkeypatch.setattr("jana_pymc.refinement.hamiltonian._Sampler", StuckOrDivergent)
    with pytest.warns(UserWarning, match="NUTS is not reliable") as caught:
        approximator.sample(
            data_sets(8, 10, 12),
            draws=100,
            chains=2,
            refine="nuts",
            groups=("posterior",),
            random_seed=1,
            progressbar=False,
        )
    (message,) = [str(each.message) for each in caught]
    assert re.search(
        r"sets 0 \(R-hat \d+\.\d\d, 0% divergent\), 2 \(R-hat (0\.99|1\.0\d), 25% div", message
    )


def test_a_bar_is_shown_only_while_nuts_runs(approximator, monkeypatch, capsys) -> None:
    monkeypatch.setattr("jana_pymc.refinement.hamiltonian._Sampler", StuckOrDivergent)
    options = {"draws": 100, "chains": 2, "groups": ("posterior",), "random_seed": 1}
    data = data_sets(10)
    for quiet in ({"refine": "none"}, {"refine": "psis"}):
        approximator.sample(data, **options, **quiet)
    with pytest.warns(UserWarning, match="NUTS is not reliable"):
        approximator.sample(data, refine="nuts", progressbar=False, **options)
    assert capsys.readouterr().out == ""
    with pytest.warns(UserWarning, match="NUTS is not reliable"):
        approximator.sample(data, refine="nuts", **options)
    assert "NUTS" in capsys.readouterr().out


def test_refined_draws_outside_the_trained_region_are_said_to_be(approximator) -> None:
    beyond = approximator.likelihood.region[1, 0] + 10.0
    data = {"x": np.random.default_rng(1).normal(beyond, 1.0, 12)}
    with (
        pytest.warns(UserWarning, match="farther from the simulations than any"),
        pytest.warns(UserWarning, match=r"data sets 0 \(\d+%\) lie outside the region"),
    ):
        approximator.sample(data, draws=100, refine="psis", random_seed=1)


def test_nuts_and_importance_resampling_agree(approximator) -> None:
    """Both aim at the same target: neural likelihood times prior."""
    (data,) = data_sets(12)
    draws = {
        method: np.asarray(
            approximator.sample(
                data,
                draws=1500,
                chains=2,
                refine=method,
                groups=("posterior",),
                random_seed=1,
                progressbar=False,
            )["posterior"]["mu"]
        )
        for method in ("psis", "nuts")
    }
    sd = draws["nuts"].std()
    assert draws["psis"].mean() == pytest.approx(draws["nuts"].mean(), abs=0.15 * sd)
    assert draws["psis"].std() == pytest.approx(sd, rel=0.12)


def test_unknown_refinement_is_named(approximator) -> None:
    with pytest.raises(ValueError, match="refine='mcmc'"):
        approximator.sample(data_sets(8)[0], refine="mcmc")
