"""Amortized draws made better by the likelihood: importance resampling, and NUTS from there on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pymc as pm
from pymc.model.fgraph import clone_model
from pymc.step_methods.hmc.quadpotential import QuadPotentialFull
from scipy.special import gammaln

from jana_pymc.importance import ImportanceWeights, pareto_k_threshold, pareto_smooth
from jana_pymc.simulation import DataBatch, PyMCPrior
from jana_pymc.trained_region import leaning, warn_of_leaning

if TYPE_CHECKING:
    from jana_pymc.approximators import JointApproximator

Refinement = Literal["none", "pooled", "psis", "nuts", "auto"]
REFINEMENTS: tuple[Refinement, ...] = ("none", "pooled", "psis", "nuts", "auto")

CANDIDATES = 4
"""Amortized draws made for each that is kept, so that resampling repeats few of them."""

DRAWS_AT_ONCE = 400_000
"""Amortized draws that are in memory at once."""

DEGREES = 4.0
"""Of freedom of the Student-t distribution that lends its tails to proposals."""

VERY_FAR = 1e8
"""An unconstrained value beyond which no parameter goes."""

TUNE = 300
"""Steps in which NUTS finds its step size; the metric is that of the amortized draws."""


@dataclass(frozen=True, eq=False)
class RefinedDraws:
    """Posterior draws of many data sets, and what was done to them.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, draws, unconstrained)
        Chains one after the other.
    log_q : ndarray, shape (sets, draws)
        Log density of the amortized posterior at the draws.
    method : ndarray of str, shape (sets,)
        "none", "pooled", "psis" or "nuts": what each data set got.
    pareto_k : ndarray, shape (sets,)
        Of the amortized draws as proposals for what they were refined to; NaN if not computed.
    effective_share : ndarray, shape (sets,)
        Effective draws among the amortized ones, as a share; NaN if not computed.
    divergences : ndarray of int, shape (sets,)
        Of NUTS; zero for others.
    """

    unconstrained: np.ndarray
    log_q: np.ndarray
    method: np.ndarray
    pareto_k: np.ndarray
    effective_share: np.ndarray
    divergences: np.ndarray

    def __len__(self) -> int:
        return len(self.method)


def refine(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    *,
    method: Refinement = "auto",
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
) -> RefinedDraws:
    """Draw from the posterior of each data set, refined as asked.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        From ``approximator.schema.batch(data)``.
    draws : int
        In all, a multiple of `chains`.
    method : {"none", "pooled", "psis", "nuts", "auto"}
        "pooled" and "psis" resample by importance, see `psis`; "auto" does so as "psis", and runs
        NUTS where k̂ says that this is not enough.
    chains : int
        Chains of NUTS.
    random_seed : int or Generator, optional

    Returns
    -------
    RefinedDraws
    """
    if method not in REFINEMENTS:
        raise ValueError(f"refine={method!r} is unknown; choose from {list(REFINEMENTS)}.")
    rng = np.random.default_rng(random_seed)
    if method == "none":
        return _amortized(approximator, batch, draws, rng)
    weight = _pool_weight(approximator) if method == "pooled" else 1.0
    resampled = psis(approximator, batch, draws, pool_weight=weight, random_seed=rng)
    if method in ("psis", "pooled"):
        return resampled
    threshold = pareto_k_threshold(CANDIDATES * draws)
    chosen = np.arange(len(batch)) if method == "nuts" else resampled.pareto_k > threshold
    chosen = np.arange(len(batch))[chosen]
    if not len(chosen):
        return resampled
    return nuts(
        approximator, batch, starts=resampled, datasets=chosen, chains=chains, random_seed=rng
    )


def psis(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    *,
    pool_weight: float = 1.0,
    random_seed: int | np.random.Generator | None = None,
) -> RefinedDraws:
    r"""Importance resampling of amortized draws.

    Ratios :math:`[l(x \mid \theta) \, p(\theta) / q(\theta \mid x)]^\alpha` in the prior's
    unconstrained space, Pareto-smoothed, resample four times as many amortized draws as are kept.
    With α = 1 the result follows the posterior that likelihood network and prior imply, as far as
    k̂ allows; with a smaller one, the pool of that and the amortized posterior
    (`learn_pool_weight`). Where k̂ is too high, the proposal gets heavier tails first (`defend`).

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    draws : int
        Kept of each data set.
    pool_weight : float
        α, from 0 to 1.
    random_seed : int or Generator, optional

    Returns
    -------
    RefinedDraws
    """
    rng = np.random.default_rng(random_seed)
    parts = []
    for part in _parts(len(batch), CANDIDATES * draws):
        proposed = propose(
            approximator, batch[part], CANDIDATES * draws, pool_weight, random_seed=rng
        )
        if (proposed.weights.pareto_k > proposed.weights.threshold).any():
            proposed = defend(approximator, batch[part], proposed, rng)
        weights = proposed.weights
        kept = weights.resample(draws, rng)
        parts.append(
            RefinedDraws(
                unconstrained=np.take_along_axis(proposed.unconstrained, kept[..., None], 1),
                log_q=np.take_along_axis(proposed.log_q, kept, 1),
                method=np.full(len(kept), "psis" if pool_weight == 1.0 else "pooled"),
                pareto_k=weights.pareto_k,
                effective_share=weights.effective_draws / weights.draws,
                divergences=np.zeros(len(kept), dtype=int),
            )
        )
    return _concatenate(parts)


def nuts(
    approximator: JointApproximator,
    batch: DataBatch,
    *,
    starts: RefinedDraws,
    datasets: np.ndarray | None = None,
    chains: int = 4,
    tune: int = TUNE,
    random_seed: int | np.random.Generator | None = None,
) -> RefinedDraws:
    """NUTS on prior and neural likelihood, started from amortized draws.

    Chains start at draws of the data set's own, and the metric is their covariance, so that only
    the step size is left to be tuned. The model is compiled once for all data sets.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    starts : RefinedDraws
        Amortized or resampled draws; as many draws are returned.
    datasets : ndarray of int, optional
        Positions of the data sets to sample; the others keep their `starts`. All by default.
    chains, tune : int
    random_seed : int or Generator, optional

    Returns
    -------
    RefinedDraws

    Raises
    ------
    ValueError
        If draws are no multiple of chains, or variables were observed in the prior's model.
    """
    rng = np.random.default_rng(random_seed)
    draws = starts.unconstrained.shape[1]
    if draws % chains:
        raise ValueError(f"{draws} draws cannot be laid out as {chains} chains of equal length.")
    datasets = np.arange(len(batch)) if datasets is None else np.asarray(datasets, dtype=int)
    unconstrained, log_q = starts.unconstrained.copy(), starts.log_q.copy()
    method, divergences = starts.method.astype("<U4"), starts.divergences.copy()
    if len(datasets):
        sampler = _Sampler(approximator, batch[datasets[:1]])
        for i in datasets:
            drawn, divergences[i] = sampler.sample(
                batch[np.array([i])], starts.unconstrained[i], chains=chains, tune=tune, rng=rng
            )
            unconstrained[i] = drawn
            method[i] = "nuts"
        drawn = approximator.prior.constrain(unconstrained[datasets])
        support = prior_support(approximator.prior)
        leaning_sets = [
            leaning(approximator.layout, approximator.likelihood.region, each, support)
            for each in drawn
        ]
        warn_of_leaning([found for each in leaning_sets for found in each])
        log_q[datasets] = approximator.posterior.log_prob_unconstrained(
            unconstrained[datasets], batch[datasets]
        )
    return RefinedDraws(
        unconstrained, log_q, method, starts.pareto_k, starts.effective_share, divergences
    )


def prior_support(prior: PyMCPrior) -> np.ndarray:
    """Where the prior ends, shape (2, parameters), as its transforms have it."""
    ends = np.array([[-1.0], [1.0]]) * np.full((1, prior.n_unconstrained), VERY_FAR)
    with np.errstate(over="ignore", invalid="ignore"):
        constrained = prior.constrain(ends)
    # Of joint transforms, such as those of a simplex, nothing is known this way.
    return np.where(np.isnan(constrained), np.array([[-np.inf], [np.inf]]), constrained)


@dataclass(frozen=True, eq=False)
class Proposed:
    """Amortized draws with all densities that importance sampling needs.

    Attributes
    ----------
    unconstrained : ndarray, shape (sets, draws, unconstrained)
    log_q, log_prior, log_likelihood : ndarray, shape (sets, draws)
        Of the draws, over unconstrained parameters; the likelihood summed over observations.
    weights : ImportanceWeights
        Pareto-smoothed, of the pool over the proposal.
    pool_weight : float
        The weight α of likelihood times prior in the pool; 1 leaves them alone.
    """

    unconstrained: np.ndarray
    log_q: np.ndarray
    log_prior: np.ndarray
    log_likelihood: np.ndarray
    weights: ImportanceWeights
    pool_weight: float = 1.0

    @property
    def log_ratios(self) -> np.ndarray:
        """Log likelihood + log prior − log q, shape (sets, draws); −inf where impossible."""
        return log_importance_ratios(self.log_likelihood, self.log_prior, self.log_q)


def propose(
    approximator: JointApproximator,
    batch: DataBatch,
    draws: int,
    pool_weight: float = 1.0,
    *,
    random_seed: int | np.random.Generator | None = None,
) -> Proposed:
    """Draw from the amortized posterior of each data set and weigh the draws.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
        All in memory at once: `sets` times `draws` should not exceed a few hundred thousand.
    draws : int
    pool_weight : float
        See `psis`.
    random_seed : int or Generator, optional

    Returns
    -------
    Proposed
    """
    rng = np.random.default_rng(random_seed)
    unconstrained, log_q = approximator.posterior.sample_unconstrained(batch, draws, rng)
    parameters = approximator.prior.constrain(unconstrained)
    log_prior = approximator.prior.log_prob(unconstrained)
    log_likelihood = np.stack(
        [
            log_likelihood_of(approximator, batch, i, parameters[i]).sum(axis=-1)
            for i in range(len(batch))
        ]
    )
    ratios = log_importance_ratios(log_likelihood, log_prior, log_q)
    weights = pareto_smooth(pool_weight * ratios)
    return Proposed(unconstrained, log_q, log_prior, log_likelihood, weights, pool_weight)


def defend(
    approximator: JointApproximator, batch: DataBatch, proposed: Proposed, rng: np.random.Generator
) -> Proposed:
    """Put heavy tails under proposals whose own are too light.

    Draws of a Student-t distribution with the weighted draws' mean and covariance join those of
    the amortized posterior, and all are weighed against the mixture of both [1]_.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    proposed : Proposed
    rng : Generator

    Returns
    -------
    Proposed
        With a fourth as many draws more. Those have no weight for data sets whose k̂ was low.

    References
    ----------
    .. [1] Hesterberg, T. (1995). Weighted average importance sampling and defensive mixture
       distributions. Technometrics, 37(2), 185-194.
    """
    n_sets, n, dim = proposed.unconstrained.shape
    n_new = n // 4
    weight = np.exp(proposed.weights.log_weights)[..., None]
    mean = (weight * proposed.unconstrained).sum(1, keepdims=True)
    deviation = proposed.unconstrained - mean
    covariance = np.einsum("sni,snj->sij", weight * deviation, deviation)
    ridge = 1e-6 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] / dim + 1e-12
    factor = np.linalg.cholesky(covariance + ridge * np.eye(dim))
    normal = rng.standard_normal((n_sets, n_new, dim))
    spread = np.sqrt(DEGREES / rng.chisquare(DEGREES, (n_sets, n_new, 1)))
    new = mean + spread * np.einsum("sij,snj->sni", factor, normal)

    both = np.concatenate([proposed.unconstrained, new], axis=1)
    log_q_new = approximator.posterior.log_prob_unconstrained(new, batch)
    parameters = approximator.prior.constrain(new)
    log_likelihood_new = [
        log_likelihood_of(approximator, batch, i, parameters[i]).sum(axis=-1) for i in range(n_sets)
    ]
    log_prior = np.concatenate([proposed.log_prior, approximator.prior.log_prob(new)], axis=1)
    log_likelihood = np.concatenate([proposed.log_likelihood, log_likelihood_new], axis=1)
    log_q = np.concatenate([proposed.log_q, log_q_new], axis=1)
    share = n_new / (n + n_new)
    log_tails = np.log(share) + _log_student_t(both - mean, factor)
    mixture = np.logaddexp(np.log1p(-share) + np.nan_to_num(log_q, nan=-np.inf), log_tails)
    a = proposed.pool_weight
    pooled = a * (log_likelihood + log_prior) + ((1.0 - a) * log_q if a < 1.0 else 0.0)
    ratios = log_importance_ratios(pooled, 0.0, mixture)
    good = proposed.weights.pareto_k <= proposed.weights.threshold
    ratios[good, :n], ratios[good, n:] = a * proposed.log_ratios[good], -np.inf
    return Proposed(both, log_q, log_prior, log_likelihood, pareto_smooth(ratios), a)


def _log_student_t(deviation: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Log density of `DEGREES` of freedom, of deviations (sets, n, dim) and Cholesky factors."""
    dim = deviation.shape[-1]
    solved = np.linalg.solve(factor[:, None], deviation[..., None])[..., 0]
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(-1)[:, None]
    constant = (
        gammaln((DEGREES + dim) / 2) - gammaln(DEGREES / 2) - dim / 2 * np.log(DEGREES * np.pi)
    )
    return constant - log_det - (DEGREES + dim) / 2 * np.log1p((solved**2).sum(-1) / DEGREES)


def log_likelihood_of(
    approximator: JointApproximator, batch: DataBatch, dataset: int, parameters: np.ndarray
) -> np.ndarray:
    """Log density of each observation of one data set under many parameter vectors.

    Parameters
    ----------
    approximator : JointApproximator
    batch : DataBatch
    dataset : int
        Position in the batch.
    parameters : ndarray, shape (draws, size)

    Returns
    -------
    ndarray, shape (draws, n_obs of the data set)
    """
    n = int(batch.n_obs[dataset])
    known = batch.conditions[dataset, :n] if batch.conditions.shape[-1] else None
    observed = batch.observables[dataset, :n]
    return approximator.likelihood.pointwise(observed, parameters, known)


class _Metric(QuadPotentialFull):
    """A dense metric that can be exchanged: the integrator holds on to the object."""

    def adopt(self, covariance: np.ndarray) -> None:
        super().__init__(covariance, rng=getattr(self, "rng", None))


class _Sampler:
    """NUTS for data sets of any size, compiled once."""

    def __init__(self, approximator: JointApproximator, example: DataBatch):
        prior = approximator.prior.model
        if prior.observed_RVs or prior.potentials:
            raise ValueError(
                "variables were observed in the prior's PyMC model after training; NUTS needs the "
                "prior alone. Add likelihoods to a copy of it."
            )
        self.approximator = approximator
        self.layout = approximator.layout
        self.model = clone_model(prior)
        taken = set(self.model.named_vars)
        self.names = [_free_name(name, taken) for name in ("observed", "known", "likelihood")]
        observed, known, likelihood = self.names
        with self.model:
            data = pm.Data(observed, _rows(example.observables, example))
            conditions = None
            if example.conditions.shape[-1]:
                conditions = pm.Data(known, _rows(example.conditions, example))
            parameters = {name: self.model[name] for name in self.layout.names}
            approximator.likelihood(likelihood, observed=data, conditions=conditions, **parameters)
            size = approximator.prior.n_unconstrained
            self.metric = _Metric(np.eye(size))
            self.step = pm.NUTS(potential=self.metric, target_accept=0.9)

    def sample(
        self,
        batch: DataBatch,
        starts: np.ndarray,
        *,
        chains: int,
        tune: int,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, int]:
        """Draws of one data set, shape (draws, unconstrained), and the number of divergences."""
        data = {self.names[0]: _rows(batch.observables, batch)}
        if batch.conditions.shape[-1]:
            data[self.names[1]] = _rows(batch.conditions, batch)
        prior = self.approximator.prior
        with self.model:
            pm.set_data(data)
            self.metric.adopt(self._covariance(starts))
            self.step.reset_tuning()
            chosen = rng.choice(len(starts), size=chains, replace=False)
            result = pm.sample(
                draws=len(starts) // chains,
                tune=tune,
                chains=chains,
                cores=1,
                step=self.step,
                initvals=[self.layout.unflatten(prior.constrain(starts[i])) for i in chosen],
                random_seed=int(rng.integers(2**31)),
                progressbar=False,
                compute_convergence_checks=False,
                quiet=True,
            )
        drawn = {
            name: np.asarray(result["posterior"][name]).reshape(len(starts), *shape)
            for name, shape in self.layout.shapes.items()
        }
        divergences = int(np.asarray(result["sample_stats"]["diverging"]).sum())
        return prior.unconstrain(self.layout.flatten(drawn)), divergences

    def _covariance(self, starts: np.ndarray) -> np.ndarray:
        """Covariance of the starts, in the order in which the sampler holds the variables."""
        prior = self.approximator.prior.model
        point = self.model.initial_point()
        sizes = {
            value.name: point[value.name].size
            for value in map(prior.rvs_to_values.get, prior.free_RVs)
        }
        ends = dict(zip(sizes, np.cumsum(list(sizes.values())), strict=True))
        order = [range(ends[v.name] - sizes[v.name], ends[v.name]) for v in self.step.vars]
        covariance = np.atleast_2d(np.cov(starts.T))
        # Resampled draws may repeat few points; a ridge keeps the metric positive definite.
        covariance += np.eye(len(covariance)) * (1e-3 * np.diag(covariance).mean() + 1e-10)
        index = np.concatenate([np.asarray(r, dtype=int) for r in order])
        return covariance[np.ix_(index, index)]


def _amortized(
    approximator: JointApproximator, batch: DataBatch, draws: int, rng: np.random.Generator
) -> RefinedDraws:
    unconstrained, log_q = approximator.posterior.sample_unconstrained(batch, draws, rng)
    unknown = np.full(len(batch), np.nan)
    return RefinedDraws(
        unconstrained,
        log_q,
        np.full(len(batch), "none"),
        unknown,
        unknown,
        np.zeros(len(batch), dtype=int),
    )


def _pool_weight(approximator: JointApproximator) -> float:
    if approximator.pool_weight is None:
        raise ValueError(
            'refine="pooled": this pair was saved before pool weights were learned. Set '
            "approximator.pool_weight = jana_pymc.learn_pool_weight(approximator, simulations), "
            "with some hundred simulations that it was not trained on."
        )
    return approximator.pool_weight


def log_importance_ratios(
    log_likelihood: np.ndarray, log_prior: np.ndarray | float, log_q: np.ndarray
) -> np.ndarray:
    """Log likelihood + log prior − log q; −inf where one of them is not finite.

    Once in 10⁵ draws or so the flow lands so far out that its density underflows in single
    precision; the prior's is then far smaller yet.
    """
    with np.errstate(invalid="ignore"):
        ratios = log_likelihood + log_prior - log_q
    return np.where(np.isfinite(ratios), ratios, -np.inf)


def _parts(n_sets: int, rows_per_set: int) -> Iterator[slice]:
    size = max(1, DRAWS_AT_ONCE // rows_per_set)
    return (slice(start, start + size) for start in range(0, n_sets, size))


def _concatenate(parts: list[RefinedDraws]) -> RefinedDraws:
    fields = RefinedDraws.__dataclass_fields__
    return RefinedDraws(**{f: np.concatenate([getattr(p, f) for p in parts]) for f in fields})


def _rows(values: np.ndarray, batch: DataBatch) -> np.ndarray:
    return values[0, : int(batch.n_obs[0])]


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def warn_unreliable(pareto_k: np.ndarray, draws: int, advice: str) -> None:
    """Warn of data sets whose importance weights cannot be relied on."""
    threshold = pareto_k_threshold(draws)
    bad = int((pareto_k > threshold).sum())
    if bad:
        warnings.warn(
            f"Pareto k is above {threshold:.2f} for {bad} of {pareto_k.size} data sets (largest "
            f"{pareto_k.max():.2f}): the amortized posterior misses part of the posterior that "
            f"likelihood and prior imply, and importance weights do not mend it. {advice}",
            UserWarning,
            stacklevel=3,
        )
