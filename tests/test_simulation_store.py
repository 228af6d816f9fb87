"""Simulations beyond memory: nothing lost or doubled, and training as good as from memory."""

from __future__ import annotations

import shutil

import numpy as np
import pymc as pm
import pytest
from conjugate import SMALL, exact_posterior, normal_mean, normal_prior

import jana_pymc as jana
from jana_pymc.simulation.store import INDEX, chunk_file
from jana_pymc.training import ChunkRounds

pytestmark = pytest.mark.trains

pytest.importorskip("zarr")
OPTIONS = {"chunk_size": 50, "random_seed": 3, "progressbar": False}


def parameters(store: jana.SimulationStore) -> np.ndarray:
    return np.concatenate([chunk.parameters for chunk in store])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> jana.SimulationStore:
    return normal_mean().simulate_to(tmp_path_factory.mktemp("store") / "whole", 250, **OPTIONS)


def test_chunks_hold_what_was_asked_for(whole) -> None:
    assert len(whole) == 250 and len(whole.chunks) == 5
    theta = parameters(whole)
    assert len(np.unique(theta)) == 250
    np.testing.assert_array_equal(whole.region, [theta.min(0), theta.max(0)])
    again = jana.SimulationStore(whole.path)
    assert again.chunks == whole.chunks and again.source == "prior"
    assert whole.failures.n_simulations == 250 and whole.failures.n_failed == 0
    np.testing.assert_array_equal(whole.load().parameters, theta)


@pytest.mark.parametrize(
    ("asked", "sizes"), [(7, [7]), (10, [10]), (15, [8, 8]), (21, [7, 7, 7]), (23, [8, 8, 8])]
)
def test_as_many_are_simulated_as_were_asked_for(asked, sizes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jana_pymc.simulation.store.CHUNK_SIZE", 10)
    options = {"random_seed": 3, "progressbar": False}
    model = normal_mean()
    store = model.simulate_to(tmp_path / "store", asked, **options)
    assert [len(chunk) for chunk in store] == sizes
    again = model.simulate_to(tmp_path / "named", asked, chunk_size=sizes[0], **options)
    np.testing.assert_array_equal(parameters(store), parameters(again))


def test_a_store_goes_on_with_its_own_chunks(whole, tmp_path) -> None:
    model, path = normal_mean(), tmp_path / "store"
    options = {"random_seed": OPTIONS["random_seed"], "progressbar": False}
    model.simulate_to(path, 100, **OPTIONS)
    grown = model.simulate_to(path, 230, **options)
    np.testing.assert_array_equal(parameters(grown), parameters(whole))
    assert len(model.simulate_to(path, 60, **options)) == 250  # asks for no more than is there
    with pytest.raises(ValueError, match="other options: chunk_size=50, not 40"):
        model.simulate_to(path, 250, chunk_size=40, **options)


class Killed(Exception):
    pass


@pytest.mark.parametrize("when", ["while simulating", "before the index"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(when, whole, tmp_path, monkeypatch) -> None:
    path = tmp_path / "store"
    model = normal_mean()
    if when == "while simulating":
        simulate, calls = model.simulate, []

        def killed(*arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                raise Killed
            return simulate(*arguments, **options)

        monkeypatch.setattr(model, "simulate", killed)
        with pytest.raises(Killed):
            model.simulate_to(path, 250, **OPTIONS)
        monkeypatch.undo()
    else:
        model.simulate_to(path, 100, **OPTIONS)
        # The third chunk is there, but the index does not know of it.
        whole.load(0).save(chunk_file(path, 2))
    assert len(jana.SimulationStore(path)) == 100
    resumed = model.simulate_to(path, 250, **OPTIONS)
    np.testing.assert_array_equal(parameters(resumed), parameters(whole))
    for ours, theirs in zip(resumed, whole, strict=True):
        assert ours.dataset.equals(theirs.dataset)
    assert not list(path.glob(".*"))


@pytest.mark.parametrize("when", ["simulating", "saving", "writing the first index"])
def test_a_run_that_is_killed_in_its_first_chunk_goes_on(when, whole, tmp_path, monkeypatch):
    path, model = tmp_path / "store", normal_mean()
    if when == "writing the first index":
        path.mkdir()
    else:

        def killed(*arguments, **options):
            raise Killed

        monkeypatch.setattr(model, "simulate", killed)
        with pytest.raises(Killed):
            model.simulate_to(path, 250, **OPTIONS)
        monkeypatch.undo()
        empty = jana.SimulationStore(path)
        assert len(empty) == empty.failures.n_simulations == 0
        with pytest.raises(ValueError, match=r"store': 0 in 0 chunks\) is empty"):
            jana.fit(model, simulations=empty)
    if when != "simulating":  # what it was writing is still about
        (path / ".index.json.0f.part").touch()
        for end in ("part", "old"):
            (path / f".chunk-000000.zarr.0f.{end}").mkdir()
    resumed = model.simulate_to(path, 50, **{**OPTIONS, "chunk_size": 25})  # nothing forbids others
    resumed = model.simulate_to(path, 50, **{**OPTIONS, "chunk_size": None})
    assert [len(chunk) for chunk in resumed] == [25, 25]
    assert sorted(each.name for each in path.iterdir()) == [
        *(f"chunk-{i:06d}.zarr" for i in range(2)),
        "index.json",
    ]


def test_another_order_of_columns_is_refused(tmp_path) -> None:
    def simulator(rng, mu, n_obs):
        return {"x": rng.normal(mu, 1.0, n_obs), "y": np.exp(rng.normal(mu, 1.0, n_obs))}

    prior = normal_prior()
    first, second = (
        jana.GenerativeModel(
            prior, simulator, observables={name: jana.Continuous() for name in names}, n_obs=5
        )
        for names in ("xy", "yx")
    )
    store = first.simulate_to(tmp_path / "store", 50, **OPTIONS)
    for simulations in (store, store.load(0)):
        with pytest.raises(ValueError, match=r"another model: .* the order in which they were"):
            jana.fit(second, simulations=simulations, training=jana.TrainingSettings(n_steps=1))
    with pytest.raises(ValueError, match=r"other options: schema=.*'x'.*, not .*'y'"):
        second.simulate_to(store.path, 100, **OPTIONS)
    others = second.simulate(5, random_seed=1, progressbar=False)
    with pytest.raises(ValueError, match="must have the same schema"):
        jana.Simulations.concat([store.load(0), others])


def test_other_options_and_foreign_folders_are_refused(whole, tmp_path) -> None:
    model = normal_mean()
    with pytest.raises(ValueError, match=r"other options: random_seed="):
        model.simulate_to(whole.path, 250, **{**OPTIONS, "random_seed": 4})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no simulation store"):
        model.simulate_to(tmp_path, 250, **OPTIONS)
    with pytest.raises(FileNotFoundError, match="holds no simulation store"):
        jana.SimulationStore(tmp_path)
    with pytest.raises(TypeError, match="random_seed=None: expected an integer"):
        model.simulate_to(tmp_path / "new", 10, random_seed=None)
    with pytest.raises(ValueError, match="random_seed=-1: expected at least 0"):
        model.simulate_to(tmp_path / "new", 10, random_seed=-1)
    with pytest.raises(TypeError, match="n_simulations=True: expected an integer"):
        model.simulate_to(tmp_path / "new", True, random_seed=1)
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        model.simulate_to(tmp_path / "notes.txt", 10, random_seed=1)
    with pytest.raises(ValueError, match="chunk_size=0: expected at least 1"):
        model.simulate_to(tmp_path / "new", 10, random_seed=1, chunk_size=0)
    index = (whole.path / INDEX).read_text()
    (tmp_path / INDEX).write_text(index.replace('"version": 1', '"version": 99'))
    with pytest.raises(ValueError, match="install a newer one"):
        jana.SimulationStore(tmp_path)


def test_damage_is_noticed_and_mended(whole, tmp_path) -> None:
    model = normal_mean()
    store = model.simulate_to(tmp_path / "store", 150, **OPTIONS)
    file = chunk_file(store.path, 1)
    next(path for path in sorted(file.glob("mu/*")) if path.name[0].isdigit()).unlink()
    with pytest.raises(ValueError, match=r"chunk-000001.zarr' is not what was written there"):
        store.load(1)
    with pytest.raises(ValueError, match=r"Delete the folder 'chunk-000001.zarr', not the store"):
        store.load(1)
    shutil.rmtree(file)
    with pytest.raises(ValueError, match=r"chunk 1 of .* call GenerativeModel.simulate_to again"):
        store.load(1)
    with pytest.raises(ValueError, match=r"has no 'chunk-000001.zarr'. Leave the rest") as error:
        store.load(1)
    assert "Delete" not in str(error.value)  # there is nothing to delete but the store
    mended = model.simulate_to(store.path, 150, **OPTIONS)
    np.testing.assert_array_equal(parameters(mended), parameters(whole)[:150])
    with pytest.raises(IndexError, match="has no chunk -1"):
        store.load(-1)
    (store.path / INDEX).write_text('{"format"')
    with pytest.raises(ValueError, match=r"index.json', the index .* is damaged"):
        model.simulate_to(store.path, 150, **OPTIONS)


def test_a_chunk_that_comes_out_otherwise_is_said_to_and_can_be_read(tmp_path, recwarn) -> None:
    model = normal_mean()
    store = model.simulate_to(tmp_path / "store", 150, **OPTIONS)
    index = (store.path / INDEX).read_text()
    shutil.rmtree(chunk_file(store.path, 1))
    model.simulate_to(store.path, 150, **OPTIONS)
    assert (store.path / INDEX).read_text() == index and not recwarn.list  # the same again

    other, simulator = normal_mean(), model.simulator
    other.simulator = lambda rng, mu, n_obs: {"x": simulator(rng, mu, n_obs)["x"] + 1e-9}
    shutil.rmtree(chunk_file(store.path, 1))
    with pytest.warns(UserWarning, match=r"chunk 1 of .*store' was missing .* but differs from"):
        mended = other.simulate_to(store.path, 150, **OPTIONS)
    for read in (mended, jana.SimulationStore(store.path)):
        assert read.load(1).dataset["x"].shape == (50, 15)
        assert read.chunks[1].digest != store.chunks[1].digest
        assert (read.chunks[0], read.chunks[2]) == (store.chunks[0], store.chunks[2])


def test_a_prior_without_a_density_fills_a_store(tmp_path) -> None:
    with pm.Model() as prior:
        pm.CustomDist("mu", random=lambda rng, size=None: rng.normal(size=size))
    model, known = (
        jana.GenerativeModel(
            each,
            normal_mean().simulator,
            observables=normal_mean().schema.observables,
            n_obs=(5, 15),
            vectorized=True,
        )
        for each in (prior, normal_prior())
    )
    store = model.simulate_to(tmp_path / "store", 50, **OPTIONS)
    assert len(model.simulate_to(store.path, 100, **OPTIONS)) == 100
    with pytest.raises(ValueError, match="other options: prior=None"):
        known.simulate_to(store.path, 100, **OPTIONS)


def test_simulations_of_another_prior_are_refused(whole) -> None:
    with pm.Model() as wider:
        pm.Normal("mu", 0.0, 3.0)
    model = normal_mean()
    other = jana.GenerativeModel(
        wider, model.simulator, observables=model.schema.observables, n_obs=(5, 15), vectorized=True
    )
    with pytest.raises(ValueError, match="other options: prior="):
        other.simulate_to(whole.path, 300, **OPTIONS)
    with pytest.raises(ValueError, match="the prior has another density"):
        jana.fit(other, simulations=whole, random_seed=1, progressbar=False)


def test_an_epoch_visits_every_chunk_but_the_first_once(whole) -> None:
    rounds = ChunkRounds(whole, seed=1, chunks_at_once=2)
    assert rounds.rounds_per_epoch == 2 and rounds.n_simulations == 100
    epochs = [rounds.numbers(2 * epoch) + rounds.numbers(2 * epoch + 1) for epoch in range(20)]
    assert all(sorted(epoch) == [1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5
    assert epochs[7] == ChunkRounds(whole, 1, 2).numbers(14) + ChunkRounds(whole, 1, 2).numbers(15)
    odd = ChunkRounds(whole, seed=1, chunks_at_once=3)
    seen = odd.numbers(0) + odd.numbers(1)
    assert set(seen) == {1, 2, 3, 4} and len(seen) == 6
    assert len(rounds.load(0)) == 100


def test_fit_streams_and_resumes(tmp_path) -> None:
    model = normal_mean()
    store = model.simulate_to(tmp_path / "store", 4_000, **{**OPTIONS, "chunk_size": 400})
    data = {"x": np.random.default_rng(1).normal(0.7, 1.0, 10)}

    def train(n_steps: int, **options) -> jana.JointApproximator:
        settings = jana.TrainingSettings(n_steps=n_steps, batch_size=64, n_validations=4)
        return jana.fit(
            model,
            simulations=store,
            network=SMALL,
            training=settings,
            random_seed=1,
            progressbar=False,
            **options,
        )

    approximator = train(800, checkpoint=tmp_path / "checkpoint")
    mean, sd = exact_posterior(data["x"])
    draws = approximator.sample(data, draws=2_000, random_seed=1)["posterior"]["mu"].values
    assert draws.mean() == pytest.approx(mean, abs=0.3 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.2)
    np.testing.assert_array_equal(approximator.region, store.region)
    resumed = train(800, checkpoint=tmp_path / "checkpoint")
    assert resumed.history.posterior == approximator.history.posterior


def test_what_cannot_be_streamed_is_said(whole, tmp_path) -> None:
    model = normal_mean()
    with pytest.raises(TypeError, match="either stores or what is in memory"):
        jana.fit(model, simulations=[whole, whole.load(0)])
    with pytest.raises(ValueError, match=r"2 sets from the prior; .*simulate_to make one store"):
        jana.fit(model, simulations=[whole, whole])
    model = normal_mean(proposal=normal_prior())
    single = model.simulate_to(tmp_path / "one", 50, source="proposal", **OPTIONS)
    with pytest.raises(ValueError, match="a single chunk"):
        jana.fit(model, simulations=[whole, single])
