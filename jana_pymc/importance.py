"""Pareto-smoothed importance weights of many data sets at once, by the installed ArviZ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import arviz as az
import numpy as np
import xarray as xr
from scipy.special import logsumexp

CONSTANT = 1e-9
"""Log ratios in the tail whose range is below this differ by rounding only."""

RESOLUTION = 0.01
"""Ratios whose logarithms are rounded to more than this many nats carry no information."""

NARROW = math.log(2.0)
"""If no log ratio exceeds that of the mean by more than this, no single draw is influential."""

SMALLEST_TAIL = 8
"""Draws that a tail needs to be fitted."""


@dataclass(frozen=True, eq=False)
class ImportanceWeights:
    r"""Smoothed weights of draws from a proposal, and diagnostics of the proposal.

    Attributes
    ----------
    log_weights : ndarray, shape (..., draws)
        Normalised: their exponentials sum to one.
    pareto_k : ndarray, shape (...)
        Shape :math:`\hat k` of the generalised Pareto distribution fitted to the largest ratios.
        Above `threshold` the weights are not reliable. Zero for constant ratios. Values above the
        threshold are set to zero where no ratio exceeds twice the mean: for an almost exact
        proposal the fitted shape may be large, but no draw is influential. Infinite where too few
        draws have a positive density for a fit (always with fewer than 31 draws), or where log
        ratios beyond 1e13 differ by less than their rounding.
    log_mean : ndarray, shape (...)
        Logarithm of the mean ratio: the importance sampling estimate of a normalising constant.
    standard_error : ndarray, shape (...)
        Standard error of `log_mean`, by the delta method.
    """

    log_weights: np.ndarray
    pareto_k: np.ndarray
    log_mean: np.ndarray
    standard_error: np.ndarray

    def __getitem__(self, index: Any) -> ImportanceWeights:
        """Weights of some of the proposals, by an index along their axes."""
        return ImportanceWeights(*(getattr(self, f)[index] for f in self.__dataclass_fields__))

    @property
    def draws(self) -> int:
        """Number of draws from the proposal."""
        return self.log_weights.shape[-1]

    @property
    def effective_draws(self) -> np.ndarray:
        """Equivalent number of independent draws from the target (Kish), shape (...)."""
        return np.exp(-logsumexp(2 * self.log_weights, axis=-1))

    @property
    def threshold(self) -> float:
        """Largest :math:`\\hat k` for which the number of draws suffices."""
        return pareto_k_threshold(self.draws)

    def resample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Systematic resampling by the weights, which repeats draws as rarely as possible.

        Parameters
        ----------
        n : int
        rng : Generator

        Returns
        -------
        ndarray of int, shape (..., n)
            In random order.
        """
        cumulative = np.exp(self.log_weights).cumsum(axis=-1)
        cumulative /= cumulative[..., -1:]
        rows = cumulative.reshape(-1, self.draws)
        chosen = np.empty((len(rows), n), dtype=int)
        for i, row in enumerate(rows):
            points = (np.arange(n) + rng.random()) / n
            chosen[i] = rng.permutation(np.minimum(np.searchsorted(row, points), self.draws - 1))
        return chosen.reshape(*cumulative.shape[:-1], n)


def pareto_k_threshold(draws: int) -> float:
    r"""Largest :math:`\hat k` at which importance sampling from so many draws is reliable.

    :math:`\min(1 - 1 / \log_{10} S, 0.7)`, Equation 13 of [1]_.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao & Gabry (2024). Pareto smoothed importance sampling.
       JMLR, 25(72), 1-58.

    Examples
    --------
    >>> pareto_k_threshold(100), pareto_k_threshold(4000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(max(draws, 2)), 0.7)


def pareto_smooth(log_ratios: np.ndarray) -> ImportanceWeights:
    r"""Smooth importance ratios, target over proposal.

    Parameters
    ----------
    log_ratios : ndarray, shape (..., draws)
        :math:`\log \tilde p(\theta_s) - \log q(\theta_s)` with :math:`\theta_s \sim q`; the target
        need not be normalised. NaN and −inf are draws that the target excludes.

    Returns
    -------
    ImportanceWeights

    Raises
    ------
    ValueError
        If a ratio is +inf, as of a draw where the proposal has no density.
    """
    ratios = np.asarray(log_ratios, dtype=float)
    ratios = np.where(np.isnan(ratios), -np.inf, ratios)
    if np.isposinf(ratios).any():
        raise ValueError("log_ratios contain +inf: a draw lies where its proposal has no density.")
    possible = np.isfinite(ratios)
    tail = np.sort(ratios, axis=-1)[..., -_tail_size(ratios.shape[-1]) - 1 :]
    # ArviZ cannot fit a tail of fewer than five draws, nor one of equal ratios.
    few = ~np.isfinite(tail[..., 0]) | (tail.shape[-1] < SMALLEST_TAIL)
    with np.errstate(invalid="ignore"):
        few |= np.spacing(np.abs(tail[..., -1])) > RESOLUTION
        constant = ~few & (tail[..., -1] - tail[..., 0] < CONSTANT)
    plain = few | constant
    floored = np.where(possible, ratios, tail[..., -1:] - 600.0)
    log_weights, pareto_k = ratios.copy(), np.zeros(ratios.shape[:-1])
    if not plain.all():
        log_weights[~plain], pareto_k[~plain] = _psislw(floored[~plain])
    with np.errstate(invalid="ignore", divide="ignore"):
        # Relative to the largest: with large numbers, a sum would lose the log of their count.
        log_weights = np.where(possible, log_weights - log_weights.max(-1, keepdims=True), -np.inf)
        total = logsumexp(log_weights, axis=-1, keepdims=True)
        uniform = np.full_like(log_weights, -np.log(ratios.shape[-1]))
        log_weights = np.where(np.isfinite(total), log_weights - total, uniform)
    log_mean, standard_error = _log_mean(ratios, log_weights)
    with np.errstate(invalid="ignore"):
        narrow = ratios.max(-1) - logsumexp(ratios, axis=-1) + math.log(ratios.shape[-1]) <= NARROW
    alarmed = pareto_k > pareto_k_threshold(ratios.shape[-1])
    pareto_k = np.where(narrow & alarmed, 0.0, pareto_k)
    none = ~possible.any(axis=-1)
    return ImportanceWeights(
        log_weights=log_weights,
        pareto_k=np.where(few | np.isnan(pareto_k), np.inf, pareto_k),
        log_mean=np.where(none, -np.inf, log_mean),
        standard_error=np.where(none, np.inf, standard_error),
    )


def _tail_size(draws: int) -> int:
    return int(np.ceil(min(draws / 5, 3 * draws**0.5)))


def _psislw(log_ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised smoothed log weights and their shapes, of ratios of shape (rows, draws)."""
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        if hasattr(az, "psislw"):  # ArviZ 0.23; it smooths in place
            log_weights, pareto_k = az.psislw(log_ratios.copy())
            return np.asarray(log_weights), np.asarray(pareto_k)
        # ArviZ 1.x takes log-likelihoods, whose negatives are the ratios of leave-one-out.
        negative = xr.DataArray(-log_ratios, dims=("row", "__sample__"))
        log_weights, pareto_k = negative.azstats.psislw(dim="__sample__")
    return log_weights.transpose("row", "__sample__").to_numpy(), np.asarray(pareto_k)


def _log_mean(ratios: np.ndarray, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Restore the scale that normalisation took: the body of the ratios is not smoothed."""
    draws = ratios.shape[-1]
    # At most a fifth of the draws make the tail.
    middle = np.argsort(ratios, axis=-1)[..., [int(0.75 * (draws - 1))]]
    raw = np.take_along_axis(ratios, middle, -1)[..., 0]
    normalised = np.take_along_axis(log_weights, middle, -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_mean = raw - normalised - np.log(draws)
        # If most draws are excluded, the scale comes from the unsmoothed sum.
        unsmoothed = logsumexp(ratios, axis=-1) - np.log(draws)
    log_mean = np.where(np.isfinite(log_mean), log_mean, unsmoothed)
    share = np.exp(logsumexp(2 * log_weights, axis=-1)) * draws - 1.0
    return log_mean, np.sqrt(np.maximum(share, 0.0) / draws)
