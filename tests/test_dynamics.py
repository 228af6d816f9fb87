"""Trajectories by one law of motion: the same at all times, bounded, exact where it is known."""

from __future__ import annotations

import pytest
import torch
from sequences import generator, randomize
from torch import nn

from jana_pymc.networks import DynamicsEnsemble, DynamicsNetwork
from jana_pymc.networks.dynamics import LARGEST


def random_network(n_times: int, **options) -> DynamicsNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = DynamicsNetwork(3, 2, n_times, n_states=4, **{"hidden": (8, 8), **options})
        network = network.double()
        randomize(network, 0.3)
    return network.requires_grad_(False)


def random_ensemble(n_members: int, **options) -> DynamicsEnsemble:
    laws = [random_network(6, **options) for _ in range(n_members)]
    for i, law in enumerate(laws):
        randomize(law, 0.3 + 0.1 * i)
    return DynamicsEnsemble(laws)


def condition(n_sets: int) -> torch.Tensor:
    return torch.randn(n_sets, 3, dtype=torch.float64, generator=generator(2))


def test_more_times_go_on_where_fewer_end() -> None:
    long, short = random_network(7), random_network(4)
    assert long(condition(5)).shape == (5, 7, 2)
    torch.testing.assert_close(long(condition(5))[:, :4], short(condition(5)))
    assert random_network(1)(condition(5)).shape == (5, 1, 2)
    assert long(condition(0)).shape == (0, 7, 2)


class At(nn.Module):
    """Begins where it is told."""

    def __init__(self, state: torch.Tensor):
        super().__init__()
        self.state = state

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        return self.state


def test_the_law_is_the_same_at_all_times() -> None:
    network = random_network(6)
    c = condition(5)
    network.out.weight.copy_(torch.eye(4, dtype=torch.float64)[:2])
    whole = network(c)
    assert float((whole[:, 1:] - whole[:, :-1]).abs().max()) > 0.1
    network.out = nn.Identity()
    states = network(c)
    network.start, network.n_times = At(states[:, 2]), 4
    torch.testing.assert_close(network(c), states[:, 2:])


def test_no_parameters_send_it_to_infinity() -> None:
    network = random_network(50)
    randomize(network, 30.0)
    network.out = nn.Identity()
    states = network(1e3 * condition(20))[:, 1:]
    assert torch.isfinite(states).all()
    assert float(states.abs().max()) <= LARGEST


@pytest.mark.parametrize("n_substeps", [1, 4])
def test_euler_steps_of_decay(n_substeps: int) -> None:
    """By silu(x) − silu(−x) = x, dh/dt = −rate h is a law of two hidden units (but for bounds)."""
    network = DynamicsNetwork(1, 1, 5, n_states=1, n_substeps=n_substeps, hidden=(2,)).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        network.start.layers[-1].bias.fill_(0.1)  # where the bound is the identity
        network.enter.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        network.context.weight[2:] = 1.0  # the condition is the logarithm of the rate
        network.law.layers[-1].weight.copy_(torch.tensor([[-1.0, 1.0]]))
        network.out.weight.fill_(1.0)
        rate = torch.tensor([0.5, 0.8], dtype=torch.float64)
        found = network(rate.log()[:, None])[..., 0]
    steps = n_substeps * torch.arange(5.0, dtype=torch.float64)
    expected = 0.1 * (1.0 - rate[:, None] / n_substeps) ** steps
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.0)


def test_an_ensemble_is_the_mean_of_its_laws() -> None:
    ensemble = random_ensemble(3).eval()
    each = [law(condition(5)) for law in ensemble.members]
    assert float((each[0] - each[1]).abs().max()) > 0.1
    torch.testing.assert_close(ensemble(condition(5)), (each[0] + each[1] + each[2]) / 3)


@pytest.mark.parametrize("n_sets", [0, 1, 2, 7, 9])
def test_in_training_each_law_sees_its_share(n_sets: int) -> None:
    ensemble = random_ensemble(3).train()
    c = condition(n_sets)
    found = ensemble(c)
    assert found.shape == (n_sets, 6, 2)
    for i, law in enumerate(ensemble.members):
        torch.testing.assert_close(found[i::3], law(c)[i::3])


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("hidden", [(8,), (8, 8, 8), (8, 4)])
def test_an_ensemble_is_one_network_of_blocks(n_members: int, hidden: tuple[int, ...]) -> None:
    ensemble = random_ensemble(n_members, hidden=hidden, n_substeps=3).eval()
    before = torch.get_rng_state()
    merged = ensemble.merged()
    assert torch.equal(torch.get_rng_state(), before)
    assert merged.enter.in_features == 4 * n_members
    torch.testing.assert_close(merged(condition(5)), ensemble(condition(5)), rtol=0.0, atol=1e-12)
