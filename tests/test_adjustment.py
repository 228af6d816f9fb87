"""Adjustment: the trained posterior follows the slopes of the likelihood network."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import torch
from annotations import unchecked
from scipy import stats
from stages import interrupted, same

import jana_pymc as jana
from jana_pymc.fitting import default_settings, default_training
from jana_pymc.flows import FlowSettings
from jana_pymc.flows.flow import conditional_flow
from jana_pymc.likelihoods import LikelihoodNetwork, VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import SetSummarySettings
from jana_pymc.posterior import (
    AdjustedFlow,
    AdjustmentSettings,
    LatentSlopes,
    PosteriorNetwork,
    PosteriorSettings,
)
from jana_pymc.simulation import DataSchema, PyMCPrior
from jana_pymc.training import loop

SD = 0.5
NOISE = 0.05
POINTS = AdjustmentSettings(n_points=3)


class Density(LikelihoodNetwork):
    """A likelihood network that has a density alone."""

    def __init__(self, log_prob):
        super().__init__()
        self._log_prob = log_prob

    def log_prob(self, observables, parameters, conditions=None):
        return self._log_prob(observables, parameters)


EXACT = Density(lambda x, theta: torch.distributions.Normal(theta[:, None], SD).log_prob(x).sum(-1))
"""x_i ~ Normal(θ, SD²), for each of as many parameters as components."""


class Normal(PosteriorNetwork):
    """What the slopes ask of a posterior network: a normal one, shifted and stretched.

    Without either it is the exact one under a standard normal prior.
    """

    def __init__(self, shift: float = 0.0, stretch: float = 1.0):
        torch.nn.Module.__init__(self)
        self.shift, self.stretch = shift, stretch

    def summarize(self, observables, n_obs, conditions=None):
        present = torch.arange(observables.shape[1]) < n_obs[:, None]
        return torch.where(present[..., None], observables, 0.0).sum(1)

    def condition(self, summary, observables, n_obs):
        precision = 1.0 + n_obs[:, None].double() / SD**2
        sd = precision**-0.5
        return torch.cat([summary / SD**2 / precision + self.shift * sd, self.stretch * sd], -1)

    def push(self, z, condition):
        mean, sd = condition[:, None, :-1], condition[:, None, -1:]
        u = mean + sd * z
        return u, torch.distributions.Normal(mean, sd).log_prob(u).sum(-1)


def standard_normal(dim: int) -> PyMCPrior:
    with pm.Model() as model:
        pm.Normal("theta", shape=dim)
    return PyMCPrior(model)


def some_data(dim: int = 2, n_sets: int = 5, n_obs: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n_sets, n_obs, dim, generator=torch.Generator().manual_seed(1)).double()
    return x, torch.full((n_sets,), n_obs)


def expanded(told: torch.Tensor) -> np.ndarray:
    """Slopes from their logarithms."""
    return (told.sign() * told.abs().expm1()).numpy()


def test_the_exact_posterior_has_no_slopes() -> None:
    slopes = LatentSlopes(Normal(), EXACT, standard_normal(2), 3)
    assert expanded(slopes(*some_data())) == pytest.approx(0.0, abs=1e-8)


def test_slopes_tell_shift_and_width_in_posterior_standard_deviations() -> None:
    slopes = LatentSlopes(Normal(0.7, 1.5), EXACT, standard_normal(2), 3)
    told = expanded(slopes(*some_data()))
    # In the latent space the posterior is Normal(-0.7 / 1.5, 1 / 1.5²).
    points = slopes.points.double().numpy()
    gradient = points - (points + 0.7 / 1.5) * 1.5**2
    value = (stats.norm.logpdf(points, -0.7 / 1.5, 1 / 1.5) - stats.norm.logpdf(points)).sum(-1)
    expected = np.concatenate([gradient.ravel(), value - value.mean()])
    assert told == pytest.approx(np.broadcast_to(expected, told.shape), abs=1e-7)
    assert not np.any(points[0])


def test_slopes_go_through_the_map_to_constrained_parameters() -> None:
    with pm.Model() as model:
        pm.LogNormal("theta")
    prior, z = PyMCPrior(model), 1e-4

    scale = Density(
        lambda x, theta: torch.distributions.Normal(0.0, theta[:, None]).log_prob(x)[..., 0]
    )
    x, n_obs = some_data(1)
    posterior = Normal(0.3, 0.8)
    slopes = expanded(LatentSlopes(posterior, scale, prior, 1)(x, n_obs))[:, 0]
    mean, sd = posterior.condition(posterior.summarize(x, n_obs), x, n_obs).numpy().T

    def log_ratio(z: float) -> np.ndarray:
        u = mean + sd * z
        log_l = stats.norm.logpdf(x.numpy()[..., 0], 0.0, np.exp(u)[:, None]).sum(-1)
        return log_l + stats.norm.logpdf(u) - stats.norm.logpdf(u, mean, sd)

    # The map is differentiated over a tenth of a standard deviation.
    assert slopes == pytest.approx((log_ratio(z) - log_ratio(-z)) / (2 * z), rel=2e-3)


def test_padding_does_not_count() -> None:
    slopes = LatentSlopes(Normal(0.7), EXACT, standard_normal(2), 2)
    x, n_obs = some_data()
    padded = torch.cat([x, torch.full_like(x, torch.nan)], 1)
    torch.testing.assert_close(slopes(padded, n_obs), slopes(x, n_obs))


def test_padding_of_conditions_does_not_count() -> None:
    class Regression(Density):
        def log_prob(self, observables, parameters, conditions=None):
            location = parameters[:, None] * conditions
            return torch.distributions.Normal(location, SD).log_prob(observables).sum(-1)

    slopes = LatentSlopes(Normal(0.7), Regression(None), standard_normal(2), 2)
    x, n_obs = some_data()
    dose = 1.0 + x[..., :1].abs()
    padded = (torch.cat([each, torch.full_like(each, torch.nan)], 1) for each in (x, dose))
    first, second = padded
    told = slopes(x, n_obs, dose)
    torch.testing.assert_close(slopes(first, n_obs, second), told)
    assert torch.all(told != 0.0)


def test_slopes_are_finite_where_the_likelihood_is_not() -> None:
    nowhere = Density(lambda x, theta: (theta[:, :1] - torch.inf).expand(x.shape[:2]))
    told = LatentSlopes(Normal(), nowhere, standard_normal(2), 3)(*some_data())
    assert torch.isfinite(told).all()


def test_slopes_are_told_where_gradients_are_off() -> None:
    slopes = LatentSlopes(Normal(0.7), EXACT, standard_normal(2), 1)
    expected = slopes(*some_data())
    with torch.inference_mode():
        torch.testing.assert_close(slopes(*some_data()), expected)


@pytest.fixture
def flow() -> AdjustedFlow:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        inner = conditional_flow(1, 2, FlowSettings(transform="autoregressive", hidden=(16,)))
        made = AdjustedFlow(inner, 1, 2, AdjustmentSettings(n_points=2, hidden=(16,))).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def test_an_adjusted_density_is_one(flow) -> None:
    x = torch.linspace(-60.0, 60.0, 200_001).double()[:, None]
    condition = torch.tensor([[0.5, -1.0, 2.0, -2.0, 0.3, 1.0]]).double()
    assert flow.n_slopes == 4
    with torch.no_grad():
        density = flow.log_prob(x, condition).exp()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1.0, abs=1e-5)


def test_draws_have_the_density_that_is_told(flow) -> None:
    z = torch.randn(3, 50, 1, generator=torch.Generator().manual_seed(1)).double()
    condition = torch.randn(3, 6, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        x, log_prob = flow.push(z, condition)
        torch.testing.assert_close(flow.log_prob(x, condition[:, None]), log_prob)
        without, _ = flow.push(z, condition[:, 4:])
        torch.testing.assert_close(without, flow.flow.push(z, condition[:, 4:])[0])
    assert not torch.allclose(x, without)


NETWORK = NetworkSettings(
    PosteriorSettings(
        SetSummarySettings(n_summaries=4, hidden=(16,)),
        FlowSettings(transform="autoregressive", n_layers=1, hidden=(16,)),
        adjustment=POINTS,
    ),
    VectorSettings(n_layers=1, hidden=(16,), conditioner_hidden=4, n_bins=4),
)


@cache
def location() -> jana.GenerativeModel:
    """x_i ~ Normal(θ, 0.05²), θ ~ Normal(0, 1), two of each, between 2 and 9 observations."""
    with pm.Model() as prior:
        pm.Normal("theta", shape=2)

    def simulator(rng, theta, n_obs):
        x = theta[..., None] + NOISE * rng.standard_normal((*np.shape(theta), n_obs))
        return {"x": x[..., 0, :], "y": x[..., 1, :]}

    return jana.GenerativeModel(
        prior,
        simulator,
        observables={"x": jana.Continuous(), "y": jana.Continuous()},
        structure="exchangeable",
        n_obs=(2, 9),
    )


def fitted(adjustment_steps: int, checkpoint: Path | None = None) -> jana.JointApproximator:
    training = jana.TrainingSettings(
        n_steps=250,
        n_threads=1,
        batch_size=64,
        linear_steps=100,
        weight_average=0.95,
        n_validations=10,
        patience=None,
        validation_fraction=0.2,
        adjustment_steps=adjustment_steps,
        adjustment_learning_rate=2e-3,
    )
    with unchecked():
        return jana.fit(
            location(),
            n_simulations=600,
            network=NETWORK,
            training=training,
            random_seed=1,
            checkpoint=checkpoint,
            progressbar=False,
        )


@pytest.fixture(scope="module")
def alone() -> jana.JointApproximator:
    return fitted(0)


@pytest.fixture(scope="module")
def adjusted() -> jana.JointApproximator:
    return fitted(300)


def test_what_is_soon_made_is_adjusted() -> None:
    numbers = {f"x{i}": jana.Continuous() for i in range(40)}
    for n, n_parameters, steps, n_points in ((2, 5, 4_000, 3), (2, 8, 2_500, 1), (40, 8, 0, 1)):
        schema = DataSchema({f"x{i}": numbers[f"x{i}"] for i in range(n)}, structure="vector")
        network = default_settings(schema, n_parameters)
        assert default_training(network, n_parameters, schema).adjustment_steps == steps
        assert network.posterior.adjustment == AdjustmentSettings(n_points=n_points)


def test_a_half_trained_posterior_becomes_what_the_likelihood_implies(alone, adjusted) -> None:
    test = location().simulate(1_000, random_seed=2, progressbar=False)
    before, after = (
        each.posterior.log_prob(test.parameters[:, None], test.batch()).mean()
        for each in (alone, adjusted)
    )
    precision = 1.0 + test.batch().n_obs / NOISE**2
    exact = np.mean(-np.log(2.0 * np.pi * np.e / precision))
    assert before < exact - 0.5
    assert exact - 0.2 < after < exact + 0.05


def test_all_but_the_adjustment_stays(alone, adjusted) -> None:
    assert same(alone.network.likelihood, adjusted.network.likelihood)
    flow = adjusted.network.posterior.adjustment
    assert alone.network.posterior.adjustment is None
    assert same(alone.network.posterior.flow, flow.flow)
    assert same(alone.network.posterior.summary, adjusted.network.posterior.summary)
    assert all(parameter.requires_grad for parameter in adjusted.network.parameters())
    assert (alone.settings.posterior.adjustment, adjusted.settings.posterior.adjustment) == (
        None,
        POINTS,
    )
    assert adjusted.history.step[-1] == alone.history.step[-1] + 300


def test_data_sets_of_differing_size_are_told_apart_from_their_padding(adjusted) -> None:
    rng = np.random.default_rng(1)
    few, many = ({name: rng.normal(size=n) for name in "xy"} for n in (3, 9))
    pair = copy.deepcopy(adjusted)
    pair.network.double()  # the slopes are differences, of which single precision leaves less
    schema, posterior = pair.schema, pair.posterior
    draws, log_q = posterior.sample_unconstrained(schema.batch([few, many]), 20, 1)
    for i, data in enumerate((few, many)):
        own = posterior.log_prob_unconstrained(draws[i : i + 1], schema.batch([data]))
        np.testing.assert_allclose(own[0], log_q[i], atol=1e-4)


def test_an_adjusted_pair_is_kept_in_a_file(adjusted, tmp_path) -> None:
    adjusted.save(tmp_path / "pair.safetensors")
    loaded = jana.load(tmp_path / "pair.safetensors", location())
    data = {"x": np.array([0.15, 0.24, 0.2]), "y": np.array([-0.81, -0.73, -0.78])}
    first, second = (
        np.asarray(each.sample(data, draws=20, random_seed=1)["posterior"]["theta"])
        for each in (adjusted, loaded)
    )
    np.testing.assert_array_equal(first, second)
    assert loaded.settings == adjusted.settings


def test_files_of_before_have_no_adjustment() -> None:
    stored = NETWORK.to_dict()
    assert NetworkSettings.from_dict(stored) == NETWORK
    del stored["posterior"]["adjustment"]
    assert NetworkSettings.from_dict(stored).posterior.adjustment is None


def test_an_adjustment_to_a_bad_likelihood_does_no_harm(alone, monkeypatch) -> None:
    def noise(self, parameters, n_obs, conditions=None, generator=None):
        return 5.0 * torch.randn((len(parameters), n_obs, 2), generator=generator)

    monkeypatch.setattr("jana_pymc.likelihoods.VectorLikelihood.sample", noise)
    left = fitted(200)
    assert same(left.network, alone.network)
    assert left.settings.posterior.adjustment is None
    assert left.history.step == alone.history.step  # what was undone is not what it learned


def test_an_adjustment_that_fails_does_no_harm(alone, monkeypatch) -> None:
    def nothing(self, parameters, n_obs, conditions=None, generator=None):
        return torch.full((len(parameters), n_obs, 2), torch.nan)

    monkeypatch.setattr("jana_pymc.likelihoods.VectorLikelihood.sample", nothing)
    with pytest.warns(UserWarning, match=r"adjustment of the posterior failed.*no finite data"):
        failed = fitted(200)
    assert same(failed.network, alone.network)
    assert failed.history.step == alone.history.step


def test_an_interrupted_adjustment_goes_on(adjusted, tmp_path) -> None:
    with interrupted(step=110):
        fitted(300, tmp_path / "run.ckpt")
    assert (tmp_path / "run-adjustment.ckpt").exists()
    resumed = fitted(300, tmp_path / "run.ckpt")
    assert same(resumed.network, adjusted.network)
    assert resumed.history.step == adjusted.history.step


def test_steps_without_an_adjustment_are_refused() -> None:
    network = replace(NETWORK, posterior=replace(NETWORK.posterior, adjustment=None))
    with pytest.raises(ValueError, match=r"adjustment_steps=5.*adjustment=AdjustmentSettings"):
        jana.fit(
            location(),
            n_simulations=100,
            network=network,
            training=jana.TrainingSettings(adjustment_steps=5),
            progressbar=False,
        )


def test_an_adjustment_without_a_finite_loss_is_dropped(alone, monkeypatch) -> None:
    measured = loop.validation_loss

    def fails(network, validation, *options):
        values = measured(network, validation, *options)
        return values if validation[0].slopes is None else (np.nan, values[1])

    monkeypatch.setattr(loop, "validation_loss", fails)
    assert same(fitted(20).network, alone.network)


def test_settings_can_be_stored(unchecked_annotations) -> None:
    widths = AdjustmentSettings(n_points=np.int64(2), hidden=np.array([8]))
    network = replace(NETWORK, posterior=replace(NETWORK.posterior, adjustment=widths))
    assert NetworkSettings.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize("adjustment", [True, False, 3, {"n_points": 3}])
def test_other_kinds_of_adjustments_are_refused(adjustment, unchecked_annotations) -> None:
    with pytest.raises(TypeError, match="adjustment="):
        PosteriorSettings(adjustment=adjustment)


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_steps_are_checked(steps) -> None:
    with pytest.raises((TypeError, ValueError), match="adjustment_steps"):
        jana.TrainingSettings(adjustment_steps=steps)


@pytest.mark.parametrize(("rate", "error"), [(0.0, ValueError), (True, TypeError)])
def test_rates_are_checked(rate, error) -> None:
    with pytest.raises(error, match="adjustment_learning_rate"):
        jana.TrainingSettings(adjustment_learning_rate=rate)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"n_points": 0}, ValueError),
        ({"n_points": 1.5}, TypeError),
        ({"hidden": ()}, ValueError),
        ({"hidden": (0,)}, ValueError),
        ({"hidden": 128}, TypeError),
        ({"hidden": "128"}, TypeError),
    ],
)
def test_settings_are_checked(change, error, unchecked_annotations) -> None:
    with pytest.raises(error, match=next(iter(change))):
        replace(POINTS, **change)
