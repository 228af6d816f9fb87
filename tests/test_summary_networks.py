"""Summary networks: invariances, padding, causality, gradients; they survive copies."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jana_pymc.networks import (
    AttentionSettings,
    DenseNetwork,
    SetSummarySettings,
    SetTransformer,
    SetTransformerSettings,
    TimeSeriesNetwork,
    TimeSeriesSettings,
    TimeSeriesTransformer,
    TimeSeriesTransformerSettings,
)
from jana_pymc.networks.attention import MultiHeadAttention
from jana_pymc.posterior import PosteriorNetwork, PosteriorSettings

N_IN, N_OBS, N_OUT = 3, 10, 5
SMALL = AttentionSettings(width=12, n_heads=2, key_size=4, hidden=(8,), activation="silu")
SERIES = TimeSeriesSettings(kernel_sizes=(1, 3), n_filters=4, width=6, n_hidden=7)
SETS = {
    "induced": SetTransformerSettings(n_inducing=6, attention=SMALL),
    "full": SetTransformerSettings(n_blocks=1, n_inducing=0, n_seeds=3, attention=SMALL),
    "pooled": SetTransformerSettings(n_blocks=0, attention=SMALL),
}
CAUSAL = {
    "lstm": SERIES,
    "gru": replace(SERIES, recurrent="gru", n_convolutions=3),
    "separate": replace(SERIES, separate=True),
    "memory_alone": replace(SERIES, n_convolutions=0),
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{k: lambda s=s: SetTransformer(N_IN, N_OUT, s) for k, s in SETS.items()},
    **{k: lambda s=s: TimeSeriesNetwork(N_IN, N_OUT, s) for k, s in CAUSAL.items()},
    "transformer": lambda: TimeSeriesTransformer(
        N_IN, N_OUT, TimeSeriesTransformerSettings(n_hidden=7, attention=SMALL)
    ),
    "transformer_gru": lambda: TimeSeriesTransformer(
        N_IN,
        N_OUT,
        TimeSeriesTransformerSettings(n_blocks=1, recurrent="gru", n_hidden=7, attention=SMALL),
    ),
}
FLAT: dict[str, Callable[[], nn.Module]] = {}


def built(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {**NETWORKS, **FLAT}[name]().to(dtype).eval()


def data(n_sets: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n_sets, N_OBS, N_IN, dtype=torch.float64, generator=generator)
    return x.to(dtype), torch.ones(n_sets, N_OBS, dtype=torch.bool)


def shuffled(x: Tensor) -> Tensor:
    return x[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(2))]


@pytest.mark.parametrize("name", SETS)
def test_order_of_a_set_does_not_matter(name: str) -> None:
    network, (x, mask) = built(name), data()
    torch.testing.assert_close(network(x, mask), network(shuffled(x), mask))


@pytest.mark.parametrize("name", [n for n in (*NETWORKS, *FLAT) if n not in SETS])
def test_order_of_a_sequence_matters(name: str) -> None:
    network, (x, mask) = built(name), data()
    assert (network(x, mask) - network(shuffled(x), mask)).abs().max() > 1e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_does_not_matter(name: str) -> None:
    network, (x, _) = built(name), data()
    n_obs = torch.tensor([10, 7, 3, 1])
    mask = torch.arange(N_OBS) < n_obs[:, None]
    together = network(x.masked_fill(~mask[..., None], torch.nan), mask)
    for i, n in enumerate(n_obs.tolist()):
        alone = network(x[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool))
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("name", [*NETWORKS, *FLAT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_reach_all_weights(name: str, dtype: torch.dtype) -> None:
    network, (x, mask) = built(name, dtype).train(), data(dtype=dtype)
    mask[:, -2:] = False
    x = x.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    summary = network(x, mask)
    assert summary.dtype == dtype
    (summary**2).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert (x.grad[:, -2:] == 0.0).all() and (x.grad[:, :-2].abs().sum((1, 2)) > 0.0).all()
    for parameter in network.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", [*NETWORKS, *FLAT])
def test_copies_agree_without_gradients(name: str) -> None:
    network, (x, mask) = built(name), data()
    expected = network(x, mask)
    other = copy.deepcopy(network)
    with torch.no_grad():
        torch.testing.assert_close(other(x, mask), expected.detach(), rtol=0, atol=0)
    fresh = {**NETWORKS, **FLAT}[name]().double().eval()
    fresh.load_state_dict(network.state_dict())
    torch.testing.assert_close(fresh(x, mask), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", CAUSAL)
def test_sequence_networks_do_not_look_ahead(name: str) -> None:
    network, (x, mask) = built(name), data(1)
    mask = torch.ones_like(mask)
    summaries = []
    for n in (1, 6, N_OBS):
        known = mask & (torch.arange(N_OBS) < n)
        summaries.append(network(x, known))
        torch.testing.assert_close(summaries[-1], network(x[:, :n], mask[:, :n]))
    for one, more in itertools.pairwise(summaries):
        assert (one - more).abs().min() > 0.0


def test_separate_features_meet_only_at_the_end() -> None:
    network, (x, mask) = built("separate"), data(1)
    network.output = nn.Identity()
    changed = x.clone()
    changed[..., 1] += 1.0
    difference = (network(changed, mask) - network(x, mask)).abs().reshape(N_IN, -1).sum(-1)
    assert difference[1] > 0.0 and difference[0] == difference[2] == 0.0


def test_separate_features_are_all_told_what_is_known() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TimeSeriesNetwork(N_IN, N_OUT, CAUSAL["separate"], n_observed=2).double().eval()
    network.output = nn.Identity()
    x, mask = data(1)
    for changed, expected in ((0, [True, False]), (1, [False, True]), (2, [True, True])):
        other = x.clone()
        other[..., changed] += 1.0
        difference = (network(other, mask) - network(x, mask)).abs().reshape(2, -1).sum(-1)
        assert (difference > 0.0).tolist() == expected


def test_attention_is_the_textbook_formula() -> None:
    attention = MultiHeadAttention(SMALL).double().eval()
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, n, 12, dtype=torch.float64, generator=generator) for n in (2, 5))
    mask = torch.tensor([[True, False, True, True, False]])
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        q, k, v = attention.queries(x)[0], attention.keys(y)[0], attention.values(y)[0]
        weights = torch.exp(q[:, part] @ k[:, part].T / 4**0.5) * mask
        heads.append(weights / weights.sum(-1, keepdim=True) @ v[:, part])
    expected = attention.output(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x, y, mask)[0], expected)


@pytest.mark.parametrize("name", ["induced", "transformer", "lstm"])
def test_dropout_is_for_training_alone(name: str) -> None:
    half = replace(SMALL, dropout=0.5)
    network = {
        "induced": lambda: SetTransformer(N_IN, N_OUT, replace(SETS["induced"], attention=half)),
        "transformer": lambda: TimeSeriesTransformer(
            N_IN, N_OUT, TimeSeriesTransformerSettings(attention=half)
        ),
        "lstm": lambda: TimeSeriesNetwork(N_IN, N_OUT, replace(SERIES, dropout=0.5)),
    }[name]().double()
    x, mask = data()
    assert (network(x, mask) - network(x, mask)).abs().max() > 0.0
    network.eval()
    torch.testing.assert_close(network(x, mask), network(x, mask), rtol=0, atol=0)


def test_residual_layers_add_their_input() -> None:
    network = DenseNetwork(3, 2, hidden=(4, 4, 6), residual=True).double()
    assert sum(type(layer).__name__ == "Residual" for layer in network.layers) == 1
    first, activation, residual, third, _, output = network.layers
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = activation(first(x))
    h = h + nn.functional.silu(residual[0](h))
    torch.testing.assert_close(network(x), output(nn.functional.silu(third(h))))


def test_plain_dense_networks_keep_the_names_of_their_weights() -> None:
    names = list(DenseNetwork(3, 2, hidden=(4, 4), dropout=0.1).state_dict())
    assert names == [f"layers.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: AttentionSettings(n_heads=0), "n_heads=0"),
        (lambda: AttentionSettings(dropout=1.0), "dropout=1.0"),
        (lambda: SetTransformerSettings(n_seeds=0), "n_seeds=0"),
        (lambda: SetTransformerSettings(n_inducing=-1), "n_inducing=-1"),
        (lambda: TimeSeriesSettings(n_convolutions=-1), "n_convolutions=-1"),
        (lambda: TimeSeriesSettings(kernel_sizes=(0, 2)), "kernel_sizes"),
        (lambda: TimeSeriesSettings(n_hidden=0), "n_hidden=0"),
        (lambda: TimeSeriesSettings(recurrent="rnn"), "recurrent='rnn'"),
        (lambda: TimeSeriesSettings(activation="swish"), "activation='swish'"),
        (lambda: TimeSeriesSettings(dropout=-0.1), "dropout=-0.1"),
        (lambda: TimeSeriesTransformerSettings(n_hidden=0), "n_hidden=0"),
        (lambda: TimeSeriesTransformerSettings(recurrent="rnn"), "recurrent='rnn'"),
        (
            lambda: TimeSeriesTransformerSettings(attention=AttentionSettings(width=5)),
            "attention.width=5",
        ),
    ],
)
def test_bad_settings_are_named(
    settings: Callable[[], object], message: str, unchecked_annotations: None
) -> None:
    with pytest.raises(ValueError, match=message):
        settings()


def test_a_summary_is_of_something() -> None:
    with pytest.raises(ValueError, match="n_summaries=0 without means=True: a posterior would see"):
        SetSummarySettings(n_summaries=0)


def test_without_learned_summaries_the_means_are_the_summary() -> None:
    settings = PosteriorSettings(SetSummarySettings(n_summaries=0, means=True))
    network = PosteriorNetwork([None, None], [False, False], 1, settings=settings).double()
    assert not list(network.summary.parameters())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 9, 2, dtype=torch.float64, generator=generator)
    n_obs = torch.full((6,), 9)
    network.standardize(x[:, 0, :1], x, n_obs)
    summary, means = network.summarize(x, n_obs), x.mean(1)
    assert summary.shape == (6, 2)
    standardized = [(each - each.mean(0)) / each.std(0) for each in (summary, means)]
    torch.testing.assert_close(*standardized)
    torch.testing.assert_close(summary.mean(0), torch.zeros(2, dtype=torch.float64))
