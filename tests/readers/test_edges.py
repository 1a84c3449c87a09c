"""Edge lists and parent arrays: every dialect, and what is said of broken ones."""

import gzip

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa.readers import read_edges, read_parents
from poincare_taxa.readers.edges import _is_plain
from poincare_taxa.readers.headings import kinds_of
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

CATS = [("felids", None), ("felis", "felids"), ("cat", "felis"), ("lynx", "felids")]


def write(tmp_path, content, name="edges.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(tax):
    return tax.to_frame()["id", "parent"].rows()


@pytest.mark.parametrize("separator", ["\t", ",", ";", " ", "|"])
@pytest.mark.parametrize("header", ["", "id parent_id\n", "TaxonID parentNameUsageID\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_read_edges__any_separator_header_and_packing(tmp_path, separator, header, packed):
    text = header + "".join(f"{c} {p or ''}\n" for c, p in CATS[1:])
    data = text.replace(" ", separator).encode()
    tax = read_edges(write(tmp_path, gzip.compress(data) if packed else data))
    assert pairs(tax) == [*CATS[:1], *CATS[1:]]
    assert tax.source["format"] == "edge list"


@pytest.mark.parametrize("space", [" ", "\u00a0"])
@pytest.mark.parametrize(
    "text",
    ["_b,a\nc,b", "b,a\nc,b_", "b,a\n_c,b", "b,a_\nc,b", "b_,a\nc,_b", '"_b_","a"\n"c","b"'],
)
def test_read_edges__a_space_at_an_end_of_a_field_is_no_part_of_it(tmp_path, text, space):
    tax = read_edges(write(tmp_path, text.replace("_", space)))
    assert pairs(tax) == [("a", None), ("b", "a"), ("c", "b")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(taxonomies(min_size=2))
def test_read_edges__restores_what_was_written(tmp_path, tax):
    frame = tax.to_frame()
    for ending, write_table in [
        (".tsv", lambda path: frame.write_csv(path, separator="\t")),
        (".csv", lambda path: frame.write_csv(path)),
        (".parquet", lambda path: frame.write_parquet(path)),
    ]:
        path = tmp_path / f"edges{ending}"
        write_table(path)
        again = read_edges(path)
        assert again.to_frame().rows() == frame.rows()
        assert again.ids.dtype == tax.ids.dtype


def test_read_edges__takes_names_ranks_and_lengths_by_their_headings(tmp_path):
    text = "name,rank,parent_taxid,taxid,branch_length\nB,genus,1,2,0.5\nA,,,1,\n"
    tax = read_edges(write(tmp_path, text))
    assert tax.to_frame().rows() == [(1, None, "A", "no rank"), (2, 1, "B", "genus")]
    assert tax.branch_lengths[1] == 0.5


def test_read_edges__columns_can_be_chosen(tmp_path):
    text = "above\tbelow\twhat\n1\t2\tx\n1\t3\ty\n"
    path = write(tmp_path, text)
    expected = [(1, None), (2, 1), (3, 1)]
    assert pairs(read_edges(path, child="below", parent="above")) == expected
    assert pairs(read_edges(path, child=1, parent=0)) == expected
    bare = write(tmp_path, "1\t2\n1\t3\n", "bare.tsv")
    assert pairs(read_edges(bare, child=1, parent=0)) == expected
    with pytest.raises(ValueError, match=r"child='belw' is no column; .*'above', 'below', 'what'"):
        read_edges(path, child="belw", parent="above")
    with pytest.raises(ValueError, match="parent=3 is no column"):
        read_edges(path, parent=3)
    with pytest.raises(ValueError, match="child and parent are both column"):
        read_edges(path, child=0, parent=0)


def test_read_edges__a_first_heading_that_is_empty_stands_above_row_names_or_ids(tmp_path):
    expected = [("a", None), ("b", "a"), ("c", "a")]
    of_three = write(tmp_path, ",child,parent\n1,b,a\n2,c,a\n", "three.csv")
    assert pairs(read_edges(of_three)) == expected
    of_two = write(tmp_path, ",parent\nb,a\nc,a\n", "two.csv")
    assert pairs(read_edges(of_two, parent="parent")) == expected
    numbers = write(tmp_path, ",parent\n2,1\n3,1\n", "numbers.csv")
    assert pairs(read_edges(numbers)) == [(1, None), (2, 1), (3, 1)]


def test_read_edges__open_tree_form(tmp_path):
    text = "uid\t|\tparent_uid\t|\tname\t|\trank\t|\tflags\t|\t\n"
    text += '7\t|\t\t|\tLife\t|\tno rank\t|\t\t|\t\n8\t|\t7\t|\tCats, "big"\t|\tfamily\t|\tx\t|\t\n'
    tax = read_edges(write(tmp_path, text))
    assert tax.to_frame().rows() == [
        (7, None, "Life", "no rank"),
        (8, 7, 'Cats, "big"', "family"),
    ]
    bare = write(tmp_path, "2\t|\t1\t|\n3\t|\t1\t|\n")
    assert pairs(read_edges(bare)) == [(1, None), (2, 1), (3, 1)]
    below = write(tmp_path, "# id\t|\tparent\t|\n1\t|\t\t|\n2\t|\t1\t|\n")
    assert pairs(read_edges(below, child="id", parent="parent")) == [(1, None), (2, 1)]


@pytest.mark.parametrize(
    ("separator", "end"), [("\t|\t", "\t|\t\t|\n"), ("\t", "\t\n"), (",", ",\n")]
)
def test_read_edges__a_last_column_that_holds_nothing_is_left_out(tmp_path, separator, end):
    text = f"# parent_id{separator}id\na{separator}b{end}a{separator}c{end}"
    assert pairs(read_edges(write(tmp_path, text))) == [("a", None), ("b", "a"), ("c", "a")]
    with pytest.raises(TaxonomyError, match="one column"):
        read_edges(write(tmp_path, f"a{end}b{end}"))
    if len(separator) == 1:  # the heading without it
        text = f"child{separator}parent\n2{separator}1{end}3{separator}1{end}"
        assert pairs(read_edges(write(tmp_path, text))) == [(1, None), (2, 1), (3, 1)]
    with pytest.raises(TaxonomyError, match="one column"):
        read_edges(write(tmp_path, '""\n""\n'))


def test_read_edges__skips_comments_and_blank_lines_and_still_counts_them(tmp_path):
    text = "# made by hand\n\nb\ta\n# more\nc\ta\n"
    assert pairs(read_edges(write(tmp_path, text))) == [("a", None), ("b", "a"), ("c", "a")]
    with pytest.raises(TaxonomyError, match=r"edges\.tsv:7: .*'b' below 'a' and 'z'"):
        read_edges(write(tmp_path, text + "\nb\tz\n"))
    for text in ("# one\nb\ta\nc\ta", "b\ta\n\nc\ta", "b\ta\nc\ta\n#"):  # no line end at the end
        assert pairs(read_edges(write(tmp_path, text))) == [("a", None), ("b", "a"), ("c", "a")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_read_edges__byte_order_mark_and_windows_lines(tmp_path, ending):
    text = ending.join(["id\tparent", "1\t", "2\t1", "3\t1", ""])
    tax = read_edges(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert pairs(tax) == [(1, None), (2, 1), (3, 1)]


def test_read_edges__quoted_csv(tmp_path):
    text = 'id,parent_id,name\n1,,"Life, all of it"\n2,1,"a ""cat"""\n'
    assert read_edges(write(tmp_path, text)).names.to_list() == ["Life, all of it", 'a "cat"']
    text = "id,parent_id,name\n1,,dogs' kin\n2,1,Azara's dog\n"
    assert read_edges(write(tmp_path, text)).names.to_list() == ["dogs' kin", "Azara's dog"]


def test_read_edges__quotes_join_what_spaces_separate_and_belong_to_names_between_tabs(tmp_path):
    tax = read_edges(write(tmp_path, '"big cat" pet\n"small cat" pet\n'))
    assert pairs(tax) == [("pet", None), ("big cat", "pet"), ("small cat", "pet")]
    tax = read_edges(write(tmp_path, '"big" cat\tpet\n"small" cat\tpet\n'))
    assert pairs(tax) == [("pet", None), ('"big" cat', "pet"), ('"small" cat', "pet")]


def test_read_edges__a_table_has_at_most_ten_thousand_columns(tmp_path):
    def table(width):
        rows = ["child", "parent", *["x"] * (width - 2)], ["a", "b", *[""] * (width - 2)]
        return write(tmp_path, "".join("\t".join(row) + "\n" for row in rows))

    assert pairs(read_edges(table(10_000))) == [("b", None), ("a", "b")]
    with pytest.raises(TaxonomyError, match=r"10,001 fields .* a table has at most 10,000"):
        read_edges(table(10_001))


def test_read_edges__numbers_are_ids_only_if_all_are(tmp_path):
    assert read_edges(write(tmp_path, "2\t1\n3\t1\n")).ids.dtype == pl.Int64
    mixed = read_edges(write(tmp_path, "2\t1\nx\t1\n"))
    assert mixed.ids.to_list() == ["1", "2", "x"]
    zeros = read_edges(write(tmp_path, "007\t1\n7\t1\n"))
    assert zeros.ids.to_list() == ["1", "007", "7"]


def test_read_edges__of_another_accepted_taxon_a_row_is_a_synonym(tmp_path):
    path = tmp_path / "checklist.csv"
    heading = "taxonID,parentNameUsageID,acceptedNameUsageID,scientificName\n"
    # Taxon 0 is in the file, so that it may be the accepted one; taxon 9 is not.
    path.write_text(heading + "0,,0,Animalia\n1,0,1,Chordata\n2,0,0,Old\n3,0,9,Lost\n")
    with pytest.warns(UserWarning, match="1 of 2 synonyms are left out"):
        tax = read_edges(path)
    assert tax.ids.to_list() == [0, 1]
    assert tax.synonyms["name"].to_list() == ["Old"]


def test_read_edges__dag_by_first_parent_and_several_trees_by_root(tmp_path):
    dag = write(
        tmp_path, "id\tparent_id\tpointer\ncat\tpet\t@\ncat\tfelid\t@\npet\tall\t@\nfelid\tall\t@\n"
    )
    with pytest.raises(
        TaxonomyError, match=r"edges\.tsv:3: 1 nodes .*'cat' below 'pet' and 'felid'"
    ):
        read_edges(dag)
    assert pairs(read_edges(dag, multi_parent="first")) == [
        *[("all", None), ("pet", "all"), ("cat", "pet"), ("felid", "all")]
    ]
    forest = write(tmp_path, "b\ta\nd\tc\n")
    with pytest.raises(TaxonomyError, match=r"edges\.tsv:2: 2 trees, with the roots a, c; .*root="):
        read_edges(forest)
    assert len(read_edges(forest, root="life")) == 5
    assert len(read_edges(forest, root="c")) == 2


def test_read_edges__undirected(tmp_path):
    path = write(tmp_path, "0 1\n0 2\n1 3\n", "tree.edges")
    assert pairs(read_edges(path, root=0, undirected=True)) == [(0, None), (1, 0), (3, 1), (2, 0)]
    with pytest.raises(TaxonomyError, match="undirected=True"):
        read_edges(path)


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("a\tr\tx\nb\tr\ty\nc\tr\n", 3, "2 fields .* where most lines have 3; was the line cut"),
        (
            "a\tr\nb\tr\nc\tr\td\n",
            3,
            "3 fields .* most lines have 2; is there a separator in a name",
        ),
        ("id\tparent\nr\t\na\tb\nb\ta\n", 3, "cycle of 2: a → b → a"),
        ("id\tparent\nr\t\na\tr\nb\t\n", 4, "2 trees, with the roots r, b"),
        ("id\tparent\nr\t\na\tr\nb\tq\n", 4, "2 trees, with the roots r, q; .*Are parents missing"),
        ("id\tparent\nr\t\na\tr\nb\tb\n", 4, "b is its own parent, but the root is r"),
        ("id\tparent\nr\t\na\tr\nb\tr\na\tr\n", 5, "'a' is listed twice"),
        ("id\tparent\nr\t\n\tr\n", 3, "None is not an id"),
        ("", None, "the file is empty"),
        ("\n \n", None, "the file is empty"),
        ("# nothing\n", None, "nothing but comments"),
        ("id\tparent\n", None, "a header, and nothing below it"),
        ("a:b\nb:c\n", 1, "one column, 'a:b', where at least 2 are needed"),
        (b"id\tparent\nr\t\ncaf\xe9\tr\n", 3, "byte 0xe9 is not UTF-8; is the file in Latin-1"),
        (b"\xff\xfea\x00", None, "UTF-16"),
        (b"PK\x03\x04xx", None, "a zip archive"),
        (b'{"id": 1}', None, "JSON"),
        (b"\x1f\x8b\x08\x00broken", None, "broken gzip"),
        (gzip.compress(b"a\tb\n" * 999, mtime=0)[:-9], None, "broken gzip .*cut short"),
        ("((a,b),c);", None, "looks like a Newick tree; read_newick"),
        ('a,"b\nc,d\n', None, "not a table with ','"),
    ],
)
def test_read_edges__names_file_line_and_cause(tmp_path, content, line, why):
    path = write(tmp_path, content)
    place = r"edges\.tsv" + ("" if line is None else f":{line}")
    with pytest.raises(TaxonomyError, match=rf"{place}: .*{why}"):
        read_edges(path)


def test_read_edges__names_a_parquet_file_too(tmp_path):
    path = tmp_path / "x.parquet"
    pl.DataFrame({"id": [1, 2, 3], "parent": [None, 3, 2]}).write_parquet(path)
    with pytest.raises(TaxonomyError, match=r"x\.parquet: the parents run in a cycle of 2"):
        read_edges(path)


def test_read_parents__ids_are_line_numbers(tmp_path):
    tax = read_parents(write(tmp_path, gzip.compress(b"2\n2\n-1\n0\n"), "parents.txt.gz"))
    assert pairs(tax) == [(2, None), (0, 2), (3, 0), (1, 2)]


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("-1\n0\nx\n", 3, "expected the number of a node"),
        ("-1\n0\n9\n", 3, "parent 9 of 2 is no node; nodes run from 0 to 2"),
        ("-1\n2\n1\n", 2, "cycle of 2"),
        ("-1\n-1\n", 2, "2 trees"),
        ("", None, "empty"),
    ],
)
def test_read_parents__names_file_line_and_cause(tmp_path, content, line, why):
    place = r"parents\.txt" + ("" if line is None else f":{line}")
    with pytest.raises(TaxonomyError, match=rf"{place}: .*{why}"):
        read_parents(write(tmp_path, content, "parents.txt"))


ENDINGS = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
NOISE = ["", "# a comment", "  ", "\t", "   # indented", "#"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    taxonomies(min_size=2),
    st.sampled_from(sorted(ENDINGS)),
    st.sampled_from(["\t", ",", ";"]),
    st.booleans(),
    st.data(),
)
def test_readers__comments_and_blank_lines_change_nothing(
    tmp_path, tax, ending, separator, headed, data
):
    frame = tax.to_frame()
    lines = [separator.join("" if v is None else str(v) for v in row) for row in frame.rows()]
    lines = lines[1:] if not headed else [separator.join(frame.columns), *lines]
    clean = write(tmp_path, "\n".join(lines) + "\n")
    noisy = []
    for line in [*lines, None]:
        noisy += data.draw(st.lists(st.sampled_from(NOISE), max_size=2))
        # A comment directly above the rows would be their heading if it had their fields.
        noisy += [] if line is None else [line]
    end = ENDINGS[ending]
    text = end.join(noisy) + data.draw(st.sampled_from(["", end]))
    path = write(tmp_path, text.encode(), "noisy.tsv")
    assert read_edges(path).to_frame().rows() == read_edges(clean).to_frame().rows()


def test_kinds_of__takes_the_heading_behind_parent_for_ids_where_there_are_no_others():
    for headings, kinds in (
        (["tid", "parent_tid"], ["child", "parent"]),
        (["tid", "parent_tid", "id"], [None, "parent", "child"]),
        (["rank", "parent_rank"], ["taxon_rank", "parent"]),
        (["tid", "accepted_tid"], [None, "accepted"]),
    ):
        assert kinds_of(headings) == kinds


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_read_parents__comments_and_blank_lines_change_nothing(tmp_path, ending):
    text = ending.join(["# top", "", "2", "2", " ", "-1", "0", "# end", ""])
    tax = read_parents(write(tmp_path, text.encode(), "parents.txt"))
    assert pairs(tax) == [(2, None), (0, 2), (3, 0), (1, 2)]


@pytest.mark.parametrize(
    ("texts", "plain"),
    [
        (["1", "23", "-4", None, "0"], True),
        (["9", "10", "999", "1000"], True),
        (["01", "2"], False),
        (["+1", "2"], False),
        (["-0"], False),
        (["x", "1"], False),
        ([], True),
    ],
)
def test_is_plain__knows_numbers_by_the_length_of_their_text(texts, plain):
    column = pl.Series("id", texts, dtype=pl.String)
    assert _is_plain(column.cast(pl.Int64, strict=False), column) == plain


def test_read_edges__parents_by_names_that_are_numbers(tmp_path):
    text = "child\tparent\tname\n1\t\t10\n2\t10\t20\n3\t20\t30\n"
    assert pairs(read_edges(write(tmp_path, text))) == [(1, None), (2, 1), (3, 2)]
