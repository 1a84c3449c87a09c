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
    "A6_parent_and_taxon.tsv": [
        ("Mammalia", None),
        ("Carnivora", "Mammalia"),
        ("Felidae", "Carnivora"),
    ],
    "A7_name_and_parent_name.csv": [("root", None), ("A", "root"), ("B", "root")],
    "A8_higher_taxon.csv": [("mammal", None), ("cat", "mammal"), ("dog", "mammal")],
    "A9_id_name_parent_name.csv": [(1, None), (2, 1), (3, 2)],
    "A10_darwin_core_names.tsv": [("x1", None), ("x2", "x1"), ("x3", "x2")],
    "A11_bold.tsv": [(0, None), (1, 0), (20, 1)],
    "B5_sep_in_quotes.csv": [(1, None), (2, 1)],
    "B6_no_break_space.csv": [(1, None), (2, 1)],
    "B7_single_quotes.csv": [(1, None), (2, 1)],
    "C5_excel_NA.csv": [(1, None), (2, 1), (3, 2)],
    "C6_minus_one.csv": [(0, None), (1, 0)],
    "D6_worms_taxon_list.csv": [(2, None), (51, 2)],
    "D7_itis.csv": [(1, None), (2, 1)],
    "D8_symbiota.csv": [(1, None), (2, 1)],
    "D9_gbif_keys.csv": [(1, None), (44, 1)],
    "D10_accepted_zero.csv": [(0, None), (1, 0), (2, 1)],
    "D11_synonyms_of_synonyms.tsv": [(1, None), (2, 1)],
    "D12_child_of_a_synonym.tsv": [(1, None), (2, 1), (4, 2)],
    "D13_url_ends_with_an_id.csv": [("Q1", None), ("Q2", "Q1")],
    "E9_gtdbtk_unclassified.tsv": [
        ("d__Bacteria", None),
        ("p__P", "d__Bacteria"),
        ("c__C", "p__P"),
        ("o__O", "c__C"),
        ("c__D", "p__P"),
        ("o__O2", "c__D"),
    ],
    "E10_unite_unidentified.tsv": [
        ("k__Fungi", None),
        ("p__Ascomycota", "k__Fungi"),
        ("c__Dothideomycetes", "p__Ascomycota"),
        ("o__Pleosporales", "c__Dothideomycetes"),
        ("c__Sordariomycetes", "p__Ascomycota"),
        ("s__Ascomycota_sp", "c__Sordariomycetes"),
    ],
    "E11_lineage_on_each_line.txt": [
        ("Eukaryota", None),
        ("TSAR", "Eukaryota"),
        ("Alveolata", "TSAR"),
        ("Dino", "Alveolata"),
        ("Rhizaria", "TSAR"),
        ("Cerc", "Rhizaria"),
    ],
    "E12_metaphlan.tsv": [
        ("k__Bacteria", None),
        ("p__Firmicutes", "k__Bacteria"),
        ("p__Proteobacteria", "k__Bacteria"),
    ],
    "E13_blca_unclassified_row.tsv": [
        ("Bacteria", None),
        ("Firmicutes", "Bacteria"),
        ("Bacilli", "Firmicutes"),
        ("Proteo", "Bacteria"),
        ("Gamma", "Proteo"),
    ],
    "E14_two_names.tsv": [("Bacteria", None), ("Firmicutes", "Bacteria"), ("Proteo", "Bacteria")],
    "E15_D_0_prefixes.tsv": [
        ("D_0__Bacteria", None),
        ("D_1__Firmicutes", "D_0__Bacteria"),
        ("D_2__Bacilli", "D_1__Firmicutes"),
        ("D_1__Proteo", "D_0__Bacteria"),
        ("D_2__Gamma", "D_1__Proteo"),
    ],
    "E16_scores_behind_colons.tsv": [("B", None), ("F", "B"), ("X", "F"), ("P", "B"), ("Y", "P")],
    "E17_scores_in_brackets.tsv": [("B", None), ("F", "B"), ("X", "F"), ("P", "B"), ("Y", "P")],
    "E18_variety.csv": [("G", None), ("s1", "G"), ("v1", "s1"), ("v2", "s1")],
    "E19_sintax.tsv": [
        *[("d__Bacteria", None), ("p__Firmicutes", "d__Bacteria"), ("c__Bacilli", "p__Firmicutes")],
        *[("p__Proteo", "d__Bacteria"), ("c__Gamma", "p__Proteo")],
    ],
    "E20_silva_short_lines.txt": [
        ("root", None),
        ("Archaea", "root"),
        ("Bacteria", "root"),
        ("F", "Bacteria"),
    ],
    "S6_mesquite.nex": [
        ("node0", None),
        ("node1", "node0"),
        ("H._sapiens", "node1"),
        ("O'Brien", "node1"),
        ("C", "node0"),
    ],
    "S7_taxlabels.nex": [("node0", None), ("Alpha", "node0"), ("Beta", "node0")],
    "S8_blank_lines_above.nex": [("C", None), ("A", "C"), ("B", "C")],
    "S9_title_like_a_tree.nex": [("node0", None), ("A", "node0"), ("B", "node0")],
    "S10_hash_lines.nwk": [
        ("animal", None),
        ("mammal", "animal"),
        ("cat", "mammal"),
        ("dog", "mammal"),
        ("crow", "animal"),
    ],
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
    "A12_no_parents.csv": r"no heading stands for the parent .*'id', 'name', 'rank'.*read_lineages",
    "A13_centrifuge.tsv": r"no heading stands for the parent",
    "E21_two_sintax_columns.tsv": r"2 of the columns .* hold lineages .*column=",
    "E22_ids_and_names.tsv": r"2 of the columns .* hold lineages .*column=",
    "T9_comment_above.obo": r"an OBO file",
    "T10_strict.dot": r"a DOT graph",
    "T11_undirected.dot": r"a DOT graph",
    "T12_graph.gml": r"a GML graph; .*from_networkx",
    "T13_indented.json": r"JSON",
    "T14_blank_above.xml": r"XML",
    "T15_page.html": r"a web page",
    "T16_sequences.fasta": r"FASTA",
    "T17_sheet.xlsx": r"a spreadsheet; save the sheet as CSV",
    "T18_rankedlineage.dmp": r"one table of a taxdump; read the folder",
    "T19_alignment.meg": r"a MEGA alignment",
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
        ("D6_worms_taxon_list.csv", "Malac", 51),
        ("D7_itis.csv", "Bryx", 2),
        ("D8_symbiota.csv", "Old", 2),
        ("D9_gbif_keys.csv", "Old", 44),
        ("D11_synonyms_of_synonyms.tsv", "Older", 2),
    ],
)
def test_read__synonyms_of_checklists_are_names_of_the_accepted_taxon(name, synonym, accepted):
    tax = read(INPUTS / name)
    assert tax.ids[tax.rows(synonym)] == accepted


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


def test_read_newick__labels_of_the_block_that_a_tree_is_in(tmp_path):
    block = "begin trees;\ntranslate 1 {}, 2 {};\ntree {} = (1,2);\nend;\n"
    path = tmp_path / "two.nex"
    path.write_text("#NEXUS\n" + block.format("A", "B", "x") + block.format("C", "D", "y"))
    assert read_newick(path, tree="x").ids.to_list() == ["node0", "A", "B"]
    assert read_newick(path, tree="y").ids.to_list() == ["node0", "C", "D"]


@pytest.mark.parametrize(
    ("headings", "others"),
    [("scientificName,kingdom,phylum", "scientificName"), ("kingdom,phylum,clade1", "clade1")],
)
def test_read__a_table_of_rank_columns_warns_of_names_elsewhere(tmp_path, headings, others):
    path = tmp_path / "ranks.csv"
    path.write_text(f"{headings}\nA,B,C\n")
    with pytest.warns(UserWarning, match=f"{others}.* are left out"):
        read_lineages(path)


def test_read__a_taxon_above_lineages_is_no_heading(tmp_path):
    path = tmp_path / "lineages.tsv"
    path.write_text("x\tArchaea\ny\tBacteria;Vibrio\nz\tBacteria;Bacillus\n")
    with pytest.raises(TaxonomyError, match="'Archaea' may be a heading or a taxon"):
        read(path)
    path.write_text("x\tArchaea;\ny\tBacteria;Vibrio\n")
    assert len(read(path)) == 4
    path.write_text("Archaea\nBacteria;Vibrio;\nBacteria;Bacillus;\n")
    assert len(read_lineages(path)) == 5
