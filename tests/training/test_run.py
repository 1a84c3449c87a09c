"""`fit`: what it learns, what it says, and that a killed run goes on with the same bits."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
import warnings
from functools import partial

import geoopt
import polars as pl
import pytest
import torch
from support.sampling import generator

import poincare_taxa as pt
from poincare_taxa.blocks.manifolds import PoincareBall
from poincare_taxa.blocks.schedules import Cosine
from poincare_taxa.taxonomy.taxonomy import TaxonomyError
from poincare_taxa.training import checkpoint
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.objectives import Objective
from poincare_taxa.training.progress import TensorBoard
from poincare_taxa.training.provenance import described, translated


def regular(children, levels):
    """Tree in which every node above the last level has so many children."""
    size = sum(children**level for level in range(levels + 1))
    return pt.Taxonomy.from_parents([-1, *((i - 1) // children for i in range(1, size))])


TREE = regular(4, 4)  # 341 nodes
SMALL = regular(3, 3)  # 40 nodes
ranking = {"pairs": pt.ParentChildPairs(SMALL), "batch_size": 16, "dim": 4}


def quiet_fit(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pt.fit(*args, **options)


@pytest.fixture(scope="module")
def run():
    return pt.fit(TREE, dim=6, seed=0)


def bits(run):
    return run.embedding.weight.detach()


def told(run):
    """The history without the seconds."""
    return run.history.drop("seconds")


# -------------------------------------------------------------------- what it learns


def test_fit__learns_the_hierarchy_where_its_random_start_knows_none(run):
    parts = {"radius", "precision", "ancestor", "correlation"}
    start = pt.PoincareEmbedding(len(TREE), 6, generator=generator(0))
    before = pt.evaluate(start, TREE, only=parts, progress=False)
    after = pt.evaluate(run.model, only=parts, progress=False)
    for measure in ("depth–radius Pearson", "precision@10", "ancestor MAP", "Spearman"):
        assert abs(before[measure].value) < 0.5, measure
        assert after[measure].value > 0.9, measure


def test_fit__of_blocks_learns_too():
    run = pt.fit(
        SMALL, dim=5, curriculum=pt.Curriculum.top_down(9, SMALL), batch_size=64, epochs=9,
        steps_per_epoch=15,
    )  # fmt: skip
    assert run.history["spearman"][-1] > 0.8 > 0.5 > run.history["spearman"][0]


@pytest.mark.parametrize(
    "optimizer",
    [partial(torch.optim.Adam, lr=0.01), partial(geoopt.optim.RiemannianAdam, lr=0.01)],
    ids=["Adam", "RiemannianAdam"],
)
def test_fit__takes_any_optimizer_and_a_ball_of_floats(optimizer):
    start = pt.PoincareEmbedding(
        len(SMALL), 4, manifold=PoincareBall(), dtype=torch.float32, generator=generator()
    )
    run = quiet_fit(
        SMALL,
        start,
        pairs=pt.AncestorPairs(SMALL),
        negatives=pt.SameDepthNegatives(SMALL, 5, anchor="ancestor", exclude="nothing"),
        loss=pt.DepthMarginRankingLoss(margin=pt.ConstantMargin(0.2)),
        regularizer=pt.NormRegularizer(weight=0.1),
        optimizer=optimizer,
        batch_size=32,
        epochs=4,
    )
    assert run.embedding is start
    assert run.history["loss"][-1] < run.history["loss"][1]
    assert (torch.linalg.vector_norm(bits(run), dim=1) < 1).all()


@pytest.mark.parametrize(
    "loss", [pt.StressLoss(), pt.TripletLoss(), pt.SoftmaxRankingLoss(), pt.EntailmentConeLoss()]
)
def test_fit__lowers_every_loss(loss):
    run = quiet_fit(SMALL, dim=4, loss=loss, batch_size=32, steps_per_epoch=10, epochs=4)
    assert run.history["loss"][-1] < run.history["loss"][1]


def test_fit__of_a_dag_needs_no_tree():
    pairs = pt.ClosurePairs([[0, 1], [0, 2], [1, 2], [3, 2], [3, 4], [0, 5]])
    run = pt.fit(pairs, dim=3, batch_size=4, epochs=15)
    assert isinstance(run.model, pt.ClosureEmbedding)
    assert run.history["pair_accuracy"][-1] > max(0.7, run.history["pair_accuracy"][0])


def test_fit__of_the_smallest_dag_has_nothing_to_measure():
    run = pt.fit(pt.ClosurePairs.from_edges([("dog", "animal")]), dim=2, epochs=2)
    assert run.model.ancestors("dog")["name"].to_list() == ["animal"]
    assert "pair_accuracy" not in run.history.columns  # No node is unrelated.


def test_fit__of_a_dag_says_which_pairs_it_ignored(tmp_path):
    """However they are given: to `fit`, to its negatives or to one part of a mixture."""
    pairs = pt.ClosurePairs([[0, 1], [0, 2], [1, 2], [3, 2], [3, 4], [0, 5]])
    loss, ignore = pt.SoftmaxRankingLoss(), [(3, 5), (4, 5), (0, 1)]
    own = pt.UniformNegatives(pairs, 2, ignore=ignore)
    mixed = pt.MixedNegatives([own, pt.UniformNegatives(pairs, 1, ignore=ignore[:1])])
    hashes = set()
    for options in (
        {"ignore": ignore},
        {"ignore": ignore, "loss": loss},
        {"negatives": own, "loss": loss},
        {"negatives": mixed, "loss": loss},
    ):
        run = quiet_fit(pairs, dim=3, epochs=1, progress=False, **options)
        assert run.ignored == 2  # one is a pair of the source
        hashes.add(run.model.meta["settings"]["ignored"]["sha256"])
    assert len(hashes) == 1
    assert "ignored" not in quiet_fit(pairs, dim=3, epochs=1).model.meta["settings"]
    for given in ({"negatives": own}, {"objective": pt.closure.ClosureSoftmax(pairs)}):
        with pytest.raises(ValueError, match="ignore is for the default negatives; give it to"):
            pt.fit(pairs, dim=3, ignore=ignore, **given)


def test_fit__with_a_seed_gives_the_same_bits_and_another_seed_others():
    one, same, other = (pt.fit(SMALL, dim=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(bits(one), bits(same))
    assert told(one).equals(told(same), null_equal=True)
    assert not torch.equal(bits(one), bits(other))


def test_run__model_is_a_copy_to_keep(run, tmp_path):
    assert torch.equal(run.model.radius, run.embedding.radius)
    assert run.model.radius.data_ptr() != run.embedding.weight.data_ptr()
    run.model.save(tmp_path / "model")
    assert pt.TaxonEmbedding.load(tmp_path / "model").meta["settings"]["method"] == "fit"


# -------------------------------------------------------------------- what it says


def test_history__has_the_floor_and_a_row_per_epoch(run):
    history = run.history
    assert history["epoch"].to_list() == [0, 1, 2, 3, 4]
    assert history["loss"].null_count() == 1
    assert history["depth_radius"][0] < 0.3 < 0.7 < history["depth_radius"][-1]
    assert history["spearman"][0] < 0.3 < 0.9 < history["spearman"][-1]
    assert run.ceiling["spearman"] == pytest.approx(1)
    trained = history[1:]
    shares = trained["share/stress"] + trained["share/root"]
    assert shares.to_list() == pytest.approx([1.0] * 4)
    total = trained["loss/stress"] + trained["loss/root"]
    assert total.to_list() == pytest.approx(trained["loss"].to_list())


def test_history__pair_accuracy_is_that_of_chance_before_and_of_the_tree_after(run):
    for name in ("gap 1", "gap 2", "gap 3+"):
        accuracy = run.history[f"pair_accuracy/{name}"]
        assert abs(accuracy[0] - 0.5) < 0.25
        assert accuracy[-1] > run.ceiling[f"pair_accuracy/{name}"] - 0.1


def test_history__share_of_the_regularizer_is_its_part_of_the_loss():
    heavy = quiet_fit(SMALL, **ranking, regularizer=pt.NormRegularizer(weight=1e3), epochs=1)
    light = quiet_fit(SMALL, **ranking, regularizer=pt.NormRegularizer(weight=1e-6), epochs=1)
    assert heavy.history["share/regularizer"][-1] > 0.95
    assert light.history["share/regularizer"][-1] < 0.01


def test_history__counts_rows_that_left_the_ball_and_rows_at_the_rim():
    class Outwards(Objective):
        steps_per_epoch = 20

        def __call__(self, points, generator):
            return {"radius": -points[:10].square().sum()}

    start = pt.PoincareEmbedding(len(SMALL), 3, manifold=PoincareBall(), generator=generator())
    adam = partial(torch.optim.Adam, lr=0.1)
    run = quiet_fit(SMALL, start, objective=Outwards(), optimizer=adam, epochs=2)
    assert run.history["at_clip"].to_list() == [0.0, 0.25, 0.25]
    assert 0 < run.history["projected"][1] < run.history["projected"][2] <= 0.25


def test_callback__adds_columns_at_the_epochs_that_it_chooses():
    def own(row, embedding):
        return {"own": embedding.radius.max()} if row["epoch"] % 2 == 0 else None

    def twice(row, embedding):
        return {"twice": 2 * row["own"]} if "own" in row else {}

    run = quiet_fit(SMALL, **ranking, epochs=3, callback=[own, twice])
    assert [value is not None for value in run.history["own"]] == [True, False, True, False]
    assert run.history["twice"][2] == 2 * run.history["own"][2]
    assert run.history["own"][2] != run.history["own"][0]


def test_callback__sees_the_row_and_the_points_of_each_epoch_and_changes_nothing():
    seen = []

    def watch(row, embedding):
        assert not torch.is_grad_enabled()
        seen.append((row, embedding.weight.detach().clone()))

    run = quiet_fit(SMALL, **ranking, epochs=2, callback=watch)
    assert [row for row, _ in seen] == [
        {name: value for name, value in row.items() if value is not None}
        for row in run.history.iter_rows(named=True)
    ]
    assert torch.equal(seen[-1][1], bits(run))
    assert not torch.equal(seen[0][1], seen[1][1])
    assert torch.equal(bits(run), bits(quiet_fit(SMALL, **ranking, epochs=2)))


def test_warning__says_that_nothing_was_learned():
    tax = pt.load_sample("mammals").subtree("Felidae")
    with pytest.warns(UserWarning, match="as before training") as said:
        pt.fit(tax, dim=4, loss=pt.StressLoss(), lr=1e-9, epochs=1, steps_per_epoch=1)
    assert {str(warning.message).split()[0] for warning in said} == {
        "depth_radius",
        "separation/subfamily",
        "separation/genus",
    }


def test_warning__says_that_training_undid_the_start():
    start = pt.PoincareEmbedding.from_layout(SMALL, 4)
    with pytest.warns(UserWarning, match="undid what the start had"):
        pt.fit(SMALL, start, **ranking, loss=lambda d_pos, d_neg: -d_pos.mean(), lr=1.0, epochs=2)


# -------------------------------------------------------------------- steps


def test_lr__follows_the_schedule():
    lr = {"lr": 0.1, "epochs": 3}
    run = quiet_fit(SMALL, **ranking, **lr, lr_schedule=[(0, 0.1), (1, 1.0), (2, 0.5)])
    assert run.history["lr"][1:].to_list() == pytest.approx([0.01, 0.1, 0.05])
    run = quiet_fit(SMALL, **ranking, **lr, lr_schedule=Cosine(3, last=0.0))
    last = 3 - 1 / run.history["steps"][-1]
    assert run.history["lr"][-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * last / 3)))


def test_max_grad_norm__bounds_what_the_optimizer_sees():
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["params"][0].grad.norm().item())

    quiet_fit(SMALL, **ranking, optimizer=partial(Watched, lr=0.1), max_grad_norm=1e-3, epochs=1)
    assert seen
    assert max(seen) <= 1e-3 * (1 + 1e-12)


# -------------------------------------------------------------------- early stopping


def of_metric(values, **options):
    """Run whose metric takes these values, epoch by epoch; points of every epoch are kept."""
    kept = []

    def measure(row, embedding):
        kept.append(embedding.weight.detach().clone())
        return {"m": values[row["epoch"]]}

    run = quiet_fit(SMALL, **ranking, epochs=len(values) - 1, callback=measure, **options)
    return run, kept


@pytest.mark.parametrize(
    ("mode", "values", "best", "last"),
    [
        ("max", [0.0, 1.0, 3.0, 2.0, 3.0, 9.0], 2, 4),  # equal is no improvement
        ("min", [5.0, 4.0, 6.0, 3.0, 7.0, 8.0], 3, 5),
        ("max", [math.nan, math.nan, 1.0, 0.0, 0.0, 9.0], 2, 4),
    ],
)
def test_early_stopping__returns_the_best_epoch_and_ends_after_patience(mode, values, best, last):
    run, kept = of_metric(values, early_stopping=pt.EarlyStopping("m", patience=2, mode=mode))
    assert run.best_epoch == best
    assert run.history["epoch"][-1] == last
    assert torch.equal(bits(run), kept[best])
    assert torch.equal(run.model.radius, run.embedding.radius)


def test_early_stopping__knows_the_direction_of_the_columns_of_fit():
    assert pt.EarlyStopping("depth_radius").better(2.0, 1.0)
    assert pt.EarlyStopping("loss").better(1.0, 2.0)
    with pytest.raises(ValueError, match="is a high 'mystery' good or bad"):
        pt.EarlyStopping("mystery")


@pytest.mark.parametrize(
    ("metric", "message", "steps"),
    [
        ("depth-radius", "there are depth_radius, .*; loss, lr and others of training follow", 0),
        ("separation/genera", "there are depth_radius", 0),
        ("loss/none", "no metric 'loss/none' in the history; there are loss, ", 3),
    ],
)
def test_early_stopping__of_an_unknown_metric_is_refused_as_soon_as_the_columns_are_known(
    metric, message, steps
):
    taken = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            taken.append(1)

    stopping = pt.EarlyStopping(metric, mode="max")
    with pytest.raises(ValueError, match=message):
        quiet_fit(
            SMALL, **ranking, optimizer=partial(Watched, lr=0.1), epochs=2, steps_per_epoch=3,
            early_stopping=stopping,
        )  # fmt: skip
    assert len(taken) == steps


@pytest.mark.parametrize("metric", ["loss", "share/loss", "lr", "gradient_norm", "projected"])
def test_early_stopping__takes_the_columns_of_training(metric):
    options = {"regularizer": pt.NormRegularizer(weight=0.1), "epochs": 1}
    stopping = pt.EarlyStopping(metric.replace("share/loss", "share/regularizer"), mode="max")
    assert quiet_fit(SMALL, **ranking, **options, early_stopping=stopping).best_epoch == 1


# -------------------------------------------------------------------- kill and resume


@pytest.mark.parametrize("kind", ["levels", "blocks", "Adam"])
def test_resume__gives_the_bits_of_a_run_that_was_not_interrupted(kind, tmp_path):
    options = {
        "levels": {"dim": 4},
        "blocks": {**ranking, "epochs": 5, "curriculum": pt.Curriculum.top_down(5, SMALL)},
        "Adam": {**ranking, "epochs": 5, "optimizer": partial(torch.optim.Adam, lr=0.01)},
    }[kind]
    stopping = pt.EarlyStopping("loss")
    whole = quiet_fit(SMALL, **options, early_stopping=stopping)

    class Killed(Exception):  # noqa: N818
        pass

    def kill(row, embedding):
        if row["epoch"] == 3:
            raise Killed

    # an interrupted epoch leaves no trace: it is repeated from its beginning
    more = {"checkpoint": tmp_path / "run", "early_stopping": stopping}
    with pytest.raises(Killed):
        quiet_fit(SMALL, **options, **more, callback=kill)
    again = quiet_fit(SMALL, **options, **more, resume=True)
    assert torch.equal(bits(whole), bits(again))
    assert told(whole).equals(told(again), null_equal=True)
    assert whole.best_epoch == again.best_epoch
    finished = quiet_fit(SMALL, **options, **more, resume=True)
    assert torch.equal(bits(whole), bits(finished))


SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import poincare_taxa as pt
tax = pt.Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])
run = pt.fit(tax, dim=4, pairs=pt.AncestorPairs(tax), batch_size=16, epochs=40, seed=3,
             checkpoint=sys.argv[1], resume=True, progress=False)
run.model.save(sys.argv[1] + "-model")
"""


def test_resume__after_sigkill_gives_the_same_bits(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(name):
        return subprocess.Popen([sys.executable, script, tmp_path / name], env=environment)

    whole = start("whole")
    killed = start("killed")
    deadline = time.monotonic() + 300  # two processes import torch, on a machine that may be busy
    while len(list((tmp_path / "killed").glob("epoch-*"))) < 2:
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = max((tmp_path / "killed").glob("epoch-*")).name
    assert done < "epoch-000040", "it was not killed in the middle"
    assert start("killed").wait() == 0
    assert whole.wait() == 0
    one, other = (pt.TaxonEmbedding.load(tmp_path / f"{n}-model") for n in ("whole", "killed"))
    assert torch.equal(one.radius, other.radius)
    assert torch.equal(one.direction, other.direction)
    assert not [f for f in (tmp_path / "killed").iterdir() if f.name.startswith(".")]


def test_run__that_is_stopped_goes_on_and_keeps_its_folder(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    folder = checkpoint.Checkpoints(tmp_path / "run")
    with subprocess.Popen([sys.executable, script, folder.path]) as process:
        deadline = time.monotonic() + 300  # it imports torch, on a machine that may be busy
        while len(folder.epochs()) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "it had ended before"
        last = folder.epochs()[-1]
        with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
            checkpoint.Checkpoints(folder.path).hold()
        assert folder.load(last).state
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0
    assert last < folder.epochs()[-1] == 40
    scope = {}
    whole = SCRIPT.replace("sys.argv[1]", repr(str(tmp_path / "whole")))
    with warnings.catch_warnings():
        exec(whole, scope)
    found = pt.TaxonEmbedding.load(tmp_path / "run-model")
    assert torch.equal(found.radius, scope["run"].model.radius)
    assert torch.equal(found.direction, scope["run"].model.direction)


def test_resume__looks_at_no_clock(tmp_path, monkeypatch):
    """Dates of files in the wrong order, and a clock that was set back, change nothing."""
    options = {**ranking, "epochs": 5}
    whole = quiet_fit(SMALL, **options)

    def stop(row, embedding):
        if row["epoch"] == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        quiet_fit(SMALL, **options, checkpoint=tmp_path / "run", callback=stop)
    files = sorted((tmp_path / "run").iterdir())
    assert len(files) == 2
    for file, date in zip(files, (2_000_000_000, 1_000_000_000), strict=True):
        os.utime(file, (date, date))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    again = quiet_fit(SMALL, **options, checkpoint=tmp_path / "run", resume=True)
    assert torch.equal(bits(whole), bits(again))
    assert checkpoint.Checkpoints(tmp_path / "run").epochs() == [4, 5]


def test_checkpoints__keep_the_last_and_the_best(tmp_path):
    values = [0.0, 1.0, 9.0, 2.0, 3.0, 4.0]
    options = {"checkpoint": tmp_path, "keep_last": 2}
    run, _ = of_metric(values, early_stopping=pt.EarlyStopping("m", mode="max"), **options)
    names = sorted(file.stem for file in tmp_path.iterdir())
    assert names == ["epoch-000002", "epoch-000004", "epoch-000005"]
    assert run.best_epoch == 2


# -------------------------------------------------------------------- bad input


@pytest.fixture
def trained(tmp_path):
    quiet_fit(SMALL, **ranking, epochs=2, checkpoint=tmp_path / "run")
    return tmp_path / "run"


def listing(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resume": False}, "holds checkpoints of a run .up to epoch 2.: resume=True"),
        ({"seed": 1}, "another run: seed was 0, now it is 1"),
        ({"batch_size": 8}, "another run: objective was"),
        ({"lr": 0.1}, "another run: optimizer was"),
        ({"pairs": pt.MixedPairs([pt.ParentChildPairs(SMALL)], [1])}, "another run: objective was"),
        ({"negatives": pt.UniformNegatives(SMALL, 50, exclude="positives")}, "objective was"),
        ({"negatives": pt.UniformNegatives(SMALL, 50, weights=range(40))}, "objective was"),
    ],
)
def test_resume__refuses_another_run(trained, change, message):
    before = listing(trained)
    with pytest.raises(ValueError, match=message):
        pt.fit(SMALL, **{**ranking, "epochs": 2, "checkpoint": trained, "resume": True, **change})
    assert listing(trained) == before


def test_resume__refuses_another_taxonomy(trained):
    before = listing(trained)
    other = pt.Taxonomy.from_parents(SMALL.parent, ids=[f"x{i}" for i in range(len(SMALL))])
    with pytest.raises(ValueError, match="checkpoints of another source: 40 nodes"):
        pt.fit(other, **ranking, epochs=2, checkpoint=trained, resume=True)
    assert listing(trained) == before


def test_resume__refuses_other_shares(tmp_path):
    strata = [pt.StratifiedPairs(SMALL, {"parent": 1, "grandparent": w}) for w in (1, 2)]
    mixed = [pt.MixedPairs([ranking["pairs"], strata[0]], [1, w]) for w in (1, 2)]
    for kind, (one, other) in {"strata": strata, "mixed": mixed}.items():
        folder = {"checkpoint": tmp_path / kind, "dim": 4, "batch_size": 16, "epochs": 1}
        quiet_fit(SMALL, pairs=one, **folder)
        with pytest.raises(ValueError, match="another run: objective was"):
            pt.fit(SMALL, pairs=other, **folder, resume=True)


def test_resume__refuses_a_checkpoint_that_was_cut_short_and_goes_on_without_it(trained):
    last = trained / "epoch-000002.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    before, again = listing(trained), {"epochs": 3, "checkpoint": trained, "resume": True}
    with pytest.raises(ValueError, match=r"epoch-000002.safetensors is damaged .* cut short"):
        pt.fit(SMALL, **ranking, **again)
    assert listing(trained) == before
    last.unlink()
    run = quiet_fit(SMALL, **ranking, **again)
    assert torch.equal(bits(run), bits(quiet_fit(SMALL, **ranking, epochs=3)))


@pytest.mark.parametrize(
    ("name", "value"), [("library_version", lambda: "9"), ("FORMAT_VERSION", "9")]
)
def test_resume__refuses_a_checkpoint_of_another_version(trained, monkeypatch, name, value):
    before = listing(trained)
    monkeypatch.setattr(checkpoint, name, value)
    with pytest.raises(ValueError, match="install that version, or start anew"):
        pt.fit(SMALL, **ranking, epochs=3, checkpoint=trained, resume=True)
    assert listing(trained) == before


@pytest.mark.parametrize(
    ("burn_in", "then", "now"),
    [
        (0, None, None),
        (0, [(0, 1.0), (1, 0.5)], [(0, 1.0), (1, 0.5)]),
        (2, None, [(0, 0.1), (2, 1.0)]),
        (1, [(0, 1.0), (1, 0.5)], [(0, 0.1), (1, 0.5)]),
        (3, [(0, 1.0), (1, 0.5)], [(0, 0.1), (1, 0.05), (3, 0.5)]),
        (2, Cosine(4), lambda epoch: (0.1 if epoch < 2 else 1) * Cosine(4)(epoch)),
    ],
)
def test_resume__knows_the_arguments_of_earlier_versions(burn_in, then, now):
    stored = {"burn_in": burn_in, "measure_every": 3, "lr_schedule": described(then), "seed": 0}
    today = {"lr_schedule": described(now), "seed": 0}
    assert translated(stored, today) == today
    assert stored["burn_in"] == burn_in, "what was read stays as it is"


def test_resume__refuses_another_burn_in():
    stored = {"burn_in": 2, "lr_schedule": None}
    assert translated(stored, {"lr_schedule": None}) != {"lr_schedule": None}


def test_resume__trains_on_for_more_epochs(trained):
    run = quiet_fit(SMALL, **ranking, epochs=4, checkpoint=trained, resume=True)
    whole = quiet_fit(SMALL, **ranking, epochs=4)
    assert torch.equal(bits(run), bits(whole))


def test_fit__names_the_rows_of_a_start_that_is_not_finite():
    start = pt.PoincareEmbedding(len(SMALL), 4)
    with torch.no_grad():
        start.weight[7, 2] = math.nan
    with pytest.raises(ValueError, match=r"start is not finite in 1 row: 7 \(id 16\)"):
        pt.fit(SMALL, start)


def test_fit__names_the_rows_whose_gradient_is_not_finite(tmp_path):
    class Bad(Objective):
        steps_per_epoch = 1

        def __call__(self, points, generator):
            rows = torch.tensor([3, 5])
            return {"bad": (points[rows, 0] * torch.tensor([1.0, math.inf])).sum()}

    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1: .* in 1 row: 5 \(id 15\)"):
        pt.fit(SMALL, objective=Bad(), optimizer=partial(torch.optim.SGD, lr=0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 1}, "embedding_dim must be at least 2"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 9}, "9 epochs, but there are 3 stages"),
        ({"batch_size": 40, "pairs": pt.ParentChildPairs(SMALL)}, "larger than the data, 39 pairs"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": 0.1, "optimizer": torch.optim.Adam}, "give yours its own step size"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive"),
        ({"resume": True}, "resume needs the folder"),
        ({"keep_last": 0, "checkpoint": "run"}, "keep_last must be at least 1"),
        ({"lr_schedule": [(1, 0.5)]}, "ascending epochs"),
        ({"objective": LevelStress(SMALL, tau=1.0), "batch_size": 3}, "batch_size of its own"),
        ({"embedding": pt.PoincareEmbedding(3, 4)}, "3 rows for 40 nodes"),
        ({"embedding": pt.PoincareEmbedding(40, 4), "dim": 5}, "the embedding has 4"),
        ({"pairs": pt.ClosurePairs([[0, 1]])}, "belongs to 2 nodes, where there are 40"),
        ({"pairs": pt.AncestorPairs(TREE)}, "belongs to 341 nodes, where there are 40"),
        ({"pairs": pt.MixedPairs([pt.AncestorPairs(TREE)], [1])}, "belongs to 341 nodes"),
        ({"loss": pt.StressLoss(), "negatives": lambda pairs, g: pairs}, "takes no negatives"),
        ({"pairs": types.SimpleNamespace(sample=None)}, "say steps_per_epoch"),
        ({"ignore": [(0, 1)]}, "in a tree no relative is a negative"),
    ],
)
def test_fit__refuses_arguments_out_of_range(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        pt.fit(SMALL, **options)


@pytest.mark.parametrize(
    ("source", "options", "pairs"),
    [
        (SMALL, {"pairs": pt.ParentChildPairs(SMALL)}, 39),
        (SMALL, {"negatives": pt.UniformNegatives(SMALL, 5)}, 3 * 1 + 9 * 2 + 27 * 3),
        (pt.ClosurePairs([[0, 1], [1, 2], [0, 2]]), {"loss": pt.SoftmaxRankingLoss()}, 3),
    ],
)
def test_fit__takes_all_pairs_at_once_where_there_are_fewer_than_its_own_batch(
    source, options, pairs
):
    run = quiet_fit(source, dim=3, epochs=2, progress=False, **options)
    assert run.history["steps"].to_list() == [0, 1, 1]
    assert run.model.meta["settings"]["objective"]["batch_size"] == pairs
    with pytest.raises(ValueError, match=f"batch_size 512 is larger than the data, {pairs} pairs"):
        pt.fit(source, dim=3, batch_size=512, **options)


def test_fit__refuses_what_is_no_source():
    with pytest.raises(TypeError, match=r"a Taxonomy \(pt.read.* or ClosurePairs; got str"):
        pt.fit("taxdump.tar.gz")


def test_fit__refuses_empty_pairs_and_unknown_ids():
    with pytest.raises(TaxonomyError, match="there are no pairs"):
        pt.fit(pt.ClosurePairs([]))
    with pytest.raises(ValueError, match="a taxonomy of one taxon has no levels"):
        pt.fit(pt.Taxonomy.from_parents([-1]))
    with pytest.raises(TaxonomyError, match="99"):
        pt.fit(SMALL, pairs=pt.ClosurePairs([SMALL.rows([0, 99])]))


def test_fit__refuses_a_folder_that_cannot_be_written_before_it_trains(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="checkpoints cannot be written"):
        pt.fit(TREE, checkpoint=tmp_path / "file" / "run")


# -------------------------------------------------------------------- where it is seen


def test_tensorboard__writes_every_column(monkeypatch, tmp_path):
    written = []

    class SummaryWriter:
        def __init__(self, log_dir):
            assert log_dir == str(tmp_path)

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append("flushed")

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    own = lambda row, embedding: {"own": 7.0}  # noqa: E731
    run = quiet_fit(SMALL, **ranking, epochs=2, callback=[own, TensorBoard(tmp_path)])
    assert written.count("flushed") == 3
    assert written[-1] == "flushed"
    last = {
        name: value for name, value, step in (w for w in written if w != "flushed") if step == 2
    }
    assert last == {k: v for k, v in run.history[-1].row(0, named=True).items() if k != "epoch"}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoard(tmp_path)


def test_progress__shows_the_loss_beside_the_floor(capsys):
    quiet_fit(SMALL, **ranking, epochs=1, progress=True)
    shown = capsys.readouterr().err
    assert "1/1" in shown
    assert "(start" in shown
    quiet_fit(SMALL, **ranking, epochs=1, progress=False)
    assert capsys.readouterr().err == ""


def test_history__is_a_table_of_numbers(run):
    assert all(dtype.is_numeric() for dtype in run.history.dtypes)
    assert isinstance(run.history, pl.DataFrame)
