"""What a user holds after training: amortized posterior, neural likelihood, prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import torch

from jana_pymc import inference_data, storage
from jana_pymc.architecture import NetworkSettings, build_network
from jana_pymc.distribution import LikelihoodApproximator
from jana_pymc.joint import JointNetwork
from jana_pymc.posterior import PosteriorNetwork
from jana_pymc.simulation import DataBatch, DataSchema, GenerativeModel, ParameterLayout, PyMCPrior
from jana_pymc.training import TrainingHistory, resolve_device

KIND = "approximator"
GROUPS = ("posterior", "log_likelihood", "posterior_predictive", "prior", "observed_data")
ROWS_AT_ONCE = 200_000
"""Draws evaluated by the flow at once, which bounds the memory."""


class PosteriorApproximator:
    """Amortized posterior q(θ | x) of a trained pair.

    Parameters
    ----------
    network : PosteriorNetwork
    prior : PyMCPrior
        Carries draws between the unconstrained space, in which the flow works, and the user's.
    schema : DataSchema
    """

    def __init__(self, network: PosteriorNetwork, prior: PyMCPrior, schema: DataSchema):
        self.network = network
        self.prior = prior
        self.schema = schema

    def sample(
        self,
        batch: DataBatch,
        draws: int = 1000,
        random_seed: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Draw from the posterior of each data set.

        Returns
        -------
        ndarray, shape (sets, draws, parameters)
            Constrained; always inside the prior's support.
        """
        return self.prior.constrain(self.sample_unconstrained(batch, draws, random_seed)[0])

    @torch.no_grad()
    def sample_unconstrained(
        self,
        batch: DataBatch,
        draws: int = 1000,
        random_seed: int | np.random.Generator | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw in the prior model's unconstrained space.

        Returns
        -------
        unconstrained : ndarray, shape (sets, draws, unconstrained)
        log_q : ndarray, shape (sets, draws)
            Normalised log density of each draw, in the same space.
        """
        condition = self._condition(batch)
        generator = torch.Generator(device=condition.device)
        generator.manual_seed(int(np.random.default_rng(random_seed).integers(2**63)))
        values, densities = [], []
        for part in condition.split(max(1, ROWS_AT_ONCE // draws)):
            drawn = self.network.sample(draws, part, generator)
            log_q = self.network.log_prob(drawn, part[:, None].expand(-1, draws, -1))
            values.append(drawn.double().cpu().numpy())
            densities.append(log_q.double().cpu().numpy())
        return np.concatenate(values), np.concatenate(densities)

    def log_prob(self, parameters: np.ndarray, batch: DataBatch) -> np.ndarray:
        """Log density of constrained parameters.

        Parameters
        ----------
        parameters : ndarray, shape (sets, draws, parameters)
        batch : DataBatch

        Returns
        -------
        ndarray, shape (sets, draws)
            With respect to the constrained parameters, as the prior's density is.
        """
        unconstrained = self.prior.unconstrain(parameters)
        return self.log_prob_unconstrained(unconstrained, batch) - self.prior.log_abs_det_jacobian(
            unconstrained
        )

    @torch.no_grad()
    def log_prob_unconstrained(self, unconstrained: np.ndarray, batch: DataBatch) -> np.ndarray:
        """Log density in the unconstrained space; shapes as in `log_prob`."""
        condition = self._condition(batch)
        draws = unconstrained.shape[1]
        values = torch.as_tensor(unconstrained, dtype=condition.dtype, device=condition.device)
        size = max(1, ROWS_AT_ONCE // draws)
        parts = [
            self.network.log_prob(u, c[:, None].expand(-1, draws, -1))
            for u, c in zip(values.split(size), condition.split(size), strict=True)
        ]
        return torch.cat(parts).double().cpu().numpy()

    @torch.no_grad()
    def summarize(self, batch: DataBatch) -> np.ndarray:
        """Learned summary statistics, shape (sets, summaries)."""
        return self._summary(batch)[0].cpu().numpy()

    def _summary(self, batch: DataBatch) -> tuple[torch.Tensor, torch.Tensor]:
        like = self.network.parameter_mean
        observables = torch.as_tensor(batch.observables).to(like)
        n_obs = torch.as_tensor(batch.n_obs, device=like.device)
        conditions = (
            torch.as_tensor(batch.conditions).to(like) if batch.conditions.shape[-1] else None
        )
        return self.network.summarize(observables, n_obs, conditions), n_obs

    def _condition(self, batch: DataBatch) -> torch.Tensor:
        return self.network.condition(*self._summary(batch))


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
        For each observable, whether it was positive in all simulations.
    history : TrainingHistory
    model : GenerativeModel, optional
        The simulator; None after loading from a file without it.

    Attributes
    ----------
    posterior : PosteriorApproximator
    likelihood : LikelihoodApproximator

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
    ):
        if not len(history):
            raise ValueError(
                "these networks are untrained: an approximator comes from jana_pymc.fit or "
                "jana_pymc.load."
            )
        self.network = network
        self.settings = settings
        self.prior = prior
        self.schema = schema
        self.region = region
        self.positive = tuple(positive)
        self.history = history
        self.model = model
        self.posterior = PosteriorApproximator(network.posterior, prior, schema)
        self.likelihood = LikelihoodApproximator(network.likelihood, prior.layout, schema, region)

    @property
    def layout(self) -> ParameterLayout:
        """Names, shapes, dims and coords of the parameters."""
        return self.prior.layout

    def sample(
        self,
        data: Any,
        *,
        draws: int = 1000,
        chains: int = 4,
        observed_name: str = "y",
        groups: Sequence[str] = GROUPS,
        random_seed: int | np.random.Generator | None = None,
    ) -> inference_data.ArviZData:
        """Draw from the amortized posterior of one data set or many.

        Parameters
        ----------
        data : mapping, DataFrame, Dataset, or sequence of these
            See `DataSchema.batch`. Many data sets add a dimension "dataset".
        draws, chains : int
            The draws are independent; they are laid out as chains, which diagnostics expect.
        observed_name : str
            Name of the variable in the log_likelihood group: that of the observed variable in the
            PyMC model with which this result is to be compared.
        groups : sequence of str
            Which of "posterior", "log_likelihood", "posterior_predictive", "prior" and
            "observed_data" to compute. "sample_stats" comes with the log-likelihood: ``lp``, the
            log joint density, and ``log_q``, both over unconstrained parameters.
        random_seed : int or Generator, optional

        Returns
        -------
        InferenceData or DataTree
            Whichever the installed ArviZ uses.

        Raises
        ------
        ValueError
            If the data do not fit the declared observables, or a group is unknown.
        """
        unknown = sorted(set(groups) - set(GROUPS))
        if unknown:
            raise ValueError(f"groups={unknown} are unknown; choose from {list(GROUPS)}.")
        rng = np.random.default_rng(random_seed)
        batch = self.schema.batch(data)
        single = len(batch) == 1 and not isinstance(data, (list, tuple))
        u, log_q = self.posterior.sample_unconstrained(batch, draws * chains, rng)
        parameters = self.prior.constrain(u)

        def chained(values: np.ndarray) -> np.ndarray:
            values = inference_data.split_chains(values, chains)
            return values[0] if single else values

        result = {"posterior": inference_data.parameter_dataset(chained(parameters), self.layout)}
        if "log_likelihood" in groups:
            pointwise = self._pointwise(parameters, batch)
            lp = self.prior.log_prob(u) + np.nansum(pointwise, -1)
            result["sample_stats"] = inference_data.sample_stats_dataset(
                {"lp": chained(lp), "log_q": chained(log_q)}
            )
            result["log_likelihood"] = inference_data.log_likelihood_dataset(
                chained(pointwise), observed_name
            )
        if "posterior_predictive" in groups:
            result["posterior_predictive"] = inference_data.observable_dataset(
                chained(self._predictive(parameters, batch, rng)), self.schema.observables
            )
        if "prior" in groups:
            prior = self.prior.draw(draws, rng)[None]
            result["prior"] = inference_data.parameter_dataset(prior, self.layout)
        if "observed_data" in groups:
            observed = batch.observables[0] if single else batch.observables
            result["observed_data"] = inference_data.observable_dataset(
                observed, self.schema.observables
            )
        if "posterior" not in groups:
            del result["posterior"]
        return inference_data.to_inference_data(result)

    def log_prob(self, parameters: Any, data: Any) -> np.ndarray:
        """Normalised log q(θ | x) of constrained parameters.

        Parameters
        ----------
        parameters : mapping of str to array, shape (*shape) or (draws, *shape)
            One array for each parameter.
        data : mapping, DataFrame or Dataset
            One data set.

        Returns
        -------
        ndarray, shape () or (draws,)
        """
        flat = self.layout.flatten(parameters)
        batch = self.schema.batch(data)
        values = self.posterior.log_prob(flat.reshape(1, -1, self.layout.size), batch)
        return values.reshape(flat.shape[:-1])

    def save(self, path: str | Path) -> Path:
        """Write everything but the prior model and the simulator into one safetensors file.

        The old file stays whole until the new one is; nothing is pickled.
        """
        configuration = {
            "settings": self.settings.to_dict(),
            "schema": self.schema.to_dict(),
            "layout": self.layout.to_dict(),
            "n_unconstrained": self.prior.n_unconstrained,
            "region": np.asarray(self.region).tolist(),
            "positive": list(self.positive),
            "history": asdict(self.history),
            "prior_fingerprint": self.prior.fingerprint(),
        }
        storage.write(Path(path), self.network.state_dict(), configuration, kind=KIND)
        return Path(path)

    def _pointwise(self, parameters: np.ndarray, batch: DataBatch) -> np.ndarray:
        """Log densities of each data set's observations under its own draws, NaN for padding."""
        sets, draws, _ = parameters.shape
        result = np.full((sets, draws, batch.observables.shape[1]), np.nan)
        for i, n in enumerate(batch.n_obs):
            conditions = batch.conditions[i, :n] if batch.conditions.shape[-1] else None
            result[i, :, :n] = self.likelihood.log_prob(
                batch.observables[i, :n], parameters[i], conditions=conditions
            )
        return result

    def _predictive(
        self, parameters: np.ndarray, batch: DataBatch, rng: np.random.Generator
    ) -> np.ndarray:
        """Surrogate data sets of each draw, padded like the observed ones."""
        sets, draws, _ = parameters.shape
        result = np.full((sets, draws, *batch.observables.shape[1:]), np.nan)
        for i, n in enumerate(batch.n_obs):
            conditions = batch.conditions[i : i + 1, :n] if batch.conditions.shape[-1] else None
            if conditions is not None:
                conditions = np.broadcast_to(conditions, (draws, *conditions.shape[1:]))
            result[i, :, :n] = self.likelihood.simulate(
                parameters[i], int(n), conditions=conditions, random_seed=rng
            )
        return result


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
        The prior it was trained with; a file holds no code, so the model cannot be in it.
    device : str
        Where the networks evaluate; "auto" takes a CUDA device where there is one.

    Returns
    -------
    JointApproximator

    Raises
    ------
    FileNotFoundError, StorageError
        If the file is missing, truncated, foreign, or of a newer version.
    ValueError
        If the prior is not the one that the pair was trained with.
    """
    tensors, configuration = storage.read(Path(path), kind=KIND)
    model = prior if isinstance(prior, GenerativeModel) else None
    if isinstance(prior, GenerativeModel):
        prior = prior.prior
    prior = prior if isinstance(prior, PyMCPrior) else PyMCPrior(prior)
    _check_prior(prior, configuration)
    schema = DataSchema.from_dict(configuration["schema"])
    settings = NetworkSettings.from_dict(configuration["settings"])
    network = build_network(
        schema, prior.layout, prior.n_unconstrained, configuration["positive"], settings
    )
    network.load_state_dict(tensors)
    return JointApproximator(
        network.to(resolve_device(device)).eval(),
        settings=settings,
        prior=prior,
        schema=schema,
        region=np.asarray(configuration["region"]),
        positive=configuration["positive"],
        history=TrainingHistory(**configuration["history"]),
        model=model,
    )


def _check_prior(prior: PyMCPrior, configuration: dict[str, Any]) -> None:
    trained = ParameterLayout.from_dict(configuration["layout"])
    ours, theirs = (
        {n: layout.shapes[n] for n in layout.names} for layout in (prior.layout, trained)
    )
    if ours != theirs:
        raise ValueError(
            f"the prior has parameters {ours}, but the file was trained with {theirs}."
        )
    fingerprint = np.asarray(configuration["prior_fingerprint"])
    if not np.allclose(fingerprint, prior.fingerprint(), rtol=1e-6, atol=1e-8):
        raise ValueError(
            "the prior's density differs from that of the prior the pair was trained with; an "
            "amortized posterior is tied to its prior. Pass the same model, or train anew."
        )
