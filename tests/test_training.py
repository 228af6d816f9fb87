"""Training: what is learned, what repeats, what survives a kill, what is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import torch
from conjugate import exact_posterior, normal_mean, normal_prior, simulator

from jana_pymc.fitting import fit
from jana_pymc.flows import FlowSettings
from jana_pymc.joint_network import squared_mmd
from jana_pymc.likelihoods import AutoregressiveSettings, VectorSettings
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import DeepSetSettings, SetSummarySettings
from jana_pymc.posterior import PosteriorSettings
from jana_pymc.simulation import Continuous, GenerativeModel, Simulations
from jana_pymc.storage import StorageError
from jana_pymc.training import (
    SimulationRounds,
    StoredSimulations,
    TrainingError,
    TrainingHistory,
    TrainingRun,
    TrainingSettings,
    resolve_device,
)
from jana_pymc.training.step import TrainingStep

pytestmark = pytest.mark.trains

SMALL = NetworkSettings(
    PosteriorSettings(
        SetSummarySettings(
            n_summaries=4,
            n_quantiles=4,
            hidden=(16,),
            deep_set=DeepSetSettings(hidden=(8,), n_extremes=2),
        ),
        FlowSettings(n_layers=2, hidden=(16,), n_bins=4),
    ),
    AutoregressiveSettings(hidden=(16,), n_bins=6),
)
LINEAR_FIRST = NetworkSettings(
    PosteriorSettings(
        SMALL.posterior.summary,
        FlowSettings(transform="autoregressive", n_layers=1, hidden=(8,), n_bins=4),
    ),
    VectorSettings(n_layers=1, hidden=(8,), conditioner_hidden=8, n_bins=4),
)
PLAIN = TrainingSettings(n_steps=60, n_validations=6)


def train_small(n_steps: int = 60, **options):
    training = options.pop("training", TrainingSettings(n_steps=n_steps, n_validations=6))
    return fit(
        normal_mean(),
        **{
            "n_simulations": 500,
            "network": SMALL,
            "training": training,
            "random_seed": 1,
            "progressbar": False,
            **options,
        },
    )


def weights(approximator) -> dict[str, torch.Tensor]:
    return approximator.network.state_dict()


def assert_same_weights(first, second) -> None:
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


@pytest.fixture(scope="module")
def trained():
    return train_small(2_000, n_simulations=5_000)


def test_posterior_is_near_the_exact_one(trained) -> None:
    rng = np.random.default_rng(5)
    for n, mu in ((5, -2.0), (10, 0.5), (15, 2.0)):
        x = rng.normal(mu, 1.0, n)
        mean, sd = exact_posterior(x)
        draws = trained.posterior.sample(trained.schema.batch({"x": x}), 4_000, random_seed=1)
        assert draws.mean() == pytest.approx(mean, abs=0.3 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.2)


@pytest.mark.parametrize("mu", [-2.0, 0.5, 2.0])
def test_likelihood_is_near_the_exact_one(trained, mu: float) -> None:
    """Kullback-Leibler divergence by quadrature, in nats an observation."""
    x = torch.linspace(mu - 6.0, mu + 6.0, 2001)
    with torch.no_grad():
        log_prob = trained.network.likelihood.log_prob(x[None, :, None], torch.tensor([[mu]]))[0]
    exact = torch.distributions.Normal(mu, 1.0).log_prob(x)
    divergence = torch.trapezoid(exact.exp() * (exact - log_prob), x)
    assert 0.0 <= float(divergence) < 0.01


def test_same_seed_same_weights() -> None:
    assert_same_weights(train_small(), train_small())


def test_global_torch_state_is_left_alone() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train_small()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_gradients_switched_off_by_others_are_no_obstacle() -> None:
    with torch.no_grad():  # as BayesFlow does for the whole process
        train_small()
        assert not torch.is_grad_enabled()


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("online", "network", "training"),
    [
        (False, SMALL, PLAIN),
        (True, SMALL, PLAIN),
        (False, LINEAR_FIRST, replace(PLAIN, linear_steps=20, weight_average=0.9)),
    ],
    ids=["stored", "online", "linear first"],
)
@pytest.mark.filterwarnings("ignore:half-trained")
def test_killed_run_resumes_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    online: bool,
    network: NetworkSettings,
    training: TrainingSettings,
) -> None:
    options = {"online": online, "network": network, "training": training}
    whole = train_small(**options)
    path = tmp_path / "checkpoint.safetensors"
    original = StoredSimulations._draw

    def killed(self, which, data, step):
        if path.exists() and self.kills_at == step:
            raise Killed
        return original(self, which, data, step)

    monkeypatch.setattr(StoredSimulations, "kills_at", 35 if not online else 2, raising=False)
    monkeypatch.setattr(StoredSimulations, "_draw", killed)
    with pytest.raises(Killed):
        train_small(checkpoint=path, **options)
    monkeypatch.setattr(StoredSimulations, "_draw", original)
    resumed = train_small(checkpoint=path, **options)
    assert_same_weights(whole, resumed)
    assert resumed.history.step == whole.history.step
    assert resumed.history.validation_posterior == whole.history.validation_posterior
    np.testing.assert_array_equal(resumed.likelihood.region, whole.likelihood.region)


def test_the_trained_region_holds_all_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    learned = []
    get_round = SimulationRounds._round

    def noted(self, number):
        stored = get_round(self, number)
        learned.append(stored.sets[0].parameters.numpy())
        return stored

    monkeypatch.setattr(SimulationRounds, "_round", noted)
    region = train_small(300, online=True, n_simulations=40).likelihood.region
    learned = np.concatenate(learned)
    assert len(learned) >= 200
    first = normal_mean().simulate(40, random_seed=1, progressbar=False).parameters
    assert region[0] <= learned.min() and region[1] >= learned.max()
    assert np.ptp(region) > np.ptp(first)


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    train_small(checkpoint=path)
    with pytest.raises(StorageError, match="seed"):
        train_small(checkpoint=path, random_seed=2)
    with pytest.raises(StorageError, match="n_steps=60, not 90"):
        train_small(90, checkpoint=path)
    with pytest.raises(StorageError, match="another architecture"):
        train_small(checkpoint=path, network=replace(SMALL, likelihood=AutoregressiveSettings()))


def test_arguments_are_checked_before_anything_is_simulated() -> None:
    for options, message in (
        ({"online": "no"}, "online='no': expected True or False"),
        ({"progressbar": 0}, "progressbar=0: expected True or False"),
        ({"n_simulations": 2.5}, "n_simulations=2.5: expected an integer"),
    ):
        with pytest.raises(TypeError, match=message):
            train_small(**options)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("no/such/c.safetensors", FileNotFoundError, "there is no folder .*no/such'; make it"),
        ("", IsADirectoryError, "checkpoint=.* it is a folder; name a file in it"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type, message: str
) -> None:
    def simulate(*arguments, **options):
        raise AssertionError("simulated before")

    monkeypatch.setattr("jana_pymc.simulation.GenerativeModel.simulate", simulate)
    with pytest.raises(error, match=message):
        train_small(checkpoint=tmp_path / name)


@pytest.mark.parametrize(
    ("simulations", "message"),
    [
        (5, "simulations is int; expected what model.simulate"),
        ("file.nc", "simulations is str; expected what model.simulate"),
        ([5], "simulations hold int; expected what model.simulate"),
    ],
)
def test_what_holds_no_simulations_is_named(simulations: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        train_small(simulations=simulations)


def test_sets_that_have_no_place_are_refused() -> None:
    model = normal_mean(proposal=normal_prior())
    options = {"random_seed": 1, "progressbar": False}
    prior = model.simulate(30, **options)
    proposal = model.simulate(30, source="proposal", **options)
    given = model.simulate(parameters=np.zeros((30, 1)), **options)
    with pytest.raises(ValueError, match=r"2 sets from the prior; .* with Simulations.concat"):
        fit(model, simulations=[prior, prior], **options)
    with pytest.raises(ValueError, match="3 sets, from prior, proposal, given; expected one from"):
        fit(model, simulations=[prior, proposal, given], **options)
    with pytest.raises(ValueError, match="needs some that were drawn from the prior"):
        fit(model, simulations=[], **options)


def test_simulations_of_another_prior_are_refused(tmp_path: Path) -> None:
    with pm.Model() as wider:
        pm.Normal("mu", 0.0, 3.0)
    other = GenerativeModel(
        wider, simulator, observables={"x": Continuous()}, n_obs=(5, 15), vectorized=True
    )
    simulations = other.simulate(60, random_seed=1, progressbar=False)
    again = Simulations.load(simulations.save(tmp_path / "simulations.nc"))
    for each in (simulations, again[:40], Simulations.concat([again, simulations])):
        with pytest.raises(ValueError, match="the prior has another density"):
            train_small(simulations=each)


@pytest.mark.parametrize("n_proposal", [20, 60, 600])
def test_each_source_holds_out_its_share(monkeypatch: pytest.MonkeyPatch, n_proposal: int) -> None:
    class Begun(Exception):
        pass

    def train(self, source):
        raise Begun(self)

    monkeypatch.setattr(TrainingRun, "train", train)
    model, options = normal_mean(proposal=normal_prior()), {"progressbar": False, "random_seed": 1}
    sets = [
        model.simulate(n, source=source, **options)
        for n, source in ((500, "prior"), (n_proposal, "proposal"))
    ]
    training = replace(PLAIN, validation_fraction=0.1)
    with pytest.raises(Begun) as begun:
        fit(model, simulations=sets, network=SMALL, training=training, **options)
    (run,) = begun.value.args
    n = min(n_proposal // 10, 50)  # no more than from the prior
    assert [len(each) for each in run.held_out] == [50, n]
    assert [len(each) for each in run.simulated.sets] == [450, n_proposal - n]
    both = torch.cat([run.held_out[1].parameters, run.simulated.sets[1].parameters])
    np.testing.assert_array_equal(both, np.float32(sets[1].parameters))
    assert [len(each) for each in run.simulated.batch(7)] == [128, min(128, n_proposal - n)]


def test_a_prior_without_a_density_is_refused_before_it_is_simulated_from() -> None:
    def draw(rng=None, size=None):
        return rng.normal(size=size)

    def simulated(rng, mu, n_obs):
        raise AssertionError("simulated before")

    with pm.Model() as prior:
        pm.CustomDist("mu", random=draw)
    model = GenerativeModel(prior, simulated, observables={"x": Continuous()}, n_obs=(5, 15))
    with pytest.raises(ValueError, match=r"no log density.*CustomDist logp=, or dist=.*_mu"):
        fit(model, n_simulations=100, random_seed=1, progressbar=False)


def test_checkpoint_needs_a_seed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="random_seed"):
        train_small(checkpoint=tmp_path / "c.safetensors", random_seed=None)


def test_early_stopping_restores_the_best_weights() -> None:
    stopped = train_small(
        n_simulations=40,
        training=TrainingSettings(n_steps=3_000, n_validations=300, batch_size=32, patience=5),
    )
    history = stopped.history
    assert history.step[-1] < 3_000
    assert history.best_posterior < history.validation_posterior[-1] + 1e-9
    assert history.validations_without_progress() == 5


def test_a_network_that_loses_its_way_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    original = TrainingStep.schedule

    def thrown(self, step):
        original(self, step)
        if step == 200:
            with torch.no_grad():
                for weight in self.network.posterior.parameters():
                    weight.add_(0.2)

    monkeypatch.setattr(TrainingStep, "schedule", thrown)
    history = train_small(training=TrainingSettings(n_steps=300, n_validations=30)).history
    before, lost, after = (history.validation_posterior[i] for i in (19, 20, 21))
    assert lost > before + 5.0
    assert after < before + 0.3
    assert history.best_posterior < before
    assert max(history.validation_likelihood[19:]) < history.validation_likelihood[19] + 0.1


def test_summary_term_pulls_summaries_towards_a_standard_normal() -> None:
    def summary_mmd(mmd_weight: float) -> float:
        fitted = train_small(training=TrainingSettings(n_steps=400, mmd_weight=mmd_weight))
        batch = normal_mean().simulate(300, random_seed=9, progressbar=False).batch()
        summary = torch.as_tensor(fitted.posterior.summarize(batch))
        target = torch.randn(summary.shape, generator=torch.Generator().manual_seed(0))
        return float(squared_mmd(summary, target))

    assert summary_mmd(1.0) < 0.5 * summary_mmd(0.0)


def test_mmd_is_zero_for_equal_samples_and_grows_with_distance() -> None:
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    assert float(squared_mmd(x, x)) == pytest.approx(0.0, abs=1e-5)
    near, far = (float(squared_mmd(x, x + shift)) for shift in (0.5, 3.0))
    assert 0.0 < near < far


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        train_small(training=TrainingSettings(n_steps=200, learning_rate=1e30, gradient_clip=1e30))


def at_the_edges(rng, mu, n_obs):
    """Logit-normal: of a hundred one, as of Beta(1/2, 1/2) fewer, rounds to 1."""
    return {"x": 1.0 / (1.0 + np.exp(-rng.normal(mu, 7.0, (len(mu), n_obs))))}


def above_mu(rng, mu, n_obs):
    """Above a parameter, and of seven one by less than a number of single precision."""
    return {"x": mu + np.exp(rng.normal(-12.0, 3.0, (len(mu), n_obs)))}


@pytest.mark.parametrize(
    ("simulator", "mean", "kind"),
    [
        (at_the_edges, 0.0, Continuous(lower=0.0, upper=1.0)),
        (above_mu, 5.0, Continuous(lower="mu")),
    ],
)
def test_data_at_the_edge_of_their_support_have_finite_losses(simulator, mean, kind) -> None:
    with pm.Model() as prior:
        pm.Normal("mu", mean, 1.0)
    model = GenerativeModel(
        prior, simulator, observables={"x": kind}, n_obs=(5, 15), vectorized=True
    )
    options = {"network": SMALL, "training": PLAIN, "random_seed": 1, "progressbar": False}
    history = fit(model, n_simulations=500, **options).history
    for losses in (history.likelihood, history.validation_likelihood, history.validation_posterior):
        assert np.isfinite(losses).all()


def test_too_few_simulations_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        train_small(n_simulations=10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"random_seed": "a"}, TypeError, "random_seed='a': expected an integer or None"),
        ({"random_seed": -1}, ValueError, "random_seed=-1: expected 0 or more"),
        ({"checkpoint": 5}, TypeError, "checkpoint=5: expected the path of a file"),
        (
            {"training": TrainingSettings(validation_fraction=0.999)},
            ValueError,
            "validation_fraction=0.999 leaves 0 of 100 simulations to train on",
        ),
    ],
)
def test_bad_arguments_are_named(options, error, message) -> None:
    options = {"random_seed": 1, "progressbar": False, **options}
    with pytest.raises(error, match=message):
        fit(normal_mean(), n_simulations=100, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps=0"),
        ({"optimizer": "sgd"}, "optimizer='sgd'"),
        ({"weight_decay": 0.1}, "adamw"),
        ({"validation_fraction": 1.5}, "validation_fraction"),
    ],
)
def test_bad_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**options)


@pytest.mark.parametrize("name", ["shape_shrinkage", "weight_decay", "mmd_weight"])
@pytest.mark.parametrize("value", ["a", None, True])
def test_settings_that_are_no_numbers_are_named(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name}={value!r}: expected a number"):
        TrainingSettings(**{name: value})


def test_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="cuda:99"):
        resolve_device("cuda:99")
    for name in ("meta", "gpu"):
        expected = f"device='{name}': expected 'auto', 'cpu', 'cuda' or 'cuda:N'.$"
        with pytest.raises(ValueError, match=expected):
            resolve_device(name)


@pytest.mark.parametrize("device", [None, 1.5, ["cpu"]])
def test_a_device_that_is_no_name_is_named(device: object) -> None:
    with pytest.raises(TypeError, match=r"expected 'auto', the name of a device"):
        resolve_device(device)


def test_settings_of_numpy_numbers_are_plain_ones() -> None:
    given = TrainingSettings(
        n_steps=np.int64(300),
        linear_steps=np.int32(3),
        learning_rate=np.float32(0.25),
        weight_average=np.float64(0.5),
        patience=np.int64(4),
        n_threads=np.int64(1),
    )
    plain = TrainingSettings(
        n_steps=300,
        linear_steps=3,
        learning_rate=0.25,
        weight_average=0.5,
        patience=4,
        n_threads=1,
    )
    assert json.dumps(asdict(given)) == json.dumps(asdict(plain))


def test_checkpoint_of_other_simulations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    training = TrainingSettings(n_steps=20, patience=None)
    options = {"training": training, "random_seed": 7, "progressbar": False, "checkpoint": path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # half-trained
        fit(normal_mean(), n_simulations=200, **options)
        with pytest.raises(StorageError, match="other simulations"):
            fit(normal_mean(), n_simulations=240, **options)


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ([3.0, 1.0, 0.4, 0.2, 0.11, 0.1, 0.1, 0.1], ()),
        ([3.0, 2.6, 2.2, 1.8, 1.4, 1.0, 0.6, 0.2], ("posterior",)),
        ([3.0], ()),
        ([np.nan, 2.6, 2.2, 1.8, np.nan, 1.0, 0.6, 0.2], ("posterior",)),
        ([np.inf, 2.6, 2.2, 1.8, 1.4, 1.0, 0.6, 0.2], ("posterior",)),
        ([np.nan] * 8, ()),
    ],
)
def test_a_loss_that_still_falls_is_seen(losses: list[float], found: tuple[str, ...]) -> None:
    flat = [1.0] * len(losses)
    history = TrainingHistory(
        step=list(range(len(losses))), validation_posterior=losses, validation_likelihood=flat
    )
    assert history.still_falling() == found


FALLS, SETTLES = [3.0, 2.6, 2.2, 1.8, 1.4, 1.0, 0.6, 0.2], [3.0, 1.0, 0.4, 0.3, 0.2, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("posterior", "likelihood", "later", "found"),
    [
        (SETTLES, FALLS, [0.1] * 8, ("likelihood",)),
        (SETTLES, SETTLES, [0.1] * 8, ()),
        (FALLS, SETTLES, [0.1, 0.09, 0.08, 0.08, 0.08], ()),  # the later stage has settled
        (SETTLES, SETTLES, [5.0 * each - 15.0 for each in FALLS], ("posterior",)),
        (SETTLES, SETTLES, [-4.0, -4.1, -4.11, -4.11], ()),  # a jump between stages is no fall
    ],
)
def test_each_network_is_judged_by_the_stage_in_which_it_last_learned(
    posterior: list[float], likelihood: list[float], later: list[float], found: tuple[str, ...]
) -> None:
    def history(posterior: list[float], likelihood: list[float]) -> TrainingHistory:
        n = list(range(len(posterior)))
        return TrainingHistory(n, n, posterior, likelihood, posterior, likelihood)

    pair = history(posterior, likelihood)
    rehearsed = pair.followed_by(history(later, [np.nan] * len(later)))
    assert rehearsed.still_falling() == found


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_steps": 2.5}, TypeError, "n_steps=2.5: expected an integer"),
        ({"batch_size": "a"}, TypeError, "batch_size='a': expected an integer"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate=-1.0: expected a positive"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate=nan"),
        ({"learning_rate": "a"}, TypeError, "learning_rate='a': expected a number"),
        ({"patience": 0}, ValueError, "patience=0: expected at least 1, or None"),
        ({"patience": True}, TypeError, "patience=True: expected an integer, or None"),
        ({"likelihood_obs": 0}, ValueError, "likelihood_obs=0: expected at least 1, or None"),
        ({"linear_steps": "a"}, TypeError, "linear_steps='a': expected an integer"),
        ({"linear_steps": 1.5}, TypeError, "linear_steps=1.5: expected an integer"),
        ({"linear_steps": True}, TypeError, "linear_steps=True: expected an integer"),
        ({"linear_steps": 10_000}, ValueError, "linear_steps=10000: expected fewer than n_steps"),
        ({"weight_average": "a"}, TypeError, "weight_average='a': expected .* below 1, or None"),
        ({"weight_average": 1.0}, ValueError, "weight_average=1.0: expected .* below 1, or None"),
        ({"validation_fraction": "a"}, TypeError, "validation_fraction='a': expected a number"),
        ({"n_threads": np.array([1, 2])}, TypeError, r"n_threads=array\(.*'auto' or None"),
        ({"n_threads": "all"}, TypeError, "n_threads='all': expected an integer, or 'auto' or"),
        ({"optimizer": np.array(["adam"])}, ValueError, r"optimizer=array\(.* is not 'adam' or"),
        ({"mmd_weight": -1.0}, ValueError, "mmd_weight=-1.0: expected 0 or more"),
    ],
)
def test_impossible_settings_are_refused(options, error, message) -> None:
    with pytest.raises(error, match=message):
        TrainingSettings(**options)
