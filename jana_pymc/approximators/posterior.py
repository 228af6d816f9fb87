"""The trained posterior: draws and densities for any data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.approximators.beyond_training import warn_of_far_conditions
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.posterior import LatentSlopes, PosteriorNetwork
from jana_pymc.simulation import DataBatch, DataSchema, PyMCPrior, random_generator
from jana_pymc.threads import one_thread, side_by_side
from jana_pymc.tracing import Repeated

ROWS_AT_ONCE = {"cpu": 10_000, "cuda": 200_000}
"""Draws evaluated by the flow at once, which bounds the memory; on a CPU few enough for
intermediate results to stay in the cache."""


class PosteriorApproximator:
    """Amortized posterior q(θ | x) of a trained pair.

    Parameters
    ----------
    network : PosteriorNetwork
    prior : PyMCPrior
        Maps draws between the unconstrained space, in which the flow works, and the user's.
    schema : DataSchema
    likelihood : LikelihoodNetwork, optional
        An adjusted posterior takes its slopes as input; without it, the posterior is not adjusted.
        It also holds the range of the simulated conditions.
    """

    def __init__(
        self,
        network: PosteriorNetwork,
        prior: PyMCPrior,
        schema: DataSchema,
        likelihood: LikelihoodNetwork | None = None,
    ):
        self.network, self._likelihood = network, likelihood
        self._slopes = None
        if network.settings.adjustment is not None and likelihood is not None:
            n_points = network.settings.adjustment.n_points
            self._slopes = LatentSlopes(network, likelihood, prior, n_points)
        self.prior = prior
        self.schema = schema
        self._condition_on = Repeated(_Conditioner(network, self._slopes is not None))
        self._draw = Repeated(_Method(network, "draw"))
        self._push = Repeated(_Method(network, "push"))
        self._log_prob = Repeated(_Method(network, "log_prob"))

    def __repr__(self) -> str:
        names = (", ".join(group) for group in (self.prior.layout.names, self.schema.observables))
        return f"PosteriorApproximator({' | '.join(names)})"

    def batch(
        self, data: Any, *, check_n_obs: bool = True, schema: DataSchema | None = None
    ) -> DataBatch:
        """Read data sets as `DataSchema.batch` does, and check their lengths.

        Parameters
        ----------
        data : mapping, DataFrame, Dataset, ndarray, DataBatch, or sequence of data sets
        check_n_obs : bool
            Whether to check the lengths; False for data that only the likelihood evaluates.
        schema : DataSchema, optional
            Declaration to use in place of the pair's own; it may differ in bounds.

        Returns
        -------
        DataBatch
            Padded with NaN beyond each set's own size, also where a given batch holds values.

        Raises
        ------
        TypeError
            If data are of another type, or not numeric.
        ValueError
            If they do not fit the declaration, or the network takes another length only.

        Warns
        -----
        UserWarning
            If a data set has a number of observations outside the declared range, or conditions
            farther out than all simulated ones.
        """
        batch = (schema or self.schema).batch(data, check_n_obs=False)
        if not len(batch):
            raise ValueError("the batch of data sets is empty.")
        if batch is data:  # simulations may hold observations beyond a set's own size
            return batch.resized(batch.n_obs)
        if check_n_obs:
            # First the check that raises, so that no warning precedes an error.
            for n_obs in np.unique(batch.n_obs):
                self.network.check_length(int(n_obs))
            self.schema.warn_of_sizes(batch.n_obs)
        if self._likelihood is not None:
            present = np.arange(batch.n_obs.max()) < batch.n_obs[:, None]
            warn_of_far_conditions(self._likelihood, self.schema, batch.conditions[present])
        return batch

    def sample(
        self,
        batch: DataBatch,
        draws: int = 1000,
        random_seed: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Draw from the posterior of each data set.

        Parameters
        ----------
        batch : DataBatch
            As returned by `batch`; nothing is checked.
        draws : int
            Number per data set.
        random_seed : int or Generator, optional

        Returns
        -------
        ndarray, shape (sets, draws, parameters)
            Constrained; always inside the prior's support.
        """
        (values,) = _in_parts(self._drawn, *self._latent(batch, draws, random_seed))
        return self.prior.constrain(values)

    def sample_unconstrained(
        self,
        batch: DataBatch,
        draws: int = 1000,
        random_seed: int | np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw in the prior model's unconstrained space.

        Parameters
        ----------
        batch, draws, random_seed
            As for `sample`.

        Returns
        -------
        unconstrained : ndarray, shape (sets, draws, unconstrained)
        log_q : ndarray, shape (sets, draws)
            Normalised log density of each draw, in the same space.
        """
        values, log_q = _in_parts(self._pushed, *self._latent(batch, draws, random_seed))
        return values, log_q

    def log_prob(self, parameters: np.ndarray, batch: DataBatch) -> np.ndarray:
        """Log density of constrained parameters.

        Parameters
        ----------
        parameters : ndarray, shape (sets, draws, parameters)
        batch : DataBatch

        Returns
        -------
        ndarray, shape (sets, draws)
            With respect to the constrained parameters, as the prior's density is; −inf outside
            its support.
        """
        unconstrained, log_det = self.prior.unconstrain_with_jacobian(parameters)
        inside = np.asarray(np.isfinite(unconstrained).all(-1))
        unconstrained = np.where(inside[..., None], unconstrained, 0.0)
        log_q = self.log_prob_unconstrained(unconstrained, batch)
        return np.subtract(log_q, log_det, out=np.full_like(log_q, -np.inf), where=inside)

    @torch.inference_mode()
    def log_prob_unconstrained(self, unconstrained: np.ndarray, batch: DataBatch) -> np.ndarray:
        """Log density in the unconstrained space; shapes as in `log_prob`."""
        condition = self._condition(batch)
        values = torch.as_tensor(unconstrained, dtype=condition.dtype, device=condition.device)
        (log_q,) = _in_parts(self._densities, values, condition)
        return log_q

    @torch.inference_mode()
    def _latent(
        self, batch: DataBatch, draws: int, random_seed: int | np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Latent points for each data set, and the tensor that the density is conditioned on."""
        condition = self._condition(batch)
        generator = torch.Generator(device=condition.device)
        generator.manual_seed(int(random_generator(random_seed).integers(2**63)))
        return self.network.sample_latent(draws, condition, generator), condition

    @torch.inference_mode()
    def _drawn(self, latent: Tensor, condition: Tensor) -> tuple[np.ndarray]:
        """Draws without densities, so that the trace leaves out what only densities need."""
        values: Tensor = self._draw(latent, condition)
        return (values.double().cpu().numpy(),)

    @torch.inference_mode()
    def _pushed(self, latent: Tensor, condition: Tensor) -> tuple[np.ndarray, np.ndarray]:
        values, log_q = self._push(latent, condition)
        return values.double().cpu().numpy(), log_q.double().cpu().numpy()

    @torch.inference_mode()
    def _densities(self, unconstrained: Tensor, condition: Tensor) -> tuple[np.ndarray]:
        log_q: Tensor = self._log_prob(unconstrained, condition[:, None])
        return (log_q.double().cpu().numpy(),)

    @torch.inference_mode()
    def summarize(self, batch: DataBatch) -> np.ndarray:
        """Learned summary statistics, shape (sets, summaries)."""
        with one_thread():
            observables, n_obs, *conditions = self._tensors(batch)
            return self.network.summarize(observables, n_obs, *conditions).cpu().numpy()

    def _condition(self, batch: DataBatch) -> Tensor:
        with one_thread():
            observables, n_obs, *conditions = self._tensors(batch)
            slopes = [] if self._slopes is None else [self._slopes(observables, n_obs, *conditions)]
            condition: Tensor = self._condition_on(observables, n_obs, *slopes, *conditions)
            return condition

    def _tensors(self, batch: DataBatch) -> list[Tensor]:
        """Observables, sizes, and conditions if there are any."""
        like = self.network.parameter_mean
        tensors = [
            torch.as_tensor(batch.observables).to(like),
            torch.as_tensor(batch.n_obs, device=like.device),
        ]
        if batch.conditions.shape[-1]:
            tensors.append(torch.as_tensor(batch.conditions).to(like))
        return tensors


def _in_parts(
    function: Callable[[Tensor, Tensor], tuple[np.ndarray, ...]],
    points: Float[Tensor, "sets draws u"],
    condition: Float[Tensor, "sets s"],
) -> list[np.ndarray]:
    """Outputs, shape (sets, draws, ...), computed in parts that bound the memory."""
    draws = points.shape[1]
    on_cpu = condition.device.type == "cpu"
    most = ROWS_AT_ONCE["cpu" if on_cpu else "cuda"]
    sets, size = max(1, most // draws), min(most, draws)
    parts = [
        (piece, given)
        for some, given in zip(points.split(sets), condition.split(sets), strict=True)
        for piece in some.split(size, 1)
    ]
    results = side_by_side(function, parts) if on_cpu else [function(*part) for part in parts]
    pieces = -(-draws // size)
    return [
        np.concatenate(
            [np.concatenate(arrays[i : i + pieces], 1) for i in range(0, len(arrays), pieces)]
        )
        for arrays in zip(*results, strict=True)
    ]


class _Method(nn.Module):
    """A method of the network as a module of its own."""

    def __init__(self, network: PosteriorNetwork, name: str):
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, *tensors: Tensor) -> Any:
        return getattr(self.network, self.name)(*tensors)


class _Conditioner(nn.Module):
    """Map data sets to the tensor that the density is conditioned on."""

    def __init__(self, network: PosteriorNetwork, has_slopes: bool):
        super().__init__()
        self.network = network
        self.has_slopes = int(has_slopes)

    def forward(self, observables: Tensor, n_obs: Tensor, *others: Tensor) -> Tensor:
        """Others are the slopes of an adjusted network, and known conditions."""
        slopes = others[: self.has_slopes]
        summary = self.network.summarize(observables, n_obs, *others[self.has_slopes :])
        return self.network.condition(summary, observables, n_obs, *slopes)
