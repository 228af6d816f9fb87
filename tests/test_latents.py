"""The mixture as base distribution, and its place in a flow's settings."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats

from jana_pymc.flows import (
    FlowSettings,
    GaussianLatent,
    GaussianMixtureLatent,
    StudentTLatent,
    conditional_flow,
)

LIKE = torch.zeros((), dtype=torch.float64)


def test_mixture_is_that_of_the_paper() -> None:
    z = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = [stats.multivariate_normal([m, m], np.eye(2)).pdf(3 * z.numpy()) for m in (-2.0, 2.0)]
    expected = torch.as_tensor(np.log(0.5 * (parts[0] + parts[1])))
    torch.testing.assert_close(GaussianMixtureLatent(2).double().log_prob(3 * z), expected)


def test_mixture_draws_follow_its_density() -> None:
    latent = GaussianMixtureLatent(2, 3, learned=True).double()
    latent.logits.data = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    latent.means.data = torch.tensor([[-1.0, 3.0], [0.0, 0.0], [4.0, 1.0]], dtype=torch.float64)
    z = latent.sample((200, 100), torch.Generator().manual_seed(0), LIKE).detach()
    for j in range(2):
        centres = latent.means.data[:, j].numpy()
        distribution = stats.norm(centres)
        assert (
            stats.kstest(
                z[..., j].flatten().numpy(),
                lambda v, d=distribution: d.cdf(v[:, None]) @ np.array([0.2, 0.5, 0.3]),
            ).pvalue
            > 0.01
        )
    torch.testing.assert_close(
        latent.log_prob(z).mean().item(), -float(_entropy(latent)), atol=0.03, rtol=0
    )


def _entropy(latent: GaussianMixtureLatent) -> torch.Tensor:
    axis = torch.linspace(-8, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_prob = latent.log_prob(grid)
    mass = log_prob.exp() * (axis[1] - axis[0]) ** 2
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-9)
    return -(mass * log_prob).sum()


def test_draws_repeat_with_the_seed_and_may_be_none() -> None:
    latent = GaussianMixtureLatent(3, 4).double()
    first, second = (latent.sample((5,), torch.Generator().manual_seed(1), LIKE) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert latent.sample((0, 2), None, LIKE).shape == (0, 2, 3)


def test_only_a_learned_mixture_has_weights() -> None:
    assert not GaussianMixtureLatent(2).state_dict()
    learned = GaussianMixtureLatent(2, learned=True)
    learned.log_prob(torch.ones(3, 2)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learned.parameters())


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, GaussianLatent),
        ({"degrees_of_freedom": None}, GaussianLatent),
        ({"degrees_of_freedom": 7.0}, StudentTLatent),  # as stored before `latent` existed
        ({"latent": "gaussian"}, GaussianLatent),
        ({"latent": "student_t"}, StudentTLatent),
        ({"latent": "student_t", "degrees_of_freedom": 7.0}, StudentTLatent),
        ({"latent": "mixture", "n_components": 3}, GaussianMixtureLatent),
        ({"latent": "mixture", "learned_latent": True}, GaussianMixtureLatent),
    ],
)
def test_latent_is_chosen_by_settings(settings: dict, kind: type) -> None:
    chosen = FlowSettings(**settings)
    assert FlowSettings(**asdict(chosen)) == chosen
    latent = conditional_flow(2, 1, chosen).latent
    assert type(latent) is kind
    if kind is StudentTLatent:
        assert latent.degrees_of_freedom == settings.get("degrees_of_freedom", 50.0)


def test_flow_on_a_mixture_integrates_to_one() -> None:
    settings = FlowSettings(1, hidden=(8,), latent="mixture", learned_latent=True, residual=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = conditional_flow(2, 1, settings).double()
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(1)
        )
    axis = torch.linspace(-14, 14, 351, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.log_prob(grid, torch.zeros(len(grid), 1, dtype=torch.float64)).exp()
    assert density.sum().item() * 0.08**2 == pytest.approx(1.0, abs=1e-3)
    z = flow.latent.sample((1, 50), torch.Generator().manual_seed(2), grid)
    draws, log_prob = flow.push(z, torch.zeros(1, 1, dtype=torch.float64))
    torch.testing.assert_close(
        flow.log_prob(draws, torch.zeros(1, 50, 1, dtype=torch.float64)), log_prob
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent": "cauchy"}, "latent='cauchy'"),
        ({"latent": "mixture", "degrees_of_freedom": 5.0}, "degrees_of_freedom=5.0 belong"),
        ({"degrees_of_freedom": 0.0}, "degrees_of_freedom=0.0: expected a positive"),
        ({"learned_latent": True}, "only latent='mixture'"),
        ({"latent": "mixture", "n_components": 1}, "n_components=1"),
    ],
)
def test_bad_latents_are_named(
    settings: dict[str, object], message: str, unchecked_annotations: None
) -> None:
    with pytest.raises(ValueError, match=message):
        FlowSettings(**settings)


def test_components_of_a_mixture_are_counted(unchecked_annotations: None) -> None:
    with pytest.raises(ValueError, match="n_components=1: expected at least 2 of a mixture"):
        GaussianMixtureLatent(2, 1)
    with pytest.raises(TypeError, match=r"n_components=2.5: expected an integer"):
        GaussianMixtureLatent(2, 2.5)


def test_mixture_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="n_components=1"):
        GaussianMixtureLatent(2, 1)
