"""Everyday files of `inputs/`: what each kind of file gives, or why it is refused.

Each file stands for a kind that people report; the letter is that of `inputs/README.md`.
"""

import warnings
from pathlib import Path

import pytest

from poincare_taxa.readers import read, read_edges, read_lineages, read_newick
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

INPUTS = Path(__file__).parent / "inputs"
MAMMALS = [("mammal", None), ("cat", "mammal"), ("dog", "mammal")]
NUMBERS = [(1, None), (2, 1), (3, 1)]

# file → (id, id of the parent) of each taxon in preorder
READ = {
    "A1_trailing_tab_edges.tsv": [
        ("animal", None),
        *[("mammal", "animal"), ("cat", "mammal"), ("dog", "mammal"), ("bird", "animal")],
    ],
    "A2_taxonkit_lineage_r.tsv": [
        *[("Mammalia", None), ("Homo", "Mammalia"), ("Homo sapiens", "Homo")],
        *[("Mus", "Mammalia"), ("Mus musculus", "Mus")],
    ],
    "A3_silva_tax_slv.txt": [
        *[("Archaea", None), ("Crenarchaeota", "Archaea"), ("Thermoprotei", "Crenarchaeota")],
    ],
    "A4_heading_in_a_comment.tsv": MAMMALS,
    "A5_unknown_words_above_ids.tsv": [("Q1", None), ("Q2", "Q1"), ("Q3", "Q1")],
    "B1_blank_line_at_end.tsv": MAMMALS,
    "B2_comments_anywhere_crlf.csv": MAMMALS,
    "B3_lone_cr.tsv": MAMMALS,
    "B4_excel_sep.csv": NUMBERS,
    "C1_words_for_none.tsv": NUMBERS[:2],
    "C2_decimal_parents.csv": NUMBERS,
    "C3_NULL_parent.csv": NUMBERS,
    "C4_a_taxon_called_None.csv": [("life", None), ("None", "life"), ("x", "None")],
    "D1_gbif_Taxon.tsv": [(1, None), (20, 1), (21, 20)],
    "D2_coldp_status.tsv": [(1, None), (2, 1)],
    "D3_surrogate_keys.csv": [(9605, None), (9606, 9605)],
    "D4_inaturalist_urls.csv": [(48460, None), (1, 48460)],
    "D5_worms.tsv": [(2, None), (51, 2)],
    "E1_species_and_lineage.tsv": [
        *[("Bacteria", None), ("Proteobacteria", "Bacteria"), ("Escherichia", "Proteobacteria")],
        *[("E coli", "Escherichia"), ("Firmicutes", "Bacteria"), ("Bacillus", "Firmicutes")],
        ("B subtilis", "Bacillus"),
    ],
    "E2_pr2_ranks.tsv": [
        *[("Eukaryota", None), ("TSAR", "Eukaryota"), ("Alveolata", "TSAR")],
        *[("Dinoflagellata", "Alveolata"), ("Noctiluca", "Dinoflagellata")],
        *[("N. scintillans", "Noctiluca"), ("Ciliophora", "Alveolata")],
        *[("Paramecium", "Ciliophora"), ("P. aurelia", "Paramecium")],
    ],
    "E3_mothur_bootstraps.taxonomy": [
        *[("Bacteria", None), ("Firmicutes", "Bacteria"), ("Bacillus", "Firmicutes")]
    ],
    "E4_blca.tsv": [
        *[("Bacteria", None), ("Firmicutes", "Bacteria"), ("Bacillus", "Firmicutes")],
        *[("Proteobacteria", "Bacteria"), ("Vibrio", "Proteobacteria")],
    ],
    "E5_semicolon_in_a_rank.csv": [
        *[("root", None), ("A;B", "root"), ("C", "A;B"), (r"A\;B;C;x", "C")],
        *[("A", "root"), ("B;C", "A"), (r"A;B\;C;x", "B;C")],
    ],
    "E6_root_and_none.tsv": [
        *[("Bacteria", None), ("Vibrio", "Bacteria"), ("Bacillus", "Bacteria")]
    ],
    "F1_R_write_table_edges.tsv": NUMBERS,
    "F2_R_col_names.tsv": MAMMALS,
    "F3_R_write_csv.csv": MAMMALS,
    "Q1_space_after_comma.csv": NUMBERS,
    "Q2_spaces_everywhere.txt": MAMMALS,
    "S1_double_quotes.nwk": [
        *[("r", None), ("wild dog", "r"), ('my "clade"', "r"), ("cat_1", 'my "clade"')],
        ("O'Brien", 'my "clade"'),
    ],
    "S2_tree.nex": [("node0", None), ("A", "node0"), ("B", "node0")],
}

# file → what the error says
REFUSED = {
    "E7_two_lineage_columns.tsv": r"2 of the columns .* hold lineages .*column=",
    "S3_two_trees.nwk": r":2: 2 trees \(0, 1\).*read_newick\(path, tree=0\)",
    "S4_two_trees.nex": r":4: 2 trees \(first, the second\).*tree=0",
    "S5_underscore_in_a_length.nwk": "'1_000' is not a branch length",
    "T1_list.json": "JSON; write its nodes as a table",
    "T2_go.obo": "an OBO file; write its is_a lines",
    "T3_tree.xml": "XML .*export the tree as Newick",
    "T4_graph.dot": "a DOT graph; write its edges",
    "T5_kraken.report": "a Kraken report.*read the taxonomy of its database",
    "T6_taxonomy_summary.tsv": r"ncbi-datasets.*ranks=.*'Phylum name': 'phylum'",
    "T7_nodes.dmp.gz": "one compressed table of a taxdump; unpack",
    "T8_hash.k2d": "binary data",
}


def pairs(tax):
    return tax.to_frame()["id", "parent"].rows()


def test_inputs__each_has_an_expectation():
    others = {"I1_source_target_header.csv", "E8_unknown_columns_out_of_order.tsv", "README.md"}
    assert {path.name for path in INPUTS.iterdir()} == {*READ, *REFUSED, *others}


@pytest.mark.parametrize("name", READ)
def test_read__of_an_everyday_file(name):
    assert pairs(read(INPUTS / name)) == READ[name]


@pytest.mark.parametrize("name", REFUSED)
def test_read__refuses_with_advice(name):
    with pytest.raises(TaxonomyError, match=REFUSED[name]):
        read(INPUTS / name)


def test_read_edges__source_and_target_are_headings():
    tax = read_edges(INPUTS / "I1_source_target_header.csv", root="animal")
    assert pairs(tax) == [
        *[("animal", None), ("mammal", "animal"), ("cat", "mammal"), ("dog", "mammal")],
        *[("bird", "animal"), ("crow", "bird")],
    ]


@pytest.mark.parametrize(
    ("name", "synonym", "accepted"),
    [
        ("D1_gbif_Taxon.tsv", "Felis leo", 21),
        ("D2_coldp_status.tsv", "Panthera obsoleta", 2),
        ("D5_worms.tsv", "Malacozoa", 51),
    ],
)
def test_read__synonyms_of_checklists_are_names_of_the_accepted_taxon(name, synonym, accepted):
    tax = read(INPUTS / name)
    assert tax.ids[tax.node(synonym)] == accepted


def test_read__names_without_the_quotes_of_r():
    tax = read(INPUTS / "F1_R_write_table_edges.tsv")
    assert tax.names.to_list() == [None, "Homo sapiens", "Mus musculus"]


def test_read_lineages__warns_of_columns_that_it_leaves_out():
    with pytest.warns(UserWarning, match=r"\['group'\].*name all rank columns with ranks="):
        tax = read_lineages(INPUTS / "E8_unknown_columns_out_of_order.tsv")
    assert len(tax) == 3


@pytest.mark.parametrize("tree", [1, "the second"])
def test_read_newick__chooses_a_tree(tree):
    expected = [("s", None), ("c", "s"), ("node2", "s"), ("d", "node2"), ("e", "node2")]
    assert pairs(read_newick(INPUTS / "S4_two_trees.nex", tree=tree)) == expected
    with pytest.raises(ValueError, match="tree='third' is none of the 2 trees"):
        read_newick(INPUTS / "S4_two_trees.nex", tree="third")


def test_read__names_ranks_of_prefixes_and_headings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blca, pr2 = read(INPUTS / "E4_blca.tsv"), read(INPUTS / "E2_pr2_ranks.tsv")
    assert blca.taxon_ranks.to_list()[:3] == ["superkingdom", "phylum", "genus"]
    assert pr2.taxon_ranks.to_list()[:4] == ["domain", "supergroup", "division", "subdivision"]
