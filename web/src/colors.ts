// A colour for each taxon: by the clade it is in, its rank, its depth, or a column of the reader's own.

import type { About } from "./data";
import type { Tree } from "./tree";

// Okabe and Ito's eight, without black and yellow, and four more that keep apart in grey.
export const PALETTE = [
  ...["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"],
  ...["#8f6bd1", "#7a9a01", "#a85c32", "#00a6a6", "#c2306b", "#5b6fb5"],
];
export const OTHER = "#8c8f98";
const RAMP = [
  ...["#440154", "#482878", "#3e4989", "#31688e", "#26828e"],
  ...["#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
];
const STEPS = 48;

export interface Legend {
  label: string;
  color: string;
  row?: number;
}

export interface Coloring {
  colors: string[];
  of: Uint8Array; // index into colors, by row
  legend: Legend[];
  ramp: { low: number; high: number; colors: string[] } | null;
}

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

export function byClades(tree: Tree, clades: number[], label: (row: number) => string): Coloring {
  const of = new Uint8Array(tree.size).fill(PALETTE.length);
  clades.forEach((row, i) => {
    of.fill(i, row, tree.end[row]!);
  });
  return {
    colors: [...PALETTE, OTHER],
    of,
    legend: clades.map((row, i) => ({ label: label(row), color: PALETTE[i]!, row })),
    ramp: null,
  };
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
  return byClades(tree, found.slice(0, PALETTE.length), label);
}

export function byRank(rank: Uint8Array, ranks: string[]): Coloring {
  const count = new Array<number>(ranks.length).fill(0);
  for (const r of rank) count[r]!++;
  const order = ranks.map((_, i) => i).sort((a, b) => count[b]! - count[a]!);
  const place = new Uint8Array(ranks.length).fill(PALETTE.length);
  order.slice(0, PALETTE.length).forEach((r, i) => {
    place[r] = i;
  });
  return {
    colors: [...PALETTE, OTHER],
    of: rank.map((r) => place[r]!),
    legend: order
      .slice(0, PALETTE.length)
      .filter((r) => count[r]! > 0)
      .map((r, i) => ({
        label: `${ranks[r]!} ${count[r]!.toLocaleString("en")}`,
        color: PALETTE[i]!,
      })),
    ramp: null,
  };
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

/** Numbers by taxon; a clade has the mean of the taxa in it that have one. */
export function byNumbers(tree: Tree, values: ArrayLike<number>): Coloring {
  const sum = new Float64Array(tree.size);
  const count = new Int32Array(tree.size);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let row = tree.size - 1; row >= 0; row--) {
    const own = values[row]!;
    if (Number.isFinite(own)) {
      sum[row]! += own;
      count[row]!++;
      low = Math.min(low, own);
      high = Math.max(high, own);
    }
    const above = tree.parent[row]!;
    if (above >= 0) {
      sum[above]! += sum[row]!;
      count[above]! += count[row]!;
    }
  }
  const colors = Array.from({ length: STEPS }, (_, i) => rampColor(i / (STEPS - 1)));
  const of = new Uint8Array(tree.size).fill(STEPS);
  for (let row = 0; row < tree.size; row++) {
    if (count[row] === 0) continue;
    const own = values[row]!;
    const value = Number.isFinite(own) ? own : sum[row]! / count[row]!;
    of[row] = high > low ? Math.round(((value - low) / (high - low)) * (STEPS - 1)) : 0;
  }
  const any = high >= low;
  return { colors: [...colors, OTHER], of, legend: [], ramp: any ? { low, high, colors } : null };
}

/** Categories by taxon (0: none); a clade has one where all taxa in it have the same. */
export function byCategories(tree: Tree, codes: ArrayLike<number>, names: string[]): Coloring {
  const count = new Array<number>(names.length + 1).fill(0);
  for (let row = 0; row < tree.size; row++) count[codes[row]!]!++;
  const order = names.map((_, i) => i + 1).sort((a, b) => count[b]! - count[a]! || a - b);
  const shown = order.slice(0, PALETTE.length);
  const place = new Uint8Array(names.length + 1).fill(PALETTE.length);
  shown.forEach((code, i) => {
    place[code] = i;
  });
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
  const of = new Uint8Array(tree.size).fill(PALETTE.length);
  for (let row = 0; row < tree.size; row++) if (clade[row]! > 0) of[row] = place[clade[row]!]!;
  return {
    colors: [...PALETTE, OTHER],
    of,
    legend: shown.map((code, i) => ({
      label: `${names[code - 1]!} ${count[code]!.toLocaleString("en")}`,
      color: PALETTE[i]!,
    })),
    ramp: null,
  };
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
