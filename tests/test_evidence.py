"""Marginal likelihoods against the conjugate model's exact ones; models by their probabilities."""

from __future__ import annotations

import dataclasses
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from exact_pair import SCHEMA, ExactPair, NormalLikelihood, NormalPosterior, data_sets, log_evidence
from scipy import stats
from untrained import reaction_times

import jana_pymc as jana
from jana_pymc.approximators.beyond_training import reachable
from jana_pymc.simulation import DataBatch
from jana_pymc.workflow.evidence import posterior_probabilities

pytestmark = pytest.mark.arviz

DATA = data_sets(5, 9, 15, 12, 7)
EXACT = np.array([log_evidence(d["x"]) for d in DATA])


def test_change_of_variables_is_exact_for_an_exact_pair() -> None:
    result = jana.log_marginal_likelihood(ExactPair(), DATA, draws=200, random_seed=1)
    for estimate in (result.median, result.mean, result.change_of_variables, result.importance):
        np.testing.assert_allclose(estimate, EXACT, rtol=1e-6)
    assert (result.spread < 1e-6).all()
    assert (result.pareto_k == 0).all()


def test_importance_sampling_mends_a_wrong_posterior() -> None:
    pair = ExactPair(NormalPosterior(shift=0.5, stretch=1.3))
    result = jana.log_marginal_likelihood(pair, DATA, draws=4000, random_seed=1)
    assert (np.abs(result.importance - EXACT) < 4 * result.standard_error).all()
    # Over draws from q the mean falls short by KL(q || p), in closed form between normals.
    divergence = 0.5 * (1.3**2 + 0.5**2 - 1) - np.log(1.3)
    np.testing.assert_allclose(result.mean, EXACT - divergence, atol=0.06)
    # Midway between q and p, most of it is gone.
    assert np.abs(result.change_of_variables - EXACT).max() < divergence / 4


def test_balance_is_exact_to_second_order() -> None:
    for shift in (0.1, 0.2):
        pair = ExactPair(NormalPosterior(shift=shift))
        result = jana.log_marginal_likelihood(pair, DATA, draws=20_000, random_seed=2)
        np.testing.assert_allclose(result.change_of_variables, EXACT, atol=0.1 * shift)
        np.testing.assert_allclose(result.mean, EXACT - shift**2 / 2, atol=0.1 * shift)


def test_estimates_that_disagree_warn() -> None:
    pair = ExactPair(NormalPosterior(shift=2.0, stretch=0.4))
    with pytest.warns(UserWarning, match="5 of 5 data sets are uncertain"):
        jana.log_marginal_likelihood(pair, DATA, draws=1000, random_seed=1)


def test_draws_outside_the_trained_parameters_are_counted_and_said() -> None:
    pair, narrow = ExactPair(), ExactPair()
    mean, sd = pair.posterior.moments(SCHEMA.batch(DATA))
    edge = mean.max() - sd.max()  # all sets but that of the largest mean are nearly inside
    narrow.likelihood.region = np.array([[edge - 105.0], [edge - 5.0]])  # and a margin of 5
    expected = stats.norm.sf(edge, mean, sd)
    largest = int(mean.argmax())
    with pytest.warns(UserWarning, match=rf"\b{largest} \(8.%\)[^)]*lie outside the region that"):
        result = jana.log_marginal_likelihood(narrow, DATA, draws=4000, random_seed=1)
    np.testing.assert_allclose(result.summary()["outside"], expected, atol=0.03)
    assert not jana.log_marginal_likelihood(pair, DATA, random_seed=1).outside.any()
    with pytest.warns(UserWarning, match="likelihood of 'narrow' was trained on"):
        jana.compare_models({"wide": pair, "narrow": narrow}, DATA, random_seed=1)


def test_conditions_that_come_about_in_the_simulator_warn() -> None:
    pair = ExactPair()
    dose = {"dose": jana.Continuous()}
    pair.schema = dataclasses.replace(pair.schema, conditions=dose)
    pair.posterior.batch = pair.schema.batch
    pair.model = jana.GenerativeModel(
        pair.prior,
        lambda rng, mu, n_obs: {"x": np.zeros(n_obs), "dose": np.zeros(n_obs)},
        observables={"x": jana.Continuous()},
        conditions=dose,
        design="simulator",
        n_obs=pair.schema.n_obs,
    )
    data = {**DATA[0], "dose": np.zeros(len(DATA[0]["x"]))}
    with pytest.warns(UserWarning, match=r"conditions \(dose\) come about in the simulator"):
        jana.log_marginal_likelihood(pair, data, draws=100, random_seed=1)


def test_one_data_set_or_many() -> None:
    result = jana.log_marginal_likelihood(ExactPair(), DATA[0], draws=100, random_seed=1)
    assert len(result) == 1
    assert result.summary().loc[0, "importance"] == pytest.approx(EXACT[0])
    assert result.to_dataset().sizes == {"dataset": 1}
    assert len(result.plot().axes) == 1
    pair = ExactPair(NormalPosterior(stretch=1.1))
    assert jana.log_marginal_likelihood(pair, DATA, random_seed=1).plot().axes
    with pytest.raises(ValueError, match="draws=1"):
        jana.log_marginal_likelihood(pair, DATA, draws=1)


MODELS = {
    "wide": ExactPair(NormalPosterior(prior_sd=2.0)),
    "narrow": ExactPair(NormalPosterior(prior_sd=0.3)),
}


def test_bayes_factors_and_probabilities() -> None:
    prior = {"wide": 0.2, "narrow": 0.8}
    result = jana.compare_models(MODELS, DATA, prior_probabilities=prior, random_seed=1)
    narrow = np.array([log_evidence(d["x"], 0.3) for d in DATA])
    factor, error = result.log_bayes_factor("wide", "narrow")
    np.testing.assert_allclose(factor, EXACT - narrow, rtol=1e-6, atol=1e-6)
    assert (error < 1e-6).all()
    expected = 0.2 * np.exp(EXACT) / (0.2 * np.exp(EXACT) + 0.8 * np.exp(narrow))
    np.testing.assert_allclose(result.probabilities[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(result.probabilities.sum(1), 1.0)
    assert result.summary(2)["log_marginal_likelihood"].is_monotonic_decreasing
    assert result.to_dataset()["probability"].dims == ("dataset", "model")
    (ax,) = result.plot().axes
    assert all(tick == round(tick) for tick in ax.get_xticks())
    with pytest.raises(KeyError, match="no model 'third'"):
        result.log_bayes_factor("wide", "third")


def test_probabilities_of_exact_pairs_are_calibrated() -> None:
    recovery = jana.model_recovery(MODELS, n_simulations=400, draws=50, random_seed=1)
    np.testing.assert_allclose(recovery.matrix.sum(1), 1.0)
    np.testing.assert_allclose(recovery.confusion.sum(1), 1.0)
    assert recovery.calibration_error < 0.05
    # Under equal priors, data of either model give the other one the same mean probability.
    assert recovery.matrix[0, 1] == pytest.approx(recovery.matrix[1, 0], abs=0.03)
    assert recovery.plot().axes
    surprising = jana.compare_models(MODELS, {"x": np.full(15, 2.0)}, draws=50, random_seed=1)
    p = recovery.prior_predictive_p(surprising)
    assert p.shape == (1, 2) and p[0, 1] < 0.02 < p[0, 0]


def test_comparisons_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        jana.compare_models({"wide": MODELS["wide"]}, DATA)
    with pytest.raises(ValueError, match="names wide"):
        jana.compare_models(MODELS, DATA, prior_probabilities={"wide": 1.0})
    with pytest.raises(ValueError, match="sum 1"):
        jana.compare_models(MODELS, DATA, prior_probabilities={"wide": 0.5, "narrow": 0.6})


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (list(MODELS.values()), {}, "approximators is list; expected a mapping"),
        ({**MODELS, "third": 3}, {}, r"approximators\['third'\] is int; expected a JointApprox"),
        (MODELS, {"prior_probabilities": [0.5, 0.5]}, "prior_probabilities is list; expected"),
        (
            MODELS,
            {"prior_probabilities": {"wide": "x", "narrow": 0.5}},
            r"prior_probabilities\['wide'\]='x': expected a number",
        ),
    ],
)
def test_comparisons_of_other_things_are_refused(models, options, message) -> None:
    with pytest.raises(TypeError, match=message):
        jana.compare_models(models, DATA, **options)
    with pytest.raises(TypeError, match=message):
        jana.model_recovery(models, n_simulations=2, draws=20, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"observables": {"x": jana.Count()}},
            "other has the observables x: Count, but wide has x:",
        ),
        ({"observables": {"x": jana.Continuous(shape=2)}}, r"x: Continuous of shape \(2,\), but"),
        ({"structure": "markovian"}, "other has the structure markovian, but wide has exchange"),
        (
            {"conditions": {"d": jana.Continuous()}},
            "the conditions d: Continuous, but wide has none",
        ),
    ],
)
def test_densities_of_different_data_do_not_compare(change, message) -> None:
    other = ExactPair()
    other.schema = dataclasses.replace(other.schema, **change)
    with pytest.raises(ValueError, match=message):
        jana.compare_models({"wide": MODELS["wide"], "other": other}, DATA)


def test_bounds_of_an_observable_may_differ() -> None:
    other = ExactPair()
    other.schema = dataclasses.replace(other.schema, observables={"x": jana.Continuous(lower=-99)})
    result = jana.compare_models({"wide": MODELS["wide"], "other": other}, DATA, draws=50)
    np.testing.assert_allclose(result.probabilities, 0.5, rtol=1e-6)
    with pytest.raises(IndexError, match="dataset=5: there are 5, counted from zero"):
        result.summary(5)


def declared(kind: jana.Continuous | jana.Categorical) -> ExactPair:
    pair = ExactPair()
    pair.schema = dataclasses.replace(pair.schema, observables={"x": kind})
    region = pair.likelihood.region
    pair.likelihood.reachable = partial(reachable, pair.schema, pair.layout, region)

    def outside(_: object, batch: DataBatch) -> np.ndarray:
        assert not kind.outside(batch.observables).any(), "networks know no such data"
        return np.zeros(len(batch), dtype=bool)

    pair.reference_distances = SimpleNamespace(outside=outside)
    return pair


def test_data_beyond_the_constant_bounds_of_a_model_are_impossible_under_it() -> None:
    models = {"positive": declared(jana.Continuous(lower=0.0)), "free": ExactPair()}
    positive, negative = {"x": np.arange(1.0, 7.0)}, {"x": np.append(np.arange(1.0, 6.0), -1.0)}
    message = (
        "of {} data sets lie beyond every bound that the likelihood of 'positive' was declared"
    )
    with pytest.warns(UserWarning, match="1 " + message.format(2)):
        result = jana.compare_models(models, [positive, negative], draws=50, random_seed=1)
    np.testing.assert_allclose(result.probabilities, [[0.5, 0.5], [0.0, 1.0]], rtol=1e-6)
    with pytest.warns(UserWarning, match=message.format(60)):
        recovery = jana.model_recovery(models, n_simulations=60, draws=50, random_seed=1)
    assert np.isneginf(recovery.comparison.log_marginal_likelihood[:, 0]).sum() > 30
    models["free"] = declared(jana.Continuous(lower=-0.5, upper=9.0))
    with pytest.raises(
        ValueError, match=r"1 value outside its support \(values with lower=-0\.5\)"
    ):
        jana.compare_models(models, negative, draws=50)


def test_categories_of_a_model_may_be_fewer() -> None:
    models = {"two": declared(jana.Categorical(2)), "three": declared(jana.Categorical(3))}
    data = [{"x": np.array([0, 1] * 4)}, {"x": np.array([0, 2] * 4)}]
    with pytest.warns(UserWarning, match="1 of 2 data sets lie beyond every bound .* of 'two'"):
        result = jana.compare_models(models, data, draws=50, random_seed=1)
    np.testing.assert_allclose(result.probabilities, [[0.5, 0.5], [0.0, 1.0]], rtol=1e-6)
    with pytest.raises(ValueError, match="integers 0 to 2"):
        jana.compare_models(models, {"x": np.array([0, 3] * 4)}, draws=50)


def bounded(lowest: float) -> ExactPair:
    pair = ExactPair()
    pair.likelihood = NormalLikelihood(lowest)
    return pair


FAR = {"x": np.array([-50.0, 0.1, 0.2, 0.3, 0.4])}


def test_what_no_trained_parameter_explains_is_impossible_and_leaves_others_alone() -> None:
    options = {"draws": 200, "random_seed": 1}
    pair = bounded(-20.0)
    pair.reference_distances = SimpleNamespace(
        outside=lambda _, batch: np.arange(len(batch)) > 0, distances=np.zeros((200, 2))
    )
    with (
        pytest.warns(UserWarning, match="1 of 3 data sets lie beyond every bound"),
        pytest.warns(UserWarning, match=r"1 of 3 data sets \(first: 2\) lie farther"),
    ):
        result = jana.log_marginal_likelihood(pair, [DATA[0], FAR, DATA[1]], **options)
    assert result.summary()["outlier"].tolist() == [False, False, True]  # −inf is no extrapolation
    alone = jana.log_marginal_likelihood(bounded(-20.0), DATA[:2], **options)
    np.testing.assert_array_equal(result.log_ratios[[0, 2]], alone.log_ratios)
    for name in ("importance", "change_of_variables", "mean", "median"):
        values = getattr(result, name)
        assert values[1] == -np.inf
        np.testing.assert_array_equal(values[[0, 2]], getattr(alone, name))
    assert result.standard_error[1] == 0.0
    assert np.isnan(result.pareto_k[1]) and np.isnan(result.spread[1])
    (ax,) = result.plot().axes
    assert ax.get_title() == "1 of 3 data sets at −∞"
    for data in (FAR, [FAR, FAR]):
        with pytest.raises(ValueError, match="beyond every bound"):
            jana.log_marginal_likelihood(bounded(-20.0), data)


def test_observations_beyond_a_data_sets_own_are_of_no_account() -> None:
    batch = ExactPair().schema.batch(FAR)
    batch = DataBatch(batch.observables[:, ::-1], batch.conditions, np.array([4]))
    result = jana.log_marginal_likelihood(bounded(-20.0), batch, draws=50, random_seed=1)
    assert np.isfinite(result.importance[0])
    likelihood = reaction_times()  # its t0 was trained from 0.1 on
    times = [[0.5, 0.05], [0.5, 0.6], [0.09, 0.5]]
    data = likelihood.schema.batch([{"rt": t, "response": [0, 1]} for t in times])
    assert likelihood.reachable(data.observables).tolist() == [False, True, False]
    shorter = data.resized(np.array([1, 2, 1]))
    assert likelihood.reachable(shorter.observables).tolist() == [True, True, False]
    shorter.observables[1, 0, 1] = 2.0  # no category
    assert likelihood.reachable(shorter.observables).tolist() == [True, False, False]


def test_a_model_that_cannot_explain_the_data_is_not_the_true_one() -> None:
    models = {"bounded": bounded(-20.0), "free": ExactPair()}
    with pytest.warns(UserWarning, match="1 of 1 data sets lie beyond"):
        result = jana.compare_models(models, FAR, draws=50, random_seed=1)
    np.testing.assert_array_equal(result.probabilities, [[0.0, 1.0]])
    assert result.log_bayes_factor("free", "bounded")[0] == np.inf
    assert result.summary()["log_bayes_factor"].tolist() == [0.0, -np.inf]


def test_data_that_no_model_explains_leave_prior_probabilities() -> None:
    models, prior = {"a": bounded(-20.0), "b": bounded(-20.0)}, {"a": 0.3, "b": 0.7}
    with (
        pytest.warns(UserWarning, match="1 of 2 data sets lie beyond"),
        pytest.warns(UserWarning, match="none of the models explains 1 of 2 data sets"),
    ):
        result = jana.compare_models(
            models, [DATA[0], FAR], prior_probabilities=prior, draws=50, random_seed=1
        )
    np.testing.assert_allclose(result.probabilities, [[0.3, 0.7], [0.3, 0.7]])
    factor, _ = result.log_bayes_factor("a", "b")
    assert factor[0] == pytest.approx(0.0, abs=1e-6) and np.isnan(factor[1])
    assert result.summary(1)["log_bayes_factor"].isna().all()
    assert result.plot().axes
    # A prior probability of zero is no explanation.
    values = np.array([[-np.inf, -3.0], [-3.0, -3.0]])
    np.testing.assert_array_equal(
        posterior_probabilities(values, np.array([1.0, 0.0])), [[1, 0]] * 2
    )


def test_recovery_goes_on_where_a_model_cannot_explain_anothers_data() -> None:
    models = {"bounded": bounded(-3.0), "free": ExactPair()}
    with pytest.warns(UserWarning, match="of 60 data sets lie beyond"):
        recovery = jana.model_recovery(models, n_simulations=60, draws=50, random_seed=1)
    beyond = np.isneginf(recovery.comparison.log_marginal_likelihood[:, 0])
    assert 10 < beyond.sum() < 110
    np.testing.assert_array_equal(
        recovery.comparison.probabilities[beyond], [[0, 1]] * beyond.sum()
    )
    np.testing.assert_allclose(recovery.comparison.probabilities[~beyond], 0.5, rtol=1e-6)
    np.testing.assert_allclose(recovery.matrix.sum(1), 1.0)
    assert recovery.plot().axes


def test_models_that_explain_nothing_share_the_data_sets() -> None:
    nothing = {"a": bounded(np.inf), "b": bounded(np.inf)}
    with (
        pytest.warns(UserWarning, match="20 of 20 data sets lie beyond"),
        pytest.warns(UserWarning, match="none of the models explains 20 of 20"),
    ):
        recovery = jana.model_recovery(nothing, n_simulations=20, draws=20, random_seed=1)
    np.testing.assert_array_equal(recovery.confusion, np.full((2, 2), 0.5))
    assert recovery.calibration_error == pytest.approx(0.0, abs=1e-12)
    assert recovery.plot().axes


@pytest.mark.parametrize("n_sets", [1, 3])
def test_data_that_no_draw_explains_are_plotted_as_such(n_sets: int) -> None:
    unknown = np.full(n_sets, np.inf)
    result = jana.LogMarginalLikelihood(
        np.full((n_sets, 50), -np.inf),
        -unknown,
        unknown,
        unknown,
        np.full(n_sets, 5),
        np.zeros(n_sets, dtype=bool),
        np.zeros(n_sets),
    )
    assert (result.summary()[["change_of_variables", "median", "mean"]] == -np.inf).all(axis=None)
    (ax,) = result.plot().axes
    assert ax.get_title() == (
        "impossible at all draws" if n_sets == 1 else "3 of 3 data sets at −∞"
    )


def test_nothing_warns_without_a_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jana.log_marginal_likelihood(ExactPair(), DATA, draws=500, random_seed=1)


def test_results_print_as_a_table_or_a_line() -> None:
    pair, data = ExactPair(), data_sets(8, 9, 10, 11, 12)
    result = jana.log_marginal_likelihood(pair, data, random_seed=1)
    assert repr(result) == f"LogMarginalLikelihood\n{result.summary()}"
    both = jana.compare_models({"one": pair, "two": pair}, data, random_seed=1)
    assert repr(both) == f"ModelComparison of 5 data sets, the first:\n{both.summary()}"
    line = repr(jana.elpd(pair, data, data, random_seed=1))
    assert line.startswith("Prediction(elpd_i=<5 × 12 array>") and "\n" not in line
