"""A small network that says how much of the data the parameters explain."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from jana_pymc.networks.conditioners import LocationScaleNetwork
from jana_pymc.screening import standardized

N_STEPS, BATCH_SIZE, LEARNING_RATE = 1_500, 512, 1e-2


def residuals(parameters: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values less their location given the parameters, in units of their scale given these.

    Location and scale are those of Laplace's law, so that no outlier carries the network away.

    Parameters
    ----------
    parameters : ndarray, shape (simulations, parameters)
    values : ndarray, shape (simulations, draws, kinds)
        All draws of a kind have the same law.

    Returns
    -------
    ndarray, shape (simulations, draws, kinds)
    """
    middle = np.median(values, axis=(0, 1))
    spread = np.abs(values - middle).mean(axis=(0, 1))
    x = torch.as_tensor((values - middle) / np.where(spread > 0, spread, 1.0)).float()
    context = torch.as_tensor(standardized(parameters)).float()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(0)
        n_kinds, hidden = x.shape[-1], (64, 64, 64)
        network = LocationScaleNetwork(context.shape[1], n_kinds, hidden, residual=True)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
        for _ in range(N_STEPS):
            rows = torch.randint(len(context), (BATCH_SIZE,))
            location, log_scale = network(context[rows])
            distance = (x[rows] - location[:, None]).abs()
            loss = (distance * (-log_scale).exp()[:, None] + log_scale[:, None]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        location, log_scale = network(context)
        return ((x - location[:, None]) * (-log_scale).exp()[:, None]).double().numpy()
