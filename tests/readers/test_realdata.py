"""Every real data set has the nodes, leaves and depth that were counted when it was collected."""

import gzip

import polars as pl
import pytest
from support.realdata import real_data

from poincare_taxa.readers import read, read_edges, read_lineages, read_ncbi, read_newick
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

# file, nodes, leaves, greatest depth, sum of depths, greatest number of children, unary nodes
COUNTED = [
    ("onezoom_opentree15.1/parents.txt.gz", 2456575, 2228001, 233, 123738997, 11554, 0),
    ("ncbi_2013_stree/taxdump_partial.tar.gz", 113357, 79389, 39, 2196539, 533, 19363),
    ("ncbi_wol_2017/taxdump.tar.gz", 16388, 9688, 13, 138723, 146, 4942),
    ("asterales_ncbi/taxonomy.tsv.gz", 15258, 12880, 9, 83049, 403, 1080),
    ("mammal_diversity_2020/edges.tsv.gz", 8390, 6486, 12, 76189, 203, 727),
    ("ictv_2020/edges.tsv.gz", 11871, 9110, 11, 92949, 445, 1398),
    ("newick_wol/tree.nwk.gz", 20603, 10575, 54, 506425, 12, 0),
    ("newick_plants_gbotb/GBOTB.extended.nwk.gz", 149005, 74531, 100, 6398220, 45, 0),
]


def counts(tax):
    children = tax.num_children
    return (
        *(len(tax), int((children == 0).sum()), tax.max_depth, int(tax.depth.sum(dtype="int64"))),
        *(int(children.max()), int((children == 1).sum())),
    )


def ranks(tax):
    return dict(tax.taxon_ranks.value_counts().rows())


@pytest.mark.parametrize(("path", *"nldscu"), COUNTED)
def test_read__counts_of_real_trees(path, n, l, d, s, c, u):  # noqa: E741
    assert counts(read(real_data(path))) == (n, l, d, s, c, u)


def test_read_edges__components_of_real_lineages():
    path = real_data("ncbi_2013_stree/edges.tsv.gz")
    with pytest.raises(
        TaxonomyError, match=r"edges\.tsv\.gz:\d+: 25 trees, .* and 22 more; .*root="
    ):
        read_edges(path)
    below_one_root = read_edges(path, root="root")
    # One more node; every depth one more than its component had, so 2084533 + 113917 in all.
    assert counts(below_one_root) == (113918, 79788, 39, 2198450, 533, 19443)
    largest = read_edges(path, root=131567)
    assert counts(largest) == (113356, 79389, 38, 2196539 - 113356, 533, 19362)


def test_read_ncbi__real_merged_and_deleted_ids():
    tax = read_ncbi(real_data("ncbi_2013_stree/taxdump_partial.tar.gz"))
    assert tax.merged is not None
    assert len(tax.merged) == 30131
    states = tax.resolve(tax.merged["old_id"])["status"].to_list()
    assert (states.count("merged"), states.count("unknown")) == (8029, 30131 - 8029)
    assert tax.deleted is not None
    assert len(tax.deleted) == 297983
    active = tax.deleted.filter(tax.deleted.is_in(tax.ids.implode()))
    assert tax.resolve(active)["status"].to_list() == ["active"]
    assert tax.resolve(tax.deleted[0])["status"].item() == "deleted"


def test_node__real_homonyms_are_listed_with_their_places():
    tax = read_ncbi(real_data("ncbi_2013_stree/taxdump_partial.tar.gz"))
    with pytest.raises(TaxonomyError) as error:
        tax.rows("Yersinia")
    text = str(error.value)
    assert "Enterobacteriaceae; Yersinia" in text
    assert "Yersinia" in text.splitlines()[2]
    assert "choose one by its id" in text


def test_read_ncbi__real_ranks():
    tax = read_ncbi(real_data("ncbi_wol_2017/taxdump.tar.gz"))
    found = ranks(tax)
    counted = {"species": 9105, "no rank": 4196, "genus": 2081, "family": 422, "order": 196}
    assert {rank: found[rank] for rank in counted} == counted
    assert tax.names.null_count() == 0
    ids = pl.read_csv(real_data("ncbi_wol_2017/taxid.map.gz"), separator="\t", has_header=False)
    assert (tax.depth[tax.rows(ids.to_series(1))] > 0).all()


def test_read__real_ranks_of_edge_lists():
    for path, counted in [
        ("asterales_ncbi/taxonomy.tsv.gz", {"species": 12301, "no rank - terminal": 29}),
        ("ictv_2020/edges.tsv.gz", {"species": 9110, "genus": 2224, "kingdom": 10}),
        ("mammal_diversity_2020/edges.tsv.gz", {"species": 6485, "tribe": 143, "order": 27}),
    ]:
        found = ranks(read(real_data(path)))
        assert {rank: found[rank] for rank in counted} == counted


def test_read_lineages__genbank_lineages(tmp_path):
    path = real_data("ncbi_genbank_lineage_2017/genbank-genomes-accession+lineage-20170529.csv.gz")
    seven = ["superkingdom", "phylum", "class", "order", "family", "genus", "species"]
    # The program that made the file wrote one of its complaints into it.
    with pytest.raises(TaxonomyError, match=r"\.csv\.gz:90876: 1 fields .* most lines have 3"):
        read_lineages(path, ranks=seven)
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    assert lines.pop(90875) == b"cannot find taxid 1813736; quitting.\n"
    clean = tmp_path / "lineages.csv"
    clean.write_bytes(b"".join(lines))
    tax = read_lineages(clean, ranks=seven)
    assert counts(tax) == (26407, 22394, 7, 155371, 704, 1975)
    assert ranks(tax) == {
        **{"species": 22394, "genus": 2691, "family": 687, "order": 324, "phylum": 168},
        **{"class": 138, "superkingdom": 4, "no rank": 1},
    }
    assert len(read(clean)) == 26407


def test_read_lineages__mammals_by_rank_columns():
    path = real_data("mammal_diversity_2020/mdd.csv.gz")
    columns = "majorType majorSubtype order suborder infraorder parvorder superfamily family"
    levels = {rank: rank for rank in f"{columns} subfamily tribe genus".split()}
    tax = read_lineages(
        path, ranks={**levels, "sciName": "species"}, missing=["", "NA", "INCERTAE SEDIS"]
    )
    # 8,390 in edges.tsv.gz, where the first row wins; a genus and a subfamily stand twice upstream.
    assert len(tax) == 8392
    assert ranks(tax)["species"] == 6485
    assert ranks(tax)["genus"] == 1331 + 1
    assert ranks(tax)["subfamily"] == 155 + 1


def test_read_lineages__plants_by_rank_columns():
    path = real_data("newick_plants_gbotb/tips.info.tsv.gz")
    tax = read_lineages(path, ranks=["group", "family", "genus", "species"])
    found = ranks(tax)
    assert {rank: found[rank] for rank in ("species", "family", "group")} == {
        **{"species": 74531, "family": 479, "group": 2}
    }
    assert tax.max_depth == 4


def test_read_newick__real_branch_lengths_reach_all_tips_at_one_time():
    tax = read_newick(real_data("newick_plants_gbotb/GBOTB.extended.nwk.gz"))
    assert tax.branch_lengths is not None
    age = tax.branch_lengths.copy()
    age[0] = 0
    for row in range(1, len(tax)):
        age[row] += age[tax.parent[row]]
    tips = age[tax.num_children == 0]
    # The tree is dated: all tips are alive today. Six digits leave each length, and so each age,
    # a relative error of at most 5e-6, in both directions.
    assert tips.max() - tips.min() < 2 * 5e-6 * tips.max()
    assert tax.names[int(tax.rows("Stylotrichium_rotundifolium"))] == "Stylotrichium rotundifolium"


def test_read_edges__wordnet_needs_a_choice_of_parents():
    path = real_data("wordnet30_nouns/noun_direct_edges.tsv.gz")
    with pytest.raises(TaxonomyError, match=r"2213 nodes .* not a tree: 'aalborg\.n\.01' below"):
        read_edges(path)
    tax = read_edges(path, multi_parent="first")
    assert len(tax) == 82115
    assert tax.ids[0] == "entity.n.01"
    assert tax.max_depth <= 19


def test_read_edges__real_graphs_are_trees_or_refused():
    tax = read_edges(real_data("hyperbolics_graphs/phylo_tree.edges.gz"), root=0, undirected=True)
    assert len(tax) == 344
    for name, edges, nodes in [("ca-CSphd", 1043, 1025), ("bio-diseasome", 1188, 516)]:
        with pytest.raises(TaxonomyError, match=f"{edges} edges between {nodes} nodes are not"):
            read_edges(real_data(f"hyperbolics_graphs/{name}.edges.gz"), root=0, undirected=True)
