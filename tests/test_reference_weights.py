"""The authors' trained networks, loaded into our layers, give the authors' values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from torch import nn

from jana_pymc.flows import ConditionalFlow, FlowSettings, conditional_flow
from jana_pymc.likelihoods import SignedCouplingLikelihood, SignedCouplingSettings, Support
from jana_pymc.networks import DeepSet, DeepSetSettings


@pytest.fixture(scope="module")
def datasets(reference: Path) -> dict[str, np.ndarray]:
    with np.load(reference / "ddm_datasets.npz") as file:
        return dict(file)


def _put(parameter: nn.Parameter, value: np.ndarray) -> None:
    assert parameter.shape == value.shape
    parameter.data = torch.as_tensor(value, dtype=torch.float64)


def _linear(layer: nn.Linear, weights: dict[str, np.ndarray], name: str) -> None:
    _put(layer.weight, weights[f"{name}.kernel"].T)
    _put(layer.bias, weights[f"{name}.bias"])


def _side_by_side(network: nn.Module, weights: dict[str, np.ndarray], name: str) -> None:
    """Put the separate scale and shift networks into one block-diagonal network."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    for i, layer in enumerate(linear):
        part = [f"{name}.{p}.fc.layer_with_weights-{i}" for p in ("scale", "translate")]
        kernels = [weights[f"{p}.kernel"].T for p in part]
        biases = [weights[f"{p}.bias"] for p in part]
        if i == 0:
            kernel = np.concatenate(kernels)
        else:
            (a, b), (c, d) = (k.shape for k in kernels)
            kernel = np.block([[kernels[0], np.zeros((a, d))], [np.zeros((c, b)), kernels[1]]])
        bias = np.concatenate(biases)
        if i == len(linear) - 1:  # ours interleaves scale and shift of each coordinate
            order = np.arange(len(bias)).reshape(2, -1).T.ravel()
            kernel, bias = kernel[order], bias[order]
        _put(layer.weight, kernel)
        _put(layer.bias, bias)


def _load_flow(flow: ConditionalFlow, weights: dict[str, np.ndarray], prefix: str) -> None:
    for i in range(len(flow.transforms) // 3):
        act_norm, permutation, coupling = flow.transforms[3 * i : 3 * i + 3]
        name = f"{prefix}.coupling_layers.{i}"
        _put(act_norm.log_scale, np.log(weights[f"{name}.act_norm.scale"].astype(float)))
        _put(act_norm.bias, weights[f"{name}.act_norm.bias"])
        permutation.order = torch.as_tensor(weights[f"{name}.permutation.permutation"]).long()
        permutation.inverse_order = torch.argsort(permutation.order)
        _side_by_side(coupling.first, weights, f"{name}.net1")
        _side_by_side(coupling.second, weights, f"{name}.net2")


def _load_deep_set(network: DeepSet, weights: dict[str, np.ndarray], prefix: str) -> None:
    def inner(sequence: nn.Module, name: str) -> None:
        linear = [m for m in sequence.modules() if isinstance(m, nn.Linear)]
        for i, layer in enumerate(linear):
            _linear(layer, weights, f"{name}.layer_with_weights-{i}")

    for i, module in enumerate(network.equivariant):
        name = f"{prefix}.equiv_layers.layer_with_weights-{i}"
        inner(module.invariant.before, f"{name}.invariant_module.s1")
        inner(module.invariant.after, f"{name}.invariant_module.s2")
        inner(module.combine, f"{name}.s3")
    inner(network.invariant.before, f"{prefix}.inv.s1")
    inner(network.invariant.after, f"{prefix}.inv.s2")
    _linear(network.output, weights, f"{prefix}.out_layer")


def _numpy_conditional_flow(
    x: np.ndarray, context: np.ndarray, weights: dict[str, np.ndarray], prefix: str, activation: str
) -> tuple[np.ndarray, np.ndarray]:
    """The same flow from its equations, with scale and shift networks kept apart."""
    act = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0.0)}[activation]

    def net(name: str, inputs: np.ndarray) -> np.ndarray:
        for i in range(3):
            layer = f"{name}.fc.layer_with_weights-{i}"
            inputs = inputs @ weights[f"{layer}.kernel"] + weights[f"{layer}.bias"]
            inputs = act(inputs) if i < 2 else inputs
        return inputs

    half = x.shape[-1] // 2
    log_det = np.zeros(x.shape[:-1])
    n_layers = 1 + max(int(k.split(".")[3]) for k in weights if k.startswith(prefix))
    for i in range(n_layers):
        name = f"{prefix}.coupling_layers.{i}"
        scale = weights[f"{name}.act_norm.scale"].astype(float)
        x = scale * x + weights[f"{name}.act_norm.bias"]
        log_det += np.log(np.abs(scale)).sum()
        x = x[..., weights[f"{name}.permutation.permutation"]]
        u1, u2 = x[..., :half], x[..., half:]
        given = np.concatenate([u2, context], -1)
        s = 2 * 1.9 / np.pi * np.arctan(net(f"{name}.net1.scale", given) / 1.9)
        v1 = u1 * np.exp(s) + net(f"{name}.net1.translate", given)
        log_det += s.sum(-1)
        given = np.concatenate([v1, context], -1)
        s = 2 * 1.9 / np.pi * np.arctan(net(f"{name}.net2.scale", given) / 1.9)
        v2 = u2 * np.exp(s) + net(f"{name}.net2.translate", given)
        log_det += s.sum(-1)
        x = np.concatenate([v1, v2], -1)
    return x, log_det


def test_likelihood(reference: Path, datasets: dict[str, np.ndarray]) -> None:
    with np.load(reference / "ddm_weights_likelihood.npz") as file:
        weights = dict(file)
    network = SignedCouplingLikelihood([Support(), 2], 4, 0, SignedCouplingSettings()).double()
    _load_flow(network.flow, weights, "model.surrogate_net")
    signed, theta = datasets["signed_rt"].astype(float), datasets["theta"].astype(float)
    kept = ~np.isnan(signed)
    s = torch.as_tensor(np.nan_to_num(signed, nan=1.0))
    observables = torch.stack([s.abs(), (s > 0).double()], -1)
    with torch.no_grad():
        log_prob = network.log_prob(observables, torch.as_tensor(theta)).numpy()

    context = np.broadcast_to(theta[:, None], (*signed.shape, 4))
    target = np.stack([np.nan_to_num(signed, nan=1.0), np.zeros_like(signed)], -1)
    z, log_det = _numpy_conditional_flow(target, context, weights, "model.surrogate_net", "tanh")
    expected = multivariate_t(df=50, shape=np.eye(2)).logpdf(z) + log_det
    np.testing.assert_allclose(
        log_prob[kept], expected[kept] + 0.5 * np.log(2 * np.pi), rtol=1e-8, atol=1e-8
    )
    # Over 3,200 data sets the mean is .407164; here are the first 1,600 of them.
    assert log_prob[kept].mean() == pytest.approx(0.407164, abs=0.03)


def test_posterior(reference: Path, datasets: dict[str, np.ndarray]) -> None:
    with np.load(reference / "ddm_weights_posterior.npz") as file:
        weights = dict(file)
    summary = DeepSet(
        1,
        10,
        DeepSetSettings(n_equivariant=2, hidden=(64, 64), n_extremes=0, activation="relu"),
    ).double()
    _load_deep_set(summary, weights, "model.summary_net")
    flow = conditional_flow(
        4,
        11,
        FlowSettings(
            n_layers=5,
            transform="affine",
            linear="permutation",
            hidden=(256, 256),
            activation="relu",
            degrees_of_freedom=50.0,
        ),
    ).double()
    _load_flow(flow, weights, "model.inference_net")
    signed, theta = datasets["signed_rt"].astype(float), datasets["theta"].astype(float)
    n_obs = torch.as_tensor(datasets["n_trials"]).long()
    mask = torch.arange(signed.shape[1]) < n_obs[:, None]
    with torch.no_grad():
        x = torch.as_tensor(np.nan_to_num(signed))[..., None]
        condition = torch.cat([summary(x, mask), n_obs[:, None].double().log()], -1)
        log_q = flow.log_prob(torch.as_tensor(theta), condition).numpy()

    z, log_det = _numpy_conditional_flow(
        theta, condition.numpy(), weights, "model.inference_net", "relu"
    )
    expected = multivariate_t(df=50, shape=np.eye(4)).logpdf(z) + log_det
    np.testing.assert_allclose(log_q, expected, rtol=1e-8, atol=1e-8)
    # Over 3,200 data sets the mean is 6.3422 with a standard error of .0327.
    assert log_q.mean() == pytest.approx(6.3422, abs=0.1)
