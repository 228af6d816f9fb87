"""The loss of the pair: which time points of a batch teach the likelihood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jana_pymc.joint_network import _some_times


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: torch.normal(1_000.0, 10.0, (256, 1), generator=rng),
        lambda rng: torch.normal(1e6, 1.0, (64, 3), generator=rng),
        lambda rng: torch.normal(0.0, 1e-9, (8, 2), generator=rng),
        lambda rng: torch.rand((1, 1), generator=rng),
        lambda rng: torch.randint(0, 1_000, (128, 2), generator=rng).float(),
    ],
    ids=["far from zero", "very far", "narrow", "single", "whole numbers"],
)
def test_all_time_points_come_equally_often(draw: Callable[[torch.Generator], Tensor]) -> None:
    rng = torch.Generator().manual_seed(1)
    begins = Counter(int(_some_times(draw(rng), 10, 5)[0]) for _ in range(1_000))
    chi_square = sum((begins[time] - 100.0) ** 2 / 100.0 for time in range(10))
    assert chi_square < 27.9  # for nine degrees of freedom once in a thousand
