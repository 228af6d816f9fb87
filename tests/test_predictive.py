"""Cross-validation and prediction against the conjugate model's exact densities."""

from __future__ import annotations

import dataclasses
import warnings
from types import SimpleNamespace

import arviz as az
import numpy as np
import pytest
from exact_pair import ExactPair, NormalPosterior, data_sets, log_predictive

import jana_pymc as jana
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.simulation import DataSchema
from jana_pymc.workflow.cross_validation_result import warn_of_high_k

pytestmark = pytest.mark.arviz

DATA = data_sets(6, 10, 15)
WRONG = ExactPair(NormalPosterior(shift=0.6, stretch=1.3))


def exact_loo(x: np.ndarray) -> np.ndarray:
    return np.array([log_predictive(x[[i]], np.delete(x, i)) for i in range(len(x))])


@pytest.mark.parametrize("correction", ["psis", "none"])
def test_loo_of_an_exact_pair(correction) -> None:
    result = jana.loo(ExactPair(), DATA, correction=correction, draws=4000, random_seed=1)
    for i, each in enumerate(DATA):
        terms = result.elpd_i[i]
        np.testing.assert_allclose(terms[: len(each["x"])], exact_loo(each["x"]), atol=0.06)
        assert np.isnan(terms[len(each["x"]) :]).all()
        assert result.elpd[i] == pytest.approx(exact_loo(each["x"]).sum(), abs=0.1)
    assert np.isnan(result.pareto_k).all() == (correction == "none")
    if correction == "none":  # every fold has draws of its own
        assert result.summary()["refitted"].tolist() == [6, 10, 15]


def test_weights_mend_what_the_posterior_network_gets_wrong() -> None:
    exact = np.array([exact_loo(each["x"]).sum() for each in DATA])
    plain = jana.loo(WRONG, DATA, correction="none", draws=4000, random_seed=1).elpd
    corrected = jana.loo(WRONG, DATA, random_seed=1)
    approximate = jana.loo_approximate_posterior(WRONG, DATA, random_seed=1)
    assert np.abs(plain - exact).max() > 0.15
    np.testing.assert_allclose(corrected.elpd, exact, atol=0.1)
    np.testing.assert_allclose(approximate.elpd, exact, atol=0.1)
    assert ((corrected.p > 0.3) & (corrected.p < 1.7)).all()  # one parameter


def test_an_influential_observation_is_refitted() -> None:
    x = np.append(np.random.default_rng(1).normal(0, 0.5, 9), 9.0)
    pair = ExactPair()
    options = {"draws": 1000, "random_seed": 1}
    with pytest.warns(UserWarning, match="1 units of 1 of 1 data sets"):
        first = jana.loo_approximate_posterior(
            pair, {"x": x}, refit=False, moment_match=False, **options
        )
    assert first.pareto_k[0, -1] > 0.7
    second = jana.loo_approximate_posterior(pair, {"x": x}, **options)
    assert second.refitted[0, -1]
    assert second.pareto_k[0, -1] < 0.7
    assert second.elpd_i[0, -1] == pytest.approx(exact_loo(x)[-1], abs=0.3)


def test_moments_matched_where_nothing_is_refitted() -> None:
    x = np.append(np.random.default_rng(1).normal(0, 0.5, 9), 9.0)
    result = jana.loo_approximate_posterior(
        ExactPair(), {"x": x}, refit=False, draws=4000, random_seed=1
    )
    assert result.refitted[0, -1]
    assert result.pareto_k[0, -1] < 0.7
    np.testing.assert_allclose(result.elpd_i[0], exact_loo(x), atol=0.2)


def test_kfold_with_as_many_folds_as_observations_is_loo() -> None:
    x = DATA[1]["x"]
    result = jana.kfold(ExactPair(), {"x": x}, 10, random_seed=1)
    np.testing.assert_allclose(result.elpd_i[0], exact_loo(x), atol=0.06)
    with pytest.raises(ValueError, match="k=11"):
        jana.kfold(ExactPair(), {"x": x}, 11)


@pytest.mark.parametrize("correction", ["psis", "none"])
def test_groups_are_predicted_jointly(correction) -> None:
    x = DATA[2]["x"]
    groups = np.array(list("aaabbbbcccccccc"))
    result = jana.leave_one_group_out(
        ExactPair(), {"x": x}, groups, correction=correction, draws=8000, random_seed=1
    )
    expected = [log_predictive(x[groups == g], x[groups != g]) for g in "abc"]
    np.testing.assert_allclose(result.elpd_i[0], expected, atol=0.15)


def test_folds_smaller_than_trained_on() -> None:
    small = data_sets(5)[0]
    with pytest.warns(UserWarning, match="as few as 4 observations"):
        jana.loo(ExactPair(), small, correction="none", draws=50, random_seed=1)
    jana.loo(ExactPair(), small, random_seed=1)  # weighted, hence no warning


def test_prediction_of_new_data() -> None:
    new = data_sets(3, 2, 4, random_seed=9)
    for pair, correction, tolerance in ((ExactPair(), "none", 0.05), (WRONG, "psis", 0.05)):
        result = jana.elpd(pair, DATA, new, correction=correction, draws=8000, random_seed=1)
        for i in range(3):
            for j, value in enumerate(new[i]["x"]):
                exact = log_predictive(np.array([value]), DATA[i]["x"])
                assert result.elpd_i[i, j] == pytest.approx(exact, abs=tolerance + 0.02 * -exact)
        assert result.elpd.shape == result.standard_error.shape == (3,)
    with pytest.raises(ValueError, match="new_data has 1"):
        jana.elpd(ExactPair(), DATA, new[:1])


def test_prediction_by_weights_with_a_heavy_tail_warns() -> None:
    pair = ExactPair(NormalPosterior(shift=2.0, stretch=0.4))
    with pytest.warns(UserWarning, match=r"Pareto k is above 0\.67 for 3 of 3 data sets"):
        jana.elpd(pair, DATA, DATA, draws=1000, random_seed=1)


def test_prediction_without_weights_asks_for_no_likelihood_of_the_data() -> None:
    pair, x, new = ExactPair(), data_sets(5)[0], np.array([0.3, -0.2])
    result = jana.elpd(pair, x, {"x": new}, correction="none", draws=50, random_seed=1)
    batch = pair.schema.batch(x)
    mu = pair.posterior.sample_unconstrained(batch, 50, np.random.default_rng(1))[0][0]
    expected = np.log(np.exp(pair.likelihood.log_prob({"x": new}, mu)).mean(axis=0))
    np.testing.assert_allclose(result.elpd_i[0], expected, rtol=1e-12)
    seen = []
    pair.likelihood.pointwise = lambda observed, *others: (
        seen.append(len(observed)) or pair.likelihood.log_prob(observed, *others)
    )
    jana.elpd(pair, x, {"x": new}, correction="none", draws=50, random_seed=1)
    assert seen == [2]


def test_arviz_compares_it_with_its_own() -> None:
    x = DATA[2]["x"]
    mu = ExactPair().posterior.sample_unconstrained(ExactPair().schema.batch(DATA[2:]), 2000, 1)[0]
    pointwise = ExactPair().likelihood.log_prob({"x": x}, mu[0]).reshape(4, 500, -1)
    theirs = _inference_data(mu.reshape(4, 500), pointwise)
    ours = jana.loo(ExactPair(), {"x": x}, random_seed=1).to_elpd_data()
    psis_loo = az.loo(theirs, pointwise=True)
    for name in ("elpd_loo", "elpd"):
        if hasattr(psis_loo, name):
            assert getattr(ours, name) == pytest.approx(getattr(psis_loo, name), abs=0.1)
    assert ours.se == pytest.approx(psis_loo.se, rel=0.1)
    table = az.compare({"ours": ours, "theirs": theirs})
    assert set(table.index) == {"ours", "theirs"}
    assert abs(table["elpd_diff"]).max() < 0.1
    assert "15" in str(ours)
    # Of which ArviZ 1.x would read the weights: there are no such, and not those of a template.
    assert getattr(ours, "log_weights", None) is None


def _inference_data(mu: np.ndarray, pointwise: np.ndarray):
    groups = {"posterior": {"mu": mu}, "log_likelihood": {"y": pointwise}}
    if int(az.__version__[0]) < 1:
        return az.from_dict(**groups)
    return az.from_dict(groups)


def test_reloo_asks_for_amortized_refits() -> None:
    pair = ExactPair()
    x = np.append(np.random.default_rng(1).normal(0, 0.5, 11), 9.0)
    mu = pair.posterior.sample_unconstrained(pair.schema.batch({"x": x}), 2000, 1)[0]
    pointwise = pair.likelihood.log_prob({"x": x}, mu[0]).reshape(4, 500, -1)
    idata = _inference_data(mu.reshape(4, 500), pointwise)
    wrapper = jana.AmortizedRefit(pair, {"x": x}, idata, random_seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ, of the high k̂ that this is about
        first = az.loo(idata, pointwise=True)
        keyword = "k_thresh" if int(az.__version__[0]) < 1 else "k_threshold"
        second = az.reloo(wrapper, loo_orig=first, **{keyword: 0.7})
    before, after = (
        np.asarray(result.loo_i if hasattr(result, "loo_i") else result.elpd_i)
        for result in (first, second)
    )
    exact = exact_loo(x)
    assert after[-1] == pytest.approx(exact[-1], abs=0.3) and after[-1] != before[-1]
    np.testing.assert_array_equal(before[:5], after[:5])


def test_a_refit_splits_arrays_of_any_shape() -> None:
    schema = DataSchema(
        {"x": jana.Continuous(shape=2), "k": jana.Count()},
        conditions={"d": jana.Continuous(shape=3)},
        n_obs=(3, 3),
    )
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(3, 2)), "k": np.arange(3), "d": rng.normal(size=(3, 3))}
    wrapper = jana.AmortizedRefit(
        SimpleNamespace(schema=schema, posterior=None, likelihood=None), data, None
    )
    kept, left_out = wrapper.sel_observations(1)
    for name, values in data.items():
        np.testing.assert_array_equal(kept[name], values[[0, 2]])
        np.testing.assert_array_equal(left_out[name], values[[1]])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="correction='pareto'"):
        jana.loo(ExactPair(), DATA, correction="pareto")
    with pytest.raises(ValueError, match="leaves out all"):
        jana.leave_one_group_out(ExactPair(), DATA[0], np.zeros(6))
    with pytest.raises(ValueError, match="groups has"):
        jana.leave_one_group_out(ExactPair(), DATA[0], np.zeros(5))
    with pytest.raises(ValueError, match="one at a time"):
        jana.AmortizedRefit(ExactPair(), DATA, None)


@pytest.mark.parametrize("structure", ["markovian", "vector"])
@pytest.mark.parametrize(
    "how",
    [
        jana.loo,
        jana.loo_approximate_posterior,
        lambda pair, data: jana.kfold(pair, data, 3),
        lambda pair, data: jana.leave_one_group_out(pair, data, [0, 0, 1]),
        lambda pair, data: jana.AmortizedRefit(pair, data, None),
    ],
)
def test_single_observations_are_left_out_of_exchangeable_data_only(how, structure: str) -> None:
    pair = ExactPair()
    n_obs = (1, 1) if structure == "vector" else (3, 3)
    pair.schema = DataSchema({"x": jana.Continuous()}, structure=structure, n_obs=n_obs)
    advice = "; of a sequence take leave_future_out" if structure == "markovian" else ""
    with pytest.raises(
        ValueError, match=rf"declared '{structure}'.*exchangeable data only{advice}\."
    ):
        how(pair, {"x": np.zeros(3) if structure == "markovian" else 0.0})


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (5, TypeError, "groups is int; expected labels"),
        ("abcdef", TypeError, "groups is str; expected labels"),
        (None, TypeError, "groups is NoneType; expected labels"),
        (np.array(3), TypeError, "groups is ndarray; expected labels"),
        (np.zeros((6, 2)), ValueError, r"groups have shape \(6, 2\); expected one label"),
        ([[1, 2], [3], 4, 5, 6, 7], ValueError, "groups are nested; expected one label"),
        ([0, 0, 1, np.nan, 2, 2], ValueError, "1 missing labels, the first at position 3"),
        (["a", None, "b", "b", "a", None], ValueError, "2 missing labels, the first at position 1"),
        (["1", 1, 1, 2, 2, 2], TypeError, "mix labels of the types number, string"),
    ],
)
def test_bad_labels_are_named(groups, error, message) -> None:
    with pytest.raises(error, match=message):
        jana.leave_one_group_out(ExactPair(), DATA[0], groups)


def test_labels_of_many_data_sets_are_named_by_their_data_set() -> None:
    labels = [np.arange(len(each["x"])) // 2 for each in DATA]
    labels[1] = labels[1].astype(float)
    labels[1][2] = np.nan
    with pytest.raises(ValueError, match="groups of data set 1 have 1 missing labels"):
        jana.leave_one_group_out(ExactPair(), DATA, labels)
    with pytest.raises(ValueError, match=r"groups of data set 0 have shape \(\)"):
        jana.leave_one_group_out(ExactPair(), DATA, [0, 1, 2])


def test_labels_may_be_strings() -> None:
    x = DATA[0]
    options = {"draws": 200, "random_seed": 1}
    numbers = jana.leave_one_group_out(ExactPair(), x, [0, 0, 1, 1, 2, 2], **options)
    strings = jana.leave_one_group_out(ExactPair(), x, list("aabbcc"), **options)
    np.testing.assert_array_equal(numbers.elpd_i, strings.elpd_i)


def test_what_is_pooled_is_judged_by_its_own_number() -> None:
    """Of 100 draws for 6, 10 and 15 folds each fold makes as many."""
    rests_on = {
        "pooled": jana.loo(ExactPair(), DATA, draws=100, random_seed=1),
        "each": jana.loo(ExactPair(), DATA, correction="none", draws=100, random_seed=1),
        "all": jana.loo_approximate_posterior(ExactPair(), DATA, draws=100, random_seed=1),
    }
    assert rests_on["pooled"].draws.tolist() == [102, 100, 105]
    assert rests_on["each"].draws.tolist() == rests_on["all"].draws.tolist() == [100] * 3
    result = rests_on["pooled"]
    expected = [pareto_k_threshold(n) for n in (102, 100, 105)]
    np.testing.assert_array_equal(result.threshold, expected)
    between = np.full((3, 2), 0.501)  # too high of 100 draws alone
    high = dataclasses.replace(result, pareto_k=between)
    assert high.high_k.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    with pytest.warns(UserWarning, match=r"above 0\.50 for 2 units of 1 of 3 data sets"):
        warn_of_high_k(high)
    assert result.to_elpd_data(2).n_samples == 105


def test_results_convert_and_plot() -> None:
    result = jana.loo(ExactPair(), DATA, random_seed=1)
    assert result.to_dataset()["elpd_i"].shape == (3, 15)
    assert result.summary()["units"].tolist() == [6, 10, 15]
    assert len(result.plot().axes) == 2
    predicted = jana.elpd(ExactPair(), DATA, data_sets(3, 2, 4), draws=100, random_seed=1)
    sums = predicted.plot().axes[1].lines[0].get_ydata()
    np.testing.assert_array_equal(sums, predicted.elpd)
    again = jana.loo(ExactPair(), DATA, random_seed=1)
    np.testing.assert_array_equal(result.elpd_i, again.elpd_i)
