"""Conditional normalizing flows on torch: transforms, latents and their composition."""

from jana_pymc.flows.flow import ConditionalFlow, FlowSettings, conditional_flow
from jana_pymc.flows.latents import GaussianLatent, GaussianMixtureLatent, StudentTLatent
from jana_pymc.flows.linear import ActNorm, Permutation, Rotation

__all__ = [
    "ActNorm",
    "ConditionalFlow",
    "FlowSettings",
    "GaussianLatent",
    "GaussianMixtureLatent",
    "Permutation",
    "Rotation",
    "StudentTLatent",
    "conditional_flow",
]
