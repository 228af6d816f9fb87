"""Convergence of NUTS chains."""

from __future__ import annotations

import numpy as np

from jana_pymc.refinement.refined import RefinedDraws
from jana_pymc.warning import warn

MAX_R_HAT = 1.05
"""Largest R-hat of converged chains."""

MAX_DIVERGENT = 0.01
"""Largest share of divergent draws without a warning."""


def split_r_hat(draws: np.ndarray) -> np.ndarray:
    """Largest split R-hat over parameters, for many data sets.

    Parameters
    ----------
    draws : ndarray, shape (sets, chains, draws, size)

    Returns
    -------
    ndarray, shape (sets,)
        NaN for fewer than four draws, infinite for chains that do not move.
    """
    half = draws.shape[2] // 2
    if half < 2:
        return np.full(len(draws), np.nan)
    chains = np.concatenate([draws[:, :, :half], draws[:, :, -half:]], axis=1)
    within = chains.var(axis=2, ddof=1).mean(axis=1)
    between = chains.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(within > 0, between / within, np.inf)
    return np.sqrt((half - 1) / half + ratio).max(axis=-1)


def unconverged(r_hat: np.ndarray, divergences: np.ndarray, draws: int) -> np.ndarray:
    """Whether chains of NUTS disagree, or diverge often.

    Parameters
    ----------
    r_hat, divergences : ndarray, shape (sets,)
    draws : int
        Total number of draws of all chains.

    Returns
    -------
    ndarray of bool, shape (sets,)
    """
    return np.asarray((r_hat > MAX_R_HAT) | (divergences > MAX_DIVERGENT * draws))


def warn_unconverged(refined: RefinedDraws) -> None:
    """Name the data sets whose chains of NUTS disagree, or diverge often."""
    draws = refined.unconstrained.shape[1]
    found = np.flatnonzero(unconverged(refined.r_hat, refined.divergences, draws))
    if not len(found):
        return
    divergent = refined.divergences / draws
    parts = ", ".join(
        f"{i} (R-hat {refined.r_hat[i]:.2f}, {100 * divergent[i]:.0f}% divergent)"
        for i in found[:5]
    )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    warn(
        f"NUTS is not reliable for data sets {parts}{more}: R-hat is above {MAX_R_HAT} or "
        f"more than {MAX_DIVERGENT:.0%} of the draws diverge. Pass more draws; if that does not "
        "help, the chains are stuck, as between modes."
    )
