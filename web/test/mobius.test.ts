import assert from "node:assert/strict";
import { test } from "node:test";
import {
  apply,
  carry,
  compose,
  depthOf,
  inverse,
  middle,
  origin,
  rim,
  span,
  step,
} from "../src/mobius";

// Deterministic numbers in [0, 1).
let state = 12345;
const random = (): number => {
  state = (state * 1103515245 + 12345) % 2147483648;
  return state / 2147483648;
};
const point = (most = 0.95) => {
  const r = most * Math.sqrt(random());
  const angle = 2 * Math.PI * random();
  return { x: r * Math.cos(angle), y: r * Math.sin(angle) };
};
const distance = (p: { x: number; y: number }, q: { x: number; y: number }): number => {
  const apart = (p.x - q.x) ** 2 + (p.y - q.y) ** 2;
  const rims = (1 - p.x * p.x - p.y * p.y) * (1 - q.x * q.x - q.y * q.y);
  return Math.acosh(1 + (2 * apart) / rims);
};
const close = (a: number, b: number, tolerance = 1e-9) =>
  assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);

test("carry takes p to q and keeps distances", () => {
  for (let i = 0; i < 200; i++) {
    const [p, q, u, v] = [point(), point(), point(), point()];
    const m = carry(p, q);
    const image = apply(m, p);
    close(image.x, q.x);
    close(image.y, q.y);
    close(distance(apply(m, u), apply(m, v)), distance(u, v), 1e-7);
  }
});

test("an inverse undoes, and a composition is one after the other", () => {
  for (let i = 0; i < 200; i++) {
    const m = compose(step(6 * random(), 3 * random()), carry(point(), point()));
    const p = point();
    const back = apply(inverse(m), apply(m, p));
    close(back.x, p.x, 1e-8);
    close(back.y, p.y, 1e-8);
    const n = step(6 * random(), 2 * random());
    const [one, two] = [apply(compose(m, n), p), apply(m, apply(n, p))];
    close(one.x, two.x, 1e-8);
    close(one.y, two.y, 1e-8);
  }
});

test("a step goes its distance in its direction", () => {
  const p = origin(step(0.7, 2.5));
  close(depthOf(p), 2.5, 1e-12);
  close(Math.atan2(p.y, p.x), 0.7, 1e-12);
});

test("the middle is as far from both ends, on the way", () => {
  for (let i = 0; i < 200; i++) {
    const [p, q] = [point(), point()];
    const m = middle(p, q);
    close(distance(p, m), distance(p, q) / 2, 1e-6);
    close(distance(q, m), distance(p, q) / 2, 1e-6);
  }
});

test("the rim goes where points near it go", () => {
  for (let i = 0; i < 200; i++) {
    const m = carry(point(0.8), point(0.8));
    const angle = 2 * Math.PI * random();
    const p = apply(m, { x: (1 - 1e-9) * Math.cos(angle), y: (1 - 1e-9) * Math.sin(angle) });
    const away = span(rim(m, angle), Math.atan2(p.y, p.x));
    close(Math.min(away, 2 * Math.PI - away), 0, 1e-6);
  }
});
