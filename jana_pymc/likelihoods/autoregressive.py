"""The default likelihood network for exchangeable data: a categorical, then monotonic splines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jana_pymc.checks import check_choice, check_count, check_sizes, check_switch
from jana_pymc.flows.spline import SplineTable, n_spline_parameters
from jana_pymc.flows.wall import WalledSplines
from jana_pymc.likelihoods.contract import LikelihoodNetwork
from jana_pymc.likelihoods.elementary_laws import draw_category, log_normal
from jana_pymc.likelihoods.entering import known_conditions
from jana_pymc.likelihoods.support import Support
from jana_pymc.networks.dense import ACTIVATIONS, DenseNetwork
from jana_pymc.networks.moments import set_moments

MAX_CATEGORIES = 256


@dataclass(frozen=True)
class AutoregressiveSettings:
    """Architecture of the autoregressive likelihood.

    Parameters
    ----------
    hidden : tuple of int
        Hidden layers of each network.
    activation : {"relu", "silu", "tanh"}
        A smooth one keeps gradients for NUTS smooth.
    n_bins : int
        Inner bins of each spline.
    residual : bool
        Residual connections between the hidden layers.
    """

    hidden: Sequence[int] = (64, 64)
    activation: Literal["relu", "silu", "tanh"] = "silu"
    n_bins: int = 12
    residual: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", check_sizes("hidden", self.hidden))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_count("n_bins", self.n_bins)
        check_switch("residual", self.residual)


class AutoregressiveLikelihood(LikelihoodNetwork):
    """Density of one observation as a product of conditionals, discrete components first.

    .. math::

        l(x \\mid \\theta) = \\mathrm{Cat}(k \\mid \\theta)
            \\prod_j p(x_j \\mid \\theta, k, x_{<j}),

    where k enumerates the joint values of all discrete components, and each continuous component
    follows a rational-quadratic spline over the real line to which its declared support is mapped.
    The network behind k and the first continuous component sees only the parameters (and known
    conditions): without conditions its work is done once per distinct parameter vector, however
    many observations there are.

    Parameters
    ----------
    components : sequence of int or Support
        For each component of an observation, in the order of the data: the number of categories of
        a discrete one, the support of a continuous one.
    n_parameters, n_conditions : int
        Sizes of the flattened parameters and of the known conditions of one observation.
    settings : AutoregressiveSettings

    Attributes
    ----------
    discrete, continuous : tuple of int
        Positions of the discrete and of the continuous components.
    n_cells : int
        Joint values of the discrete components (1 if there are none).

    Raises
    ------
    ValueError
        If the discrete components have more than 256 joint values.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Equation 7 (the likelihood network's loss).
    """

    parameter_mean: Tensor
    parameter_sd: Tensor
    condition_mean: Tensor
    condition_sd: Tensor
    real_mean: Tensor
    real_sd: Tensor

    def __init__(
        self,
        components: Sequence[int | Support],
        n_parameters: int,
        n_conditions: int = 0,
        settings: AutoregressiveSettings = AutoregressiveSettings(),
    ):
        super().__init__()
        self.components = tuple(components)
        self.discrete = tuple(i for i, c in enumerate(components) if isinstance(c, int))
        self.continuous = tuple(i for i, c in enumerate(components) if not isinstance(c, int))
        self.supports = tuple(c for c in self.components if isinstance(c, Support))
        self.n_categories = tuple(c for c in self.components if isinstance(c, int))
        self.n_cells = math.prod(self.n_categories)
        if self.n_cells > MAX_CATEGORIES:
            raise ValueError(
                f"the categorical observables have {self.n_cells} joint values; this likelihood "
                f"enumerates them and takes at most {MAX_CATEGORIES}. Merge rare categories."
            )
        self.n_conditions = n_conditions
        self.settings = settings
        n_spline = n_spline_parameters(settings.n_bins)
        n_inputs = n_parameters + n_conditions
        self.table_network = self._network(
            n_inputs, self.n_cells * (1 + n_spline * bool(self.continuous))
        )
        self.later_networks = nn.ModuleList(
            self._network(n_inputs + self.n_cells + j, n_spline)
            for j in range(1, len(self.continuous))
        )
        for name, size in (
            ("parameter", n_parameters),
            ("condition", n_conditions),
            ("real", len(self.continuous)),
        ):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))

    def _network(self, n_in: int, n_out: int) -> DenseNetwork:
        settings = self.settings
        return DenseNetwork(
            n_in,
            n_out,
            hidden=settings.hidden,
            activation=settings.activation,
            residual=settings.residual,
            zero_output=True,
        )

    @torch.no_grad()
    def standardize(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "rows p"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> None:
        """Take location and scale of inputs and outputs from simulations."""
        set_moments(self.parameter_mean, self.parameter_sd, parameters)
        if conditions is not None and self.n_conditions:
            set_moments(self.condition_mean, self.condition_sd, conditions)
        if self.continuous:
            real = [
                s.to_real(observables[:, c], parameters)[0]
                for s, c in zip(self.supports, self.continuous, strict=True)
            ]
            set_moments(self.real_mean, self.real_sd, torch.stack(real, -1))

    def log_prob(
        self,
        observables: Float[Tensor, "sets obs c"],
        parameters: Float[Tensor, "sets p"],
        conditions: Float[Tensor, "sets obs k"] | None = None,
    ) -> Float[Tensor, "sets obs"]:
        """Log density of each observation of each data set given that set's parameters."""
        n_sets, n_obs, _ = observables.shape
        group = torch.arange(n_sets, device=observables.device).repeat_interleave(n_obs)
        rows = self.log_prob_rows(
            observables.flatten(0, 1),
            parameters,
            group,
            None if conditions is None else conditions.flatten(0, 1),
        )
        return rows.reshape(n_sets, n_obs)

    def log_prob_rows(
        self,
        observables: Float[Tensor, "rows c"],
        parameters: Float[Tensor, "groups p"],
        group: Int[Tensor, " rows"],
        conditions: Float[Tensor, "rows k"] | None = None,
    ) -> Float[Tensor, " rows"]:
        """Log density of single observations, each with the parameters of its group.

        Parameters
        ----------
        observables : Tensor, shape (rows, components)
            On the user's scale; categories as 0, 1, ….
        parameters : Tensor, shape (groups, parameters)
            Distinct parameter vectors, constrained.
        group : Tensor of int, shape (rows,)
            Row of ``parameters`` that belongs to each observation.
        conditions : Tensor, shape (rows, conditions), optional

        Returns
        -------
        Tensor, shape (rows,)
            −inf outside the declared support.
        """
        own_parameters = parameters[group]
        standardized = (parameters - self.parameter_mean) / self.parameter_sd
        context, own_context = self._contexts(standardized, group, conditions)
        table_group = self._table_group(group)

        cell, possible = self.cell(observables)
        log_cells, raw = self._table(context)
        log_prob = log_cells.reshape(-1)[table_group * self.n_cells + cell]
        log_prob = torch.where(possible, log_prob, -torch.inf)
        earlier: list[Tensor] = []
        every_cell = torch.arange(self.n_cells, device=cell.device)
        one_hot = (cell[..., None] == every_cell).to(observables.dtype)
        for j, (support, column) in enumerate(zip(self.supports, self.continuous, strict=True)):
            real, log_det, inside = support.to_real(observables[:, column], own_parameters)
            y = (real - self.real_mean[j]) / self.real_sd[j]
            if j == 0:
                spline = table_group * self.n_cells + cell
            else:
                inputs = torch.cat([own_context, one_hot, torch.stack(earlier, -1)], -1)
                raw = self.later_networks[j - 1](inputs)
                spline = torch.arange(len(y), device=y.device)
            z, log_derivative = self._splines(raw, support).forward(y, spline)
            density = log_normal(z) + log_derivative + log_det - torch.log(self.real_sd[j])
            log_prob = log_prob + torch.where(inside, density, -torch.inf)
            earlier.append(y)
        return log_prob

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "sets p"],
        n_obs: int,
        conditions: Float[Tensor, "sets obs k"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "sets obs c"]:
        """Simulate n_obs observations for each parameter vector."""
        n_sets = len(parameters)
        group = torch.arange(n_sets, device=parameters.device).repeat_interleave(n_obs)
        flat_conditions = None if conditions is None else conditions.flatten(0, 1)
        standardized = (parameters - self.parameter_mean) / self.parameter_sd
        context, own_context = self._contexts(standardized, group, flat_conditions)
        table_group = self._table_group(group)
        log_cells, raw = self._table(context)

        uniform = torch.rand(
            (len(group), self.n_cells),
            generator=generator,
            dtype=parameters.dtype,
            device=parameters.device,
        ).clamp_min(torch.finfo(parameters.dtype).tiny)
        cell = draw_category(log_cells[table_group], uniform)
        columns: dict[int, Tensor] = dict(
            zip(self.discrete, self._categories(cell, parameters.dtype), strict=True)
        )
        one_hot = torch.nn.functional.one_hot(cell, self.n_cells).to(parameters.dtype)
        earlier: list[Tensor] = []
        for j, (support, column) in enumerate(zip(self.supports, self.continuous, strict=True)):
            z = torch.randn(
                len(group), generator=generator, dtype=parameters.dtype, device=parameters.device
            )
            if j == 0:
                spline = table_group * self.n_cells + cell
            else:
                inputs = torch.cat([own_context, one_hot, torch.stack(earlier, -1)], -1)
                raw = self.later_networks[j - 1](inputs)
                spline = torch.arange(len(z), device=z.device)
            y = self._splines(raw, support).inverse(z, spline)
            real = y * self.real_sd[j] + self.real_mean[j]
            columns[column] = support.from_real(real, parameters[group])
            earlier.append(y)
        stacked = torch.stack([columns[i] for i in range(len(self.components))], -1)
        return stacked.reshape(n_sets, n_obs, -1)

    def cell(
        self, observables: Float[Tensor, "rows c"]
    ) -> tuple[Int[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Index of the joint category of each observation, and whether its values are categories.

        The index is in mixed radix, first component first; a value that is no category counts as
        the nearest one.
        """
        cell = torch.zeros(len(observables), dtype=torch.long, device=observables.device)
        possible = torch.ones_like(cell, dtype=torch.bool)
        for column, n in zip(self.discrete, self.n_categories, strict=True):
            x = observables[:, column]
            category = x.nan_to_num().round().clamp(0, n - 1)
            possible = possible & (x == category)
            cell = cell * n + category.long()
        return cell, possible

    def _table_group(self, group: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
        """Row of the table for each observation: with conditions each has its own."""
        return group if self.n_conditions == 0 else torch.arange(len(group), device=group.device)

    def _categories(self, cell: Tensor, dtype: torch.dtype) -> list[Tensor]:
        digits = []
        for n in reversed(self.n_categories):
            digits.append((cell % n).to(dtype))
            cell = cell // n
        return digits[::-1]

    def _contexts(
        self, standardized: Tensor, group: Tensor, conditions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Inputs of the network behind the table, and the same for every row."""
        if self.n_conditions == 0:
            return standardized, standardized[group]
        known = known_conditions(conditions, self.condition_mean, self.condition_sd)
        rows = torch.cat([standardized[group], known], -1)
        return rows, rows

    def _splines(self, raw: Tensor, support: Support) -> WalledSplines:
        return WalledSplines(SplineTable(raw, self.settings.n_bins), support.walls)

    def _table(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Log probabilities of the cells and raw spline parameters for each cell."""
        output = self.table_network(context)
        log_cells = torch.log_softmax(output[:, : self.n_cells], -1)
        n_spline = output.shape[-1] // self.n_cells - 1
        return log_cells, output[:, self.n_cells :].unflatten(-1, (self.n_cells, n_spline))
