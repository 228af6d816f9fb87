"""The trained pair and its prior: what a user holds after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike

from jana_pymc import inference_data
from jana_pymc.approximators import serialization, surrogate
from jana_pymc.approximators.groups import (
    GROUPS,
    Drawn,
    check_groups,
    check_observed_name,
    groups_of_draws,
)
from jana_pymc.approximators.likelihood import LikelihoodApproximator
from jana_pymc.approximators.outliers import ReferenceDistances, outliers, warn_of_outliers
from jana_pymc.approximators.posterior import PosteriorApproximator
from jana_pymc.checks import check_count
from jana_pymc.joint_network import JointNetwork
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.pytensor import ScoreCorrection
from jana_pymc.refinement import CANDIDATES, Refinement, warn_unconverged, warn_unreliable
from jana_pymc.refinement import refine as refined_draws
from jana_pymc.simulation import (
    DataBatch,
    DataSchema,
    GenerativeModel,
    ParameterLayout,
    PyMCPrior,
    Simulations,
    random_generator,
)
from jana_pymc.simulation.schema import is_many
from jana_pymc.trained_region import (
    share_outside,
    warn_of_draws_outside_region,
    warn_of_parameters_outside_region,
)
from jana_pymc.training import TrainingHistory
from jana_pymc.warning import warn


class JointApproximator:
    """A trained pair of posterior and likelihood, with the prior it was trained for.

    Made by `jana_pymc.fit` or `jana_pymc.load`.

    Parameters
    ----------
    network : JointNetwork
        The weights, on the device on which they evaluate.
    settings : NetworkSettings
    prior : PyMCPrior
    schema : DataSchema
    region : ndarray, shape (2, parameters)
        Smallest and largest value of each parameter that the likelihood was trained on.
    positive : sequence of bool
        For each component of an observation, whether it was positive in all simulations.
    history : TrainingHistory
    model : GenerativeModel, optional
        The simulator; None after loading from a file without it.
    pool_weight : float, optional
        Result of `learn_pool_weight` after training, for ``refine="pooled"``; None in files of
        versions without it.
    constant_conditions : mapping of str to float, optional
        Components of conditions that had a single value in all simulations, and that value. Other
        values in data raise a warning. The likelihood network gets them as an attribute.

    Attributes
    ----------
    posterior : PosteriorApproximator
    likelihood : LikelihoodApproximator
    pool_weight : float or None
        The argument, which `sample` reads. It may be set later, by `learn_pool_weight`.

    Notes
    -----
    `save` and `jana_pymc.load` keep a pair in a file. `likelihood` can be pickled; the pair holds
    a PyMC model and needs cloudpickle.

    Raises
    ------
    ValueError
        If the networks were never trained.
    """

    def __init__(
        self,
        network: JointNetwork,
        *,
        settings: NetworkSettings,
        prior: PyMCPrior,
        schema: DataSchema,
        region: np.ndarray,
        positive: Sequence[bool],
        history: TrainingHistory,
        model: GenerativeModel | None = None,
        pool_weight: float | None = None,
        constant_conditions: Mapping[str, float] | None = None,
    ):
        if not len(history):
            raise ValueError(
                "these networks are untrained: an approximator comes from jana_pymc.fit or "
                "jana_pymc.load."
            )
        falling = history.still_falling()
        if falling:
            warn(
                f"half-trained: the validation loss of the {' and of the '.join(falling)} was "
                f"still falling after {history.step[-1]} steps. Train longer "
                "(TrainingSettings.n_steps).",
            )
        self.network = network
        self.settings = settings
        self.prior = prior
        self.schema = schema
        self.region = region
        self.positive = tuple(positive)
        self.history = history
        self.model = model
        self.pool_weight = pool_weight
        self.constant_conditions = dict(constant_conditions or {})
        network.likelihood.constant_conditions = self.constant_conditions
        self.posterior = PosteriorApproximator(network.posterior, prior, schema, network.likelihood)
        self.likelihood = LikelihoodApproximator(network.likelihood, prior.layout, schema, region)

    def __repr__(self) -> str:
        return (
            f"JointApproximator({', '.join(self.layout.names)} | "
            f"{', '.join(self.schema.observables)}; {len(self.history)} evaluations in training)"
        )

    @property
    def layout(self) -> ParameterLayout:
        """Names, shapes, dims and coords of the parameters."""
        return self.prior.layout

    @cached_property
    def reference_distances(self) -> ReferenceDistances | None:
        """Summary distances of the pair's own data sets, computed when first needed.

        None if the data sets would be too long, or if known conditions have no design.
        """
        return ReferenceDistances.of(self)

    def simulate(
        self,
        parameters: ArrayLike | Mapping[str, ArrayLike],
        n_obs: int | ArrayLike | None = None,
        *,
        conditions: Any = None,
        random_seed: int | np.random.Generator | None = None,
    ) -> Simulations:
        """Simulate from the neural likelihood, without calling the simulator.

        Parameters
        ----------
        parameters : mapping of str to array, or array of shape (sets, size) or (size,)
            One vector of parameters for each data set.
        n_obs : int or array of int, shape (sets,), optional
            Observations in each data set; by default the number in `conditions`, or the largest
            in training.
        conditions : mapping of str to array, optional
            Known conditions, each (n_obs,) or (sets, n_obs), if the model has any.
        random_seed : int or Generator, optional

        Returns
        -------
        Simulations
            As `GenerativeModel.simulate` returns them.

        Raises
        ------
        TypeError, ValueError
            If parameters, sizes or conditions do not fit the model.

        Warns
        -----
        UserWarning
            If parameters lie clearly outside the trained region.
        """
        made = surrogate.simulate(
            self, parameters, n_obs, conditions=conditions, random_seed=random_seed
        )
        warn_of_parameters_outside_region(self.layout, self.region, made.parameters)
        return made

    def prior_predictive(
        self,
        draws: int = 1000,
        n_obs: int | None = None,
        *,
        conditions: Any = None,
        random_seed: int | np.random.Generator | None = None,
    ) -> inference_data.ArviZData:
        """Draw from the prior, and a surrogate data set for each draw.

        Parameters
        ----------
        draws : int
        n_obs, conditions, random_seed
            As for `simulate`.

        Returns
        -------
        InferenceData or DataTree
            Groups "prior" and "prior_predictive"; `sample` returns "posterior_predictive".
        """
        return surrogate.prior_predictive(
            self, draws, n_obs, conditions=conditions, random_seed=random_seed
        )

    def sample(
        self,
        data: Any,
        *,
        draws: int = 1000,
        chains: int = 4,
        observed_name: str = "y",
        groups: Sequence[str] = GROUPS,
        refine: Refinement = "none",
        random_seed: int | np.random.Generator | None = None,
        progressbar: bool = True,
    ) -> inference_data.ArviZData:
        """Draw from the amortized posterior of one data set or many.

        Parameters
        ----------
        data : mapping, DataFrame, Dataset, ndarray, or sequence of these
            See `DataSchema.batch`. Many data sets add a dimension "dataset", as does a single one
            in a list or in a Dataset with the dimension ``simulation``.
        draws, chains : int
            The draws are independent, but laid out as the chains that diagnostics expect.
        observed_name : str
            Name of the variable in the group "log_likelihood". For comparisons with a PyMC model,
            use the name of its observed variable. It must not be the name of a parameter, nor
            "chain", "draw", "dataset" or "obs".
        groups : sequence of str
            Which of "posterior", "log_likelihood", "posterior_predictive", "prior" and
            "observed_data" to compute. "observed_data" adds "constant_data" if there are known
            conditions, which it holds. "log_likelihood" adds "sample_stats", with the log joint
            density ``lp`` and the log density ``log_q`` of the amortized posterior, both over
            unconstrained parameters. Refined draws have no ``log_q``, but attributes that describe
            the refinement, one value per data set: ``refined``, ``pareto_k`` and ``divergences``.
        refine : {"none", "pooled", "psis", "nuts", "auto"}
            Correction of the amortized draws. "psis" resamples them by importance towards the
            posterior implied by likelihood network and prior. "pooled" resamples them towards the
            pool of this posterior and the amortized one that did best on held-out simulations
            (`jana_pymc.learn_pool_weight`); where both networks err, it is the most accurate.
            "nuts" samples from the implied posterior, with amortized draws as starting points.
            "auto" is "psis", and "nuts" for data sets with a high k̂. NUTS takes seconds per data
            set, but minutes if the likelihood is recurrent (434 s for 35 time points, four chains
            of 500 draws, on two shared cores).
        random_seed : int or Generator, optional
        progressbar : bool
            Whether to show a progress bar while NUTS runs.

        Returns
        -------
        InferenceData or DataTree
            The type that the installed ArviZ uses.

        Raises
        ------
        TypeError
            If `draws`, `chains`, `groups` or `observed_name` is of another type, or data are not
            numeric.
        ValueError
            If the data do not fit the declared observables, if a group is unknown or none is
            given, or if `observed_name` is taken.

        Warns
        -----
        UserWarning
            If data lie farther out than all simulated data, so that neither draws nor
            log-likelihoods can be trusted. This is not checked if the pair was trained on more
            than 10,000 observations per data set, or if conditions have no design. If refined
            draws are unreliable: k̂ is high, they lie outside the trained region, or NUTS has not
            converged.
        """
        check_groups(groups)
        check_count("draws", draws)
        check_count("chains", chains)
        check_observed_name(observed_name, self.layout)
        rng = random_generator(random_seed)
        batch = self.posterior.batch(data)
        self.likelihood.check_reachable(batch.observables)
        warn_of_outliers(self, outliers(self, batch))
        result = groups_of_draws(
            self,
            batch,
            self._drawn(batch, draws, chains, refine, rng, progressbar),
            groups,
            observed_name=observed_name,
            chains=chains,
            single=len(batch) == 1 and not is_many(data),
            rng=rng,
        )
        return inference_data.to_inference_data(result)

    def score_correction(
        self,
        parameters: Mapping[str, ArrayLike],
        *,
        n_simulations: int = 10_000,
        random_seed: int | np.random.Generator | None = None,
        progressbar: bool = True,
    ) -> ScoreCorrection:
        """Learn the average error of the likelihood's score from the simulator of the pair's model.

        See `LikelihoodApproximator.score_correction`.

        Parameters
        ----------
        parameters : mapping of str to array, shape ``(points, *shape)``
            Posterior draws or means from a first run, and conditions if there are any.
        n_simulations : int
        random_seed : int or Generator, optional
        progressbar : bool

        Returns
        -------
        ScoreCorrection

        Raises
        ------
        TypeError
            As for the likelihood's method.
        ValueError
            If the pair was loaded without its `GenerativeModel`, or as for the likelihood's method.
        """
        if self.model is None:
            raise ValueError(
                "this pair was loaded without its simulator; load it with the GenerativeModel, "
                "jana_pymc.load(path, model)."
            )
        return self.likelihood.score_correction(
            parameters,
            self.model,
            n_simulations=n_simulations,
            random_seed=random_seed,
            progressbar=progressbar,
        )

    def log_prob(self, parameters: Any, data: Any) -> np.ndarray:
        """Normalised log q(θ | x) of constrained parameters.

        Parameters
        ----------
        parameters : mapping of str to array, shape ``(*shape)`` or ``(draws, *shape)``
            One array for each parameter.
        data : mapping, DataFrame or Dataset
            One data set.

        Returns
        -------
        ndarray, shape () or (draws,)

        Raises
        ------
        TypeError, ValueError
            If parameters or data do not fit what was declared, or there are many data sets.
        """
        flat = self.layout.flatten(parameters)
        batch = self.posterior.batch(data)
        if len(batch) != 1:
            raise ValueError(f"{len(batch)} data sets; log_prob takes one, call it for each.")
        values = self.posterior.log_prob(flat.reshape(1, -1, self.layout.size), batch)
        return values.reshape(flat.shape[:-1])

    def save(self, path: str | Path) -> Path:
        """Write everything but the prior model and the simulator into one safetensors file.

        An existing file is replaced only once the new one is complete. Nothing is pickled.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Path

        Raises
        ------
        TypeError
            If `path` is no path.
        FileNotFoundError, IsADirectoryError
            If the folder does not exist, or the path is a folder.
        """
        return serialization.write(self, path)

    def _drawn(
        self,
        batch: DataBatch,
        draws: int,
        chains: int,
        refine: Refinement,
        rng: np.random.Generator,
        progressbar: bool,
    ) -> Drawn:
        """Draws of the amortized posterior, refined as asked."""
        refined = refined_draws(
            self,
            batch,
            draws * chains,
            method=refine,
            chains=chains,
            random_seed=rng,
            progressbar=progressbar,
        )
        parameters = self.prior.constrain(refined.unconstrained)
        if refine == "none":
            return Drawn(refined.unconstrained, parameters, {"log_q": refined.log_q}, {})
        warn_unreliable(
            refined.pareto_k[np.isin(refined.method, ("psis", "pooled"))],
            CANDIDATES * draws * chains,
            'Pass refine="auto" or "nuts".',
        )
        warn_unconverged(refined)
        warn_of_draws_outside_region(share_outside(self.likelihood.region, parameters))
        attributes = {
            "pareto_k": refined.pareto_k,
            "refined": ",".join(refined.method),
            "divergences": refined.divergences,
        }
        return Drawn(refined.unconstrained, parameters, {}, attributes)


def load(
    path: str | Path,
    prior: pm.Model | PyMCPrior | GenerativeModel,
    *,
    device: str = "auto",
) -> JointApproximator:
    """Read a trained pair.

    Parameters
    ----------
    path : str or Path
        Written by `JointApproximator.save`.
    prior : pm.Model or GenerativeModel
        The prior that the pair was trained with; files hold no code, and hence no model. A
        GenerativeModel may declare other numbers of observations.
    device : str
        Where the networks are evaluated; "auto" takes a CUDA device if there is one.

    Returns
    -------
    JointApproximator

    Raises
    ------
    TypeError
        If `path` is no path.
    FileNotFoundError, IsADirectoryError
        If there is no such file, or the path is a folder.
    StorageError
        If the file is truncated, of another kind, or of a newer version.
    ValueError
        If the prior is not the one that the pair was trained with, or the GenerativeModel declares
        other data.
    """
    return JointApproximator(**serialization.read(path, prior, device))
