"""The disk of a DAG."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.layout import closure_layout
from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.pictures.disk import plot_disk

EDGES = [("dog", "animal"), ("dog", "pet"), ("pug", "dog"), ("cat", "pet"), ("cat", "animal")]


@pytest.mark.parametrize("dim", [2, 4])
def test_plot_disk__of_a_dag_has_leaves_at_the_rim_and_names_with_descendants(dim):
    pairs = ClosurePairs.from_edges(EDGES)
    points = closure_layout(pairs, dim)[:2]
    model = ClosureEmbedding(pairs.names, *points, pairs=pairs)
    ax = plot_disk(model)
    texts = {text.get_text() for text in ax.texts}
    assert {"animal  3", "pet  3", "dog  1"} <= texts
    lines, nodes = ax.collections
    assert len(lines.get_segments()) == len(EDGES)
    norm = np.linalg.norm(nodes.get_offsets(), axis=1)
    assert len(norm) == 5
    assert (np.isclose(norm, norm.max())).sum() == 2
    with pytest.raises(ValueError, match="no options"):
        plot_disk(model, color_by="order")
    with pytest.raises(ValueError, match="no pairs"):
        plot_disk(ClosureEmbedding(pairs.names, *points))
    plt.close("all")
