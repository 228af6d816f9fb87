"""A fully connected network."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from jana_pymc.checks import check_choice

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class DenseNetwork(nn.Module):
    """Linear layers with an activation between them.

    Parameters
    ----------
    n_in, n_out : int
        Sizes of input and output.
    hidden : sequence of int
        Widths of the hidden layers.
    activation : {"relu", "silu", "tanh"}
        Applied after each hidden layer.
    dropout : float
        Fraction dropped after each hidden layer while training.
    residual : bool
        Add its input to the output of each hidden layer whose input is as wide.
    zero_output : bool
        Start with an output of zero, so that a flow starts as the identity.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        dropout: float = 0.0,
        residual: bool = False,
        zero_output: bool = False,
    ):
        super().__init__()
        check_choice("activation", activation, tuple(ACTIVATIONS))
        layers: list[nn.Module] = []
        width = n_in
        for size in hidden:
            hidden_layer = [nn.Linear(width, size), ACTIVATIONS[activation]()]
            if dropout > 0.0:
                hidden_layer.append(nn.Dropout(dropout))
            # Without residuals the layers stay in one row, by which stored weights are named.
            layers += [Residual(*hidden_layer)] if residual and size == width else hidden_layer
            width = size
        layers.append(nn.Linear(width, n_out))
        if zero_output:
            nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(layers[-1].bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        return self.layers(x)


class Residual(nn.Sequential):
    """Layers whose input is added to their output: x + f(x).

    References
    ----------
    .. [1] He, K., et al. (2016). Deep residual learning for image recognition. CVPR.
    """

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        return x + super().forward(x)
