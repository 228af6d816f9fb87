"""Gradients of both halves side by side: those that Python computes, to the last bit."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from conjugate import normal_mean
from torch import nn

from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings, default_training, standardize
from jana_pymc.fitting.defaults import candidates
from jana_pymc.flows import FlowSettings
from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.likelihoods import SoftFlowSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.simulation import GenerativeModel
from jana_pymc.tasks import task
from jana_pymc.tasks.ddm import ddm
from jana_pymc.tasks.epidemic import epidemic
from jana_pymc.training import TrainingSettings
from jana_pymc.training.batches import to_batch
from jana_pymc.training.cores import fastest_threads
from jana_pymc.training.flat import FlatParameters
from jana_pymc.training.gradients import CompiledGradients, Gradients, TracedGradients
from jana_pymc.training.gradients import gradients_of as gradients_for

CPU = torch.device("cpu")
TASKS = ("two_moons", "slcp", "sir", "bernoulli_glm", "bernoulli_glm_raw", "lotka_volterra")


def pair(
    model: GenerativeModel, settings: NetworkSettings | None = None, n: int = 40
) -> tuple[JointNetwork, Batch]:
    """A network whose weights are all in use, and simulations."""
    batch = to_batch(model.simulate(n, random_seed=1, progressbar=False), model.prior, CPU)
    if settings is None:
        size = model.prior.n_unconstrained
        *_, settings = candidates(default_settings(model.schema, size), model.schema, size)
    positive = [False] * len(model.schema.components)
    network = build_network(model.schema, model.prior, positive, settings, 1)
    standardize(network, [batch])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network, batch


def gradients_of(network: JointNetwork, result: torch.Tensor) -> list[torch.Tensor]:
    gradients = [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]
    network.zero_grad()
    return [result, *gradients]


@pytest.mark.parametrize(
    "model",
    [
        ddm(n_obs=(5, 8)),
        *(task(name, "paper").model for name in TASKS),
        epidemic(),
        epidemic(whole=True),
    ],
    ids=["ddm", *TASKS, "epidemic", "whole"],
)
def test_traced_gradients_are_the_eager_ones(model) -> None:
    network, batch = pair(model)
    training = replace(
        default_training(default_settings(model.schema, 3), model.prior.n_unconstrained),
        mmd_weight=0.5,
    )
    first, second = batch.rows(slice(0, 20)), batch.rows(slice(20, 40))
    with torch.random.fork_rng(), TracedGradients(network, training, side_by_side=True) as traced:
        for rows in (first, second):
            torch.manual_seed(1)
            expected = gradients_of(network, Gradients(network, training)(rows, None))
            torch.manual_seed(1)
            found = gradients_of(network, traced(rows, None))
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0.0, atol=0.0, equal_nan=True)
        assert traced._traced is not None
        assert traced.side_by_side


def test_batches_of_other_shapes_are_not_traced_again() -> None:
    network, batch = pair(normal_mean())
    settings = TrainingSettings()
    with TracedGradients(network, settings, side_by_side=True) as traced:
        gradients_of(network, traced(batch, None))
        rows = batch.rows(slice(0, 7))
        found = gradients_of(network, traced(rows, None))
        expected = gradients_of(network, Gradients(network, settings)(rows, None))
        assert all(map(torch.equal, found, expected))


def test_what_depends_on_values_is_not_traced() -> None:
    network, batch = pair(normal_mean())
    log_prob = network.posterior.log_prob

    def asks(u: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return log_prob(u, condition) * (2.0 if float(u.sum()) > 0 else 1.0)

    network.posterior.log_prob = asks
    with TracedGradients(network, TrainingSettings(), side_by_side=True) as traced:
        for rows in (batch.rows(slice(0, 20)), batch.rows(slice(20, 40))):
            found = gradients_of(network, traced(rows, None))
            expected = gradients_of(network, Gradients(network, TrainingSettings())(rows, None))
            assert all(map(torch.equal, found, expected))
        assert traced._traced is None


def test_halves_that_both_draw_take_turns() -> None:
    model = task("two_moons").model
    settings = default_settings(model.schema, 2)
    flow = FlowSettings(transform="spline", n_layers=2, hidden=(8,), dropout=0.5)
    settings = NetworkSettings(replace(settings.posterior, flow=flow), SoftFlowSettings())
    network, batch = pair(model, settings)
    with (
        torch.random.fork_rng(),
        TracedGradients(network, TrainingSettings(), side_by_side=True) as traced,
    ):
        torch.manual_seed(3)
        found = gradients_of(network, traced(batch, None))
        assert not traced.side_by_side
        torch.manual_seed(3)
        expected = gradients_of(network, Gradients(network, TrainingSettings())(batch, None))
        assert all(map(torch.equal, found, expected))


def test_nothing_is_left_behind() -> None:
    before, threads = torch.get_num_threads(), threading.active_count()
    network, batch = pair(normal_mean())
    with TracedGradients(network, TrainingSettings(), side_by_side=True) as traced:
        traced.use_threads(before + 1)
        traced(batch, None)
        assert threading.active_count() == threads + 1
    assert torch.get_num_threads() == before
    assert threading.active_count() == threads


def test_an_error_in_one_half_surfaces() -> None:
    network, batch = pair(normal_mean())
    with TracedGradients(network, TrainingSettings(), side_by_side=True) as traced:
        traced(batch, None)

        def fails(*tensors: torch.Tensor) -> None:
            raise MemoryError("out of memory")

        for half in (0, 1):
            working = traced._traced[half]
            traced._traced[half] = fails
            with pytest.raises(MemoryError, match="out of memory"):
                traced(batch, None)
            traced._traced[half] = working


@pytest.mark.parametrize(("gain", "expected"), [(1.1, 1), (1.9, 8)])
def test_more_threads_must_pay(monkeypatch, gain: float, expected: int) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def prepare(n: int):
        def call() -> None:
            clock[0] += gain ** -torch.tensor(float(n)).log2().item()

        return call

    assert fastest_threads(prepare, 8) == expected


def test_flat_parameters_are_views_until_released() -> None:
    module = nn.Linear(3, 2)
    weights = [p.detach().clone() for p in module.parameters()]
    flat = FlatParameters(list(module.parameters()))
    module(torch.ones(1, 3)).sum().backward()
    assert flat.gradient.tolist() == [1.0] * 8
    with torch.no_grad():
        flat.value.sub_(flat.value.grad)
    for parameter, weight in zip(module.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight - 1.0)
    flat.take_part(False)
    assert flat.value.grad is None
    flat.release()
    storages = {p.untyped_storage().data_ptr() for p in module.parameters()}
    assert len(storages) == 2
    assert all(p.grad is None for p in module.parameters())


def test_settings_choose_the_execution(monkeypatch) -> None:
    # The compiler itself does not get on with annotations that are checked at run time.
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    network, batch = pair(normal_mean())
    expected = None
    for execution, kind in (
        ("eager", Gradients),
        ("graph", TracedGradients),
        ("compile", CompiledGradients),
    ):
        with gradients_for(network, TrainingSettings(execution=execution)) as gradients:
            assert type(gradients) is kind
            found = gradients_of(network, gradients(batch, None))
        expected = expected or found
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="execution='fast' is not"):
        TrainingSettings(execution="fast")


@pytest.mark.parametrize("n_threads", [0, True, "all"])
def test_numbers_of_threads_are_checked(n_threads) -> None:
    with pytest.raises((TypeError, ValueError), match="n_threads"):
        TrainingSettings(n_threads=n_threads)
