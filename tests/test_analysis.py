"""The amortized workflow where no trained parameter explains a data set: the rung "none"."""

from __future__ import annotations

import numpy as np
import pytest
from exact_pair import ExactPair, NormalLikelihood, data_sets
from scipy import stats

import jana_pymc as jana
from jana_pymc.inference_data import to_groups
from jana_pymc.simulation import DataBatch
from jana_pymc.workflow import analysis

pytestmark = pytest.mark.arviz

IMPOSSIBLE = "impossible under every parameter that the likelihood was trained on"
FAR = {"x": np.full(8, -100.0)}


def summarize(batch: DataBatch) -> np.ndarray:
    return np.stack([f(batch.observables[..., 0], axis=1) for f in (np.nanmean, np.nanstd)], -1)


@pytest.fixture(scope="module")
def pair() -> ExactPair:
    made = ExactPair()
    made.likelihood, made.positive = NormalLikelihood(-50.0), (False,)
    made.posterior.summarize = summarize
    return made


@pytest.fixture(autouse=True)
def few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "N_SIMULATIONS", 1_000)


def analyze(pair: ExactPair, data: object, **options: object) -> analysis.Analysis:
    return jana.analyze(pair, data, draws=50, chains=2, random_seed=1, progressbar=False, **options)


def test_what_nothing_explains_has_no_draws_and_leaves_others_theirs(pair) -> None:
    good = data_sets(8, 9)
    result = analyze(pair, [good[0], FAR, good[1]])
    table = result.table
    assert table["rung"].tolist() == ["amortized", "none", "amortized"]
    assert result.counts == {"none": 1, "amortized": 2, "psis": 0, "nuts": 0}
    assert table["reliable"].tolist() == [True, False, True]
    assert table["misspecified"][1]
    assert table["reason"][1] == f"misspecified (p = {table['p_value'][1]:.3f}); {IMPOSSIBLE}"
    unknown = table.loc[1, ["effective_share", "pareto_k", "r_hat"]]
    assert unknown.isna().all() and table["divergences"][1] == 0
    assert np.isnan(result.draws[1]).all() and np.isnan(result.log_q[1]).all()
    for i, each in ((0, good[0]), (2, good[1])):
        mean, sd = (float(value[0]) for value in pair.posterior.moments(pair.schema.batch(each)))
        assert stats.kstest((result.draws[i, :, 0] - mean) / sd, "norm").pvalue > 0.001
        np.testing.assert_allclose(
            result.log_q[i], stats.norm.logpdf(result.draws[i, :, 0], mean, sd)
        )


def test_draws_that_there_are_not_go_into_arviz_as_nan(pair) -> None:
    result = analyze(pair, [data_sets(8)[0], FAR])
    groups = to_groups(result.to_inference_data())
    mu = groups["posterior"]["mu"]
    assert mu.dims == ("chain", "draw", "dataset")
    assert mu["rung"].values.tolist() == ["amortized", "none"]
    np.testing.assert_array_equal(mu[..., 0].to_numpy().ravel(), result.draws[0, :, 0])
    assert mu[..., 1].isnull().all() and groups["sample_stats"]["log_q"][..., 1].isnull().all()
    alone = to_groups(jana.select_dataset(result.to_inference_data(), 0))["posterior"]
    np.testing.assert_array_equal(alone["mu"].to_numpy().ravel(), result.draws[0, :, 0])


@pytest.mark.parametrize("n_good", [2, 0])
def test_what_nothing_explains_is_counted_in_the_figure(pair, n_good: int) -> None:
    result = analyze(pair, [*data_sets(8, 9)[:n_good], FAR])
    shares, counts = result.plot().axes
    assert [bar.get_width() for bar in counts.patches] == [1, n_good, 0, 0]
    rungs = {scatter.get_label(): scatter.get_offsets() for scatter in shares.collections[:4]}
    assert len(rungs["amortized"]) == n_good
    assert not np.isfinite(np.ma.filled(rungs["none"], np.nan)).any()


def test_one_data_set_that_nothing_explains(pair) -> None:
    result = analyze(pair, FAR)
    assert len(result) == 1 and result.counts["none"] == 1
    assert np.isnan(result.draws).all() and not result.table["reliable"][0]
    assert to_groups(result.to_inference_data())["posterior"]["mu"].isnull().all()
