"""The verdict on exact pairs and on damaged ones; tests by exchange."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from normal_means import ExactLikelihood, ExactPair, ExactPosterior
from scipy import stats

from jana_pymc.inference_data import to_groups
from jana_pymc.workflow import verdict
from jana_pymc.workflow.swap_test import data_features, swap_p_values


def judge(pair, **options):
    options = {"n_simulations": 400, "draws": 99, "random_seed": 1, "progressbar": False} | options
    return verdict(pair, **options)


@pytest.mark.parametrize(
    ("posterior", "likelihood", "fault"),
    [
        (ExactPosterior(shift=0.35), ExactLikelihood(), "posterior"),
        (ExactPosterior(scale=0.75), ExactLikelihood(), "posterior"),
        (ExactPosterior(scale=1.3), ExactLikelihood(), "posterior"),
        (ExactPosterior(), ExactLikelihood(shift=0.12), "likelihood"),
        (ExactPosterior(), ExactLikelihood(scale=1.15), "likelihood"),
        (ExactPosterior(scale=0.75), ExactLikelihood(shift=0.12), "both"),
    ],
)
def test_the_damaged_network_is_named(posterior, likelihood, fault) -> None:
    faults = [judge(ExactPair(posterior, likelihood), random_seed=i).fault for i in range(8)]
    assert Counter(faults)[fault] >= 7, faults


def test_exact_pairs_are_seldom_accused() -> None:
    faults = [
        judge(ExactPair(), n_simulations=100, draws=19, error_rate=0.2, random_seed=i).fault
        for i in range(60)
    ]
    # The bound is on accusations and on disagreement together; 18 of 60 have probability 0.03.
    assert sum(fault != "neither" for fault in faults) < 18


def test_a_posterior_that_ignores_the_data() -> None:
    """Its ranks are uniform for every parameter; those of the log-likelihood are not."""
    pair = ExactPair(ExactPosterior(blind=True))
    assert judge(pair).fault == "neither"
    result = judge(pair, log_likelihood=True)
    assert result.fault == "posterior"
    assert result.posterior == ("log_likelihood",)


def test_a_fault_of_one_parameter_is_its_own() -> None:
    class OnlyBeta(ExactPosterior):
        def sample(self, batch, draws, random_seed=None):
            drawn = super().sample(batch, draws, random_seed)
            drawn[..., 2] += 0.15
            return drawn

    result = judge(ExactPair(OnlyBeta()))
    assert result.fault == "posterior"
    assert result.posterior == ("beta[right]",)
    assert "beta[right]" in str(result)


def test_what_it_returns() -> None:
    result = judge(ExactPair(likelihood=ExactLikelihood(shift=0.3)), random_seed=2)
    assert set(result.likelihood) == {"mu", "beta[left]", "beta[right]", "data"}
    table = result.table
    assert list(table["blames"].unique()) == ["posterior", "likelihood", "pair"]
    assert (table["adjusted"] >= table["p_value"]).all()
    np.testing.assert_array_equal(result.sbc.parameters, result.jsbc.parameters)
    assert not result.sbc.joint and result.jsbc.joint
    assert set(to_groups(result.to_inference_data())) == {"prior_sbc", "prior_jsbc"}
    assert len(result.plot().axes) == 2


def test_swap_p_values_are_uniform_for_exchangeable_pairs() -> None:
    """Also if the pairs share something, and features have heavy tails."""
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(200):
        shared = rng.standard_normal((40, 1))
        pair = [shared + rng.standard_t(2, (40, 3)) for _ in range(2)]
        groups = {"a": tuple(pair)}
        p_values.append(swap_p_values(groups, n_flips=199, random_seed=rng)["a"])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_all_exchanges_of_few_pairs_are_made_once() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 6, 2))
    groups = {"a": (first, second), "apart": (first + 100, second)}
    p_values = swap_p_values(groups, n_flips=32, random_seed=rng)
    signs = np.array(list(product((-1, 1), repeat=6)))
    d = first - second
    statistic = np.abs(signs @ (d / np.sqrt((d**2).sum(0)))).max(1)
    assert p_values["a"] == pytest.approx((statistic >= statistic[-1] * (1 - 1e-9)).mean())
    assert p_values["apart"] == 2.0**-5


def test_data_features_see_what_depends_on_parameters() -> None:
    """An error with opposite signs in two halves of the parameter space is none on average."""
    rng = np.random.default_rng(4)
    theta = rng.standard_normal((500, 1))
    first, second = (theta + rng.standard_normal((500, 1)) for _ in range(2))
    second = second + 0.4 * np.sign(theta)
    features = data_features(first, second, theta)
    shift = (first - second, 0 * first)
    p_values = swap_p_values({"features": features, "mean": shift}, n_flips=999, random_seed=rng)
    assert p_values["features"] < 0.01 < p_values["mean"]


def test_bad_error_rate() -> None:
    with pytest.raises(ValueError, match=r"error_rate=1\.5: expected"):
        judge(ExactPair(), error_rate=1.5)


@pytest.mark.parametrize("options", [{}, {"log_likelihood": True}])
def test_too_few_data_sets_to_find_anything(options) -> None:
    """Ten tests at 0.01, no p-value being below 2^(1 - n): 1 + log2(1000) is 10.97."""
    for n in (4, 10):
        with pytest.raises(ValueError, match=f"{n} data sets cannot accuse.*at least 1[12] "):
            judge(ExactPair(), n_simulations=n, draws=9, **options)


def test_as_few_as_can_find_something() -> None:
    pair = ExactPair(likelihood=ExactLikelihood(shift=100.0))
    for seed in range(20):  # whatever the seed, as of so few pairs all exchanges are made
        result = judge(pair, n_simulations=11, draws=9, random_seed=seed)
        assert "data" in result.likelihood
    with pytest.raises(ValueError, match="10 data sets cannot accuse"):
        judge(pair, n_simulations=10, draws=9)


def test_without_a_model() -> None:
    with pytest.raises(ValueError, match="pass simulations="):
        judge(ExactPair(model=None))
