"""Newick text, against the obvious recursive writer."""

import polars as pl
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy.writing import newick


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
