"""`explore`: a taxonomy as one HTML file or a widget, and `Page`, what a caller does with it.

The layout is one for looking, in two dimensions: each clade has a part of its parent's arc of the
rim, in proportion to its taxa without children (or evenly), siblings are in taxonomic order, and a
child is so far from its parent that its own clade spans 252 degrees seen from it. The page computes
it relative to the view, so that it is exact at any depth. Distances on screen are not those of an
embedding: a plane has no room for ten dimensions, and `evaluate` is what judges vectors.
"""

import base64
import hashlib
import html
import json
import re
import tempfile
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from poincare_taxa.files.atomic import replace_file
from poincare_taxa.files.extras import import_extra
from poincare_taxa.files.records import library_version
from poincare_taxa.page import packing
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    import pandas as pd

    from poincare_taxa.page.widget import TreeWidget

__all__ = ["Page", "explore"]

_LARGEST_ID = 2**53  # whole numbers beyond it are not exact in a browser
_LARGEST_FRAME = 40_000_000  # bytes of a page that a frame in a notebook is given
_WIDGET_ADDS = (
    "<small>With <code>pip install 'poincare-taxa[widget]'</code> Python shares the selected "
    "taxon and the highlights: <code>page.widget.taxon</code>.</small>"
)


class _HasTaxonomy(Protocol):
    @property
    def taxonomy(self) -> Taxonomy: ...


@dataclass(frozen=True, repr=False, eq=False)
class Page:
    """A page: one HTML document, or a widget of a notebook, which shows itself.

    Attributes
    ----------
    taxonomy : Taxonomy
        What is shown.
    about : dict
        What the page knows of it before it reads the sections: title, ranks, columns, highlights.
    sections : dict of str to bytes
        Columns of the taxonomy as compressed bytes.
    """

    taxonomy: Taxonomy
    about: dict[str, Any]
    sections: dict[str, bytes]

    @property
    def title(self) -> str:
        """Title of the document."""
        return self.about["title"]

    @property
    def num_taxa(self) -> int:
        """Number of taxa."""
        return len(self.taxonomy)

    @cached_property
    def html(self) -> str:
        """The document."""
        return _document(self.about, self.sections)

    @cached_property
    def widget(self) -> "TreeWidget":
        """The page as a widget: its `taxon` and its `highlight` are shared with Python.

        Raises
        ------
        ImportError
            If anywidget is not installed: the extra ``widget``.
        """
        import_extra("anywidget", "widget")
        from poincare_taxa.page.widget import TreeWidget

        return TreeWidget(self.taxonomy, self.about, self.sections)

    def save(self, path: str | Path) -> Path:
        """Write the document, whole or not at all, and return its path."""
        with replace_file(path) as draft:
            draft.write_text(self.html, encoding="utf-8")
        return Path(path)

    def open(self) -> Path:
        """Open the document in the browser, from a temporary file, whose path is returned."""
        folder = Path(tempfile.mkdtemp(prefix="poincare-taxa-"))
        path = self.save(folder / "tree.html")
        webbrowser.open(path.as_uri())
        return path

    def __repr__(self) -> str:
        size = len(self.html) / 1e6
        return f"Page({self.title!r}, {self.num_taxa:,} taxa, {size:.1f} MB; .save(path), .open())"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if find_spec("anywidget"):
            return self.widget._repr_mimebundle_(**kwargs)
        return {"text/plain": repr(self), "text/html": self._frame()}

    def _frame(self) -> str:
        """HTML for notebooks without anywidget: the document in a frame."""
        if len(self.html) > _LARGEST_FRAME:
            return f"<p>{html.escape(repr(self))}: too large for a frame. {_WIDGET_ADDS}</p>"
        frame = '<iframe style="width:100%;height:640px;border:0" sandbox="allow-scripts {}" {}>'
        document = f'srcdoc="{html.escape(self.html)}"'
        return f"{frame.format('allow-downloads', document)}</iframe><p>{_WIDGET_ADDS}</p>"


def explore(
    source: Taxonomy | _HasTaxonomy,
    path: str | Path | None = None,
    *,
    values: "Mapping[str, Any] | pl.DataFrame | pd.DataFrame | None" = None,
    highlight: Keys | None = None,
    color_by: str | None = None,
    title: str | None = None,
) -> Page:
    """Build a page to fly through a taxonomy in the Poincaré disk.

    The page is one HTML file that opens from the disk: drag, wheel, double click, search by name,
    synonym and id, colours, a list to highlight, links to a view, SVG and PNG. Nothing is loaded
    from elsewhere, and nothing leaves it.

    Parameters
    ----------
    source
        A taxonomy, or an embedding (its taxonomy is shown: see the module).
    path
        File to write, such as ``tree.html``. Without it the page is only returned; a notebook shows
        it, as a widget where anywidget is installed (the extra ``widget``), and `Page.open` opens
        it in a browser.
    values
        Columns of your own to colour by: a mapping from the name of a column to a mapping from keys
        (ids, names) to values; or a table (polars, pandas) whose first column has keys. Numbers get
        a scale, everything else is a category. A clade has the mean of the numbers in it, or the
        category that all of it has. Taxa may be absent.
    highlight
        Keys of taxa to highlight, such as a list of species.
    color_by
        What colours mean at first: the name of a column of `values`, a taxon rank whose largest
        clades are coloured, or "taxon rank"; by default the first column, else the largest clades.
    title
        Title of the page; by default the name of the root.

    Returns
    -------
    page
        The page.

    Raises
    ------
    TypeError
        If `source` is neither a taxonomy nor has one.
    TaxonomyError
        If a key of `values` or `highlight` leads to no taxon.
    ValueError
        If `color_by` is none of what the page can colour by.

    Examples
    --------
    >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals")])
    >>> page = explore(tax, values={"kg": {"cat": 4, "dog": 20}}, highlight=["cat"])
    >>> page.num_taxa, page.title
    (3, 'mammals')
    """
    tax = source if isinstance(source, Taxonomy) else getattr(source, "taxonomy", None)
    if not isinstance(tax, Taxonomy):
        raise TypeError(
            f"a page shows a Taxonomy or an embedding of one, got {type(source).__name__}; read a "
            "file with pt.read(path), a saved embedding with pt.load(path)"
        )
    columns = [] if values is None else _columns(tax, values)
    marked = [] if highlight is None else np.unique(np.atleast_1d(tax.rows(highlight))).tolist()
    title = str(title or tax.names[0] or tax.ids[0])
    about, sections = _sections(tax, columns)
    about |= {
        "title": title,
        "highlight": marked,
        "color_by": _color_by(tax, columns, color_by),
        "source": _described(tax),
        "version": library_version(),
    }
    page = Page(tax, about, sections)
    if path is not None:
        page.save(path)
    return page


def _sections(
    tax: Taxonomy, columns: list[tuple[str, pl.Series, list[str] | None]]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Pack the columns of a taxonomy: what the page must know of them, and their bytes."""
    tree = tax.tree
    # 1. The tree: how many levels a row lies above where a child of the row before it would lie.
    up = np.zeros(len(tree), np.int64)
    up[1:] = tree.depth[:-1].astype(np.int64) + 1 - tree.depth[1:]
    # 2. Ranks that occur, most of them one byte.
    ranks = tax.taxon_ranks.cast(pl.String)
    names_of_ranks = ranks.unique(maintain_order=True).to_list()
    code = ranks.cast(pl.Enum(names_of_ranks)).to_physical().to_numpy()
    # 3. Ids: differences of whole numbers, or lines of text.
    is_integer = tax.ids.dtype.is_integer() and int(tax.ids.abs().max() or 0) < _LARGEST_ID  # type: ignore[arg-type]
    ids = (
        packing.varints(packing.differences(tax.ids.to_numpy()))
        if is_integer
        else packing.lines(tax.ids)
    )
    # 4. Synonyms in the order of their taxa.
    synonyms = tax.synonyms if tax.synonyms is not None else pl.DataFrame({"name": [], "node": []})
    synonyms = synonyms.sort("node", maintain_order=True)
    rows = synonyms["node"].cast(pl.Int64).to_numpy()
    parts = {
        "up": packing.varints(up),
        "rank": packing.varints(code),
        "id": ids,
        "name": packing.lines(tax.names),
        "synonym": packing.lines(synonyms["name"]),
        "synonym-row": packing.varints(packing.differences(rows)),
    }
    # 5. Columns of the caller's own.
    for i, (_, column, categories) in enumerate(columns):
        content = column.to_numpy()
        parts[f"column-{i}"] = content.tobytes() if categories is None else packing.varints(content)
    about = {
        "taxa": len(tax),
        "ranks": names_of_ranks,
        "integer_ids": is_integer,
        "synonyms": len(synonyms),
        "columns": [{"name": name, "categories": found} for name, _, found in columns],
    }
    return about, {name: packing.packed(content) for name, content in parts.items()}


def _columns(
    tax: Taxonomy, values: "Mapping[str, Any] | pl.DataFrame | pd.DataFrame"
) -> list[tuple[str, pl.Series, list[str] | None]]:
    """Bring values by keys into rows: name, float64 [n] or codes [n] from 1, and categories."""
    if isinstance(values, Mapping):
        tables = {name: (list(column), list(column.values())) for name, column in values.items()}
    else:
        names = list(getattr(values, "columns", []))
        if len(names) < 2:
            raise ValueError(
                "values are a mapping from names of columns to mappings from keys to values, or a "
                "table with a column of keys and at least one column of values"
            )
        tables = {name: (values[names[0]], values[name]) for name in names[1:]}
    found = []
    keys: Any
    for name, (keys, column) in tables.items():
        series = _value_column(column)
        rows = np.atleast_1d(tax.rows(keys)) if len(series) else np.empty(0, np.int64)
        if series.dtype.is_numeric():
            numbers = np.full(len(tax), np.nan)
            numbers[rows] = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
            found.append((str(name), pl.Series(numbers), None))
        else:
            texts = series.cast(pl.String)
            categories = texts.drop_nulls().unique().sort().to_list()
            code = texts.cast(pl.Enum(categories)).to_physical().cast(pl.Int64) + 1
            codes = np.zeros(len(tax), np.int64)
            codes[rows] = code.fill_null(0).to_numpy()
            found.append((str(name), pl.Series(codes), categories))
    return found


def _value_column(values: Any) -> pl.Series:
    """Numbers if all values are numbers or missing, else text."""
    if isinstance(values, pl.Series):
        return values
    missing = [value is None or value != value for value in values]
    clean = [None if lost else value for value, lost in zip(values, missing, strict=True)]
    if all(value is None or _is_number(value) for value in clean):
        return pl.Series(
            [None if value is None else float(value) for value in clean], dtype=pl.Float64
        )
    return pl.Series([None if value is None else str(value) for value in clean], dtype=pl.String)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _color_by(
    tax: Taxonomy, columns: list[tuple[str, pl.Series, list[str] | None]], wanted: str | None
) -> str | None:
    """Translate the argument `color_by` into the page's own word for it."""
    if wanted is None or wanted in ("clades", "taxon rank"):
        return wanted
    if wanted in [name for name, *_ in columns]:
        return f"column:{wanted}"
    ranks = tax.taxon_ranks.cast(pl.String).unique(maintain_order=True).to_list()
    if wanted in ranks:
        return f"rank:{wanted}"
    raise ValueError(
        f"color_by={wanted!r} is neither a column of values ({[name for name, *_ in columns]}) nor "
        f"a taxon rank here ({', '.join(ranks[:12])}), nor 'clades' or 'taxon rank'"
    )


def _described(tax: Taxonomy) -> str:
    """Where the taxonomy is from, in words."""
    source = {key: tax.source[key] for key in ("format", "date", "version") if key in tax.source}
    return ", ".join(f"{key} {value}" for key, value in source.items())


def _document(about: dict[str, Any], sections: dict[str, bytes]) -> str:
    """Put title, script and data into their places of the template."""
    folder = files("poincare_taxa.page")
    template, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.js")
    )
    digest = hashlib.sha256(script.encode()).digest()
    parts = {
        "title": html.escape(about["title"]),
        "script": script,
        "script_hash": f"sha256-{base64.b64encode(digest).decode()}",
        # No "<" in it: nothing in a name can end the element.
        "about": json.dumps(about, ensure_ascii=True).replace("<", "\\u003c"),
        "data": "\n".join(packing.element(*section) for section in sections.items()),
    }
    pattern = r"\{(title|script|script_hash|about|data)\}"
    return re.sub(pattern, lambda place: parts[place[1]], template)
