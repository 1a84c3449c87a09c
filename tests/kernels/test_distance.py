"""Every backend against `geometry` in float64: values, gradients, searches, counts."""

import math

import pytest
import torch
from support.kernels import (
    check_gradients,
    check_values,
    gradients,
    largest_radius,
    points,
    reference,
)
from support.tolerance import (
    ball_gradient_atol,
    distance_atol,
    polar_atol,
    polar_gradient_rtol,
)

from poincare_taxa import kernels
from poincare_taxa.geometry import convert

# -------------------------------------------------------------------- paired distances


@pytest.mark.parametrize("m", [0, 1, 17, 401])
def test_dist__agrees_with_geometry_in_values_and_gradients(backend, manifold, dtype, m):
    x, y = points(m, manifold, dtype), points(m, manifold, dtype, seed=1)
    y[2::5] = x[2::5]
    x, y = x.requires_grad_(), y.requires_grad_()
    d = kernels.dist(x, y, manifold=manifold, backend=backend)
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    expected = reference(*wide, manifold)
    check_values(d.detach(), expected.detach(), manifold, dtype)
    found = gradients(d, (x, y))
    for mine, theirs, at in zip(found, gradients(expected, wide), (x, y), strict=True):
        check_gradients(mine, theirs, at.detach(), manifold, dtype, weight=3)
    assert (d[2::5] == 0).all()
    assert all((g[2::5] == 0).all() for g in found)


def test_dist__scales_with_the_curvature(backend, dtype):
    x, y = points(17, "ball", dtype, radius=3), points(17, "ball", dtype, seed=1, radius=3)
    for c in (0.25, 4.0):
        scaled = [(t / math.sqrt(c)).requires_grad_() for t in (x, y)]
        d = kernels.dist(*scaled, c=c, backend=backend)
        wide = [t.detach().double().requires_grad_() for t in scaled]
        expected = reference(*wide, "ball", c=c)
        assert torch.allclose(d.double(), expected, rtol=0, atol=2 * distance_atol(dtype, 3, c=c))
        for mine, theirs in zip(gradients(d, scaled), gradients(expected, wide), strict=True):
            # |x| = tanh(1.5) / √c, where a gradient is at most 4 √c / gap
            limit = 3 * 32 * torch.finfo(dtype).eps * math.exp(3) * 4 * math.sqrt(c) / 0.09
            assert (mine.double() - theirs).abs().max() <= limit


def test_dist__is_right_at_any_radius_of_the_polar_model(backend):
    """Past 350 neither float64's exponentials nor the squares of directions are finite."""
    r = torch.tensor([30.0, 300.0, 349.0, 351.0, 800.0, 5000.0], dtype=torch.float64)
    u = torch.zeros(len(r), 3, dtype=torch.float64)
    u[:, 0] = 1
    for gap, apart in ((0.0, 1.0), (1.0, 1e-3), (0.5, 1e-12), (100.0, 0.0)):
        x = torch.cat((r[:, None], u), 1).requires_grad_()
        other = torch.cat((r[:, None] + gap, u), 1)
        other[:, 2] = apart
        other = other.requires_grad_()
        d = kernels.dist(x, other, manifold="polar", backend=backend)
        expected = reference(x, other, "polar")
        assert torch.allclose(d, expected, rtol=2 * 8 * torch.finfo(r.dtype).eps)
        for mine, theirs in zip(
            gradients(d, (x, other)), gradients(expected, (x, other)), strict=True
        ):
            assert torch.allclose(mine, theirs, rtol=polar_gradient_rtol(r.dtype, 5000.0))


def test_dist__of_strided_points(backend, manifold, dtype):
    x, y = points(40, manifold, dtype), points(40, manifold, dtype, seed=1)
    whole = reference(x, y, manifold)
    turned = x.T.contiguous().T
    beside = torch.cat((x, x), dim=1)[:, : x.shape[1]]
    for strided, other in ((x[::2], y[::2]), (turned[::2], y[::2]), (beside[::2], y[::2])):
        found = kernels.dist(strided, other, manifold=manifold, backend=backend)
        check_values(found, whole[::2], manifold, dtype)


@pytest.mark.parametrize("sparse", [False, True])
def test_pair_distance__is_dist_of_the_rows_and_adds_up_their_gradients(
    backend, manifold, dtype, sparse
):
    table = points(23, manifold, dtype).requires_grad_()
    generator = torch.Generator().manual_seed(2)
    i, j = torch.randint(23, (2, 301), generator=generator)
    d = kernels.pair_distance(table, i, j, manifold=manifold, sparse=sparse, backend=backend)
    wide = table.detach().double().requires_grad_()
    expected = reference(wide[i], wide[j], manifold)
    check_values(d.detach(), expected.detach(), manifold, dtype)
    (found,) = gradients(d, (table,))
    assert found.is_sparse == sparse
    found = found.to_dense() if sparse else found
    # every row is in about 26 pairs, each with weight 3 at most; sums of both signs
    times = torch.bincount(torch.cat((i, j)), minlength=23)[:, None].double()
    (theirs,) = gradients(expected, (wide,))
    x, y = wide.detach()[i].requires_grad_(), wide.detach()[j].requires_grad_()
    parts = gradients(reference(x, y, manifold), (x, y))
    size = torch.zeros_like(theirs).index_add_(0, torch.cat((i, j)), torch.cat(parts).abs())
    if manifold == "ball":
        limit = 3 * times * ball_gradient_atol(dtype, wide.detach())
    else:
        size[:, 0] = 3 * times[:, 0]
        limit = (polar_gradient_rtol(dtype, 30.0) + times * torch.finfo(dtype).eps) * size
    assert ((found.double() - theirs).abs() <= limit).all()


def test_pair_distance__has_the_same_gradient_with_any_number_of_threads(backend, manifold):
    if backend == "triton":
        pytest.skip("no threads of the CPU's")
    table = points(500, manifold, torch.float32).requires_grad_()
    i, j = torch.randint(500, (2, 50_000), generator=torch.Generator().manual_seed(2))
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            d = kernels.pair_distance(table, i, j, manifold=manifold, backend=backend)
            found.append((d.detach(), torch.autograd.grad(d.sum(), table)[0]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    if backend == "numba":
        assert torch.equal(found[0][1], found[1][1])


# -------------------------------------------------------------------- all pairs


@pytest.mark.parametrize(("n", "m"), [(1, 1), (17, 0), (0, 3), (41, 401)])
def test_cdist__agrees_with_geometry_in_values_and_gradients(backend, manifold, dtype, n, m):
    x = points(n, manifold, dtype).requires_grad_()
    y = points(m, manifold, dtype, seed=1)
    y[:n:4] = x.detach()[: len(y) : 4]
    y = y.requires_grad_()
    d = kernels.cdist(x, y, manifold=manifold, backend=backend)
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    expected = reference(*wide, manifold, pairwise=True)
    check_values(d.detach(), expected.detach(), manifold, dtype)
    others = (m, n)
    for mine, theirs, at, count in zip(
        gradients(d, (x, y)), gradients(expected, wide), (x, y), others, strict=True
    ):
        if manifold == "ball":
            check_gradients(mine, theirs, at.detach(), manifold, dtype, weight=3 * max(count, 1))


# -------------------------------------------------------------------- searches


def oracle_nearest(scores, k, skip):
    """Sort, all of it."""
    scores = scores.clone()
    scores[torch.arange(len(skip))[skip >= 0], skip[skip >= 0]] = torch.inf
    return scores.sort(dim=1, stable=True).values[:, :k]


@pytest.mark.parametrize("by", ["distance", "ancestor"])
@pytest.mark.parametrize("n", [1, 17, 401, 3000])
def test_nearest__has_the_distances_that_sorting_all_finds(backend, manifold, dtype, by, n):
    table = points(n, manifold, dtype)
    rows = torch.arange(0, n, max(1, n // 9))
    skip = rows.clone()
    skip[1::3] = -1
    k = 12
    found = kernels.nearest(
        table, table[rows], k, manifold=manifold, by=by, skip=skip, backend=backend
    )
    scores = reference(table[rows], table, manifold, pairwise=True, score=by == "ancestor")
    expected = oracle_nearest(scores, k, skip)
    assert found.distance.shape == found.row.shape == (len(rows), k)
    here = found.row >= 0
    assert (here.sum(1) == (n - (skip >= 0).long()).clamp(max=k)).all()
    assert (found.distance[~here] == torch.inf).all()
    assert (found.row != skip[:, None])[here].all()
    assert (found.distance.diff(dim=1)[here[:, 1:]] >= 0).all()
    radius = largest_radius(manifold, dtype)
    for q in range(len(rows)):
        count = int(here[q].sum())
        near = found.row[q, :count]
        assert len(near.unique()) == count
        theirs = expected[q, :count]
        if manifold == "polar":
            atol = 2 * polar_atol(torch.float64, radius + theirs)
        else:
            atol = torch.full_like(theirs, 2 * distance_atol(torch.float64, radius))
        assert ((found.distance[q, :count] - theirs).abs() <= atol).all()
        assert ((scores[q, near] - theirs).abs() <= atol).all()


def test_nearest__of_some_rows(backend, manifold):
    table = points(999, manifold, torch.float64)
    rows = torch.arange(998, 0, -3)
    found = kernels.nearest(table, table[:5], 7, manifold=manifold, rows=rows, backend=backend)
    part = kernels.nearest(table[rows], table[:5], 7, manifold=manifold, backend=backend)
    assert torch.equal(found.distance, part.distance)
    assert torch.isin(found.row, rows).all()


def test_nearest__takes_radius_and_direction_in_any_dtype(backend):
    table = points(999, "polar", torch.float32)
    apart = (table[:, 0].contiguous(), table[:, 1:].contiguous())
    joined = kernels.nearest(table, table[:5], 7, manifold="polar", backend=backend)
    wide = (apart[0][:5].double(), apart[1][:5].double())
    for queries in (table[:5], wide):
        found = kernels.nearest(apart, queries, 7, manifold="polar", backend=backend)
        assert torch.equal(found.distance, joined.distance)


def test_nearest__never_finds_what_is_no_point(backend, manifold):
    table = points(50, manifold, torch.float64)
    table[3:40, -1] = torch.nan
    found = kernels.nearest(table, table[:2], 20, manifold=manifold, backend=backend)
    assert (found.row >= 0).sum() == 2 * 13
    assert not torch.isin(found.row, torch.arange(3, 40)).any()


def test_nearest__reaches_past_the_radius_where_exponentials_end(backend):
    table = points(400, "polar", torch.float64, radius=900)
    found = kernels.nearest(table, table[:4], 9, manifold="polar", backend=backend)
    expected = oracle_nearest(
        reference(table[:4], table, "polar", pairwise=True), 9, torch.full((4,), -1)
    )
    assert torch.allclose(found.distance, expected, rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("by", ["distance", "ancestor"])
@pytest.mark.parametrize("n", [1, 17, 401, 3000])
def test_count_nearer__counts_what_a_loop_counts(backend, manifold, dtype, by, n):
    """Rows whose scores differ by less than rounding may count on either side."""
    table = points(n, manifold, dtype)
    table[n // 2 :: 9] = table[: len(table[n // 2 :: 9])].clone()  # exact ties
    rows = torch.arange(0, n, max(1, n // 9))
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(-1, n, (len(rows), 21), generator=generator)
    counts = kernels.count_nearer(
        table, table[rows], targets, manifold=manifold, by=by, skip=rows, backend=backend
    )
    scores = reference(table[rows], table, manifold, pairwise=True, score=by == "ancestor")
    scores[torch.arange(len(rows)), rows] = torch.inf
    scale = largest_radius(manifold, dtype)
    for q in range(len(rows)):
        for t, target in enumerate(targets[q].tolist()):
            nearer, tied = counts.nearer[q, t].item(), counts.tied[q, t].item()
            if target < 0:
                assert (nearer, tied) == (0, 0)
                continue
            if target == rows[q]:
                continue  # a query is no target of its own
            score = scores[q, target]
            if manifold == "polar":
                slack = 4 * polar_atol(torch.float64, 2 * scale)
            else:
                slack = 4 * distance_atol(torch.float64, scale)
            surely = (scores[q] < score - slack).sum().item()
            maybe = (scores[q] <= score + slack).sum().item() - 1
            same = (table == table[target]).all(1)
            same[rows[q]] = False
            assert surely <= nearer <= nearer + tied <= maybe
            assert tied >= same.sum().item() - 1


@pytest.mark.parametrize("by", ["distance", "ancestor"])
def test_count_nearer__gives_what_is_no_point_the_worst_place(backend, manifold, by):
    """All other rows are nearer than a target that is lost, or than any target of a lost query."""
    table = points(60, manifold, torch.float64)
    table[5, -1] = table[9, 0] = torch.nan
    if manifold == "polar":
        table[11, 0], table[12, 0] = torch.inf, -1.0
    rows, targets = torch.tensor([0, 5]), torch.tensor([[5, 9, 1, -1], [1, 9, 2, -1]])
    settings = {"manifold": manifold, "by": by, "backend": backend}
    counts = kernels.count_nearer(table, table[rows], targets, skip=rows, **settings)
    assert counts.nearer[0, :2].tolist() == [58, 58]
    assert counts.nearer[0, 2] < 57
    assert counts.nearer[1].tolist() == [58, 58, 58, 0]
    assert not counts.tied.any()
    without = kernels.count_nearer(table, table[rows], targets, **settings)
    assert without.nearer[1].tolist() == [59, 59, 59, 0]


@pytest.mark.parametrize("by", ["distance", "ancestor"])
@pytest.mark.parametrize("damage", [torch.nan, torch.inf, -torch.inf, -1.0])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
def test_nearest__leaves_out_what_is_no_point(backend, manifold, by, damage):
    """As if the rows were not there; and a query that is no point has no neighbours."""
    table = points(60, manifold, torch.float64)
    if manifold == "ball" and damage == -1.0:
        damage = torch.nan
    table[5:50:5, 0] = damage
    table[7, -1] = torch.nan
    sound = torch.isfinite(table).all(1) & ((table[:, 0] >= 0) | torch.tensor(manifold == "ball"))
    settings = {"manifold": manifold, "by": by, "backend": backend}
    rows = torch.tensor([0, 5, 7])
    found = kernels.nearest(table, table[rows], 59, skip=rows, **settings)
    expected = kernels.nearest(table[sound], table[:1], 59, skip=rows[:1], **settings)
    assert torch.allclose(found.distance[0], expected.distance[0], rtol=0, atol=1e-12)
    assert sound[found.row[0, : int(sound.sum()) - 1]].all()
    assert (found.row[0, int(sound.sum()) - 1 :] == -1).all()
    assert (found.row[1:] == -1).all()
    assert torch.isinf(found.distance[1:]).all()


def test_count_nearer__finds_every_tie_of_a_symmetric_figure(backend, manifold):
    """The corners of a cross are equally far from its centre, whatever the order in memory."""
    dim = 6
    corners = torch.cat((torch.eye(dim), -torch.eye(dim))).double()
    r = torch.full((2 * dim,), 2.0, dtype=torch.float64)
    if manifold == "ball":
        table = convert.polar_to_ball(r, corners)
    else:
        table = torch.cat((r[:, None], corners), dim=1)
    centre = table[:1].clone()
    centre[:, 0] = 0
    if manifold == "polar":
        centre[:, 1] = 1
    table = torch.cat((centre, table.repeat(50, 1)))
    targets = torch.arange(1, 13)[None]
    skip = torch.zeros(1, dtype=torch.int64)
    counts = kernels.count_nearer(
        table, centre, targets, manifold=manifold, skip=skip, backend=backend
    )
    assert (counts.nearer == 0).all()
    if manifold == "ball" or backend != "torch":
        assert (counts.tied == 50 * 12 - 1).all()


# -------------------------------------------------------------------- arguments


def test_backend__that_cannot_be_had_is_refused_with_advice(monkeypatch):
    from poincare_taxa.kernels import backend as _backend

    x = points(3, "ball", torch.float64)
    with pytest.raises(ValueError, match="must be 'auto', 'torch'"):
        kernels.dist(x, x, backend="cuda")
    monkeypatch.setattr(_backend, "_installed", lambda name: False)
    with pytest.raises(ModuleNotFoundError, match=r"poincare-taxa\[gpu\]"):
        kernels.dist(x, x, backend="triton")


def test_backend__triton_on_the_cpu_is_refused_without_the_interpreter(monkeypatch):
    pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
    from poincare_taxa.kernels import triton

    monkeypatch.setattr(triton, "INTERPRETED", False)
    x = points(3, "ball", torch.float64)
    with pytest.raises(ValueError, match="set TRITON_INTERPRET=1"):
        kernels.dist(x, x, backend="triton")


def test_rows__out_of_the_table_are_refused(backend):
    x = points(3, "ball", torch.float64)
    one, far = torch.tensor([0]), torch.tensor([3])
    with pytest.raises(ValueError, match="row 3; the table's rows are 0 to 2"):
        kernels.pair_distance(x, one, far, backend=backend)
    with pytest.raises(ValueError, match="row -1"):
        kernels.pair_distance(x, -1 - one, one, backend=backend)
    with pytest.raises(ValueError, match="row 3"):
        kernels.nearest(x, x, 1, rows=far, backend=backend)
    with pytest.raises(ValueError, match="int64"):
        kernels.pair_distance(x, one.int(), one, backend=backend)


def test_arguments__that_do_not_fit_are_refused(backend):
    x, p = points(3, "ball", torch.float64), points(3, "polar", torch.float64)
    with pytest.raises(ValueError, match="curvature -1"):
        kernels.dist(p, p, manifold="polar", c=2.0, backend=backend)
    with pytest.raises(ValueError, match="'ball' or 'polar'"):
        kernels.dist(x, x, manifold="lorentz", backend=backend)
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        kernels.dist(x, x[:2], backend=backend)
    with pytest.raises(ValueError, match="same number of coordinates"):
        kernels.dist(x, x[:, :4], backend=backend)
    with pytest.raises(ValueError, match=r"got Tensor of torch\.float16"):
        kernels.dist(x.half(), x.half())
    if backend != "torch":
        with pytest.raises(ValueError, match="one dtype, float32 or float64"):
            kernels.dist(x, x.float(), backend=backend)
    with pytest.raises(ValueError, match="k must be at least 1"):
        kernels.nearest(x, x, 0, backend=backend)
    with pytest.raises(ValueError, match="'distance' or 'ancestor'"):
        kernels.nearest(x, x, 1, by="tree", backend=backend)
    with pytest.raises(ValueError, match="as many rows in skip"):
        kernels.nearest(x, x, 1, skip=torch.tensor([0]), backend=backend)
    with pytest.raises(ValueError, match="as many rows of targets"):
        kernels.count_nearer(x, x, torch.zeros(1, 1, dtype=torch.int64), backend=backend)
    with pytest.raises(ValueError, match="manifold='polar'"):
        kernels.nearest((p[:, 0], p[:, 1:]), x, 1, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_distances__of_pairs_of_radius_and_direction_are_those_of_tables(backend):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 4, generator=generator, dtype=torch.float64) for n in (40, 50))
    for table in (x, y):
        table[:, 1:] /= torch.linalg.vector_norm(table[:, 1:], dim=1, keepdim=True)
    pairs = [(table[:, 0], table[:, 1:]) for table in (x, y)]
    options = {"manifold": "polar", "backend": backend}
    assert kernels.cdist(*pairs, **options).equal(kernels.cdist(x, y, **options))
    assert kernels.cdist(pairs[0], y, **options).equal(kernels.cdist(x, y, **options))
    first = (pairs[1][0][:40], pairs[1][1][:40])
    assert kernels.dist(pairs[0], first, **options).equal(kernels.dist(x, y[:40], **options))
    with pytest.raises(ValueError, match="points of manifold='polar'"):
        kernels.cdist(*pairs)
