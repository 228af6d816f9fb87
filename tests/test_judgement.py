"""Misspecification, criticism, surrogates and the amortized workflow, on a trained pair."""

from __future__ import annotations

import dataclasses
import warnings
from functools import partial

import arviz as az
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from conjugate import SMALL, exact_posterior, normal_mean, normal_prior
from normal_means import ExactModel, ExactPair, ExactPosterior
from scipy import stats

import jana_pymc as jana
from jana_pymc.inference_data import to_groups
from jana_pymc.plots import plot_surrogate
from jana_pymc.refinement import RefinedDraws, psis
from jana_pymc.simulation import DataBatch
from jana_pymc.workflow.mmd import kernel_widths, mmd_test, single_sample_mmd

pytestmark = [pytest.mark.arviz, pytest.mark.trains]


@pytest.fixture(scope="module")
def approximator() -> jana.JointApproximator:
    return jana.fit(
        normal_mean(),
        n_simulations=3_000,
        network=SMALL,
        training=jana.TrainingSettings(n_steps=800),
        random_seed=1,
        progressbar=False,
    )


def sets(rng, n, spread=1.0):
    mu = rng.normal(0.0, 2.0, n)
    return [{"x": rng.normal(m, spread, rng.integers(8, 16))} for m in mu]


def detect(pair, data, **options):
    return jana.detect_misspecification(
        pair, data, random_seed=options.pop("random_seed", 1), progressbar=False, **options
    )


def exact_data(n, seed, *, spread=1.0) -> DataBatch:
    made = ExactModel().simulate(n, random_seed=seed)
    noise = made.data.observables - made.parameters[:, None]
    x = made.parameters[:, None] + spread * noise
    beyond = np.arange(x.shape[1]) >= made.data.n_obs[:, None]
    return DataBatch(np.where(beyond[..., None], np.nan, x), made.data.conditions, made.data.n_obs)


def test_an_experiment_unlike_the_design_is_not_misspecified() -> None:
    """Whatever the networks are, for data and null come about in one way."""

    def simulator(rng, mu, dose, n_obs):
        return {"x": rng.normal(mu * dose, 1.0)}

    model = jana.GenerativeModel(
        normal_prior(),
        simulator,
        observables={"x": jana.Continuous()},
        conditions={"dose": jana.Continuous()},
        design=lambda rng, n_obs: {"dose": rng.uniform(0.5, 4.0, n_obs)},
        n_obs=(5, 15),
    )
    training = jana.TrainingSettings(n_steps=2, batch_size=32)
    with pytest.warns(UserWarning, match="half-trained"):
        pair = jana.fit(
            model,
            n_simulations=200,
            network=SMALL,
            training=training,
            random_seed=1,
            progressbar=False,
        )
    rng = np.random.default_rng(2)
    data = []
    for n in rng.integers(5, 16, 150):
        dose = np.full(n, 3.9)
        data.append({"x": simulator(rng, rng.normal(0.0, 2.0), dose, n)["x"], "dose": dose})
    result = detect(pair, data, n_simulations=1_000)
    assert stats.binomtest(int(result.outliers.sum()), 150, 0.05).pvalue > 0.001
    assert result.mmd_p_value > 0.01
    # What conditions alone decide is the same in all simulations under those of one data set.
    dose = rng.uniform(0.5, 4.0, 18)
    longer = {"x": simulator(rng, 1.0, dose, 18)["x"], "dose": dose}
    with pytest.warns(UserWarning, match="n_obs=18, outside the range"):
        result = detect(pair, longer, n_simulations=1_000)
    assert result.p_values[0] > 0.001 and result.n_obs.tolist() == [18]


def test_level_and_joint_p_value_on_well_specified_data() -> None:
    results = [detect(ExactPair(), exact_data(100, 50 + i), random_seed=i) for i in range(12)]
    # One thousand null sets are shared by a hundred data sets, so the rate is overdispersed.
    assert np.mean([r.outliers.mean() for r in results]) == pytest.approx(0.05, abs=0.02)
    assert min(r.mmd_p_value for r in results) > 0.005


def test_fixed_summaries_see_what_learned_ones_are_blind_to() -> None:
    """The mean is all that these learned; noise of twice the size hardly moves it."""
    result = detect(ExactPair(), exact_data(100, 7, spread=2.0))
    learned, fixed = (result.p_values_by_kind <= 0.05).mean(axis=0)
    assert learned < 0.3
    assert fixed > 0.8
    assert result.outliers.mean() > 0.8


def test_shifted_data_are_found_alone_and_together() -> None:
    data = exact_data(40, 8)
    far = DataBatch(data.observables + 6.0, data.conditions, data.n_obs)
    result = detect(ExactPair(), far)
    assert result.outliers.mean() > 0.95
    assert result.mmd_p_value == pytest.approx(1 / 500)
    assert list(result.table().columns)[-2:] == ["p_value", "outlier"]
    dataset = result.to_dataset()
    assert dataset.sizes == {
        "dataset": 40, "kind": 2, "simulation": 1000, "permutation": 499, "component": 2,
    }  # fmt: skip
    assert len(result.plot().axes) == 3


def test_data_longer_than_all_simulations_are_compared_with_the_longest() -> None:
    """By so many of their observations."""
    x, results = np.random.default_rng(9).normal(size=(60, 96, 3)), []
    for sizes in ((9, 24, 24), (9, 48, 96)):
        n_obs = np.repeat(sizes, 20)
        beyond = np.arange(96) >= n_obs[:, None]
        batch = DataBatch(np.where(beyond[..., None], np.nan, x), np.empty((60, 96, 0)), n_obs)
        results.append(detect(ExactPair(), batch))
    np.testing.assert_array_equal(*(each.null for each in results))
    np.testing.assert_array_equal(*(each.p_values_by_kind for each in results))
    assert results[1].n_obs.tolist() == n_obs.tolist()


def test_detection_checks_its_input() -> None:
    with pytest.raises(ValueError, match="200 at least"):
        detect(ExactPair(), exact_data(2, 1), n_simulations=100)
    with pytest.raises(ValueError, match="level=0: expected"):
        detect(ExactPair(), exact_data(2, 1), level=0)
    with pytest.raises(ValueError, match="pass simulations="):
        detect(ExactPair(model=None), exact_data(2, 1))


def test_simulations_of_another_model_are_refused(approximator) -> None:
    renamed = jana.GenerativeModel(
        normal_prior(),
        lambda rng, mu, n_obs: {"y": rng.normal(mu, 1.0, n_obs)},
        observables={"y": jana.Continuous()},
        n_obs=(5, 15),
    ).simulate(10, random_seed=1, progressbar=False)
    data = sets(np.random.default_rng(1), 2)
    message = r"simulations: their observables \(y: .*the approximator's \(x: "
    for call in (
        partial(jana.detect_misspecification, approximator, data),
        partial(jana.analyze, approximator, data),
        partial(jana.criticize, approximator, {"mu": 0.0}),
    ):
        with pytest.raises(ValueError, match=message):
            call(simulations=renamed, progressbar=False)
        with pytest.raises(TypeError, match="simulations is dict; expected Simulations"):
            call(simulations={"x": [1.0]}, progressbar=False)
    with pytest.raises(ValueError, match=r"data: their observables \(y: "):
        jana.detect_misspecification(approximator, renamed, progressbar=False)


def test_where_simulations_may_be_at_given_parameters(approximator) -> None:
    data = sets(np.random.default_rng(1), 2)
    given = approximator.simulate(approximator.prior.draw(250, 1), random_seed=1)
    assert len(detect(approximator, data, simulations=given)) == 2
    with pytest.raises(ValueError, match="their parameters were given; expected draws from"):
        jana.calibration(approximator, given, progressbar=False)
    with pytest.raises(ValueError, match="differ from those that are criticised"):
        jana.criticize(approximator, {"mu": 0.0}, simulations=given, progressbar=False)


def test_mmd_of_equal_laws_is_uniform_and_of_others_small() -> None:
    rng = np.random.default_rng(2)
    same, other = [], []
    for _ in range(60):
        x, y = rng.standard_normal((20, 2)), rng.standard_normal((60, 2))
        widths = kernel_widths(y)
        same.append(mmd_test(x, y, widths, n_permutations=99, random_seed=rng)[2])
        other.append(mmd_test(x + 1.0, y, widths, n_permutations=99, random_seed=rng)[2])
    assert stats.kstest(same, "uniform").pvalue > 0.01
    assert np.mean(np.array(other) <= 0.05) > 0.9


def test_single_sample_mmd_is_the_biased_estimate() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((30, 2))
    widths = kernel_widths(y)
    one_by_one = [mmd_test(row[None], y, widths, n_permutations=1)[0] for row in x]
    np.testing.assert_allclose(single_sample_mmd(x, y, widths), one_by_one, rtol=1e-10)


def test_sampling_warns_outside_the_simulations_alone(approximator) -> None:
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        approximator.sample(sets(rng, 60), draws=2, groups=("posterior",), random_seed=1)
    for x in (np.linspace(-30, 30, 10), rng.normal(20.0, 1.0, 10)):
        with pytest.warns(UserWarning, match="the data lie farther from the simulations"):
            approximator.sample({"x": x}, draws=2, groups=("posterior",), random_seed=1)
    mixed = [*sets(rng, 20), {"x": np.linspace(-30, 30, 10)}]
    with pytest.warns(UserWarning, match=r"1 of 21 data sets \(first: 20\)"):
        approximator.sample(mixed, draws=2, groups=("posterior",), random_seed=1)


@pytest.mark.parametrize("shape", [(), (2,)])
def test_vectors_under_known_conditions_are_compared_with_their_like(shape) -> None:
    with pm.Model() as prior:
        pm.Normal("mu")
    model = jana.GenerativeModel(
        prior,
        lambda rng, mu, d, e: {"x": rng.normal(mu * d + np.sum(e))},
        observables={"x": jana.Continuous()},
        structure="vector",
        conditions={"d": jana.Continuous(), "e": jana.Continuous(shape=shape)},
        design=lambda rng: {"d": rng.uniform(1.0, 2.0), "e": rng.normal(size=shape)},
    )
    training = jana.TrainingSettings(n_steps=30, n_validations=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="half-trained")
        pair = jana.fit(
            model, n_simulations=300, training=training, random_seed=1, progressbar=False
        )
    sample = partial(pair.sample, draws=10, groups=("posterior",), random_seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample({"x": 0.5, "d": 1.5, "e": np.zeros(shape)})
    with pytest.warns(UserWarning, match="the data lie farther from the simulations"):
        sample({"x": 500.0, "d": 1.5, "e": np.zeros(shape)})
    known = {"x": 0.5, "d": 1.5, "e": np.zeros(shape)}
    for data, new in ((known, {**known, "d": 400.0}), ({**known, "d": 400.0}, known)):
        with (
            pytest.warns(UserWarning, match="the condition 'd' reaches 400"),
            pytest.warns(UserWarning, match="the data lie farther from the simulations"),
        ):
            jana.elpd(pair, data, new, correction="none", draws=10, random_seed=1)


def test_surrogates_are_simulations(approximator) -> None:
    mu = np.array([-2.0, 0.0, 3.0])
    made = approximator.simulate({"mu": mu}, [6, 9, 15], random_seed=1)
    assert isinstance(made, jana.Simulations)
    np.testing.assert_array_equal(made.parameters[:, 0], mu)
    assert made.batch(pad=True).observables.shape == (3, 15, 1)
    np.testing.assert_array_equal(made.batch().n_obs, [6, 9, 15])
    same = approximator.simulate(mu[:, None], [6, 9, 15], random_seed=1)
    np.testing.assert_array_equal(made.batch().observables, same.batch().observables)
    many = approximator.simulate(np.full((400, 1), 1.5), 15, random_seed=2).batch().observables
    assert many.mean() == pytest.approx(1.5, abs=0.15)
    assert many.std() == pytest.approx(1.0, abs=0.15)
    simulator = approximator.model.simulate(
        parameters=np.full((400, 1), 1.5), random_seed=3, progressbar=False
    )
    figure = plot_surrogate(simulator, approximator.simulate(np.full((400, 1), 1.5)))
    assert figure.axes[0].get_xlabel() == "x"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1.0, 2.0]],), {}, r"\(1, 2\) when flattened"),
        (([[np.nan]],), {}, "'mu' is NaN or infinite"),
        ((np.empty((0, 1)),), {}, "parameters hold no vector"),
        (({"mu": []},), {}, "parameters hold no vector"),
        (([[1.0]], 0), {}, "n_obs=0"),
        (([[1.0]], [3, 4]), {}, "one for each data set"),
        (([[1.0]],), {"conditions": {"z": [1.0]}}, "trained without any"),
    ],
)
def test_surrogates_check_their_input(approximator, arguments, options, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        approximator.simulate(*arguments, **options)


def test_prior_predictive_groups(approximator) -> None:
    groups = to_groups(approximator.prior_predictive(500, 12, random_seed=1))
    assert set(groups) == {"prior", "prior_predictive"}
    x = groups["prior_predictive"]["x"]
    assert x.dims == ("chain", "draw", "obs")
    assert x.shape == (1, 500, 12)
    np.testing.assert_allclose(x.mean("obs"), groups["prior"]["mu"], atol=2.0)
    assert float(x.std()) == pytest.approx(5**0.5, rel=0.15)


def test_the_critic_finds_the_strangest(approximator) -> None:
    options = {"n_simulations": 300, "random_seed": 1, "progressbar": False}
    result = jana.criticize(approximator, {"mu": 1.0}, share=0.02, **options)
    assert result.implausible.sum() == 6
    worst = result.discrepancy[result.implausible].min()
    assert worst >= result.discrepancy[~result.implausible].max()
    assert len(result.plausible) == 294
    assert np.mean(result.p_values <= 0.1) == pytest.approx(0.1, abs=0.08)
    means = result.surrogate.batch(pad=True).observables.squeeze(-1)
    strangeness = np.abs(np.nanmean(means, axis=1) - 1.0)
    assert strangeness[result.implausible].mean() > 1.5 * strangeness.mean()
    assert result.to_dataset().sizes == {"surrogate": 300, "simulation": 300}
    assert len(result.plot().axes) == 1
    with pytest.raises(ValueError, match="expected one vector"):
        jana.criticize(approximator, np.zeros((2, 1)), **options)


def posterior_calibration(pair, data, **options):
    options = {"n_simulations": 300, "draws": 99, "random_seed": 5, "progressbar": False} | options
    return jana.posterior_calibration(pair, data, **options)


def test_posterior_calibration_of_an_exact_pair() -> None:
    data = exact_data(1, 3)[[0]]
    data = DataBatch(data.observables[:, :9], data.conditions[:, :9], np.array([9]))
    for joint in (False, True):
        result = posterior_calibration(ExactPair(), data, joint=joint)
        assert set(result.n_obs) == {18}
        assert all(result.inside(familywise=True).values())
        assert result.joint is joint
    wrong = posterior_calibration(ExactPair(ExactPosterior(shift=1.5)), data)
    assert not any(wrong.inside().values())


def test_posterior_calibration_joins_observations_not_padding() -> None:
    wide = exact_data(1, 3)[[0]]
    wide = DataBatch(wide.observables, wide.conditions, np.array([9]))
    narrow = DataBatch(wide.observables[:, :9], wide.conditions[:, :9], wide.n_obs)
    first, second = (posterior_calibration(ExactPair(), data) for data in (wide, narrow))
    np.testing.assert_array_equal(first.ranks, second.ranks)
    np.testing.assert_array_equal(first.mean, second.mean)


@pytest.mark.parametrize("structure", ["markovian", "vector"])
def test_posterior_calibration_needs_exchangeable_observations(structure: str) -> None:
    n_obs = (1, 1) if structure == "vector" else (8, 24)
    schema = dataclasses.replace(ExactPair().schema, structure=structure, n_obs=n_obs)
    with pytest.raises(ValueError, match=f"declared '{structure}'.*Take jana_pymc.calibration"):
        posterior_calibration(ExactPair(schema=schema), exact_data(1, 3)[[0]])


def test_posterior_calibration_needs_room(approximator) -> None:
    with pytest.raises(ValueError, match="no room for a replicate"):
        posterior_calibration(approximator, {"x": np.zeros(15)})
    with pytest.raises(ValueError, match="takes one"):
        posterior_calibration(approximator, [{"x": np.zeros(6)}] * 2)
    with pytest.raises(
        ValueError, match="n_replicate=10: expected at most 9, since the data have 6"
    ):
        posterior_calibration(approximator, {"x": np.zeros(6)}, n_replicate=10)


@pytest.mark.filterwarnings("ignore:.*farther from the simulations")
def test_observations_beyond_a_data_sets_own_are_of_no_account(approximator) -> None:
    """Batches of simulations hold real values there."""
    x = np.append(np.zeros(6), np.full(4, 50.0))[None, :, None]
    batch = DataBatch(x, np.empty((1, 10, 0)), np.array([6]))
    whole = DataBatch(x[:, :6], batch.conditions[:, :6], batch.n_obs)
    for read in (approximator.posterior.batch(each) for each in (batch, whole)):
        np.testing.assert_array_equal(read.observables, x[:, :6])
    both = DataBatch(np.repeat(x, 2, axis=0), np.empty((2, 10, 0)), np.array([6, 8]))
    observables = approximator.posterior.batch(both).observables[..., 0]
    assert np.isnan(observables).tolist() == [[False] * 6 + [True] * 2, [False] * 8]
    options = {"draws": 5, "chains": 2, "random_seed": 1}
    first, second = (approximator.sample(each, **options) for each in (batch, whole))
    for group in ("posterior", "log_likelihood", "observed_data"):
        xr.testing.assert_equal(to_groups(first)[group], to_groups(second)[group])


def test_analysis_refines_only_what_needs_it(approximator) -> None:
    rng = np.random.default_rng(6)
    data = sets(rng, 30)
    result = jana.analyze(approximator, data, draws=250, random_seed=1, progressbar=False)
    table = result.table
    assert table["rung"].isin(["amortized", "psis"]).all()
    even = table["effective_share"] >= 0.8
    assert (table["rung"][even] == "amortized").all()
    assert (table["rung"][~even] == "psis").all()
    means, sds = zip(*(exact_posterior(d["x"]) for d in data), strict=True)
    np.testing.assert_allclose(result.draws[..., 0].mean(axis=1), means, atol=0.2)
    np.testing.assert_allclose(result.draws[..., 0].std(axis=1), sds, rtol=0.4)
    alone = to_groups(jana.select_dataset(result.to_inference_data(), 3))["posterior"]
    assert alone["mu"].shape == (4, 250)
    assert az.summary(alone, kind="diagnostics", round_to="none")["r_hat"].max() < 1.05
    assert sum(result.counts.values()) == 30
    assert len(result.plot().axes) == 2


def test_analysis_marks_what_was_never_simulated(approximator) -> None:
    good = sets(np.random.default_rng(8), 3)
    data = [*good, {"x": np.linspace(-30.0, 30.0, 10)}]
    result = jana.analyze(approximator, data, draws=50, random_seed=1, progressbar=False)
    assert list(result.table["misspecified"]) == [False, False, False, True]
    assert result.table["reason"][3].startswith("misspecified (p = ")
    assert list(result.misspecification.outliers) == [False, False, False, True]


def test_draws_outside_the_trained_region_are_not_reliable(approximator, monkeypatch) -> None:
    """However light the tail of their weights is: with a threshold that all weights meet."""
    monkeypatch.setattr("jana_pymc.workflow.analysis.pareto_k_threshold", lambda draws: np.inf)
    beyond = approximator.likelihood.region[1, 0] + 10.0
    rng = np.random.default_rng(8)
    data = [*sets(rng, 2), {"x": rng.normal(beyond, 1.0, 12)}]
    result = jana.analyze(approximator, data, draws=50, random_seed=1, progressbar=False)
    assert result.table["rung"].isin(["amortized", "psis"]).all()
    assert list(result.table["reliable"]) == [True, True, False]
    assert "of the draws lie outside the trained region" in result.table["reason"][2]


def test_one_impossible_data_set_leaves_the_others_their_draws(approximator, monkeypatch) -> None:
    possible = approximator.likelihood.pointwise

    def pointwise(observables, *others):
        return np.where(observables[:, 0] > 100.0, -np.inf, possible(observables, *others))

    monkeypatch.setattr(approximator.likelihood, "pointwise", pointwise)
    data = [*sets(np.random.default_rng(8), 2), {"x": np.full(8, 200.0)}]
    result = jana.analyze(approximator, data, draws=50, random_seed=1, progressbar=False)
    assert list(result.table["reliable"]) == [True, True, False]
    assert np.isfinite(result.draws[:2]).all()
    assert result.table["rung"][2] == "psis"
    assert "k = inf, above 0.66; NUTS found nowhere to start" in result.table["reason"][2]


@pytest.mark.parametrize("beyond", [0.1, 25.0])
def test_chains_start_where_the_likelihood_was_trained(approximator, monkeypatch, beyond) -> None:
    """Means beyond the region: amortized draws are of use for the near one, for the other not."""
    analysis = "jana_pymc.workflow.analysis"
    seen, resampled = [], []
    monkeypatch.setattr(
        f"{analysis}.psis", lambda *a, **o: resampled.append(psis(*a, **o)) or resampled[-1]
    )
    monkeypatch.setattr(f"{analysis}.nuts", lambda *_, starts, **__: seen.append(starts) or starts)
    monkeypatch.setattr(f"{analysis}.pareto_k_threshold", lambda draws: -np.inf)
    high = approximator.likelihood.region[1, 0]
    data = {"x": high + beyond + np.random.default_rng(2).normal(size=12)}
    jana.analyze(approximator, data, draws=50, random_seed=2, progressbar=False)
    (starts,), (once,) = seen, resampled  # what was weighed is not weighed again
    if beyond < 1.0:
        assert np.isin(starts.unconstrained, once.unconstrained).all()
    assert (starts.effective_share[0] > 0.1) == (beyond < 1.0)
    assert starts.unconstrained.shape == (1, 200, 1)
    assert 0.0 < starts.unconstrained.min() < starts.unconstrained.max() <= high


@pytest.mark.parametrize(
    ("divergences", "r_hat", "reliable"), [(1, 1.0, True), (9, 1.0, False), (0, 1.2, False)]
)
def test_chains_that_diverge_often_or_disagree_are_not_reliable(
    approximator, monkeypatch, divergences, r_hat, reliable
) -> None:
    """One of a hundred draws may diverge."""
    analysis = "jana_pymc.workflow.analysis"

    def nuts(*_: object, starts: RefinedDraws, **__: object) -> RefinedDraws:
        return dataclasses.replace(
            starts,
            method=np.full(1, "nuts"),
            divergences=np.full(1, divergences),
            r_hat=np.full(1, r_hat),
        )

    monkeypatch.setattr(f"{analysis}.nuts", nuts)
    monkeypatch.setattr(f"{analysis}.pareto_k_threshold", lambda draws: -np.inf)
    data = {"x": np.random.default_rng(2).normal(1.0, 1.0, 12)}
    row = jana.analyze(approximator, data, draws=50, random_seed=2, progressbar=False).table.iloc[0]
    assert row["reliable"] == reliable and row["divergences"] == divergences
    assert (f"(R-hat {r_hat:.2f}, {divergences / 200:.0%} divergent)" in row["reason"]) != reliable


@pytest.mark.bridge
@pytest.mark.usefixtures("compiled")
def test_the_last_rung_follows_the_exact_posterior(approximator, monkeypatch) -> None:
    """With a threshold that no weights meet, everything ends at NUTS."""
    monkeypatch.setattr("jana_pymc.workflow.analysis.pareto_k_threshold", lambda draws: -np.inf)
    x = np.random.default_rng(4).normal(1.0, 1.0, 12)
    result = jana.analyze(
        approximator, {"x": x}, draws=300, chains=4, random_seed=1, progressbar=False
    )
    row = result.table.iloc[0]
    assert row["rung"] == "nuts" and row["reliable"]
    assert row["r_hat"] < 1.05
    mean, sd = exact_posterior(x)
    assert result.draws.mean() == pytest.approx(mean, abs=0.3 * sd)
    assert result.draws.std() == pytest.approx(sd, rel=0.2)


def test_analysis_without_a_model_and_bad_settings(approximator, tmp_path) -> None:
    loaded = jana.load(approximator.save(tmp_path / "pair.safetensors"), normal_prior())
    data = {"x": np.random.default_rng(1).normal(0.0, 1.0, 12)}
    result = jana.analyze(loaded, data, random_seed=1, progressbar=False)
    assert len(result) == 1
    assert 0 < result.table["p_value"][0] <= 1
    with pytest.raises(ValueError, match="min_effective_share=2: expected"):
        jana.analyze(loaded, data, min_effective_share=2)
    with pytest.raises(ValueError, match="draws=0: expected at least 1"):
        jana.analyze(loaded, data, draws=0)
