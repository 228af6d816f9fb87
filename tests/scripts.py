"""Files of examples/ and benchmarks/ as modules, for tests of their parts."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Under a name of its own: both folders have a hierarchical_ddm.py."""
    file = ROOT / path
    name = path.removesuffix(".py").replace("/", "_")
    monkeypatch.syspath_prepend(str(file.parent))  # where its neighbours are
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module
