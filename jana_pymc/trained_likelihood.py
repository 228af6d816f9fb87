"""A trained likelihood network as density and simulator of arrays, without PyMC."""

from __future__ import annotations

import copy
import hashlib
import os
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from jana_pymc.checks import check_count
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.simulation import DataSchema, ParameterLayout, random_generator
from jana_pymc.slices import slices
from jana_pymc.threads import one_thread, side_by_side
from jana_pymc.training import resolve_device

ROWS_AT_ONCE = 200_000
"""Observations simulated at once, which bounds the memory."""

NUMBERS_AT_ONCE = 400_000
"""Draws times observations evaluated at once, which bounds the memory."""


class TrainedLikelihood:
    """A trained network, frozen in double precision, that evaluates and simulates arrays.

    `LikelihoodApproximator`, the class that users hold, inherits from it and adds PyMC. PyTensor
    Ops hold it as a property: it is immutable and compares by content.

    Parameters
    ----------
    network : LikelihoodNetwork
    layout : ParameterLayout
    schema : DataSchema
    region : ndarray, shape (2, parameters)
        All as for `LikelihoodApproximator`.

    Attributes
    ----------
    device : torch.device
        Where log densities of arrays are evaluated.
    graph_device : torch.device
        Where PyTensor's Op evaluates the network.
    content_hash : str
        Digest of the weights, the parameters, the data declaration and the region.
    """

    def __init__(
        self,
        network: LikelihoodNetwork,
        layout: ParameterLayout,
        schema: DataSchema,
        region: np.ndarray,
    ):
        tensors = network.state_dict().values()
        self.device = next(iter(tensors)).device
        frozen = copy.deepcopy(network).to("cpu", torch.float64)
        self.network: Any = frozen.eval().requires_grad_(False)
        self.layout = layout
        self.schema = schema
        self.region = np.asarray(region, dtype=float)
        self.content_hash = _content_hash(self.network, layout, schema, self.region)

        self.graph_device = torch.device("cpu")
        self._copies: dict[tuple[int, torch.device], Any] = {}

    def to(self, device: str | torch.device) -> Self:
        """Copy of the likelihood whose density is evaluated on another device, inside PyMC too.

        By default the Op that PyMC calls runs on the CPU, wherever the likelihood was trained:
        for a few hundred observations this is faster. A likelihood that is lowered to PyTensor
        does not use the device; pass ``backend="op"``, which recurrent likelihoods use anyway.
        `simulate` always runs on the CPU, in double precision.

        Parameters
        ----------
        device : str or torch.device
            For example "cuda". Chains must then not be forked: use ``pm.sample(cores=1)``, a
            sampler that runs chains in threads, or ``mp_ctx="spawn"``.

        Returns
        -------
        TrainedLikelihood
            Of the same class.

        Raises
        ------
        ValueError
            If the device does not exist on this machine.
        """
        moved = copy.copy(self)
        moved.device = moved.graph_device = resolve_device(device)
        return moved

    def network_on(self, device: torch.device) -> Any:
        """The network in double precision on a device, copied there once per process.

        Raises
        ------
        RuntimeError
            If it cannot be copied: a forked process cannot use the GPU of its parent.
        """
        if device.type == "cpu":
            return self.network
        key = (os.getpid(), device)
        if key not in self._copies:
            try:
                self._copies[key] = copy.deepcopy(self.network).to(device)
            except RuntimeError as error:
                raise RuntimeError(
                    f"{self!r} could not be brought to {device}. A forked process cannot use the "
                    'GPU of its parent: sample with cores=1 or mp_ctx="spawn", or take '
                    'likelihood.to("cpu").'
                ) from error
        return self._copies[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copies": {}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainedLikelihood) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(self.schema.observables)} | "
            f"{', '.join(self.layout.names)}; {self.content_hash[:8]})"
        )

    def pointwise(
        self, observables: np.ndarray, parameters: np.ndarray, conditions: np.ndarray | None = None
    ) -> np.ndarray:
        """Log densities of observations that are already arrays.

        Outside the trained region the network extrapolates.

        Parameters
        ----------
        observables : ndarray, shape (n_obs, components) or (draws, n_obs, components)
            One data set, or one for each draw, as in a `DataBatch`, but without padding. Only the
            length of sequences is checked.
        parameters : ndarray, shape (draws, size)
        conditions : ndarray, shape (n_obs, conditions) or (draws, n_obs, conditions), optional

        Returns
        -------
        ndarray, shape (draws, n_obs)
        """
        check_length(self.network, self.schema, observables.shape[-2])
        theta = torch.tensor(np.asarray(parameters, dtype=float))
        rows = torch.tensor(observables).expand(len(theta), -1, -1)
        given = [rows, theta]
        if conditions is not None:
            given.append(torch.tensor(conditions).expand(len(theta), -1, -1))
        network = self.network_on(self.device)

        def evaluate(*part: Tensor) -> np.ndarray:
            values: Tensor = network.log_prob(*(each.to(self.device) for each in part))
            return values.detach().cpu().numpy()

        size = max(1, NUMBERS_AT_ONCE // max(1, rows.shape[1:].numel()))
        parts = list(zip(*(each.split(size) for each in given), strict=True))
        on_cpu = self.device.type == "cpu"
        results = side_by_side(evaluate, parts) if on_cpu else [evaluate(*part) for part in parts]
        return np.concatenate(results)

    def simulate(
        self,
        parameters: np.ndarray,
        n_obs: int = 1,
        *,
        conditions: np.ndarray | None = None,
        past: np.ndarray | None = None,
        random_seed: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Simulate data sets, or the continuation of given sequences, with the network.

        This runs on the CPU in double precision on every device, so that a seed always gives the
        same data.

        Parameters
        ----------
        parameters : ndarray, shape (sets, size)
        n_obs : int
            1 for vectors.
        conditions : ndarray, shape (sets, n_obs, conditions), optional
            With `past`, shape (sets, past_obs + n_obs, conditions).
        past : ndarray, shape (sets, past_obs, components), optional
            Earlier observations of sequences, which are continued.
        random_seed : int or Generator, optional

        Returns
        -------
        ndarray, shape (sets, n_obs, components)

        Raises
        ------
        TypeError, ValueError
            If `n_obs` is no positive integer, or the parameters have the wrong number of columns.
        """
        check_count("n_obs", n_obs)
        values = self._vectors(parameters, "sets")
        seed = int(random_generator(random_seed).integers(2**63))
        generator = torch.Generator().manual_seed(seed)
        theta = torch.tensor(values)
        known = None if conditions is None else torch.tensor(np.asarray(conditions, dtype=float))
        before = None if past is None else torch.tensor(np.asarray(past, dtype=float))
        n_rows = n_obs + (0 if before is None else before.shape[1])
        parts = []
        for part in slices(len(theta), n_rows, ROWS_AT_ONCE):
            given = None if known is None else known[part]
            continued = {} if before is None else {"past": before[part]}
            with one_thread():
                made = self.network.sample(theta[part], n_obs, given, generator, **continued)
            parts.append(made.numpy())
        return np.concatenate(parts)

    def _vectors(self, parameters: Any, what: str) -> np.ndarray:
        """Parameter vectors as an array, shape (vectors, size); `what` names them in messages."""
        theta = np.atleast_2d(self.layout.vectors(parameters))
        if theta.ndim != 2 or theta.shape[1] != self.layout.size:
            raise ValueError(
                f"parameters have shape {theta.shape}; expected ({what}, {self.layout.size}), for "
                f"{', '.join(self.layout.component_names)}."
            )
        return theta


def check_length(network: Any, schema: DataSchema, n_obs: int | None) -> None:
    """Refuse sequences that are longer, or where it matters shorter, than those trained on.

    Parameters
    ----------
    network : LikelihoodNetwork
    schema : DataSchema
    n_obs : int, optional
        None where the length is not known yet.

    Raises
    ------
    ValueError
        If the network takes no sequences of that length.
    """
    longest = network.n_steps
    if not schema.is_sequence or longest is None or n_obs is None:
        return
    if network.takes_one_length and n_obs != longest:
        raise ValueError(
            f"the data have {n_obs} time points; this likelihood was trained on sequences of "
            f"{longest}, and takes no others. Train on sequences of several lengths "
            "(GenerativeModel(n_obs=(fewest, most)))."
        )
    if n_obs > longest:
        raise ValueError(
            f"the data have {n_obs} time points; this likelihood was trained on {longest} at "
            "most. Train on longer ones (GenerativeModel(n_obs=...))."
        )


def _content_hash(
    network: Any, layout: ParameterLayout, schema: DataSchema, region: np.ndarray
) -> str:
    digest = hashlib.sha256(repr((type(network), network)).encode())
    digest.update(repr((layout.to_dict(), schema.to_dict())).encode())
    digest.update(region.tobytes())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
