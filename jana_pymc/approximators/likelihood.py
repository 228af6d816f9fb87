"""The trained likelihood: density, simulator, and random variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike
from pytensor.tensor.variable import TensorVariable

from jana_pymc.approximators import beyond_training, score_bias
from jana_pymc.approximators.arguments import Arguments
from jana_pymc.approximators.incomplete import fill_missing
from jana_pymc.approximators.observed import split_conditions
from jana_pymc.distribution import NeuralLikelihood
from jana_pymc.inference_data import ArviZData, divergent_share, posterior_of
from jana_pymc.missing_values import MissingValues
from jana_pymc.pytensor import Backend, ScoreCorrection, failure, log_density
from jana_pymc.simulation import GenerativeModel
from jana_pymc.trained_likelihood import TrainedLikelihood
from jana_pymc.trained_region import (
    Leaning,
    edges_in_reach,
    leaning_posterior,
    warn_of_divergences,
    warn_of_leaning,
)


class LikelihoodApproximator(TrainedLikelihood):
    """A trained likelihood network: density, simulator, and random variable.

    Immutable; two are equal if their weights, parameters, data declaration and region are the
    same. Pickles and copies leave out the torch graph.

    Parameters
    ----------
    network : LikelihoodNetwork
        A trained torch module, of which a copy in double precision is kept on the CPU. Log
        densities of arrays are computed on the module's own device, those inside PyMC on the CPU;
        `to` changes both.
    layout : ParameterLayout
        Names and shapes of the parameters.
    schema : DataSchema
        Observables and known conditions.
    region : ndarray, shape (2, parameters)
        Smallest and largest value of each parameter in training. Outside this region the log
        density in PyMC is −inf, since the network was not trained there; `log_prob` and
        `pointwise` extrapolate instead.
    """

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

        An observation is a row of its components, in the order of their declaration, with arrays
        flattened; the log density has one value per row. A vector is one row and a sequence a
        matrix of rows; each has one log density per data set, and many data sets add a leading
        dimension.

        Parameters
        ----------
        name : str
        observed : mapping, DataFrame, Dataset, array (n_obs, components), or pm.Data of that shape
            A mapping may hold `pm.Data`, each of shape ``(n_obs, *shape)``. Conditions are taken
            from `observed` if it holds them. Vectors: (components,) or (sets, components), a
            mapping of ``(*shape)`` or ``(sets, *shape)``, or a DataFrame with one vector per row.
            Sequences: (n_obs, components) or (sets, n_obs, components), or a mapping of
            ``(n_obs, *shape)`` or ``(sets, n_obs, *shape)``. Many vectors, or many sequences of
            one length, may also be a list of data sets, or a Dataset with the dimension
            ``simulation``. Continuous values that are NaN or masked are imputed: they become the
            free variable ``{name}_unobserved``. The Jacobian of its map to the real line may be
            added as a Potential ``{name}_missing``; PyMC warns of it when predicting, although
            predictions do not depend on it.
        conditions : the same, with the declared conditions, optional
            Given once, they hold for all vectors or sequences.
        dims : str or tuple, optional
            Dimensions of the observations and of the data sets. The dimension of the components,
            ``{name}_component``, is added.
        contamination : float or tensor, optional
            Probability that an observation is a lapse, drawn uniformly and independently of the
            parameters: a number, a random variable, or one value per observation.
        contaminant : mapping of str to (low, high), optional
            Range of a lapse's components; by default the declared constant bounds, and all
            categories. Counts and categories may have a single value: ``{"y": (0, 0)}`` makes
            `contamination` the probability of additional zeros. With truncation, the range is cut
            to the window, and `contamination` is the share of lapses among the recorded
            observations.
        truncation : mapping of str to (low, high), optional
            Window of the first continuous observable outside which nothing was recorded, with None
            for an open end: ``{"rt": (0.2, 2.0)}``. The density is divided by the probability of
            the window, which the network's distribution function gives exactly.
        correction : ScoreCorrection, optional
            Result of `score_correction`, which removes the average error of the network's score
            from the log densities. It excludes truncation, which its simulations do not include.
            With contamination, only the network's density is corrected, not that of the lapses.
        backend : {"auto", "lowering", "op"}
            "lowering" re-expresses the network in PyTensor; "op" calls torch. "auto" lowers the
            network if it can be lowered.
        **parameters
            One value for each parameter of the network: a scalar, one value per observation, or
            group parameters indexed by observation, ``v[subject]``.

        Returns
        -------
        TensorVariable
            The registered random variable, of the shape of the data.

        Raises
        ------
        TypeError
            If a parameter is missing, unknown or not a number.
        ValueError
            If the data do not fit the declared observables, no trained parameter explains them, or
            a parameter has the wrong shape; or if the coordinates of a dimension are the
            components in another order.

        Warns
        -----
        UserWarning
            If a parameter given as a number lies outside the trained region, if conditions lie
            farther out than all simulated ones, or if a sequence is longer than those in training
            and the likelihood changes with time.
        """
        missing, checked = None, self._arguments
        if observed is None:
            known = checked.conditions(conditions)
            n_obs = checked.length_without_data(known)
        else:
            observed, conditions = split_conditions(self.schema, observed, conditions)
            observed, missing = fill_missing(self.schema, observed)
            observed, known = checked.data(observed, conditions)
            n_obs = observed.shape[-2] if self.schema.is_sequence else None
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
            Number of observations, if the shapes of the parameters do not imply it; for vectors
            and sequences, the number of data sets.
        n_obs : int, optional
            Length of a sequence; by default that of its conditions, or the largest in training.
        conditions, contamination, contaminant, truncation, correction, backend, **parameters
            As for calling the approximator.

        Returns
        -------
        TensorVariable
            The shape is that of the batch, followed by that of one observation, vector or sequence.

        Raises
        ------
        TypeError, ValueError
            As for calling the approximator; or if `n_obs` is given, but the data are no sequences.
        """
        checked = self._arguments
        known = checked.conditions(conditions)
        if self.schema.is_sequence:
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
            For vectors and sequences, one per data set: shape () for one, (sets,) for many.

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

        Outside the trained `region` it is the network's extrapolation; in PyMC the density is zero
        there.

        Parameters
        ----------
        observed : mapping, DataFrame, Dataset, or array (n_obs, components)
            One data set, or one or many vectors, as for calling the approximator.
        parameters : mapping of str to array, shape ``(draws, *shape)``, or ndarray, (draws, size)
            The columns of an array are in the order of the layout.
        conditions : mapping or array (n_obs, conditions), optional
            Given once, they hold for all vectors.

        Returns
        -------
        ndarray, shape (draws, n_obs)
            For a sequence, the log density of each observation given those before it; for vectors,
            one column per vector.

        Raises
        ------
        TypeError, ValueError
            If the data do not fit the declared observables and conditions, if there is more than
            one sequence, or if the parameters do not fit.
        """
        numbers, given = self._arguments.data(observed, conditions)
        data = np.atleast_2d(numbers)
        if data.ndim != 2:
            raise ValueError(f"{len(data)} sequences; expected one data set.")
        theta = self._vectors(parameters, "draws")
        if np.isnan(theta).any():
            wrong = self.layout.component_names[int(np.isnan(theta).any(axis=0).argmax())]
            raise ValueError(f"parameters: {wrong!r} is NaN in some of the draws.")
        known = None if given is None else np.atleast_2d(given.data)
        if self.schema.structure != "vector":
            return self.pointwise(data, theta, known)
        if known is not None:  # given once, they hold for all vectors
            known = np.broadcast_to(known, (len(data), known.shape[-1]))
        columns = [
            self.pointwise(data[i : i + 1], theta, None if known is None else known[i : i + 1])
            for i in range(len(data))
        ]
        return np.concatenate(columns, axis=1)

    def score_correction(
        self,
        parameters: Mapping[str, ArrayLike],
        model: GenerativeModel,
        *,
        n_simulations: int = 10_000,
        random_seed: int | np.random.Generator | None = None,
        progressbar: bool = True,
    ) -> ScoreCorrection:
        r"""Learn the average error of this likelihood's score from the simulator.

        N observations determine a shared parameter √N times more precisely than one, so that a
        small error of the network, repeated in each observation, shifts its posterior. The
        expected score of a true likelihood is zero at every θ. The expected score of the network,
        over data sets of the *simulator*, is its bias b(θ); ``correction=`` subtracts a function
        c(θ) with ∇c ≈ b from each log density. The function is quadratic near the given
        parameters, or linear if these or the simulations are few.

        Parameters
        ----------
        parameters : mapping of str to array, shape ``(points, *shape)``
            Posterior draws or means of the parameters of *single observations*, from a first run;
            `jana_pymc.row_parameters` returns them. Conditions, if there are any, are further
            entries.
        model : GenerativeModel
            The simulator.
        n_simulations : int
            Data sets to simulate, M observations in total. The correction's own error shifts
            the posterior of a shared parameter by √(N / M) of its standard deviation.
        random_seed : int or Generator, optional
        progressbar : bool

        Returns
        -------
        ScoreCorrection
            `ScoreCorrection.shift` gives how far it moves a posterior, and its error.

        Raises
        ------
        TypeError, ValueError
            If parameters lie outside the trained region, or they or the model do not fit; if data
            are sequences; if there are fewer than ten simulations per parameter, or more than 5 %
            of them fail, since the mean score over a selection of data sets is not zero.

        Notes
        -----
        The density must vanish at bounds that are parameters, as the networks' densities do.
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
        """Check whether posterior draws pile up at the edge of the trained region.

        Outside the region the log density is −inf, so that a posterior that extends beyond it is
        silently cut off. Works on the result of any sampler. Where many transitions diverged,
        edges that the trajectories are likely to have met are named too.

        Parameters
        ----------
        data : InferenceData or DataTree
            With a group "posterior". Its variables may have further leading dimensions, as in
            hierarchical models.
        parameters : mapping of str to str, optional
            Name in the posterior of each parameter that has another name there. Parameters that
            are not in the posterior are ignored, as long as one is.

        Returns
        -------
        list of Leaning
            Parameter, edge and share of the draws at the edge; empty if there are none.

        Raises
        ------
        TypeError
            If `data` or `parameters` is of another type.
        ValueError
            If there is no posterior, if it holds none of the parameters, or if `parameters` names
            a parameter or a variable that does not exist.
        Exception
            The latest exception that the density raised during sampling, if any: nutpie treats
            exceptions as divergences.

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
        """Whether each data set lies within its declared bounds.

        Bounds that are parameters are taken at their trained value that leaves the most room.

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
        beyond_training.check_reachable(self.schema, self.layout, self.region, observed)

    @property
    def _arguments(self) -> Arguments:
        return Arguments(self.network, self.layout, self.schema, self.region, self.content_hash)
