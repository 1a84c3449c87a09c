"""A dozen animals with everything that a taxonomy can have, and random points for them."""

import polars as pl
import torch
from hypothesis import strategies as st

from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.taxonomy.taxonomy import Taxonomy

ZOO = [  # id, parent, name, taxon rank
    (1, None, "root", None),
    (40674, 1, "Mammalia", "class"),
    (9443, 40674, "Primates", "order"),
    (9605, 9443, "Homo", "genus"),
    (9606, 9605, "Homo sapiens", "species"),
    (9596, 9443, "Pan", "genus"),
    (9598, 9596, "Pan troglodytes", "species"),
    (9597, 9596, "Pan paniscus", "species"),
    (9989, 40674, "Rodentia", "order"),
    (10088, 9989, "Mus", "genus"),
    (10090, 10088, "Mus musculus", "species"),
    (8782, 1, "Aves", "class"),
]


def zoo() -> Taxonomy:
    frame = pl.DataFrame(ZOO, schema=["id", "parent", "name", "taxon_rank"], orient="row")
    tax = Taxonomy.from_frame(frame)
    return Taxonomy.from_frame(
        frame,
        merged=pl.DataFrame({"old_id": [63221], "new_id": [9606]}),
        deleted=pl.Series("deleted", [2]),
        synonyms=pl.DataFrame(
            {"name": ["human"], "node": [tax.rows(9606)], "name_class": ["common name"]}
        ),
        source={"format": "test", "date": "2024-09-07"},
    )


def random_points(n: int, dim: int, dtype: torch.dtype = torch.float64, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(n, dim, generator=generator, dtype=dtype)
    direction /= torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return 10 * torch.rand(n, generator=generator, dtype=dtype), direction


def random_model(tax: Taxonomy, dim: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0):
    return TaxonEmbedding(tax, *random_points(len(tax), dim, dtype, seed))


@st.composite
def trees(draw: st.DrawFn) -> Taxonomy:
    n = draw(st.integers(1, 40))
    parent = [-1] + [draw(st.integers(0, i - 1)) for i in range(1, n)]
    ids = draw(st.sampled_from([None, [f"t{i}" for i in range(n)], [7 * i + 3 for i in range(n)]]))
    lengths = draw(st.sampled_from([None, [float(i) for i in range(n)]]))
    return Taxonomy.from_parents(parent, ids=ids, branch_lengths=lengths)
