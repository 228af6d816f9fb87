"""The trained pair in the user's hands: ArviZ groups, files, the round trip through PyMC."""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path
from types import SimpleNamespace

import arviz as az
import numpy as np
import pymc as pm
import pytest
from conjugate import SMALL, exact_posterior, normal_mean, normal_prior
from scipy import stats
from sequences import recurrent_likelihood

import jana_pymc as jana
from jana_pymc.approximators import JointApproximator
from jana_pymc.approximators.serialization import _check_prior
from jana_pymc.inference_data import to_groups
from jana_pymc.simulation import ParameterLayout
from jana_pymc.training import TrainingHistory

pytestmark = [pytest.mark.arviz, pytest.mark.bridge, pytest.mark.trains]


@pytest.fixture(scope="module")
def approximator() -> JointApproximator:
    return jana.fit(
        normal_mean(),
        n_simulations=5_000,
        network=SMALL,
        training=jana.TrainingSettings(n_steps=1_500),
        random_seed=1,
        progressbar=False,
    )


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(5).normal(0.8, 1.0, 12)}


def test_groups_names_and_shapes(approximator, data) -> None:
    result = approximator.sample(data, draws=50, chains=4, random_seed=1)
    groups = to_groups(result)
    assert set(groups) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "posterior_predictive",
        "prior",
        "observed_data",
    }
    assert groups["posterior"]["mu"].dims == ("chain", "draw")
    assert groups["posterior"]["mu"].shape == (4, 50)
    assert groups["log_likelihood"]["y"].shape == (4, 50, 12)
    assert groups["posterior_predictive"]["x"].shape == (4, 50, 12)
    assert set(groups["sample_stats"]) == {"lp", "log_q"}
    np.testing.assert_array_equal(groups["observed_data"]["x"], data["x"])


def test_log_joint_and_log_q_belong_to_the_draws(approximator, data) -> None:
    groups = to_groups(approximator.sample(data, draws=20, chains=2, random_seed=1))
    mu = groups["posterior"]["mu"].to_numpy().ravel()
    log_prior = stats.norm(0.0, 2.0).logpdf(mu)
    pointwise = groups["log_likelihood"]["y"].to_numpy().reshape(40, 12)
    lp = groups["sample_stats"]["lp"].to_numpy().ravel()
    np.testing.assert_allclose(lp, log_prior + pointwise.sum(1), rtol=1e-6)
    log_q = approximator.log_prob({"mu": mu}, data)
    np.testing.assert_allclose(groups["sample_stats"]["log_q"].to_numpy().ravel(), log_q, atol=1e-4)


def test_arviz_works_on_it_untouched(approximator, data) -> None:
    first = approximator.sample(data, random_seed=1)
    second = approximator.sample(data, random_seed=2)
    loo = az.loo(first)
    elpd = loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd
    exact = 0.0
    for i, x in enumerate(data["x"]):
        mean, sd = exact_posterior(np.delete(data["x"], i))
        exact += stats.norm(mean, np.hypot(sd, 1.0)).logpdf(x)
    assert elpd == pytest.approx(exact, abs=0.5)
    assert len(az.compare({"first": first, "second": second})) == 2
    summary = az.summary(first, kind="diagnostics", round_to="none")
    assert float(summary["r_hat"].max()) < 1.02


def test_many_data_sets_at_once(approximator, data) -> None:
    other = {"x": np.linspace(-3.0, 0.0, 7)}
    result = approximator.sample([data, other], draws=500, chains=2, random_seed=1)
    assert to_groups(result)["log_likelihood"]["y"].sizes["dataset"] == 2
    for i, d in enumerate((data, other)):
        alone = to_groups(jana.select_dataset(result, i))
        assert alone["log_likelihood"]["y"].shape == (2, 500, len(d["x"]))
        mean, sd = exact_posterior(d["x"])
        assert float(alone["posterior"]["mu"].mean()) == pytest.approx(mean, abs=0.3 * sd)


def test_one_data_set_given_as_many_keeps_their_dimension(approximator, data) -> None:
    simulations = approximator.simulate({"mu": [0.8]}, 12, random_seed=1).dataset
    for given in ([data], (data,), simulations):
        groups = to_groups(approximator.sample(given, draws=5, random_seed=1))
        assert groups["posterior"]["mu"].dims == ("chain", "draw", "dataset")
        assert groups["observed_data"]["x"].dims == ("dataset", "obs")


def test_same_seed_same_draws(approximator, data) -> None:
    first, second = (
        to_groups(approximator.sample(data, draws=5, random_seed=4))["posterior"]["mu"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_groups_can_be_chosen(approximator, data) -> None:
    result = approximator.sample(data, draws=5, groups=("posterior",), random_seed=1)
    assert set(to_groups(result)) == {"posterior"}
    with pytest.raises(ValueError, match="posteriors"):
        approximator.sample(data, groups=("posteriors",))


def test_save_and_load(approximator, data, tmp_path: Path) -> None:
    path = approximator.save(tmp_path / "pair.safetensors")
    loaded = jana.load(path, normal_prior())
    assert loaded.likelihood == approximator.likelihood
    np.testing.assert_array_equal(
        to_groups(loaded.sample(data, draws=5, random_seed=1))["posterior"]["mu"],
        to_groups(approximator.sample(data, draws=5, random_seed=1))["posterior"]["mu"],
    )
    assert loaded.history == approximator.history
    assert jana.load(path, normal_mean()).model is not None


def test_another_prior_is_refused(approximator, tmp_path: Path) -> None:
    path = approximator.save(tmp_path / "pair.safetensors")
    with pm.Model() as wider:
        pm.Normal("mu", 0.0, 3.0)
    with pytest.raises(ValueError, match="density differs"):
        jana.load(path, wider)
    with pm.Model() as renamed:
        pm.Normal("m", 0.0, 2.0)
    with pytest.raises(ValueError, match=r"the prior's parameters \(m\) differ .* file \(mu\)"):
        jana.load(path, renamed)


@pytest.mark.parametrize(
    ("dim", "labels", "message"),
    [
        ("site", ("a", "b"), r"dims \(psi: \('site',\)\) differ .* \(psi: \('hab',\)\)"),
        ("hab", ("a", "c"), r"coords \(hab: \('a', 'c'\)\) differ .* \(hab: \('a', 'b'\)\)"),
    ],
)
def test_what_differs_in_another_prior_is_named(dim, labels, message) -> None:
    def layout(dim: str, labels: tuple[str, ...]) -> ParameterLayout:
        return ParameterLayout(("psi",), {"psi": (2,)}, {"psi": (dim,)}, {dim: labels})

    stored = {"layout": json.loads(json.dumps(layout("hab", ("a", "b")).to_dict()))}
    with pytest.raises(ValueError, match=f"the prior's {message}"):
        _check_prior(SimpleNamespace(layout=layout(dim, labels)), stored)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observables": {"y": jana.Continuous()}}, r"observables \(y: .*pair in the file \(x: "),
        ({"observables": {"x": jana.Count()}}, r"observables \(x: Count"),
        ({"structure": "markovian"}, r"structures \(markovian\) differ from those of the pair"),
        (
            {"conditions": {"d": jana.Continuous()}, "design": "simulator"},
            r"conditions \(d: .* differ from those of the pair in the file \(none\)",
        ),
    ],
)
def test_a_model_of_other_data_is_refused(approximator, tmp_path, options, message) -> None:
    path = approximator.save(tmp_path / "pair.safetensors")
    declared = {"observables": {"x": jana.Continuous()}, "n_obs": (5, 15), **options}
    other = jana.GenerativeModel(normal_prior(), lambda rng, mu, n_obs: {}, **declared)
    with pytest.raises(ValueError, match=message):
        jana.load(path, other)


def test_a_model_of_other_sizes_is_welcome(approximator, tmp_path: Path) -> None:
    path = approximator.save(tmp_path / "pair.safetensors")
    other = jana.GenerativeModel(
        normal_prior(),
        lambda rng, mu, n_obs: {"x": rng.normal(mu, 1.0, n_obs)},
        observables={"x": jana.Continuous()},
        n_obs=(2, 30),
    )
    assert jana.load(path, other).schema.n_obs == (5, 15)


def test_a_path_is_a_path(approximator) -> None:
    with pytest.raises(TypeError, match="path is NoneType; expected the name of a file"):
        jana.load(None, normal_prior())
    with pytest.raises(TypeError, match="path is NoneType; expected the name of a file"):
        approximator.save(None)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pair.safetensors"
    path.write_bytes(b"not a file of ours")
    with pytest.raises(jana.StorageError, match="safetensors"):
        jana.load(path, normal_prior())


def test_log_prob_of_no_number_is_refused(approximator) -> None:
    with pytest.raises(ValueError, match="parameters: 'mu' is NaN in some of the draws"):
        approximator.likelihood.log_prob({"x": np.zeros(9)}, {"mu": [0.0, np.nan]})


def test_a_batch_of_no_data_sets_is_refused(approximator) -> None:
    batch = approximator.schema.batch({"x": np.zeros(9)})
    with pytest.raises(ValueError, match="the batch of data sets is empty"):
        approximator.sample(batch[:0])


def test_untrained_networks_are_refused(approximator) -> None:
    with pytest.raises(ValueError, match="untrained"):
        JointApproximator(
            approximator.network,
            settings=SMALL,
            prior=approximator.prior,
            schema=approximator.schema,
            region=approximator.region,
            positive=(False,),
            history=TrainingHistory(),
        )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"y": [1.0] * 8}, "x"),
        ({"x": np.array([[1.0, 2.0]] * 8)}, "x"),
        ({"x": [1.0, np.nan] * 4}, "x"),
        ({"x": ["fast"] * 8}, "x"),
    ],
)
def test_bad_data_are_named(approximator, bad, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        approximator.sample(bad)


def test_a_size_never_trained_on_warns(approximator) -> None:
    with pytest.warns(UserWarning, match="n_obs=40"):
        approximator.sample({"x": np.zeros(40)}, draws=5, groups=("posterior",), random_seed=1)


@pytest.mark.usefixtures("compiled")
def test_nuts_agrees_with_the_exact_posterior(approximator, data) -> None:
    with normal_prior() as model:
        approximator.likelihood("y", mu=model["mu"], observed=data)
        result = pm.sample(
            draws=500,
            tune=300,
            chains=2,
            cores=1,
            nuts_sampler="pymc",
            random_seed=1,
            progressbar=False,
        )
    mean, sd = exact_posterior(data["x"])
    mu = np.asarray(result["posterior"]["mu"])
    assert mu.mean() == pytest.approx(mean, abs=0.3 * sd)
    assert mu.std() == pytest.approx(sd, rel=0.2)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)
def test_train_then_sample_in_forked_processes(approximator, data) -> None:
    """A backward pass with many threads before the fork must not leave the children waiting.

    They call torch through the Op alone.
    """
    draws = []

    def sample() -> None:
        with normal_prior() as model:
            approximator.likelihood("y", mu=model["mu"], observed=data, backend="op")
            result = pm.sample(
                draws=20,
                tune=20,
                chains=2,
                cores=2,
                mp_ctx="fork",
                nuts_sampler="pymc",
                random_seed=1,
                progressbar=False,
                compute_convergence_checks=False,
            )
        draws.append(np.asarray(result["posterior"]["mu"]))

    for _ in range(2):
        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        thread.join(timeout=120)
        assert not thread.is_alive(), "sampling does not come back"
    np.testing.assert_array_equal(draws[0], draws[1])


def test_a_parameter_cannot_be_the_observed_name(approximator, data) -> None:
    with pytest.raises(ValueError, match="observed_name='mu' is the name of a parameter"):
        approximator.sample(data, observed_name="mu")


@pytest.mark.parametrize("name", ["chain", "draw", "dataset", "obs", 3, None])
def test_an_observed_name_is_no_dimension(approximator, data, name) -> None:
    error, message = (
        (ValueError, "is the name of a dimension; choose another")
        if isinstance(name, str)
        else (TypeError, "expected the name of a variable, a string")
    )
    with pytest.raises(error, match=f"observed_name={name!r}.*{message}"):
        approximator.sample(data, observed_name=name)


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        (None, TypeError, "groups=None: expected a sequence of names"),
        ("prior", TypeError, r"groups='prior': expected a sequence of names, \('prior',\)"),
        ([["posterior"]], TypeError, r"groups=\[\['posterior'\]\]: expected names"),
        ([], ValueError, r"groups=\[\] is empty; choose from"),
        (iter(["posterior"]), TypeError, "expected a sequence of names"),
    ],
)
def test_bad_groups_are_named(approximator, data, groups, error, message) -> None:
    with pytest.raises(error, match=message):
        approximator.sample(data, groups=groups)


def test_densities_are_of_one_data_set(approximator, data) -> None:
    with pytest.raises(ValueError, match="2 data sets; log_prob takes one"):
        approximator.log_prob({"mu": [0.0, 1.0]}, [data, data])


def test_reprs_say_what_is_given_what(approximator) -> None:
    for part in (approximator, approximator.posterior):
        assert "mu | x" in repr(part)
    assert "x | mu" in repr(approximator.likelihood)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": "long"}, "training is str; expected TrainingSettings"),
        ({"network": "deep set"}, "network is str; expected NetworkSettings"),
        ({"simulations": {"x": [1.0]}}, "simulations is dict; expected what model.simulate"),
    ],
)
def test_arguments_of_another_type_are_refused(options, message) -> None:
    with pytest.raises(TypeError, match=message):
        jana.fit(normal_mean(), progressbar=False, **options)


def test_no_posterior_density_outside_the_prior() -> None:
    def simulator(rng, rate, n_obs):
        return {"x": rng.exponential(1.0 / rate, np.broadcast_shapes(np.shape(rate), (n_obs,)))}

    with pm.Model() as prior:
        pm.Gamma("rate", 2.0, 2.0)
    model = jana.GenerativeModel(
        prior, simulator, observables={"x": jana.Continuous(lower=0.0)}, n_obs=5, vectorized=True
    )
    training = jana.TrainingSettings(n_steps=2, patience=None)
    with pytest.warns(UserWarning, match="half-trained"):
        pair = jana.fit(
            model, n_simulations=400, training=training, random_seed=1, progressbar=False
        )
    log_q = pair.log_prob({"rate": [-1.0, 0.5]}, {"x": np.linspace(0.1, 2.0, 5)})
    assert log_q[0] == -np.inf and np.isfinite(log_q[1])


def test_a_likelihood_evaluates_on_the_device_it_is_sent_to() -> None:
    likelihood = recurrent_likelihood()
    moved = likelihood.to("cpu")
    assert moved == likelihood and moved is not likelihood
    x = likelihood.simulate([[0.3, 0.6]], 9, random_seed=1)[0]
    np.testing.assert_array_equal(
        moved.log_prob(x, [[0.3, 0.6]]), likelihood.log_prob(x, [[0.3, 0.6]])
    )
    with pytest.raises(ValueError, match="device='nowhere': expected 'auto', 'cpu'"):
        likelihood.to("nowhere")
