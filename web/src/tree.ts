// The tree as arrays over rows in preorder, and the layout: a share of its parent's arc for each child.
// There are no coordinates of taxa: a child's frame follows from its parent's by one step.

import { type Mobius, step } from "./mobius";

/** Half of the arc that a clade spans, seen from its own point, where it is not wider than that. */
export const OPENING = 2.2;
const LEAST = 0.3; // least distance of a child from its parent
const FILL = 0.96; // share of its arc that a clade takes: gaps between siblings
const LEAF_OPENING = 0.9;
const NARROW = 2 * Math.atan(Math.exp(-LEAST) * Math.tan(OPENING / 2)); // seen from the parent

export class Tree {
  readonly size: number;
  readonly parent: Int32Array;
  readonly end: Int32Array; // first row after the clade
  readonly depth: Int32Array;
  readonly leaves: Int32Array; // of the clade
  readonly first: Int32Array; // slots of the children of row u: first[u] … first[u + 1] − 1
  readonly child: Int32Array; // row of each slot
  readonly sum: Float64Array; // weights of the slots before, of the same parent
  readonly total: Float64Array; // weight of all children of a row
  readonly opening: Float32Array; // half of the arc of a clade's children, seen from its own point

  /** `up`: how many levels each row lies above where a child of the row before it would lie. */
  constructor(up: ArrayLike<number>) {
    const n = up.length;
    this.size = n;
    this.parent = new Int32Array(n).fill(-1);
    this.end = new Int32Array(n);
    this.depth = new Int32Array(n);
    this.leaves = new Int32Array(n);
    this.first = new Int32Array(n + 1);
    this.child = new Int32Array(Math.max(0, n - 1));
    this.sum = new Float64Array(this.child.length);
    this.total = new Float64Array(n);
    this.opening = new Float32Array(n);
    const open: number[] = [0];
    for (let i = 1; i < n; i++) {
      const depth = this.depth[i - 1]! + 1 - up[i]!;
      this.depth[i] = depth;
      this.parent[i] = open[depth - 1]!;
      open[depth] = i;
      this.first[this.parent[i]! + 1]!++;
    }
    for (let i = 0; i < n; i++) this.first[i + 1]! += this.first[i]!;
    const next = this.first.slice();
    for (let i = 1; i < n; i++) this.child[next[this.parent[i]!]!++] = i;
    for (let i = n - 1; i >= 0; i--) {
      this.end[i] = Math.max(this.end[i]!, i + 1);
      this.leaves[i] = Math.max(1, this.leaves[i]!);
      if (i === 0) break;
      const above = this.parent[i]!;
      this.end[above] = Math.max(this.end[above]!, this.end[i]!);
      this.leaves[above]! += this.leaves[i]!;
    }
    this.weigh(1);
  }

  /** Shares by leaves to a power: 1 by leaves, 0 the same for each sibling. */
  weigh(power: number): void {
    for (let u = 0; u < this.size; u++) {
      let sum = 0;
      for (let slot = this.first[u]!; slot < this.first[u + 1]!; slot++) {
        this.sum[slot] = sum;
        sum += this.leaves[this.child[slot]!]! ** power;
      }
      this.total[u] = sum;
    }
    // A clade that has most of its parent's arc cannot go far from it, and so it spans more there.
    this.opening.fill(OPENING);
    this.opening[0] = Math.PI;
    for (let row = 1; row < this.size; row++) {
      const above = this.parent[row]!;
      const half = this.opening[above]! * FILL * (this.leaves[row]! ** power / this.total[above]!);
      if (half > NARROW) {
        this.opening[row] = 2 * Math.atan(Math.exp(LEAST) * Math.tan(half / 2));
      }
    }
  }

  isLeaf(row: number): boolean {
    return this.first[row] === this.first[row + 1];
  }

  isAncestor(above: number, row: number): boolean {
    return above <= row && row < this.end[above]!;
  }

  /** Rows from the root down to a row. */
  lineage(row: number): number[] {
    const found = [];
    for (let at = row; at >= 0; at = this.parent[at]!) found.push(at);
    return found.reverse();
  }

  /** Lowest common ancestor. */
  common(i: number, j: number): number {
    let above = i;
    while (!this.isAncestor(above, j)) above = this.parent[above]!;
    return above;
  }

  slotOf(row: number): number {
    let low = this.first[this.parent[row]!]!;
    let high = this.first[this.parent[row]! + 1]! - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (this.child[mid]! <= row) low = mid;
      else high = mid - 1;
    }
    return low;
  }

  /** Angle of the rim, seen from row u, where a slot's arc begins; of the slot after the last: ends. */
  bound(u: number, slot: number): number {
    const half = this.opening[u]!;
    const share = slot === this.first[u + 1]! ? 1 : this.sum[slot]! / this.total[u]!;
    return half * (2 * share - 1);
  }

  /** Direction and half arc of a child, seen from its parent. */
  arc(row: number): { direction: number; half: number } {
    const u = this.parent[row]!;
    const slot = this.slotOf(row);
    const from = this.bound(u, slot);
    const to = this.bound(u, slot + 1);
    return { direction: (from + to) / 2, half: ((to - from) / 2) * FILL };
  }

  /** Distance of a child from its parent: so far that its clade spans twice `OPENING`, or more. */
  length(row: number, half: number): number {
    const opening = this.isLeaf(row) ? LEAF_OPENING : OPENING;
    return Math.max(LEAST, Math.log(Math.tan(opening / 2) / Math.tan(half / 2)));
  }

  /** The frame of a row, seen from its parent's. */
  frame(row: number): Mobius {
    const { direction, half } = this.arc(row);
    return step(direction, this.length(row, half));
  }
}
