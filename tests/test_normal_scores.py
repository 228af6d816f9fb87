"""Normal scores of parameters within intervals."""

import math

import numpy as np
import pymc as pm
import pytest
import torch
from scipy import stats

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.posterior.normal_scores import NormalScores
from jana_pymc.simulation import PyMCPrior


def test_scores_are_normal_quantiles():
    u = torch.linspace(-30.0, 0.0, 7, dtype=torch.float64)[:, None]
    scores, _ = NormalScores([0], 1)(torch.cat([u, -u]))
    lower = stats.norm.ppf(stats.logistic.cdf(u))
    np.testing.assert_allclose(scores, np.concatenate([lower, -lower]), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
def test_inverse_returns_the_logits_and_the_same_determinant(dtype, tolerance):
    u = torch.tensor(
        [[-60.0, 2.0], [-3.0, -90.0], [0.0, 1.0], [1e-3, 0.0], [40.0, 7.0]], dtype=dtype
    )
    scores = NormalScores([0], 2)
    z, log_det = scores(u)
    again, same = scores.inverse(z)
    torch.testing.assert_close(again, u, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(same, log_det, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(z[:, 1], u[:, 1])


def test_determinant_is_that_of_the_jacobian():
    u = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 5.0
    scores = NormalScores([0, 2], 3)
    _, log_det = scores(u)
    for row, value in zip(u, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda r: scores(r)[0], row)
        assert math.isclose(torch.logdet(jacobian), value, rel_tol=1e-9)


def test_other_columns_leave_no_trace_however_far_out():
    u = torch.tensor([[0.3, 1e6]], requires_grad=True)
    z, log_det = NormalScores([0], 2)(u)
    (gradient,) = torch.autograd.grad(z.sum() + log_det.sum(), u)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 1] == 1.0


def uniform_model():
    with pm.Model() as prior:
        pm.Uniform("a", -1.0, 3.0)
        pm.Normal("b")
        pm.Uniform("c", 0.0, 1.0, shape=2)

    def simulate(rng, a, b, c):
        means = np.concatenate([a[..., None], b[..., None], c], -1)
        return {"x": means + 0.1 * rng.standard_normal(means.shape)}

    return jana.GenerativeModel(
        prior,
        simulate,
        observables={"x": jana.Continuous(shape=4)},
        structure="vector",
        vectorized=True,
    )


def test_a_uniform_prior_is_the_flow_s_own_latent():
    model = uniform_model()
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    network = build_network(model.schema, model.prior, [False] * 4, settings).posterior
    assert network.scores.is_logit.tolist() == [True, False, True, True]
    u = torch.as_tensor(model.prior.unconstrain(model.prior.draw(2_000, 1))).float()
    scored, _ = network.scores(u)
    for column in scored.T:
        assert stats.kstest(column, "norm").pvalue > 0.001


def test_density_is_normalised_and_draws_agree_with_it():
    model = uniform_model()
    approximator = jana.fit(
        model,
        n_simulations=500,
        training=jana.TrainingSettings(n_steps=20, n_validations=1),
        random_seed=1,
        progressbar=False,
    )
    batch = model.simulate(3, random_seed=2, progressbar=False).batch()
    u, log_q = approximator.posterior.sample_unconstrained(batch, 50, 1)
    again = approximator.posterior.log_prob_unconstrained(u, batch)
    np.testing.assert_allclose(again, log_q, atol=2e-3)
    # E_q[r / q] = 1 for every density r; for one within q it is known to a hundredth or two.
    u, log_q = approximator.posterior.sample_unconstrained(batch, 4_000, 2)
    for draws, log_density in zip(u, log_q, strict=True):
        within = stats.multivariate_normal(draws.mean(0), 0.8 * np.cov(draws.T))
        ratios = np.exp(within.logpdf(draws) - log_density)
        error = ratios.std() / np.sqrt(len(ratios))
        assert error < 0.03 and abs(ratios.mean() - 1.0) < 4.0 * error


def test_older_files_have_none():
    values = NetworkSettings(jana.PosteriorSettings(), jana.VectorSettings()).to_dict()
    del values["posterior"]["normal_scores"]
    assert not NetworkSettings.from_dict(values).posterior.normal_scores


def test_intervals_of_every_unconstrained_value():
    with pm.Model() as model:
        low = pm.Uniform("low", -1.0, 1.0, shape=2)
        pm.HalfNormal("scale")
        pm.Dirichlet("weights", np.ones(3))
        pm.Uniform("above", low[0], 2.0)
        pm.Normal("free")
    intervals = PyMCPrior(model).intervals()
    np.testing.assert_allclose(intervals[:3], [(-1.0, 1.0), (-1.0, 1.0), (0.0, np.inf)])
    assert intervals[3:6] == (None, None, None)
    assert intervals[6] == (-np.inf, np.inf)
