"""Sphinx configuration: Markdown pages, executed examples, API reference from docstrings."""

import re

import poincare_taxa

project = "poincare_taxa"
author = "The poincare_taxa developers"
copyright = "the poincare_taxa developers, Apache-2.0"
version = release = poincare_taxa.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "jupyter_execute", "tables", "conf.py"]
# A reference to this library that leads nowhere is an error; others are not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!poincare_taxa\.).*")]

# docs/examples is a link to the scripts in examples/; the build executes them and fails if they do.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "poincare_taxa"


def escape_bars(app, what, name, obj, options, lines):
    """Let docstrings write |x| for a norm: reST reads bars in prose as a substitution."""
    block = None  # What is left alone until a line of this or less indentation: formulas, doctests.
    for i, line in enumerate(lines):
        text = line.lstrip()
        indent = len(line) - len(text)
        if block is not None and text and indent <= block and not text.startswith(">>>"):
            block = None
        if text.startswith((".. math::", ">>>")):
            block = indent - text.startswith(">>>")
        elif block is None:
            parts = re.split(r"(:math:`[^`]*`|``[^`]*``)", line)
            parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
            lines[i] = "".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", escape_bars, priority=400)  # before numpydoc
