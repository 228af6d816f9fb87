"""The PyMC prior: draws against their law, densities and transforms against PyMC and each other."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from modes import PYTHON
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import graph_inputs
from scipy import stats

from jana_pymc.simulation import PyMCPrior
from jana_pymc.simulation.prior_graph import PriorGraph, _looped_draw, _vectorised_draw

pytestmark = pytest.mark.bridge

# What PyTensor says where it finds no BLAS, when it compiles a nested graph on its own.
no_blas = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def scalars() -> pm.Model:
    with pm.Model() as model:
        pm.TruncatedNormal("v", 0.0, 10.0, lower=-5.0, upper=5.0)
        pm.TruncatedNormal("a", 1.0, 1.0, lower=0.5, upper=3.0)
        pm.TruncatedNormal("t0", 0.4, 0.2, lower=0.2, upper=1.0)
        pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
    return model


def hierarchical() -> pm.Model:
    """Vectors, shared data, and a transform whose bounds are another parameter."""
    with pm.Model(coords={"group": ["left", "middle", "right"]}) as model:
        shift = pm.Data("shift", [0.0, 1.0, 2.0])
        mu = pm.Normal("mu", 1.0, 2.0)
        sigma = pm.HalfNormal("sigma", 1.5)
        pm.Normal("beta", mu + shift, sigma, dims="group")
        pm.Uniform("u", 0.0, sigma)
        pm.Deterministic("twice", 2 * mu)
    return model


def compositional() -> pm.Model:
    """Transforms that change the dimension, a matrix, and initial values."""
    with pm.Model() as model:
        weight = pm.Dirichlet("weight", [2.0, 3.0, 4.0], initval=np.ones(3) / 3)
        pm.ZeroSumNormal("effect", shape=3)
        pm.LogNormal("scale", weight[0], 0.5, shape=(2, 2))
        pm.MvNormal("location", np.zeros(2), [[2.0, 0.5], [0.5, 1.0]])
    return model


def symbolic() -> pm.Model:
    """Distributions that are graphs of others."""
    with pm.Model() as model:
        pm.Truncated("t", pm.Gamma.dist(2.0, 1.0), upper=3.0)
        pm.Mixture("m", [0.3, 0.7], [pm.Normal.dist(-1, 1), pm.Normal.dist(1, 1)])
        pm.GaussianRandomWalk("walk", init_dist=pm.Normal.dist(), steps=3)
    return model


def custom() -> pm.Model:
    """Depends on another parameter in a way that PyTensor cannot vectorise."""
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.CustomDist("y", mu, dist=lambda mu, size: pt.exp(pm.Normal.dist(mu, 0.5, size=size)))
    return model


def cholesky() -> pm.Model:
    with pm.Model() as model:
        pm.LKJCholeskyCov("chol", n=3, eta=2.0, sd_dist=pm.Exponential.dist(1.0))
    return model


def sub_model() -> pm.Model:
    with pm.Model("named") as model, pm.Model("sub"):
        pm.Exponential("x", 2.0)
    return model.root


MODELS = [scalars, hierarchical, compositional, symbolic, custom, cholesky, sub_model]
every_model = pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)


@cache
def prior_of(make) -> PyMCPrior:
    return PyMCPrior(make())


@cache
def draws_of(make) -> np.ndarray:
    return prior_of(make).draw(200, 1)


# --- transforms and densities, for every model --------------------------------------------------


@no_blas
@every_model
def test_transforms_are_inverse(make):
    prior, theta = prior_of(make), draws_of(make)
    u = prior.unconstrain(theta)
    assert u.shape == (200, prior.n_unconstrained)
    assert np.isfinite(u).all()
    np.testing.assert_allclose(prior.constrain(u), theta, rtol=1e-9, atol=1e-12)
    u = np.random.default_rng(2).normal(size=u.shape)
    theta = prior.constrain(u)
    np.testing.assert_allclose(prior.unconstrain(theta), u, rtol=1e-7, atol=1e-9)
    unconstrained, log_det = prior.unconstrain_with_jacobian(theta)
    np.testing.assert_array_equal(unconstrained, prior.unconstrain(theta))
    np.testing.assert_allclose(log_det, prior.log_abs_det_jacobian(u), rtol=1e-7, atol=1e-7)


@no_blas
@every_model
def test_densities_agree_with_each_other(make):
    prior = prior_of(make)
    u = prior.unconstrain(draws_of(make))
    by_parts = prior.log_prob_constrained(prior.constrain(u)) + prior.log_abs_det_jacobian(u)
    np.testing.assert_allclose(prior.log_prob(u), by_parts, rtol=1e-8, atol=1e-8)


@no_blas
@every_model
def test_log_prob_is_that_of_pymc(make):
    prior = prior_of(make)
    model, graph = prior.model, PriorGraph.of(prior.model)
    ends = np.cumsum([int(np.prod(shape)) for shape in graph.value_shapes])
    logp = model.compile_logp(mode=PYTHON)
    for u in np.random.default_rng(3).normal(size=(5, prior.n_unconstrained)):
        point = {
            model.rvs_to_values[rv].name: part.reshape(shape)
            for rv, part, shape in zip(
                model.free_RVs, np.split(u, ends[:-1]), graph.value_shapes, strict=True
            )
        }
        np.testing.assert_allclose(prior.log_prob(u), logp(point), rtol=1e-9)


@pytest.mark.parametrize("make", [scalars, hierarchical, symbolic, cholesky, compositional])
@no_blas
def test_jacobian_is_that_of_numerical_differentiation(make):
    prior = prior_of(make)
    u = np.random.default_rng(4).normal(size=(4, prior.n_unconstrained))
    step = 1e-5 * np.eye(prior.n_unconstrained)
    # (points, constrained, unconstrained)
    jacobian = (prior.constrain(u[:, None] + step) - prior.constrain(u[:, None] - step)) / 2e-5
    jacobian = np.swapaxes(jacobian, 1, 2)
    if make is compositional:
        # PyMC counts the free components of a simplex, and unit volume for effects summing to 0.
        names = prior.layout.component_names
        kept = [i for i, name in enumerate(names) if name not in ("weight[2]", "effect[2]")]
        effect = prior.layout.slices["effect"]
        columns = slice(2, 4)
        of_effect = jacobian[:, effect, columns]
        volume = np.linalg.det(np.swapaxes(of_effect, 1, 2) @ of_effect)
        np.testing.assert_allclose(volume, 1.0, rtol=1e-6)
        jacobian = jacobian[:, kept]
        jacobian[:, 2:4, 2:4] = np.eye(2)
    _, expected = np.linalg.slogdet(jacobian)
    np.testing.assert_allclose(prior.log_abs_det_jacobian(u), expected, rtol=1e-6, atol=1e-6)


def test_log_prob_of_truncated_normals_is_that_of_scipy():
    prior, theta = prior_of(scalars), draws_of(scalars)
    expected = sum(law.logpdf(theta[:, i]) for i, law in enumerate(SCALAR_LAWS))
    # PyMC normalises with constants such as 10.0 in single precision.
    np.testing.assert_allclose(prior.log_prob_constrained(theta), expected, atol=2e-7)
    assert prior.log_prob_constrained([0.0, 4.0, 0.4, 0.5]) == -np.inf


def test_far_out_in_the_unconstrained_space_nothing_overflows():
    prior = prior_of(scalars)
    u = np.array([[-40.0] * 4, [40.0] * 4, [-600.0] * 4, [600.0] * 4])
    # At the far ends the density of a logit is that of exp(-|u|).
    at_ends = prior.log_abs_det_jacobian(u)
    assert np.isfinite(at_ends).all()
    np.testing.assert_allclose(at_ends[2] - at_ends[0], -4 * 560.0)
    np.testing.assert_allclose(prior.log_prob(u)[2] - prior.log_prob(u)[0], -4 * 560.0)


def test_one_invalid_row_does_not_spoil_the_others():
    prior = prior_of(hierarchical)
    u = np.random.default_rng(5).normal(size=(3, prior.n_unconstrained))
    alone = prior.log_prob(u[:1])
    u[1, 1] = -1e4  # sigma underflows to 0, which is no scale
    together = prior.log_prob(u)
    assert together[0] == alone[0]
    assert together[1] == -np.inf
    assert np.isfinite(together[2])


def test_leading_axes_are_kept():
    prior = prior_of(hierarchical)
    theta = draws_of(hierarchical)[:6]
    u = prior.unconstrain(theta.reshape(2, 3, -1))
    assert u.shape == (2, 3, prior.n_unconstrained)
    assert prior.constrain(u).shape == (2, 3, prior.layout.size)
    assert prior.log_prob(u).shape == (2, 3)
    np.testing.assert_array_equal(prior.log_prob(u[1, 2]), prior.log_prob(u)[1, 2])
    assert prior.log_prob(u[:0]).shape == (0, 3)
    assert prior.constrain(u[:0]).shape == (0, 3, prior.layout.size)


# --- layout ------------------------------------------------------------------------------------


def test_layout_has_the_names_dims_and_coords_of_the_model():
    layout = prior_of(hierarchical).layout
    assert layout.names == ("mu", "sigma", "beta", "u")
    assert layout.shapes["beta"] == (3,)
    assert layout.dims["beta"] == ("group",)
    assert layout.coords == {"group": ("left", "middle", "right")}
    assert prior_of(compositional).layout.shapes["scale"] == (2, 2)
    assert prior_of(compositional).layout.size == 12
    assert prior_of(compositional).n_unconstrained == 10
    assert prior_of(sub_model).layout.names == ("named::sub::x",)


# --- draws -------------------------------------------------------------------------------------


def truncated(mean, sd, lower, upper):
    return stats.truncnorm((lower - mean) / sd, (upper - mean) / sd, mean, sd)


SCALAR_LAWS = [
    truncated(0, 10, -5, 5),
    truncated(1, 1, 0.5, 3),
    truncated(0.4, 0.2, 0.2, 1),
    truncated(0.5, 0.1, 0.3, 0.7),
]


def test_draws_follow_their_law():
    draws = prior_of(scalars).draw(20_000, 11)
    for i, law in enumerate(SCALAR_LAWS):
        assert stats.kstest(draws[:, i], law.cdf).pvalue > 0.001
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.03
    assert len(np.unique(draws)) == draws.size


def test_hierarchical_draws_follow_their_law_given_their_parents():
    draws = prior_of(hierarchical).layout.unflatten(prior_of(hierarchical).draw(20_000, 12))
    shift = np.arange(3.0)
    residual = (draws["beta"] - draws["mu"][:, None] - shift) / draws["sigma"][:, None]
    independent = np.column_stack(
        [
            (draws["mu"] - 1) / 2,
            stats.norm.ppf(stats.halfnorm.cdf(draws["sigma"], scale=1.5)),
            residual,
            stats.norm.ppf(draws["u"] / draws["sigma"]),
        ]
    )
    for column in independent.T:
        assert stats.kstest(column, "norm").pvalue > 0.001
    assert np.abs(np.corrcoef(independent.T) - np.eye(6)).max() < 0.03


def test_draws_that_cannot_be_vectorised_follow_their_law():
    graph = PriorGraph.of(custom())
    with pytest.raises(NotImplementedError):
        _vectorised_draw(graph.rvs)(np.random.SeedSequence(1))
    mu, y = prior_of(custom).draw(2000, 13).T
    assert stats.kstest(mu, "norm").pvalue > 0.001
    assert stats.kstest((np.log(y) - mu) / 0.5, "norm").pvalue > 0.001
    assert abs(np.corrcoef(mu, np.log(y) - mu)[0, 1]) < 0.1


@no_blas
@pytest.mark.parametrize("make", [compositional, symbolic, cholesky])
def test_vectorised_draws_follow_the_same_law_as_single_ones(make):
    graph = PriorGraph.of(make())
    vectorised = _vectorised_draw(graph.rvs)(np.random.SeedSequence(1))
    single = _looped_draw(graph.rvs)(np.random.SeedSequence(2))
    if make is compositional:
        assert len(np.unique(vectorised[2])) == 1024 * 4  # each component has its own noise
    for many, each in zip(vectorised, single, strict=True):
        assert many.shape == each.shape
        columns = zip(many.reshape(len(many), -1).T, each.reshape(len(many), -1).T, strict=True)
        for left, right in columns:
            if left.std():
                assert stats.ks_2samp(left, right).pvalue > 0.0005


@pytest.mark.parametrize("make", [scalars, hierarchical, custom])
def test_the_same_seed_gives_the_same_draws(make):
    draws = draws_of(make)
    again = PyMCPrior(make())
    np.testing.assert_array_equal(again.draw(200, 1), draws)
    np.testing.assert_array_equal(again.draw(7, 1), draws[:7])
    assert not np.isin(again.draw(200, 2), draws).any()
    assert not np.isin(again.draw(200), draws).any()


def test_a_generator_moves_on():
    prior, rng = prior_of(scalars), np.random.default_rng(1)
    first, second = prior.draw(5, rng), prior.draw(5, rng)
    assert not np.isin(second, first).any()
    np.testing.assert_array_equal(prior.draw(5, np.random.default_rng(1)), first)


def test_no_draws():
    assert prior_of(scalars).draw(0, 1).shape == (0, 4)
    with pytest.raises(ValueError, match="n=-1: expected at least 0"):
        prior_of(scalars).draw(-1)
    with pytest.raises(TypeError, match=r"n=2.5: expected an integer"):
        prior_of(scalars).draw(2.5)


def test_a_hundred_thousand_draws_take_no_time():
    prior = prior_of(scalars)
    u = prior.unconstrain(prior.draw(1, 1))
    prior.log_prob(u)
    start = time.perf_counter()
    prior.log_prob(prior.unconstrain(prior.draw(100_000, 1)))
    assert time.perf_counter() - start < 3.0  # 0.5 s on an idle machine


# --- what is left alone ------------------------------------------------------------------------


def shared_values(model: pm.Model) -> list[str]:
    shared = (v for v in graph_inputs(model.basic_RVs) if isinstance(v, SharedVariable))
    values = (variable.get_value() for variable in shared)
    return [
        str(value.bit_generator.state if isinstance(value, np.random.Generator) else value)
        for value in values
    ]


def test_neither_the_model_nor_global_state_is_touched():
    model = hierarchical()
    before = shared_values(model), dict(model.named_vars), [*model.value_vars]
    config, numpy_state = str(pytensor.config), str(np.random.get_state())  # noqa: NPY002
    prior = PyMCPrior(model)
    prior.log_prob(prior.unconstrain(prior.draw(5, 1)))
    assert (shared_values(model), dict(model.named_vars), [*model.value_vars]) == before
    assert str(pytensor.config) == config
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002


def test_later_changes_to_the_model_make_no_difference():
    model = hierarchical()
    prior = PyMCPrior(model)
    with model:
        pm.set_data({"shift": [100.0, 100.0, 100.0]})
        pm.Normal("later")
    np.testing.assert_array_equal(prior.draw(50, 1), draws_of(hierarchical)[:50])
    assert prior.layout.names == ("mu", "sigma", "beta", "u")


def test_functions_may_be_called_from_several_threads():
    prior = PyMCPrior(scalars())
    u = np.random.default_rng(6).normal(size=(20, 500, 4))
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(prior.log_prob, u))
    np.testing.assert_array_equal(together, prior.log_prob(u))


def test_the_fingerprint_tells_priors_apart():
    fingerprint = prior_of(scalars).fingerprint()
    assert fingerprint == json.loads(json.dumps(PyMCPrior(scalars()).fingerprint()))
    with pm.Model() as other:
        pm.TruncatedNormal("v", 0.0, 10.0, lower=-5.0, upper=5.0)
        pm.TruncatedNormal("a", 1.0, 1.0, lower=0.5, upper=3.0)
        pm.TruncatedNormal("t0", 0.4, 0.2, lower=0.2, upper=1.1)
        pm.TruncatedNormal("w", 0.5, 0.1, lower=0.3, upper=0.7)
    assert not np.allclose(PyMCPrior(other).fingerprint(), fingerprint)


# --- priors that are turned down ---------------------------------------------------------------


def test_priors_that_cannot_be():
    with pm.Model() as observed:
        pm.Normal("y", pm.Normal("mu"), observed=[1.0])
    with pm.Model() as discrete:
        pm.Normal("mu")
        pm.Poisson("k", 2.0)
    with pm.Model() as improper:
        pm.Flat("anything")
        pm.HalfFlat("positive")
    with pm.Model() as potential:
        mu = pm.Normal("mu")
        pm.Potential("soft", -(mu**2))
    with pm.Model() as empty:
        pm.Normal("some", shape=2)
        pm.Normal("none", shape=(2, 0))
    with pm.Model() as certain:
        pm.Dirichlet("share", [1.0])
    for model, match in (
        (observed, "observed variables y"),
        (discrete, "discrete parameters k"),
        (potential, "potentials soft"),
        (improper, "prior of anything, positive is flat"),
        (pm.Model(), "no free random variables"),
        (empty, r"'none' has the shape \(2, 0\), and no values"),
        (certain, "nothing to learn: share can take one value only"),
    ):
        with pytest.raises(ValueError, match=match):
            PyMCPrior(model)
    with pytest.raises(TypeError, match=r"pymc\.Model, got function"):
        PyMCPrior(scalars)


def test_a_transform_that_the_draws_do_not_respect():
    with pm.Model() as model:
        pm.Normal("fine")
        pm.Normal("cut", shape=3, transform=pm.distributions.transforms.ordered)
    prior = PyMCPrior(model)
    # Of six orders of three numbers one is right.
    for _ in range(2):  # an attempt that failed changes nothing
        with pytest.raises(
            ValueError, match=r"8\d% of the prior draws lie outside .* most of 'cut'"
        ):
            prior.draw(10, 1)


def test_what_is_on_no_simplex_has_no_unconstrained_values():
    with pm.Model() as model:
        pm.Dirichlet("w", np.ones(3))
    prior = PyMCPrior(model)
    weights = np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6], [0.2, -0.3, 1.1]])
    for unconstrained in (prior.unconstrain(weights), prior.unconstrain_with_jacobian(weights)[0]):
        assert np.isfinite(unconstrained).all(-1).tolist() == [True, False, False]
    assert np.isfinite(prior.unconstrain(weights.astype(np.float32))[0]).all()


@pytest.mark.parametrize(
    "name",
    [
        "unconstrain",
        "unconstrain_with_jacobian",
        "constrain",
        "log_prob",
        "log_prob_constrained",
        "log_abs_det_jacobian",
    ],
)
def test_wrong_shapes(name):
    for wrong in (np.zeros(3), 0.0, np.zeros((4, 2))):
        with pytest.raises(ValueError, match=rf"{name} got .* expected \(..., 4\)"):
            getattr(prior_of(scalars), name)(wrong)
