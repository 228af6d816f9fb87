r"""The paper's form of the data: series without their scale, and their scale as known conditions.

Each series is standardised by its own mean m and standard deviation s over time, both in thousands
of people, and :math:`\log_2(1 + m)` and :math:`\log_2(1 + s)` are conditions of both networks.
These are computed from the data that are to be predicted. A likelihood of such data is therefore no
:math:`p(x \mid \theta)`: it gives no evidence, no information criterion, and can simulate only
with the mean and the standard deviation of an epidemic that is known. It repeats the paper's
figures; for anything else take :func:`~jana_pymc.tasks.epidemic.epidemic` as it is by default.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.tasks.epidemic.reports import series_of_reports
from jana_pymc.tasks.epidemic.simulator import OBSERVABLES, simulator

Values = NDArray[np.float64]

THOUSAND = 1e3
"""The paper counts thousands of people."""

SCALES = tuple(f"log2_{statistic}_{name}" for statistic in ("mean", "sd") for name in OBSERVABLES)
"""Names of the conditions, in the order of the paper."""


def standardized_reports(reports: Mapping[str, ArrayLike]) -> dict[str, Values]:
    """Take the scale out of daily reports.

    Parameters
    ----------
    reports : mapping of str to array, shape (..., n_obs)
        ``cases``, ``recoveries`` and ``deaths`` in people per day, as from
        :func:`~jana_pymc.tasks.epidemic.load_reports`.

    Returns
    -------
    dict of str to ndarray, shape (..., n_obs)
        The series, each with mean 0 and standard deviation 1 over time (a constant one is 0), and
        the conditions ``log2_mean_cases`` to ``log2_sd_deaths``, the same on each day.

    Raises
    ------
    ValueError
        If a series is missing, empty or of another shape than the first, has a value that is no
        finite number, or one below zero by more than rounding.

    Examples
    --------
    >>> reports = {name: [0.0, 2000.0] for name in ("cases", "recoveries", "deaths")}
    >>> data = standardized_reports(reports)
    >>> data["cases"], data["log2_mean_cases"]
    (array([-1.,  1.]), array([1., 1.]))
    """
    return _standardized(series_of_reports(reports))


def _standardized(reports: Mapping[str, ArrayLike]) -> dict[str, Values]:
    series: dict[str, Values] = {}
    scales: dict[str, Values] = {}
    for name in OBSERVABLES:
        values = np.asarray(reports[name], dtype=np.float64) / THOUSAND
        mean = values.mean(axis=-1, keepdims=True)
        sd = values.std(axis=-1, keepdims=True)
        series[name] = (values - mean) / np.where(sd > 0.0, sd, 1.0)
        for statistic, value in (("mean", mean), ("sd", sd)):
            repeated = np.broadcast_to(np.log2(1.0 + value), values.shape)
            scales[f"log2_{statistic}_{name}"] = repeated.copy()
    return {**series, **{name: scales[name] for name in SCALES}}


def restored_reports(data: Mapping[str, ArrayLike]) -> dict[str, Values]:
    """Give series their scale back: the inverse of `standardized_reports`.

    Parameters
    ----------
    data : mapping of str to array, shape (..., n_obs)
        Standardised series and the conditions.

    Returns
    -------
    dict of str to ndarray, shape (..., n_obs)
        In people per day. Some surrogate series may be negative.

    Raises
    ------
    ValueError
        If a series or a condition is missing.
    """
    missing = [name for name in (*OBSERVABLES, *SCALES) if name not in data]
    if missing:
        raise ValueError(
            f"data lack {', '.join(missing)}; expected standardised series and their conditions, "
            "as from standardized_reports."
        )
    restored = {}
    for name in OBSERVABLES:
        mean, sd = (
            np.exp2(np.asarray(data[f"log2_{statistic}_{name}"], dtype=np.float64)) - 1.0
            for statistic in ("mean", "sd")
        )
        restored[name] = THOUSAND * (mean + sd * np.asarray(data[name], dtype=np.float64))
    return restored


def standardized_simulator(
    rng: np.random.Generator,
    *,
    n_obs: int,
    n_people: float,
    original: bool,
    whole: bool,
    **parameters: ArrayLike,
) -> dict[str, Values]:
    """Simulate, and take the scale out; parameters are those of the simulator."""
    return _standardized(
        simulator(rng, n_obs=n_obs, n_people=n_people, original=original, whole=whole, **parameters)
    )
