"""Simulations beyond memory: a folder of chunks, appended to while simulating."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.files import replacing
from jana_pymc.simulation.failures import FailureReport
from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.schema import DataSchema
from jana_pymc.simulation.simulations import Simulations
from jana_pymc.warning import warn

INDEX = "index.json"
FORMAT = "jana_pymc simulation store"
VERSION = 1
CHUNK_SIZE = 10_000
"""Simulations in a chunk, at most, where the user names no number."""


@dataclass(frozen=True)
class Chunk:
    """Entry of the index for one chunk.

    Attributes
    ----------
    n_simulations : int
        Number of those that succeeded.
    low, high : tuple of float
        Smallest and largest value of each parameter, flattened.
    failures : FailureReport
    digest : str
        Of all values, by which damage is noticed.
    """

    n_simulations: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    failures: FailureReport
    digest: str

    @classmethod
    def of(cls, simulations: Simulations) -> Chunk:
        """Describe simulations.

        Parameters
        ----------
        simulations : Simulations

        Returns
        -------
        Chunk
        """
        theta = simulations.parameters
        low, high = (tuple(float(v) for v in f(theta, axis=0)) for f in (np.min, np.max))
        return cls(len(simulations), low, high, simulations.failures, _digest(simulations))


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
        try:
            index = json.loads((self.path / INDEX).read_text())
            is_store = index["format"] == FORMAT
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{str(self.path / INDEX)!r}, the index of a simulation store, is damaged "
                f"({error}); delete the folder and simulate again."
            ) from error
        if not is_store:
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
                each["digest"],
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
    def prior(self) -> list[str] | None:
        """Digest of the model's prior; None if it has no log density."""
        return self.options["prior"]

    @property
    def failures(self) -> FailureReport:
        """How many simulations failed, in all chunks."""
        return reduce(add, (chunk.failures for chunk in self.chunks), FailureReport(0))

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
        """Read chunks into memory, joined in the order of the numbers.

        Parameters
        ----------
        *numbers : int
            Of the chunks, from 0; without any, all are read.

        Returns
        -------
        Simulations

        Raises
        ------
        IndexError
            If there is no chunk of that number.
        ValueError
            If a chunk is missing, or is not what was written.
        """
        chosen = numbers or range(len(self.chunks))
        return Simulations.concat([self._load(number) for number in chosen])

    def _load(self, number: int) -> Simulations:
        if not 0 <= number < len(self.chunks):
            raise IndexError(f"{self!r} has no chunk {number}.")
        file, expected = chunk_file(self.path, number), self.chunks[number].digest
        again = "call GenerativeModel.simulate_to again for this store, which makes the chunk anew."
        repair = f"Delete the folder {file.name!r}, not the store itself, and {again}"
        if not file.exists():
            raise ValueError(
                f"chunk {number} of {self!r} is missing: the store has no {file.name!r}. Leave the "
                f"rest of it as it is, and {again}"
            )
        try:
            loaded = Simulations.load(file)
        except ValueError as error:
            raise ValueError(f"chunk {number} of {self!r}: {error} {repair}") from error
        if _digest(loaded) != expected:
            raise ValueError(f"{str(file)!r} is not what was written there. {repair}")
        return loaded

    def __iter__(self) -> Iterator[Simulations]:
        """One chunk after the other."""
        return (self.load(number) for number in range(len(self.chunks)))


def chunk_file(path: Path, number: int) -> Path:
    """Where a chunk is kept.

    Parameters
    ----------
    path : Path
        Of the store.
    number : int

    Returns
    -------
    Path
    """
    return path / f"chunk-{number:06d}.zarr"


def default_chunk_size(path: Path, n_simulations: int) -> int:
    """Simulations in each chunk where the user names no number.

    Parameters
    ----------
    path : Path
        Of a store, which keeps its chunk size, or of one that is not there yet.
    n_simulations : int
        In all.

    Returns
    -------
    int
        That of a store with chunks; else that of the fewest equal chunks of at most `CHUNK_SIZE`,
        which together exceed `n_simulations` by less than their number.

    Raises
    ------
    ImportError, ValueError
        If a store is there that cannot be read.
    """
    if (path / INDEX).is_file() and (store := SimulationStore(path)).chunks:
        return int(store.options["chunk_size"])
    return -(-n_simulations // -(-n_simulations // CHUNK_SIZE))


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
        All that the chunks depend on, JSON-serialisable, including schema and layout; those of an
        existing store must be the same.
    sizes : list of int
        Simulations to ask for in each chunk.
    simulate : callable
        ``simulate(number, size)``; the result must be a function of the number.

    Returns
    -------
    SimulationStore

    Raises
    ------
    ImportError
        Without the extra ``zarr``.
    ValueError
        If the folder holds something else, or a store with other options.

    Warns
    -----
    UserWarning
        If a chunk that was missing now differs from what it was; the index describes the new one.
    """
    require_zarr()
    chunks = _chunks_so_far(path, options)
    for number in range(min(len(chunks), len(sizes))):
        if not chunk_file(path, number).exists():
            made = simulate(number, sizes[number])
            made.save(chunk_file(path, number))
            former, chunks[number] = chunks[number], Chunk.of(made)
            if chunks[number] != former:
                _write_index(path, options, chunks)
                warn(
                    f"chunk {number} of {str(path)!r} was missing and is made again, but differs "
                    "from what was there: simulator, proposal, NumPy or machine are not those that "
                    "made the store. Rounding does no harm; the simulations of another model "
                    "belong into another folder."
                )
    for number in range(len(chunks), len(sizes)):
        file = chunk_file(path, number)
        if file.exists():  # the run was killed before the index named it
            shutil.rmtree(file)
        made = simulate(number, sizes[number])
        made.save(file)
        chunks = [*chunks, Chunk.of(made)]
        _write_index(path, options, chunks)
    return SimulationStore(path)


def _chunks_so_far(path: Path, options: dict[str, Any]) -> list[Chunk]:
    """Chunks of a store to be continued; none for a new one, whose index is written."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{str(path)!r} is a file; expected a folder for the store.")
    path.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    if (path / INDEX).is_file():
        existing = SimulationStore(path)
        if existing.chunks:  # else there is nothing that other options would not fit
            _check_options(existing, options)
            return existing.chunks
    elif any(path.iterdir()):
        raise ValueError(f"{str(path)!r} is not empty and holds no simulation store.")
    _write_index(path, options, [])
    return []


def _sweep(path: Path) -> None:
    """Remove what a killed run was writing (`replacing`)."""
    for pattern in (f".{INDEX}.*.part", ".chunk-*.zarr.*.part", ".chunk-*.zarr.*.old"):
        for left in path.glob(pattern):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _check_options(store: SimulationStore, options: dict[str, Any]) -> None:
    """Refuse other options, and variables in another order, which is that of columns."""
    differing = {k for k in options if store.options.get(k) != options[k]}
    if store.schema != DataSchema.from_dict(options["schema"]):
        differing.add("schema")
    if differing or store.options.keys() != options.keys():
        parts = [f"{k}={store.options.get(k)!r}, not {options[k]!r}" for k in sorted(differing)]
        raise ValueError(
            f"{str(store.path)!r} holds a store with other options: {'; '.join(parts)}. Choose "
            "another folder, or the same options."
        )


def _write_index(path: Path, options: dict[str, Any], chunks: list[Chunk]) -> None:
    index = {
        "format": FORMAT,
        "version": VERSION,
        "options": options,
        "layout": options["layout"],
        "schema": options["schema"],
        "chunks": [
            {
                "n_simulations": chunk.n_simulations,
                "low": chunk.low,
                "high": chunk.high,
                "failures": chunk.failures.to_dict(),
                "digest": chunk.digest,
            }
            for chunk in chunks
        ],
    }
    with replacing(path / INDEX) as aside:
        aside.write_text(json.dumps(index))


def _digest(simulations: Simulations) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(map(str, simulations.dataset.data_vars)):
        values = np.ascontiguousarray(simulations.dataset[name].values)
        digest.update(f"{name}{values.shape}".encode())
        digest.update(values.view(np.uint8).data if values.size else b"")
    return digest.hexdigest()


def require_zarr() -> None:
    """Raise an ImportError that names the extra, if Zarr is not installed.

    Raises
    ------
    ImportError
        If so.
    """
    if find_spec("zarr") is None:
        raise ImportError(
            'simulations beyond memory are kept with Zarr: pip install "jana_pymc[zarr]".'
        )
