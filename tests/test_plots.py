"""Figures: what they show, and that they leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import jana_pymc as jana
from jana_pymc.inference_data import parameter_dataset, to_inference_data
from jana_pymc.plots import (
    plot_analysis,
    plot_contraction,
    plot_coverage,
    plot_history,
    plot_posterior_pairs,
    plot_posterior_predictive,
    plot_ranks_ecdf,
    plot_ranks_histogram,
    plot_recovery,
    plot_surrogate,
)
from jana_pymc.plots.style import COLOURS, REFERENCE, SOURCES
from jana_pymc.simulation import (
    Categorical,
    Continuous,
    Count,
    DataSchema,
    FailureReport,
    ParameterLayout,
    Simulations,
)
from jana_pymc.training import TrainingHistory
from jana_pymc.workflow import (
    Analysis,
    Calibration,
    Criticism,
    CrossValidation,
    LeaveFutureOut,
    Misspecification,
    ModelComparison,
    ModelRecovery,
    Prediction,
)


def calibrated(names=("v", "a"), *, shift=0, joint=False, sets=200, draws=50, seed=0):
    rng = np.random.default_rng(seed)
    parameters = rng.normal(size=(sets, len(names)))
    median = parameters + 0.3 * rng.normal(size=parameters.shape)
    return Calibration(
        layout=ParameterLayout(
            names=tuple(names),
            shapes=dict.fromkeys(names, ()),
            dims=dict.fromkeys(names, ()),
            coords={},
        ),
        parameters=parameters,
        ranks=np.minimum(rng.integers(0, draws + 1, parameters.shape) + shift, draws),
        mean=median,
        sd=np.full_like(median, 0.3),
        quantiles=np.stack([median - 0.5, median, median + 0.5]),
        n_obs=np.full(sets, 10),
        draws=draws,
        joint=joint,
    )


def history(n):
    loss = list(np.exp(-np.linspace(0, 8, n)))
    return TrainingHistory(
        step=list(range(n)),
        seconds=loss,
        posterior=loss,
        likelihood=loss,
        validation_posterior=loss,
        validation_likelihood=loss[::-1],
    )


def scalars(seed, n=400):
    rng = np.random.default_rng(seed)
    return {"v": rng.normal(size=n), "a": rng.gamma(2, size=n)}


def trials(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return {"rt": rng.gamma(2, 0.3, shape), "response": (rng.random(shape) < 0.7).astype(int)}


FIGURES = {
    "ranks": lambda: plot_ranks_ecdf([calibrated(), calibrated(joint=True)]),
    "many ranks": lambda: plot_ranks_ecdf(calibrated([f"p{i}" for i in range(12)])),
    "recovery": lambda: plot_recovery(calibrated()),
    "histogram": lambda: plot_ranks_histogram(calibrated()),
    "coverage": lambda: plot_coverage(calibrated()),
    "contraction": lambda: plot_contraction(calibrated()),
    "history": lambda: plot_history(history(40)),
    "short history": lambda: plot_history(history(1)),
    "pairs": lambda: plot_posterior_pairs({"amortized": scalars(0), "NUTS": scalars(1)}),
    "degenerate pairs": lambda: plot_posterior_pairs({"one": {"v": np.ones(50), "a": np.ones(50)}}),
    "predictive": lambda: plot_posterior_predictive(
        trials(80), trials(4, 20, 80, seed=1), value="rt", by="response"
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_render_and_leave_no_state(name, tmp_path):
    plt.close("all")
    before = dict(mpl.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_the_users_axes_are_drawn_on():
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert plot_history(history(20), axes=axes) is figure
    assert plot_ranks_ecdf(calibrated(), axes=axes[0]) is figure
    with pytest.raises(ValueError, match="1 panels, but 2 are needed"):
        plot_recovery(calibrated(), axes=axes[0])
    assert plot_ranks_ecdf(calibrated(), axes=figure.subfigures().subplots()) is figure
    axes[0].remove()
    with pytest.raises(ValueError, match="axes belong to no figure"):
        plot_ranks_ecdf(calibrated(), axes=axes[0])


def test_ranks_stand_side_by_side_with_verdicts():
    good, bad = calibrated(), calibrated(shift=10, joint=True)
    assert all(good.inside().values())
    assert not any(bad.inside().values())
    left, right = plot_ranks_ecdf([good, bad]).axes
    assert left.get_title().startswith("posterior")
    assert right.get_title().startswith("joint")
    assert left.get_ylim() == right.get_ylim()
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["95% band", "v (p < 0.001)", "a (p < 0.001)"]
    # Inside the band, curves stay within the shaded area; outside, they leave it.
    for ax, result in ((left, good), (right, bad)):
        band = result.band()
        curves = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) > 2]
        for curve, name in zip(curves, result.names, strict=True):
            within = (curve[1:-1] >= band.lower - band.points - 1e-12) & (
                curve[1:-1] <= band.upper - band.points + 1e-12
            )
            assert within.all() == result.inside()[name]


def test_a_component_has_one_colour_in_all_panels():
    names = [f"p{i}" for i in range(12)]
    both = [calibrated(names, seed=1), calibrated(names, joint=True, seed=2)]
    worst = sorted(names, key=lambda name: min(each.p_values[name] for each in both))[:8]
    panels = [[line.get_color() for line in ax.lines[1:]] for ax in plot_ranks_ecdf(both).axes]
    assert panels[0] == panels[1]
    coloured = [name for name, colour in zip(names, panels[0], strict=True) if colour in COLOURS]
    assert coloured == [name for name in names if name in worst]
    assert len({colour for colour in panels[0] if colour in COLOURS}) == 8


def test_recovery_prints_what_the_summary_says():
    result = calibrated()
    for ax, (name, row) in zip(
        plot_recovery(result).axes, result.summary().iterrows(), strict=True
    ):
        assert ax.get_title() == name
        assert ax.texts[0].get_text() == f"r = {row['r']:.3f}\nR² = {row['r2']:.3f}"


@pytest.mark.parametrize(
    ("kind", "options"), [(CrossValidation, {}), (LeaveFutureOut, {"start": 3, "ahead": 1})]
)
def test_the_worst_units_are_at_the_top_of_the_panel(kind, options):
    terms, pareto_k = np.zeros((2, 3)), np.array([[0.1, np.inf, 0.3], [np.nan, np.inf, 2.5]])
    draws = np.array([1000, 100])
    result = kind("loo", terms, terms, pareto_k, np.eye(2, 3) == 1, draws, **options)
    right = result.plot().axes[1]
    drawn = [line.get_ydata() for line in right.lines if line.get_linestyle() == "None"]
    assert sorted(np.concatenate(drawn)) == [0.1, 0.3, 2.5, 2.5, 2.5]
    limits = [line.get_ydata()[0] for line in right.lines if line.get_linestyle() == "--"]
    assert limits == pytest.approx([0.5, 2 / 3])
    if kind is LeaveFutureOut:  # where colours tell data sets apart
        colours = {line.get_color() for line in right.get_legend().get_lines()}
        assert colours == {REFERENCE}


UNCORRECTED = [np.zeros((1, 3)), np.zeros((1, 3)), np.full((1, 3), np.nan), np.ones((1, 3)) == 1]


@pytest.mark.parametrize(
    ("kind", "options"), [(CrossValidation, {}), (LeaveFutureOut, {"start": 3, "ahead": 1})]
)
def test_without_correction_there_is_no_pareto_k_to_show(kind, options):
    right = kind("loo", *UNCORRECTED, np.array([1000]), **options).plot().axes[1]
    assert not right.lines and right.get_legend() is None
    assert right.texts[0].get_text() == "none: draws are not corrected"


@pytest.mark.parametrize(
    ("kind", "refitted", "labels"),
    [
        ("loo", [0, 0, 1], ["pooled draws", "own draws"]),
        ("kfold", [0, 0, 0], ["pooled draws"]),
        ("loo_approximate_posterior", [0, 0, 1], ["draws given all data", "own draws"]),
        ("loo", [1, 1, 1], ["own draws"]),  # without correction
    ],
)
def test_the_legend_of_cross_validation_says_which_draws(kind, refitted, labels):
    terms = np.zeros((1, 3))
    given = np.array([refitted]) == 1
    left = CrossValidation(kind, terms, terms, terms, given, np.array([1000])).plot().axes[0]
    assert [text.get_text() for text in left.get_legend().get_texts()] == labels


NAMES = ("exponential forgetting", "power-law forgetting", "no forgetting", "interference")


def compared(names, n_sets=1):
    values = np.random.default_rng(0).normal(size=(n_sets, len(names)))
    prior = np.full(len(names), 1 / len(names))
    return ModelComparison(names, values, 0 * values, 0 * values, values > np.inf, prior)


def misspecified(n_sets, distance):
    """Data sets of which the first is so far out, among simulations at distances from 1 to 2."""
    distances = np.full((n_sets, 2), 1.5)
    distances[0] = distance
    p = np.where(distances > 2.0, 0.001, 0.5)
    null = np.tile(np.linspace(1, 2, 50)[:, None], (1, 2))
    n_obs = np.full(n_sets, 10)
    space = 0 * distances, 0 * null
    return Misspecification(distances, null, p[:, 0], p, 0.01, n_obs, 0.1, null[:, 0], 0.5, *space)


LEGENDS = {
    "long names of models": lambda: compared(NAMES).plot(),
    "long names of parameters": lambda: plot_ranks_ecdf([calibrated(NAMES)] * 2),
    "surrogates": lambda: plot_surrogate(surrogates_with_shapes(0), surrogates_with_shapes(1)),
    "predictive": FIGURES["predictive"],
    "counts": lambda: plot_posterior_predictive(
        {"k": np.arange(4)}, {"k": np.tile(np.arange(4), (9, 1))}, value="k"
    ),
    "criticism": lambda: Criticism(None, *[np.linspace(0, 1, 9)] * 3, np.arange(9) > 7).plot(),
    "misspecification": lambda: misspecified(3, 1.5).plot(),
    "pairs": lambda: plot_posterior_pairs({"one": {"v": scalars(0)["v"]}}),
}


@pytest.mark.parametrize("name", LEGENDS)
def test_legends_lie_over_no_data_and_are_not_cut(name):
    figure = LEGENDS[name]()
    figure.draw_without_rendering()
    found = [*figure.legends, *filter(None, (ax.get_legend() for ax in figure.axes))]
    assert found
    panels = [ax.get_window_extent() for ax in figure.axes]
    for legend in found:
        box = legend.get_window_extent()
        assert not any(box.overlaps(panel) for panel in panels)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1
    assert all(panel.height > 0.3 * figure.bbox.height / len(panels) for panel in panels)


@pytest.mark.parametrize(
    ("draw", "ticks"),
    [
        (lambda: compared(("a", "b")).plot(), [0]),
        (lambda: Prediction(np.zeros((1, 3)), np.zeros(1)).plot(), [0]),
        (lambda: plot_history(history(1)), [0]),
        (lambda: plot_surrogate(counts(np.eye(2)), counts(np.eye(2))), [0, 1]),
        (lambda: plot_posterior_predictive({"k": [0, 1]}, {"k": np.eye(2)}, value="k"), [0, 1]),
    ],
)
def test_axes_that_count_have_whole_ticks_though_they_are_short(draw, ticks):
    for ax in draw().axes:
        low, high = ax.get_xlim()
        assert [tick for tick in ax.get_xticks() if low <= tick <= high] == ticks


def test_data_sets_have_one_colour_in_both_panels_of_a_prediction():
    axes = Prediction(np.zeros((1, 3)), np.zeros(1)).plot().axes
    assert {line.get_color() for ax in axes for line in ax.lines} == {COLOURS[0]}


def test_many_models_are_told_apart():
    names = tuple(f"model {i}" for i in range(10))
    figure = ModelRecovery(names, np.arange(10), compared(names, 10)).plot()
    figure.draw_without_rendering()
    left = figure.axes[0]
    boxes = [text.get_window_extent() for text in left.texts]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(100) for j in range(i))
    assert {label.get_rotation() for label in left.get_xticklabels()} == {40.0}


@pytest.mark.parametrize("n_sets", [3, 40])
def test_outliers_are_orange_and_said_to_be_farther_than_drawn(n_sets):
    for ax in misspecified(n_sets, 90.0).plot().axes[:2]:
        assert ax.get_xlabel().endswith("(those beyond 6 at the edge)")
        orange = [line.get_xdata() for line in ax.lines if line.get_color() == COLOURS[1]]
        assert [x[0] for x in orange] == [6.0]
    for ax in misspecified(n_sets, 2.5).plot().axes[:2]:
        assert ax.get_xlabel() == "distance from the simulations"


def test_marks_of_misspecification_have_a_colour_of_their_own():
    columns = {"effective_share": 0.5, "pareto_k": 0.1, "rung": ["amortized", "psis", "nuts"]}
    table = pd.DataFrame({**columns, "misspecified": [True, True, False]})
    left, right = plot_analysis(Analysis(table, None, None, 1, None, None)).axes
    rings = left.collections[-1]
    assert len(rings.get_offsets()) == 2
    bars = {to_hex(bar.get_facecolor()) for bar in right.patches}
    assert len(bars) == 4 and to_hex(rings.get_edgecolor()[0]) not in bars
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["misspecified"]


def test_history_marks_the_best_validation():
    posterior, likelihood = plot_history(history(40)).axes
    assert posterior.get_title() == "posterior (best 0.0003355)"
    assert likelihood.lines[-1].get_xdata()[0] == 0
    with pytest.raises(ValueError, match="history is empty"):
        plot_history(TrainingHistory())
    with pytest.raises(TypeError, match="simulated is dict; expected Simulations"):
        plot_surrogate({}, {})


def test_pairs_name_components_by_their_coordinates():
    draws = np.random.default_rng(0).normal(size=(4, 50, 2))
    posterior = xr.Dataset(
        {"mu": (("chain", "draw"), draws[..., 0]), "v": (("chain", "draw", "subject"), draws)},
        coords={"subject": ["s1", "s2"]},
    )
    sampled = to_inference_data({"posterior": posterior})
    assert len(plot_posterior_pairs(sampled).axes) == 9
    figure = plot_posterior_pairs({"NUTS": sampled})
    axes = np.array(figure.axes).reshape(3, 3)
    assert [ax.get_xlabel() for ax in axes[-1]] == ["mu", "v[s1]", "v[s2]"]
    assert [ax.get_ylabel() for ax in axes[1:, 0]] == ["v[s1]", "v[s2]"]
    assert axes[1, 0].get_ylim() != axes[0, 0].get_ylim()


@pytest.mark.parametrize("kind", ["ecdf", "histogram", "coverage", "contraction", "recovery"])
def test_calibration_names_components_as_pairs_do(kind):
    layout = ParameterLayout(
        ("v", "psi"),
        {"v": (), "psi": (2, 2)},
        {"psi": ("habitat", None)},
        {"habitat": ("wet", "dry")},
    )
    result = replace(calibrated("abcde"), layout=layout)
    drawn = parameter_dataset(result.parameters[None], layout)
    labels = [ax.get_xlabel() for ax in plot_posterior_pairs({"draws": drawn}).axes[-5:]]
    assert labels[1:] == ["psi[wet, 0]", "psi[wet, 1]", "psi[dry, 0]", "psi[dry, 1]"]
    figure = result.plot(kind)
    if kind == "ecdf":
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()[1:]]
        assert [text.rpartition(" (")[0] for text in texts] == labels
    else:
        assert [ax.get_title() for ax in figure.axes] == labels
    assert list(result.summary().index) == labels


class OfColumns(Mapping):
    """A mapping that is no dict, as of a file that is open."""

    def __init__(self, columns):
        self.columns = columns

    def __getitem__(self, name):
        return self.columns[name]

    def __iter__(self):
        return iter(self.columns)

    def __len__(self):
        return len(self.columns)


@pytest.mark.parametrize("kind", [dict, OfColumns])
def test_one_set_of_draws_needs_no_label(kind):
    figure = plot_posterior_pairs(kind(scalars(0)))
    labelled = plot_posterior_pairs(kind({"draws": kind(scalars(0))}))
    for own, other in zip(figure.axes, labelled.axes, strict=True):
        assert own.get_xlabel() == other.get_xlabel()
        assert len(own.lines) == len(other.lines)
        for line, same in zip(own.lines, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())
    dataset = xr.Dataset({name: ("draw", values) for name, values in scalars(1).items()})
    two = plot_posterior_pairs(kind({"a": kind(scalars(0)), "b": dataset}))
    assert [text.get_text() for text in two.legends[0].get_texts()] == ["a", "b"]


def test_pair_contours_hold_half_and_nine_tenths_of_the_draws():
    normal = np.random.default_rng(1).normal(size=(2, 4000))
    figure = plot_posterior_pairs({"one": {"x": normal[0], "y": normal[1]}})
    contours = figure.axes[2].collections[0].get_paths()
    for path, share in zip(contours, (0.9, 0.5), strict=True):
        assert path.contains_points(normal.T).mean() == pytest.approx(share, abs=0.03)


def test_contours_do_not_depend_on_units():
    x, y = np.random.default_rng(1).normal(size=(2, 400))
    same, other = (
        plot_posterior_pairs({"one": {"x": x / scale, "y": y * scale}}).axes[2].collections[0]
        for scale in (1.0, 2.0**30)
    )
    units = np.array([2.0**-30, 2.0**30])
    for path, scaled in zip(same.get_paths(), other.get_paths(), strict=True):
        np.testing.assert_allclose(path.vertices * units, scaled.vertices)


def test_more_sets_of_draws_than_colours_are_all_drawn():
    figure = plot_posterior_pairs({f"set {i}": {"v": scalars(i)["v"]} for i in range(10)})
    assert len(figure.axes[0].lines) == 10
    legend = figure.legends[0].get_texts()
    assert [text.get_text() for text in legend] == [f"set {i}" for i in range(10)]


def surrogates_with_shapes(seed):
    """Four data sets, whose components lie from 0, 10, and 20 to one more."""
    rng = np.random.default_rng(seed)
    return Simulations.from_arrays(
        {"mu": np.zeros(4)},
        {"x": rng.random((4, 30, 2)) + np.array([0.0, 10.0]), "y": rng.random((4, 30)) + 20.0},
        {},
        np.full(4, 30),
        layout=ParameterLayout(("mu",), {"mu": ()}),
        schema=DataSchema({"x": Continuous(shape=2), "y": Continuous()}, n_obs=30),
        source="given",
        failures=FailureReport(4),
    )


@pytest.mark.parametrize(
    ("value", "low"), [(None, 0.0), ("x[0]", 0.0), ("x[1]", 10.0), ("y", 20.0)]
)
def test_surrogates_with_shapes_are_drawn_by_component(value, low):
    figure = plot_surrogate(surrogates_with_shapes(0), surrogates_with_shapes(1), value=value)
    (ax,) = figure.axes
    assert ax.get_xlabel() == (value or "x[0]")
    edges = ax.patches[0].get_data().edges
    assert low < edges[0] < edges[-1] < low + 1.0


def test_surrogates_check_names():
    both = surrogates_with_shapes(0), surrogates_with_shapes(1)
    with pytest.raises(ValueError, match=r"no component 'x' .*\['x\[0\]', 'x\[1\]', 'y'\]"):
        plot_surrogate(*both, value="x")
    with pytest.raises(ValueError, match=r"no component 'y' here; choose from \[\]"):
        plot_surrogate(*both, by="y")


def counts(values):
    """Data sets of one count, (sets, observations)."""
    sets, n_obs = values.shape
    return Simulations.from_arrays(
        {"mu": np.zeros(sets)},
        {"k": values},
        {},
        np.full(sets, n_obs),
        layout=ParameterLayout(("mu",), {"mu": ()}),
        schema=DataSchema({"k": Count()}, n_obs=n_obs),
        source="given",
        failures=FailureReport(sets),
    )


def steps_of(ax):
    """Edges, and values over each other, of all steps and bands in a panel."""
    steps = [patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch)]
    for each in steps:
        np.testing.assert_array_equal(each.edges, steps[0].edges)
    return steps[0].edges, [each.values for each in steps]


@pytest.mark.parametrize(("top", "bins", "width"), [(8, 12, 1), (8, 40, 1), (99, 20, 5), (3, 1, 4)])
def test_bins_of_counts_hold_as_many_whole_numbers_each(top, bins, width):
    """Of uniform counts the density is the same everywhere, whatever the bins."""
    uniform = np.tile(np.arange(top + 1), (6, 20))
    of_data = plot_posterior_predictive({"k": uniform[0]}, {"k": uniform}, value="k", bins=bins)
    of_surrogate = plot_surrogate(counts(uniform), counts(uniform), bins=bins)
    for figure in (of_data, of_surrogate):
        edges, values = steps_of(figure.axes[0])
        np.testing.assert_array_equal(edges, np.arange(-0.5, top + 1, width))
        for each in values:
            np.testing.assert_allclose(each, 1 / (top + 1))


def test_densities_of_counts_are_shares_and_integrate_to_one():
    rng = np.random.default_rng(0)
    data, drawn = rng.binomial(9, 0.4, 100), rng.binomial(9, 0.4, (50, 100))
    data[:2] = 0, 9
    (ax,) = plot_posterior_predictive({"k": data}, {"k": drawn}, value="k").axes
    edges, values = steps_of(ax)
    np.testing.assert_array_equal(edges, np.arange(-0.5, 10))
    np.testing.assert_allclose(values[-1], np.bincount(data) / 100)
    np.testing.assert_allclose(values[-2], np.bincount(drawn.ravel(), minlength=10) / drawn.size)
    # Halves are no counts: bins of these may lie anywhere.
    (ax,) = plot_posterior_predictive({"k": data / 2}, {"k": drawn / 2}, value="k").axes
    assert len(steps_of(ax)[0]) == 14


def test_groups_without_categories_stand_side_by_side():
    group = np.repeat(np.arange(6), 20)
    axes = plot_posterior_predictive(trials(120), trials(9, 120), value="rt", group=group).axes
    assert [ax.get_subplotspec().get_geometry()[:2] for ax in axes] == [(2, 4)] * 6
    assert [ax.get_title() for ax in axes] == list("012345")
    assert [i for i in range(6) if axes[i].get_ylabel()] == [0, 4]
    assert [i for i in range(6) if axes[i].get_xlabel()] == [2, 3, 4, 5]


def test_areas_in_panels_of_surrogates_compare():
    rng = np.random.default_rng(0)
    both = [
        Simulations.from_arrays(
            {"mu": np.zeros(4)},
            {"rt": rng.random((4, 50)), "response": (rng.random((4, 50)) < 0.9).astype(int)},
            {},
            np.full(4, 50),
            layout=ParameterLayout(("mu",), {"mu": ()}),
            schema=DataSchema({"rt": Continuous(), "response": Categorical(2)}, n_obs=50),
            source="given",
            failures=FailureReport(4),
        )
        for _ in range(2)
    ]
    left, right = plot_surrogate(*both, bins=5).axes
    assert left.get_ylim() == right.get_ylim()


def test_the_legend_of_surrogates_names_bands_and_means():
    (ax,) = plot_surrogate(surrogates_with_shapes(0), surrogates_with_shapes(1)).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "simulator, 90% of sets", "simulator, mean", "surrogate, 90% of sets", "surrogate, mean",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: plot_history(3), TypeError, "history is int; expected TrainingHistory, from app"),
        (lambda: plot_ranks_ecdf("a"), TypeError, "calibrations is str; expected Calibration"),
        (lambda: plot_ranks_ecdf([calibrated(), 3]), TypeError, "calibrations is int; expected"),
        (
            lambda: plot_analysis(calibrated()),
            TypeError,
            r"analysis is Calibration; expected Analysis, from analyze\(\)",
        ),
        (lambda: plot_recovery(history(3)), TypeError, "calibration is TrainingHistory; expected"),
        (lambda: plot_surrogate(*[counts(np.ones((2, 3)))] * 2, bins=-1), ValueError, "bins=-1: "),
        (lambda: plot_ranks_histogram(calibrated(), bins=-3), ValueError, "bins=-3: expected at"),
        (lambda: plot_ranks_histogram(calibrated(), bins=0), ValueError, "bins=0: expected at"),
        (lambda: plot_ranks_histogram(calibrated(), probability=2), ValueError, "probability=2: "),
        (lambda: plot_coverage(calibrated(), probability=2), ValueError, "probability=2: expected"),
        (lambda: plot_posterior_pairs(scalars(0), max_points=0), ValueError, "max_points=0: "),
        (
            lambda: plot_posterior_pairs({"a": scalars(0)}, true={"v": 1, "zz": 1}),
            ValueError,
            r"true has zz, no component; choose from \['v', 'a'\]",
        ),
        (
            lambda: plot_posterior_predictive(trials(8), trials(5, 8), value="rt", bins=0),
            ValueError,
            "bins=0: ",
        ),
        (
            lambda: plot_posterior_predictive(trials(8), trials(5, 8), value="rt", max_draws=0),
            ValueError,
            "max_draws=0: ",
        ),
    ],
)
def test_bad_arguments_are_named(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_messages_name_classes_and_functions_that_exist():
    """Results are told by the names of their classes: a class of another name would be refused."""
    for kind, source in SOURCES.items():
        assert getattr(jana, kind).__name__ == kind
        for words in re.findall(r"(\w+)\(\)", source):
            assert callable(getattr(jana, words, None) or getattr(jana.JointApproximator, words))


def test_truths_of_components_that_are_not_drawn_are_allowed():
    figure = plot_posterior_pairs({"a": scalars(0)}, var_names=["v"], true={"v": 1.0, "a": 2.0})
    assert len(figure.axes) == 1


def test_pairs_check_names():
    with pytest.raises(ValueError, match=r"'b'\] lacks a"):
        plot_posterior_pairs({"a": scalars(0), "b": {"v": np.zeros(3)}})
    with pytest.raises(ValueError, match="draws is empty; expected a mapping"):
        plot_posterior_pairs({})
    with pytest.raises(TypeError, match=r"draws\['draws'\]\['v'\] has dtype <U7; expected real"):
        plot_posterior_pairs({"v": "file.nc"})
    with pytest.raises(TypeError, match="data is int; expected InferenceData or DataTree"):
        plot_posterior_pairs({"a": scalars(0), "b": 3})
    with pytest.raises(ValueError, match="has no variable w"):
        plot_posterior_pairs({"a": scalars(0)}, var_names=["w"])
    with pytest.raises(ValueError, match="choose some with var_names="):
        plot_posterior_pairs({"a": {f"p{i}": np.arange(9.0) for i in range(13)}})


def test_predictive_densities_are_defective():
    """The areas of the data's histograms are the shares of the categories."""
    data = trials(200)
    group = np.repeat(["s1", "s2"], 100)
    figure = plot_posterior_predictive(
        data, trials(50, 200, seed=1), value="rt", by="response", group=group
    )
    assert [ax.get_title() for ax in figure.axes] == [
        "s1, response = 0", "s1, response = 1", "s2, response = 0", "s2, response = 1",
    ]  # fmt: skip
    for ax, (label, category) in zip(
        figure.axes, [("s1", 0), ("s1", 1), ("s2", 0), ("s2", 1)], strict=True
    ):
        steps = [patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch)]
        area = (steps[-1].values * np.diff(steps[-1].edges)).sum()
        share = (data["response"][group == label] == category).mean()
        assert area == pytest.approx(share, abs=1e-9)


def test_predictive_checks_its_input():
    with pytest.raises(ValueError, match="observed has no observable 'speed'"):
        plot_posterior_predictive(trials(8), trials(5, 8), value="speed")
    with pytest.raises(ValueError, match="predictive has 9"):
        plot_posterior_predictive(trials(8), trials(5, 9), value="rt")


def test_a_slip_does_not_draw_thousands_of_panels():
    rng = np.random.default_rng(1)
    observed, drawn = {"rt": rng.normal(size=12)}, {"rt": rng.normal(size=(90, 12))}
    with pytest.raises(ValueError, match="1092 panels are too many to draw"):
        plot_posterior_predictive(observed, drawn, value="rt", by="rt")


@pytest.mark.parametrize("wrap", [dict, xr.Dataset])
@pytest.mark.parametrize(("name", "at"), [("h[1]", 1), ("R[0, 2]", (0, 2)), ("R[1,0]", (1, 0))])
def test_predictive_draws_components_of_observables_with_shapes(wrap, name, at):
    rng = np.random.default_rng(0)
    shapes = {"h": (2,), "R": (2, 3)}
    own = {"h": ("h_dim_0",), "R": ("R_dim_0", "R_dim_1")}
    data = {key: rng.integers(0, 3, (40, *shape)) for key, shape in shapes.items()}
    draws = {key: rng.integers(0, 3, (5, 40, *shape)) for key, shape in shapes.items()}
    labels = data["h"][:, 0]
    figure = plot_posterior_predictive(
        *(
            source
            if wrap is dict
            else wrap({key: ((*lead, "obs", *own[key]), each) for key, each in source.items()})
            for lead, source in (((), data), (("draw",), draws))
        ),
        value=name,
        by="h[0]",
    )
    column = data[name[0]][(..., *np.atleast_1d(at))]
    for category, ax in enumerate(figure.axes):
        assert ax.get_title() == f"h[0] = {category}"
        shares = np.bincount(column[labels == category], minlength=3) / 40
        np.testing.assert_allclose(ax.patches[-1].get_data().values, shares)
    assert ax.get_xlabel() == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h", r"shape \(8, 2\); expected \(obs,\).*one component, such as 'x\[0\]'"),
        ("R[0]", r"shape \(8, 2\); expected \(obs,\)"),
        ("h[2]", r"observed has no component 'h\[2\]': 'h' has the shape \(8, 2\)\."),
        ("h[0, 0, 1]", "observed has no component"),
        ("g[0]", r"observed has no observable 'g\[0\]'; choose from h, R, y"),
        ("y[0]", r"no component 'y\[0\]': 'y' has the shape \(8,\), with the dimensions obs"),
    ],
)
def test_components_that_predictive_does_not_have_are_named(name, message):
    data = {
        "h": np.zeros((8, 2)),
        "R": np.zeros((8, 2, 2)),
        "y": xr.DataArray(np.zeros(8), dims="obs"),
    }
    with pytest.raises(ValueError, match=message):
        plot_posterior_predictive(data, data, value=name)


def dataset(dims, shape):
    return xr.Dataset({name: (dims, values) for name, values in trials(*shape).items()})


@pytest.mark.parametrize(
    ("observed", "predictive", "message"),
    [
        (
            dataset(("dataset", "obs"), (3, 8)),
            dataset(("dataset", "chain", "draw", "obs"), (3, 2, 5, 8)),
            r"observed\['rt'\] is of many data sets; take one of them, jana_pymc.select_dataset",
        ),
        (
            trials(8),
            dataset(("dataset", "draw", "obs"), (3, 5, 8)),
            "predictive.* of many data sets",
        ),
        (
            trials(3, 8),
            trials(3, 2, 5, 8),
            r"observed\['rt'\] has shape \(3, 8\); expected \(obs,\)",
        ),
        (trials(), trials(2, 5), r"observed\['rt'\] is a single number; expected observations"),
        (trials(8), trials(), r"predictive\['rt'\] is a single number"),
        (
            trials(8),
            {**trials(5, 8), "response": np.zeros(8)},
            r"predictive\['response'\] has shape \(8,\); expected that of 'rt', \(5, 8\)",
        ),
    ],
)
def test_predictive_draws_one_data_set_of_single_numbers(observed, predictive, message):
    with pytest.raises(ValueError, match=message):
        plot_posterior_predictive(observed, predictive, value="rt", by="response")
