"""From declared structure to networks: what `fit` makes of vectors and sequences."""

import importlib
import warnings
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymc as pm
import pytest

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings, default_training
from jana_pymc.fitting.checks import check_arguments
from jana_pymc.fitting.defaults import TRIALS, candidates
from jana_pymc.fitting.ranges import constant_conditions, warn_of_atoms, warn_of_extremes
from jana_pymc.likelihoods import (
    AutoregressiveSettings,
    MarkovianSettings,
    TrajectorySettings,
    VectorSettings,
)
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import FlatSummarySettings, TimeSeriesSettings
from jana_pymc.simulation import DataSchema
from jana_pymc.training import TrainingSettings

pytestmark = pytest.mark.trains

SHORT = TrainingSettings(
    n_steps=300, batch_size=64, linear_steps=250, weight_average=0.98, patience=None
)
ANY = TrainingSettings(n_steps=60, batch_size=32, weight_average=0.9, patience=None)
"""For what holds of any weights."""


def prior(sd: float = 1.0) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("mu", 0.0, sd, shape=2)
    return model


def fit(
    model: jana.GenerativeModel, training: TrainingSettings, n_simulations: int = 400
) -> jana.JointApproximator:
    return jana.fit(
        model, n_simulations=n_simulations, training=training, random_seed=1, progressbar=False
    )


def linear_gaussian() -> jana.GenerativeModel:
    return jana.GenerativeModel(
        prior(),
        lambda rng, mu: {"x": mu + 0.5 * rng.standard_normal(mu.shape)},
        observables={"x": jana.Continuous(shape=2)},
        structure="vector",
        vectorized=True,
    )


@pytest.mark.filterwarnings("ignore:half-trained")
def test_a_linear_gaussian_vector_is_learned_by_the_linear_parts() -> None:
    approximator = fit(linear_gaussian(), SHORT, 2_000)
    x = np.array([0.8, -0.4])
    idata = approximator.sample({"x": x}, draws=2_000, chains=1, random_seed=1)
    draws = idata["posterior"]["mu"].to_numpy().reshape(-1, 2)
    with pytest.raises(ValueError, match="n_obs=3: a vector has no number of observations"):
        approximator.simulate({"mu": x}, 3)
    np.testing.assert_allclose(draws.mean(0), 0.8 * x, atol=0.06)
    np.testing.assert_allclose(draws.std(0), np.sqrt(0.2), atol=0.04)
    assert idata["posterior_predictive"]["x"].shape[-1] == 2
    log_prob = approximator.likelihood.log_prob({"x": x}, np.array([[0.5, 0.0]]))
    exact = -0.5 * ((x - [0.5, 0.0]) ** 2).sum() / 0.25 - 2 * np.log(0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_prob[0], [exact], atol=0.12)
    refined = approximator.sample({"x": x}, draws=500, chains=1, refine="psis", random_seed=1)
    assert abs(float(refined["posterior"]["mu"].mean()) - 0.8 * x.mean()) < 0.1


def counts(rng: np.random.Generator, mu: np.ndarray, n_obs: int) -> dict[str, np.ndarray]:
    share = 1.0 / (1.0 + np.exp(-mu[..., 0] - 0.2 * np.arange(n_obs) * mu[..., 1]))
    return {"k": rng.binomial(20, share)}


@pytest.mark.filterwarnings("ignore:half-trained")
def test_a_short_sequence_of_counts_is_normalised_in_every_step(tmp_path) -> None:
    model = jana.GenerativeModel(
        prior(0.5),
        counts,
        observables={"k": jana.Count(20)},
        structure="markovian",
        n_obs=4,
        vectorized=True,
    )
    approximator = fit(model, ANY)
    assert isinstance(approximator.settings.likelihood, VectorSettings)
    theta = np.array([[0.3, -0.5]])
    total = 0.0
    for k in range(21):
        last = {"k": np.array([10, 9, 9, k])}
        total += np.exp(approximator.likelihood.log_prob(last, theta)[0, 3])
    assert abs(total - 1.0) < 1e-9
    again = jana.load(approximator.save(tmp_path / "pair.safetensors"), model)
    same = {"k": np.array([10, 9, 8, 8])}
    np.testing.assert_array_equal(
        again.likelihood.log_prob(same, theta), approximator.likelihood.log_prob(same, theta)
    )
    idata = approximator.sample(same, draws=50, chains=2, random_seed=1)
    assert idata["log_likelihood"]["y"].shape == (2, 50, 4)
    assert idata["posterior_predictive"]["k"].dtype.kind == "i"
    short = {"k": np.array([10, 9, 9])}
    # Refused, and not warned of: nothing is extrapolated.
    for use in (approximator.sample, partial(jana.log_marginal_likelihood, approximator)):
        for data in (short, [short, same]):
            with pytest.raises(ValueError, match=r"have 3 observations; .* sequences of 4"):
                use(data, draws=10, random_seed=1)


def walk(rng: np.random.Generator, mu: np.ndarray, n_obs: int) -> dict[str, np.ndarray]:
    steps = mu[..., :1, 0] + rng.standard_normal((*mu.shape[:-2], n_obs))
    return {"x": np.cumsum(steps, axis=-1)}


@pytest.mark.filterwarnings("ignore:half-trained")
def test_sequences_of_differing_length_get_a_memory(tmp_path) -> None:
    model = jana.GenerativeModel(
        prior(),
        walk,
        observables={"x": jana.Continuous()},
        structure="markovian",
        n_obs=(5, 12),
        vectorized=True,
    )
    approximator = fit(model, ANY)
    assert isinstance(approximator.settings.likelihood, MarkovianSettings)
    assert isinstance(approximator.settings.posterior.summary, TimeSeriesSettings)
    again = jana.load(approximator.save(tmp_path / "pair.safetensors"), model)
    assert again.settings == approximator.settings
    for n in (5, 9):
        idata = again.sample({"x": np.arange(float(n))}, draws=20, chains=2, random_seed=1)
        assert idata["log_likelihood"]["y"].shape == (2, 20, n)
        assert np.isfinite(idata["log_likelihood"]["y"].to_numpy()).all()


def test_vectors_that_may_be_sums_of_trials_have_three_candidates() -> None:
    statistics = {"n": jana.Count(100), "x": jana.Continuous(shape=9)}

    def n_trials(schema: DataSchema, n_parameters: int = 10) -> list[int]:
        network = default_settings(schema, n_parameters)
        found = candidates(network, schema, n_parameters)
        assert found[0] is network
        normal = [each.likelihood.n_layers == 0 for each in found]
        assert normal == [False, False, True][: len(found)]
        return [each.likelihood.n_trials for each in found]

    assert n_trials(DataSchema(statistics, structure="vector")) == [0, TRIALS, TRIALS]
    assert n_trials(DataSchema(statistics, structure="vector"), 5) == [0]
    for others, conditions in (
        ({"k": jana.Categorical(2)}, {}),
        ({"n": jana.Count()}, {}),
        ({"x": jana.Continuous(lower=0.0)}, {}),
        ({}, {"dose": jana.Continuous()}),
    ):
        schema = DataSchema({**statistics, **others}, conditions, structure="vector")
        assert n_trials(schema) == [0]
    for name in statistics:
        assert n_trials(DataSchema({name: statistics[name]}, structure="vector")) == [0]
    assert not any(n_trials(DataSchema(statistics, n_obs=(2, 4))))


@pytest.mark.parametrize("within", [True, False])
def test_draws_of_one_law_have_a_candidate_with_less_freedom_of_shape(within: bool) -> None:
    vector = DataSchema({"x": jana.Continuous(shape=6)}, structure="vector")
    points = DataSchema({"x": jana.Continuous(shape=2)}, n_obs=3)
    schema = vector if within else points
    network = default_settings(schema, 3, draws=((0, 1), (2, 3), (4, 5)) if within else None)
    first, second = candidates(network, schema, 3)
    assert first is network
    layers = [each.likelihood.layers(2, 1) for each in (first, second)]
    assert layers == [3, 1]
    assert second.likelihood.conditioner_hidden < first.likelihood.conditioner_hidden
    assert second.likelihood.draws == first.likelihood.draws
    assert second.posterior is first.posterior
    assert len(candidates(default_settings(vector, 3), vector, 3)) == 1
    times = DataSchema({"rt": jana.Continuous(), "choice": jana.Categorical(2)})
    spikes = DataSchema({"k": jana.Categorical(2)}, {"u": jana.Continuous()})
    for other in (times, spikes):
        assert len(candidates(default_settings(other, 3), other, 3)) == 1


def test_structure_and_dimensions_choose_the_networks() -> None:
    ddm = DataSchema({"rt": jana.Continuous(lower=0.0), "choice": jana.Categorical(2)})
    points = DataSchema({"x": jana.Continuous(shape=2)}, n_obs=(2, 9))
    vector = DataSchema({"x": jana.Continuous(shape=2)}, structure="vector")
    mixed = DataSchema(
        {"x": jana.Continuous(), "n": jana.Count()}, structure="markovian", n_obs=(4, 4)
    )
    assert isinstance(default_settings(ddm, 4).likelihood, AutoregressiveSettings)
    assert isinstance(default_settings(points, 4).likelihood, VectorSettings)
    assert isinstance(default_settings(vector, 4).posterior.summary, FlatSummarySettings)
    assert isinstance(default_settings(mixed, 4).likelihood, MarkovianSettings)
    predator = {"prey": jana.Continuous(lower=0.0), "traps": jana.Count()}
    observed = DataSchema(predator, structure="markovian", n_obs=(4, 9), order=0)
    longer = replace(observed, n_obs=(4, 99))
    single = replace(observed, n_obs=(1, 1))
    moves, long = (default_settings(each, 4).likelihood for each in (observed, longer))
    assert isinstance(moves, TrajectorySettings) and isinstance(long, TrajectorySettings)
    assert moves.n_states and not long.n_states
    assert not default_settings(single, 4).likelihood.n_states
    assert default_training(default_settings(vector, 4), 4, vector).shape_shrinkage > 0.0
    for schema in (points, DataSchema({"k": jana.Categorical(2)}, structure="vector"), observed):
        assert default_training(default_settings(schema, 4), 4, schema).shape_shrinkage == 0.0
    choices = DataSchema({"k": jana.Categorical(3)}, structure="markovian", n_obs=(4, 4), order=0)
    assert isinstance(default_settings(choices, 4).likelihood, VectorSettings)
    for schema in (ddm, points, vector, mixed, observed, choices):
        settings = default_settings(schema, 4)
        assert NetworkSettings.from_dict(settings.to_dict()) == settings


@pytest.mark.filterwarnings("ignore:half-trained", "ignore:n_steps=")
@pytest.mark.parametrize(
    "given",
    [
        {"posterior": jana.PosteriorSettings(FlatSummarySettings(n_summaries=3))},
        {"likelihood": VectorSettings(hidden=(8,), n_bins=4)},
        {},
    ],
)
def test_what_is_left_out_is_what_the_data_imply(given: dict[str, Any], tmp_path) -> None:
    model = linear_gaussian()
    default = default_settings(model.schema, 2)
    pair = jana.fit(
        model,
        n_simulations=60,
        network=NetworkSettings(**given),
        training=TrainingSettings(n_steps=1, n_validations=1),
        random_seed=1,
        progressbar=False,
    )
    pair.save(tmp_path / "pair.safetensors")
    # Without steps for it there is no adjustment.
    unadjusted = replace(default, posterior=replace(default.posterior, adjustment=None))
    for made in (pair, jana.load(tmp_path / "pair.safetensors", model)):
        assert made.settings == replace(unadjusted, **given)


def test_only_fit_takes_settings_of_one_network() -> None:
    model = linear_gaussian()
    missing = {
        "likelihood": NetworkSettings(jana.PosteriorSettings()),
        "posterior": NetworkSettings(likelihood=VectorSettings()),
    }
    for name, settings in missing.items():
        for use in (
            lambda settings: build_network(model.schema, model.prior, [False] * 2, settings),
            lambda settings: default_training(settings, 2, model.schema),
            NetworkSettings.to_dict,
        ):
            with pytest.raises(ValueError, match=f"without {name}=: only jana_pymc.fit chooses it"):
                use(settings)


def test_arguments_of_defaults_are_checked(unchecked_annotations: None) -> None:
    schema = linear_gaussian().schema
    network = default_settings(schema, 2)
    for use, message in (
        (lambda: default_settings(2, schema), "schema=2: expected DataSchema"),
        (lambda: default_settings(schema, 0), "n_parameters=0: expected"),
        (lambda: default_training(schema, 2), "network=.*: expected NetworkSettings"),
        (lambda: default_training(network, 2.5), "n_parameters=2.5: expected"),
        (lambda: default_training(network, 2, network), "schema=.*: expected DataSchema"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            use()


def test_settings_that_do_not_fit_the_data_are_refused() -> None:
    model = linear_gaussian()
    network = NetworkSettings(likelihood=AutoregressiveSettings())
    with pytest.raises(ValueError, match="use VectorSettings"):
        jana.fit(model, n_simulations=50, network=network, progressbar=False)


def test_shapes_that_no_network_has_cannot_shrink() -> None:
    network = NetworkSettings(likelihood=jana.SoftFlowSettings())
    training = replace(ANY, shape_shrinkage=1.0)
    with pytest.raises(
        ValueError, match=r"shape_shrinkage=1\.0 is for the flows of VectorSettings"
    ):
        jana.fit(
            linear_gaussian(),
            n_simulations=50,
            network=network,
            training=training,
            progressbar=False,
        )


@pytest.mark.parametrize(
    ("structure", "n_obs", "settings", "message"),
    [
        ("exchangeable", (2, 9), FlatSummarySettings(), r"one size.*use SetSummarySettings"),
        ("markovian", (2, 9), FlatSummarySettings(), r"one size.*use TimeSeriesSettings"),
        ("vector", (1, 1), FlatSummarySettings(informative=(0, 2)), r"among 2 features"),
        ("vector", (1, 1), VectorSettings(order=1), r"order=1\) is for sequences"),
        ("exchangeable", (2, 9), jana.MarkovianSettings(), r"is for sequences, but structure='ex"),
        ("vector", (1, 1), VectorSettings(informative=(0,)), r"leaves out counts or categories"),
        ("markovian", (2, 9), AutoregressiveSettings(), r"use MarkovianSettings"),
        ("vector", (1, 1), AutoregressiveSettings(), r"use VectorSettings"),
    ],
)
def test_settings_for_other_data_are_refused(
    structure: Any, n_obs: tuple[int, int], settings: Any, message: str
) -> None:
    kinds = {"x": jana.Continuous(), "n": jana.Count()}
    schema = DataSchema(kinds, structure=structure, n_obs=n_obs)
    own = isinstance(settings, FlatSummarySettings)
    default = default_settings(schema, 2)
    chosen = (
        replace(default, posterior=replace(default.posterior, summary=settings))
        if own
        else replace(default, likelihood=settings)
    )
    with pytest.raises(ValueError, match=message):
        build_network(schema, jana.PyMCPrior(prior()), [False] * 2, chosen)


def test_older_autoregressive_flows_reverse_their_components() -> None:
    flow = jana.FlowSettings(transform="autoregressive", linear="rotation")
    posterior, likelihood = jana.PosteriorSettings(flow=flow), AutoregressiveSettings()
    values = jana.NetworkSettings(posterior, likelihood).to_dict()
    assert jana.NetworkSettings.from_dict(values).posterior.flow.linear == "rotation"
    del values["posterior"]["flow"]["n_waves"]
    assert jana.NetworkSettings.from_dict(values).posterior.flow.linear == "reversal"


def test_what_is_continuous_but_has_few_values_is_warned_of() -> None:
    def simulator(rng: np.random.Generator, mu: np.ndarray) -> dict[str, np.ndarray]:
        noise = rng.standard_normal(mu.shape[:-1])
        kinds = rng.integers(1, 4, mu.shape[:-1])
        return {"x": mu[..., 0] + noise, "n": kinds, "c": np.full(mu.shape[:-1], 2.5)}

    model = jana.GenerativeModel(
        prior(),
        simulator,
        observables={name: jana.Continuous() for name in ("x", "n", "c")},
        structure="vector",
        vectorized=True,
    )
    with pytest.warns(UserWarning, match="is declared Continuous") as caught:
        fit(model, ANY)
    found = [str(each.message) for each in caught if "different value" in str(each.message)]
    assert len(found) == 2
    assert found[0].startswith("n is declared Continuous but has 3 different values in 400")
    assert found[1].startswith("c is declared Continuous but has 1 different value in 400")
    assert "(2.5)" in found[1]


def test_a_condition_that_never_varies_is_warned_of_and_remembered(tmp_path) -> None:
    model = jana.GenerativeModel(
        prior(),
        lambda rng, mu, u, v: {"x": mu[0] + u + v + rng.standard_normal()},
        observables={"x": jana.Continuous()},
        conditions={"u": jana.Continuous(), "v": jana.Continuous()},
        design=lambda rng: {"u": 1.0, "v": rng.integers(2)},
        structure="vector",
    )
    with pytest.warns(UserWarning, match=r"condition 'u' has 1 value .*\(1\)") as caught:
        pair = fit(model, ANY)
    assert len(caught) == 1
    pair.save(tmp_path / "pair.safetensors")
    loaded = jana.load(tmp_path / "pair.safetensors", model)
    data = {"x": 0.5, "u": 1.0, "v": 0.0}
    calls = (
        loaded.posterior.batch,
        lambda data: loaded.likelihood.log_prob(data, np.zeros((1, 2))),
        lambda data: loaded.simulate(np.zeros(2), conditions={n: data[n] for n in ("u", "v")}),
    )
    for call in calls:
        call(data)
        with pytest.warns(UserWarning, match="condition 'u' reaches 2, but was 1 throughout train"):
            call({**data, "u": 2.0})


def test_conditions_are_constant_but_for_rounding_and_padding() -> None:
    schema = DataSchema(
        {"x": jana.Continuous()},
        {name: jana.Continuous() for name in ("constant", "zero", "rounded", "varied")},
        n_obs=(1, 2),
    )
    values = np.array([[[2.0, 0.0, 0.3, 1.0]] * 2, [[2.0, 0.0, np.float32(0.3), 1.001]] * 2])
    values[0, 1] = np.nan
    sets = [
        SimpleNamespace(schema=schema, batch=lambda v=v: SimpleNamespace(conditions=v[None]))
        for v in values
    ]
    found = constant_conditions(sets)
    assert list(found) == ["constant", "zero", "rounded"]
    np.testing.assert_allclose(list(found.values()), [2.0, 0.0, 0.3], rtol=1e-6)
    assert list(constant_conditions(sets[:1])) == list(schema.conditions)


def test_a_mapping_changes_some_of_the_default_training() -> None:
    model = jana.GenerativeModel(
        prior(),
        lambda rng, mu: {"x": rng.normal(mu, 1.0)},
        observables={"x": jana.Continuous(shape=2)},
        structure="vector",
    )
    simulations = model.simulate(300, random_seed=1, progressbar=False)
    settings = importlib.import_module("jana_pymc.fitting.fit")._settings
    network, default = settings(model, simulations, jana.NetworkSettings(), None)
    _, few = settings(model, simulations, network, {"n_steps": 80, "batch_size": 32})
    assert few == replace(default, n_steps=80, batch_size=32, linear_steps=20)
    assert default.linear_steps == 600 and default.rehearsal_steps > 0
    decayed = replace(default, weight_decay=0.3)
    changed = importlib.import_module("jana_pymc.fitting.fit")._changed
    assert changed(decayed, {"optimizer": "adam"}).weight_decay == 0.0
    assert changed(default, {"weight_decay": 0.1}) == replace(default, weight_decay=0.1)
    for good in ({"weight_decay": 0.1}, {"linear_steps": 12_000}, {"optimizer": "adam"}):
        check_arguments(model, None, good, None, 1, n_simulations=100)
    with pytest.raises(ValueError, match="unknown settings 'steps'; expected fields of Training"):
        jana.fit(model, training={"steps": 80})
    with pytest.raises(ValueError, match="n_steps=0"):
        jana.fit(model, training={"n_steps": 0})


def warnings_of(look: Any, simulator: Any, **options: Any) -> list[str]:
    """What is said of 400 simulations of points with a known `dose`."""
    model = jana.GenerativeModel(
        prior(),
        simulator,
        observables={"x": jana.Continuous()},
        conditions={"dose": jana.Continuous()},
        design=lambda rng, n_obs: {"dose": rng.uniform(0.5, 2.0, n_obs)},
        n_obs=20,
        **options,
    )
    simulations = model.simulate(400, random_seed=1, progressbar=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        look(simulations)
    return [str(each.message) for each in caught]


def drawn(rng: np.random.Generator, mu: np.ndarray, n_obs: int) -> np.ndarray:
    return rng.normal(mu[0], 1.0, n_obs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, dose, mu: x, None),
        (lambda x, dose, mu: x.round(1), None),  # as clocks do
        (lambda x, dose, mu: np.exp(0.7 * x).round(1), None),
        (lambda x, dose, mu: np.clip(x, -1.0, 9.0), "is -1 in "),
        (lambda x, dose, mu: np.maximum(x, 2.0), "is 2 in 9"),
        (lambda x, dose, mu: np.clip(x, -0.1, 0.1), "is "),
        (lambda x, dose, mu: dose, "equals dose in 100"),
        (lambda x, dose, mu: np.minimum(x, dose), "equals dose in "),
        (lambda x, dose, mu: np.maximum(x, mu[1]), "equals mu[1] in "),
        (lambda x, dose, mu: np.maximum(x - 2.0, mu[1]), "equals mu[1] in 9"),
    ],
    ids=[
        *("continuous", "rounded", "skewed and rounded", "clipped", "mostly clipped"),
        *("clipped at both ends", "a condition"),
        *("censored", "bounded", "mostly bounded"),
    ],
)
def test_values_that_have_a_probability_are_warned_of(change: Any, message: str | None) -> None:
    def simulator(rng: np.random.Generator, mu: np.ndarray, dose: np.ndarray, n_obs: int) -> dict:
        return {"x": change(drawn(rng, mu, n_obs), dose, mu)}

    found = warnings_of(warn_of_atoms, simulator)
    assert len(found) == (message is not None)
    if message is not None:
        assert found[0].startswith(f"x is declared Continuous but {message}")


@pytest.mark.parametrize("scale", [1.0, 1e5, 1e250])
def test_extreme_simulations_are_warned_of(scale: float) -> None:
    def simulator(rng: np.random.Generator, mu: np.ndarray, dose: np.ndarray, n_obs: int) -> dict:
        x = rng.standard_t(2, n_obs)
        return {"x": scale * x if mu[1] > 2.5 else x}

    found = warnings_of(warn_of_extremes, simulator)
    assert len(found) == (scale > 1.0)
    if found:
        assert "nine tenths lie between -" in found[0] and "Narrow the prior" in found[0]
