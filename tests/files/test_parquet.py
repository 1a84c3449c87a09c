"""What goes wrong in polars becomes one error that names the file; nothing else does."""

import polars as pl
import pytest

from poincare_taxa.files.parquet import faults_of_polars


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
