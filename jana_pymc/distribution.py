"""The neural likelihood as a PyMC random variable."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import Distribution, _support_point
from pymc.logprob.abstract import _logprob
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.variable import TensorVariable

from jana_pymc.checks import check_choice
from jana_pymc.pytensor import (
    Backend,
    Contaminant,
    Given,
    ScoreCorrection,
    Truncation,
    log_density,
)
from jana_pymc.pytensor._compat import runs_in_object_mode
from jana_pymc.simulation import DataSchema, split_components
from jana_pymc.simulation.validation import check_values
from jana_pymc.trained_likelihood import TrainedLikelihood


class NeuralLikelihoodRV(RandomVariable):
    """Random variable whose law is a likelihood network.

    The approximator is one of the Op's properties, and compares by its weights, so that PyTensor
    neither merges two networks nor keeps a stale one.
    """

    name = "neural_likelihood"
    _print_name = ("NeuralLikelihood", "\\operatorname{NeuralLikelihood}")
    __props__ = (
        "signature",
        "inplace",
        "approximator",
        "backend",
        "contaminant",
        "truncation",
        "correction",
    )

    def __init__(
        self,
        approximator: TrainedLikelihood,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
        correction: ScoreCorrection | None = None,
        signature: str | None = None,
        inplace: bool = False,
    ):
        self.approximator = approximator
        self.backend = backend
        self.contaminant = contaminant
        self.truncation = truncation
        self.correction = correction
        signature = signature or _signature(approximator, contaminant)
        super().__init__(signature=signature, dtype="float64", inplace=inplace)

    def split(self, inputs: Any) -> tuple[list[Any], Any, Any]:
        """Parameters, conditions and probability of a lapse among the inputs; None if absent."""
        values = list(inputs)
        if self.approximator.schema.is_sequence:
            values.pop()  # the number of observations
        probability = values.pop() if self.contaminant is not None else None
        known = values.pop() if self.approximator.schema.conditions else None
        return values, known, probability

    def _supp_shape_from_params(
        self, dist_params: Any, param_shapes: Any = None
    ) -> tuple[Any, ...]:
        """One row of components or, for sequences, as many rows as the last input gives."""
        n_components = len(self.approximator.schema.components)
        if not self.approximator.schema.is_sequence:
            return (n_components,)
        n_obs = dist_params[-1]
        return (n_obs if n_obs.type.ndim == 0 else n_obs.ravel()[0], n_components)

    def rng_fn(self, rng: np.random.Generator, *arguments: Any) -> np.ndarray:
        """Simulate by the network, in one call for many observations of equal parameters.

        Raises
        ------
        ValueError
            If a condition is missing, infinite or not of its declared kind, or if a sequence has
            another number of conditions than of observations.
        """
        *inputs, size = arguments
        approximator = self.approximator
        schema = approximator.schema
        values, known, probability = self.split(inputs)
        sequence = schema.is_sequence
        n_obs = int(np.ravel(inputs[-1])[0]) if sequence else 1
        shapes = tuple(approximator.layout.shapes.values())
        batches = [v.shape[: v.ndim - len(s)] for v, s in zip(values, shapes, strict=True)]
        if known is not None:
            batches.append(known.shape[: known.ndim - 1 - sequence])
        if probability is not None and probability.ndim:
            batches.append(probability.shape)
        batch = np.broadcast_shapes(*batches) if size is None else tuple(size)
        n_rows = int(np.prod(batch))
        if n_rows == 0:
            return np.empty((*batch, *[n_obs] * sequence, len(schema.components)))
        one_theta = all(np.prod(b) == 1 for b in batches)
        flat = approximator.layout.flatten(
            {
                name: v.reshape(s) if one_theta else np.broadcast_to(v, (*batch, *s))
                for name, v, s in zip(approximator.layout.names, values, shapes, strict=True)
            }
        )
        rows = np.array(np.broadcast_to(flat, (*batch, flat.shape[-1]))).reshape(n_rows, -1)
        if known is not None:
            own = known.shape[known.ndim - 1 - sequence :]
            if sequence and own[0] != n_obs:
                raise ValueError(
                    f"conditions are given for {own[0]} observations, but the sequences have "
                    f"{n_obs}; exchange both together in pymc.set_data."
                )
            known = np.array(np.broadcast_to(known, (*batch, *own)))
            _check_conditions(schema, known)
            known = known.reshape(n_rows, n_obs, -1)

        def simulate(chosen: slice | np.ndarray) -> np.ndarray:
            theta, given = rows[chosen], None if known is None else known[chosen]
            if one_theta and known is None and schema.structure == "exchangeable":
                drawn = approximator.simulate(theta[:1], len(theta), random_seed=rng)
            else:
                drawn = approximator.simulate(theta, n_obs, conditions=given, random_seed=rng)
            return drawn.reshape(len(theta), n_obs, -1)

        drawn = simulate(slice(None))
        if self.truncation is not None:
            drawn = self.truncation.draw_again(drawn, simulate)
        drawn = drawn.reshape(*batch, *drawn.shape[1 if sequence else 2 :])
        if self.contaminant is not None:
            lapse = rng.uniform(size=batch) < probability
            drawn[lapse] = self.contaminant.draw(rng, int(lapse.sum()))
        return drawn


def _check_conditions(schema: DataSchema, known: np.ndarray) -> None:
    """Refuse invalid conditions, which `pymc.set_data` may have brought in, before simulating.

    Log densities check conditions in the graph (`checked_data`).
    """
    rows = known.reshape(1, -1, known.shape[-1])
    present = np.ones(rows.shape[:2], dtype=bool)
    for name, values in split_components(rows, schema.conditions).items():
        kind = schema.conditions[name]
        check_values(f"conditions[{name!r}]", kind, values, present, many=False)


@runs_in_object_mode
class DrawInNumba(Op):
    """A neural random variable in compiled numba code, which calls `rng_fn` for all rows at once.

    PyTensor compiles a random variable itself, or falls back on such a call with a warning.

    Parameters
    ----------
    rv_op : NeuralLikelihoodRV
    """

    __props__ = ("rv_op",)

    def __init__(self, rv_op: NeuralLikelihoodRV):
        self.rv_op = rv_op
        self.destroy_map = rv_op.destroy_map

    def make_node(self, *inputs: Any) -> Apply:
        """Apply to the inputs of the random variable."""
        return Apply(self, inputs, [out.type() for out in self.rv_op.make_node(*inputs).outputs])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Draw as the random variable does."""
        self.rv_op.perform(node, inputs, output_storage)


@node_rewriter([NeuralLikelihoodRV])
def draw_in_numba(fgraph: Any, node: Apply) -> list[Variable]:
    """Replace the random variable before numba sees it."""
    return DrawInNumba(node.op).make_node(*node.inputs).outputs


# After the random variables are made to work in place, before numba's rewrite of them.
optdb.register("draw_in_numba", in2out(draw_in_numba), "numba", position=99.5)


class NeuralLikelihood(Distribution):
    """PyMC distribution behind `LikelihoodApproximator.__call__`."""

    rv_type = NeuralLikelihoodRV

    @classmethod
    def dist(
        cls,
        approximator: TrainedLikelihood,
        backend: Backend,
        given: Given,
        n_obs: Any = None,
        **kwargs: Any,
    ) -> TensorVariable:
        """Build the variable; for sequences, with the number of observations as an input."""
        check_choice("backend", backend, get_args(Backend))
        inputs = (*given.parameters, given.conditions, given.probability)
        values = [pt.cast(v, "float64") for v in inputs if v is not None]
        if approximator.schema.is_sequence:
            values.append(pt.cast(pt.as_tensor_variable(n_obs), "int64"))
        return super().dist(
            values,
            approximator=approximator,
            backend=backend,
            contaminant=given.contaminant,
            truncation=given.truncation,
            correction=given.correction,
            **kwargs,
        )

    @classmethod
    def rv_op(
        cls,
        *parameters: TensorVariable,
        approximator: TrainedLikelihood,
        backend: Backend = "auto",
        contaminant: Contaminant | None = None,
        truncation: Truncation | None = None,
        correction: ScoreCorrection | None = None,
        size: Any = None,
        rng: Any = None,
    ) -> TensorVariable:
        # Calling the Op differs between PyTensor 2 and 3 in what it returns; its node does not.
        op = NeuralLikelihoodRV(approximator, backend, contaminant, truncation, correction)
        rng = pytensor.shared(np.random.default_rng()) if rng is None else rng
        return op.make_node(rng, size, *parameters).default_output()


@_logprob.register(NeuralLikelihoodRV)
def _neural_logprob(
    op: NeuralLikelihoodRV, values: Any, rng: Any, size: Any, *inputs: Any, **kwargs: Any
) -> TensorVariable:
    (value,) = values
    given = Given(*op.split(inputs), op.contaminant, op.truncation, op.correction)
    return log_density(op.approximator, op.backend, value, given)


@_support_point.register(NeuralLikelihoodRV)
def _neural_support_point(
    op: NeuralLikelihoodRV, rv: TensorVariable, rng: Any, size: Any, *inputs: Any
) -> TensorVariable:
    """A simulated value, which lies inside the support for any parameters."""
    return rv


def _signature(approximator: TrainedLikelihood, contaminant: Contaminant | None) -> str:
    schema = approximator.schema
    inputs = [f"({','.join(map(str, shape))})" for shape in approximator.layout.shapes.values()]
    if schema.conditions:
        rows = "t," if schema.is_sequence else ""
        inputs.append(f"({rows}{len(schema.condition_components)})")
    if contaminant is not None:
        inputs.append("()")
    if not schema.is_sequence:
        return f"{','.join(inputs)}->({len(schema.components)})"
    return f"{','.join(inputs)},()->(n,{len(schema.components)})"
