"""What the results of the workflow have in common: they print as a table or a line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd


class Result:
    """Base of the frozen results."""

    def __repr__(self) -> str:
        table = getattr(self, "summary", None) or getattr(self, "table", None)
        if callable(table):
            return f"{type(self).__name__}\n{table()}"
        parts = (f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(parts)})"


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"<{' × '.join(map(str, value.shape))} array>"
    if isinstance(value, pd.DataFrame):
        return f"<table of {len(value)} rows>"
    text = repr(value)
    return text if len(text) <= 60 else f"<{type(value).__name__}>"
