"""The trained likelihood: density, simulator, and random variable."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import torch
from numpy.typing import ArrayLike
from pytensor.tensor.variable import TensorVariable
from torch import Tensor

from jana_pymc.approximators import beyond_training, score_bias
from jana_pymc.approximators.arguments import Arguments
from jana_pymc.approximators.incomplete import fill_missing
from jana_pymc.approximators.observed import split_conditions
from jana_pymc.checks import check_count
from jana_pymc.distribution import NeuralLikelihood
from jana_pymc.inference_data import ArviZData, divergent_share, posterior_of
from jana_pymc.likelihoods import LikelihoodNetwork
from jana_pymc.missing_values import MissingValues
from jana_pymc.pytensor import Backend, ScoreCorrection, failure, is_sequence, log_density
from jana_pymc.simulation import DataSchema, GenerativeModel, ParameterLayout, random_generator
from jana_pymc.threads import one_thread, side_by_side
from jana_pymc.trained_region import (
    Leaning,
    edges_in_reach,
    leaning_posterior,
    warn_of_divergences,
    warn_of_leaning,
)
from jana_pymc.training import resolve_device

ROWS_AT_ONCE = 200_000
NUMBERS_AT_ONCE = 400_000
"""Draws times observations evaluated at once, which bounds the memory."""


class LikelihoodApproximator:
    """A trained likelihood network: density, simulator, and random variable.

    Immutable; two compare equal if their weights, parameters and data declaration are the same.
    It pickles and copies without the torch graph.

    Parameters
    ----------
    network : LikelihoodNetwork
        A trained torch module; a copy in double precision is kept, on the CPU. Where the module
        is, log densities of arrays are computed; PyMC's by the CPU, unless `to` says otherwise.
    layout : ParameterLayout
        Names and shapes of the parameters.
    schema : DataSchema
        Observables and known conditions.
    region : ndarray, shape (2, parameters)
        Smallest and largest value of each parameter trained on. Outside it the log density that
        PyMC sees is −inf: the network was never told what happens there. `log_prob` and
        `pointwise` extrapolate instead.
    """

    def __init__(
        self,
        network: LikelihoodNetwork,
        layout: ParameterLayout,
        schema: DataSchema,
        region: np.ndarray,
    ):
        tensors = network.state_dict().values()  # type: ignore[attr-defined]
        self.device = next(iter(tensors)).device
        frozen = copy.deepcopy(network).to("cpu", torch.float64)  # type: ignore[attr-defined]
        self.network: Any = frozen.eval().requires_grad_(False)
        self.layout = layout
        self.schema = schema
        self.region = np.asarray(region, dtype=float)
        self.content_hash = _content_hash(self.network, layout, schema, self.region)

        self.graph_device = torch.device("cpu")
        self._copies: dict[tuple[int, torch.device], Any] = {}

    def to(self, device: str | torch.device) -> LikelihoodApproximator:
        """The same likelihood, its density evaluated on another device: inside PyMC too, by the Op.

        Simulation (`simulate`) stays on the CPU, in double precision.

        However it was trained, a likelihood's Op runs on the CPU, which is faster for a few
        hundred observations. Where the likelihood is lowered to PyTensor the device plays no part;
        ask for ``backend="op"``, as recurrent ones are by themselves.

        Parameters
        ----------
        device : str or torch.device
            Such as "cuda". Chains must then not be forked: ``pm.sample(cores=1)``, a sampler that
            runs chains in threads, or ``mp_ctx="spawn"``.

        Returns
        -------
        LikelihoodApproximator

        Raises
        ------
        ValueError
            If the device does not exist on this machine.
        """
        moved = copy.copy(self)
        moved.device = moved.graph_device = resolve_device(device)
        return moved

    def network_on(self, device: torch.device) -> Any:
        """The network in double precision on some device, made once.

        Raises
        ------
        RuntimeError
            If it cannot be brought there: a forked process cannot use the GPU of its parent.
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
        return isinstance(other, LikelihoodApproximator) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    def __repr__(self) -> str:
        return (
            f"LikelihoodApproximator({', '.join(self.schema.observables)} | "
            f"{', '.join(self.layout.names)}; {self.content_hash[:8]})"
        )

    def __call__(
        self,
        name: str,
        *,
        observed: Any = None,
        conditions: Any = None,
        dims: Any = None,
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
        truncation: Mapping[str, tuple[float | None, float | None]] | None = None,
        correction: ScoreCorrection | None = None,
        backend: Backend = "auto",
        **parameters: Any,
    ) -> TensorVariable:
        """Add the likelihood to the PyMC model on the context stack.

        One observation is a row of its components, in the order in which they were declared,
        arrays flattened; the log density has one value a row. A vector is one row, a sequence one
        matrix of rows; either has one log density a data set, and many data sets add a dimension
        in front.

        Parameters
        ----------
        name : str
        observed : mapping, DataFrame, Dataset, array (n_obs, components), or pm.Data of that shape
            Or a mapping of `pm.Data`, each ``(n_obs, *shape)``. If it holds the declared conditions
            too, they are taken from it. Vectors: (components,) or (sets, components), a mapping of
            ``(*shape)`` or ``(sets, *shape)``, or a DataFrame with a vector in each row. Sequences:
            (n_obs, components) or (sets, n_obs, components), or a mapping of ``(n_obs, *shape)`` or
            ``(sets, n_obs, *shape)``. Many of either, if of one length, may also be a list of data
            sets, or a Dataset with the dimension ``simulation``. Continuous values that are NaN or
            masked are imputed: they become the free variable ``{name}_unobserved``, and the
            Jacobian of its map to the real line may be a Potential ``{name}_missing``, of which
            PyMC warns in predictions, though they do not depend on it.
        conditions : the same, with the declared conditions, optional
            Those of one vector or sequence are those of all.
        dims : str or tuple, optional
            Dimensions of the observations, and of data sets. That of the components is added,
            ``{name}_component``.
        contamination : float or tensor, optional
            Probability that an observation is a lapse, drawn uniformly whatever the parameters:
            a number, a random variable, or one value an observation.
        contaminant : mapping of str to (low, high), optional
            Range of a lapse's continuous components and counts; by default their declared constant
            bounds. Of truncated observations it ends with the window, and contamination is the
            share of lapses among the recorded ones.
        truncation : mapping of str to (low, high), optional
            Window of the first continuous observable outside which nothing was recorded, None for
            no end: ``{"rt": (0.2, 2.0)}``. The density is divided by the probability of the
            window, which is exact: the network knows its distribution function there.
        correction : ScoreCorrection, optional
            Of `score_correction`: takes from the log densities what the network's score is wrong
            by on average. Not together with truncation, of which its simulations know nothing;
            with contamination it is taken from the network's density alone, not from the lapses'.
        backend : {"auto", "lowering", "op"}
            "lowering" re-expresses the network in PyTensor; "op" calls torch. "auto" takes the
            first where there is one.
        **parameters
            One value for each parameter that the network was trained on: a scalar, one for each
            observation, or group parameters indexed by observation, ``v[subject]``.

        Returns
        -------
        TensorVariable
            The registered random variable, of the shape of the data.

        Raises
        ------
        TypeError
            If a parameter is missing, unknown or no number.
        ValueError
            If the data do not fit the declared observables, nothing trained explains them, or a
            parameter has not its shape; if a dimension's coordinates are the components in
            another order.

        Warns
        -----
        UserWarning
            If a parameter given as a number lies outside the trained region, conditions farther
            out than any that were simulated, or a sequence goes on for longer than those trained
            on, where the likelihood changes with time.
        """
        missing, checked = None, self._arguments
        if observed is None:
            known = checked.conditions(conditions)
            n_obs = checked.length_without_data(known)
        else:
            observed, conditions = split_conditions(self.schema, observed, conditions)
            observed, missing = fill_missing(self.schema, observed)
            observed, known = checked.data(observed, conditions)
            n_obs = observed.shape[-2] if is_sequence(self.schema) else None
        checked.check_dims(parameters, observed)
        given = checked.given(
            parameters, observed, known, contamination, contaminant, truncation, correction
        )
        dims = checked.named_dims(name, dims, observed)
        options: dict[str, Any] = {}
        if missing is not None:
            observed = np.ma.masked_array(observed, missing)
            options["default_transform"] = MissingValues(
                self, missing, given.contaminant, given.truncation
            )
        likelihood = NeuralLikelihood(
            name, self, backend, given, n_obs, observed=observed, dims=dims, **options
        )
        if missing is not None:
            imputed = pm.modelcontext(None)[f"{name}_unobserved"]
            jacobian = options["default_transform"].correction(imputed)
            if jacobian is not None:
                pm.Potential(f"{name}_missing", jacobian)
        return likelihood

    def dist(
        self,
        *,
        conditions: Any = None,
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
        truncation: Mapping[str, tuple[float | None, float | None]] | None = None,
        correction: ScoreCorrection | None = None,
        backend: Backend = "auto",
        size: Any = None,
        n_obs: int | None = None,
        **parameters: Any,
    ) -> TensorVariable:
        """Build the random variable outside a model, for `pm.draw` and `pm.logp`.

        Parameters
        ----------
        size : int or tuple, optional
            Number of observations, if the parameters do not say it; of vectors and sequences,
            the number of data sets.
        n_obs : int, optional
            Length of a sequence; without it that of its conditions, or the largest trained on.
        conditions, contamination, contaminant, truncation, correction, backend, **parameters
            As for calling the approximator.

        Returns
        -------
        TensorVariable
            Of the shape of the batch, and of one observation, vector or sequence.

        Raises
        ------
        TypeError, ValueError
            As for calling the approximator; or if what is no sequence is given `n_obs`.
        """
        checked = self._arguments
        known = checked.conditions(conditions)
        if is_sequence(self.schema):
            n_obs = checked.length(n_obs, known)
        elif n_obs is not None:
            raise TypeError(
                f"n_obs={n_obs!r}: only sequences have a length; give the number of independent "
                "observations, or of vectors, as size."
            )
        given = checked.given(
            parameters, None, known, contamination, contaminant, truncation, correction
        )
        return NeuralLikelihood.dist(self, backend, given, n_obs, size=size)

    def logp(
        self,
        observed: Any,
        *,
        conditions: Any = None,
        contamination: Any = None,
        contaminant: Mapping[str, tuple[float, float]] | None = None,
        truncation: Mapping[str, tuple[float | None, float | None]] | None = None,
        correction: ScoreCorrection | None = None,
        backend: Backend = "auto",
        **parameters: Any,
    ) -> TensorVariable:
        """Log density of each observation, for `pm.Potential`.

        Parameters
        ----------
        observed : mapping, DataFrame, Dataset, array or tensor
            As for calling the approximator, without missing values.
        conditions, contamination, contaminant, truncation, correction, backend, **parameters
            As for calling the approximator.

        Returns
        -------
        TensorVariable, shape (n_obs,)
            Of a vector or sequence, one for the data set, shape (), or (sets,) of many.

        Raises
        ------
        TypeError, ValueError
            As for calling the approximator.
        """
        checked = self._arguments
        data, known = checked.data(observed, conditions)
        given = checked.given(
            parameters, data, known, contamination, contaminant, truncation, correction
        )
        return log_density(self, backend, pt.as_tensor_variable(data), given)

    def log_prob(
        self,
        observed: Any,
        parameters: np.ndarray | Mapping[str, Any],
        conditions: Any = None,
    ) -> np.ndarray:
        """Log density of each observation under each of many parameter vectors.

        It is the network's own, also outside the trained `region`: there it is extrapolated, where
        in PyMC the density is zero.

        Parameters
        ----------
        observed : mapping, DataFrame, Dataset, or array (n_obs, components)
            One data set; of vectors, one or many, as for calling the approximator.
        parameters : mapping of str to array, shape ``(draws, *shape)``, or ndarray, (draws, size)
            An array is flattened in the order of the layout.
        conditions : mapping or array (n_obs, conditions), optional
            Those of one vector are those of all.

        Returns
        -------
        ndarray, shape (draws, n_obs)
            Of a sequence, each observation's given those before it; of vectors, a column each.

        Raises
        ------
        TypeError, ValueError
            If the data do not fit the declared observables and conditions, if there are many
            sequences, or the parameters do not fit.
        """
        numbers, given = self._arguments.data(observed, conditions)
        data = np.atleast_2d(numbers)
        if data.ndim != 2:
            raise ValueError(f"{len(data)} sequences; expected one data set.")
        theta = self._vectors(parameters, "draws")
        known = None if given is None else np.atleast_2d(given.data)
        if self.schema.structure != "vector":
            return self.pointwise(data, theta, known)
        if known is not None:  # those of one vector are those of all
            known = np.broadcast_to(known, (len(data), known.shape[-1]))
        columns = [
            self.pointwise(data[i : i + 1], theta, None if known is None else known[i : i + 1])
            for i in range(len(data))
        ]
        return np.concatenate(columns, axis=1)

    def pointwise(
        self, observables: np.ndarray, parameters: np.ndarray, conditions: np.ndarray | None = None
    ) -> np.ndarray:
        """Log densities of observations, which are already in arrays.

        Extrapolated outside the trained region, as in `log_prob`.

        Parameters
        ----------
        observables : ndarray, shape (n_obs, components) or (draws, n_obs, components)
            One data set, or one for each draw. As in a `DataBatch`, without padding; nothing but
            the length of sequences is checked.
        parameters : ndarray, shape (draws, size)
        conditions : ndarray, shape (n_obs, conditions) or (draws, n_obs, conditions), optional

        Returns
        -------
        ndarray, shape (draws, n_obs)
        """
        self._arguments.check_length(observables.shape[-2])
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
        """Surrogate data sets, or what follows the past of sequences.

        They are made on the CPU in double precision, whichever device the likelihood was brought
        to: a seed gives the same data.

        Parameters
        ----------
        parameters : ndarray, shape (sets, size)
        n_obs : int
            1 for vectors.
        conditions : ndarray, shape (sets, n_obs, conditions), optional
            With a past, (sets, past_obs + n_obs, conditions).
        past : ndarray, shape (sets, past_obs, components), optional
            Observations before, of sequences only.
        random_seed : int or Generator, optional

        Returns
        -------
        ndarray, shape (sets, n_obs, components)

        Raises
        ------
        TypeError, ValueError
            If `n_obs` is no positive integer, or the parameters have another width.
        """
        check_count("n_obs", n_obs)
        values = self._vectors(parameters, "sets")
        seed = int(random_generator(random_seed).integers(2**63))
        generator = torch.Generator().manual_seed(seed)
        theta = torch.tensor(values)
        known = None if conditions is None else torch.tensor(np.asarray(conditions, dtype=float))
        before = None if past is None else torch.tensor(np.asarray(past, dtype=float))
        size = max(1, ROWS_AT_ONCE // (n_obs + (0 if before is None else before.shape[1])))
        parts = []
        for start in range(0, len(theta), size):
            part = slice(start, start + size)
            given = None if known is None else known[part]
            continued = {} if before is None else {"past": before[part]}
            with one_thread():
                made = self.network.sample(theta[part], n_obs, given, generator, **continued)
            parts.append(made.numpy())
        return np.concatenate(parts)

    def score_correction(
        self,
        parameters: Mapping[str, ArrayLike],
        model: GenerativeModel,
        *,
        n_simulations: int = 10_000,
        random_seed: int | np.random.Generator | None = None,
        progressbar: bool = True,
    ) -> ScoreCorrection:
        r"""Learn from the simulator what this likelihood's score is wrong by on average.

        A parameter that N observations share is known √N times better than one observation tells,
        and a small error of the network, made in each of them, then shifts its posterior. The
        expected score of a true likelihood is zero at every θ; the network's, over data sets of
        the *simulator*, is b(θ), and a function c(θ) with ∇c ≈ b is what ``correction=`` takes
        from each log density. It is a quadratic function near the parameters given, or a linear
        one if these, or the simulations, are few.

        Parameters
        ----------
        parameters : mapping of str to array, shape ``(points, *shape)``
            Where posterior draws of the parameters of *single observations* lie, of a first run:
            `jana_pymc.row_parameters`, or posterior draws or means. Conditions, if there are any,
            stand beside them.
        model : GenerativeModel
            Whose simulator is called.
        n_simulations : int
            Data sets to simulate, M observations in all. The correction's own error shifts
            the posterior of a shared parameter by √(N / M) of its standard deviation.
        random_seed : int or Generator, optional
        progressbar : bool

        Returns
        -------
        ScoreCorrection
            Whose `ScoreCorrection.shift` says how far it moves a posterior, and its error.

        Raises
        ------
        TypeError, ValueError
            If parameters leave the trained region, or they or the model do not fit; if data are
            sequences; if simulations are fewer than ten a parameter, or more than 5 % fail: over
            a selection of data sets no score has a mean of zero.

        Notes
        -----
        Densities are to vanish at bounds that are parameters, as the networks' own do there.
        """
        return score_bias.score_correction(
            self,
            parameters,
            model,
            n_simulations=n_simulations,
            random_seed=random_seed,
            progressbar=progressbar,
        )

    def check_region(
        self, data: ArviZData, parameters: Mapping[str, str] | None = None
    ) -> list[Leaning]:
        """Tell whether posterior draws lean on the edge of the trained region.

        Outside the region the log density is −inf, so that a posterior that would go on is cut
        off without further notice. Works on the result of any sampler. Where many transitions
        diverged, edges that the trajectories will have met are named too.

        Parameters
        ----------
        data : InferenceData or DataTree
            With a group "posterior", whose variables may have dimensions before the parameter's
            own, as those of a hierarchical model.
        parameters : mapping of str to str, optional
            Name in the posterior of each parameter that has another name there. Others that the
            posterior does not hold are passed over, as long as it holds one.

        Returns
        -------
        list of Leaning
            Parameter, edge and share of the draws at it; empty if all is well.

        Raises
        ------
        TypeError
            If `data` or `parameters` is something else.
        ValueError
            If there is no posterior, if it holds none of the parameters, or if `parameters` names
            one, or a variable of the posterior, that does not exist.
        Exception
            The latest one that the density raised while sampling, if there was any: nutpie takes
            exceptions for divergences.

        Warns
        -----
        UserWarning
            Naming the parameters.
        """
        error = failure(self)
        if error is not None:
            raise error
        posterior = posterior_of(data)
        renamed = {} if parameters is None else parameters
        found = leaning_posterior(self.layout, self.region, posterior, renamed)
        if found:
            warn_of_leaning(found)
        else:
            edges = edges_in_reach(self.layout, self.region, posterior, renamed)
            warn_of_divergences(divergent_share(data), edges)
        return found

    def reachable(self, observables: np.ndarray) -> np.ndarray:
        """Whether trained values of the bounding parameters can explain each data set.

        Parameters
        ----------
        observables : ndarray, shape (sets, obs, components)
            NaN for padding.

        Returns
        -------
        ndarray of bool, shape (sets,)
        """
        return beyond_training.reachable(self.schema, self.layout, self.region, observables)

    def check_reachable(self, observed: Any) -> None:
        """Refuse data that no trained value of a bounding parameter can explain."""
        self._arguments.check_reachable(observed)

    def _vectors(self, parameters: Any, what: str) -> np.ndarray:
        """Parameter vectors as an array, shape (vectors, size); `what` names them in messages."""
        theta = np.atleast_2d(self.layout.vectors(parameters))
        if theta.ndim != 2 or theta.shape[1] != self.layout.size:
            raise ValueError(
                f"parameters have shape {theta.shape}; expected ({what}, {self.layout.size}), for "
                f"{', '.join(self.layout.component_names)}."
            )
        return theta

    @property
    def _arguments(self) -> Arguments:
        return Arguments(self.network, self.layout, self.schema, self.region, self.content_hash)


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
