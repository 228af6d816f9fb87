"""Slopes of the likelihood network's log density at latent points of a posterior."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.posterior.network import PosteriorNetwork
from jana_pymc.simulation import PyMCPrior

STEP = 0.1
"""Latent distance over which the posterior's own map is differentiated: it is smooth on the scale
of one, and single precision leaves five digits of it."""

ROWS_AT_ONCE = 16_000
"""Observations whose density is differentiated at once."""

LARGEST = 1e6
"""Slopes and log densities are clipped to ± this; those that are no number count as zero."""

POINTS_SEED = 7


class LatentSlopes:
    r"""Gradients, in a posterior's latent space, of its difference from the likelihood's posterior.

    With the map :math:`\theta(z; x)` from latent points to parameters, they are those of

    .. math::

        \log l(x \mid \theta(z)) + \log p(\theta(z)) - \log q(\theta(z) \mid x),

    all densities over unconstrained parameters. Were q the posterior of this likelihood, the sum
    would be constant in z. Latent distances are in standard deviations of q, whatever the data, and
    the gradient is a change in nats for each. Its entries s are returned as
    sign(s) log(1 + abs(s)), near zero the slopes themselves. For more than one point, the values of
    the sum, less their mean, follow in the same form.

    Parameters
    ----------
    posterior : PosteriorNetwork
        Its adjustment, if it has one, is not used.
    likelihood : LikelihoodNetwork
    prior : PyMCPrior
    n_points : int
        Number of points: the centre, and random ones that are always the same.
    """

    def __init__(
        self,
        posterior: PosteriorNetwork,
        likelihood: LikelihoodNetwork,
        prior: PyMCPrior,
        n_points: int,
    ):
        self.posterior, self.likelihood, self.prior = posterior, likelihood, prior
        dim = prior.n_unconstrained
        generator = torch.Generator().manual_seed(POINTS_SEED)
        others = torch.randn(n_points - 1, dim, generator=generator)
        self.points = torch.cat([torch.zeros(1, dim), others])

    def __call__(
        self,
        observables: Float[Tensor, "sets obs c"],
        n_obs: Int[Tensor, " sets"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets slopes"]:
        """Compute the slopes of each data set; observations beyond `n_obs` are padding."""
        size = max(1, ROWS_AT_ONCE // (observables.shape[1] * len(self.points)))
        parts = [slice(i, i + size) for i in range(0, len(observables), size)]
        # Gradients are wanted even where the caller switched them off.
        with torch.inference_mode(False), torch.enable_grad():
            return torch.cat(
                [
                    self._of(
                        observables[rows].clone(),
                        n_obs[rows].clone(),
                        None if conditions is None else conditions[rows].clone(),
                    )
                    for rows in parts
                ]
            )

    def _of(self, observables: Tensor, n_obs: Tensor, conditions: Tensor | None) -> Tensor:
        n_sets, n_points, dim = len(observables), *self.points.shape
        with torch.no_grad():
            summary = self.posterior.summarize(observables, n_obs, conditions)
            condition = self.posterior.condition(summary, observables, n_obs)
            # Each point, then a step on and a step back along each axis.
            axes = STEP * torch.eye(dim, dtype=condition.dtype, device=condition.device)
            steps = torch.cat([torch.zeros_like(axes[:1]), axes, -axes])
            latent = (self.points.to(condition)[:, None] + steps).flatten(0, 1)
            unconstrained, log_q = self.posterior.push(latent.expand(n_sets, -1, -1), condition)
        u = unconstrained.double().cpu().numpy()
        log_prior = torch.as_tensor(np.asarray(self.prior.log_prob(u))).to(log_q.device)
        rest = _bounded(log_prior - log_q).unflatten(1, (n_points, -1))
        parameters = torch.as_tensor(self.prior.constrain(u)).to(log_q.device)
        parameters = parameters.unflatten(1, (n_points, -1))
        log_l, gradient = self._likelihood_at(
            parameters[:, :, 0].to(condition), observables, n_obs, conditions
        )
        slope = (_difference(parameters) * gradient[:, :, None]).sum(-1) + _difference(rest)
        told = _bounded(slope).flatten(1)
        if n_points > 1:
            value = _bounded(log_l + rest[:, :, 0])
            told = torch.cat([told, value - value.mean(-1, keepdim=True)], -1)
        return (told.sign() * told.abs().log1p()).to(condition)

    def _likelihood_at(
        self,
        parameters: Float[Tensor, "sets points p"],
        observables: Tensor,
        n_obs: Tensor,
        conditions: Tensor | None,
    ) -> tuple[Float[Tensor, "sets points"], Float[Tensor, "sets points p"]]:
        """Log likelihood and its gradient."""
        n_points = parameters.shape[1]
        present = torch.arange(observables.shape[1], device=n_obs.device) < n_obs[:, None]
        # Padding becomes an observation, which has a density; that is then left out of the sum.
        observables = torch.where(present[..., None], observables, observables[:, :1])
        if conditions is not None:
            conditions = torch.where(present[..., None], conditions, conditions[:, :1])
        theta = parameters.flatten(0, 1).requires_grad_()
        pointwise = self.likelihood.informative_log_prob(
            observables.repeat_interleave(n_points, 0),
            theta,
            None if conditions is None else conditions.repeat_interleave(n_points, 0),
        )
        log_l = torch.where(present.repeat_interleave(n_points, 0), pointwise, 0.0).sum(-1)
        (gradient,) = torch.autograd.grad(log_l.sum(), theta)
        return log_l.detach().double().unflatten(0, (-1, n_points)), gradient.double().unflatten(
            0, (-1, n_points)
        )


def _difference(values: Tensor) -> Tensor:
    """Central differences along the axis of steps: first no step, then all on, then all back."""
    _, forward, backward = values.tensor_split((1, 1 + values.shape[2] // 2), 2)
    return (forward - backward) / (2.0 * STEP)


def _bounded(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=0.0).clamp(-LARGEST, LARGEST)
