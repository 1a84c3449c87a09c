// A picture of a scene: shapes and letters, for a canvas or for what takes the same calls: `Triangles`
// has shapes for WebGL, `SvgSurface` writes both as SVG.

import type { Dot, Edge, Scene, Wedge } from "./scene";
import type { Tree } from "./tree";

export type Shapes = Pick<
  CanvasRenderingContext2D,
  | "fillStyle"
  | "strokeStyle"
  | "lineWidth"
  | "globalAlpha"
  | "lineCap"
  | "beginPath"
  | "moveTo"
  | "lineTo"
  | "arc"
  | "closePath"
  | "fill"
  | "stroke"
  | "fillRect"
>;

export type Letters = Pick<
  CanvasRenderingContext2D,
  | "fillStyle"
  | "strokeStyle"
  | "lineWidth"
  | "globalAlpha"
  | "font"
  | "textAlign"
  | "textBaseline"
  | "lineJoin"
  | "fillText"
  | "strokeText"
  | "measureText"
>;

export interface Theme {
  page: string;
  disk: string;
  rim: string;
  text: string;
  faint: string;
  accent: string;
}

export interface Look {
  width: number;
  height: number;
  cx: number;
  cy: number;
  radius: number;
  theme: Theme;
  tree: Tree;
  color: (row: number) => string;
  label: (row: number) => string;
  italic: (row: number) => boolean;
  highlighted: (from: number, to: number) => number; // how many of the rows are in the reader's list
  anyHighlight: boolean;
  selected: number;
  covered: Box; // by the legend: no name is written there
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const DIM = 0.22; // of what is not on the way to a highlighted taxon

/** Draw both on one surface. */
export function paint(surface: Shapes & Letters, scene: Scene, look: Look): void {
  paintShapes(surface, scene, look);
  paintLabels(surface, scene, look);
}

/** All but the names: areas, lines and dots. */
export function paintShapes(surface: Shapes, scene: Scene, look: Look): void {
  const { cx, cy, radius, theme } = look;
  surface.globalAlpha = 1;
  surface.fillStyle = theme.page;
  surface.fillRect(0, 0, look.width, look.height);
  surface.beginPath();
  surface.arc(cx, cy, radius, 0, 2 * Math.PI);
  surface.fillStyle = theme.disk;
  surface.fill();
  wedges(surface, scene.wedges, look);
  edges(surface, scene.edges, look);
  dots(surface, scene.dots, look);
  surface.globalAlpha = 1;
  surface.beginPath();
  surface.arc(cx, cy, radius, 0, 2 * Math.PI);
  surface.strokeStyle = theme.rim;
  surface.lineWidth = 1;
  surface.stroke();
}

/** Things with the same key together, so that the surface changes its colour rarely. */
function grouped<T>(items: T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const at = key(item);
    const group = groups.get(at);
    if (group) group.push(item);
    else groups.set(at, [item]);
  }
  return groups;
}

function wedges(surface: Shapes, all: Wedge[], look: Look): void {
  const { cx, cy, radius } = look;
  const key = (wedge: Wedge) => {
    const marked = look.highlighted(wedge.from, wedge.to) > 0;
    const middle = look.tree.child[look.tree.slotOf(wedge.from) + (wedge.clades >> 1)]!;
    const alpha = look.anyHighlight && !marked ? 0.12 : 0.5;
    return `${marked && look.anyHighlight ? look.theme.accent : look.color(middle)} ${alpha}`;
  };
  for (const [group, items] of grouped(all, key)) {
    const [color, alpha] = group.split(" ");
    surface.fillStyle = color!;
    surface.globalAlpha = Number(alpha);
    surface.beginPath();
    // Neighbours are one area: a browser fills it much faster than hundreds of slivers.
    for (let i = 0; i < items.length; ) {
      const wedge = items[i]!;
      let end = wedge.angle + wedge.span;
      let last = wedge;
      for (i++; i < items.length; i++) {
        const next = items[i]!;
        if (next.parent !== wedge.parent || next.from !== last.to) break;
        last = next;
        end += next.span;
      }
      surface.moveTo(cx + radius * wedge.x, cy + radius * wedge.y);
      surface.arc(cx, cy, radius, wedge.angle, end);
      surface.closePath();
    }
    surface.fill();
  }
}

function edges(surface: Shapes, all: Edge[], look: Look): void {
  const { cx, cy, radius, tree } = look;
  surface.lineCap = "round";
  const key = (edge: Edge) => {
    const marked = look.highlighted(edge.row, tree.end[edge.row]!) > 0;
    const xm = (edge.x0 + edge.x1) / 2;
    const ym = (edge.y0 + edge.y1) / 2;
    const near = 1 - Math.min(1, xm * xm + ym * ym);
    const width = Math.max(0.5, (0.8 + 0.55 * Math.log10(tree.leaves[edge.row]!)) * (0.25 + near));
    const extra = marked && look.anyHighlight ? 1.2 : 0;
    const alpha = look.anyHighlight && !marked ? DIM : 0.9;
    const color = marked && look.anyHighlight ? look.theme.accent : look.color(edge.row);
    return `${color} ${(Math.round(4 * width) / 4 + extra).toFixed(2)} ${alpha}`;
  };
  for (const [group, items] of grouped(all, key)) {
    const [color, width, alpha] = group.split(" ");
    surface.strokeStyle = color!;
    surface.lineWidth = Number(width);
    surface.globalAlpha = Number(alpha);
    surface.beginPath();
    for (const edge of items) {
      surface.moveTo(cx + radius * edge.x0, cy + radius * edge.y0);
      const bend = bendOf(edge, 1 / radius);
      if (bend) {
        const { x, y, r, from, to } = bend;
        surface.arc(cx + radius * x, cy + radius * y, radius * r, from, to, to < from);
      }
      surface.lineTo(cx + radius * edge.x1, cy + radius * edge.y1);
    }
    surface.stroke();
  }
}

/** The circle through both ends that is perpendicular to the rim; null where a line is as good. */
export function bendOf(
  { x0, y0, x1, y1 }: Edge,
  pixel: number,
): { x: number; y: number; r: number; from: number; to: number } | null {
  const chord = Math.hypot(x1 - x0, y1 - y0);
  const cross = x0 * y1 - y0 * x1;
  if (chord < 4 * pixel || Math.abs(cross) < 1e-9) return null;
  const p = (1 + x0 * x0 + y0 * y0) / 2;
  const q = (1 + x1 * x1 + y1 * y1) / 2;
  const x = (p * y1 - q * y0) / cross;
  const y = (q * x0 - p * x1) / cross;
  const r = Math.sqrt(Math.max(0, x * x + y * y - 1));
  if (chord * chord < 4 * r * pixel) return null; // the arc leaves its chord by half a pixel
  const from = Math.atan2(y0 - y, x0 - x);
  const way = Math.atan2(y1 - y, x1 - x) - from;
  return { x, y, r, from, to: from + way - 2 * Math.PI * Math.round(way / (2 * Math.PI)) };
}

/** Radius of a dot in pixels: larger near the centre, and for larger clades. */
export function dotRadius(dot: Dot, tree: Tree): number {
  const near = 1 - Math.min(1, dot.x * dot.x + dot.y * dot.y);
  return Math.max(0.9, (2.2 + 0.7 * Math.log10(tree.leaves[dot.row]!)) * (0.3 + 0.9 * near));
}

function dots(surface: Shapes, all: Dot[], look: Look): void {
  const { cx, cy, radius, tree } = look;
  const key = (dot: Dot) => {
    const own = look.anyHighlight && look.highlighted(dot.row, dot.row + 1) > 0;
    const below = look.highlighted(dot.row, tree.end[dot.row]!) > 0;
    const alpha = look.anyHighlight && !below ? DIM : 1;
    return `${own ? look.theme.accent : look.color(dot.row)} ${alpha} ${own ? 2.2 : 0}`;
  };
  for (const [group, items] of grouped(all, key)) {
    const [color, alpha, extra] = group.split(" ");
    surface.fillStyle = color!;
    surface.globalAlpha = Number(alpha);
    surface.beginPath();
    for (const dot of items) {
      const x = cx + radius * dot.x;
      const y = cy + radius * dot.y;
      const r = dotRadius(dot, tree) + Number(extra);
      surface.moveTo(x + r, y);
      surface.arc(x, y, r, 0, 2 * Math.PI);
    }
    surface.fill();
  }
  const chosen = all.find((dot) => dot.row === look.selected);
  if (chosen) {
    surface.globalAlpha = 1;
    surface.strokeStyle = look.theme.text;
    surface.lineWidth = 1.5;
    surface.beginPath();
    const r = dotRadius(chosen, tree) + 3;
    surface.arc(cx + radius * chosen.x, cy + radius * chosen.y, r, 0, 2 * Math.PI);
    surface.stroke();
  }
}

interface Label {
  text: string;
  x: number;
  y: number;
  size: number;
  italic: boolean;
  strong: boolean;
  align: "left" | "right" | "center";
  priority: number;
  dot?: { x: number; y: number; gap: number }; // inside the disk, a name may stand on any side of it
}

export interface Box {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

type Place = Pick<Label, "x" | "y" | "align">;

/** Where a name may stand, the best place first. */
function places(label: Label): Place[] {
  const { dot, size } = label;
  if (!dot) return [label];
  const { x, y, gap } = dot;
  return [
    label,
    { x, y: y + gap + size / 2, align: "center" },
    { x: x + gap, y, align: "left" },
    { x: x - gap, y, align: "right" },
  ];
}

function boxOf({ x, y, align }: Place, width: number, size: number): Box {
  const x0 = x - (align === "center" ? width / 2 : align === "right" ? width : 0);
  return { x0: x0 - 3, x1: x0 + width + 3, y0: y - size / 2 - 2, y1: y + size / 2 + 2 };
}

function overlap(a: Box, b: Box): boolean {
  return a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
}

/** Whether a name would cover the dot of another taxon. */
function inTheWay(
  box: Box,
  obstacles: { x: number; y: number; r: number }[],
  { strong }: Label,
): boolean {
  return (
    !strong &&
    obstacles.some(({ x, y, r }) => overlap(box, { x0: x - r, x1: x + r, y0: y - r, y1: y + r }))
  );
}

/** Names of what is largest on screen, as many as fit without one upon another. */
export function paintLabels(surface: Letters, scene: Scene, look: Look): void {
  const { cx, cy, radius, tree, theme } = look;
  const wanted: Label[] = [];
  for (const dot of scene.dots) {
    const chosen = dot.row === look.selected;
    const marked = look.anyHighlight && look.highlighted(dot.row, dot.row + 1) > 0;
    const r = Math.hypot(dot.x, dot.y);
    if (dot.size < 10 && !chosen && !marked) continue;
    if (r > 0.9995 && !chosen && !marked && dot.size < 14) continue;
    const priority = dot.size * (1.2 - r * r) + (chosen ? 1e6 : 0) + (marked ? 1e4 : 0);
    const size = chosen ? 15 : Math.min(15, Math.max(11, 9 + Math.log2(1 + dot.size / 12)));
    const text = look.label(dot.row);
    const common = { text, size, italic: look.italic(dot.row), strong: chosen, priority };
    if (r > 0.86) {
      const reach = Math.max(1.012, r + (dotRadius(dot, tree) + 4) / radius);
      wanted.push({
        ...common,
        x: cx + (radius * reach * dot.x) / r,
        y: cy + (radius * reach * dot.y) / r,
        align: dot.x < -0.25 ? "right" : dot.x > 0.25 ? "left" : "center",
      });
    } else {
      const [x, y] = [cx + radius * dot.x, cy + radius * dot.y];
      const gap = dotRadius(dot, tree) + 4;
      wanted.push({ ...common, x, y: y - gap - size / 2, align: "center", dot: { x, y, gap } });
    }
  }
  for (const wedge of scene.wedges) {
    const pixels = wedge.span * radius;
    if (pixels < 16) continue;
    const angle = wedge.angle + wedge.span / 2;
    const taxa = wedge.to - wedge.from;
    const text =
      wedge.clades === 1
        ? `${look.label(wedge.from)} ${taxa.toLocaleString("en")}`
        : `${taxa.toLocaleString("en")} taxa`;
    wanted.push({
      text,
      x: cx + radius * 1.015 * Math.cos(angle),
      y: cy + radius * 1.015 * Math.sin(angle),
      size: 11,
      italic: false,
      strong: false,
      align: Math.cos(angle) < -0.25 ? "right" : Math.cos(angle) > 0.25 ? "left" : "center",
      priority: pixels * 0.2,
    });
  }
  wanted.sort((a, b) => b.priority - a.priority);
  const taken: Box[] = [look.covered];
  const obstacles = scene.dots
    .map((dot) => ({ x: cx + radius * dot.x, y: cy + radius * dot.y, r: dotRadius(dot, tree) }))
    .filter(({ r }) => r > 2.5);
  const most = Math.round((look.width * look.height) / 9000);
  surface.textBaseline = "middle";
  surface.lineJoin = "round";
  for (const label of wanted.slice(0, 6 * most)) {
    if (taken.length > most) break;
    const weight = label.strong ? "600 " : "";
    surface.font = `${label.italic ? "italic " : ""}${weight}${label.size.toFixed(1)}px ${FONT}`;
    const text = label.text.length > 42 ? `${label.text.slice(0, 40)}…` : label.text;
    const width = surface.measureText(text).width;
    const free = places(label).find((place) => {
      const box = boxOf(place, width, label.size);
      const onPage =
        box.x0 >= 2 && box.x1 <= look.width - 2 && box.y0 >= 2 && box.y1 <= look.height - 2;
      return (
        onPage && !taken.some((other) => overlap(box, other)) && !inTheWay(box, obstacles, label)
      );
    });
    if (!free) continue;
    taken.push(boxOf(free, width, label.size));
    surface.textAlign = free.align;
    surface.globalAlpha = 0.85;
    surface.strokeStyle = theme.disk;
    surface.lineWidth = 3.5;
    surface.strokeText(text, free.x, free.y);
    surface.globalAlpha = 1;
    surface.fillStyle = theme.text;
    surface.fillText(text, free.x, free.y);
  }
}

const escaped = (text: string): string =>
  text
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: XML has none of these
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd");

/** Takes a picture as SVG. */
export class SvgSurface implements Shapes, Letters {
  fillStyle: string | CanvasGradient | CanvasPattern = "#000";
  strokeStyle: string | CanvasGradient | CanvasPattern = "#000";
  lineWidth = 1;
  globalAlpha = 1;
  font = "";
  textAlign: CanvasTextAlign = "left";
  textBaseline: CanvasTextBaseline = "middle";
  lineCap: CanvasLineCap = "butt";
  lineJoin: CanvasLineJoin = "miter";
  private path = "";
  private readonly parts: string[] = [];

  constructor(
    private readonly ruler: Pick<CanvasRenderingContext2D, "font" | "measureText">,
    private readonly width: number,
    private readonly height: number,
  ) {}

  beginPath(): void {
    this.path = "";
  }
  moveTo(x: number, y: number): void {
    this.path += `M${place(x, y)}`;
  }
  lineTo(x: number, y: number): void {
    this.path += `L${place(x, y)}`;
  }
  arc(x: number, y: number, r: number, from: number, to: number, back = false): void {
    const at = (angle: number) => place(x + r * Math.cos(angle), y + r * Math.sin(angle));
    this.path += `${this.path === "" ? "M" : "L"}${at(from)}`;
    // A command of SVG draws less than a whole turn.
    const half = (from + to) / 2;
    const radius = r.toFixed(2);
    const sweep = back ? 0 : 1;
    for (const end of [half, to]) this.path += `A${radius} ${radius} 0 0 ${sweep} ${at(end)}`;
  }
  closePath(): void {
    this.path += "Z";
  }
  fill(): void {
    this.parts.push(
      `<path d="${this.path}" fill="${this.fillStyle}" fill-opacity="${this.globalAlpha}"/>`,
    );
  }
  stroke(): void {
    this.parts.push(
      `<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}" ` +
        `stroke-linecap="${this.lineCap}" stroke-opacity="${this.globalAlpha}"/>`,
    );
  }
  fillRect(x: number, y: number, width: number, height: number): void {
    this.parts.push(
      `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${this.fillStyle}"/>`,
    );
  }
  fillText(text: string, x: number, y: number): void {
    this.text(text, x, y, `fill="${this.fillStyle}"`);
  }
  strokeText(text: string, x: number, y: number): void {
    const stroke = `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"`;
    this.text(text, x, y, `${stroke} stroke-linejoin="round" stroke-opacity="${this.globalAlpha}"`);
  }
  measureText(text: string): TextMetrics {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }
  private text(text: string, x: number, y: number, style: string): void {
    const anchor = { center: "middle", right: "end", left: "start", start: "start", end: "end" };
    this.parts.push(
      `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" style="font:${escaped(this.font)}" ` +
        `text-anchor="${anchor[this.textAlign]}" dominant-baseline="central" ${style}>` +
        `${escaped(text)}</text>`,
    );
  }
  get markup(): string {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${this.width}" height="${this.height}" ` +
      `viewBox="0 0 ${this.width} ${this.height}">${this.parts.join("\n")}</svg>\n`
    );
  }
}

function place(x: number, y: number): string {
  return `${x.toFixed(2)} ${y.toFixed(2)}`;
}
