"""The page as a widget of notebooks: the selected taxon and the highlights are shared with Python.

The module of the widget is the page's own script. In its messages taxa are rows; here they are ids.
"""

from importlib.resources import files
from typing import Any

import anywidget
import numpy as np
import traitlets

from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["TreeWidget"]


class TreeWidget(anywidget.AnyWidget):
    """A tree to fly through in a notebook; `Page.widget` makes it.

    ``widget.observe(function, "taxon")`` calls a function when the reader selects a taxon;
    ``widget.layout.height = "800px"`` sets the height.

    Attributes
    ----------
    taxon
        Id of the selected taxon. A key that is assigned (id, name, synonym) goes to the centre.
    highlight
        Ids of the highlighted taxa, in preorder. A list of keys may be assigned.

    Raises
    ------
    TaxonomyError
        If a key that is assigned leads to no taxon.
    """

    _esm = (files("poincare_taxa.page") / "page.js").read_text(encoding="utf-8")
    _about = traitlets.Dict().tag(sync=True)
    _sections = traitlets.Dict().tag(sync=True)
    taxon: Any = traitlets.Any().tag(
        sync=True,
        to_json=lambda key, widget: int(widget._taxonomy.rows(key)),
        from_json=lambda row, widget: widget._taxonomy.ids[row],
    )
    highlight: Any = traitlets.Any().tag(
        sync=True,
        to_json=lambda keys, widget: widget._rows(keys),
        from_json=lambda rows, widget: widget._taxonomy.ids[rows].to_list(),
    )

    def __init__(
        self, taxonomy: Taxonomy, about: dict[str, Any], sections: dict[str, bytes]
    ) -> None:
        self._taxonomy = taxonomy
        super().__init__(
            _about=about,
            _sections=sections,
            taxon=taxonomy.ids[0],
            highlight=taxonomy.ids[about["highlight"]].to_list(),
            layout={"height": "640px"},
        )

    def _rows(self, keys: Any) -> list[int]:
        """Rows of a key or of many, in order, each once."""
        several = list(keys) if np.iterable(keys) and not isinstance(keys, str) else [keys]
        return np.unique(self._taxonomy.rows(several)).tolist() if several else []

    @traitlets.validate("taxon")
    def _id_of_taxon(self, proposal: Any) -> Any:
        return self._taxonomy.ids[int(self._taxonomy.rows(proposal["value"]))]

    @traitlets.validate("highlight")
    def _ids_of_highlight(self, proposal: Any) -> Any:
        return self._taxonomy.ids[self._rows(proposal["value"])].to_list()

    def __repr__(self) -> str:
        size = f"{len(self._taxonomy):,} taxa"
        marked = f"{len(self.highlight):,} highlighted"
        return f"TreeWidget({self._about['title']!r}, {size}, taxon={self.taxon!r}, {marked})"
