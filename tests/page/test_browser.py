"""The page in Chromium, from the disk: what a reader does with it, and that nothing leaves it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.page_layout import points
from poincare_taxa.page.html import explore
from poincare_taxa.readers.sample import load_sample
from poincare_taxa.taxonomy.taxonomy import Taxonomy

pytestmark = pytest.mark.slow
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def test_homo_sapiens__is_found_centred_and_has_its_lineage_in_three_actions(opened, mammals):
    page = opened(mammals)
    page.tab.click("#search")
    page.tab.keyboard.type("homo sap")
    page.tab.keyboard.press("Enter")
    assert page.name() == "Homo sapiens"
    assert np.hypot(*page.centre()) < 1e-6
    lineage = page.tab.locator("#lineage button").all_inner_texts()
    assert lineage[0] == "Mammalia"
    assert lineage[-3:] == ["Homininae", "Homo", "Homo sapiens"]
    assert "id 9606" in page.tab.inner_text("#details")


def test_search__by_id_and_by_part_of_a_name_and_in_vain(opened, mammals):
    page = opened(mammals)
    page.search("10090")
    assert page.name() == "Mus musculus"
    page.tab.fill("#search", "erontidae")
    assert page.tab.locator("#suggestions li").count() > 0
    page.tab.fill("#search", "no such animal")
    assert "no taxon" in page.tab.inner_text("#suggestions")


def test_double_click__brings_a_taxon_to_the_centre(opened, mammals):
    page = opened(mammals)
    page.tab.mouse.dblclick(*page.on_screen("Primates"))
    assert page.name() == "Primates"
    assert np.hypot(*page.centre()) < 1e-6


def test_drag__keeps_the_point_under_the_pointer(opened, mammals):
    page = opened(mammals)
    x, y = page.on_screen("Rodentia")
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x - 90, y - 40, steps=7)
    page.tab.mouse.up()
    assert page.on_screen("Rodentia") == pytest.approx([x - 90, y - 40], abs=0.5)
    assert page.name() == "Mammalia"  # a drag selects nothing


def test_wheel__goes_deeper_and_back_to_the_root(opened, mammals):
    page = opened(mammals)
    page.tab.mouse.move(*page.on_screen("Primates"))
    for _ in range(12):
        page.tab.mouse.wheel(0, -200)
    page.tab.wait_for_function("page.view.anchor > 0")
    for _ in range(40):
        page.tab.mouse.wheel(0, 300)
    page.tab.wait_for_function("page.view.anchor === 0")
    assert np.hypot(*page.centre()) < 1e-3


def test_hover__shows_name_rank_and_lineage(opened, mammals):
    page = opened(mammals)
    page.tab.mouse.move(*page.on_screen("Primates"))
    tip = page.tab.locator("#tip")
    tip.wait_for(state="visible")
    assert "Primates" in tip.inner_text()
    assert "order" in tip.inner_text()
    assert "Mammalia" in tip.inner_text()


def test_keys__walk_the_tree_and_collapse(opened, mammals):
    page = opened(mammals)
    page.tab.focus("#disk")
    page.tab.keyboard.press("ArrowRight")
    first = page.name()
    page.tab.keyboard.press("ArrowDown")
    assert page.name() not in (first, "Mammalia")
    page.tab.keyboard.press("ArrowUp")
    assert page.name() == first
    page.tab.keyboard.press("c")
    assert page.tab.evaluate("page.collapsed.has(page.selected)")
    page.tab.keyboard.press("ArrowLeft")
    assert page.name() == "Mammalia"
    page.tab.keyboard.press("/")
    assert page.tab.evaluate("document.activeElement.id") == "search"


def test_list__is_walked_by_keys_alone_and_what_is_selected_is_said(opened, mammals):
    page = opened(mammals)
    focused = "document.activeElement.textContent"
    page.tab.focus("#details li button")
    page.tab.keyboard.press("Enter")
    first = page.name()
    assert first != "Mammalia"
    assert page.tab.evaluate(focused) == first  # the heading: its children follow
    page.tab.keyboard.press("Tab")
    assert page.tab.evaluate(focused) == "To the centre"
    page.tab.keyboard.press("Tab")
    page.tab.keyboard.press("Enter")
    assert page.tab.evaluate("page.collapsed.has(page.selected)")
    assert page.tab.evaluate(focused) == first
    assert page.tab.inner_text("#said").startswith(f"{first}, ")
    page.tab.focus("#lineage button")
    page.tab.keyboard.press("Enter")
    assert page.name() == "Mammalia"
    assert page.tab.evaluate(focused) == "Mammalia"
    assert page.tab.inner_text("#said").startswith("Mammalia, class, id 40674, ")


def test_list__has_every_child_of_a_taxon_with_many(opened, tmp_path):
    explore(Taxonomy.from_parents([-1] + [0] * 450), tmp_path / "star.html")
    page = opened(tmp_path / "star.html")
    for count in (200, 400, 450):
        items = page.tab.locator("#details li button").all_inner_texts()
        assert len(items) == count + (count < 450)
        if count < 450:
            assert items[-1] == f"{450 - count} more"
            page.tab.click("#details li button >> nth=-1")
            assert page.tab.evaluate("document.activeElement.textContent") == str(count + 1)


def test_roles__of_what_a_screen_reader_walks(opened, mammals):
    page = opened(mammals)
    for role, name in [
        ("heading", "Mammalia"),
        ("combobox", "Search a taxon by name, synonym or id"),
        ("navigation", "Lineage"),
        ("application", "The tree in the Poincaré disk"),
        ("list", "Children of Mammalia"),
        ("button", "Deeper"),
        ("complementary", "Details and settings"),
    ]:
        assert page.tab.get_by_role(role, name=name).count() >= 1, (role, name)
    assert page.tab.get_attribute("#panel", "aria-expanded") == "true"
    page.tab.click("#panel")
    assert page.tab.get_attribute("#panel", "aria-expanded") == "false"
    assert not page.tab.is_visible("#details")
    page.tab.fill("#search", "primates")
    chosen = page.tab.get_attribute("#search", "aria-activedescendant")
    assert page.tab.get_attribute(f"#{chosen}", "aria-selected") == "true"


def test_link__restores_the_view(opened, mammals):
    page = opened(mammals)
    page.search("Canis lupus")
    page.tab.select_option("#weight", "0")
    page.tab.select_option("#color", "rank:order")
    x, y = page.on_screen("Canis lupus")
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    page.tab.mouse.move(x + 60, y + 30, steps=4)
    page.tab.mouse.up()
    fragment = "#" + page.tab.evaluate("page.fragment()")
    again = opened(mammals, fragment=fragment)
    assert again.name() == "Canis lupus"
    assert again.centre() == pytest.approx(page.centre(), abs=1e-5)
    assert again.tab.evaluate("[page.weight, page.colorBy]") == [0, "rank:order"]


@pytest.mark.parametrize("fragment", ["#taxon=no&view=1,2,3", "#view=NaN,,,&near=-1", "#%00<img>"])
def test_link__that_is_damaged_shows_the_root(opened, mammals, fragment):
    assert opened(mammals, fragment=fragment).name() == "Mammalia"


def test_highlight__of_a_pasted_list_counts_what_it_finds(opened, mammals):
    page = opened(mammals)
    page.tab.fill("#list", "Homo sapiens\n10090\nno such animal\n")
    page.tab.click("#mark")
    said = page.tab.inner_text("#marked")
    assert "2 taxa highlighted" in said
    assert "1 not found: no such animal" in said
    assert page.tab.evaluate("page.highlight.size") == 2


def test_legend__covers_nothing_of_the_disk(opened, mammals):
    page = opened(mammals)
    page.tab.evaluate("page.color('clades')")
    for width in (375, 560, 600, 700, 820, 900, 1280):
        for height in (600, 760, 1000):
            page.tab.set_viewport_size({"width": width, "height": height})
            cx, cy, radius, right, top, wide, high = page.tab.evaluate(
                "() => { page.draw(); const box = page.legendBox(); const disk = page.canvas;"
                " return [page.cx, page.cy, page.radius, box.x1, box.y0,"
                " disk.clientWidth, disk.clientHeight]; }"
            )
            away = np.hypot(max(0, cx - right), max(0, top - cy))
            assert away >= radius, (width, height)
            assert radius <= min(cx, cy, wide - cx, high - cy), (width, height)
            assert page.tab.locator("#legend button").count() > 5


def test_own_column__is_a_legend_and_a_value(opened, mammals):
    page = opened(mammals)
    assert "legs" in page.tab.inner_text("#legend")
    page.search("Homo sapiens")
    assert "legs: 2" in page.tab.inner_text("#details")


def test_view__is_saved_as_svg_and_png(opened, mammals):
    page = opened(mammals)
    with page.tab.expect_download() as found:
        page.tab.click("#svg")
    svg = Path(found.value.path()).read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "Mammalia" in svg
    with page.tab.expect_download() as found:
        page.tab.click("#png")
    assert Path(found.value.path()).read_bytes().startswith(b"\x89PNG")


def test_hostile_name__stays_a_name(opened, tmp_path):
    tax = Taxonomy.from_parents(
        [-1, 0, 0], names=[HOSTILE, "b", HOSTILE + "x"], ids=[HOSTILE, 2, 3]
    )
    explore(tax, tmp_path / "hostile.html", values={HOSTILE: {"b": HOSTILE}})
    page = opened(tmp_path / "hostile.html")
    page.tab.fill("#search", "<script")
    assert page.tab.locator("#suggestions li").count() == 2
    page.tab.press("#search", "Enter")
    page.tab.mouse.move(*page.on_screen("b"))
    page.tab.locator("#tip").wait_for(state="visible")
    assert page.tab.title() == HOSTILE
    assert page.tab.locator("img").count() == 0
    assert HOSTILE in page.tab.inner_text("h1")


def test_deep_tree__is_drawn_far_from_its_root(opened, tmp_path):
    explore(Taxonomy.from_parents(np.arange(20_000) - 1), tmp_path / "chain.html")
    page = opened(tmp_path / "chain.html")
    page.search("19990")
    assert np.hypot(*page.centre()) < 1e-6
    assert page.tab.evaluate("page.scene.dots.length") > 10


def test_layout__that_is_judged_is_the_one_that_is_drawn(opened, mammals):
    page = opened(mammals)
    for power in (1, 0):
        page.tab.select_option("#weight", str(power))
        page.tab.evaluate("page.view.jump(0); page.draw()")
        dots = page.tab.evaluate("page.scene.dots.map(d => [d.row, d.x, d.y])")
        rows, x, y = np.array(dots).T
        drawn = points(load_sample("mammals"), power).ball().numpy()[rows.astype(int)]
        assert len(rows) > 50
        np.testing.assert_allclose(drawn, np.stack([x, y], axis=1), atol=1e-5)
