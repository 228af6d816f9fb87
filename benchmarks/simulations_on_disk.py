"""Simulations beyond memory: the rate of streaming, and the peak of memory.

Diffusion-model trials are simulated to disk; then training steps with batches streamed in shuffled
chunks are timed against steps with batches from memory, in one process, in turns. In memory are the
first three chunks: batches of the same size, whatever the store holds.

    python benchmarks/simulations_on_disk.py --folder simulations --trials 10_000_000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import jana_pymc as jana
from jana_pymc.tasks.ddm import ddm

N_OBS = 100


def peak() -> float:
    """Largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def train(
    model: jana.GenerativeModel, simulations: jana.Simulations | jana.SimulationStore, steps: int
) -> float:
    """Steps a second, setting up left out: the difference of two runs."""
    seconds = []
    for n_steps in (steps // 5, steps):
        settings = jana.TrainingSettings(n_steps=n_steps, n_validations=1, patience=None)
        start = time.perf_counter()
        jana.fit(
            model, simulations=simulations, training=settings, random_seed=1, progressbar=False
        )
        seconds.append(time.perf_counter() - start)
    return (steps - steps // 5) / (seconds[1] - seconds[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where the store is; temporary if left out")
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--chunk-size", type=int, default=5_000, help="data sets of 100 trials")
    parser.add_argument("--steps", type=int, default=1_000)
    arguments = parser.parse_args()
    model = ddm(n_obs=(N_OBS, N_OBS))
    n = arguments.trials // N_OBS
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "store"
        start = time.perf_counter()
        store = model.simulate_to(
            folder, n, chunk_size=arguments.chunk_size, random_seed=1, progressbar=False
        )
        seconds = time.perf_counter() - start
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
        print(f"{store!r}: {size:.0f} MiB, simulated in {seconds:.0f} s, peak {peak():.2f} GiB")
        # Before anything else is in memory: the peak is that of streaming.
        streamed = [train(model, store, arguments.steps)]
        print(f"streamed: {streamed[0]:.1f} steps/s, peak {peak():.2f} GiB")
        few = store.load(*range(min(3, len(store.chunks))))
        in_memory = [train(model, few, arguments.steps)]
        streamed.append(train(model, store, arguments.steps))
        in_memory.append(train(model, few, arguments.steps))
        ratio = sum(streamed) / sum(in_memory)
        print(f"in memory: {in_memory} steps/s, streamed: {streamed}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
