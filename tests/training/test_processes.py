"""`fit` in several processes: equal tables, the result of one process, nothing lost when killed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
import torch
from support.processes import in_threads, torchrun
from support.sampling import generator
from torch import Tensor

import poincare_taxa as pt
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.processes import group
from poincare_taxa.processes.group import Processes
from poincare_taxa.processes.torchrun import job, restarted
from poincare_taxa.testing import synthetic_taxonomy
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.monitor import Monitor
from poincare_taxa.training.objectives import Objective, Ranking


def closure(tax):
    pairs = pt.AncestorPairs(tax)
    return pt.ClosurePairs(pairs[range(len(pairs))])


# -------------------------------------------------------------------- shares of a batch


def averaged(objective, points, size, seeds):
    """Terms and gradients of all shares of a batch, averaged as `Processes.average` does."""
    terms, gradient = [], torch.zeros_like(points)
    for rank in range(size):
        objective.split(rank, size)
        points.grad = None
        objective._step = objective._done = 0
        found = objective(points, generator(seeds[rank]))
        (sum(found.values()) / size).backward()
        terms.append(torch.stack([x.detach() for x in found.values()]))
        gradient += points.grad.to_dense()
    return torch.stack(terms).mean(0), gradient


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_level_stress__of_shares_is_that_of_the_batch(level, size, monkeypatch):
    tax = synthetic_taxonomy(60, seed=1)
    objective = LevelStress(tax, tau=1.0, batch_size=8)
    points = PoincareEmbedding(len(tax), 3, initial_radius=1.0, generator=generator(0)).weight
    tree = objective.tree

    def fixed(u, generator):  # partners that do not depend on the process
        partners = torch.stack([(u * (k + 3) + k) % len(tax) for k in range(17)], 1)
        partners = torch.cat((partners, torch.zeros_like(u[:, None])), 1)
        return partners, tree.distance(u[:, None], partners).double()

    monkeypatch.setattr(objective, "_partners", fixed)
    objective._open_level(level)
    whole, gradient = averaged(objective, points, 1, [0])
    parts, added = averaged(objective, points, size, range(size))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(added, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("level", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_level_stress__names_the_rows_that_each_share_moves(level, size):
    tax = synthetic_taxonomy(60, seed=1)
    objective = LevelStress(tax, tau=1.0, batch_size=3, passes=2)
    points = PoincareEmbedding(len(tax), 3, initial_radius=1.0, generator=generator(0)).weight
    objective.split(0, size)
    objective._open_level(level)
    rows, steps = objective.shares()
    assert (
        torch.cat(list(rows)).sort().values.tolist() == (tax.depth == level).nonzero()[0].tolist()
    )
    assert steps % (objective.steps_per_epoch // objective.passes) == 0
    for rank in range(size):
        objective.split(rank, size)
        objective._step, moved = 0, torch.zeros(len(tax), dtype=torch.bool)
        for _ in range(objective.steps_per_epoch):
            points.grad = None
            sum(objective(points, generator(rank)).values()).backward()
            moved |= (points.grad.to_dense() != 0).any(1)
        assert moved.nonzero()[:, 0].tolist() == rows[rank].tolist()


def test_monitor__of_processes_that_share_the_pairs_measures_what_one_does():
    tax = synthetic_taxonomy(60, seed=1)
    monitor = Monitor(tax, 0)
    points = PoincareEmbedding(len(tax), 3, initial_radius=1.0, generator=generator(0)).weight
    alone = monitor.measure(points, 3)
    assert {"spearman", "depth_radius", "pair_accuracy/gap 1"} <= alone.keys()
    for found in in_threads(3, lambda _: monitor.measure(points, 3, Processes.joined())):
        assert found == pytest.approx(alone, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_softmax__of_shares_is_that_of_the_batch(size):
    pairs = closure(synthetic_taxonomy(60, seed=1))
    objective = ClosureSoftmax(pairs, batch_size=5)
    points = PoincareEmbedding(pairs.num_nodes, 3, generator=generator(0)).weight
    with torch.no_grad():
        objective.begin(0, points, generator(1))
    whole, gradient = averaged(objective, points, 1, [0])
    parts, added = averaged(objective, points, size, range(size))
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(added, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("batch", "size"), [(10, 2), (7, 2), (7, 3), (2, 3)])
def test_batches__have_all_pairs_in_the_end_each_process_its_own(batch, size):
    tax = synthetic_taxonomy(60, seed=1)
    loss = pt.SoftmaxRankingLoss()
    negatives = pt.SharedNegatives(tax, 16)
    objective = Ranking(tax, pt.AncestorPairs(tax), negatives, loss, batch_size=batch)
    drawn, weights = [], []
    shared = generator(0).get_state()
    for rank in range(size):
        objective.split(rank, size)
        start = torch.Generator()
        start.set_state(shared)
        own = Processes(rank, size).generator(start)
        pairs = objective._sample(own)
        drawn.append((pairs.tolist(), negatives.tile(pairs, own).nodes.tolist()))
        weights.append(float(objective._shared({"x": torch.ones((), dtype=torch.float64)})["x"]))
        assert len(pairs) == max(1, round(weights[-1] * batch / size))
    assert sum(weights) == pytest.approx(size, rel=1e-15)
    tiles = {tuple(tile) for _, tile in drawn}
    assert len(tiles) == size, "two processes drew the same negatives"


def test_objective__of_ones_own_needs_no_split():
    class Own(Objective):
        steps_per_epoch = 3

        def __call__(self, points, generator):
            rows = torch.randint(len(points), (4,), generator=generator)
            return {"own": points.manifold.dist0(points[rows]).square().mean()}

    objective = Own()
    points = PoincareEmbedding(30, 3, generator=generator(0)).weight
    terms, _ = averaged(objective, points, 2, [0, 1])
    each = [float(objective(points, generator(seed))["own"].detach()) for seed in (0, 1)]
    assert terms.tolist() == [pytest.approx(sum(each) / 2, rel=1e-12)]


# -------------------------------------------------------------------- one process


def test_alone__without_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    alone = Processes.joined()
    shared = generator(0)
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.generator(shared) is shared
    assert alone.device("cuda") == "cuda"
    assert Processes(1, 2).device("cuda") == torch.device("cuda", 1)
    assert Processes(1, 2).device("cuda:0") == "cuda:0"
    assert Processes(1, 2).device(None) is None
    with pytest.raises(ZeroDivisionError):
        alone.once(lambda: 1 // 0)
    assert not torch.distributed.is_initialized()


def test_job__is_known_by_its_name_or_by_who_started_it(monkeypatch):
    assert job() is None
    assert not restarted()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert isinstance(job(), str)
    assert job() != "none"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert job() == "mine"
    assert restarted()


# -------------------------------------------------------------------- torchrun

TREE = "tax = pt.Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])\n"
CLOSURE = "pairs = pt.AncestorPairs(tax)\npairs = pt.ClosurePairs(pairs[range(len(pairs))])\n"
RECIPES = {
    "levels": "dict(dim=4, seed=3)",
    "blocks": "dict(dim=4, pairs=pt.AncestorPairs(tax), batch_size=33, epochs=4, seed=3)",
    "Adam": "dict(dim=4, pairs=pt.AncestorPairs(tax), batch_size=33, epochs=4, seed=3,"
    " optimizer=lambda params: torch.optim.Adam(params, lr=0.01))",
    "closure": "dict(dim=4, epochs=4, seed=3)",
}
FIT = """
source = pairs if KIND == "closure" else tax
seen = []
run = pt.fit(source, **OPTIONS, checkpoint=out + "-run", progress=False,
             callback=lambda row, embedding: seen.append(row["epoch"]))
run.history.drop("seconds").write_parquet(out + f"-{rank}.parquet")
torch.save([run.embedding.weight.detach().as_subclass(torch.Tensor), seen], out + f"-{rank}.pt")
"""


def program(kind):
    return TREE + CLOSURE + FIT.replace("OPTIONS", RECIPES[kind]).replace("KIND", repr(kind))


def points_of(folder, name, rank=0):
    return torch.load(folder / f"{name}-{rank}.pt", weights_only=True)[0]


def history_of(folder, name, rank=0):
    return pl.read_parquet(folder / f"{name}-{rank}.parquet")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["blocks", "Adam"])
def test_torchrun__tables_are_equal_and_one_process_calls_back_and_saves(kind, tmp_path):
    torchrun(tmp_path, program(kind), 2)
    first, second = (torch.load(tmp_path / f"out-{r}.pt", weights_only=True) for r in range(2))
    assert torch.equal(first[0], second[0])
    assert first[1] == list(range(5))
    assert second[1] == []
    histories = [history_of(tmp_path, "out", rank) for rank in range(2)]
    assert histories[0].equals(histories[1], null_equal=True)
    files = sorted(file.name for file in (tmp_path / "out-run").iterdir())
    assert files == ["epoch-000003.safetensors", "epoch-000004.safetensors"]
    loss = histories[0]["loss"]
    assert loss[-1] < loss[1]


@pytest.mark.slow
def test_torchrun__of_one_process_gives_the_bits_of_none(tmp_path):
    torchrun(tmp_path, program("levels"), 1, name="one")
    torchrun(tmp_path, program("levels"), 0, name="none")
    assert torch.equal(points_of(tmp_path, "one"), points_of(tmp_path, "none"))
    one, none = (history_of(tmp_path, name) for name in ("one", "none"))
    assert one.equals(none, null_equal=True)


@pytest.mark.slow
def test_torchrun__that_exchanges_after_each_step_gives_the_points_of_one_process(tmp_path):
    """Rows that each process steps alone are those of joint steps, if partners are the same."""
    fixed = """
from poincare_taxa.processes.group import own_generator
from poincare_taxa.training import level_stress
def partners(self, u, generator):
    v = torch.stack([(u * (k + 3) + k) % len(self.tree) for k in range(9)], 1)
    v = torch.cat((torch.minimum(v, u[:, None]), torch.zeros_like(u[:, None])), 1)
    return v, self.tree.distance(u[:, None], v).double()
level_stress.LevelStress._partners = partners
level_stress._PASSES_APART = 1
Processes.generator = lambda self, shared: own_generator(shared, self.rank)
"""
    options = "dict(dim=4, seed=3, objective=pt.training.LevelStress(tax, tau=1.0, passes=3))"
    whole = fixed + TREE + FIT.replace("KIND", "'levels'").replace("OPTIONS", options)
    torchrun(tmp_path, whole, 3, name="three")
    torchrun(tmp_path, whole, 0, name="none")
    # Sums of a batch in another order: last bits, which grow about threefold in each of 12 steps.
    three, none = points_of(tmp_path, "three"), points_of(tmp_path, "none")
    torch.testing.assert_close(three, none, rtol=1e-8, atol=1e-8)
    three, none = (history_of(tmp_path, name) for name in ("three", "none"))
    for column in ("steps", "loss", "loss/root", "gradient_norm", "gradient_norm_max", "projected"):
        found, expected = (run[column].drop_nulls().to_list() for run in (three, none))
        assert found == pytest.approx(expected, rel=1e-7, nan_ok=True)


@pytest.mark.slow
def test_torchrun__ends_alike_where_one_process_fails_alone(tmp_path):
    """The others take their steps, and wait for no one who is gone."""
    failing = """
from poincare_taxa.training.level_stress import LevelStress
call, calls = LevelStress.__call__, []
def poisoned(self, points, generator):
    calls.append(1)
    factor = float("nan") if rank == 1 and len(calls) == FIRST else 1.0
    return {name: factor * term for name, term in call(self, points, generator).items()}
LevelStress.__call__ = poisoned
try:
    pt.fit(tax, dim=3, progress=False, callback=lambda row, _: None)
except FloatingPointError as error:
    torch.save(str(error), out + f"-{rank}.pt")
"""
    for first in (1, 60):
        torchrun(tmp_path, TREE + failing.replace("FIRST", str(first)), 3)
        errors = [torch.load(tmp_path / f"out-{rank}.pt") for rank in range(3)]
        assert errors[0] == errors[1] == errors[2]
        epoch, step = divmod(first - 1, 50)
        assert errors[0].startswith(f"epoch {epoch + 1}, step {step + 1}: the loss or its gradient")


@pytest.mark.slow
def test_torchrun__ends_alike_where_moments_of_one_process_are_lost(tmp_path):
    """They have not travelled when they are found; the points are still those of all."""
    spoiling = """
from poincare_taxa.training.loop import Loop
steps = Loop._steps
def spoiled(self, epoch, generator, shares):
    did = steps(self, epoch, generator, shares)
    if rank == 1 and epoch == 1:
        self._moments()["exp_avg"][7, 2] = torch.nan
    return did
Loop._steps = spoiled
try:
    pt.fit(tax, dim=3, progress=False)
except FloatingPointError as error:
    torch.save(str(error), out + f"-{rank}.pt")
"""
    torchrun(tmp_path, TREE + spoiling, 2)
    errors = [torch.load(tmp_path / f"out-{rank}.pt") for rank in range(2)]
    assert errors[0] == errors[1]
    assert errors[0].startswith("after epoch 2 moments (exp_avg) are not finite, in 1 row: 7")


@pytest.mark.slow
def test_torchrun__hands_moments_over_where_rows_change_their_process(tmp_path):
    """Also to all processes, for an epoch of joint steps, and before a checkpoint."""
    own = """
class Own(pt.training.Objective):
    steps_per_epoch, size, rank = 5, 1, 0
    def begin(self, epoch, points, generator):
        self.epoch = epoch
    def split(self, rank, size):
        self.rank, self.size = rank, size
    def shares(self):
        rows = torch.arange(len(tax))
        owner = (rows + (self.epoch > 1)) % self.size
        return None if self.epoch == 3 else pt.training.objectives.Shares(
            [rows[owner == rank] for rank in range(self.size)], 2)
    def __call__(self, points, generator):
        rows = (self.shares() or pt.training.objectives.Shares(
            torch.arange(len(tax)).tensor_split(self.size), 1)).rows[self.rank]
        x = torch.nn.functional.embedding(rows, points, sparse=True)
        return {"own": self.size * (points.manifold.dist0(x) - 2 - rows / 9).square().sum()}
run = pt.fit(tax, dim=3, objective=Own(), epochs=6, lr=0.05, progress=False, CHECKPOINT)
torch.save([run.embedding.weight.detach().as_subclass(torch.Tensor)], out + f"-{rank}.pt")
"""
    none = (TREE + own).replace("CHECKPOINT", "")
    kept = (TREE + own).replace("CHECKPOINT", "checkpoint=out + '-run'")
    torchrun(tmp_path, none, 0, name="one")
    torchrun(tmp_path, none, 3, name="three")
    torchrun(tmp_path, kept.replace("epochs=6", "epochs=3"), 3, name="kept")
    torchrun(tmp_path, kept.replace("checkpoint=", "resume=True, checkpoint="), 2, name="kept")
    one, three, kept = (points_of(tmp_path, name) for name in ("one", "three", "kept"))
    # Sums over rows in another order do not enter: rows are stepped one by one.
    torch.testing.assert_close(three, one, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(kept, one, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_torchrun__of_all_queries_gives_the_points_of_one_process(tmp_path):
    """Closure mode draws nothing but the order of queries, and a batch of all has no order."""
    options = FIT.replace("KIND", "'closure'").replace(
        "OPTIONS",
        "dict(dim=4, objective=pt.closure.ClosureSoftmax(pairs, "
        "epochs=3, batch_size=BATCH, rejoin=1.0))",
    )
    # 40 inner nodes but the root, and a query for the leaves of each of the 27 last parents
    whole = TREE + CLOSURE + options.replace("BATCH", str(39 + 27))
    torchrun(tmp_path, whole, 3, name="three")
    torchrun(tmp_path, whole, 0, name="none")
    three, none = (points_of(tmp_path, name) for name in ("three", "none"))
    # Sums of a gradient in another order, through three steps of Adam of at most 0.25 radians.
    torch.testing.assert_close(three, none, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "killed"), [("levels", 1), ("closure", 0)])
def test_torchrun__that_lost_a_process_ends_as_one_that_did_not(kind, killed, tmp_path):
    torchrun(tmp_path, program(kind), 2, name="whole")
    dying = """
from poincare_taxa.training.loop import Loop
step, first = Loop._step, os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
def dying(self, epoch, *rest):
    if first and rank == KILLED and epoch == 2:
        os.kill(os.getpid(), 9)
    return step(self, epoch, *rest)
Loop._step = dying
""".replace("KILLED", str(killed))
    torchrun(tmp_path, dying + program(kind), 2, restarts=1, name="killed")
    assert torch.equal(points_of(tmp_path, "killed"), points_of(tmp_path, "whole"))
    assert torch.equal(points_of(tmp_path, "whole"), points_of(tmp_path, "whole", 1))
    killed, whole = (history_of(tmp_path, name) for name in ("killed", "whole"))
    assert killed.equals(whole, null_equal=True)
    seen = torch.load(tmp_path / "killed-0.pt", weights_only=True)[1]
    assert seen == [3, 4], "it began anew instead of resuming"


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 0), (0, 3)])
def test_resume__in_another_number_of_processes(first, then, tmp_path):
    part = program("levels").replace("checkpoint=", "epochs=EPOCHS, resume=RESUME, checkpoint=")
    start = part.replace("EPOCHS", "2").replace("RESUME", "False")
    torchrun(tmp_path, start, first)
    half = points_of(tmp_path, "out")
    torchrun(tmp_path, part.replace("EPOCHS", "4").replace("RESUME", "True"), then)
    history = history_of(tmp_path, "out")
    assert history["epoch"].to_list() == [0, 1, 2, 3, 4]
    assert history["spearman"][-1] > 0.9
    tax = pt.Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])
    upper = tax.depth <= 2  # levels that stay where they are
    assert torch.equal(points_of(tmp_path, "out")[upper], half[upper])


@pytest.mark.slow
def test_torchrun__trains_a_file_and_writes_once(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(
        f'source = "demo"\nsubtree = "Felidae"\nout = "{tmp_path}/cats"\ndim = 4\n'
        f'checkpoint = "{tmp_path}/run"\n'
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "poincare_taxa", "train", str(file), "--json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [row["epoch"] for row in said["history"]] == [0, 1, 2, 3, 4]
    assert len(pt.TaxonEmbedding.load(tmp_path / "cats")) == len(
        pt.load_sample("mammals").subtree("Felidae")
    )


@pytest.mark.slow
def test_errors__of_the_first_process_end_all(tmp_path):
    (tmp_path / "out-run").write_text("a file where the folder should be")
    with pytest.raises(subprocess.CalledProcessError) as error:
        torchrun(tmp_path, program("levels"), 2)
    assert error.value.stderr.count("OSError: checkpoints cannot be written") == 2


@pytest.mark.slow
def test_fit__in_processes_with_other_settings_is_refused(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        torchrun(tmp_path, program("levels").replace("seed=3", "seed=rank"), 2)
    assert "the processes have other sources or settings" in error.value.stderr


@pytest.mark.slow
def test_tables__that_are_not_equal_are_noticed(tmp_path):
    own = """
class Own(pt.training.Objective):
    steps_per_epoch = 1
    def begin(self, epoch, points, generator):
        with torch.no_grad():
            points[5, 0] += rank
    def __call__(self, points, generator):
        return {"own": points[:, 0].square().sum()}
pt.fit(pt.Taxonomy.from_parents([-1, 0, 0, 0, 0, 0]), dim=3, objective=Own(), epochs=1)
"""
    with pytest.raises(subprocess.CalledProcessError) as error:
        torchrun(tmp_path, own, 2)
    assert "the tables of 2 processes are not equal after epoch 1" in error.value.stderr


@pytest.mark.slow
def test_exchange__gives_each_row_of_its_owner(tmp_path):
    """Of three processes, one without rows, and rows that no one owns; tables of any shape."""
    own = """
owned = [torch.tensor([1, 4, 5]), torch.tensor([], dtype=torch.int64), torch.tensor([0])]
tables = [torch.full((7, 2), 1.0 + rank), torch.full((7,), rank), torch.full((7, 1, 2), rank > 0)]
Processes.joined().exchange(tables, owned)
torch.save(tables, out + f"-{rank}.pt")
"""
    torchrun(tmp_path, own, 3)
    for rank in range(3):
        owner = torch.tensor([2, 0, rank, rank, 0, 0, rank])
        wide, narrow, deep = torch.load(tmp_path / f"out-{rank}.pt")
        assert torch.equal(wide, (1.0 + owner)[:, None].expand(7, 2))
        assert torch.equal(narrow, owner)
        assert torch.equal(deep, (owner > 0)[:, None, None].expand(7, 1, 2))


@pytest.mark.slow
def test_average__adds_up_sparse_and_dense_gradients(tmp_path):
    """Of three processes: rows that overlap, none, repeated ones; and a dense one among them."""
    own = """
processes = Processes.joined()
results = []
given = [([1, 4, 4], 1.0), ([], 0.0), ([0, 1], 10.0)]
for dense in (None, 1):
    points = torch.nn.Parameter(torch.zeros(6, 2, dtype=torch.float32))
    rows, value = given[rank]
    rows = torch.tensor(rows, dtype=torch.int64)
    gradient = torch.sparse_coo_tensor(rows[None], torch.full((len(rows), 2), value), (6, 2))
    points.grad = gradient.to_dense() + 100 if rank == dense else gradient
    if dense is None and rank == 1:
        points.grad = None
    terms = processes.average(points, {"a": torch.tensor(float(rank)), "b": torch.tensor(3.0)})
    results += [points.grad.to_dense(), float(terms["a"]), float(terms["b"])]
torch.save(results, out + f"-{rank}.pt")
"""
    torchrun(tmp_path, own, 3)
    column = torch.tensor([10.0, 11.0, 0.0, 0.0, 2.0, 0.0])
    for rank in range(3):
        found = torch.load(tmp_path / f"out-{rank}.pt", weights_only=True)
        sparse, dense = found[0], found[3]
        assert isinstance(sparse, Tensor)
        assert torch.equal(sparse, column[:, None].expand(6, 2))
        assert torch.equal(dense, 100 + column[:, None].expand(6, 2))
        assert found[1:3] == [1.0, 3.0]


# -------------------------------------------------------------------- threads of gloo


def policies():
    """Scheduling policy of this thread, of one made among gloo's, and of this thread after."""
    before = os.sched_getscheduler(0)
    with group._threads_in_turn(), ThreadPoolExecutor(1) as team:
        made = team.submit(os.sched_getscheduler, 0).result()
    return before, made, os.sched_getscheduler(0)


needs_policies = pytest.mark.skipif(
    not hasattr(os, "sched_setscheduler"), reason="this system has no scheduling policies"
)


@needs_policies
def test_threads_in_turn__are_those_that_a_block_makes():
    assert policies() == (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_OTHER)


@needs_policies
def test_threads_in_turn__leave_a_policy_as_it_is_that_was_chosen():
    with ThreadPoolExecutor(1) as team:  # the policy of a thread ends with it
        team.submit(os.sched_setscheduler, 0, os.SCHED_BATCH, os.sched_param(0)).result()
        assert team.submit(policies).result() == (os.SCHED_BATCH,) * 3


@needs_policies
def test_threads_in_turn__are_as_they_were_where_the_system_forbids(monkeypatch):
    def forbidden(*args):
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert policies() == (os.SCHED_OTHER,) * 3


JOINED = """
Processes.joined()
of = {int(task): os.sched_getscheduler(int(task)) for task in os.listdir("/proc/self/task")}
own = of.pop(os.getpid())
torch.save((own, list(of.values())), f"{out}-{rank}.pt")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of threads")
def test_threads_in_turn__are_those_of_gloo(tmp_path):
    torchrun(tmp_path, JOINED, 2)
    for rank in range(2):
        own, others = torch.load(tmp_path / f"out-{rank}.pt")
        assert own == os.SCHED_OTHER
        assert os.SCHED_BATCH in others
