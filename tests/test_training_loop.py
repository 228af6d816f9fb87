"""The loop of training by itself, on two networks of one number each."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jana_pymc.joint_network import Batch, JointNetwork
from jana_pymc.storage import StorageError
from jana_pymc.training import (
    SimulationRounds,
    StoredSimulations,
    TrainingError,
    TrainingHistory,
    TrainingSettings,
    loop,
    parallel,
    train,
)
from jana_pymc.training.step import TrainingStep

NAN, INF = math.nan, math.inf


class Level(nn.Module):
    """A number."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))


class Levels(JointNetwork):
    """Both networks seek the mean of the parameters, the likelihood those of the proposal too."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.posterior, self.likelihood = Level(), Level()  # type: ignore[assignment]

    def posterior_loss(self, batch, **options) -> tuple[Tensor, Tensor]:
        loss = (batch.parameters - self.posterior.level).square().mean()
        return loss, torch.zeros(())

    def likelihood_loss(self, batch, proposal_batch=None, **options) -> Tensor:
        wider = [each.parameters for each in (batch, proposal_batch) if each is not None]
        return (torch.cat(wider) - self.likelihood.level).square().mean()


def batch_of(values: Tensor) -> Batch:
    rows = values[:, None]
    return Batch(rows, rows, rows[..., None], None, torch.ones(len(rows), dtype=torch.long))


DATA = batch_of(torch.linspace(0.0, 2.0, 64))


class Interrupted:
    """Batches until someone has enough."""

    seen = None

    def batch(self, step: int) -> tuple[Batch, None]:
        if step == 25:
            raise KeyboardInterrupt
        return DATA, None


class Spoiled:
    """The same batch again and again, but for some steps, whose loss is no number."""

    seen = None

    def __init__(self, *steps: int):
        self.steps = steps

    def batch(self, step: int) -> tuple[Batch, None]:
        return (batch_of(torch.full((64,), NAN)) if step in self.steps else DATA), None


def settings_of(n_validations: int, n_steps: int = 40, **settings: Any) -> TrainingSettings:
    plain = {"execution": "eager", "n_threads": 1, "patience": None}
    return TrainingSettings(n_steps=n_steps, n_validations=n_validations, **plain | settings)


def trained(source: Any, n_validations: int, n_steps: int = 40, **settings: Any) -> tuple:
    network = Levels()
    options = settings_of(n_validations, n_steps, **settings)
    history = train(network, source, (DATA, None), options, seed=1, progressbar=False)
    return network, history


def trained_on(network: Levels, half: str, source: Any, **options: Any) -> TrainingHistory:
    """One half alone."""
    return train(
        *(network, source, (DATA, None), settings_of(4)),
        seed=1,
        halves=(half,),
        progressbar=False,
        **options,
    )


def test_a_later_stage_learns_with_dropout_and_what_is_frozen_without() -> None:
    network = Levels()
    network.posterior.frozen = nn.Sequential(nn.Linear(1, 1), nn.Dropout()).requires_grad_(False)
    network.posterior.learns = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    modes = []

    class Watched(Spoiled):
        def batch(self, step: int) -> tuple[Batch, None]:
            parts = network.likelihood, network.posterior.frozen[1], network.posterior.learns[1]
            modes.append([part.training for part in parts])
            return super().batch(step)

    network.eval()  # as a stage before leaves it
    trained_on(network, "posterior", Watched())
    assert modes == [[False, False, True]] * 40
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("source", "error"),
    [(Spoiled(*range(5, 40)), TrainingError), (Interrupted(), KeyboardInterrupt)],
)
def test_a_training_that_fails_gives_the_network_back(source: Any, error: type) -> None:
    """Without dropout, and each weight by itself, which could not be saved as part of a vector."""
    network = Levels()
    network.posterior.others = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    with pytest.raises(error):
        trained_on(network, "posterior", source)
    assert network.posterior.level.item() > 0.0
    assert not any(module.training for module in network.modules())
    for weight in network.parameters():
        assert weight.grad is None
        assert weight.untyped_storage().nbytes() == weight.nbytes


def test_a_checkpoint_that_is_refused_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network, path = Levels(), tmp_path / "run.ckpt"
    trained_on(network, "posterior", Spoiled(), checkpoint=path)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(StorageError, match="other simulations"):
        trained_on(network, "posterior", Spoiled(), checkpoint=path, data="others")
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("half", ["posterior", "likelihood"])
def test_only_what_learns_is_validated(half: str) -> None:
    network = Levels()
    (other,) = {"posterior", "likelihood"} - {half}

    def asked(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"{other} asked")

    setattr(network, f"{other}_loss", asked)
    history = trained_on(network, half, Spoiled())
    assert getattr(network, other).level.item() == 0.0
    assert np.isnan(getattr(history, f"validation_{other}")).all()
    assert np.isnan(getattr(history, other)).all()
    losses = getattr(history, f"validation_{half}")
    spread = DATA.parameters.square().mean() - DATA.parameters.mean() ** 2
    level = getattr(network, half).level.item()
    assert min(losses) == pytest.approx((spread + (level - 1.0) ** 2).item(), rel=1e-5)


def test_a_network_keeps_its_loss_where_it_does_not_learn() -> None:
    network = Levels()
    options = settings_of(4)
    pair = train(network, Spoiled(), (DATA, None), options, seed=1, progressbar=False)
    both = pair.followed_by(trained_on(network, "posterior", Spoiled()))
    for losses in (both.likelihood, both.validation_likelihood):
        assert losses[4:] == [pair.best_likelihood] * 4
    assert both.best_posterior < pair.best_posterior
    assert both.stages == [4]
    assert pair.followed_by(both).stages == [4, 8]


def test_random_numbers_of_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    network = Levels()
    step = TrainingStep(network, copy.deepcopy(network), settings_of(4), seed=1)
    step.schedule(3)
    assert not seeds
    drawn = torch.rand(5)
    torch.manual_seed(torch.initial_seed())
    assert torch.equal(drawn, torch.rand(5))
    step.schedule(3)
    assert torch.equal(drawn, torch.rand(5))


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3.0, NAN, 2.0, 2.5], 2),
        ([NAN, 3.0, 2.0, NAN], 2),
        ([NAN, NAN, 3.0, 4.0], 2),
        ([2.0, NAN, 3.0, NAN], 0),
        ([NAN, NAN, NAN, NAN], 3),  # as where all are infinite
        ([INF, INF, INF, INF], 3),
    ],
)
def test_a_validation_that_is_no_number_does_not_hide_the_best_weights(
    monkeypatch: pytest.MonkeyPatch, losses: list[float], best: int
) -> None:
    levels = []

    def validation_loss(network, *options) -> tuple[float, float]:
        levels.append([half.level.item() for half in (network.posterior, network.likelihood)])
        return losses[len(levels) - 1], 1.0 - len(levels)

    monkeypatch.setattr(loop, "validation_loss", validation_loss)
    network, history = trained(Spoiled(), 4)
    assert len({posterior for posterior, _ in levels}) == 4
    assert network.posterior.level.item() == levels[best][0]
    assert network.likelihood.level.item() == levels[3][1]
    assert history.best_likelihood == -3.0


def test_the_first_of_several_processes_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one would measure other threads, and go on with weights that the first leaves."""
    said = iter([2, *((loss, 1.0) for loss in (3.0, 2.0, 2.5, NAN))])
    own = iter([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    levels, threads = [], []

    def broadcast(values: Tensor, source: int) -> None:
        assert source == 0
        values.copy_(torch.tensor(next(said)))

    def validation_loss(network: Levels, *options: Any) -> tuple[float, float]:
        levels.append(network.posterior.level.item())
        return next(own), 1.0

    class Watched(Spoiled):
        def batch(self, step: int) -> tuple[Batch, None]:
            threads.append(torch.get_num_threads())
            return super().batch(step)

    monkeypatch.setattr(parallel, "n_processes", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    monkeypatch.setattr(parallel.dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(parallel.dist, "broadcast", broadcast)
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda values: values.mul_(2.0))
    monkeypatch.setattr(parallel.dist, "barrier", lambda: None)
    monkeypatch.setattr(loop, "fastest_threads", lambda once, most: 1)
    monkeypatch.setattr(loop, "validation_loss", validation_loss)
    network, history = trained(Watched(), 8, patience=2, n_threads="auto")
    np.testing.assert_array_equal(history.validation_posterior, [3.0, 2.0, 2.5, NAN])
    assert network.posterior.level.item() == levels[1]
    assert set(threads[1:]) == {2}  # the first batch is for the measurement


def test_patience_does_not_end_at_what_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([5.0, NAN, 4.0, NAN, 3.0, NAN, 3.5, 2.0])
    monkeypatch.setattr(loop, "validation_loss", lambda *_: (next(losses), 1.0))
    _, history = trained(Spoiled(), 8, patience=2)
    assert len(history) == 7  # two after the 3


@pytest.mark.parametrize(
    ("losses", "best", "without_progress"),
    [
        ([3.0, NAN, 2.0, 2.5], 2.0, 1),
        ([NAN, 1.0, NAN, NAN], 1.0, 2),
        ([NAN, NAN, NAN, NAN], INF, 3),
    ],
)
def test_a_history_looks_past_what_is_no_number(
    losses: list[float], best: float, without_progress: int
) -> None:
    steps, other = [1, 2, 3, 4], [1.0] * 4
    history = TrainingHistory(step=steps, validation_posterior=losses, validation_likelihood=other)
    assert history.best_posterior == best
    assert history.validations_without_progress() == without_progress


def test_a_network_that_leaves_the_numbers_has_lost_its_way() -> None:
    for training, validation, lost in (
        ([1.0, 9.0], [1.0, NAN], True),
        ([1.0, 0.9], [1.0, NAN], False),
        ([NAN, 9.0], [NAN, 9.0], False),
        ([1.0, NAN, 9.0], [NAN, 1.0, 9.0], True),
        ([1.0, 0.5, NAN], [1.0, 3.5, 3.5], False),  # it overfits, and then nothing was learned
    ):
        history = TrainingHistory(posterior=training, validation_posterior=validation)
        assert loop._is_astray(history, "posterior") is lost


@pytest.mark.parametrize("n_validations", [1, 4, 40])
def test_a_few_extreme_simulations_do_not_end_a_training(n_validations: int) -> None:
    network, history = trained(Spoiled(3, 10, 11, 12, 13, 14), n_validations)
    assert history.step[-1] == 40
    assert math.isfinite(network.posterior.level.item())
    # The mean of no step is no number, and no other one is.
    none = [
        step for step, loss in zip(history.step, history.posterior, strict=True) if loss != loss
    ]
    assert none == ([4, 11, 12, 13, 14, 15] if n_validations == 40 else [])


@pytest.mark.parametrize(("n_validations", "step"), [(1, 25), (4, 30), (40, 25)])
def test_many_of_them_do(n_validations: int, step: int) -> None:
    with pytest.raises(TrainingError, match=rf"loss is nan at step {step}, .* in 20 steps"):
        trained(Spoiled(*range(5, 40)), n_validations)


def test_a_training_without_any_step_ends() -> None:
    with pytest.raises(TrainingError, match=r"at step 3, .* in 3 steps"):
        trained(Spoiled(*range(3)), 1, n_steps=3)


@pytest.mark.parametrize("n_wider", [0, 3, 700, 1_300])
def test_all_held_out_data_sets_count_alike(n_wider: int) -> None:
    values = torch.randn(2_500, generator=torch.Generator().manual_seed(1)).double()
    prior, wider = values[:1_300], values[1_300 : 1_300 + n_wider] + 5.0
    validation = batch_of(prior), batch_of(wider) if n_wider else None
    posterior, likelihood = loop.validation_loss(Levels(), validation, 1)
    assert posterior == pytest.approx(prior.square().mean().item())
    assert likelihood == pytest.approx(torch.cat([prior, wider]).square().mean().item())


class AtOnce(Executor):
    """Stands for a thread that is always faster."""

    def submit(self, function: Callable, *arguments: Any) -> Future:  # type: ignore[override]
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


def test_two_rounds_at_most_are_in_memory() -> None:
    made: list[weakref.ref] = []
    alive: list[int] = []

    def get(number: int) -> tuple[Batch, None]:
        batch = batch_of(torch.full((8,), float(number)))
        made.append(weakref.ref(batch))
        alive.append(sum(each() is not None for each in made))
        return batch, None

    rounds = SimulationRounds(get, batch_size=4, steps_per_round=2, n_obs=None, seed=1)
    rounds.close()
    rounds._background = AtOnce()
    drawn = [rounds.batch(step)[0].parameters.unique().tolist() for step in range(8)]
    assert drawn == [[number] for number in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert max(alive) == 2


def test_batches_of_rounds_are_whole_whatever_failed() -> None:
    sizes = {0: (5, 3), 1: (9, 20), 2: (8, 1)}

    def get(number: int) -> tuple[Batch, Batch]:
        first, second = (batch_of(torch.arange(float(n))) for n in sizes.get(number, (8, 8)))
        return first, second

    rounds = SimulationRounds(get, batch_size=8, steps_per_round=1, n_obs=(1, 1), seed=1)
    for number, given in sizes.items():
        for batch, n in zip(rounds.batch(number), given, strict=True):
            _, times = batch.parameters.unique(return_counts=True)
            assert len(batch.parameters) == len(batch.observables) == len(batch.n_obs) == 8
            assert len(times) == min(n, 8)
            assert times.max() - times.min() <= 1  # none comes twice before all have come once
    rounds.close()
    few = StoredSimulations(batch_of(torch.arange(5.0)), None, batch_size=8, n_obs=None, seed=1)
    assert sorted(few.batch(3)[0].parameters[:, 0].tolist()) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_rounds_are_made_by_one_thread_beside_those_of_the_training() -> None:
    threads, before = [], torch.get_num_threads()

    def get(number: int) -> tuple[Batch, None]:
        threads.append(torch.get_num_threads())
        return DATA, None

    torch.set_num_threads(3)
    try:
        rounds = SimulationRounds(get, batch_size=4, steps_per_round=1, n_obs=None, seed=1)
        rounds.batch(0)
        rounds.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_an_epoch_visits_each_data_set_once_but_for_the_remainder() -> None:
    source = StoredSimulations(DATA, None, batch_size=20, n_obs=None, seed=1)
    epochs = [torch.cat([source.batch(3 * i + j)[0].parameters for j in range(3)]) for i in (0, 1)]
    assert [len(epoch.unique()) for epoch in epochs] == [60, 60]
    assert not torch.equal(*epochs)
