import assert from "node:assert/strict";
import { test } from "node:test";
import {
  byCategories,
  byClades,
  byCladesOfRank,
  byNumbers,
  byRank,
  NONE,
  OTHER,
  PALETTE,
  rampColor,
} from "../src/colors";
import { Tree } from "../src/tree";

type Three = [number, number, number];

const linear = (hex: string): Three =>
  [1, 3, 5].map((i) => {
    const value = Number.parseInt(hex.slice(i, i + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as Three;

// What eyes see without one kind of cones: Machado, Oliveira & Fernandes 2009, severity 1.
const EYES: Record<string, number[]> = {
  all: [1, 0, 0, 0, 1, 0, 0, 0, 1],
  "without red": [
    0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998,
  ],
  "without green": [
    0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.01182, 0.04294, 0.968881,
  ],
  "without blue": [
    1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.3039,
  ],
};

const product = (m: number[], [r, g, b]: Three): Three =>
  [0, 3, 6].map((i) => m[i]! * r + m[i + 1]! * g + m[i + 2]! * b) as Three;

/** Björn Ottosson's OKLab, in which distances are what people see as different. */
function lab(color: Three): Three {
  const inside = color.map((value) => Math.min(1, Math.max(0, value))) as Three;
  const cones = product(
    [
      0.4122214708, 0.5363325363, 0.0514459929, 0.2119034982, 0.6806995451, 0.1073969566,
      0.0883024619, 0.2817188376, 0.6299787005,
    ],
    inside,
  ).map(Math.cbrt) as Three;
  return product(
    [
      0.2104542553, 0.793617785, -0.0040720468, 1.9779984951, -2.428592205, 0.4505937099,
      0.0259040371, 0.7827717662, -0.808675766,
    ],
    cones,
  );
}

const luminance = (hex: string): number => {
  const [r, g, b] = linear(hex);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

test("each two colours stay apart for every kind of eyes", () => {
  const colors = [...PALETTE, OTHER];
  for (const [eyes, matrix] of Object.entries(EYES)) {
    const seen = colors.map((color) => lab(product(matrix, linear(color))));
    seen.forEach((a, i) => {
      seen.slice(0, i).forEach((b, j) => {
        const apart = Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
        assert.ok(apart >= 0.1, `${colors[i]} and ${colors[j]}, ${eyes}: ${apart.toFixed(3)}`);
      });
    });
  }
});

test("every colour stands out from a light and from a dark disk", () => {
  const ramp = [0, 0.2, 0.4, 0.6, 0.8, 1].map(rampColor);
  for (const color of [...PALETTE, OTHER, ...ramp]) {
    const least = ramp.includes(color) ? 1.45 : 1.9;
    for (const disk of ["#fffefb", "#1b1e24"]) {
      const [low, high] = [luminance(color), luminance(disk)].sort((a, b) => a - b);
      assert.ok((high! + 0.05) / (low! + 0.05) >= least, `${color} on ${disk}`);
    }
  }
});

// A root with 40 children: kinds 0 … 19, each twice, but kind 0 four times and kind 19 never.
const MANY = new Tree(Array.from({ length: 41 }, (_, i) => (i < 2 ? 0 : 1)));
const kind = (i: number): number => (i % 20 === 19 ? 0 : i % 20);
const KINDS = Array.from({ length: 20 }, (_, i) => `kind ${i}`);

const unlike = (colors: string[]): boolean => new Set(colors).size === colors.length;

test("more categories than colours: no colour twice, the rest is counted", () => {
  const codes = Array.from({ length: 41 }, (_, row) => (row === 0 ? 0 : 1 + kind(row - 1)));
  const { legend, of, colors } = byCategories(MANY, codes, KINDS);
  assert.equal(legend.length, PALETTE.length + 1);
  assert.ok(unlike(legend.map(({ color }) => color)));
  assert.deepEqual(legend[0], { label: "kind 0", count: 4, color: PALETTE[0]! });
  assert.deepEqual(legend.at(-1), { label: "9 others", count: 18, color: OTHER });
  assert.equal(
    legend.reduce((sum, { count }) => sum + count, 0),
    40,
  );
  assert.equal(colors[of[0]!], NONE); // the root has several
  assert.equal(colors[of[1]!], PALETTE[0]);
});

test("as many categories as colours: none is left", () => {
  const codes = Array.from({ length: 41 }, (_, row) => (row === 0 ? 0 : 1 + (row % 10)));
  const { legend } = byCategories(MANY, codes, KINDS);
  assert.equal(legend.length, 10);
  assert.ok(legend.every(({ color }) => color !== OTHER));
});

test("more ranks and clades than colours: no colour twice, the rest is counted", () => {
  const ranks = byRank(
    Uint8Array.from({ length: 41 }, (_, row) => kind(row)),
    KINDS,
  );
  assert.ok(unlike(ranks.legend.map(({ color }) => color)));
  assert.equal(ranks.legend.at(-1)!.label, "9 others");
  const rank = Uint8Array.from({ length: 41 }, (_, row) => (row === 0 ? 0 : 1));
  const clades = byCladesOfRank(MANY, rank, 1, String);
  assert.ok(unlike(clades.legend.map(({ color }) => color)));
  assert.deepEqual(clades.legend.at(-1), { label: "30 others", count: 30, color: OTHER });
  assert.equal(clades.colors[clades.of[0]!], NONE);
  assert.equal(clades.colors[clades.of[40]!], OTHER);
  const largest = byClades(MANY, [1, 2], String);
  assert.deepEqual(largest.legend.at(-1), { label: "elsewhere", count: 39, color: OTHER });
});

test("a clade of the rank inside another has a colour of its own, or the other's", () => {
  // 0(1(2(3))): rows 1 and 2 have the rank, and so do leaves beside them, more than colours.
  const tree = new Tree([0, 0, 0, 0, 3, ...new Array<number>(12).fill(1)]);
  const rank = Uint8Array.from({ length: tree.size }, (_, row) => (row === 0 || row === 3 ? 0 : 1));
  const { of } = byCladesOfRank(tree, rank, 1, String);
  assert.equal(of[1], 0);
  assert.equal(of[2], 1);
  assert.equal(of[3], 1);
});

test("numbers over orders of magnitude have a logarithmic scale", () => {
  const tree = new Tree([0, 0, 1, 1]);
  const { of, ramp } = byNumbers(tree, [Number.NaN, 1, 1000, 1_000_000]);
  assert.ok(ramp!.logarithmic);
  assert.deepEqual([of[1], of[3]], [0, 47]);
  assert.equal(of[2], 24);
  assert.ok(!byNumbers(tree, [Number.NaN, 0, 1000, 1_000_000]).ramp!.logarithmic);
  assert.ok(!byNumbers(tree, [Number.NaN, 5, 6, 7]).ramp!.logarithmic);
});
