"""The tree in a browser: one HTML file to fly through, which needs no server and no network.

| file | what it holds |
|---|---|
| `html` | `explore` and the `Page` that it returns: saved, opened, shown in a notebook |
| `packing` | columns of a taxonomy as compressed bytes, and their place in the document |
| `widget` | the page in a notebook, with the selected taxon and the highlights shared with Python |

`page.js` is built from the sources in ``web/`` by ``make page``; it is the script of the page, and
the module of the widget. `page.html` is the document around it. The layout has no coordinates: the
page computes it from the tree, relative to the view.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
