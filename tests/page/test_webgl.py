"""The same pictures by WebGL: forced here, because a browser without a GPU draws on the canvas."""

import io
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
MARKED = "page.mark([3, 40, 41, 700, 5000])"
# A cross of two faint lines, as one shape and as two; then its arm, its middle, and beside it.
CROSS = """apart => {
  const all = page.triangles;
  const [width, height] = [page.canvas.clientWidth, page.canvas.clientHeight];
  all.clear();
  Object.assign(all, {fillStyle: "#ffffff", strokeStyle: "#000000", lineWidth: 20, globalAlpha: 1});
  all.fillRect(0, 0, width, height);
  all.globalAlpha = 0.4;
  all.beginPath();
  all.moveTo(20, 60);
  all.lineTo(100, 60);
  if (apart) { all.stroke(); all.beginPath(); }
  all.moveTo(60, 20);
  all.lineTo(60, 100);
  all.stroke();
  page.webgl.show(all, width, height);
  const gl = page.element("shapes").getContext("webgl2");
  gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
  return [[30, 60], [60, 60], [90, 30]].map(([x, y]) => {
    const pixel = new Uint8Array(4);
    gl.readPixels(x, gl.drawingBufferHeight - y, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    return [...pixel];
  });
}"""
# All taxa; few of them marked, the others faint; dark, far from the root.
VIEWS = ["page.view.jump(0)", MARKED, "page.element('theme').click(); page.view.jump(300)"]


@pytest.fixture
def forced(opened, mammals):
    def open_page(**options):
        page = opened(mammals, **{"fragment": "#draw=webgl", "width": 900, "height": 560} | options)
        if page.tab.evaluate("page.renderer") == "canvas":
            pytest.skip("this Chromium has no WebGL")
        return page

    return open_page


def picture(page):
    page.tab.evaluate("page.draw()")
    with Image.open(io.BytesIO(page.tab.screenshot())) as image:
        return np.asarray(image.convert("RGB"), np.float64)


def small(pixels, by=4):
    """Means of squares of pixels: edges may differ by less than a pixel."""
    height, width = (side // by * by for side in pixels.shape[:2])
    squares = pixels[:height, :width].reshape(height // by, by, width // by, by, 3)
    return squares.mean(axis=(1, 3))


def test_page__without_a_gpu_draws_on_the_canvas(opened, mammals):
    page = opened(mammals)
    assert page.tab.evaluate("page.renderer") == "canvas"
    assert not page.tab.is_visible("#shapes")
    assert "draw" not in page.tab.evaluate("page.fragment()")


@pytest.mark.parametrize("density", [1, 2])
@pytest.mark.parametrize("view", VIEWS)
def test_picture__is_that_of_the_canvas(forced, view, density):
    page = forced(device_scale_factor=density)
    page.tab.evaluate(f"() => {{ {view} }}")
    found = picture(page)
    sizes = page.tab.evaluate(
        "[page.element('shapes').width, page.canvas.width, page.canvas.clientWidth]"
    )
    assert sizes == [density * sizes[2], density * sizes[2], sizes[2]]
    page.tab.evaluate("page.drawBy('canvas')")
    assert not page.tab.is_visible("#shapes")
    wanted = picture(page)
    away = np.abs(small(found) - small(wanted))
    assert away.mean() < 0.3
    assert away.max() < 40


def test_lines_of_one_shape__are_no_darker_where_they_cross(forced):
    page = forced()
    light, dark = (round(255 * 0.6**times) for times in (1, 2))
    for apart, middle in [(False, light), (True, dark)]:
        found = np.array(page.tab.evaluate(CROSS, apart))
        np.testing.assert_array_equal(found[:, 3], 255)
        np.testing.assert_allclose(found[:, 0], [light, middle, 255], atol=2)


def test_link__keeps_what_draws_and_a_new_one_changes_it(forced):
    page = forced()
    assert "draw=webgl" in page.tab.evaluate("page.fragment()")
    page.tab.evaluate("location.hash = '#draw=canvas'")
    page.tab.wait_for_function("page.renderer === 'canvas'")
    page.tab.evaluate("location.hash = '#draw=webgl'")
    page.tab.wait_for_function("page.renderer.startsWith('WebGL')")
    assert page.tab.is_visible("#shapes")


def test_gpu__that_is_taken_away_leaves_the_canvas_and_is_used_when_it_is_back(forced):
    page = forced()
    before = picture(page)
    page.tab.evaluate(
        "const gl = page.element('shapes').getContext('webgl2');"
        "window.gpu = gl.getExtension('WEBGL_lose_context'); gpu.loseContext()"
    )
    page.tab.wait_for_function("page.renderer === 'canvas'")
    assert not page.tab.is_visible("#shapes")
    without = picture(page)
    page.tab.evaluate("gpu.restoreContext()")
    page.tab.wait_for_function("page.renderer.startsWith('WebGL')")
    after = picture(page)
    assert page.tab.is_visible("#shapes")
    assert np.abs(small(before) - small(without)).mean() < 1
    np.testing.assert_array_equal(after, before)


def test_window__that_changes_its_size_is_filled(forced):
    page = forced()
    picture(page)
    page.tab.set_viewport_size({"width": 640, "height": 700})
    found = picture(page)
    page.tab.evaluate("page.drawBy('canvas')")
    assert np.abs(small(found) - small(picture(page))).mean() < 1


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_saved_view__is_the_same_whatever_draws(forced, kind):
    page = forced()
    saved = []
    for painter in ("webgl", "canvas"):
        page.tab.evaluate(f"page.drawBy('{painter}'); page.draw()")
        with page.tab.expect_download() as found:
            page.tab.click(f"#{kind}")
        saved.append(Path(found.value.path()).read_bytes())
    assert saved[0] == saved[1]
    assert len(saved[0]) > 10_000
