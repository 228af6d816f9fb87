"""The generative model: what the simulator is given, how its failures are met, and seeds."""

from __future__ import annotations

import inspect
import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy import stats

from jana_pymc.approximators import LikelihoodApproximator
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    GenerativeModel,
    PyMCPrior,
    SimulationError,
    runner,
)
from jana_pymc.simulation.block import Job
from jana_pymc.simulation.names import LIKELIHOOD_ARGUMENTS, RESERVED
from jana_pymc.tasks import ddm

N_OBS = (4, 10)
OBSERVABLES = {"x": Continuous(lower="low"), "hit": Categorical(3)}


def make_prior() -> pm.Model:
    with pm.Model(coords={"side": ["left", "right"]}) as model:
        pm.Normal("mu", dims="side")
        pm.Exponential("low", 1.0)
    return model


PRIOR = make_prior()


def one(rng, mu, low, n_obs):
    """Return one data set."""
    assert mu.shape == (2,)
    assert np.ndim(low) == 0
    return {
        "x": low + np.exp(rng.normal(mu.sum(), 1.0, n_obs)),
        "hit": rng.integers(0, 3, n_obs),
    }


def many(rng, mu, low, n_obs):
    """Return a block of data sets."""
    n_sets = len(mu)
    assert mu.shape == (n_sets, 1, 2)
    assert low.shape == (n_sets, 1)
    noise = rng.normal(size=(n_sets, n_obs))
    return {
        "x": low + np.exp(mu.sum(axis=-1) + noise),
        "hit": rng.integers(0, 3, (n_sets, n_obs)),
    }


def make_model(simulator, **options) -> GenerativeModel:
    options = {"observables": OBSERVABLES, "n_obs": N_OBS} | options
    return GenerativeModel(PRIOR, simulator, **options)


def simulate(simulator, n=50, *, simulate_options=None, **options):
    options = {"random_seed": 1, "progressbar": False} | (simulate_options or {}) | options
    model_options = {
        k: options.pop(k) for k in ("vectorized", "conditions", "design") & options.keys()
    }
    return make_model(simulator, **model_options).simulate(n, **options)


# --- what comes out ----------------------------------------------------------------------------


def test_models_may_share_a_compiled_prior() -> None:
    prior = PyMCPrior(PRIOR)
    options = {"observables": OBSERVABLES, "n_obs": N_OBS}
    shared = GenerativeModel(prior, one, proposal=prior, **options)
    assert shared.prior is shared.proposal is prior
    own = GenerativeModel(PRIOR, one, **options)
    drawn = (m.simulate(9, random_seed=1, progressbar=False) for m in (shared, own))
    xr.testing.assert_identical(*(each.dataset for each in drawn))


@pytest.mark.parametrize(("simulator", "vectorized"), [(one, False), (many, True)])
def test_simulations_follow_the_model(simulator, vectorized):
    simulations = simulate(simulator, 3000, vectorized=vectorized)
    assert len(simulations) == 3000
    assert simulations.source == "prior"
    assert simulations.failures.n_failed == 0
    dataset = simulations.dataset
    assert dict(dataset.sizes) == {"simulation": 3000, "side": 2, "obs": 10}
    assert dataset["mu"].dims == ("simulation", "side")
    assert dataset["side"].values.tolist() == ["left", "right"]
    assert dataset["hit"].dtype == np.int8
    assert stats.kstest(dataset["low"], "expon").pvalue > 0.001
    noise = np.log(dataset["x"] - dataset["low"]) - dataset["mu"].sum("side")
    assert stats.kstest(noise.values.ravel(), "norm").pvalue > 0.001
    # Noise is new in every set, and has nothing to do with the parameters.
    assert np.abs(np.corrcoef(noise.values[1:].ravel(), noise.values[:-1].ravel())[0, 1]) < 0.02
    assert np.abs(np.corrcoef(noise.mean("obs"), dataset["low"])[0, 1]) < 0.06
    np.testing.assert_array_equal(
        np.unique(dataset["n_obs"], return_counts=True)[0], np.arange(4, 11)
    )
    assert stats.chisquare(np.bincount(dataset["n_obs"])[4:]).pvalue > 0.001


def test_the_parameters_are_those_of_the_prior():
    model = make_model(one)
    simulations = model.simulate(20, random_seed=3, progressbar=False)
    theta = simulations.parameters
    np.testing.assert_array_equal(theta[:, 2], simulations.dataset["low"])
    np.testing.assert_array_equal(theta[:, :2], simulations.dataset["mu"])
    assert np.isfinite(model.prior.unconstrain(theta)).all()


def test_conditions_reach_the_simulator_and_the_dataset():
    def regression(rng, mu, low, dose, arm, n_obs):
        return {"x": low + np.exp(mu[0] * dose + arm), "hit": np.zeros(n_obs, dtype=int)}

    def vectorized_regression(rng, mu, low, dose, arm, n_obs):
        assert dose.shape == arm.shape == (len(mu), n_obs)
        return {"x": low + np.exp(mu[..., 0] * dose + arm), "hit": np.zeros_like(arm)}

    def design(rng, n_obs):
        return {"dose": rng.normal(size=n_obs), "arm": rng.integers(0, 2, n_obs)}

    conditions = {"dose": Continuous(), "arm": Categorical(2)}
    for simulator, vectorized in ((regression, False), (vectorized_regression, True)):
        options = {"conditions": conditions, "design": design, "vectorized": vectorized}
        simulations = simulate(simulator, 200, **options)
        data = simulations.dataset
        expected = data["low"] + np.exp(data["mu"].sel(side="left") * data["dose"] + data["arm"])
        np.testing.assert_allclose(data["x"], expected.transpose("simulation", "obs"))
        assert stats.kstest(data["dose"].values.ravel(), "norm").pvalue > 0.001
        assert simulations.batch().conditions.shape == (200, 10, 2)


@pytest.mark.parametrize("structure", ["exchangeable", "vector"])
@pytest.mark.parametrize("vectorized", [False, True])
def test_a_simulator_computes_with_conditions_without_overflow(vectorized, structure):
    """Stored in single bytes, in which 3 · 100 is 44 and 200 does not exist."""

    def simulator(rng, mu, low, n, arm, n_obs=None):
        assert n.dtype == arm.dtype == np.int64
        return {"x": 3 * n + 200 * arm}

    sizes = {} if structure == "vector" else {"n_obs": 10}
    own = (10,) if structure == "exchangeable" else ()
    model = GenerativeModel(
        PRIOR,
        simulator,
        observables={"x": Continuous()},
        conditions={"n": Count(upper=100), "arm": Categorical(2)},
        design=lambda rng, n_obs=None: {"n": np.full(own, 100), "arm": np.ones(own, np.int8)},
        structure=structure,
        vectorized=vectorized,
        **sizes,
    )
    data = model.simulate(20, random_seed=1, progressbar=False).dataset
    assert (data["x"] == 500.0).all()
    assert data["n"].dtype == data["arm"].dtype == np.int8


@pytest.mark.parametrize("vectorized", [False, True])
def test_conditions_may_come_from_the_simulator(vectorized):
    """As in a staircase, where the next dose depends on what was answered before."""

    def adaptive(rng, mu, low, n_obs):
        sets = (len(mu),) if vectorized else ()
        hit = rng.integers(0, 2, (*sets, n_obs))
        dose = np.cumsum(hit, axis=-1) - hit  # how many hits before
        return {"x": low + np.exp(dose), "hit": hit, "dose": dose}

    options = {"conditions": {"dose": Count(upper=9)}, "design": "simulator"}
    simulations = simulate(adaptive, 200, vectorized=vectorized, **options)
    data = simulations.dataset
    np.testing.assert_array_equal(data["dose"] + data["hit"], data["hit"].cumsum("obs"))
    expected = data["low"] + np.exp(data["dose"].astype(float))
    np.testing.assert_allclose(data["x"], expected.transpose("simulation", "obs"))
    assert data["dose"].dtype == np.int8
    np.testing.assert_array_equal(simulations.batch().conditions[..., 0], data["dose"])


@pytest.mark.parametrize(
    ("dose", "match"),
    [
        (lambda n: np.full(n, np.nan), r"conditions\['dose'\] has 10 values not finite, as nan"),
        (lambda n: np.full(n, -1.0), r"conditions\['dose'\] has 10 values outside the declared"),
        (lambda n: np.ones(n + 1), r"conditions\['dose'\] has shape \(11,\); expected \(10,\)"),
    ],
)
def test_wrong_conditions_of_a_simulator_are_failures(dose, match):
    def simulator(rng, mu, low, n_obs):
        wrong = rng.random() < 0.5
        return one(rng, mu, low, n_obs) | {"dose": dose(n_obs) if wrong else np.ones(n_obs)}

    options = {"conditions": {"dose": Continuous(lower=0.0)}, "design": "simulator"}
    with pytest.warns(UserWarning, match=match):
        simulations = simulate(simulator, 40, **options)
    assert 0 < len(simulations) < 40
    with pytest.raises(ValueError, match="returned x, hit; expected x, hit, dose"):
        simulate(one, **options)


def test_given_parameters():
    model = make_model(one)
    low = np.array([0.1, 0.2, 0.3])
    given = {"mu": np.zeros((3, 2)), "low": low}
    simulations = model.simulate(parameters=given, random_seed=1, progressbar=False)
    assert simulations.source == "given"
    np.testing.assert_array_equal(simulations.dataset["low"], low)
    flat = model.layout.flatten(given)
    again = model.simulate(3, parameters=flat, random_seed=1, progressbar=False)
    assert again.dataset.equals(simulations.dataset)
    shuffled = xr.Dataset({"low": ("draw", low), "mu": (("draw", "side"), given["mu"])})
    by_name = model.simulate(parameters=shuffled, random_seed=1, progressbar=False)
    assert by_name.dataset.equals(simulations.dataset)
    with pytest.raises(ValueError, match="n_simulations=4, but 3"):
        model.simulate(4, parameters=flat)
    with pytest.raises(ValueError, match=r"expected \(n_simulations, 3\)"):
        model.simulate(parameters=flat[0])


def test_the_proposal_may_list_parameters_in_another_order():
    with pm.Model() as proposal:
        pm.Uniform("low", 10.0, 11.0)
        pm.Normal("mu", shape=2)
    model = make_model(one, proposal=proposal)
    simulations = model.simulate(50, source="proposal", random_seed=1, progressbar=False)
    assert simulations.source == "proposal"
    assert (simulations.parameters[:, 2] > 10).all()
    assert (simulations.dataset["x"] > 10).all()


# --- seeds and executors -----------------------------------------------------------------------


@pytest.mark.parametrize(("simulator", "vectorized"), [(one, False), (many, True)])
def test_threads_give_what_one_gives(simulator, vectorized, monkeypatch):
    monkeypatch.setattr(runner, "_TRIALS_IN_BLOCK", 200)
    model = make_model(simulator, vectorized=vectorized)
    here = model.simulate(333, random_seed=5, progressbar=False)
    with ThreadPoolExecutor(3) as executor:
        there = model.simulate(333, random_seed=5, executor=executor, progressbar=False)
    assert here.dataset.identical(there.dataset)
    other = model.simulate(333, random_seed=6, progressbar=False)
    assert not np.isin(other.dataset["x"], here.dataset["x"]).any()


def test_spawned_processes_give_what_one_gives(monkeypatch):
    # Neither the model nor PyTensor's functions travel: only the simulator, arrays and seeds.
    monkeypatch.setattr(runner, "_TRIALS_IN_BLOCK", 600)
    model = ddm.ddm(n_obs=(5, 20))
    here = model.simulate(200, random_seed=5, progressbar=False)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        there = model.simulate(200, random_seed=5, executor=executor, progressbar=False)
    assert here.dataset.identical(there.dataset)


def test_failures_are_the_same_for_any_executor():
    def moody(rng, mu, low, n_obs):
        if rng.random() < 0.2:
            raise ArithmeticError(f"low is {low:.3f}")
        return one(rng, mu, low, n_obs)

    model = make_model(moody)
    with pytest.warns(UserWarning, match="simulations failed"):
        here = model.simulate(200, random_seed=5, progressbar=False)
    with ThreadPoolExecutor(3) as executor, pytest.warns(UserWarning, match="simulations failed"):
        there = model.simulate(200, random_seed=5, executor=executor, progressbar=False)
    assert here.dataset.identical(there.dataset)
    assert here.failures == there.failures


def test_blocks_hold_some_ten_thousand_trials():
    schema = ddm.ddm(n_obs=(80, 120)).schema
    assert 30_000 <= 120 * runner.block_size(Job(ddm.simulator, None, schema, True)) <= 60_000
    assert runner.block_size(Job(ddm.simulator, None, schema, False)) < 100


def test_a_generator_moves_on():
    model, rng = make_model(one), np.random.default_rng(1)
    first = model.simulate(5, random_seed=rng, progressbar=False)
    second = model.simulate(5, random_seed=rng, progressbar=False)
    assert not np.isin(second.dataset["x"], first.dataset["x"]).any()


def test_what_cannot_be_sent_to_processes():
    model = make_model(lambda rng, mu, low, n_obs: None)
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="simulator cannot be sent to other processes"),
    ):
        model.simulate(5, executor=executor, progressbar=False)
    with pytest.raises(TypeError, match=r"concurrent\.futures\.Executor"):
        make_model(one).simulate(5, executor=4, progressbar=False)


def test_the_progress_bar(capsys):
    make_model(one).simulate(5, random_seed=1)
    assert "Simulating" in capsys.readouterr().out
    make_model(one).simulate(5, random_seed=1, progressbar=False)
    assert not capsys.readouterr().out


# --- failures ----------------------------------------------------------------------------------


def spoil(simulator, how):
    """Make a simulator fail where the first parameter is positive."""

    def spoiled(rng, mu, low, n_obs):
        output = simulator(rng, mu, low, n_obs)
        return how(output, mu[..., 0] > 0)

    return spoiled


def set_where(name, value):
    def how(output, where):
        array = output[name].astype(float)
        array[..., -1:] = np.where(np.asarray(where)[..., None][..., :1], value, array[..., -1:])
        return output | {name: array}

    return how


def mask_where(output, where):
    last = set_where("x", np.inf)(output, where)["x"]
    return output | {"x": np.ma.masked_array(output["x"], mask=np.isinf(last))}


def exit_where(output, where):
    if np.any(where):
        raise SystemExit("no more")
    return output


def raise_where(output, where):
    if np.any(where):
        raise FloatingPointError("the solver diverged")
    return output


def shorten_where(output, where):
    return output | {"x": output["x"][:-1]} if where else output


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (set_where("x", np.nan), "not finite", r"\['x'\] has 1 value not finite, as nan"),
        (mask_where, "not finite", r"\['x'\] has 1 value not finite, as nan"),
        (set_where("x", -np.inf), "not finite", r"as -inf"),
        (set_where("x", -1.0), "outside the support", r"lower='low'\), as -1"),
        (set_where("hit", 3), "outside the support", r"integers 0 to 2\), as 3"),
        (set_where("hit", 0.5), "outside the support", r"as 0.5"),
        (raise_where, "exception in the simulator", "FloatingPointError: the solver diverged"),
        (exit_where, "exception in the simulator", "SystemExit: no more"),
    ],
)
def test_failures_are_counted_and_the_good_are_kept(how, kind, message, vectorized):
    simulator = spoil(many if vectorized else one, how)
    with pytest.warns(UserWarning, match=rf"of 400 simulations failed: .*{kind}.*{message}"):
        simulations = simulate(simulator, 400, vectorized=vectorized)
    assert (simulations.dataset["mu"][:, 0] <= 0).all()
    assert len(simulations) + simulations.failures.n_failed == 400
    assert 140 < len(simulations) < 260
    assert list(simulations.failures.counts) == [kind]
    # The good are whole: nothing of the failed has got into them.
    noise = np.log(simulations.dataset["x"] - simulations.dataset["low"])
    noise = (noise - simulations.dataset["mu"].sum("side")).values.ravel()
    assert stats.kstest(noise, "norm").pvalue > 0.001


def test_wrong_shapes_of_some():
    with pytest.warns(UserWarning, match=r"wrong shape.*'x'\] has shape \(9,\); expected \(10,\)"):
        simulations = simulate(spoil(one, shorten_where), 100)
    assert (simulations.dataset["mu"][:, 0] <= 0).all()


def test_several_kinds_are_told_apart():
    def messy(rng, mu, low, n_obs):
        output = one(rng, mu, low, n_obs)
        if mu[0] > 1:
            raise OSError("no licence")
        if mu[0] > 0:
            output["x"][2] = np.nan
        elif mu[0] < -1:
            output["x"] = np.array(["a"] * n_obs)
        return output

    with pytest.warns(UserWarning, match="of 300") as caught:
        simulations = simulate(messy, 300)
    assert len(caught) == 1
    counts = simulations.failures.counts
    assert set(counts) == {"exception in the simulator", "wrong shape or type", "not finite"}
    assert sum(counts.values()) + len(simulations) == 300
    assert "OSError: no licence (line" in simulations.failures.first["exception in the simulator"]
    assert "test_simulation_model.py" in str(simulations.failures)


def test_parameters_that_are_not_numbers():
    model = make_model(one)
    given = np.array([[0.0, 0.0, 1.0], [np.nan, 0.0, 1.0], [0.0, np.inf, 1.0]])
    with pytest.warns(UserWarning, match="2 of 3 simulations failed: 2 invalid parameters"):
        simulations = model.simulate(parameters=given, random_seed=1, progressbar=False)
    assert len(simulations) == 1


def test_draws_on_the_edge_of_the_prior_are_left_out():
    with pm.Model() as prior:
        pm.Gamma("g", 0.005, 1.0)  # underflows to 0 now and then, whose logarithm is none
    model = GenerativeModel(
        prior,
        lambda rng, g, n_obs: {"x": rng.normal(size=n_obs)},
        observables={"x": Continuous()},
        n_obs=3,
    )
    with pytest.raises(ValueError, match=r"lie outside .* most of 'g'"):
        model.simulate(500, random_seed=1, progressbar=False)
    with pm.Model() as prior:
        pm.Gamma("g", 0.0085, 1.0)
    model = GenerativeModel(prior, model.simulator, observables={"x": Continuous()}, n_obs=3)
    with pytest.warns(UserWarning, match="of 2000 simulations failed: .* invalid parameters"):
        simulations = model.simulate(2000, random_seed=1, progressbar=False)
    assert np.isfinite(model.prior.unconstrain(simulations.parameters)).all()
    assert simulations.failures.n_simulations == 2000


@pytest.mark.parametrize("vectorized", [False, True])
def test_all_failed(vectorized):
    calls = []

    def broken(rng, mu, low, n_obs):
        calls.append(n_obs)
        return undefined_name  # noqa: F821

    with pytest.raises(SimulationError, match=r"NameError: name 'undefined_name'.*line \d+ of"):
        simulate(broken, 100_000, vectorized=vectorized)
    assert len(calls) < 10_000  # it is noticed early

    def nothing(rng, mu, low, n_obs):
        return set_where("x", np.nan)((many if vectorized else one)(rng, mu, low, n_obs), True)

    with pytest.raises(SimulationError, match="100 of 100 simulations failed: 100 not finite"):
        simulate(nothing, 100, vectorized=vectorized)


def test_a_vectorised_simulator_of_the_wrong_shape():
    def transposed(rng, mu, low, n_obs):
        return {name: values.T for name, values in many(rng, mu, low, n_obs).items()}

    with pytest.raises(SimulationError, match=r"has shape \(10, 50\); expected \(50, 10\)"):
        simulate(transposed, 50, vectorized=True)


def test_the_simulator_may_change_its_arguments():
    def greedy(rng, mu, low, n_obs):
        output = many(rng, mu, low, n_obs)
        mu[:] = np.nan
        low -= 1e6
        return output

    expected = simulate(many, 50, vectorized=True)
    assert simulate(greedy, 50, vectorized=True).dataset.identical(expected.dataset)

    def greedy_one(rng, mu, low, n_obs):
        output = one(rng, mu, low, n_obs)
        mu[:] = np.nan
        return output

    assert simulate(greedy_one, 50).dataset.identical(simulate(one, 50).dataset)


def test_no_warning_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(one, 20)


# --- mistakes that are told at once ------------------------------------------------------------


@pytest.mark.parametrize(
    ("simulator", "error", "match"),
    [
        (lambda rng, mu, low, n_obs: None, TypeError, "returned NoneType; expected a dict with x"),
        (lambda rng, mu, low, n_obs: {"x": 1}, ValueError, "returned x; expected x, hit"),
        (lambda rng, mu, low, n_obs: {"x": 1, "hit": 1, "y": 1}, ValueError, "x, hit, y; exp"),
    ],
)
@pytest.mark.parametrize("vectorized", [False, True])
def test_wrong_output(simulator, error, match, vectorized):
    with pytest.raises(error, match=match):
        simulate(simulator, vectorized=vectorized)


@pytest.mark.parametrize(
    ("design", "error", "match"),
    [
        (lambda rng, n_obs: {"x": 1}, ValueError, "design returned x; expected dose"),
        (lambda rng, n_obs: {"dose": 1 / 0}, ValueError, r"design\(rng, n_obs=10\) raised ZeroDiv"),
        (lambda rng, n_obs: {"dose": 1.0}, ValueError, r"'dose'\], returned by design, has shape"),
        (
            lambda rng, n_obs: {"dose": -rng.random(n_obs)},
            ValueError,
            r"outside the declared support .*: 500 in",
        ),
        (lambda rng, n_obs: {"dose": np.full(n_obs, np.nan)}, ValueError, "as nan"),
    ],
)
def test_wrong_designs(design, error, match):
    def simulator(rng, mu, low, dose, n_obs):
        return one(rng, mu, low, n_obs)

    with pytest.raises(error, match=match):
        simulate(
            simulator,
            conditions={"dose": Continuous(lower=0.0)},
            design=design,
            vectorized=True,
        )


def test_signatures_that_do_not_fit():
    for simulator, match in (
        (lambda rng, mu, n_obs: {}, r"\(rng, mu, n_obs\) cannot be called.*'low'"),
        (lambda rng, mu, low, sigma, n_obs: {}, "missing a required argument: 'sigma'"),
        (lambda mu, low, n_obs: {}, "multiple values"),
        ("simulate.exe", "must be callable"),
    ):
        with pytest.raises(TypeError, match=match):
            make_model(simulator)
    make_model(lambda rng, **arguments: {})
    with pytest.raises(TypeError, match="design"):
        make_model(
            lambda rng, **arguments: {},
            conditions={"dose": Continuous()},
            design=lambda rng: {},
        )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"observables": {"x": Continuous(lower="t0")}}, "bounded by 't0', which is no parameter"),
        ({"observables": {"x": Continuous(upper="mu")}}, r"'mu', which has shape \(2,\)"),
        ({"observables": {"mu": Continuous()}}, "observable 'mu' has the name"),
        ({"observables": {"side": Continuous()}}, "dimension 'side' has the name"),
        ({"conditions": {"dose": Continuous()}}, "conditions and design belong together"),
        ({"structure": "vector"}, "structure"),
        ({"n_obs": (0, 3)}, "n_obs"),
    ],
)
def test_declarations_that_contradict_themselves(options, match):
    with pytest.raises(ValueError, match=match):
        make_model(lambda rng, **arguments: {}, **options)


def test_names_with_another_meaning():
    for name in ("obs", "dataset"):  # PyMC itself refuses dims named chain or draw
        with pm.Model(coords={name: [1, 2]}) as prior:
            pm.Normal("mu", dims=name)
        with pytest.raises(ValueError, match=f"dimension '{name}'"):
            GenerativeModel(prior, one, observables={"x": Continuous()}, n_obs=3)
    with pm.Model() as prior:
        pm.Normal("n_obs")
    with pytest.raises(ValueError, match="parameter 'n_obs'"):
        GenerativeModel(prior, one, observables={"x": Continuous()}, n_obs=3)


@pytest.mark.parametrize("name", ["chain", "draw", "dataset"])
def test_names_of_the_dimensions_of_draws_are_refused(name):
    with pm.Model() as prior:
        pm.Normal(name)
    with pytest.raises(ValueError, match=f"parameter '{name}' has the name of something else"):
        GenerativeModel(prior, one, observables={"x": Continuous()}, n_obs=3)


@pytest.mark.parametrize("name", LIKELIHOOD_ARGUMENTS)
def test_parameters_named_as_arguments_of_the_likelihood_are_refused(name):
    with pm.Model() as prior:
        pm.Normal(name)
    with pytest.raises(ValueError, match=f"parameter '{name}' has the name of an argument of the"):
        GenerativeModel(prior, lambda rng, **all: {}, observables={"x": Continuous()}, n_obs=3)


def test_all_arguments_of_the_likelihood_are_refused():
    methods = (
        LikelihoodApproximator.__call__,
        LikelihoodApproximator.dist,
        LikelihoodApproximator.logp,
    )
    own = {
        name
        for method in methods
        for name, parameter in inspect.signature(method).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    assert own - set(RESERVED) == set(LIKELIHOOD_ARGUMENTS)


@pytest.mark.parametrize("vectorized", ["no", 1, None])
def test_vectorized_is_yes_or_no(vectorized):
    with pytest.raises(TypeError, match=f"vectorized={vectorized!r}: expected True or False"):
        make_model(one, vectorized=vectorized)


def test_a_prior_without_a_density_can_be_simulated_from():
    with pm.Model() as prior:
        pm.CustomDist("mu", random=lambda rng, size=None: rng.normal(size=size))
    model = GenerativeModel(
        prior,
        lambda rng, mu, n_obs: {"x": rng.normal(mu, 1.0, n_obs)},
        observables={"x": Continuous()},
        n_obs=3,
    )
    simulations = model.simulate(5, random_seed=1, progressbar=False)
    assert len(simulations) == 5 and simulations.prior is None


def test_proposals_that_do_not_fit():
    with pm.Model() as other:
        pm.Normal("mu", shape=3)
        pm.Exponential("low", 1.0)
    with pytest.raises(
        ValueError, match=r"other parameters \(mu \(3,\), low \(\)\) than the prior"
    ):
        make_model(one, proposal=other)
    with pytest.raises(ValueError, match="no proposal"):
        make_model(one).simulate(5, source="proposal")


@pytest.mark.parametrize("design", ["simulatr", "", 3, True])
def test_a_design_that_is_none_is_named(design):
    with pytest.raises(TypeError, match="expected a function design"):
        GenerativeModel(
            PRIOR,
            lambda rng, mu, dose, n_obs: {"x": rng.normal(mu + dose)},
            observables={"x": Continuous()},
            conditions={"dose": Continuous()},
            design=design,
            n_obs=3,
        )


def test_wrong_arguments_of_simulate():
    model = make_model(one)
    for wrong in (0, -3, 2.5, None):
        with pytest.raises((TypeError, ValueError), match=f"n_simulations={wrong}: expected"):
            model.simulate(wrong)
    with pytest.raises(ValueError, match="source='posterior' is not 'prior' or 'proposal'"):
        model.simulate(3, source="posterior")
    with pytest.raises(TypeError, match="random_seed"):
        model.simulate(3, random_seed="one")


def dosed(**options) -> GenerativeModel:
    """Responses to known doses, in whole milligrams and of two kinds."""

    def simulator(rng, slope, dose, kind, n_obs):
        assert dose.shape == kind.shape == (n_obs,) and kind.dtype == np.int64
        return {"x": slope * dose + 10.0 * kind}

    def design(rng, n_obs):
        return {"dose": rng.uniform(0.0, 1.0, n_obs), "kind": rng.integers(0, 2, n_obs)}

    with pm.Model() as prior:
        pm.Normal("slope")
    return GenerativeModel(
        prior,
        observables={"x": Continuous()},
        conditions={"dose": Continuous(), "kind": Categorical(2)},
        n_obs=(2, 5),
        **({"simulator": simulator, "design": design} | options),
    )


def test_data_sets_like_others_have_their_sizes_and_conditions() -> None:
    model = dosed()
    known = [{"dose": [3.0, 4.0], "kind": [0, 1]}, {"dose": np.arange(5, 10), "kind": [1] * 5}]
    data = model.schema.batch([{**each, "x": np.zeros(len(each["kind"]))} for each in known])
    alike = model.simulate_alike(data, 7, random_seed=1, progressbar=False)
    batch = alike.batch(pad=True)
    assert sorted(batch.n_obs) in ([2, 2, 2, 2, 5, 5, 5], [2, 2, 2, 5, 5, 5, 5])
    for i, n in enumerate(batch.n_obs):
        dose, kind = batch.conditions[i, :n].T
        assert dose.tolist() == list(known[int(n == 5)]["dose"])
        np.testing.assert_allclose(
            batch.observables[i, :n, 0], alike.parameters[i, 0] * dose + 10.0 * kind
        )
    assert alike.source == "prior" and len(np.unique(alike.parameters)) == 7
    again = model.simulate_alike(data, 7, random_seed=1, progressbar=False)
    assert again.dataset.equals(alike.dataset)
    made = dosed(design="simulator", simulator=lambda rng, slope, n_obs: {})
    with pytest.raises(ValueError, match="come about in the simulator"):
        made.simulate_alike(data, 7, progressbar=False)
