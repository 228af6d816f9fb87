"""The record of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class TrainingHistory:
    """Losses over the steps of a training run, one entry a validation.

    Attributes
    ----------
    step : list of int
        Steps done.
    seconds : list of float
        Wall time since the start, the interrupted part of a resumed run included.
    posterior, likelihood : list of float
        Mean training losses since the last entry: −log q(u | x) a data set and −log l(xᵢ | θ)
        an observation, in nats; the latter without distractors, which are learned alone.
    validation_posterior, validation_likelihood : list of float
        The same on held-out simulations. One that is no number is worse than any other.
    stages : list of int
        Index of the first entry of each stage after the first.
    """

    step: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    posterior: list[float] = field(default_factory=list)
    likelihood: list[float] = field(default_factory=list)
    validation_posterior: list[float] = field(default_factory=list)
    validation_likelihood: list[float] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.step)

    def append(
        self,
        step: int,
        seconds: float,
        training: Mapping[str, float],
        validation: Mapping[str, float],
    ) -> None:
        """Add a validation, with losses of "posterior" and "likelihood"."""
        self.step.append(step)
        self.seconds.append(seconds)
        for name in ("posterior", "likelihood"):
            getattr(self, name).append(training[name])
            getattr(self, f"validation_{name}").append(validation[name])

    def followed_by(self, later: TrainingHistory) -> TrainingHistory:
        """The record of both, one after the other.

        A network that did not learn in the later one keeps the loss of its best weights.
        """
        joined: dict[str, list[Any]] = {}
        for name, own in vars(self).items():
            added = getattr(later, name)
            if name in ("step", "seconds"):
                added = [value + (own or [0])[-1] for value in added]
            joined[name] = [*own, *added]
        joined["stages"] = [*self.stages, len(self), *(len(self) + at for at in later.stages)]
        for half in ("posterior", "likelihood"):
            if np.isnan(getattr(later, f"validation_{half}")).all():
                for name in (half, f"validation_{half}"):
                    joined[name][len(self) :] = [getattr(self, f"best_{half}")] * len(later)
        return TrainingHistory(**joined)

    @property
    def best_posterior(self) -> float:
        """Lowest validation loss of the posterior network; infinite if there is none."""
        return float(np.min(comparable(self.validation_posterior), initial=np.inf))

    @property
    def best_likelihood(self) -> float:
        """Lowest validation loss of the likelihood network; infinite if there is none."""
        return float(np.min(comparable(self.validation_likelihood), initial=np.inf))

    def still_falling(self) -> tuple[str, ...]:
        """Networks whose validation loss was falling when they last learned.

        Of the way from its first validation to its best one, a network that has settled covers
        little in the last quarter of that stage; one that was stopped at once covers a quarter or
        more.
        """
        found = []
        for name in ("posterior", "likelihood"):
            stages = np.split(comparable(getattr(self, f"validation_{name}")), self.stages)
            learned = [losses for losses in stages if len(np.unique(losses)) > 1]
            falls = [np.minimum.accumulate(losses[np.isfinite(losses)]) for losses in learned]
            if not falls or len(falls[-1]) < 4:
                continue
            last = falls[-1]
            late = last[int(0.75 * (len(last) - 1))] - last[-1]
            if late > max(0.2 * (falls[0][0] - last[-1]), 0.02):
                found.append(name)
        return tuple(found)

    def validations_without_progress(self) -> int:
        """Validations since either network last improved."""
        if not len(self):
            return 0
        validated = self.validation_posterior, self.validation_likelihood
        last = max(int(np.argmin(comparable(losses))) for losses in validated)
        return len(self) - 1 - last


def comparable(losses: Sequence[float]) -> NDArray[np.float64]:
    """Losses, infinite where they are no number: by themselves these compare with nothing."""
    return np.where(np.isnan(losses), np.inf, losses)
