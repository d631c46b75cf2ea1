"""Sphinx configuration. Pages of rooms, methods, papers and evidence are written by ``_ext/pages.py``."""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "tools")]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import corrigible  # noqa: E402

project = "Corrigible"
author = "The Corrigible developers"
copyright = f"2026, {author}"
version = release = corrigible.__version__

extensions = [
    "pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext"]
default_role = "obj"  # `name` links where the name is documented, and is code elsewhere
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = "Corrigible"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_theme_options = {
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False

autodoc_typehints = "none"  # numpydoc sections carry the types
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

myst_enable_extensions = []

# The gallery's networks need PyTorch and transformers, which the documentation can be built without.
LANGUAGE_MODELS = all(map(importlib.util.find_spec, ("torch", "transformers")))
sphinx_gallery_conf = {
    "ignore_pattern": r"__init__\.py" if LANGUAGE_MODELS else r"plot_(edit_a_fact|corrective_unlearning)\.py",
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("corrigible",),
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1,
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
    "copyfile_regex": r".*GALLERY_HEADER\.rst",
}
suppress_warnings = ["config.cache"]
