import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { byCategories, byNumbers, largestClades, NONE, rampColor } from "../src/colors";
import { deltas, gunzip, varints } from "../src/data";
import { Names, Search } from "../src/names";
import { bendOf, paint, SvgSurface } from "../src/paint";
import { build } from "../src/scene";
import { Tree } from "../src/tree";
import { View } from "../src/view";

const named = (texts: string[]): Names =>
  new Names(new TextEncoder().encode(texts.map((text) => `${text}\n`).join("")), texts.length);
const TEXTS = ["root", "Homo sapiens", "homo", "Häm<script>", "", "Thomomys", "Pan homo"];
const search = new Search(
  named(TEXTS),
  named(["human", "Mensch"]),
  [1, 1],
  [9, 1, 8, 1, 1, 3, 2],
  (key) => (key === "9606" ? 1 : -1),
);

test("names come back as they are", () => {
  TEXTS.forEach((text, i) => {
    assert.equal(named(TEXTS).get(i), text);
  });
  assert.throws(() => new Names(new Uint8Array([65]), 1), /cut short/);
});

test("exact names first, then beginnings and later words; parts of words where there are none", () => {
  assert.deepEqual(
    search.suggest("HOMO", 9).map(({ row }) => row),
    [2, 1, 6],
  );
  assert.deepEqual(
    search.suggest("homo", 1).map(({ row }) => row),
    [2],
  );
  assert.deepEqual(search.suggest("omys", 9), [{ row: 5, by: "" }]);
  assert.deepEqual(
    search.suggest("h", 9).map(({ row }) => row),
    [2, 1, 3, 6],
  );
  assert.deepEqual(search.suggest("script", 9), [{ row: 3, by: "" }]);
  assert.deepEqual(search.suggest("<script", 9), [{ row: 3, by: "" }]);
  assert.deepEqual(search.suggest("häm", 9), [{ row: 3, by: "" }]);
  assert.deepEqual(search.suggest("HÄM", 9), [{ row: 3, by: "" }]);
  assert.deepEqual(search.suggest("mensch", 9), [{ row: 1, by: "Mensch" }]);
  assert.deepEqual(search.suggest("9606", 9), [{ row: 1, by: "" }]);
  assert.deepEqual(search.suggest("nothing", 9), []);
  assert.deepEqual(search.suggest("  ", 9), []);
});

test("keys are whole names, synonyms or ids", () => {
  assert.equal(search.row("homo sapiens"), 1);
  assert.equal(search.row(" Mensch "), 1);
  assert.equal(search.row("9606"), 1);
  assert.equal(search.row("homo sap"), -1);
});

test("numbers come back from varints, and a cut column is refused", () => {
  assert.deepEqual(
    [...varints(new Uint8Array([0, 0x7f, 0x80, 1, 0xac, 2]), 4)],
    [0, 127, 128, 300],
  );
  assert.throws(() => varints(new Uint8Array([0x80]), 1), /cut short/);
  assert.deepEqual([...deltas(new Float64Array([10, 3, 2]))], [5, 3, 4]);
});

test("gzip", async () => {
  const bytes = new Uint8Array(gzipSync(new Uint8Array([1, 2, 3])));
  assert.deepEqual([...(await gunzip(bytes))], [1, 2, 3]);
});

const TREE = new Tree([0, 0, 0, 1, 2, 0, 1]); // 0(1(2 3) 4(5 6))

test("a clade has the mean of its numbers, or the category that all of it has", () => {
  const { of } = byNumbers(TREE, [NaN, NaN, 0, 47, NaN, 47, NaN]);
  assert.equal(of[2], 0);
  assert.equal(of[3], 47);
  assert.equal(of[4], 47);
  assert.equal(of[1], 24);
  assert.equal(of[6], 48); // no number
  const coloring = byCategories(TREE, [0, 0, 1, 1, 0, 1, 2], ["a", "b"]);
  assert.equal(coloring.of[1], coloring.of[2]);
  assert.equal(coloring.colors[coloring.of[4]!], NONE);
  assert.equal(coloring.legend.length, 2);
});

test("clades to colour are apart, the largest first", () => {
  assert.deepEqual(largestClades(TREE, 2), [1, 4]);
  assert.deepEqual(largestClades(TREE, 3).length, 3);
  // A clade of a thousand leaves side by side keeps its colour.
  const star = new Tree([0, ...new Array<number>(1000).fill(1)].map((up, i) => (i < 2 ? 0 : up)));
  assert.deepEqual(largestClades(star, 12), [0]);
});

test("a colour of the scale", () => {
  assert.equal(rampColor(0), "#414487");
  assert.equal(rampColor(1), "#bddf26");
});

test("an edge is an arc perpendicular to the rim through both ends", () => {
  const bend = bendOf({ row: 0, x0: 0.6, y0: 0.1, x1: -0.1, y1: 0.7 }, 1e-3)!;
  const { x, y, r } = bend;
  assert.ok(Math.abs(Math.hypot(0.6 - x, 0.1 - y) - r) < 1e-12);
  assert.ok(Math.abs(Math.hypot(-0.1 - x, 0.7 - y) - r) < 1e-12);
  assert.ok(Math.abs(x * x + y * y - 1 - r * r) < 1e-12);
  assert.equal(bendOf({ row: 0, x0: -0.5, y0: 0, x1: 0.5, y1: 0 }, 1e-3), null);
});

test("wedges side by side of one colour are one area", () => {
  const star = new Tree(Array.from({ length: 5001 }, (_, i) => (i < 2 ? 0 : 1)));
  const scene = build(star, new View(star), 300, new Set());
  assert.ok(scene.wedges.length > 300);
  const ruler = { font: "", measureText: () => ({ width: 1 }) as TextMetrics };
  const surface = new SvgSurface(ruler, 800, 800);
  const color = (name: string): string => `#${name}`;
  const theme = { page: "", disk: "", rim: "", text: "", faint: "", accent: "" };
  paint(surface, scene, {
    width: 800,
    height: 800,
    cx: 400,
    cy: 400,
    radius: 300,
    theme,
    tree: star,
    color: (row) => color(row > 2500 ? "b" : "a"),
    label: () => "",
    italic: () => false,
    highlighted: () => 0,
    anyHighlight: false,
    selected: 0,
    covered: { x0: 0, y0: 0, x1: 0, y1: 0 },
  });
  const areas = surface.markup
    .split("\n")
    .filter((line) => /fill="#[ab]" fill-opacity="0.5"/.test(line));
  assert.equal(areas.length, 2);
  for (const area of areas) assert.equal(area.match(/M/g)?.length, 1);
});

test("text in SVG is text", () => {
  const ruler = { font: "", measureText: () => ({ width: 1 }) as TextMetrics };
  const surface = new SvgSurface(ruler, 10, 10);
  surface.fillText('<script>"&', 1, 2);
  assert.ok(surface.markup.includes("&lt;script&gt;&quot;&amp;</text>"));
  assert.ok(!surface.markup.includes("<script"));
});
