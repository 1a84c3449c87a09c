// The application: the disk, what is shown beside it, and its state. Names reach the document as text alone.

import {
  byCategories,
  byClades,
  byCladesOfRank,
  byNumbers,
  byRank,
  type Coloring,
  choices,
  largestClades,
  PALETTE,
} from "./colors";
import type { About } from "./data";
import { button, download, made, number } from "./dom";
import markup from "./markup.html";
import type { Mobius, Point } from "./mobius";
import type { Names, Search } from "./names";
import {
  type Box,
  type Look,
  paint,
  paintLabels,
  paintShapes,
  SvgSurface,
  type Theme,
} from "./paint";
import { build, type Dot, hit, type Scene, type Wedge } from "./scene";
import style from "./style.css";
import type { Tree } from "./tree";
import { Triangles } from "./triangles";
import { View } from "./view";
import { WebGl } from "./webgl";

const SMALLEST = 0.7; // of its radius, which the disk may have beside the legend: else that covers some
const MOST_LISTED = 200; // children of a taxon, before the reader wants more

/** What a file or a notebook has of a tree. */
export interface Data {
  about: About;
  tree: Tree;
  names: Names;
  search: Search;
  rank: Uint8Array;
  id: (row: number) => string;
  columns: Map<string, Float64Array>;
}

/** What draws the shapes: WebGL where a GPU does it, or one of the two in any case. */
export type Painter = "auto" | "webgl" | "canvas";

/** Where the application is put. */
export interface Place {
  host: HTMLElement; // has attributes for the colours of the page and for its state
  root: HTMLElement | ShadowRoot; // gets the elements
  linked: boolean; // the address of the window leads to the view
  embedded: boolean; // in a document that scrolls: wheel and fingers are for it until a click or tap
}

export class Page {
  readonly canvas: HTMLCanvasElement;
  readonly context: CanvasRenderingContext2D;
  readonly view: View;
  readonly about: About;
  readonly tree: Tree;
  readonly names: Names;
  readonly search: Search;
  readonly rank: Uint8Array;
  readonly id: (row: number) => string;
  readonly columns: Map<string, Float64Array>;
  onSelect: (row: number) => void = () => {};
  onMark: (rows: number[]) => void = () => {};
  scene: Scene = { dots: [], edges: [], wedges: [] };
  selected = 0;
  coloring: Coloring;
  weight = 1;
  colorBy = "clades";
  highlight = new Set<number>();
  markedBefore: Int32Array | null = null; // highlighted rows before each row
  readonly collapsed = new Set<number>();
  readonly frames: number[] = []; // milliseconds that the last frames took to compute and draw
  private painter: Painter = "auto";
  private webgl: WebGl | null = null; // what draws the shapes, else the canvas of the names does
  private triangles = new Triangles(1);
  private asked = false;
  private flight = 0;
  private cx = 0;
  private cy = 0;
  private radius = 1;

  constructor(
    readonly place: Place,
    data: Data,
  ) {
    ({
      about: this.about,
      tree: this.tree,
      names: this.names,
      search: this.search,
      rank: this.rank,
      id: this.id,
      columns: this.columns,
    } = data);
    const template = document.createElement("template");
    template.innerHTML = `<style>${style}</style>${markup}`; // of this program alone
    place.root.replaceChildren(template.content);
    this.element("app").classList.toggle("embedded", place.embedded);
    this.canvas = this.element<HTMLCanvasElement>("disk");
    this.context = this.canvas.getContext("2d")!;
    this.listenToWebGl();
    this.view = new View(this.tree);
    this.coloring = byClades(this.tree, [], () => "");
    this.describe();
  }

  element<T extends HTMLElement>(id: string): T {
    return this.place.root.querySelector(`#${id}`) as T;
  }

  /** Write what does not change: title, source, choices of colour. */
  private describe(): void {
    const { about, tree, rank } = this;
    this.element("title").textContent = about.title;
    for (const [value, text] of choices(about, tree, rank)) {
      const option = made("option", text);
      option.value = value;
      this.element("color").append(option);
    }
    const words = [`${number(about.taxa)} taxa.`, about.source, `poincare_taxa ${about.version}`];
    this.element("source").textContent = words.filter((text) => text !== "").join(" ");
    this.element("link").hidden = !this.place.linked;
  }

  name(row: number): string {
    return this.names.get(row) || this.id(row);
  }

  rankName(row: number): string {
    return this.about.ranks[this.rank[row]!]!;
  }

  italic(row: number): boolean {
    return ["genus", "subgenus", "species", "subspecies"].includes(this.rankName(row));
  }

  // ------------------------------------------------------------------ drawing

  /** Draw at the next frame of the screen. */
  change(): void {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  /** Choose what draws the shapes: a link may say so (`draw=canvas`), for tests and bad drivers. */
  drawBy(painter: Painter): void {
    const shapes = this.element<HTMLCanvasElement>("shapes");
    if (painter !== this.painter || !this.webgl)
      this.webgl = painter === "canvas" ? null : WebGl.on(shapes, painter === "webgl");
    this.painter = painter;
    shapes.hidden = !this.webgl;
    this.change();
  }

  /** What draws the shapes, in words. */
  get renderer(): string {
    return this.webgl ? `WebGL, ${this.webgl.renderer}` : "canvas";
  }

  /** Where the GPU is taken away the canvas goes on; when it is back, it has nothing of before. */
  private listenToWebGl(): void {
    const shapes = this.element<HTMLCanvasElement>("shapes");
    shapes.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      shapes.hidden = true;
      this.webgl = null;
      this.draw();
    });
    shapes.addEventListener("webglcontextrestored", () => this.drawBy(this.painter));
  }

  draw(): void {
    const start = performance.now();
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    const density = Math.min(2, window.devicePixelRatio || 1);
    if (this.canvas.width !== Math.round(width * density))
      this.canvas.width = Math.round(width * density);
    if (this.canvas.height !== Math.round(height * density)) {
      this.canvas.height = Math.round(height * density);
    }
    this.settle(width, height);
    this.scene = build(this.tree, this.view, this.radius, this.collapsed);
    this.context.setTransform(density, 0, 0, density, 0, 0);
    const look = this.look(width, height);
    if (this.webgl) {
      if (this.triangles.density !== density) this.triangles = new Triangles(density);
      this.triangles.clear();
      paintShapes(this.triangles, this.scene, look);
      this.webgl.show(this.triangles, width, height);
      this.context.clearRect(0, 0, width, height);
      paintLabels(this.context, this.scene, look);
    } else paint(this.context, this.scene, look);
    this.frames.push(performance.now() - start);
    if (this.frames.length > 600) this.frames.shift();
  }

  /** Give the disk its place: in the middle, or so far to the right that the legend covers none of it. */
  private settle(width: number, height: number): void {
    // Names of the rim stand at its sides: the disk leaves them room where the window is wide.
    const side = width > 700 ? 110 : width > 560 ? 64 : 16;
    const full = Math.max(40, Math.min(height / 2 - 22, width / 2 - side));
    const { x1, y0 } = this.legendBox();
    // In a high window the disk stands at the top, and the legend below it.
    const middle = height > 2 * full + 150 ? full + 26 : height / 2;
    [this.cx, this.cy, this.radius] = [width / 2, middle, full];
    for (let r = full; r > SMALLEST * full; r -= 2)
      for (const share of [0, 0.25, 0.5, 0.75, 1]) {
        const x = width / 2 + share * (width / 2 - side - r);
        const y = middle + share * (r + 22 - middle);
        if (Math.hypot(Math.max(0, x - x1), Math.max(0, y0 - y)) < r + 6) continue;
        [this.cx, this.cy, this.radius] = [x, y, r];
        return;
      }
  }

  private legendBox(): Box {
    const { offsetLeft: x, offsetTop: y, offsetWidth, offsetHeight } = this.element("legend");
    return { x0: x, y0: y, x1: x + offsetWidth, y1: y + offsetHeight };
  }

  look(width: number, height: number): Look {
    const style = getComputedStyle(this.canvas);
    const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const theme: Theme = {
      page: of("page"),
      disk: of("disk"),
      rim: of("rim"),
      text: of("text"),
      faint: of("faint"),
      accent: of("accent"),
    };
    const { coloring, markedBefore } = this;
    return {
      width,
      height,
      cx: this.cx,
      cy: this.cy,
      radius: this.radius,
      theme,
      tree: this.tree,
      color: (row) => coloring.colors[coloring.of[row]!]! || theme.rim,
      label: (row) => this.name(row),
      italic: (row) => this.italic(row),
      highlighted: (from, to) => (markedBefore ? markedBefore[to]! - markedBefore[from]! : 0),
      anyHighlight: this.highlight.size > 0,
      selected: this.selected,
      covered: this.legendBox(),
    };
  }

  /** A point of the window as one of the disk. */
  point(event: { clientX: number; clientY: number }): Point {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: (event.clientX - box.left - this.cx) / this.radius,
      y: (event.clientY - box.top - this.cy) / this.radius,
    };
  }

  /** What lies there, as a row: of a wedge the clade, or the parent of the clades in it. */
  at(p: Point, reach = 12): { row: number; wedge: Wedge | null } | null {
    const found = hit(this.scene, p, reach / this.radius);
    if (!found) return null;
    if ("row" in found) return { row: (found as Dot).row, wedge: null };
    return { row: found.clades === 1 ? found.from : found.parent, wedge: found };
  }

  // ------------------------------------------------------------------ moving

  /** Bring a taxon to the centre, along the tree. */
  fly(row: number): void {
    this.select(row);
    const flight = ++this.flight;
    const stretches = this.view.route(row);
    const total = stretches.reduce((sum, { distance }) => sum + distance, 0);
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const time = calm || total < 1e-3 ? 0 : Math.min(1600, 350 + 45 * total);
    const start = performance.now();
    const move = () => {
      if (flight !== this.flight) return;
      const share = time > 0 ? Math.min(1, (performance.now() - start) / time) : 1;
      let way = total * (share * share * (3 - 2 * share));
      let i = 0;
      while (i < stretches.length - 1 && way > stretches[i]!.distance)
        way -= stretches[i++]!.distance;
      if (share < 1) {
        stretches[i]!.at(Math.min(1, way / Math.max(1e-12, stretches[i]!.distance)));
        requestAnimationFrame(move);
      } else {
        stretches[stretches.length - 1]!.at(1);
        this.moved();
      }
      this.change();
    };
    move();
  }

  /** Stop a flight: the reader moves the disk by hand. */
  stop(): void {
    this.flight++;
  }

  /** Keep the link up to date, soon. */
  private timer = 0;
  moved(): void {
    if (!this.place.linked) return;
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(
      () => history.replaceState(null, "", `#${this.fragment()}`),
      250,
    );
  }

  fragment(): string {
    const { frame, anchor } = this.view;
    const short = (value: number) => String(Number(value.toPrecision(7)));
    const parts = new URLSearchParams();
    parts.set("taxon", this.id(this.selected));
    if (anchor !== this.selected) parts.set("near", this.id(anchor));
    parts.set("view", [frame.ar, frame.ai, frame.br, frame.bi].map(short).join(","));
    if (this.weight !== 1) parts.set("share", String(this.weight));
    if (this.colorBy !== this.defaultColor()) parts.set("color", this.colorBy);
    if (this.painter !== "auto") parts.set("draw", this.painter);
    return parts.toString();
  }

  defaultColor(): string {
    const wanted = this.about.color_by;
    return wanted ?? (this.about.columns[0] ? `column:${this.about.columns[0].name}` : "clades");
  }

  /** Take the state of a link, as far as it is one of this tree. */
  restore(fragment: string): void {
    const parts = new URLSearchParams(fragment);
    const rowOf = (key: string | null) => (key === null ? -1 : this.search.row(key));
    const painter = parts.get("draw");
    this.drawBy(painter === "webgl" || painter === "canvas" ? painter : "auto");
    const weight = Number(parts.get("share") ?? 1);
    this.setWeight([0, 0.5, 1].includes(weight) ? weight : 1);
    this.color(parts.get("color") ?? this.defaultColor());
    const selected = rowOf(parts.get("taxon"));
    this.view.jump(Math.max(0, selected));
    const near = rowOf(parts.get("near"));
    const numbers = (parts.get("view") ?? "").split(",").map(Number);
    const [ar, ai, br, bi] = numbers as [number, number, number, number];
    const size = ar * ar + ai * ai - br * br - bi * bi;
    if (
      numbers.length === 4 &&
      numbers.every((x) => Math.abs(x) < 1e3) &&
      Math.abs(size - 1) < 0.01
    ) {
      if (near >= 0) this.view.anchor = near;
      const frame: Mobius = { ar, ai, br, bi };
      this.view.frame = frame;
      this.view.drag({ x: 0, y: 0 }, { x: 0, y: 0 });
    }
    this.select(Math.max(0, selected));
    this.change();
  }

  // ------------------------------------------------------------------ what is shown beside the disk

  select(row: number): void {
    const changed = row !== this.selected;
    this.selected = row;
    this.showLineage();
    this.showDetails();
    this.change();
    this.moved();
    if (!changed) return;
    this.element("said").textContent = [this.name(row), ...this.facts(row)].join(", ");
    this.onSelect(row);
  }

  /** What is known of a taxon besides its name. */
  private facts(row: number): string[] {
    const taxa = this.tree.end[row]! - row - 1;
    const below = `${number(taxa)} taxa below, ${number(this.tree.leaves[row]!)} leaves`;
    return [this.rankName(row), `id ${this.id(row)}`, ...(taxa > 0 ? [below] : [])];
  }

  private showLineage(): void {
    const nav = this.element("lineage");
    const focus = nav.matches(":focus-within");
    nav.replaceChildren();
    for (const row of this.tree.lineage(this.selected)) {
      if (row > 0) nav.append(made("span", "›"));
      const link = button(this.name(row), () => this.fly(row));
      link.title = this.rankName(row);
      nav.append(link);
      if (row !== this.selected) continue;
      link.setAttribute("aria-current", "true");
      if (focus) link.focus();
    }
    nav.scrollLeft = nav.scrollWidth;
  }

  private showDetails(): void {
    const { tree, selected: row } = this;
    const box = this.element("details");
    const focus = box.matches(":focus-within");
    const title = made("h2", this.name(row));
    title.tabIndex = -1;
    if (this.italic(row)) title.className = "species";
    box.replaceChildren(title, made("p", this.facts(row).join(" · ")));
    for (const text of this.values(row)) box.append(made("p", text));
    const tools = made("div");
    tools.className = "row";
    tools.append(button("To the centre", () => this.fly(row)));
    box.append(tools);
    if (!tree.isLeaf(row)) {
      const shut = this.collapsed.has(row);
      tools.append(button(shut ? "Open" : "Collapse", () => this.fold(row)));
      const list = made("ul");
      list.setAttribute("aria-label", `Children of ${this.name(row)}`);
      this.listChildren(list, tree.first[row]!, tree.first[row + 1]!);
      box.append(list);
    }
    // The button that was pressed is gone: the keys go on from here.
    if (focus) title.focus();
  }

  /** Values of a taxon in the reader's own columns. */
  values(row: number): string[] {
    const found = [];
    for (const { name, categories } of this.about.columns) {
      const value = this.columns.get(name)![row]!;
      if (categories && value > 0) found.push(`${name}: ${categories[value - 1]!}`);
      else if (!categories && Number.isFinite(value)) found.push(`${name}: ${value}`);
    }
    return found;
  }

  /** Buttons of some children, and one for more of them. */
  private listChildren(list: HTMLElement, slot: number, last: number): void {
    const { tree } = this;
    const end = Math.min(last, slot + MOST_LISTED);
    const items = Array.from(tree.child.subarray(slot, end), (child) => {
      const link = button("", () => this.fly(child));
      const count = tree.end[child]! - child - 1;
      link.append(made("span", this.name(child)), made("small", count ? number(count) : ""));
      return link;
    });
    if (end < last) {
      const more = button(`${number(last - end)} more`, () => {
        more.parentElement!.remove();
        this.listChildren(list, end, last);
      });
      items.push(more);
    }
    for (const each of items) {
      const item = made("li");
      item.append(each);
      list.append(item);
    }
    if (list.isConnected) items[0]!.focus();
  }

  fold(row: number): void {
    if (this.tree.isLeaf(row)) return;
    if (!this.collapsed.delete(row)) this.collapsed.add(row);
    this.showDetails();
    this.change();
  }

  color(by: string): void {
    const { about, tree, rank } = this;
    const [kind, name] = [by.split(":")[0]!, by.slice(by.indexOf(":") + 1)];
    const column = about.columns.find((each) => each.name === name);
    const label = (row: number) => this.name(row);
    if (kind === "column" && column) {
      const values = this.columns.get(name)!;
      this.coloring = column.categories
        ? byCategories(tree, values, column.categories)
        : byNumbers(tree, values);
    } else if (kind === "rank" && about.ranks.includes(name)) {
      this.coloring = byCladesOfRank(tree, rank, about.ranks.indexOf(name), label);
    } else if (by === "taxon rank") {
      this.coloring = byRank(rank, about.ranks);
    } else {
      by = "clades";
      this.coloring = byClades(tree, largestClades(tree, PALETTE.length), label);
    }
    this.colorBy = by;
    this.element<HTMLSelectElement>("color").value = by;
    this.showLegend();
    this.change();
    this.moved();
  }

  private showLegend(): void {
    const box = this.element("legend");
    box.replaceChildren();
    const { legend, ramp } = this.coloring;
    for (const { label, count, color, row } of legend) {
      const entry = row === undefined ? made("div") : button("", () => this.fly(row));
      const swatch = made("i");
      swatch.style.background = color;
      entry.append(swatch, made("span", label), made("small", number(count)));
      box.append(entry);
    }
    if (ramp) {
      const bar = made("div");
      bar.className = "ramp";
      bar.style.background = `linear-gradient(90deg,${ramp.colors.join(",")})`;
      const short = new Intl.NumberFormat("en", {
        notation: "compact",
        maximumSignificantDigits: 3,
      });
      const ends = made("div");
      ends.className = "ends";
      ends.append(made("span", short.format(ramp.low)), made("span", short.format(ramp.high)));
      const name = this.colorBy.slice("column:".length);
      box.append(made("b", ramp.logarithmic ? `${name}, logarithmic` : name), bar, ends);
    }
  }

  setWeight(weight: number): void {
    if (weight !== this.weight) {
      this.weight = weight;
      this.tree.weigh(weight);
    }
    this.element<HTMLSelectElement>("weight").value = String(weight);
    this.change();
    this.moved();
  }

  mark(rows: Iterable<number>): void {
    this.highlight = new Set(rows);
    this.markedBefore = null;
    if (this.highlight.size > 0) {
      const before = new Int32Array(this.tree.size + 1);
      for (const row of this.highlight) before[row + 1] = 1;
      for (let i = 0; i < this.tree.size; i++) before[i + 1]! += before[i]!;
      this.markedBefore = before;
    }
    const words = `${number(this.highlight.size)} taxa highlighted.`;
    this.element("marked").textContent = this.highlight.size > 0 ? words : "";
    this.change();
  }

  markList(text: string): void {
    const keys = text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
    const rows = keys.map((key) => this.search.row(key));
    this.mark(rows.filter((row) => row >= 0));
    this.onMark([...this.highlight].sort((a, b) => a - b));
    const lost = keys.filter((_, i) => rows[i]! < 0);
    if (lost.length > 0) {
      this.element("marked").textContent =
        `${number(this.highlight.size)} taxa highlighted. ${number(lost.length)} not found: ` +
        `${lost.slice(0, 5).join(", ")}${lost.length > 5 ? " …" : ""}`;
    }
  }

  // ------------------------------------------------------------------ saving

  save(kind: "svg" | "png"): void {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (kind === "svg") {
      const surface = new SvgSurface(this.context, width, height);
      paint(surface, this.scene, this.look(width, height));
      download(new Blob([surface.markup], { type: "image/svg+xml" }), "tree.svg");
    } else {
      const large = made("canvas");
      large.width = 2 * width;
      large.height = 2 * height;
      const context = large.getContext("2d")!;
      context.setTransform(2, 0, 0, 2, 0, 0);
      paint(context, this.scene, this.look(width, height));
      large.toBlob((blob) => blob && download(blob, "tree.png"), "image/png");
    }
    this.element("saved").textContent = `tree.${kind} is saved.`;
  }
}
