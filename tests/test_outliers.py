"""The look at whether data resemble what was simulated, who looks, and what it may cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import exact_pair
import numpy as np
import pytest
from exact_autoregression import ExactAutoregression, sequence
from exact_pair import NormalPosterior
from normal_means import SCHEMA, ExactLikelihood, ExactPair

import jana_pymc as jana
from jana_pymc.approximators import outliers
from jana_pymc.approximators.outliers import ReferenceDistances

pytestmark = pytest.mark.arviz


class Counting(ExactLikelihood):
    """Remembers how many data sets of which length it made."""

    def simulate(self, parameters, n_obs, **options):
        self.made = (len(parameters), n_obs)
        return super().simulate(parameters, n_obs, **options)


def made(n_obs: int) -> tuple[int, int] | None:
    """Data sets and observations in each, of a pair for up to so many; None if none are made."""
    pair = ExactPair(likelihood=Counting(), schema=replace(SCHEMA, n_obs=(1, n_obs)))
    pair.prior = SimpleNamespace(draw=lambda n, rng: rng.standard_normal((n, 3)))
    reference = ReferenceDistances.of(pair)
    if reference is None:
        return None
    assert len(reference.distances) == pair.likelihood.made[0] // 2
    assert np.isfinite(reference.distances).all()
    return pair.likelihood.made


def test_long_data_sets_are_fewer_and_very_long_ones_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert made(100_000) is None
    for name, value in (("N_REFERENCE", 50), ("FEWEST", 20), ("ENOUGH_ROWS", 400)):
        monkeypatch.setattr(outliers, name, value)
    monkeypatch.setattr(outliers, "MAX_ROWS", 2_000)
    assert made(2) == (100, 2)
    assert made(5) == (80, 5)
    assert made(50) == (40, 50)
    assert made(51) is None


@cache
def normal(prior_sd: float = 2.0) -> exact_pair.ExactPair:
    """mu ~ N(0, prior_sd²), x_i ~ N(mu, 1), which knows how far out its data may lie."""
    pair = exact_pair.ExactPair(NormalPosterior(prior_sd))
    pair.reference_distances = ReferenceDistances.of(pair)
    return pair


ORDINARY = exact_pair.data_sets(10)[0]
SPREAD = {"x": np.linspace(-30.0, 30.0, 10)}
ALONE = {"x": np.array([30.0])}

CALLS: dict[str, Callable] = {
    "evidence": jana.log_marginal_likelihood,
    "loo": jana.loo,
    "loo, uncorrected": partial(jana.loo, correction="none"),
    "kfold": partial(jana.kfold, k=5),
    "groups": partial(jana.leave_one_group_out, groups=np.arange(10) % 3),
    "approximate": partial(jana.loo_approximate_posterior, refit=False, moment_match=False),
    "elpd": partial(jana.elpd, new_data=ORDINARY),
    "elpd of new data": lambda pair, data, **options: jana.elpd(pair, ORDINARY, data, **options),
}


def far_out(function: Callable, *arguments: object, **options: object) -> list[str]:
    """What is said of data that lie far out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments, **options)
    return [str(each.message) for each in caught if "farther from" in str(each.message)]


@pytest.mark.parametrize("name", CALLS)
def test_what_hangs_on_the_likelihood_of_data_says_once_that_they_lie_far_out(name: str) -> None:
    call = partial(far_out, CALLS[name], normal(), draws=100, random_seed=1)
    assert call(ORDINARY) == []
    (message,) = call(SPREAD)
    assert message.startswith("the data lie farther from the simulations than any of 1000")


def test_new_observations_are_seen_beside_the_others() -> None:
    """One alone is a data set of a size that was never simulated."""
    call = partial(far_out, jana.elpd, normal(), draws=100, random_seed=1)
    assert call(ORDINARY, {"x": ORDINARY["x"][:1]}) == []
    assert call([ORDINARY] * 2, [ALONE, {"x": ORDINARY["x"][:3]}]) == [
        message.replace("the data lie", "1 of 2 data sets (first: 0) lie")
        for message in call(ORDINARY, ALONE)
    ]


@pytest.mark.parametrize("n_new", [2, 4, 5])
def test_new_sequences_are_looked_at_where_such_lengths_were_simulated(n_new: int) -> None:
    pair = ExactAutoregression(n_obs=(4, 4))
    seen = []

    def outside(_: object, batch: object) -> np.ndarray:
        seen.append((batch.observables.shape[1], batch.n_obs.tolist()))
        return batch.n_obs < 0

    pair.reference_distances = SimpleNamespace(outside=outside)
    old, new = ({"x": sequence(n, 0.5, 1)} for n in (4, n_new))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_obs=")
        jana.elpd(pair, [old, old], [new, old], correction="none", draws=5, random_seed=1)
    assert seen == [(4, [4, 4]), (4, [4, 4] if n_new == 4 else [4])]


def test_sequences_that_lie_far_out_are_said_to() -> None:
    pair = ExactAutoregression()
    data = [{"x": sequence(12, 0.5, seed)} for seed in (1, 2)]
    call = partial(far_out, jana.leave_future_out, pair, data, start=9, draws=50, random_seed=1)
    assert call() == []
    outside = np.array([False, True])
    pair.reference_distances = SimpleNamespace(
        outside=lambda *_: outside, distances=np.zeros((200, 2))
    )
    (message,) = call()
    assert message.startswith("1 of 2 data sets (first: 1) lie farther from the simulations than")


def test_the_model_that_data_lie_far_from_is_named() -> None:
    models = {"wide": normal(), "narrow": normal(0.1)}
    data = {"x": 4.0 + np.array([-1.2, -0.4, 0.0, 0.3, 1.3])}
    with pytest.warns(UserWarning, match="farther from the simulations of 'narrow'") as caught:
        result = jana.compare_models(models, [ORDINARY, data], draws=50, random_seed=1)
    assert len(caught) == 1
    assert result.outlier[1].tolist() == [False, True]
    assert result.summary(1)["outlier"].to_dict() == {"wide": False, "narrow": True}
    assert result.to_dataset()["outlier"].dims == ("dataset", "model")
    # An exact pair is right there, too.
    exact = exact_pair.log_evidence(data["x"], 0.1)
    assert result.log_marginal_likelihood[1, 1] == pytest.approx(exact, rel=1e-6)


def test_simulations_of_another_model_are_marked_without_a_warning() -> None:
    models = {"wide": normal(), "narrow": normal(0.1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recovery = jana.model_recovery(models, n_simulations=40, draws=100, random_seed=1)
    shares = [recovery.comparison.outlier[recovery.true_model == i].mean(axis=0) for i in (0, 1)]
    np.testing.assert_array_equal(np.array(shares) > 0.2, [[False, True], [False, False]])
