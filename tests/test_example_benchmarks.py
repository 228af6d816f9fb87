"""Experiment 1's example: folders of its runs, and what its tables say of broken numbers."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return import_module("experiment1_benchmarks")


def found(loss: float | None) -> dict[str, Any]:
    """Scores of a run."""
    half = {"loss": loss, "excess": None, "paper": None}
    return {
        **{"c2st_amortized_mean": 0.6, "c2st_refined_mean": 0.55, "train_seconds": 1.0},
        **{key: {"theta": {"inside": True}} for key in ("sbc", "jsbc")},
        "losses": {"posterior": half, "likelihood": half},
        "ratio": np.float64(np.nan),
    }


def test_each_seed_and_a_quick_look_have_folders_of_their_own(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "slcp.npz").touch()
    made: list[str] = []

    def prepare(name: str, output: Path, **options: Any) -> Any:
        made.append(str(output.relative_to(tmp_path)))
        return lambda: found(None)

    monkeypatch.setattr(example, "prepare_task", prepare)
    out = ["--reference-dir", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "slcp"]
    for options in ((), ("--random-seed", "2"), ("--quick",)):
        example.main([*out, *options])
    assert made == ["out/seed1/slcp", "out/seed2/slcp", "out/seed1_quick/slcp"]
    written = json.loads((tmp_path / "out" / "seed2" / "scores.json").read_text())
    assert written["slcp"]["ratio"] is None
    assert "not finite  not finite" in capsys.readouterr().out
    assert (tmp_path / "out" / "seed2" / "c2st.png").stat().st_size > 0


def test_the_figure_holds_every_score_once(example: ModuleType) -> None:
    results = {name: found(None) for name in ("slcp", "sir")}
    ax = example.plot_scores(results).axes[0]
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])
    expected = [
        (score, row)
        for row, name in enumerate(results)
        for score in (*example.published_scores.C2ST[name], 0.6, 0.55)
    ]
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(expected))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(results)


def test_what_is_wrong_is_said_without_a_traceback(example: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "slcp.npz").touch()
    out = ["--reference-dir", str(tmp_path), "--output", str(tmp_path / "out"), "--tasks", "slcp"]
    with pytest.raises(SystemExit, match=r"^slcp: .*slcp\.npz' is not a readable \.npz file"):
        example.main(out)
