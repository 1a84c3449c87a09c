"""Compressed files: how much of one is read; errors of polars, which become one."""

import polars as pl
import pytest

from poincare_taxa.files import parquet
from poincare_taxa.files.parquet import faults_of_polars, read_parquet, unpacked_limit


def test_unpacked_limit__is_100_times_the_size_and_64_mib_of_small_files(tmp_path):
    file = tmp_path / "file"
    for size, limit in ((0, 2**26), (2**26 // 100, 2**26), (10**7, 10**9)):
        with file.open("wb") as stream:
            stream.truncate(size)
        assert unpacked_limit(file) == limit


def test_read_parquet__reads_small_files_that_unpack_to_more_than_100_times_their_size(tmp_path):
    path, table = tmp_path / "equal.parquet", pl.DataFrame({"id": [7] * 10**6})
    table.write_parquet(path)
    assert 8 * len(table) > 100 * path.stat().st_size
    assert read_parquet(path).equals(table)


def test_read_parquet__leaves_out_lists_and_structs(tmp_path):
    plain = pl.DataFrame({"id": [1, 2], "name": ["a", None], "day": [None, None]})
    nested = pl.DataFrame({"list": [[1], [2, 3]], "struct": [{"x": 1}, {"x": 2}]})
    array = pl.DataFrame({"array": [[1.0, 2.0], [3.0, 4.0]]}, schema={"array": pl.Array(float, 2)})
    pl.concat([nested, plain, array], how="horizontal").write_parquet(tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet").equals(plain)
    with_array = pl.concat([plain, array], how="horizontal")
    assert read_parquet(tmp_path / "a.parquet", arrays=True).equals(with_array)


@pytest.mark.parametrize(
    ("table", "size"),
    [
        (pl.DataFrame({"id": range(100)}), 800),
        (pl.DataFrame({"name": ["a name of 18 bytes"] * 100}), 1800),
    ],
    ids=["numbers", "texts"],
)
def test_read_parquet__reads_what_unpacks_to_just_the_limit(tmp_path, monkeypatch, table, size):
    table.write_parquet(tmp_path / "a.parquet")
    limits = iter([size, size - 1])
    monkeypatch.setattr(parquet, "unpacked_limit", lambda path: next(limits))
    assert read_parquet(tmp_path / "a.parquet").equals(table)
    with pytest.raises(ValueError, match="unpacks to more than"):
        read_parquet(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "fault", [pl.exceptions.ComputeError("why\nmore"), pl.exceptions.PanicException("why")]
)
def test_faults_of_polars__are_value_errors_with_the_message_in_front(fault):
    with (
        pytest.raises(ValueError, match=r"^a file: damaged \(.*\)$"),
        faults_of_polars("a file: damaged"),
    ):
        raise fault


@pytest.mark.parametrize("other", [KeyboardInterrupt(), FileNotFoundError("gone"), KeyError("a")])
def test_faults_of_polars__leave_other_errors_as_they_are(other):
    with pytest.raises(type(other)) as error, faults_of_polars("a file: damaged"):
        raise other
    assert error.value is other
