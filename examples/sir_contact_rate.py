"""Outbreaks in several cities: one neural likelihood of an epidemic, contact rates around a mean.

The simulator is an epidemic of susceptible, infected and recovered, of which a thousand people are
tested ten times (`jana_pymc.tasks.sir`). It was trained on single outbreaks; here its likelihood
of ten counts serves a hierarchy that it never saw: contact rates differ between cities, the time to
recovery is that of the disease. The likelihood is known in this case, and so is its error: the
draws are weighted by exact over neural density.

    python examples/sir_contact_rate.py            # trains first, ten minutes on two cores
    python examples/sir_contact_rate.py --quick    # a look around; its networks are half-trained
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from common import add_arguments, read_or_train, sampling
from rich.console import Console
from rich.table import Table

import jana_pymc as jana
from jana_pymc.fitting import default_settings, default_training
from jana_pymc.importance import pareto_smooth
from jana_pymc.tasks.sir import TIMES, infected_share, log_likelihood, simulator, sir

TRUTH = {"contact_mean": 0.4, "contact_sd": 0.3, "recovery": 0.125}
DAYS = TIMES["benchmark"]
console = Console()


def trained(arguments: argparse.Namespace) -> jana.JointApproximator:
    """The pair for single outbreaks, from a file if there is one."""
    model = sir("benchmark").model

    def train() -> jana.JointApproximator:
        return jana.fit(
            model,
            n_simulations=2_000 if arguments.quick else 10_000,
            training=training(model, quick=arguments.quick),
            random_seed=arguments.random_seed,
            progressbar=not arguments.no_progress,
        )

    return read_or_train(arguments.approximator, model, train)


def training(model: jana.GenerativeModel, *, quick: bool) -> jana.TrainingSettings:
    """The default, but what the posterior learns last is left out: it only starts the chains."""
    size = model.prior.n_unconstrained
    settings = default_training(default_settings(model.schema, size), size, model.schema)
    settings = replace(settings, rehearsal_steps=0, adjustment_steps=0)
    return replace(settings, n_steps=400, linear_steps=100) if quick else settings


def outbreaks(n_cities: int, random_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Contact rates a day, shape (cities,), and counts, shape (cities, tests)."""
    rng = np.random.default_rng(random_seed)
    contact = TRUTH["contact_mean"] * np.exp(TRUTH["contact_sd"] * rng.standard_normal(n_cities))
    recovery = np.full((n_cities, 1), TRUTH["recovery"])
    drawn = simulator(rng, contact[:, None], recovery, len(DAYS), times=DAYS)
    return contact, drawn["infected"]


def hierarchical(likelihood: jana.LikelihoodApproximator, infected: np.ndarray) -> pm.Model:
    """Contact rates of cities, log-normal around a mean; one rate of recovery."""
    coords = {"city": np.arange(len(infected)), "day": DAYS.astype(int)}
    with pm.Model(coords=coords) as model:
        mean = pm.LogNormal("contact_mean", np.log(0.4), 0.5)
        sd = pm.HalfNormal("contact_sd", 0.5)
        # Centred, since ten thousand tests tell the contact rate of a city very well.
        contact = pm.LogNormal("contact", pm.math.log(mean), sd, dims="city")
        recovery = pm.LogNormal("recovery", np.log(0.125), 0.2)
        likelihood(
            "infected",
            beta=contact,
            gamma=recovery * np.ones(len(infected)),
            observed=infected[..., None],
            dims=("city", "day"),
        )
    return model


def amortized_start(
    approximator: jana.JointApproximator, infected: np.ndarray, random_seed: int
) -> dict[str, np.ndarray]:
    """Where chains begin: medians of each city's own amortized posterior.

    A thousand tests leave peaks so narrow that chains which begin elsewhere do not find them.
    """
    cities = [{"infected": counts} for counts in infected]
    drawn = approximator.sample(cities, groups=("posterior",), random_seed=random_seed)
    medians = drawn["posterior"].median(("chain", "draw"))
    contact = np.asarray(medians["beta"])
    return {
        "contact_mean": np.exp(np.log(contact).mean()),
        "contact_sd": np.log(contact).std(),
        "contact": contact,
        "recovery": np.asarray(medians["gamma"]).mean(),
    }


def exact_weights(
    result: jana.inference_data.ArviZData, infected: np.ndarray, thin: int = 4
) -> tuple[float, np.ndarray, float]:
    """Reweight every `thin`-th draw to the exact posterior.

    Returns
    -------
    pareto_k, shift, effective : float, ndarray, float
        k̂ of the weights; the change of the posterior means of the cities' contact rates, in
        posterior standard deviations; and the effective share of the draws.
    """
    posterior = result["posterior"].isel(draw=slice(None, None, thin))
    contact = np.asarray(posterior["contact"]).reshape(-1, len(infected))
    recovery = np.asarray(posterior["recovery"]).reshape(-1, 1)
    theta = np.stack(np.broadcast_arrays(contact, recovery), -1)
    exact = log_likelihood(infected.astype(float), theta, times=DAYS)
    neural = np.asarray(
        result["log_likelihood"]["infected"].isel(draw=slice(None, None, thin))
    ).reshape(exact.shape)
    smoothed = pareto_smooth((exact - neural).sum(-1))
    weights = np.exp(smoothed.log_weights)
    shift = (weights @ contact - contact.mean(0)) / contact.std(0)
    effective = float(smoothed.effective_draws) / smoothed.draws
    return float(smoothed.pareto_k), shift, effective


def plot(result: jana.inference_data.ArviZData, infected: np.ndarray) -> plt.Figure:
    """Counts of each city, with the epidemics that posterior draws imply."""
    posterior = result["posterior"].stack(sample=("chain", "draw"))
    chosen = np.linspace(0, posterior.sizes["sample"] - 1, 200).astype(int)
    recovery = posterior["recovery"].values[chosen]
    days = np.linspace(0.0, DAYS[-1], 100)
    columns = min(4, len(infected))
    rows = -(-len(infected) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.6 * columns, 2.2 * rows), layout="constrained", squeeze=False
    )
    for city, ax in enumerate(axes.flat):
        ax.set_visible(city < len(infected))
        if city >= len(infected):
            continue
        contact = posterior["contact"].isel(city=city).values[chosen]
        share = infected_share(contact, recovery, days)
        low, middle, high = np.quantile(1000 * share, [0.025, 0.5, 0.975], axis=0)
        ax.fill_between(days, low, high, alpha=0.3, linewidth=0)
        ax.plot(days, middle, linewidth=1)
        ax.plot(DAYS, infected[city], "k.", markersize=5)
        ax.set_title(f"city {city}", fontsize=9)
    figure.supxlabel("day")
    figure.supylabel("infected of 1,000 tested")
    return figure


def report(result: jana.inference_data.ArviZData, contact: np.ndarray) -> None:
    """Posterior beside the truth."""
    table = Table("parameter", "truth", "posterior mean ± sd", "90 % interval")
    posterior = result["posterior"]
    rows = [(name, TRUTH[name], posterior[name]) for name in TRUTH]
    rows += [
        (f"contact[{i}]", rate, posterior["contact"].isel(city=i)) for i, rate in enumerate(contact)
    ]
    covered = 0
    for name, truth, drawn in rows:
        values = np.asarray(drawn)
        low, high = np.quantile(values, [0.05, 0.95])
        covered += low < truth < high
        table.add_row(
            name,
            f"{truth:.3f}",
            f"{values.mean():.3f} ± {values.std():.3f}",
            f"{low:.3f} to {high:.3f}",
        )
    console.print(table)
    console.print(f"{covered} of {len(rows)} truths lie in their 90 % interval")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, "output/sir_contact_rate", "pair for single outbreaks")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    approximator = trained(arguments)
    contact, infected = outbreaks(4 if arguments.quick else 12, arguments.random_seed)
    start = amortized_start(approximator, infected, arguments.random_seed)
    with hierarchical(approximator.likelihood, infected):
        result = pm.sample(initvals=start, init="adapt_diag", **sampling(arguments))
        pm.compute_log_likelihood(result, progressbar=False)
    approximator.likelihood.check_region(result)
    report(result, contact)
    pareto_k, shift, effective = exact_weights(result, infected)
    console.print(
        f"exact over neural likelihood: k = {pareto_k:.2f}, {effective:.0%} of draws effective, "
        f"means of the contact rates move by at most {np.abs(shift).max():.2f} sd"
    )
    jana.save_inference_data(result, arguments.output / "sir_contact_rate.nc")
    plot(result, infected).savefig(arguments.output / "outbreaks.png", dpi=150)


if __name__ == "__main__":
    main()
