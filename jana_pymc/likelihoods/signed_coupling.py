"""The paper's likelihood network for reaction times: an affine coupling flow on signed times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from jana_pymc.checks import check_kind
from jana_pymc.flows.flow import FlowSettings, conditional_flow
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.moments import set_moments


@dataclass(frozen=True)
class SignedCouplingSettings:
    """Architecture of the signed coupling likelihood; the defaults are the paper's.

    Twelve affine layers with fixed permutations, conditioners of two layers of 32 units for scale
    and for shift each (64 in one network here), a multivariate Student-t latent with 50 degrees
    of freedom.

    Parameters
    ----------
    flow : FlowSettings

    Raises
    ------
    TypeError
        If `flow` is something else.
    """

    flow: FlowSettings = field(
        default_factory=lambda: FlowSettings(
            n_layers=12,
            transform="affine",
            linear="permutation",
            hidden=(64, 64),
            activation="tanh",
            degrees_of_freedom=50.0,
        )
    )

    def __post_init__(self) -> None:
        check_kind("flow", self.flow, (FlowSettings,))


class SignedCouplingLikelihood(LikelihoodNetwork):
    """Density of (response, time) through the signed time s = t (2 r − 1).

    One continuous, positive component and one binary one become a single real number, to which a
    standard normal dummy is appended, since a coupling layer needs two coordinates. While training
    the dummy is drawn afresh; at evaluation it is zero and its density is divided out, so that the
    value is deterministic. It is the density of the time itself only as far as the flow has learned
    that the dummy is independent. The flow has probability outside a declared support, too: there
    the density is zero all the same, and draws are moved to the edge. The default is
    `AutoregressiveLikelihood`: it needs neither sign nor dummy.

    Parameters
    ----------
    components : sequence of int or Support
        One 2 (the response) and one `Support` (the time), in the order of the data.
    n_parameters : int
        Size of the flattened parameters.
    n_conditions : int
        0: it takes no conditions.
    settings : SignedCouplingSettings

    Raises
    ------
    ValueError
        If the observables are not one binary and one continuous component, or conditions are
        declared.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Section 4.3 and Appendix D.3.
    """

    parameter_mean: Tensor
    parameter_sd: Tensor

    def __init__(
        self,
        components: Sequence[int | Support],
        n_parameters: int,
        n_conditions: int = 0,
        settings: SignedCouplingSettings = SignedCouplingSettings(),
    ):
        super().__init__()
        kinds = ["continuous" if isinstance(c, Support) else c for c in components]
        if sorted(map(str, kinds)) != ["2", "continuous"] or n_conditions:
            raise ValueError(
                "the signed coupling likelihood takes one Categorical(2) and one Continuous "
                f"observable and no conditions, not {kinds} with {n_conditions} conditions; "
                "use AutoregressiveSettings."
            )
        self.response = kinds.index(2)
        self.time = 1 - self.response
        support = components[self.time]
        assert isinstance(support, Support)  # narrows the type: there are no other components
        self.support = support
        self.settings = settings
        self.flow = conditional_flow(2, n_parameters, settings.flow)
        self.register_buffer("parameter_mean", torch.zeros(n_parameters))
        self.register_buffer("parameter_sd", torch.ones(n_parameters))

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "rows p"],
        conditions: Tensor | None = None,
    ) -> None:
        """Take location and scale of the parameters from simulations.

        Raises
        ------
        ValueError
            If times are negative.
        """
        if (observables[..., self.time] < 0).any():
            raise ValueError(
                "the signed coupling likelihood is one of times, which take the response for their "
                "sign, and the simulator returned negative ones; use AutoregressiveSettings."
            )
        set_moments(self.parameter_mean, self.parameter_sd, parameters)

    def training_log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of signed time and a freshly drawn dummy, less the dummy's own."""
        own = parameters[:, None].expand(-1, observables.shape[1], -1)
        dummy = torch.randn(
            observables.shape[:2],
            generator=generator,
            dtype=observables.dtype,
            device=observables.device,
        )
        return self._log_prob(observables, own, dummy)

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Tensor | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation; deterministic, the dummy at zero.

        Returns
        -------
        Tensor, shape (sets, obs)
            −inf outside the declared support, and for negative times.
        """
        own = parameters[:, None].expand(-1, observables.shape[1], -1)
        return self._log_prob(observables, own, torch.zeros_like(observables[..., 0]))

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Tensor | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of single observations, each with the parameters of its group."""
        dummy = torch.zeros_like(observables[..., 0])
        return self._log_prob(observables, parameters[group], dummy)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate n_obs observations for each parameter vector; the dummy is discarded."""
        context = (parameters - self.parameter_mean) / self.parameter_sd
        signed = self.flow.sample(n_obs, context, generator)[..., 0]
        own = parameters[:, None].expand(-1, n_obs, -1)
        columns = [self.support.nearest(signed.abs(), own), (signed > 0).to(signed.dtype)]
        if self.time == 1:
            columns.reverse()
        return torch.stack(columns, -1)

    def _log_prob(self, observables: Tensor, parameters: Tensor, dummy: Tensor) -> Tensor:
        times = observables[..., self.time]
        signed = times * (2.0 * observables[..., self.response] - 1.0)
        context = (parameters - self.parameter_mean) / self.parameter_sd
        joint = self.flow.log_prob(torch.stack([signed, dummy], -1), context)
        log_prob = joint + 0.5 * dummy**2 + 0.5 * math.log(2.0 * math.pi)
        # The sign is the response's: a negative time would count as one of the other response.
        possible = self.support.to_real(times, parameters)[2] & (times >= 0)
        return torch.where(possible, log_prob, -torch.inf)
