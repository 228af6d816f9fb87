"""The code of the README and of the guide runs, with small networks and few draws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from modes import PYTHON
from test_documentation import DOCS, FENCE, ROOT

import jana_pymc as jana
from jana_pymc.tasks import ddm

pytestmark = [pytest.mark.bridge, pytest.mark.arviz, pytest.mark.trains]

SMALL = {
    "training": jana.TrainingSettings(n_steps=20, batch_size=32, n_validations=2, linear_steps=5),
    "n_simulations": 200,
    "progressbar": False,
}
FEW = {
    **{"draws": 15, "tune": 5, "chains": 2, "cores": 1, "random_seed": 1, "progressbar": False},
    **{"compile_kwargs": {"mode": PYTHON}, "nuts": {"max_treedepth": 2}},
}
YOUR_CODE = re.compile(r"(def simulator\(rng, v, a, t0, w, n_obs\):).*?\n\n\n", re.DOTALL)


def code(text: str) -> list[str]:
    """Blocks of Python."""
    return [match[4] for match in FENCE.finditer(text) if match[3] == "python"]


def pages() -> dict[str, list[str]]:
    """Blocks that run one after the other: the README's, and each section's of the guide."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    written = YOUR_CODE.sub(r"\1\n    return ddm.simulator(rng, v, a, t0, w, n_obs)\n\n\n", readme)
    assert written != readme
    sections = (DOCS / "guide.md").read_text(encoding="utf-8").split("\n## ")[1:]
    guide = {f"guide, {each.splitlines()[0]}": code(each) for each in sections}
    return {"README": code(written), **{title: blocks for title, blocks in guide.items() if blocks}}


PAGES = pages()


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the pages speak of without saying where it is from."""
    model = ddm.ddm(n_obs=(20, 40))
    simulated = ddm.ddm((40, 40)).simulate(
        parameters=np.array([[1.0, 1.0, 0.3, 0.5]] * 2), random_seed=1, progressbar=False
    )
    trials = simulated.dataset[["rt", "response"]].to_dataframe().reset_index()
    trials = trials.rename(columns={"simulation": "subject"}).drop(columns="obs")
    trials["stimulus"] = np.tile([0.0, 1.0], len(trials) // 2)
    data = trials[["rt", "response"]]
    approximator = jana.fit(model, random_seed=1, **SMALL)
    return {
        **{"az": az, "ddm": ddm, "jana": jana, "np": np, "pd": pd, "pm": pm},
        **{"model": model, "approximator": approximator, "other": approximator},
        **{"trials": trials, "data": data, "many_data_sets": [data[:30], data[40:70]]},
        **{"subject": trials["subject"].to_numpy(), "subjects": [0, 1]},
    }


@pytest.mark.filterwarnings("ignore")  # of networks that are half-trained
@pytest.mark.parametrize("page", PAGES)
def test_documented_code_runs(
    page: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit, sample = jana.fit, pm.sample
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jana, "fit", lambda *given, **options: fit(*given, **(options | SMALL)))
    monkeypatch.setattr(
        pm, "sample", lambda **options: sample(**(options if "step" in options else FEW | options))
    )
    known = dict(names)
    for block in PAGES[page]:
        exec(compile(block, page, "exec"), known)
