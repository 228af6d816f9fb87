"""Known conditions that matter: what adds them to the data and takes them off changes nothing.

With x_i ~ N(mu + offset_i, 1) all that is computed from (x + offset, offset) is what the pair
without conditions computes from x. All numbers are multiples of 2⁻¹⁰, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from exact_pair import SCHEMA, ExactPair, NormalLikelihood, NormalPosterior, data_sets

import jana_pymc as jana
from jana_pymc.inference_data import to_groups
from jana_pymc.refinement import psis
from jana_pymc.refinement.proposals import total_log_likelihood
from jana_pymc.simulation import Continuous, DataBatch

# Weights of posteriors that are wrong on purpose have heavy tails, of which all functions warn.
pytestmark = [pytest.mark.arviz, pytest.mark.filterwarnings("ignore::UserWarning")]

KNOWN = replace(SCHEMA, conditions={"offset": Continuous()})
NETWORK = SimpleNamespace(bounds=None, takes_one_length=False)
WRONG = {"wide": {"shift": 0.5, "stretch": 1.3}, "narrow": {"stretch": 0.4}}


class KnownLikelihood(NormalLikelihood):
    def log_prob(self, observed, parameters, conditions=None):
        if isinstance(observed, dict):
            observed, conditions = observed["x"][:, None], conditions["offset"][:, None]
        return super().log_prob(observed - conditions, parameters)

    pointwise = log_prob

    def simulate(self, parameters, n_obs, *, conditions=None, random_seed=None):
        return super().simulate(parameters, n_obs, random_seed=random_seed) + conditions


@dataclass
class KnownPosterior(NormalPosterior):
    batch = KNOWN.batch

    def moments(self, batch: DataBatch) -> tuple[np.ndarray, np.ndarray]:
        return super().moments(replace(batch, observables=batch.observables - batch.conditions))


def exact(known: bool, **wrong: float) -> ExactPair:
    """The pair, with or without conditions; its posterior shifted or stretched."""
    pair = ExactPair((KnownPosterior if known else NormalPosterior)(**wrong))
    pair.likelihood = KnownLikelihood() if known else NormalLikelihood()
    pair.schema = KNOWN if known else SCHEMA
    pair.posterior.network = NETWORK
    return pair


def dyadic(values: np.ndarray) -> np.ndarray:
    return np.round(values * 2**10) / 2**10


PLAIN = [{"x": dyadic(each["x"])} for each in data_sets(6, 10)]
PLAIN[1]["x"][-1] += 7.0  # its fold is given draws of its own
NEW = [{"x": dyadic(each["x"])} for each in data_sets(6, 2, random_seed=9)]
GROUPS = [np.arange(6) % 3, np.arange(10) % 4]


def shifted(data: list[dict[str, np.ndarray]], random_seed: int) -> list[dict[str, np.ndarray]]:
    """Each observation with an offset of its own."""
    rng = np.random.default_rng(random_seed)
    offsets = [dyadic(rng.normal(0.0, 3.0, len(each["x"]))) for each in data]
    return [
        {"x": each["x"] + offset, "offset": offset}
        for each, offset in zip(data, offsets, strict=True)
    ]


def cross_validated(how: Callable, *arguments: object, **options: object) -> Callable:
    names = ("elpd_i", "lpd_i", "pareto_k", "refitted")

    def call(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
        result = how(pair, data, *arguments, draws=400, random_seed=1, **options)
        return [getattr(result, name) for name in names]

    return call


def predicted(correction: str) -> Callable:
    def call(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
        options = {"correction": correction, "draws": 400, "random_seed": 1}
        result = jana.elpd(pair, data, new, **options)
        return [result.elpd_i, result.pareto_k]

    return call


def evidence(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
    result = jana.log_marginal_likelihood(pair, data, draws=400, random_seed=1)
    return [result.log_ratios, result.importance, result.standard_error, result.pareto_k]


def resampled(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
    refined = psis(pair, pair.schema.batch(data), 200, random_seed=1)
    return [refined.unconstrained, refined.log_q, refined.pareto_k, refined.effective_share]


def one_draw_a_set(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
    """Data sets of one size are evaluated together."""
    parameters = np.array([0.5, -1.0, 2.0, 0.0]).reshape(4, 1, 1)
    return [total_log_likelihood(pair, pair.schema.batch(data + new), parameters)]


def refit(pair: ExactPair, data: list, new: list) -> list[np.ndarray]:
    wrapper = jana.AmortizedRefit(pair, data[1], None, draws=50, random_seed=1)
    kept, left_out = wrapper.sel_observations([2, 9])
    drawn = wrapper.sample(kept)
    values = wrapper.log_likelihood__i(left_out, drawn)
    return [to_groups(drawn)["posterior"]["mu"].to_numpy(), values.to_numpy()]


CALLS = {
    "loo": cross_validated(jana.loo),
    "loo, uncorrected": cross_validated(jana.loo, correction="none"),
    "kfold": cross_validated(jana.kfold, 3),
    "kfold, uncorrected": cross_validated(jana.kfold, 3, correction="none"),
    "groups": cross_validated(jana.leave_one_group_out, GROUPS),
    "refitted": cross_validated(jana.loo_approximate_posterior, moment_match=False),
    "matched": cross_validated(jana.loo_approximate_posterior, refit=False),
    "future": cross_validated(jana.leave_future_out, start=3),
    "future, uncorrected": cross_validated(jana.leave_future_out, start=3, correction="none"),
    "elpd": predicted("psis"),
    "elpd, uncorrected": predicted("none"),
    "evidence": evidence,
    "psis": resampled,
    "one draw a set": one_draw_a_set,
    "refit": refit,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_what_conditions_add_is_taken_off_again(name: str, wrong: dict[str, float]) -> None:
    ours = CALLS[name](exact(True, **wrong), shifted(PLAIN, 1), shifted(NEW, 2))
    theirs = CALLS[name](exact(False, **wrong), PLAIN, NEW)
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-9)
    if name in ("refitted", "matched"):
        assert ours[-1].any()


def joint(pair: ExactPair) -> jana.JointApproximator:
    """A `JointApproximator` with these halves in the place of networks."""
    made = object.__new__(jana.JointApproximator)
    halves = {"posterior": pair.posterior, "likelihood": pair.likelihood}
    vars(made).update(halves, prior=pair.prior, schema=pair.schema, reference_distances=None)
    return made


@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("refine", ["none", "psis"])
def test_draws_and_predictions_of_a_pair_know_the_conditions(refine: str, many: bool) -> None:
    options = {"draws": 60, "chains": 2, "refine": refine, "random_seed": 1}
    data = shifted(PLAIN, 1)
    ours, theirs = (
        to_groups(joint(exact(known, **WRONG["wide"])).sample(sets if many else sets[0], **options))
        for known, sets in ((True, data), (False, PLAIN))
    )
    for group, name in (("posterior", "mu"), ("sample_stats", "lp"), ("log_likelihood", "y")):
        np.testing.assert_allclose(ours[group][name], theirs[group][name], rtol=1e-9)
    offset = np.full((2, 10), np.nan)
    for row, each in zip(offset, data, strict=True):
        row[: len(each["x"])] = each["offset"]
    offset = offset if many else offset[0, :6]
    for group in ("posterior_predictive", "observed_data"):
        expected = theirs[group]["x"] + offset
        np.testing.assert_allclose(ours[group]["x"], expected, rtol=1e-9, atol=1e-9)
        assert (np.isfinite(expected.to_numpy()) == np.isfinite(offset)).all()
    assert "constant_data" not in theirs
    known = ours["constant_data"]["offset"]
    assert known.dims == ours["observed_data"]["x"].dims
    np.testing.assert_array_equal(known, offset)
