"""Calibration on a conjugate normal model, where posterior and likelihood are known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from math import factorial

import numpy as np
import pytest
from scipy import stats

from jana_pymc.inference_data import to_groups
from jana_pymc.refinement.pooling import pool_scores
from jana_pymc.simulation import (
    Continuous,
    DataBatch,
    DataSchema,
    FailureReport,
    ParameterLayout,
    Simulations,
)
from jana_pymc.workflow import Calibration, calibration, verdict
from jana_pymc.workflow.bands import ecdf_band, randomized_pit, rank_ecdf, uniformity_p_value

LAYOUT = ParameterLayout(
    names=("mu", "beta"),
    shapes={"mu": (), "beta": (2,)},
    dims={"mu": (), "beta": ("group",)},
    coords={"group": ("left", "right")},
)
N_OBS = (8, 12)
SCHEMA = DataSchema(
    {name: Continuous() for name in "xyz"}, conditions={"known": Continuous()}, n_obs=N_OBS
)


@dataclass
class ConjugateSimulations:
    """Three normal means with standard normal priors, unit noise, and differing n_obs."""

    parameters: np.ndarray
    data: DataBatch

    def batch(self):
        return self.data


class ConjugateModel:
    def simulate(self, n_simulations, *, parameters=None, random_seed=None, progressbar=True):
        rng = np.random.default_rng(random_seed)
        parameters = rng.standard_normal((n_simulations, 3))
        n_obs = rng.integers(N_OBS[0], N_OBS[1] + 1, n_simulations)
        noise = rng.standard_normal((n_simulations, N_OBS[1], 3))
        beyond = (np.arange(N_OBS[1]) >= n_obs[:, None])[..., None]
        observables = np.where(beyond, np.nan, parameters[:, None] + noise)
        conditions = np.where(beyond, np.nan, np.ones((n_simulations, N_OBS[1], 1)))
        return ConjugateSimulations(parameters, DataBatch(observables, conditions, n_obs))


@dataclass
class ConjugatePosterior:
    """The exact posterior, unless it is shifted or scaled (in posterior standard deviations)."""

    shift: float = 0.0
    scale: float = 1.0

    def sample(self, batch, draws, random_seed=None):
        sd = (1 + batch.n_obs[:, None, None]) ** -0.5
        mean = np.nansum(batch.observables, axis=1)[:, None] * sd**2
        noise = np.random.default_rng(random_seed).standard_normal((len(mean), draws, 3))
        return mean + sd * (self.shift + self.scale * noise)


@dataclass
class ConjugateLikelihood:
    shift: float = 0.0
    conditions: list = field(default_factory=list)

    def simulate(self, parameters, n_obs, *, conditions=None, random_seed=None):
        self.conditions.append(conditions)
        rng = np.random.default_rng(random_seed)
        return parameters[:, None] + self.shift + rng.standard_normal((len(parameters), n_obs, 3))


@dataclass
class ConjugatePair:
    posterior: ConjugatePosterior = field(default_factory=ConjugatePosterior)
    likelihood: ConjugateLikelihood = field(default_factory=ConjugateLikelihood)
    model: ConjugateModel | None = field(default_factory=ConjugateModel)
    layout: ParameterLayout = LAYOUT
    schema: DataSchema = SCHEMA


def simulations(
    n: int = 20,
    *,
    layout: ParameterLayout = LAYOUT,
    schema: DataSchema = SCHEMA,
    source: str = "prior",
) -> Simulations:
    """As a user has them, of the conjugate model unless declared otherwise."""
    made = ConjugateModel().simulate(n, random_seed=1)
    observables = dict(
        zip(schema.observables, np.moveaxis(made.data.observables, -1, 0), strict=True)
    )
    return Simulations.from_arrays(
        layout.unflatten(made.parameters),
        observables,
        {"known": made.data.conditions[..., 0]},
        made.data.n_obs,
        layout=layout,
        schema=schema,
        source=source,
        failures=FailureReport(0),
    )


def calibrate(pair, **options) -> Calibration:
    options = {"n_simulations": 400, "draws": 99, "random_seed": 3, "progressbar": False} | options
    return calibration(pair, **options)


@pytest.mark.parametrize(("n_ranks", "draws"), [(4, 3), (3, 5), (6, 1)])
def test_band_coverage_is_exact(n_ranks, draws):
    """Against all ways in which uniform ranks can fall."""
    band = ecdf_band(n_ranks, draws, 0.7)
    inside = 0.0
    for counts in product(range(n_ranks + 1), repeat=draws + 1):
        if sum(counts) != n_ranks:
            continue
        weight = factorial(n_ranks) / np.prod([factorial(c) for c in counts], dtype=float)
        ecdf = np.cumsum(counts)[:-1] / n_ranks
        inside += weight * bool(((ecdf >= band.lower) & (ecdf <= band.upper)).all())
    assert band.coverage == pytest.approx(inside / (draws + 1) ** n_ranks, rel=1e-10)
    assert band.coverage >= 0.7


@pytest.mark.parametrize(("n_ranks", "draws"), [(50, 20), (200, 99), (1000, 250), (300, 3000)])
@pytest.mark.parametrize("probability", [0.8, 0.95])
def test_band_coverage_by_simulation(n_ranks, draws, probability):
    repetitions = 1000
    ranks = np.random.default_rng(5).integers(0, draws + 1, (n_ranks, repetitions))
    band = ecdf_band(n_ranks, draws, probability)
    ecdf = rank_ecdf(ranks, draws)
    inside = ((ecdf >= band.lower[:, None]) & (ecdf <= band.upper[:, None])).all(axis=0)
    assert probability <= band.coverage < probability + 0.015
    error = 3.5 * np.sqrt(band.coverage * (1 - band.coverage) / repetitions)
    assert inside.mean() == pytest.approx(band.coverage, abs=error)


def test_p_value_and_band_are_one_test():
    ranks = np.random.default_rng(7).integers(0, 51, (100, 300))
    p_values = uniformity_p_value(ranks, 50)
    for probability in (0.5, 0.9, 0.95):
        band = ecdf_band(100, 50, probability)
        ecdf = rank_ecdf(ranks, 50)
        inside = ((ecdf >= band.lower[:, None]) & (ecdf <= band.upper[:, None])).all(axis=0)
        np.testing.assert_array_equal(inside, p_values > 1 - probability)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_randomized_pit_of_discrete_ranks_is_uniform():
    rng = np.random.default_rng(11)
    pit = randomized_pit(rng.integers(0, 10, 5000), 9, rng)
    assert stats.kstest(pit, "uniform").pvalue > 0.01
    assert 0 < pit.min() < pit.max() < 1


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([0, 1, 11], "1 values outside 0, …, 10"),
        ([0.5, 1.0], "must be integers"),
        (3, "ranks is a scalar"),
        (np.empty(0, int), "ranks is empty"),
    ],
)
def test_ranks_are_checked(ranks, message):
    with pytest.raises((ValueError, TypeError), match=message):
        uniformity_p_value(ranks, 10)


def test_what_a_band_is_asked_for_is_checked():
    with pytest.raises(ValueError, match="draws=0: expected at least 1"):
        uniformity_p_value([0, 0], 0)
    with pytest.raises(ValueError, match="n_ranks=0: expected at least 1"):
        ecdf_band(0, 10)
    with pytest.raises(TypeError, match=r"draws=2.5: expected an integer"):
        ecdf_band(10, 2.5)
    with pytest.raises(ValueError, match=r"probability=1.0: expected a number above 0 and below 1"):
        ecdf_band(10, 10, 1.0)


@pytest.mark.parametrize("joint", [False, True])
def test_exact_pair_is_calibrated(joint):
    result = calibrate(ConjugatePair(), joint=joint)
    assert result.joint is joint
    assert result.inside(familywise=True) == {"mu": True, "beta[left]": True, "beta[right]": True}


def test_level_of_the_verdict():
    """The share of exact pairs found at fault is the one promised."""
    runs = [
        calibrate(ConjugatePair(), n_simulations=60, draws=19, random_seed=i).inside(0.9)
        for i in range(100)
    ]
    inside = np.array([list(run.values()) for run in runs])
    assert inside.mean() == pytest.approx(ecdf_band(60, 19, 0.9).coverage, abs=0.055)


@pytest.mark.parametrize(
    "posterior",
    [
        ConjugatePosterior(shift=0.3),
        ConjugatePosterior(scale=0.75),
        ConjugatePosterior(scale=1.35),
    ],
)
@pytest.mark.parametrize("joint", [False, True])
def test_wrong_posterior_is_caught(posterior, joint):
    result = calibrate(ConjugatePair(posterior=posterior), joint=joint)
    assert not any(result.inside().values())


def test_wrong_likelihood_is_caught_by_joint_calibration_alone():
    pair = ConjugatePair(likelihood=ConjugateLikelihood(shift=0.15))
    assert all(calibrate(pair).inside(familywise=True).values())
    assert not any(calibrate(pair, joint=True).inside(familywise=True).values())


def test_ranks_and_summaries_against_the_posterior():
    given = simulations()
    data = given.batch()
    result = calibrate(ConjugatePair(), simulations=given, draws=4000)
    n_obs = data.n_obs[:, None]
    mean = np.nansum(data.observables, axis=1) / (1 + n_obs)
    sd = np.broadcast_to((1 + n_obs) ** -0.5, mean.shape)
    np.testing.assert_array_equal(result.parameters, given.parameters)
    np.testing.assert_array_equal(result.n_obs, data.n_obs)
    np.testing.assert_allclose(result.mean, mean, atol=0.03)
    np.testing.assert_allclose(result.sd, sd, rtol=0.06)
    np.testing.assert_allclose(result.median, mean, atol=0.04)
    np.testing.assert_allclose(result.quantiles[2], mean + 1.645 * sd, atol=0.06)
    exact = stats.norm.cdf((given.parameters - mean) / sd)
    np.testing.assert_allclose(result.ranks / 4000, exact, atol=0.035)


def test_recovery_in_the_summary():
    table = calibrate(ConjugatePair(), n_simulations=1000).summary()
    # Posterior variance is 1 / (1 + n_obs) of a prior variance of one.
    unexplained = np.mean(1 / (1 + np.arange(N_OBS[0], N_OBS[1] + 1)))
    assert list(table.index) == ["mu", "beta[left]", "beta[right]"]
    np.testing.assert_allclose(table["r2"], 1 - unexplained, atol=0.02)
    np.testing.assert_allclose(table["r"], np.sqrt(1 - unexplained), atol=0.01)


def test_coverage_and_calibration_error():
    result = calibrate(ConjugatePair(), n_simulations=2000)
    np.testing.assert_allclose(result.coverage([0.5, 0.9])[0], 0.5, atol=0.04)
    np.testing.assert_allclose(result.coverage([0.5, 0.9])[1], 0.9, atol=0.025)
    assert max(result.expected_calibration_error().values()) < 0.025
    narrow = calibrate(ConjugatePair(ConjugatePosterior(scale=0.5)), n_simulations=2000)
    # Intervals of half the width: P(|z| < 1.645 / 2).
    expected = 2 * stats.norm.cdf(1.645 / 2) - 1
    np.testing.assert_allclose(narrow.coverage(0.9)[0], expected, atol=0.04)
    assert min(narrow.expected_calibration_error().values()) > 0.1
    with pytest.raises(ValueError, match="between 0 and 1"):
        result.coverage(1.0)


@pytest.mark.parametrize("draws", [1, 3, 10])
def test_coverage_of_few_draws_is_exact(draws):
    """Each rank stands for an interval of the PIT, cut where the central interval ends."""
    result = calibrate(ConjugatePair(), n_simulations=50, draws=draws)
    fine = np.arange(result.ranks.size * 2000).reshape(-1, 2000) % 2000
    pit = (result.ranks.reshape(-1, 1) + (fine + 0.5) / 2000) / (draws + 1)
    for level in (0.3, 0.8):
        inside = (np.abs(2 * pit - 1) <= level).mean(axis=1).reshape(result.ranks.shape)
        np.testing.assert_allclose(result.coverage(level)[0], inside.mean(axis=0), atol=2e-3)


def test_z_scores_and_contraction():
    result = calibrate(ConjugatePair(), n_simulations=1000)
    np.testing.assert_allclose(result.z_scores().std(axis=0), 1.0, atol=0.08)
    expected = 1 - np.mean(1 / (1 + np.arange(N_OBS[0], N_OBS[1] + 1)))
    np.testing.assert_allclose(result.contraction().mean(axis=0), expected, atol=0.03)


def test_kinds_of_plots():
    result = calibrate(ConjugatePair(), n_simulations=100)
    for kind in ("ecdf", "histogram", "coverage", "contraction", "recovery"):
        assert result.plot(kind).axes
    with pytest.raises(ValueError, match="kind is 'pie'"):
        result.plot("pie")


def test_hopeless_ranks_have_a_p_value_of_zero():
    assert uniformity_p_value(np.zeros(1000, dtype=int), 250) == pytest.approx(0.0, abs=1e-12)


def test_same_seed_same_result_and_same_parameters_for_both():
    first, again = (calibrate(ConjugatePair(), random_seed=9) for _ in range(2))
    joint, other = (calibrate(ConjugatePair(), joint=True, random_seed=s) for s in (9, 10))
    np.testing.assert_array_equal(first.ranks, again.ranks)
    np.testing.assert_array_equal(first.parameters, joint.parameters)
    assert (joint.ranks != other.ranks).any()


def test_surrogate_data_keep_n_obs_and_known_conditions():
    pair = ConjugatePair()
    result = calibrate(pair, joint=True)
    assert set(result.n_obs) == set(range(N_OBS[0], N_OBS[1] + 1))
    for conditions in pair.likelihood.conditions:
        np.testing.assert_array_equal(conditions, 1.0)  # the padding, NaN, included


@pytest.mark.arviz
def test_ranks_in_a_prior_sbc_group():
    result = calibrate(ConjugatePair())
    groups = to_groups(result.to_inference_data())
    assert list(groups) == ["prior_sbc"]
    group = groups["prior_sbc"]
    assert group["mu"].dims == ("chain", "draw")
    assert group["beta"].dims == ("chain", "draw", "group")
    assert group["beta"].shape == (1, 400, 2)
    assert list(group["beta"].coords["group"]) == ["left", "right"]
    np.testing.assert_array_equal(group["mu"][0], result.ranks[:, 0])
    np.testing.assert_array_equal(group["beta"][0], result.ranks[:, 1:])
    pit = to_groups(result.to_inference_data("pit", random_seed=1))["prior_sbc"]
    np.testing.assert_allclose(pit["mu"][0], result.pit(random_seed=1)[:, 0])


def test_no_model_and_no_simulations():
    with pytest.raises(ValueError, match="pass simulations="):
        calibrate(ConjugatePair(model=None))


RENAMED = ParameterLayout(("nu", "beta"), {"nu": (), "beta": (2,)})
OTHERS = {
    "parameters": ({"layout": RENAMED}, r"their parameters \(nu, .*the approximator's \(mu, "),
    "coordinates": (
        {"layout": ParameterLayout(LAYOUT.names, LAYOUT.shapes, LAYOUT.dims, {"group": (1, 2)})},
        r"their coordinates \(beta: \[\(1, 2\)\]\)",
    ),
    "observables": (
        {
            "schema": DataSchema(
                {name: Continuous() for name in "xyw"},
                conditions=SCHEMA.conditions,
                n_obs=N_OBS,
            )
        },
        r"their observables \(x: .*w: ",
    ),
    "structure": (
        {
            "schema": DataSchema(
                SCHEMA.observables, SCHEMA.conditions, structure="markovian", n_obs=N_OBS
            )
        },
        r"structures \(markovian\) differ from the approximator's \(exchangeable\)",
    ),
    "given": ({"source": "given"}, "parameters were given; expected draws from the prior"),
    "proposal": ({"source": "proposal"}, "come from the proposal; expected draws from the prior"),
}


@pytest.mark.parametrize(("options", "message"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("check", [calibration, verdict, pool_scores])
def test_simulations_of_another_model_are_refused(check, options, message):
    with pytest.raises(ValueError, match=message):
        check(ConjugatePair(), simulations(**options))


@pytest.mark.parametrize("check", [calibration, verdict, pool_scores])
def test_simulations_are_simulations(check):
    with pytest.raises(TypeError, match="simulations is dict; expected Simulations"):
        check(ConjugatePair(), {"x": [1.0]})
    with pytest.raises(ValueError, match="simulations has no data sets"):
        check(ConjugatePair(), simulations()[:0])


def test_simulations_of_other_sizes_are_welcome():
    schema = DataSchema(SCHEMA.observables, SCHEMA.conditions, n_obs=(2, N_OBS[1]))
    assert len(calibrate(ConjugatePair(), simulations=simulations(schema=schema))) == 20


@pytest.mark.parametrize("probability", [95, 0.0, "much"])
@pytest.mark.parametrize("method", ["inside", "band", "summary"])
def test_probability_of_the_band(method, probability):
    result = calibrate(ConjugatePair(), n_simulations=20, draws=9)
    with pytest.raises((TypeError, ValueError), match=f"probability={probability!r}: expected"):
        getattr(result, method)(probability)


def test_draws_that_are_not_finite():
    with pytest.raises(ValueError, match="400 of 400 data sets are not finite"):
        calibrate(ConjugatePair(posterior=ConjugatePosterior(shift=np.nan)))
