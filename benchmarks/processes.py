"""Two processes against one: the same training of the diffusion model, on this machine.

Each run is started by ``torchrun`` with gloo, sees the same batches, and should end with the same
losses but for rounding. A process alone gives each network a core; of two processes on two cores
each runs both networks on one.

    python benchmarks/processes.py
    python benchmarks/processes.py --processes 1 2 4 --steps 1000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch.distributed as dist

import jana_pymc as jana
from jana_pymc.tasks.ddm import ddm


def worker(output: Path, n_steps: int, batch_size: int) -> None:
    """One process of a run; the first writes what there is to report."""
    dist.init_process_group("gloo")
    training = jana.TrainingSettings(n_steps=n_steps, batch_size=batch_size, n_validations=4)
    pair = jana.fit(ddm(), n_simulations=5_000, training=training, random_seed=1, progressbar=False)
    if dist.get_rank() == 0:
        history = pair.history
        # Between validations: the first one holds what libraries do once.
        rate = (history.step[-1] - history.step[0]) / (history.seconds[-1] - history.seconds[0])
        losses = history.validation_posterior[-1], history.validation_likelihood[-1]
        output.write_text(json.dumps({"rate": rate, "losses": losses}))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        worker(arguments.worker, arguments.steps, arguments.batch_size)
        return
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.processes:
            output = Path(folder) / f"{n}.json"
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(n), __file__, "--worker", str(output)]
            command += ["--steps", str(arguments.steps), "--batch-size", str(arguments.batch_size)]
            subprocess.run(command, check=True)
            found = json.loads(output.read_text())
            posterior, likelihood = found["losses"]
            print(
                f"{n} processes: {found['rate']:.1f} steps a second, "
                f"validation losses {posterior:.4f} and {likelihood:.5f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
