"""Settings that are no sensible numbers: every part of the workflow names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from exact_pair import ExactPair, data_sets

import jana_pymc as jana
from jana_pymc.checks import (
    check_choice,
    check_count,
    check_number,
    check_positions,
    check_share,
    check_sizes,
    check_switch,
)

pytestmark = pytest.mark.arviz

PAIR = ExactPair()
ONE = data_sets(12)[0]
THETA = {"mu": 0.0}

CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "log_marginal_likelihood": (jana.log_marginal_likelihood, (ONE,)),
    "elpd": (jana.elpd, (ONE, ONE)),
    "loo": (jana.loo, (ONE,)),
    "kfold": (jana.kfold, (ONE,)),
    "loo_approximate_posterior": (jana.loo_approximate_posterior, (ONE,)),
    "calibration": (jana.calibration, ()),
    "posterior_calibration": (jana.posterior_calibration, (ONE,)),
    "verdict": (jana.verdict, ()),
    "detect_misspecification": (jana.detect_misspecification, (ONE,)),
    "criticize": (jana.criticize, (THETA,)),
    "analyze": (jana.analyze, (ONE,)),
}
COUNTS = {
    "draws": set(CALLS) - {"detect_misspecification", "criticize"},
    "n_simulations": {
        "calibration",
        "posterior_calibration",
        "verdict",
        "detect_misspecification",
        "criticize",
    },
    "k": {"kfold"},
    "chains": {"analyze"},
}
SHARES = {
    "level": {"detect_misspecification", "analyze"},
    "error_rate": {"verdict"},
    "share": {"criticize"},
    "min_effective_share": {"analyze"},
}


def call(name: str, **settings: object) -> None:
    function, data = CALLS[name]
    function(PAIR, *data, **settings)


@pytest.mark.parametrize(
    ("setting", "name"), [(s, name) for s, names in COUNTS.items() for name in sorted(names)]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, "many", True])
def test_counts(setting: str, name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{setting}={value!r}: expected"):
        call(name, **{setting: value})


@pytest.mark.parametrize(
    ("setting", "name"), [(s, name) for s, names in SHARES.items() for name in sorted(names)]
)
@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, "much", True])
def test_shares(setting: str, name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"{setting}={value!r}: expected"):
        call(name, **{setting: value})


@pytest.mark.parametrize("name", sorted(CALLS))
def test_random_seeds(name: str) -> None:
    with pytest.raises(ValueError, match="random_seed must be >= 0, got -1"):
        call(name, random_seed=-1)
    with pytest.raises(TypeError, match=r"random_seed must be an integer, .* got 'today'"):
        call(name, random_seed="today")


@pytest.mark.parametrize("name", [*CALLS, "leave_one_group_out", "leave_future_out", "refit"])
@pytest.mark.parametrize("given", [ONE, PAIR.model, None, PAIR.likelihood])
def test_what_is_no_pair_is_named(name: str, given: object) -> None:
    """As data are, or a model, that were passed in its place."""
    others = {
        "leave_one_group_out": (jana.leave_one_group_out, (ONE, np.zeros(12))),
        "leave_future_out": (partial(jana.leave_future_out, start=2), (ONE,)),
        "refit": (jana.AmortizedRefit, (ONE, None)),
    }
    function, data = (CALLS | others)[name]
    kind = type(given).__name__
    with pytest.raises(TypeError, match=f"^approximator is {kind}; expected a JointApproximator"):
        function(given, *data)


def test_arguments_of_fit_and_of_pools_are_named() -> None:
    with pytest.raises(TypeError, match="model is ExactPair; expected GenerativeModel"):
        jana.fit(PAIR)
    with pytest.raises(TypeError, match="approximator is GenerativeModel; expected a JointApp"):
        jana.learn_pool_weight(PAIR.model, PAIR)


def test_what_is_allowed() -> None:
    assert check_count("draws", np.int64(3)) == 3
    with pytest.raises(ValueError, match="draws=1: expected at least 2 to see how far they agree"):
        check_count("draws", 1, least=2, why="to see how far they agree")
    with pytest.raises(TypeError, match="patience='a': expected an integer, or None"):
        check_count("patience", "a", other="None")
    check_share("level", 1, one=True)
    check_share("share", 0, zero=True)
    share = check_share("share", np.float32(0.5))
    assert share == 0.5 and type(share) is float
    rate = check_number("rate", np.int64(2))
    assert rate == 2.0 and type(rate) is float
    assert check_number("weight", 0, zero=True) == 0.0
    check_choice("optimizer", "adam", ("adam", "adamw"))


@pytest.mark.parametrize("value", ["a", None, True, 1j, np.array([1.0])])
def test_what_is_no_number(value: object) -> None:
    for check in (check_number, check_share):
        with pytest.raises(TypeError, match=r"rate=.*: expected a number"):
            check("rate", value)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_numbers_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match=f"rate={value}: expected a positive number"):
        check_number("rate", value)
    with pytest.raises(ValueError, match=f"rate={value}: expected 0 or more"):
        check_number("rate", value, zero=True)


def test_switches_are_true_or_false() -> None:
    assert check_switch("means", True) is check_switch("means", np.True_) is True
    assert check_switch("means", np.False_) is False
    for value in (1, 0.0, "no", None, np.array(True)):
        with pytest.raises(TypeError, match=r"means=.*: expected True or False"):
            check_switch("means", value)


@pytest.mark.parametrize("value", ["c", 1, None, np.array(["a"])])
def test_words_that_are_not_among_the_choices(value: object) -> None:
    with pytest.raises(ValueError, match=r"mode=.* is not 'a' or 'b'"):
        check_choice("mode", value, ("a", "b"))


@pytest.mark.parametrize("value", [3, np.array(3), "ab", None])
def test_what_is_no_sequence(value: object) -> None:
    with pytest.raises(TypeError, match=r"hidden=.*: expected a sequence of sizes"):
        check_sizes("hidden", value)
    with pytest.raises(TypeError, match=r"draws=.*: expected positions of components"):
        check_positions("draws", value, "components")
