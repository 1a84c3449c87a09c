import assert from "node:assert/strict";
import { test } from "node:test";
import { FLOATS, Triangles } from "../src/triangles";

type Corner = { x: number; y: number; shape: number; rgba: number[] };

function corners(all: Triangles): Corner[] {
  const { vertices } = all;
  const bytes = new Uint8Array(vertices.buffer, vertices.byteOffset, 4 * vertices.length);
  return Array.from({ length: vertices.length / FLOATS }, (_, i) => ({
    x: vertices[FLOATS * i]!,
    y: vertices[FLOATS * i + 1]!,
    shape: vertices[FLOATS * i + 2]!,
    rgba: [...bytes.subarray(16 * i + 12, 16 * i + 16)],
  }));
}

/** Which points of a grid are in a triangle at least: a slow picture of a shape, as an area. */
function covered(all: Triangles, side: number, fine: number): number {
  const found = corners(all);
  const seen = new Set<number>();
  const n = side * fine;
  for (let t = 0; t < found.length; t += 3) {
    const [a, b, c] = found.slice(t, t + 3) as [Corner, Corner, Corner];
    const xs = [a.x, b.x, c.x].map((x) => x * fine);
    const ys = [a.y, b.y, c.y].map((y) => y * fine);
    const cross = (p: Corner, q: Corner, x: number, y: number) =>
      (q.x - p.x) * (y - p.y) - (q.y - p.y) * (x - p.x);
    for (let i = Math.floor(Math.min(...xs)); i <= Math.max(...xs); i++)
      for (let j = Math.floor(Math.min(...ys)); j <= Math.max(...ys); j++) {
        const [x, y] = [(i + 0.5) / fine, (j + 0.5) / fine];
        const sides = [cross(a, b, x, y), cross(b, c, x, y), cross(c, a, x, y)];
        if (sides.every((s) => s >= 0) || sides.every((s) => s <= 0)) seen.add(i * n + j);
      }
  }
  return seen.size / (fine * fine);
}

const near = (found: number, wanted: number, part: number) =>
  assert.ok(Math.abs(found - wanted) <= part * wanted, `${found} is not near ${wanted}`);

test("a circle has its area, and no corner is outside of it", () => {
  for (const r of [1, 8, 40]) {
    const all = new Triangles(1);
    all.beginPath();
    all.arc(50, 50, r, 0, 2 * Math.PI);
    all.fill();
    for (const { x, y } of corners(all)) assert.ok(Math.hypot(x - 50, y - 50) <= r + 1e-4);
    // A polygon whose chords leave the circle by 0.1 at most lacks less than a ring of that width.
    const area = covered(all, 100, r < 9 ? 16 : 4);
    assert.ok(area <= 1.01 * Math.PI * r * r && area >= 0.98 * Math.PI * (r - 0.1) ** 2, `${area}`);
  }
});

test("a wedge is what lies between its apex and the rim, of however wide an arc", () => {
  for (const turn of [0.3, 2, 5]) {
    const all = new Triangles(2);
    all.beginPath();
    all.moveTo(50, 50);
    all.arc(50, 50, 40, 1, 1 + turn);
    all.closePath();
    all.fill();
    near(covered(all, 100, 8), (40 * 40 * turn) / 2, 0.02);
  }
});

test("a line has its length times its width, and round ends", () => {
  for (const width of [1, 3, 9]) {
    const all = new Triangles(4);
    all.lineWidth = width;
    all.beginPath();
    all.moveTo(20, 30);
    all.lineTo(60, 60);
    all.stroke();
    near(covered(all, 100, 12), 50 * width + (Math.PI * width * width) / 4, 0.03);
  }
});

test("a bent line has the area of its ring, without gaps at its joints", () => {
  const all = new Triangles(4);
  all.lineWidth = 6;
  all.beginPath();
  all.arc(50, 50, 30, 0, Math.PI);
  all.stroke();
  near(covered(all, 100, 16), Math.PI * 30 * 6 + Math.PI * 9, 0.02);
});

test("a sharp corner hides nothing: each stretch is a rectangle of its own", () => {
  const all = new Triangles(4);
  all.lineWidth = 4;
  all.beginPath();
  all.moveTo(20, 50);
  all.lineTo(70, 50);
  all.lineTo(20, 52);
  all.stroke();
  for (const { x } of corners(all)) assert.ok(x > 15 && x < 75, `${x}`);
  assert.ok(covered(all, 100, 8) > 50 * 4);
});

test("a line thinner than a dot of the screen is as wide as one, and as faint as it is thin", () => {
  const all = new Triangles(2);
  all.strokeStyle = "#102030";
  all.lineWidth = 0.25;
  all.globalAlpha = 0.8;
  all.beginPath();
  all.moveTo(10, 50);
  all.lineTo(90, 50);
  all.stroke();
  const found = corners(all);
  assert.deepEqual(found[0]!.rgba, [0x10, 0x20, 0x30, Math.round(255 * 0.8 * 0.5)]);
  const ys = found.map(({ y }) => y);
  near(Math.max(...ys) - Math.min(...ys), 0.5, 1e-6);
});

test("each shape has its number and colour; a rectangle is one; a clean slate has none", () => {
  const all = new Triangles(1);
  all.fillStyle = "#ff9000";
  all.fillRect(0, 0, 30, 20);
  all.globalAlpha = 0.5;
  all.fillStyle = "#0000ff";
  all.beginPath();
  for (const x of [10, 60]) {
    all.moveTo(x + 5, 50);
    all.arc(x, 50, 5, 0, 2 * Math.PI);
  }
  all.fill();
  assert.equal(all.shapes, 2);
  const found = corners(all);
  assert.deepEqual([...new Set(found.map(({ shape }) => shape))], [1, 2]);
  assert.deepEqual(found[0]!.rgba, [0xff, 0x90, 0, 255]);
  assert.deepEqual(found[found.length - 1]!.rgba, [0, 0, 0xff, 128]);
  near(covered(all, 100, 8), 30 * 20 + 2 * Math.PI * 25, 0.03);
  all.clear();
  assert.equal(all.vertices.length, 0);
  assert.equal(all.shapes, 0);
});

test("more triangles than there was room for are all kept", () => {
  const all = new Triangles(1);
  const count = 20_000;
  for (let i = 0; i < count; i++) all.fillRect(i, 0, 1, 1);
  assert.equal(all.vertices.length, count * 6 * FLOATS);
  const found = corners(all);
  for (const i of [0, 1234, count - 1]) {
    assert.equal(found[6 * i]!.x, i);
    assert.equal(found[6 * i]!.shape, i + 1);
  }
});

test("points that are one point are no line", () => {
  const all = new Triangles(1);
  all.beginPath();
  all.moveTo(5, 5);
  all.lineTo(5, 5);
  all.stroke();
  assert.equal(all.vertices.length, 0);
});
