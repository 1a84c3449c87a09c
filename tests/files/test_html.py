"""What notebooks show of a taxonomy, a model, a report and a run."""

from html.parser import HTMLParser

import pytest
from support.zoo import random_model, zoo

from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.files.html import html_sheet, html_table
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.run import fit

HOSTILE = "<script>alert('x')</script> & <b>"


class Reader(HTMLParser):
    """Tags and text of HTML; every tag that is opened must be closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = set(), "", []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def test_html__texts_are_inert():
    for html in (
        html_sheet(HOSTILE, {HOSTILE: HOSTILE}),
        html_table(HOSTILE, [HOSTILE], [(HOSTILE, [[HOSTILE]])], HOSTILE),
    ):
        read = Reader(html)
        assert not {"script", "b"} & read.tags
        assert read.text.count(HOSTILE) >= 3


def test_taxonomy_and_model__say_what_they_are():
    tax = zoo()
    text = Reader(tax._repr_html_()).text
    assert all(part in text for part in ("12", "species 4", "genus 3", "2024-09-07"))
    text = Reader(random_model(tax, 3)._repr_html_()).text
    assert "3 dimensions" in text
    hostile = Taxonomy.from_parents([-1, 0], names=[HOSTILE, "x"])
    assert "script" not in Reader(hostile._repr_html_()).tags
    assert "script" not in Reader(random_model(hostile)._repr_html_()).tags


def test_report__shows_what_it_prints():
    report = evaluate(random_model(zoo()))
    read = Reader(report._repr_html_())
    printed = str(report).split()
    assert set(printed) == set(read.text.split())
    assert read.tags >= {"table", "th", "td"}


@pytest.fixture(scope="module")
def run():
    return fit(Taxonomy.from_parents([-1, *(i // 2 for i in range(30))]), dim=3, epochs=2)


def test_run__shows_start_end_and_ceiling(run):
    text = Reader(run._repr_html_()).text
    for value in (
        run.history["spearman"][0],
        run.history["spearman"][run.best_epoch],
        run.ceiling["spearman"],
    ):
        assert f"{value:.3g}" in text
    assert repr(run).startswith("Run(2 epochs, best 2, TaxonEmbedding(31 taxa")
