"""Losses over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jana_pymc.plots.style import COLOURS, REFERENCE, check_result, panels, whole_ticks

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator
    from jana_pymc.training import TrainingHistory


def plot_history(
    history: TrainingHistory | JointApproximator,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot training and validation losses of both networks, and mark the best validation.

    Parameters
    ----------
    history : TrainingHistory or JointApproximator
    axes : two Axes, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `history` is neither.
    ValueError
        If `history` is empty.
    """
    record: TrainingHistory = history.history if hasattr(history, "history") else history
    check_result("history", record, "TrainingHistory")
    if not len(record.step):
        raise ValueError("history is empty: there was no training step to plot.")
    figure, (left, right) = panels(2, axes, columns=2, size=(4.2, 3.0))
    step = np.asarray(record.step)
    networks = (
        (
            left,
            "posterior",
            "−log q(θ | x) per data set",
            COLOURS[0],
            record.posterior,
            record.validation_posterior,
        ),
        (
            right,
            "likelihood",
            "−log l(x | θ) per observation",
            COLOURS[1],
            record.likelihood,
            record.validation_likelihood,
        ),
    )
    for ax, name, label, colour, training, validation in networks:
        _draw_losses(ax, step, np.asarray(training), np.asarray(validation), colour)
        ax.set_title(f"{name} (best {np.nanmin(validation):.4g})", fontsize=10)
        ax.set_ylabel(label, fontsize=9)
        ax.set_xlabel("optimizer steps", fontsize=9)
        whole_ticks(ax.xaxis)
        ax.legend(frameon=False, fontsize=8)
    return figure


def _draw_losses(
    ax: Axes, step: np.ndarray, training: np.ndarray, validation: np.ndarray, colour: str
) -> None:
    # One entry is a dot, not an invisible line.
    marker = "o" if len(step) == 1 else None
    ax.plot(step, training, color=REFERENCE, linewidth=0.9, marker=marker, label="training")
    ax.plot(step, validation, color=colour, linewidth=1.6, marker=marker, label="validation")
    best = np.nanargmin(validation)
    ax.plot(step[best], validation[best], "o", color=colour, markersize=5)
    # The first losses are far above the rest and would flatten it.
    settled = np.concatenate([loss[len(step) // 10 :] for loss in (training, validation)])
    settled = settled[np.isfinite(settled)]
    if settled.size and settled.min() < settled.max():
        margin = 0.1 * (settled.max() - settled.min())
        ax.set_ylim(settled.min() - margin, settled.max() + margin)
