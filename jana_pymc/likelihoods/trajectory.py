"""Likelihood of a sequence that follows what its parameters determine, but for noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_count, check_sizes
from jana_pymc.flows.autoregressive import monotone_forward, monotone_inverse
from jana_pymc.flows.spline import n_spline_parameters
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.counts import CountRange, log_count, monotone_images
from jana_pymc.likelihoods.elementary_laws import log_normal
from jana_pymc.likelihoods.entering import EnteringParameters, parameter_positions
from jana_pymc.likelihoods.sequences import within_groups
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.clamps import atan_clamp
from jana_pymc.networks.dense import DenseNetwork
from jana_pymc.networks.dynamics import DynamicsEnsemble, DynamicsNetwork
from jana_pymc.networks.moments import scale_or_one

MAX_LOG_SCALE = 8.0
"""Bound on the log scale of the noise, relative to all simulations' scale."""

MAX_SEEN, MAX_SHIFT = 6.0, 8.0
"""Bounds on residuals as the law sees them, and on how far it moves the next: what is simulated may
depart from the trajectory, but not without end."""


@dataclass(frozen=True)
class TrajectorySettings:
    """Architecture of the likelihood around a trajectory.

    For sequences (``structure="markovian"``) without conditions or categories. Others have a
    default network that fits them.

    Parameters
    ----------
    hidden : tuple of int
        Hidden layers, residual, of the network from parameters to trajectory.
    n_states : int
        Size of a hidden state that this network moves on from one time point to the next, as
        differential equations do (`DynamicsNetwork`); far fewer simulations are then needed. 0
        makes the whole trajectory at once.
    n_members : int
        Number of laws of motion, each with a hidden state of its own; the trajectory is the mean
        of theirs (`DynamicsEnsemble`).
    n_substeps : int
        Steps of the hidden state from one time point to the next.
    n_features : int
        Numbers for each component and time point, beside location and scale, on which the law of
        the noise depends.
    law_hidden : tuple of int
        Hidden layers of the network for the law of the noise, which all time points share.
    n_bins : int
        Inner bins of the noise's splines.
    order : int
        How many observations back the noise may depend on. 0 for independent noise.
    angles : tuple of int
        Positions of parameters that are angles, in radians: sines and cosines enter instead.
    rounded : tuple of int
        Positions of parameters that the simulator rounds to whole numbers.

    Raises
    ------
    TypeError
        If a size, an order or a position is no integer.
    ValueError
        If one is too small, or a position is given twice.
    """

    hidden: Sequence[int] = (256,) * 6
    n_states: int = 0
    n_members: int = 1
    n_substeps: int = 2
    n_features: int = 2
    law_hidden: Sequence[int] = (32, 32)
    n_bins: int = 4
    order: int = 0
    angles: Sequence[int] = ()
    rounded: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("hidden", "law_hidden"):
            object.__setattr__(self, name, check_sizes(name, getattr(self, name)))
        for name in ("angles", "rounded"):
            object.__setattr__(self, name, parameter_positions(name, getattr(self, name)))
        both = set(self.angles) & set(self.rounded)
        if both:
            raise ValueError(
                f"angles={self.angles}, rounded={self.rounded}: expected different positions, but "
                f"{', '.join(map(str, sorted(both)))} is in both."
            )
        if self.order is None:
            raise TypeError(
                "order=None: expected an integer, how many observations back the noise may "
                "depend on; say order=0 if it is independent."
            )
        for name, least in (
            ("n_states", 0),
            ("n_members", 1),
            ("n_substeps", 1),
            ("n_features", 0),
            ("n_bins", 1),
            ("order", 0),
        ):
            object.__setattr__(self, name, check_count(name, getattr(self, name), least=least))
        if self.n_states and not self.hidden:
            raise ValueError(
                f"hidden=(), n_states={self.n_states}: what moves a hidden state on needs at least "
                "one hidden layer."
            )
        if self.n_members > 1 and not self.n_states:
            raise ValueError(
                f"n_members={self.n_members}, n_states=0: only laws of motion have members; give "
                "them hidden states, such as n_states=8."
            )


class TrajectoryLikelihood(LikelihoodNetwork):
    r"""Density of a sequence around a trajectory, with noise of one law for all times.

    .. math::

        l(x_{1:T} \mid \theta) = \prod_t \prod_j p\bigl(r_{t,j} \mid f_{t,j}(\theta), r_{t,<j},
        r_{t-k:t-1}\bigr) \, e^{-s_{t,j}(\theta)}, \qquad
        r_{t,j} = (y_{t,j} - m_{t,j}(\theta)) \, e^{-s_{t,j}(\theta)},

    with y the observation on the real line (`Support`, `CountRange`). One network makes the whole
    trajectory from the parameters, at once or step by step (`DynamicsNetwork`): locations m, log
    scales s and features f of all time points. A second, small one makes the law of the residuals
    r, an increasing spline of each to a standard normal, or logistic for counts; it is the same
    network at all times, which differ by the features alone, so that it learns from each simulation
    T times. With ``order`` k its inputs include the residuals of the k observations before, which
    can correct a trajectory that is not quite right.

    Sequences may end earlier than those trained on, not later.

    Parameters
    ----------
    components : sequence of CountRange or Support
        Of one observation.
    n_parameters : int
        Size of the flattened parameters.
    n_steps : int
        Time points of the longest sequence.
    settings : TrajectorySettings

    Raises
    ------
    ValueError
        If a component is categorical.
    """

    is_sequential = True
    n_steps: int
    y_mean: Tensor
    y_sd: Tensor

    def __init__(
        self,
        components: Sequence[CountRange | Support | int],
        n_parameters: int,
        n_steps: int,
        settings: TrajectorySettings = TrajectorySettings(),
    ):
        super().__init__()
        if any(isinstance(c, int) for c in components):
            raise ValueError(
                "TrajectorySettings model no categories, which have no trajectory; use "
                "MarkovianSettings."
            )
        self.components: tuple[CountRange | Support, ...] = tuple(components)  # type: ignore[arg-type]
        self.n_steps, self.settings = n_steps, settings
        dim = len(self.components)
        self.entering = EnteringParameters(n_parameters, settings.angles, settings.rounded)
        n_in, n_out = self.entering.n_entering, dim * (2 + settings.n_features)
        self.trajectory: DenseNetwork | DynamicsNetwork | DynamicsEnsemble
        self.linear: nn.Linear | None = None
        if settings.n_states:
            laws = [
                DynamicsNetwork(
                    n_in,
                    n_out,
                    n_steps,
                    n_states=settings.n_states,
                    n_substeps=settings.n_substeps,
                    hidden=settings.hidden,
                )
                for _ in range(settings.n_members)
            ]
            # A single law is not put into an ensemble, so that stored weights keep their names.
            self.trajectory = laws[0] if len(laws) == 1 else DynamicsEnsemble(laws)
        else:
            self.trajectory = DenseNetwork(
                n_in, n_steps * n_out, hidden=settings.hidden, residual=True, zero_output=True
            )
            self.linear = nn.Linear(n_in, n_steps * n_out, bias=False)
            nn.init.zeros_(self.linear.weight)
        # Residuals among the law's inputs: of observations before, and of earlier components.
        self.n_seen = dim * (settings.order + 1)
        self.law = DenseNetwork(
            2 + settings.n_features + dim + self.n_seen,
            2 + n_spline_parameters(settings.n_bins) + self.n_seen,
            hidden=settings.law_hidden,
            residual=True,
            zero_output=True,
        )
        self.register_buffer("y_mean", torch.zeros(n_steps, dim))
        self.register_buffer("y_sd", torch.ones(n_steps, dim))
        self.register_buffer("before", torch.tril(torch.ones(dim, dim), -1), persistent=False)

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear part and the constants: what is trained first."""
        if self.linear is None or not isinstance(self.trajectory, DenseNetwork):
            return []
        return [self.linear.weight, self.trajectory.layers[-1].bias]  # type: ignore[list-item]

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulated sequences."""
        self.entering.standardize(parameters)
        y, _, inside = self._to_real(observables, parameters)
        y = torch.where(inside, y, torch.nan)
        # One law for all times needs one scale for all.
        over = (0, 1) if self.settings.n_states else 0
        mean = y.nanmean(over).nan_to_num(0.0)
        self.y_mean.copy_(mean)
        sd = (y - self.y_mean).square().nanmean(over).sqrt().nan_to_num(0.0)
        self.y_sd.copy_(scale_or_one(sd, mean))

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation given those before it.

        Parameters
        ----------
        observables : Tensor, shape (sets, obs, components)
            Shorter sequences end in NaN.
        parameters : Tensor, shape (sets, parameters)
        conditions : None
            There are none.

        Returns
        -------
        Tensor, shape (sets, obs)
            −inf outside the declared support; 0 where a sequence has ended.
        """
        times = torch.arange(observables.shape[1], device=observables.device)
        return self.log_prob_at(times, observables, parameters)

    def log_prob_at(
        self,
        times: Int[Tensor, " times"],
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
    ) -> Float[Tensor, "sets times"]:
        """`log_prob` at some time points only, for the price of these."""
        n_obs = int(observables.shape[1])  # a tracer makes it a tensor
        location, log_scale, features = self._trajectory(parameters, n_obs)
        present = ~torch.isnan(observables).any(-1)
        filled = torch.where(present[..., None], observables, 0.0)
        y, log_det, inside = self._to_real(filled, parameters)
        residual = (y - location) * (-log_scale).exp()
        seen = atan_clamp(torch.where(present[..., None], residual, 0.0), MAX_SEEN)
        order = self.settings.order
        known = torch.cat([torch.zeros_like(seen[:, :1]).expand(-1, order, -1), seen], 1)
        visible = [known.index_select(1, times + k) for k in reversed(range(order + 1))]
        at = (location, log_scale, features, filled, residual, log_det, inside, present)
        location, log_scale, features, filled, residual, log_det, inside, present = (
            each.index_select(1, times) for each in at
        )
        raw, shift = self._law(features, torch.cat([*visible[1:], visible[0]], -1))
        parts, n_bins = [], self.settings.n_bins
        for j, component in enumerate(self.components):
            own_scale, own_shift, own_raw = log_scale[..., j], shift[..., j], raw[:, :, j]
            if isinstance(component, CountRange):
                inverse_scale = (-own_scale).exp()
                images = monotone_images(
                    own_raw, n_bins, location[..., j], inverse_scale, own_shift
                )
                parts.append(log_count(component, filled[..., j], images))
                continue
            z, log_slope = monotone_forward(residual[..., j] - own_shift, own_raw, n_bins)
            parts.append(log_normal(z) + log_slope - own_scale + log_det[..., j])
        together = torch.stack(parts, -1).sum(-1)
        together = torch.where(inside.all(-1), together, -torch.inf)
        return torch.where(present, together, 0.0)

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of time points of one sequence after the other.

        A new sequence begins where the group changes.
        """
        return within_groups(self.log_prob, observables, parameters, group)

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
        *,
        past: Float[Tensor, "sets past_obs c"] | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate a sequence for each parameter vector, or continue one.

        Parameters
        ----------
        parameters : Tensor, shape (sets, parameters)
        n_obs : int
            With a past, at most as many together as the longest that was trained on.
        conditions : None
            There are none.
        generator : torch.Generator, optional
        past : Tensor, shape (sets, past_obs, components), optional
            Observations before, all of one length.

        Returns
        -------
        Tensor, shape (sets, n_obs, components)
        """
        begin = 0 if past is None else past.shape[1]
        trajectory = self._trajectory(parameters, begin + n_obs)
        location, log_scale, features = (each[:, begin:] for each in trajectory)
        order = self.settings.order
        if order == 0:  # all times at once
            x, _ = self._draw(parameters, location, log_scale, features, [], generator)
            return x
        known = torch.zeros_like(location[:, :1]).expand(-1, order, -1)
        if past is not None:
            y, _, _ = self._to_real(past, parameters)
            residual = (y - trajectory[0][:, :begin]) * (-trajectory[1][:, :begin]).exp()
            known = torch.cat([known, atan_clamp(residual, MAX_SEEN)], 1)[:, -order:]
        before = list(known.flip(1).split(1, 1))
        steps = []
        for t in range(n_obs):
            now = slice(t, t + 1)
            x, seen = self._draw(
                parameters, location[:, now], log_scale[:, now], features[:, now], before, generator
            )
            before = [seen, *before[:-1]]
            steps.append(x)
        return torch.cat(steps, 1)

    def _draw(
        self,
        parameters: Tensor,
        location: Tensor,
        log_scale: Tensor,
        features: Tensor,
        past: list[Tensor],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Observations and their residuals, one component after the other."""
        seen = torch.zeros_like(location)
        columns = []
        shape, options = location.shape[:2], {"dtype": location.dtype, "device": location.device}
        for j, component in enumerate(self.components):
            raw, shift = self._law(features, torch.cat([*past, seen], -1))
            if isinstance(component, CountRange):
                uniform = torch.rand(shape, generator=generator, **options)  # type: ignore[call-overload]
                z = torch.logit(uniform.clamp(1e-7, 1.0 - 1e-7))
            else:
                z = torch.randn(shape, generator=generator, **options)  # type: ignore[call-overload]
            u, _ = monotone_inverse(z, raw[:, :, j], self.settings.n_bins)
            y = location[..., j] + (u + shift[..., j]) * log_scale[..., j].exp()
            if isinstance(component, CountRange):
                x = component.from_real(y)
                y = component.to_real(x)
            else:
                owner = parameters[:, None].expand(*shape, -1)
                x = component.from_real(y, owner)
            residual = (y - location[..., j]) * (-log_scale[..., j]).exp()
            own = atan_clamp(residual, MAX_SEEN)[..., None]
            seen = torch.cat([seen[..., :j], own, seen[..., j + 1 :]], -1)
            columns.append(x)
        return torch.stack(columns, -1), seen

    def _trajectory(self, parameters: Tensor, n_obs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Locations and log scales on the real line, and all outputs, which the law takes."""
        if n_obs > self.n_steps:
            raise ValueError(
                f"n_obs={n_obs}: this likelihood was trained on {self.n_steps} time points at most."
            )
        entering = self.entering(parameters)
        raw = self.trajectory(entering)
        if self.linear is not None:
            raw = raw + self.linear(entering)
        dim = len(self.components)
        raw = raw.reshape(len(parameters), self.n_steps, dim, -1)[:, :n_obs]
        location = self.y_mean[:n_obs] + self.y_sd[:n_obs] * raw[..., 0]
        log_scale = self.y_sd[:n_obs].log() + atan_clamp(raw[..., 1], MAX_LOG_SCALE)
        return location, log_scale, raw

    def _law(self, features: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        """Spline parameters and shift of each component, from what each may see."""
        n_sets, n_obs, dim = features.shape[:3]
        shape = (n_sets, n_obs, dim, -1)
        which = torch.eye(dim, dtype=features.dtype, device=features.device)
        past, own = residuals[:, :, None].split([self.n_seen - dim, dim], -1)
        seen = torch.cat([past.expand(*shape), own * self.before.to(own.dtype)], -1)
        raw = self.law(torch.cat([features, which.expand(*shape[:3], dim), seen], -1))
        raw, coefficients = raw.split([raw.shape[-1] - self.n_seen, self.n_seen], -1)
        return raw, atan_clamp((coefficients * seen).sum(-1), MAX_SHIFT)

    def _to_real(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Observations on the real line, log derivatives, and whether they are possible."""
        owner = parameters[:, None].expand(*x.shape[:2], -1)
        mapped = []
        for j, component in enumerate(self.components):
            value = x[..., j]
            if isinstance(component, CountRange):
                possible = component.inside(value)
                y = component.to_real(torch.where(possible, value, 0.0))
                mapped.append((y, torch.zeros_like(y), possible))
            else:
                mapped.append(component.to_real(value, owner))
        y, log_det, inside = (torch.stack(each, -1) for each in zip(*mapped, strict=True))
        return y, log_det, inside
