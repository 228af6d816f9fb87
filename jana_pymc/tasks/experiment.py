"""One benchmark task from end to end: train, calibrate, score, and write all of it to a folder."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jana_pymc.approximators import JointApproximator, load
from jana_pymc.checks import check_count
from jana_pymc.fitting import MINIMUM_SIMULATIONS, fit
from jana_pymc.plots import plot_history, plot_posterior_pairs, plot_ranks_ecdf
from jana_pymc.tasks.benchmark import Task
from jana_pymc.tasks.c2st import scikit_learn
from jana_pymc.tasks.losses import losses
from jana_pymc.tasks.references import ReferencePosteriors
from jana_pymc.tasks.registry import TASKS
from jana_pymc.tasks.registry import task as build_task
from jana_pymc.tasks.run_folder import (
    OPTIONS,
    check_options,
    make_folder,
    read_identified,
    read_json,
    write_json,
    write_options,
)
from jana_pymc.tasks.scores import CHAINS, fingerprint, observation_draws, score
from jana_pymc.training import TrainingSettings, resolve_device, trained_with
from jana_pymc.workflow import Calibration, calibration

__all__ = ["QUICK", "ExperimentProtocol", "prepare_task"]

BOTH = "both"
NETWORKS, TRAINING = "approximator.safetensors", "training.json"
CHECKPOINT = "training.checkpoint"
PACKAGES = (
    *("jana_pymc", "torch", "pymc", "pytensor", "arviz"),
    *("numpy", "scipy", "scikit-learn", "xarray"),
)
# Random numbers of the stages are apart from each other and from those of training.
_CALIBRATION, _TEST, _EVIDENCE = 20, 21, 22


@dataclass(frozen=True)
class ExperimentProtocol:
    """How much is simulated, drawn and scored. No task has settings of its own.

    Parameters
    ----------
    n_simulations : int
        To train on, validation included.
    draws : int
        Posterior draws that are scored, for each observation.
    n_calibration, calibration_draws : int
        Fresh data sets for SBC and for JSBC, and posterior draws of each.
    n_test : int
        Fresh data sets for the losses.
    training : TrainingSettings or None
        None for those that `jana_pymc.fit` takes by default.
    """

    n_simulations: int = 10_000
    draws: int = 10_000
    n_calibration: int = 1_000
    calibration_draws: int = 250
    n_test: int = 1_000
    training: TrainingSettings | None = None

    def __post_init__(self) -> None:
        check_count("n_simulations", self.n_simulations, least=MINIMUM_SIMULATIONS)
        for name in ("n_calibration", "calibration_draws", "n_test"):
            check_count(name, getattr(self, name))
        if check_count("draws", self.draws) % CHAINS:
            raise ValueError(f"draws={self.draws}: expected a multiple of {CHAINS}.")


QUICK = ExperimentProtocol(1_000, 1_000, 200, 100, 200, TrainingSettings(n_steps=300))
"""To see that everything runs; the numbers mean nothing."""


def prepare_task(
    name: str,
    output: str | Path,
    *,
    definition: str | None = None,
    reference: str | Path | None = None,
    protocol: ExperimentProtocol = ExperimentProtocol(),
    random_seed: int = 1,
    n_jobs: int = 2,
    device: str = "auto",
    progressbar: bool = True,
    report: Callable[[str], None] = lambda message: None,
) -> Callable[[], dict[str, Any]]:
    """Check all that can be wrong with a run before it takes hours.

    The run trains on a task, checks its calibration, and scores it against reference posteriors.
    What is finished stays in the folder: a run that was cut short goes on where it stopped.

    Parameters
    ----------
    name : str
        One of `jana_pymc.tasks.TASKS`.
    output : str or Path
        Folder, made if need be. It gets ``scores.json``, figures, the trained pair, and the draws
        and scores of each observation.
    definition : str, optional
        By default the benchmark's with a reference, since its reference posteriors belong to that,
        and the paper's without. ``"both"`` trains in either, in folders of their own, and takes
        calibration and losses from the paper's, scores from the benchmark's.
    reference : str or Path, optional
        File of observations and reference posteriors, see `ReferencePosteriors.load`.
    protocol : ExperimentProtocol
    random_seed : int
    n_jobs : int
        Processes for scoring.
    device : str
        As for `jana_pymc.fit`.
    progressbar : bool
    report : callable
        Called with a line about each stage.

    Returns
    -------
    callable
        Does all of it, and returns the content of ``scores.json``. What it raises is not caused by
        the arguments.

    Raises
    ------
    ValueError
        If there is no such task or definition, the file does not fit it, or the folder holds a run
        with other options, or with options or networks that cannot be read.
    OSError
        If the file does not exist, or the folder cannot be written.
    ImportError
        With a reference, without scikit-learn.
    """
    output = Path(output)
    check_count("random_seed", random_seed, least=0)
    check_count("n_jobs", n_jobs)
    resolve_device(device)
    if definition is None:
        definition = "paper" if reference is None else "benchmark"
    options: dict[str, Any] = {
        "protocol": protocol,
        "random_seed": random_seed,
        "n_jobs": n_jobs,
        "device": device,
        "progressbar": progressbar,
        "report": report,
    }
    if definition == BOTH:
        return _prepare_both_definitions(name, output, reference, **options)
    try:
        task = build_task(name, definition)
    except ValueError as error:
        if name in TASKS:
            raise ValueError(f"{error} A run may also take {BOTH!r}.") from error
        raise
    return _Run(task, output, reference, **options).scores


def _prepare_both_definitions(
    name: str, output: Path, reference: str | Path | None, **options: Any
) -> Callable[[], dict[str, Any]]:
    """Prepare a task as the paper has it and as the benchmark has it, once if they are the same."""
    paper, benchmark = build_task(name, "paper"), build_task(name, "benchmark")
    same = _same(paper, benchmark)
    claimed = _options(name, BOTH, options["protocol"], options["random_seed"])
    check_options(output, claimed)
    if same:
        options["report"](f"{name}: both definitions are the same model")
        first = second = _Run(paper, output / "paper", reference, **options)
    else:
        # The one with the file first: if that is wrong, no folder is made.
        second = _Run(benchmark, output / "benchmark", reference, **options)
        first = _Run(paper, output / "paper", None, **options)
    write_options(output, claimed)

    def scores() -> dict[str, Any]:
        calibrated = first.scores()
        return _scores_of_both(output, calibrated, calibrated if same else second.scores())

    return scores


def _scores_of_both(
    output: Path, calibrated: dict[str, Any], scored: dict[str, Any]
) -> dict[str, Any]:
    """Calibration and losses of the paper's definition, the rest of the benchmark's."""
    from_paper = ("sbc", "jsbc", "sbc_inside", "jsbc_inside", "losses")
    scores = {
        **scored,
        **{key: calibrated[key] for key in from_paper},
        "definition": BOTH,
        "definition_of": {
            "c2st": scored["definition"],
            **dict.fromkeys(from_paper, calibrated["definition"]),
        },
        "train_seconds": max(scored["train_seconds"], calibrated["train_seconds"]),
        "runs": {each["definition"]: each for each in (calibrated, scored)},
    }
    write_json(output / "scores.json", scores)
    return scores


class _Run:
    """A task in one definition and one folder; everything that can be wrong is checked first."""

    def __init__(
        self,
        task: Task,
        output: Path,
        reference: str | Path | None,
        *,
        protocol: ExperimentProtocol,
        random_seed: int,
        n_jobs: int,
        device: str,
        progressbar: bool,
        report: Callable[[str], None],
    ):
        self.task = task
        self.output = output
        self.protocol = protocol
        self.random_seed = random_seed
        self.n_jobs = n_jobs
        self.device = device
        self.progressbar = progressbar
        self.report = report
        self.references = self.reference_file = None
        if reference is not None:
            scikit_learn()
            self.references = ReferencePosteriors.load(reference, task)
            digest = hashlib.sha256(Path(reference).read_bytes()).hexdigest()
            self.reference_file = {"name": Path(reference).name, "sha256": digest}
        make_folder(output)
        options = _options(task.name, task.definition, protocol, random_seed)
        check_options(output, options)
        self.trained = self._read_trained()
        write_options(output, options)

    def scores(self) -> dict[str, Any]:
        """All stages; the file is written after each, and says whether it is complete."""
        approximator = self._train() if self.trained is None else self.trained
        trained = read_json(self.output / TRAINING)
        result: dict[str, Any] = {
            "task": self.task.name,
            "definition": self.task.definition,
            "random_seed": self.random_seed,
            "protocol": asdict(self.protocol),
            "reference": self.reference_file,
            "train_seconds": trained["train_seconds"],
            "validation": {
                "posterior": approximator.history.best_posterior,
                "likelihood": approximator.history.best_likelihood,
                "steps": approximator.history.step[-1],
            },
            "pool_weight": approximator.pool_weight,
            "settings": {
                "network": approximator.settings.to_dict(),
                "training": trained["training"],
            },
            "versions": trained["versions"],
            "complete": False,
        }
        self._save(plot_history(approximator.history), "history.png")
        result |= self._calibrate(approximator)
        write_json(self.output / "scores.json", result)
        result["losses"] = self._losses(approximator)
        write_json(self.output / "scores.json", result)
        if self.references is not None:
            result |= self._score(approximator, self.references)
        result["complete"] = True
        write_json(self.output / "scores.json", result)
        return result

    def _read_trained(self) -> JointApproximator | None:
        """The pair that an earlier run has trained in this folder."""
        path = self.output / NETWORKS
        if not path.exists():
            return None
        for name in (OPTIONS, TRAINING):
            if not (self.output / name).exists():
                raise ValueError(
                    f"{str(self.output)!r} holds networks, but no {name} that says how they were "
                    "trained. Choose another folder, or delete this one."
                )
        approximator = load(path, self.task.model, device=self.device)
        self.report(f"{self.task!r}: trained before, read from {path}")
        return approximator

    def _train(self) -> JointApproximator:
        self.report(f"{self.task!r}: training on {self.protocol.n_simulations} simulations")
        start = time.perf_counter()
        approximator = fit(
            self.task.model,
            n_simulations=self.protocol.n_simulations,
            random_seed=self.random_seed,
            checkpoint=self.output / CHECKPOINT,
            device=self.device,
            progressbar=self.progressbar,
            training=self.protocol.training,
        )
        # The history counts interrupted parts, too; the clock here, simulation.
        seconds = max(time.perf_counter() - start, approximator.history.seconds[-1])
        record = {
            "train_seconds": seconds,
            "versions": _versions(),
            "training": trained_with(self.output / CHECKPOINT),
        }
        write_json(self.output / TRAINING, record)
        approximator.save(self.output / NETWORKS)
        return approximator

    def _calibrate(self, approximator: JointApproximator) -> dict[str, Any]:
        path, figure = self.output / "calibration.json", self.output / "calibration.png"
        n, draws = self.protocol.n_calibration, self.protocol.calibration_draws
        identity = f"{fingerprint(approximator)} {n} {draws} {self.random_seed}"
        stored = read_identified(path, identity)
        if "calibration" in stored and figure.exists():
            return stored["calibration"]
        self.report(f"{self.task!r}: SBC and JSBC on {n} data sets")
        simulations = self.task.model.simulate(
            n, random_seed=self._for_calibration().spawn(1)[0], progressbar=self.progressbar
        )
        checks = {
            key: calibration(
                approximator,
                simulations,
                draws=draws,
                joint=joint,
                random_seed=self._for_calibration(),
                progressbar=self.progressbar,
            )
            for key, joint in (("sbc", False), ("jsbc", True))
        }
        both = {"posterior": checks["sbc"], "joint": checks["jsbc"]}
        self._save(plot_ranks_ecdf(both), figure.name)
        result: dict[str, Any] = {}
        for key, check in checks.items():
            result[key] = _verdicts(check)
            result[f"{key}_inside"] = all(check.inside().values())
            result[f"{key}_inside_familywise"] = all(check.inside(familywise=True).values())
        write_json(path, stored | {"calibration": result})
        return result

    def _for_calibration(self) -> np.random.Generator:
        """Generator of both checks; the first one that it spawns is for their data."""
        return np.random.default_rng([self.random_seed, _CALIBRATION])

    def _losses(self, approximator: JointApproximator) -> dict[str, Any]:
        path, n = self.output / "losses.json", self.protocol.n_test
        identity = f"{fingerprint(approximator)} {n} {self.random_seed}"
        stored = read_identified(path, identity)
        if "losses" not in stored:
            self.report(f"{self.task!r}: losses on {n} data sets")
            made = self.task.model.simulate(
                n, random_seed=np.random.default_rng([self.random_seed, _TEST]), progressbar=False
            )
            found = losses(
                approximator,
                self.task,
                made.parameters,
                self.task.flatten(made),
                random_seed=np.random.default_rng([self.random_seed, _EVIDENCE]),
            )
            write_json(path, stored | {"losses": asdict(found)})
        return read_json(path)["losses"]

    def _score(
        self, approximator: JointApproximator, references: ReferencePosteriors
    ) -> dict[str, Any]:
        self.report(f"{self.task!r}: scoring {len(references)} observations")
        self._plot_pairs(approximator, references)
        scores = score(
            approximator,
            self.task,
            references,
            folder=self.output,
            draws=self.protocol.draws,
            n_jobs=self.n_jobs,
            random_seed=self.random_seed,
            report=self.report,
        )
        return {
            "c2st_amortized_mean": float(np.mean([each.c2st_amortized for each in scores])),
            "c2st_refined_mean": float(np.mean([each.c2st_refined for each in scores])),
            "observations": [asdict(each) for each in scores],
        }

    def _plot_pairs(self, approximator: JointApproximator, references: ReferencePosteriors) -> None:
        """Plot the posteriors of the first observation, from the draws that will be scored."""
        number = int(references.num_observation[0])
        name = f"pairs_observation_{number}.png"
        drawn = observation_draws(
            approximator,
            self.task,
            references.observation[0],
            path=self.output / "draws" / f"observation_{number}.npz",
            draws=self.protocol.draws,
            key=fingerprint(approximator),
            random_seed=self.random_seed,
        )
        names = approximator.layout.component_names
        sets = {
            "reference": references.draws[0],
            "amortized": drawn.amortized,
            f"refined ({drawn.method})": drawn.refined,
        }
        true = references.true_parameters
        figure = plot_posterior_pairs(
            {label: dict(zip(names, each.T, strict=True)) for label, each in sets.items()},
            true=None if true is None else dict(zip(names, true[0].tolist(), strict=True)),
        )
        self._save(figure, name)

    def _save(self, figure: Figure, name: str) -> None:
        figure.savefig(self.output / name, dpi=120)


def _options(
    name: str, definition: str, protocol: ExperimentProtocol, random_seed: int
) -> dict[str, Any]:
    """By what a folder is recognised: all that its networks depend on."""
    return {
        "task": name,
        "definition": definition,
        "n_simulations": protocol.n_simulations,
        "random_seed": random_seed,
        "training": None if protocol.training is None else asdict(protocol.training),
    }


def _same(first: Task, second: Task) -> bool:
    """Whether two definitions are one model: the same numbers from the same seed."""
    if first.x_size != second.x_size or first.model.schema != second.model.schema:
        return False
    made = [
        each.model.simulate(16, random_seed=1, progressbar=False).dataset
        for each in (first, second)
    ]
    return bool(made[0].equals(made[1]))


def _verdicts(check: Calibration) -> dict[str, dict[str, Any]]:
    inside = check.inside()
    return {
        name: {"inside": bool(inside[name]), "p_value": p_value}
        for name, p_value in check.p_values.items()
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
