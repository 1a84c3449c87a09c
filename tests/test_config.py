"""`poincare-taxa train`: a run as a file."""

import re

import polars as pl
import pytest
import torch

import poincare_taxa as pt
from poincare_taxa import cli
from poincare_taxa.config import read_config


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Run the command on a text: exit status and standard error."""
    monkeypatch.chdir(tmp_path)

    def train(text, *options):
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(SystemExit) as exit:
            cli.main(["train", "run.toml", *options])
        return int(exit.value.code or 0), capsys.readouterr().err

    return train


HEAD = 'source = "demo"\nsubtree = "Felidae"\nout = "out"\nepochs = 2\n'
BLOCKS = """
dim = 4
batch_size = 64
lr_schedule = [[0, 1.0], [1, 0.5]]
checkpoint = "run"
[negatives]
class = "UniformNegatives"
num_negatives = 5
[loss]
class = "DepthMarginRankingLoss"
margin = {class = "TreeMargin", tau = 0.5}
[curriculum]
class = "Curriculum"
max_gap = [[0, 2], [1]]
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train__does_what_fit_does_and_goes_on_with_it(train, tmp_path):
    code, err = train(HEAD + BLOCKS)
    assert code == 0, err
    tax = pt.load_sample().subtree("Felidae")
    run = pt.fit(
        tax,
        dim=4,
        batch_size=64,
        epochs=2,
        lr_schedule=[(0, 1.0), (1, 0.5)],
        negatives=pt.UniformNegatives(tax, 5),
        loss=pt.DepthMarginRankingLoss(margin=pt.TreeMargin(0.5)),
        curriculum=pt.Curriculum(max_gap=[(0, 2), (1, None)]),
    )
    saved = pt.TaxonEmbedding.load(tmp_path / "out")
    assert torch.equal(saved.radius, run.model.radius)
    assert torch.equal(saved.direction, run.model.direction)
    assert pl.read_csv(tmp_path / "out" / "history.csv")["epoch"].to_list() == [0, 1, 2]
    code, err = train(HEAD + BLOCKS)
    assert code == 2
    assert "resume=True" in err
    assert train(HEAD.replace("2", "3") + BLOCKS, "--resume")[0] == 0
    assert pl.read_csv(tmp_path / "out" / "history.csv")["epoch"].to_list() == [0, 1, 2, 3]


def test_train__of_a_closure_keeps_names(train, tmp_path):
    (tmp_path / "pairs.csv").write_text("id1,id2\ndog,mammal\nmammal,animal\ndog,animal\n")
    code, err = train('pairs_csv = "pairs.csv"\nout = "out"\ndim = 3\nepochs = 2\nbatch_size = 2')
    assert code == 0, err
    names = pl.read_parquet(tmp_path / "out" / "nodes.parquet")["name"].to_list()
    assert names == ["animal", "dog", "mammal"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "epoch = 3", "unknown config key epoch; known are batch_size, "),
        (HEAD + "[loss]\nclass = 'Loss'", "loss must be a table whose class is one of Depth"),
        (HEAD + "[negatives]\nclass = 'UniformNegatives'\nmany = 3", "negatives: .*many"),
        (HEAD + "[embedding]\ndtype = 'int'", "embedding: 'int' is none of Polar"),
        ('source = "demo"', "must say out, and either source"),
        ("source = ", "is not TOML"),
    ],
)
def test_train__says_what_is_wrong_with_a_file(train, text, message):
    code, err = train(text)
    assert code == 2
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_read_config__of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.toml")
