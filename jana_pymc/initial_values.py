"""Initial values for samplers at which the density of the data is positive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pymc as pm
import pytensor
from pytensor.compile.mode import Mode
from pytensor.graph.replace import clone_replace

PRIOR_DRAWS = 500

SWAPS = 30
"""Other draws whose values are tried for an element of a variable."""

INTERPRETED = Mode(linker="py", optimizer=None)
"""For a few hundred densities, compilation, which takes half a minute, does not pay off."""

Point = list[np.ndarray]
"""A value for each free variable."""


def initvals(
    model: pm.Model | None = None, *, random_seed: int | np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """Find initial values for `pymc.sample` at which the model's density is positive.

    PyMC starts a parameter at the centre of its prior. If the parameter bounds an observable, as in
    t0 < rt, this is often beyond the most extreme observation, where the density is zero.

    Parameters
    ----------
    model : pm.Model, optional
        By default the model on the context stack.
    random_seed : int or Generator, optional
        Seed of the prior draws among which a start is sought.

    Returns
    -------
    dict of str to ndarray
        Empty if PyMC's own start has a positive density. Otherwise a value for each free variable:
        the prior draw with the highest log density or, if all draws are impossible, a draw whose
        elements are exchanged for those of other draws until it is possible.

    Raises
    ------
    TypeError
        If `model` is no PyMC model.
    ValueError
        If no start is found, or prior draws are not possible.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model() as model:
    ...     t0 = pm.Uniform("t0", 0.0, 1.0)
    ...     rt = pm.Uniform("rt", t0, 2.0, observed=[0.3, 0.9])
    >>> bool(initvals(model, random_seed=1)["t0"] < 0.3)
    True
    """
    model = pm.modelcontext(model)
    if not isinstance(model, pm.Model):
        raise TypeError(f"model is a {type(model).__name__}, expected a pymc.Model.")
    if np.isfinite(model.compile_logp(mode=INTERPRETED)(model.initial_point())):
        return {}
    rng = np.random.default_rng(random_seed)
    free = model.free_RVs
    try:
        drawn = pm.draw(free, PRIOR_DRAWS, random_seed=int(rng.integers(2**31)), mode=INTERPRETED)
    except NotImplementedError as error:
        raise ValueError(
            "no start can be sought: the prior has a variable that cannot be drawn from, such as "
            "pm.Flat. Give a start by hand, pm.sample(initvals={...})."
        ) from error
    points = [list(values) for values in zip(*drawn, strict=True)]
    terms = _log_density_terms(model)
    scores = [_score(terms(*point)) for point in points]
    best = max(range(PRIOR_DRAWS), key=scores.__getitem__)
    point = points[best]
    if scores[best][0] < 0:
        point = _repaired(terms, points, best, rng)
    found = terms(*point)
    if _score(found)[0] < 0:
        variables = [*model.basic_RVs, *model.potentials]
        at_fault = [
            variable.name
            for variable, term in zip(variables, found, strict=True)
            if not np.isfinite(term).all()
        ]
        raise ValueError(
            f"the density of {', '.join(at_fault)} is zero at PyMC's start and at {PRIOR_DRAWS} "
            "prior draws: prior and data contradict each other, or the prior is so wide that a "
            "start must be given by hand, pm.sample(initvals={...})."
        )
    return {rv.name: value for rv, value in zip(free, point, strict=True)}


def _log_density_terms(model: pm.Model) -> Callable[..., list[np.ndarray]]:
    """Terms of the log density as a function of the free variables on their own scale."""
    inputs = {rv: rv.type() for rv in model.free_RVs}
    transformed = []
    for rv in model.free_RVs:
        transform = model.rvs_to_transforms[rv]
        transformed.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    of_inputs = dict(zip(values, clone_replace(transformed, inputs), strict=True))
    terms = clone_replace(model.logp(sum=False, jacobian=False), of_inputs)
    return pytensor.function(
        list(inputs.values()), terms, mode=INTERPRETED, on_unused_input="ignore"
    )


def _score(terms: Sequence[np.ndarray]) -> tuple[int, float]:
    """Minus the number of impossible terms, and the log density of the others."""
    flat = np.concatenate([np.ravel(term) for term in terms])
    possible = np.isfinite(flat)
    return -int((~possible).sum()), float(flat[possible].sum())


def _repaired(
    terms: Callable[..., list[np.ndarray]], points: list[Point], best: int, rng: np.random.Generator
) -> Point:
    """Exchange elements for those of other draws as long as fewer terms are impossible.

    With many groups, each with its own bound, hardly any draw is possible for all groups.
    """
    point = [np.array(value) for value in points[best]]
    possible = _score(terms(*point))[0]
    for i, value in enumerate(point):
        for element in np.ndindex(value.shape[:1]):
            for other in rng.choice(len(points), SWAPS, replace=False):
                if possible == 0:
                    return point
                trial = value.copy()
                trial[element] = points[other][i][element]
                found = _score(terms(*point[:i], trial, *point[i + 1 :]))[0]
                if found > possible:
                    point[i] = value = trial
                    possible = found
    return point
