// The shapes of a picture as triangles, which is what WebGL draws. Numbers alone: `webgl.ts` shows them.

import type { Shapes } from "./paint";

export const FLOATS = 4; // of a vertex: x, y, the shape's number, and four bytes of colour
const ERROR = 0.1; // dots of the screen by which a polygon may leave its arc
const NEAREST = 0.05; // dots of the screen below which two points of a line are one

/** Takes areas and lines. An area has to be star-shaped as seen from the first point of its path. */
export class Triangles implements Shapes {
  fillStyle: string | CanvasGradient | CanvasPattern = "#000000";
  strokeStyle: string | CanvasGradient | CanvasPattern = "#000000";
  lineWidth = 1;
  globalAlpha = 1;
  lineCap: CanvasLineCap = "round"; // every line has round ends
  shapes = 0; // filled or stroked so far
  private used = 0; // floats
  private floats = new Float32Array(1 << 16);
  private words = new Uint32Array(this.floats.buffer);
  private lines: number[][] = []; // of the path: x and y of point after point
  private color = 0;

  /** `density`: dots of the screen in a pixel. */
  constructor(readonly density: number) {}

  get vertices(): Float32Array {
    return this.floats.subarray(0, this.used);
  }

  /** Forget all shapes, and keep the memory. */
  clear(): void {
    this.shapes = 0;
    this.used = 0;
  }

  beginPath(): void {
    this.lines = [];
  }

  moveTo(x: number, y: number): void {
    this.lines.push([x, y]);
  }

  lineTo(x: number, y: number): void {
    this.lines[this.lines.length - 1]!.push(x, y);
  }

  arc(x: number, y: number, r: number, from: number, to: number): void {
    if (this.lines.length === 0) this.lines.push([]);
    const line = this.lines[this.lines.length - 1]!;
    const steps = this.steps(r, to - from);
    for (let i = 0; i <= steps; i++) {
      const angle = from + ((to - from) * i) / steps;
      line.push(x + r * Math.cos(angle), y + r * Math.sin(angle));
    }
  }

  closePath(): void {} // areas are closed, and no closed line is drawn but whole circles

  fillRect(x: number, y: number, width: number, height: number): void {
    this.begin(this.fillStyle, this.globalAlpha);
    this.fan([x, y, x + width, y, x + width, y + height, x, y + height]);
  }

  fill(): void {
    this.begin(this.fillStyle, this.globalAlpha);
    for (const line of this.lines) this.fan(line);
  }

  stroke(): void {
    // A line thinner than a dot of the screen would have gaps: it is as wide as a dot, and fainter.
    const width = Math.max(this.lineWidth, 1 / this.density);
    this.begin(this.strokeStyle, (this.globalAlpha * this.lineWidth) / width);
    for (const line of this.lines) this.band(line, width / 2);
  }

  /** Chords of an arc, so many that none leaves it visibly. */
  private steps(r: number, turn: number): number {
    const largest = 2 * Math.acos(Math.max(0, 1 - ERROR / (r * this.density)));
    return Math.max(1, Math.ceil(Math.abs(turn) / largest));
  }

  /** The next triangles are one shape of one colour, such as "#ff9000". */
  private begin(style: string | CanvasGradient | CanvasPattern, alpha: number): void {
    const rgb = Number.parseInt((style as string).slice(1), 16);
    const swapped = ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16); // bytes r, g, b, alpha
    this.color = (swapped | (Math.round(255 * alpha) << 24)) >>> 0;
    this.shapes++;
  }

  private triangle(ax: number, ay: number, bx: number, by: number, cx: number, cy: number): void {
    if (this.used + 3 * FLOATS > this.floats.length) {
      const larger = new Float32Array(2 * this.floats.length);
      larger.set(this.floats);
      this.floats = larger;
      this.words = new Uint32Array(larger.buffer);
    }
    this.vertex(ax, ay);
    this.vertex(bx, by);
    this.vertex(cx, cy);
  }

  private vertex(x: number, y: number): void {
    const { floats, used } = this;
    floats[used] = x;
    floats[used + 1] = y;
    floats[used + 2] = this.shapes;
    this.words[used + 3] = this.color;
    this.used += FLOATS;
  }

  private fan(p: number[]): void {
    for (let i = 4; i < p.length; i += 2)
      this.triangle(p[0]!, p[1]!, p[i - 2]!, p[i - 1]!, p[i]!, p[i + 1]!);
  }

  /** A line with a width. */
  private band(line: number[], half: number): void {
    // 1. Points that differ.
    const p = line.slice(0, 2);
    for (let i = 2; i < line.length; i += 2) {
      const way = Math.hypot(line[i]! - p[p.length - 2]!, line[i + 1]! - p[p.length - 1]!);
      if (way * this.density > NEAREST) p.push(line[i]!, line[i + 1]!);
    }
    // 2. Each stretch is a rectangle; those of an arc, which hardly turn, have common corners.
    const normals: number[] = [];
    for (let i = 2; i < p.length; i += 2) {
      const [dx, dy] = [p[i]! - p[i - 2]!, p[i + 1]! - p[i - 1]!];
      const scale = half / Math.hypot(dx, dy);
      normals.push(-dy * scale, dx * scale);
    }
    const corner = (i: number, own: number): [number, number] => {
      const [ax, ay] = [normals[i - 2] ?? normals[own]!, normals[i - 1] ?? normals[own + 1]!];
      const [bx, by] = [normals[i] ?? normals[own]!, normals[i + 1] ?? normals[own + 1]!];
      const share = (half * half) / (half * half + ax * bx + ay * by);
      const turns = !(share > 0 && share < 1);
      return turns ? [normals[own]!, normals[own + 1]!] : [(ax + bx) * share, (ay + by) * share];
    };
    for (let i = 0; i < normals.length; i += 2) {
      const [x0, y0, x1, y1] = [p[i]!, p[i + 1]!, p[i + 2]!, p[i + 3]!];
      const [ax, ay] = corner(i, i);
      const [bx, by] = corner(i + 2, i);
      this.triangle(x0 + ax, y0 + ay, x0 - ax, y0 - ay, x1 + bx, y1 + by);
      this.triangle(x0 - ax, y0 - ay, x1 - bx, y1 - by, x1 + bx, y1 + by);
    }
    // 3. Round ends.
    const n = normals.length;
    if (n === 0) return;
    this.cap(p[0]!, p[1]!, normals[0]!, normals[1]!);
    this.cap(p[n]!, p[n + 1]!, -normals[n - 2]!, -normals[n - 1]!);
  }

  /** Half a circle, from a radius of it on. */
  private cap(x: number, y: number, rx: number, ry: number): void {
    const steps = this.steps(Math.hypot(rx, ry), Math.PI);
    let [ax, ay] = [rx, ry];
    for (let i = 1; i <= steps; i++) {
      const [c, s] = [Math.cos((Math.PI * i) / steps), Math.sin((Math.PI * i) / steps)];
      const [bx, by] = [rx * c - ry * s, rx * s + ry * c];
      this.triangle(x, y, x + ax, y + ay, x + bx, y + by);
      [ax, ay] = [bx, by];
    }
  }
}
