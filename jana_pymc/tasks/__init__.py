"""Ready-made generative models: one module each, with its prior, simulator and exact answers."""

from __future__ import annotations

from jana_pymc.tasks import ddm, wiener

__all__ = ["ddm", "wiener"]
