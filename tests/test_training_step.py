"""A step of training: what a CUDA graph replays is what runs eagerly, as far as a CPU can tell."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pymc as pm
import pytest
import torch
from conjugate import normal_mean
from torch import nn

from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings, default_training, standardize
from jana_pymc.fitting.defaults import candidates
from jana_pymc.flows import FlowSettings
from jana_pymc.joint_network import Batch
from jana_pymc.likelihoods import Support, VectorLikelihood, VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import FlatSummary, FlatSummarySettings, SetSummarySettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.simulation import Categorical, Continuous, Count, GenerativeModel
from jana_pymc.tasks import task
from jana_pymc.tasks.ddm import ddm
from jana_pymc.tasks.epidemic import epidemic
from jana_pymc.tracing import ValuesAsked
from jana_pymc.training import StoredSimulations, TrainingSettings
from jana_pymc.training.batches import to_batch
from jana_pymc.training.distractors import _Distractors
from jana_pymc.training.step import STEPS_BEFORE_CAPTURE, GraphedStep, TrainingStep

NETWORK = NetworkSettings(
    PosteriorSettings(
        SetSummarySettings(n_summaries=4, n_quantiles=4, hidden=(16,)),
        FlowSettings(transform="autoregressive", n_layers=1, hidden=(8,), n_bins=4),
    ),
    VectorSettings(n_layers=1, hidden=(8,), conditioner_hidden=8, n_bins=4),
)
SETTINGS = TrainingSettings(
    n_steps=24, batch_size=32, linear_steps=8, weight_average=0.9, mmd_weight=0.1
)


class Recording:
    """Stands for a CUDA graph: remembers one call, and repeats it with the same tensors."""

    captured: int = 0

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def run(self) -> None:
        self.function()

    def capture(self) -> Callable[[], None]:
        type(self).captured += 1
        return self.function


class Refusing(Recording):
    def capture(self) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")


def steps(
    graph: type[Recording] | None,
    spoiled: int | None = None,
    settings: TrainingSettings = SETTINGS,
    last: int = SETTINGS.n_steps,
) -> TrainingStep:
    """Some steps, across the end of the linear phase; one batch may be spoiled."""
    model = normal_mean()
    batch = to_batch(
        model.simulate(200, random_seed=1, progressbar=False), model.prior, torch.device("cpu")
    )
    network = build_network(model.schema, model.prior, (False,), NETWORK, 1)
    standardize(network, [batch])
    source = StoredSimulations(batch, None, batch_size=32, n_obs=model.schema.n_obs, seed=1)
    step = TrainingStep(network, copy.deepcopy(network), settings, seed=1)
    run = step if graph is None else GraphedStep(step, graph)  # type: ignore[arg-type]
    for number in range(last):
        drawn, _ = source.batch(number)
        if number == spoiled:
            drawn = Batch(**{**vars(drawn), "unconstrained": drawn.unconstrained * torch.nan})
        step.schedule(number)
        run(drawn, None)
    return step


def assert_same(first: TrainingStep, second: TrainingStep) -> None:
    for ours, theirs in ((first.network, second.network), (first.average, second.average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    assert torch.equal(first.totals, second.totals)


@pytest.mark.parametrize("shrinkage", [0.0, 2.0])
def test_replayed_steps_are_eager_steps(shrinkage) -> None:
    Recording.captured = 0
    settings = replace(SETTINGS, shape_shrinkage=shrinkage)
    with torch.random.fork_rng():
        assert_same(steps(None, settings=settings), steps(Recording, settings=settings))
    assert Recording.captured == 2  # the linear phase, and all weights
    assert SETTINGS.linear_steps > STEPS_BEFORE_CAPTURE


def test_shapes_shrink_by_the_proximal_step_of_a_group_lasso() -> None:
    shrinking = replace(SETTINGS, shape_shrinkage=2.0)
    with torch.random.fork_rng():
        free, bound = (steps(None, settings=s, last=9) for s in (SETTINGS, shrinking))
    plain, shrunk = (step.network.likelihood.state_dict() for step in (free, bound))
    rate = free.settings.likelihood_learning_rate / 2.0  # the first of two steps of warm-up
    for name, before in plain.items():
        after = before.clone()
        if name.endswith("weight_in"):
            context = after[:, :1]  # the only parameter
            norm = context.norm(dim=-1, keepdim=True)
            context.mul_((1.0 - 2.0 * rate / norm).clamp_min(0.0))
            assert not torch.equal(before, after)
        torch.testing.assert_close(shrunk[name], after)
    for name, value in free.network.posterior.state_dict().items():
        assert torch.equal(value, bound.network.posterior.state_dict()[name])


def test_what_shapes_do_not_depend_on_is_left_out() -> None:
    shrinking = replace(SETTINGS, shape_shrinkage=50.0)
    with torch.random.fork_rng():
        network = steps(None, settings=shrinking).network
    for name, value in network.likelihood.state_dict().items():
        if name.endswith("weight_in"):
            assert (value[:, :1] == 0.0).all()


def test_without_a_gradient_only_decay_moves_the_weights() -> None:
    """By 1 − rate · decay, those of several axes that are no linear parts; others stay."""
    settings = TrainingSettings(n_steps=10, optimizer="adamw", weight_decay=0.3)
    model = normal_mean()
    network = build_network(model.schema, model.prior, (False,), NETWORK, 1)
    for value in network.parameters():
        value.data.fill_(1.0)
    step = TrainingStep(
        network, copy.deepcopy(network), settings, lambda *pair: torch.zeros(2), seed=1
    )
    step.schedule(0)
    step(torch.empty(0), None)  # type: ignore[arg-type]
    linear = {
        id(value)
        for module in network.modules()
        if hasattr(module, "linear_parameters")
        for value in module.linear_parameters()
    }
    assert linear
    rates = {"posterior": 3e-3, "likelihood": 1e-2}
    seen = set()
    for name, rate in rates.items():
        halves = getattr(network, name), getattr(step.average, name)
        for value, average in zip(*(half.parameters() for half in halves), strict=True):
            decays = value.ndim > 1 and id(value) not in linear
            expected = 1.0 - 0.5 * rate * 0.3 if decays else 1.0  # the first of two of warm-up
            torch.testing.assert_close(value, torch.full_like(value, expected), rtol=1e-6, atol=0)
            torch.testing.assert_close(average, value, rtol=0, atol=0)
            seen.add((name, decays))
    assert len(seen) == 4


def test_what_cannot_be_captured_is_trained_eagerly() -> None:
    with torch.random.fork_rng():
        with pytest.warns(UserWarning, match="cannot be captured"):
            refused = steps(Refusing)
        assert_same(steps(None), refused)


@pytest.mark.parametrize("graph", [None, Recording])
def test_a_step_without_finite_gradients_changes_nothing(graph) -> None:
    with torch.random.fork_rng():
        spoiled = steps(graph, spoiled=SETTINGS.n_steps - 1)
        assert int(spoiled.left_out) == 1
        assert torch.isfinite(spoiled.totals).all()
        assert not torch.isfinite(spoiled.losses).all()
        for value in spoiled.network.state_dict().values():
            assert torch.isfinite(value).all()
        moments = spoiled.optimizer.state_dict()["state"].values()
        counts = {int(m["step"]) for m in moments}
        assert max(counts) == SETTINGS.n_steps - 1


class HostAsked(ValuesAsked):
    """Notes also what is brought from the host, for which a GPU waits as well."""

    NAMES = (*ValuesAsked.NAMES, "lift_fresh", "check_errors")


def mixed(structure: str) -> GenerativeModel:
    """Components of each kind in no regular order, some bounded by a parameter."""
    with pm.Model() as prior:
        pm.Normal("low")

    def simulator(rng, low, n_obs=()):
        above = {name: low + rng.exponential(size=n_obs) for name in "xyz"}
        categories = {name: rng.integers(0, 2, n_obs) for name in "ab"}
        return {**above, **categories, "k": rng.poisson(2.0, n_obs)}

    bounded = Continuous(lower="low")
    kinds = {"a": Categorical(2), "x": bounded, "k": Count(), "b": Categorical(2)}
    n_obs = None if structure == "vector" else 4
    return GenerativeModel(
        prior,
        simulator,
        observables={**kinds, "y": bounded, "z": bounded},
        structure=structure,
        n_obs=n_obs,
    )


@pytest.mark.parametrize(
    "model",
    [
        ddm(n_obs=(5, 8)),
        *map(mixed, ("vector", "exchangeable", "markovian")),
        *(task(name, "paper").model for name in ("two_moons", "slcp", "sir")),
        *(task(name, "paper").model for name in ("bernoulli_glm", "bernoulli_glm_raw")),
        epidemic(whole=True),
    ],
    ids=[
        *("ddm", "vector", "exchangeable", "markovian"),
        *("two_moons", "slcp", "sir", "bernoulli_glm", "bernoulli_glm_raw", "epidemic"),
    ],
)
def test_a_step_never_asks_the_host(model) -> None:
    simulated = model.simulate(40, random_seed=1, progressbar=False)
    batch = to_batch(simulated, model.prior, torch.device("cpu"))
    size = model.prior.n_unconstrained
    *_, settings = candidates(default_settings(model.schema, size), model.schema, size)
    positive = [False] * len(model.schema.components)
    network = build_network(model.schema, model.prior, positive, settings, 1)
    standardize(network, [batch])
    training = default_training(settings, model.prior.n_unconstrained, model.schema)
    training = replace(training, mmd_weight=0.1)
    with torch.random.fork_rng():
        step = TrainingStep(network, copy.deepcopy(network), training, seed=1)
        for number in (0, training.linear_steps):
            step.schedule(number)
            step(batch, None)  # what is made once is made now
            with HostAsked() as asked:
                step(batch, None)
            assert not asked.found


def test_columns_in_no_order_never_ask_the_host() -> None:
    x, ones = torch.randn(5, 1, 6), torch.ones(5, 1)
    summary = FlatSummary(6, FlatSummarySettings(informative=(4, 0, 1)))
    settings = replace(NETWORK.likelihood, informative=(1, 4))
    alone = _Distractors(nn.Identity(), VectorLikelihood([Support()] * 6, 1, settings=settings))
    with HostAsked() as asked:
        found = summary(x, x, ones.long(), ones.bool())
        loss = alone.likelihood_loss(Batch(ones, ones, x, None, ones[:, 0].long()))
    assert not asked.found and torch.isfinite(loss)
    assert torch.equal(found, torch.stack([x[:, 0, 4], x[:, 0, 0], x[:, 0, 1]], -1))
