r"""A simulator of many epidemics at once: compartments, reports, noise.

In days k = 0, 1, …, of which the first 20 go by before the data begin,

.. math::
    E^+ &= \lambda_k (C + \beta I) S / N, \qquad I^+ = (1 - \alpha) \eta C, \\
    R^+ &= (1 - \delta) \mu I, \qquad D^+ = \delta d I, \\
    S &\leftarrow S - E^+, \qquad E \leftarrow E + E^+ - \gamma E, \\
    C &\leftarrow C + \gamma E - I^+ - \alpha \theta C, \qquad I \leftarrow I + I^+ - R^+ - D^+, \\
    R &\leftarrow R + \alpha \theta C + R^+, \qquad D \leftarrow D + D^+,

where no more are infected than are susceptible, and no compartment loses more than it has. (The
authors' program lets both happen, which the prior admits in 8 of 1,000 epidemics, and clips what
is left, so that people come into being.) On day :math:`\tau` of the data, a series X of I, R, D
reports

.. math::
    \max\{0, x_\tau + \sqrt{x_\tau}\, \sigma_X \epsilon_\tau\}, \qquad
    x_\tau = (1 - f_X(\tau))\, X^+_{\tau + 20 - L_X}, \qquad
    f_X(\tau) = (1 - A_X) (1 - |\sin(\pi \tau / 7 - \phi_X / 2)|),

where :math:`\epsilon` has a Student-t distribution with 4 degrees of freedom. Times, durations and
delays are rounded to whole days, and :math:`E_0` to a whole number, at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jana_pymc.tasks.epidemic.prior import MAX_DELAY, PARAMETERS, SERIES

N_PEOPLE = 83e6
OBSERVABLES = ("cases", "recoveries", "deaths")
"""People reported per day, in the order of the series."""

DEGREES_OF_FREEDOM = 4.0

Values = NDArray[np.float64]
Compartments = dict[str, Values]


def simulator(
    rng: np.random.Generator,
    *,
    n_obs: int,
    n_people: float = N_PEOPLE,
    original: bool = False,
    whole: bool = False,
    **parameters: ArrayLike,
) -> dict[str, Values]:
    """Draw what is reported on each of `n_obs` days.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_obs : int
    n_people : float
        Size of the population.
    original : bool
        Keep the errors of the authors' program: compartments that are clipped, by which people come
        into being, and the third intervention (:func:`contact_rates`).
    whole : bool
        Round reports to whole people.
    **parameters : array_like
        All of :func:`~jana_pymc.tasks.epidemic.prior`, of shape () for one data set, or
        (n_sets, 1) for many.

    Returns
    -------
    dict of str to ndarray, shape (n_obs,) or (n_sets, n_obs)
        ``cases``, ``recoveries`` and ``deaths``, in people per day; the paper has thousands. They
        are zero wherever the noise would make them negative, so that their distribution has no
        density at zero.

    Raises
    ------
    TypeError
        If parameters are missing, or unknown.
    ValueError
        If a delay does not round to 0 to 20 days.
    """
    values, shape = _arrays(parameters, n_obs)
    expected = _expected(values, n_obs, n_people=n_people, original=original)
    reported = {}
    for name, series in zip(OBSERVABLES, SERIES, strict=True):
        noise = rng.standard_t(DEGREES_OF_FREEDOM, expected[name].shape)
        noise *= np.sqrt(expected[name]) * values[f"sigma_{series}"]
        drawn = np.maximum(expected[name] + noise, 0.0)
        reported[name] = (np.rint(drawn) if whole else drawn).T.reshape(shape)
    return reported


def expected_reports(
    *,
    n_obs: int,
    n_people: float = N_PEOPLE,
    original: bool = False,
    **parameters: ArrayLike,
) -> dict[str, Values]:
    """Reports of each day without noise: x in the equations.

    Parameters
    ----------
    n_obs, n_people, original, **parameters
        As for :func:`simulator`.

    Returns
    -------
    dict of str to ndarray, shape (n_obs,) or (n_sets, n_obs)
    """
    values, shape = _arrays(parameters, n_obs)
    expected = _expected(values, n_obs, n_people=n_people, original=original)
    return {name: each.T.reshape(shape) for name, each in expected.items()}


def _arrays(
    parameters: Mapping[str, ArrayLike], n_obs: int
) -> tuple[dict[str, Values], tuple[int, ...]]:
    """Each parameter of all epidemics in a row, and the shape that data will have."""
    if wrong := set(parameters) ^ set(PARAMETERS):
        kind = "unknown" if wrong & set(parameters) else "missing"
        raise TypeError(f"{kind} parameters: {', '.join(sorted(wrong))}.")
    values = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    shape = np.broadcast_shapes(*(value.shape for value in values.values()), (n_obs,))
    return {name: np.ravel(value) for name, value in values.items()}, shape


def _expected(
    values: Mapping[str, Values], n_obs: int, *, n_people: float, original: bool
) -> dict[str, Values]:
    """Expected reports of each series, shape (n_obs, n_sets)."""
    news = compartments(values, n_obs, n_people=n_people, original=original)
    days = np.arange(n_obs)[:, None]
    expected = {}
    for name, series in zip(OBSERVABLES, SERIES, strict=True):
        reduction = weekly_reduction(days, values[f"A_{series}"], values[f"phi_{series}"])
        reports = delayed(news[f"{series}_new"], values[f"L_{series}"], n_obs)
        expected[name] = reports * (1.0 - reduction)
    return expected


def compartments(
    parameters: Mapping[str, Values],
    n_obs: int,
    *,
    n_people: float = N_PEOPLE,
    original: bool = False,
) -> Compartments:
    """Follow the epidemics from 20 days before the data begin.

    Parameters
    ----------
    parameters : mapping of str to ndarray, shape (n_sets,)
    n_obs : int
        Days of data.
    n_people : float
    original : bool
        Clip compartments instead of limiting losses, and see :func:`contact_rates`.

    Returns
    -------
    dict of str to ndarray, shape (MAX_DELAY + n_obs, n_sets)
        ``S``, ``E``, ``C``, ``I``, ``R``, ``D`` at the beginning of each day, and ``I_new``,
        ``R_new``, ``D_new``, those who are detected, recover after detection and die on that day.
    """
    p = parameters
    n_days = MAX_DELAY + n_obs
    rates = contact_rates(np.arange(n_days)[:, None] - MAX_DELAY, p, original=original)
    path = {name: np.empty(rates.shape) for name in ("S", "E", "C", "I", "R", "D")}
    exposed = np.maximum(np.rint(p["E0"]), 1.0)
    state = np.zeros((6, rates.shape[1]))
    state[0], state[1] = n_people - exposed, exposed
    onset = p["gamma"]
    detection, undetected = (1.0 - p["alpha"]) * p["eta"], p["alpha"] * p["theta"]
    recovery, death = (1.0 - p["delta"]) * p["mu"], p["delta"] * p["d"]
    if not original:
        onset = np.minimum(onset, 1.0)
        detection, undetected = _at_most_all(detection, undetected)
        recovery, death = _at_most_all(recovery, death)
    for day, rate in enumerate(rates):
        for values, current in zip(path.values(), state, strict=True):
            values[day] = current
        s, e, c, i, _, _ = state
        infected = rate * (c + p["beta"] * i) / n_people * s
        if not original:
            infected = np.minimum(infected, s)
        infectious, silent = onset * e, undetected * c
        detected, recovered, died = detection * c, recovery * i, death * i
        change = np.stack(
            [
                -infected,
                infected - infectious,
                infectious - detected - silent,
                detected - recovered - died,
                silent + recovered,
                died,
            ]
        )
        state = np.clip(state + change, 0.0, n_people)
    new = {
        "I_new": detection * path["C"],
        "R_new": recovery * path["I"],
        "D_new": death * path["I"],
    }
    return path | new


def _at_most_all(first: Values, second: Values) -> tuple[Values, Values]:
    """Scale the rates of two ways out of a compartment, lest it lose more than it has."""
    total = np.maximum(first + second, 1.0)
    return first / total, second / total


def contact_rates(
    days: NDArray[np.int_], parameters: Mapping[str, Values], *, original: bool = False
) -> Values:
    """Contacts per day, which each intervention changes in a straight line.

    Parameters
    ----------
    days : ndarray of int, shape (n_days, 1)
        Counted from the beginning of the data.
    parameters : mapping of str to ndarray, shape (n_sets,)
        Those of time, duration and contacts.
    original : bool
        As in the authors' program, the third intervention leads from λ₃ to λ₄, and falls back to
        λ₃ when it is completed; an intervention of one day is spared this. By default it leads
        from λ₂ to λ₃, as the paper writes.

    Returns
    -------
    ndarray, shape (n_days, n_sets)
    """
    rate = np.broadcast_to(parameters["lambda0"], (len(days), len(parameters["lambda0"])))
    for i in range(1, 5):
        since = days - np.rint(parameters[f"t{i}"])
        duration = np.rint(parameters[f"dt{i}"])
        # The first day still has the old rate, and the last one the new; a single day the new.
        share = np.clip(since / np.maximum(duration - 1.0, 1.0), 0.0, 1.0)
        share = np.where(duration <= 1.0, since >= 0.0, share)
        old, new = parameters[f"lambda{i - 1}"], parameters[f"lambda{i}"]
        if original and i == 3:
            later = parameters["lambda4"]
            ramp = (since >= 0.0) & (since < duration) & (duration > 1.0)
            rate = np.where(since >= 0.0, new, rate) + np.where(ramp, (later - new) * share, 0.0)
        else:
            rate = rate + (new - old) * share
    return rate


def delayed(news: Values, delay: Values, n_obs: int) -> Values:
    """Shift each epidemic by its delay, rounded to whole days.

    Parameters
    ----------
    news : ndarray, shape (MAX_DELAY + n_obs, n_sets)
    delay : ndarray, shape (n_sets,)
        Days, rounding to 0 to 20.
    n_obs : int

    Returns
    -------
    ndarray, shape (n_obs, n_sets)

    Raises
    ------
    ValueError
        If a delay is no number, negative, or longer than the time before the data begin.
    """
    if not np.isfinite(delay).all():
        raise ValueError("a delay is NaN or infinite; expected days.")
    shift = np.rint(delay).astype(int)
    if shift.size and not (shift.min() >= 0 and shift.max() <= MAX_DELAY):
        wrong = shift.min() if shift.min() < 0 else shift.max()
        raise ValueError(
            f"a delay of {wrong} days: delays must round to 0 to {MAX_DELAY} days, since the "
            f"simulation begins {MAX_DELAY} days before the data."
        )
    return np.take_along_axis(news, np.arange(n_obs)[:, None] + MAX_DELAY - shift, axis=0)


def weekly_reduction(days: NDArray[np.int_], amplitude: Values, phase: Values) -> Values:
    """Share of those to be reported on a day who are not, f in the equations.

    Days of shape (n_days, 1) and parameters of shape (n_sets,) give (n_days, n_sets).
    """
    return (1.0 - amplitude) * (1.0 - np.abs(np.sin(np.pi / 7.0 * days - 0.5 * phase)))
