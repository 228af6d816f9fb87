"""What ``random_seed=`` means everywhere: one seed in, independent streams out."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

RandomSeed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | None


def seed_sequence(random_seed: RandomSeed) -> np.random.SeedSequence:
    """Turn any accepted seed into a fresh SeedSequence.

    Parameters
    ----------
    random_seed : int, Generator, SeedSequence or None
        A Generator is advanced, so that the next call with it gives something else. A
        SeedSequence gives the same each time, however often it was used before. None takes
        entropy from the operating system.

    Returns
    -------
    SeedSequence

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or a negative integer.
    """
    if isinstance(random_seed, np.random.SeedSequence):
        return np.random.SeedSequence(random_seed.entropy, spawn_key=random_seed.spawn_key)
    if isinstance(random_seed, np.random.Generator):
        return np.random.SeedSequence(random_seed.integers(2**32, size=4).tolist())
    if isinstance(random_seed, bool) or not isinstance(random_seed, (int, np.integer, type(None))):
        raise TypeError(
            "random_seed must be an integer, a numpy.random.Generator or None, got "
            f"{random_seed!r}."
        )
    if random_seed is not None and random_seed < 0:
        raise ValueError(f"random_seed must be >= 0, got {random_seed}.")
    return np.random.SeedSequence(None if random_seed is None else int(random_seed))


def random_generator(random_seed: RandomSeed) -> np.random.Generator:
    """Turn any accepted seed into a Generator: a given one is used, and advanced, itself.

    Parameters
    ----------
    random_seed : int, Generator, SeedSequence or None

    Returns
    -------
    Generator

    Raises
    ------
    TypeError, ValueError
        As `seed_sequence`.
    """
    if isinstance(random_seed, np.random.Generator):
        return random_seed
    return np.random.default_rng(seed_sequence(random_seed))
