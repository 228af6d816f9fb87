"""Score correction: what is removed, what is left alone, and who may use it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import torch
import xarray as xr
from untrained import untrained

import jana_pymc as jana
from jana_pymc.approximators.score_bias import simulate
from jana_pymc.inference_data import to_inference_data
from jana_pymc.plots import plot_score_correction
from jana_pymc.pytensor.score_correction import fitted

pytestmark = pytest.mark.bridge


def normal_model(dose: bool = False) -> jana.GenerativeModel:
    """x ~ N(mu + slope, exp(log_sd)), where the slope is 0 or that of a dose."""
    with pm.Model() as prior:
        pm.Normal("mu")
        pm.Normal("log_sd", 0.0, 0.5)

    def simulator(rng, mu, log_sd, n_obs, dose=0.0):
        shape = np.broadcast_shapes(np.shape(mu), np.shape(dose), (n_obs,))
        return {"x": mu * (1.0 + dose) + np.exp(log_sd) * rng.standard_normal(shape)}

    if not dose:
        return jana.GenerativeModel(
            prior,
            lambda rng, mu, log_sd, n_obs: simulator(rng, mu, log_sd, n_obs),
            observables={"x": jana.Continuous()},
            n_obs=100,
            vectorized=True,
        )
    return jana.GenerativeModel(
        prior,
        simulator,
        observables={"x": jana.Continuous()},
        conditions={"dose": jana.Continuous()},
        design=lambda rng, n_obs: {"dose": rng.uniform(size=n_obs)},
        n_obs=100,
        vectorized=True,
    )


def normal(shift: float = 0.0, stretch: float = 0.0) -> jana.LikelihoodApproximator:
    """The density of the model, its mean and scale wrong by a little that depends on both."""

    def log_prob(x, theta):
        mean = theta[:, 0] + shift * (1.0 + 0.5 * theta[:, 0] ** 2)
        log_sd = theta[:, 1] + stretch
        return torch.distributions.Normal(mean, log_sd.exp()).log_prob(x)

    return jana.from_torch(
        log_prob,
        parameter_names=("mu", "log_sd"),
        region={"mu": (-20.0, 20.0), "log_sd": (-5.0, 5.0)},
        dtype=torch.float64,
    )


def around(mu: float, log_sd: float, sd: float, n: int = 500) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {"mu": rng.normal(mu, sd, n), "log_sd": rng.normal(log_sd, sd, n)}


def posterior_of(values: dict[str, np.ndarray]):
    """Draws as any sampler returns them."""
    variables = {
        name: (("chain", "draw", *(f"{name}_dim_{i}" for i in range(each.ndim - 2))), each)
        for name, each in values.items()
    }
    return to_inference_data({"posterior": xr.Dataset(variables)})


def log_densities(likelihood, x, grid, correction=None, backend="auto"):
    """Log likelihood of all data for each parameter vector of a grid."""
    mu, log_sd = pt.scalars("mu", "log_sd")
    logp = likelihood.logp(x, mu=mu, log_sd=log_sd, correction=correction, backend=backend).sum()
    evaluate = logp.eval
    return np.array([evaluate({mu: a, log_sd: b}) for a, b in grid])


def moments(grid, log_density):
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    mean = weights @ grid
    return mean, np.sqrt(weights @ (grid - mean) ** 2)


def test_simulators_of_the_correction_compute_with_whole_numbers_of_conditions() -> None:
    with pm.Model() as prior:
        pm.Normal("mu")
    model = jana.GenerativeModel(
        prior,
        lambda rng, mu, n, n_obs: {"x": 3 * n},
        observables={"x": jana.Continuous()},
        conditions={"n": jana.Count(upper=100)},
        design=lambda rng, n_obs: {"n": rng.integers(0, 101, n_obs)},
        n_obs=2,
    )
    known = np.array([[0.0], [50.0], [100.0]])
    seed = np.random.SeedSequence(1)
    made, given = simulate(model, np.zeros((3, 1)), known, seed, progressbar=False)
    np.testing.assert_array_equal(given, known)
    np.testing.assert_array_equal(made.batch().observables, 3.0 * known[:, None] + np.zeros((2, 1)))


@pytest.mark.usefixtures("interpreted")
def test_corrected_posterior_is_the_exact_one() -> None:
    n = 2_000
    x = np.random.default_rng(1).normal(0.5, 1.2, n)
    at = x.mean(), np.log(x.std())
    sds = np.array([x.std() / np.sqrt(n), 1 / np.sqrt(2 * n)])
    axis = np.linspace(-5, 5, 21)
    grid = np.array([(at[0] + a * sds[0], at[1] + b * sds[1]) for a in axis for b in axis])
    exact = log_densities(normal(), x, grid)
    biased = normal(shift=0.05, stretch=0.02)
    correction = biased.score_correction(
        around(*at, 0.05), normal_model(), n_simulations=8_000, random_seed=1, progressbar=False
    )
    wrong = moments(grid, log_densities(biased, x, grid))
    right = moments(grid, log_densities(biased, x, grid, correction))
    mean, sd = moments(grid, exact)
    error = np.sqrt(n / 800_000)
    assert (np.abs(wrong[0] - mean) / sd > 1.0).all()
    assert (np.abs(right[0] - mean) / sd < 3 * error + 0.05).all()
    np.testing.assert_allclose(right[1] / sd, 1.0, atol=0.04)
    # What it says of itself: the shift that it makes, in posterior sds.
    shift = correction.shift(n)
    assert shift["standard_error"].iloc[0] == pytest.approx(error)
    expected = (right[0] - wrong[0]) / sd
    np.testing.assert_allclose(shift["shift"], expected, atol=0.15 * np.abs(expected).max())


def test_nothing_is_made_of_an_exact_density() -> None:
    correction = normal().score_correction(
        around(0.5, 0.2, 0.1), normal_model(), n_simulations=4_000, random_seed=2, progressbar=False
    )
    shift = correction.shift(1_000)
    assert (shift["shift"].abs() < 3 * shift["standard_error"]).all()
    # The Fisher information of a normal law: 1/σ² of the mean, 2 of log σ.
    information = np.array(correction.information) / np.outer(correction.sd, correction.sd)
    np.testing.assert_allclose(information[0, 0], np.exp(-0.4), rtol=0.1)
    np.testing.assert_allclose(information[1, 1], 2.0, rtol=0.1)


@pytest.mark.usefixtures("interpreted")
def test_an_unnormalised_density_is_normalised() -> None:
    def log_prob(x, theta):
        exact = torch.distributions.Normal(theta[:, 0], theta[:, 1].exp()).log_prob(x)
        return exact + 0.3 * theta[:, 0] + 0.1 * theta[:, 0] * theta[:, 1]

    likelihood = jana.from_torch(log_prob, parameter_names=("mu", "log_sd"), dtype=torch.float64)
    correction = likelihood.score_correction(
        around(0.0, 0.0, 0.3),
        normal_model(),
        n_simulations=20_000,
        random_seed=2,
        progressbar=False,
    )
    x = np.array([0.1, -0.2])
    grid = np.array([(0.0, 0.0), (0.2, 0.1), (-0.3, 0.2)])
    gap = log_densities(likelihood, x, grid, correction) - log_densities(normal(), x, grid)
    np.testing.assert_allclose(gap - gap[0], 0.0, atol=0.01)


@pytest.mark.usefixtures("interpreted")
def test_rows_have_the_correction_of_their_own_parameters() -> None:
    likelihood = normal(shift=0.1)
    correction = likelihood.score_correction(
        around(0.0, 0.0, 0.5), normal_model(), n_simulations=2_000, random_seed=1, progressbar=False
    )
    mu, subject, x = np.array([-0.5, 0.1, 0.7]), np.array([2, 0, 1, 2]), np.zeros(4)
    group = pt.as_tensor_variable(mu)[subject]
    grouped = likelihood.logp(x, mu=group, log_sd=0.1, correction=correction).eval()
    single = [
        likelihood.logp(np.zeros(1), mu=m, log_sd=0.1, correction=correction).eval()[0] for m in mu
    ]
    np.testing.assert_allclose(grouped, np.array(single)[subject])
    with pm.Model() as model:
        value = pm.Normal("mu", shape=3)
        likelihood("y", mu=value[subject], log_sd=0.1, observed=x, correction=correction)
    logp = model.compile_logp(vars=model.observed_RVs, sum=False)({"mu": mu})[0]
    np.testing.assert_allclose(logp, grouped)


@pytest.mark.usefixtures("interpreted")
def test_gradient_is_that_of_the_value() -> None:
    likelihood = normal(shift=0.1)
    correction = likelihood.score_correction(
        around(0.0, 0.0, 0.2), normal_model(), n_simulations=2_000, random_seed=1, progressbar=False
    )
    x = np.array([0.3, -1.0, 0.4])
    mu, log_sd = pt.scalars("mu", "log_sd")
    logp = likelihood.logp(x, mu=mu, log_sd=log_sd, correction=correction).sum()
    slope = pt.stack(pt.grad(logp, [mu, log_sd]))
    for point in ((0.1, -0.1), (3.0, 2.0)):  # within what it was made for, and far outside
        given = dict(zip((mu, log_sd), point, strict=True))
        numeric = [
            (logp.eval({**given, v: given[v] + 1e-5}) - logp.eval({**given, v: given[v] - 1e-5}))
            / 2e-5
            for v in (mu, log_sd)
        ]
        np.testing.assert_allclose(slope.eval(given), numeric, rtol=1e-5, atol=1e-7)


def test_least_squares_finds_the_gradient_of_a_quadratic_function() -> None:
    rng = np.random.default_rng(5)
    theta, known = rng.normal(2.0, 0.3, (400, 3)), rng.normal(size=(400, 2))
    curvature = np.array([[1.0, 0.5, 0.0], [0.5, -2.0, 0.3], [0.0, 0.3, 0.7]])
    crossing = rng.normal(size=(3, 2))
    noise = rng.normal(size=(400, 3)) * 1e-6
    scores = 0.2 + theta @ curvature + known @ crossing.T + noise
    found = fitted("hash", ("a", "b", "c"), theta, known, scores, n_obs=10, degree=2)
    mean, sd = np.array(found.mean), np.array(found.sd)
    np.testing.assert_allclose(np.array(found.curvature) / np.outer(sd, sd), curvature, atol=1e-4)
    assert np.array_equal(found.curvature, np.transpose(found.curvature))
    matrix, k = pt.matrix(), pt.matrix()
    value = found.at(matrix, None, k).sum()
    slope = pt.grad(value, matrix).eval({matrix: theta[:1], k: known[:1]})
    np.testing.assert_allclose(slope, scores[:1], atol=1e-4)
    np.testing.assert_allclose(np.array(found.bias), (scores * sd).mean(0))
    assert mean == pytest.approx(theta.mean(0))


@pytest.mark.usefixtures("interpreted")
def test_beyond_its_parameters_it_goes_on_as_the_tangent() -> None:
    rng = np.random.default_rng(5)
    theta, known = rng.uniform(1.0, 3.0, (400, 3)), rng.normal(size=(400, 2))
    curvature = np.array([[1.0, 0.5, 0.0], [0.5, -2.0, 0.3], [0.0, 0.3, 0.7]])
    scores = 0.2 + theta @ curvature + known @ rng.normal(size=(2, 3))
    correction = fitted("hash", ("a", "b", "c"), theta, known, scores, n_obs=10, degree=2)
    matrix, k = pt.matrix(), pt.matrix()
    value = correction.at(matrix, None, k).sum()
    both = pytensor.function([matrix, k], [value, pt.grad(value, matrix)[0]])
    # Across an edge, and across a corner.
    for edge in ([correction.high[0], 2.0, 2.0], [correction.high[0], correction.low[1], 2.0]):
        outwards = np.sign(np.array(edge) - 2.0)
        (before, slope), (after, beyond) = (
            both([edge + step * outwards], known[:1]) for step in (-1e-9, 1e-9)
        )
        assert after == pytest.approx(before, abs=1e-7)
        np.testing.assert_allclose(beyond, slope, atol=1e-7)
        far, slope_there = both([edge + 5.0 * outwards], known[:1])
        assert far == pytest.approx(before + 5.0 * slope @ outwards, abs=1e-6)
        assert slope_there @ outwards == pytest.approx(slope @ outwards, abs=1e-6)


def test_few_points_get_a_constant_bias() -> None:
    correction = normal(shift=0.1).score_correction(
        {"mu": 0.5, "log_sd": 0.0},
        normal_model(),
        n_simulations=2_000,
        random_seed=1,
        progressbar=False,
    )
    assert not np.any(correction.curvature)
    # The bias of N(μ + d, 1) at N(μ, 1) data: score (x − μ − d)(1 + d′) has the mean −d (1 + d′).
    d, slope = 0.1 * (1 + 0.5 * 0.25), 1 + 0.1 * 0.5
    assert correction.slope[0] == pytest.approx(-d * slope, abs=0.01)


@pytest.mark.parametrize("value", [0.2, 0.25, 0.3, 0.1])
def test_a_constant_parameter_is_corrected(value: float) -> None:
    """The mean of 300 times 0.2 is not 0.2: a standard deviation of 7e-15 is none."""
    stretch, n = 0.02, 1_000
    points = {**around(0.5, 0.0, 0.1, n=300), "log_sd": np.full(300, value)}
    correction = normal(stretch=stretch).score_correction(
        points, normal_model(), n_simulations=4_000, random_seed=1, progressbar=False
    )
    assert correction.mean[1] == value and correction.sd[1] == 1.0
    # The score of log σ is (x − μ)² exp(−2 s) / σ² − 1, whatever σ.
    bias, information = np.exp(-2 * stretch) - 1, 2 * np.exp(-4 * stretch)
    error = np.sqrt(information / correction.n_observations)
    assert correction.slope[1] == pytest.approx(bias, abs=3 * error)
    shift = correction.shift(n).loc["log_sd"]
    expected = -np.sqrt(n / information) * bias
    assert shift["shift"] == pytest.approx(expected, abs=3 * shift["standard_error"])


def test_a_selection_of_data_sets_is_refused() -> None:
    """Of data sets with a mean above −0.15, those that are no failures, the score is positive."""
    with pm.Model() as prior:
        pm.Normal("mu")
        pm.Normal("log_sd")

    def failing_below(limit):
        def simulator(rng, mu, log_sd, n_obs):
            x = mu + np.exp(log_sd) * rng.standard_normal(n_obs)
            return {"x": np.where(x.mean() > limit, x, np.nan)}

        return jana.GenerativeModel(
            prior, simulator, observables={"x": jana.Continuous()}, n_obs=100
        )

    given = {"n_simulations": 1_000, "random_seed": 1, "progressbar": False}
    points = {"mu": 0.0, "log_sd": 0.0}
    with (
        pytest.warns(UserWarning, match="simulations failed"),
        pytest.raises(ValueError, match="Beyond 5% the others are a selection"),
    ):
        normal().score_correction(points, failing_below(-0.15), **given)
    with pytest.warns(UserWarning, match="simulations failed"):
        few = normal().score_correction(points, failing_below(-0.25), **given)
    assert 950 * 100 < few.n_observations < 100_000


def test_another_model_is_refused() -> None:
    with pm.Model() as prior:
        pm.Normal("mu")
        pm.Normal("log_sd", 0.0, 0.5)
    with pm.Model() as swapped:
        pm.Normal("log_sd", 0.0, 0.5)
        pm.Normal("mu")

    def model(prior=prior, n_obs=5, name="x", kind=jana.Continuous()):
        def simulator(rng, mu, log_sd, n_obs):
            return {name: rng.normal(mu, np.exp(log_sd), n_obs)}

        return jana.GenerativeModel(prior, simulator, observables={name: kind}, n_obs=n_obs)

    vector = jana.GenerativeModel(
        prior,
        lambda rng, mu, log_sd: {"x": rng.normal(mu, np.exp(log_sd))},
        observables={"x": jana.Continuous()},
        structure="vector",
    )
    likelihood = untrained({"x": jana.Continuous()}, {"mu": (), "log_sd": ()})
    points = around(0.5, 0.5, 0.1, n=4)
    few = {"n_simulations": 20, "random_seed": 1, "progressbar": False}
    assert likelihood.score_correction(points, model(n_obs=7), **few).n_observations == 140
    for other, difference in (
        (model(swapped), r"parameters \(log_sd, mu\) differ from the likelihood's \(mu, log_sd\)"),
        (model(name="y"), r"observables \(y: .*\) differ from the likelihood's \(x: "),
        (model(kind=jana.Continuous(lower=0.0)), r"observables \(x: Continuous\(lower=0.0"),
        (vector, r"structures \(vector\) differ from the likelihood's \(exchangeable\)"),
        (normal_model(dose=True), r"conditions \(dose: .*\) differ from the likelihood's \(none\)"),
    ):
        with pytest.raises(ValueError, match=difference):
            likelihood.score_correction(points, other, **few)
    # A torch function has no names of its own for what it is a density of.
    assert normal().score_correction(points, model(name="y"), **few).n_observations == 100


@pytest.mark.usefixtures("interpreted")
def test_conditions_are_those_of_the_rows() -> None:
    """A network that hardly knows the dose's effect is wrong in proportion to it."""
    model = normal_model(dose=True)
    approximator = jana.fit(
        model,
        n_simulations=200,
        network=jana.NetworkSettings(
            jana.PosteriorSettings(), jana.VectorSettings(hidden=(16,), n_bins=4)
        ),
        training=jana.TrainingSettings(n_steps=5, n_validations=1),
        random_seed=1,
        progressbar=False,
    )
    dose = np.random.default_rng(1).uniform(size=300)
    correction = approximator.score_correction(
        {**around(0.5, 0.0, 0.1, n=300), "dose": dose},
        n_simulations=300,
        random_seed=1,
        progressbar=False,
    )
    assert correction.condition_mean[0] == pytest.approx(dose.mean())
    likelihood, x = approximator.likelihood, np.zeros(2)
    given = {"mu": 0.6, "log_sd": 0.1, "conditions": {"dose": np.array([0.1, 0.9])}}
    values = [
        likelihood.logp(x, **given, correction=correction, backend=backend).eval()
        for backend in ("op", "lowering")
    ]
    np.testing.assert_allclose(*values, atol=1e-6)
    known = np.array([[0.1], [0.9]])
    taken = correction.at(pt.constant([[0.6, 0.1]]), None, pt.constant(known)).eval()
    assert abs(taken[1] - taken[0]) > 1e-3
    plain = likelihood.logp(x, **given, backend="lowering").eval()
    np.testing.assert_allclose(plain - values[1], taken, rtol=1e-6, atol=1e-9)


def test_row_parameters_are_those_of_the_model() -> None:
    likelihood = normal()
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(3), [5, 1, 4])
    with pm.Model() as model:
        level = pm.Normal("level", shape=3)
        spread = pm.Normal("spread")
        likelihood("y", mu=level[subject] + 1.0, log_sd=spread, observed=np.zeros(10))
    posterior = {"level": rng.normal(size=(2, 50, 3)), "spread": rng.normal(size=(2, 50))}
    idata = posterior_of(posterior)
    rows = jana.row_parameters(idata, model, n_rows=1_000, random_seed=1)
    assert rows["mu"].shape == rows["log_sd"].shape == (1_000,)
    levels = posterior["level"].reshape(-1, 3)
    draw = [np.flatnonzero(posterior["spread"].ravel() == s)[0] for s in rows["log_sd"]]
    which = [
        np.flatnonzero(np.isclose(levels[d] + 1.0, m))
        for d, m in zip(draw, rows["mu"], strict=True)
    ]
    share = np.bincount(np.concatenate(which), minlength=3) / 1_000
    np.testing.assert_allclose(share, [0.5, 0.1, 0.4], atol=1e-9)
    with pytest.raises(ValueError, match="the posterior lacks spread"):
        jana.row_parameters(posterior_of({"level": posterior["level"]}), model)
    with pm.Model() as other:
        pm.Normal("z", observed=1.0)
    with pytest.raises(ValueError, match="no neural likelihood"):
        jana.row_parameters(idata, other)


def test_wrong_arguments_of_row_parameters_are_named() -> None:
    likelihood, data = normal(), np.zeros(4)
    data[1] = np.nan
    with pm.Model() as model:
        mu = pm.Normal("mu")
        with pytest.warns(UserWarning, match="imputed"):
            likelihood("y", mu=mu, log_sd=0.0, observed={"x": data})
        likelihood("w", mu=mu, log_sd=0.0, observed=np.zeros(2))
    values = {"mu": np.random.default_rng(1).normal(size=(2, 5))}
    idata = posterior_of(values)
    assert set(jana.row_parameters(idata, model, "y", n_rows=10)["mu"]) <= set(values["mu"].flat)
    with pytest.raises(ValueError, match="name one: y, w"):
        jana.row_parameters(idata, model)
    with pytest.raises(ValueError, match="no variable 'x'; its neural likelihoods are y, w"):
        jana.row_parameters(idata, model, "x")
    with pytest.raises(ValueError, match=r"'mu' of the model is no neural likelihood; .* y, w"):
        jana.row_parameters(idata, model, "mu")
    with pytest.raises(TypeError, match="name is TensorVariable; expected the name"):
        jana.row_parameters(idata, model, mu)
    with pytest.raises(ValueError, match="no group 'posterior', only prior"):
        jana.row_parameters(
            to_inference_data({"prior": xr.Dataset({"mu": ("draw", np.zeros(3))})}), model, "y"
        )
    for wrong in (values, None, xr.Dataset()):
        with pytest.raises(TypeError, match=f"data is {type(wrong).__name__}; expected Inference"):
            jana.row_parameters(wrong, model, "y")
    with pytest.raises(TypeError, match="data is swapped with model"):
        jana.row_parameters(model, idata, "y")
    with pytest.raises(TypeError, match=r"model is dict; expected a pymc\.Model"):
        jana.row_parameters(idata, values, "y")


def test_wrong_arguments_are_named() -> None:
    likelihood, model = normal(), normal_model()
    points = around(0.0, 0.0, 0.1, n=4)
    few = {"n_simulations": 20, "random_seed": 1, "progressbar": False}
    with pytest.raises(TypeError, match="missing: log_sd; unknown: sigma"):
        likelihood.score_correction({"mu": 0.0, "sigma": 1.0}, model, **few)
    with pytest.raises(ValueError, match="'mu' leaves the trained region in 1 of 4"):
        likelihood.score_correction({**points, "mu": np.array([0.0, 0.0, 0.0, 99.0])}, model, **few)
    with pytest.raises(TypeError, match="needs the GenerativeModel"):
        likelihood.score_correction(points, None, **few)
    with pm.Model() as prior:
        pm.Normal("mu")
        pm.Normal("log_sd")
    adaptive = jana.GenerativeModel(
        prior,
        lambda rng, mu, log_sd, n_obs: {"x": np.zeros(n_obs), "dose": np.zeros(n_obs)},
        observables={"x": jana.Continuous()},
        conditions={"dose": jana.Continuous()},
        design="simulator",
        n_obs=5,
    )
    with pytest.raises(ValueError, match=r"conditions \(dose\) come about in the simulator"):
        likelihood.score_correction(points, adaptive, **few)
    correction = likelihood.score_correction(points, model, **few)
    with pytest.raises(ValueError, match="another likelihood"):
        normal(shift=0.1).logp(np.zeros(2), mu=0.0, log_sd=0.0, correction=correction)
    with pytest.raises(TypeError, match="correction is float"):
        likelihood.logp(np.zeros(2), mu=0.0, log_sd=0.0, correction=1.0)
    with pytest.raises(ValueError, match="n_simulations=19: expected at least 20 for 2 parameters"):
        likelihood.score_correction(points, model, **{**few, "n_simulations": 19})
    with pytest.raises(ValueError, match=r"'mu' is empty, of shape \(0,\)"):
        likelihood.score_correction({**points, "mu": np.zeros(0)}, model, **few)
    with pytest.raises(ValueError, match="n_obs=0: expected at least 1"):
        correction.shift(0)
    with pytest.raises(TypeError, match=r"n_obs=1\.5: expected an integer"):
        correction.shift(1.5)
    with pytest.raises(ValueError, match="do not go together"):
        likelihood.logp(
            np.zeros(2), mu=0.0, log_sd=0.0, correction=correction, truncation={"x": (-1.0, 1.0)}
        )


def test_it_compares_by_its_content_and_pickles() -> None:
    few = {"n_simulations": 200, "random_seed": 1, "progressbar": False}
    likelihood, points = normal(), around(0.0, 0.0, 0.1, n=40)
    first, second = (likelihood.score_correction(points, normal_model(), **few) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert pickle.loads(pickle.dumps(first)) == copy.deepcopy(first) == first
    assert "of 1,000 observations" in repr(first)


def test_the_figure_shows_each_shift_with_its_error() -> None:
    few = {"n_simulations": 200, "random_seed": 1, "progressbar": False}
    correction = normal(shift=0.1).score_correction(
        around(0.0, 0.0, 0.1, n=40), normal_model(), **few
    )
    (axes,) = plot_score_correction(correction, n_obs=400).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mu", "log_sd"]
    points = axes.containers[0].lines[0]
    shift = correction.shift(400)["shift"]
    np.testing.assert_allclose(np.asarray(points.get_xdata(), dtype=float), shift)
    assert "400 observations" in axes.get_xlabel()
