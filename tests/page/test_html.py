"""The document: what is in it, decoded, and what is refused."""

import base64
import gzip
import hashlib
import html
import json
import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from support.zoo import zoo

from poincare_taxa.page.html import explore
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def about(page):
    return json.loads(re.search(r'id="about">(.*?)</script>', page.html)[1])


def data(page, name):
    found = re.search(rf'id="data-{name}">([^<]*)</script>', page.html)[1]
    return gzip.decompress(base64.b64decode(found))


@pytest.fixture
def tax():
    return zoo()


def test_page__has_every_name_rank_and_level(tax):
    page = explore(tax)
    assert data(page, "name").decode().split("\n")[:-1] == [name or "" for name in tax.names]
    words = about(page)
    assert words["taxa"] == len(tax)
    assert [words["ranks"][code] for code in data(page, "rank")] == list(tax.taxon_ranks)
    depth = [0]
    for up in data(page, "up")[1:]:
        depth.append(depth[-1] + 1 - up)
    assert depth == tax.tree.depth.tolist()


def test_page__is_the_same_for_the_same_taxonomy(tax):
    assert explore(tax).html == explore(tax).html


def test_page__script_is_the_one_that_its_policy_allows(tax):
    text = explore(tax).html
    script = re.findall(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_page__hostile_text_is_no_markup():
    tax = Taxonomy.from_parents(
        [-1, 0, 0], ids=[HOSTILE, "b", "{data}"], names=[HOSTILE, "{script}", None]
    )
    page = explore(tax, values={HOSTILE: {"b": HOSTILE}}, title=HOSTILE)
    assert page.html.count('<script type="module">') == 1  # the page's own
    assert "<script>" not in page.html
    assert "<img" not in page.html
    assert about(page)["columns"] == [{"name": HOSTILE, "categories": [HOSTILE]}]
    assert HOSTILE in html.unescape(page.html)


def test_page__in_a_notebook_without_anywidget_is_a_frame_without_access_to_it(tax, monkeypatch):
    monkeypatch.setattr("poincare_taxa.page.html.find_spec", lambda name: None)
    shown = explore(tax)._repr_mimebundle_()
    inside = html.unescape(re.search(r'srcdoc="([^"]*)"', shown["text/html"])[1])
    assert inside == explore(tax).html
    assert "allow-same-origin" not in shown["text/html"]
    assert "pip install 'poincare-taxa[widget]'" in shown["text/html"]
    assert shown["text/plain"] == repr(explore(tax))


def test_explore__writes_the_file(tax, tmp_path):
    page = explore(tax, tmp_path / "new" / "tree.html")
    assert (tmp_path / "new" / "tree.html").read_text(encoding="utf-8") == page.html
    assert "taxa" in repr(page)


def test_explore__takes_what_has_a_taxonomy(tax):
    class Model:
        taxonomy = tax

    assert explore(Model()).html == explore(tax).html
    with pytest.raises(TypeError, match=r"pt\.read"):
        explore("tree.nwk")


def test_values__of_a_table_and_of_mappings_are_the_same(tax):
    keys = tax.ids.to_list()[1:4]
    mapping = {"kg": dict(zip(keys, [1.0, 2.5, 3.0], strict=True))}
    table = pl.DataFrame({"key": keys, "kg": [1.0, 2.5, 3.0]})
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table.to_dict(as_series=False))
    for values in (table, frame):
        assert explore(tax, values=mapping).html == explore(tax, values=values).html
    assert about(explore(tax, values=mapping))["columns"] == [{"name": "kg", "categories": None}]
    found = np.frombuffer(data(explore(tax, values=mapping), "column-0"))
    np.testing.assert_array_equal(found[1:4], [1.0, 2.5, 3.0])
    assert np.isnan(np.delete(found, [1, 2, 3])).all()
    with pytest.raises(ValueError, match="at least one column"):
        explore(tax, values=table.select("key"))


def test_keys__that_are_unknown_are_refused_before_anything_is_written(tax, tmp_path):
    with pytest.raises(TaxonomyError):
        explore(tax, tmp_path / "a.html", values={"kg": {"no such taxon": 1}})
    with pytest.raises(TaxonomyError):
        explore(tax, tmp_path / "a.html", highlight=["no such taxon"])
    assert not (tmp_path / "a.html").exists()


def test_color_by__is_a_column_a_rank_or_an_error(tax):
    rank = str(tax.taxon_ranks[len(tax) - 1])
    assert about(explore(tax, color_by=rank))["color_by"] == f"rank:{rank}"
    values = {"kg": {tax.ids[1]: 1}}
    assert about(explore(tax, values=values, color_by="kg"))["color_by"] == "column:kg"
    with pytest.raises(ValueError, match="neither a column"):
        explore(tax, color_by="colour of eyes")


def test_explore__imports_no_torch():
    code = (
        "import sys, poincare_taxa as pt\n"
        "pt.explore(pt.Taxonomy.from_parents([-1, 0]))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
