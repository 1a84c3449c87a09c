"""Rates of drawing pairs and negatives, from the complete NCBI taxonomy and from closures.

Before a sampler is timed, what it draws is checked against the tree or the closure.
"""

import resource
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

import poincare_taxa as pt
from benchmarks.clades import ncbi
from benchmarks.measure import Machine, side_by_side, stopwatch
from benchmarks.tables import Row

BATCH, NEGATIVES, TILE = 1024, 50, 4096
SHARES = {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8}


ONE_CORE = Machine.of("cpu", 1)


def row(name: str, draw: Callable[[], torch.Tensor], items: int) -> Row:
    """Time draws, after one to warm up."""
    draw()
    seconds = side_by_side({"": draw}, ONE_CORE)[""].median
    rate = f"{items / seconds / 1e6:.2f}"
    return {"what is drawn": name, "ms": f"{1e3 * seconds:.2f}", "million a second": rate}


def measure(closures: list[Path]) -> Iterator[Row]:
    """Yield a row for each sampler; at last what memory the process used."""
    generator = torch.Generator().manual_seed(0)
    yield from tree_samplers(generator)
    for path in closures:
        yield from closure_samplers(path, generator)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield {"what is drawn": f"(peak memory of all of this: {peak:.2f} GiB)"}


def assert_unrelated(nodes: torch.Tensor, anchor: torch.Tensor, tree: pt.blocks.TreeIndex) -> None:
    related = tree.is_ancestor(nodes, anchor) | tree.is_ancestor(anchor, nodes)
    assert not related[nodes >= 0].any()


def tree_samplers(generator: torch.Generator) -> Iterator[Row]:
    tax = ncbi()
    with stopwatch() as elapsed:
        tree = pt.blocks.TreeIndex(tax)
    yield {"what is drawn": f"(TreeIndex of {len(tax):,} taxa)", "ms": f"{1e3 * elapsed.cpu:.0f}"}
    for pairs in (
        pt.ParentChildPairs(tree),
        pt.AncestorPairs(tree),
        pt.StratifiedPairs(tree, SHARES),
        pt.blocks.LCAPairs(tree),
        pt.blocks.LCATriplets(tree),
    ):
        drawn = pairs.sample(100_000, generator=generator)
        if isinstance(pairs, pt.AncestorPairs):
            assert tree.is_ancestor(drawn[:, 0], drawn[:, 1]).all()
            assert (drawn[:, 0] != drawn[:, 1]).all()
        size = f" of {len(pairs):,}" if isinstance(pairs, pt.AncestorPairs) else ""
        for batch in (BATCH, 16 * BATCH):
            name = f"{type(pairs).__name__}{size}: {batch:,}"
            yield row(name, partial(pairs.sample, batch, generator=generator), batch)

    pairs = pt.AncestorPairs(tree).sample(BATCH, generator=generator)
    samplers = {
        "UniformNegatives": pt.UniformNegatives(tree, NEGATIVES),
        "UniformNegatives, weighted": pt.UniformNegatives(
            tree, NEGATIVES, weights=tax.subtree_size**0.75
        ),
        "SameDepthNegatives": pt.SameDepthNegatives(tree, NEGATIVES),
        "CousinNegatives": pt.CousinNegatives(tree, NEGATIVES, levels=2),
    }
    for name, sampler in samplers.items():
        nodes = sampler(pairs, generator)
        assert_unrelated(nodes, pairs[:, 1:], tree)
        missing = float((nodes < 0).double().mean())
        label = f"{name} ({missing:.0%} missing): {BATCH:,} × {NEGATIVES}"
        yield row(label, partial(sampler, pairs, generator), nodes.numel())
    shared = pt.SharedNegatives(tree, TILE)
    assert_unrelated(shared(pairs, generator), pairs[:, 1:], tree)
    name = f"SharedNegatives.tile: {BATCH:,} × {TILE:,}"
    yield row(name, partial(shared.tile, pairs, generator), BATCH * TILE)

    nodes = samplers["UniformNegatives"](pairs, generator)
    expected = torch.from_numpy(tax.tree.distance(pairs[:, 1:].numpy(), nodes.numpy()))
    assert torch.equal(tree.distance(pairs[:, 1:], nodes), expected.to(torch.int64))
    yield row("TreeIndex.distance", lambda: tree.distance(pairs[:, 1:], nodes), nodes.numel())


def closure_samplers(path: Path, generator: torch.Generator) -> Iterator[Row]:
    closure = pt.ClosurePairs.read_csv(path)
    size = f"{path.name.partition('.')[0]}, {len(closure):,} pairs"
    yield row(
        f"ClosurePairs of {size}: {BATCH:,}",
        lambda: closure.sample(BATCH, generator=generator),
        BATCH,
    )
    pairs = closure.sample(BATCH, generator=generator)
    known = {tuple(pair) for pair in closure.pairs.tolist()}
    for num in (NEGATIVES, TILE, None):
        shared = num != NEGATIVES
        sampler = (
            pt.SharedNegatives(closure, num) if shared else pt.UniformNegatives(closure, NEGATIVES)
        )
        nodes = sampler(pairs, generator)
        for (_, v), others in zip(pairs[:20].tolist(), nodes[:20].tolist(), strict=True):
            assert not any((v, n) in known or (n, v) in known or n == v for n in others if n >= 0)
        draw = (
            partial(sampler.tile, pairs, generator)
            if isinstance(sampler, pt.SharedNegatives)
            else partial(sampler, pairs, generator)
        )
        yield row(f"{type(sampler).__name__}: {BATCH:,} × {nodes.shape[1]:,}", draw, nodes.numel())
