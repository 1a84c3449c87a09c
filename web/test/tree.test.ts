import assert from "node:assert/strict";
import { test } from "node:test";
import { compose, depthOf, origin, type Point } from "../src/mobius";
import { build, hit } from "../src/scene";
import { Tree } from "../src/tree";
import { View } from "../src/view";

/** Levels up for each row, of depths in preorder. */
const treeOf = (depths: number[]): Tree =>
  new Tree(depths.map((depth, i) => (i === 0 ? 0 : depths[i - 1]! + 1 - depth)));
const SMALL = treeOf([0, 1, 2, 2, 1, 1, 2, 3, 3, 3]);
const chain = (n: number): Tree => treeOf(Array.from({ length: n }, (_, i) => i));
const star = (n: number): Tree => treeOf([0, ...new Array<number>(n).fill(1)]);
/** A spine in which every node has a leaf beside it. */
const comb = (n: number): Tree =>
  treeOf(Array.from({ length: 2 * n + 1 }, (_, i) => (i === 0 ? 0 : Math.ceil(i / 2) + 0)));

test("arrays of a tree", () => {
  assert.deepEqual([...SMALL.parent], [-1, 0, 1, 1, 0, 0, 5, 6, 6, 6]);
  assert.deepEqual([...SMALL.end], [10, 4, 3, 4, 5, 10, 10, 8, 9, 10]);
  assert.deepEqual([...SMALL.leaves], [6, 2, 1, 1, 1, 3, 3, 1, 1, 1]);
  assert.deepEqual([...SMALL.child.subarray(SMALL.first[0]!, SMALL.first[1]!)], [1, 4, 5]);
  assert.deepEqual(SMALL.lineage(8), [0, 5, 6, 8]);
  assert.equal(SMALL.common(3, 8), 0);
  assert.equal(SMALL.common(7, 9), 6);
  for (let row = 1; row < 10; row++) assert.equal(SMALL.child[SMALL.slotOf(row)], row);
});

test("arcs of children follow one another and fill their parent's", () => {
  for (const power of [1, 0.5, 0]) {
    SMALL.weigh(power);
    for (let u = 0; u < SMALL.size; u++) {
      const [first, last] = [SMALL.first[u]!, SMALL.first[u + 1]!];
      if (first === last) continue;
      assert.ok(Math.abs(SMALL.bound(u, first) + SMALL.opening[u]!) < 1e-12);
      assert.ok(Math.abs(SMALL.bound(u, last) - SMALL.opening[u]!) < 1e-12);
      for (let slot = first; slot < last; slot++) {
        assert.ok(SMALL.bound(u, slot) < SMALL.bound(u, slot + 1));
      }
    }
  }
  SMALL.weigh(1);
});

test("every leaf is on screen when its parent is near, in order around it", () => {
  const view = new View(SMALL);
  const scene = build(SMALL, view, 400, new Set());
  const angles = scene.dots
    .filter(({ row }) => SMALL.isLeaf(row))
    .sort((a, b) => a.row - b.row)
    .map(({ x, y }) => Math.atan2(y, x));
  assert.equal(angles.length, 6);
  for (let i = 1; i < angles.length; i++) assert.ok(angles[i]! > angles[i - 1]!);
});

test("what is drawn is bounded, and every leaf is in a dot or a wedge", () => {
  for (const tree of [star(100_000), comb(3000), chain(5000)]) {
    const view = new View(tree);
    const scene = build(tree, view, 500, new Set());
    assert.ok(scene.dots.length + scene.wedges.length < 8000);
    let leaves = 0;
    for (const wedge of scene.wedges) {
      for (let row = wedge.from; row < wedge.to; row++) leaves += tree.isLeaf(row) ? 1 : 0;
    }
    for (const { row } of scene.dots) leaves += tree.isLeaf(row) ? 1 : 0;
    assert.equal(leaves, tree.leaves[0]);
  }
});

test("a hundred thousand levels down nothing jitters or collapses", () => {
  const tree = chain(100_000);
  const view = new View(tree);
  view.jump(99_990);
  const scene = build(tree, view, 500, new Set());
  const near = scene.dots.filter(({ x, y }) => Math.hypot(x, y) < 0.9).map(({ row }) => row);
  assert.ok(near.length > 5 && near.includes(99_990));
  // One level higher the same picture, shifted by one: the tree is the same at every level.
  view.jump(50_000);
  const one = build(tree, view, 500, new Set()).dots.find(({ row }) => row === 50_001)!;
  view.jump(50_001);
  const two = build(tree, view, 500, new Set()).dots.find(({ row }) => row === 50_002)!;
  assert.ok(Math.abs(one.x - two.x) < 1e-9 && Math.abs(one.y - two.y) < 1e-9);
});

const positions = (view: View): Map<number, Point> =>
  new Map(build(view.tree, view, 400, new Set()).dots.map((dot) => [dot.row, dot]));

test("drag moves what is under the pointer with it, wherever the anchor goes", () => {
  const view = new View(SMALL);
  const at = positions(view).get(6)!;
  let p: Point = { x: at.x, y: at.y };
  for (const q of [
    { x: 0.3, y: 0.2 },
    { x: -0.5, y: 0.1 },
    { x: 0.1, y: -0.6 },
    { x: 0, y: 0.02 },
  ]) {
    view.drag(p, q);
    const now = positions(view).get(6)!;
    assert.ok(Math.hypot(now.x - q.x, now.y - q.y) < 1e-9);
    p = q;
  }
  assert.equal(view.anchor, 6);
});

test("a route ends with its taxon in the centre, and goes in small steps", () => {
  const tree = comb(200);
  const view = new View(tree);
  view.drag({ x: 0.2, y: 0.1 }, { x: 0, y: 0 });
  for (const goal of [399, 120, 0, 77]) {
    let last: Point | null = null;
    for (const { at } of view.route(goal)) {
      for (const t of [0, 0.5, 1]) {
        at(t);
        const { x, y } = origin(view.frame);
        assert.ok(Number.isFinite(x) && Number.isFinite(y));
        last = { x, y };
      }
    }
    assert.ok(last && depthOf(last) < 1e-6);
    assert.equal(positions(view).has(goal), true);
    const there = positions(view).get(goal)!;
    assert.ok(Math.hypot(there.x, there.y) < 1e-6);
    assert.equal(view.anchor, goal);
  }
});

test("a stretch begins where the one before it ended", () => {
  const view = new View(SMALL);
  view.jump(3);
  view.drag({ x: 0.4, y: 0.3 }, { x: 0.1, y: -0.2 });
  let before: Point | undefined;
  for (const { at } of view.route(8)) {
    at(0);
    const start = positions(view).get(0);
    if (before && start) assert.ok(Math.hypot(before.x - start.x, before.y - start.y) < 1e-6);
    at(1);
    before = positions(view).get(0);
  }
});

test("a collapsed clade is one wedge, and the pointer finds it", () => {
  const view = new View(SMALL);
  const scene = build(SMALL, view, 400, new Set([5]));
  const wedge = scene.wedges.find(({ parent }) => parent === 5)!;
  assert.equal(wedge.from, 6);
  assert.equal(wedge.to, 10);
  assert.ok(!scene.dots.some(({ row }) => row > 5));
  const middle = wedge.angle + wedge.span / 2;
  const p = { x: 0.97 * Math.cos(middle), y: 0.97 * Math.sin(middle) };
  assert.equal(hit(scene, p, 0.001), wedge);
});

test("a frame of a child is what a path of frames gives", () => {
  const view = new View(SMALL);
  const direct = origin(compose(compose(SMALL.frame(5), SMALL.frame(6)), SMALL.frame(8)));
  const drawn = positions(view).get(8)!;
  assert.ok(Math.hypot(direct.x - drawn.x, direct.y - drawn.y) < 1e-12);
});
