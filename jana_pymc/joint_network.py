"""The joint network: posterior and likelihood trained on the same simulations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.posterior import PosteriorNetwork

MMD_BANDWIDTHS = (
    *(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 15.0),
    *(20.0, 25.0, 30.0, 35.0, 100.0, 1e3, 1e4, 1e5, 1e6),
)
"""Squared widths of the Gaussian kernels whose sum the paper uses."""


@dataclass(frozen=True)
class Batch:
    """Simulated data sets on one device.

    Attributes
    ----------
    parameters : Tensor, shape (sets, parameters)
        Constrained.
    unconstrained : Tensor, shape (sets, unconstrained)
    observables : Tensor, shape (sets, obs, components)
    conditions : Tensor, shape (sets, obs, conditions), or None
    n_obs : Tensor of int, shape (sets,)
        Observations beyond it are padding.
    slopes : Tensor, shape (sets, slopes), or None
        Slopes of the likelihood, for an adjusted posterior (`LatentSlopes`).
    """

    parameters: Tensor
    unconstrained: Tensor
    observables: Tensor
    conditions: Tensor | None
    n_obs: Tensor
    slopes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.parameters)

    def rows(self, index: slice | Tensor) -> Batch:
        """Some of the data sets."""
        return Batch(
            self.parameters[index],
            self.unconstrained[index],
            self.observables[index],
            None if self.conditions is None else self.conditions[index],
            self.n_obs[index],
            None if self.slopes is None else self.slopes[index],
        )


class JointNetwork(nn.Module):
    """Posterior and likelihood network, and the terms of their loss (Eq. 9 of the paper).

    Parameters
    ----------
    posterior : PosteriorNetwork
    likelihood : LikelihoodNetwork

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 9.
    """

    def __init__(self, posterior: PosteriorNetwork, likelihood: LikelihoodNetwork):
        super().__init__()
        self.posterior = posterior
        self.likelihood = likelihood

    def posterior_loss(
        self, batch: Batch, *, with_mmd: bool = False
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The terms of the loss that depend on the posterior network.

        Returns
        -------
        posterior : Tensor
            Mean of −log q(u | x) over data sets, in nats.
        mmd : Tensor
            Squared maximum mean discrepancy between summaries and a standard normal distribution;
            zero unless asked for.
        """
        summary = self.posterior.summarize(batch.observables, batch.n_obs, batch.conditions)
        condition = self.posterior.condition(summary, batch.observables, batch.n_obs, batch.slopes)
        posterior = -self.posterior.log_prob(batch.unconstrained, condition).mean()
        mmd = posterior.new_zeros(())
        if with_mmd:
            target = torch.randn(summary.shape, dtype=summary.dtype, device=summary.device)
            mmd = squared_mmd(summary, target)
        return posterior, mmd

    def likelihood_loss(
        self,
        batch: Batch,
        proposal_batch: Batch | None = None,
        *,
        max_obs: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Mean of −log l(xᵢ | θ) over observations, in nats.

        Parameters
        ----------
        batch : Batch
            Simulations from the prior.
        proposal_batch : Batch, optional
            Simulations from a wider proposal, from which the likelihood learns too.
        max_obs : int, optional
            Number of observations of a data set that are used: the first ones if they are
            exchangeable, and time points at even distances if the likelihood of sequences has
            ``log_prob_at``. Other sequences are used whole, since observations need their past.
        generator : torch.Generator, optional
            For likelihoods with randomness in their loss.
        """
        wider = batch if proposal_batch is None else _concatenate(batch, proposal_batch)
        if self.likelihood.is_sequential:
            at = self.likelihood.log_prob_at
            if at is not None and max_obs is not None and max_obs < wider.observables.shape[1]:
                times = _some_times(wider.parameters, int(wider.observables.shape[1]), max_obs)
                return -at(times, wider.observables, wider.parameters).mean()
            max_obs = None  # the past of every observation is needed
        return -self.likelihood.training_log_prob(
            wider.observables[:, :max_obs],
            wider.parameters,
            None if wider.conditions is None else wider.conditions[:, :max_obs],
            generator,
        ).mean()


def _some_times(
    parameters: Float[Tensor, "sets p"], n_obs: int, n_chosen: int
) -> Int[Tensor, " chosen"]:
    """Time points at even distances, from one that the batch itself chooses.

    Random numbers would have an order, which two networks that learn side by side do not keep; and
    a trace has no step to count. The parameters of a batch are random numbers already, and the sum
    of all their digits is exact, wherever they lie and however wide.
    """
    digits = (torch.frexp(parameters.float())[0] * 2**24).long().sum()
    begin = digits.remainder(1_000_003).remainder(n_obs)  # a prime: digits may end in zeros
    steps = torch.arange(n_chosen, device=parameters.device) * n_obs // n_chosen
    return (begin + steps).remainder(n_obs)


def _concatenate(first: Batch, second: Batch) -> Batch:
    """Both batches' data sets; the unconstrained parameters are the first's alone."""
    both = first.conditions is not None and second.conditions is not None
    return Batch(
        torch.cat([first.parameters, second.parameters]),
        first.unconstrained,
        torch.cat([first.observables, second.observables]),
        torch.cat([first.conditions, second.conditions]) if both else None,  # type: ignore[list-item]
        torch.cat([first.n_obs, second.n_obs]),
    )


def squared_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Squared MMD between two samples, by the biased estimator.

    The kernel is the sum of exp(−‖a − b‖² / (2 s)) over `MMD_BANDWIDTHS`.

    References
    ----------
    .. [1] Gretton, A., et al. (2012). A kernel two-sample test. JMLR, 13, 723-773.
    """

    def kernel_mean(a: Tensor, b: Tensor) -> Tensor:
        # From differences: distances by a matrix product are too coarse for the narrow kernels.
        distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        kernels = [torch.exp(distance * (-0.5 / width)) for width in MMD_BANDWIDTHS]
        return torch.stack(kernels).sum(0).mean()

    return (kernel_mean(x, x) + kernel_mean(y, y) - 2.0 * kernel_mean(x, y)).clamp_min(0.0)
