"""Training of closure mode: its loss against the definition, its steps, and what it learns."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.realdata import real_data

import poincare_taxa as pt
from poincare_taxa.blocks.manifolds import PoincareBall
from poincare_taxa.closure.layout import nested_start
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.geometry import polar
from poincare_taxa.taxonomy.taxonomy import TaxonomyError


def dag(seed, n=40):
    """Pairs of a random DAG, each node with one or two parents among those before."""
    rng, above = np.random.default_rng(seed), [set() for _ in range(n)]
    for v in range(1, n):
        for p in rng.choice(v, min(v, rng.integers(1, 3)), replace=False).tolist():
            above[v] |= {p} | above[p]
    return pt.ClosurePairs([(a, v) for v in range(n) for a in sorted(above[v])], num_nodes=n)


def slowly(pairs, x, temperature, limit, ignored=()):
    """Mean over all pairs of equation 5 of Nickel & Kiela, by distances, with a limit of each node:
    one more b, and the other nodes beyond it."""
    u = x[:, 1:] / torch.linalg.vector_norm(x[:, 1:], dim=1, keepdim=True)
    d = polar.cdist(x[:, 0], u, x[:, 0], u) / temperature
    related = torch.eye(len(x), dtype=torch.bool)
    related[pairs.pairs[:, 1], pairs.pairs[:, 0]] = True
    for a, v in ignored:
        related[v, a] = True
    bound = (x[:, 0] + 1) / temperature
    losses = [
        torch.log1p(
            torch.exp(d[v, a] - d[v, ~related[v]]).sum() + limit * torch.exp(d[v, a] - bound[v])
        )
        for a, v in pairs.pairs.tolist()
    ]
    share = 5 * torch.bincount(pairs.pairs[:, 0], minlength=len(x)) / len(x)
    for v in set(pairs.pairs[:, 1].tolist()):
        beyond = torch.log1p(torch.exp(bound[v] - d[v])) * share
        losses.append(limit * beyond[~related[v]].sum())
    return torch.stack(losses).sum() / len(pairs)


def started(pairs, objective, dim, seed=0, radius=2.0):
    generator = torch.Generator().manual_seed(seed)
    points = pt.PoincareEmbedding(
        pairs.num_nodes, dim, initial_radius=radius, generator=generator
    ).weight
    objective.begin(0, points, generator)
    return points, generator


@given(
    st.integers(0, 1000),
    st.sampled_from([0.25, 0.4, 1.0]),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.3, 2.0]),
)
@settings(deadline=None, max_examples=20)
def test_loss__is_the_softmax_over_all_nodes_and_so_is_its_gradient(seed, temperature, dim, limit):
    pairs = dag(seed)
    make = partial(ClosureSoftmax, pairs, temperature=temperature, limit=limit)
    objective = make(batch_size=make(batch_size=1).steps_per_epoch)
    points, generator = started(pairs, objective, dim, seed)
    (loss,) = objective(points, generator).values()
    loss.backward()
    x = points.detach().as_subclass(torch.Tensor).clone().requires_grad_()
    expected = slowly(pairs, x, temperature, limit)
    expected.backward()
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-8, atol=0)
    # Leaves that share a direction get the sum of their gradients, for they move as one.
    wanted = x.grad.clone()
    children = np.bincount(pairs.pairs[:, 0], minlength=pairs.num_nodes)
    above = [
        frozenset(pairs.pairs[pairs.pairs[:, 1] == v, 0].tolist()) for v in range(pairs.num_nodes)
    ]
    for v in np.flatnonzero(children == 0):
        wanted[v] = sum(x.grad[w] for w in np.flatnonzero(children == 0) if above[w] == above[v])
    wanted[children == 0, 0] = 0  # at the rim a radius weighs nothing
    torch.testing.assert_close(points.grad.as_subclass(torch.Tensor), wanted, rtol=1e-6, atol=1e-8)


@given(st.integers(0, 1000), st.booleans())
@settings(deadline=None, max_examples=10)
def test_ignored_pairs_and_what_follows__are_no_negatives(seed, closed):
    """The loss and the ranks that decide who rejoins, against definitions that leave them out."""
    rng, whole = np.random.default_rng(seed), dag(seed)
    every = whole.pairs.tolist()
    listed = every if closed else whole.reduced().pairs.tolist()
    pairs = pt.ClosurePairs(listed, num_nodes=40)
    drawn = rng.integers(40, size=(60, 2)).tolist()
    ignore = sorted({(a, v) for a, v in drawn if a != v})
    left_out = ignore + [(a, v) for a, v in every if [a, v] not in listed]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some pairs are not listed
        objective = ClosureSoftmax(pairs, ignore=ignore, batch_size=1)
        steps = objective.steps_per_epoch
        objective = ClosureSoftmax(pairs, ignore=ignore, batch_size=steps)
    points, generator = started(pairs, objective, 3, seed)
    (loss,) = objective(points, generator).values()
    x = points.detach().as_subclass(torch.Tensor)
    torch.testing.assert_close(
        loss.detach(),
        slowly(pairs, x, objective.temperature, objective.limit, left_out),
        rtol=1e-8,
        atol=0,
    )
    q = objective._queries
    table, d = x[q.inner], polar.cdist(x[:, 0], x[:, 1:], x[:, 0], x[:, 1:])
    found = q.rank_excess(table, x[q.row], torch.arange(len(q.row)))
    for v, excess in zip(q.row.tolist(), found.tolist(), strict=True):
        above = [a for a, w in listed if w == v]
        out = {a for a, w in left_out if w == v} | {v, *above}
        others = [b for b in q.inner.tolist() if b not in out]
        assert excess == sum(int(d[v, b] < d[v, a]) for a in above for b in others)


def test_leaves__of_the_same_parents_are_one_query_and_yet_apart():
    pairs = pt.ClosurePairs([(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (3, 4), (3, 5)])
    objective = ClosureSoftmax(pairs, batch_size=3)  # of 3, of {1, 2} and of {4, 5}
    assert objective.steps_per_epoch == 1
    with pytest.raises(ValueError, match="number of distinct queries, 3; got 4"):
        ClosureSoftmax(pairs, batch_size=4)
    points, _ = started(pairs, objective, 3)
    r, u = points.detach()[:, 0], points.detach()[:, 1:]
    d = polar.cdist(r, u, r, u)
    assert (u[1] - u[2]).abs().max() < 1e-7
    for leaf, other in ((1, 2), (4, 5)):
        assert d[leaf, other] > d[leaf, [0, 3]].max() + 50


def test_nodes_in_no_pair__are_out_of_the_way():
    pairs = pt.ClosurePairs([(0, 1), (1, 2), (0, 2)], num_nodes=5)
    run = pt.fit(pairs, dim=3, objective=ClosureSoftmax(pairs, epochs=10), progress=False)
    assert (run.embedding.radius[[2, 3, 4]] == 160).all()
    assert pt.closure.rank_ancestors(pairs, run.embedding.radius, run.embedding.direction)[:2] == (
        1,
        1,
    )


def test_stuck_nodes__are_put_beside_a_parent_late_in_the_run():
    binary = [(a, v) for v in range(1, 255) for a in _up(v)]
    pairs = pt.ClosurePairs(binary)
    objective = ClosureSoftmax(pairs, epochs=10, rejoin=0.5)
    run = pt.fit(pairs, dim=4, progress=False)
    points, generator = run.embedding.weight, torch.Generator().manual_seed(0)
    with torch.no_grad():
        points[199, 1:] *= -1
    for epoch in (1, 4, 6, 9):  # too early, twice; between; the last
        before = points.detach().clone()
        objective.begin(epoch, points, generator)
        assert torch.equal(points, before)
    objective.begin(5, points, generator)
    assert (points[199, 1:] @ points[99, 1:]).item() > 0.9
    assert torch.equal(points[:127], before[:127])


def _up(v):
    """Ancestors in the tree where the parent of v is (v - 1) // 2."""
    while v:
        v = (v - 1) // 2
        yield v


def test_fit__ranks_ancestors_first_from_either_start_and_repeats_itself():
    pairs = dag(7, 60)
    run = pt.fit(pairs, dim=5, seed=1, progress=False)
    found = pt.closure.rank_ancestors(pairs, run.embedding.radius, run.embedding.direction)
    floor = pt.closure.rank_ancestors(pairs, *nested_start(pairs, 5, seed=1)[:2])
    assert found.mean_average_precision > max(0.97, floor.mean_average_precision)
    assert run.history["epoch"].to_list() == list(range(25))
    assert run.history["lr"].drop_nulls()[-1] < 1e-3
    again = pt.fit(pairs, dim=5, seed=1, progress=False)
    assert torch.equal(again.embedding.weight, run.embedding.weight)
    random = pt.PoincareEmbedding(60, 5, generator=torch.Generator().manual_seed(0))
    run = pt.fit(pairs, random, lr=0.15, progress=False)
    found = pt.closure.rank_ancestors(pairs, run.embedding.radius, run.embedding.direction)
    assert found.mean_average_precision > 0.9


def test_a_resumed_run__has_the_same_bits(tmp_path):
    pairs = dag(2, 60)
    whole = pt.fit(pairs, dim=4, objective=ClosureSoftmax(pairs, epochs=8), progress=False)
    part = partial(pt.fit, pairs, dim=4, checkpoint=tmp_path / "run", progress=False)
    part(objective=ClosureSoftmax(pairs, epochs=8), epochs=5)
    run = part(objective=ClosureSoftmax(pairs, epochs=8), resume=True)
    assert torch.equal(run.embedding.weight, whole.embedding.weight)


def test_a_closure_layout__is_a_start_even_where_an_inner_node_is_at_the_rim():
    pairs = pt.ClosurePairs([(0, 1), (1, 2), (0, 2), (0, 3), (3, 2), (0, 4), (0, 5)])
    layout = pt.closure_layout(pairs, 3)
    assert layout.radius[3] == 160  # of the parents 1 and 3 of node 2 it keeps node 1
    start = pt.PoincareEmbedding.from_pretrained(layout.radius, layout.direction)
    optimizer = partial(pt.RowwiseRiemannianAdam, lr=0.1)
    objective = ClosureSoftmax(pairs, epochs=20)
    run = pt.fit(pairs, start, objective=objective, optimizer=optimizer, progress=False)
    before = pt.closure.rank_ancestors(pairs, layout.radius, layout.direction)
    after = pt.closure.rank_ancestors(pairs, run.model.radius, run.model.direction)
    assert run.history["loss"][-1] < run.history["loss"][1]
    assert after.mean_rank <= before.mean_rank


def test_faults__are_named():
    pairs = dag(0)
    for bad in ({"temperature": 0.0}, {"epochs": 0}, {"rejoin": 1.5}):
        with pytest.raises(ValueError, match="temperature must be positive, epochs at least 1"):
            ClosureSoftmax(pairs, **bad)
    with pytest.raises(TaxonomyError, match="ancestor of one of its ancestors: a cycle"):
        pt.fit(pt.ClosurePairs([(0, 1), (1, 0)]), dim=3)
    ball = pt.PoincareEmbedding(40, 3, manifold=PoincareBall())
    single = pt.PoincareEmbedding(40, 3, dtype=torch.float32)
    for embedding, got in (
        (ball, "points of Polar; got .* PoincareBall"),
        (single, "in float64.* and torch.float32"),
    ):
        with pytest.raises(ValueError, match=got):
            pt.fit(pairs, embedding, progress=False)


def test_wordnet_mammals__are_learned_from_random_points():
    pairs = pt.ClosurePairs.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    start = pt.PoincareEmbedding(1180, 5, generator=torch.Generator().manual_seed(0))
    objective = ClosureSoftmax(pairs, epochs=100, batch_size=141)
    run = pt.fit(pairs, start, lr=0.15, objective=objective, progress=False)
    found = pt.closure.rank_ancestors(pairs, run.embedding.radius, run.embedding.direction)
    assert found.mean_average_precision > 0.97
    assert found.mean_rank < 1.1
