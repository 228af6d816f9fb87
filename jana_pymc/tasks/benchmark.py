"""What a benchmark task consists of: a generative model, its flat layout, exact answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.simulation import GenerativeModel, RandomSeed, Simulations, seed_sequence

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
LogLikelihood: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""``log_likelihood(x, theta)``, whose leading axes broadcast."""

PosteriorSampler: TypeAlias = Callable[
    [np.random.Generator, NDArray[np.float64], int], NDArray[np.float64]
]
"""``sample(rng, x, n)`` gives n exact posterior draws for one data set."""

PAPER_SEED = 42
"""Seed of the paper's test sets."""

_PILOT_DRAWS = 2


@dataclass(frozen=True, eq=False)
class OneByOne:
    """The paper's way to simulate: one draw after the other from a single generator.

    Parameters
    ----------
    prior : callable
        ``prior(rng)`` gives one parameter vector.
    simulator : callable
        ``simulator(rng, theta)`` gives one data set as a vector.
    """

    prior: Callable[[np.random.Generator], NDArray[np.float64]]
    simulator: Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Task:
    """A benchmark task.

    Data sets come in two forms. The model's own declares their structure: observations, sequences,
    counts, conditions. The flat form is the vector of numbers that the literature calls x;
    :meth:`data` and :meth:`flatten` lead from one to the other.

    Parameters
    ----------
    name, definition : str
    model : GenerativeModel
        Flattened by its layout, the parameters have the order of the literature.
    x_size : int
        Length of the flat form.
    unflatten : callable
        From flat data sets (..., x_size) to arrays by name, those of the conditions included.
    flatten_arrays : callable
        Its inverse.
    log_likelihood_of : callable or None
        Exact log-likelihood ``(x, theta)``, if there is one.
    is_normalized : bool
        False if the log-likelihood lacks a term that depends on x alone.
    posterior_sampler : callable or None
        Exact posterior draws ``(rng, x, n)``, if they can be had.
    one_by_one : OneByOne or None
        The paper's own order of random numbers, where the definition is the paper's.
    """

    name: str
    definition: str
    model: GenerativeModel
    x_size: int
    unflatten: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
    flatten_arrays: Callable[[Arrays], NDArray[np.float64]]
    log_likelihood_of: LogLikelihood | None = None
    is_normalized: bool = True
    posterior_sampler: PosteriorSampler | None = None
    one_by_one: OneByOne | None = None

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {self.definition!r})"

    def data(self, x: ArrayLike) -> dict[str, Any] | list[dict[str, Any]]:
        """Bring flat data sets into the form that the model and its approximators take.

        Parameters
        ----------
        x : array_like, shape (x_size,) or (sets, x_size)

        Returns
        -------
        dict of str to ndarray, or list of dict
            One data set, or as many as there are rows.
        """
        values = self._checked_x(x)
        if values.ndim == 1:
            return self.unflatten(values)
        if values.ndim != 2:
            raise ValueError(
                f"x has shape {values.shape}; expected ({self.x_size},) or (sets, {self.x_size})."
            )
        return [self.unflatten(row) for row in values]

    def flatten(self, simulations: Simulations) -> NDArray[np.float64]:
        """Flat form of simulated data sets, shape (simulations, x_size)."""
        schema = self.model.schema
        names = [*schema.observables, *schema.conditions]
        return self.flatten_arrays({name: simulations.dataset[name].values for name in names})

    def log_likelihood(self, x: ArrayLike, theta: ArrayLike) -> NDArray[np.float64]:
        """Exact log-likelihood.

        Parameters
        ----------
        x : array_like, shape (..., x_size)
            Flat data sets.
        theta : array_like, shape (..., parameters)
            Leading axes broadcast against those of `x`.

        Returns
        -------
        ndarray, shape (...)
            Without a term that depends on x alone if not ``is_normalized``.

        Raises
        ------
        ValueError
            If the task has no likelihood in closed form, or shapes do not fit.
        """
        if self.log_likelihood_of is None:
            raise ValueError(f"{self!r} has no likelihood in closed form.")
        return self.log_likelihood_of(self._checked_x(x), self._checked_theta(theta))

    def sample_posterior(
        self, x: ArrayLike, n: int, *, random_seed: RandomSeed = None
    ) -> NDArray[np.float64]:
        """Draw exactly from the posterior.

        Parameters
        ----------
        x : array_like, shape (x_size,)
        n : int
        random_seed : int, Generator or None

        Returns
        -------
        ndarray, shape (n, parameters)

        Raises
        ------
        ValueError
            If the task has no such sampler, or shapes do not fit.
        """
        if self.posterior_sampler is None:
            raise ValueError(f"{self!r} has no exact posterior sampler.")
        values = self._checked_x(x)
        if values.ndim != 1:
            raise ValueError(
                f"x has shape {values.shape}; expected one data set, ({self.x_size},)."
            )
        rng = np.random.default_rng(seed_sequence(random_seed))
        return self.posterior_sampler(rng, values, n)

    def test_set(self, n: int = 1000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Make the paper's test set: all parameters, then all data, one draw after the other.

        One generator serves both. The authors' software simulates two data sets first, to check
        itself; they are drawn here, too, and thrown away.

        Parameters
        ----------
        n : int
            Number of data sets; the paper has 1000. Fewer are not the first of more, since all
            parameters are drawn before the first data set.

        Returns
        -------
        theta : ndarray, shape (n, parameters)
        x : ndarray, shape (n, x_size)
            Flat data sets.

        Raises
        ------
        ValueError
            If the definition is not the paper's.
        """
        if self.one_by_one is None:
            raise ValueError(
                f"{self!r} has no stored test set; take definition='paper', or simulate."
            )
        rng = np.random.default_rng(PAPER_SEED)
        for size in (_PILOT_DRAWS, n):
            theta = np.stack([self.one_by_one.prior(rng) for _ in range(size)])
            x = np.stack([self.one_by_one.simulator(rng, row) for row in theta])
        return theta, x

    def _checked_x(self, x: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(x, dtype=np.float64)
        if values.ndim == 0 or values.shape[-1] != self.x_size:
            raise ValueError(f"x has shape {values.shape}; {self!r} expects (..., {self.x_size}).")
        return values

    def _checked_theta(self, theta: ArrayLike) -> NDArray[np.float64]:
        values, size = np.asarray(theta, dtype=np.float64), self.model.layout.size
        if values.ndim == 0 or values.shape[-1] != size:
            raise ValueError(f"theta has shape {values.shape}; {self!r} expects (..., {size}).")
        return values


def vector_form(
    size: int,
) -> tuple[
    Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]],
    Callable[[Arrays], NDArray[np.float64]],
]:
    """Ways from one form to the other for a single vector ``x``, in which both are the same."""

    def unflatten(x: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {"x": x}

    def flatten(arrays: Arrays) -> NDArray[np.float64]:
        return arrays["x"].reshape(-1, size)

    return unflatten, flatten


def check_definition(
    name: str, definition: str, known: Collection[str] = ("paper", "benchmark")
) -> None:
    """Refuse a definition that a task does not have."""
    if definition not in known:
        raise ValueError(
            f"{name} has no definition {definition!r}; it must be one of "
            f"{', '.join(map(repr, known))}."
        )
