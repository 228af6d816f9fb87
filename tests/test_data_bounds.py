"""Parameters that the data bound: the map to the real line, and posteriors that stay inside."""

from __future__ import annotations

from itertools import product

import numpy as np
import pymc as pm
import pytest
import torch

import jana_pymc as jana
from jana_pymc.architecture import data_bounds
from jana_pymc.posterior.data_bounds import DataBound, DataBounds
from jana_pymc.simulation import Continuous, DataSchema, GenerativeModel, PyMCPrior

SUPPORTS = ((-np.inf, np.inf), (0.0, np.inf), (-np.inf, 2.0), (0.0, 2.0))


def to_unconstrained(value, lower, upper):
    """What PyMC's transforms for that support give."""
    if np.isinf(lower):
        return value if np.isinf(upper) else np.log(upper - value)
    return np.log(value - lower) - (0.0 if np.isinf(upper) else np.log(upper - value))


@pytest.mark.parametrize(("below", "support"), list(product((True, False), SUPPORTS)))
def test_a_bijection_onto_the_side_of_the_data(below, support):
    generator = torch.Generator().manual_seed(1)
    x = 0.1 + 1.8 * torch.rand((6, 5, 1), generator=generator, dtype=torch.float64)
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[2, 3:] = False
    bounds = DataBounds([DataBound(1, (0,), below, *support)], 3).double()
    bounds.lowest.fill_(-50.0)
    bounds.highest.fill_(50.0)
    limits = bounds.of(x, mask, torch.zeros(3), torch.ones(3))
    real = 2.0 * torch.randn((6, 3), generator=generator, dtype=torch.float64)
    inside, log_det = bounds.inverse(real, limits)

    for i in range(6):
        seen = x[i, mask[i], 0]
        extreme = float(seen.min() if below else seen.max())
        limit = to_unconstrained(extreme, *support)
        increasing = not np.isinf(support[0]) or np.isinf(support[1])
        assert (float(inside[i, 1]) < limit) == (below == increasing)

    again, same_log_det = bounds(inside, limits)
    torch.testing.assert_close(again, real)
    torch.testing.assert_close(same_log_det, log_det)
    jacobian = torch.autograd.functional.jacobian(lambda s: bounds(s, limits)[0], inside)
    determinants = [torch.linalg.slogdet(jacobian[i, :, i])[1] for i in range(6)]
    torch.testing.assert_close(torch.stack(determinants), log_det)


def test_no_density_beyond_the_bound_and_finite_densities_at_it():
    bounds = DataBounds([DataBound(0, (0,), below=True)], 1).double()
    limit = torch.zeros((1, 1), dtype=torch.float64)
    real, log_det = bounds(torch.tensor([[0.01], [-1e-9], [0.0], [-0.5]]).double(), limit)
    assert real.isfinite().all()
    assert log_det[0] == -torch.inf
    assert log_det[1:].isfinite().all()


def test_data_that_tell_nothing_change_nothing():
    bounds = DataBounds([DataBound(0, (0,), below=True, lower=0.0, upper=1.0)], 1).double()
    x = torch.full((1, 4, 1), 3.0, dtype=torch.float64)  # all above the whole prior
    limit = bounds.of(x, torch.ones((1, 4), dtype=torch.bool), torch.zeros(1), torch.ones(1))
    assert limit.isinf().all()
    values = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    real, log_det = bounds(values, limit)
    torch.testing.assert_close(real, values)  # `highest` is 0 here
    torch.testing.assert_close(log_det, torch.zeros_like(log_det))


def test_missing_observations_bound_nothing():
    x = torch.tensor([[[float("nan")], [2.0], [3.0]]])
    bound = DataBound(0, (0,), below=True)
    assert bound.of(x, torch.ones((1, 3), dtype=torch.bool)) == 2.0
    assert bound.log_distance(x, torch.ones((1, 3), dtype=torch.bool)).isfinite().all()


def test_all_components_and_observations_bound():
    x = torch.tensor([[[4.0, 2.5], [3.0, 2.0]]])
    everything = torch.ones((1, 2), dtype=torch.bool)
    assert DataBound(0, (0, 1), below=True).of(x, everything) == 2.0
    assert DataBound(0, (0, 1), below=False).of(x, everything) == 4.0
    assert DataBound(0, (0, 1), below=True).log_distance(x, everything).argmin() == 3


def test_one_bound_a_parameter():
    with pytest.raises(ValueError, match="more than one bound"):
        DataBounds([DataBound(0, (0,), True), DataBound(0, (1,), False)], 1)


def test_bounds_come_from_declared_supports():
    with pm.Model() as model:
        pm.Uniform("low", 0.0, 2.0)
        pm.HalfNormal("scale")
        pm.Uniform("nested", 0.0, model["scale"])
    schema = DataSchema(
        {
            "x": Continuous(lower="low"),
            "y": Continuous(lower="low", upper="nested"),
            "z": Continuous(upper="scale"),
        },
        n_obs=(3, 3),
    )
    found = data_bounds(schema, PyMCPrior(model))
    assert found == (
        DataBound(0, (0, 1), below=True, lower=0.0, upper=2.0),
        DataBound(1, (2,), below=False, lower=0.0),
    )


def shifted_exponential(rng, t, n_obs):
    return {"x": t + rng.exponential(size=n_obs)}


@pytest.fixture(scope="module")
def pair():
    with pm.Model() as prior:
        pm.Uniform("t", 0.0, 1.0)
    model = GenerativeModel(
        prior, shifted_exponential, observables={"x": Continuous(lower="t")}, n_obs=(10, 20)
    )
    return jana.fit(
        model,
        n_simulations=4_000,
        training=jana.TrainingSettings(n_steps=350),
        random_seed=1,
        progressbar=False,
    )


@pytest.mark.trains
def test_an_exact_posterior_with_a_sharp_edge(pair):
    """Of t in x = t + Exp(1), the density is n exp(n (t − min x)), cut off at 0 and 1."""
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.0, 1.0, 1_000)
    sets = [shifted_exponential(rng, t, 20) for t in truth]
    batch = pair.schema.batch(sets)
    edge = np.minimum([s["x"].min() for s in sets], 1.0)
    draws = pair.posterior.sample(batch, 200, random_seed=3)
    assert (draws[..., 0] < edge[:, None] + 1e-6).all()

    exact = np.log(20) + 20 * (truth - edge) - np.log(-np.expm1(-20 * edge))
    divergence = exact - pair.posterior.log_prob(truth[:, None, None], batch)[:, 0]
    assert abs(divergence.mean()) < 0.04  # nats; Kullback-Leibler

    clear = edge < 0.95
    beyond = np.where(clear, edge + 0.02, 0.5)[:, None, None]
    assert (pair.posterior.log_prob(beyond, batch)[clear] == -np.inf).all()


@pytest.mark.trains
def test_saved_and_loaded(pair, tmp_path):
    pair.save(tmp_path / "pair.safetensors")
    again = jana.load(tmp_path / "pair.safetensors", pair.prior, device="cpu")
    batch = pair.schema.batch({"x": np.linspace(0.7, 2.0, 12)})
    np.testing.assert_array_equal(
        again.posterior.sample(batch, 5, random_seed=1),
        pair.posterior.sample(batch, 5, random_seed=1),
    )
