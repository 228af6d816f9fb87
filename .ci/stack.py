"""Prints the versions that make up the stack of the running interpreter."""

import platform
from importlib.metadata import version

PACKAGES = ("torch", "pymc", "pytensor", "arviz", "numpy")
print(f"Python {platform.python_version()},", ", ".join(f"{p} {version(p)}" for p in PACKAGES))
