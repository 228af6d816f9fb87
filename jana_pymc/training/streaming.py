"""Simulations from disk in the order in which training takes them: shuffled chunks, in rounds."""

from __future__ import annotations

import numpy as np

from jana_pymc.simulation import Simulations, SimulationStore

CHUNKS_AT_ONCE = 4
"""Chunks whose simulations are mixed; twice as many are in memory, since loading runs ahead."""


class ChunkRounds:
    """Which chunks of a store are learned from in which round.

    An epoch visits every chunk but the first, which is held out for validation, in a new order.

    Parameters
    ----------
    store : SimulationStore
        Of at least two chunks.
    seed : int
        The order is a function of it and of the epoch.
    chunks_at_once : int
    """

    def __init__(self, store: SimulationStore, seed: int, chunks_at_once: int = CHUNKS_AT_ONCE):
        self.store, self.seed = store, seed
        self.n_chunks = len(store.chunks) - 1
        self.chunks_at_once = min(chunks_at_once, self.n_chunks)
        self.rounds_per_epoch = -(-self.n_chunks // self.chunks_at_once)

    @property
    def n_simulations(self) -> int:
        """Number of simulations in a round, on average."""
        held_out = self.store.chunks[0].n_simulations
        return (len(self.store) - held_out) * self.chunks_at_once // self.n_chunks

    def numbers(self, number: int) -> list[int]:
        """Chunks of a round; an epoch's last round is filled up with chunks of its first."""
        epoch, position = divmod(number, self.rounds_per_epoch)
        order = 1 + np.random.default_rng((self.seed, epoch)).permutation(self.n_chunks)
        start = position * self.chunks_at_once
        return [int(order[i % self.n_chunks]) for i in range(start, start + self.chunks_at_once)]

    def load(self, number: int) -> Simulations:
        """Read a round into memory."""
        return self.store.load(*self.numbers(number))
