"""The result of refinement: draws of many data sets, with their diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RefinedDraws:
    """Posterior draws of many data sets, and how they were refined.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, draws, unconstrained)
        Chains one after the other.
    log_q : ndarray, shape (sets, draws)
        Log density of the amortized posterior at the draws.
    method : ndarray of str, shape (sets,)
        Method used for each data set: "none", "pooled", "psis" or "nuts".
    pareto_k : ndarray, shape (sets,)
        k̂ of the weights of the amortized draws as proposals or, where heavier tails were added, of
        the mixture. NaN if not computed.
    effective_share : ndarray, shape (sets,)
        Share of effective draws among all weighted draws; NaN if not computed.
    divergences : ndarray of int, shape (sets,)
        Divergences of NUTS; zero without NUTS.
    r_hat : ndarray, shape (sets,)
        Largest R-hat over parameters of NUTS; NaN without NUTS, and for chains of fewer than four
        draws.
    """

    unconstrained: np.ndarray
    log_q: np.ndarray
    method: np.ndarray
    pareto_k: np.ndarray
    effective_share: np.ndarray
    divergences: np.ndarray
    r_hat: np.ndarray

    def __len__(self) -> int:
        return len(self.method)

    def __getitem__(self, datasets: np.ndarray) -> RefinedDraws:
        """Some of the data sets, by an array of positions."""
        return RefinedDraws(**{f: getattr(self, f)[datasets] for f in self.__dataclass_fields__})


def concatenate(parts: list[RefinedDraws]) -> RefinedDraws:
    """Draws of all parts' data sets, one after the other."""
    fields = RefinedDraws.__dataclass_fields__
    return RefinedDraws(**{f: np.concatenate([getattr(p, f) for p in parts]) for f in fields})
