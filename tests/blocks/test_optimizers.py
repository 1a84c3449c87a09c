import copy
import math

import geoopt
import pytest
import torch

from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.optimizers import AngularAdam, RowwiseRiemannianAdam
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.taxonomy import Taxonomy

MANIFOLDS = {"polar": Polar(), "ball": PoincareBall(), "ball-c": PoincareBall(c=0.5)}


@pytest.fixture(params=MANIFOLDS)
def manifold(request):
    return MANIFOLDS[request.param]


def table(manifold, n=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return PoincareEmbedding(
        n, 3, manifold=manifold, initial_radius=1.5, dtype=dtype, generator=generator
    )


def random_gradients(shape, count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, dtype=torch.float64, generator=generator)


# -- the step, in closed form ---------------------------------------------------------------------


def reference(manifold, x, gradients, lr, betas, eps, radius_lr=None):
    """Equation by equation, one row and one part at a time."""
    x = x.clone()
    for row in range(len(x)):
        mean, squares, t = torch.zeros_like(x[row]), None, 0
        for gradient in gradients[:, row]:
            if (gradient == 0).all():
                continue
            t += 1
            frame = manifold.frame_gradient(x[row][None], gradient[None])[0]
            mean = betas[0] * mean + (1 - betas[0]) * frame
            parts = manifold.frame_parts(frame)
            squares = squares or [0.0] * len(parts)
            step = []
            for k, (f, m) in enumerate(zip(parts, manifold.frame_parts(mean), strict=True)):
                squares[k] = betas[1] * squares[k] + (1 - betas[1]) * sum(v.item() ** 2 for v in f)
                size = math.sqrt(squares[k] / (1 - betas[1] ** t)) + eps
                rate = radius_lr if k == 0 and radius_lr is not None else lr
                step.append(-rate * m / (1 - betas[0] ** t) / size)
            moved, carried = manifold.frame_walk(x[row][None], torch.cat(step)[None], mean[None])
            x[row], mean = moved[0], carried[0]
    return x


@pytest.mark.parametrize("sparse", [False, True])
def test_step__follows_the_equations_row_by_row(manifold, sparse):
    emb = table(manifold)
    gradients = random_gradients(emb.weight.shape, 12)
    gradients[torch.rand(12, 6, generator=torch.Generator().manual_seed(2)) < 0.5] = 0
    options = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3}
    expected = reference(manifold, emb.weight.detach(), gradients, **options)
    optimizer = RowwiseRiemannianAdam(emb.parameters(), **options)
    for gradient in gradients:
        if sparse:  # in two halves, so that rows repeat
            rows = torch.arange(6).repeat(2)
            half = torch.cat((gradient * 0.25, gradient * 0.75))
            gradient = torch.sparse_coo_tensor(
                rows[None], half, emb.weight.shape, check_invariants=True
            )
        emb.weight.grad = gradient
        optimizer.step()
    assert torch.allclose(emb.weight, expected, rtol=1e-12, atol=1e-14)


def test_step__of_the_radius_is_torch_adam():
    emb = table(Polar())
    r = emb.radius.clone().requires_grad_()
    ours = RowwiseRiemannianAdam(emb.parameters(), lr=0.01)
    theirs = torch.optim.Adam([r], lr=0.01)
    for gradient in random_gradients((6, 4), 20):
        gradient[:, 1:] = 0
        emb.weight.grad, r.grad = gradient, gradient[:, 0].clone()
        ours.step()
        theirs.step()
    assert torch.allclose(emb.radius, r, rtol=1e-12)


@pytest.mark.parametrize("radius", [1e-3, 1.0, 20.0, 100.0, 300.0])
def test_step__moves_as_far_at_any_radius(radius):
    u = torch.tensor([[0.0, 0.6, 0.8]], dtype=torch.float64)
    emb = PoincareEmbedding.from_pretrained(torch.tensor([radius]).double(), u)
    emb.weight.grad = torch.tensor([[0.0, 3.0, 0.0, 0.0]], dtype=torch.float64) * math.sinh(radius)
    lr = 1e-4
    RowwiseRiemannianAdam(emb.parameters(), lr=lr).step()
    turn = emb.direction[0, 0].abs().item()
    assert math.sinh(radius) * turn == pytest.approx(lr, rel=1e-2)
    if radius > 40:  # the turn is far below an ulp of the other coordinates
        assert torch.equal(emb.direction[0, 1:], u[0, 1:])


def test_step__does_not_depend_on_the_axes():
    rotation = torch.linalg.qr(random_gradients((3, 3), 1)[0])[0]
    one = table(Polar())
    other = PoincareEmbedding.from_pretrained(one.radius, one.direction @ rotation)
    optimizers = [RowwiseRiemannianAdam(e.parameters(), lr=0.1) for e in (one, other)]
    for gradient in random_gradients((6, 4), 10):
        one.weight.grad = gradient
        other.weight.grad = torch.cat((gradient[:, :1], gradient[:, 1:] @ rotation), dim=1)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(one.direction @ rotation, other.direction, atol=1e-12)


# -- what it leaves alone -------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_step__touches_only_rows_with_a_gradient(manifold, sparse):
    emb = table(manifold)
    emb.sparse = sparse
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1)
    for _ in range(3):  # momentum must not carry the others
        optimizer.zero_grad()
        emb.dist(torch.tensor([1, 1]), torch.tensor([4, 2])).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
    before = emb.weight.detach().clone()
    emb.dist(torch.tensor([1]), torch.tensor([4])).sum().backward()
    optimizer.step()
    changed = (emb.weight != before).any(-1).nonzero()[:, 0].tolist()
    assert changed == [1, 4]
    assert optimizer.state[emb.weight]["touched"][:, 0].tolist() == [0, 4, 3, 0, 4, 0]


def test_step__with_radius_lr_zero_keeps_radii_to_the_bit():
    emb = table(Polar())
    before = emb.weight.detach().clone()
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1, radius_lr=0.0)
    for gradient in random_gradients((6, 4), 5):
        emb.weight.grad = gradient
        optimizer.step()
    assert torch.equal(emb.radius, before[:, 0])
    assert (emb.direction != before[:, 1:]).any(-1).all()


def test_step__radius_lr_is_the_step_of_the_radius():
    emb = table(Polar())
    gradients = random_gradients(emb.weight.shape, 5)
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "radius_lr": 0.01}
    expected = reference(Polar(), emb.weight.detach(), gradients, **options)
    optimizer = RowwiseRiemannianAdam(emb.parameters(), **options)
    for gradient in gradients:
        emb.weight.grad = gradient
        optimizer.step()
    assert torch.allclose(emb.weight, expected, rtol=1e-12, atol=1e-14)


def test_step__keeps_the_fine_structure_of_a_deep_layout():
    # a caterpillar 120 levels deep: its tips' directions agree to 1e-50 and more
    parent = [-1]
    for level in range(120):
        parent += [0 if level == 0 else 2 * level - 1] * 2
    tax = Taxonomy.from_parents(parent)
    points = layout(tax, 4, tau=1.0)
    emb = PoincareEmbedding.from_pretrained(points.radius, points.direction)
    deepest = torch.as_tensor(tax.depth == tax.max_depth).nonzero()[:, 0]
    before = emb.dist(deepest[0], deepest[1]).item()
    assert before == pytest.approx(2.0, abs=1.0)
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=1e-3)
    for _ in range(50):
        optimizer.zero_grad()
        emb.dist(deepest[0], deepest[1]).neg().backward()
        optimizer.step()
    after = emb.dist(deepest[0], deepest[1]).item()
    # two points that part by 50 steps of about 1e-3 each, radially and sideways
    assert after - before == pytest.approx(2 * 50 * 1e-3 * math.sqrt(2), rel=0.1)


def test_step__stays_on_the_manifold_and_finite(manifold):
    for dtype in (torch.float32, torch.float64):
        emb = table(manifold, dtype=dtype)
        optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=1.0)
        for gradient in random_gradients(emb.weight.shape, 100) * 1e3:
            emb.weight.grad = gradient.to(dtype)
            optimizer.step()
        x = emb.weight.detach()
        assert x.isfinite().all()
        manifold.assert_check_point_on_manifold(x, atol=32 * torch.finfo(dtype).eps, rtol=0)


def test_step__at_the_origin_moves_the_radius_only():
    emb = PoincareEmbedding.from_pretrained(torch.zeros(1).double(), torch.eye(3).double()[:1])
    emb.weight.grad = torch.tensor([[-1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    RowwiseRiemannianAdam(emb.parameters(), lr=0.5).step()
    assert emb.weight.tolist() == [[pytest.approx(0.5), 1.0, 0.0, 0.0]]


# -- as a torch optimizer -------------------------------------------------------------------------


def test_optimizer__resumes_to_the_same_bits(manifold):
    emb = table(manifold)
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1)
    gradients = random_gradients(emb.weight.shape, 6)
    for gradient in gradients[:3]:
        emb.weight.grad = gradient
        optimizer.step()
    resumed = copy.deepcopy(emb)
    other = RowwiseRiemannianAdam(resumed.parameters(), lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for gradient in gradients[3:]:
        emb.weight.grad, resumed.weight.grad = gradient, gradient.clone()
        optimizer.step()
        other.step()
    assert torch.equal(emb.weight, resumed.weight)


def test_optimizer__runs_the_closure_and_hooks():
    emb = table(Polar())
    optimizer = RowwiseRiemannianAdam([{"params": emb.parameters(), "lr": 0.0}])
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append("hook"))
    before = emb.weight.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = emb.dist(torch.tensor([0]), torch.tensor([1])).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == emb.dist(torch.tensor([0]), torch.tensor([1])).item()
    assert called == ["hook"]
    assert torch.allclose(emb.weight, before, rtol=1e-15)  # the group's lr is 0


def test_optimizer__brings_points_to_their_targets(manifold):
    emb, targets = table(manifold, 20), table(manifold, 20, seed=5).weight.detach()
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        manifold.dist(emb.weight, targets).sum().backward()
        optimizer.step()
        schedule.step()
    assert manifold.dist(emb.weight, targets).max() < 1e-2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0; got -1.0"),
        ({"eps": math.nan}, "eps must be at least 0; got nan"),
        ({"radius_lr": -0.1}, "radius_lr must be at least 0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\); got \(0\.9, 1\.0\)"),
    ],
)
def test_optimizer__refuses_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        RowwiseRiemannianAdam(table(Polar()).parameters(), **options)


def test_optimizer__refuses_parameters_it_cannot_move():
    optimizer = RowwiseRiemannianAdam(table(Polar()).parameters())
    for manifold in (geoopt.Sphere(), geoopt.PoincareBall(learnable=True)):
        parameter = geoopt.ManifoldParameter(torch.eye(2), manifold=manifold)
        with pytest.raises(ValueError, match="moves tables on Polar or a Poincaré ball"):
            optimizer.add_param_group({"params": [parameter]})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match="tables"):
        RowwiseRiemannianAdam(
            [geoopt.ManifoldParameter(torch.tensor([0.0, 1.0]), manifold=Polar())]
        )
    with pytest.raises(ValueError, match="radius_lr needs a manifold with a radius"):
        RowwiseRiemannianAdam(table(PoincareBall()).parameters(), radius_lr=0.1)


def test_step__on_geoopts_ball_is_that_on_ours():
    start = table(PoincareBall()).weight.detach()
    balls = geoopt.PoincareBall(), PoincareBall()
    one, other = (geoopt.ManifoldParameter(start.clone(), manifold=ball) for ball in balls)
    for x in (one, other):
        optimizer = RowwiseRiemannianAdam([x], lr=0.1)
        for gradient in random_gradients(x.shape, 5):
            x.grad = gradient
            optimizer.step()
    assert torch.equal(one, other)


# -- together with a network ----------------------------------------------------------------------


def network(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)
    return torch.nn.Sequential(*layers).to(dtype)


def joint_loss(encoder, emb, seed=0, size=16):
    """Squares of what the encoder says of rows minus their points."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 5, dtype=torch.float64, generator=generator)
    rows = torch.randint(len(emb.weight), (size,), generator=generator)
    return (encoder(x.to(encoder[0].weight.dtype)) - emb(rows)).square().sum(-1).mean()


def test_step__of_plain_tensors_is_that_of_torchs_adamw():
    """Whether in a group of their own or in one with a table, with a schedule over all groups."""
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    results = []
    for way in ("adamw", "flat", "groups"):
        encoder, emb = network(), table(Polar())
        if way == "adamw":
            optimizers = [torch.optim.AdamW(encoder.parameters(), **options)]
            optimizers.append(RowwiseRiemannianAdam(emb.parameters(), **options))
        elif way == "flat":
            both = torch.nn.ModuleList([encoder, emb])
            optimizers = [RowwiseRiemannianAdam(both.parameters(), **options)]
        else:
            groups = [{"params": emb.parameters()}, {"params": encoder.parameters(), "lr": 0.02}]
            optimizers = [RowwiseRiemannianAdam(groups, **options)]
        schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, 6) for o in optimizers]
        for step in range(5):
            for optimizer in optimizers:
                optimizer.zero_grad()
            joint_loss(encoder, emb, seed=step).backward()
            for each in (*optimizers, *schedules):
                each.step()
        results.append([p.detach() for p in (*encoder.parameters(), emb.weight)])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_state__of_a_mixed_optimizer_resumes_to_the_bit():
    encoder, emb = network(), table(Polar())
    both = torch.nn.ModuleList([encoder, emb])
    optimizer = RowwiseRiemannianAdam(both.parameters(), lr=0.05)
    joint_loss(encoder, emb).backward()
    optimizer.step()
    copies = copy.deepcopy(both)
    resumed = RowwiseRiemannianAdam(copies.parameters(), lr=0.05)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["weight_decay"]  # as the first versions saved it
    resumed.load_state_dict(state)
    for modules, steps in ((both, optimizer), (copies, resumed)):
        steps.zero_grad()
        joint_loss(*modules, seed=1).backward()
        steps.step()
    assert all(map(torch.equal, both.parameters(), copies.parameters()))


def test_step__refuses_a_sparse_gradient_of_a_plain_tensor():
    words = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = RowwiseRiemannianAdam(words.parameters())
    words(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=r"shape \(5, 3\) has a sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients__of_parts_of_a_batch_add_up(sparse):
    weights = []
    for parts in (1, 4):
        emb = table(Polar())
        emb.sparse = sparse
        optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1)
        nodes = torch.tensor([0, 1, 2, 3, 1, 1, 4, 0])
        for some in nodes.chunk(parts):
            (emb(some).square() * torch.arange(1.0, 5)).sum().backward()
        optimizer.step()
        weights.append(emb.weight.detach())
    assert torch.allclose(*weights, rtol=1e-13, atol=1e-15)


def test_scaler__skips_a_step_that_overflows_for_network_and_table():
    encoder, emb = network(), table(Polar())
    emb.sparse = True
    both = torch.nn.ModuleList([encoder, emb])
    optimizer = RowwiseRiemannianAdam(both.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for finite in (True, False):
        before = copy.deepcopy(both)
        optimizer.zero_grad()
        loss = joint_loss(encoder, emb) * (1.0 if finite else math.inf)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        same = list(map(torch.equal, before.parameters(), both.parameters()))
        assert not any(same) if finite else all(same)
    alone = torch.nn.ModuleList([network(), table(Polar())])
    other = RowwiseRiemannianAdam(alone.parameters(), lr=0.05)
    joint_loss(*alone).backward()
    other.step()
    assert all(map(torch.equal, alone.parameters(), both.parameters()))  # a power of 2 is exact


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("how", ["autocast", "bfloat16", "compiled"])
def test_network_of_low_precision__trains_its_table(how):
    encoder = network(dtype=torch.bfloat16 if how == "bfloat16" else torch.float32)
    emb = table(Polar(), dtype=torch.float32)
    optimizer = RowwiseRiemannianAdam(
        [{"params": emb.parameters(), "lr": 0.05}, {"params": encoder.parameters()}]
    )
    run = joint_loss
    if how == "compiled":
        run = torch.compile(joint_loss, backend="eager")
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
            loss = run(encoder, emb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert emb.weight.dtype == torch.float32
    Polar().assert_check_point_on_manifold(emb.weight.detach())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_step__is_the_same_compiled_and_on_tensors(monkeypatch, dtype):
    """Rows that start at the origin, pass it, have no gradient, or lie far out."""
    gradients = random_gradients((40, 4), 30).to(dtype)
    gradients[:, 3] = 0
    gradients[:, 5, 0] = gradients[:, 5, 0].abs()  # always inwards
    gradients[:, 7, 1:] = 0
    start = table(Polar(), n=40, dtype=dtype).weight.detach()
    start[0, 0], start[5, 0], start[9, 0] = 0, 0.1, 30
    gradients[:, 9, 1:] *= math.sinh(30)  # far out, where all else of a turn is below eps
    found = []
    for compiled in (True, False):
        if not compiled:
            plain = RowwiseRiemannianAdam._step_tensors
            monkeypatch.setattr(RowwiseRiemannianAdam, "_step_compiled", plain)
        points = geoopt.ManifoldParameter(start.clone(), manifold=Polar())
        optimizer = RowwiseRiemannianAdam([points], lr=0.05, betas=(0.8, 0.95), radius_lr=0.02)
        for gradient in gradients:
            points.grad = gradient.clone()
            optimizer.step()
        moments = optimizer.state[points]
        found.append([points.detach(), *(moments[k] for k in ("exp_avg", "exp_avg_sq"))])
        assert torch.equal(moments["touched"][:, 0], 30.0 * (torch.arange(40) != 3).to(dtype))
    # each step rounds some 40 times, and is taken from where the step before rounded to
    eps = torch.finfo(dtype).eps
    for mine, theirs in zip(*found, strict=True):
        assert torch.allclose(mine, theirs, rtol=30 * 40 * eps, atol=30 * 40 * eps)


def test_step__is_seen_by_autograd():
    emb = table(Polar())
    loss = emb.weight[0].square().sum()
    loss.backward(retain_graph=True)
    RowwiseRiemannianAdam(emb.parameters()).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_step__is_an_angle_at_every_radius():
    x = torch.tensor([[1.0, 1.0, 0.0], [9.0, 1.0, 0.0], [160.0, 1.0, 0.0]], dtype=torch.float64)
    points = geoopt.ManifoldParameter(x.clone(), manifold=Polar())
    optimizer = AngularAdam([points], lr=1e-3, radius_ratio=2.0)
    for _ in range(3):
        optimizer.zero_grad()
        (points * torch.tensor([1.0, 5.0, -3.0])).sum().backward()
        optimizer.step()
    moved = points.detach()
    angle = torch.atan2(moved[:, 2], moved[:, 1])
    # The direction of the gradient turns with the point, by 1e-3 a step.
    torch.testing.assert_close(angle, torch.full_like(angle, 3e-3), rtol=1e-2, atol=0)
    torch.testing.assert_close(moved[:, 0], x[:, 0] - 6e-3, rtol=0, atol=1e-9)
    assert (torch.linalg.vector_norm(moved[:, 1:], dim=1) - 1).abs().max() < 1e-15


def test_angular_adam__refuses_what_has_no_angles_and_no_sense():
    flat = geoopt.ManifoldParameter(torch.zeros(2, 2), manifold=PoincareBall())
    with pytest.raises(ValueError, match="AngularAdam moves points of Polar; got some of"):
        AngularAdam([flat])
    for bad in ({"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": -1e-3}, {"radius_ratio": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            AngularAdam([torch.zeros(1)], **bad)
