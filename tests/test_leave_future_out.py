"""Leave-future-out against a conjugate autoregression's exact predictive densities."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
from exact_autoregression import ExactAutoregression, ExactPosterior, log_predictive, sequence

from jana_pymc import FlatSummarySettings, PosteriorSettings, leave_future_out
from jana_pymc.approximators import PosteriorApproximator
from jana_pymc.posterior import PosteriorNetwork
from jana_pymc.simulation import Continuous, DataSchema

pytestmark = pytest.mark.arviz

DATA = [{"x": sequence(40, 0.7, 1)}, {"x": sequence(25, -0.4, 2)}]
START = 5


def exact(x: np.ndarray, ahead: int = 1, start: int = START) -> np.ndarray:
    ends = range(start + ahead, len(x) + 1)
    return np.array([log_predictive(x[:end], ahead) for end in ends])


@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize("correction", ["psis", "none"])
def test_an_exact_pair(correction: str, ahead: int) -> None:
    pair = ExactAutoregression()
    result = leave_future_out(
        pair, DATA, start=START, ahead=ahead, correction=correction, random_seed=1
    )
    for i, each in enumerate(DATA):
        expected = exact(each["x"], ahead)
        np.testing.assert_allclose(result.elpd_i[i, : len(expected)], expected, atol=0.06)
        assert np.isnan(result.elpd_i[i, len(expected) :]).all()
        assert result.elpd[i] == pytest.approx(expected.sum(), abs=0.15)
        spread = np.sqrt(len(expected) * expected.var())
        assert result.standard_error[i] == pytest.approx(spread, rel=0.05)
    assert (result.start, result.ahead, result.kind) == (START, ahead, "lfo")
    refits = len(pair.posterior.lengths)
    # Draws serve many prefixes; without weights every prefix needs its own, and the full data.
    assert refits < 12 if correction == "psis" else refits == 59 - 2 * ahead


def test_weights_mend_the_posterior_network() -> None:
    wrong = ExactAutoregression(ExactPosterior(shift=1.0, stretch=1.3))
    target = [exact(each["x"]).sum() for each in DATA]
    plain = leave_future_out(wrong, DATA, start=START, correction="none", random_seed=1)
    mended = leave_future_out(wrong, DATA, start=START, random_seed=1)
    assert np.abs(plain.elpd - target).max() > 0.3
    np.testing.assert_allclose(mended.elpd, target, atol=0.15)
    assert ((mended.p > -0.2) & (mended.p < 3)).all()


def test_where_k_is_high_a_prefix_is_given_draws_of_its_own() -> None:
    # Early values near zero tell nothing of φ; then comes all the information.
    x = np.concatenate([sequence(8, 0.0, 3) * 0.05, sequence(30, 0.9, 4) * 6])
    pair = ExactAutoregression()
    result = leave_future_out(pair, {"x": x}, start=START, draws=1000, random_seed=1)
    assert result.refitted.any() and not result.refitted[0, 0]
    assert (result.pareto_k <= result.threshold).all()
    refits = pair.posterior.lengths[1:-1]
    assert refits == sorted(refits) and len(refits) < 15
    np.testing.assert_allclose(result.elpd_i[0], exact(x), atol=0.1, rtol=0.05)


def test_a_posterior_network_of_one_length_starts_with_the_full_data() -> None:
    x = DATA[0]["x"]
    pair = ExactAutoregression(n_obs=(40, 40))
    result = leave_future_out(pair, {"x": x}, start=20, random_seed=1)
    assert pair.posterior.lengths[0] == 40
    np.testing.assert_allclose(result.elpd_i[0], exact(x, start=20), atol=0.1)
    with pytest.warns(UserWarning, match="trained on 40 and more"):
        leave_future_out(pair, {"x": x}, start=38, correction="none", draws=50, random_seed=1)


def test_draws_given_the_full_data_serve_all_prefixes_of_a_flat_network() -> None:
    """A real network, untrained: its draws are far too wide, and k̂ is high for many prefixes."""
    x = 6.0 * sequence(40, 0.9, 1)
    pair = ExactAutoregression(n_obs=(40, 40))
    flat = PosteriorSettings(FlatSummarySettings())
    network = PosteriorNetwork([None], [False], 1, settings=flat, n_obs=40).eval()
    pair.posterior = PosteriorApproximator(network, pair.prior, pair.schema)
    options = {"start": 20, "draws": 1000, "random_seed": 1}
    with pytest.warns(UserWarning, match=r"k̂ is above 0.67 for \d+ units"):
        result = leave_future_out(pair, {"x": x}, **options)
    assert not result.refitted.any()
    with pytest.raises(ValueError, match=r"takes sequences of 40 .*n_obs=\(fewest, most"):
        leave_future_out(pair, {"x": x}, correction="none", **options)


def test_unreliable_weights_are_told() -> None:
    blind = ExactAutoregression(ExactPosterior(shift=40.0, stretch=0.2))
    with pytest.warns(UserWarning, match="k̂ is above"):
        leave_future_out(blind, DATA[1], start=START, draws=200, random_seed=1)


def test_what_arviz_and_the_eye_see() -> None:
    result = leave_future_out(ExactAutoregression(), DATA, start=START, random_seed=1)
    dataset = result.to_dataset()
    assert dataset.prefix.to_numpy().tolist() == list(range(START, 40))
    assert float(dataset.elpd_i.sel(dataset=1, prefix=START)) == result.elpd_i[1, 0]
    elpd = result.to_elpd_data(1)
    terms = elpd.elpd_i if hasattr(elpd, "elpd_i") else elpd.loo_i
    assert np.asarray(terms).sum() == pytest.approx(result.elpd[1])
    assert len(result.summary()) == 2
    left, right = result.plot().axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), result.elpd_i[0])
    assert right.get_legend() is not None
    compared = az.compare({"one": elpd, "same": result.to_elpd_data(1)})
    assert len(compared) == 2


def test_bad_input_is_named() -> None:
    pair = ExactAutoregression()
    with pytest.raises(ValueError, match=r"data set 1 has 25 observations.*at least 31"):
        leave_future_out(pair, DATA, start=30)
    with pytest.raises(ValueError, match="start=0"):
        leave_future_out(pair, DATA, start=0)
    with pytest.raises(ValueError, match="correction='best'"):
        leave_future_out(pair, DATA, start=5, correction="best")
    pair.schema = DataSchema({"x": Continuous(shape=3)}, structure="vector")
    with pytest.raises(ValueError, match="'vector'"):
        leave_future_out(pair, {"x": np.zeros(3)}, start=1)
