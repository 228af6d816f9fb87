"""Warnings name the line of the user, not one of the package."""

import sys
import warnings

import pytest

from jana_pymc.simulation import Continuous, DataSchema


def test_a_warning_points_at_the_call_however_deep() -> None:
    schema = DataSchema({"x": Continuous()}, n_obs=(5, 9))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        schema.batch({"x": [1.0, 2.0]})
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line)]


def test_one_that_is_an_error_is_raised() -> None:
    schema = DataSchema({"x": Continuous()}, n_obs=(5, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="n_obs=2, outside the range"):
            schema.batch({"x": [1.0, 2.0]})
