// The page: reads the data, then reacts. Names reach the document as text alone, never as markup.

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
import { type About, deltas, about as readAbout, section, varints } from "./data";
import type { Mobius, Point } from "./mobius";
import { Names, Search, type Suggestion } from "./names";
import { type Look, paint, SvgSurface, type Theme } from "./paint";
import { build, type Dot, hit, type Scene, type Wedge } from "./scene";
import { Tree } from "./tree";
import { View } from "./view";

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const number = (value: number): string => value.toLocaleString("en");

/** A new element with a text in it. */
function made<K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

function button(text: string, act: () => void): HTMLButtonElement {
  const node = made("button", text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

class Page {
  readonly canvas = element<HTMLCanvasElement>("disk");
  readonly context = this.canvas.getContext("2d")!;
  readonly view: View;
  scene: Scene = { dots: [], edges: [], wedges: [] };
  selected = 0;
  coloring: Coloring;
  weight = 1;
  colorBy = "clades";
  highlight = new Set<number>();
  markedBefore: Int32Array | null = null; // highlighted rows before each row
  readonly collapsed = new Set<number>();
  readonly frames: number[] = []; // milliseconds that the last frames took to compute and draw
  private asked = false;
  private flight = 0;
  private cx = 0;
  private cy = 0;
  private radius = 1;

  constructor(
    readonly about: About,
    readonly tree: Tree,
    readonly names: Names,
    readonly search: Search,
    readonly rank: Uint8Array,
    readonly id: (row: number) => string,
    readonly columns: Map<string, Float64Array>,
  ) {
    this.view = new View(tree);
    this.coloring = byClades(tree, [], () => "");
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
    this.cx = width / 2;
    this.cy = height / 2;
    // Names of the rim stand at its sides: the disk leaves them room where the window is wide.
    this.radius = Math.max(40, Math.min(height / 2 - 22, width / 2 - (width > 700 ? 110 : 16)));
    // In a high window the disk stands at the top, and the legend below it.
    if (height > 2 * this.radius + 150) this.cy = this.radius + 26;
    this.scene = build(this.tree, this.view, this.radius, this.collapsed);
    this.context.setTransform(density, 0, 0, density, 0, 0);
    paint(this.context, this.scene, this.look(width, height));
    this.frames.push(performance.now() - start);
    if (this.frames.length > 600) this.frames.shift();
  }

  look(width: number, height: number): Look {
    const style = getComputedStyle(document.documentElement);
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
      color: (row) => coloring.colors[coloring.of[row]!]!,
      label: (row) => this.name(row),
      italic: (row) => this.italic(row),
      highlighted: (from, to) => (markedBefore ? markedBefore[to]! - markedBefore[from]! : 0),
      anyHighlight: this.highlight.size > 0,
      selected: this.selected,
    };
  }

  /** A point of the window as one of the disk. */
  place(event: { clientX: number; clientY: number }): Point {
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
    return parts.toString();
  }

  defaultColor(): string {
    const wanted = this.about.color_by;
    return wanted ?? (this.about.columns[0] ? `column:${this.about.columns[0].name}` : "clades");
  }

  /** Take the state of the address, as far as it is one of this tree. */
  restore(): void {
    const parts = new URLSearchParams(location.hash.slice(1));
    const rowOf = (key: string | null) => (key === null ? -1 : this.search.row(key));
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
    this.selected = row;
    this.showLineage();
    this.showDetails();
    this.change();
    this.moved();
  }

  private showLineage(): void {
    const nav = element("lineage");
    nav.replaceChildren();
    for (const row of this.tree.lineage(this.selected)) {
      if (row > 0) nav.append(made("span", "›"));
      const link = button(this.name(row), () => this.fly(row));
      link.title = this.rankName(row);
      if (row === this.selected) link.setAttribute("aria-current", "true");
      nav.append(link);
    }
    nav.scrollLeft = nav.scrollWidth;
  }

  private showDetails(): void {
    const { tree, selected: row } = this;
    const box = element("details");
    const title = made("h2", this.name(row));
    if (this.italic(row)) title.className = "species";
    const taxa = tree.end[row]! - row - 1;
    const facts = [this.rankName(row), `id ${this.id(row)}`];
    if (taxa > 0) facts.push(`${number(taxa)} taxa below, ${number(tree.leaves[row]!)} leaves`);
    box.replaceChildren(title, made("p", facts.join(" · ")));
    for (const { name, categories } of this.about.columns) {
      const value = this.columns.get(name)![row]!;
      const shown = categories
        ? categories[value - 1]
        : Number.isFinite(value)
          ? String(value)
          : undefined;
      if (shown !== undefined) box.append(made("p", `${name}: ${shown}`));
    }
    const tools = made("div");
    tools.className = "row";
    tools.append(button("To the centre", () => this.fly(row)));
    if (taxa > 0) {
      const shut = this.collapsed.has(row);
      tools.append(button(shut ? "Open" : "Collapse", () => this.fold(row)));
    }
    box.append(tools);
    if (taxa > 0) {
      const list = made("ul");
      list.setAttribute("aria-label", `Children of ${this.name(row)}`);
      const first = tree.first[row]!;
      const last = Math.min(tree.first[row + 1]!, first + 200);
      for (const child of tree.child.subarray(first, last)) {
        const link = button("", () => this.fly(child));
        const count = tree.end[child]! - child - 1;
        link.append(made("span", this.name(child)), made("small", count ? number(count) : ""));
        const item = made("li");
        item.append(link);
        list.append(item);
      }
      const more = tree.first[row + 1]! - last;
      if (more > 0) list.append(made("li", `and ${number(more)} more`));
      box.append(list);
    }
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
    element<HTMLSelectElement>("color").value = by;
    this.showLegend();
    this.change();
    this.moved();
  }

  private showLegend(): void {
    const box = element("legend");
    box.replaceChildren();
    for (const { label, color, row } of this.coloring.legend) {
      const entry = row === undefined ? made("div") : button("", () => this.fly(row));
      const swatch = made("i");
      swatch.style.background = color;
      entry.append(swatch, made("span", label));
      box.append(entry);
    }
    const ramp = this.coloring.ramp;
    if (ramp) {
      const bar = made("div");
      bar.style.cssText = `width:180px;height:11px;border-radius:3px;background:linear-gradient(90deg,${ramp.colors.join(",")})`;
      const short = (value: number) => String(Number(value.toPrecision(4)));
      const ends = made("div");
      ends.style.justifyContent = "space-between";
      ends.append(made("span", short(ramp.low)), made("span", short(ramp.high)));
      box.append(made("b", this.colorBy.slice("column:".length)), bar, ends);
    }
  }

  setWeight(weight: number): void {
    if (weight !== this.weight) {
      this.weight = weight;
      this.tree.weigh(weight);
    }
    element<HTMLSelectElement>("weight").value = String(weight);
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
    this.change();
  }

  markList(text: string): void {
    const keys = text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "");
    const rows = keys.map((key) => this.search.row(key));
    this.mark(rows.filter((row) => row >= 0));
    const lost = keys.filter((_, i) => rows[i]! < 0);
    const words = [`${number(this.highlight.size)} taxa highlighted.`];
    if (lost.length > 0) {
      words.push(
        `${number(lost.length)} not found: ${lost.slice(0, 5).join(", ")}${lost.length > 5 ? " …" : ""}`,
      );
    }
    element("marked").textContent = words.join(" ");
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
      const large = document.createElement("canvas");
      large.width = 2 * width;
      large.height = 2 * height;
      const context = large.getContext("2d")!;
      context.setTransform(2, 0, 0, 2, 0, 0);
      paint(context, this.scene, this.look(width, height));
      large.toBlob((blob) => blob && download(blob, "tree.png"), "image/png");
    }
    element("saved").textContent = `tree.${kind} is saved.`;
  }
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// -------------------------------------------------------------------- pointer, keys, search

function listenToPointer(page: Page): void {
  const { canvas, view } = page;
  const tip = element("tip");
  const down = new Map<number, Point>();
  let travelled = 0;
  let pinch = 0;
  const apart = () => {
    const [a, b] = [...down.values()];
    return a && b ? Math.hypot(a.x - b.x, a.y - b.y) : 0;
  };
  canvas.addEventListener("pointerdown", (event) => {
    page.stop();
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, page.place(event));
    travelled = 0;
    pinch = apart();
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    const p = page.place(event);
    const before = down.get(event.pointerId);
    if (!before) {
      showTip(page, tip, event, p);
      return;
    }
    down.set(event.pointerId, p);
    travelled += Math.hypot(p.x - before.x, p.y - before.y);
    if (down.size === 2) {
      const now = apart();
      const [a, b] = [...down.values()];
      if (pinch > 0 && now > 0) {
        const way = 2 * Math.log(now / pinch);
        if (way > 0) view.approach({ x: (a!.x + b!.x) / 2, y: (a!.y + b!.y) / 2 }, way);
        else view.retreat(-way);
      }
      pinch = now;
    } else {
      view.drag(before, p);
      canvas.classList.add("moving");
    }
    page.change();
    page.moved();
  });
  const up = (event: PointerEvent) => {
    const was = down.delete(event.pointerId);
    canvas.classList.remove("moving");
    pinch = 0;
    if (!was || event.type !== "pointerup" || travelled > 0.01) return;
    const found = page.at(page.place(event), event.pointerType === "touch" ? 22 : 12);
    if (found) page.select(found.row);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });
  canvas.addEventListener("dblclick", (event) => {
    const found = page.at(page.place(event), 16);
    if (found) page.fly(found.row);
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      page.stop();
      tip.hidden = true;
      const scale = event.deltaMode === 1 ? 30 : 1;
      const way = Math.max(-0.6, Math.min(0.6, (-event.deltaY * scale) / 250));
      if (way > 0) view.approach(page.place(event), way);
      else view.retreat(-way);
      page.change();
      page.moved();
    },
    { passive: false },
  );
}

function showTip(page: Page, tip: HTMLElement, event: PointerEvent, p: Point): void {
  const found = page.at(p);
  tip.hidden = !found;
  if (!found) return;
  const { tree } = page;
  const { row, wedge } = found;
  if (wedge && wedge.clades > 1) {
    const taxa = wedge.to - wedge.from;
    tip.replaceChildren(
      made("b", `${number(taxa)} taxa of ${page.name(row)}`),
      made("small", `from ${page.name(wedge.from)}, in ${number(wedge.clades)} clades`),
    );
  } else {
    const taxa = tree.end[row]! - row - 1;
    const above = tree
      .lineage(row)
      .slice(0, -1)
      .map((each) => page.name(each));
    const lineage = above.length > 6 ? ["…", ...above.slice(-6)] : above;
    tip.replaceChildren(
      made("b", page.name(row)),
      made(
        "small",
        `${page.rankName(row)}${taxa > 0 ? ` · ${number(taxa)} taxa` : ""} · id ${page.id(row)}`,
      ),
      made("small", lineage.join(" › ")),
    );
    for (const { name, categories } of page.about.columns) {
      const value = page.columns.get(name)![row]!;
      const shown = categories
        ? categories[value - 1]
        : Number.isFinite(value)
          ? String(value)
          : undefined;
      if (shown !== undefined) tip.append(made("small", `${name}: ${shown}`));
    }
  }
  const box = page.canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  tip.style.left = `${x + 16 + tip.offsetWidth > box.width ? Math.max(4, x - 14 - tip.offsetWidth) : x + 16}px`;
  tip.style.top = `${y + 16 + tip.offsetHeight > box.height ? Math.max(4, y - 12 - tip.offsetHeight) : y + 16}px`;
}

function listenToKeys(page: Page): void {
  const { view, tree } = page;
  document.addEventListener("keydown", (event) => {
    const inField =
      event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "Escape") {
      element("tip").hidden = true;
      page.canvas.focus();
    }
    if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target instanceof HTMLButtonElement;
    const row = page.selected;
    const above = tree.parent[row]!;
    const sibling = (way: number) => {
      if (above < 0) return;
      const slot = tree.slotOf(row) + way;
      if (slot >= tree.first[above]! && slot < tree.first[above + 1]!) page.fly(tree.child[slot]!);
    };
    const acts: Record<string, () => void> = {
      "/": () => element("search").focus(),
      Home: () => page.fly(0),
      ArrowLeft: () => above >= 0 && page.fly(above),
      ArrowRight: () => !tree.isLeaf(row) && page.fly(tree.child[tree.first[row]!]!),
      ArrowUp: () => sibling(-1),
      ArrowDown: () => sibling(1),
      "+": () => view.approach({ x: 0.6, y: 0 }, 0.4),
      "=": () => view.approach({ x: 0.6, y: 0 }, 0.4),
      "-": () => view.retreat(0.4),
      "[": () => view.turn(-0.1),
      "]": () => view.turn(0.1),
      c: () => page.fold(row),
      C: () => page.fold(row),
    };
    if (event.key === "Enter" && !onButton) acts.Enter = () => page.fly(row);
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    if ("+=-".includes(event.key)) page.stop();
    act();
    page.change();
    page.moved();
  });
}

function listenToSearch(page: Page): void {
  const input = element<HTMLInputElement>("search");
  const list = element("suggestions");
  let shown: Suggestion[] = [];
  let chosen = 0;
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const go = (i: number) => {
    const found = shown[i];
    if (!found) return;
    close();
    input.value = page.name(found.row);
    page.canvas.focus();
    page.fly(found.row);
  };
  const point = (i: number) => {
    chosen = i;
    [...list.children].forEach((item, k) => {
      item.setAttribute("aria-selected", String(k === i));
      if (k === i) {
        input.setAttribute("aria-activedescendant", item.id);
        item.scrollIntoView({ block: "nearest" });
      }
    });
  };
  const look = () => {
    const start = performance.now();
    shown = page.search.suggest(input.value, 12);
    list.dataset.milliseconds = (performance.now() - start).toFixed(1);
    list.replaceChildren();
    shown.forEach(({ row, by }, i) => {
      const item = made("li", page.name(row));
      item.id = `suggestion-${i}`;
      item.setAttribute("role", "option");
      const taxa = page.tree.end[row]! - row - 1;
      const above = page.tree.parent[row]!;
      const facts = [
        ...(by ? [`“${by}”`] : []),
        page.rankName(row),
        ...(taxa > 0 ? [`${number(taxa)} taxa`] : above >= 0 ? [`in ${page.name(above)}`] : []),
      ];
      item.append(made("small", facts.join(" · ")));
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        go(i);
      });
      list.append(item);
    });
    const asked = input.value.trim() !== "";
    if (asked && shown.length === 0) {
      const item = made("li", "no taxon has this in its name, synonyms or id");
      item.className = "none";
      list.append(item);
    }
    list.hidden = !asked;
    input.setAttribute("aria-expanded", String(asked));
    if (shown.length > 0) point(0);
  };
  input.addEventListener("input", look);
  input.addEventListener("focus", () => input.value && look());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") point(Math.min(chosen + 1, shown.length - 1));
    else if (event.key === "ArrowUp") point(Math.max(chosen - 1, 0));
    else if (event.key === "Enter") go(chosen);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}

function listenToPanel(page: Page): void {
  const click = (id: string, act: () => void) => element(id).addEventListener("click", act);
  const step = (act: () => void) => () => {
    page.stop();
    act();
    page.change();
    page.moved();
  };
  click("home", () => page.fly(0));
  click(
    "in",
    step(() => page.view.approach({ x: 0.6, y: 0 }, 0.5)),
  );
  click(
    "out",
    step(() => page.view.retreat(0.5)),
  );
  click("panel", () => {
    const narrow = window.matchMedia("(max-width: 820px)").matches;
    document.body.classList.toggle(narrow ? "open" : "shut");
    const open = narrow
      ? document.body.classList.contains("open")
      : !document.body.classList.contains("shut");
    element("panel").setAttribute("aria-expanded", String(open));
    page.change();
  });
  click("mark", () => page.markList(element<HTMLTextAreaElement>("list").value));
  click("unmark", () => {
    element<HTMLTextAreaElement>("list").value = "";
    element("marked").textContent = "";
    page.mark([]);
  });
  click("svg", () => page.save("svg"));
  click("png", () => page.save("png"));
  click("link", () => {
    history.replaceState(null, "", `#${page.fragment()}`);
    const said = element("saved");
    navigator.clipboard?.writeText(location.href).then(
      () => {
        said.textContent = "The address of this view is copied.";
      },
      () => {
        said.textContent = location.href;
      },
    );
  });
  click("theme", () => {
    const dark = document.documentElement.dataset.theme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    page.change();
  });
  element<HTMLSelectElement>("color").addEventListener("change", (event) =>
    page.color((event.target as HTMLSelectElement).value),
  );
  element<HTMLSelectElement>("weight").addEventListener("change", (event) =>
    page.setWeight(Number((event.target as HTMLSelectElement).value)),
  );
  new ResizeObserver(() => page.change()).observe(page.canvas);
  window.addEventListener("hashchange", () => page.restore());
}

// -------------------------------------------------------------------- start

async function readIds(
  about: About,
): Promise<{ id: (row: number) => string; byId: (key: string) => number }> {
  const bytes = await section("id");
  if (about.integer_ids) {
    const ids = deltas(varints(bytes, about.taxa));
    return {
      id: (row) => String(ids[row]!),
      byId: (key) => (/^-?\d+$/.test(key) ? ids.indexOf(Number(key)) : -1),
    };
  }
  const ids = new Names(bytes, about.taxa);
  return {
    id: (row) => ids.get(row),
    byId: (key) => {
      for (const [row, quality] of ids.beginning(key, ids.size))
        if (quality === 0 && ids.get(row) === key) return row;
      return -1;
    },
  };
}

async function readColumns(about: About): Promise<Map<string, Float64Array>> {
  const columns = new Map<string, Float64Array>();
  for (const [i, { name, categories }] of about.columns.entries()) {
    const bytes = await section(`column-${i}`);
    const values = categories
      ? varints(bytes, about.taxa)
      : new Float64Array(bytes.buffer, bytes.byteOffset, about.taxa);
    columns.set(name, values);
  }
  return columns;
}

async function start(): Promise<void> {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const about = readAbout();
  document.querySelector("h1")!.textContent = about.title;
  const [up, rank, nameBytes, synonymBytes, synonymRows, ids, columns] = await Promise.all([
    section("up"),
    section("rank"),
    section("name"),
    section("synonym"),
    section("synonym-row"),
    readIds(about),
    readColumns(about),
  ]);
  const tree = new Tree(varints(up, about.taxa));
  const names = new Names(nameBytes, about.taxa);
  const synonyms = new Names(synonymBytes, about.synonyms);
  const rows = deltas(varints(synonymRows, about.synonyms));
  const search = new Search(names, synonyms, rows, tree.leaves, ids.byId);
  const page = new Page(about, tree, names, search, rank, ids.id, columns);
  (window as unknown as { page: Page }).page = page; // for tests and for the curious
  const select = element<HTMLSelectElement>("color");
  for (const [value, text] of choices(about, tree, rank)) {
    const option = made("option", text);
    option.value = value;
    select.append(option);
  }
  element("source").textContent = [
    `${number(about.taxa)} taxa.`,
    about.source,
    `poincare_taxa ${about.version}`,
  ]
    .filter((text) => text !== "")
    .join(" ");
  page.mark(about.highlight);
  if (about.highlight.length > 0) {
    element("marked").textContent = `${number(about.highlight.length)} taxa highlighted.`;
  }
  page.restore();
  page.draw();
  element("waiting").hidden = true;
  document.documentElement.dataset.ready = performance.now().toFixed(0);
  listenToPointer(page);
  listenToKeys(page);
  listenToSearch(page);
  listenToPanel(page);
  // The first search should not wait for the long string that searches scan.
  window.setTimeout(() => {
    search.prepare();
    document.documentElement.dataset.searchable = performance.now().toFixed(0);
  }, 50);
}

start().catch((error: unknown) => {
  element("waiting").textContent =
    `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  throw error;
});
