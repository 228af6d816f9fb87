"""Simulations on a device, and which of them each training step sees."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jana_pymc.joint_network import Batch
from jana_pymc.likelihoods import Support
from jana_pymc.simulation import Continuous, PyMCPrior, Simulations


class BatchSource(Protocol):
    """Where the training loop takes its batches from.

    A batch is a function of the step and the seed alone, so that a resumed run sees exactly what
    the interrupted one would have seen, with no state of a random generator to be stored.

    Attributes
    ----------
    seen : Tensor of shape (2, parameters), or None
        Least and greatest value of each parameter in all rounds so far, where simulations come in
        rounds. A checkpoint keeps it, for a resumed run does not get earlier rounds again.
    """

    seen: Tensor | None

    def batch(self, step: int) -> tuple[Batch, Batch | None]:
        """Batch from the prior, and one from the proposal if there is one."""
        ...


def to_batch(simulations: Simulations, prior: PyMCPrior, device: torch.device) -> Batch:
    """Move simulations to a device in single precision, in which they stay inside their support.

    Parameters of simulations from a wider proposal need not lie in the prior's support; they have
    no unconstrained values then, and the batch serves the likelihood only.
    """

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    data = simulations.batch()
    parameters = simulations.parameters
    from_prior = simulations.source == "prior"
    unconstrained = prior.unconstrain(parameters) if from_prior else parameters[:, :0]
    theta, observables = tensor(parameters), tensor(data.observables)
    _keep_inside(observables, theta, data.observables, simulations)
    return Batch(
        parameters=theta,
        unconstrained=tensor(unconstrained),
        observables=observables,
        conditions=tensor(data.conditions) if data.conditions.shape[-1] else None,
        n_obs=torch.as_tensor(data.n_obs, device=device),
    )


def _keep_inside(
    rounded: Tensor, theta: Tensor, exact: NDArray[np.float64], simulations: Simulations
) -> None:
    """Take what only rounding has put on the edge of its support to the next number inside.

    In place. On the edge there is no density, and one such value makes a mean of losses infinite.
    """
    names = simulations.layout.component_names
    for column, kind in enumerate(simulations.schema.components.values()):
        if not isinstance(kind, Continuous):
            continue
        support = Support.declared(kind.lower, kind.upper, names)
        if support == Support():
            continue
        values = rounded[..., column]
        nearest = support.nearest(values, theta[:, None].expand(*values.shape, -1))
        bounds = {name: simulations.dataset[name].values[:, None] for name in kind.bound_parameters}
        inside = torch.as_tensor(~kind.outside(exact[..., column], bounds), device=values.device)
        rounded[..., column] = torch.where(inside, nearest, values)


class StoredSimulations:
    """Batches from a fixed set of simulations, resident on the device.

    Every epoch visits the data sets in a new order, each once but for those that no longer fill a
    batch. Observations are exchangeable, so each visit draws a new number of them, and which ones:
    a stored data set stands for many.

    Parameters
    ----------
    prior_batch : Batch
        All data sets simulated from the prior.
    proposal_batch : Batch or None
        All data sets simulated from the proposal.
    batch_size : int
    n_obs : tuple of int or None
        Range from which the number of observations is drawn; None takes data sets as they are.
    seed : int
    ordered : bool
        Observations are sequences: the first of them are taken, in their order.
    whole : bool
        Fewer data sets than a batch has come again in it until it is whole. Otherwise all of them
        are the batch.
    """

    seen: Tensor | None = None

    def __init__(
        self,
        prior_batch: Batch,
        proposal_batch: Batch | None,
        *,
        batch_size: int,
        n_obs: tuple[int, int] | None,
        seed: int,
        ordered: bool = False,
        whole: bool = False,
    ):
        self.ordered = ordered
        self.sets = (prior_batch, proposal_batch)
        self.batch_size = batch_size if whole else min(batch_size, len(prior_batch))
        self.whole = whole
        self.n_obs = n_obs
        self.seed = seed
        self._orders: dict[int, tuple[int, Tensor]] = {}

    @property
    def most_observations(self) -> int:
        """As many as a data set may have."""
        stored = int(self.sets[0].observables.shape[1])
        return stored if self.n_obs is None else min(self.n_obs[1], stored)

    def batch(self, step: int) -> tuple[Batch, Batch | None]:
        prior_batch, proposal_batch = self.sets
        return (
            self._draw(0, prior_batch, step),
            None if proposal_batch is None else self._draw(1, proposal_batch, step),
        )

    def _draw(self, which: int, data: Batch, step: int) -> Batch:
        device = data.parameters.device
        size = self.batch_size if self.whole else min(self.batch_size, len(data))
        epoch, position = divmod(step, max(1, len(data) // size))
        if which not in self._orders or self._orders[which][0] != epoch:
            generator = seeded_generator(device, self.seed, 1 + which, epoch)
            order = torch.randperm(len(data), generator=generator, device=device)
            if len(data) < size:
                order = order[torch.arange(size, device=device) % len(data)]
            self._orders[which] = (epoch, order)
        rows = self._orders[which][1][position * size : (position + 1) * size]
        if self.n_obs is None:
            return data.rows(rows)
        generator = seeded_generator(device, self.seed, 3 + which, step)
        stored = data.observables.shape[1]
        low, high = min(self.n_obs[0], stored), min(self.n_obs[1], stored)
        n_obs = torch.randint(low, high + 1, (size,), generator=generator, device=device)
        if self.ordered:
            columns = torch.arange(high, device=device)
        else:
            columns = torch.randperm(stored, generator=generator, device=device)[:high]
        return Batch(
            parameters=data.parameters[rows],
            unconstrained=data.unconstrained[rows],
            observables=data.observables[rows[:, None], columns],
            conditions=None if data.conditions is None else data.conditions[rows[:, None], columns],
            n_obs=n_obs,
        )


class SimulationRounds:
    """Batches from simulations that are made, or read from disk, while training goes on.

    Training proceeds in rounds; while one round's simulations are learned from, the next round's
    are got in the background, and no more than these two are in memory. What a round holds depends
    on its number only. Batches are whole however few data sets a round has, since a captured or
    traced step takes one size alone. One thread of torch makes them, beside those of the training.

    Parameters
    ----------
    get : callable
        ``get(round) -> (prior batch, proposal batch or None)``.
    batch_size : int
    steps_per_round : int
    n_obs, seed, ordered
        As for `StoredSimulations`.
    """

    def __init__(
        self,
        get: Callable[[int], tuple[Batch, Batch | None]],
        *,
        batch_size: int,
        steps_per_round: int,
        n_obs: tuple[int, int] | None,
        seed: int,
        ordered: bool = False,
    ):
        self.ordered = ordered
        self.get = get
        self.batch_size = batch_size
        self.steps_per_round = steps_per_round
        self.n_obs = n_obs
        self.seed = seed
        # The number of threads is a setting of each thread, by default all cores.
        self._background: Executor = ThreadPoolExecutor(
            1, "jana-simulations", torch.set_num_threads, (1,)
        )
        self._coming: dict[int, Future[tuple[Batch, Batch | None]]] = {}
        self._current: tuple[int, StoredSimulations] | None = None
        self.seen: Tensor | None = None

    def batch(self, step: int) -> tuple[Batch, Batch | None]:
        number, position = divmod(step, self.steps_per_round)
        if self._current is None or self._current[0] != number:
            self._current = None  # given up before the round after the next one is begun
            self._current = (number, self._round(number))
            for each in filter(None, self._current[1].sets):
                edges = torch.stack(torch.aminmax(each.parameters, dim=0)).cpu()
                self.seen = edges if self.seen is None else _joined(self.seen, edges)
        return self._current[1].batch(position)

    def close(self) -> None:
        """Stop what runs in the background."""
        self._background.shutdown(wait=True, cancel_futures=True)

    def _round(self, number: int) -> StoredSimulations:
        for wanted in (number, number + 1):
            if wanted not in self._coming:
                self._coming[wanted] = self._background.submit(self.get, wanted)
        prior_batch, proposal_batch = self._coming.pop(number).result()
        return StoredSimulations(
            prior_batch,
            proposal_batch,
            batch_size=self.batch_size,
            n_obs=self.n_obs,
            seed=int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]),
            ordered=self.ordered,
            whole=True,
        )


def _joined(region: Tensor, other: Tensor) -> Tensor:
    """The smallest region that holds both."""
    return torch.stack([torch.minimum(region, other)[0], torch.maximum(region, other)[1]])


def seeded_generator(device: torch.device, *key: int) -> torch.Generator:
    """A generator whose stream is a function of a tuple of integers."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator(device=device).manual_seed(state & (2**63 - 1))
