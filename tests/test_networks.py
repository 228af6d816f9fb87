"""Summary networks: invariances and masking."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jana_pymc.networks import (
    DeepSet,
    DeepSetSettings,
    DenseNetwork,
    FlatSummarySettings,
    SetSummarySettings,
    TimeSeriesSettings,
)
from jana_pymc.networks.clamps import atan_clamp, tanh_clamp
from jana_pymc.networks.moments import location_and_scale, set_moments
from jana_pymc.networks.order_statistics import values_and_cells
from jana_pymc.posterior import PosteriorNetwork, PosteriorSettings

Clamp = Callable[[Tensor, float], Tensor]
SETTINGS = (
    DeepSetSettings(),
    DeepSetSettings(n_equivariant=2, n_extremes=0, activation="relu", hidden=(16, 16)),
    DeepSetSettings(n_equivariant=1, n_extremes=4, hidden=(8,)),
)


@pytest.mark.parametrize("settings", SETTINGS)
def test_order_does_not_matter(settings: DeepSetSettings) -> None:
    network = DeepSet(3, 5, settings).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 10, 3, dtype=torch.float64, generator=generator)
    mask = torch.ones(4, 10, dtype=torch.bool)
    shuffled = x[:, torch.randperm(10, generator=generator)]
    torch.testing.assert_close(network(x, mask), network(shuffled, mask))


@pytest.mark.parametrize("settings", SETTINGS)
def test_padding_does_not_matter(settings: DeepSetSettings) -> None:
    network = DeepSet(3, 5, settings).double()
    x = torch.randn(4, 10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    n_obs = torch.tensor([10, 7, 3, 1])
    together = network(x, torch.arange(10) < n_obs[:, None])
    for i, n in enumerate(n_obs.tolist()):
        alone = network(x[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool))
        torch.testing.assert_close(together[i : i + 1], alone)


def test_deep_set_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="n_extremes=100"):
        DeepSetSettings(n_extremes=100)
    with pytest.raises(ValueError, match="hidden"):
        DeepSetSettings(hidden=())


def test_dense_network_names_a_wrong_activation(unchecked_annotations: None) -> None:
    with pytest.raises(ValueError, match="activation='swish'"):
        DenseNetwork(2, 2, activation="swish")


def test_dense_network_starts_at_zero_when_asked() -> None:
    assert DenseNetwork(2, 3, zero_output=True)(torch.randn(5, 2)).abs().max() == 0.0


@pytest.mark.parametrize("summary", [SetSummarySettings(), FlatSummarySettings()])
def test_a_number_of_summaries_that_has_no_effect_is_told(summary) -> None:
    name = type(summary).__name__
    with pytest.raises(ValueError, match=rf"no effect.*Write {name}\(n_summaries=16\)"):
        PosteriorSettings(summary, n_summaries=16)
    towers = PosteriorSettings(TimeSeriesSettings(), n_summaries=16)
    network = PosteriorNetwork([None], [False], 1, settings=towers)
    assert network.n_condition == 16 + 1


def test_means_of_a_regression_give_its_least_squares() -> None:
    n_conditions, (i, j) = 3, torch.triu_indices(3, 3)
    settings = PosteriorSettings(SetSummarySettings(n_summaries=4, means=True))
    network = PosteriorNetwork([None], [False], 2, n_conditions, settings).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 20, n_conditions, dtype=torch.float64, generator=generator)
    y = torch.randn(5, 20, 1, dtype=torch.float64, generator=generator)
    means = network._features(y, x).mean(1)
    xy, pairs = means[:, 1 + n_conditions :].split([n_conditions, len(i)], -1)
    gram = torch.zeros(5, n_conditions, n_conditions, dtype=torch.float64)
    gram[:, i, j] = gram[:, j, i] = pairs
    coefficients = torch.linalg.solve(gram, xy[..., None])
    torch.testing.assert_close(coefficients, torch.linalg.lstsq(x, y).solution)


def test_moments_tell_constants_from_small_units() -> None:
    generator = torch.Generator().manual_seed(1)
    small = 1e-9 * torch.randn(1_000, 1, generator=generator)
    values = torch.cat([small, torch.full((1_000, 1), 3.3)], -1)
    mean, sd = torch.zeros(2), torch.ones(2)
    set_moments(mean, sd, values)
    assert sd[0] == pytest.approx(1e-9, rel=0.1)
    assert sd[1] == 1.0 and mean[1] == pytest.approx(3.3)


@pytest.mark.parametrize("clamp", [atan_clamp, tanh_clamp])
def test_clamps_are_increasing_bounded_and_the_identity_near_zero(clamp: Clamp) -> None:
    x = torch.arange(-20.0, 20.5, 0.5, dtype=torch.float64, requires_grad=True)
    y = clamp(x, 3.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (slope > 0).all() and (y.abs() < 3.0).all()
    assert y[40] == 0.0 and slope[40] == pytest.approx(1.0)
    torch.testing.assert_close(y, -y.flip(0))


def test_order_statistics_are_taken_of_values_within_joint_categories() -> None:
    x = torch.tensor([[0.5, 0.0], [-2.0, 4.0]])
    first, second = torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 2.0]])
    categories, positive = [2, None, 3, None], [False, True, False, False]
    values, cell = values_and_cells([first, x, second, x], categories, positive)
    assert cell.tolist() == [[2, 3], [4, 5]]
    assert torch.equal(values[..., 1], x)
    torch.testing.assert_close(values[..., 0], x.clamp_min(1e-9).log())
    assert values_and_cells([first], [2], [False])[0].shape == (2, 2, 0)


def test_scales_look_at_all_rows_of_sequences() -> None:
    """Every fourth row is alike: a look at these alone takes the others for extreme ones."""
    values = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(1))
    values[::4] *= 1e-3
    mean, sd = location_and_scale(values)
    torch.testing.assert_close(mean, values.mean(0), rtol=0, atol=0)
    torch.testing.assert_close(sd, values.std(0), rtol=0, atol=0)


def test_scales_are_those_of_the_middle_only_where_a_few_values_are_extreme() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(30_000, 4, generator=generator) + torch.tensor([0.0, 3.0, 0.0, 0.0])
    plain = values.clone()
    plain[:, 2] = 7.0  # constant
    plain[:, 3] = (torch.arange(30_000) % 100 == 0).float()  # rare, not extreme
    mean, sd = location_and_scale(plain)
    torch.testing.assert_close(mean, plain.mean(0), rtol=0, atol=0)
    assert sd[2] == 1.0
    torch.testing.assert_close(sd[[0, 1, 3]], plain.std(0)[[0, 1, 3]], rtol=0, atol=0)
    values[::400, 1] = 1e6 * torch.randn(75, generator=generator)
    mean, sd = location_and_scale(values)
    assert values[:, 1].std() > 1e4
    torch.testing.assert_close(mean[1], torch.tensor(3.0), atol=0.03, rtol=0)
    torch.testing.assert_close(sd[1], torch.tensor(1.0), atol=0.05, rtol=0)
