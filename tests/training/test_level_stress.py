"""`LevelStress`: the equation, the partners, and the compiled loops beside the same on tensors."""

import itertools

import pytest
import torch
from support.sampling import TREE, generator
from support.tolerance import polar_gradient_rtol, polar_rtol

import poincare_taxa as pt
from poincare_taxa.kernels.arguments import LARGEST
from poincare_taxa.kernels.numba import compile as compiled
from poincare_taxa.training import level_stress
from poincare_taxa.training.defaults import recipe
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.objectives import Objective

DEEP = pt.Taxonomy.from_parents([-1, *(max(0, i - 1 - i * i % 7) for i in range(1, 60))])
LONG = pt.Taxonomy.from_parents(
    DEEP.parent, branch_lengths=[(0.0, 1e-6, 0.25, 1.5, 40.0)[i * i % 5] for i in range(60)]
)
TREES = [TREE, DEEP, pt.Taxonomy.from_parents([-1, 0]), LONG]


def points(tree=TREE, radius=2.0, **options):
    return pt.PoincareEmbedding(
        len(tree), 3, initial_radius=radius, generator=generator(1), **options
    ).weight


def d(x, a, b):
    """Slow and obvious: one pair."""
    x = x.detach()
    return float(pt.polar.dist(x[a, 0], x[a, 1:], x[b, 0], x[b, 1:]))


def level_of(tree, depth):
    return torch.tensor([v for v in range(len(tree)) if tree.depth[v] == depth])


def test_level_stress__is_the_sum_of_its_equation(monkeypatch):
    x = points()
    objective = LevelStress(TREE, tau=1.2, root_weight=3.0)
    objective.begin(2, x, generator())
    level = [v for v in range(len(TREE)) if TREE.depth[v] == 3]
    partners = torch.tensor([[0, 5, level[0], 0]] * len(level))
    edges = torch.from_numpy(TREE.tree.distance(torch.tensor(level)[:, None], partners))
    monkeypatch.setattr(objective, "_partners", lambda u, generator: (partners, edges.long()))
    terms = objective(x, generator())
    stress = root = 0.0
    for u, row in zip(level, partners.tolist(), strict=True):
        for v in row[:-1]:
            t = int(TREE.tree.distance(u, v))
            stress += (d(x, u, v) / 1.2 - t) ** 2 / t**2 if t else 0.0
        root += 3.0 * (d(x, u, 0) / 1.2 - 3) ** 2
    assert terms["stress"].item() == pytest.approx(stress / len(level))
    assert terms["root"].item() == pytest.approx(root / len(level))


def test_level_stress__follows_branch_lengths_in_units_of_their_mean():
    """The same terms of the same tree in another unit, with τ per that unit."""
    x, level = points(LONG), 3
    u = [v for v in range(len(LONG)) if LONG.depth[v] == level]
    found = []
    for unit in (1.0, 8.0):
        tax = pt.Taxonomy.from_parents(LONG.parent, branch_lengths=unit * LONG.branch_lengths)
        objective = LevelStress(tax, tau=0.2 / unit, root_weight=3.0, batch_size=1 << 10)
        objective.begin(level - 1, points(LONG), generator())
        found.append(objective(x, generator(5)))
    for name in ("stress", "root"):
        assert found[0][name].item() == pytest.approx(found[1][name].item(), rel=1e-12)
    # By hand, in mean edges.
    tree = LONG.tree
    edges = tree.height[1:] - tree.height[tree.parent[1:]]
    objective = LevelStress(LONG, tau=0.2, root_weight=3.0)
    objective._open_level(level)
    partners, _ = objective._partners(torch.tensor(u), generator(5))
    tau, stress, root = 0.2 * edges.mean(), 0.0, 0.0
    for v, row in zip(u, partners.tolist(), strict=True):
        for other in row[:-1]:
            t = float(tree.distance(v, other)) / edges.mean()
            if t > 0:
                stress += ((d(x, v, other) / tau - t) / max(t, 0.3 / tau)) ** 2
        root += 3.0 * (d(x, v, 0) / tau - float(tree.distance(v, 0)) / edges.mean()) ** 2
    assert found[0]["stress"].item() == pytest.approx(stress / len(u))
    assert found[0]["root"].item() == pytest.approx(root / len(u))


def test_level_stress__moves_its_level_only():
    x = points()
    objective = LevelStress(TREE, tau=1.2, passes=3, batch_size=2)
    for epoch in range(TREE.max_depth):
        objective.begin(epoch, x, generator())
        level = {v for v in range(len(TREE)) if TREE.depth[v] == epoch + 1}
        moved = set()
        assert objective.steps_per_epoch == 3 * -(-len(level) // 2)
        for _ in range(objective.steps_per_epoch):
            x.grad = None
            sum(objective(x, generator()).values()).backward()
            moved |= set(x.grad.coalesce().indices()[0].tolist())
        assert moved == level


@pytest.mark.parametrize("tree", TREES, ids=len)
def test_partners__are_ancestors_siblings_cousins_and_the_root_none_below_the_level(tree):
    objective = LevelStress(tree, tau=1.0)
    for level in range(1, tree.max_depth + 1):
        objective.begin(level - 1, points(tree), generator())
        u = level_of(tree, level).numpy()
        v, edges = (x.numpy() for x in objective._partners(torch.from_numpy(u), generator(2)))
        assert v.shape == edges.shape == (len(u), 18)
        assert (edges == tree.tree.distance(u[:, None], v)).all()
        assert (tree.depth[v] <= level).all()
        assert tree.tree.is_ancestor(v[:, :3], u[:, None]).all()
        assert (v[:, 0] == tree.parent[u]).all()
        assert (tree.parent[v[:, 3:9]] == tree.parent[u][:, None]).all()
        assert (v[:, -1] == 0).all()
        steps = tree.tree.topology.distance(u[:, None], v)
        assert steps[:, 9:13].max() <= 2 * 3  # below one of the three nearest ancestors


@pytest.mark.parametrize("tree", TREES, ids=len)
def test_partners__are_the_same_compiled_and_on_tensors(tree, monkeypatch):
    """The old formulation is the oracle: the same numbers of the generator give the same nodes."""
    objective, seen = LevelStress(tree, tau=1.0), []

    def recorded(*shape_and_more):
        seen.append(level_stress_bits(*shape_and_more))
        return seen[-1]

    level_stress_bits = level_stress.random_bits
    monkeypatch.setattr(level_stress, "random_bits", recorded)
    for level in range(1, tree.max_depth + 1):
        objective.begin(level - 1, points(tree), generator())
        u = level_of(tree, level)
        seen.clear()
        compiled = objective._partners(u, generator(level))
        highest = torch.tensor([min(3, level)] * 4 + [level] * 4)
        plain = level_stress._partners(objective.tree, level, u, highest, tuple(seen))
        assert torch.equal(compiled[0], plain[0])
        assert torch.equal(compiled[1], plain[1])


def of_step(x, level, fused, tree=DEEP, least=0.0):
    """Terms of a step, their gradient, and the gradient of the sum of its squares."""
    objective, u = LevelStress(tree, tau=1.1), level_of(tree, level)
    objective._open_level(level)
    partners, edges = objective._partners(u, generator(3))

    def terms():
        if fused:
            return level_stress._FusedStress.apply(x, u, partners, edges, 1.1, 8.0, least, len(u))
        return level_stress._stress(x[u], x, pt.Polar(), partners, edges, 1.1, 8.0, least, len(u))

    (gradient,) = torch.autograd.grad(terms(), x, [torch.tensor(w).to(x) for w in (3.0, 1.0)])
    (graph,) = torch.autograd.grad(sum(terms()), x, create_graph=True)
    (second,) = torch.autograd.grad(graph.square().sum(), x)
    values = torch.stack([term.detach() for term in terms()])
    return values, *(found.to_dense() for found in (gradient, second))


@pytest.mark.parametrize(
    ("dtype", "radius"),
    [(torch.float32, 2.0), (torch.float32, 14.0), (torch.float64, 2.0), (torch.float64, 30.0)],
    ids=str,
)
def test_level_stress__is_the_same_compiled_and_on_tensors(dtype, radius):
    """Values, gradients and gradients of gradients."""
    for level, tree, least in itertools.product(
        range(1, DEEP.max_depth + 1), (DEEP, LONG), (0.0, 0.3)
    ):
        if tree is LONG and least == 0:
            continue  # An edge near 0 is a weight without bound.
        x = torch.nn.Parameter(points(DEEP, radius).detach().as_subclass(torch.Tensor).to(dtype))
        mine, theirs = (of_step(x, level, fused, tree, least) for fused in (True, False))
        # a square doubles the relative error; the target takes digits of those that are near it
        rtol = 16 * polar_rtol(dtype)
        torch.testing.assert_close(mine[0], theirs[0], rtol=rtol, atol=rtol)
        rtol = 4 * polar_gradient_rtol(dtype, radius)
        for own, other in zip(mine[1:], theirs[1:], strict=True):
            for part in (slice(0, 1), slice(1, None)):  # of radii; of directions, e^r times larger
                atol = rtol * float(other[:, part].abs().max())
                torch.testing.assert_close(own[:, part], other[:, part], rtol=rtol, atol=atol)


def test_level_stress__has_gradients_where_the_exponential_of_a_radius_overflows():
    x = points(DEEP, 400.0)
    far = torch.nn.Parameter(x.detach().as_subclass(torch.Tensor))
    assert far[:, 0].max() > LARGEST
    for level in range(1, DEEP.max_depth + 1):
        objective, u = LevelStress(DEEP, tau=1.1), level_of(DEEP, level)
        objective._open_level(level)
        about = objective._partners(u, generator(3))
        mine = level_stress._FusedStress.apply(far, u, *about, 1.1, 8.0, 0.0, len(u))
        theirs = level_stress._stress(far[u], far, pt.Polar(), *about, 1.1, 8.0, 0.0, len(u))
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
        own, other = (
            torch.autograd.grad(sum(terms), far)[0].to_dense()[:, 0] for terms in (mine, theirs)
        )
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


def test_level_stress__does_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(compiled, "_SHARE", 1.0)  # cut small work too
    star = pt.Taxonomy.from_parents([-1, *[0] * 6000])
    x, found = points(star), []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            objective = LevelStress(star, tau=1.0)
            terms = objective(x, generator())
            x.grad = None
            sum(terms.values()).backward()
            found.append((*(term.item() for term in terms.values()), x.grad.to_dense()))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert other[:2] == found[0][:2]
        assert torch.equal(other[2], found[0][2])


def test_level_stress__fits_the_seam_and_refuses_arguments_out_of_range():
    assert isinstance(LevelStress(TREE, tau=1.0), Objective)
    for options, message in (
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": 1.0, "root_weight": -1.0}, "root_weight at least 0"),
        ({"tau": 1.0, "passes": 0}, "passes"),
    ):
        with pytest.raises(ValueError, match=message):
            LevelStress(TREE, **options)


def test_recipe__of_a_tree_too_deep_for_usual_edges_has_more_passes():
    passes = []
    for depth in (28, 29):  # 34 / 1.183 is 28.7
        tax = pt.Taxonomy.from_parents([-1, *range(depth)])
        table = pt.PoincareEmbedding(len(tax), 10)
        sizes = {"batch_size": None, "steps_per_epoch": None}
        blocks = dict.fromkeys(("pairs", "negatives", "loss", "regularizer", "curriculum"))
        level = recipe(tax, table, None, blocks, sizes, None, None).objective
        assert level.tau * depth <= LevelStress.deepest(torch.float64)
        passes.append(level.passes)
    assert passes == [50, 100]
