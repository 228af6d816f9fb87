"""Experiment 2's example in miniature: what is finished is not done again."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from scripts import script

import jana_pymc as jana

pytestmark = pytest.mark.trains

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*half-trained")
def test_repetitions_are_made_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = import_module("experiment2_two_moons")
    fit, made = jana.fit, []

    def quickly(model: jana.GenerativeModel, **options: Any) -> jana.JointApproximator:
        made.append((options["n_simulations"], options["random_seed"]))
        quick = jana.TrainingSettings(n_steps=20, n_validations=2)
        return fit(model, **options | {"training": quick})

    def peer_draws(method: str, simulate: Any, observed: Any, budgets: Any, draws: int, seed: int):
        made.append((method, seed))
        for budget in budgets:
            yield budget, example.exact_draws(example.np.random.default_rng(seed)), 1.0

    monkeypatch.setattr(jana, "fit", quickly)
    monkeypatch.setattr(example, "posterior_draws", peer_draws)
    monkeypatch.setattr(example, "available", lambda: ("SNL",))
    arguments = ["--output", str(tmp_path), "--repetitions", "2", "--budgets", "2000"]
    arguments += ["--peers", "SNL"]
    example.main(arguments)
    expected = [(2000, 1), (2000, 2), ("SNL", 1), ("SNL", 2)]
    assert made == expected
    for name in ("mmd", "draws_posterior", "draws_predictive"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1_000
    scores = json.loads((tmp_path / "scores.json").read_text())
    # Twice exact draws: the noise floor, here of "SNL" too.
    for name in ("exact draws", "SNL, live"):
        assert max(mean for mean, _ in scores["scores"]["posterior"][name]) < 0.3
    assert min(m for m, _ in scores["scores"]["posterior"]["jana_pymc, amortized"]) > 0.3

    example.main(arguments)
    assert made == expected
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    # Other defaults than those of the file: that repetition alone is made anew.
    path = tmp_path / "2000_2.json"
    path.write_text(path.read_text().replace('"n_steps":', '"n_steps_of_before":'))
    example.main(arguments)
    assert made == [*expected, (2000, 2)]


def test_peers_are_run_again_for_budgets_that_their_file_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example = import_module("experiment2_two_moons")
    asked: list[list[int]] = []

    def draws(method: str, simulate: Any, observed: Any, budgets: list[int], n: int, seed: int):
        asked.append(budgets)
        for budget in budgets:
            yield budget, example.exact_draws(example.np.random.default_rng(seed)), 1.0

    monkeypatch.setattr(example, "posterior_draws", draws)
    path = tmp_path / "SNL_1_10000.json"
    for budgets in ([10_000], [10_000], [2_000, 10_000], [6_000, 10_000], [2_000, 6_000]):
        found = example.peer("SNL", budgets, 1, path)
        assert {str(budget) for budget in budgets} <= set(found)
    assert asked == [[10_000], [2_000, 10_000], [2_000, 6_000, 10_000]]


def test_abc_takes_the_time_of_the_population_that_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peers = script("examples/two_moons_peers.py", monkeypatch)
    ends, begin = (1.0, 10.0, 30.0, 100.0), datetime.now()
    populations = pd.DataFrame(
        {
            "t": [-1, 0, 1, 2],
            "samples": [200, 300, 1_000, 4_000],
            "population_end_time": [begin + timedelta(seconds=end) for end in ends],
        }
    )

    class History:
        def get_all_populations(self) -> pd.DataFrame:
            return populations

        def get_distribution(self, m: int, t: int) -> tuple[pd.DataFrame, np.ndarray]:
            return pd.DataFrame({"theta1": [t], "theta2": [t]}), np.ones(1)

    pyabc = MagicMock()
    pyabc.ABCSMC.return_value.run.return_value = History()
    monkeypatch.setitem(sys.modules, "pyabc", pyabc)
    budgets = [500, 2_000, 10_000]
    found = list(peers.posterior_draws("ABC-SMC", None, np.zeros(2), budgets, 5, 1))
    assert [int(theta[0, 0]) for _, theta, _ in found] == [0, 1, 2]
    np.testing.assert_allclose([seconds for *_, seconds in found], ends[1:], atol=1.0)
