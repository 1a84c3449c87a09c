"""Chromium, and pages that are opened in it and watched: no complaint, no request leaves one."""

import shutil
import threading

import pytest

from poincare_taxa.page.html import explore
from poincare_taxa.readers.sample import load_sample

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PATIENCE = 120_000  # milliseconds; a loaded machine is slow
# WebGL in software, for the tests that force the page to use it; elsewhere it does not.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
SOFTWARE = "GPU stall due to ReadPixels"  # what Chromium says of that, and of no page


@pytest.fixture(scope="module")
def browser():
    reason = "Playwright is not installed"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, timeout=PATIENCE)
        yield browser
        browser.close()
    for thread in threading.enumerate():  # none of Playwright's is left to the next test
        assert "playwright" not in thread.name.lower()


@pytest.fixture(scope="module")
def mammals(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "mammals.html"
    tax = load_sample("mammals")
    explore(tax, path, values={"legs": {"Cetacea": 0, "Homo sapiens": 2, "Mus musculus": 4}})
    return path


class Watched:
    """A page that was opened, with every request and complaint of its."""

    def __init__(self, browser, path, *, width=1100, height=760, fragment="", **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        context.set_default_timeout(PATIENCE)
        self.tab = context.new_page()
        self.requests, self.complaints = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complain(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.url = path.as_uri()
        self.tab.goto(self.url + fragment)
        self.tab.wait_for_selector("[data-searchable]", state="attached")

    def complain(self, text):
        if SOFTWARE not in text:
            self.complaints.append(text)

    def name(self):
        return self.tab.evaluate("page.name(page.selected)")

    def centre(self):
        """Where the selected taxon is drawn, in the disk."""
        return self.tab.evaluate(
            "() => { page.draw(); const d = page.scene.dots.find(d => d.row === page.selected);"
            " return [d.x, d.y]; }"
        )

    def on_screen(self, key):
        """Where a taxon is drawn, in pixels of the window."""
        return self.tab.evaluate(
            "key => { page.draw(); const row = page.search.row(key);"
            " const d = page.scene.dots.find(d => d.row === row);"
            " const box = page.canvas.getBoundingClientRect();"
            " return [box.left + page.cx + page.radius * d.x,"
            "         box.top + page.cy + page.radius * d.y]; }",
            key,
        )

    def search(self, text):
        self.tab.fill("#search", text)
        self.tab.press("#search", "Enter")

    def close(self):
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith((self.url, "blob:"))] == []
        self.tab.context.close()


@pytest.fixture
def opened(browser):
    pages = []

    def open_page(path, **options):
        pages.append(Watched(browser, path, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
