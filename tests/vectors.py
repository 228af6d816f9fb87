"""Likelihoods of vectors with random weights, one of each kind, for tests without training."""

from __future__ import annotations

import torch

from jana_pymc.likelihoods import Bound, CountRange, Support, VectorLikelihood, VectorSettings

SMALL = {"hidden": (7, 6), "conditioner_hidden": 5, "n_bins": 4}
REAL = [Support(), Support(lower=Bound(column=0)), Support(Bound(-9.0), Bound(9.0)), Support()]
CASES = {
    "continuous": (REAL, {}, {}),
    "two": (REAL[:2], {}, {}),
    "regression": ([2, Support()], {"n_conditions": 3}, {}),
    "discrete": ([3, CountRange(6), CountRange(), 2], {}, {}),
    "mixed": ([CountRange(4), *REAL], {}, {}),
    "residual": (
        [CountRange(4), *REAL[:2]],
        {},
        {"hidden": (6, 6, 6), "residual": True, "conditioner_layers": 4},
    ),
    "distractors": ([Support()] * 5, {}, {"informative": (1, 4)}),
    "draws": ([Support()] * 5, {}, {"draws": ((3, 1), (0, 4))}),
    "sums of trials": (
        [CountRange(6), Support(), CountRange(), *REAL[:2]],
        {},
        {"n_trials": 9},
    ),
    "normal sums": ([CountRange(6), *REAL[:2]], {}, {"n_trials": 9, "n_layers": 0}),
    "sums without counts": (REAL, {"n_conditions": 1}, {"n_trials": 9}),
    "sequence": (REAL[:2] * 3, {"n_steps": 3}, {}),
    "an angle": ([CountRange(4), Support()], {}, {"angles": (0,)}),
    "counts in time": ([CountRange(5)] * 4, {"n_steps": 4}, {}),
}


def random_vector_likelihood(case: str) -> VectorLikelihood:
    components, options, settings = CASES[case]
    network = VectorLikelihood(
        components, 2, settings=VectorSettings(**{**SMALL, **settings}), **options
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        network.parameter_log.copy_(torch.tensor([False, True]))
        network.parameter_mean[:2] = torch.tensor([0.2, -0.1])
        network.parameter_sd[:2] = torch.tensor([0.7, 1.3])
        network.real_mean.fill_(0.3)
        network.real_sd.fill_(1.7)
        if network.trial_sum is not None:
            network.count_mean.fill_(2.0)
            network.count_sd.fill_(1.4)
            size = network.trial_sum.dim
            network.trial_sum.unit.add_(0.3 * torch.randn((size, size), generator=generator).tril())
            network.trial_sum.slopes.normal_(generator=generator)
    return network.double()
