"""Wall times of the stages of an example."""

from __future__ import annotations

import time


class Stopwatch:
    """``with watch("stage"): ...`` adds an entry to ``watch.seconds``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str) -> Stopwatch:
        self.stage = stage
        return self

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.stage] = time.perf_counter() - self.start
