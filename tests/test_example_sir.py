"""The outbreaks' example: its training is the default without what the posterior learns last."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripts import script

from jana_pymc.fitting import default_settings, default_training
from jana_pymc.tasks.sir import sir


def test_the_posterior_neither_rehearses_nor_is_adjusted(monkeypatch: pytest.MonkeyPatch) -> None:
    example = script("examples/sir_contact_rate.py", monkeypatch)
    model = sir("benchmark").model
    size = model.prior.n_unconstrained
    default = default_training(default_settings(model.schema, size), size, model.schema)
    assert default.rehearsal_steps and default.adjustment_steps
    found = example.training(model, quick=False)
    assert found == replace(default, rehearsal_steps=0, adjustment_steps=0)
    quick = example.training(model, quick=True)
    assert quick == replace(found, n_steps=400, linear_steps=100)
