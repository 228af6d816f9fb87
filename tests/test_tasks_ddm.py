"""The diffusion model: the closed form against series and integrals, the simulator against it."""

from __future__ import annotations

import pickle
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from modes import PYTHON
from scipy.integrate import quad
from scipy.stats import binomtest, kstest

from jana_pymc.tasks import ddm
from jana_pymc.tasks.wiener import (
    wiener_cdf,
    wiener_log_prob,
    wiener_logp,
    wiener_upper_probability,
)

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
LOWER = np.array([-5.5, 0.4, 0.1, 0.28])
UPPER = np.array([5.5, 3.1, 1.1, 0.72])
EXTREMES = [
    (0.0, 1.0, 0.3, 0.5),
    (0.0, 0.4, 0.1, 0.28),
    (0.3, 3.1, 0.1, 0.72),
    (1.0, 1.5, 0.3, 0.5),
    (-1.5, 2.0, 1.1, 0.3),
    (5.5, 0.4, 0.1, 0.28),
    (-5.5, 0.4, 0.1, 0.28),
    (5.5, 3.1, 1.1, 0.28),
    (-5.5, 3.1, 1.1, 0.72),
    (-5.5, 3.1, 0.1, 0.28),
]


def parameters_and_trials(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    parameters = rng.uniform(LOWER, UPPER, (n, 4)).T
    scaled_times = 10 ** rng.uniform(-2.5, 0.7, n)
    scaled_times[: n // 4] = rng.uniform(0.4, 0.6, n // 4)  # where the two series meet
    rt = parameters[2] + scaled_times * parameters[1] ** 2
    return rt, rng.integers(0, 2, n), parameters


# --- the closed form ---------------------------------------------------------------------------


def test_density_is_the_sum_over_mirror_images() -> None:
    mpmath = pytest.importorskip("mpmath")
    rt, response, parameters = parameters_and_trials(80)
    expected = []
    with mpmath.workdps(60):
        for t, upper, v, a, t0, w in zip(rt, response, *parameters, strict=True):
            t, v, a, t0, w = (mpmath.mpf(float(value)) for value in (t, v, a, t0, w))
            v, w = (-v, 1 - w) if upper else (v, w)
            scaled = (t - t0) / a**2
            images = [
                (w + 2 * k) * mpmath.exp(-((w + 2 * k) ** 2) / (2 * scaled)) for k in range(-30, 31)
            ]
            density = mpmath.fsum(images) / mpmath.sqrt(2 * mpmath.pi * scaled**3) / a**2
            expected.append(float(mpmath.log(density) - v * a * w - v**2 * (t - t0) / 2))
    actual = wiener_log_prob(rt, response, *parameters)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("theta", EXTREMES)
@pytest.mark.parametrize("response", [0, 1])
def test_distribution_function_is_the_integral_of_the_density(theta: tuple, response: int) -> None:
    _, a, t0, _ = theta
    edges = t0 + a**2 * np.array([0.0, 0.02, 0.1, 0.3, 0.499, 0.501, 1.0, 2.0])
    pieces = [
        quad(lambda t: np.exp(wiener_log_prob(t, response, *theta)), low, high, epsabs=1e-13)[0]
        for low, high in pairwise(edges)
    ]
    np.testing.assert_allclose(
        wiener_cdf(edges[1:], response, *theta), np.cumsum(pieces), rtol=1e-9, atol=1e-12
    )


def test_responses_share_all_probability() -> None:
    _, _, (v, a, t0, w) = parameters_and_trials(200)
    upper = wiener_cdf(np.inf, 1, v, a, t0, w)
    np.testing.assert_allclose(upper, wiener_upper_probability(v, a, w), rtol=1e-12)
    np.testing.assert_allclose(upper + wiener_cdf(np.inf, 0, v, a, t0, w), 1.0, rtol=1e-12)
    assert wiener_upper_probability(0.0, 2.0, 0.3) == pytest.approx(0.3)
    assert wiener_upper_probability(800.0, 2.0, 0.3) == 1.0
    assert wiener_upper_probability(-800.0, 2.0, 0.3) == 0.0
    np.testing.assert_array_equal(wiener_cdf([0.1, 0.2], 1, 1.0, 1.0, 0.2, 0.5), 0.0)


def test_log_density_outside_the_support_and_of_missing_values() -> None:
    inside = {"rt": 0.7, "response": 1, "v": 1.0, "a": 1.5, "t0": 0.3, "w": 0.5}
    assert np.isfinite(wiener_log_prob(**inside))
    for name, value in (("rt", 0.3), ("rt", -1.0), ("a", 0.0), ("a", -1.0), ("w", 0.0), ("w", 1.0)):
        assert wiener_log_prob(**(inside | {name: value})) == -np.inf
        assert wiener_logp(**(inside | {name: value})).eval(mode=PYTHON) == -np.inf
    for name in inside:
        assert np.isnan(wiener_log_prob(**(inside | {name: np.nan})))


# --- the PyTensor graph ------------------------------------------------------------------------


def test_graph_agrees_with_numpy_and_its_gradient_with_differences() -> None:
    rt, response, parameters = parameters_and_trials(400, seed=1)
    variables = [pt.dvector(name) for name in ("v", "a", "t0", "w")]
    logp = wiener_logp(rt, response, *variables)
    evaluate = pytensor.function(variables, [logp, *pytensor.grad(logp.sum(), variables)])
    value, *gradient = evaluate(*parameters)
    np.testing.assert_allclose(
        value, wiener_log_prob(rt, response, *parameters), rtol=1e-12, atol=1e-12
    )
    for i in range(4):
        step = np.zeros((4, 1))
        step[i] = 1e-5
        high = wiener_log_prob(rt, response, *(parameters + step))
        low = wiener_log_prob(rt, response, *(parameters - step))
        # The differences' own truncation error is largest for the shortest decision times.
        np.testing.assert_allclose(gradient[i], (high - low) / 2e-5, rtol=2e-4, atol=1e-5)


def test_graph_of_one_parameter_set_broadcasts_and_has_no_gradient_outside() -> None:
    theta = pt.dvector("theta")
    rt, response = np.array([0.25, 0.3, 0.6, 5.0]), np.array([0, 1, 1, 0])
    logp = wiener_logp(rt, response, theta[0], theta[1], theta[2], theta[3])
    gradients = [pytensor.grad(part.sum(), theta) for part in (logp[:2], logp[2:])]
    evaluate = pytensor.function([theta], [logp, *gradients])
    value, outside, inside = evaluate([1.0, 1.5, 0.3, 0.5])
    np.testing.assert_allclose(value, wiener_log_prob(rt, response, 1.0, 1.5, 0.3, 0.5))
    np.testing.assert_array_equal(outside, 0.0)
    assert np.isfinite(inside).all() and (inside != 0).all()


# --- the simulator -----------------------------------------------------------------------------


@pytest.mark.parametrize("theta", EXTREMES)
def test_simulated_trials_follow_the_exact_law(theta: tuple) -> None:
    v, a, t0, w = theta
    n = 40_000
    trials = ddm.simulator(np.random.default_rng(11), v, a, t0, w, n_obs=n)
    p_upper = float(wiener_upper_probability(v, a, w))
    assert binomtest(int(trials["response"].sum()), n, p_upper).pvalue > 1e-3
    for response, probability in ((0, 1 - p_upper), (1, p_upper)):
        rt = trials["rt"][trials["response"] == response]
        if rt.size > 20:
            ranks = wiener_cdf(rt, response, *theta) / probability
            assert kstest(ranks, "uniform").pvalue > 1e-3


def test_simulated_trials_follow_the_exact_law_over_the_proposal() -> None:
    rng = np.random.default_rng(5)
    v, a, t0, w = rng.uniform(LOWER, UPPER, (2000, 4)).T[..., None]
    trials = ddm.simulator(rng, v, a, t0, w, n_obs=200)
    p_upper = wiener_upper_probability(v, a, w)
    total = np.where(trials["response"] == 1, p_upper, 1 - p_upper)
    ranks = wiener_cdf(trials["rt"], trials["response"], v, a, t0, w) / total
    assert kstest(ranks.ravel(), "uniform").pvalue > 1e-3
    surplus = (trials["response"] - p_upper).sum() / np.sqrt(200 * (p_upper * (1 - p_upper)).sum())
    assert abs(surplus) < 3.3


def test_simulator_reproduces_and_keeps_the_shape_of_its_parameters() -> None:
    def run(*theta: object) -> dict[str, np.ndarray]:
        return ddm.simulator(np.random.default_rng(3), *theta, n_obs=7)

    one = run(1.0, 1.5, 0.3, 0.5)
    assert one["rt"].shape == one["response"].shape == (7,)
    per_trial = run(np.full(7, 1.0), 1.5, 0.3, 0.5)
    column = run(*np.array([[1.0], [1.5], [0.3], [0.5]])[:, :, None])
    for name, values in one.items():
        np.testing.assert_array_equal(values, run(1.0, 1.5, 0.3, 0.5)[name])
        np.testing.assert_array_equal(values, per_trial[name])
        np.testing.assert_array_equal(values[None], column[name])
    assert run(np.zeros((5, 1)), 1.0, 0.2, np.full((5, 1), 0.4))["rt"].shape == (5, 7)
    assert set(np.unique(one["response"])) <= {0, 1}
    assert (one["rt"] > 0.3).all()


def test_simulator_names_the_parameter_at_fault() -> None:
    good = {"v": 1.0, "a": 1.5, "t0": 0.3, "w": 0.5}
    for name, value in (("v", np.nan), ("t0", np.inf), ("a", 0.0), ("w", 1.0), ("w", -0.1)):
        with pytest.raises(ValueError, match=f"'{name}'"):
            ddm.simulator(np.random.default_rng(0), **(good | {name: value}), n_obs=3)


def test_simulator_is_fast_enough_to_train_online() -> None:
    theta = np.random.default_rng(0).uniform(LOWER, UPPER, (1000, 4)).T[..., None]
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        ddm.simulator(np.random.default_rng(seed), *theta, n_obs=100)
        seconds.append(time.perf_counter() - start)
    assert 100_000 / min(seconds) > 100_000  # trials a second; a quiet core does 50 times that


def test_simulator_can_be_sent_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(ddm.simulator)) is ddm.simulator


# --- the generative model ----------------------------------------------------------------------


def test_generative_model_simulates_within_prior_and_proposal() -> None:
    model = ddm.ddm(n_obs=(8, 12))
    prior = model.simulate(300, random_seed=1, progressbar=False)
    proposal = model.simulate(300, source="proposal", random_seed=1, progressbar=False)
    assert tuple(model.layout.names) == ("v", "a", "t0", "w")
    assert len(prior) == len(proposal) == 300
    for simulations, lower, upper in (
        (prior, [-5, 0.5, 0.2, 0.3], [5, 3, 1, 0.7]),
        (proposal, LOWER, UPPER),
    ):
        assert (simulations.parameters >= lower).all() and (simulations.parameters <= upper).all()
        assert set(np.unique(simulations.dataset["response"])) == {0, 1}
        assert (simulations.dataset["rt"] > simulations.dataset["t0"]).all()
    assert not (proposal.parameters >= [-5, 0.5, 0.2, 0.3]).all()


# --- the paper's data sets ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    if not (REFERENCE / "ddm_exact.npz").exists():
        pytest.skip("the reference data sets are not beside the repository")
    with (
        np.load(REFERENCE / "ddm_datasets.npz") as datasets,
        np.load(REFERENCE / "ddm_exact.npz") as exact,
    ):
        return {**datasets, **exact}


def test_log_likelihood_of_the_reference_data_sets(reference: dict[str, np.ndarray]) -> None:
    signed_rt = reference["signed_rt"].astype(float)
    data = {"rt": np.abs(signed_rt), "response": (signed_rt > 0).astype(int)}
    theta = reference["theta"].astype(float).T[..., None]
    pointwise = ddm.log_likelihood(data, dict(zip(("v", "a", "t0", "w"), theta, strict=True)))
    np.testing.assert_array_equal(np.isfinite(pointwise).sum(axis=1), reference["n_trials"])
    # Over 3,200 data sets, of which these are half: .406557.
    assert np.nanmean(pointwise) == pytest.approx(0.4066, abs=0.02)


def test_log_likelihood_gives_the_reference_posterior_density(
    reference: dict[str, np.ndarray],
) -> None:
    signed_rt = reference["signed_rt"][reference["dataset"]].astype(float)[:, None]
    draws = np.moveaxis(reference["posterior_draws"], -1, 0)[..., None]  # (4, sets, draws, 1)
    pointwise = wiener_log_prob(np.abs(signed_rt), signed_rt > 0, *draws)
    lpd = np.nansum(np.log(np.exp(pointwise).mean(axis=1)), axis=1)
    # Both are Monte Carlo means over the posterior, here of 500 draws.
    difference = lpd - reference["in_sample_lpd"]
    assert abs(difference.mean()) < 0.05
    assert np.abs(difference).max() < 1.0
