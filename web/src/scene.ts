// What is large enough to be seen: taxa, the edges to their parents, and wedges for what is smaller.
// The walk starts at the anchor, goes up until the rest of the tree is below a pixel, and then down.

import { compose, inverse, type Mobius, origin, type Point, rim, span } from "./mobius";
import type { Tree } from "./tree";
import type { View } from "./view";

export interface Dot {
  row: number;
  x: number;
  y: number;
  size: number; // pixels of the rim that its clade spans
}

export interface Edge {
  row: number; // the child
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

/** Adjacent clades of one parent that are too small to be drawn one by one. */
export interface Wedge {
  parent: number;
  from: number; // first row
  to: number; // row after the last
  clades: number;
  x: number;
  y: number;
  angle: number;
  span: number;
}

export interface Scene {
  dots: Dot[];
  edges: Edge[];
  wedges: Wedge[];
}

const MERGED = 2.5; // pixels of the rim below which clades share a wedge
const OPENED = 7; // pixels from which a clade is more than a wedge
const FARTHEST = 1e10; // |a|² of a frame beyond which nothing can be told apart

export function build(
  tree: Tree,
  view: View,
  radius: number,
  collapsed: ReadonlySet<number>,
): Scene {
  const scene: Scene = { dots: [], edges: [], wedges: [] };
  // 1. Up from the anchor, until what lies outside the clade is below a pixel.
  const path = new Map<number, Mobius>([[view.anchor, view.frame]]);
  let top = view.anchor;
  let frame = view.frame;
  while (tree.parent[top]! >= 0) {
    const { direction, half } = tree.arc(top);
    const above = compose(frame, inverse(tree.frame(top)));
    if (!(above.ar * above.ar + above.ai * above.ai < FARTHEST)) break;
    const inside = span(rim(above, direction - half), rim(above, direction + half));
    top = tree.parent[top]!;
    frame = above;
    path.set(top, frame);
    if ((2 * Math.PI - inside) * radius < 1) break;
  }
  // 2. Down, clade by clade.
  const start = origin(frame);
  scene.dots.push({ row: top, ...start, size: 2 * Math.PI * radius });
  const pending: { row: number; frame: Mobius; at: Point }[] = [{ row: top, frame, at: start }];
  while (pending.length > 0) {
    const { row, frame, at } = pending.pop()!;
    const first = tree.first[row]!;
    const last = tree.first[row + 1]!;
    if (first === last) continue;
    const shut = collapsed.has(row) && !(path.has(row) && row !== view.anchor);
    let slot = first;
    let from = rim(frame, tree.bound(row, slot));
    while (slot < last) {
      const child = tree.child[slot]!;
      let next = slot + 1;
      let to = rim(frame, tree.bound(row, next));
      let size = first + 1 === last && row === 0 ? 2 * Math.PI : span(from, to);
      const kept = path.get(child);
      if (!shut && (kept || size * radius >= OPENED)) {
        const below = kept ?? compose(frame, tree.frame(child));
        const there = origin(below);
        scene.edges.push({ row: child, x0: at.x, y0: at.y, x1: there.x, y1: there.y });
        scene.dots.push({ row: child, ...there, size: size * radius });
        pending.push({ row: child, frame: below, at: there });
      } else {
        // Adjacent clades that together are still small; all of a clade that is shut.
        if (shut || size * radius < MERGED) {
          next = shut ? last : reach(tree, frame, row, slot, last, from, MERGED / radius, path);
          to = rim(frame, tree.bound(row, next));
          size = shut && row === 0 ? 2 * Math.PI : span(from, to);
        }
        scene.wedges.push({
          parent: row,
          from: child,
          to: next < last ? tree.child[next]! : tree.end[row]!,
          clades: next - slot,
          x: at.x,
          y: at.y,
          angle: from,
          span: size,
        });
      }
      slot = next;
      from = to;
    }
  }
  return scene;
}

/** The slot up to which clades together span less than an arc, by doubling and bisection. */
function reach(
  tree: Tree,
  frame: Mobius,
  row: number,
  slot: number,
  last: number,
  from: number,
  enough: number,
  path: ReadonlyMap<number, Mobius>,
): number {
  const spanTo = (end: number) => span(from, rim(frame, tree.bound(row, end)));
  let limit = last;
  for (const on of path.keys()) {
    if (tree.parent[on] === row) {
      const at = tree.slotOf(on);
      if (at > slot) limit = Math.min(limit, at);
    }
  }
  let stride = 1;
  while (slot + stride < limit && spanTo(slot + stride) < enough) stride *= 2;
  let low = slot + (stride >> 1); // not enough
  let high = Math.min(limit, slot + stride); // enough, or the limit
  while (low + 1 < high) {
    const mid = (low + high) >> 1;
    if (spanTo(mid) < enough) low = mid;
    else high = mid;
  }
  return Math.max(low, slot + 1);
}

/** What lies at a point of the screen: a taxon within `reach`, else the wedge there. */
export function hit(scene: Scene, p: Point, reach: number): Dot | Wedge | null {
  let best: Dot | null = null;
  let least = reach;
  for (const dot of scene.dots) {
    const away = Math.hypot(dot.x - p.x, dot.y - p.y);
    if (away < least) {
      least = away;
      best = dot;
    }
  }
  if (best) return best;
  for (const wedge of scene.wedges) {
    if (inWedge(wedge, p)) return wedge;
  }
  return null;
}

function inWedge(wedge: Wedge, p: Point): boolean {
  if (Math.hypot(p.x, p.y) > 1.02) return false;
  // Between the two lines from the apex to the rim, seen from the apex.
  const a = wedge.angle;
  const b = wedge.angle + wedge.span;
  const px = p.x - wedge.x;
  const py = p.y - wedge.y;
  const side = (angle: number) =>
    (Math.cos(angle) - wedge.x) * py - (Math.sin(angle) - wedge.y) * px;
  return wedge.span > Math.PI ? side(a) >= 0 || side(b) <= 0 : side(a) >= 0 && side(b) <= 0;
}
