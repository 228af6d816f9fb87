"""Data of the diffusion model from files: real trials, and data sets with exact answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

PARAMETERS = ("v", "a", "t0", "w")
Trials = dict[str, np.ndarray]


def read_trials(path: Path, rt: str, response: str, group: str | None) -> dict[str, Trials]:
    """Read one trial a row; trials of one group (all of them without a group) are one data set."""
    table = pd.read_csv(path)
    columns = [name for name in (rt, response, group) if name is not None]
    missing = [name for name in columns if name not in table]
    if missing:
        raise SystemExit(f"{path} has no column {missing}; its columns are {list(table)}.")
    kept = table.dropna(subset=columns)
    if len(kept) < len(table):
        print(
            f"{len(table) - len(kept)} of {len(table)} trials have nothing in one of the columns "
            f"{columns}: left out."
        )
    groups = kept.groupby(group) if group is not None else [("all", kept)]
    return {
        str(name): {
            "rt": part[rt].to_numpy(float),
            "response": (part[response].to_numpy(float) > 0).astype(int),
        }
        for name, part in groups
    }


def read_datasets(
    path: Path, rows: slice | np.ndarray = slice(None)
) -> tuple[list[Trials], np.ndarray]:
    """Data sets of arrays ``signed_rt`` and ``n_trials``, and their parameters, (sets, 4)."""
    with np.load(path) as file:
        theta = file["theta"][rows].astype(float)
        signed, n_trials = file["signed_rt"][rows].astype(float), file["n_trials"][rows]
    trials = [
        {"rt": np.abs(times[:n]), "response": (times[:n] > 0).astype(int)}
        for times, n in zip(signed, n_trials, strict=True)
    ]
    return trials, theta


def read_exact(path: Path, limit: int | None) -> dict[str, np.ndarray]:
    """Exact answers for the first so many data sets; ``dataset`` says which these are."""
    with np.load(path) as file:
        return {name: values[:limit] for name, values in file.items()}
