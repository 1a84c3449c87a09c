"""Queries shared by processes: the answers of one process, to the last digit."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes import torchrun

import poincare_taxa as pt
from poincare_taxa.processes.group import Processes

PROGRAM = """
import numpy as np
tax = pt.load_sample("mammals").subtree("Carnivora")
model = pt.embed(tax, dim=4)
together = dict(processes=True) if JOINED else {}

report = pt.evaluate(model, queries=100, exact=False, progress=False, **together)
report.to_frame().write_parquet(out + f"-report-{rank}.parquet")
table = model.nearest(list(tax.ids[50:90]), k=3, within=tax.ids[40], **together)
table.write_parquet(out + f"-keys-{rank}.parquet")
table = model.nearest(point=np.linspace(-0.3, 0.3, 12).reshape(3, 4), k=3, **together)
table.write_parquet(out + f"-points-{rank}.parquet")
table = model.nearest(tax.ids[3], k=3, **together)
table.write_parquet(out + f"-key-{rank}.parquet")
graph = model.neighbour_graph(4, **together)
np.savez(out + f"-graph-{rank}.npz", data=graph.data, indices=graph.indices, indptr=graph.indptr)

refused = []
if JOINED:
    other = pt.embed(tax, dim=4, seed=rank)
    flat, zero = torch.linspace(0, 0.1, 2 * len(tax)).reshape(-1, 2), torch.zeros(len(tax), 2)
    flat[0], keys = 0, list(tax.ids[50:55])
    spaces = ["euclidean", "ball"]
    # They agree about the distance from the root's point, and not about others.
    functions = [
        lambda u, v: (u - v).norm(dim=-1),
        lambda u, v: (u - v).norm(dim=-1) + (u.norm(dim=-1) * v.norm(dim=-1)),
    ]
    for call in (
        lambda: pt.evaluate(other, only={"ancestor"}, processes=True),
        lambda: pt.evaluate(model, only={"ancestor"}, seed=rank, processes=True),
        lambda: pt.evaluate(model, taxon_ranks=["family", "genus"][rank:], processes=True),
        lambda: pt.evaluate(flat, tax, manifold=spaces[rank], processes=True),
        lambda: pt.evaluate(flat, tax, manifold=functions[rank], processes=True),
        lambda: pt.evaluate(zero, tax, c=1.0 + rank, processes=True),
        lambda: model.nearest(list(tax.ids[rank : rank + 9]), processes=True),
        lambda: model.nearest(point=np.full(4, 0.1 + 0.1 * rank), processes=True),
        lambda: model.nearest(keys, taxon_rank=["genus", "family"][rank], processes=True),
        lambda: model.nearest(keys, among=list(tax.ids[30 + rank : 60 + rank]), processes=True),
        lambda: model.neighbour_graph(3 + rank, processes=True),
    ):
        try:
            call()
            refused.append("")
        except RuntimeError as error:
            refused.append(str(error))
open(out + f"-refused-{rank}.txt", "w").write("\\n".join(refused))
"""
TABLES = ("report", "keys", "points", "key")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    torchrun(folder, PROGRAM.replace("JOINED", "True"), 2, name="two")
    torchrun(folder, PROGRAM.replace("JOINED", "False"), 0, name="one")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_shared_queries__have_the_answers_of_one_process_in_each(table, folder):
    one = pl.read_parquet(folder / f"one-{table}-0.parquet")
    assert len(one)
    for rank in range(2):
        found = pl.read_parquet(folder / f"two-{table}-{rank}.parquet")
        assert found.equals(one, null_equal=True)


@pytest.mark.slow
def test_shared_graph__is_that_of_one_process_in_each(folder):
    one = np.load(folder / "one-graph-0.npz")
    for rank in range(2):
        found = np.load(folder / f"two-graph-{rank}.npz")
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(found[part], one[part])
            assert found[part].dtype == one[part].dtype


@pytest.mark.slow
def test_shared_queries__of_processes_that_differ_are_refused_in_each(folder):
    for rank in range(2):
        refused = (folder / f"two-refused-{rank}.txt").read_text().splitlines()
        assert [message.split(" ")[:3] for message in refused] == [
            *6 * [["the", "processes", "evaluate"]],
            *5 * [["the", "processes", "search"]],
        ]


@pytest.mark.slow
def test_command__is_shared_by_torchrun_and_prints_once(tmp_path):
    saved = tmp_path / "cats"
    pt.embed(pt.load_sample("mammals").subtree("Felidae"), dim=3).save(saved)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = ["-m", "poincare_taxa", "evaluate", str(saved), "--save", "--json"]
    found = []
    for start in (launcher, []):
        arguments = [sys.executable, *start, *command]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0]["rows"] == found[1]["rows"]


SPLIT = """
import atexit
def left():
    with open(out + f"-left-{rank}", "w") as file:
        file.write(str(torch.distributed.is_initialized()))
atexit.register(left)  # what is registered first is called last
processes = Processes.joined()
asked = torch.arange(5).numpy()
seen = []
def measure(some):
    seen.extend(some.tolist())
    return {"twice": 2 * some, "pairs": torch.from_numpy(some)[:, None].expand(-1, 2).numpy()}
found = processes.split(asked, measure)
few = processes.split(asked[:2], lambda some: {"x": some} if len(some) else {})
def failing(some):
    if rank == 1:
        raise KeyError("a process failed")
    return {"x": some}
try:
    processes.split(asked, failing)
except KeyError as error:
    message = str(error)
torch.save([found["twice"].tolist(), found["pairs"].tolist(), seen, few["x"].tolist(), message],
           out + f"-{rank}.pt")
"""


@pytest.mark.slow
def test_split__each_process_has_all_results_in_order_and_every_error(tmp_path):
    import torch

    torchrun(tmp_path, SPLIT, 3)
    seen = []
    for rank in range(3):
        twice, pairs, mine, few, message = torch.load(tmp_path / f"out-{rank}.pt")
        assert twice == [0, 2, 4, 6, 8]
        assert pairs == [[i, i] for i in range(5)]
        assert few == [0, 1]
        assert "a process failed" in message
        # Threads of a group that lives until the interpreter ends can abort the process.
        assert (tmp_path / f"out-left-{rank}").read_text() == "False"
        seen += mine
    assert seen == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(0, 100)))
def test_split__alone_measures_all_at_once(queries):
    calls = []

    def measure(some):
        calls.append(some.tolist())
        return {"same": some}

    found = Processes().split(np.array(queries, np.int64), measure)
    assert found["same"].tolist() == queries
    assert calls == [queries]
