"""SoftFlow dequantisation: deterministic, near the exact probabilities, and at home in `fit`."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
import torch
from annotations import unchecked
from scipy import stats

import jana_pymc as jana
from jana_pymc.likelihoods import CountRange, SoftFlowLikelihood, Support
from jana_pymc.likelihoods.soft_flow import _log_noise_at_integers

# Wider peaks than by default are soon learned, and still far apart.
SMALL = jana.SoftFlowSettings(
    noise=(0.05, 0.3),
    evaluation_noise=0.3,
    flow=jana.FlowSettings(
        n_layers=2, transform="autoregressive", hidden=(64,), conditioner_hidden=32, n_bins=16
    ),
)
UPPER = 2


def test_density_of_noise_at_an_integer() -> None:
    sd = torch.tensor([[0.001, 0.1, 0.4, 0.9, 1.1, 30.0]], dtype=torch.float64)
    j = np.arange(-300, 301)
    expected = [np.log(stats.norm.pdf(j, scale=s).sum()) for s in sd[0].tolist()]
    np.testing.assert_allclose(_log_noise_at_integers(sd)[0], expected, atol=1e-8)


@pytest.fixture(scope="module")
def binomial() -> SoftFlowLikelihood:
    """Trained on counts of a binomial distribution, and a normal one around them."""
    torch.manual_seed(0)
    network = SoftFlowLikelihood([CountRange(UPPER), Support()], 1, settings=SMALL)
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(20_000, 1, generator=generator)
    counts = torch.binomial(torch.full_like(theta, UPPER), theta, generator=generator)
    x = torch.cat([counts, counts + torch.randn(theta.shape, generator=generator)], 1)
    network.standardize(x, theta)
    n_steps = 700
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    with unchecked():
        for step in range(n_steps):
            rows = torch.arange(step * 256, (step + 1) * 256) % len(x)
            loss = -network.training_log_prob(x[rows][:, None], theta[rows], None, generator).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.double().eval()


def test_probabilities_are_near_the_exact_ones(binomial: SoftFlowLikelihood) -> None:
    theta = torch.tensor([[0.2], [0.5], [0.7]], dtype=torch.float64)
    counts = torch.arange(UPPER + 1, dtype=torch.float64)
    x = torch.stack([counts, counts + 0.3], -1)
    found = binomial.log_prob(x.expand(3, -1, -1), theta).detach()
    exact = stats.binom.pmf(counts.numpy(), UPPER, theta.numpy()) * stats.norm.pdf(0.3)
    # An approximation: the height of a narrow peak stands for its mass.
    np.testing.assert_allclose(found.exp(), exact, atol=0.06)
    np.testing.assert_allclose(found.exp().sum(1).numpy() / exact.sum(1), 1.0, atol=0.2)
    assert torch.equal(found, binomial.log_prob(x.expand(3, -1, -1), theta).detach())
    rows = binomial.log_prob_rows(x, theta, torch.full((UPPER + 1,), 1))
    torch.testing.assert_close(rows.detach(), found[1])


def test_impossible_counts_have_no_density(binomial: SoftFlowLikelihood) -> None:
    counts = torch.tensor([-1.0, 0.5, UPPER + 1.0], dtype=torch.float64)
    theta = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    found = binomial.log_prob_rows(
        torch.stack([counts, counts], -1), theta, torch.zeros(3, dtype=torch.long)
    )
    assert (found == -torch.inf).all()


def test_draws_are_integers_with_the_right_moments(binomial: SoftFlowLikelihood) -> None:
    theta = torch.full((1, 1), 0.3, dtype=torch.float64)
    drawn = binomial.sample(theta, 20_000, generator=torch.Generator().manual_seed(1))[0]
    counts = drawn[:, 0]
    assert (counts == counts.round()).all() and counts.min() >= 0 and counts.max() <= UPPER
    assert float(counts.mean()) == pytest.approx(UPPER * 0.3, abs=0.1)
    assert float(counts.var()) == pytest.approx(UPPER * 0.21, abs=0.15)
    assert float((drawn[:, 1] - counts).std()) == pytest.approx(1.0, abs=0.1)


def test_fit_with_conditions_saves_and_loads(tmp_path) -> None:
    with pm.Model() as prior:
        pm.Normal("slope")

    def simulate(rng, slope, n_obs, u):
        return {"k": (rng.random(n_obs) < 1.0 / (1.0 + np.exp(-slope * u))).astype(float)}

    model = jana.GenerativeModel(
        prior,
        simulate,
        observables={"k": jana.Categorical(2)},
        conditions={"u": jana.Continuous()},
        design=lambda rng, n_obs: {"u": rng.normal(size=n_obs)},
        n_obs=5,
    )
    approximator = jana.fit(
        model,
        n_simulations=200,
        network=jana.NetworkSettings(jana.PosteriorSettings(), SMALL),
        training=jana.TrainingSettings(n_steps=20, batch_size=32),
        random_seed=1,
        progressbar=False,
    )
    path = tmp_path / "pair.safetensors"
    approximator.save(path)
    loaded = jana.load(path, model)
    data = {"k": np.array([0.0, 1.0]), "u": np.array([0.3, -0.4])}
    values = [a.likelihood.log_prob(data, np.array([[0.5]])) for a in (approximator, loaded)]
    np.testing.assert_array_equal(*values)
    assert np.isfinite(values[0]).all()


def test_bad_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="smallest < largest"):
        jana.SoftFlowSettings(noise=(0.1, 0.01))
    with pytest.raises(ValueError, match=r"evaluation_noise=1\.0 lies outside"):
        jana.SoftFlowSettings(evaluation_noise=1.0)
