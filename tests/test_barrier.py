"""The barrier changes no number, and rewrites do not look through it."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import get_mode
from pytensor.gradient import verify_grad
from pytensor.graph.replace import vectorize_graph
from pytensor.tensor.elemwise import Elemwise

from jana_pymc import AutoregressiveSettings
from jana_pymc.likelihoods import AutoregressiveLikelihood, Support
from jana_pymc.pytensor import lower
from jana_pymc.pytensor.barrier import Barrier, barrier

pytestmark = pytest.mark.bridge

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("mode", ["C", "NUMBA", "JAX"])
def test_barrier_is_the_identity_of_every_backend(mode) -> None:
    if mode == "JAX":
        pytest.importorskip("jax")
    if mode == "C":
        mode = get_mode("FAST_RUN")
    x = pt.matrix()
    value = barrier(2.0 * x)
    gradient = pt.grad((value**2).sum(), x)
    compiled = pytensor.function([x], [value, gradient], mode=mode)
    np.testing.assert_allclose(compiled(X)[0], 2.0 * X)
    np.testing.assert_allclose(compiled(X)[1], 8.0 * X)


def test_gradient_is_the_identity_too() -> None:
    verify_grad(barrier, [X], rng=np.random.default_rng(1))


def test_barrier_forgets_that_there_is_one_row_and_keeps_the_number_of_columns() -> None:
    assert barrier(pt.tensor(dtype="float64", shape=(1, 4))).type.shape == (None, 4)


def test_barrier_stays_in_the_compiled_graph() -> None:
    x = pt.matrix()
    compiled = pytensor.function([x], barrier(x + 1.0) + barrier(x + 2.0))
    nodes = compiled.maker.fgraph.toposort()
    assert sum(isinstance(node.op, Barrier) for node in nodes) == 2


def test_barrier_of_a_batch_is_one_barrier() -> None:
    x, many = pt.matrix(), pt.tensor3()
    batched = vectorize_graph(barrier(x), {x: many})
    assert isinstance(batched.owner.op, Barrier)
    np.testing.assert_array_equal(batched.eval({many: X[None]}), X[None])


def elementwise_kinds(n_layers: int) -> int:
    """How many elementwise operations the compiled gradient has that differ."""
    settings = AutoregressiveSettings(hidden=(8,) * n_layers, residual=True, n_bins=4)
    network = AutoregressiveLikelihood([2, Support()], 2, settings=settings).double()
    for values in network.parameters():
        values.data += 0.1
    parameters = pt.tensor(dtype="float64", shape=(1, 2))
    rows = pt.constant(np.column_stack([[0.0, 1.0, 1.0], [0.3, 0.4, 0.5]]))
    value = lower(network, rows, parameters, None, None).sum()
    compiled = pytensor.function([parameters], [value, pt.grad(value, parameters)])
    nodes = compiled.maker.fgraph.toposort()
    return len(
        {
            (node.op, tuple(i.type.broadcastable for i in node.inputs))
            for node in nodes
            if isinstance(node.op, Elemwise)
        }
    )


def test_deeper_networks_have_no_other_kinds_of_nodes_to_compile() -> None:
    assert elementwise_kinds(3) == elementwise_kinds(6)
