"""Distractors are learned alone, and the pair without them."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import torch
from stages import run_on

import jana_pymc as jana
from jana_pymc import training
from jana_pymc.joint_network import JointNetwork
from jana_pymc.likelihoods import Support, VectorLikelihood, VectorSettings
from jana_pymc.networks import FlatSummarySettings, SetSummarySettings
from jana_pymc.posterior import PosteriorNetwork, PosteriorSettings
from jana_pymc.training import learned_alone
from jana_pymc.training.surrogates import Surrogates

pytestmark = pytest.mark.trains

SIZE = 6
NETWORK = jana.NetworkSettings(
    PosteriorSettings(FlatSummarySettings(informative=(1, 4))),
    VectorSettings(hidden=(8,), conditioner_hidden=8, n_bins=4, informative=(1, 4)),
)
TRAINING = jana.TrainingSettings(
    n_steps=400,
    n_threads=1,
    batch_size=64,
    linear_steps=0,
    n_validations=8,
    patience=None,
    weight_average=0.9,
)


@cache
def model() -> jana.GenerativeModel:
    """Components 1 and 4 are θ with noise; the others depend on each other alone."""
    with pm.Model() as prior:
        pm.Normal("theta")

    def simulator(rng, theta):
        x = rng.standard_normal((*np.shape(theta), SIZE))
        x[..., [2, 3, 5]] += 2.0 * x[..., :1]
        x[..., [1, 4]] += np.asarray(theta)[..., None]
        return {"x": x}

    return jana.GenerativeModel(
        prior,
        simulator,
        observables={"x": jana.Continuous(shape=(SIZE,))},
        structure="vector",
        vectorized=True,
    )


def fitted(**options) -> jana.JointApproximator:
    return jana.fit(
        model(),
        n_simulations=1_000,
        network=NETWORK,
        training=TRAINING,
        random_seed=1,
        progressbar=False,
        **options,
    )


@pytest.fixture(scope="module")
def pair() -> jana.JointApproximator:
    return fitted()


@torch.no_grad()
def test_their_dependence_is_learned_though_the_pair_never_sees_it(pair) -> None:
    likelihood = pair.network.likelihood
    simulations = model().simulate(2_000, random_seed=2, progressbar=False)
    x = torch.as_tensor(simulations.batch().observables).float()
    theta = torch.as_tensor(simulations.parameters).float()
    alone = likelihood.log_prob(x, theta) - likelihood.informative_log_prob(x, theta)
    # One standard normal, and three that are twice this and one of their own.
    entropy = 4 * 0.5 * np.log(2 * np.pi * np.e)
    assert -alone.mean().item() == pytest.approx(entropy, abs=0.35)
    # The history is of the rest: of a normal location seen twice.
    exact = np.log(2 * np.pi * np.e)
    assert pair.history.validation_likelihood[-1] == pytest.approx(exact, abs=0.3)


def test_training_resumes_after_any_stage(pair, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "training.ckpt"
    monkeypatch.setattr(training.loop, "validation_loss", interrupted_after(4))
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=path)
    monkeypatch.undo()
    assert path.with_name("training-distractors.ckpt").exists()
    resumed = fitted(checkpoint=path)
    for name, value in pair.network.state_dict().items():
        torch.testing.assert_close(resumed.network.state_dict()[name], value, rtol=0, atol=0)


def interrupted_after(n: int):
    original, calls = training.loop.validation_loss, []

    def validation_loss(*arguments):
        calls.append(1)
        if len(calls) > n:
            raise KeyboardInterrupt
        return original(*arguments)

    return validation_loss


def test_they_come_back_whatever_happens_to_the_pair(pair) -> None:
    likelihood = pair.network.likelihood
    before = likelihood.distractor_part
    run = run_on(pair.network, model(), 200, replace(TRAINING, n_steps=10, n_validations=1))
    batch = run.simulated.sets[0]

    def fails() -> None:
        with learned_alone(run):
            assert likelihood.distractor_part is None
            assert likelihood.log_prob(batch.observables, batch.parameters).shape == (160, 1)
            raise RuntimeError("of the pair")

    with pytest.raises(RuntimeError, match="of the pair"):
        fails()
    assert likelihood.distractor_part is before


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        (FlatSummarySettings(informative=(1, 4)), {1, 4}),
        (FlatSummarySettings(), set(range(SIZE))),
        (SetSummarySettings(), set(range(SIZE))),
    ],
)
def test_surrogates_have_distractors_if_the_posterior_looks_at_them(settings, seen) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        posterior = PosteriorNetwork(
            [None] * SIZE, [False] * SIZE, 1, settings=PosteriorSettings(settings)
        )
        likelihood = VectorLikelihood([Support()] * SIZE, 1, settings=NETWORK.likelihood)
    assert {i for i in range(SIZE) if posterior.sees(i)} == seen
    run = run_on(JointNetwork(posterior, likelihood), model(), 50)
    made, _ = Surrogates(run, 4, seed=1)(0)
    drawn = made.observables[:, 0].abs().sum(0) > 0
    assert drawn.tolist() == [i in seen | {1, 4} for i in range(SIZE)]
