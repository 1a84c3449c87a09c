"""Newick: the grammar, depth without recursion, and messages with line and column."""

import gzip
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from support.trees import taxonomies

from poincare_taxa.readers import read_newick
from poincare_taxa.taxonomy.taxonomy import TaxonomyError


def parse(tmp_path, content, name="tree.nwk"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_newick(path)


def to_newick(tax, quote):
    """The obvious recursive writer."""

    def write(node):
        children = [v for v in range(len(tax)) if tax.parent[v] == node]
        below = f"({','.join(map(write, children))})" if children else ""
        label = f"'{tax.ids[node]}'" if quote else str(tax.ids[node])
        length = "" if tax.branch_lengths is None else f":{float(tax.branch_lengths[node])!r}"
        return below + label + ("" if node == 0 else length)

    return write(0) + ";"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(taxonomies())
def test_read_newick__restores_what_was_written(tmp_path, tax):
    for quote in (False, True):
        again = parse(tmp_path, to_newick(tax, quote))
        np.testing.assert_array_equal(again.parent, tax.parent)
        assert again.ids.to_list() == [str(key) for key in tax.ids]
        if tax.branch_lengths is not None and len(tax) > 1:
            np.testing.assert_array_equal(again.branch_lengths, tax.branch_lengths)
        else:
            assert again.branch_lengths is None


def test_read_newick__labels_quotes_comments_and_spaces(tmp_path):
    text = """[&R] [a comment [in a comment] ' ]
        ( 'it''s (a) [cat], yes':1 , wild_dog:2e-1[&&NHX:S=x;B=90] , Ursus arctos )
        mammals : 0 ;
    """
    tax = parse(tmp_path, text)
    assert tax.ids.to_list() == ["mammals", "it's (a) [cat], yes", "wild_dog", "Ursus arctos"]
    assert tax.names.to_list()[2] == "wild dog"
    np.testing.assert_array_equal(tax.branch_lengths, [np.nan, 1, 0.2, np.nan])


def test_read_newick__nodes_without_a_label_of_their_own_are_numbered(tmp_path):
    tax = parse(tmp_path, "((a,b)95,(c,d)95,(,node1));")
    assert tax.ids.to_list() == [
        *["node_0", "node_1", "a", "b", "node_4", "c", "d", "node_7", "node_8", "node1"]
    ]
    assert tax.names.to_list()[:2] == [None, "95"]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("a;", 1),
        (";", 1),
        ("(,);", 3),
        ("\ufeff(a,b)", 3),
        ("(((a)));\r\n\r\n", 4),
        ("('a;b',c);", 3),
    ],
)
def test_read_newick__small_trees(tmp_path, text, nodes):
    assert len(parse(tmp_path, text)) == nodes
    assert len(parse(tmp_path, gzip.compress(text.encode()), "tree.nwk.gz")) == nodes


def test_read_newick__caterpillar_of_100000_levels(tmp_path):
    n = 100_000
    tax = parse(tmp_path, "(" * n + "a:1" + ",b:2):3" * n + ";")
    assert len(tax) == 2 * n + 1
    assert tax.max_depth == n


@pytest.mark.parametrize(
    ("text", "line", "column", "why"),
    [
        ("((a,b);", 1, 1, "1 brackets are never closed, .*cut short"),
        ("((a,b),\n(c,(d", 2, 4, "3 brackets are never closed"),
        ("(a,b));", 1, 6, "')' without a '('"),
        ("(a,\n b)\n c,d;", 3, 3, "',' outside of all brackets"),
        ("(a,b)(c,d);", 1, 6, "'(' behind a label or ')'; is a comma missing"),
        ("(a(b,c),d);", 1, 3, "'(' behind a label"),
        ("('a' b,c);", 1, 6, "unexpected 'b'; is a comma missing"),
        ("(a:1 b,c);", 1, 4, "'1 b' is not a branch length"),
        ("(a:x,b);", 1, 4, "'x' is not a branch length"),
        ("(a:,b);", 1, 4, "',' is not a branch length"),
        ("(a:inf,b);", 1, 4, "'inf' is not a branch length"),
        ("(a:1:2,b);", 1, 5, "a second length"),
        ("('a,b);", 1, 2, "opens a quote that is never closed"),
    ],
)
def test_read_newick__names_line_column_and_cause(tmp_path, text, line, column, why):
    pattern = rf"tree\.nwk:{line}: column {column}: .*(?:{re.escape(why) if '(' in why else why})"
    with pytest.raises(TaxonomyError, match=pattern):
        parse(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "place", "why"),
    [
        ("", "", "the file is empty"),
        ("(a,b)\n[c;", ":2", "opens a comment that is never closed"),
        ("(a,\n[b\n[c", ":2", "opens a comment that is never closed"),
        ("(a,\nb]);", ":2", r"'\]' without a '\['"),
        (b"(a,\nb\xff);", ":2", "byte 0xff is not UTF-8"),
        ("#NEXUS\nbegin trees;", "", "NEXUS"),
    ],
)
def test_read_newick__refuses_what_is_no_newick(tmp_path, content, place, why):
    with pytest.raises(TaxonomyError, match=rf"tree\.nwk{place}: .*{why}"):
        parse(tmp_path, content)


@pytest.mark.parametrize("above", ["", "\n", " \t\r\n" * 100])
def test_read_newick__blank_lines_may_stand_above_nexus(tmp_path, above):
    text = above + "#nexus\nbegin trees;\ntree x = (a,b)c;\nend;\n"
    assert parse(tmp_path, text, "tree.nex").ids.to_list() == ["c", "a", "b"]


def test_read_newick__a_label_that_looks_like_a_tree_hides_none(tmp_path):
    text = "#NEXUS\nbegin trees;\ntree x = (a,'tree y = (b)');\ntree z = (c,d)e;\nend;\n"
    with pytest.raises(TaxonomyError, match=r"tree\.nex:4: 2 trees \(x, z\)"):
        parse(tmp_path, text, "tree.nex")
    with pytest.raises(TaxonomyError, match=r"3 trees \(0, 1, 2\)"):
        parse(tmp_path, "(a,b);" * 3)
    with pytest.raises(TaxonomyError, match=r"4 trees \(0, 1, 2, …\)"):
        parse(tmp_path, "(a,b);" * 4)
    with pytest.raises(TaxonomyError, match=r"2 trees \(x, y\)"):  # the second begins at once
        parse(tmp_path, "#NEXUS\nbegin trees;\ntree x=(a,b)c;tree y=(d,e)f;\nend;\n")
    assert read_newick(tmp_path / "tree.nex", tree="x").ids.to_list()[1:] == ["a", "tree y = (b)"]
    assert read_newick(tmp_path / "tree.nex", tree="z").ids.to_list() == ["e", "c", "d"]
