"""Torch's threads: none of its own inside, and the setting as it was afterwards."""

import threading

import numpy as np
import pytest
import torch

from jana_pymc.threads import one_thread, side_by_side


@pytest.fixture(params=[1, 3])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_one_thread_inside_and_the_setting_afterwards(n_threads) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == n_threads


def test_the_setting_comes_back_after_an_error(n_threads) -> None:
    def fail() -> None:
        raise ValueError("no")

    for parts in ([()], [(), (), ()]):
        with pytest.raises(ValueError, match="no"):
            side_by_side(fail, parts)
        assert torch.get_num_threads() == n_threads


def test_results_keep_their_order_and_no_thread_stays(n_threads) -> None:
    before = threading.active_count()
    seen = []

    def square(x: torch.Tensor, shift: int) -> float:
        seen.append(torch.get_num_threads())
        return float(x**2) + shift

    results = side_by_side(square, [(torch.tensor(float(i)), i) for i in range(20)])
    np.testing.assert_array_equal(results, [i**2 + i for i in range(20)])
    assert set(seen) == {1}
    assert threading.active_count() == before
