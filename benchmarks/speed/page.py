"""The page in headless Chromium: size, first picture, search, frames while it moves.

A frame is measured from outside as the reader sees it: how many the browser shows in a second while
the disk is dragged without pause, at the root and far from it. Both ways to draw are measured; the
page itself takes WebGL only where a GPU does it.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import poincare_taxa as pt
from benchmarks.clades import ncbi
from benchmarks.tables import Row

SECONDS = 3.0  # of dragging, for each place
QUERIES = ("homo sapiens", "Esch", "coccus", "drosophila mel", "9606", "virus", "qzxv", "sp.", "e")

# Drags the disk a little at every frame of the screen; returns the time between frames.
DRAG = """(seconds) => new Promise((done) => {
  const times = [];
  const end = performance.now() + 1000 * seconds;
  let turn = 0;
  const move = (now) => {
    times.push(now);
    turn += 0.15;
    page.view.drag({x: 0.3, y: 0.1},
                   {x: 0.3 + 0.02 * Math.cos(turn), y: 0.1 + 0.02 * Math.sin(turn)});
    page.change();
    if (now < end) requestAnimationFrame(move);
    else done(times.slice(1).map((t, i) => t - times[i]));
  };
  requestAnimationFrame(move);
})"""
OPTIONS = ["--no-sandbox", "--enable-unsafe-swiftshader"]  # WebGL in software, where it is forced
SUGGEST = """(query) => {
  const start = performance.now();
  const found = page.search.suggest(query, 12).length;
  return [performance.now() - start, found];
}"""


def measure(sizes: list[int], gpu: bool = False) -> Iterator[Row]:
    """Measure the clade of NCBI's taxonomy nearest to each size in its number of taxa."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    options = OPTIONS if gpu else [*OPTIONS, "--disable-gpu"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        for size in sizes:
            count = ncbi().tree.subtree_size
            row = int(abs(count.astype(int) - size).argmin())
            tax = ncbi() if row == 0 else ncbi().subtree(ncbi().ids[row])
            path = Path(folder) / f"{size}.html"
            start = time.perf_counter()
            pt.explore(tax, path)
            found = {
                "root": str(tax.names[0]),
                "taxa": f"{len(tax):,}",
                "file (MB)": round(path.stat().st_size / 1e6, 1),
                "written in (s)": round(time.perf_counter() - start, 1),
            }
            for painter in ("canvas", "webgl"):
                browser = play.chromium.launch(executable_path=chromium, args=options)
                yield found | _of_page(browser, path, painter)
                browser.close()


def _of_page(browser, path: Path, painter: str) -> Row:
    context = browser.new_context(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(f"{path.as_uri()}#draw={painter}")
    tab.wait_for_selector("html[data-searchable]", state="attached")
    ready, searchable = (
        float(tab.get_attribute("html", f"data-{name}")) / 1000 for name in ("ready", "searchable")
    )
    searches = [tab.evaluate(SUGGEST, query)[0] for query in QUERIES for _ in range(3)]
    rates, strokes, taxa = [], [], tab.evaluate("page.tree.size")
    for row in (0, taxa // 2, taxa - 1):
        tab.evaluate("row => { page.view.jump(row); page.draw(); }", row)
        strokes.append(tab.evaluate("page.scene.edges.length + page.scene.wedges.length"))
        rates.append(1000 / statistics.median(tab.evaluate(DRAG, SECONDS)))
    drawn = tab.evaluate("page.frames.slice(-300)")
    renderer = _named(tab.evaluate("page.renderer"))
    context.close()
    return {
        "drawn by": renderer,
        "first picture (s)": round(ready, 2),
        "searchable (s)": round(searchable, 2),
        "search, median (ms)": round(statistics.median(searches), 1),
        "search, slowest (ms)": round(max(searches), 1),
        "frames a second, least": round(min(rates)),
        "a frame, median (ms)": round(statistics.median(drawn), 1),
        "strokes": max(strokes),
    }


def _named(renderer: str) -> str:
    """What drew, without the versions of drivers."""
    return "WebGL, in software" if "SwiftShader" in renderer else renderer
