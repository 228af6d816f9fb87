"""Two moons by the methods of other packages: SNPE-C, SNL and SNRE-B of sbi, ABC-SMC of pyABC.

Sequential neural methods spend 1,000 simulations a round, all on the one observation, with the
learning rate and the number of epochs of the paper's comparison and sbi's defaults otherwise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

Simulate = Callable[[np.random.Generator, np.ndarray], np.ndarray]
LOW, HIGH = -2.0, 2.0
PER_ROUND = 1_000
TRAINING = {"learning_rate": 5e-4, "max_num_epochs": 50}
POPULATION = 200
NEURAL = ("SNPE-C", "SNL", "SNRE-B")


def available() -> tuple[str, ...]:
    """Methods whose package is installed."""
    methods: tuple[str, ...] = ()
    try:
        import sbi  # noqa: F401, PLC0415

        methods += NEURAL
    except ImportError:
        pass
    try:
        import pyabc  # noqa: F401, PLC0415

        methods += ("ABC-SMC",)
    except ImportError:
        pass
    return methods


def posterior_draws(
    method: str,
    simulate: Simulate,
    observed: np.ndarray,
    budgets: list[int],
    draws: int,
    seed: int,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Draws after each budget, all budgets in one run.

    Yields
    ------
    budget : int
    theta : ndarray, shape (draws, 2)
    seconds : float
        Since the beginning, the draws included.
    """
    if method == "ABC-SMC":
        yield from _abc_smc(simulate, observed, budgets, draws, seed)
    else:
        yield from _sequential(method, simulate, observed, budgets, draws, seed)


def _sequential(
    method: str,
    simulate: Simulate,
    observed: np.ndarray,
    budgets: list[int],
    draws: int,
    seed: int,
) -> Iterator[tuple[int, np.ndarray, float]]:
    from sbi.inference import NLE_A, NPE_C, NRE_B  # noqa: PLC0415
    from sbi.utils import BoxUniform  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = BoxUniform(LOW * torch.ones(2), HIGH * torch.ones(2))
        inference = {
            "SNPE-C": lambda: NPE_C(prior, density_estimator="nsf", show_progress_bars=False),
            "SNL": lambda: NLE_A(prior, density_estimator="maf", show_progress_bars=False),
            "SNRE-B": lambda: NRE_B(prior, show_progress_bars=False),
        }[method]()
        x_o = torch.tensor(observed, dtype=torch.float32)
        proposal, start = prior, time.perf_counter()
        for n in range(PER_ROUND, max(budgets) + 1, PER_ROUND):
            theta = proposal.sample((PER_ROUND,))
            x = torch.tensor(simulate(rng, theta.double().numpy()), dtype=torch.float32)
            if method == "SNPE-C":
                inference.append_simulations(theta, x, proposal=proposal)
            else:
                inference.append_simulations(theta, x)
            inference.train(**TRAINING)
            proposal = inference.build_posterior().set_default_x(x_o)
            if n in budgets:
                drawn = proposal.sample((draws,), show_progress_bars=False)
                yield n, drawn.double().numpy(), time.perf_counter() - start


def _abc_smc(
    simulate: Simulate,
    observed: np.ndarray,
    budgets: list[int],
    draws: int,
    seed: int,
) -> Iterator[tuple[int, np.ndarray, float]]:
    """Each budget's is the last population that was complete within it, and when that was."""
    import pyabc  # noqa: PLC0415

    rng = np.random.default_rng(seed)

    def model(parameters: dict[str, float]) -> dict[str, np.ndarray]:
        theta = np.array([[parameters["theta1"], parameters["theta2"]]])
        return {"x": simulate(rng, theta)[0]}

    np.random.seed(seed)  # noqa: NPY002 - pyABC draws from NumPy's global generator
    start = datetime.now()  # as pyABC notes when a population ends
    width = HIGH - LOW
    prior = pyabc.Distribution(
        theta1=pyabc.RV("uniform", LOW, width), theta2=pyabc.RV("uniform", LOW, width)
    )
    smc = pyabc.ABCSMC(
        model,
        prior,
        pyabc.PNormDistance(p=2),
        population_size=POPULATION,
        sampler=pyabc.sampler.SingleCoreSampler(),
    )
    with tempfile.TemporaryDirectory() as folder:
        smc.new(f"sqlite:///{Path(folder) / 'abc.db'}", {"x": observed})
        history = smc.run(max_total_nr_simulations=max(budgets))
        populations = history.get_all_populations()
        spent = populations.samples.cumsum()
        for budget in budgets:
            within = populations[spent <= budget]
            last = int(within.t.max())
            seconds = (within.population_end_time.max() - start).total_seconds()
            theta, weights = history.get_distribution(m=0, t=last)
            chosen = rng.choice(len(theta), draws, p=weights / weights.sum())
            yield budget, theta[["theta1", "theta2"]].to_numpy()[chosen], seconds
