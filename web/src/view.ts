// Where the viewer is: a taxon nearby, the anchor, and the isometry from its frame to the disk on screen.

import {
  apply,
  carry,
  compose,
  depthOf,
  IDENTITY,
  inverse,
  type Mobius,
  normalized,
  origin,
  type Point,
  rotation,
  step,
  translation,
} from "./mobius";
import type { Tree } from "./tree";

const CENTRE: Point = { x: 0, y: 0 };
const FARTHEST = 0.9995; // of a pointer: the rim itself is at infinity

function inside(p: Point): Point {
  const r = Math.hypot(p.x, p.y);
  return r <= FARTHEST ? p : { x: (p.x * FARTHEST) / r, y: (p.y * FARTHEST) / r };
}

export class View {
  anchor = 0;
  frame: Mobius = IDENTITY;

  constructor(readonly tree: Tree) {}

  /** Put a taxon in the centre, its clade to the right. */
  jump(row: number): void {
    this.anchor = row;
    this.frame = IDENTITY;
  }

  /** Move the point p of the screen to q; everything else follows rigidly. */
  drag(p: Point, q: Point): void {
    this.frame = normalized(compose(carry(inside(p), inside(q)), this.frame));
    this.settle();
  }

  /** Bring what is under a point nearer to the centre by a distance (or farther, if negative). */
  approach(p: Point, distance: number): void {
    const at = inside(p);
    const r = Math.hypot(at.x, at.y);
    if (r < 1e-9) return;
    const to = Math.tanh(Math.max(0, depthOf(at) - distance) / 2) / r;
    this.drag(at, { x: at.x * to, y: at.y * to });
  }

  /** Go back towards the root by a distance. */
  retreat(distance: number): void {
    let left = distance;
    while (left > 1e-9) {
      const here = origin(this.frame);
      const above = this.tree.parent[this.anchor]!;
      const target = above < 0 ? here : origin(this.parentFrame());
      const way = Math.min(left, depthOf(target), 1);
      if (way < 1e-9) return;
      this.approach(target, way);
      left -= way;
    }
  }

  turn(angle: number): void {
    this.frame = compose(rotation(angle), this.frame);
  }

  /** Frame of the anchor's parent. */
  parentFrame(): Mobius {
    return compose(this.frame, inverse(this.tree.frame(this.anchor)));
  }

  /** Anchor at the taxon nearest to the centre among those on the way down to what lies there. */
  private settle(): void {
    for (let moves = 0; moves < 10_000; moves++) {
      const here = depthOf(origin(this.frame));
      if (this.tree.parent[this.anchor]! >= 0) {
        const above = this.parentFrame();
        if (depthOf(origin(above)) < here) {
          this.frame = normalized(above);
          this.anchor = this.tree.parent[this.anchor]!;
          continue;
        }
      }
      const below = this.childTowards();
      if (below < 0) return;
      const frame = compose(this.frame, this.tree.frame(below));
      if (depthOf(origin(frame)) >= here) return;
      this.frame = normalized(frame);
      this.anchor = below;
    }
  }

  /** The child of the anchor in whose arc the centre lies; -1 if there is none. */
  private childTowards(): number {
    const { tree, anchor } = this;
    if (tree.isLeaf(anchor)) return -1;
    const p = apply(inverse(this.frame), CENTRE);
    const angle = Math.atan2(p.y, p.x);
    let low = tree.first[anchor]!;
    let high = tree.first[anchor + 1]! - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (tree.bound(anchor, mid) <= angle) low = mid;
      else high = mid - 1;
    }
    return tree.child[low]!;
  }

  /** Functions of t in [0, 1], one for each stretch of the way through the tree to a taxon. */
  route(row: number): { distance: number; at: (t: number) => void }[] {
    const { tree } = this;
    const stretches: { distance: number; at: (t: number) => void }[] = [];
    const start = this.frame;
    const from = this.anchor;
    const here = origin(start);
    // 1. Bring the anchor to the centre. What remains is a rotation.
    const far = depthOf(here);
    const r = Math.hypot(here.x, here.y);
    stretches.push({
      distance: far,
      at: (t) => {
        const to = r > 0 ? Math.tanh((far * (1 - t)) / 2) / r : 0;
        const there = { x: here.x * to, y: here.y * to };
        this.anchor = from;
        this.frame = normalized(compose(carry(here, there), start));
      },
    });
    const home = normalized(compose(inverse(translation(here)), start));
    let turned = 2 * Math.atan2(home.ai, home.ar);
    // 2. Up to the lowest common ancestor: each edge backwards.
    const top = tree.common(from, row);
    for (let at = from; at !== top; at = tree.parent[at]!) {
      const { direction, half } = tree.arc(at);
      const length = tree.length(at, half);
      const turn = turned;
      const there = turn - direction;
      stretches.push({
        distance: length,
        at: (t) => {
          this.anchor = t < 1 ? at : tree.parent[at]!;
          this.frame = t < 1 ? compose(rotation(turn), step(0, length * t)) : rotation(there);
        },
      });
      turned = there;
    }
    // 3. Down: each edge forwards.
    for (const at of tree.lineage(row).filter((u) => u > top && tree.isAncestor(top, u))) {
      const { direction, half } = tree.arc(at);
      const length = tree.length(at, half);
      turned += direction;
      const turn = turned;
      stretches.push({
        distance: length,
        at: (t) => {
          this.anchor = at;
          this.frame = compose(rotation(turn), step(0, length * (1 - t)));
        },
      });
    }
    return stretches;
  }
}
