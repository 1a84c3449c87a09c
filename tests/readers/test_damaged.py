"""Damaged and hostile files: one error that names the file, and bounded memory."""

import bz2
import contextlib
import gzip
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dumps import NODES, pack

from poincare_taxa.readers import read, read_edges, read_ncbi, read_newick
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


def read_or_refuse(path):
    """Any other exception, or a message without the file, fails the test."""
    with contextlib.suppress(TaxonomyError):
        try:
            assert len(read(path)) >= 1
        except TaxonomyError as error:
            if path.name not in str(error):
                raise AssertionError(str(error)) from error
            raise


def parquet():
    buffer = io.BytesIO()
    pl.DataFrame({"id": [1, 2, 3], "parent": [None, 1, 1]}).write_parquet(buffer)
    return buffer.getvalue()


@QUIET
@given(st.data())
def test_read_edges__of_damaged_parquet(tmp_path, data):
    whole = bytearray(parquet())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    path = tmp_path / "x.parquet"
    path.write_bytes(cut)
    read_or_refuse(path)


def test_read_edges__a_file_name_may_have_brackets(tmp_path):
    path = tmp_path / "edges[1].parquet"
    path.write_bytes(parquet())
    assert len(read_edges(path)) == 3


def zip_of(method, data=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("nodes.dmp", NODES.encode() if data is None else data)
    return buffer.getvalue()


@QUIET
@given(
    st.sampled_from(["zip", "bzip2 zip", "lzma zip", "tar.gz", "tar.bz2", "tar.xz", "gz"]),
    st.data(),
)
def test_read__of_damaged_archives(tmp_path, kind, data):
    tar = pack(tmp_path / "whole.tar.gz", {"nodes.dmp": NODES.encode()})
    plain = gzip.decompress(tar.read_bytes())
    name, whole = {
        "zip": ("x.zip", zip_of(zipfile.ZIP_DEFLATED)),
        "bzip2 zip": ("x.zip", zip_of(zipfile.ZIP_BZIP2)),
        "lzma zip": ("x.zip", zip_of(zipfile.ZIP_LZMA)),
        "tar.gz": ("x.tar.gz", gzip.compress(plain, mtime=0)),
        "tar.bz2": ("x.tar.bz2", bz2.compress(plain)),
        "tar.xz": ("x.tar.xz", lzma.compress(plain)),
        "gz": ("x.tsv.gz", gzip.compress(b"child\tparent\na\tb\n", mtime=0)),
    }[kind]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / name
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    read_or_refuse(path)


def test_read_ncbi__of_an_encrypted_zip(tmp_path):
    data = bytearray(zip_of(zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02")
    data[6] |= 1  # the flag of the local header, and that of the directory
    data[directory + 8] |= 1
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(TaxonomyError, match="encrypted"):
        read_ncbi(path)


@pytest.mark.parametrize("when", [0, 2**40, 2**63 - 1])
def test_read_ncbi__dates_that_do_not_exist_are_none(tmp_path, when):
    info = tarfile.TarInfo("nodes.dmp")
    info.mtime = when
    tax = read_ncbi(pack(tmp_path / "x.tar.gz", {info: NODES.encode()}))
    assert "date" not in tax.source or tax.source["date"] > "1990"


def test_read_ncbi__a_zip_member_without_a_date(tmp_path):
    data = bytearray(zip_of(zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02")
    data[10:14] = data[directory + 12 : directory + 16] = bytes(4)  # day 0 of month 0
    (tmp_path / "x.zip").write_bytes(data)
    assert "date" not in read_ncbi(tmp_path / "x.zip").source


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_read_ncbi__zip_members_packed_by_other_methods(tmp_path, method):
    (tmp_path / "x.zip").write_bytes(zip_of(method))
    assert len(read_ncbi(tmp_path / "x.zip")) == 3


def test_read_ncbi__refuses_a_sparse_member(tmp_path):
    sparse = tarfile.TarInfo("nodes.dmp")
    sparse.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "nodes.dmp",
        "GNU.sparse.size": str(64 << 30), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,0",
    }  # fmt: skip
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(sparse)
    with pytest.raises(TaxonomyError, match="unpacks to 65,536 MiB"):
        read_ncbi(tmp_path / "x.tar")


def test_read_edges__verifies_the_checksum_of_gzip(tmp_path):
    data = bytearray(gzip.compress(b"child\tparent\na\tb\n", mtime=0))
    data[-8] ^= 1
    (tmp_path / "x.tsv.gz").write_bytes(data)
    with pytest.raises(TaxonomyError, match="CRC"):
        read_edges(tmp_path / "x.tsv.gz")


def test_read_ncbi__refuses_what_unpacks_to_too_much(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of(zipfile.ZIP_DEFLATED, b"\0" * (80 << 20)))
    with pytest.raises(TaxonomyError, match="unpacks to 80 MiB, and at most 64 MiB are read"):
        read_ncbi(path)
    sparse = tarfile.TarInfo("nodes.dmp")
    sparse.size = 64 << 30
    (tmp_path / "x.tar").write_bytes(sparse.tobuf())
    with pytest.raises(TaxonomyError, match="unpacks to 65,536 MiB"):
        read_ncbi(tmp_path / "x.tar")


def test_read_edges__refuses_gzip_that_unpacks_to_too_much(tmp_path):
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(gzip.compress(b"\n" * (80 << 20)))
    with pytest.raises(TaxonomyError, match="unpacks to more than 64 MiB"):
        read_edges(path)


@pytest.mark.parametrize("behind", [0, 3 << 20], ids=["at once", "far behind the last member"])
def test_read_ncbi__reads_the_checksum_at_the_end_of_a_stream(tmp_path, behind):
    path = pack(tmp_path / "x.tar.gz", {"nodes.dmp": NODES.encode()})
    data = bytearray(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(behind)))
    path.write_bytes(data)
    assert len(read_ncbi(path)) == 3
    data[-8] ^= 1  # the checksum of gzip
    path.write_bytes(data)
    with pytest.raises(TaxonomyError, match="CRC"):
        read_ncbi(path)


@pytest.mark.parametrize("length", ["NA", "nan", "inf", "1_0", "1e", "--1"])
def test_read_newick__a_word_is_no_length(tmp_path, length):
    path = tmp_path / "x.nwk"
    path.write_text(f"(a:{length},b:1)r;")
    with pytest.raises(TaxonomyError, match=r"x\.nwk:1: column 4: .* is not a branch length"):
        read_newick(path)


@pytest.mark.parametrize("first", [b"sep=\x89\n", b"sep=\xc3\xa9\n", b"\xff\n", b"a\xff\tb\n"])
def test_read__of_bytes_that_are_no_text(tmp_path, first):
    path = tmp_path / "x.txt"
    path.write_bytes(first + b"c\td\ne\td\n")
    read_or_refuse(path)


N = 300_000
LONG = {
    "blanks at the end": "(a,b)" + " " * N,
    "blanks in a tree": "(a," + " " * N + "b)",
    "digits": f"(a:{'1' * N}x,b);",
    "brackets": "(" * N,
    "nested": "(" * N + "a" + ")" * N + ";",
    "comments": "(a" + "[" * N + "]" * N + ",b);",
    "quotes": "('a" + "''" * N + "',b);",
    "quotes that open": "(" + "'\"" * N,
    "commas": "(" + "," * N + ");",
    "semicolons": ";" * N,
    "trees": "#NEXUS\n" + "TREE a = " * N,
    "tree and blanks": "#NEXUS\nTREE" + " " * N + "a = (a,b);",
    "translate": "#NEXUS\n" + "TRANSLATE " * N + "'\nTREE a = (a,b);",
    "translated": f"#NEXUS\nTRANSLATE {'a' * N} b;\nTREE a = (a,b);",
    "translated blanks": f"#NEXUS\nTRANSLATE a{' ' * N};\nTREE a = (a,b);",
    "translated commas": f"#NEXUS\nTRANSLATE {'a,' * N};\nTREE a = (a,b);",
    "taxlabels": "#NEXUS\n" + "TAXLABELS " * N + "'\nTREE a = (a,b);",
    "mesquite": f"#NEXUS\nTREE a = (a{'<' * N}{'=' * N},b);",
    "mesquite and blanks": f"#NEXUS\nTREE a = (a{' ' * N}<,b);",
    "hashes": "(a,b);" + ";#" * N + "\nx",
    "blanks and hashes": "(a,b);" + (" " * 1000 + "#") * (N // 1000),
    "columns": "\t" * N + "\n" + "\t" * N + "\n",
    "headings": "\t".join(f"c{i}" for i in range(N // 10)) + "\n" + "\t" * (N // 10 - 1) + "\n",
    "one lineage": "a;" * N,
    "a deep lineage": "a;b\n" * (N // 100) + "a;" * (N // 100) + "\n",
    "separators": "a;b\n" * N + "," * N,
    "spaces": "a b\n" + " " * N + "c a\n",
    "comment lines": "#\n" * N + "a\tb\n",
    "blank lines": " \n" * N + "a\tb\n",
    "quoted fields": '"a","b"\n' + '""' * N,
    "an open field": '"a,b\n' * N,
}


@pytest.mark.parametrize("case", LONG)
def test_read__takes_linear_time_for_texts_that_were_made_to_take_more(tmp_path, case):
    text = LONG[case]
    path = tmp_path / ("x.nwk" if text[0] in "(;#" and not case.endswith("lines") else "x.txt")
    path.write_text(text)
    read_or_refuse(path)  # for hours if the time were quadratic


@pytest.mark.parametrize("kind", ["quoted", "plain", "bracket", "comment"])
def test_read_newick__memory_is_bounded_by_the_size_of_the_file(tmp_path, kind):
    size = 20_000_000
    long = {"quoted": f"'{'a b' * (size // 3)}'", "plain": "a" * size}.get(kind, "a")
    text = f"({long},b)r[{'x' * size if kind == 'comment' else ''}];"
    path = tmp_path / "x.nwk"
    path.write_text(text)
    code = f"""
import resource, sys
from poincare_taxa.readers import read_newick
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(read_newick(sys.argv[1])) == 3
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / {size})
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 16  # bytes for each byte of the file; a label cost 170
