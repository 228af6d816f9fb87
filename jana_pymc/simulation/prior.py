"""A PyMC model as prior: draws, log densities and transforms of many parameter vectors at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray
from pymc.distributions.continuous import FlatRV, HalfFlatRV

from jana_pymc.checks import check_count
from jana_pymc.simulation.layout import ParameterLayout
from jana_pymc.simulation.prior_graph import DRAWS_AT_ONCE, PriorGraph
from jana_pymc.simulation.randomness import RandomSeed, seed_sequence

# Values evaluated at once: intermediate results stay in the processor's cache.
_VALUES_AT_ONCE = 2**17
# Parameters of a simplex sum to one but for rounding, of single precision.
_OFF = 1e-5
# PyTensor compiles under settings of the whole process, and its functions own their memory.
_PYTENSOR = threading.RLock()
# Unconstrained values so far out that transforms reach the ends of the support.
_FAR = 800.0
# More prior draws than this outside the support of a transform are no rounding.
_TOLERATED_OUTSIDE = 0.01


class PyMCPrior:
    r"""Prior over parameters :math:`\theta`, and their unconstrained values :math:`u`.

    The model is read once and never changed; what is done to it later makes no difference here.
    Functions compile when first needed, and are safe to call from several threads.

    Parameters
    ----------
    model : pymc.Model
        Its free random variables are the parameters, in order of creation. They must be
        continuous. Hierarchies, vectors, dims and transforms that change the dimension are fine;
        deterministics are ignored.

    Attributes
    ----------
    model : pymc.Model
        As given.
    layout : ParameterLayout
        Names, constrained shapes, dims and coords of the parameters.
    n_unconstrained : int
        Number of unconstrained values, which differs from ``layout.size`` for a simplex.

    Raises
    ------
    TypeError
        If `model` is not a PyMC model, or a label in its coords is neither a string, nor a number,
        nor a date.
    ValueError
        If it has no free random variable, a discrete one, one of no values, observed variables or
        potentials.

    Examples
    --------
    >>> import pymc as pm
    >>> with pm.Model() as model:
    ...     a = pm.Uniform("a", 0.0, 2.0)
    >>> prior = PyMCPrior(model)
    >>> prior.constrain([[0.0]])
    array([[1.]])
    >>> prior.log_prob_constrained([[1.0]]).round(3)
    array([-0.693])
    """

    def __init__(self, model: pm.Model):
        _check_model(model)
        self.model = model
        self._graph = PriorGraph.of(model)
        self.layout = _layout(model, self._graph)
        _check_sizes(self.layout)
        self.n_unconstrained = sum(int(np.prod(shape)) for shape in self._graph.value_shapes)
        if not self.n_unconstrained:
            raise ValueError(
                f"the prior leaves nothing to learn: {', '.join(self.layout.names)} can take one "
                "value only."
            )
        self._functions: dict[str, Callable[..., Any]] = {}

    def draw(self, n: int, random_seed: RandomSeed = None) -> NDArray[np.float64]:
        """Draw parameters.

        Parameters
        ----------
        n : int
            Number of draws. With the same seed, fewer draws are the first of more.
        random_seed : int, Generator or None

        Returns
        -------
        ndarray, shape (n, layout.size)

        Raises
        ------
        TypeError
            If `n` is no integer.
        ValueError
            If it is negative, or prior draws do not lie in the support of a variable's transform,
            as happens when a transform such as ``ordered`` was asked for that the distribution does
            not respect.
        """
        check_count("n", n, least=0)
        with _PYTENSOR:
            if "draw" not in self._functions:
                draw = self._graph.draw()
                self._check_transforms(self._blocks(draw, 1, np.random.SeedSequence(0)))
                self._functions["draw"] = draw  # kept only once it is known to be right
            draw, number = self._functions["draw"], -(-n // DRAWS_AT_ONCE)
            blocks = self._blocks(draw, number, seed_sequence(random_seed))
        return blocks[:n]

    def unconstrain(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Map parameters to unconstrained values.

        Parameters
        ----------
        theta : array_like, shape (..., layout.size)

        Returns
        -------
        ndarray, shape (..., n_unconstrained)
            NaN or infinite for parameters outside the prior's support or on its edge.
        """
        unconstrained = self._apply("unconstrain", theta, self.layout.size)
        return self._without_impossible(theta, unconstrained)

    def unconstrain_with_jacobian(
        self, theta: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """:meth:`unconstrain` and :meth:`log_abs_det_jacobian` at its result, in one call.

        Parameters
        ----------
        theta : array_like, shape (..., layout.size)

        Returns
        -------
        unconstrained : ndarray, shape (..., n_unconstrained)
        log_abs_det_jacobian : ndarray, shape (...)
            Anything where a value is not finite.
        """
        both = self._apply("unconstrain_with_jacobian", theta, self.layout.size)
        return self._without_impossible(theta, both[..., :-1]), both[..., -1]

    def constrain(self, u: ArrayLike) -> NDArray[np.float64]:
        """Map unconstrained values to parameters; the inverse of :meth:`unconstrain`.

        Parameters
        ----------
        u : array_like, shape (..., n_unconstrained)

        Returns
        -------
        ndarray, shape (..., layout.size)
        """
        return self._apply("constrain", u, self.n_unconstrained)

    def log_prob(self, u: ArrayLike) -> NDArray[np.float64]:
        r"""Log density of unconstrained values.

        .. math:: \log p(u) = \log p(\theta(u)) + \log |\partial \theta / \partial u|

        Parameters
        ----------
        u : array_like, shape (..., n_unconstrained)

        Returns
        -------
        ndarray, shape (...)
        """
        return self._apply("log_prob", u, self.n_unconstrained)[..., 0]

    def log_prob_constrained(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Log density of parameters.

        Parameters
        ----------
        theta : array_like, shape (..., layout.size)

        Returns
        -------
        ndarray, shape (...)
            -inf outside the prior's support.
        """
        return self._apply("log_prob_constrained", theta, self.layout.size)[..., 0]

    def log_abs_det_jacobian(self, u: ArrayLike) -> NDArray[np.float64]:
        r"""Log absolute determinant :math:`\log |\partial \theta / \partial u|` of `constrain`.

        Parameters
        ----------
        u : array_like, shape (..., n_unconstrained)

        Returns
        -------
        ndarray, shape (...)
            For a simplex, of its free components, as PyMC counts it.
        """
        return self._apply("log_abs_det_jacobian", u, self.n_unconstrained)[..., 0]

    def intervals(self) -> tuple[tuple[float, float] | None, ...]:
        """Tell where the parameter behind each unconstrained value lies.

        Returns
        -------
        tuple, of length n_unconstrained
            Ends of the parameter's support, infinite for none, if its transform is one of the
            elementwise ones: the unconstrained value is then the parameter itself, the logarithm of
            its distance from the one finite end, or the logit of its place between two. None if the
            transform is another, or depends on other parameters.
        """
        u = np.sin(1.0 + np.arange(8 * self.n_unconstrained)).reshape(8, -1)
        u[0], u[1] = -_FAR, _FAR
        values = self.constrain(u)
        found: list[tuple[float, float] | None] = []
        for name, shape in zip(self.layout.names, self._graph.value_shapes, strict=True):
            first, size = self.layout.slices[name].start, int(np.prod(shape))
            alike = self.layout.shapes[name] == tuple(shape)
            for i in range(size):
                inner = u[:, len(found)]
                found.append(_interval(inner, values[:, first + i]) if alike else None)
        return tuple(found)

    def interval(self, name: str) -> tuple[int, tuple[float, float]] | None:
        """Tell where a scalar parameter lies: its unconstrained column, and its interval.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of int and (float, float), or None
            See `intervals`. None if it is no scalar, or its transform none of the elementwise ones.

        Raises
        ------
        ValueError
            If there is no parameter of that name.
        """
        number = self.layout.names.index(name)
        if self._graph.shapes[number] or self._graph.value_shapes[number]:
            return None
        column = sum(int(np.prod(shape)) for shape in self._graph.value_shapes[:number])
        ends = self.intervals()[column]
        return None if ends is None else (column, ends)

    def fingerprint(self) -> list[float]:
        """Log densities at fixed unconstrained points, by which to recognise the same prior.

        Returns
        -------
        list of float

        Raises
        ------
        NotImplementedError
            If a distribution has no log density.
        """
        points = np.arange(3)[:, None] * np.sin(1.0 + np.arange(self.n_unconstrained))
        return [float(value) for value in self.log_prob(points)]

    def digest(self) -> list[str]:
        """The fingerprint in few digits, which rounding on other machines does not change.

        Returns
        -------
        list of str

        Raises
        ------
        NotImplementedError
            If a distribution has no log density.
        """
        return [f"{value:.6g}" for value in self.fingerprint()]

    def _apply(self, name: str, values: ArrayLike, size: int) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != size:
            raise ValueError(
                f"{name} got an array of shape {array.shape}; expected (..., {size}) for the "
                f"parameters {', '.join(self.layout.names)}."
            )
        rows = array.reshape(-1, size)
        step = max(1, _VALUES_AT_ONCE // size)
        with _PYTENSOR, np.errstate(all="ignore"):
            if name not in self._functions:
                self._functions[name] = getattr(self._graph, name)()
            function = self._functions[name]
            parts = [function(rows[i : i + step]) for i in range(0, len(rows) or 1, step)]
        result = np.concatenate(parts)
        return result.reshape(*array.shape[:-1], result.shape[-1])

    def _without_impossible(
        self, theta: ArrayLike, unconstrained: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Put NaN for parameters off the surface that fewer values span, as for a simplex."""
        if self.n_unconstrained == self.layout.size:
            return unconstrained
        close = np.isclose(self.constrain(unconstrained), theta, rtol=_OFF, atol=_OFF)
        return np.where(np.all(close, axis=-1, keepdims=True), unconstrained, np.nan)

    def _blocks(
        self, draw: Callable[..., Any], number: int, seed: np.random.SeedSequence
    ) -> NDArray[np.float64]:
        draws = np.empty((number * DRAWS_AT_ONCE, self.layout.size))
        for i, child in enumerate(seed.spawn(number)):
            arrays = dict(zip(self.layout.names, draw(child), strict=True))
            draws[i * DRAWS_AT_ONCE : (i + 1) * DRAWS_AT_ONCE] = self.layout.flatten(arrays)
        return draws

    def _check_transforms(self, draws: NDArray[np.float64]) -> None:
        outside = ~np.isfinite(self.unconstrain(draws))
        share = outside.any(axis=1).mean()
        if share <= _TOLERATED_OUTSIDE:
            return
        worst = int(outside.sum(axis=0).argmax())
        ends = np.cumsum([int(np.prod(shape)) for shape in self._graph.value_shapes])
        name = self.layout.names[int(np.searchsorted(ends, worst, side="right"))]
        raise ValueError(
            f"{share:.0%} of the prior draws lie outside the support of their transforms, most of "
            f"{name!r}; take a distribution with that support, or leave the transform out."
        )


def _interval(u: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Ends of the support, from values at the first two points, far out, and at others between."""
    lower, upper = (float(end) for end in sorted(values[:2]))
    with np.errstate(all="ignore"):
        forms = (
            ((-np.inf, np.inf), u),
            ((lower, np.inf), lower + np.exp(u)),
            ((-np.inf, upper), upper - np.exp(u)),
            ((lower, upper), lower + (upper - lower) / (1.0 + np.exp(-u))),
        )
    for ends, expected in forms:
        if np.allclose(values[2:], expected[2:], rtol=1e-9, atol=1e-12):
            return ends
    return None


def _check_model(model: Any) -> None:
    if not isinstance(model, pm.Model):
        raise TypeError(f"the prior must be a pymc.Model, got {type(model).__name__}.")
    for kind, variables, advice in (
        ("observed variables", model.observed_RVs, "the simulator takes the place of a likelihood"),
        ("potentials", model.potentials, "a prior with them cannot be drawn from"),
        ("discrete parameters", model.discrete_value_vars, "parameters must be continuous"),
    ):
        if variables:
            names = [model.values_to_rvs.get(variable, variable).name for variable in variables]
            raise ValueError(f"the prior has the {kind} {', '.join(names)}: {advice}.")
    improper = [rv.name for rv in model.free_RVs if isinstance(rv.owner.op, (FlatRV, HalfFlatRV))]
    if improper:
        raise ValueError(
            f"the prior of {', '.join(improper)} is flat without bounds, and has no draws to "
            "simulate from; take a proper distribution."
        )
    if not model.free_RVs:
        raise ValueError("the prior has no free random variables, hence no parameters.")


def _check_sizes(layout: ParameterLayout) -> None:
    for name, shape in layout.shapes.items():
        if 0 in shape:
            raise ValueError(
                f"the parameter {name!r} has the shape {shape}, and no values; give every "
                "dimension a length of 1 or more, or leave the parameter out."
            )


def _layout(model: pm.Model, graph: PriorGraph) -> ParameterLayout:
    names = tuple(rv.name for rv in graph.rvs)
    dims = {name: tuple(model.named_vars_to_dims.get(name) or ()) for name in names}
    used = {dim for each in dims.values() for dim in each}
    return ParameterLayout(
        names=names,
        shapes=dict(zip(names, graph.shapes, strict=True)),
        dims=dims,
        coords={
            dim: labels
            for dim, labels in model.coords.items()
            if dim in used and labels is not None
        },
    )
