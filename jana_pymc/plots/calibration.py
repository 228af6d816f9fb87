"""Calibration: the ECDF of ranks, and recovery of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from jana_pymc.plots.style import BAND, COLOURS, REFERENCE, check_result, legend_below, panels

if TYPE_CHECKING:
    from jana_pymc.workflow.calibration import Calibration


def plot_ranks_ecdf(
    calibrations: Calibration | Sequence[Calibration] | Mapping[str, Calibration],
    *,
    probability: float = 0.95,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot the ECDF of ranks minus that of uniform ranks, with its simultaneous band.

    Each calibration has its own panel, so that posterior and joint calibration can be compared.
    A component outside the band is drawn bold. If there are more components than colours, those
    with the smallest p-values are coloured, the same ones in all panels.

    Parameters
    ----------
    calibrations : Calibration, or several as a sequence or as a mapping from titles
    probability : float
        Probability that the whole curve of a calibrated component lies inside the band.
    axes : Axes, optional
        One per calibration.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        If a calibration is no `Calibration`, none is given, or `probability` is no number between 0
        and 1.
    """
    titled = _titled(calibrations)
    figure, given = panels(len(titled), axes, columns=3, size=(4.6, 3.7))
    colours = _colours([calibration for _, calibration in titled])
    for ax, (title, calibration) in zip(given, titled, strict=True):
        _draw_ecdf(ax, calibration, probability, colours)
        ax.set_title(f"{title} ({len(calibration)} data sets)", fontsize=10)
        ax.set_xlabel("fractional rank", fontsize=9)
    given[0].set_ylabel("ECDF difference", fontsize=9)
    limit = 1.05 * max(np.abs(ax.get_ylim()).max() for ax in given)
    for ax in given:
        ax.set_ylim(-limit, limit)
    return figure


def plot_recovery(
    calibration: Calibration,
    *,
    axes: Axes | Sequence[Axes] | np.ndarray | None = None,
) -> Figure:
    """Plot posterior medians and central 90% intervals against true parameters.

    Parameters
    ----------
    calibration : Calibration
    axes : Axes, optional
        One for each component.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `calibration` is no `Calibration`.
    """
    check_result("calibration", calibration, "Calibration")
    figure, given = panels(len(calibration.names), axes, size=(2.7, 2.8))
    summary = calibration.summary()
    for i, (ax, name) in enumerate(zip(given, calibration.names, strict=True)):
        true = calibration.parameters[:, i]
        low, median, high = calibration.quantiles[:, :, i]
        _draw_intervals(ax, true, low, median, high)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("true", fontsize=9)
        text = f"r = {summary.loc[name, 'r']:.3f}\nR² = {summary.loc[name, 'r2']:.3f}"
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8)
    given[0].set_ylabel("posterior median, 90% interval", fontsize=9)
    return figure


def _titled(
    calibrations: Calibration | Sequence[Calibration] | Mapping[str, Calibration],
) -> list[tuple[str, Calibration]]:
    if isinstance(calibrations, Mapping):
        titled = list(calibrations.items())
    else:
        several = calibrations if isinstance(calibrations, Sequence) else [calibrations]
        titled = [
            ("joint" if getattr(each, "joint", False) else "posterior", each) for each in several
        ]
    if not titled:
        raise ValueError("calibrations is empty; there is nothing to plot.")
    for _, each in titled:
        check_result("calibrations", each, "Calibration")
    return titled


def _colours(calibrations: Sequence[Calibration]) -> dict[str, str]:
    """Colours of the components that have one, those with the smallest p-values."""
    p_values: dict[str, float] = {}
    for each in calibrations:
        for name in each.names:
            p_values[name] = min(each.p_values[name], p_values.get(name, 1.0))
    worst = set(sorted(p_values, key=p_values.__getitem__)[: len(COLOURS)])
    return dict(zip((name for name in p_values if name in worst), COLOURS, strict=False))


def _draw_ecdf(
    ax: Axes, calibration: Calibration, probability: float, colours: Mapping[str, str]
) -> None:
    band = calibration.band(probability)
    points = np.concatenate([[0], band.points, [1]])
    lower, upper = (np.pad(edge - band.points, 1) for edge in (band.lower, band.upper))
    ax.fill_between(points, lower, upper, color=BAND, linewidth=0, label=f"{probability:.0%} band")
    ax.axhline(0, color=REFERENCE, linewidth=0.8)
    differences = np.pad(calibration.ecdf() - band.points[:, None], ((1, 1), (0, 0)))
    p_values, inside = calibration.p_values, calibration.inside(probability)
    for name, difference in zip(calibration.names, differences.T, strict=True):
        shown = name in colours
        ax.plot(
            points,
            difference,
            color=colours.get(name, REFERENCE),
            linewidth=1.2 if inside[name] else 2.4,
            alpha=1.0 if shown else 0.4,
            label=f"{name} ({_p_value(p_values[name])})" if shown else None,
            zorder=3 if shown else 2,
        )
    ax.set_xlim(0, 1)
    legend_below(ax, width=4.6)


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _draw_intervals(
    ax: Axes, true: np.ndarray, low: np.ndarray, median: np.ndarray, high: np.ndarray
) -> None:
    # Many data sets overlap: fainter, so that their density shows.
    alpha = float(np.clip(60 / len(true), 0.08, 0.6))
    segments = np.stack([np.stack([true, low], -1), np.stack([true, high], -1)], axis=1)
    ax.add_collection(LineCollection(list(segments), colors=COLOURS[0], alpha=alpha, linewidths=1))
    ax.plot(true, median, "o", color=COLOURS[0], markersize=2.2, alpha=min(1.0, 3 * alpha))
    ax.axline((true.mean(), true.mean()), slope=1, color=REFERENCE, linewidth=1, zorder=3)
    ax.autoscale_view()
