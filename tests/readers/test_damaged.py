"""Damaged and hostile files: one error that names the file, and bounded memory."""

import bz2
import contextlib
import gzip
import io
import lzma
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


def test_read_ncbi__reads_the_checksum_at_the_end_of_a_stream(tmp_path):
    data = bytearray(pack(tmp_path / "x.tar.gz", {"nodes.dmp": NODES.encode()}).read_bytes())
    data[-8] ^= 1  # the checksum of gzip
    (tmp_path / "x.tar.gz").write_bytes(data)
    with pytest.raises(TaxonomyError, match="CRC"):
        read_ncbi(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("length", ["NA", "nan", "inf", "1_0", "1e", "--1"])
def test_read_newick__a_word_is_no_length(tmp_path, length):
    path = tmp_path / "x.nwk"
    path.write_text(f"(a:{length},b:1)r;")
    with pytest.raises(TaxonomyError, match=r"x\.nwk:1: column 4: .* is not a branch length"):
        read_newick(path)
