"""DAGs of other packages as tables of edges: ontologies in OBO (obonet), WordNet (nltk)."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from poincare_taxa.files.extras import import_extra
from poincare_taxa.taxonomy.columns import TaxonomyError

__all__ = ["read_obo", "read_wordnet"]


def read_obo(path: str | Path, relations: Sequence[str] = ("is_a",)) -> pl.DataFrame:
    """Read the terms of an ontology and what is above them, by some relations.

    Returns
    -------
    edges
        Columns ``child``, ``parent`` (null for a term without parents) and ``label`` of the child.

    Raises
    ------
    ImportError
        If obonet is not installed.
    TaxonomyError
        If the file is no OBO, or a relation does not occur in it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}: is the path right?")
    if isinstance(relations, str):
        raise TypeError(f"relations are a list of names: relations=[{relations!r}]")
    obonet = import_extra("obonet", "dag")
    try:
        graph = obonet.read_obo(str(path), ignore_obsolete=True)
    except (ValueError, AssertionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise TaxonomyError(f"{path} is no ontology in the OBO format ({error})") from error
    # obonet's edges lead from a term to what is above it; a term that is only referred to has no
    # name of its own.
    used = {relation for *_, relation in graph.edges(keys=True)}
    if missing := set(relations) - used:
        raise TaxonomyError(
            f"{path} has no relation {sorted(missing)[0]!r}; it has {sorted(used) or 'none'}"
        )
    above: dict[str, list[str | None]] = {node: [] for node in graph}
    for child, parent, relation in graph.edges(keys=True):
        if relation in relations:
            above[child].append(parent)
    rows = [
        (node, parent, graph.nodes[node].get("name"))
        for node, parents in above.items()
        for parent in parents or [None]
    ]
    return _table(rows)


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
