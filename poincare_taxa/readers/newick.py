"""Newick trees: ``(cat:1.5,'wild dog':2)mammal;``, and the trees of NEXUS files.

Grammar: Olsen's interpretation of the Newick format (1990). Labels in single or double quotes are
used as written, with a doubled quote for one; in other labels an underscore means a space. Comments
in brackets, which may be nested, are ignored, and with them annotations in NHX. Of a NEXUS file
[Maddison et al. 1997] the trees are read, with the labels that TRANSLATE gives.
"""

import math
import re
from pathlib import Path

import numpy as np
import polars as pl

from poincare_taxa.files.progress import open_display
from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_newick"]

_QUOTED = r"'[^']*+(?:''[^']*+)*+'|\"[^\"]*+(?:\"\"[^\"]*+)*+\""
_TOKEN = re.compile(rf"\s*(?:([(),:;])|({_QUOTED})|([^\s(),:;'\"][^(),:;]*)|(\S))")
# A quote hides brackets where it begins a label, but not inside a label or a comment.
_OUTSIDE = re.compile(rf"(?<![^\s(),\]])(?:{_QUOTED})|[\[\]]")
_INSIDE = re.compile(r"[\[\]]")
# Nothing here goes back over what it has matched: the time is linear in the length of any text.
# Comments: lines of "#" and a space, and "#" above all trees; else "#" begins a label.
_HASH_LINE = re.compile(r"(?m)^[ \t]*+#(?:[ \t][^\n]*+)?$|\A\s*+#(?!(?i:NEXUS))[^\n]*+")
# Mesquite writes "<name = value>" behind nodes, where others use comments.
_MESQUITE = re.compile(r"(?<=[\w)'\"])\s*+<[^<>;=\n]*+=[^<>;\n]*+>")
_LENGTH = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_NEXUS_TREE = re.compile(rf"(?i)\bU?TREE\s++\*?\s*+({_QUOTED}|[^\s=]++)\s*+=\s*+")
_BLOCK = re.compile(r"(?i)\bBEGIN\s++TREES\s*+;")
_TAXLABELS = re.compile(r"(?i)\bTAXLABELS\b")
_TRANSLATE = re.compile(r"(?i)\bTRANSLATE\b")
_TO_SEMICOLON = re.compile(rf"(?:{_QUOTED}|[^;'\"]++)*+(?=;)")
_TRANSLATION = re.compile(rf"(?<![^\s,])([^\s,]++)\s++({_QUOTED}|[^\s,]++)")
_BLANKS = re.compile(r"\s++")
_BEHIND = re.compile(r";[^\S\n]*+#")
# State of the current node: no token yet, children, a label, a branch length.
_NEW, _CLOSED, _LABELLED, _MEASURED = range(4)


def read_newick(path: str | Path, *, tree: int | str | None = None) -> Taxonomy:
    """Read one tree in Newick format or of a NEXUS file, gzipped or not, of any depth.

    Parameters
    ----------
    path
        The file.
    tree
        Which of several trees: its position (from 0), or its name in a NEXUS file.

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
        are several trees and `tree` is None; the message names file, line and column.
    ValueError
        If `tree` is none of the trees.
    """
    text = Text.load(path)
    string = _without_comments(text)
    is_nexus = text.is_nexus
    string = _MESQUITE.sub(_blanks, string) if is_nexus else string
    trees = _nexus_trees(text, string) if is_nexus else _newick_trees(string)
    start, stop = _chosen(text, string, trees, tree)
    parser = _Parser(text, string[:stop], start)
    parser.parse()
    if is_nexus:
        parser.translate(_translation(string, start))
    lengths = np.array(parser.lengths)
    labels = pl.Series("id", parser.labels, dtype=pl.String)
    return Taxonomy.from_parents(
        parser.parents,
        ids=_ids(labels),
        names=pl.Series(parser.names, dtype=pl.String),
        branch_lengths=None if np.isnan(lengths).all() else lengths,
        source=provenance(path, "NEXUS" if is_nexus else "Newick"),
    )


_Place = tuple[str, int, int]  # Name of a tree, and where its text begins and ends.


def _newick_trees(string: str) -> list[_Place]:
    """Return the trees of a Newick file, each of which ends with a semicolon."""
    if string.count(";") <= 1 and string.rstrip().endswith(";"):
        return [("0", 0, len(string))]
    ends = [token.end() for token in _TOKEN.finditer(string) if token[1] == ";"]
    if not ends or string[ends[-1] :].strip():
        ends.append(len(string))
    starts = [0, *(_blanks_end(string, end) for end in ends[:-1])]
    return [(str(i), start, end) for i, (start, end) in enumerate(zip(starts, ends, strict=True))]


def _blanks_end(string: str, place: int) -> int:
    found = _BLANKS.match(string, place)
    return place if found is None else found.end()


def _nexus_trees(text: Text, string: str) -> list[_Place]:
    """Return the trees of a NEXUS file: ``TREE name = (…);``."""
    trees: list[_Place] = []
    block = _BLOCK.search(string)
    for head in _NEXUS_TREE.finditer(string, 0 if block is None else block.end()):
        if trees and head.start() < trees[-1][2]:
            continue  # a label inside of a tree
        tokens = _TOKEN.finditer(string, head.end())
        end = next((token.end() for token in tokens if token[1] == ";"), len(string))
        trees.append((_label(head[1])[0], head.end(), end))
    if not trees:
        raise text.error("this NEXUS file holds no trees (BEGIN TREES; TREE name = (…);)")
    return trees


def _chosen(
    text: Text, string: str, trees: list[_Place], tree: int | str | None
) -> tuple[int, int]:
    """Return where the text of the chosen tree begins and ends."""
    names = [name for name, _, _ in trees]
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    if tree is None and len(trees) > 1:
        raise text.error(
            f"{len(trees)} trees ({shown}), of which a taxonomy is one; choose one with "
            "read_newick(path, tree=0)",
            line=1 + string.count("\n", 0, trees[1][1]),
        )
    place = names.index(tree) if isinstance(tree, str) and tree in names else tree or 0
    if isinstance(place, str) or not 0 <= place < len(trees):
        raise ValueError(f"tree={tree!r} is none of the {len(trees)} trees of {text.name}: {shown}")
    return trees[place][1:]


def _translation(string: str, start: int) -> dict[str, str]:
    """Return the labels that a NEXUS file gives the tokens of the tree that starts there.

    They are those of TRANSLATE in the block of the tree; without it the numbers of taxa are their
    places in TAXLABELS.
    """
    block = max((found.end() for found in _BLOCK.finditer(string, 0, start)), default=0)
    if found := _command(_TRANSLATE, string, block, start):
        return dict(_TRANSLATION.findall(found))
    if found := _command(_TAXLABELS, string, 0, start):
        labels = [label[0] for label in re.finditer(rf"{_QUOTED}|\S+", found)]
        numbered = {str(i): label for i, label in enumerate(labels, 1)}
        return {number: label for number, label in numbered.items() if number not in labels}
    return {}


def _command(word: re.Pattern[str], string: str, start: int, stop: int) -> str | None:
    """Return what stands between the first occurrence of a word and its semicolon."""
    head = word.search(string, start, stop)
    found = head and _TO_SEMICOLON.match(string, head.end(), stop)
    return found[0] if found else None


def _ids(labels: pl.Series) -> pl.Series:
    """Make ids of unique labels, and ``node<row>`` for the other nodes."""
    prefix = "node"
    while labels.str.starts_with(prefix).any():
        prefix += "_"
    numbered = pl.select(pl.lit(prefix) + pl.int_range(len(labels)).cast(pl.String)).to_series()
    good = labels.is_unique() & labels.is_not_null() & (labels != "").fill_null(False)
    return labels.zip_with(good, numbered)


_REPORTED = 1 << 16
"""Tokens between two reports of progress."""


class _Parser:
    """Parser of one tree; nodes are in the order of their first character, which is preorder."""

    def __init__(self, text: Text, string: str, start: int) -> None:
        self.text = text
        self.string = string
        self.start = start
        self.parents: list[int] = []
        self.labels: list[str | None] = []
        self.names: list[str | None] = []
        self.lengths: list[float] = []

    def parse(self) -> None:
        """Fill parents, labels, names and lengths; no recursion, so that any depth is possible."""
        open_nodes: list[tuple[int, int]] = []  # Nodes with an open bracket, and its position.
        node, state = self._new_node(-1), _NEW
        tokens = _TOKEN.finditer(self.string, self.start)
        show = open_display()
        for count, token in enumerate(tokens):
            if count % _REPORTED == 0:
                show(f"{self.text.name} · tree", token.start(), len(self.string))
            mark, quoted, plain, bad = token.groups()
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
                break
            elif bad is not None:
                raise self._error(token, f"{bad!r} opens a quote that is never closed")
            elif state in (_LABELLED, _MEASURED):
                raise self._error(token, f"unexpected {(quoted or plain)!r}; is a comma missing?")
            else:
                state = _LABELLED
                self.labels[node], self.names[node] = _label(quoted or plain)
        if open_nodes:
            raise self._error(
                open_nodes[-1][1],
                f"{len(open_nodes)} brackets are never closed, the last of them this one;"
                " was the file cut short?",
            )

    def translate(self, labels: dict[str, str]) -> None:
        """Replace labels by those that a NEXUS file gives them."""
        for node, label in enumerate(self.labels):
            if label in labels:
                self.labels[node], self.names[node] = _label(labels[label])

    def _new_node(self, parent: int) -> int:
        self.parents.append(parent)
        self.labels.append(None)
        self.names.append(None)
        self.lengths.append(math.nan)
        return len(self.parents) - 1

    def _length(self, token: re.Match[str]) -> float:
        # Python would read 1_000 and infinity too.
        found = token[0].strip()
        length = float(found) if _LENGTH.fullmatch(found) else math.nan
        if not math.isfinite(length):
            raise self._error(
                token, f"{found!r} is not a branch length; quote a label that has a ':'"
            )
        return length

    def _error(self, at: re.Match[str] | int, message: str) -> TaxonomyError:
        place = at if isinstance(at, int) else at.end() - len(at[0].lstrip())
        line = 1 + self.string.count("\n", 0, place)
        column = place - self.string.rfind("\n", 0, place)
        return self.text.error(f"column {column}: {message}", line=line)


def _label(written: str) -> tuple[str, str]:
    """Label without its quotes, and the name that it stands for."""
    if written[0] in "'\"":
        label = written[1:-1].replace(2 * written[0], written[0])
        return label, label
    return written.rstrip(), written.rstrip().replace("_", " ")


def _blanks(found: str | re.Match[str]) -> str:
    """Spaces in place of all characters but line ends."""
    return re.sub(r"[^\n]", " ", found if isinstance(found, str) else found[0])


def _without_last_line(string: str) -> str:
    """Replace a comment on the last line, behind all trees, by spaces."""
    last = string.rfind("\n") + 1
    if string[last:].lstrip().startswith("#") and string[:last].rstrip().endswith(";"):
        return string[:last].rstrip()
    found = _BEHIND.search(string, last)
    return string if found is None else string[: found.start() + 1]


def _without_comments(text: Text) -> str:
    """Replace comments by spaces, which keeps the positions of all other characters.

    Blanks at the end are removed.
    """
    string = _without_last_line(_HASH_LINE.sub(_blanks, text.decode()).rstrip())
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
                parts += [string[kept:start], _blanks(string[start:place])]
                kept = place
    if opened:
        line = 1 + string.count("\n", 0, opened[0])
        raise text.error("'[' opens a comment that is never closed", line=line)
    return "".join([*parts, string[kept:]]).rstrip()
