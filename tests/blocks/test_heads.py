import copy
import pickle

import numpy as np
import pytest
import torch

from poincare_taxa.blocks.heads import TaxonHead
from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam
from poincare_taxa.blocks.targets import clade_levels, hierarchical_cross_entropy
from poincare_taxa.geometry import polar
from poincare_taxa.model.model import embed
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

GEOMETRIES = ["hyperbolic", "cosine", "linear"]

# Two families of two genera of three species, and a species without a genus.
EDGES = {"root": ["F0", "F1", "stray"]}
for _f in "01":
    EDGES[f"F{_f}"] = [f"G{_f}{g}" for g in "01"]
    for _g in "01":
        EDGES[f"G{_f}{_g}"] = [f"s{_f}{_g}{s}" for s in "012"]
RANK = {"r": "no rank", "F": "family", "G": "genus", "s": "species"}
NAMES = ["root", *(child for children in EDGES.values() for child in children)]
PARENT = {child: parent for parent, children in EDGES.items() for child in children}
TAX = Taxonomy.from_parents(
    [NAMES.index(PARENT[name]) if name in PARENT else -1 for name in NAMES],
    ids=NAMES,
    taxon_ranks=[RANK[name[0]] for name in NAMES],
)


def outputs(n=7, seed=0):
    return 3 * torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=GEOMETRIES)
def head(request):
    return TaxonHead(TAX, 8, geometry=request.param)


def trained(head, steps=150):
    """A head that has learned examples of all species but one of each genus."""
    species = [name for name in head.candidates if not name.endswith("2")]
    generator = torch.Generator().manual_seed(3)
    at = {name: torch.randn(8, generator=generator) for name in NAMES}
    centre = torch.stack([at[s] + 2 * at[PARENT[s]] + 2 * at["F" + s[1]] for s in species[:-1]])
    optimizer = RowwiseRiemannianAdam(head.parameters(), lr=0.02)
    target = head.targets(species[:-1])
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(head(centre), target).backward()
        optimizer.step()
    return species[:-1], centre


# -- probabilities --------------------------------------------------------------------------------


def test_head__gives_probabilities_in_the_order_of_its_candidates(head):
    log_probs = head(outputs())
    assert log_probs.shape == (7, 13)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(7), atol=1e-6)
    assert head.candidates.to_list() == TAX.ids.gather(TAX.tree.leaves()).to_list()
    assert head.targets(["stray", "s000"]).tolist() == [
        head.candidates.to_list().index(name) for name in ("stray", "s000")
    ]
    assert head(outputs().view(7, 1, 8)).shape == (7, 1, 13)


def test_hyperbolic_head__is_a_softmax_of_distances_between_points():
    head = TaxonHead(TAX, 8, temperature=0.3)
    trained(head, steps=5)
    offsets = dict(zip(sorted(NAMES, key=lambda name: TAX.rows(name)), head.offsets, strict=True))
    rows = []
    for name in head.candidates:
        vector, node = torch.zeros(8), name
        while node is not None:
            vector, node = vector + offsets[node], PARENT.get(node)
        rows.append(vector)
    points = torch.stack(rows).double()
    query = outputs().double() * head.log_scale.double().exp() / 8**0.5
    d = polar.cdist(*polar.expmap0(query), *polar.expmap0(points))
    expected = (-d / (0.3 * head.log_temperature.double().exp())).log_softmax(-1)
    assert torch.allclose(head(outputs()).double(), expected, atol=1e-4)


def test_clades__have_the_sums_of_their_candidates(head):
    log_probs = head(outputs())
    keys = ["root", "F0", "G01", "s012", "stray"]
    found = head.clade_log_probs(log_probs, keys).exp()
    for k, key in enumerate(keys):
        inside = [TAX.is_ancestor(key, name) or key == name for name in head.candidates]
        assert torch.allclose(found[:, k], log_probs[:, inside].exp().sum(-1), atol=1e-6)


def test_candidates__of_any_rank_and_in_any_order():
    head = TaxonHead(TAX, 8, ["s110", "G00", "s000", "stray"])
    assert head.candidates.to_list() == ["G00", "s000", "s110", "stray"]
    log_probs = head(outputs())
    genus = head.clade_log_probs(log_probs, ["G00", "G10"]).exp()
    assert torch.allclose(genus[:, 0], log_probs[:, :2].exp().sum(-1), atol=1e-6)
    assert torch.equal(genus[:, 1], torch.zeros(7))
    with pytest.raises(ValueError, match="no candidates: s001, G11; make the head with"):
        head.targets(["s001", "G00", "G11"])
    with pytest.raises(TaxonomyError, match="unicorn"):
        head.targets("unicorn")


def test_within__leaves_the_other_candidates_nothing(head):
    x = outputs()
    free, bound = head(x).exp(), head(x, within=["G00", "F1"]).exp()
    inside = [name[:3] == "s00" or name[:2] == "s1" for name in head.candidates]
    expected = free[:, inside] / free[:, inside].sum(-1, keepdim=True)
    assert torch.allclose(bound[:, inside], expected, atol=1e-6)
    assert not bound[:, ~torch.tensor(inside)].any()
    only = TaxonHead(TAX, 8, ["s000", "s001"], geometry=head.geometry)
    with pytest.raises(ValueError, match="no candidate is within 'F1'"):
        only(x, within="F1")


# -- answers --------------------------------------------------------------------------------------


def test_topk__is_of_candidates_or_of_clades(head):
    log_probs = head(outputs())
    best = head.topk(log_probs, k=3)
    assert best["sample"].to_list() == np.repeat(np.arange(7), 3).tolist()
    assert best["id"].to_list() == [
        head.candidates[int(c)] for row in log_probs.topk(3).indices for c in row
    ]
    genera = head.topk(log_probs, k=99, taxon_rank="genus")
    assert set(genera["id"]) == {"G00", "G01", "G10", "G11", "stray"}
    total = genera.group_by("sample").agg(p=genera["probability"].sum()).height
    assert total == 7
    for (sample,), rows in genera.group_by("sample"):
        assert rows["probability"].sum() == pytest.approx(1, abs=1e-5)
        first = rows.row(0, named=True)
        p = head.clade_log_probs(log_probs[sample], [first["id"]]).exp().item()
        assert first["probability"] == pytest.approx(p, rel=1e-5)
    with pytest.raises(ValueError, match="k must be at least 1"):
        head.topk(log_probs, k=0)


def test_predict__answers_at_the_lowest_rank_that_is_sure_enough():
    head = TaxonHead(TAX, 8)
    p = torch.full((3, 13), 1e-9)
    column = {name: k for k, name in enumerate(head.candidates)}
    # Sure of the species; of the family only; of nothing. The best species of the second sample is
    # in another family than the best family.
    p[0, column["s000"]] = 0.95
    for name, share in [("s000", 0.25), ("s001", 0.05), ("s010", 0.22), ("s011", 0.05)]:
        p[1, column[name]] = share
    p[1, column["s110"]] = 0.4
    p[2, :] = 1 / 13
    found = head.predict(p.log(), threshold=0.5)
    assert found["id"].to_list() == ["s000", "F0", None]
    assert found["taxon_rank"].to_list() == ["species", "family", None]
    assert found["family"].to_list()[1] == "F0"
    assert found["genus"].to_list()[1] == "G00"
    assert found["species"].to_list()[1] == "s000"
    assert found["p_family"][1] == pytest.approx(0.57, abs=1e-5)
    assert found["p_genus"][1] == pytest.approx(0.30, abs=1e-5)
    assert found["probability"].to_list() == [
        pytest.approx(0.95, abs=1e-5),
        pytest.approx(0.57, abs=1e-5),
        None,
    ]
    for wrong in ({"threshold": 1.5}, {"ranks": []}):
        with pytest.raises(ValueError, match="predict needs ranks"):
            head.predict(p.log(), **wrong)


# -- learning -------------------------------------------------------------------------------------


def test_head__learns_its_examples(head):
    species, centre = trained(head)
    assert head.topk(head(centre), k=1)["id"].to_list() == species


def test_hyperbolic_head__moves_taxa_without_examples_with_their_genus():
    head = TaxonHead(TAX, 8)
    before = head.points().detach().clone()
    trained(head)
    moved = head.points().detach() - before
    column = {name: k for k, name in enumerate(head.candidates)}
    genera = ["00", "01", "10", "11"]
    seen = torch.stack([moved[[column[f"s{g}0"], column[f"s{g}1"]]].mean(0) for g in genera])
    unseen = torch.stack([moved[column[f"s{g}2"]] for g in genera])
    alike = torch.cosine_similarity(unseen[:, None], seen, dim=-1)
    assert alike.argmax(1).tolist() == [0, 1, 2, 3]


def test_losses__of_the_head_have_finite_gradients(head):
    x = outputs().requires_grad_()
    levels = clade_levels(TAX, head.candidates)
    target = head.targets(["s000"] * 7)
    hierarchical_cross_entropy(head(x), target, levels).backward()
    for parameter in (x, *head.parameters()):
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all()
    assert x.grad.any()


def test_head__computes_in_its_own_precision(head):
    x = outputs().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, head(x.float()))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_head__compiles_and_survives_copies(head):
    x = outputs()
    compiled = torch.compile(head, backend="eager")
    assert torch.allclose(compiled(x), head(x), atol=1e-5)
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(other(x), head(x))
        assert other.candidates.equals(head.candidates)
    fresh = TaxonHead(TAX, 8, geometry=head.geometry, seed=1)
    assert not torch.equal(fresh(x), head(x))
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh(x), head(x))
    again = TaxonHead(embed(TAX, 3), 8, geometry=head.geometry)  # a model gives its taxonomy
    assert torch.equal(again(x), head(x))


def test_head__of_another_dimension_maps_to_it():
    head = TaxonHead(TAX, 8, dim=4)
    assert head.points().shape == (13, 4)
    w = head.projection.weight
    assert torch.allclose(w @ w.T, torch.eye(4), atol=1e-6)
    assert head(outputs()).shape == (7, 13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_features": 0}, "in_features must be at least 1; got 0"),
        ({"dim": 1}, "dim must be at least 2; got 1"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"geometry": "euclidean"}, "geometry is one of hyperbolic, cosine, linear"),
        ({"candidates": ["s000"]}, "at least two candidates; got 1"),
        ({"candidates": ["s000", "s001", "s000"]}, "'s000' occurs more than once"),
    ],
)
def test_head__refuses_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        TaxonHead(TAX, **{"in_features": 8, **options})
