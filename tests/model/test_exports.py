"""Exports: each is opened by the tool that it is for, with names, ids and vectors intact."""

import gzip
import json
import sys

import numpy as np
import polars as pl
import pytest
import torch
from support.pickles import Touches
from support.zoo import random_model, zoo

from poincare_taxa.closure.loading import load
from poincare_taxa.model import exports
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.taxonomy.taxonomy import Taxonomy

ODD = ["Life, all", 'the "cat"', "Félis\tcatus", "Pan; troglodytes", None, "[x]", "a'b", "NA"]


def odd_model(dtype=torch.float64):
    """Names with everything that separates columns, ids that are text, branch lengths."""
    parents, ids = [-1, 0, 1, 1, 0, 4, 4, 6], [f"t{i}" for i in range(8)]
    lengths = [float("nan"), *np.arange(7) / 3]
    ranks = ["no rank", "class", "class", None, "genus", "genus", "genus", "species"]
    tax = Taxonomy.from_parents(
        parents, ids=ids, names=ODD, taxon_ranks=ranks, branch_lengths=lengths
    )
    return random_model(tax, dtype=dtype)


def assert_same(found: TaxonEmbedding, model: TaxonEmbedding):
    assert found.taxonomy.ids.equals(model.taxonomy.ids)
    assert found.taxonomy.names.equals(model.taxonomy.names)
    assert found.taxonomy.taxon_ranks.cast(pl.String).equals(
        model.taxonomy.taxon_ranks.cast(pl.String)
    )
    assert found.taxonomy.tree.fingerprint == model.taxonomy.tree.fingerprint
    assert torch.equal(found.radius, model.radius)
    assert torch.equal(found.direction, model.direction)


# -------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.parquet", "x.npz"])
@pytest.mark.parametrize("make", [lambda: random_model(zoo()), odd_model])
def test_load__reads_what_export_wrote_bit_for_bit(tmp_path, name, make):
    model = make()
    model.export(tmp_path / name)
    found = load(tmp_path / name)
    assert_same(found, model)
    if model.taxonomy.tree.lengths is not None and name != "x.parquet":
        np.testing.assert_array_equal(found.taxonomy.tree.lengths, model.taxonomy.tree.lengths)


@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.vec"])
def test_export__writes_the_same_in_pieces(tmp_path, monkeypatch, name):
    model = random_model(zoo())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        model.export(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        patch.setattr(exports, "PIECE", 5)
        model.export(tmp_path / name)
    assert (tmp_path / name).read_bytes() == whole


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_load__reads_what_was_written_in_pieces(tmp_path, monkeypatch, name):
    monkeypatch.setattr(exports, "PIECE", 3)
    for make in (lambda: random_model(zoo()), odd_model):
        make().export(tmp_path / name)
        assert_same(load(tmp_path / name), make())


def test_parquet__of_pieces_has_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "PIECE", 5)
    model = random_model(zoo())
    model.export(tmp_path / "x.parquet")
    assert pl.read_parquet(tmp_path / "x.parquet").equals(pl.concat(exports._flat(model)))


def test_csv__is_read_by_pandas_with_ids_names_and_numbers_intact(tmp_path):
    pd = pytest.importorskip("pandas")
    model = odd_model()
    model.export(tmp_path / "x.csv")
    frame = pd.read_csv(tmp_path / "x.csv", index_col="id", keep_default_na=False)
    assert frame.index.tolist() == model.taxonomy.ids.to_list()
    assert frame["name"].tolist() == [name or "" for name in ODD]
    assert frame.loc["t3", "direction_1"] == model.direction[model.taxonomy.rows("t3"), 1]


def test_to_pandas__is_flat_and_by_id():
    pytest.importorskip("pandas")
    model = random_model(zoo())
    frame = model.to_pandas(["Homo sapiens", 10090])
    assert frame.index.tolist() == [9606, 10090]
    assert frame.loc[9606, "name"] == "Homo sapiens"
    rows = model.taxonomy.rows([9606, 10090])
    vectors = frame.filter(like="direction_").to_numpy()
    np.testing.assert_array_equal(vectors, model.direction[rows].numpy())


def test_to_frame__of_keys_is_in_their_order():
    model = random_model(zoo())
    frame = model.to_frame([10090, "human"])
    assert frame["id"].to_list() == [10090, 9606]
    assert frame["parent"].to_list() == [10088, 9605]
    assert frame["depth"].to_list() == [4, 4]
    assert model.to_frame(1)["parent"].to_list() == [None]


def test_npz__is_read_by_numpy_without_pickle(tmp_path):
    model = odd_model()
    model.export(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert bytes(arrays["ids"]).decode().split("\0") == model.taxonomy.ids.to_list()
        assert bytes(arrays["names"]).decode().split("\0") == [name or "" for name in ODD]
        np.testing.assert_array_equal(arrays["radius"], model.radius.numpy())


def test_export__refuses_an_unknown_suffix_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"none of \.csv"):
        random_model(zoo()).export(tmp_path / "x.xlsx")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------- word2vec


def test_word2vec__is_read_by_gensim_and_by_load_and_warns_with_the_loss(tmp_path):
    model = embed(zoo(), dim=4)
    with pytest.warns(exports.CosineWarning, match=r"of 10 nearest taxa it finds \d"):
        model.export(tmp_path / "x.vec")
    found = load(tmp_path / "x.vec", taxonomy=zoo())
    torch.testing.assert_close(found.tangent(), model.tangent(), rtol=1e-15, atol=1e-15)
    models = pytest.importorskip("gensim.models")
    vectors = models.KeyedVectors.load_word2vec_format(tmp_path / "x.vec", datatype=np.float64)
    assert vectors.index_to_key == [str(key) for key in model]
    np.testing.assert_array_equal(vectors["9606"], model[9606].numpy())


def test_word2vec__refuses_ids_with_spaces(tmp_path):
    tax = Taxonomy.from_edges([("a b", "c")])
    with pytest.raises(ValueError, match="ids here have some"):
        random_model(tax).export(tmp_path / "x.txt")


def test_neighbour_overlap__is_that_of_brute_force():
    model = random_model(zoo())
    n, k = len(model), 3
    apart = np.array([[model.distance(a, b) for b in model] for a in model])
    vectors = model.tangent().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shared = 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        near = sorted(others, key=lambda j: apart[i, j])[:k]
        alike = sorted(others, key=lambda j: -(vectors[i] @ vectors[j]))[:k]
        shared += len(set(near) & set(alike))
    assert exports.neighbour_overlap(model, k) == pytest.approx(shared / (n * k))


# -------------------------------------------------------------------- load


def test_load__opens_saved_folders(tmp_path):
    model = random_model(zoo())
    model.save(tmp_path / "out")
    assert_same(load(tmp_path / "out"), model)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.model", "", "Pickles"),
        ("x.csv", "id,name\n1,a\n", "has no columns"),
        ("x.vec", "2 3\n1 0 0 0\n2 0 1 0\n", "has no taxonomy"),
    ],
)
def test_load__refuses_what_is_no_embedding(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nothing at"):
        load(tmp_path / "absent.csv")


def test_load__reads_the_table_of_a_model_with_numbers_of_any_kind(tmp_path):
    model = random_model(zoo())
    frame = model.to_frame()
    frame.write_parquet(tmp_path / "x.parquet")
    assert_same(load(tmp_path / "x.parquet"), model)
    for radius, inner in ((pl.Decimal(9, 2), pl.Decimal(9, 4)), (pl.Int8, pl.Float64)):
        other = frame.with_columns(
            pl.col("radius").cast(pl.Float64).round(0).cast(radius),
            pl.col("direction").cast(pl.Array(inner, model.dim)),
        )
        other.write_parquet(tmp_path / "x.parquet")
        assert load(tmp_path / "x.parquet").radius.tolist() == other["radius"].cast(float).to_list()
    for column, dtype in (("radius", pl.Float64), ("direction", frame.schema["direction"])):
        empty = frame.with_columns(pl.lit(None).cast(dtype).alias(column))
        empty.write_parquet(tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=f"x.parquet: column '{column}' has empty cells"):
            load(tmp_path / "x.parquet")
    lists = frame.with_columns(pl.col("direction").arr.to_list())
    lists.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"'direction' has lists.*list.to_array\(dim\)"):
        load(tmp_path / "x.parquet")
    arrays = pl.read_parquet(tmp_path / "x.parquet").with_columns(
        pl.col("direction").list.to_array(model.dim)
    )
    arrays.write_parquet(tmp_path / "x.parquet")
    assert_same(load(tmp_path / "x.parquet"), model)
    frame.with_columns(direction=pl.lit("a")).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="column 'direction' has String, and must have numbers"):
        load(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "line 1"),
        ("3 2\n1 0.5 0\n", "3 rows are announced"),
        ("1 2\n9606 0.5 0\n", "no vector of 11 taxa, such as 1"),
        ("2 2\n9606 0.5 0\n 0.5 0\n", "x.vec:3: a row has no key"),
    ],
)
def test_load__refuses_word2vec_text_that_does_not_fit(tmp_path, text, message):
    (tmp_path / "x.vec").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.vec", taxonomy=zoo())


def test_load__runs_no_pickle_of_an_npz_file(tmp_path):
    random_model(zoo()).export(tmp_path / "x.npz")
    arrays = dict(np.load(tmp_path / "x.npz"))
    arrays["names"] = np.array([Touches(tmp_path / "ran")], object)
    np.savez(tmp_path / "x.npz", **arrays)
    np.load(tmp_path / "x.npz", allow_pickle=True)["names"]
    (tmp_path / "ran").unlink()  # the pickle does what it is made for
    with pytest.raises(ValueError, match=r"x\.npz.*allow_pickle=False"):
        load(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def test_load__refuses_an_npz_file_that_unpacks_to_too_much(tmp_path):
    random_model(zoo()).export(tmp_path / "x.npz")
    arrays = dict(np.load(tmp_path / "x.npz"))
    np.savez_compressed(tmp_path / "x.npz", **arrays | {"more": np.zeros(65 * 2**20, np.uint8)})
    with pytest.raises(ValueError, match=r"x\.npz unpacks to 65 MiB"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.csv", "x.vec"])
def test_load__refuses_texts_that_announce_too_much(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"id,parent\n" * 10))
    with pytest.raises(ValueError, match="is compressed: unpack it"):
        load(path, taxonomy=zoo() if name == "x.vec" else None)
    path.write_text("1 10001\n" if name == "x.vec" else "," * 10_000)
    with pytest.raises(ValueError, match="10,001 columns"):
        load(path, taxonomy=zoo() if name == "x.vec" else None)


def test_load__takes_a_table_whose_numbers_are_whole(tmp_path):
    text = "id,parent,radius,direction_0,direction_1\n1,,0,1,0\n2,1,1,0,1\n"
    (tmp_path / "x.csv").write_text(text)
    assert load(tmp_path / "x.csv").distance(1, 2) == 1


# -------------------------------------------------------------------- AnnData and scikit-bio

anndata_warnings = pytest.mark.filterwarnings("ignore")  # of anndata, about its own dependencies


@anndata_warnings
def test_anndata__has_vectors_and_graph_where_scanpy_looks(tmp_path):
    anndata = pytest.importorskip("anndata")
    model = random_model(zoo())
    model.export(tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert found.obs_names.tolist() == [str(key) for key in model]
    assert found.obs["name"].tolist() == model.taxonomy.names.to_list()
    np.testing.assert_array_equal(found.obsm["X_poincare"], model.tangent().numpy())
    neighbours = found.uns["neighbors"]
    distances = found.obsp[neighbours["distances_key"]]
    assert distances[4, 3] == pytest.approx(model.distance(9606, 9605))
    weights = found.obsp[neighbours["connectivities_key"]]
    assert (weights != weights.T).nnz == 0
    assert weights.data.min() > 0
    assert weights.data.max() <= 1
    assert found.T.varm["X_poincare"].shape == (12, 3)


@anndata_warnings
def test_annotate__fills_varm_of_a_table_of_taxa():
    anndata = pytest.importorskip("anndata")
    import pandas as pd

    model = random_model(zoo())
    names = ["Homo sapiens", "nobody", "10090"]
    counts = anndata.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=names))
    model.annotate(counts)
    vectors = counts.varm["X_poincare"]
    np.testing.assert_array_equal(vectors[0], model[9606].numpy())
    np.testing.assert_array_equal(vectors[2], model[10090].numpy())
    assert np.isnan(vectors[1]).all()


@pytest.mark.filterwarnings("ignore")
def test_skbio__has_the_tree_and_the_distances():
    pytest.importorskip("skbio")
    model = odd_model()
    tree = model.taxonomy.to_skbio()
    assert [node.name for node in tree.preorder()] == model.taxonomy.ids.to_list()
    assert [node.taxon_name for node in tree.preorder()] == ODD
    assert tree.find("t7").parent.name == "t6"
    assert tree.find("t7").length == model.taxonomy.tree.lengths[model.taxonomy.rows("t7")]
    keys = ["t7", "t1", "t3"]
    matrix = model.to_skbio(keys)
    assert matrix.ids == tuple(keys)
    assert matrix["t7", "t1"] == pytest.approx(model.distance("t7", "t1"), rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_newick__is_read_by_skbio(tmp_path):
    skbio = pytest.importorskip("skbio")
    tax = odd_model().taxonomy
    tax.to_newick(tmp_path / "x.nwk", labels="name")
    tree = skbio.TreeNode.read(str(tmp_path / "x.nwk"), convert_underscores=False)
    wanted = [name or key for name, key in zip(tax.names, tax.ids, strict=True)]
    assert sorted(node.name for node in tree.traverse()) == sorted(wanted)


# -------------------------------------------------------------------- Hugging Face


def report_of_zoo():
    row = {"key": "precision@10", "value": 0.5, "floor": 0.1, "ceiling": 1.0, "group": "all"}
    return {"rows": [row]}


def test_model_card__has_origin_licence_and_report_with_floors():
    hub = pytest.importorskip("huggingface_hub")
    model = embed(zoo(), dim=4)
    model.meta["report"] = report_of_zoo()
    card = hub.ModelCard(exports.model_card(model, "me/zoo", "cc0-1.0"))
    assert card.data.license == "cc0-1.0"
    assert card.data.library_name == "poincare-taxa"
    assert "| date | 2024-09-07 |" in card.text
    assert "| vectors: seed | 0 |" in card.text
    assert "| precision@10 all | 0.5 | 0.1 | 1 |" in card.text


def test_push_to_hub__uploads_a_folder_that_load_opens(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    model, sent = embed(zoo(), dim=4), {}

    class Api:
        def __init__(self, token):
            sent["token"] = token

        def create_repo(self, repo_id, **options):
            sent.update(options, repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path):
            folder_path.rename(tmp_path / "sent")
            folder_path.mkdir()
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(hub, "HfApi", Api)
    address = model.push_to_hub("me/zoo", licence="cc0-1.0", token="t", private=True)
    assert address == "https://huggingface.co/me/zoo"
    assert sent == {"token": "t", "exist_ok": True, "private": True, "repo_id": "me/zoo"}
    assert_same(load(tmp_path / "sent"), model)
    assert 'license: "cc0-1.0"' in (tmp_path / "sent" / "README.md").read_text()
    assert json.loads((tmp_path / "sent" / "meta.json").read_text())["num_taxa"] == 12
    with pytest.raises(ValueError, match="repo"):
        model.push_to_hub("no name//")


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("anndata", lambda model: model.to_anndata()),
        ("skbio", lambda model: model.to_skbio([9606])),
        ("huggingface_hub", lambda model: model.push_to_hub("me/zoo")),
    ],
)
def test_extras__that_are_not_installed_are_named(monkeypatch, module, call):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"poincare-taxa\[(bio|hub)\]"):
        call(random_model(zoo()))


# -------------------------------------------------------------------- prune


def test_prune__keeps_taxa_and_their_ancestors_with_the_same_vectors():
    model = random_model(zoo())
    pruned = model.prune(["human", "Mus"])
    assert list(pruned) == [1, 40674, 9443, 9605, 9606, 9989, 10088]
    assert torch.equal(pruned[9606], model[9606])
    assert pruned.taxonomy.rows("human") == 4
    again = Taxonomy.from_frame(pruned.taxonomy.to_frame())
    assert again.tree.fingerprint == pruned.taxonomy.tree.fingerprint
    np.testing.assert_array_equal(again.tree.end, pruned.taxonomy.tree.end)
    np.testing.assert_array_equal(again.tree.depth, pruned.taxonomy.tree.depth)
