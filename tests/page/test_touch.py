"""The page under fingers: one moves what is under it, two go deeper, a tap selects, two re-root."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow
PHONE = {"width": 390, "height": 760, "has_touch": True, "is_mobile": True}
NEXT_FRAME = "() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))"
MOMENT = 0.03  # seconds between the events of a gesture, by their own time stamps


class Fingers:
    """Fingers on a page: events of a touch screen, each with a time of its own."""

    def __init__(self, page):
        self.tab = page.tab
        self.session = page.tab.context.new_cdp_session(page.tab)
        self.clock = page.tab.evaluate("Date.now() / 1000")

    def send(self, kind, *points):
        self.clock += MOMENT
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.session.send(
            "Input.dispatchTouchEvent",
            {"type": f"touch{kind}", "touchPoints": touches, "timestamp": self.clock},
        )
        self.tab.evaluate(NEXT_FRAME)  # a browser hands moves of fingers on once a frame

    def tap(self, point):
        self.send("Start", point)
        self.send("End")


@pytest.fixture
def phone(opened, mammals):
    page = opened(mammals, **PHONE)
    return page, Fingers(page)


def test_finger__keeps_the_point_under_it(phone):
    page, fingers = phone
    x, y = page.on_screen("Rodentia")
    fingers.send("Start", (x, y))
    for step in range(1, 8):
        at = (x - 12 * step, y - 5 * step)
        fingers.send("Move", at)
        assert page.on_screen("Rodentia") == pytest.approx(at, abs=0.5)
    fingers.send("End")
    assert page.on_screen("Rodentia") == pytest.approx((x - 84, y - 35), abs=0.5)
    assert page.name() == "Mammalia"  # a drag selects nothing


def test_tap__selects_and_moves_nothing_even_if_the_finger_trembles(phone):
    page, fingers = phone
    before = page.on_screen("Primates")
    x, y = before
    fingers.send("Start", (x - 3, y + 2))
    fingers.send("Move", (x + 2, y - 1))
    fingers.send("End")
    assert page.name() == "Primates"
    assert page.on_screen("Primates") == before


def test_double_tap__brings_a_taxon_to_the_centre(phone):
    page, fingers = phone
    at = page.on_screen("Primates")
    fingers.tap(at)
    assert page.name() == "Primates"
    assert np.hypot(*page.centre()) > 0.1
    fingers.tap(at)
    assert np.hypot(*page.centre()) < 1e-6
    assert page.name() == "Primates"


def test_two_slow_taps__are_no_double_tap(phone):
    page, fingers = phone
    at = page.on_screen("Primates")
    fingers.tap(at)
    fingers.clock += 2
    fingers.tap(at)
    assert np.hypot(*page.centre()) > 0.1


def test_pinch__goes_deeper_between_the_fingers_and_back(phone):
    page, fingers = phone
    x, y = page.on_screen("Primates")
    depth = "page.tree.depth[page.view.anchor]"
    fingers.send("Start", (x - 10, y), (x + 10, y))
    for reach in range(11, 31):
        fingers.send("Move", (x - reach, y), (x + reach, y))
    fingers.send("End")
    assert page.tab.evaluate(depth) > 0
    for _ in range(6):
        fingers.send("Start", (20, y), (370, y))
        for way in range(15, 165, 15):
            fingers.send("Move", (20 + way, y), (370 - way, y))
        fingers.send("End")
    assert page.tab.evaluate(depth) == 0
    assert page.name() == "Mammalia"  # two fingers select nothing


def test_two_fingers_side_by_side__carry_the_point_between_them(phone):
    page, fingers = phone
    x, y = page.on_screen("Rodentia")
    fingers.send("Start", (x - 30, y), (x + 30, y))
    for step in range(1, 9):
        fingers.send("Move", (x - 30 - 6 * step, y - 4 * step), (x + 30 - 6 * step, y - 4 * step))
    fingers.send("End")
    assert page.on_screen("Rodentia") == pytest.approx((x - 48, y - 32), abs=2)


def test_panel__opens_and_closes_under_a_finger_and_its_list_walks_the_tree(phone):
    page, _ = phone
    page.tab.tap("#panel")
    assert page.tab.get_attribute("#panel", "aria-expanded") == "true"
    page.tab.tap("#details li button >> nth=0")
    assert page.name() != "Mammalia"
    page.tab.tap("#panel")
    assert not page.tab.is_visible("#details")
