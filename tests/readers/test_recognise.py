"""`read` recognises formats, and says which it chose."""

import gzip
import hashlib

import pytest
from support.dumps import DUMP, pack

from poincare_taxa.readers import load_sample, read, read_ncbi
from poincare_taxa.taxonomy.taxonomy import TaxonomyError


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("tree.nwk", "(a,b)c;", "Newick"),
        ("tree.txt", "(a,b)c;", "Newick"),
        ("tree.txt", "[&R] (a,b)c;", "Newick"),
        ("parents.txt", "-1\n0\n0\n", "parents"),
        ("gtdb.tsv", "G1\td__B;p__C;c__\nG2\td__B;p__D;c__\n", "lineages"),
        ("plain.csv", "G1,1,B;C;D\nG2,2,B;C;E\n", "lineages"),
        ("ranks.csv", "note,Family,Genus\nx,Felidae,Felis\ny,Felidae,Lynx\n", "lineages"),
        (
            "edges.csv",
            "id,parent_id,name,order,genus\n1,,A,x,y\n2,1,B,x,y\n3,1,C,x,y\n",
            "edge list",
        ),
        ("edges.tsv", "a\tb\nc\tb\n", "edge list"),
        ("edges.csv", "a;b\nc;b\n", "edge list"),
    ],
)
def test_read__recognises_texts(tmp_path, name, text, form, packed):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    tax = read(path)
    assert tax.source["format"] == form
    assert tax.source["path"] == str(path)
    assert tax.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(tax) == (4 if name == "plain.csv" else 3)


def test_read__recognises_taxdumps(tmp_path):
    members = {f.name: f.read_bytes() for f in DUMP.iterdir()}
    paths = [
        *(DUMP, DUMP / "nodes.dmp"),
        *(pack(tmp_path / f"dump{ending}", members) for ending in (".tar.gz", ".tgz", ".zip")),
    ]
    nameless = tmp_path / "archive"
    nameless.write_bytes((tmp_path / "dump.zip").read_bytes())
    for path in [*paths, nameless]:
        tax = read(path)
        assert (tax.source["format"], len(tax)) == ("taxdump", 12)


def test_read__reads_the_table_of_a_saved_taxonomy(tmp_path):
    tax = load_sample()
    tax.to_frame().write_parquet(tmp_path / "taxonomy.parquet")
    again = read(tmp_path / "taxonomy.parquet")
    assert again.to_frame().equals(tax.to_frame())


def test_read__says_what_it_took_a_bad_file_for(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\nc\td\n")
    with pytest.raises(TaxonomyError, match=r"2 trees.*\n\(read\(\) chose read_edges") as error:
        read(path)
    assert str(path) in str(error.value)
    path.write_text("cat;pet\ncat;pet\ndog;pet\n")
    with pytest.raises(
        TaxonomyError, match=r"'cat' is listed twice.*\n\(read\(\) chose read_edges"
    ):
        read(path)
    path.write_text("Taxid\tTax name\n9606\tHomo sapiens\n")
    with pytest.raises(TaxonomyError, match=r"ncbi-datasets; it has no rank columns"):
        read(path)
    (tmp_path / "taxdump.tar.gz").write_text("not found")
    with pytest.raises(TaxonomyError, match=r"not a tar.*\n\(read\(\) chose read_ncbi"):
        read(tmp_path / "taxdump.tar.gz")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(TaxonomyError, match="broken gzip"):
        read(tmp_path / "broken.gz")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.tsv")


TEXTS = {
    "tree.nwk": "(a,b)c;",
    "edges.tsv": "child\tparent\na\tb\nc\tb\n",
    "lineages.tsv": "G1\td__B;p__C;c__\nG2\td__B;p__D;c__\n",
    "dump": None,
}


@pytest.mark.parametrize("name", TEXTS)
def test_read__shows_how_far_it_is_where_that_takes_long(name, tmp_path, capsys, request):
    path, text = tmp_path / name, TEXTS[name]
    path = DUMP if text is None else path
    if text is not None:
        path.write_text(text)
    quiet = read(path)
    assert capsys.readouterr().err == "", "short work leaves no line"
    request.getfixturevalue("every_step")
    readers = [read] if text is not None else [read, read_ncbi]
    for reader in readers:
        assert reader(path).to_frame().equals(quiet.to_frame())
        steps = [line.split(" · ")[1:3] for line in capsys.readouterr().err.splitlines()]
        assert steps[-1][0] == "tree"
        assert len(steps) > 1
        shares = [int(share.removesuffix("%")) for _, share in steps]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[-1] < 100
        reader(path, progress=False)
        assert capsys.readouterr().err == ""
