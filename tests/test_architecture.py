"""The plan of the house: imports point down, in no circle, at the top of a file."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "jana_pymc"

# From the ground up. A room imports only from floors below its own.
FLOORS = (
    (
        "checks",
        "files",
        "slices",
        "warning",
    ),
    ("networks", "screening", "simulation", "storage", "threads", "tracing"),
    ("flows",),
    ("likelihoods",),
    ("posterior",),
    ("joint_network", "network_settings"),
    ("architecture", "training"),
    ("trained_likelihood",),
    ("pytensor",),
    (
        "declarations",
        "distribution",
        "importance",
        "inference_data",
        "initial_values",
        "missing_values",
        "trained_region",
    ),
    ("refinement",),
    ("approximators",),
    ("fitting", "plots"),
    ("workflow",),
    ("tasks",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

TORCH_ONLY = (
    "networks",
    "threads",
    "tracing",
    "flows",
    "likelihoods",
    "posterior",
    "joint_network",
    "network_settings",
    "trained_likelihood",
)
OPTIONAL = ("joblib", "sklearn", "threadpoolctl")


class Import(NamedTuple):
    """One imported module, and where the statement stands."""

    target: str
    line: int
    in_function: bool
    for_types_only: bool


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def _targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.module is not None, "imports are absolute"
    for alias in node.names:  # `from package import module` imports the module
        name = f"{node.module}.{alias.name}"
        yield name if name in FILES else node.module


def _walk(node: ast.AST, in_function: bool, for_types_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in _targets(child):
                yield Import(target, child.lineno, in_function, for_types_only)
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from _walk(child, in_function or function, for_types_only or types)


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of one module of the package."""
    return tuple(_walk(tree(module), False, False))


def room(module: str) -> str:
    """The part of the package that a module belongs to: its first name below the package."""
    return module.split(".")[1]


def place(module: str, statement: Import) -> str:
    return f"{FILES[module].relative_to(ROOT)}:{statement.line} imports {statement.target}"


MODULES = [module for module in FILES if module != PACKAGE]


def test_every_module_has_a_floor() -> None:
    homeless = sorted({room(module) for module in MODULES} - set(FLOOR_OF))
    assert not homeless, f"give {homeless} a place in FLOORS and in docs/architecture.md"


def test_the_plan_shows_every_room() -> None:
    plan = (ROOT / "docs" / "architecture.md").read_text()
    shown = {room for room in FLOOR_OF if f"`{room}/`" in plan or f"`{room}.py`" in plan}
    assert set(FLOOR_OF) == shown


def test_imports_point_down() -> None:
    # What is imported for annotations only never runs, so it may name a type from above.
    upward = [
        place(module, i)
        for module in MODULES
        for i in imports(module)
        if i.target.split(".")[0] == PACKAGE
        and not i.for_types_only
        and (
            i.target == PACKAGE
            or (
                room(i.target) != room(module)
                and FLOOR_OF[room(i.target)] >= FLOOR_OF[room(module)]
            )
        )
    ]
    assert not upward


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        module: {i.target for i in imports(module) if i.target in FILES and not i.for_types_only}
        for module in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circular imports: {' -> '.join(error.args[1])}")


def test_imports_stand_at_the_top() -> None:
    hidden = [
        place(module, i)
        for module in FILES
        for i in imports(module)
        if i.in_function and i.target.split(".")[0] not in OPTIONAL
    ]
    assert not hidden


def imports_of(rooms: Iterable[str], packages: Iterable[str]) -> list[str]:
    """Where modules of these rooms import from these packages."""
    return [
        place(module, i)
        for module in MODULES
        if room(module) in rooms
        for i in imports(module)
        if i.target.split(".")[0] in packages
    ]


def test_networks_know_nothing_of_pymc() -> None:
    assert not imports_of(TORCH_ONLY, ("pymc", "pytensor", "arviz"))


def test_simulation_knows_nothing_of_torch() -> None:
    assert not imports_of(("simulation",), ("torch",))


def test_only_training_knows_optimizers() -> None:
    others = [module for module in MODULES if room(module) != "training"]
    imported = [
        place(module, i)
        for module in others
        for i in imports(module)
        if i.target.startswith("torch.optim")
    ]
    named = [
        f"{FILES[module].relative_to(ROOT)}:{node.lineno} names {ast.unparse(node)}"
        for module in others
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch.optim")
    ]
    assert not imported + named


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", line).group() for line in project["dependencies"]}
    used = {i.target.split(".")[0] for module in FILES for i in imports(module)}
    assert used - declared - sys.stdlib_module_names - {PACKAGE, *OPTIONAL} == set()
