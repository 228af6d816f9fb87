"""Settings of networks: what is no size, word or position is named when they are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from jana_pymc import flows, likelihoods, networks
from jana_pymc.network_settings import NetworkSettings
from jana_pymc.networks import DeepSetSettings
from jana_pymc.posterior import AdjustmentSettings, PosteriorSettings

SETTINGS = [
    PosteriorSettings,
    AdjustmentSettings,
] + [
    getattr(package, name)
    for package in (flows, likelihoods, networks)
    for name in package.__all__
    if name.endswith("Settings")
]
WRONG: dict[str, tuple[Any, ...]] = {
    "int": (-1, 2.5, True, "many", None),
    "float": (-1.0, np.nan, True, "much", None),
    "word": ("swish", 3, True),
    "numbers": (5, "many", (2.5,), (True,), (-1,), ("a",)),
    "settings": (None, "default", {"hidden": (16,)}, DeepSetSettings),
}
SWITCHES = [
    (settings, field.name)
    for settings in SETTINGS
    for field in fields(settings)
    if get_type_hints(settings)[field.name] is bool
]


def kind(annotation: Any) -> str | None:
    """What is to be checked of a field; None for switches and draws."""
    options = [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is not Literal and type(None) in get_args(annotation):
        (annotation,) = options
    if get_origin(annotation) is Literal:
        return "word"
    if is_dataclass(annotation) or any(map(is_dataclass, options)):
        return "settings"
    if annotation in (int, float):
        return annotation.__name__
    return "numbers" if annotation in (Sequence[int], Sequence[float]) else None


CASES = [
    (settings, field.name, value)
    for settings in SETTINGS
    for field in fields(settings)
    for value in WRONG.get(kind(get_type_hints(settings)[field.name]) or "", ())
    if value is not None or "None" not in str(get_type_hints(settings)[field.name])
]


def test_all_settings_are_here() -> None:
    assert len(SETTINGS) == 17
    assert {settings for settings, _, _ in CASES} == set(SETTINGS)
    assert (likelihoods.MarkovianSettings, "clock") in SWITCHES and len(SWITCHES) > 6


@pytest.mark.parametrize(("settings", "name", "value"), CASES)
def test_what_is_no_setting_is_named(
    settings: type, name: str, value: object, unchecked_annotations: None
) -> None:
    # Waves belong to one transform only, of which others say so first.
    needed = {"transform": "autoregressive"} if name == "n_waves" else {}
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d\])?=.*(expected|is not)"):
        settings(**{name: value, **needed})


@pytest.mark.parametrize(("settings", "name"), SWITCHES)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_what_is_no_switch_is_named(
    settings: type, name: str, value: object, unchecked_annotations: None
) -> None:
    with pytest.raises(TypeError, match=f"^{name}={value!r}: expected True or False"):
        settings(**{name: value})


def test_components_of_no_mixture_are_refused() -> None:
    with pytest.raises(ValueError, match="n_components=5 belong to latent='mixture', but"):
        flows.FlowSettings(n_components=5)


def test_a_summary_of_no_features_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one feature or more"):
        networks.FlatSummarySettings(informative=())


def test_files_may_hold_what_a_flow_has_always_ignored() -> None:
    flow = flows.FlowSettings(transform="affine")
    likelihood = likelihoods.AutoregressiveSettings()
    values = NetworkSettings(PosteriorSettings(flow=flow), likelihood).to_dict()
    values["posterior"]["flow"] |= {"n_bins": 16, "conditioner_hidden": 32}
    assert NetworkSettings.from_dict(values).posterior == PosteriorSettings(flow=flow)


@pytest.mark.parametrize("settings", SETTINGS)
def test_integers_of_numpy_are_integers(settings: type, unchecked_annotations: None) -> None:
    hints = get_type_hints(settings)
    chosen = {f.name: getattr(settings(), f.name) for f in fields(settings)}
    sizes = {n: np.array(v) for n, v in chosen.items() if kind(hints[n]) == "numbers" and v}
    counts = {n: np.int64(v) for n, v in chosen.items() if hints[n] is int}
    assert replace(settings(), **sizes, **counts) == settings()


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        (PosteriorSettings, {"summary": {"hidden": 3}}, "FlatSummarySettings"),
        (PosteriorSettings, {"summary": networks.SetSummarySettings}, "SetSummarySettings"),
        (PosteriorSettings, {"flow": "spline"}, "FlowSettings"),
        (NetworkSettings, {"posterior": "x"}, "PosteriorSettings"),
        (NetworkSettings, {"likelihood": PosteriorSettings()}, "or SoftFlowSettings"),
        (NetworkSettings, {"likelihood": "x"}, "AutoregressiveSettings, "),
    ],
)
def test_what_are_no_settings_is_named(
    settings: type, options: dict[str, Any], expected: str, unchecked_annotations: None
) -> None:
    (name,) = options
    with pytest.raises(TypeError, match=rf"^{name}=.*: expected .*{expected}"):
        settings(**options)
