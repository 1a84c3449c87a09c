// Isometries of the Poincaré disk: z ↦ (a z + b) / (b̄ z + ā) with |a|² − |b|² = 1, the group SU(1,1).
// They are kept relative to the view, where what is visible has small a and b; a far taxon's own
// distance from the root never enters, so that nothing is lost at any depth.

export interface Mobius {
  ar: number;
  ai: number;
  br: number;
  bi: number;
}

export interface Point {
  x: number;
  y: number;
}

export const IDENTITY: Mobius = { ar: 1, ai: 0, br: 0, bi: 0 };

/** m after n. */
export function compose(m: Mobius, n: Mobius): Mobius {
  return {
    ar: m.ar * n.ar - m.ai * n.ai + m.br * n.br + m.bi * n.bi,
    ai: m.ar * n.ai + m.ai * n.ar + m.bi * n.br - m.br * n.bi,
    br: m.ar * n.br - m.ai * n.bi + m.br * n.ar + m.bi * n.ai,
    bi: m.ar * n.bi + m.ai * n.br + m.bi * n.ar - m.br * n.ai,
  };
}

export function inverse(m: Mobius): Mobius {
  return { ar: m.ar, ai: -m.ai, br: -m.br, bi: -m.bi };
}

/** The same isometry with rounding errors of many products removed; for small a and b only. */
export function normalized(m: Mobius): Mobius {
  const scale = 1 / Math.sqrt(m.ar * m.ar + m.ai * m.ai - m.br * m.br - m.bi * m.bi);
  return { ar: m.ar * scale, ai: m.ai * scale, br: m.br * scale, bi: m.bi * scale };
}

export function rotation(angle: number): Mobius {
  return { ar: Math.cos(angle / 2), ai: Math.sin(angle / 2), br: 0, bi: 0 };
}

/** Go a distance in a direction: the frame of a child, seen from its parent. */
export function step(direction: number, distance: number): Mobius {
  const c = Math.cos(direction / 2);
  const s = Math.sin(direction / 2);
  const cosh = Math.cosh(distance / 2);
  const sinh = Math.sinh(distance / 2);
  return { ar: c * cosh, ai: s * cosh, br: c * sinh, bi: s * sinh };
}

export function apply(m: Mobius, p: Point): Point {
  const nr = m.ar * p.x - m.ai * p.y + m.br;
  const ni = m.ar * p.y + m.ai * p.x + m.bi;
  const dr = m.br * p.x + m.bi * p.y + m.ar;
  const di = m.br * p.y - m.bi * p.x - m.ai;
  const size = dr * dr + di * di;
  return { x: (nr * dr + ni * di) / size, y: (ni * dr - nr * di) / size };
}

/** Image of the origin, b / ā. */
export function origin(m: Mobius): Point {
  const size = m.ar * m.ar + m.ai * m.ai;
  return { x: (m.br * m.ar - m.bi * m.ai) / size, y: (m.bi * m.ar + m.br * m.ai) / size };
}

/** Angle of the image of the rim's point at an angle: arg(a w + b) − arg(conj(a w + b) w). */
export function rim(m: Mobius, angle: number): number {
  const c = Math.cos(angle);
  const s = Math.sin(angle);
  const image = Math.atan2(m.ar * s + m.ai * c + m.bi, m.ar * c - m.ai * s + m.br);
  return 2 * image - angle;
}

/** Anticlockwise way from one angle to another, in [0, 2π). */
export function span(from: number, to: number): number {
  const turn = 2 * Math.PI;
  const way = (to - from) % turn;
  return way < 0 ? way + turn : way;
}

/** The translation of the origin to a point, along the line between them. */
export function translation(p: Point): Mobius {
  const a = 1 / Math.sqrt(Math.max(1e-300, 1 - p.x * p.x - p.y * p.y));
  return { ar: a, ai: 0, br: p.x * a, bi: p.y * a };
}

function reflection(p: Point): Mobius {
  const there = translation(p);
  return compose(compose(there, { ar: 0, ai: 1, br: 0, bi: 0 }), inverse(there));
}

/** Middle of two points. */
export function middle(p: Point, q: Point): Point {
  const there = translation(p);
  const far = apply(inverse(there), q);
  const half = 1 / (1 + Math.sqrt(Math.max(0, 1 - far.x * far.x - far.y * far.y)));
  return apply(there, { x: far.x * half, y: far.y * half });
}

/** The translation along the line from p to q that carries p to q: two point reflections. */
export function carry(p: Point, q: Point): Mobius {
  return compose(reflection(middle(p, q)), reflection(p));
}

/** Distance from the centre of the disk. */
export function depthOf(p: Point): number {
  return 2 * Math.atanh(Math.min(1 - 1e-16, Math.hypot(p.x, p.y)));
}
