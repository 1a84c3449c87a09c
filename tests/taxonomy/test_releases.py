"""What changed between two releases."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.realdata import real_data
from support.trees import taxonomies

from poincare_taxa.readers.ncbi import read_ncbi
from poincare_taxa.taxonomy.releases import diff, rows_before
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError


def by_dictionaries(old, new):
    """The changes, one taxon at a time."""
    before = {row["id"]: row for row in old.to_frame().iter_rows(named=True)}
    after = {row["id"]: row for row in new.to_frame().iter_rows(named=True)}
    merged = {} if new.merged is None else dict(new.merged.iter_rows())

    def follow(key):
        for _ in range(100):
            if key in after:
                return key
            key = merged.get(key)
        return None

    found = []
    for key, was in before.items():
        goal = follow(key)
        if goal is None:
            found.append(("removed", key, was["parent"], None))
        elif goal != key:
            found.append(("merged", key, key, goal))
        else:
            now = after[key]
            is_root = was["parent"] is None
            parent = None if is_root else follow(was["parent"])
            if parent != now["parent"] or (parent is None and not is_root):
                found.append(("moved", key, was["parent"], now["parent"]))
            if was["name"] != now["name"]:
                found.append(("renamed", key, was["name"], now["name"]))
            if was["taxon_rank"] != now["taxon_rank"]:
                found.append(("reranked", key, was["taxon_rank"], now["taxon_rank"]))
    found += [
        ("added", key, None, now["parent"]) for key, now in after.items() if key not in before
    ]
    text = [(c, key, *(None if v is None else str(v) for v in pair)) for c, key, *pair in found]
    return sorted(text, key=repr)


@st.composite
def releases(draw):
    """Two taxonomies whose ids, names and ranks partly agree, the second with merged ids."""
    both = []
    for _ in range(2):
        tax = draw(taxonomies(max_size=12))
        n = len(tax)
        ids = draw(st.lists(st.integers(0, 20), min_size=n, max_size=n, unique=True))
        names = [None, *(draw(st.sampled_from(["a", "b", None])) for _ in ids[1:])]
        ranks = ["top", *(draw(st.sampled_from(["genus", "species"])) for _ in ids[1:])]
        unused = st.integers(0, 30).filter(lambda key, ids=ids: key not in ids)
        targets = st.integers(0, 30)
        merged = draw(st.dictionaries(unused, targets, max_size=6))
        both.append(
            Taxonomy.from_parents(
                tax.parent,
                ids=ids,
                names=["Life", *names[1:]],
                taxon_ranks=ranks,
                merged=pl.DataFrame(
                    {"old_id": list(merged), "new_id": list(merged.values())},
                    schema={"old_id": pl.Int64, "new_id": pl.Int64},
                ),
            )
        )
    return both


@given(releases())
def test_changes_are_those_of_a_comparison_taxon_by_taxon(pair):
    old, new = pair
    expected = by_dictionaries(old, new)
    if set(old.ids) & set(new.ids) or any(change == "merged" for change, *_ in expected):
        found = diff(old, new).select("change", "id", "old", "new").rows()
        assert sorted(found, key=repr) == expected
    else:
        with pytest.raises(TaxonomyError, match="releases of one taxonomy"):
            diff(old, new)


@given(releases())
def test_rows_before__are_those_of_the_same_ids_and_of_the_largest_one_merged_into_a_new_id(pair):
    old, new = pair
    try:
        found = rows_before(new, old).tolist()
    except TaxonomyError:
        return
    merged = dict(new.merged.iter_rows())
    ids = old.ids.to_list()

    def goal(key):
        for _ in range(100):
            if key in new.ids:
                return key
            key = merged.get(key)
        return None

    assert found[0] == 0
    for row, key in enumerate(new.ids):
        if row and key in ids:
            assert found[row] == ids.index(key)
        elif row:
            sizes = [int(old.subtree_size[i]) for i, other in enumerate(ids) if goal(other) == key]
            assert (found[row] >= 0) == bool(sizes)
            if sizes:
                assert goal(ids[found[row]]) == key
                assert old.subtree_size[found[row]] == max(sizes)
    assert len(set(found) - {-1}) == sum(row >= 0 for row in found)


@given(taxonomies())
def test_nothing_changes_from_a_release_to_itself(tax):
    assert len(diff(tax, tax)) == 0


def test_what_a_release_does_not_give_is_not_compared():
    bare = Taxonomy.from_parents([-1, 0], ids=[1, 2])
    full = Taxonomy.from_parents([-1, 0], ids=[1, 2], names=["a", "b"], taxon_ranks=["a", "b"])
    assert len(diff(bare, full)) == len(diff(full, bare)) == 0
    ranked = Taxonomy.from_parents([-1, 0], ids=[1, 2], taxon_ranks=["a", "c"])
    assert diff(full, ranked).select("change", "id", "old", "new").rows() == [
        ("reranked", 2, "b", "c")
    ]


def test_ids_of_two_kinds_are_refused():
    numbers = Taxonomy.from_parents([-1, 0], ids=[1, 2])
    text = Taxonomy.from_parents([-1, 0], ids=["1", "2"])
    with pytest.raises(TaxonomyError, match="Int64 in the old release and String"):
        diff(numbers, text)


def test_rows_of_one_change_describe_their_own_taxon():
    # Every taxon moved, and the two releases have them in different orders.
    old = Taxonomy.from_parents([-1, 0, 0, 1], ids=[1, 2, 3, 4], names=list("abcd"))
    new = Taxonomy.from_parents([1, -1, 1, 2], ids=[1, 4, 3, 2], names=list("adcb"))
    found = diff(old, new)
    assert found["change"].unique().to_list() == ["moved"]
    assert found.select("id", "name", "old", "new").sort("id").rows() == [
        (1, "a", None, "4"),
        (2, "b", "1", "3"),
        (3, "c", "1", "4"),
        (4, "d", "2", None),
    ]


def test_ncbi_2013_to_the_newest():
    old = read_ncbi(real_data("ncbi_2013_stree/taxdump_partial.tar.gz"))
    new = read_ncbi()
    changes = diff(old, new)
    count = dict(changes["change"].value_counts().iter_rows())
    assert count["added"] - count["removed"] == len(new) - len(old)
    assert "reranked" not in count  # The older release gives no ranks.
    human = changes.filter(pl.col("id") == 9606)
    assert len(human) == 0
