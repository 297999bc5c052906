"""Sphinx: MyST pages, numpydoc docstrings, warnings are errors (`sphinx-build -W docs docs/_build/html`)."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "microstream"
author = "The microstream developers"
copyright = "the microstream developers, Apache-2.0"
release = version = version_of("microstream")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser", "tables"]
exclude_patterns = ["_build", "explanation/decisions/template.md"]
html_theme = "furo"
html_title = f"microstream {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
