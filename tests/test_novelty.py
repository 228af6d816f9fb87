"""The look at whether data resemble what was simulated, and what it may cost."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from normal_means import SCHEMA, ExactLikelihood, ExactPair

from jana_pymc.approximators import novelty
from jana_pymc.approximators.novelty import Familiar


class Counting(ExactLikelihood):
    """Remembers how many data sets of which length it made."""

    def simulate(self, parameters, n_obs, **options):
        self.made = (len(parameters), n_obs)
        return super().simulate(parameters, n_obs, **options)


def made(n_obs: int) -> tuple[int, int] | None:
    """Data sets and observations in each, of a pair for up to so many; None if none are made."""
    pair = ExactPair(likelihood=Counting(), schema=replace(SCHEMA, n_obs=(1, n_obs)))
    pair.prior = SimpleNamespace(draw=lambda n, rng: rng.standard_normal((n, 3)))
    familiar = Familiar.of(pair)
    if familiar is None:
        return None
    assert len(familiar.distances) == pair.likelihood.made[0] // 2
    assert np.isfinite(familiar.distances).all()
    return pair.likelihood.made


def test_long_data_sets_are_fewer_and_very_long_ones_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert made(100_000) is None
    for name, value in (("N_REFERENCE", 50), ("FEWEST", 20), ("ENOUGH_ROWS", 400)):
        monkeypatch.setattr(novelty, name, value)
    monkeypatch.setattr(novelty, "MAX_ROWS", 2_000)
    assert made(2) == (100, 2)
    assert made(5) == (80, 5)
    assert made(50) == (40, 50)
    assert made(51) is None
