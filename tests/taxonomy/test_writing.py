"""Trees as Newick text: that of an obvious writer, and what is written is read back."""

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from support.trees import taxonomies

from poincare_taxa.readers import read_newick
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.writing import newick


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(taxonomies())
def test_to_newick__is_read_back(tmp_path, tax):
    path = tmp_path / "tree.nwk"
    tax.to_newick(path)
    assert path.read_text() == tax.to_newick()
    again = read_newick(path)
    np.testing.assert_array_equal(again.parent, tax.parent)
    assert again.ids.to_list() == [str(key) for key in tax.ids]
    if tax.branch_lengths is not None and len(tax) > 1:
        np.testing.assert_array_equal(again.branch_lengths[1:], tax.branch_lengths[1:])
    else:
        assert again.branch_lengths is None


def test_to_newick__puts_labels_in_quotes_that_need_them():
    ids = ["life", "it's", "a b", "x_1", "é", "A-1.5+2"]
    tax = Taxonomy.from_parents([-1, 0, 0, 0, 3, 3], ids=ids)
    assert tax.to_newick() == "('it''s','a b',('é',A-1.5+2)'x_1')life;\n"


@given(taxonomies())
def test_newick__is_that_of_a_recursive_writer(tax):
    parent, lengths = tax.tree.parent, tax.tree.lengths
    labels = pl.Series([f"it's {row}" if row % 3 else f"r{row}" for row in range(len(tax))])

    def write(node):
        children = [v for v in range(len(tax)) if parent[v] == node]
        below = f"({','.join(map(write, children))})" if children else ""
        label = f"'it''s {node}'" if node % 3 else f"r{node}"
        known = lengths is not None and lengths[node] == lengths[node]
        return below + label + (f":{float(lengths[node])!r}" if known else "")

    assert "".join(newick(parent, labels, lengths)) == write(0) + ";\n"
