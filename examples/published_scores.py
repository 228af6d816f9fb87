"""Published results on the benchmark tasks, to stand beside ours.

C2ST: means over observations 1 to 10 at 10,000 simulations, from the results of Lueckmann et al.
(2021, Benchmarking simulation-based inference), gaussian_mixture from their corrected rerun. NPE,
NLE and NRE are amortized; the others spend all simulations on one observation.

Losses: validation losses of Radev et al. (2023, JANA) in their units, posterior and likelihood. Two
of their likelihoods are of other data: counts with added noise in sir; in bernoulli_glm_raw single
trials, each with a second column of noise.
"""

from __future__ import annotations

METHODS = ("NPE", "NLE", "NRE", "SNPE", "SNLE", "SNRE", "SMC-ABC")
AMORTIZED = METHODS[:3]

C2ST = {
    "gaussian_linear": (0.552, 0.555, 0.560, 0.544, 0.548, 0.536, 0.829),
    "gaussian_linear_uniform": (0.553, 0.548, 0.706, 0.527, 0.552, 0.606, 0.928),
    "slcp": (0.901, 0.771, 0.947, 0.845, 0.713, 0.917, 0.969),
    "slcp_distractors": (0.970, 0.961, 0.968, 0.931, 0.949, 0.974, 0.987),
    "bernoulli_glm": (0.678, 0.605, 0.812, 0.614, 0.553, 0.584, 0.981),
    "bernoulli_glm_raw": (0.765, 0.939, 0.834, 0.658, 0.973, 0.675, 0.959),
    "gaussian_mixture": (0.615, 0.723, 0.748, 0.551, 0.685, 0.578, 0.722),
    "two_moons": (0.606, 0.713, 0.761, 0.554, 0.571, 0.582, 0.707),
    "sir": (0.680, 0.748, 0.770, 0.561, 0.745, 0.646, 0.626),
    "lotka_volterra": (0.997, 0.956, 0.998, 0.953, 0.738, 0.848, 0.996),
}

LOSSES = {
    "gaussian_linear": (-12.108, -8.789),
    "gaussian_linear_uniform": (-8.898, -8.633),
    "slcp": (4.687, -14.438),
    "slcp_distractors": (7.030, 4.226),
    "bernoulli_glm": (6.299, -13.223),
    "bernoulli_glm_raw": (6.875, -2.706),
    "gaussian_mixture": (-3.502, -3.833),
    "two_moons": (-3.531, -4.281),
    "sir": (-7.65, -46.0),
    "lotka_volterra": (-11.663, -107.224),
}


def best(task: str, methods: tuple[str, ...] = METHODS) -> float:
    """Lowest published C2ST of some methods."""
    return min(
        score for method, score in zip(METHODS, C2ST[task], strict=True) if method in methods
    )
