"""Sphinx configuration: Markdown pages, executed examples, API reference from docstrings."""

import importlib
import inspect
import pkgutil
import re
import shutil
from pathlib import Path

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
autodoc_default_options = {
    "special-members": "__call__, __contains__, __getitem__, __iter__, __len__",
}
numpydoc_show_class_members = False

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_workers = 8

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


def public_names():
    """Return the shortest public path of every function and class, by where it is defined."""
    paths = {}
    rooms = [
        importlib.import_module(f"poincare_taxa.{module.name}")
        for module in pkgutil.iter_modules(poincare_taxa.__path__)
        if module.ispkg
    ]
    for room in [*rooms, poincare_taxa]:
        for name in getattr(room, "__all__", ()):
            value = getattr(room, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                paths[f"{value.__module__}.{value.__name__}"] = f"{room.__name__}.{name}"
    return paths


PUBLIC = public_names()


def skip_public(app, what, name, obj, skip, options):
    """Leave public names out of the pages' modules: they are documented by the path of users."""
    path = f"{getattr(obj, '__module__', '')}.{getattr(obj, '__name__', '')}"
    return True if what == "module" and path in PUBLIC else None


def find_public(app, env, node, contnode):
    """Lead a reference to the place where a name is defined, such as a type, to its public path."""
    target, member = node.get("reftarget", ""), ""
    while target and target not in PUBLIC:
        target, _, last = target.rpartition(".")
        member = f".{last}{member}"
    if not target:
        return None
    public = PUBLIC[target] + member
    if contnode.astext() == node["reftarget"]:
        contnode = type(contnode)("", public)
    domain = env.domains["py"]
    kind = node.get("reftype", "obj")
    return domain.resolve_xref(env, node["refdoc"], app.builder, kind, public, node, contnode)


def offer_notebook(app, pagename, templatename, context, doctree):
    """Put a link to the notebook, with its outputs, below the title of an example."""
    if pagename.startswith("examples/"):
        name = pagename.removeprefix("examples/") + ".ipynb"
        link = f'<p><a href="../notebooks/{name}" download>{name}</a>: this page as a notebook</p>'
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{link}", 1)


def copy_notebooks(app, exception):
    """Copy the executed examples to where `offer_notebook` leads."""
    if exception is None and app.builder.format == "html":
        executed = Path(app.outdir).parent / "jupyter_execute" / "examples"
        shutil.copytree(
            executed,
            Path(app.outdir) / "notebooks",
            ignore=lambda folder, names: [name for name in names if not name.endswith(".ipynb")],
            dirs_exist_ok=True,
        )


def write_live_page(app, exception):
    """Write the page that the home page has in a frame."""
    if exception is None and app.builder.format == "html":
        tax = poincare_taxa.load_sample("mammals")
        poincare_taxa.explore(tax, Path(app.outdir) / "mammals.html", title="Mammals")


def setup(app):
    app.connect("html-page-context", offer_notebook)
    app.connect("build-finished", copy_notebooks)
    app.connect("build-finished", write_live_page)
    app.connect("autodoc-skip-member", skip_public)
    app.connect("missing-reference", find_public)
    app.connect("autodoc-process-docstring", escape_bars, priority=400)  # before numpydoc
