"""Several processes that train together reach what one reaches with the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conjugate import normal_mean

import jana_pymc as jana
from jana_pymc.joint_network import Batch
from jana_pymc.training import TrainingSettings, parallel
from jana_pymc.training.step import TrainingStep

SCRIPT = """
import sys
import torch.distributed as dist
import jana_pymc as jana
from conjugate import normal_mean
from test_parallel import train

dist.init_process_group("gloo")
approximator = train(int(sys.argv[2]), sys.argv[3])
if dist.get_rank() == 0:
    approximator.save(sys.argv[1])
dist.destroy_process_group()
"""


def train(n_steps: int, checkpoint: str | Path) -> jana.JointApproximator:
    settings = jana.TrainingSettings(
        n_steps=n_steps,
        batch_size=32,
        learning_rate=3e-4,  # at high rates rounding grows by chance
        likelihood_learning_rate=3e-4,
        n_validations=n_steps // 10,
        weight_average=0.9,
    )
    return jana.fit(
        normal_mean(),
        n_simulations=400,
        training=settings,
        random_seed=1,
        checkpoint=checkpoint,
        progressbar=False,
    )


def together(n_processes: int, folder: Path, n_steps: int, checkpoint: Path) -> Path:
    script, result = folder / "script.py", folder / f"{checkpoint.name}-{n_steps}.safetensors"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)]),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(n_processes), str(script), str(result), str(n_steps)]
    ended = subprocess.run(
        [*command, str(checkpoint)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3_000:]
    return result


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path) -> None:
    model = normal_mean()
    alone = train(60, tmp_path / "alone")
    pair = jana.load(together(2, tmp_path, 60, tmp_path / "two"), model)
    for kind in ("posterior", "likelihood", "validation_posterior", "validation_likelihood"):
        ours, theirs = getattr(pair.history, kind), getattr(alone.history, kind)
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # The checkpoint of two processes is good for one: nothing is left to train.
    assert train(60, tmp_path / "two").history.step == alone.history.step


@pytest.mark.parametrize(
    ("seeds", "chosen", "agreed"),
    [((5, 6), (0, 0), 5), ((5, 5), (1, 1), 5), ((5, 6), (1, 1), None), ((5, 5), (1, 0), None)],
)
def test_processes_agree_on_a_seed(seeds, chosen, agreed, monkeypatch) -> None:
    def all_gather(found, own):
        for tensor, seed, choice in zip(found, seeds, chosen, strict=True):
            tensor.copy_(torch.tensor([seed, choice]))

    monkeypatch.setattr(parallel, "n_processes", lambda: 2)
    monkeypatch.setattr(parallel.dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(parallel.dist, "all_gather", all_gather)
    if agreed is None:
        with pytest.raises(ValueError, match="random_seed differs among the 2 processes"):
            parallel.agreed_seed(seeds[0], chosen=bool(chosen[0]))
    else:
        assert parallel.agreed_seed(seeds[1], chosen=bool(chosen[1])) == agreed


def test_the_first_process_decides(monkeypatch) -> None:
    own = torch.tensor([1.0, 2.0])
    assert parallel.of_first_process(own) is own

    def broadcast(values, source):
        assert source == 0
        values.copy_(torch.tensor([3.0, 1.0]))

    monkeypatch.setattr(parallel, "n_processes", lambda: 2)
    monkeypatch.setattr(parallel.dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(parallel.dist, "broadcast", broadcast)
    assert parallel.of_first_process(own.clone()).tolist() == [3.0, 1.0]


def test_processes_draw_their_own_noise(monkeypatch) -> None:
    def noise(rank: int | None) -> torch.Tensor:
        if rank is not None:
            monkeypatch.setattr(parallel, "n_processes", lambda: 2)
            monkeypatch.setattr(parallel, "rank", lambda: rank)
        network = torch.nn.ModuleDict({"posterior": torch.nn.Linear(1, 1)})
        step = TrainingStep(network, network, TrainingSettings(), seed=1, halves=["posterior"])
        with torch.random.fork_rng(devices=[]):
            step.schedule(3)
            return torch.rand(4)

    alone, second = noise(None), noise(1)
    assert not torch.equal(noise(0), second)
    assert not torch.equal(alone, second)


def test_what_cannot_be_shared_equally_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(parallel, "n_processes", lambda: 2)
    monkeypatch.setattr(parallel, "rank", lambda: 1)
    rows = torch.arange(6.0)[:, None]
    batch = Batch(rows, rows, rows[:, None], None, torch.ones(6))
    half = parallel.share(batch)
    assert half.parameters.flatten().tolist() == [3.0, 4.0, 5.0]
    with pytest.raises(ValueError, match="cannot be shared equally by 2 processes"):
        parallel.share(batch.rows(slice(0, 5)))
