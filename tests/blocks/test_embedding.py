import copy
import io
import math
import pickle
import subprocess
import sys

import geoopt
import pytest
import torch

from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam
from poincare_taxa.blocks.projection import project_after_step
from poincare_taxa.geometry import ball, polar
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model.model import embed
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

MANIFOLDS = {"polar": Polar(), "ball": PoincareBall(), "ball-c": PoincareBall(c=0.5)}


@pytest.fixture(params=MANIFOLDS)
def embedding(request):
    generator = torch.Generator().manual_seed(0)
    return PoincareEmbedding(
        7, 3, manifold=MANIFOLDS[request.param], initial_radius=1.0, generator=generator
    )


def bushy():
    return Taxonomy.from_parents([-1, 0, 0, 0, 1, 1, 2, 4, 4, 4])


def cats():
    return Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])


def same(one, other):
    return (
        torch.equal(one.weight, other.weight)
        and isinstance(other.weight, geoopt.ManifoldParameter)
        and repr(one) == repr(other)
        and one.sparse == other.sparse
    )


# -- construction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_embedding__starts_around_the_origin_at_the_radius_asked_for(name, dtype):
    generator = torch.Generator().manual_seed(0)
    emb = PoincareEmbedding(
        5000, 10, manifold=MANIFOLDS[name], initial_radius=0.5, dtype=dtype, generator=generator
    )
    assert emb.weight.dtype == dtype
    assert emb.weight.shape == (5000, 11 if name == "polar" else 10)
    assert emb.radius.square().mean().sqrt().item() == pytest.approx(0.5, rel=0.02)
    assert emb.direction.mean(0).norm() < 0.05
    emb.manifold.assert_check_point_on_manifold(emb.weight.detach())


def test_embedding__same_generator_same_start():
    one, other = (
        PoincareEmbedding(5, 3, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    )
    assert same(one, other)


def test_embedding__defaults_to_polar_float64():
    emb = PoincareEmbedding(3, 2)
    assert isinstance(emb.manifold, Polar)
    assert emb.weight.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_layout__keeps_the_layout_to_the_bit(dtype):
    tax = bushy()
    points = layout(tax, 4, dtype=dtype, seed=3, tau=0.9)
    emb = PoincareEmbedding.from_layout(tax, 4, dtype=dtype, seed=3, tau=0.9, sparse=True)
    assert emb.sparse
    assert torch.equal(emb.radius, points.radius)
    assert torch.equal(emb.direction, points.direction)
    assert (emb.num_embeddings, emb.embedding_dim) == (len(tax), 4)


def test_from_layout__on_the_ball_clips_at_the_rim():
    deep = Taxonomy.from_parents([-1, *range(60)])
    emb = PoincareEmbedding.from_layout(deep, 3, tau=1.0, manifold=PoincareBall())
    assert emb.radius[5].item() == pytest.approx(5.0)
    assert emb.radius[-1].item() == pytest.approx(ball.max_radius(torch.float64), rel=1e-3)


def test_from_pretrained__copies():
    points = layout(bushy(), 4)
    emb = PoincareEmbedding.from_pretrained(points.radius, points.direction)
    with torch.no_grad():
        emb.weight[1, 0] += 1
    assert emb.radius[1] == points.radius[1] + 1


@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.tolist])
def test_from_pretrained__takes_arrays_and_lists(form):
    points = layout(bushy(), 4)
    emb = PoincareEmbedding.from_pretrained(form(points.radius), form(points.direction))
    assert torch.equal(emb.radius, points.radius)
    assert torch.equal(emb.direction, points.direction)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, u: (r[:2], u), r"\(2,\) and \(3, 2\)"),
        (lambda r, u: (r.index_fill(0, torch.tensor(1), math.nan), u), "row 1 is not finite"),
        (lambda r, u: (r, u * torch.tensor([[1], [1], [math.inf]])), "row 2 is not finite"),
        (lambda r, u: (r - 2, u), "negative"),
        (lambda r, u: (r, 2 * u), "not unit"),
    ],
)
def test_from_pretrained__refuses_what_are_not_points(change, message):
    r, u = torch.ones(3), torch.full((3, 2), 0.5**0.5)
    with pytest.raises(ValueError, match=message):
        PoincareEmbedding.from_pretrained(*change(r, u))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 3), {}, "num_embeddings must be at least 1; got 0"),
        ((3, 1), {}, "embedding_dim must be at least 2; got 1"),
        ((3, 2), {"initial_radius": 0.0}, "initial_radius must be positive"),
        ((3, 2), {"manifold": geoopt.Lorentz()}, "manifold must be Polar or PoincareBall"),
        ((3, 2), {"manifold": geoopt.PoincareBall(learnable=True)}, "learnable=False"),
        ((3, 2), {"max_norm": 1.0}, "max_norm and scale_grad_by_freq are for Euclidean tables"),
        ((3, 2), {"scale_grad_by_freq": True}, "max_norm and scale_grad_by_freq"),
        ((3, 2), {"padding_idx": 3}, "padding_idx is one of the 3 rows; got 3"),
    ],
)
def test_embedding__refuses_wrong_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        PoincareEmbedding(*arguments, **options)


@pytest.mark.parametrize("c", [1.0, 0.5, 2.3])
def test_embedding__takes_geoopts_ball_as_the_one_like_it(c):
    emb = PoincareEmbedding(5, 3, manifold=geoopt.PoincareBall(c=c), initial_radius=1.0)
    assert type(emb.manifold) is PoincareBall
    assert emb.manifold.c.item() == c


def test_embedding__is_one_of_torch_with_the_shape_of_its_points(embedding):
    assert isinstance(embedding, torch.nn.Embedding)
    assert list(embedding.state_dict()) == ["weight"]
    assert embedding.weight.shape == (7, 4 if isinstance(embedding.manifold, Polar) else 3)
    before = embedding.weight.detach().clone()
    embedding.reset_parameters(torch.Generator().manual_seed(1))
    assert embedding.radius.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.6)
    assert not torch.equal(before, embedding.weight)
    again = PoincareEmbedding(
        7,
        3,
        manifold=embedding.manifold,
        initial_radius=1.0,
        generator=torch.Generator().manual_seed(1),
    )
    assert same(again, embedding)


# -- taxa -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [False, True])
def test_from_model__holds_the_vectors_and_their_keys(freeze):
    model = embed(cats(), 3)
    emb = PoincareEmbedding.from_model(model, freeze, sparse=True)
    assert torch.equal(emb.radius, model.radius)
    assert torch.equal(emb.direction, model.direction)
    assert emb.weight.requires_grad is not freeze
    assert emb.rows("lion").shape == ()
    assert emb.rows(["lion", "root"]).tolist() == [2, 0]
    assert emb.rows(["lion", "unicorn"], missing=0).tolist() == [2, 0]
    with pytest.raises(TaxonomyError, match="unicorn"):
        emb.rows(["unicorn"])
    d = emb.dist(emb.rows("lion"), emb.rows("dogs")).item()
    assert d == pytest.approx(model.distance("lion", "dogs"), rel=1e-12)
    assert copy.deepcopy(emb).taxonomy is emb.taxonomy  # shared, not copied
    assert pickle.loads(pickle.dumps(emb)).rows("lion") == 2
    with pytest.raises(ValueError, match="no taxonomy to look keys up in"):
        PoincareEmbedding(4, 3).rows("lion")


def test_padding__starts_at_the_origin_and_stays(embedding):
    emb = PoincareEmbedding(
        7, 3, manifold=embedding.manifold, initial_radius=1.0, padding_idx=-1, sparse=True
    )
    assert emb.padding_idx == 6
    assert emb.radius[6] == 0
    emb.manifold.assert_check_point_on_manifold(emb.weight.detach())
    before = emb.weight.detach().clone()
    optimizer = RowwiseRiemannianAdam(emb.parameters(), lr=0.1)
    nodes = torch.tensor([0, 6, 1, 6])
    (emb(nodes).sum() + emb.dist(nodes, torch.tensor([6, 2, 3, 0])).sum()).backward()
    optimizer.step()
    moved = (emb.weight != before).any(-1)
    assert moved.tolist() == [True, True, True, True, False, False, False]


# -- what it computes -----------------------------------------------------------------------------


def test_forward__gives_points_of_nodes_of_any_shape(embedding):
    nodes = torch.tensor([[0, 3], [6, 3]])
    assert torch.equal(embedding(nodes), embedding.weight[nodes])


def test_dist__is_the_distance_of_the_points(embedding):
    a, b = torch.arange(7)[:, None], torch.arange(7)
    d = embedding.dist(a, b)
    r, u = embedding.radius, embedding.direction
    scale = math.sqrt(embedding.manifold.c) if hasattr(embedding.manifold, "c") else 1.0
    assert torch.allclose(scale * d, polar.cdist(r, u, r, u), atol=1e-12)
    score = embedding.ancestor_score(a, b)
    assert torch.allclose(scale * score, polar.all_ancestor_scores(r, u, r, u), atol=1e-12)


def test_radius_and_direction__are_detached(embedding):
    assert not embedding.radius.requires_grad
    assert not embedding.direction.requires_grad


def test_gradients__sparse_and_dense_agree(embedding):
    embedding.dist(torch.tensor([0, 1, 1]), torch.tensor([2, 3, 4])).sum().backward()
    dense = embedding.weight.grad.clone()
    embedding.weight.grad = None
    embedding.sparse = True
    embedding.dist(torch.tensor([0, 1, 1]), torch.tensor([2, 3, 4])).sum().backward()
    assert embedding.weight.grad.is_sparse
    assert set(embedding.weight.grad.coalesce().indices()[0].tolist()) == {0, 1, 2, 3, 4}
    assert torch.allclose(embedding.weight.grad.to_dense(), dense)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_forward_and_dist__compile_without_a_graph_break(embedding):
    a, b = torch.tensor([0, 1]), torch.tensor([2, 3])
    forward = torch.compile(embedding, backend="eager", fullgraph=True)
    dist = torch.compile(embedding.dist, backend="eager", fullgraph=True)
    assert torch.equal(forward(a), embedding(a))
    assert torch.equal(dist(a, b), embedding.dist(a, b))
    dist(a, b).sum().backward()
    compiled = embedding.weight.grad.clone()
    embedding.weight.grad = None
    embedding.dist(a, b).sum().backward()
    assert torch.allclose(compiled, embedding.weight.grad)


# -- copies and files -----------------------------------------------------------------------------


def test_embedding__survives_deepcopy_and_pickle(embedding):
    embedding.sparse = True
    for other in (copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert same(embedding, other)
        with torch.no_grad():
            other.weight[:, :1].mul_(0.5)
        assert not torch.equal(embedding.weight, other.weight)
        # still a point of a manifold to an optimizer
        other.dist(torch.tensor([0]), torch.tensor([1])).sum().backward()
        RowwiseRiemannianAdam(other.parameters(), lr=0.1).step()


def test_state_dict__round_trips_without_unpickling_code(embedding):
    file = io.BytesIO()
    torch.save(embedding.state_dict(), file)
    file.seek(0)
    other = PoincareEmbedding(7, 3, manifold=embedding.manifold)
    assert not same(embedding, other)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(embedding, other)


def test_embedding__moves_between_dtypes(embedding):
    other = copy.deepcopy(embedding).float()
    assert other.weight.dtype == torch.float32
    assert isinstance(other.weight, geoopt.ManifoldParameter)
    d = other.dist(torch.tensor([0]), torch.tensor([1]))
    assert torch.allclose(
        d.double(), embedding.dist(torch.tensor([0]), torch.tensor([1])), rtol=1e-5
    )


def test_embedding__stays_on_its_manifold_when_parameters_are_replaced(embedding):
    other = PoincareEmbedding(7, 3, manifold=embedding.manifold)
    other.load_state_dict(copy.deepcopy(embedding.state_dict()), assign=True)
    assert same(embedding, other)
    with torch.device("meta"):
        empty = PoincareEmbedding(7, 3, manifold=embedding.manifold)
    outer = torch.nn.Sequential(empty)
    outer.load_state_dict(torch.nn.Sequential(embedding).state_dict(), assign=True)
    for moved in (other, outer[0], copy.deepcopy(embedding).to("meta")):
        assert isinstance(moved.weight, geoopt.ManifoldParameter)
        assert moved.manifold is embedding.manifold or moved.weight.is_meta
        assert moved.weight.requires_grad
    RowwiseRiemannianAdam(outer.parameters(), lr=0.1)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_embedding__keeps_its_precision_in_a_module_of_half(embedding, half):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), embedding)
    with pytest.warns(UserWarning, match="stays in torch.float64: in torch.b?float16"):
        net.to(half)
    assert net[0].weight.dtype == half
    assert embedding.weight.dtype == torch.float64
    assert isinstance(embedding.weight, geoopt.ManifoldParameter)


def test_embedding__is_saved_whole_and_shared_and_tied(embedding):
    file = io.BytesIO()
    torch.save(embedding, file)
    file.seek(0)
    assert same(embedding, torch.load(file, weights_only=False))
    assert embedding.share_memory().weight.is_shared()
    assert isinstance(embedding.weight, geoopt.ManifoldParameter)
    other = PoincareEmbedding(7, 3, manifold=embedding.manifold)
    other.weight = embedding.weight
    assert len(list(torch.nn.ModuleList([embedding, other]).parameters())) == 1


def test_embedding__pickled_before_it_was_one_of_torch_works(embedding):
    other = copy.deepcopy(embedding)
    for name in ("padding_idx", "initial_radius"):
        del other.__dict__[name]
    assert torch.equal(other(torch.arange(7)), embedding.weight)
    other.reset_parameters()
    assert repr(other) == repr(embedding)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("projected", [False, True])
def test_forward__warns_once_of_an_optimizer_without_a_manifold(optimizer, projected):
    embedding = PoincareEmbedding.from_layout(bushy(), 3)
    steps = optimizer(embedding.parameters(), lr=0.05)
    if projected:
        project_after_step(steps, embedding)

    def train():
        for _ in range(6):
            steps.zero_grad()
            (embedding.dist(torch.arange(9), torch.arange(1, 10)) - 2).square().sum().backward()
            steps.step()

    if projected:
        train()  # warnings are errors here
    else:
        with pytest.warns(UserWarning, match="left their space .*project_after_step") as caught:
            train()
        assert len(caught) == 1


def test_forward__is_silent_for_optimizers_of_manifolds():
    for make in (RowwiseRiemannianAdam, geoopt.optim.RiemannianAdam):
        embedding = PoincareEmbedding.from_layout(bushy(), 3)
        steps = make(embedding.parameters(), lr=0.05)
        for _ in range(6):
            steps.zero_grad()
            embedding(torch.arange(9)).square().sum().backward()
            steps.step()


# -- two processes --------------------------------------------------------------------------------

REPLICA = """
import sys, torch, torch.distributed as dist
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam

rank, size, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.manual_seed(0)
table = PoincareEmbedding(20, 3, sparse=True, initial_radius=1.0)
net = torch.nn.ModuleDict({"table": table, "encoder": torch.nn.Linear(5, 4).double()})

class Loss(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, x, nodes):
        return (self.net["encoder"](x) - self.net["table"](nodes)).square().sum(1).mean()

loss = Loss()
optimizer = RowwiseRiemannianAdam(loss.parameters(), lr=0.05)
if size > 1:
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size)
    loss = torch.nn.parallel.DistributedDataParallel(loss)
x = torch.randn(3, 8, 5, dtype=torch.float64)
nodes = torch.randint(0, 12, (3, 8))
for step in range(3):
    optimizer.zero_grad()
    mine = slice(rank, None, size)
    loss(x[step, mine], nodes[step, mine]).backward()
    assert table.weight.grad.is_sparse
    optimizer.step()
torch.save(net.state_dict(), out + str(rank))
if size > 1:
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_table__learns_in_two_processes_what_it_learns_in_one(tmp_path):
    def run(size, name):
        arguments = [str(size), str(tmp_path / "store"), str(tmp_path / name)]
        started = [
            subprocess.Popen([sys.executable, "-W", "ignore", "-c", REPLICA, str(rank), *arguments])
            for rank in range(size)
        ]
        assert [process.wait() for process in started] == [0] * size
        return [torch.load(tmp_path / f"{name}{rank}", weights_only=True) for rank in range(size)]

    (alone,), both = run(1, "alone"), run(2, "both")
    for key, value in alone.items():
        assert torch.equal(both[0][key], both[1][key])
        # the mean of two halves is rounded in another order
        assert torch.allclose(both[0][key], value, rtol=1e-9, atol=1e-11)
