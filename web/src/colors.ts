// A colour for each taxon: by the clade it is in, its rank, its depth, or a column of the reader's own.

import type { About } from "./data";
import type { Tree } from "./tree";

// Ten colours and a grey for all others, as many as stay apart: each two are 0.1 or more from each other
// in OKLab, for eyes without red, green or blue cones too, and all stand out from a light and a dark page.
export const PALETTE = [
  ...["#008eff", "#ff9000", "#008a00", "#ae006e", "#00caff"],
  ...["#704a06", "#8f53b6", "#ff1752", "#8fbe86", "#4a00f8"],
];
export const OTHER = "#8c8f98";
export const NONE = ""; // of a taxon that the colours are not about: the colour of the rim
const COLORS = [...PALETTE, OTHER, NONE];
const OTHERS = PALETTE.length;
const NOTHING = OTHERS + 1;
// Viridis from 0.2 to 0.9: its ends would be lost on a dark and on a light page.
const RAMP = [
  ...["#414487", "#355f8d", "#2a788e", "#21918c"],
  ...["#22a884", "#44bf70", "#7ad151", "#bddf26"],
];
const STEPS = 48;

export interface Legend {
  label: string;
  count: number; // of taxa
  color: string;
  row?: number;
}

export interface Coloring {
  colors: string[];
  of: Uint8Array; // index into colors, by row
  legend: Legend[];
  ramp: { low: number; high: number; logarithmic: boolean; colors: string[] } | null;
}

/** One entry for all that have no colour of their own; none where there is nothing of the kind. */
const others = (label: string, count: number): Legend[] =>
  count > 0 ? [{ label, count, color: OTHER }] : [];

const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);

/**
 * Large clades side by side: the largest is opened until as many as wanted have a hundredth of all
 * leaves, but none that would fall apart into small ones.
 */
export function largestClades(tree: Tree, most: number): number[] {
  const least = tree.leaves[0]! / 100;
  const larger = (a: number, b: number) => tree.leaves[b]! - tree.leaves[a]! || a - b;
  const below = (row: number) => tree.child.subarray(tree.first[row]!, tree.first[row + 1]!);
  const opened = [0];
  const closed: number[] = [];
  while (opened.length > 0 && opened.length + closed.length < most) {
    opened.sort(larger);
    const row = opened.shift()!;
    const parts = Array.from(below(row)).filter((child) => tree.leaves[child]! >= least);
    const sum = parts.reduce((leaves, child) => leaves + tree.leaves[child]!, 0);
    if (2 * sum < tree.leaves[row]! || tree.isLeaf(row)) closed.push(row);
    else opened.push(...parts);
  }
  return [...closed, ...opened].sort(larger).slice(0, most);
}

/** Clades that have colours, and clades beside them that share one. */
function ofClades(
  tree: Tree,
  [clades, rest]: [number[], number[]],
  outside: number,
  label: (row: number) => string,
  words: string,
): Coloring {
  const of = new Uint8Array(tree.size).fill(outside);
  // What lies in a coloured clade has its colour, and the smaller of two such clades lies above.
  const size = (row: number) => tree.end[row]! - row;
  clades.sort((a, b) => size(b) - size(a) || a - b);
  for (const row of rest) of.fill(OTHERS, row, tree.end[row]!);
  clades.forEach((row, i) => {
    of.fill(i, row, tree.end[row]!);
  });
  const count = new Array<number>(COLORS.length).fill(0);
  for (const color of of) count[color]!++;
  return {
    colors: COLORS,
    of,
    legend: [
      ...clades.map((row, i) => ({ label: label(row), count: count[i]!, color: PALETTE[i]!, row })),
      ...others(words, count[OTHERS]!),
    ],
    ramp: null,
  };
}

/** The largest clades side by side, at most one for each colour. */
export function byClades(tree: Tree, clades: number[], label: (row: number) => string): Coloring {
  return ofClades(tree, [clades.slice(0, OTHERS), []], OTHERS, label, "elsewhere");
}

/** Clades of one rank: the largest have a colour. */
export function byCladesOfRank(
  tree: Tree,
  rank: Uint8Array,
  wanted: number,
  label: (row: number) => string,
): Coloring {
  const found = [];
  for (let row = 0; row < tree.size; row++) if (rank[row] === wanted) found.push(row);
  found.sort((a, b) => tree.leaves[b]! - tree.leaves[a]! || a - b);
  const rest = found.splice(OTHERS);
  const words = `${rest.length.toLocaleString("en")} others`;
  return ofClades(tree, [found, rest], NOTHING, label, words);
}

/** The most frequent of some kinds, and how many have each: the first of them have a colour. */
function frequent(count: number[], names: string[]): { place: Uint8Array; legend: Legend[] } {
  const order = names
    .map((_, i) => i)
    .filter((i) => count[i]! > 0)
    .sort((a, b) => count[b]! - count[a]! || a - b);
  const place = new Uint8Array(names.length).fill(OTHERS);
  const rest = order.splice(OTHERS);
  const legend = order.map((kind, i) => {
    place[kind] = i;
    return { label: names[kind]!, count: count[kind]!, color: PALETTE[i]! };
  });
  const words = `${rest.length.toLocaleString("en")} others`;
  legend.push(...others(words, sum(rest.map((kind) => count[kind]!))));
  return { place, legend };
}

export function byRank(rank: Uint8Array, ranks: string[]): Coloring {
  const count = new Array<number>(ranks.length).fill(0);
  for (const r of rank) count[r]!++;
  const { place, legend } = frequent(count, ranks);
  return { colors: COLORS, of: rank.map((r) => place[r]!), legend, ramp: null };
}

export function rampColor(share: number): string {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  const part = (hex: string, i: number) => Number.parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) => {
    const a = part(RAMP[low]!, i);
    return Math.round(a + (part(RAMP[low + 1]!, i) - a) * (at - low));
  });
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

const ORDERS = 100; // numbers > 0 of which the largest is so many times the smallest: a logarithm

/** Numbers by taxon; a clade has the mean of the taxa in it that have one. */
export function byNumbers(tree: Tree, values: ArrayLike<number>): Coloring {
  const total = new Float64Array(tree.size);
  const count = new Int32Array(tree.size);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let row = tree.size - 1; row >= 0; row--) {
    const own = values[row]!;
    if (Number.isFinite(own)) {
      total[row]! += own;
      count[row]!++;
      low = Math.min(low, own);
      high = Math.max(high, own);
    }
    const above = tree.parent[row]!;
    if (above >= 0) {
      total[above]! += total[row]!;
      count[above]! += count[row]!;
    }
  }
  const logarithmic = low > 0 && high / low >= ORDERS;
  const scale = logarithmic ? Math.log : (value: number) => value;
  const [from, to] = [scale(low), scale(high)];
  const colors = Array.from({ length: STEPS }, (_, i) => rampColor(i / (STEPS - 1)));
  const of = new Uint8Array(tree.size).fill(STEPS);
  for (let row = 0; row < tree.size; row++) {
    if (count[row] === 0) continue;
    const own = values[row]!;
    const value = scale(Number.isFinite(own) ? own : total[row]! / count[row]!);
    of[row] = to > from ? Math.round(((value - from) / (to - from)) * (STEPS - 1)) : 0;
  }
  const ramp = high >= low ? { low, high, logarithmic, colors } : null;
  return { colors: [...colors, NONE], of, legend: [], ramp };
}

/** Categories by taxon (0: none); a clade has one where all taxa in it have the same. */
export function byCategories(tree: Tree, codes: ArrayLike<number>, names: string[]): Coloring {
  const count = new Array<number>(names.length).fill(0);
  for (let row = 0; row < tree.size; row++) if (codes[row]! > 0) count[codes[row]! - 1]!++;
  const { place, legend } = frequent(count, names);
  // 0: nothing in the clade has a category; −1: several.
  const clade = new Int32Array(tree.size);
  for (let row = tree.size - 1; row >= 0; row--) {
    const own = codes[row]!;
    if (own > 0) clade[row] = own;
    const above = tree.parent[row]!;
    if (above >= 0 && clade[row] !== 0) {
      clade[above] = clade[above] === 0 || clade[above] === clade[row] ? clade[row]! : -1;
    }
  }
  const of = new Uint8Array(tree.size).fill(NOTHING);
  for (let row = 0; row < tree.size; row++) if (clade[row]! > 0) of[row] = place[clade[row]! - 1]!;
  return { colors: COLORS, of, legend, ramp: null };
}

/** Choices of colour that a file offers: key and words. */
export function choices(about: About, tree: Tree, rank: Uint8Array): [string, string][] {
  const count = new Array<number>(about.ranks.length).fill(0);
  for (let row = 0; row < tree.size; row++) count[rank[row]!]!++;
  const ranks = about.ranks
    .map((name, i) => ({ name, i }))
    .filter(({ name, i }) => count[i]! >= 2 && count[i]! <= tree.size / 2 && name !== "no rank")
    .map(({ name, i }): [string, string] => [
      `rank:${name}`,
      `${name} (${count[i]!.toLocaleString("en")})`,
    ]);
  const own = about.columns.map(({ name }): [string, string] => [`column:${name}`, name]);
  return [...own, ["clades", "largest clades"], ...ranks, ["taxon rank", "rank of each taxon"]];
}
