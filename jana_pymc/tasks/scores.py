"""Scores of a trained pair against reference posteriors, kept on disk as they are made."""

from __future__ import annotations

import hashlib
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jana_pymc.approximators import JointApproximator
from jana_pymc.files import replacing
from jana_pymc.importance import pareto_k_threshold
from jana_pymc.refinement import CANDIDATES, RefinedDraws, refine
from jana_pymc.simulation import DataBatch
from jana_pymc.storage import digest
from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.c2st import c2st
from jana_pymc.tasks.references import ReferencePosteriors
from jana_pymc.tasks.run_folder import read_identified, write_json

__all__ = ["fingerprint", "score"]

CHAINS = 4


@dataclass(frozen=True, eq=False)
class ScoredDraws:
    """Amortized and refined posterior draws of one observation.

    Attributes
    ----------
    amortized, refined : ndarray, shape (draws, parameters)
        Constrained, in the order of the literature.
    method : str
        How they were refined: "pooled", "psis" or "nuts".
    pareto_k : float
        k̂ of the weights by which amortized draws were refined (`RefinedDraws`).
    effective_share : float
        Share of effective draws among all that were weighted.
    divergences : int
        Number of divergences of NUTS.
    amortized_seconds, refined_seconds : float
        Wall time of drawing; compilation of NUTS is part of the latter.
    """

    amortized: NDArray[np.float32]
    refined: NDArray[np.float32]
    method: str
    pareto_k: float
    effective_share: float
    divergences: int
    amortized_seconds: float
    refined_seconds: float


@dataclass(frozen=True)
class ObservationScore:
    """Scores of one observation.

    Attributes
    ----------
    num_observation : int
    c2st_amortized, c2st_refined : float
        See `jana_pymc.tasks.c2st`.
    pareto_k, effective_share : float
    method : str
    divergences : int
    seconds : dict of str to float
        Wall time of ``amortized`` and ``refined`` draws, and of both scores, ``c2st``.
    """

    num_observation: int
    c2st_amortized: float
    c2st_refined: float
    pareto_k: float
    effective_share: float
    method: str
    divergences: int
    seconds: dict[str, float]


def score(
    approximator: JointApproximator,
    task: Task,
    references: ReferencePosteriors,
    *,
    folder: Path,
    draws: int = 10_000,
    n_jobs: int = 2,
    random_seed: int = 0,
    report: Callable[[str], None] = lambda message: None,
) -> list[ObservationScore]:
    """Score all observations; what the folder holds already is not done again.

    All observations are drawn for before the first is scored, so that a run that is cut short has
    finished what is quick. Each observation has its own random numbers: its draws depend on neither
    the others nor the order.

    Parameters
    ----------
    approximator : JointApproximator
    task : Task
    references : ReferencePosteriors
    folder : Path
        Gets ``draws/observation_N.npz`` and ``scores/observation_N.json``. Files of another pair,
        observation or number of draws are written anew.
    draws : int
        Number of each kind, for each observation: a multiple of 4. If there are fewer reference
        draws, the scores compare as many.
    n_jobs : int
        Processes that share the work of a score.
    random_seed : int
    report : callable
        Called with a line for each observation.

    Returns
    -------
    list of ObservationScore
    """
    key = fingerprint(approximator)
    drawn = [
        observation_draws(
            approximator,
            task,
            references.observation[i],
            path=folder / "draws" / f"observation_{number}.npz",
            draws=draws,
            key=key,
            random_seed=random_seed,
        )
        for i, number in enumerate(references.num_observation)
    ]
    scores = []
    for i, number in enumerate(references.num_observation):
        path = folder / "scores" / f"observation_{number}.json"
        each = _score_one(int(number), drawn[i], references.draws[i], path, key, n_jobs)
        report(
            f"observation {each.num_observation}: C2ST {each.c2st_amortized:.3f} amortized, "
            f"{each.c2st_refined:.3f} refined ({each.method}, k {each.pareto_k:.2f})"
        )
        scores.append(each)
    return scores


def observation_draws(
    approximator: JointApproximator,
    task: Task,
    observation: NDArray[np.float64],
    *,
    path: Path,
    draws: int,
    key: str,
    random_seed: int,
) -> ScoredDraws:
    """Amortized and refined draws for one flat data set, from the file if it holds them."""
    if draws < CHAINS or draws % CHAINS:
        raise ValueError(f"draws={draws}: expected a positive multiple of {CHAINS}.")
    # The content identifies an observation; its number may stand for another one elsewhere.
    weight = approximator.pool_weight
    identity = f"{key} {weight} {draws} {random_seed} {_digest(observation)}"
    stored = _stored_draws(path, identity)
    if stored is not None:
        return stored
    batch = approximator.schema.batch([task.data(observation)])
    rng = np.random.default_rng([random_seed, zlib.crc32(observation.tobytes())])
    approximator.posterior.sample(batch, CHAINS, random_seed=0)  # compiles the prior's functions
    start = time.perf_counter()
    amortized = approximator.posterior.sample(batch, draws, random_seed=rng)[0]
    middle = time.perf_counter()
    refined = _refined(approximator, batch, draws, rng)
    result = ScoredDraws(
        amortized=amortized.astype(np.float32),
        refined=approximator.prior.constrain(refined.unconstrained[0]).astype(np.float32),
        method=str(refined.method[0]),
        pareto_k=float(refined.pareto_k[0]),
        effective_share=float(refined.effective_share[0]),
        divergences=int(refined.divergences[0]),
        amortized_seconds=middle - start,
        refined_seconds=time.perf_counter() - middle,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"identity": identity, **vars(result)}
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)
    return result


def _refined(
    approximator: JointApproximator, batch: DataBatch, draws: int, rng: np.random.Generator
) -> RefinedDraws:
    """Draws from the pooled posterior; by NUTS where importance weights cannot reach it."""
    pooled = refine(approximator, batch, draws, method="pooled", random_seed=rng)
    if pooled.pareto_k[0] <= pareto_k_threshold(CANDIDATES * draws):
        return pooled
    return refine(approximator, batch, draws, method="auto", chains=CHAINS, random_seed=rng)


def fingerprint(approximator: JointApproximator) -> str:
    """Hash of all weights, by which draws and scores are kept apart from another pair's."""
    weights = approximator.network.state_dict()
    return digest({name: tensor.cpu() for name, tensor in weights.items()})[:16]


def _score_one(
    number: int,
    drawn: ScoredDraws,
    reference: NDArray[np.float64],
    path: Path,
    key: str,
    n_jobs: int,
) -> ObservationScore:
    n = min(len(reference), len(drawn.amortized))
    identity = f"{key} {_digest(drawn.amortized, drawn.refined)} {_digest(reference)}"
    cached = {"seconds": 0.0} | read_identified(path, identity)
    for kind, values in (("amortized", drawn.amortized), ("refined", drawn.refined)):
        if kind not in cached:
            start = time.perf_counter()
            all_of_both = len(reference) == len(values)
            cached[kind] = c2st(
                reference, values, n_draws=None if all_of_both else n, n_jobs=n_jobs
            )
            cached["seconds"] += time.perf_counter() - start
            write_json(path, cached)
    return ObservationScore(
        num_observation=number,
        c2st_amortized=cached["amortized"],
        c2st_refined=cached["refined"],
        pareto_k=drawn.pareto_k,
        effective_share=drawn.effective_share,
        method=drawn.method,
        divergences=drawn.divergences,
        seconds={
            "amortized": drawn.amortized_seconds,
            "refined": drawn.refined_seconds,
            "c2st": cached["seconds"],
        },
    )


def _stored_draws(path: Path, identity: str) -> ScoredDraws | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["identity"]) != identity:
                return None
            arrays = {name: file[name] for name in ScoredDraws.__dataclass_fields__}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    values = {name: a.item() if a.ndim == 0 else a for name, a in arrays.items()}
    return ScoredDraws(**values)


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for each in arrays:
        digest.update(np.ascontiguousarray(each).tobytes())
    return digest.hexdigest()[:16]
