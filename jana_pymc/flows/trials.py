"""A linear transform by the mean and covariance of sums of binary trials."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEAST_SCALE = 1e-2
"""Least standard deviation beside the trials, in units of the regression's residuals."""

START_SCALE = math.exp(-2.0)
"""The same at the start."""

PACE = 5.0
"""Weights are stored in this unit, so that they learn faster than those of deep networks."""

FEWEST_ROWS = 2
"""Least number of rows for each column of the regression."""

LEAST_SHARE = 1e-3
"""Least share of a component's variance that is left once parameters and others are known."""

CONSTANT = 1e-10
"""A variance below this, in standard units, counts as zero."""

MEAN_SPREAD = 0.2
"""About the mean variance of a trial at the start."""


class TrialSumTransform(nn.Module):
    r"""Standardise a vector as if it were a sum of independent binary trials.

    .. math::

        m(c) = a + \sum_k \bigl(\sigma(\ell_k) - \tfrac12\bigr) v_k, \qquad
        C(c) = \operatorname{diag}(s^2) + \sum_k \sigma'(\ell_k) \, v_k v_k^\top, \qquad
        \ell = U c + b,

    and with the Cholesky factor L of C, :math:`z = L(c)^{-1} (x - m(c))`. Statistics that are
    added up over trials have such moments, and whatever is learned about their mean holds for their
    covariance.

    In an exponential family with sufficient statistics x both are derivatives of one function of
    the natural parameters, and U is V W with W the slopes of the mean in units of the covariance,
    which come from a regression. U is written as V W plus a difference. Weight decay draws the
    differences to zero, and V too, as far as simulations do not contradict: few simulations do not
    determine the parameters' influence on each mean and each covariance separately.

    x is first taken to the units in which the residuals of that regression are uncorrelated.
    The first components may be given: then the rest is standardised given these.

    Parameters
    ----------
    dim, n_context : int
        Components, given ones included, and the entries of the condition that trials see.
    n_given : int
        First components that are given; they are the last entries of the condition.
    n_trials : int

    References
    ----------
    .. [1] McCullagh, P., & Nelder, J. A. (1989). Generalized linear models. Chapman & Hall.
       Section 2.2.2 (mean and variance as derivatives of the cumulant function).
    """

    unit: Tensor
    slopes: Tensor

    def __init__(self, dim: int, n_context: int, n_given: int = 0, n_trials: int = 192):
        super().__init__()
        self.dim, self.n_context, self.n_given = dim, n_context, n_given
        start = math.sqrt(1.0 / (MEAN_SPREAD * n_trials))
        self.jump = nn.Parameter(start / PACE * torch.randn(n_trials, dim))
        self.bias = nn.Parameter(torch.randn(n_trials) / PACE)
        self.difference = nn.Parameter(torch.zeros(n_trials, n_context))
        self.location = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.full((dim,), math.log(START_SCALE)))
        self.register_buffer("unit", torch.eye(dim))
        self.register_buffer("slopes", torch.zeros(dim, n_context))

    @torch.no_grad()
    def standardize(
        self, values: Float[Tensor, "rows d"], context: Float[Tensor, "rows c"]
    ) -> None:
        """Take units and slopes from a linear regression of values on the context."""
        # On the host: some devices have no double precision.
        y = values.cpu().double()
        design = torch.cat([torch.ones(len(y), 1).double(), context.cpu().double()], -1)
        if len(design) < FEWEST_ROWS * design.shape[1]:  # too few for slopes
            design = design[:, :1]
        normal = design.T @ design + 1e-6 * len(design) * torch.eye(design.shape[1])
        coefficients = torch.linalg.solve(normal, design.T @ y)
        residual = y - design @ coefficients
        covariance = residual.T @ residual / len(residual)
        variance = y.var(0)
        constant = variance < CONSTANT
        covariance[constant], covariance[:, constant] = 0.0, 0.0
        covariance += torch.diag(torch.where(constant, 1.0, 1e-8 * variance))
        unit = torch.linalg.cholesky(covariance)
        # A component that follows from others, or hardly varied, must not count as certain.
        thin = ~constant & (unit.diagonal() ** 2 < LEAST_SHARE * variance)
        if thin.any():
            covariance += torch.diag(torch.where(thin, LEAST_SHARE * variance, 0.0))
            unit = torch.linalg.cholesky(covariance)
        regression = torch.linalg.solve_triangular(unit, coefficients.T, upper=False)
        slopes = torch.zeros_like(self.slopes)
        if design.shape[1] > 1:
            slopes.copy_(regression[:, 1:])
        self.unit.copy_(unit)
        self.slopes.copy_(slopes)
        start = (torch.sigmoid(PACE * self.bias) - 0.5) @ (PACE * self.jump)
        self.location.copy_(regression[:, 0].to(start) - start)

    def moments(
        self, context: Float[Tensor, "*batch c"], n: int | None = None
    ) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]:
        """Mean and covariance of the first n components, or of all, in the regression's units."""
        jump = PACE * self.jump[:, :n]
        logit = PACE * (context @ (self.jump @ self.slopes + self.difference).T + self.bias)
        probability = torch.sigmoid(logit)
        mean = self.location[:n] + (probability - 0.5) @ jump
        variance = probability * (1.0 - probability)
        products = (jump[:, :, None] * jump[:, None]).flatten(1)
        covariance = (variance @ products).unflatten(-1, (jump.shape[1], jump.shape[1]))
        rest = LEAST_SCALE**2 + (2.0 * self.log_scale[:n]).exp()
        return mean, covariance + torch.diag(rest)

    def given_moments(
        self, context: Float[Tensor, "*batch c"]
    ) -> tuple[Float[Tensor, "*batch g"], Float[Tensor, "*batch g"]]:
        """Means and standard deviations of the given components, which see the context alone."""
        unit = self.unit[: self.n_given, : self.n_given]
        mean, covariance = self.moments(context, self.n_given)
        variance = torch.einsum("ij,...jk,ik->...i", unit, covariance, unit)
        return mean @ unit.T, variance.sqrt()

    def forward(
        self, x: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Carry x to z, with the log determinant."""
        mean, factor, given = self._parts(condition)
        values = torch.cat([given.expand(*x.shape[:-1], -1), x], -1)
        units = torch.linalg.solve_triangular(self.unit, values[..., None], upper=False)
        residual = units - mean[..., None]
        z = torch.linalg.solve_triangular(factor, residual, upper=False)[..., 0]
        log_det = -self._log_diagonal(factor)
        return z[..., self.n_given :], log_det.expand(x.shape[:-1])

    def inverse(
        self, z: Float[Tensor, "*batch d"], condition: Float[Tensor, "*#batch c"]
    ) -> tuple[Float[Tensor, "*batch d"], Float[Tensor, "*batch"]]:
        """Undo `forward`."""
        n = self.n_given
        mean, factor, given = self._parts(condition)
        if n:
            units = torch.linalg.solve_triangular(self.unit[:n, :n], given[..., None], upper=False)
            residual = units - mean[..., :n, None]
            first = torch.linalg.solve_triangular(factor[..., :n, :n], residual, upper=False)
            z = torch.cat([first[..., 0].expand(*z.shape[:-1], -1), z], -1)
        units = mean[..., None] + factor @ z[..., None]
        values = (self.unit @ units)[..., 0]
        return values[..., n:], self._log_diagonal(factor).expand(z.shape[:-1])

    def _parts(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, Cholesky factor and given components."""
        context = condition[..., : self.n_context]
        given = condition[..., condition.shape[-1] - self.n_given :]
        mean, covariance = self.moments(context)
        # Unchecked by the host: a step without finite gradients is left out anyway.
        factor, _ = torch.linalg.cholesky_ex(covariance)
        return mean, factor, given

    def _log_diagonal(self, factor: Tensor) -> Float[Tensor, "*batch"]:
        """Log determinant of the components that are not given."""
        diagonal = torch.diagonal(factor, dim1=-2, dim2=-1) * torch.diagonal(self.unit)
        return diagonal[..., self.n_given :].log().sum(-1)
