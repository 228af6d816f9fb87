"""On a GPU: captured steps are eager steps, and what was trained there works on a CPU."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pymc as pm
import pytest
import torch
from sequences import recurrent_likelihood

import jana_pymc as jana
from jana_pymc.architecture import build_network
from jana_pymc.fitting import default_settings, default_training, standardize
from jana_pymc.tasks import task
from jana_pymc.tasks.ddm import ddm
from jana_pymc.tasks.epidemic import epidemic
from jana_pymc.training import StoredSimulations, TrainingSettings
from jana_pymc.training.batches import to_batch
from jana_pymc.training.step import CudaGraph, GraphedStep, TrainingStep

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a CUDA device")

N_STEPS = 30
TASKS = ("two_moons", "slcp", "sir", "bernoulli_glm_raw", "gaussian_mixture", "lotka_volterra")
MODELS = {
    "ddm": lambda: ddm(n_obs=(5, 8)),
    "epidemic": lambda: epidemic(whole=True),
    **{name: lambda name=name: task(name, "benchmark").model for name in TASKS},
}


@pytest.mark.filterwarnings("ignore:RNN module weights:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_captured_steps_are_eager_steps(name: str) -> None:
    model = MODELS[name]()
    device = torch.device("cuda")
    batch = to_batch(model.simulate(400, random_seed=1, progressbar=False), model.prior, device)
    settings = default_settings(model.schema, model.prior.n_unconstrained)
    training = default_training(settings, model.prior.n_unconstrained, model.schema)
    positive = [False] * len(model.schema.components)
    network = build_network(model.schema, model.prior, positive, settings, 1).to(device)
    standardize(network, [batch])
    source = StoredSimulations(
        batch,
        None,
        batch_size=64,
        n_obs=model.schema.n_obs,
        seed=1,
        ordered=model.schema.structure != "exchangeable",
    )
    losses = []
    for graphed in (False, True):
        own = copy.deepcopy(network)
        step = TrainingStep(own, copy.deepcopy(own), training, seed=1, capturable=graphed)
        run = GraphedStep(step) if graphed else step
        found = []
        for number in range(N_STEPS):
            step.schedule(training.linear_steps + number)
            run(source.batch(number)[0], None)
            found.append(step.losses.clone())
        losses.append(torch.stack(found).cpu())
    # Sums come about in another order, and the difference grows from step to step.
    torch.testing.assert_close(losses[1][:8], losses[0][:8], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(losses[1], losses[0], rtol=5e-2, atol=5e-2)


def test_random_numbers_go_on_after_a_capture_that_failed() -> None:
    value = torch.zeros(3, device="cuda")

    def asks_the_host() -> None:
        value.add_(torch.randn(3, device="cuda"))
        if float(value.sum()) > 1e9:
            value.zero_()

    graph = CudaGraph(asks_the_host)
    graph.run()
    with pytest.raises(RuntimeError):
        graph.capture()
    graph.run()
    assert torch.isfinite(torch.randn(3, device="cuda") + value).all()


def test_the_op_and_its_gradient_are_the_same_on_a_gpu() -> None:
    """With a recurrent network, whose memory cuDNN runs."""
    on_cpu = recurrent_likelihood()
    on_gpu = on_cpu.to("cuda")
    assert on_gpu == on_cpu
    x = on_cpu.simulate([[0.3, 0.6]], 9, random_seed=1)[0]
    point = {"a_interval__": np.array(0.2), "b_interval__": np.array(-0.4)}
    values = []
    for likelihood in (on_cpu, on_gpu):
        with pm.Model() as model:
            likelihood("y", a=pm.Uniform("a"), b=pm.Uniform("b"), observed=x, backend="op")
        values.append([model.compile_logp()(point), *model.compile_dlogp()(point)])
    np.testing.assert_allclose(values[1], values[0], rtol=1e-8)
    with model:
        drawn = pm.sample(20, tune=20, chains=1, cores=1, random_seed=1, progressbar=False)
    assert 0.0 < drawn["posterior"]["a"].std() < 1.0
    copied = pickle.loads(pickle.dumps(on_gpu))
    np.testing.assert_allclose(
        copied.log_prob(x, [[0.3, 0.6]]), on_cpu.log_prob(x, [[0.3, 0.6]]), rtol=1e-8
    )


@pytest.mark.parametrize("name", ["two_moons", "epidemic"])
def test_what_a_gpu_trains_works_on_a_cpu(name: str, tmp_path) -> None:
    model = MODELS[name]()
    training = TrainingSettings(
        n_steps=120, batch_size=64, linear_steps=20, mmd_weight=0.1, n_validations=3, patience=None
    )
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as executor:
        trained = jana.fit(
            model,
            n_simulations=1_000,
            online=True,
            training=training,
            executor=executor,
            device="cuda",
            random_seed=1,
            progressbar=False,
        )
    trained.save(tmp_path / "pair.safetensors")
    loaded = jana.load(tmp_path / "pair.safetensors", model, device="cpu")
    test = model.simulate(20, random_seed=2, progressbar=False)
    batch = test.batch()
    ours, theirs = (
        pair.posterior.log_prob(test.parameters[:, None], batch) for pair in (loaded, trained)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    for x, theta in zip(batch.observables, test.parameters, strict=True):
        ours, theirs = (pair.likelihood.log_prob(x, theta[None]) for pair in (loaded, trained))
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    draws = trained.posterior.sample(batch, 100, random_seed=1)
    assert np.isfinite(draws).all()
