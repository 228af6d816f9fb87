"""A start for samplers where the density of the data is positive."""

from __future__ import annotations

import numpy as np
import pymc as pm
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor.compile.mode import Mode

PRIOR_DRAWS = 500

INTERPRETED = Mode(linker="py", optimizer=None)
"""A few hundred densities are not worth compiling for, which takes half a minute."""


def initvals(
    model: pm.Model | None = None, *, random_seed: int | np.random.Generator | None = None
) -> dict[str, np.ndarray]:
    """Find initial values for `pymc.sample` at which the model's density is positive.

    A parameter that bounds an observable, such as t0 < rt, starts at its prior's centre, often
    beyond the most extreme observation, and PyMC then finds no start: the density is zero there.

    Parameters
    ----------
    model : pm.Model, optional
        The one on the context stack by default.
    random_seed : int or Generator, optional
        For the prior draws among which a start is sought.

    Returns
    -------
    dict of str to ndarray
        Empty if PyMC's own start will do; else the prior draw with the highest log density, one
        value for each free variable.

    Raises
    ------
    ValueError
        If the density is zero at all of 500 prior draws.

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
    if np.isfinite(model.compile_logp(mode=INTERPRETED)(model.initial_point())):
        return {}
    names = [rv.name for rv in model.free_RVs]
    draws = pm.draw(model.free_RVs, draws=PRIOR_DRAWS, random_seed=random_seed, mode=INTERPRETED)
    log_density = remove_value_transforms(model).compile_logp(mode=INTERPRETED)
    points = [dict(zip(names, values, strict=True)) for values in zip(*draws, strict=True)]
    scores = np.array([log_density(point) for point in points])
    if not np.isfinite(scores).any():
        raise ValueError(
            f"the density is zero at PyMC's start and at {PRIOR_DRAWS} prior draws: prior and data "
            "contradict each other, or the prior is so wide that a start must be given by hand, "
            "pm.sample(initvals={...})."
        )
    return points[int(np.nanargmax(np.where(np.isfinite(scores), scores, -np.inf)))]
