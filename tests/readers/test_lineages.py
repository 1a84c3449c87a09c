"""Lineage tables: GTDB strings, plain strings and rank columns."""

import gzip

import pytest

from poincare_taxa.readers import read_lineages
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

GTDB = """\
RS_1\td__Bacteria;p__Bacillota;c__Bacilli;o__Lactos;f__A;g__Lactobacillus;s__Lactobacillus a
RS_2\td__Bacteria;p__Bacillota;c__Bacilli;o__Lactos;f__A;g__Lactobacillus;s__
RS_3\td__Archaea;p__Bacillota;c__;o__;f__;g__Sulfolobus;s__Sulfolobus b
RS_4\td__Bacteria;p__Bacillota;c__Bacilli;o__Lactos;f__A;g__Lactobacillus;s__Lactobacillus a
"""


def write(tmp_path, content, name="lineages.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def brute_force(rows, missing=("", "NA")):
    """{path of (level, name)} of every distinct prefix, without what is missing."""
    paths = set()
    for row in rows:
        path = ()
        for level, name in enumerate(row):
            if name not in missing:
                path += ((level, name),)
                paths.add(path)
    return paths


def test_read_lineages__gtdb_strings(tmp_path):
    tax = read_lineages(write(tmp_path, GTDB))
    assert tax.ids[0] == "root"
    a = tax.rows("Lactobacillus a")
    assert tax.lineage("Lactobacillus a") == (
        "root; Bacteria; Bacillota; Bacilli; Lactos; A; Lactobacillus; Lactobacillus a"
    )
    assert tax.ids[a] == "s__Lactobacillus a"
    assert [tax.taxon_ranks[int(v)] for v in tax.tree.ancestors(a)[::-1]] == [
        *["no rank", "domain", "phylum", "class", "order", "family", "genus"]
    ]
    assert tax.lineage("s__Sulfolobus b") == "root; Archaea; Bacillota; Sulfolobus; Sulfolobus b"
    assert len(tax) == 12


def test_read_lineages__one_name_in_two_places_gets_its_path_as_id(tmp_path):
    tax = read_lineages(write(tmp_path, GTDB))
    with pytest.raises(TaxonomyError, match="'Bacillota' names 2 taxa"):
        tax.rows("Bacillota")
    assert tax.lineage("d__Archaea;p__Bacillota") == "root; Archaea; Bacillota"
    assert tax.lineage("d__Bacteria;p__Bacillota") == "root; Bacteria; Bacillota"


def test_read_lineages__one_may_have_many_more_names_than_the_others(tmp_path):
    deep = ";".join(f"n{level}" for level in range(100))
    tax = read_lineages(write(tmp_path, f"G0\t{deep}\n" + "G\tn0;n1\n" * 400))
    assert tax.max_depth == 99
    assert len(tax) == 100


ROWS = [
    ["Animalia", "Chordata", "Mammalia", "Carnivora", "NA", "Felis"],
    ["Animalia", "Chordata", "Mammalia", "Primates", "Hominidae", "Homo"],
    ["Animalia", "Arthropoda", "", "Diptera", "Muscidae", "Musca"],
    ["Plantae", "", "", "", "Moraceae", "Morus"],
    ["Animalia", "Chordata", "Aves", "Suliformes", "Sulidae", "Morus"],
]
RANKS = ["kingdom", "phylum", "class", "order", "family", "genus"]


@pytest.mark.parametrize(
    "form", ["columns", "columns.gz", "string", "string below lineage", "string below anything"]
)
def test_read_lineages__is_the_tree_of_distinct_prefixes(tmp_path, form):
    if form.startswith("columns"):
        text = "\n".join(",".join(["acc", *row]) for row in [["Kingdom", *RANKS[1:]], *ROWS])
        data = gzip.compress(text.encode()) if form.endswith("gz") else text
        tax = read_lineages(write(tmp_path, data))
    else:
        head = f"a\tb\t{form.split()[-1]}\n" if " " in form else ""
        text = head + "\n".join(f"G{i}\tx\t{';'.join(row)}" for i, row in enumerate(ROWS))
        tax = read_lineages(write(tmp_path, text), ranks=RANKS)
    expected = brute_force(ROWS)
    assert len(tax) == 1 + len(expected)
    found = {
        tuple(
            (RANKS.index(tax.taxon_ranks[int(v)]), tax.names[int(v)])
            for v in [*tax.tree.ancestors(node)[::-1][1:], node]
        )
        for node in range(1, len(tax))
    }
    assert found == expected


def test_read_lineages__columns_in_any_order_chosen_and_renamed(tmp_path):
    text = "species\tgroup\tgenus\tnote\nF catus\tcats\tFelis\tx\nF lybica\tcats\tFelis\ty\n"
    path = write(tmp_path, text)
    with pytest.warns(UserWarning, match="group"):
        usual = read_lineages(path)  # group is no usual rank; genus stands above species
    assert usual.lineage("F catus") == "Felis; F catus"
    tax = read_lineages(path, ranks={"group": "clade", "genus": "genus", "species": "species"})
    assert tax.lineage("F catus") == "cats; Felis; F catus"
    assert tax.taxon_ranks[0] == "clade"
    with pytest.raises(ValueError, match=r"no column \['family'\]; there are \['species'"):
        read_lineages(path, ranks=["family", "species"])


def test_read_lineages__takes_columns_between_ranks_and_tells_of_other_names(tmp_path):
    text = "kingdom,order,level,genus,name\nP,M,T,F,cats\nP,M,U,G,\n"
    with pytest.warns(UserWarning, match=r"the columns \['name'\] are left out"):
        tax = read_lineages(write(tmp_path, text))
    assert tax.ids.to_list() == ["P", "M", "T", "F", "U", "G"]
    assert tax.taxon_ranks[2] == "level"
    of_species = text.replace("genus", "species")  # whose other names are no levels
    assert read_lineages(write(tmp_path, of_species)).ids.equals(tax.ids)
    one = read_lineages(write(tmp_path, "genus,note\nA,x\nB,y\n"))
    assert one.ids.to_list() == ["root", "A", "B"]


def test_read_lineages__root_only_where_there_are_several_tops(tmp_path):
    one = read_lineages(write(tmp_path, "genus,species\nA,a\nA,b\n"))
    assert one.ids.to_list() == ["A", "a", "b"]
    two = read_lineages(write(tmp_path, "genus,species\nA,a\nB,b\n"), root="Life")
    assert two.ids.to_list() == ["Life", "A", "a", "B", "b"]


def test_read_lineages__column_of_strings_can_be_chosen(tmp_path):
    path = write(tmp_path, "old\tnew\nA;a\tB;b\nA;c\tB;d\n")
    with pytest.raises(TaxonomyError, match=r"0 of the columns \['0'\] hold lineages"):
        read_lineages(write(tmp_path, '""\n""\n', "a.csv"))  # empty, and it stays
    with pytest.raises(TaxonomyError, match=r"2 of the columns \['0', '1'\] hold lineages"):
        read_lineages(write(tmp_path, "g__A f__B\ng__C f__B\n", "a.txt"))  # edges
    with pytest.raises(TaxonomyError, match=r"2 of the columns \['0', '1'\] hold lineages"):
        read_lineages(path)
    assert read_lineages(path, column=1).ids.to_list() == ["B", "b", "d"]
    assert read_lineages(path, column="new").ids.to_list() == ["B", "b", "d"]
    bare = write(tmp_path, "A;a\tB;b\nA;c\tB;d\n", "bare.tsv")
    assert read_lineages(bare, column=1).ids.to_list() == ["B", "b", "d"]
    with pytest.raises(ValueError, match="column=7 is no column"):
        read_lineages(bare, column=7)


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        ("", None, "empty"),
        ("x\ty\nz\tw\n", None, "0 of the columns"),
        ("genus,species\nNA,\n", None, "there is no name in any lineage"),
        ("G1,1,A;B;C\ncannot find 2\nG3,3,A;B;D\n", 2, "1 fields .* where most lines have 3"),
        (b"G1\tA;B\nG2\tA;\xe9\n", 2, "byte 0xe9 is not UTF-8"),
    ],
)
def test_read_lineages__names_file_line_and_cause(tmp_path, content, line, why):
    place = r"lineages\.tsv" + ("" if line is None else f":{line}")
    with pytest.raises(TaxonomyError, match=rf"{place}: .*{why}"):
        read_lineages(write(tmp_path, content))


def test_read_lineages__as_many_ranks_as_places(tmp_path):
    with pytest.raises(TaxonomyError, match="up to 7 names, but 2 ranks were given"):
        read_lineages(write(tmp_path, GTDB), ranks=["domain", "phylum"])


@pytest.mark.parametrize(
    ("lineages", "ids"),
    [
        (["A(100);B", "A;C"], ["root", "A(100)", "B", "A", "C"]),
        (["A(100);B", "A;C", "A(90);D"], ["A", "B", "C", "D"]),
        (["d__A;p__B", "d__A;Unclassified A"], ["d__A", "p__B", "Unclassified A"]),
        (["d__A;p__B", "d__A;Unclassified A", "d__A;p__C"], ["d__A", "p__B", "p__C"]),
    ],
)
def test_read_lineages__goes_by_what_most_names_of_a_level_have(tmp_path, lineages, ids):
    """Half of them are not most: a score or "unclassified" may be part of a name."""
    path = write(tmp_path, "".join(f"G{i}\t{line}\n" for i, line in enumerate(lineages)))
    assert read_lineages(path).ids.to_list() == ids
