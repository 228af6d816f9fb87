"""The average error of a likelihood network's score, as a function of the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from jana_pymc.checks import check_count

Vector: TypeAlias = tuple[float, ...]
Matrix: TypeAlias = tuple[Vector, ...]

TYPICAL = 1000
"""Observations for which a correction describes itself."""

CONSTANT = 1e-8
"""Relative spread below which values are rounded copies of one."""


@dataclass(frozen=True)
class ScoreCorrection:
    r"""A function c(θ) of the parameters that is taken from each log density.

    The expected score of a true likelihood is zero, E[∇ log p(x | θ)] = 0 for x from p(x | θ). The
    expected score of a network, b(θ) = E[∇ log l(x | θ)] for x from the *simulator*, is its bias;
    log l − c with ∇c = b has none. Within the range of the parameters that it was learned from,

    .. math:: c(\theta) = \beta^T z + \tfrac{1}{2} z^T B z + z^T C k,
              \quad z = (\theta - \mu) / \sigma

    for standardised parameters z and known conditions k. Beyond this range it continues linearly,
    with its value and slope at the nearest point of the range.

    Made by `LikelihoodApproximator.score_correction`, and passed as ``correction=``.

    Parameters
    ----------
    likelihood : str
        Content hash of the likelihood that it corrects.
    names : tuple of str
        Components of the parameters.
    mean, sd, low, high : tuple of float
        Location, scale and range of the parameters that it was learned from.
    slope : tuple of float
        β.
    curvature, crossing : tuple of tuple of float
        B, shape (parameters, parameters), and C, shape (parameters, conditions).
    condition_mean, condition_sd : tuple of float
    bias : tuple of float
        Mean of b(θ) over those parameters, in units of 1/σ.
    information : tuple of tuple of float
        Covariance of the score of one observation, in units of 1/σ².
    n_observations : int
        Simulated observations (for vectors, data sets) that bias and slope were estimated from.
    """

    likelihood: str
    names: tuple[str, ...]
    mean: Vector
    sd: Vector
    low: Vector
    high: Vector
    slope: Vector
    curvature: Matrix
    crossing: Matrix
    condition_mean: Vector
    condition_sd: Vector
    bias: Vector
    information: Matrix
    n_observations: int

    def __repr__(self) -> str:
        shift = self.shift(TYPICAL)
        parts = ", ".join(f"{name} {value:+.2f}" for name, value in shift["shift"].items())
        error = float(shift["standard_error"].iloc[0])
        return (
            f"ScoreCorrection(of {TYPICAL:,} observations it moves the posterior by {parts} "
            f"posterior sds, ± {error:.2f})"
        )

    def shift(self, n_obs: int) -> pd.DataFrame:
        r"""Shift that the correction causes in the posterior of shared parameters.

        .. math:: -\sqrt{N} \, [I^{-1} b]_j / \sqrt{[I^{-1}]_{jj}}

        for N observations of Fisher information I each, where the prior is weak and all parameters
        are free. The standard error is :math:`\sqrt{N / M}` for M simulated observations.

        Parameters
        ----------
        n_obs : int

        Returns
        -------
        DataFrame
            One row per parameter; columns ``shift`` and ``standard_error``, in posterior standard
            deviations. `jana_pymc.plots.plot_score_correction` plots it.
        """
        check_count("n_obs", n_obs)
        inverse = np.linalg.pinv(np.array(self.information), hermitian=True)
        spread = np.sqrt(np.maximum(np.diag(inverse), 0.0))
        moved = -inverse @ np.array(self.bias)
        known = spread > 0
        shift = np.sqrt(n_obs) * np.divide(moved, spread, out=np.zeros_like(moved), where=known)
        error = np.sqrt(n_obs / self.n_observations)
        return pd.DataFrame({"shift": shift, "standard_error": error}, index=list(self.names))

    def at(
        self,
        parameters: TensorVariable,
        group: TensorVariable | None,
        conditions: TensorVariable | None,
    ) -> TensorVariable:
        """Value of c for each row.

        Parameters
        ----------
        parameters : TensorVariable, shape (groups, parameters)
            Distinct parameter vectors.
        group : TensorVariable of int, shape (rows,), or None
            Row of ``parameters`` for each observation; None if there is one for all.
        conditions : TensorVariable, shape (rows, conditions), or None

        Returns
        -------
        TensorVariable, shape (rows,), or () for one parameter vector without conditions
        """
        mean, sd = np.array(self.mean), np.array(self.sd)
        z = (parameters - mean) / sd
        value = (z * np.array(self.slope)).sum(axis=1)
        if np.any(self.curvature):
            inner = (pt.clip(parameters, np.array(self.low), np.array(self.high)) - mean) / sd
            # ½ innerᵀ B inner + (z − inner)ᵀ B inner: beyond the edge, the tangent at the edge.
            value = value + ((z - 0.5 * inner) * (inner @ np.array(self.curvature))).sum(axis=1)
        each = value[0] if group is None else value[group]
        if conditions is None or not np.any(self.crossing):
            return each
        k = (conditions - np.array(self.condition_mean)) / np.array(self.condition_sd)
        crossing = z @ np.array(self.crossing)
        return each + ((crossing if group is None else crossing[group]) * k).sum(axis=1)


def fitted(
    likelihood: str,
    names: tuple[str, ...],
    parameters: NDArray[np.float64],
    conditions: NDArray[np.float64],
    scores: NDArray[np.float64],
    *,
    n_obs: int,
    degree: int,
) -> ScoreCorrection:
    r"""Least squares of simulated scores on ∇c.

    Weighted by the inverse covariance W of the scores, the residuals of each component sum to zero
    over the simulations: whatever the shape of b, its mean is corrected. With features
    f = (1, z, k) and ∇c = Γ f, the normal equations of the unconstrained Γ are those of
    (Σ f fᵀ) ⊗ W; that B is symmetric makes the two a gradient.

    Parameters
    ----------
    likelihood, names : see `ScoreCorrection`
    parameters : ndarray, shape (simulations, parameters)
    conditions : ndarray, shape (simulations, conditions)
    scores : ndarray, shape (simulations, parameters)
        Mean score of each simulation's observations.
    n_obs : int
        Observations in each simulation.
    degree : int
        2, or 1 for a constant bias.
    """
    n, d = parameters.shape
    mean, sd = _standard(parameters)
    known_mean, known_sd = _standard(conditions)
    features = [np.ones((n, 1))]
    if degree > 1:
        features += [(parameters - mean) / sd, (conditions - known_mean) / known_sd]
    f = np.concatenate(features, axis=1)
    scaled = scores * sd
    covariance = np.cov(scaled, rowvar=False).reshape(d, d)
    weight = np.linalg.pinv(covariance, hermitian=True)
    # Column-major: coefficient (i, j) of Γ stands at j d + i.
    tie = _symmetric(d, f.shape[1]) if degree > 1 else np.eye(d)
    left = tie.T @ np.kron(f.T @ f, weight) @ tie
    right = tie.T @ (weight @ scaled.T @ f).T.ravel()
    gamma = (tie @ np.linalg.lstsq(left, right, rcond=1e-12)[0]).reshape(-1, d).T
    curvature = gamma[:, 1 : 1 + d] if degree > 1 else np.zeros((d, d))
    return ScoreCorrection(
        likelihood,
        names,
        _vector(mean),
        _vector(sd),
        _vector(parameters.min(0)),
        _vector(parameters.max(0)),
        _vector(gamma[:, 0]),
        tuple(map(_vector, curvature)),
        tuple(map(_vector, gamma[:, 1 + d :])) if degree > 1 else ((),) * d,
        _vector(known_mean),
        _vector(known_sd),
        _vector(scaled.mean(0)),
        tuple(map(_vector, n_obs * covariance)),
        n * n_obs,
    )


def n_coefficients(n_parameters: int, n_conditions: int) -> int:
    """Coefficients of a correction of degree 2."""
    return n_parameters + n_parameters * (n_parameters + 1) // 2 + n_parameters * n_conditions


def _symmetric(d: int, n_features: int) -> NDArray[np.float64]:
    """Matrix that maps free coefficients to all of Γ, whose block of z is symmetric."""
    pairs = [(i, j) for j in range(d) for i in range(j + 1)]
    others = [j for j in range(n_features) if not 1 <= j <= d]
    tie = np.zeros((d * n_features, len(pairs) + d * len(others)))
    for column, (i, j) in enumerate(pairs):
        tie[(1 + j) * d + i, column] = 1.0
        tie[(1 + i) * d + j, column] = 1.0
    for column, (j, i) in enumerate(((j, i) for j in others for i in range(d)), len(pairs)):
        tie[j * d + i, column] = 1.0
    return tie


def _standard(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and standard deviations of columns; for a constant column its value and 1.

    The mean of equal numbers differs from them by rounding, which would be scaled up otherwise.
    """
    sd = values.std(0)
    varies = sd > CONSTANT * np.abs(values).max(0)
    return np.where(varies, values.mean(0), values[0]), np.where(varies, sd, 1.0)


def _vector(values: NDArray[np.float64]) -> Vector:
    return tuple(map(float, values))
