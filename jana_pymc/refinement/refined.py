"""What refinement returns: draws of many data sets, and what each set got."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RefinedDraws:
    """Posterior draws of many data sets, and what was done to them.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, draws, unconstrained)
        Chains one after the other.
    log_q : ndarray, shape (sets, draws)
        Log density of the amortized posterior at the draws.
    method : ndarray of str, shape (sets,)
        "none", "pooled", "psis" or "nuts": what each data set got.
    pareto_k : ndarray, shape (sets,)
        Of the weights: of amortized draws as proposals for what they were refined to or, where
        that was too high and could be mended, of these and draws with heavier tails. NaN if not
        computed.
    effective_share : ndarray, shape (sets,)
        Effective draws among all that were weighed, as a share; NaN if not computed.
    divergences : ndarray of int, shape (sets,)
        Of NUTS; zero for others.
    r_hat : ndarray, shape (sets,)
        Largest of all parameters, of NUTS; NaN for others, and of chains of fewer than four draws.
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
