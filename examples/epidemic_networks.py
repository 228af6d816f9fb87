"""Networks and training budgets of the epidemic's example."""

from __future__ import annotations

import jana_pymc as jana
from jana_pymc.flows import FlowSettings
from jana_pymc.likelihoods import ConditionalSettings, MarkovianSettings, TrajectorySettings
from jana_pymc.networks import FlatSummarySettings, TimeSeriesSettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.tasks.epidemic import PARAMETERS

DECLARED = {
    "angles": [i for i, name in enumerate(PARAMETERS) if name.startswith("phi")],
    "rounded": [
        i
        for i, name in enumerate(PARAMETERS)
        if name in ("t1", "t2", "t3", "t4") or name.startswith(("dt", "L_"))
    ],
}
"""Positions of the phases, and of times, durations and delays in whole days."""

LIKELIHOODS = {
    "trajectory": (
        TrajectorySettings(hidden=(256,) * 6, law_hidden=(64, 64), order=14, **DECLARED),
        TrajectorySettings(hidden=(1024,) * 8, law_hidden=(128, 128), order=14, **DECLARED),
    ),
    "independent": (
        TrajectorySettings(hidden=(256,) * 6, order=0, **DECLARED),
        TrajectorySettings(hidden=(1024,) * 8, law_hidden=(64, 64), order=0, **DECLARED),
    ),
    "recurrent": (
        MarkovianSettings(order=7, memory=64, clock=True),
        MarkovianSettings(
            order=1, memory=256, clock=True, conditional=ConditionalSettings(hidden=(128, 128))
        ),
    ),
}
"""For a look around, and of full size.

``independent`` has location and scale of all days at once from the parameters, which make them, and
one law of noise for all days: what the reports are in truth, given the parameters. ``trajectory``
lets each day see besides by how much the two weeks before departed from what was expected of them.
Of a network that knew the epidemic without error these would say nothing, and until then they tell
it its error: after 100 s on one core 1.10 nats a day are missing from the exact log-likelihood, and
1.28 without them. But in surrogates, where nobody corrects them, departures carry on: their medians
are 10 % off, and 3.6 % without.

That times, durations and delays count in whole days is declared; without, a network of two layers
misses 2.12 instead of 1.65 in that time, for it cannot find steps in 10 of 34 parameters. Six
residual layers in place of two: 1.47. Random time points, 20 of 81 for each step: 1.41. A network
that runs through time misses more in that time (a gated recurrent one 3.2, one shared by all days
2.9, convolutions over days behind the dense layers 2.2), and so do increments that are summed up
(1.7).

``recurrent`` is given the memory of a recurrent network, and is the paper's likelihood but for the
transform of a single day. All it knows goes through every day anew: it missed 2.15 when a network
for each day, of two layers, missed 1.35.
"""


POSTERIORS = ("flat", "towers")


def posterior(name: str, *, quick: bool) -> PosteriorSettings:
    """The posterior network: ``towers`` of the paper's Appendix D.4, or ``flat``.

    The paper's reads each series by convolutions and a recurrent network of its own, into 192
    summaries, which six affine couplings turn into the posterior. A flat one has dense layers over
    all reports at once, and an autoregressive flow of splines.
    """
    if name == "flat":
        return PosteriorSettings(
            FlatSummarySettings(
                n_summaries=64 if quick else 192, hidden=(256, 256) if quick else (1024,) * 3
            ),
            FlowSettings(
                transform="autoregressive", n_layers=1, hidden=(256, 256) if quick else (512,) * 3
            ),
        )
    towers = TimeSeriesSettings(
        n_convolutions=3,
        kernel_sizes=(2, 3, 4, 5, 6, 7),
        n_filters=8 if quick else 32,
        width=16 if quick else 64,
        n_hidden=16 if quick else 64,
        separate=True,
    )
    flow = FlowSettings(transform="affine", n_layers=6, hidden=(128, 128), activation="silu")
    return PosteriorSettings(towers, flow, n_summaries=48 if quick else 192)


def network(posterior_name: str, likelihood: str, *, quick: bool) -> jana.NetworkSettings:
    """Small networks that train in minutes, or those of full size, for a GPU."""
    return jana.NetworkSettings(
        posterior(posterior_name, quick=quick), LIKELIHOODS[likelihood][0 if quick else 1]
    )


def training(*, quick: bool, n_steps: int | None) -> jana.TrainingSettings:
    """Budget of the training; online, so that nothing is seen often enough to be learned by heart.

    The paper has 100,000 steps of 32 epidemics, a rate of .0005, and the weight 1 of the summaries'
    MMD.
    """
    if quick:
        return jana.TrainingSettings(
            n_steps=n_steps or 18_000,
            batch_size=64,
            learning_rate=1e-3,
            likelihood_learning_rate=2e-3,
            likelihood_obs=20,
            weight_average=0.999,
            mmd_weight=1.0,
            linear_steps=min(300, (n_steps or 18_000) // 10),
            n_validations=20,
            patience=None,
        )
    return jana.TrainingSettings(
        n_steps=n_steps or 100_000,
        batch_size=64,
        learning_rate=1e-3,
        likelihood_learning_rate=1e-3,
        likelihood_obs=None,
        weight_average=0.999,
        mmd_weight=1.0,
        n_validations=100,
        patience=None,
    )
