"""What users pass to a likelihood, checked against what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.approximators import beyond_training
from jana_pymc.approximators import observed as observed_data
from jana_pymc.approximators.parameters import check_together, ordered_parameters
from jana_pymc.approximators.parameters import probability as lapse_probability
from jana_pymc.checks import check_count
from jana_pymc.likelihoods import MarkovianLikelihood
from jana_pymc.pytensor import Contaminant, Given, ScoreCorrection, Truncation
from jana_pymc.simulation import DataSchema, ParameterLayout
from jana_pymc.simulation.schema import DATA_DIMS
from jana_pymc.trained_likelihood import check_length
from jana_pymc.warning import warn


@dataclass(frozen=True)
class Arguments:
    """Checks of the arguments of one likelihood.

    Parameters
    ----------
    network : LikelihoodNetwork
    layout : ParameterLayout
    schema : DataSchema
    region : ndarray, shape (2, parameters)
    content_hash : str
        As in `TrainedLikelihood`.
    """

    network: Any
    layout: ParameterLayout
    schema: DataSchema
    region: np.ndarray
    content_hash: str

    def given(
        self,
        parameters: Mapping[str, Any],
        observed: Any,
        conditions: TensorVariable | None,
        contamination: Any,
        contaminant: Mapping[str, tuple[float, float]] | None,
        truncation: Mapping[str, tuple[float | None, float | None]] | None,
        correction: ScoreCorrection | None,
    ) -> Given:
        """All inputs of the density, checked; `observed` is None without data."""
        self.check_correction(correction, truncation)
        if observed is not None:
            self.check_explained(observed, contamination, contaminant)
        values = self.parameters(parameters, observed, conditions)
        window = self.truncation(truncation, observed)
        probability, lapses = self.contamination(contamination, contaminant, window, observed)
        return Given(values, conditions, probability, lapses, window, correction)

    def batch(self, observed: Any) -> tuple[int | None, ...] | None:
        """Sizes along which parameters may differ; None without data."""
        if observed is None:
            return None
        shape = _static_shape(observed)
        return shape[: len(shape) - self.schema.event_dims]

    def parameters(
        self, given: Mapping[str, Any], observed: Any = None, conditions: Any = None
    ) -> list[TensorVariable]:
        """Tensors in the order of the layout, see `ordered_parameters`.

        Without data, parameters and conditions together determine the number of observations.
        """
        batch = self.batch(observed)
        values = ordered_parameters(self.layout, self.region, given, batch, self._each)
        if observed is None:
            known = None if conditions is None else self.batch(conditions)
            check_together(self.layout, values, known, self._each)
        return values

    @property
    def _each(self) -> str:
        """The unit that has one log density."""
        return "observation" if self.schema.structure == "exchangeable" else "data set"

    def data(self, observed: Any, conditions: Any) -> tuple[Any, TensorVariable | None]:
        """Observables and conditions, which may come together or apart, as arrays."""
        observed, conditions = observed_data.split_conditions(self.schema, observed, conditions)
        data = observed_data.as_array(self.schema, observed)
        shape = _static_shape(data)
        if len(shape) > 1:
            check_length(self.network, self.schema, shape[-2])
            self._warn_of_clock(shape[-2])
        known = self.conditions(conditions)
        if known is not None:
            self._check_numbers(shape[:-1], known.type.shape[:-1])
        return data, known

    def _check_numbers(self, ours: tuple[int | None, ...], theirs: tuple[int | None, ...]) -> None:
        """Refuse conditions of other data sets, or observations, than there are."""
        axes = ["observations"] * (self.schema.structure != "vector")
        axes += ["data sets"] * (self.schema.structure != "exchangeable")
        padded = [1] * (len(theirs) - len(ours)) + list(ours)  # of one data set alone
        for what, n, n_known in zip(axes, reversed(padded), reversed(theirs), strict=False):
            if None not in (n, n_known) and n != n_known:
                raise ValueError(
                    f"conditions are given for {n_known} {what}, but the data have {n}."
                )

    def _warn_of_clock(self, n_obs: int | None) -> None:
        """Warn if a density that changes with time is evaluated beyond the times in training."""
        longest = self.schema.n_obs[1]
        has_clock = isinstance(self.network, MarkovianLikelihood) and self.network.settings.clock
        if has_clock and n_obs is not None and n_obs > longest:
            warn(
                f"the sequences have {n_obs} time points; this likelihood was trained on {longest} "
                "at most, and its density depends on the time since the beginning: beyond that "
                "it extrapolates. Train on longer ones (GenerativeModel(n_obs=...)), or without "
                "a clock (MarkovianSettings(clock=False)).",
            )

    def conditions(self, conditions: Any) -> TensorVariable | None:
        """Known conditions as a tensor; there must be some exactly if they were trained with."""
        kinds = self.schema.conditions
        if not kinds:
            if conditions is not None:
                raise TypeError("the likelihood was trained without conditions; pass none.")
            return None
        if conditions is None:
            raise TypeError(
                f"the likelihood needs the conditions {', '.join(kinds)}: pass conditions= with "
                "one value of each for every observation, as a mapping of names to arrays."
            )
        values = observed_data.as_array(self.schema, conditions, conditions=True)
        beyond_training.warn_of_far_conditions(self.network, self.schema, values)
        return pt.as_tensor_variable(values)

    def length_without_data(self, conditions: TensorVariable | None) -> TensorVariable | None:
        """Number of observations according to the conditions; None where it is unknown."""
        if conditions is not None:
            if conditions.ndim < 2:
                return None
            self._warn_of_clock(conditions.type.shape[-2])
            return conditions.shape[-2]
        if self.schema.is_sequence:
            raise TypeError(
                "the number of observations of a sequence is that of observed=, or of its "
                "conditions; outside a model, .dist(n_obs=...) takes it."
            )
        return None

    def length(self, n_obs: Any, conditions: TensorVariable | None) -> Any:
        """Length of a sequence: given, that of the conditions, or the largest in training."""
        if n_obs is None:
            longest = self.schema.n_obs[1]
            return longest if conditions is None else self.length_without_data(conditions)
        if isinstance(n_obs, Variable):
            return n_obs
        n_known = None if conditions is None else conditions.type.shape[-2]
        if n_known not in (None, check_count("n_obs", n_obs)):
            raise ValueError(
                f"n_obs={n_obs}, but conditions are given for {n_known} observations; leave n_obs "
                "out, or give conditions for as many."
            )
        self._warn_of_clock(n_obs)
        return n_obs

    def truncation(self, window: Any, observed: Any = None) -> Truncation | None:
        """Refuse a window whose probability is not known exactly, and data outside it."""
        if window is None:
            return None
        truncation = Truncation.over(self.network, self.schema, window)
        if isinstance(observed, np.ndarray):
            outside = int((~truncation.holds(observed)).sum())
            if outside:
                raise ValueError(
                    f"{outside} observations lie outside truncation={window!r}, where by "
                    "declaration nothing is recorded."
                )
        return truncation

    def check_correction(self, correction: Any, truncation: Any) -> None:
        """Refuse the correction of another likelihood, or of observations that are truncated."""
        if correction is None:
            return
        if not isinstance(correction, ScoreCorrection):
            raise TypeError(
                f"correction is {type(correction).__name__}; expected that of score_correction."
            )
        if correction.likelihood != self.content_hash:
            raise ValueError(
                "the correction was made for another likelihood; call score_correction of this one."
            )
        if truncation is not None:
            raise ValueError(
                "correction and truncation do not go together: the score was simulated without "
                "the window. Leave one out."
            )

    def check_explained(self, observed: Any, contamination: Any, contaminant: Any) -> None:
        """Refuse data that neither the likelihood nor a lapse can explain."""
        if contamination is not None:
            self._check_independent()
            if not isinstance(observed, np.ndarray):
                return
            lapses = Contaminant.over(self.schema, contaminant or {})
            observed = np.atleast_2d(observed)
            inside = ((observed >= lapses.low) & (observed <= lapses.high)).all(axis=1)
            observed = observed[~inside]
        beyond_training.check_reachable(self.schema, self.layout, self.region, observed)

    def contamination(
        self,
        contamination: Any,
        contaminant: Mapping[str, tuple[float, float]] | None,
        truncation: Truncation | None,
        observed: Any = None,
    ) -> tuple[TensorVariable | None, Contaminant | None]:
        """Probability of a lapse, and the law of its observations; None without lapses.

        With truncation, it is the share of lapses among the recorded observations.
        """
        if contamination is None:
            if contaminant is not None:
                raise TypeError("contaminant needs contamination, the probability of a lapse.")
            return None, None
        self._check_independent()
        batch = self.batch(observed)
        n_obs = batch[-1] if batch else None
        probability = lapse_probability("contamination", contamination, n_obs)
        lapses = Contaminant.over(self.schema, contaminant or {})
        if truncation is not None:
            lapses = lapses.within(truncation.column, truncation.low, truncation.high)
        return probability, lapses

    def _check_independent(self) -> None:
        """Refuse lapses among observations that depend on one another."""
        if self.schema.is_sequence:
            raise TypeError(
                "contamination mixes single observations with lapses, but those of a sequence "
                "depend on one another; leave it out."
            )

    def named_dims(self, name: str, dims: Any, observed: Any) -> tuple[str, ...] | None:
        """The user's dimensions and that of the components, whose coordinates the model gets."""
        if dims is None:
            return None
        if not isinstance(dims, (str, list, tuple)):
            raise TypeError(f"dims={dims!r}: expected the name of a dimension, or a tuple.")
        dims = (dims,) if isinstance(dims, str) else tuple(dims)
        n_dims = DATA_DIMS[self.schema.structure]
        wanted = n_dims if observed is None else (observed.ndim,)
        model, declared = pm.modelcontext(None), list(self.schema.components)
        if len(dims) + 1 in wanted:
            components = f"{name}_component"
            model.add_coord(components, declared)
            return (*dims, components)
        for last in dims[-1:]:
            labels = [str(label) for label in model.coords.get(last) or ()]
            if labels != declared and sorted(labels) == sorted(declared):
                raise ValueError(
                    f"dimension {last!r} has the coordinates {', '.join(labels)}, but the "
                    f"components are declared in the order {', '.join(declared)}, which the "
                    f"values have: they would be mislabelled. Give {last!r} that order, or leave "
                    "it out of dims."
                )
        return dims

    def check_dims(self, parameters: Mapping[str, Any], observed: Any) -> None:
        """Refuse a group parameter without its index, recognised by its dims in the model."""
        batch, layout = self.batch(observed), self.layout
        n_obs = batch[-1] if batch else None
        model = pm.modelcontext(None)
        for name, value in parameters.items():
            dims = model.named_vars_to_dims.get(getattr(value, "name", None) or "")
            if n_obs is None or not dims or name not in layout.names:
                continue
            if len(dims) != 1 + len(layout.shapes[name]) or model.coords.get(dims[0]) is None:
                continue
            n_groups = len(model.coords[dims[0]])
            if n_groups not in (1, n_obs):
                raise ValueError(
                    f"parameter {name!r} has {n_groups} values, one for each {dims[0]}, but there "
                    f"are {n_obs} observations; index it by observation, {value.name}[{dims[0]}]."
                )


def _static_shape(values: Any) -> tuple[int | None, ...]:
    """Sizes that are known before the graph runs."""
    return values.shape if isinstance(values, np.ndarray) else values.type.shape
