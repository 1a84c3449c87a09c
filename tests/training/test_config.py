"""`poincare-taxa train`: a run as a file."""

import re
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import torch

import poincare_taxa as pt
from poincare_taxa import blocks, cli, training
from poincare_taxa.blocks.schedules import Cosine
from poincare_taxa.training import config
from poincare_taxa.training.config import read_config


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


EVERYTHING = """
batch_size = 32
lr_schedule = {class = "Cosine", period = 2, last = 0.1}
[pairs]
class = "MixedPairs"
shares = [0.5, 0.5]
sources = [
    {class = "ParentChildPairs"},
    {class = "StratifiedPairs", shares = {"2-3" = 0.3, "4-" = 0.6, "1" = 0.1}},
]
[negatives]
class = "MixedNegatives"
samplers = [
    {class = "CousinNegatives", num_negatives = 3, levels = 2},
    {class = "UniformNegatives", num_negatives = 2, exclude = "positives"},
]
[regularizer]
class = "NormRegularizer"
target = {class = "LinearRadius", tau = 1.5}
weight = [[0, 0.1], [1, 0.01]]
[curriculum]
class = "Curriculum.top_down"
epochs = 2
[optimizer]
class = "Adam"
lr = 0.01
betas = [0.8, 0.9]
"""


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train__of_mixtures_intervals_and_schedules_is_the_run_that_python_says(train, tmp_path):
    code, err = train(HEAD + EVERYTHING)
    assert code == 0, err
    tax = pt.load_sample().subtree("Felidae")
    strata = pt.StratifiedPairs(tax, {(2, 3): 0.3, (4, None): 0.6, 1: 0.1})
    negatives = [
        pt.CousinNegatives(tax, 3, levels=2),
        pt.UniformNegatives(tax, 2, exclude="positives"),
    ]
    run = pt.fit(
        tax,
        epochs=2,
        batch_size=32,
        lr_schedule=Cosine(2, last=0.1),
        pairs=pt.MixedPairs([pt.ParentChildPairs(tax), strata], [0.5, 0.5]),
        negatives=pt.MixedNegatives(negatives),
        regularizer=pt.NormRegularizer(pt.LinearRadius(1.5), weight=[(0, 0.1), (1, 0.01)]),
        curriculum=pt.Curriculum.top_down(2, tax),
        optimizer=partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.9)),
    )
    saved = pt.TaxonEmbedding.load(tmp_path / "out")
    assert torch.equal(saved.radius, run.model.radius)
    assert torch.equal(saved.direction, run.model.direction)
    assert saved.meta["settings"] == run.model.meta["settings"]


def test_train__of_a_dag_refuses_blocks_that_ask_for_a_tree(train, tmp_path):
    (tmp_path / "pairs.csv").write_text("id1,id2\ndog,mammal\nmammal,animal\ndog,animal\n")
    code, err = train('pairs_csv = "pairs.csv"\nout = "out"\n[pairs]\nclass = "AncestorPairs"')
    assert code == 2
    assert "pairs AncestorPairs: it takes a taxonomy, and pairs_csv is none" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train__runs_the_example_of_the_documentation(train):
    page = (Path(__file__).parents[2] / "docs" / "blocks" / "training.md").read_text()
    example = re.search("```toml\n(.*?)```", page, re.DOTALL)[1]
    code, err = train(example.replace("50", "2"))
    assert code == 0, err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "epoch = 3", "run.toml: unknown key epoch; known are batch_size, "),
        (HEAD + "[loss]\nclass = 'Loss'", "loss must be a table whose class is one of Depth"),
        (
            HEAD + "[negatives]\nclass = 'UniformNegatives'\nmany = 3",
            "UniformNegatives: unknown key many",
        ),
        (HEAD + "[negatives]\nclass = 'UniformNegatives'", "negatives UniformNegatives: .*num_neg"),
        (HEAD + "[negatives]\nclass = 'UniformNegatives'\nnum_negatives = 0", "at least 1; got 0"),
        (
            HEAD + "[pairs]\nclass = 'MixedPairs'\nsources = [3]\nshares = [1]",
            "sources must be a",
        ),
        (HEAD + "[pairs]\nclass = 'MixedPairs'\nsources = []\nshares = [1]", "1 shares for 0"),
        (
            HEAD + "[pairs]\nclass = 'MixedPairs'\nshares = [1]\n[[pairs.sources]]\n"
            "class = 'AncestorPairs'\ngap = 1",
            "sources AncestorPairs: unknown key gap; known are max_gap, min_gap",
        ),
        (
            HEAD + "[pairs]\nclass = 'StratifiedPairs'\nshares = {'2~4' = 1}",
            "pairs StratifiedPairs: a stratum is .*'2~4'",
        ),
        (
            HEAD + "lr_schedule = {class = 'Cosine', epochs = 3}",
            "Cosine: unknown key epochs",
        ),
        (HEAD + "lr_schedule = {class = 'Sine'}", "class is one of Cosine"),
        (HEAD + "lr_schedule = [1.0, 0.5]", r"lr_schedule is a list of \[epoch, value\]"),
        (HEAD + "[curriculum]\nclass = 'Curriculum'\ndepth = 3", "unknown key depth"),
        (HEAD + "[optimizer]\nclass = 'Adam'\nrate = 3", "optimizer Adam: unknown key rate; known"),
        (
            HEAD + "burn_in = 5",
            r"unknown key burn_in; burn_in was removed: write lr_schedule = \[\[0, 0.1\], ",
        ),
        (HEAD + "measure_every = 2", "measure_every was removed: leave it out"),
        (HEAD + "log_dir = 'logs'", 'log_dir was removed: write callback = {class = "TensorB'),
        (HEAD + "[pairs]\nclass = 'ClosurePairs'", "pairs must be a table whose class is one of"),
        (HEAD + "[margin]\nclass = 'TreeMargin'", "unknown key margin"),
        (HEAD + "resume = true", "unknown key resume"),
        (
            HEAD + "[optimizer]\nclass = 'Optimizer'",
            "class is one of ASGD, .*RowwiseRiemannianAdam",
        ),
        (HEAD + "[curriculum]\nclass = 'Curriculum.__init__'", "class is one of Curriculum, "),
        (HEAD + "embedding = 'ball'", "embedding must be a table"),
        (HEAD + "dim = 'ten'", "run.toml: dim must be a whole number; got 'ten'"),
        (HEAD + "seed = true", "seed must be a whole number; got True"),
        (HEAD + "lr = '0.1'", "lr must be a number"),
        (HEAD + "[embedding]\ndtype = 'int'", "embedding: 'int' is none of Polar"),
        (HEAD + "device = 'gpu'", "device 'gpu' cannot be used"),
        (HEAD + "[negatives]\nclass = 'UniformNegatives'\nnum_negatives = '5'", "of another type"),
        ('source = "demo"\nout = 5', "out must be a text; got 5"),
        ('source = ["demo"]\nout = "out"', "source must be a text"),
        ('source = "demo"\nout = "out"\nsubtree = 1.5', "subtree is an id or a name .* got 1.5"),
        ('pairs_csv = "p.csv"\nout = "out"\nsubtree = "Felidae"', "in the taxonomy of source"),
        ('pairs_csv = "p.csv"\nout = "out"', "p.csv cannot be read .* is the path right"),
        ('source = "demo"', "must say out, and either source"),
        ("source = ", "is not TOML"),
    ],
)
def test_train__says_what_is_wrong_with_a_file(train, text, message):
    code, err = train(text)
    assert code == 2
    assert re.search(message, err), err
    assert "Traceback" not in err


BLOCKS_OF = {
    "pairs": (blocks.AncestorPairs, blocks.MixedPairs),
    "negatives": (blocks.SharedNegatives, blocks.MixedNegatives),
    "loss": (blocks.EntailmentConeLoss, blocks.StressLoss),
    "margin": (blocks.ConstantMargin, blocks.DepthMargin, blocks.TreeMargin),
    "optimizer": (blocks.RowwiseRiemannianAdam, torch.optim.Adam, torch.optim.SGD),
}


@pytest.mark.parametrize("key", BLOCKS_OF)
def test_instantiate__knows_the_public_classes_that_fit_a_key(key, monkeypatch):
    known = config._classes(key)
    assert set(BLOCKS_OF[key]) <= set(known.values())
    assert not {blocks.Margin, torch.optim.Optimizer, pt.ClosurePairs} & set(known.values())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_train__calls_the_callbacks_of_the_file_and_says_that_tensorboard_is_missing(
    train, monkeypatch
):
    made = []

    class TensorBoard:
        def __init__(self, log_dir):
            made.append(log_dir)

        def __call__(self, row, embedding):
            made.append(row["epoch"])

    head, table = HEAD + "dim = 3\n", 'callback = {class = "TensorBoard", log_dir = "logs"}'
    with monkeypatch.context() as patched:
        patched.setattr(training, "TensorBoard", TensorBoard, raising=False)
        code, err = train(head + table)
    assert code == 0, err
    assert made == ["logs", 0, 1, 2]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, err = train(head + table)
    assert code == 2
    assert "callback TensorBoard: TensorBoard is not installed: `pip install tensorboard`" in err


def test_read_config__of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.toml cannot be read .* is the path right"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"run.toml is not TOML: 'utf-8'"):
        read_config(tmp_path / "run.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dim = " + "[" * 100_000, "(recursion|nested)"),
        ("dim = " + "{a = " * 10_000, "(recursion|nested)"),
        ("a." * 100_000 + "a = 1", r"a key of more than 20 parts: a\.a"),
        ("dim = {dim = 1, " + "a . " * 100_000 + "a = 1}", "a key of more than 20 parts"),
        ("[" + '"a".' * 100_000 + "a]", "a key of more than 20 parts"),
    ],
    ids=["lists", "tables", "key", "key inside", "table"],
)
def test_read_config__of_what_would_take_very_much_memory(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=f"run.toml is not TOML: .*{message}"):
        read_config(tmp_path / "run.toml")


TREE_RUN = 'source = "demo"\nsubtree = "Felidae"\nout = "out"\n'
EDGES = '[pairs]\nclass = "ParentChildPairs"'


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pairs_csv = "empty.csv"\nout = "out"', "empty.csv: a header, and nothing below it"),
        (TREE_RUN.replace("Felidae", "Yeti"), "Yeti"),
        (TREE_RUN + "dim = 1", "embedding_dim must be at least 2"),
        (TREE_RUN + f"batch_size = 131\n{EDGES}", "batch_size 131 is larger than the data, 130"),
        (TREE_RUN.replace('"out"', '"file/out"'), "file"),
        (TREE_RUN + 'checkpoint = "file/run"', "checkpoints cannot be written to file/run"),
        (TREE_RUN + f'checkpoint = "run"\nbatch_size = 9\n{EDGES}', "of another run"),
        (TREE_RUN.replace("Felidae", "Canidae") + 'checkpoint = "run"', "of another source"),
    ],
)
def test_train__bad_input_is_one_error_and_loses_nothing(train, tmp_path, text, message):
    (tmp_path / "empty.csv").write_text("id1,id2\n")
    (tmp_path / "file").touch()
    tax = pt.load_sample().subtree("Felidae")
    pt.fit(tax, dim=3, epochs=1, checkpoint=tmp_path / "run").model.save(tmp_path / "out")
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".toml"}
    code, err = train(text, "--resume") if "checkpoint" in text else train(text)
    assert code == 2
    assert message in err
    assert sum("error: " in line for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert {p: p.read_bytes() for p in kept} == kept
