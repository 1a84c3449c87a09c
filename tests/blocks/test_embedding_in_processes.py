"""Tables of points in torch's data parallelism: equal replicas, the result of one process."""

import re
from pathlib import Path

import pytest
import torch
from support.processes import torchrun

import poincare_taxa as pt

MATRIX = """
import geoopt
from copy import deepcopy
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

SIZE, STEPS = 2, 3
dist.init_process_group("gloo")


class Model(torch.nn.Module):
    def __init__(self, table, encoder):
        super().__init__()
        self.table = table
        self.encoder = torch.nn.Linear(4, 3, dtype=torch.float64) if encoder else None

    def forward(self, nodes, x):
        loss = self.table.dist(nodes[:, 0], nodes[:, 1]).square().mean()
        if self.encoder is None:
            return loss
        ball = self.table.manifold.to_polar(self.table(nodes[:, 2]))
        return loss + (self.encoder(x) - ball[0][:, None]).square().mean()


def optimizers(name, model):
    if name == "ours":
        return [pt.RowwiseRiemannianAdam(model.parameters(), lr=0.1)]
    table = [p for p in model.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    rest = [p for p in model.parameters() if not isinstance(p, geoopt.ManifoldParameter)]
    own = [getattr(geoopt.optim, name)(table, lr=0.1)]
    return own + [torch.optim.SGD(rest, lr=0.1)] if rest else own


def trained(model, forward, name, share):
    steppers = optimizers(name, model)
    for step in range(STEPS):
        drawn = torch.Generator().manual_seed(step)
        nodes = torch.randint(30, (SIZE, 8, 3), generator=drawn)
        x = torch.randn(SIZE, 8, 4, generator=drawn, dtype=torch.float64)
        for stepper in steppers:
            stepper.zero_grad()
        forward(share(nodes), share(x)).backward()
        for stepper in steppers:
            stepper.step()
    return torch.cat([p.detach().as_subclass(torch.Tensor).ravel() for p in model.parameters()])


ALL = ("ours", "RiemannianSGD", "RiemannianAdam", "SparseRiemannianSGD", "SparseRiemannianAdam")
results = {}
for manifold in (pt.Polar(), pt.PoincareBall()):
    for name in ALL:
        for sparse in (False, True) if name == "ours" else ("Sparse" in name,):
            for encoder in (False, True):
                torch.manual_seed(rank)  # DDP takes the start of the first process
                table = pt.PoincareEmbedding(
                    30, 3, manifold=manifold, sparse=sparse, initial_radius=1.0
                )
                model = Model(table, encoder)
                parallel = DistributedDataParallel(model)
                start = deepcopy(model)
                found = trained(model, parallel, name, lambda t: t[rank])
                single = trained(start, start, name, lambda t: t.flatten(0, 1))
                replicas = [torch.empty_like(found) for _ in range(SIZE)]
                dist.all_gather(replicas, found)
                key = f"{type(manifold).__name__} {name} {'sparse' if sparse else 'dense'}"
                results[key + (" encoder" if encoder else "")] = [*replicas, single]
torch.save(results, out + f"-{rank}.pt")
dist.destroy_process_group()
"""
OPTIMIZERS = (
    "ours dense",
    "ours sparse",
    "RiemannianSGD dense",
    "RiemannianAdam dense",
    "SparseRiemannianSGD sparse",
    "SparseRiemannianAdam sparse",
)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    torchrun(folder, MATRIX, 2)
    return torch.load(folder / "out-0.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["", " encoder"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("manifold", ["Polar", "PoincareBall"])
def test_data_parallel__has_equal_replicas_and_the_result_of_the_joined_batch(
    manifold, name, encoder, matrix
):
    first, second, single = matrix[f"{manifold} {name}{encoder}"]
    assert torch.equal(first, second)
    # Gradients are sums in another order (some 1e-16 of them), and three steps of 0.1 go along
    # them: Adam divides by their size, which is not near 0 here.
    torch.testing.assert_close(first, single, rtol=1e-11, atol=1e-11)


SHARDED = """
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))


class Model(torch.nn.Module):
    def __init__(self, table, encoder):
        super().__init__()
        self.table, self.encoder = table, encoder

    def forward(self, nodes, x):
        return (self.encoder(x) - self.table(nodes)).square().mean()


def by_hand(table):
    table.weight = torch.nn.Parameter(distribute_tensor(table.weight.data, mesh, [Shard(0)]))


refused = []
for shard in (
    lambda table: fully_shard(table, mesh=mesh),
    lambda table: fully_shard(torch.nn.Sequential(table, torch.nn.Linear(4, 2)), mesh=mesh),
    lambda table: distribute_module(table, mesh),
    by_hand,
):
    try:
        shard(pt.PoincareEmbedding(30, 3))
        refused.append("")
    except ValueError as error:
        refused.append(str(error))

# The way that the message and the docs name: an encoder in shards, a whole table with DDP.
torch.manual_seed(0)
table = DistributedDataParallel(pt.PoincareEmbedding(30, 3, sparse=True))
encoder = torch.nn.Linear(4, 4, dtype=torch.float64)
model = Model(table, encoder)
fully_shard(model, mesh=mesh, ignored_params=set(table.parameters()))
before = table.module.weight.detach().clone()
steppers = [
    pt.RowwiseRiemannianAdam(table.parameters(), lr=0.1),
    torch.optim.AdamW(encoder.parameters(), lr=0.1),
]
for step in range(2):
    torch.manual_seed(10 * step + rank)
    model(torch.randint(30, (6,)), torch.randn(6, 4, dtype=torch.float64)).backward()
    for stepper in steppers:
        stepper.step()
        stepper.zero_grad()
weight = table.module.weight
replicas = [torch.empty(30, 4, dtype=torch.float64) for _ in range(2)]
dist.all_gather(replicas, weight.detach().as_subclass(torch.Tensor))
weight.manifold.assert_check_point_on_manifold(weight)
torch.save([refused, *replicas, before.as_subclass(torch.Tensor)], out + f"-{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_shards__are_refused_where_they_are_made_and_a_whole_table_trains_beside_them(tmp_path):
    torchrun(tmp_path, SHARDED, 2)
    refused, first, second, before = torch.load(tmp_path / "out-0.pt", weights_only=True)
    assert len(refused) == 4
    assert all("DTensor) has no manifold" in message for message in refused)
    assert torch.equal(first, second)
    moved = (first != before).any(1).sum()
    assert 0 < moved < 30


DRAWS = """
from torch import distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

dist.init_process_group("gloo")
tax = pt.Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])
pairs = pt.AncestorPairs(tax)
closed = pt.ClosurePairs(pairs[range(len(pairs))])
samplers = [
    pairs.sample,
    closed.sample,
    pt.StratifiedPairs(tax, {"parent": 1, "deeper": 2}).sample,
    pt.MixedPairs([pairs, pt.ParentChildPairs(tax)], [1, 2]).sample,
    pt.blocks.LCATriplets(tax).sample,
    lambda n: pt.UniformNegatives(tax, 5)(pairs[range(n)]),
    lambda n: pt.SharedNegatives(tax, 40).tile(pairs[range(n)]).nodes,
]
torch.manual_seed(0)
drawn = [sampler(50).tolist() for sampler in samplers]
state = torch.get_rng_state().tolist()
torch.manual_seed(0)
again = [sampler(50).tolist() for sampler in samplers]
given = pairs.sample(50, generator=torch.Generator().manual_seed(1)).tolist()
loader = DataLoader(pairs, sampler=DistributedSampler(pairs), batch_size=8)
share = torch.cat(list(loader)).tolist()
torch.save([drawn, again, given, state, share], out + f"-{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_samplers__draw_other_batches_in_each_process_from_one_seed(tmp_path):
    torchrun(tmp_path, DRAWS, 2)
    first, second = (torch.load(tmp_path / f"out-{rank}.pt") for rank in range(2))
    assert all(one != other for one, other in zip(first[0], second[0], strict=True))
    assert first[0] == first[1]
    assert second[0] == second[1]
    assert first[2:4] == second[2:4], "a generator that is given, and the global one, are shared"
    tax = pt.Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])
    every = {
        tuple(pair) for pair in pt.AncestorPairs(tax)[range(len(pt.AncestorPairs(tax)))].tolist()
    }
    assert {tuple(pair) for pair in first[4] + second[4]} == every
    assert len(first[4]) == len(second[4]) == -(-len(every) // 2)


@pytest.mark.slow
def test_docs__loop_of_ones_own_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "distributed.md"
    program = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    torchrun(tmp_path, program, 2)
    saved = torch.load(tmp_path / "table.pt", weights_only=True)
    table = pt.PoincareEmbedding(len(pt.load_sample("mammals").subtree("Felidae")), 5)
    table.load_state_dict({key.removeprefix("table."): value for key, value in saved.items()})
    table.manifold.assert_check_point_on_manifold(table.weight)
