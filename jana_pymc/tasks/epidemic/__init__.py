r"""An epidemic with four interventions, of which cases, recoveries and deaths are reported daily.

The model of Experiment 4 of [2]_, which is that of [1]_ for the first wave of Covid-19 in Germany:
34 parameters, 81 days. :mod:`~jana_pymc.tasks.epidemic.simulator` holds the equations,
:mod:`~jana_pymc.tasks.epidemic.prior` the parameters, :mod:`~jana_pymc.tasks.epidemic.timing` the
distribution of interventions that do not overlap, and :mod:`~jana_pymc.tasks.epidemic.exact` the
likelihood, which has a closed form. :mod:`~jana_pymc.tasks.epidemic.reports` reads data, and
:mod:`~jana_pymc.tasks.epidemic.standardized` brings them into the paper's form.

References
----------
.. [1] Radev, S. T., et al. (2021). OutbreakFlow: Model-based Bayesian inference of disease outbreak
   dynamics with invertible neural networks. PLoS Computational Biology, 17(10).
.. [2] Radev, S. T., et al. (2023). JANA: Jointly amortized neural approximation of complex Bayesian
   models. UAI.
"""

from __future__ import annotations

from functools import lru_cache, partial

from jana_pymc.checks import check_number, check_switch
from jana_pymc.simulation import Continuous, Count, GenerativeModel, PyMCPrior
from jana_pymc.simulation.schema import size_range
from jana_pymc.tasks.epidemic.exact import log_likelihood
from jana_pymc.tasks.epidemic.prior import PARAMETERS, TEASER, prior
from jana_pymc.tasks.epidemic.reports import load_reports
from jana_pymc.tasks.epidemic.simulator import (
    N_PEOPLE,
    OBSERVABLES,
    compartments,
    contact_rates,
    expected_reports,
    simulator,
)
from jana_pymc.tasks.epidemic.standardized import (
    SCALES,
    restored_reports,
    standardized_reports,
    standardized_simulator,
)

__all__ = [
    "OBSERVABLES",
    "PARAMETERS",
    "TEASER",
    "compartments",
    "contact_rates",
    "epidemic",
    "expected_reports",
    "load_reports",
    "log_likelihood",
    "prior",
    "restored_reports",
    "simulator",
    "standardized_reports",
]


def epidemic(
    n_obs: int | tuple[int, int] = 81,
    *,
    n_people: float = N_PEOPLE,
    original: bool = False,
    whole: bool = False,
    standardized: bool = False,
) -> GenerativeModel:
    """Build the model.

    Parameters
    ----------
    n_obs : int or tuple of int
        Days of data, or the fewest and the most. The interventions are completed within the most.
    n_people : float
        Size of the population.
    original : bool
        Keep two errors of the authors' program: the third intervention
        (:func:`~jana_pymc.tasks.epidemic.contact_rates`), and people who come into being
        in the fastest epidemics (:mod:`~jana_pymc.tasks.epidemic.simulator`).
    whole : bool
        Round reports to whole people, as real ones are. They are then counts, and a day without
        reports has a probability; by default they are real numbers, and zero has a probability of
        its own, which no density can give.
    standardized : bool
        The paper's form of the data
        (:func:`~jana_pymc.tasks.epidemic.standardized_reports`): series standardised
        by their own mean and standard deviation, which are conditions. The likelihood is then no
        p(x | θ), since it is given the scale of what it is to predict, and gives no evidence.

    Returns
    -------
    GenerativeModel
        A sequence of ``cases``, ``recoveries`` and ``deaths``, in people per day. Days are
        independent given the parameters, unless series are standardised.

    Raises
    ------
    TypeError
        If `n_obs` is no integer or pair of them, `n_people` no number, or a flag no bool.
    ValueError
        If `n_obs` or `n_people` is not positive, or the pair is not in order; if so few days leave
        no room for the interventions; if `standardized` series are to have more than one length,
        since the beginning of one is not standardised.

    Examples
    --------
    >>> model = epidemic()
    >>> model.layout.size
    34
    >>> simulations = model.simulate(100, random_seed=1, progressbar=False)
    >>> simulations.dataset["deaths"].shape
    (100, 81)
    """
    for name, flag in (("original", original), ("whole", whole), ("standardized", standardized)):
        check_switch(name, flag)
    check_number("n_people", n_people)
    fewest, horizon = size_range(n_obs)
    if not standardized:
        return GenerativeModel(
            _compiled_prior(horizon),
            partial(simulator, n_people=n_people, original=original, whole=whole),
            observables={name: Count() if whole else Continuous() for name in OBSERVABLES},
            structure="markovian",
            n_obs=(fewest, horizon),
            order=0,  # given the parameters, noise alone makes the days differ
            vectorized=True,
        )
    if fewest < horizon:
        raise ValueError(f"n_obs={n_obs}: standardized series have one length; give an integer.")
    return GenerativeModel(
        _compiled_prior(horizon),
        partial(standardized_simulator, n_people=n_people, original=original, whole=whole),
        observables={name: Continuous() for name in OBSERVABLES},
        structure="markovian",
        n_obs=horizon,
        conditions={name: Continuous() for name in SCALES},
        design="simulator",
        vectorized=True,
    )


@lru_cache(maxsize=8)
def _compiled_prior(horizon: int) -> PyMCPrior:
    """The prior of all models of so many days, which takes seconds to compile."""
    return PyMCPrior(prior(horizon))
