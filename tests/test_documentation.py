"""What the documents name exists: public names, files, links; and their code parses."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]

# Whose public classes and functions the reference lists.
MODULES = (
    "jana_pymc",
    "jana_pymc.plots",
    "jana_pymc.tasks",
    "jana_pymc.tasks.ddm",
    "jana_pymc.tasks.epidemic",
    "jana_pymc.tasks.wiener",
)

FENCE = re.compile(r"^( *)(`{3,})([^\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(`+)((?:[^\n]|\n(?!\n))+?)\1")
LINK = re.compile(r"\]\(<?([^)>\s]+)|<img[^>]*\bsrc=\"([^\"]+)\"")
OURS = re.compile(r"\bjana(?:_pymc)?((?:\.[A-Za-z_]\w*)+)")
PYTHON_FILE = re.compile(r"[\w.-][\w./-]*\.py\b")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def blocks(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks of a page: what stands behind the fence, and what within."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(match[3].strip(), dedent(match[4])) for match in found]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the prose of a page."""
    return [match[2] for match in INLINE.finditer(prose(page))]


def listed(page: Path) -> dict[str, list[str]]:
    """The names that a page has autosummary list, by module."""
    names = defaultdict(list)
    module = ""
    for line in chain.from_iterable(block.splitlines() for _, block in blocks(page)):
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r" +\w+", line):
            names[module].append(line.strip())
    return names


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_lists_each_public_name_once(module: str) -> None:
    package = import_module(module)
    public = [name for name in package.__all__ if callable(getattr(package, name))]
    assert sorted(listed(DOCS / "reference.md")[module]) == sorted(public)


def test_the_reference_lists_nothing_else() -> None:
    assert set(listed(DOCS / "reference.md")) == set(MODULES)


def test_every_page_has_a_place_in_the_index() -> None:
    (tree,) = (block for kind, block in blocks(DOCS / "index.md") if kind == "{toctree}")
    entries = [line for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(entries) == sorted(
        page.stem for page in DOCS.glob("*.md") if page.stem != "index"
    )


@each_page
def test_links_lead_to_files(page: Path) -> None:
    targets = (match[1] or match[2] for match in LINK.finditer(INLINE.sub("", prose(page))))
    files = [target.split("#")[0] for target in targets if not re.match(r"\w+:|#", target)]
    files += [
        kind.split()[-1] for kind, _ in blocks(page) if re.match(r"{(include|image|figure)}", kind)
    ]
    assert not [file for file in files if not (page.parent / file).exists()]


@each_page
def test_python_code_parses(page: Path) -> None:
    for kind, code in blocks(page):
        if kind == "python":
            ast.parse(code, filename=page.name)


@each_page
def test_our_names_in_code_exist(page: Path) -> None:
    for code in (*(block for _, block in blocks(page)), *inline_code(page)):
        for match in OURS.finditer(code):
            resolve_name("jana_pymc" + match[1])


@each_page
def test_scripts_and_tests_that_are_named_exist(page: Path) -> None:
    code = (*(block for _, block in blocks(page)), *inline_code(page))
    named = chain.from_iterable(map(PYTHON_FILE.findall, code))
    files = {name for name in named if name.startswith(("examples/", "benchmarks/", "tests/"))}
    assert not [file for file in files if not (ROOT / file).is_file()]


def test_modules_that_the_architecture_names_exist() -> None:
    ours = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "jana_pymc").rglob("*.py")]
    ours += [f"/{path.relative_to(ROOT)}" for path in (ROOT / "tests").glob("*.py")]
    code = inline_code(DOCS / "architecture.md")
    named = set(chain.from_iterable(map(PYTHON_FILE.findall, code)))
    assert not [file for file in named if not any(path.endswith(f"/{file}") for path in ours)]
