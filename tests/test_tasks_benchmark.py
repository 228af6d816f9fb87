"""The ten benchmark tasks: exact answers against independent ones, simulators against their law."""

from __future__ import annotations

import math
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import odeint, solve_ivp
from scipy.special import expit

from jana_pymc.tasks import TASKS, bernoulli_glm, lotka_volterra, sir, slcp, task, two_moons
from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.gaussian_linear import truncated_normal
from jana_pymc.tasks.ode import integrate

BOTH = [(name, definition) for name in TASKS for definition in ("paper", "benchmark")]
ALL = [*BOTH, ("two_moons", "lueckmann"), ("two_moons", "wiqvist")]
WITH_LIKELIHOOD = [each for each in ALL if each != ("bernoulli_glm", "paper")]


def simulate(problem: Task, n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    simulations = problem.model.simulate(n, random_seed=seed, progressbar=False)
    assert simulations.failures.n_failed == 0
    return simulations.parameters, problem.flatten(simulations)


# --- both forms of data ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "definition"), ALL)
def test_flat_and_structured_data_are_the_same(name, definition):
    problem = task(name, definition)
    simulations = problem.model.simulate(4, random_seed=1, progressbar=False)
    x = problem.flatten(simulations)
    assert x.shape == (4, problem.x_size)
    batch = problem.model.schema.batch(problem.data(x))
    stored = simulations.batch()
    np.testing.assert_allclose(batch.observables, stored.observables, rtol=1e-12)
    np.testing.assert_allclose(batch.conditions, stored.conditions, rtol=1e-12)
    one = problem.model.schema.batch(problem.data(x[2]))
    np.testing.assert_array_equal(one.observables[0], batch.observables[2])


@pytest.mark.parametrize(("name", "definition"), ALL)
def test_one_data_set_is_simulated_as_many_are(name, definition):
    problem = task(name, definition)
    model = problem.model
    theta = model.prior.draw(1, 3)
    parameters = {key: values[0] for key, values in model.layout.unflatten(theta).items()}
    sizes = {} if model.schema.structure == "vector" else {"n_obs": model.schema.n_obs[1]}
    rng = np.random.default_rng(0)
    conditions = model.design(rng, **sizes) if model.design else {}
    one = model.simulator(np.random.default_rng(5), **parameters, **conditions, **sizes)
    axis = () if model.schema.structure == "vector" else (None,)
    many = model.simulator(
        np.random.default_rng(5),
        **{key: np.asarray(value)[(None, *axis)] for key, value in parameters.items()},
        **{key: value[None] for key, value in conditions.items()},
        **sizes,
    )
    for key, value in one.items():
        assert np.shape(value) == model.schema.array_shape(key, sizes.get("n_obs", 1))
        np.testing.assert_allclose(value, many[key][0], rtol=1e-12)
    pickle.dumps(model.simulator)  # so that processes may simulate


# --- exact log-likelihoods ---------------------------------------------------------------------


def gaussian(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    variance = 0.01 if problem.definition == "paper" else 0.1
    return stats.multivariate_normal(theta, variance * np.eye(10)).logpdf(x)


def points(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    s1, s2, rho = theta[2] ** 2, theta[3] ** 2, np.tanh(theta[4])
    covariance = [[s1**2, rho * s1 * s2], [rho * s1 * s2, s2**2]]
    return stats.multivariate_normal(theta[:2], covariance).logpdf(x.reshape(4, 2)).sum()


def points_and_distractors(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    if problem.definition == "paper":
        return points(problem, x[:8], theta)
    values = np.empty(100)
    values[slcp.distractor_mixture().order] = x
    return points(problem, values[:8], theta)


def spikes(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    if problem.definition == "paper":
        trials = x.reshape(100, 10)
        spike, stimulus = trials[:, 0], trials[:, 1:]
    else:
        spike, noise = x, np.r_[np.zeros(8), bernoulli_glm.fixed_stimulus()]
        stimulus = np.array([noise[t : t + 9][::-1] for t in range(100)])
    return stats.bernoulli(expit(theta[0] + stimulus @ theta[1:])).logpmf(spike.astype(int)).sum()


def mixture(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    wide = stats.multivariate_normal(theta, np.eye(2)).pdf(x)
    return math.log(0.5 * wide + 0.5 * stats.multivariate_normal(theta, 0.01 * np.eye(2)).pdf(x))


def epidemic(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    paper = problem.definition == "paper"
    times = np.linspace(0, 160, 160)[::16] if paper else np.arange(0, 160, 17)
    beta, gamma = theta

    def derivative(_, state):
        return [-beta * state[0] * state[1] / 1e6, (beta * state[0] / 1e6 - gamma) * state[1]]

    solution = solve_ivp(
        derivative, (0, 160), [1e6 - 1, 1.0], "DOP853", times, rtol=1e-10, atol=1e-10
    )
    count = np.rint(1000 * x if paper else x)
    return stats.binom(1000, solution.y[1] / 1e6).logpmf(count).sum()


def hunt(problem: Task, x: np.ndarray, theta: np.ndarray) -> float:
    paper = problem.definition == "paper"
    times = np.linspace(0, 20, 20)[::2] if paper else np.linspace(0, 20, 201)[:190:21]
    a, b, c, d = theta

    def derivative(_, log_state):
        prey, predators = np.exp(log_state)
        return [a - b * predators, d * prey - c]

    start = np.log([30.0, 1.0])
    solution = solve_ivp(derivative, (0, 20), start, "DOP853", times, rtol=1e-11, atol=1e-11)
    medians = np.exp(solution.y)
    medians = medians + 1 if paper else np.clip(medians, 1e-10, 1e4)
    data = x.reshape(10, 2).T if paper else x.reshape(2, 10)
    return stats.lognorm(0.1, scale=medians).logpdf(data).sum()


INDEPENDENT = {
    "gaussian_linear": gaussian,
    "gaussian_linear_uniform": gaussian,
    "slcp": points,
    "slcp_distractors": points_and_distractors,
    "bernoulli_glm_raw": spikes,
    "gaussian_mixture": mixture,
    "sir": epidemic,
    "lotka_volterra": hunt,
}


@pytest.mark.parametrize(("name", "definition"), [e for e in BOTH if e[0] in INDEPENDENT])
def test_log_likelihood_agrees_with_an_independent_one(name, definition):
    problem = task(name, definition)
    theta, x = simulate(problem, 8)
    expected = [
        [INDEPENDENT[name](problem, row, other) for other in (own, 1.03 * own)]
        for row, own in zip(x, theta, strict=True)
    ]
    actual = problem.log_likelihood(x[:, None], np.stack([theta, 1.03 * theta], axis=1))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("definition", ["paper", "lueckmann", "wiqvist"])
def test_two_moons_density_is_that_of_polar_coordinates(definition):
    constants = two_moons.DEFINITIONS[definition]
    problem = task("two_moons", definition)
    theta = np.array([0.3, -0.5])
    # Integrated over the plane, in coordinates that follow the crescent, the density is one.
    radius = constants.radius + constants.radius_sd * np.linspace(-8, 8, 400)
    angle = np.linspace(-np.pi / 2, np.pi / 2, 101)
    r, a = np.meshgrid(radius, angle, indexing="ij")
    centre = np.array([constants.offset - 0.2 / math.sqrt(2), -0.8 / math.sqrt(2)])
    x = np.stack([r * np.cos(a), r * np.sin(a)], axis=-1) + centre
    density = np.exp(problem.log_likelihood(x, theta)) * r
    total = np.trapezoid(np.trapezoid(density, angle, axis=1), radius)
    assert total == pytest.approx(1.0, abs=1e-9)
    tip = np.array([constants.radius, 0.0])
    ahead, behind = problem.log_likelihood(np.stack([centre + tip, centre - tip]), theta)
    assert behind < ahead - 150
    # One parameter vector cannot be told from its reflection.
    np.testing.assert_allclose(problem.log_likelihood(x, [0.5, -0.3]), np.log(density / r))


def test_glm_statistics_are_sufficient():
    """Of spikes and statistics the log-likelihoods differ by the same for all parameters."""
    raw, summary = task("bernoulli_glm_raw", "benchmark"), task("bernoulli_glm", "benchmark")
    theta, x = simulate(raw, 5)
    assert not summary.is_normalized
    assert raw.is_normalized
    statistics = x @ bernoulli_glm.fixed_design()
    difference = raw.log_likelihood(x, theta[:, None]) - summary.log_likelihood(
        statistics, theta[:, None]
    )
    np.testing.assert_allclose(difference, np.zeros_like(difference), atol=1e-9)
    # The last nine of the correlation with zeros on either side.
    padded = np.pad(x[0], 8)
    correlation = np.correlate(padded, bernoulli_glm.fixed_stimulus(), "valid")[-9:]
    np.testing.assert_allclose(statistics[0, 1:], correlation, atol=1e-9)


@pytest.mark.parametrize(("name", "definition"), WITH_LIKELIHOOD)
def test_score_at_the_truth_has_mean_zero(name, definition):
    """Simulator against log-likelihood: of its own law only the expected score is zero."""
    problem = task(name, definition)
    theta, x = simulate(problem, 2000, seed=7)
    scores = []
    for i in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[i] = 1e-4
        high = problem.log_likelihood(x, theta + step)
        low = problem.log_likelihood(x, theta - step)
        scores.append((high - low) / 2e-4)
    bounded = np.array(scores)
    if "slcp" in name:  # scores have no variance where a scale comes near zero
        bounded = bounded[:, np.abs(theta[:, 2:4]).min(axis=1) > 0.5]
    keep = np.isfinite(bounded).all(axis=0)
    if name == "two_moons":  # differences across the fold are none of a derivative
        keep &= np.abs(theta.sum(axis=1)) > 1e-3
    assert keep.mean() > 0.99
    z = bounded[:, keep].mean(axis=1) / (bounded[:, keep].std(axis=1) / math.sqrt(keep.sum()))
    assert np.abs(z).max() < 4.2


# --- simulators --------------------------------------------------------------------------------


def test_spikes_and_statistics_follow_their_law():
    problem = task("bernoulli_glm", "paper")
    theta = np.repeat([[0.7, *np.linspace(-0.5, 0.5, 9)]], 20_000, axis=0)
    simulations = problem.model.simulate(parameters=theta, random_seed=1, progressbar=False)
    x = problem.flatten(simulations)
    # The logit is normal over designs; E[z v] follows from Stein's lemma.
    spread = np.linalg.norm(theta[0, 1:])
    grid = np.linspace(-9, 9, 4001)
    weight = stats.norm.pdf(grid) * (grid[1] - grid[0])
    p = expit(theta[0, 0] + spread * grid)
    mean = np.r_[(weight * p).sum(), (weight * p * (1 - p)).sum() * theta[0, 1:]]
    z = (x.mean(axis=0) - mean) / (x.std(axis=0) / math.sqrt(len(x)))
    assert np.abs(z).max() < 4
    variance = mean[0] * (1 - mean[0]) / 100
    assert x[:, 0].var() == pytest.approx(variance, rel=0.04)


def test_designs_are_drawn_or_given():
    paper, fixed = task("bernoulli_glm_raw", "paper"), task("bernoulli_glm_raw", "benchmark")
    drawn = paper.model.simulate(200, random_seed=1, progressbar=False).batch().conditions
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-3
    same = fixed.model.simulate(3, random_seed=1, progressbar=False).batch().conditions
    np.testing.assert_array_equal(same, np.repeat(bernoulli_glm.fixed_design()[None, :, 1:], 3, 0))


def test_distractors_of_the_paper_follow_their_law():
    problem = task("slcp_distractors", "paper")
    _, x = simulate(problem, 4000)
    pairs = x[:, 8:].reshape(-1, 46, 2)
    # Marginally the sum of a normal and a Student-t variable, nearly the normal.
    assert np.median(np.abs(pairs)) == pytest.approx(15 * stats.norm.ppf(0.75), rel=0.02)
    # Two pairs of a data set share their mean with probability 1/20: then they lie close together.
    close = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1) < 1.5
    # The difference of two t variables of scale 0.1 with two degrees of freedom.
    rng = np.random.default_rng(0)
    t = stats.multivariate_t(df=2, shape=0.01 * np.eye(2)).rvs((20_000, 2), random_state=rng)
    within = (np.linalg.norm(t[:, 0] - t[:, 1], axis=1) < 1.5).mean()
    chance = 1 - math.exp(-(1.5**2) / (4 * 225))
    assert stats.binomtest(int(close.sum()), 4000, within / 20 + 0.95 * chance).pvalue > 1e-3
    _, x_one_by_one = problem.test_set(400)
    assert stats.ks_2samp(x[:, 8:].ravel(), x_one_by_one[:, 8:].ravel()).pvalue > 1e-4


def test_distractors_of_the_benchmark_follow_their_law():
    problem = task("slcp_distractors", "benchmark")
    _, x = simulate(problem, 20_000)
    mixture = slcp.distractor_mixture()
    column = int(np.nonzero(mixture.order == 50)[0][0])  # value 42 of the distractors
    scales = np.linalg.norm(mixture.scale_tril[:, 42], axis=1)

    def distribution(value):
        parts = [
            stats.t.cdf((value - mean) / scale, df=2)
            for mean, scale in zip(mixture.means[:, 42], scales, strict=True)
        ]
        return np.mean(parts, axis=0)

    assert stats.kstest(x[:, column], distribution).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("sir", 5), ("lotka_volterra", 5), ("slcp_distractors", 5), ("bernoulli_glm_raw", 8)],
)
def test_ten_thousand_simulations_take_seconds(name, seconds):
    problem = task(name)
    problem.model.prior.draw(1, 0)
    start = time.perf_counter()
    simulate(problem, 10_000)
    assert time.perf_counter() - start < seconds


# --- differential equations --------------------------------------------------------------------


def test_a_linear_equation_has_its_closed_form():
    rate = np.array([0.01, 1.0, 300.0])
    times = [0.0, 0.5, 2.0]
    solution = integrate(lambda y, k: (-k * y[0], np.zeros_like(k)), [1.0, 2.0], [rate], times)
    np.testing.assert_allclose(solution[..., 0], np.exp(-np.outer(rate, times)), atol=1e-6)
    np.testing.assert_array_equal(solution[..., 1], 2.0)


def test_a_trajectory_that_explodes_is_lost_alone():
    solution = integrate(lambda y, k: (k * y[0] ** 2,), [1.0], [np.array([2.0, 0.5])], [0.25, 1.0])
    np.testing.assert_allclose(solution[:, 0, 0], [2.0, 1 / 0.875], rtol=1e-6)
    assert np.isnan(solution[0, 1, 0])
    assert solution[1, 1, 0] == pytest.approx(2.0)


def test_a_trajectory_that_turns_too_fast_is_lost_alone():
    """Posterior draws can be as far out as this: it would take days, and ends at once."""
    turn = lambda y, k: (-k * y[1], k * y[0])  # noqa: E731
    solution = integrate(turn, [1.0, 0.0], [np.array([1.0, 1e6])], [0.0, 2.0])
    np.testing.assert_allclose(solution[0, 1], [np.cos(2.0), np.sin(2.0)], atol=1e-5)
    assert np.isnan(solution[1, 1]).all()


def test_trajectories_over_the_prior_are_those_of_scipy():
    theta = task("lotka_volterra").model.prior.draw(20, 2)
    times = lotka_volterra.TIMES["benchmark"]
    ours = lotka_volterra.populations(theta, times)
    for (a, b, c, d), own in zip(theta, ours, strict=True):
        solution = solve_ivp(
            lambda _, s, a=a, b=b, c=c, d=d: [a - b * np.exp(s[1]), d * np.exp(s[0]) - c],
            (0, 20),
            np.log(lotka_volterra.START),
            "DOP853",
            times,
            rtol=1e-11,
            atol=1e-11,
        )
        np.testing.assert_allclose(own, solution.y.T, atol=3e-5)
    # The quantity that the equations conserve.
    a, b, c, d = theta.T[..., None]
    conserved = d * np.exp(ours[..., 0]) - c * ours[..., 0] + b * np.exp(ours[..., 1])
    conserved -= a * ours[..., 1]
    np.testing.assert_allclose(conserved, np.repeat(conserved[:, :1], 10, 1), rtol=1e-5, atol=1e-4)


def test_epidemics_end_at_their_final_size():
    beta, gamma = np.array([[0.5, 0.8, 2.0], [0.2, 0.1, 0.3]])
    log_state = integrate(
        sir._log_derivative, np.log([1 - 1e-6, 1e-6]), [beta, gamma], [0.0, 1000.0]
    )[:, 1]
    left = np.exp(log_state[:, 0])
    np.testing.assert_allclose(np.log(left), beta / gamma * (left - 1), rtol=1e-4)
    # Each trajectory has its own steps: what it is computed with makes no difference.
    alone = sir.infected_share(beta[:1], gamma[:1], sir.TIMES["paper"])
    together = sir.infected_share(beta, gamma, sir.TIMES["paper"])
    np.testing.assert_array_equal(alone, together[:1])


# --- the paper's test sets ---------------------------------------------------------------------


# Mean negative log-likelihoods over the paper's test sets, in units of data divided by `scale`.
@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("gaussian_linear", 1, -8.796),
        ("gaussian_linear_uniform", 1, -8.817),
        ("slcp", 30, -18.333),
        ("gaussian_mixture", 12, -3.811),
        ("two_moons", 1, -4.340),
    ],
)
def test_test_sets_have_the_known_log_likelihood(name, scale, expected):
    problem = task(name)
    theta, x = problem.test_set()
    assert theta.shape[0] == x.shape[0] == 1000
    actual = -problem.log_likelihood(x, theta).mean() - problem.x_size * math.log(scale)
    assert actual == pytest.approx(expected, abs=6e-4)


def test_test_sets_have_the_known_posterior():
    theta, x = task("gaussian_linear").test_set()
    posterior = stats.norm(x / 2, 0.1 / math.sqrt(2))
    assert -posterior.logpdf(theta).sum(axis=1).mean() == pytest.approx(-12.189, abs=6e-4)
    theta, x = task("gaussian_linear_uniform").test_set()
    posterior = stats.truncnorm((-1 - x) / 0.1, (1 - x) / 0.1, x, 0.1)
    assert -posterior.logpdf(theta).sum(axis=1).mean() == pytest.approx(-9.725, abs=6e-4)
    problem = task("gaussian_mixture")
    theta, x = problem.test_set()
    mass = sum(
        0.5 * np.prod(stats.norm.cdf((10 - x) / sd) - stats.norm.cdf((-10 - x) / sd), axis=1)
        for sd in (1.0, 0.1)
    )
    log_posterior = problem.log_likelihood(x, theta) - np.log(mass) + 2 * math.log(10)
    assert -log_posterior.mean() == pytest.approx(-3.577, abs=6e-4)


def test_the_raw_test_set_has_the_known_values():
    theta, x = task("bernoulli_glm_raw").test_set()
    np.testing.assert_allclose(theta[0, :3], [-1.32060023, -0.56996676, -1.63094681], atol=1e-8)
    assert (x.mean(), x.std()) == pytest.approx((0.0492665, 0.9733153), abs=1e-7)
    # The summarised set has the same parameters; its designs are the same, too.
    same_theta, statistics = task("bernoulli_glm").test_set()
    trials = x.reshape(1000, 100, 10)
    np.testing.assert_array_equal(theta, same_theta)
    sums = np.einsum("nt,ntk->nk", trials[..., 0], trials[..., 1:]) / 100
    np.testing.assert_allclose(statistics[:, 1:], sums, atol=1e-12)
    np.testing.assert_allclose(statistics[:, 0], trials[..., 0].mean(axis=1), atol=1e-12)


def test_the_test_set_of_predators_has_the_known_log_likelihood():
    """With the solver that made it: some of its trajectories are wrong, see the module."""
    theta, x = task("lotka_volterra").test_set()

    def log_medians(a, b, c, d):
        both = odeint(
            lambda s, _: (a * s[0] - b * s[0] * s[1], d * s[0] * s[1] - c * s[1]),
            lotka_volterra.START,
            np.linspace(0, 20, 20),
        )
        return np.log1p(np.maximum(both[::2], 0.0)).ravel()

    medians = np.stack([log_medians(*row) for row in theta])
    density = stats.norm(medians, 0.1).logpdf(np.log(x)) - np.log(x / 1000) - math.log(1000)
    actual = -density.sum(axis=1).mean() - 20 * math.log(1000)
    assert actual == pytest.approx(-113.353, abs=6e-4)
    ours = lotka_volterra.populations(theta, lotka_volterra.TIMES["paper"])
    wrong = np.abs(np.log1p(np.exp(ours)).reshape(1000, 20) - medians).max(axis=1)
    assert 1 <= (wrong > 0.1).sum() <= 10
    assert np.quantile(wrong, 0.95) < 1e-4


@pytest.mark.parametrize("name", ["sir", "slcp_distractors"])
def test_test_sets_follow_the_law_of_the_simulator(name):
    problem = task(name)
    theta, x = problem.test_set(400)
    other_theta, other_x = simulate(problem, 4000)
    for i in range(theta.shape[1]):
        assert stats.ks_2samp(theta[:, i], other_theta[:, i]).pvalue > 1e-4
    for i in range(1, x.shape[1], 7):
        assert stats.ks_2samp(x[:, i], other_x[:, i]).pvalue > 1e-4


# --- exact posterior draws ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "definition"),
    [each for each in ALL if task(*each).posterior_sampler is not None],
)
def test_exact_posterior_draws_are_calibrated(name, definition):
    """Ranks of true parameters among exact draws are uniform."""
    problem = task(name, definition)
    theta, x = simulate(problem, 400, seed=3)
    ranks = np.array(
        [
            (problem.sample_posterior(row, 99, random_seed=i) < own).sum(axis=0)
            for i, (row, own) in enumerate(zip(x, theta, strict=True))
        ]
    )
    rng = np.random.default_rng(0)
    for each in ranks.T:
        assert stats.kstest((each + rng.random(400)) / 100, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("mean", [-0.2, 1.5, 6.0, -6.0])
def test_truncated_normal_draws_follow_their_law(mean):
    draws = truncated_normal(np.random.default_rng(1), np.array([mean]), 0.1, -1.0, 1.0, 5000)
    law = stats.truncnorm((-1 - mean) / 0.1, (1 - mean) / 0.1, mean, 0.1)
    assert stats.kstest(draws[:, 0], law.cdf).pvalue > 1e-3


def test_impossible_data_have_no_exact_draws():
    with pytest.raises(ValueError, match="cannot come from"):
        task("two_moons").sample_posterior([5.0, 0.0], 10)
    with pytest.raises(ValueError, match="too far outside"):
        task("gaussian_mixture").sample_posterior([99.0, 0.0], 10)
    constants, rng = two_moons.DEFINITIONS["wiqvist"], np.random.default_rng(1)
    for wrong in (np.array([np.nan, 0.0]), np.zeros(3)):
        with pytest.raises(ValueError, match="expected two finite coordinates"):
            two_moons.sample_posterior(rng, wrong, 10, constants=constants)


def test_the_papers_reference_draws_of_two_moons():
    """At x = 0, without the rejections: the same up to what they reject."""
    constants = two_moons.DEFINITIONS["wiqvist"]
    rng = np.random.default_rng(4)
    free = two_moons.sample_posterior(rng, np.zeros(2), 20_000, constants=constants, truncate=False)
    exact = two_moons.sample_posterior(rng, np.zeros(2), 20_000, constants=constants)
    assert (np.abs(free) > constants.bound).mean() < 0.01
    for i in range(2):
        assert stats.ks_2samp(free[:, i], exact[:, i]).pvalue > 1e-3
    # Both moons are as likely.
    assert stats.binomtest(int((exact.sum(axis=1) > 0).sum()), 20_000).pvalue > 1e-3


# --- reference posteriors of the benchmark -----------------------------------------------------


def metropolis_shifts(problem: Task, x: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Standardised changes of moments over Metropolis steps that start from posterior draws.

    If the draws are from the posterior of our log density, the steps change no expectation.
    """
    rng = np.random.default_rng(0)
    n = len(draws)

    def log_density(theta):
        value = problem.model.prior.log_prob_constrained(theta)
        inside = np.isfinite(value)
        value[inside] += problem.log_likelihood(x, theta[inside])
        return value

    def moments(theta, log_prob):
        return np.column_stack([log_prob, theta, np.square(theta - draws.mean(axis=0))])

    theta, log_prob = draws.copy(), log_density(draws)
    before = moments(theta, log_prob)
    for step in range(4):
        scale = (0.5, 0.1)[step % 2]
        move = scale * (draws[rng.permutation(n)] - draws[rng.permutation(n)])
        proposed = log_density(theta + move)
        accepted = np.log(rng.random(n)) < proposed - log_prob
        theta = np.where(accepted[:, None], theta + move, theta)
        log_prob = np.where(accepted, proposed, log_prob)
    change = moments(theta, log_prob) - before
    return change.mean(axis=0) / (change.std(axis=0) / math.sqrt(n))


@pytest.mark.parametrize("name", list(TASKS))
def test_reference_posteriors_are_those_of_our_densities(name, reference: Path):
    problem = task(name, "benchmark")
    with np.load(reference / "sbibm" / f"{name}.npz") as file:
        x, draws = file["observation"], file["reference_posterior"].astype(np.float64)
    shifts = [
        metropolis_shifts(problem, row, own[:4000]) for row, own in zip(x, draws, strict=True)
    ]
    assert np.abs(shifts).max() < 4.5


def test_reference_posteriors_are_not_those_of_other_definitions(reference: Path):
    """The test above would see a wrong density."""
    for name, definition, factor in (
        ("gaussian_linear", "paper", 1.0),
        ("sir", "benchmark", 1.03),
        ("two_moons", "benchmark", 0.97),
        ("slcp", "benchmark", 1.2),
    ):
        problem = task(name, definition)
        with np.load(reference / "sbibm" / f"{name}.npz") as file:
            x, draws = file["observation"][1], file["reference_posterior"][1, :4000]
        shifts = metropolis_shifts(problem, factor * x, draws.astype(np.float64))
        assert np.abs(shifts).max() > 6, name


def test_exact_draws_are_those_of_the_reference(reference: Path):
    for name in ("gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture", "two_moons"):
        problem = task(name, "benchmark")
        with np.load(reference / "sbibm" / f"{name}.npz") as file:
            x, draws = file["observation"], file["reference_posterior"]
        for row, own in zip(x, draws, strict=True):
            exact = problem.sample_posterior(row, 10_000, random_seed=1)
            for column in range(own.shape[1]):
                assert stats.ks_2samp(exact[:, column], own[:, column]).pvalue > 1e-5


def test_constants_are_those_of_the_benchmark(reference: Path):
    with np.load(reference / "sbibm" / "constants.npz") as file:
        constants = dict(file)
    design = bernoulli_glm.fixed_design()
    np.testing.assert_array_equal(design, constants["bernoulli_glm_design_matrix"])
    ours = slcp.distractor_mixture()
    np.testing.assert_allclose(ours.means, constants["slcp_distractors_loc"], atol=1e-12)
    np.testing.assert_allclose(
        ours.scale_tril, constants["slcp_distractors_scale_tril"], atol=1e-12
    )
    np.testing.assert_array_equal(ours.order, constants["slcp_distractors_permutation"])
    with np.load(reference / "sbibm" / "bernoulli_glm.npz") as file:
        statistics = file["observation"]
    with np.load(reference / "sbibm" / "bernoulli_glm_raw.npz") as file:
        np.testing.assert_allclose(file["observation"] @ design, statistics, atol=1e-4)


# --- bad input ---------------------------------------------------------------------------------


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no task 'moons'; the tasks are gaussian_linear, "):
        task("moons")
    for name in TASKS:
        with pytest.raises(ValueError, match=rf"{name} has no definition 'other'.*'benchmark'"):
            task(name, "other")


def test_what_a_task_does_not_have():
    with pytest.raises(ValueError, match="no likelihood in closed form"):
        task("bernoulli_glm").log_likelihood(np.zeros(10), np.zeros(10))
    with pytest.raises(ValueError, match="no exact posterior sampler"):
        task("sir").sample_posterior(np.zeros(10), 5)
    with pytest.raises(ValueError, match="take definition='paper'"):
        task("slcp", "benchmark").test_set()


def test_wrong_shapes():
    problem = task("two_moons")
    with pytest.raises(ValueError, match=r"x has shape \(3,\).* expects \(\.\.\., 2\)"):
        problem.log_likelihood(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"theta has shape \(5,\)"):
        problem.log_likelihood(np.zeros(2), np.zeros(5))
    with pytest.raises(ValueError, match="expected one data set"):
        problem.sample_posterior(np.zeros((3, 2)), 5)
    with pytest.raises(ValueError, match=r"\(sets, 2\)"):
        problem.data(np.zeros((3, 3, 2)))
