"""Reference posteriors of a benchmark task, read from a file and checked."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jana_pymc.tasks.benchmark import Task

__all__ = ["ReferencePosteriors"]

REQUIRED = ("observation", "reference_posterior")
OPTIONAL = ("true_parameters", "num_observation")
MINIMUM_DRAWS = 100

# Files may hold single precision: numbers, and a few draws at the edge of the prior, are rounded.
_ROUNDING = 1e-6
_AT_THE_EDGE = 0.01


@dataclass(frozen=True, eq=False)
class ReferencePosteriors:
    """Observations of a task with draws from their posteriors.

    Parameters
    ----------
    observation : ndarray, shape (k, x_size)
        In the task's flat form.
    draws : ndarray, shape (k, draws, parameters)
        Reference posterior draws, parameters in the order of the literature.
    true_parameters : ndarray, shape (k, parameters) or None
    num_observation : ndarray of int, shape (k,)
        Numbers by which observations are known.
    """

    observation: NDArray[np.float64]
    draws: NDArray[np.float64]
    true_parameters: NDArray[np.float64] | None
    num_observation: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.observation)

    @classmethod
    def load(cls, path: str | Path, task: Task) -> ReferencePosteriors:
        """Read an ``.npz`` file.

        Parameters
        ----------
        path : str or Path
            Its arrays are ``observation`` (k, x_size) and ``reference_posterior`` (k, draws,
            parameters), and if known ``true_parameters`` (k, parameters) and ``num_observation``
            (k,); without the latter observations are numbered from 1. Others are ignored.
        task : Task
            To which the observations belong.

        Returns
        -------
        ReferencePosteriors

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such file, its arrays do not fit the task, or they are of another task or
            form: observations that the task cannot make, more than one draw in a hundred outside
            of its prior, or draws that are all the same.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {str(path)!r} with reference posteriors.")
        arrays = _read(path)
        observation = _numbers(path, arrays, "observation")
        if observation.ndim != 2 or not len(observation):
            raise _wrong(path, "observation", observation, f"(k, {task.x_size})", task)
        k, size = len(observation), task.model.layout.size
        if observation.shape[1] != task.x_size:
            raise _wrong(path, "observation", observation, f"(k, {task.x_size})", task)
        draws = _numbers(path, arrays, "reference_posterior")
        if draws.ndim != 3 or (draws.shape[0], draws.shape[2]) != (k, size):
            raise _wrong(path, "reference_posterior", draws, f"({k}, draws, {size})", task)
        if draws.shape[1] < MINIMUM_DRAWS:
            raise ValueError(
                f"{str(path)!r}: {draws.shape[1]} draws in reference_posterior are too few to "
                f"compare with; expected {MINIMUM_DRAWS} or more, 10,000 as published."
            )
        true, order = _true(path, arrays, k, size, task), _order(path, arrays, k)
        _check_observations(path, observation, task)
        _check_draws(path, draws, order, task)
        return cls(observation, draws, true, order)


def _read(path: Path) -> dict[str, NDArray]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive of arrays")
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in REQUIRED if name not in file]
            if not missing:
                return {name: file[name] for name in (*REQUIRED, *OPTIONAL) if name in file}
            found = ", ".join(file)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable .npz file of numbers ({error}); expected one written "
            "by numpy.savez."
        ) from error
    raise ValueError(
        f"{str(path)!r} lacks {', '.join(missing)}; it has {found or 'no arrays'}. Expected "
        f"{', '.join(REQUIRED)}, and if known {', '.join(OPTIONAL)}."
    )


def _true(
    path: Path, arrays: dict[str, NDArray], k: int, size: int, task: Task
) -> NDArray[np.float64] | None:
    if "true_parameters" not in arrays:
        return None
    values = _numbers(path, arrays, "true_parameters")
    if values.shape != (k, size):
        raise _wrong(path, "true_parameters", values, f"({k}, {size})", task)
    return values


def _order(path: Path, arrays: dict[str, NDArray], k: int) -> NDArray[np.int64]:
    if "num_observation" not in arrays:
        return np.arange(1, k + 1)
    values = arrays["num_observation"]
    if values.shape != (k,) or values.dtype.kind not in "iu" or len(np.unique(values)) != k:
        raise ValueError(
            f"{str(path)!r}: num_observation is {values.tolist()}; expected {k} different whole "
            "numbers."
        )
    return values.astype(np.int64)


def _check_observations(path: Path, observation: NDArray[np.float64], task: Task) -> None:
    """Refuse data of another task, or in another form, that have the right size by chance."""
    advice = f"Is the file of another task, or of another definition than {task.definition!r}?"
    try:
        task.model.schema.batch(task.data(observation))
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r}: observation holds no data of {task!r}: {error} {advice}"
        ) from error
    again = task.flatten_arrays(task.unflatten(observation))
    wrong = ~np.isclose(again, observation, rtol=_ROUNDING, atol=_ROUNDING)
    if wrong.any():
        i, j = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{str(path)!r}: observation[{i}, {j}] is {observation[i, j]:g}; in the form of "
            f"{task!r} it would be {again[i, j]:g}. {advice}"
        )


def _check_draws(
    path: Path, draws: NDArray[np.float64], order: NDArray[np.int64], task: Task
) -> None:
    """Refuse draws that the prior cannot make, or that a classifier cannot be trained on."""
    outside = ~np.isfinite(task.model.prior.log_prob_constrained(draws))
    for number, of_one, out in zip(order.tolist(), draws, outside, strict=True):
        if out.mean() > _AT_THE_EDGE:
            raise ValueError(
                f"{str(path)!r}: {int(out.sum())} of {len(out)} draws of observation {number} in "
                f"reference_posterior lie outside of the prior of {task!r}, the first of them "
                f"{of_one[int(np.argmax(out))].tolist()}; expected constrained parameters in the "
                f"order {', '.join(task.model.layout.component_names)}."
            )
        same = of_one.min(axis=0) == of_one.max(axis=0)
        if same.any():
            name = task.model.layout.component_names[int(np.argmax(same))]
            raise ValueError(
                f"{str(path)!r}: all draws of observation {number} in reference_posterior have the "
                f"same {name}; expected draws from a posterior."
            )


def _numbers(path: Path, arrays: dict[str, NDArray], name: str) -> NDArray[np.float64]:
    values = arrays[name]
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{str(path)!r}: {name} has dtype {values.dtype}; expected numbers.")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{str(path)!r}: {np.sum(~np.isfinite(values))} values of {name} are not finite."
        )
    return values.astype(np.float64)


def _wrong(path: Path, name: str, values: NDArray, expected: str, task: Task) -> ValueError:
    return ValueError(
        f"{str(path)!r}: {name} has shape {values.shape}; {task!r} expects {expected}."
    )
