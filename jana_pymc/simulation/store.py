"""Simulations beyond memory: a folder of chunks, appended to while simulating."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.simulation.failures import FailureReport
from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.schema import DataSchema
from jana_pymc.simulation.simulations import Simulations

INDEX = "index.json"
FORMAT = "jana_pymc simulation store"
VERSION = 1


@dataclass(frozen=True)
class Chunk:
    """What the index knows about one chunk.

    Attributes
    ----------
    n_simulations : int
        Those that succeeded.
    low, high : tuple of float
        Smallest and largest value of each parameter, flattened.
    failures : FailureReport
    """

    n_simulations: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    failures: FailureReport

    @classmethod
    def of(cls, simulations: Simulations) -> Chunk:
        """Describe simulations."""
        theta = simulations.parameters
        low, high = (tuple(float(v) for v in f(theta, axis=0)) for f in (np.min, np.max))
        return cls(len(simulations), low, high, simulations.failures)


class SimulationStore:
    """Simulations on disk, of which a few chunks are in memory at a time.

    Each chunk is a Zarr group that `Simulations.save` wrote, whole or not there at all; the index
    names those that are complete. `GenerativeModel.simulate_to` writes a store and goes on with one
    that was cut short; `jana_pymc.fit` streams it.

    Parameters
    ----------
    path : str or Path
        An existing store.

    Raises
    ------
    ImportError
        Without the extra ``zarr``.
    FileNotFoundError, ValueError
        If there is no store at the path, or a newer version wrote it.
    """

    def __init__(self, path: str | Path):
        require_zarr()
        self.path = Path(path)
        if not (self.path / INDEX).is_file():
            raise FileNotFoundError(
                f"{str(self.path)!r} holds no simulation store; GenerativeModel.simulate_to makes "
                "one."
            )
        index = json.loads((self.path / INDEX).read_text())
        if index.get("format") != FORMAT:
            raise ValueError(f"{str(self.path)!r} holds no simulation store.")
        if index["version"] > VERSION:
            raise ValueError(
                f"{str(self.path)!r} has version {index['version']} of the format, but this "
                f"jana_pymc reads up to {VERSION}; install a newer one."
            )
        self.options: dict[str, Any] = index["options"]
        self.layout = ParameterLayout.from_dict(index["layout"])
        self.schema = DataSchema.from_dict(index["schema"])
        self.chunks = [
            Chunk(
                each["n_simulations"],
                tuple(each["low"]),
                tuple(each["high"]),
                FailureReport.from_dict(each["failures"]),
            )
            for each in index["chunks"]
        ]

    def __repr__(self) -> str:
        return f"SimulationStore({str(self.path)!r}: {len(self)} in {len(self.chunks)} chunks)"

    def __len__(self) -> int:
        """Number of simulations that succeeded."""
        return sum(chunk.n_simulations for chunk in self.chunks)

    @property
    def source(self) -> str:
        """``"prior"`` or ``"proposal"``."""
        return self.options["source"]

    @property
    def failures(self) -> FailureReport:
        """How many simulations failed, in all chunks."""
        return reduce(add, (chunk.failures for chunk in self.chunks))

    @property
    def region(self) -> NDArray[np.float64]:
        """Smallest and largest value of each parameter, shape (2, parameters)."""
        return np.stack(
            [
                np.min([chunk.low for chunk in self.chunks], axis=0),
                np.max([chunk.high for chunk in self.chunks], axis=0),
            ]
        )

    def load(self, *numbers: int) -> Simulations:
        """Read chunks into memory, joined in the order of the numbers."""
        return Simulations.concat([Simulations.load(self._file(number)) for number in numbers])

    def __iter__(self) -> Iterator[Simulations]:
        """One chunk after the other."""
        return (self.load(number) for number in range(len(self.chunks)))

    def _file(self, number: int) -> Path:
        return chunk_file(self.path, number)


def chunk_file(path: Path, number: int) -> Path:
    """Where a chunk is kept."""
    return path / f"chunk-{number:06d}.zarr"


def fill_store(
    path: Path,
    options: dict[str, Any],
    sizes: list[int],
    simulate: Callable[[int, int], Simulations],
) -> SimulationStore:
    """Simulate the chunks that a store does not have yet.

    Parameters
    ----------
    path : Path
        A new store, or one that was cut short.
    options : dict
        What the chunks depend on, JSON-serialisable; those of an existing store must be the same.
    sizes : list of int
        Simulations to ask for in each chunk.
    simulate : callable
        ``simulate(number, size)``; the result must be a function of the number.

    Raises
    ------
    ValueError
        If the folder holds something else, or a store with other options.
    """
    require_zarr()
    if (path / INDEX).is_file():
        existing = SimulationStore(path)
        if existing.options != options:
            differing = sorted(k for k in options if existing.options.get(k) != options[k])
            parts = [f"{k}={existing.options.get(k)!r}, not {options[k]!r}" for k in differing]
            raise ValueError(
                f"{str(path)!r} holds a store with other options: {'; '.join(parts)}. Choose "
                "another folder, or the same options."
            )
        chunks = existing.chunks
    elif path.exists() and any(path.iterdir()):
        raise ValueError(f"{str(path)!r} is not empty and holds no simulation store.")
    else:
        path.mkdir(parents=True, exist_ok=True)
        chunks = []
    for number in range(len(chunks), len(sizes)):
        file = chunk_file(path, number)
        if file.exists():  # complete, but killed before the index knew of it: made again alike
            shutil.rmtree(file)
        made = simulate(number, sizes[number])
        made.save(file)
        chunks = [*chunks, Chunk.of(made)]
        _write_index(path, options, made, chunks)
    return SimulationStore(path)


def _write_index(
    path: Path, options: dict[str, Any], example: Simulations, chunks: list[Chunk]
) -> None:
    index = {
        "format": FORMAT,
        "version": VERSION,
        "options": options,
        "layout": example.layout.to_dict(),
        "schema": example.schema.to_dict(),
        "chunks": [
            {
                "n_simulations": chunk.n_simulations,
                "low": chunk.low,
                "high": chunk.high,
                "failures": chunk.failures.to_dict(),
            }
            for chunk in chunks
        ],
    }
    temporary = path / f".{INDEX}.{uuid.uuid4().hex}.part"
    temporary.write_text(json.dumps(index))
    os.replace(temporary, path / INDEX)


def require_zarr() -> None:
    """Raise an ImportError that names the extra, if Zarr is not installed."""
    if find_spec("zarr") is None:
        raise ImportError(
            'simulations beyond memory are kept with Zarr: pip install "jana_pymc[zarr]".'
        )
