"""How Sphinx builds these pages: ``make docs``."""

from numpydoc.xref import DEFAULT_LINKS

import jana_pymc

project = "jana_pymc"
author = "The jana_pymc developers"
copyright = author
release = jana_pymc.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
pygments_style = "friendly"
pygments_dark_style = "monokai"

# A name in single backticks is a link where it is one of ours.
default_role = "py:obj"
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 80

# Docstrings say what each argument is, so signatures need not; members have pages of their classes.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Types are links where they are ours. numpydoc's own ones lead to pages that are fetched.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: f"jana_pymc.{name}" for name in jana_pymc.__all__}
DEFAULT_LINKS.clear()

# Of names that differ in case alone, since some file systems tell no case.
autosummary_filename_map = {
    "jana_pymc.Calibration": "jana_pymc.Calibration-class",
    "jana_pymc.Verdict": "jana_pymc.Verdict-class",
    "jana_pymc.tasks.Task": "jana_pymc.tasks.Task-class",
}

myst_heading_anchors = 3
