"""Newick trees: ``(cat:1.5,'wild dog':2)mammal;``.

Grammar: Olsen's interpretation of the Newick format (1990). Labels in single quotes are used as
written, with a doubled quote for one; in other labels an underscore means a space. Comments in
brackets, which may be nested, are ignored, and with them annotations in NHX.
"""

import math
import re
from pathlib import Path

import numpy as np
import polars as pl

from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_newick"]

_TOKEN = re.compile(r"\s*(?:([(),:;])|'((?:[^']|'')*)'|([^\s(),:;'][^(),:;]*)|(\S))")
_OUTSIDE = re.compile(r"'(?:[^']|'')*'|[\[\]]")  # Outside of comments, brackets in quotes are text.
_INSIDE = re.compile(r"[\[\]]")
# State of the current node: no token yet, children, a label, a branch length.
_NEW, _CLOSED, _LABELLED, _MEASURED = range(4)


def read_newick(path: str | Path) -> Taxonomy:
    """Read one tree in Newick format, gzipped or not, of any depth.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    taxonomy
        Ids are the labels as written; nodes without a unique label have the ids ``node<row>``.
        Names are the labels with spaces for underscores, null where there is none.
        `branch_lengths` are the lengths, None where the tree has none.

    Raises
    ------
    TaxonomyError
        If brackets do not match, a quote or comment is not closed, a length is no number, or there
        are several trees; the message names file, line and column.
    """
    text = Text.load(path)
    if text.data[:6].upper() == b"#NEXUS":
        raise text.error("this is a NEXUS file; export the tree as Newick")
    parser = _Parser(text)
    parser.parse()
    lengths = np.array(parser.lengths)
    labels = pl.Series("id", parser.labels, dtype=pl.String)
    return Taxonomy.from_parents(
        parser.parents,
        ids=_ids(labels),
        names=pl.Series(parser.names, dtype=pl.String),
        branch_lengths=None if np.isnan(lengths).all() else lengths,
        source=provenance(path, "Newick"),
    )


def _ids(labels: pl.Series) -> pl.Series:
    """Make ids of unique labels, and ``node<row>`` for the other nodes."""
    prefix = "node"
    while labels.str.starts_with(prefix).any():
        prefix += "_"
    numbered = pl.select(pl.lit(prefix) + pl.int_range(len(labels)).cast(pl.String)).to_series()
    good = labels.is_unique() & labels.is_not_null() & (labels != "").fill_null(False)
    return labels.zip_with(good, numbered)


class _Parser:
    """Parser of one tree; nodes are in the order of their first character, which is preorder."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.string = _without_comments(text)
        self.parents: list[int] = []
        self.labels: list[str | None] = []
        self.names: list[str | None] = []
        self.lengths: list[float] = []

    def parse(self) -> None:
        """Fill parents, labels, names and lengths; no recursion, so that any depth is possible."""
        open_nodes: list[tuple[int, int]] = []  # Nodes with an open bracket, and its position.
        node, state = self._new_node(-1), _NEW
        tokens = _TOKEN.finditer(self.string)
        end = None
        for token in tokens:
            mark, quoted, plain, bad = token.groups()
            if end is not None:
                raise self._error(
                    token, "there is a second tree; this reads files with one, so split it"
                )
            if mark == "(":
                if state != _NEW:
                    raise self._error(token, "'(' behind a label or ')'; is a comma missing?")
                open_nodes.append((node, token.start(1)))
                node = self._new_node(node)
            elif mark == ",":
                if not open_nodes:
                    raise self._error(token, "',' outside of all brackets; is a '(' missing?")
                node, state = self._new_node(open_nodes[-1][0]), _NEW
            elif mark == ")":
                if not open_nodes:
                    raise self._error(token, "')' without a '('; is one ')' too many?")
                (node, _), state = open_nodes.pop(), _CLOSED
            elif mark == ":":
                if state == _MEASURED:
                    raise self._error(token, "a second length; a comma or ')' is missing before it")
                self.lengths[node], state = self._length(next(tokens, token)), _MEASURED
            elif mark == ";":
                end = token
            elif bad is not None:
                raise self._error(token, f"{bad!r} opens a quote that is never closed")
            elif state in (_LABELLED, _MEASURED):
                raise self._error(token, f"unexpected {(quoted or plain)!r}; is a comma missing?")
            else:
                state = _LABELLED
                self.labels[node], self.names[node] = _label(quoted, plain)
        if open_nodes:
            raise self._error(
                open_nodes[-1][1],
                f"{len(open_nodes)} brackets are never closed, the last of them this one;"
                " was the file cut short?",
            )

    def _new_node(self, parent: int) -> int:
        self.parents.append(parent)
        self.labels.append(None)
        self.names.append(None)
        self.lengths.append(math.nan)
        return len(self.parents) - 1

    def _length(self, token: re.Match[str]) -> float:
        try:
            length = float(token[0])
        except ValueError:
            length = math.nan
        if not math.isfinite(length):
            raise self._error(
                token, f"{token[0].strip()!r} is not a branch length; quote a label that has a ':'"
            )
        return length

    def _error(self, at: re.Match[str] | int, message: str) -> TaxonomyError:
        place = at if isinstance(at, int) else at.end() - len(at[0].lstrip())
        line = 1 + self.string.count("\n", 0, place)
        column = place - self.string.rfind("\n", 0, place)
        return self.text.error(f"column {column}: {message}", line=line)


def _label(quoted: str | None, plain: str | None) -> tuple[str, str]:
    """Label without quotes, and the name that it means."""
    if quoted is not None:
        label = quoted.replace("''", "'")
        return label, label
    assert plain is not None
    return plain.rstrip(), plain.rstrip().replace("_", " ")


def _without_comments(text: Text) -> str:
    """Replace comments by spaces, which keeps the positions of all other characters."""
    string = text.decode()
    if "[" not in string and "]" not in string:
        return string
    parts: list[str] = []
    opened: list[int] = []
    place = kept = 0
    while token := (_INSIDE if opened else _OUTSIDE).search(string, place):
        place = token.end()
        if token[0] == "[":
            opened.append(token.start())
        elif token[0] == "]" and not opened:
            line = 1 + string.count("\n", 0, place)
            raise text.error("']' without a '['", line=line)
        elif token[0] == "]":
            start = opened.pop()
            if not opened:
                parts += [string[kept:start], re.sub(r"[^\n]", " ", string[start:place])]
                kept = place
    if opened:
        line = 1 + string.count("\n", 0, opened[0])
        raise text.error("'[' opens a comment that is never closed", line=line)
    return "".join([*parts, string[kept:]])
