"""DAGs of other packages as tables of edges: ontologies in OBO (obonet), WordNet (nltk)."""

import importlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from poincare_taxa.files.extras import import_extra
from poincare_taxa.readers.text import contents
from poincare_taxa.taxonomy.columns import TaxonomyError

__all__ = ["read_obo", "read_wordnet"]


def read_obo(path: str | Path, relations: Sequence[str] = ("is_a",)) -> pl.DataFrame:
    """Read the terms of an ontology and what is above them, by some relations.

    A relation is given by its id, or by the id, the name or an xref of its [Typedef] stanza.

    Returns
    -------
    edges
        Columns ``child``, ``parent`` (null for a term without parents) and ``label`` of the child.

    Raises
    ------
    ImportError
        If obonet is not installed.
    TaxonomyError
        If the file is no OBO, is damaged gzip, or a relation does not occur in it.
    """
    path = Path(path)
    if isinstance(relations, str):
        raise TypeError(f"relations are a list of names: relations=[{relations!r}]")
    obonet = import_extra("obonet", "dag")
    data = contents(path)  # obonet would unpack without a limit
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline=None)
        graph = obonet.read_obo(text, ignore_obsolete=True)
    except (ValueError, AssertionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise TaxonomyError(f"{path} is no ontology in the OBO format ({error})") from error
    # obonet's edges lead from a term to what is above it; a term that is only referred to has no
    # name of its own.
    meant = _relations(path, graph, relations)
    above: dict[str, list[str | None]] = {node: [] for node in graph}
    for child, parent, relation in graph.edges(keys=True):
        if relation in meant:
            above[child].append(parent)
    rows = [
        (node, parent, graph.nodes[node].get("name"))
        for node, parents in above.items()
        for parent in parents or [None]
    ]
    return _table(rows)


def _relations(path: Path, graph: Any, wanted: Sequence[str]) -> set[str]:
    """Relations as the terms write them, of ids, names and xrefs."""
    # 1. What each is called: as the terms write it, and by the stanza that has this as id or xref.
    used = {relation: {_plain(relation)} for *_, relation in graph.edges(keys=True)}
    shown = {relation: repr(relation) for relation in used}
    for stanza in graph.graph.get("typedefs", []):
        xrefs = [word for xref in stanza.get("xref", []) for word in xref.split()[:1]]
        keys = {_plain(key) for key in (stanza.get("id"), stanza.get("name"), *xrefs) if key}
        for relation in used:
            if _plain(relation) in keys:
                used[relation] |= keys
                if _plain(stanza.get("name") or relation) != _plain(relation):
                    shown[relation] = f"{relation!r} ({stanza['name']})"
    # 2. Those that are called so.
    meant = {
        name: {rel for rel, called in used.items() if _plain(name) in called} for name in wanted
    }
    if missing := [name for name, found in meant.items() if not found]:
        raise TaxonomyError(
            f"the terms of {path} have no relation {', '.join(map(repr, missing))}; they have "
            f"{', '.join(shown[relation] for relation in sorted(used)) or 'none'}"
        )
    return set().union(*meant.values())


def _plain(name: str) -> str:
    """Name of a relation in one form: "part_of" is "part of", BFO_0000050 is BFO:0000050."""
    return re.sub(r"[\s_:]+", " ", name).strip().casefold()


def read_wordnet(root: str | None = None, pos: str = "n") -> pl.DataFrame:
    """Take synsets and their hypernyms and instance hypernyms from nltk's WordNet.

    Returns
    -------
    edges
        Columns ``child`` and ``parent``, null for a synset without parents among them.

    Raises
    ------
    ImportError
        If nltk is not installed.
    FileNotFoundError
        If its WordNet is not on this machine.
    TaxonomyError
        If `root` is no synset.
    """
    try:
        wordnet: Any = importlib.import_module("nltk.corpus").wordnet
    except ImportError as error:
        raise ImportError(f"WordNet is read by nltk: pip install nltk ({error})") from None
    try:
        synsets = list(wordnet.all_synsets(pos)) if root is None else _below(wordnet, root)
    except LookupError:
        raise FileNotFoundError(
            "nltk has no WordNet on this machine: nltk.download('wordnet') fetches it"
        ) from None
    names = {synset.name() for synset in synsets}
    rows = []
    for synset in synsets:
        above = [up.name() for up in (*synset.hypernyms(), *synset.instance_hypernyms())]
        parents = [name for name in above if name in names]
        rows += [(synset.name(), parent, None) for parent in parents or [None]]
    return _table(rows).drop("label")


def _below(wordnet: Any, root: str) -> list[Any]:
    """Collect a synset and all that are below it, each once."""
    try:
        found = {root: wordnet.synset(root)}
    except LookupError:  # there is no WordNet
        raise
    except Exception as error:  # nltk has an error of its own for an unknown name
        raise TaxonomyError(f"WordNet has no synset {root!r}, such as 'dog.n.01'") from error
    waiting = list(found.values())
    while waiting:
        synset = waiting.pop()
        for below in (*synset.hyponyms(), *synset.instance_hyponyms()):
            if below.name() not in found:
                found[below.name()] = below
                waiting.append(below)
    return list(found.values())


def _table(rows: list[tuple[str, str | None, str | None]]) -> pl.DataFrame:
    columns: list[Any] = [(name, pl.String) for name in ("child", "parent", "label")]
    return pl.DataFrame(rows, schema=columns, orient="row")
