"""Draws at the edge of the trained region, parameters and conditions outside it: said by name."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from closed_forms import LAYOUT, REGION, vector
from modes import PYTHON
from scipy import stats
from untrained import HIGH, LOW, reaction_times, untrained

from jana_pymc import LikelihoodApproximator
from jana_pymc.approximators import PosteriorApproximator, surrogate
from jana_pymc.approximators.beyond_training import warn_of_far_conditions
from jana_pymc.inference_data import to_inference_data
from jana_pymc.refinement import prior_support
from jana_pymc.simulation import Categorical, Continuous, PyMCPrior
from jana_pymc.trained_region import (
    leaning,
    share_outside,
    warn_of_draws_outside_region,
    warn_of_parameters_outside_region,
)

pytestmark = [pytest.mark.bridge, pytest.mark.arviz]

RT = reaction_times()


def posterior(**values: np.ndarray):
    return to_inference_data(
        {
            "posterior": xr.Dataset(
                {
                    n: (("chain", "draw", *(f"{n}_dim_{i}" for i in range(v.ndim - 2))), v)
                    for n, v in values.items()
                }
            )
        }
    )


def test_draws_inside_lean_on_nothing() -> None:
    rng = np.random.default_rng(0)
    data = posterior(v=rng.normal(0.5, 0.05, (2, 500)), t0=rng.normal(0.3, 0.02, (2, 500)))
    assert RT.check_region(data) == []


def test_draws_at_an_edge_are_named() -> None:
    rng = np.random.default_rng(0)
    cut = stats.truncnorm(-20, 0.5).rvs((2, 500), random_state=rng) * 0.05 + HIGH - 0.025
    data = posterior(v=cut, t0=rng.normal(0.3, 0.02, (2, 500)))
    with pytest.warns(UserWarning, match=r"lean on the edge.* of the draws of v at 0\.9"):
        (found,) = RT.check_region(data)
    assert found.name == "v" and found.edge == HIGH and found.share > 0.02


@pytest.mark.parametrize(
    ("distance", "share", "said"), [(2.5, 0.1, True), (4.0, 0.1, False), (2.5, 0.0, False)]
)
def test_an_edge_within_reach_may_be_why_transitions_diverged(distance, share, said) -> None:
    """A standard normal cut there by a hard wall: none lean on it, but trajectories meet it."""
    rng = np.random.default_rng(0)
    v = 0.02 * stats.truncnorm(-9, 2.4).rvs((2, 500), random_state=rng) + HIGH - 0.02 * distance
    data = to_inference_data(
        {
            "posterior": xr.Dataset({"v": (("chain", "draw"), v)}),
            "sample_stats": xr.Dataset(
                {"diverging": (("chain", "draw"), np.arange(1000).reshape(2, 500) < 1000 * share)}
            ),
        }
    )
    if not said:
        assert RT.check_region(data) == []
        return
    with pytest.warns(UserWarning, match=r"10.0% of the transitions diverged.*\(v at 0\.9\)"):
        assert RT.check_region(data) == []


def test_groups_other_names_and_vectors() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(0.5, 0.05, (2, 500, 3))
    v[..., 1] = LOW + np.abs(v[..., 1] - 0.5)
    data = posterior(drift=v, t0=rng.normal(0.3, 0.02, (2, 500)))
    assert RT.check_region(data) == []
    with pytest.warns(UserWarning, match=r"of v at 0\.1"):
        RT.check_region(data, {"v": "drift"})
    b = rng.normal(size=(2, 500, 2)) * 0.1
    b[..., 1] = REGION[1, 2] - np.abs(b[..., 1])
    with pytest.warns(UserWarning, match=r"draws of b\[1\] at 3"):
        vector().check_region(posterior(b=b))


@pytest.mark.parametrize(
    ("values", "renamed", "error", "message"),
    [
        ({"v": 0.5}, {"drift": "v"}, ValueError, "names 'drift', which is none; .* are v, t0"),
        ({"v": 0.5}, {"t0": "ndt"}, ValueError, "'t0' is 'ndt' in the posterior, which holds v"),
        (
            {"drift": 0.5},
            None,
            ValueError,
            r"holds drift, but no parameter .*\(v, t0\); give their names",
        ),
        ({"v": 0.5}, ["v"], TypeError, "parameters is list; expected a mapping"),
    ],
)
def test_a_slip_in_a_name_is_no_good_news(values, renamed, error, message) -> None:
    data = posterior(**{name: np.full((2, 50), value) for name, value in values.items()})
    with pytest.raises(error, match=message):
        RT.check_region(data, renamed)


def test_only_posteriors_are_checked() -> None:
    with pytest.raises(TypeError, match="data is dict; expected InferenceData or DataTree"):
        RT.check_region({"v": np.zeros((2, 50))})
    prior = to_inference_data({"prior": xr.Dataset({"v": (("chain", "draw"), np.zeros((2, 5)))})})
    with pytest.raises(ValueError, match="no group 'posterior', only prior"):
        RT.check_region(prior)


def test_a_cut_is_seen_from_where_it_is_said_to_be() -> None:
    """Cut 1.2 standard deviations from the mean, and three."""
    rng = np.random.default_rng(1)
    draws = np.zeros((20_000, 3))
    for i, cut in enumerate((1.2, 3.0, 0.0)):
        draws[:, i] = stats.truncnorm(-40, cut).rvs(20_000, random_state=rng) - cut + 3.0
    assert [found.name for found in leaning(LAYOUT, REGION, draws)] == ["mu", "b[1]"]


def test_an_edge_of_the_prior_cuts_nothing_off() -> None:
    import pymc as pm  # noqa: PLC0415

    with pm.Model() as model:
        pm.Uniform("mu", -3.0, 3.0)
        pm.Normal("b", shape=2)
    support = prior_support(PyMCPrior(model))
    np.testing.assert_allclose(support[:, 0], [-3.0, 3.0])
    assert (support[0, 1:] < -1e6).all() and (support[1, 1:] > 1e6).all()
    draws = 3.0 - np.abs(np.random.default_rng(0).normal(size=(1_000, 3)))
    names = [found.name for found in leaning(LAYOUT, REGION, draws, support)]
    assert names == ["b[0]", "b[1]"]


def test_simulating_outside_the_region_is_said() -> None:
    with pytest.warns(UserWarning, match=r"1 of 2 parameter vectors.*v reaches 2, trained from 0"):
        warn_of_parameters_outside_region(RT.layout, RT.region, np.array([[2.0, 0.3], [0.5, 0.3]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        farthest = np.array([[HIGH + 0.01, 0.3]])  # of a prior's draws
        warn_of_parameters_outside_region(RT.layout, RT.region, farthest)
        few = np.repeat([[0.5, 0.3]], 200, axis=0)
        few[0, 0] = 2.0
        warn_of_parameters_outside_region(RT.layout, RT.region, few)


def test_conditions_far_outside_are_said() -> None:
    approximator = untrained({"x": Continuous()}, {"v": ()}, {"dose": Continuous()})
    x = np.zeros(3)
    with pytest.warns(UserWarning, match="condition 'dose' reaches 100, but was 0 ± 1 in training"):
        approximator.logp(x, v=0.5, conditions={"dose": [0.0, 1.0, 100.0]})
    approximator.logp(x, v=0.5, conditions={"dose": [0.0, 1.0, 3.0]})


def test_conditions_far_outside_are_said_of_posteriors_and_of_surrogates() -> None:
    likelihood = untrained({"x": Continuous()}, {"v": ()}, {"dose": Continuous()})
    schema = likelihood.schema
    network = SimpleNamespace(check_length=lambda n_obs: None)
    posterior = SimpleNamespace(schema=schema, network=network, _likelihood=likelihood.network)
    pair = SimpleNamespace(likelihood=likelihood, schema=schema, layout=likelihood.layout)
    sets = [{"x": np.zeros(n), "dose": np.full(n, far)} for n, far in ((2, 3.0), (3, 100.0))]
    calls = [
        lambda data: PosteriorApproximator.batch(posterior, data),
        lambda data: surrogate.simulate(pair, {"v": 0.5}, conditions={"dose": data[-1]["dose"]}),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="condition 'dose' reaches 100"):
            call(sets)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(sets[:1])


def test_data_that_the_likelihood_alone_sees_may_be_of_any_length() -> None:
    likelihood = untrained({"x": Continuous()}, {"v": ()}, {"dose": Continuous()})

    def refuse(n_obs: int) -> None:
        raise ValueError(f"{n_obs} observations")

    posterior = SimpleNamespace(
        schema=likelihood.schema,
        network=SimpleNamespace(check_length=refuse),
        _likelihood=likelihood.network,
    )
    data = {"x": np.zeros(999), "dose": np.full(999, 100.0)}
    with pytest.raises(ValueError, match="999 observations"):
        PosteriorApproximator.batch(posterior, data)
    with pytest.warns(UserWarning, match="condition 'dose' reaches 100"):
        batch = PosteriorApproximator.batch(posterior, data, check_n_obs=False)
    assert batch.n_obs.tolist() == [999]


def test_a_condition_that_never_varied_has_one_value() -> None:
    likelihood = untrained({"x": Continuous()}, {"v": ()}, {"a": Continuous(), "b": Continuous()})
    likelihood.network.constant_conditions = {"b": 0.3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (0.3, float(np.float32(0.3))):
            conditions = np.array([[0.0, same], [3.0, 0.3]])
            warn_of_far_conditions(likelihood.network, likelihood.schema, conditions)
    for other in (0.30001, -0.3, 100.0):
        conditions[0, 1] = other
        with pytest.warns(UserWarning, match=rf"'b' reaches {other:g}, but was 0\.3 thr") as caught:
            warn_of_far_conditions(likelihood.network, likelihood.schema, conditions)
        assert len(caught) == 1


def test_surrogates_are_as_many_as_their_conditions() -> None:
    likelihood = untrained({"x": Continuous()}, {"v": ()}, {"dose": Continuous()})
    pair = SimpleNamespace(
        likelihood=likelihood, schema=likelihood.schema, layout=likelihood.layout
    )
    made = surrogate.simulate(pair, {"v": 0.5}, conditions={"dose": np.zeros(37)})
    assert made.batch().n_obs.tolist() == [37]


def test_named_parameters_are_flattened() -> None:
    row = np.array([[1.0, 0.0]])
    named = RT.log_prob(row, {"t0": np.array([0.3, 0.2]), "v": np.array([0.5, 0.1])})
    np.testing.assert_array_equal(named, RT.log_prob(row, np.array([[0.5, 0.3], [0.1, 0.2]])))
    with pytest.raises(ValueError, match="t0"):
        RT.log_prob(row, {"v": 0.5})
    with pytest.raises(ValueError, match=r"shape \(1, 3\); expected \(draws, 2\), for v, t0"):
        RT.log_prob(np.array([[1.0, 0.0]]), np.zeros((1, 3)))


def test_draws_clearly_outside_are_counted_for_each_data_set() -> None:
    region = np.array([[0.0, -np.inf], [10.0, np.inf]])
    draws = np.zeros((3, 200, 2))
    draws[1, :50, 0] = 10.4  # within the margin
    draws[2, :50, 0] = 11.0
    shares = share_outside(region, draws)
    np.testing.assert_array_equal(shares, [0.0, 0.0, 0.25])
    with pytest.warns(UserWarning, match=r"data sets 2 \(25%\) lie outside the region"):
        warn_of_draws_outside_region(shares)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_draws_outside_region(shares[:2])


@pytest.mark.parametrize("backend", ["lowering", "op"])
def test_arrays_have_the_network_s_density_where_pymc_has_none(backend: str) -> None:
    """As it would be if the region ended farther out."""
    wide = LikelihoodApproximator(RT.network, RT.layout, RT.schema, 9.0 * np.sign(RT.region - 0.5))
    rows = np.array([[0.9, 0.0], [2.0, 1.0], [1.4, 0.0]])
    theta = np.array([[0.5, 0.3], [HIGH + 0.4, 0.3], [LOW - 0.4, 0.3], [0.5, LOW - 0.05]])
    v, t0 = pt.dscalars("v", "t0")
    inside, everywhere = (
        [density.eval({v: each[0], t0: each[1]}, mode=PYTHON) for each in theta]
        for density in (
            likelihood.logp(rows, v=v, t0=t0, backend=backend) for likelihood in (RT, wide)
        )
    )
    np.testing.assert_array_equal(inside[0], everywhere[0])
    np.testing.assert_array_equal(inside[1:], np.full((3, 3), -np.inf))
    assert np.isfinite(everywhere).all()
    for values in (RT.log_prob(rows, theta), RT.pointwise(rows, theta)):
        np.testing.assert_allclose(values, everywhere, rtol=1e-6)


@pytest.mark.parametrize(
    ("dose", "kind", "message"),
    [
        ([0.0, np.nan], [0.0, 1.0], r"conditions\['dose'\] has 1 value missing"),
        ([0.0, 1.0], [0.0, 7.0], r"conditions\['kind'\] has 1 value outside its support"),
    ],
)
def test_what_is_no_condition_is_not_drawn_for(dose, kind, message: str) -> None:
    given = {"dose": Continuous(), "kind": Categorical(3)}
    likelihood = untrained({"x": Continuous()}, {"v": ()}, given)
    with pm.Model() as model:
        known = {"dose": pm.Data("dose", [0.0, 1.0]), "kind": pm.Data("kind", [0.0, 2.0])}
        likelihood("x", v=0.5, conditions=known, observed=np.zeros(2))
    pm.draw(model["x"], mode=PYTHON)
    with model:
        pm.set_data({"dose": dose, "kind": kind})
    with pytest.raises(ValueError, match=message):
        pm.draw(model["x"], mode=PYTHON)
