"""Flows: Jacobians against autograd, inverses, densities that integrate to one, latents."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from jana_pymc.flows import (
    ActNorm,
    ConditionalFlow,
    FlowSettings,
    GaussianLatent,
    Permutation,
    Rotation,
    StudentTLatent,
    conditional_flow,
)
from jana_pymc.flows.spline import SplineTable, n_spline_parameters, spline_forward, spline_inverse
from jana_pymc.networks.conditioners import ConditionerBank

TRANSFORMS = ("affine", "spline", "interleaved", "autoregressive")
N_CONDITION = 3


def perturbed_flow(dim: int, noise: float = 0.1, **settings: object) -> ConditionalFlow:
    """A flow away from the identity, in double precision."""
    generator = torch.Generator().manual_seed(dim)
    waves = 2 if settings.get("transform") == "autoregressive" else 0
    small = FlowSettings(**{"hidden": (16, 16), "n_waves": waves, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(dim)
        flow = conditional_flow(dim, N_CONDITION, small).double()
    for parameter in flow.parameters():
        parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    return flow


def forward(flow: ConditionalFlow, x: torch.Tensor, condition: torch.Tensor):
    log_det = x.new_zeros(x.shape[:-1])
    for transform in flow.transforms:
        x, contribution = transform(x, condition)
        log_det = log_det + contribution
    return x, log_det


@pytest.mark.parametrize("linear", ["rotation", "permutation", "reversal"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_log_det_is_that_of_the_jacobian(dim: int, transform: str, linear: str) -> None:
    flow = perturbed_flow(dim, transform=transform, linear=linear)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        x = 3.0 * torch.randn(dim, generator=generator, dtype=torch.float64)
        condition = torch.randn(N_CONDITION, generator=generator, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(
            lambda x, c=condition: forward(flow, x, c)[0], x
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert forward(flow, x, condition)[1].item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_inverse_undoes_forward(dim: int, transform: str) -> None:
    flow = perturbed_flow(dim, transform=transform)
    generator = torch.Generator().manual_seed(0)
    x = 3.0 * torch.randn(50, dim, generator=generator, dtype=torch.float64)
    condition = torch.randn(50, N_CONDITION, generator=generator, dtype=torch.float64)
    z, log_det = forward(flow, x, condition)
    back, inverse_log_det = z, torch.zeros(50, dtype=torch.float64)
    for layer in reversed(flow.transforms):
        back, contribution = layer.inverse(back, condition)
        inverse_log_det = inverse_log_det + contribution
    torch.testing.assert_close(back, x, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("degrees_of_freedom", [None, 50.0])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_density_integrates_to_one(transform: str, degrees_of_freedom: float | None) -> None:
    flow = perturbed_flow(2, transform=transform, degrees_of_freedom=degrees_of_freedom)
    axis = torch.linspace(-9, 9, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    condition = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64).expand(len(grid), -1)
    with torch.no_grad():
        total = flow.log_prob(grid, condition).exp().sum() * (axis[1] - axis[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_follow_the_density(transform: str) -> None:
    flow = perturbed_flow(1, transform=transform)
    condition = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    draws = flow.sample(5_000, condition, torch.Generator().manual_seed(1))
    assert draws.shape == (5_000, 1)
    with torch.no_grad():
        z, _ = forward(flow, draws, condition.expand(5_000, -1))
    assert stats.kstest(z[:, 0].numpy(), "norm").pvalue > 0.01


def test_waves_keep_the_order_of_components() -> None:
    """Outputs of network j do not depend on components from j on, and one by one they are equal."""
    generator = torch.Generator().manual_seed(3)
    bank = ConditionerBank(3, 2, 4, hidden=8, n_waves=2).double()
    for parameter in bank.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    context = torch.randn(2, generator=generator, dtype=torch.float64)
    components = torch.randn(3, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: bank(context[None], x[None])[0], components
    )
    depends = jacobian.abs().amax(1) > 0
    assert torch.equal(depends, torch.ones(3, 3, dtype=torch.bool).tril(-1))
    together = bank(context[None], components[None])[0]
    shared = bank.after_first(context[None], components[None, None])[0, 0]
    torch.testing.assert_close(shared, together[1:])
    for j in range(3):
        torch.testing.assert_close(bank.one(j, context, components[:j]), together[j])


def test_draws_repeat_with_the_seed_and_leave_the_global_state() -> None:
    flow = perturbed_flow(3)
    condition = torch.zeros(2, N_CONDITION, dtype=torch.float64)
    before = torch.get_rng_state()
    first, second = (flow.sample(4, condition, torch.Generator().manual_seed(7)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(before, torch.get_rng_state())


def test_untrained_flow_is_its_latent_up_to_a_rotation() -> None:
    flow = conditional_flow(3, N_CONDITION, FlowSettings(transform="spline")).double()
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = 0.5 * x  # stay where each spline is the identity
    condition = torch.zeros(20, N_CONDITION, dtype=torch.float64)
    torch.testing.assert_close(flow.log_prob(x, condition), GaussianLatent(3).log_prob(x))


def test_spline_is_increasing_with_matching_tails() -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(1, n_spline_parameters(8), generator=generator, dtype=torch.float64)
    table = SplineTable(raw, 8)
    x = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    z, log_derivative = table.forward(x)
    assert (z.diff() > 0).all()
    slopes = z.diff() / x.diff()
    middle = 0.5 * (log_derivative.exp()[1:] + log_derivative.exp()[:-1])
    torch.testing.assert_close(slopes, middle, rtol=0.02, atol=0.02)
    back, negative = table.inverse(z)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(negative, -log_derivative)
    grouped = table.lookup_grouped(x, torch.zeros(len(x), dtype=torch.long))
    assert torch.equal(spline_forward(x, grouped)[0], z)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_tails_are_straight_lines_in_single_precision_however_far(sign: float) -> None:
    raw = torch.randn(200, n_spline_parameters(8), generator=torch.Generator().manual_seed(0))
    raw.requires_grad_()
    near = torch.full((200,), sign * 50.0)
    bins = torch.full((200,), 0 if sign < 0 else 9)
    z_near, log_slope = spline_forward(near, SplineTable(raw.detach(), 8).lookup(bins))
    for far in (1e3, 1e5, 1e7):
        x = (sign * torch.full((200,), far)).requires_grad_()
        table = SplineTable(raw, 8)
        z, log_derivative = spline_forward(x, table.lookup(bins))
        torch.testing.assert_close(log_derivative, log_slope)
        torch.testing.assert_close(z, z_near + (x - near) * log_slope.exp())
        gradients = torch.autograd.grad(z.sum() + log_derivative.sum(), (x, raw))
        torch.testing.assert_close(gradients[0], log_slope.exp())
        assert torch.isfinite(gradients[1]).all()
        back, negative = spline_inverse(z, table.lookup(bins))
        torch.testing.assert_close(back, x)
        torch.testing.assert_close(negative, -log_slope)


def test_student_t_is_multivariate() -> None:
    z = torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = stats.multivariate_t(
        df=50, shape=[[float(i == j) for j in range(4)] for i in range(4)]
    )
    torch.testing.assert_close(
        StudentTLatent(4, 50.0).log_prob(z), torch.as_tensor(expected.logpdf(z.numpy()))
    )


def test_student_t_draws_have_its_radius() -> None:
    latent = StudentTLatent(3, 5.0)
    like = torch.zeros((), dtype=torch.float64)
    z = latent.sample((20_000,), torch.Generator().manual_seed(0), like)
    radius = (z**2).sum(-1) / 3
    assert stats.kstest(radius.numpy(), stats.f(3, 5).cdf).pvalue > 0.01


def test_linear_transforms() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        rotation = Rotation(4).double()
    matrix = rotation.matrix()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(4, dtype=torch.float64))
    permuted, _ = Permutation([2, 0, 3, 1])(x)
    torch.testing.assert_close(permuted, x[:, [2, 0, 3, 1]])
    norm = ActNorm(4).double()
    norm.log_scale.data = torch.tensor([0.5, -0.5, 0.1, 0.0], dtype=torch.float64)
    assert norm(x)[1][0].item() == pytest.approx(0.1)
    assert math.isclose(norm.inverse(norm(x)[0])[0].sub(x).abs().max().item(), 0.0, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transform": "planar"}, "transform='planar'"),
        ({"linear": "none"}, "linear='none'"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"n_bins": 1}, "n_bins=1"),
        ({"hidden": (16, 0)}, r"hidden\[1\]=0"),
        ({"conditioner_hidden": -3}, "conditioner_hidden=-3"),
        ({"n_waves": 3}, "n_waves=3 is not for transform='spline'"),
        ({"conditioner_hidden": 32}, "conditioner_hidden=32 is not for transform='spline'"),
        ({"transform": "interleaved", "conditioner_layers": 3}, "conditioner_layers=3 is not for"),
        ({"transform": "affine", "n_bins": 16}, "n_bins=16 is not for transform='affine'"),
        ({"transform": "autoregressive", "n_waves": 1000}, "at most"),
        ({"transform": "autoregressive", "dropout": 0.5}, "dropout=0.5 is not for"),
        ({"transform": "autoregressive", "activation": "relu"}, "activation='relu' is not for"),
    ],
)
def test_bad_settings_are_named(
    settings: dict[str, object], message: str, unchecked_annotations: None
) -> None:
    with pytest.raises(ValueError, match=message):
        FlowSettings(**settings)


@pytest.mark.parametrize("transform", ["autoregressive", "spline"])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_shared_condition_is_as_good_as_many_equal_ones(transform, dim) -> None:
    torch.manual_seed(3)
    flow = conditional_flow(dim, 2, FlowSettings(transform=transform, n_layers=2, hidden=(8,)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    flow.double()
    x = torch.randn(4, 5, dim, dtype=torch.float64)
    shared = torch.randn(4, 1, 2, dtype=torch.float64)
    expected = flow.log_prob(x, shared.repeat(1, 5, 1))
    torch.testing.assert_close(flow.log_prob(x, shared), expected)
    z = flow.latent.sample((4, 5), torch.Generator().manual_seed(1), shared)
    drawn, log_prob = flow.push(z, shared[:, 0])
    assert torch.equal(flow.sample(5, shared[:, 0], torch.Generator().manual_seed(1)), drawn)
    torch.testing.assert_close(flow.log_prob(drawn, shared), log_prob, rtol=1e-6, atol=1e-6)
