"""The prior of the epidemic: 34 parameters, in the order of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import pymc as pm
from pymc.distributions.transforms import Interval

from jana_pymc.tasks.epidemic.timing import add_times_and_durations, truncated_log_normal

SERIES = ("I", "R", "D")
"""Detected cases, recoveries, deaths."""

PARAMETERS = (
    *("t1", "t2", "t3", "t4", "dt1", "dt2", "dt3", "dt4"),
    *("lambda0", "lambda1", "lambda2", "lambda3", "lambda4", "mu"),
    *("A_I", "phi_I", "A_R", "phi_R", "A_D", "phi_D", "L_I", "L_R", "L_D", "E0"),
    *("sigma_I", "sigma_R", "sigma_D", "alpha", "beta", "gamma", "eta", "theta", "delta", "d"),
)
"""Names of the parameters, in the order of the paper."""

TEASER: Mapping[str, float] = MappingProxyType(
    dict(
        zip(
            PARAMETERS,
            (
                *(7.2959, 13.5986, 23.6048, 65.6638, 4.151, 3.2598, 3.1064, 3.1674),
                *(2.0553, 1.1412, 0.3411, 0.0951, 0.1736, 0.1402),
                *(0.5651, -1.2614, 0.7613, -0.9791, 0.5705, -1.7186),
                *(6.9405, 6.7063, 8.5746, 75.4442, 0.7409, 17.3278, 9.2997),
                *(0.0297, 0.2209, 0.1135, 0.2085, 0.1749, 0.2054, 0.0726),
            ),
            strict=True,
        )
    )
)
"""The parameters for which the paper shows a thousand epidemics."""

MAX_DELAY = 20
"""Longest delay of a report, in days."""

LOG_RATES = MappingProxyType(
    {
        "lambda0": (math.log(1.2), 0.5),
        "lambda1": (math.log(0.6), 0.5),
        "lambda2": (math.log(0.3), 0.5),
        "lambda3": (math.log(0.1), 0.5),
        "lambda4": (math.log(0.1), 0.5),
        "mu": (math.log(1 / 8), 0.2),
    }
)

# The authors aim at a mean of 0.7 and a standard deviation of 0.17; these numbers have 0.16.
_AMPLITUDE = (4.9395, 2.1169)


def prior(horizon: int = 81) -> pm.Model:
    """Build the prior.

    Unlike the paper's, which redraws parameters that its simulator refuses, this one has the
    density that results: times and durations of interventions that do not overlap and end within
    the horizon (:mod:`jana_pymc.tasks.epidemic.timing`), and delays that round to 20 days or less.

    Parameters
    ----------
    horizon : int
        Days of data, by the end of which the last intervention has been completed.

    Returns
    -------
    pymc.Model
        With the free variables

        - ``t1`` to ``t4``, days on which interventions begin; ``dt1`` to ``dt4``, days they take;
        - ``lambda0`` to ``lambda4``, contacts per day before and after each;
        - ``mu``, recoveries of the detected per day;
        - ``A_I``, ``phi_I``, ``A_R``, ``phi_R``, ``A_D``, ``phi_D``, amplitude and phase of the
          weekly modulation of each series, ``L_I``, ``L_R``, ``L_D``, its delay in days, and
          ``sigma_I``, ``sigma_R``, ``sigma_D``, its noise;
        - ``E0``, the exposed at the beginning; ``alpha``, the share that is never detected;
          ``beta``, relative infectiousness of the detected; ``gamma``, ``eta``, ``theta``, rates
          of becoming infectious, being detected, recovering undetected; ``delta``, share of deaths;
          ``d``, rate of dying.

    Raises
    ------
    ValueError
        If the horizon leaves no room for the interventions.

    References
    ----------
    .. [1] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex
       Bayesian models. UAI. Experiment 4.
    """
    with pm.Model() as model:
        add_times_and_durations(horizon)
        for name, (log_mean, log_sd) in LOG_RATES.items():
            pm.LogNormal(name, log_mean, log_sd)
        for series in SERIES:
            pm.Beta(f"A_{series}", *_AMPLITUDE)
            # PyMC's own transform wraps the real line around the circle, where no density is
            # proper, least of all that of a flow.
            pm.VonMises(f"phi_{series}", 0.0, 0.01, default_transform=Interval(-math.pi, math.pi))
        latest = MAX_DELAY + 0.5
        for series in SERIES:
            truncated_log_normal(
                f"L_{series}", math.log(8.0), 0.2, 0.0, latest, transform=Interval(0.0, latest)
            )
        pm.Gamma("E0", 2.0, 1 / 30)
        for series in SERIES:
            pm.Gamma(f"sigma_{series}", 1.0, 1 / 5)
        pm.Uniform("alpha", 0.005, 0.9)
        pm.LogNormal("beta", math.log(0.25), 0.3)
        pm.LogNormal("gamma", math.log(1 / 6.5), 0.5)
        pm.LogNormal("eta", math.log(1 / 3.2), 0.3)
        pm.Uniform("theta", 1 / 14, 1 / 3)
        pm.Uniform("delta", 0.01, 0.3)
        pm.Uniform("d", 1 / 14, 1 / 3)
    return model
