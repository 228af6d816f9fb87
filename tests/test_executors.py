"""Simulation on other machines' engines: workers come and go, the simulations stay the same."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from conjugate import normal_mean

from jana_pymc.simulation import runner


class Unreliable(ThreadPoolExecutor):
    """Loses every third task when it first comes, done or not; or all of them, always."""

    def __init__(self, *, always: bool = False, done: bool = False):
        super().__init__(2)
        self.always, self.done, self.submitted, self.seen = always, done, 0, set()

    def submit(self, fn, /, *args, **kwargs) -> Future:
        self.submitted += 1
        is_new = id(args[1]) not in self.seen
        self.seen.add(id(args[1]))
        if self.always or (is_new and len(self.seen) % 3 == 2):
            if self.done:
                fn(*args, **kwargs)
            future: Future = Future()
            future.set_exception(ConnectionError("the worker has left"))
            return future
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("done", [False, True])
def test_lost_tasks_are_run_again_and_counted(monkeypatch, done: bool) -> None:
    monkeypatch.setattr(runner, "_TRIALS_IN_BLOCK", 100)
    model = normal_mean()
    here = model.simulate(200, random_seed=5, progressbar=False)
    with (
        Unreliable(done=done) as executor,
        pytest.warns(RuntimeWarning, match=r"\d+ times a worker lost a task"),
    ):
        there = model.simulate(200, random_seed=5, executor=executor, progressbar=False)
    assert here.dataset.identical(there.dataset)


def test_a_task_that_is_always_lost_ends_the_run() -> None:
    with Unreliable(always=True) as executor, pytest.raises(ConnectionError, match="left") as told:
        normal_mean().simulate(20, random_seed=5, executor=executor, progressbar=False)
    assert "was lost 3 times" in told.value.__notes__[0]
    assert executor.submitted == 3


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_what_one_process_gives(monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(runner, "_TRIALS_IN_BLOCK", 100)
    model = normal_mean()
    here = model.simulate(200, random_seed=5, progressbar=False)
    with distributed.Client(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as client:
        there = model.simulate(
            200, random_seed=5, executor=client.get_executor(), progressbar=False
        )
        with pytest.raises(TypeError, match=r"pass client\.get_executor\(\)"):
            model.simulate(5, executor=client, progressbar=False)
    assert here.dataset.identical(there.dataset)
