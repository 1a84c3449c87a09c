"""The widget: its side in Python, and its module in Chromium, with messages in between."""

import base64
import gzip
import json
import sys

import numpy as np
import pytest
from support.zoo import zoo

from poincare_taxa.page.html import explore
from poincare_taxa.readers.sample import load_sample
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

pytest.importorskip("anywidget", reason="anywidget is not installed")

# What a notebook does for anywidget: a model whose changes go to Python and come from there.
HOST = """<!DOCTYPE html><meta charset="utf-8"><title>A notebook</title><body style="margin:0">
<div id="cell" style="height:700px"></div><input id="other" aria-label="another cell">
<script type="module">
const {esm, state, sections} = JSON.parse(`STATE`);
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
state._sections = Object.fromEntries(Object.entries(sections).map(([k, v]) => [k, bytes(v)]));
const heard = new Map();
const hear = (name) => (heard.get(`change:${name}`) ?? []).forEach((act) => act());
window.model = {
  changed: {},
  get: (name) => state[name],
  set(name, value) { state[name] = value; this.changed[name] = value; hear(name); },
  save_changes() { window.to_python?.(this.changed); this.changed = {}; },
  on: (name, act) => heard.set(name, [...(heard.get(name) ?? []), act]),
  off: (name, act) => heard.set(name, (heard.get(name) ?? []).filter((other) => other !== act)),
  receive(news) { for (const name in news) { state[name] = news[name]; hear(name); } },
};
const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
const el = document.getElementById("cell");
window.listening = () => [...heard.values()].flat().length;
window.close_cell = await (await import(url)).default.render({model, el});
window.page = el.firstElementChild.page;
</script>"""


@pytest.fixture
def tax():
    return zoo()


def test_taxon__is_an_id_and_takes_every_kind_of_key(tax):
    widget = explore(tax).widget
    assert widget.taxon == tax.ids[0]
    name = tax.names[3]
    widget.taxon = name
    assert widget.taxon == tax.ids[3]
    assert widget.get_state("taxon") == {"taxon": 3}
    with pytest.raises(TaxonomyError):
        widget.taxon = "no such taxon"
    assert widget.taxon == tax.ids[3]


def test_taxon__that_a_reader_selects_reaches_an_observer(tax):
    widget = explore(tax).widget
    heard = []
    widget.observe(lambda change: heard.append((change["old"], change["new"])), "taxon")
    widget.set_state({"taxon": 2})
    assert heard == [(tax.ids[0], tax.ids[2])]


def test_highlight__is_ids_in_order_each_once(tax):
    widget = explore(tax, highlight=[tax.ids[4]]).widget
    assert widget.highlight == [tax.ids[4]]
    widget.highlight = [tax.names[3], tax.ids[1], tax.ids[3]]
    assert widget.highlight == [tax.ids[1], tax.ids[3]]
    assert widget.get_state("highlight") == {"highlight": [1, 3]}
    widget.highlight = []
    assert widget.highlight == []
    widget.set_state({"highlight": [0, 2]})
    assert widget.highlight == [tax.ids[0], tax.ids[2]]
    with pytest.raises(TaxonomyError):
        widget.highlight = ["no such taxon"]


def test_widget__travels_with_the_sections_of_the_page(tax):
    page = explore(tax, values={"kg": {tax.ids[1]: 2.0}})
    state = page.widget.get_state()
    assert state["_about"] == page.about
    assert {name: bytes(part) for name, part in state["_sections"].items()} == page.sections
    assert gzip.decompress(page.sections["name"]).decode().count("\n") == len(tax)
    assert page.widget is page.widget  # two cells show one state


def test_page__in_a_notebook_is_the_widget(tax):
    shown = explore(tax)._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "text/html" not in data
    assert f"{len(tax)} taxa" in data["text/plain"]


def test_widget__of_texts_as_ids():
    tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals")])
    widget = explore(tax).widget
    widget.taxon = "dog"
    assert widget.get_state("taxon") == {"taxon": tax.rows("dog")}


def test_widget__without_anywidget_is_an_error_that_advises(tax, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ImportError, match=r"poincare-taxa\[widget\]"):
        _ = explore(tax).widget


class Notebook:
    """The widget of mammals in a host page, with the messages of both sides."""

    def __init__(self, opened, folder):
        self.tax = load_sample("mammals")
        self.widget = explore(self.tax, title="A cell").widget
        state = self.widget.get_state()
        packed = {k: base64.b64encode(v).decode() for k, v in state["_sections"].items()}
        sent = {"esm": state["_esm"], "sections": packed}
        sent["state"] = {key: state[key] for key in ("_about", "taxon", "highlight")}
        # In a template literal of a script: neither its end nor a place in it.
        text = json.dumps(sent).replace("\\", "\\\\").replace("`", "\\`").replace("$", "\\$")
        file = folder / "notebook.html"
        file.write_text(HOST.replace("STATE", text.replace("</", "<\\/")), encoding="utf-8")
        self.page = opened(file)
        self.tab = self.page.tab
        self.tab.wait_for_function("window.page")
        self.tab.expose_function("to_python", self.widget.set_state)

    def send(self, *names):
        state = {name: self.widget.get_state(name)[name] for name in names}
        self.tab.evaluate("state => model.receive(state)", state)

    def await_python(self, condition):
        for _ in range(1200):
            if condition():
                return
            self.tab.wait_for_timeout(50)  # messages are handled meanwhile
        raise AssertionError("Python was not told")


@pytest.fixture
def notebook(opened, tmp_path):
    return Notebook(opened, tmp_path)


@pytest.mark.slow
def test_cell__shows_the_taxon_that_python_assigns(notebook):
    notebook.widget.taxon = "Homo sapiens"
    notebook.send("taxon")
    assert notebook.page.name() == "Homo sapiens"
    assert np.hypot(*notebook.page.centre()) < 1e-6
    assert "id 9606" in notebook.tab.inner_text("#details")
    assert notebook.tab.inner_text("#title") == "A cell"


@pytest.mark.slow
def test_cell__tells_python_what_a_reader_selects(notebook):
    heard = []
    notebook.widget.observe(lambda change: heard.append(change["new"]), "taxon")
    notebook.tab.fill("#search", "Mus musculus")
    notebook.tab.press("#search", "Enter")
    notebook.await_python(lambda: heard == [10090])
    assert notebook.widget.taxon == 10090


@pytest.mark.slow
def test_cell__shares_highlights_both_ways(notebook):
    notebook.widget.highlight = ["Homo sapiens", "Mus musculus"]
    notebook.send("highlight")
    rows = notebook.tax.rows(["Homo sapiens", "Mus musculus"])
    assert sorted(notebook.tab.evaluate("[...page.highlight]")) == sorted(rows.tolist())
    notebook.tab.fill("#list", "Canis lupus\n")
    notebook.tab.click("#mark")
    notebook.await_python(lambda: notebook.widget.highlight == [9612])
    notebook.tab.click("#unmark")
    notebook.await_python(lambda: notebook.widget.highlight == [])


@pytest.mark.slow
def test_cell__has_the_keys_only_while_it_has_the_focus(notebook):
    notebook.tab.focus("#other")
    notebook.tab.evaluate(
        "window.keys = []; document.addEventListener('keydown', (e) => keys.push(e.key))"
    )
    notebook.tab.keyboard.press("ArrowRight")
    assert notebook.page.name() == "Mammalia"
    notebook.tab.focus("#disk")
    notebook.tab.keyboard.press("ArrowRight")
    assert notebook.page.name() != "Mammalia"
    assert notebook.tab.evaluate("keys") == ["ArrowRight"]  # not the one that the tree took


@pytest.mark.slow
def test_cell__leaves_the_address_alone_and_nothing_behind(notebook):
    before = notebook.tab.url
    notebook.tab.fill("#search", "Primates")
    notebook.tab.press("#search", "Enter")
    assert not notebook.tab.is_visible("#link")
    assert notebook.tab.evaluate("listening()") == 2
    notebook.tab.evaluate("close_cell()")
    assert notebook.tab.evaluate("listening()") == 0
    assert notebook.tab.evaluate("document.getElementById('cell').childElementCount") == 0
    assert notebook.tab.url == before


@pytest.mark.slow
def test_cell__leaves_the_wheel_to_the_notebook_until_it_is_clicked(notebook):
    wheel = "page.canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: 90, cancelable: true}))"
    assert notebook.tab.evaluate(wheel)  # the notebook scrolls
    notebook.tab.mouse.click(*notebook.page.on_screen("Primates"))
    assert not notebook.tab.evaluate(wheel)
