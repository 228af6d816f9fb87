"""The maximum mean discrepancy: against its definition, and as a distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jana_pymc.joint_network import MMD_BANDWIDTHS
from jana_pymc.tasks import maximum_mean_discrepancy, task

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(60, 2)), RNG.normal(0.5, 1.0, size=(45, 2))


def test_it_is_its_definition():
    def mean(a, b):
        total = 0.0
        for first in a:
            for second in b:
                squared = sum((first - second) ** 2)
                for bandwidth in MMD_BANDWIDTHS:
                    total += bandwidth / (squared + bandwidth)
        return total / (len(a) * len(b))

    expected = math.sqrt(mean(X, X) + mean(Y, Y) - 2 * mean(X, Y))
    assert maximum_mean_discrepancy(X, Y) == pytest.approx(expected, rel=1e-10)


def test_there_are_nineteen_bandwidths_of_the_paper():
    assert len(MMD_BANDWIDTHS) == 19
    tens = [10.0**power for power in (-6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6)]
    assert sorted({*tens, 5.0, 15.0, 20.0, 25.0, 30.0, 35.0}) == list(MMD_BANDWIDTHS)


def test_it_is_symmetric_and_grows_with_distance():
    assert maximum_mean_discrepancy(X, Y) == pytest.approx(maximum_mean_discrepancy(Y, X))
    assert maximum_mean_discrepancy(X, X[::-1]) == pytest.approx(0.0, abs=1e-6)
    distances = [maximum_mean_discrepancy(X, X + shift) for shift in (0.1, 0.5, 1.0, 3.0)]
    assert distances == sorted(distances)


def test_large_sets_are_cut_into_parts(monkeypatch):
    whole = maximum_mean_discrepancy(X, Y)
    monkeypatch.setattr("jana_pymc.tasks.mmd._PAIRS_AT_ONCE", 100)
    assert maximum_mean_discrepancy(X, Y) == pytest.approx(whole, rel=1e-12)


def test_exact_draws_of_two_moons_are_nearer_than_any_published():
    """The noise floor of the paper's second experiment lies below its best value, 0.157."""
    problem = task("two_moons", "wiqvist")
    first, second = (
        problem.sample_posterior(np.zeros(2), 1000, random_seed=seed) for seed in (1, 2)
    )
    assert maximum_mean_discrepancy(first, second) < 0.157
    assert maximum_mean_discrepancy(first, second + np.array([0.3, 0.0])) > 0.157


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (X[:, 0], Y, r"x has shape \(60,\)"),
        (X, Y[:, :1], "d must be equal"),
        (X, np.full((3, 2), np.nan), "y has 6 values that are not finite"),
    ],
)
def test_wrong_input(x, y, match):
    with pytest.raises(ValueError, match=match):
        maximum_mean_discrepancy(x, y)
