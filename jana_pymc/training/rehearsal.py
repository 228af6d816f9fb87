"""The posterior learns on from data that the likelihood network makes for ever new parameters.

Two networks that learn one joint density need not learn it from the same data: the likelihood
network, which has less to learn, generalises from fewer simulations, and can then make as many as
the posterior needs.
"""

from __future__ import annotations

import copy

from jana_pymc.training.batches import SimulationRounds
from jana_pymc.training.history import TrainingHistory
from jana_pymc.training.run import TrainingRun, if_better
from jana_pymc.training.surrogates import BATCHES_PER_ROUND, Surrogates, posterior_stage


def rehearse(run: TrainingRun, history: TrainingHistory) -> TrainingHistory:
    """Train the posterior in place on data of the likelihood network.

    If it does not become better for held-out simulations, its weights stay.

    Parameters
    ----------
    run : TrainingRun
        Whose networks are trained.
    history : TrainingHistory
        Of that training.

    Returns
    -------
    TrainingHistory
        Of both, one after the other, if this one was of use.
    """
    posterior, settings = run.network.posterior, run.settings
    own = posterior_stage(settings, settings.rehearsal_steps, settings.rehearsal_learning_rate)
    source = SimulationRounds(
        Surrogates(run, own.batch_size, run.seed),
        batch_size=own.batch_size,
        steps_per_round=BATCHES_PER_ROUND,
        n_obs=run.simulated.n_obs,
        seed=run.seed,
        ordered=run.simulated.ordered,
    )
    before = copy.deepcopy(posterior.state_dict())

    def learn() -> TrainingHistory:
        return run.train(
            source,
            doing="rehearsing the posterior",
            stage="rehearsal",
            seed_offset=1,
            settings=own,
            halves=("posterior",),
        )

    try:
        return if_better(
            history,
            learn,
            undo=lambda: posterior.load_state_dict(before),
            what="rehearsal",
            advice="Lower TrainingSettings.rehearsal_learning_rate, or set rehearsal_steps=0.",
        )
    finally:
        source.close()
