r"""The likelihood of the epidemic in closed form, to hold networks against.

All randomness is in the reports: given the parameters they are independent, and with the expected
reports x of :func:`~jana_pymc.tasks.epidemic.expected_reports` and the distribution
function F of Student's t with 4 degrees of freedom, whole reports have

.. math::
    P(k) = F\Big(\frac{k + 1/2 - x}{\sigma \sqrt{x}}\Big)
         - F\Big(\frac{k - 1/2 - x}{\sigma \sqrt{x}}\Big), \qquad
    P(0) = F\Big(\frac{1/2 - x}{\sigma \sqrt{x}}\Big).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from jana_pymc.tasks.epidemic.prior import SERIES
from jana_pymc.tasks.epidemic.reports import series_of_reports
from jana_pymc.tasks.epidemic.simulator import (
    DEGREES_OF_FREEDOM,
    N_PEOPLE,
    OBSERVABLES,
    expected_reports,
)

Values = NDArray[np.float64]

NARROW = 1e-3
"""For narrower cells, density in the middle times width is as good as the probability."""


def log_likelihood(
    reports: Mapping[str, ArrayLike],
    *,
    n_people: float = N_PEOPLE,
    original: bool = False,
    **parameters: ArrayLike,
) -> Values:
    """Log probability of whole reports, day by day.

    Parameters
    ----------
    reports : mapping of str to array, shape (n_obs,) or (n_sets, n_obs)
        ``cases``, ``recoveries`` and ``deaths``, in whole people. One data set may meet many
        parameters.
    n_people, original, **parameters
        As for :func:`~jana_pymc.tasks.epidemic.simulator`.

    Returns
    -------
    ndarray, shape (n_obs,) or (n_sets, n_obs)
        Joint log probability of the three reports of each day.

    Raises
    ------
    TypeError
        If parameters are missing, or unknown.
    ValueError
        If reports are missing, not of the same shape, negative or not whole, or parameters have not
        the shape () or (n_sets, 1).
    """
    counts = series_of_reports(reports)
    for name, values in counts.items():
        if (values != np.rint(values)).any():
            raise ValueError(
                f"reports of {name!r} are not whole, as {values[values != np.rint(values)][0]:g}; "
                "expected whole people, as from epidemic(whole=True)."
            )
    sets = counts[OBSERVABLES[0]].shape[:-1]
    for name, value in parameters.items():
        shape = np.shape(value)
        if shape and (shape[-1] != 1 or (sets and shape[:-1] not in ((), sets))):
            some = (*sets, 1) if sets else ("n_sets", 1)
            raise ValueError(f"parameter {name!r} has shape {shape}; expected () or {some}.")
    expected = expected_reports(
        n_obs=counts[OBSERVABLES[0]].shape[-1],
        n_people=n_people,
        original=original,
        **parameters,
    )
    total = np.zeros(())
    for name, series in zip(OBSERVABLES, SERIES, strict=True):
        scale = np.sqrt(expected[name]) * np.asarray(parameters[f"sigma_{series}"])
        total = total + _log_probability(counts[name], expected[name], scale)
    return total


def _log_probability(counts: Values, expected: Values, scale: Values) -> Values:
    with np.errstate(divide="ignore", under="ignore"):
        scale = np.maximum(scale, 1e-12)  # nobody is expected, and there is no noise either
        upper, lower = ((counts + end - expected) / scale for end in (0.5, -0.5))
        # By symmetry, differences in the upper tail are those of small numbers in the lower.
        flip = lower > 0.0
        upper, lower = np.where(flip, -lower, upper), np.where(flip, -upper, lower)
        below = np.where(counts == 0.0, 0.0, student_t.cdf(lower, DEGREES_OF_FREEDOM))
        above = student_t.cdf(upper, DEGREES_OF_FREEDOM)
        cell = np.log(above - below)
        middle = student_t.logpdf(0.5 * (upper + lower), DEGREES_OF_FREEDOM) - np.log(scale)
    return np.where((counts > 0.0) & (scale * NARROW > 1.0), middle, cell)
