"""The epidemic: its simulator against a slow one, its prior against rejection and enumeration."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from modes import PYTHON
from scipy import stats

from jana_pymc.simulation.prior import PyMCPrior
from jana_pymc.tasks import epidemic as task
from jana_pymc.tasks.epidemic.simulator import delayed, weekly_reduction
from jana_pymc.tasks.epidemic.soft_interval import SoftInterval
from jana_pymc.tasks.epidemic.timing import InterventionTimes

N, T, LAG = 83e6, 81, 20


def the_prior() -> PyMCPrior:
    """That of the models, which is compiled once."""
    return task.epidemic().prior


def draws(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    return dict(zip(task.PARAMETERS, the_prior().draw(n, seed).T, strict=True))


def one(parameters: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in parameters.items()}


# --- a slow simulator, piece by piece and day by day -------------------------------------------


def slow_contacts(p: dict[str, float], original: bool) -> list[float]:
    t = [round(p[f"t{i}"]) for i in range(1, 5)] + [T]
    rates = [p["lambda0"]] * (t[0] + LAG)
    for i in range(1, 5):
        days, duration = t[i] - t[i - 1], round(p[f"dt{i}"])
        old, new = p[f"lambda{i - 1}"], p[f"lambda{i}"]
        if duration > 1:
            ends = (p["lambda3"], p["lambda4"]) if original and i == 3 else (old, new)
            rates += list(np.linspace(*ends, duration))
            days -= duration
        rates += [new] * days
    return rates


def slow_reports(p: dict[str, float], original: bool) -> np.ndarray:
    rates = slow_contacts(p, original)
    susceptible, exposed = N - max(1, round(p["E0"])), float(max(1, round(p["E0"])))
    carriers = infected = 0.0
    news: dict[str, list[float]] = {"I": [], "R": [], "D": []}
    for rate in rates:
        caught = rate * (carriers + p["beta"] * infected) / N * susceptible
        started = p["gamma"] * exposed
        detected = (1 - p["alpha"]) * p["eta"] * carriers
        undetected = p["alpha"] * p["theta"] * carriers
        recovered = (1 - p["delta"]) * p["mu"] * infected
        died = p["delta"] * p["d"] * infected
        susceptible -= caught
        exposed += caught - started
        carriers += started - detected - undetected
        infected += detected - recovered - died
        for series, number in (("I", detected), ("R", recovered), ("D", died)):
            news[series].append(number)
    reports = np.empty((T, 3))
    for tau in range(T):
        for j, series in enumerate("IRD"):
            wave = abs(np.sin(np.pi / 7 * tau - p[f"phi_{series}"] / 2))
            reduction = (1 - p[f"A_{series}"]) * (1 - wave)
            reports[tau, j] = (1 - reduction) * news[series][tau + LAG - round(p[f"L_{series}"])]
    return reports


def stacked(reports: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([reports[name] for name in ("cases", "recoveries", "deaths")], -1)


def simulate(parameters: dict[str, np.ndarray], seed: int = 0, **options: object) -> np.ndarray:
    columns = {name: np.asarray(values)[..., None] for name, values in parameters.items()}
    rng = np.random.default_rng(seed)
    return stacked(task.simulator(rng, **columns, **{"n_obs": T, **options}))


NOISELESS = {f"sigma_{series}": 0.0 for series in "IRD"}


@pytest.mark.parametrize("original", [False, True])
def test_contact_rates_are_those_laid_end_to_end(original: bool) -> None:
    p = draws(300)
    for i in range(4):  # interventions of a single day, and two that follow at once
        p[f"dt{i + 1}"][i::7] = 1.0
    p["dt1"][4::7] = np.rint(p["t2"][4::7]) - np.rint(p["t1"][4::7])
    days = np.arange(-LAG, T)[:, None]
    rates = task.contact_rates(days, p, original=original)
    expected = [slow_contacts(one(p, i), original) for i in range(300)]
    np.testing.assert_allclose(rates.T, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("original", [False, True])
def test_reports_without_noise_are_those_of_the_slow_simulator(original: bool) -> None:
    p = draws(30, seed=1)
    actual = simulate({**p, **{name: np.zeros(30) for name in NOISELESS}}, original=original)
    expected = [slow_reports(one(p, i), original) for i in range(30)]
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_original_differs_in_the_third_intervention_alone() -> None:
    p = {name: np.array([value]) for name, value in task.TEASER.items()}
    days = np.arange(T)
    right, wrong = (
        task.contact_rates(days[:, None], p, original=flag)[:, 0] for flag in (False, True)
    )
    third = (days >= 24) & (days < 27)  # t3 = 23.6048, dt3 = 3.1064
    assert (right[~third] == pytest.approx(wrong[~third])) and not np.any(
        right == wrong, where=third
    )
    np.testing.assert_allclose(wrong[third], np.linspace(0.0951, 0.1736, 3))
    np.testing.assert_allclose(right[third], np.linspace(0.3411, 0.0951, 3))


def test_nobody_is_lost() -> None:
    p = draws(2000, seed=2)
    p["gamma"][:10], p["eta"][10:20], p["alpha"][10:20] = 1.5, 1.5, 0.01
    path = task.compartments(p, T)
    assert min(values.min() for values in path.values()) >= 0.0
    total = sum(path[name] for name in ("S", "E", "C", "I", "R", "D"))
    np.testing.assert_allclose(total, N, rtol=1e-12)
    assert (np.diff(path["S"], axis=0) <= 0.0).all() and (np.diff(path["R"], axis=0) >= 0.0).all()
    np.testing.assert_allclose(path["D"][-1], path["D_new"][:-1].sum(axis=0), rtol=1e-9)
    leaving = (path["R_new"] + path["D_new"])[:-1].sum(axis=0)
    np.testing.assert_allclose(path["I_new"][:-1].sum(axis=0), path["I"][-1] + leaving, rtol=1e-9)


def test_original_creates_people_in_fast_epidemics_alone() -> None:
    p = draws(2000, seed=2)
    ours, theirs = (task.compartments(p, T, original=flag) for flag in (False, True))
    rates = {flag: task.contact_rates(np.arange(T)[:, None], p, original=flag) for flag in (0, 1)}
    total = sum(theirs[name] for name in ("S", "E", "C", "I", "R", "D"))
    created = (np.abs(total - N) > 1.0).any(axis=0)
    assert 0.003 < created.mean() < 0.02
    assert p["lambda0"][created].min() > np.median(p["lambda0"])
    # Until the third intervention all others are the same.
    assert (rates[0][:17, ~created] == rates[1][:17, ~created]).all()
    np.testing.assert_allclose(
        ours["I_new"][: LAG + 17, ~created], theirs["I_new"][: LAG + 17, ~created], rtol=1e-9
    )


def test_a_delay_shifts_the_series() -> None:
    news = np.arange(LAG + T, dtype=float)[:, None] * np.ones(4)
    shifted = delayed(news, np.array([0.4, 1.0, 8.6, 20.4]), T)
    np.testing.assert_array_equal(shifted[:, 0], np.arange(T) + LAG)
    np.testing.assert_array_equal(
        shifted[:, 0] - shifted.T, np.array([[0], [1], [9], [20]]) + 0.0 * shifted.T
    )
    for delay in (-1.0, 20.6):
        with pytest.raises(ValueError, match=rf"a delay of {round(delay)} days"):
            delayed(news, np.full(4, delay), T)


def test_reports_are_modulated_weekly() -> None:
    days, ones = np.arange(T)[:, None], np.ones(1)
    reduction = weekly_reduction(days, 0.6 * ones, 1.3 * ones)[:, 0]
    np.testing.assert_allclose(reduction[7:], reduction[:-7], atol=1e-12)
    assert reduction.min() >= 0.0 and reduction.max() <= 0.4
    later = weekly_reduction(days, 0.6 * ones, (1.3 + 2 * np.pi / 7) * ones)[:, 0]
    np.testing.assert_allclose(later[1:], reduction[:-1], atol=1e-12)
    assert weekly_reduction(days, ones, ones).max() == 0.0
    # Where the sine vanishes, all of 1 - A is missing.
    assert weekly_reduction(np.zeros((1, 1)), 0.6 * ones, 0.0 * ones).item() == pytest.approx(0.4)


def test_noise_is_student_t_and_never_negative() -> None:
    p = {name: np.full(300, value) for name, value in task.TEASER.items()}
    p |= {f"sigma_{series}": np.full(300, 2.0) for series in "IRD"}
    noisy, exact = simulate(p, seed=3), simulate({**p, **{n: np.zeros(300) for n in NOISELESS}})
    assert noisy.min() == 0.0
    z = ((noisy - exact) / (2.0 * np.sqrt(exact)))[exact > 5000.0]  # never cut off at zero
    assert z.size > 5000 and stats.kstest(z, stats.t(4).cdf).pvalue > 0.01
    assert np.mean(noisy == 0.0, where=exact < 4.0) > 0.1


def test_one_data_set_is_a_row_of_many_and_the_seed_counts() -> None:
    p = {name: np.asarray(value) for name, value in task.TEASER.items()}
    single = stacked(task.simulator(np.random.default_rng(1), **p, n_obs=T))
    assert single.shape == (T, 3)
    np.testing.assert_array_equal(single, simulate({n: v[None] for n, v in p.items()}, seed=1)[0])
    np.testing.assert_array_equal(
        simulate({**p, **NOISELESS}, n_obs=30), simulate({**p, **NOISELESS})[:30]
    )


def test_wrong_parameters_are_named() -> None:
    rng, p = np.random.default_rng(0), dict(task.TEASER)
    with pytest.raises(TypeError, match="unknown parameters: kappa"):
        task.simulator(rng, **p, kappa=1.0, n_obs=T)
    del p["eta"]
    with pytest.raises(TypeError, match="missing parameters: eta"):
        task.simulator(rng, **p, n_obs=T)


# --- the prior ---------------------------------------------------------------------------------


def independent() -> dict[str, stats.rv_continuous]:
    """The paper's marginals before anything is refused."""
    log_normal = {f"dt{i}": (3.0, 0.3) for i in range(1, 5)}
    log_normal |= {f"L_{series}": (8.0, 0.2) for series in "IRD"}
    log_normal |= {f"lambda{i}": (m, 0.5) for i, m in enumerate((1.2, 0.6, 0.3, 0.1, 0.1))}
    log_normal |= {"mu": (1 / 8, 0.2), "beta": (0.25, 0.3), "gamma": (1 / 6.5, 0.5)}
    log_normal |= {"eta": (1 / 3.2, 0.3)}
    uniform = {"alpha": (0.005, 0.9), "theta": (1 / 14, 1 / 3), "delta": (0.01, 0.3)}
    uniform |= {"d": (1 / 14, 1 / 3)}
    return {
        **{
            f"t{i + 1}": stats.norm(m, s)
            for i, (m, s) in enumerate(zip((8, 15, 22, 66), (3, 1, 1, 1), strict=True))
        },
        **{name: stats.lognorm(s, scale=m) for name, (m, s) in log_normal.items()},
        **{name: stats.uniform(a, b - a) for name, (a, b) in uniform.items()},
        **{f"A_{series}": stats.beta(4.9395, 2.1169) for series in "IRD"},
        **{f"phi_{series}": stats.vonmises(0.01) for series in "IRD"},
        **{f"sigma_{series}": stats.gamma(1.0, scale=5.0) for series in "IRD"},
        "E0": stats.gamma(2.0, scale=30.0),
    }


def admissible(p: dict[str, np.ndarray]) -> np.ndarray:
    t = [np.rint(p[f"t{i}"]) for i in range(1, 5)] + [T]
    ok = t[0] > 0
    for i in range(4):
        duration = np.rint(p[f"dt{i + 1}"])
        ok &= (t[i] < t[i + 1]) & (duration > 0) & (t[i + 1] - t[i] >= duration)
    for series in "IRD":
        ok &= np.rint(p[f"L_{series}"]) < 21
    return ok


def enumerated_log_constant() -> float:
    """Log probability of the admissible, day by day over all that could matter."""
    n = np.ix_(np.arange(1, 32), np.arange(5, 26), np.arange(12, 33), np.arange(56, 77))
    marginal = independent()
    mass = np.ones(())
    for i, days in enumerate(n):
        time = marginal[f"t{i + 1}"]
        mass = mass * (time.cdf(days + 0.5) - time.cdf(days - 0.5))
    for days, until in zip(n, (*n[1:], np.array(T)), strict=True):
        room = until - days
        duration = marginal["dt1"]
        mass = mass * np.where(room > 0, duration.cdf(room + 0.5) - duration.cdf(0.5), 0.0)
    return float(np.log(mass.sum()) + 3 * marginal["L_I"].logcdf(20.5))


def test_samplers_begin_inside() -> None:
    start = the_prior().model.initial_point(0)
    u = np.array([start[value.name] for value in the_prior().model.value_vars])
    assert np.isfinite(the_prior().log_prob(u))
    theta = dict(zip(task.PARAMETERS, the_prior().constrain(u), strict=True))
    assert [theta["t2"], theta["dt3"], theta["L_D"]] == pytest.approx([15.0, 3.0, 8.0])


def test_parameters_are_those_of_the_paper_in_order() -> None:
    assert the_prior().layout.names == task.PARAMETERS
    assert len(task.PARAMETERS) == 34
    assert set(independent()) == set(task.PARAMETERS)
    teaser = np.array(list(task.TEASER.values()))
    assert np.isfinite(the_prior().log_prob_constrained(teaser))


def test_log_density_is_that_of_the_truncated_prior() -> None:
    marginal = independent()
    rng = np.random.default_rng(0)
    proposed = {name: marginal[name].rvs(2000, random_state=rng) for name in task.PARAMETERS}
    inside = admissible(proposed)
    assert 0.85 < inside.mean() < 0.93
    expected = sum(marginal[name].logpdf(proposed[name]) for name in task.PARAMETERS)
    expected = np.where(inside, expected - enumerated_log_constant(), -np.inf)
    theta = np.stack([proposed[name] for name in task.PARAMETERS], -1)
    actual = the_prior().log_prob_constrained(theta)
    np.testing.assert_array_equal(np.isfinite(actual), inside)
    np.testing.assert_allclose(actual[inside], expected[inside], rtol=1e-9, atol=1e-8)


def test_draws_are_those_that_rejection_leaves() -> None:
    marginal, n = independent(), 40_000
    rng = np.random.default_rng(1)
    names = [
        name for name in task.PARAMETERS if name[0] in "tdL" and name not in ("theta", "d", "delta")
    ]
    proposed = {name: marginal[name].rvs(n, random_state=rng) for name in names}
    inside = admissible(proposed)
    ours = draws(n, seed=4)
    assert admissible(ours).all()
    rejected = {name: values[inside] for name, values in proposed.items()}
    for name in names:
        assert stats.ks_2samp(rejected[name], ours[name]).pvalue > 1e-3, name
    for a, b in (("t1", "t2"), ("t2", "dt1"), ("t1", "dt1"), ("t4", "dt4"), ("t2", "t3")):
        difference = stats.ks_2samp(rejected[a] - rejected[b], ours[a] - ours[b])
        assert difference.pvalue > 1e-3, (a, b)
    assert stats.binomtest(int(inside.sum()), n, np.exp(enumerated_log_constant())).pvalue > 1e-3
    for name in set(task.PARAMETERS) - set(names):
        assert stats.kstest(ours[name][:5000], marginal[name].cdf).pvalue > 1e-3, name


def test_chain_constant_is_the_sum_over_days() -> None:
    delays = 3 * independent()["L_I"].logcdf(20.5)
    exact = InterventionTimes(T).log_probability
    assert exact == pytest.approx(enumerated_log_constant() - delays, abs=1e-12)
    assert np.exp(exact) == pytest.approx(0.8893, abs=1e-4)


def test_unconstrained_values_stay_in_the_support() -> None:
    prior = the_prior()
    theta = prior.draw(300, 5)
    u = prior.unconstrain(theta)
    np.testing.assert_allclose(prior.constrain(u), theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        prior.log_prob(u), prior.log_prob_constrained(theta) + prior.log_abs_det_jacobian(u)
    )
    spread = u + 2.0 * u.std(axis=0) * np.random.default_rng(0).standard_normal(u.shape)
    wide = dict(zip(task.PARAMETERS, prior.constrain(spread).T, strict=True))
    assert admissible(wide).all() and np.isfinite(prior.log_prob(spread)).all()


def test_jacobian_is_that_of_the_transforms() -> None:
    prior, step = the_prior(), 1e-6
    u = prior.unconstrain(prior.draw(5, 6))
    # Bounds jump from day to day and are level in between, so that the Jacobian is triangular.
    moved = u[:, None] + step * np.eye(34)
    derivatives = (prior.constrain(moved) - prior.constrain(u)[:, None]) / step
    diagonal = np.diagonal(derivatives, axis1=1, axis2=2)
    np.testing.assert_allclose(
        np.log(diagonal).sum(axis=1), prior.log_abs_det_jacobian(u), atol=1e-3
    )


@pytest.mark.parametrize("logarithmic", [False, True])
def test_soft_interval_is_smooth_and_nearly_the_identity(logarithmic: bool) -> None:
    transform = SoftInterval(lambda *_: (1.0, 9.0), 0.5, logarithmic=logarithmic)
    u = pt.dvector("u")
    x = transform.backward(u)
    evaluate = pytensor.function(
        [u],
        [x, transform.forward(x), transform.log_jac_det(u), pytensor.grad(x.sum(), u)],
        mode=PYTHON,
    )
    values = np.linspace(-4.0, 12.0, 81)
    inside, back, log_jacobian, derivative = evaluate(values)
    inside = np.log(inside) if logarithmic else inside
    assert (inside > 1.0).all() and (inside < 9.0).all() and (np.diff(inside) > 0.0).all()
    np.testing.assert_allclose(back, values, atol=1e-6)
    np.testing.assert_allclose(np.exp(log_jacobian), derivative, rtol=1e-6)
    middle = np.abs(values - 5.0) < 2.0
    np.testing.assert_allclose(inside[middle], values[middle], atol=0.01)


def test_a_horizon_that_is_too_short_is_refused() -> None:
    for horizon in (3, 60):
        with pytest.raises(ValueError, match=f"{horizon} days are too few"):
            task.prior(horizon)
    assert InterventionTimes(120).log_probability > InterventionTimes(T).log_probability


# --- the model ---------------------------------------------------------------------------------


def test_model_simulates_without_failures() -> None:
    model = task.epidemic((70, T), original=True)
    simulations = model.simulate(200, random_seed=1, progressbar=False)
    assert dict(simulations.dataset.sizes) == {"simulation": 200, "obs": T}
    assert simulations.dataset["n_obs"].min() >= 70
    again = model.simulate(200, random_seed=1, progressbar=False)
    np.testing.assert_array_equal(simulations.dataset["cases"], again.dataset["cases"])
    assert pickle.loads(pickle.dumps(model.simulator)).keywords["original"]


def test_standardized_series_have_their_scale_as_conditions() -> None:
    plain, standardized = (
        task.epidemic(T, standardized=flag).simulate(50, random_seed=1, progressbar=False).dataset
        for flag in (False, True)
    )
    again = task.restored_reports(standardized)
    for name in task.OBSERVABLES:
        values = plain[name].values / 1e3
        mean, sd = values.mean(1), values.std(1)
        seen = standardized[name].values
        np.testing.assert_allclose(seen.mean(1), 0.0, atol=1e-9)
        np.testing.assert_allclose(seen.std(1), np.where(sd > 0.0, 1.0, 0.0), atol=1e-9)
        for statistic, value in (("mean", mean), ("sd", sd)):
            condition = standardized[f"log2_{statistic}_{name}"].values
            np.testing.assert_allclose(condition, np.log2(1.0 + value)[:, None] + np.zeros(T))
        np.testing.assert_allclose(again[name], 1e3 * values, rtol=1e-9, atol=1e-6)


def test_standardized_series_have_one_length_and_all_columns() -> None:
    with pytest.raises(ValueError, match="one length"):
        task.epidemic((70, T), standardized=True)
    with pytest.raises(ValueError, match="lack recoveries, deaths"):
        task.standardized_reports({"cases": np.ones(3)})
    constant = {name: np.zeros(4) for name in task.OBSERVABLES}
    assert not any(values.any() for values in task.standardized_reports(constant).values())


def test_reports_to_standardize_are_people_and_those_to_restore_have_a_scale() -> None:
    reports = {name: np.array([0.0, 1.0, 5.0]) for name in task.OBSERVABLES}
    for value, message in ((-1.0, "'deaths' have negative"), (np.nan, "'deaths' have 1 values")):
        with pytest.raises(ValueError, match=message):
            task.standardized_reports({**reports, "deaths": np.array([0.0, value, 5.0])})
    with pytest.raises(ValueError, match=r"lack log2_mean_cases, .* from standardized_reports"):
        task.restored_reports(reports)
    for wrong, message in (
        ([1.0, 2.0], r"'deaths' have shape \(2,\), those of 'cases' \(3,\)"),
        (1.0, r"'deaths' have shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            task.standardized_reports({**reports, "deaths": wrong})
    with pytest.raises(ValueError, match=r"'cases' have shape \(0,\)"):
        task.standardized_reports(dict.fromkeys(task.OBSERVABLES, ()))
    again = task.restored_reports(task.standardized_reports(reports))
    task.standardized_reports({name: values - 1e-12 for name, values in again.items()})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"n_obs": 81.0}, TypeError, "n_obs=81.0: expected an integer, or a pair"),
        ({"n_obs": True}, TypeError, "n_obs=True"),
        ({"n_obs": "81"}, TypeError, "n_obs='81'"),
        ({"n_obs": (70, 81.0)}, TypeError, r"n_obs\[1\]=81.0: expected an integer"),
        ({"n_obs": (70, 75, 81)}, TypeError, "n_obs=.* the smallest and the largest"),
        ({"n_obs": (81, 70)}, ValueError, "n_obs=.* the smallest first"),
        ({"n_obs": 0}, ValueError, "n_obs=0"),
        ({"n_people": 0}, ValueError, "n_people=0: expected a positive number"),
        ({"n_people": np.nan}, ValueError, "n_people=nan: expected a positive number"),
        ({"n_people": "many"}, TypeError, "n_people='many': expected a number"),
        ({"n_people": True}, TypeError, "n_people=True: expected a number"),
        ({"whole": 1}, TypeError, "whole=1: expected True or False"),
        ({"standardized": "no"}, TypeError, "standardized='no': expected True or False"),
        ({"original": None}, TypeError, "original=None: expected True or False"),
    ],
)
def test_arguments_of_the_model_are_checked(wrong: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        task.epidemic(**wrong)


def test_five_thousand_epidemics_a_second() -> None:
    p = draws(1024)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        simulate(p)
        seconds.append(time.perf_counter() - start)
    assert 1024 / min(seconds) > 5000.0


# --- data --------------------------------------------------------------------------------------

REPORTS = """date,cases,recoveries,deaths,tests
2020-03-01,38,0,0,
2020-03-02,55,2,0,100
2020-03-03,41,1,1,90
2020-03-04,120,0,0,80
"""
TOTALS = """day,confirmed,recovered,died
2020-02-29,79,16,0
2020-03-01,130,16,0
2020-03-02,159,15,2
2020-03-03,196,16,2
"""
TOTAL_COLUMNS = {"cases": "confirmed", "recoveries": "recovered", "deaths": "died"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "reports.csv"
    path.write_text(REPORTS)
    return path


def test_reports_are_read(file: Path) -> None:
    reports = task.load_reports(file, start="2020-03-02")
    assert list(reports) == ["cases", "recoveries", "deaths"]
    np.testing.assert_array_equal(stacked(reports), [[55, 2, 0], [41, 1, 1], [120, 0, 0]])
    assert reports["cases"].dtype == np.float64
    file.write_text("cases,recoveries,deaths\n1,2,3\n4,5,6\n")
    np.testing.assert_array_equal(task.load_reports(file, date=None)["deaths"], [3, 6])


def test_only_the_chosen_days_are_checked(file: Path) -> None:
    # Before and after them: an empty field, a gap, a word, a negative report and a day twice.
    rows = REPORTS.splitlines()
    before = ["2020-02-20,,0,0,1", "2020-02-27,-3,many,0,1"]
    after = ["2020-03-09,1,1,1,1", "2020-03-09,,1,1,1"]
    file.write_text("\n".join([rows[0], *before, *rows[1:], *after]) + "\n")
    reports = task.load_reports(file, start="2020-03-01", end="2020-03-04")
    np.testing.assert_array_equal(reports["cases"], [38, 55, 41, 120])
    differences = task.load_reports(file, start="2020-03-02", end="2020-03-03", cumulative=True,
                                    negative="zero")  # fmt: skip
    np.testing.assert_array_equal(differences["cases"], [17, 0])
    with pytest.raises(ValueError, match="2020-02-29 is not in the file; choose a later start"):
        task.load_reports(file, start="2020-03-01", end="2020-03-04", cumulative=True)
    with pytest.raises(ValueError, match="'date' goes from 2020-03-04 to 2020-03-09"):
        task.load_reports(file, start="2020-03-01")
    with pytest.raises(ValueError, match="'cases' has nothing on 2020-02-20"):
        task.load_reports(file, end="2020-02-20")


def test_totals_are_differenced(file: Path) -> None:
    file.write_text(TOTALS)
    options = {"columns": TOTAL_COLUMNS, "date": "day", "cumulative": True, "negative": "zero"}
    reports = task.load_reports(file, **options)
    np.testing.assert_array_equal(stacked(reports), [[51, 0, 0], [29, 0, 2], [37, 1, 0]])
    part = task.load_reports(file, **options, start="2020-03-02", end="2020-03-02")
    np.testing.assert_array_equal(stacked(part), [[29, 0, 2]])
    with pytest.raises(ValueError, match="the day before is needed"):
        task.load_reports(file, **options, start="2020-02-29")
    with pytest.raises(ValueError, match=r"'recovered' has 1 negative .* 2020-03-02 \(-1\)"):
        task.load_reports(file, **{**options, "negative": "error"})


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        ("recoveries", "healed", {}, "no column 'recoveries'; it has 'date', 'cases', 'healed'"),
        ("date,", "day,", {}, "no column 'date'; it has .* say date=None"),
        ("41,1,1", "41,,1", {}, "'recoveries' has nothing on 2020-03-03; expected a number"),
        ("120,", "many,", {}, "'cases' has 'many' on 2020-03-04; expected a number"),
        ("120,", "-4,", {}, r"'cases' has 1 negative reports, the first on 2020-03-04 \(-4\)"),
        ("2020-03-03", "2020-03-02", {}, "goes from 2020-03-02 to 2020-03-02"),
        ("2020-03-04", "2020-03-05", {}, "goes from 2020-03-03 to 2020-03-05"),
        ("2020-03-03", "third of March", {}, "entries that are no dates"),
        ("2020-03-03", "", {}, "no date in row 3"),
        ("38", "38", {"start": "2020-02-01"}, "start='2020-02-01' is not in the file"),
        ("38", "38", {"start": "2020-03-03", "end": "2020-03-02"}, "no reports are left"),
        ("38", "38", {"date": None, "end": "2020-03-02"}, "name the column of dates"),
        ("38", "38", {"negative": "drop"}, "negative='drop' is not 'error' or 'zero'"),
        (REPORTS[REPORTS.index("\n") + 1 :], "", {}, "a header, but no rows"),
        ("41,1,1,90", "41,1,1,90,7", {}, "line 4 of the file has 6 fields, .* header has 5"),
        (",tests", "", {}, "line 2 of the file has 5 fields, but the header has 4"),
        ("tests", "cases", {}, "more than one column 'cases'"),
        (REPORTS, "", {}, "is empty; expected a header"),
        ("38", '"38', {}, "cannot be read as a CSV file"),
        (REPORTS, REPORTS.replace(",", ";"), {}, "separated by semicolons; expected commas"),
        ("38", "38", {"columns": dict.fromkeys(task.OBSERVABLES, "cases")}, "a different column"),
        ("38", "38", {"start": "yesterday"}, "^start='yesterday': expected a date like '2020"),
        ("2020-03-03", "2020-03-04", {"end": "2020-03-04"}, "from 2020-03-02 to 2020-03-04"),
    ],
)
def test_bad_files_are_explained(
    file: Path, old: str, new: str, options: dict, message: str
) -> None:
    file.write_text(REPORTS.replace(old, new))
    with pytest.raises(ValueError, match=message):
        task.load_reports(file, **options)


def test_a_file_that_is_no_text_is_refused_and_byte_order_marks_are_not(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
    with pytest.raises(ValueError, match="no text in UTF-8") as caught:
        task.load_reports(file)
    assert type(caught.value) is ValueError
    file.write_text(REPORTS, encoding="utf-8-sig")
    assert len(task.load_reports(file)["cases"]) == 4
    with pytest.raises(ValueError, match="is a folder"):
        task.load_reports(file.parent)


def test_spaces_around_names_are_none_of_their_parts(file: Path) -> None:
    file.write_text(REPORTS.replace("cases,", " cases ,"))
    np.testing.assert_array_equal(task.load_reports(file)["cases"], [38, 55, 41, 120])


def test_unknown_series_are_refused(file: Path) -> None:
    with pytest.raises(TypeError, match="columns names 'cases', 'tests'; expected all three of"):
        task.load_reports(file, columns={"cases": "cases", "tests": "tests"})
    with pytest.raises(TypeError, match="columns='cases': expected a mapping from all three"):
        task.load_reports(file, columns="cases")
    with pytest.raises(TypeError, match="cumulative='no': expected True or False"):
        task.load_reports(file, cumulative="no")


# --- the likelihood in closed form ---------------------------------------------------------------


def test_probabilities_of_whole_reports_sum_to_one() -> None:
    """Small epidemics, in which few counts have all the probability."""
    theta = {name: values[0] for name, values in draws(1).items()}
    theta |= {"E0": 2.0, "lambda0": 0.3, "sigma_I": 0.7, "sigma_R": 0.7, "sigma_D": 0.7}
    expected = task.expected_reports(n_obs=T, **theta)
    assert max(values.max() for values in expected.values()) < 30.0
    quiet = {name: np.zeros(T) for name in task.OBSERVABLES}
    base = task.log_likelihood(quiet, **theta)
    for name in task.OBSERVABLES:
        total = np.zeros(T)
        for count in range(300):
            total += np.exp(task.log_likelihood({**quiet, name: np.full(T, count)}, **theta) - base)
        # Ratios to the probability of none, which is known.
        scale = np.sqrt(expected[name]) * 0.7
        none = stats.t.cdf((0.5 - expected[name]) / np.maximum(scale, 1e-12), 4)
        np.testing.assert_allclose(total * none, 1.0, atol=1e-5)


def test_log_likelihood_is_that_of_the_simulator() -> None:
    """Under the simulator, ratios of probabilities have mean one, for any other parameters."""
    n = 20_000
    theta = {name: np.full((n, 1), values[3]) for name, values in draws(4).items()}
    reports = task.simulator(np.random.default_rng(1), n_obs=T, whole=True, **theta)
    other = theta | {f"sigma_{s}": 0.9 * theta[f"sigma_{s}"] for s in "IRD"}
    other["A_I"] = 0.999 * theta["A_I"]
    ratios = np.exp(task.log_likelihood(reports, **other) - task.log_likelihood(reports, **theta))
    error = ratios.std(axis=0) / np.sqrt(n)
    assert (error < 0.01).all()
    assert (np.abs(ratios.mean(axis=0) - 1.0) < 5.0 * error + 1e-9).all()
    assert (ratios.std(axis=0) > 0.01).mean() > 0.9


def test_the_closed_form_checks_reports_and_parameters() -> None:
    theta = {name: values[0] for name, values in draws(1).items()}
    reports = {name: np.zeros(T) for name in task.OBSERVABLES}
    for change, parameters, message in (
        ({"cases": np.full(T, 0.3)}, {}, "'cases' are not whole, as 0.3"),
        ({"cases": np.full(T, -1.0)}, {}, "'cases' have negative"),
        ({"cases": np.full(T, np.nan)}, {}, "values that are NaN"),
        ({"deaths": np.zeros(1)}, {}, r"'deaths' have shape \(1,\)"),
        ({}, {"beta": np.full(5, 0.1)}, r"'beta' has shape \(5,\); expected \(\) or"),
    ):
        with pytest.raises(ValueError, match=message):
            task.log_likelihood({**reports, **change}, **theta | parameters)
    with pytest.raises(ValueError, match="reports lack cases, recoveries, deaths"):
        task.log_likelihood({}, **theta)
    with pytest.raises(ValueError, match="a delay is NaN"):
        task.log_likelihood(reports, **theta | {"L_I": np.nan})
    many = {name: np.full((3, 1), value) for name, value in theta.items()}
    one = task.log_likelihood(reports, **theta)
    np.testing.assert_allclose(task.log_likelihood(reports, **many), np.tile(one, (3, 1)))


def test_large_reports_have_the_density_of_their_cell() -> None:
    """Where cells are narrow the sum over them is an integral, to many digits."""
    theta = {name: values[0] for name, values in draws(1).items()} | {"sigma_I": 400.0}
    expected = task.expected_reports(n_obs=T, **theta)["cases"]
    day = int(expected.argmax())
    rest = {name: np.zeros(T) for name in ("recoveries", "deaths")}
    x, scale = expected[day], 400.0 * np.sqrt(expected[day])
    assert scale > 2_000.0
    counts = np.rint(x + scale * np.array([0.0, 1.0, 5.0]))
    values = [task.log_likelihood({"cases": np.full(T, k), **rest}, **theta)[day] for k in counts]
    np.testing.assert_allclose(
        np.diff(values), np.diff(stats.t.logpdf((counts - x) / scale, 4)), atol=1e-6
    )
